"""Table: many records with their columns, their row numbers and, where they are known, their outcomes."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tabserve.aliases import Record
from tabserve.columns.features import Feature
from tabserve.errors import Fault, InvalidTableError
from tabserve.tables.checking import cell_problem
from tabserve.tables.kept import column_of, faulty_places, taken


@dataclass(frozen=True)
class Table:
    """The content of a file with known columns.

    Parameters
    ----------
    place : str
        The file's name and, for XLSX, its sheet.
    columns : list of str
        The columns, in the file's order.
    records : sequence of mapping
        One for each row, with the feature columns only; values are typed but not checked. Those of a file are
        `ColumnRecords`.
    target : sequence or None
        Values of the target column, if the file has one.
    rows : sequence of int
        The row number of each record, as a spreadsheet shows it.
    extras : mapping
        The n_rows values of each extra column: those that the use case declares and no model sees.
    read_as : mapping
        How the file was read, such as ``{"format": "csv", "separator": ";"}``; empty for other records.
    dropped : int
        How many more rows the file has, which were left out.
    """

    place: str
    columns: list[str]
    records: Sequence[Record]
    target: Sequence[Any] | None
    rows: Sequence[int]
    extras: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    read_as: Mapping[str, str] = field(default_factory=dict)
    dropped: int = 0

    @classmethod
    def of(cls, records: Sequence[Record], target: Sequence[Any] | None = None) -> "Table":
        """Records that do not come from a file.

        Parameters
        ----------
        records : sequence of mapping
            n_rows records.
        target : sequence, optional
            The n_rows values of the target column.

        Returns
        -------
        Table
            Without columns; rows are counted from 0.
        """
        return cls("the list", [], records, target, range(len(records)))

    def take(self, places: Sequence[int]) -> "Table":
        """Some of the rows, by their ascending places counted from 0."""
        return replace(
            self,
            records=taken(self.records, places),
            target=None if self.target is None else taken(self.target, places),
            rows=taken(self.rows, places),
            extras={name: taken(values, places) for name, values in self.extras.items()},
            dropped=self.dropped + len(self.records) - len(places),
        )

    def check(self, features: Sequence[Feature], target: Feature | None, extras: Sequence[Feature] = ()) -> None:
        """Check every value.

        Parameters
        ----------
        features : sequence of Feature
            The columns of the records.
        target : Feature or None
            The target column; None to leave it unchecked.
        extras : sequence of Feature, optional
            Columns of which some are in the table.

        Raises
        ------
        InvalidTableError
            With the first values that do not fit their columns, and how many there are.
        """
        faults = self._faults(features, target, [extra for extra in extras if extra.name in self.extras])
        for first in faults:
            raise InvalidTableError(self.place, itertools.chain([first], faults), len(self.records))

    def _faults(
        self, features: Sequence[Feature], target: Feature | None, extras: Sequence[Feature]
    ) -> Iterator[Fault]:
        checked = [(feature, column_of(self.records, feature.name)) for feature in features]
        if target and self.target is not None:
            checked.append((target, self.target))
        checked += [(extra, self.extras[extra.name]) for extra in extras]
        places = sorted(set().union(*(faulty_places(values, one) for one, values in checked)))
        if not places:
            return
        some = [taken(values, places) for _, values in checked]
        for row, *values in zip(taken(self.rows, places), *some, strict=True):
            for (column, _), value in zip(checked, values, strict=True):
                if problem := cell_problem(column, value):
                    yield Fault(column.name, problem, row, value)


def row_ranges(numbers: Sequence[int], longest: int) -> str:
    """Ascending numbers as ranges, such as `2-40,42`; the first only where all need more characters than `longest`."""
    text = ""
    rows = np.asarray(numbers, np.int64)
    begins = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
    ends = np.append(begins[1:], len(rows)) - 1
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=False):
        more = f"{rows[begin]}-{rows[end]}" if begin < end else str(rows[begin])
        if len(text) + len(more) >= longest:
            break
        text = f"{text},{more}" if text else more
    return text
