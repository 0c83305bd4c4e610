"""Raw tables: the cells of a file of which only the target's name is known, before anything is declared.

A column is kept as its different cells and, for each row, which of them it holds: what is asked of a raw table is asked
of its different cells, and a large file takes four bytes a cell.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tabserve.errors import Fault, InvalidTableError, UnsupportedFileError
from tabserve.tables.batch import has_wrong_width
from tabserve.tables.database import is_database, open_database
from tabserve.tables.finding import Found, choose
from tabserve.tables.limits import Deadline
from tabserve.tables.reader import open_sheets
from tabserve.tables.source import HEADER_ROWS, Sheet

MOST_CELLS = 30_000_000  # in memory; of a larger table every second row is kept, or every fourth
MOST_DIFFERENT = 4_000_000
CHUNK = 10_000  # rows

Codes: TypeAlias = npt.NDArray[np.int32]


@dataclass(frozen=True)
class RawColumn:
    """The cells of a column.

    Parameters
    ----------
    name : str
        Its heading.
    cells : sequence of object
        The different cells in order of appearance: texts, or values where the file is typed; None for an empty one.
    codes : ndarray, shape (n_rows,)
        The place of each row's cell among them.
    """

    name: str
    cells: Sequence[Any]
    codes: Codes


@dataclass(frozen=True)
class RawTable:
    """The cells of a file.

    Parameters
    ----------
    columns : tuple of RawColumn
        Each with n_rows rows.
    rows : int
        How many rows the file has.
    step : int
        Of how many rows one was kept; 1 when n_rows is `rows`.
    read_as : mapping of str
        How the file was read.
    """

    columns: tuple[RawColumn, ...]
    rows: int
    step: int
    read_as: Mapping[str, str]


class _Places(dict[Any, int]):
    """The place of each cell, by its type and itself: TRUE is not 1, though Python holds them equal."""

    def __missing__(self, cell: Any) -> int:
        place = self[cell] = len(self)
        return place


class _Builder:
    """One column while rows come in."""

    def __init__(self, name: str, *, typed: bool) -> None:
        self._name, self._typed = name, typed
        self._places = _Places()
        self._codes: list[Codes] = []

    def add(self, cells: Sequence[Any]) -> None:
        keys = zip(map(type, cells), cells, strict=True) if self._typed else cells
        self._codes.append(np.fromiter(map(self._places.__getitem__, keys), np.int32, len(cells)))

    @property
    def different(self) -> int:
        return len(self._places)

    def thin_out(self) -> None:
        """Forget every second row, and the cells that no other row has."""
        codes = np.concatenate(self._codes)[::2]
        cells = list(self._places)
        kept = dict.fromkeys(codes.tolist())  # in order of appearance
        self._places = _Places((cells[code], place) for place, code in enumerate(kept))
        places = np.zeros(len(cells), np.int32)
        places[list(kept)] = np.arange(len(kept), dtype=np.int32)
        self._codes = [places[codes]]

    def column(self) -> RawColumn:
        cells = [cell for _, cell in self._places] if self._typed else list(self._places)
        return RawColumn(self._name, cells, np.concatenate([np.empty(0, np.int32), *self._codes]))


def raw_table(
    header: Sequence[str], rows: Iterable[Sequence[Any]], *, typed: bool, read_as: Mapping[str, str]
) -> RawTable:
    """Gather rows.

    Parameters
    ----------
    header : sequence of str
        The columns' names.
    rows : iterable of sequence
        Their cells; what a short one lacks is empty.
    typed : bool
        Whether cells are values, and not texts only.
    read_as : mapping of str
        How the file was read.

    Returns
    -------
    RawTable
    """
    builders = [_Builder(name, typed=typed) for name in header]
    width, read, step = len(header), 0, 1
    empty = (None,) * width
    rows = iter(rows)
    while chunk := [(*cells[:width], *empty[len(cells) :]) for cells in islice(rows, CHUNK)]:
        first = -read % step
        read += len(chunk)
        for builder, cells in zip(builders, zip(*chunk[first::step], strict=True), strict=False):
            builder.add(cells)
        if (read // step) * width > MOST_CELLS or sum(builder.different for builder in builders) > MOST_DIFFERENT:
            step *= 2
            for builder in builders:
                builder.thin_out()
    return RawTable(tuple(builder.column() for builder in builders), read, step, read_as)


def read_raw(
    source: str, target: str, dialect: Mapping[str, str], sheet: str | None = None, query: str = ""
) -> RawTable:
    """Read a file or a query of which only the target's name is known.

    Parameters
    ----------
    source : str
        The path of a file, or the address of a database.
    target : str
        The column to predict: the header is the row that holds it.
    dialect : mapping of str
        What is known about a text file: `separator`, `encoding`.
    sheet : str, optional
        The sheet of a workbook; by default the one with the target.
    query : str
        What to read of a database.

    Returns
    -------
    RawTable
        Without the target, no rows, and the columns that the file seems to have.

    Raises
    ------
    InvalidTableError
        When a column has no name or that of another, a row is longer or shorter than the header, or several sheets
        hold the target.
    UnsupportedFileError, FileLimitError
        As for `read_table`.
    DatabaseError
        As for `open_database`.
    """
    if is_database(source):
        with open_database(source, query, Path()) as rows:
            return _gathered([rows.sheet], target, dialect)
    path = Path(source)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise UnsupportedFileError(f"The file {path.name} cannot be read: {error.strerror}.") from None
    with stream, open_sheets(stream, path.name, [target], dialect, sheet, Deadline(None)) as sheets:
        return _gathered(sheets, target, dialect, sheet)


def _gathered(sheets: Iterable[Sheet], target: str, dialect: Mapping[str, str], sheet: str | None = None) -> RawTable:
    found = choose(sheets, [target], dialect, sheet)
    if not found.header.known:
        return raw_table(_likely_names(found), (), typed=found.sheet.typed, read_as=found.sheet.read_as)
    names = _names(found)
    rows = _cells(found, len(names))
    return raw_table(names, rows, typed=found.sheet.typed, read_as=found.sheet.read_as)


def _likely_names(found: Found) -> list[str]:
    """The longest of the first rows, which is the header where none holds the target."""
    rows = [found.header.names, *(cells for _, cells, _ in islice(found.sheet.rows, HEADER_ROWS))]
    filled = [[str(cell).strip() for cell in cells if cell not in (None, "", "None")] for cells in rows]
    return max(filled, key=len)


def _names(found: Found) -> list[str]:
    """The header's names; each column needs one of its own."""
    names = [name.strip() for name in found.header.names]
    faults = [
        Fault(None, f"Column {found.position(place)} has no name: give it one, or remove it.", found.header.row)
        for place, name in enumerate(names, 1)
        if not name
    ]
    faults += [
        Fault(name, "This column appears more than once.") for name, n in Counter(names).items() if name and n > 1
    ]
    if faults:
        raise InvalidTableError(found.sheet.place, faults)
    return names


def _cells(found: Found, expected: int) -> Iterator[Sequence[Any]]:
    """The rows' cells; an error for rows that the reader would refuse."""
    for number, cells, width in found.sheet.rows:
        if has_wrong_width(cells, width, expected, typed=found.sheet.typed):
            problem = f"The row has {width} cells and the header {expected}."
            raise InvalidTableError(found.sheet.place, [Fault(None, problem, number)])
        yield cells
