"""What every source of tables gives: sheets of rows in which the header is still to be found."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from tabserve.tables.batch import Batch, batch_of, in_batches, next_rows
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
    rest : callable, optional
        Given how many cells the header has, the rows after those that `rows` has given, as batches. A source that has
        a fast way to make batches gives it; by default they are made of the rows.
    """

    place: str
    rows: Iterator[Row]
    typed: bool
    read_as: Mapping[str, str]
    rest: Callable[[int], Iterator[Batch]] | None = None

    def batches(self, width: int) -> Iterator[Batch]:
        """The rows that `rows` has not given yet; see `in_batches`."""
        return self.rest(width) if self.rest else in_batches(self.place, self.rows, width, typed=self.typed)

    def given_back(self, rows: Iterable[Row]) -> "Sheet":
        """The sheet as it was before it gave these rows."""
        rows, rest = iter(rows), self.rest
        with_them = replace(self, rows=itertools.chain(rows, self.rows))
        if rest is None:
            return with_them

        def batches(width: int) -> Iterator[Batch]:
            while begun := next_rows(rows):
                further = itertools.chain(rows, self.rows)
                yield batch_of(self.place, begun, further, width, typed=self.typed)
            yield from rest(width)

        return replace(with_them, rest=batches)
