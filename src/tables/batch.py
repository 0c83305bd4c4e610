"""Batches: some rows of a table as columns of cells, as every source gives them."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tabserve.columns.arrays import cell_array
from tabserve.errors import Fault, InvalidTableError
from tabserve.tables.limits import Row

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 10_000  # in a batch that is made of rows
TEXT = 2_000_000  # characters in such a batch, about: an array of them takes them once more
SHORT = 32  # bytes that a cell of a column takes on average, unless it holds long texts


class Batch(NamedTuple):
    """Some rows of a table.

    Parameters
    ----------
    rows : sequence of int
        Their numbers, as a spreadsheet shows them.
    cells : pyarrow.RecordBatch
        The raw cells: texts where the source holds texts only, else values. Null is an empty cell.
    """

    rows: Sequence[int]
    cells: "pa.RecordBatch"


def in_batches(place: str, rows: Iterable[Row], width: int, *, typed: bool) -> Iterator[Batch]:
    """Rows as batches.

    Parameters
    ----------
    place : str
        What errors call the table.
    rows : iterable of Row
        Those below the header.
    width : int
        How many cells the header has; columns are named by their places: "0", "1", ...
    typed : bool
        Whether the source holds values; then empty cells at the end of a row may be left out.

    Yields
    ------
    Batch

    Raises
    ------
    InvalidTableError
        When a row is longer or shorter than the header; the error names this row and all such rows after it.
    """
    rows = iter(rows)
    while some := next_rows(rows):
        yield batch_of(place, some, rows, width, typed=typed)


def batch_of(place: str, rows: Sequence[Row], further: Iterator[Row], width: int, *, typed: bool) -> Batch:
    """One batch of rows, as `in_batches` makes it; the further rows are read when one of these is at fault."""
    import pyarrow as pa

    for at, (_, cells, cells_width) in enumerate(rows):
        if has_wrong_width(cells, cells_width, width, typed=typed):
            raise InvalidTableError(place, width_faults(itertools.chain(rows[at:], further), width, typed=typed))
    empty = [None] * width
    padded = ([*cells[:width], *empty[len(cells) :]] for _, cells, _ in rows)
    arrays = [cell_array(column) for column in zip(*padded, strict=True)]
    return Batch([number for number, _, _ in rows], pa.RecordBatch.from_arrays(arrays, column_names(width)))


def column_names(width: int) -> list[str]:
    """What the columns of a batch are called: by their places."""
    return [*map(str, range(width))]


def with_long_texts_once(cells: "pa.RecordBatch") -> tuple["pa.RecordBatch", int]:
    """The same cells, and how many bytes the columns of long texts take, in which each text is kept once."""
    import pyarrow as pa

    arrays, size = [], 0
    for array in cells.columns:
        if array.nbytes > SHORT * len(array):
            array = array.dictionary_encode() if pa.types.is_string(array.type) else array
            size += array.nbytes
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, cells.schema.names), size


def next_rows(rows: Iterator[Row]) -> list[Row]:
    """The rows of the next batch: few where their texts are long."""
    chunk, left = [], TEXT
    for row in itertools.islice(rows, ROWS):
        chunk.append(row)
        left -= sum(len(cell) for cell in row[1] if type(cell) is str)
        if left < 0:
            break
    return chunk


def has_wrong_width(cells: Sequence[Any], width: int, expected: int, *, typed: bool) -> bool:
    """Whether a row is longer or shorter than the header; empty cells at its end do not count."""
    if width <= expected:
        return width < expected and not typed
    return typed or any(map(str.strip, cells[expected:]))


def width_faults(rows: Iterable[Row], width: int, *, typed: bool) -> Iterator[Fault]:
    """The faults of rows that are longer or shorter than the header."""
    for number, cells, cells_width in rows:
        if has_wrong_width(cells, cells_width, width, typed=typed):
            yield Fault(None, f"The row has {cells_width} cells and the header {width}.", number)
