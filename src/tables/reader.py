"""The reader: files to records; every fault says where it is.

Where the table stands and how it is written is found out by the known columns (`finding`, `dialect`), and each cell
becomes a value as its column declares. Nothing is dropped or guessed. pandas would not do: it renames repeated columns,
reads texts such as "NA" as missing, and has no row numbers.
"""

import itertools
import logging
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from tabserve.aliases import Record
from tabserve.columns.features import Category, Feature, Number
from tabserve.errors import Fault, FileLimitError, InvalidTableError, TooManyRowsError
from tabserve.tables.checking import ODD_CELLS
from tabserve.tables.dialect import DECIMALS, NOT_SURE, Decimals, find_dialect
from tabserve.tables.finding import Found, Known, find_table
from tabserve.tables.formats import TEXT, kind_of
from tabserve.tables.limits import Deadline, Row
from tabserve.tables.lines import csv_rows, json_rows
from tabserve.tables.source import Sheet
from tabserve.tables.table import Table
from tabserve.tables.workbook import TRAINING, open_workbook

MAX_TEXTS = 32_000_000  # bytes of distinct texts in a table; numbers and known values need very few
_SAMPLE_ROWS = 1_000  # from the first number with a sign on, so many rows decide what the decimal sign is
_SAMPLE_TEXT = 1_000_000  # characters in them

Cells = Sequence[Any]

logger = logging.getLogger(__name__)


def read_training_table(
    path: Path,
    features: Sequence[Feature],
    target: Feature,
    extras: Sequence[Feature] = (),
    markers: Sequence[str] = (),
    dialect: Mapping[str, str] | None = None,
    sheet: str | None = None,
    *,
    drop_missing_target: bool = False,
) -> Table:
    """Read and check a file to train on: it must have all columns, including the target, and only valid values.

    Defaults do not replace missing values here: they are for predictions, not for training.

    Parameters
    ----------
    path : Path
        The file.
    features : sequence of Feature
        The columns to predict from.
    target : Feature
        The column to predict.
    extras, markers, dialect, sheet
        As for `read_table`; the values of ignored columns are not kept.
    drop_missing_target : bool
        Whether rows without a target are left out; otherwise they are a fault.

    Returns
    -------
    Table
        With at least one record, and with its target.

    Raises
    ------
    InvalidTableError
        With file, sheet, row, column and value of the first faults.
    UnsupportedFileError
        As for `read_table`.
    """
    known = _to_train_on(features, target, extras)
    with path.open("rb") as stream:
        table = _read(stream, path.name, known, markers, dialect or {}, sheet, own=True)
    return _fit_to_train_on(table, known, drop=drop_missing_target)


def read_training_rows(
    sheet: Sheet,
    features: Sequence[Feature],
    target: Feature,
    extras: Sequence[Feature] = (),
    markers: Sequence[str] = (),
    *,
    drop_missing_target: bool = False,
) -> Table:
    """Read and check rows to train on that are in no file; see `read_training_table`."""
    known = _to_train_on(features, target, extras)
    table = _table([sheet], known, markers, {}, None, None, Deadline(None), own=True)
    return _fit_to_train_on(table, known, drop=drop_missing_target)


def _to_train_on(features: Iterable[Feature], target: Feature, extras: Sequence[Feature]) -> Known:
    return Known([replace(feature, default=None) for feature in features], target, extras)


def _fit_to_train_on(table: Table, known: Known, *, drop: bool) -> Table:
    target = known.target
    if table.target is None:
        raise InvalidTableError(table.place, [Fault(target.name, "This column is missing.")])
    for feature in known.features:
        if feature.name not in table.columns:
            logger.warning("%s has no column '%s': nothing is learnt from it.", table.place, feature.name)
    if not table.records:
        raise InvalidTableError(table.place, [Fault(known.names[0], "There is no row below the header.")])
    table = _with_target(table, target, drop=drop)
    table.check(known.features, target, known.extras)
    return table


def _with_target(table: Table, target: Feature, *, drop: bool) -> Table:
    """The rows whose target is known."""
    assert table.target is not None
    known = [place for place, value in enumerate(table.target) if value is not None]
    missing = len(table.records) - len(known)
    if not missing:
        return table
    if not known:
        raise InvalidTableError(table.place, [Fault(target.name, "No row has a value.")])
    if not drop:
        first = next(row for row, value in zip(table.rows, table.target, strict=True) if value is None)
        problem = (
            f"{missing} of {len(table.records)} rows have no value, the first is row {first}: fill them in, or leave "
            "these rows out with --drop-missing-target."
        )
        raise InvalidTableError(table.place, [Fault(target.name, problem)])
    return table.take(known)


def read_table(
    stream: BinaryIO,
    name: str,
    features: Sequence[Feature],
    target: Feature,
    extras: Sequence[Feature] = (),
    markers: Sequence[str] = (),
    dialect: Mapping[str, str] | None = None,
    sheet: str | None = None,
    max_rows: int | None = None,
    deadline: Deadline | None = None,
) -> Table:
    """Read a file with the given columns, in any order; the target and optional features may be left out.

    Parameters
    ----------
    stream : binary file
        It must be able to seek.
    name : str
        What errors call the file.
    features : sequence of Feature
        The columns to predict from.
    target : Feature
        The column to predict.
    extras : sequence of Feature, optional
        Further columns that the file may have; their values are kept apart from the records.
    markers : sequence of str, optional
        Texts that mean a missing value in every column, except where they are values.
    dialect : mapping, optional
        What is declared about a text file: `separator`, `decimal`, `encoding`. The rest is found out.
    sheet : str, optional
        The sheet of a workbook to read; by default the one with the known columns.
    max_rows : int, optional
        Refuse more rows than this.
    deadline : Deadline, optional
        Give up when no time is left.

    Returns
    -------
    Table
        Its values are typed but not checked.

    Raises
    ------
    InvalidTableError
        When a column is missing, unknown or repeated, a row is longer or shorter than the header, or the file can be
        read in several ways.
    UnsupportedFileError
        When the file is of no known kind, or is malformed.
    TooManyRowsError
        When there are more than `max_rows`.
    FileLimitError
        When no time is left, or the file exceeds another limit.
    """
    known = Known(features, target, extras)
    return _read(stream, name, known, markers, dialect or {}, sheet, max_rows, deadline)


def _read(
    stream: BinaryIO,
    name: str,
    known: Known,
    markers: Sequence[str],
    dialect: Mapping[str, str],
    sheet: str | None,
    max_rows: int | None = None,
    deadline: Deadline | None = None,
    *,
    own: bool = False,
) -> Table:
    deadline = deadline or Deadline(None)
    with open_sheets(stream, name, known.names, dialect, sheet, deadline) as sheets:
        table = _table(sheets, known, markers, dialect, sheet, max_rows, deadline, own=own)
    if table.read_as.get("encoding") == NOT_SURE and "encoding" not in dialect:
        _check_encoding(table, known)
    return table


def _table(
    sheets: Iterable[Sheet],
    known: Known,
    markers: Sequence[str],
    dialect: Mapping[str, str],
    title: str | None,
    max_rows: int | None,
    deadline: Deadline,
    *,
    own: bool,
) -> Table:
    found = find_table(sheets, known, dialect, title, own=own)
    cells = _Cells(found, known, markers, dialect.get("decimal"), MAX_TEXTS * (TRAINING if own else 1))
    table = cells.table(_within(found.sheet.rows, max_rows, deadline), keep_ignored=not own)
    odd = _odd_cells(table, known)
    for first in odd:
        raise InvalidTableError(table.place, itertools.chain([first], odd), len(table.records))
    return table


def _odd_cells(table: Table, known: Known) -> Iterator[Fault]:
    """Errors of a spreadsheet in columns that would take any text; the others refuse them when they are checked."""
    for column in known.columns:
        odd = [text for text in ODD_CELLS if column.problem(text) is None and text not in getattr(column, "values", ())]
        if odd and column.name in table.columns and column.kind != "ignore":
            for row, value in zip(table.rows, _values(table, column.name), strict=True):
                if type(value) is str and value in odd:
                    yield Fault(column.name, ODD_CELLS[value], row, value)


@contextmanager
def open_sheets(
    stream: BinaryIO,
    name: str,
    columns: Sequence[str],
    dialect: Mapping[str, str],
    title: str | None,
    deadline: Deadline,
) -> Iterator[Iterable[Sheet]]:
    """The sheets of a file, whose kind its first bytes tell."""
    if kind_of(stream) != TEXT:
        with open_workbook(stream, name, deadline, title) as sheets:
            yield [*sheets] or [Sheet(name, iter(()), typed=True, read_as={"format": "xlsx"})]
        return
    found = find_dialect(stream, name, columns, dialect)
    rows = (
        csv_rows(stream, deadline, found.encoding, found.separator, found.skipped)
        if found.separator
        else json_rows(stream, name, deadline, found.encoding)
    )
    with closing(rows):
        yield [Sheet(name, rows, typed=not found.separator, read_as=found.read_as)]


def has_wrong_width(cells: Cells, width: int, expected: int, *, typed: bool) -> bool:
    """Whether a row is longer or shorter than the header; empty cells at its end do not count."""
    if width <= expected:
        return width < expected and not typed
    return typed or any(map(str.strip, cells[expected:]))


def _within(rows: Iterable[Row], max_rows: int | None, deadline: Deadline) -> Iterator[Row]:
    """The rows; an error when there are too many or no time is left."""
    for count, row in enumerate(rows):
        deadline.check()
        if count == max_rows:
            raise TooManyRowsError(max_rows)
        yield row


def _values(table: Table, column: str) -> Iterable[Any]:
    """The n_rows values of a column, whichever part of the table holds it."""
    if column in table.extras:
        return table.extras[column]
    if table.records and column in table.records[0]:
        return (record[column] for record in table.records)
    return table.target or ()


class _Cells:
    """From the cells of a table to its values: each text is kept once, and there is a limit on distinct ones."""

    def __init__(
        self, found: Found, known: Known, markers: Sequence[str], decimal: str | None, most_texts: int
    ) -> None:
        by_name = {column.name: column.with_markers(markers) for column in known.columns}
        self._found = found
        self._known = known
        self._columns = [name for name in found.header.columns if name is not None]
        self._features = [by_name[name] for name in self._columns]
        self._decimal = decimal
        self._left = most_texts

    def table(self, rows: Iterator[Row], *, keep_ignored: bool) -> Table:
        """Read all rows."""
        sheet, names = self._found.sheet, self._columns
        parsers = [self._parser(feature) for feature in self._features]
        apart: dict[str, list[Any]] = {
            column.name: [] for column in (self._known.target, *self._known.extras) if column.name in names
        }
        empty = [None] * len(names)
        records: list[Record] = []
        numbers = array("L")
        rows = self._with_decimal(rows)
        for number, cells, width in rows:
            if self._has_wrong_width(cells, width):
                faults = self._width_faults(itertools.chain([(number, cells, width)], rows))
                raise InvalidTableError(sheet.place, faults)
            numbers.append(number)
            padded = [*cells, *empty[len(cells) :]]
            record = {name: parse(cell) for name, parse, cell in zip(names, parsers, padded, strict=False)}
            for name, values in apart.items():
                values.append(record.pop(name))
            records.append(record)
        if not keep_ignored:
            ignored = [extra.name for extra in self._known.extras if extra.kind == "ignore"]
            apart = {name: values for name, values in apart.items() if name not in ignored}
        target = apart.pop(self._known.target.name, None)
        return Table(sheet.place, names, records, target, numbers, apart, self._read_as())

    def _read_as(self) -> Mapping[str, str]:
        read_as = self._found.sheet.read_as
        separator = read_as.get("separator")
        decimal = self._decimal or {None: None, ";": ","}.get(separator, ".")
        return {**read_as, **({"decimal": decimal} if decimal else {})}

    def _parser(self, feature: Feature) -> Callable[[Any], Any]:
        @lru_cache(maxsize=10_000)
        def parse(text: str) -> Any:
            value = feature.from_cell(text, self._decimal or ".")
            if type(value) is str:
                self._left -= sys.getsizeof(value)
                if self._left < 0:
                    raise FileLimitError(
                        "The file holds too much text: its columns should hold numbers and known values."
                    )
            return value

        return lambda cell: parse(cell) if type(cell) is str else feature.from_cell(cell)

    def _with_decimal(self, rows: Iterator[Row]) -> Iterator[Row]:
        """The rows; before the first one with a decimal sign is given, it is known what the sign means."""
        numbers = [(place, one) for place, one in enumerate(self._features) if isinstance(one, Number)]
        if self._decimal or not numbers:
            yield from rows
            return
        for row in rows:
            if any(sign in cell for _, cell in _texts(row, numbers) for sign in DECIMALS):
                sample = [row, *_sample(rows)]
                self._decide(sample, numbers)
                yield from sample
                yield from rows
                return
            yield row

    def _decide(self, sample: Iterable[Row], numbers: Sequence[tuple[int, Number]]) -> None:
        decimals = Decimals()
        for row in sample:
            for feature, cell in _texts(row, numbers):
                decimals.see(feature, cell)
        self._decimal, fault = decimals.sign(self._found.sheet.read_as.get("separator", ""))
        if fault:
            raise InvalidTableError(self._found.sheet.place, [fault])

    def _has_wrong_width(self, cells: Cells, width: int) -> bool:
        """Whether a row is longer or shorter than the header; empty cells at its end do not count."""
        return has_wrong_width(cells, width, len(self._columns), typed=self._found.sheet.typed)

    def _width_faults(self, rows: Iterable[Row]) -> Iterator[Fault]:
        for number, cells, width in rows:
            if self._has_wrong_width(cells, width):
                yield Fault(None, f"The row has {width} cells and the header {len(self._columns)}.", number)


def _texts(row: Row, numbers: Sequence[tuple[int, Number]]) -> Iterator[tuple[Number, str]]:
    """The texts in the columns of numbers."""
    cells = row[1]
    for place, feature in numbers:
        if place < len(cells) and type(cells[place]) is str:
            yield feature, cells[place]


def _sample(rows: Iterator[Row]) -> Iterator[Row]:
    left = _SAMPLE_TEXT
    for row in itertools.islice(rows, _SAMPLE_ROWS - 1):
        yield row
        left -= sum(len(cell) for cell in row[1] if type(cell) is str)
        if left < 0:
            return


def _check_encoding(table: Table, known: Known) -> None:
    """Refuse a file that is not UTF-8 when texts depend on its encoding, and no known name or value confirms it."""
    columns = {column.name: table.extras.get(column.name) for column in known.extras}
    columns[known.target.name] = table.target
    is_open = None
    for feature in known.columns:
        if not feature.name.isascii() and feature.name in table.columns:
            return
        values = columns.get(feature.name) or (record.get(feature.name) for record in table.records)
        for value in {value for value in values if type(value) is str and not value.isascii()}:
            if isinstance(feature, Category) and value in feature.values:
                return
            if feature.kind == "text" or (isinstance(feature, Category) and feature.other):
                is_open = feature.name
    if is_open:
        problem = "The file is not UTF-8, and no known name or value tells its encoding: save it as "
        raise InvalidTableError(
            table.place, [Fault(is_open, f'{problem}"CSV UTF-8", or declare `encoding` in the dialect.')]
        )
