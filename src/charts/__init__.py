"""Charts and the parts of a report: how figures are drawn and written, whatever they show."""
