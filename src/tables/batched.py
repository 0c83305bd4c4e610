"""Rows of a table that come in batches: the first ones are looked at one by one, the others stay columns."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tabserve.columns.arrays import python_cells
from tabserve.tables.batch import Batch, batch_of, column_names
from tabserve.tables.limits import Row


class BatchedRows:
    """The rows of a sheet with typed cells, one by one and then as batches.

    Parameters
    ----------
    place : str
        What errors call the table.
    first : iterable of Row
        The first rows.
    batches : iterator of Batch
        Those after them; each with as many columns as it needs.
    """

    def __init__(self, place: str, first: Iterable[Row], batches: Iterator[Batch]) -> None:
        self._place = place
        self._begun = iter(first)
        self._batches = batches

    def rows(self) -> Iterator[Row]:
        """The rows that were not given yet."""
        yield from self._begun
        for batch in self._batches:
            self._begun = _rows_of(batch)
            yield from self._begun

    def batches(self, width: int) -> Iterator[Batch]:
        """The rows that were not given yet; see `in_batches`, which makes the same of `rows`."""
        if begun := [*self._begun]:
            yield batch_of(self._place, begun, self.rows(), width, typed=True)
        for batch in self._batches:
            if any(column.null_count < len(column) for column in batch.cells.columns[width:]):
                yield batch_of(self._place, [*_rows_of(batch)], self.rows(), width, typed=True)
            else:
                yield _of_width(batch, width)


def _rows_of(batch: Batch) -> Iterator[Row]:
    columns = ([None if cell == "" else cell for cell in python_cells(column)] for column in batch.cells.columns)
    for number, cells in zip(batch.rows, zip(*columns, strict=True), strict=True):
        width = _width(cells)
        yield number, [*cells[:width]], width


def _width(cells: Sequence[Any]) -> int:
    """How many cells a row has, without the empty ones at its end."""
    return next((place for place in range(len(cells), 0, -1) if cells[place - 1] is not None), 0)


def _of_width(batch: Batch, width: int) -> Batch:
    import pyarrow as pa

    columns = batch.cells.columns[:width]
    columns += [pa.nulls(len(batch.rows), pa.string())] * (width - len(columns))
    return batch._replace(cells=pa.RecordBatch.from_arrays(columns, column_names(width)))
