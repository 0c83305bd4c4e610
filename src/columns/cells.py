"""Cells: typed values of workbooks, Parquet files and databases as text."""

from datetime import date, datetime, time
from typing import Any


def cell_text(value: Any) -> str:
    """A typed cell as the text that a spreadsheet would export.

    Parameters
    ----------
    value : int, float, bool, date, datetime or any other

    Returns
    -------
    str
        3.0 is "3", True is "TRUE", a date is in ISO 8601, and so is a datetime, without the time at midnight.
    """
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e16 else repr(value)
    if isinstance(value, datetime):
        return value.date().isoformat() if value.timetz() == time() else value.isoformat()
    return value.isoformat() if isinstance(value, date) else str(value)
