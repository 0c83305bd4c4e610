"""What every source of tables gives: sheets of rows in which the header is still to be found."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tabserve.tables.limits import Row

HEADER_ROWS = 50  # of every sheet the reader looks at so many rows for the header, before it reads one sheet to its end


@dataclass(frozen=True)
class Sheet:
    """Rows in which a table stands: those of a text file, of one sheet of a workbook, of a query.

    Parameters
    ----------
    place : str
        What errors call it: the file's name and, where there are several, the sheet.
    rows : iterator of Row
        The rows that are not blank, the header and what stands above it among them. They are read once: the first
        `HEADER_ROWS` of each sheet, then all of one sheet.
    typed : bool
        Whether cells are values already, and not texts only.
    read_as : mapping
        How it was read, such as ``{"format": "csv", "separator": ";"}`` or ``{"format": "xlsx", "sheet": "Loans"}``.
    """

    place: str
    rows: Iterator[Row]
    typed: bool
    read_as: Mapping[str, str]
