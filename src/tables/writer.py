"""The writer: tables as CSV, as one text, or in pieces that are safe to open in a spreadsheet."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tabserve.aliases import Record

PIECE = 64 * 1024  # characters in a piece
BLANKS = " \u00a0\u3000"
# what may begin a formula in a spreadsheet, even after blanks; the last four are full-width characters
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write_csv(columns: Sequence[str], records: Iterable[Record]) -> str:
    """Records as CSV text, with empty cells for missing values.

    Parameters
    ----------
    columns : sequence of str
        The header, in this order.
    records : iterable of mapping
        All keys must be columns.

    Returns
    -------
    str
        Lines end in a line feed.

    Raises
    ------
    ValueError
        When a record has a key that is not a column.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def csv_pieces(columns: Mapping[str, Iterable[Any]]) -> Iterator[bytes]:
    """Columns as CSV in which a spreadsheet finds no formulas.

    Parameters
    ----------
    columns : mapping
        The n_rows values of each column, by its name; they are read lazily.

    Yields
    ------
    bytes
        UTF-8. Lines end in CR LF, so that cells with either character are quoted. A text that would be a formula gets
        an apostrophe in front.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for row in itertools.chain([columns], zip(*columns.values(), strict=True)):
        writer.writerow(map(_harmless, row))
        if text.tell() > PIECE:
            yield text.getvalue().encode(errors="replace")
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode(errors="replace")


def _harmless(cell: Any) -> Any:
    return f"'{cell}" if type(cell) is str and cell.lstrip(BLANKS).startswith(FORMULA) else cell
