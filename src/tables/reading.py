"""Reading: a table below its header, a batch of rows at a time; columns have their declared names."""

import itertools
from array import array
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from tabserve.columns.arrays import python_cells, without_pandas
from tabserve.columns.features import Feature, Number
from tabserve.errors import Fault, InvalidTableError, TooManyRowsError
from tabserve.tables.batch import Batch
from tabserve.tables.checking import ODD_CELLS
from tabserve.tables.dialect import DECIMALS, NOT_SURE, Decimals
from tabserve.tables.finding import Found, Known
from tabserve.tables.kept import CellColumn, CellRecords, Cells
from tabserve.tables.limits import Deadline
from tabserve.tables.table import Table

if TYPE_CHECKING:
    import pyarrow as pa

_SAMPLE_ROWS = 1_000  # from the first number with a sign on, so many rows decide what the decimal sign is


class Reading:
    """A table that is being read.

    Parameters
    ----------
    found : Found
        Where it stands.
    known : Known
        The columns that it may have.
    markers : sequence of str, optional
        Texts that mean a missing value in every column.
    dialect : mapping, optional
        What is declared about a text file.
    max_rows : int, optional
        The most rows.
    deadline : Deadline, optional

    Attributes
    ----------
    place : str
        What errors call the table.
    columns : list of str
        The declared names of its columns, in the file's order.
    features : list of Feature
        What these columns are, with the markers.
    batches : iterator of Batch
        All rows, once. Columns have their declared names, and cells are raw: `Feature.encode_cells` and its like read
        them. It raises the errors of `read_table`.
    """

    def __init__(
        self,
        found: Found,
        known: Known,
        markers: Sequence[str] = (),
        dialect: Mapping[str, str] = MappingProxyType({}),
        max_rows: int | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        without_pandas()
        by_name = {column.name: column.with_markers(markers) for column in known.columns}
        self.place = found.sheet.place
        self._known = known
        self.columns = [name for name in found.header.columns if name is not None]
        self.features = [by_name[name] for name in self.columns]
        self._read_as = found.sheet.read_as
        self._decimal = dialect.get("decimal")
        self._odd = [(feature, texts) for feature in self.features if (texts := _odd_texts(feature))]
        batches = self._with_decimal(self._named(found, max_rows, deadline or Deadline(None)))
        if self._read_as.get("encoding") == NOT_SURE and "encoding" not in dialect:
            batches = self._of_sure_encoding(batches)
        self.batches = self._without_odd_cells(batches)

    @property
    def decimal(self) -> str:
        """The decimal sign of numbers that are texts, in every batch that was given."""
        return self._decimal or "."

    @property
    def read_as(self) -> Mapping[str, str]:
        """How the table was read; the decimal sign is known when all batches were given."""
        separator = self._read_as.get("separator")
        decimal = self._decimal or {None: None, ";": ","}.get(separator, ".")
        return {**self._read_as, **({"decimal": decimal} if decimal else {})}

    def table(self, batches: Sequence[Batch]) -> Table:
        """Batches that were given, as a table; columns that were taken out of them are left out."""
        cells = Cells([batch.cells for batch in batches], self.decimal)
        kept = cells.batches[0].schema.names if batches else self.columns
        features = {feature.name: feature for feature in self.features if feature.name in kept}
        target, extras = self._known.target.name, [extra.name for extra in self._known.extras if extra.name in features]
        inputs = [feature for name, feature in features.items() if name not in (target, *extras)]
        return Table(
            self.place,
            self.columns,
            CellRecords(inputs, cells),
            CellColumn(features[target], cells.of([target])) if target in features else None,
            array("Q", itertools.chain.from_iterable(batch.rows for batch in batches)),
            {name: CellColumn(features[name], cells.of([name])) for name in extras},
            self.read_as,
        )

    def _named(self, found: Found, max_rows: int | None, deadline: Deadline) -> Iterator[Batch]:
        """The batches, with the columns' names; an error when there are too many rows or no time is left."""
        rows = 0
        for batch in found.sheet.batches(len(self.columns)):
            deadline.check()
            rows += len(batch.rows)
            if max_rows is not None and rows > max_rows:
                raise TooManyRowsError(max_rows)
            yield batch._replace(cells=batch.cells.rename_columns(self.columns))

    def _with_decimal(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; before the first one with a decimal sign is given, it is known what the sign means."""
        numbers = [feature for feature in self.features if isinstance(feature, Number)]
        if self._decimal or not numbers:
            yield from batches
            return
        for batch in batches:
            first = min((at for one in numbers if (at := _first_sign(batch.cells[one.name])) is not None), default=None)
            if first is not None:
                ahead = [batch]
                sample = [batch.cells.slice(first, _SAMPLE_ROWS)]
                while (left := _SAMPLE_ROWS - sum(map(len, sample))) and (more := next(batches, None)):
                    ahead.append(more)
                    sample.append(more.cells.slice(0, left))
                self._decide(sample, numbers)
                yield from ahead
                yield from batches
                return
            yield batch

    def _decide(self, sample: Sequence["pa.RecordBatch"], numbers: Sequence[Number]) -> None:
        decimals = Decimals()
        for cells in sample:
            for row in zip(*(python_cells(cells[feature.name]) for feature in numbers), strict=True):
                for feature, cell in zip(numbers, row, strict=True):
                    if type(cell) is str:
                        decimals.see(feature, cell)
        self._decimal, fault = decimals.sign(self._read_as.get("separator", ""))
        if fault:
            raise InvalidTableError(self.place, [fault])

    def _without_odd_cells(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; an error for a spreadsheet's errors in columns that take any text, as others refuse them."""
        rows = 0
        for batch in batches:
            rows += len(batch.rows)
            if faults := [*self._odd_cells(batch)]:
                for later in batches:
                    rows += len(later.rows)
                    faults += self._odd_cells(later)
                raise InvalidTableError(self.place, faults, rows)
            yield batch

    def _odd_cells(self, batch: Batch) -> Iterator[Fault]:
        for feature, texts in self._odd:
            column = batch.cells[feature.name]
            for place in _places_of(column, "#"):
                (cell,) = python_cells(column.slice(place, 1))
                if (value := feature.from_cell(cell, self.decimal)) in texts:
                    yield Fault(feature.name, ODD_CELLS[value], batch.rows[place], value)

    def _of_sure_encoding(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; at last an error when texts depend on an encoding that no known name or value confirms."""
        is_sure, in_doubt = not all(map(str.isascii, self.columns)), ""
        for batch in batches:
            for feature in () if is_sure else self.features:
                read = (feature.from_cell(text, self.decimal) for text in _beyond_ascii(batch.cells[feature.name]))
                values = {value for value in read if type(value) is str and not value.isascii()}
                is_sure = is_sure or not values.isdisjoint(getattr(feature, "values", ()))
                takes_any = feature.kind == "text" or bool(getattr(feature, "other", ""))
                if values and takes_any:
                    in_doubt = feature.name
            yield batch
        if in_doubt and not is_sure:
            problem = "The file is not UTF-8, and no known name or value tells its encoding: save it as "
            fault = Fault(in_doubt, f'{problem}"CSV UTF-8", or declare `encoding` in the dialect.')
            raise InvalidTableError(self.place, [fault])


def _odd_texts(feature: Feature) -> set[str]:
    """The errors of a spreadsheet that a column would take for a value, though none is declared as one."""
    if feature.kind == "ignore":
        return set()
    declared = getattr(feature, "values", ())
    return {text for text in ODD_CELLS if text not in declared and feature.problem(text) is None}


def _first_sign(column: "pa.Array") -> int | None:
    """The first place of a text with a decimal sign."""
    places = [found[0] for sign in DECIMALS if (found := _places_of(column, sign))]
    return min(places, default=None)


def _places_of(column: "pa.Array", part: str) -> list[int]:
    """Where a column has texts with a certain part."""
    if part.encode() not in _bytes_of(column):
        return []
    return [place for place, cell in enumerate(python_cells(column)) if type(cell) is str and part in cell]


def _beyond_ascii(column: "pa.Array") -> set[str]:
    """The texts of a column that depend on the encoding."""
    if _bytes_of(column).isascii():
        return set()
    return {cell for cell in python_cells(column) if type(cell) is str and not cell.isascii()}


def _bytes_of(column: "pa.Array") -> bytes:
    """All texts of a column in UTF-8, one after the other; looking for a byte in them takes hardly any time."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        return _bytes_of(column.dictionary)
    if pa.types.is_union(kind):
        return b"".join(_bytes_of(column.field(code)) for code in range(kind.num_fields))
    if not _is_text(kind):
        return b""
    column = column.cast(pa.binary())
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int32)[column.offset :] if offsets else [0]
    return data[ends[0] : ends[len(column)]].to_pybytes() if data and len(column) else b""


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    types = pa.types
    of = (types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary)
    return any(is_one(kind) for is_one in of)
