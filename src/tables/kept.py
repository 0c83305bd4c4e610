"""Records and columns that stay in the arrays they came in; a record is made only where somebody asks for it."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, overload

import numpy as np

from tabserve.aliases import Mask, Matrix, Places, Record
from tabserve.columns.arrays import dictionary_places, distinct_cells, given_in, python_cells
from tabserve.columns.features import Feature

if TYPE_CHECKING:
    import pyarrow as pa


class Encoding(Protocol):
    """What makes a matrix of columns: a `RecordEncoder`."""

    def transform_cells(self, cells: "pa.RecordBatch", decimal: str = ".") -> tuple[Matrix, Places]:
        """A matrix, and the positions of the rows at fault; see `RecordEncoder`."""

    def transform_values(self, columns: Mapping[str, Sequence[Any]], n_rows: int) -> tuple[Matrix, Places]:
        """The same for columns of values."""


class Kept(Sequence[Any], ABC):
    """A sequence whose entries are made when they are asked for; a slice of it is kept in the same way."""

    @abstractmethod
    def take(self, places: slice | Sequence[int]) -> Self:
        """Some of the entries, by ascending places or as a slice without a step."""

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> Self: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return self.take(place)
        (entry,) = self.take([range(len(self))[place]])
        return entry

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and [*self] == [*other]

    __hash__ = None  # type: ignore[assignment]  # as of a list


class ColumnRecords(Kept):
    """Records that are kept as columns.

    Attributes
    ----------
    names : sequence of str
        The keys that each record has.
    """

    names: Sequence[str]

    @abstractmethod
    def column(self, name: str) -> Sequence[Any]:
        """The n_rows values of one of the columns."""

    @abstractmethod
    def encoded_by(self, encoding: Encoding) -> tuple[Matrix, Places]:
        """The matrix of all rows, NaN in those at fault, and the ascending positions of these."""

    def __iter__(self) -> Iterator[Record]:
        if not self.names:
            return iter([{}] * len(self))
        rows = zip(*map(self.column, self.names), strict=True)
        return (dict(zip(self.names, row, strict=True)) for row in rows)


@dataclass(frozen=True)
class Cells:
    """Raw cells of a table.

    Parameters
    ----------
    batches : sequence of pyarrow.RecordBatch
        One below the other; all have the same columns, though not of the same types.
    decimal : str
        The decimal sign of numbers that are kept as text.
    """

    batches: Sequence["pa.RecordBatch"]
    decimal: str = "."

    def __len__(self) -> int:
        return sum(map(len, self.batches))

    def of(self, names: Sequence[str]) -> "Cells":
        """Some of the columns."""
        return Cells([batch.select(names) for batch in self.batches], self.decimal)

    def take(self, places: slice | Sequence[int]) -> "Cells":
        """Some of the rows, by ascending places or as a slice without a step."""
        some = self._slice(places) if isinstance(places, slice) else self._taken(np.asarray(places, np.int64))
        return Cells([batch for batch in some if len(batch)], self.decimal)

    def _slice(self, places: slice) -> "Iterator[pa.RecordBatch]":
        begin = 0
        first, last, _ = places.indices(len(self))
        for batch in self.batches:
            start = max(first - begin, 0)
            yield batch.slice(start, max(last - begin - start, 0))
            begin += len(batch)

    def _taken(self, places: Places) -> "Iterator[pa.RecordBatch]":
        import pyarrow as pa

        begin = 0
        for batch in self.batches:
            first, last = np.searchsorted(places, [begin, begin + len(batch)])
            yield batch.take(pa.array(places[first:last] - begin))
            begin += len(batch)


@dataclass(frozen=True, eq=False)
class CellColumn(Kept):
    """A column of cells as a sequence of the values that its feature reads in them.

    Parameters
    ----------
    feature : Feature
    cells : Cells
        It has a column of the feature's name.
    """

    feature: Feature
    cells: Cells

    @property
    def arrays(self) -> "Iterator[pa.Array]":
        """The raw cells, part by part."""
        return (batch[self.feature.name] for batch in self.cells.batches)

    @property
    def typed_arrays(self) -> "Iterator[pa.Array]":
        """The values as arrays, part by part; see `Feature.typed_array`."""
        return (self.feature.typed_array(array, self.cells.decimal) for array in self.arrays)

    def take(self, places: slice | Sequence[int]) -> "CellColumn":
        """Some of the values, by ascending places or as a slice without a step."""
        return CellColumn(self.feature, self.cells.take(places))

    def distinct(self) -> tuple[list[Any], Places]:
        """The distinct values of each part, one after the other, and which of them each row has."""
        values: list[Any] = []
        places = [np.empty(0, np.int64)]
        for of_part, places_in_part in self.parts():
            places.append(places_in_part + len(values))
            values += of_part
        return values, np.concatenate(places)

    def parts(self) -> Iterator[tuple[list[Any], Places]]:
        """The distinct values of each part, and which of them each of its rows has."""
        for array in self.arrays:
            cells, places = distinct_cells(array)
            used, places = np.unique(places, return_inverse=True)
            yield self.feature.from_cells([cells[place] for place in used.tolist()], self.cells.decimal), places

    def faulty(self, feature: Feature) -> Places:
        """The ascending places of the values that a feature with the same markers does not allow."""
        feature, decimal = feature.with_markers(self.feature.markers), self.cells.decimal
        found = [feature.encode_cells(array, decimal)[1] for array in self.arrays]
        return np.flatnonzero(np.concatenate([np.empty(0, np.bool_), *found]))

    def __len__(self) -> int:
        return len(self.cells)

    def __iter__(self) -> Iterator[Any]:
        decimal = self.cells.decimal
        return itertools.chain.from_iterable(self.feature.typed_cells(array, decimal) for array in self.arrays)


@dataclass(frozen=True, eq=False)
class WrittenColumn:
    """A column of cells as answers repeat it.

    Parameters
    ----------
    column : CellColumn
    word : callable
        What is written for a value.
    """

    column: CellColumn
    word: Callable[[Any], Any]

    def parts(self) -> Iterator[tuple[list[Any], Places]]:
        """What is written for the distinct values of each part, and which of them each of its rows has."""
        return (([*map(self.word, values)], places) for values, places in self.column.parts())

    def distinct(self) -> tuple[list[Any], Places]:
        """The same for all rows."""
        values, places = self.column.distinct()
        return [*map(self.word, values)], places

    def __iter__(self) -> Iterator[Any]:
        return map(self.word, self.column)


def parts_of(columns: Sequence[Iterable[Any]]) -> Iterator[Sequence[tuple[list[Any], Places]]] | None:
    """Columns of a table, part by part.

    Parameters
    ----------
    columns : sequence of iterable
        Some may be a `WrittenColumn`, all of the same table; others give a value for each row.

    Returns
    -------
    iterator of sequence of (list, ndarray)
        Of each column the distinct values, and which of them each row has; None where no column is of cells.
    """
    kept = next((column for column in columns if isinstance(column, WrittenColumn)), None)
    if kept is None:
        return None
    sizes = [len(batch) for batch in kept.column.cells.batches]
    parts = [column.parts() if isinstance(column, WrittenColumn) else _in_parts(column, sizes) for column in columns]
    return zip(*parts, strict=True)


def _in_parts(column: Iterable[Any], sizes: Sequence[int]) -> Iterator[tuple[list[Any], Places]]:
    values = iter(column)
    return (([*itertools.islice(values, size)], np.arange(size)) for size in sizes)


class CellRecords(ColumnRecords):
    """The rows of a file as records.

    Parameters
    ----------
    features : sequence of Feature
        The keys of the records, and how their values are read.
    cells : Cells
        They have a column for each feature.
    """

    def __init__(self, features: Sequence[Feature], cells: Cells) -> None:
        self.names = [feature.name for feature in features]
        self._features = {feature.name: feature for feature in features}
        self._cells = cells.of(self.names)

    def column(self, name: str) -> CellColumn:
        return CellColumn(self._features[name], self._cells)

    def take(self, places: slice | Sequence[int]) -> "CellRecords":
        return CellRecords([*self._features.values()], self._cells.take(places))

    def encoded_by(self, encoding: Encoding) -> tuple[Matrix, Places]:
        begin = 0
        matrices, faulty = [], []
        for batch in self._cells.batches:
            matrix, places = encoding.transform_cells(batch, self._cells.decimal)
            matrices.append(matrix)
            faulty.append(places + begin)
            begin += len(batch)
        return np.concatenate(matrices), np.concatenate(faulty)

    def __len__(self) -> int:
        return len(self._cells)


class ValueRecords(ColumnRecords):
    """Columns of values as records.

    Parameters
    ----------
    columns : mapping
        The n_rows values, of any type, of each column by its name.
    n_rows : int
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]], n_rows: int) -> None:
        self.names = list(columns)
        self._columns = columns
        self._n_rows = n_rows

    def column(self, name: str) -> Sequence[Any]:
        return self._columns[name]

    def without(self, name: str) -> "ValueRecords":
        """The records without a key."""
        return ValueRecords({key: values for key, values in self._columns.items() if key != name}, len(self))

    def take(self, places: slice | Sequence[int]) -> "ValueRecords":
        if isinstance(places, slice):
            places = range(len(self))[places]
        return ValueRecords({name: taken(values, places) for name, values in self._columns.items()}, len(places))

    def encoded_by(self, encoding: Encoding) -> tuple[Matrix, Places]:
        return encoding.transform_values(self._columns, len(self))

    def __len__(self) -> int:
        return self._n_rows


def taken(values: Sequence[Any], places: Sequence[int]) -> Sequence[Any]:
    """Some records or values, by ascending places; those that are kept as columns stay so."""
    return values.take(places) if isinstance(values, Kept) else [values[place] for place in places]


def column_of(records: Sequence[Record], name: str) -> Sequence[Any]:
    """What records have under a key; None where they do not have it."""
    if isinstance(records, ColumnRecords):
        return records.column(name) if name in records.names else [None] * len(records)
    return [record.get(name) for record in records]


def has_key(records: Sequence[Record], name: str) -> bool:
    """Whether any record has a key."""
    if isinstance(records, ColumnRecords):
        return name in records.names
    return any(name in record for record in records)


def given_places(values: Sequence[Any]) -> Sequence[int]:
    """The ascending places of the values that are not missing."""
    if isinstance(values, CellColumn):
        given = np.concatenate([np.empty(0, np.bool_), *map(_given, values.typed_arrays)])
        return range(len(given)) if given.all() else np.flatnonzero(given).tolist()
    return [place for place, value in enumerate(values) if value is not None]


def _given(array: "pa.Array") -> Mask:
    """Which values of a typed array are not missing."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        return np.append(given_in(array.dictionary), False)[dictionary_places(array)]
    if pa.types.is_union(array.type):
        return np.array([cell is not None for cell in python_cells(array)], np.bool_)
    return given_in(array)


def faulty_places(values: Sequence[Any], feature: Feature) -> list[int]:
    """The ascending places of the values that a feature does not allow."""
    if isinstance(values, CellColumn):
        return [*map(int, values.faulty(feature))]
    return [place for place, value in enumerate(values) if feature.problem(value)]
