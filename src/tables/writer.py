"""The writer: tables as CSV, a whole one as text, or a piece at a time for those who open it in a spreadsheet."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tabserve.aliases import Record

PIECE = 64 * 1024  # characters that are handed over at a time
BLANKS = " \u00a0\u3000"
# what a spreadsheet may take for the beginning of a formula, also behind blanks; the last four are wide letters
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write_csv(columns: Sequence[str], records: Iterable[Record]) -> str:
    """Records as CSV text; what is missing becomes an empty cell.

    Parameters
    ----------
    columns : sequence of str
        The header, in this order.
    records : iterable of mapping
        The rows; all keys must be columns.

    Returns
    -------
    str
        Lines end in a line feed.

    Raises
    ------
    ValueError
        When a record has a key that is no column.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def csv_pieces(columns: Mapping[str, Iterable[Any]]) -> Iterator[bytes]:
    """Columns as CSV that a spreadsheet can open without computing anything.

    Parameters
    ----------
    columns : mapping
        The values of each column by its name, n_rows each; they are not asked for before they are needed.

    Yields
    ------
    bytes
        UTF-8. Lines end in CR LF, so that a cell that holds either is quoted. A text that would be a formula has an
        apostrophe before it.
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
