"""Draft: a first declaration from a table, for a person to review. Nothing here runs at prediction."""
