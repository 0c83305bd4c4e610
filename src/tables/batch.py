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
    import pyarrow as pa

    rows = iter(rows)
    names = [*map(str, range(width))]
    empty = [None] * width
    while chunk := [*itertools.islice(rows, ROWS)]:
        for place_in_chunk, (_, cells, cells_width) in enumerate(chunk):
            if has_wrong_width(cells, cells_width, width, typed=typed):
                faults = width_faults(itertools.chain(chunk[place_in_chunk:], rows), width, typed=typed)
                raise InvalidTableError(place, faults)
        padded = ([*cells[:width], *empty[len(cells) :]] for _, cells, _ in chunk)
        arrays = [cell_array(column) for column in zip(*padded, strict=True)]
        yield Batch([number for number, _, _ in chunk], pa.RecordBatch.from_arrays(arrays, names))


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
