"""The reader: CSV and XLSX files to records; every fault says where it is.

Two forms are read: ordinary columns, and the bank's export, an XLSX file with all values of a row in the first column,
joined by commas. Text cells become numbers in columns that hold numbers by declaration; nothing else is changed,
dropped or guessed. pandas would not do: it renames repeated columns, reads texts such as "NA" as missing, and has no
row numbers.
"""

import csv
import itertools
import re
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from tabserve.aliases import Record
from tabserve.columns.features import RESERVED_NAMES, Category, Feature
from tabserve.errors import Fault, FileLimitError, InvalidTableError, TooManyRowsError
from tabserve.tables.formats import WORKBOOK, kind_of
from tabserve.tables.limits import Deadline, Row
from tabserve.tables.lines import csv_rows
from tabserve.tables.source import Sheet
from tabserve.tables.table import Table
from tabserve.tables.workbook import open_workbook

MAX_TEXTS = 32_000_000  # bytes of distinct texts in a table; numbers and known values need very few
MOST_NAMES = 40  # how many columns an error lists
RESERVED_PROBLEM = "The answer has a column of this name: rename yours, or send the original file."
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")

Cells = Sequence[Any]


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
        As for `read_table`.
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
    features = [replace(feature, default=None) for feature in features]
    with path.open("rb") as stream:
        table = read_table(stream, path.name, features, target, extras, markers, dialect, sheet)
    return _fit_to_train_on(table, features, target, drop=drop_missing_target)


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
    features = [replace(feature, default=None).with_markers(markers) for feature in features]
    target = target.with_markers(markers)
    extras = [extra.with_markers(markers) for extra in extras]
    table = _table(sheet, features, target, extras, None, Deadline(None))
    return _fit_to_train_on(table, features, target, drop=drop_missing_target)


def _fit_to_train_on(table: Table, features: Sequence[Feature], target: Feature, *, drop: bool) -> Table:
    if table.target is None:
        raise InvalidTableError(table.place, [Fault(target.name, "This column is missing.")])
    if not table.records:
        raise InvalidTableError(table.place, [Fault(features[0].name, "There is no row below the header.")])
    table = _with_target(table, target, drop=drop)
    table.check(features, target)
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
    seconds: float | None = None,
) -> Table:
    """Read a file with the given columns, in any order; the target and optional features may be left out.

    Parameters
    ----------
    stream : binary file
        For an XLSX file, it must be able to seek.
    name : str
        What errors call the file.
    features : sequence of Feature
        The columns to predict from.
    target : Feature
        The column to predict.
    extras : sequence of Feature, optional
        Further columns that the file may have; their values are kept apart from the records.
    markers : sequence of str, optional
        Texts that mean a missing value in every column.
    dialect : mapping, optional
        What is declared about a text file: `separator`, `decimal`, `encoding`. The rest is found out.
    sheet : str, optional
        The sheet of a workbook to read; by default the one with the known columns.
    max_rows : int, optional
        Refuse more rows than this.
    seconds : float, optional
        Give up when reading takes longer than this.

    Returns
    -------
    Table
        Its values are typed but not checked.

    Raises
    ------
    InvalidTableError
        When a column is missing, unknown or repeated, a row is longer or shorter than the header, a cell of the bank's
        export cannot be split, or several sheets hold data.
    UnsupportedFileError
        When the file is neither CSV nor XLSX, or is malformed.
    TooManyRowsError
        When there are more than `max_rows`.
    FileLimitError
        When reading takes longer than `seconds`, or the file exceeds another limit.
    """
    deadline = Deadline(seconds)
    if kind_of(stream) == WORKBOOK:
        with open_workbook(stream, name, deadline, sheet) as sheets:
            return _table(_only(name, list(sheets)), features, target, extras, max_rows, deadline)
    with closing(csv_rows(stream, deadline)) as rows:
        found = Sheet(name, rows, typed=False, read_as={"format": "csv"})
        return _table(found, features, target, extras, max_rows, deadline)


def _only(name: str, sheets: Sequence[Sheet]) -> Sheet:
    """The sheet that holds data, which may be but one."""
    if len(sheets) > 1:
        problem = f"Only one sheet may hold data, but {len(sheets)} do."
        raise InvalidTableError(name, [Fault(sheet.read_as["sheet"][:64], problem) for sheet in sheets])
    return sheets[0] if sheets else Sheet(name, iter(()), typed=True, read_as={"format": "xlsx"})


def _table(
    sheet: Sheet,
    features: Sequence[Feature],
    target: Feature,
    extras: Sequence[Feature],
    max_rows: int | None,
    deadline: Deadline,
) -> Table:
    place, rows, typed = sheet.place, sheet.rows, sheet.typed
    first_row, header, _ = next(rows, (1, (), 0))
    in_one_cell = len(header) == 1 and "," in str(header[0])
    if in_one_cell:
        rows, typed = _split(place, rows), False
        header = _split_cell(place, first_row, str(header[0]))
    columns = _columns(place, first_row, header, features, target, extras, in_one_cell=in_one_cell)

    texts = _Texts()
    by_name = {feature.name: feature for feature in (*features, target, *extras)}
    parsers = [texts.parser(by_name[column], typed=typed) for column in columns]
    empty = [None] * len(columns)
    records: list[Record] = []
    kept_apart = {target.name, *(extra.name for extra in extras)}
    apart: dict[str, list[Any]] = {name: [] for name in columns if name in kept_apart}
    numbers = array("L")
    rows = _within(rows, max_rows, deadline)
    for number, cells, width in rows:
        if _has_wrong_width(cells, width, len(columns), ragged=typed):
            rest = itertools.chain([(number, cells, width)], rows)
            raise InvalidTableError(place, _width_faults(rest, len(columns), ragged=typed))
        numbers.append(number)
        padded = [*cells, *empty[len(cells) :]]
        record = {column: parse(cell) for column, parse, cell in zip(columns, parsers, padded, strict=False)}
        for name, values in apart.items():
            values.append(record.pop(name))
        records.append(record)
    return Table(place, columns, records, apart.pop(target.name, None), numbers, apart, sheet.read_as)


def _within(rows: Iterable[Row], max_rows: int | None, deadline: Deadline) -> Iterator[Row]:
    """The rows; an error when there are too many or no time is left."""
    for count, row in enumerate(rows):
        deadline.check()
        if count == max_rows:
            raise TooManyRowsError(max_rows)
        yield row


def _has_wrong_width(cells: Cells, width: int, expected: int, *, ragged: bool) -> bool:
    """Whether a row is longer or shorter than the header; in ragged rows, empty cells at the end do not count."""
    if width <= expected:
        return width < expected and not ragged
    return ragged or any(cells[expected:])


def _width_faults(rows: Iterable[Row], expected: int, *, ragged: bool) -> Iterator[Fault]:
    for number, cells, width in rows:
        if _has_wrong_width(cells, width, expected, ragged=ragged):
            yield Fault(None, f"The row has {width} cells and the header {expected}.", number)


class _Texts:
    """The texts of a table: each is kept once, and there is a limit on distinct ones."""

    def __init__(self) -> None:
        self._left = MAX_TEXTS

    def parser(self, feature: Feature, *, typed: bool) -> Callable[[Any], Any]:
        """A function from a cell to its value; in a typed table, cells need not be texts."""

        @lru_cache(maxsize=10_000)
        def parse(text: str) -> Any:
            return self._keep(feature.parse(text))

        return (
            (lambda cell: parse(cell) if type(cell) is str else self._keep(feature.from_cell(cell))) if typed else parse
        )

    def _keep(self, value: Any) -> Any:
        if type(value) is str:
            self._left -= sys.getsizeof(value)
            if self._left < 0:
                raise FileLimitError("The file holds too much text: its columns should hold numbers and known values.")
        return value


def _split(place: str, rows: Iterable[Row]) -> Iterator[Row]:
    """Rows of the bank's export: the first cell holds all values, and the others are empty."""
    for number, cells, width in rows:
        if width > 1:
            raise InvalidTableError(place, [Fault(None, "Only the first column may hold values.", number)])
        values = _split_cell(place, number, str(cells[0]))
        yield number, values, len(values)


def _split_cell(place: str, number: int, cell: str) -> Cells:
    try:
        return next(csv.reader([cell], strict=True))
    except csv.Error:
        problem = "Not values joined by commas: a quote is not closed, stands alone, or a line is broken."
        raise InvalidTableError(place, [Fault("first", problem, number, cell)]) from None


def _columns(
    place: str,
    row: int,
    header: Cells,
    features: Sequence[Feature],
    target: Feature,
    extras: Sequence[Feature],
    *,
    in_one_cell: bool,
) -> list[str]:
    """The header's columns, each known and not repeated; empty cells at the end of the header are ignored.

    Without a header, or with a broken one, a record stands here. So an unknown column is named by its position, not by
    its text, when any column is missing or when the text may be a value: see `_may_be_shown`.
    """
    names = ["" if cell is None else str(cell) for cell in header]
    while names and not names[-1]:
        names.pop()
    allowed = [*(feature.name for feature in features), target.name, *(extra.name for extra in extras)]
    reserved = RESERVED_NAMES.difference(allowed)
    known = [name for name in names if name in allowed]
    if not known:
        problem = "No known column was found: this row must hold their names"
        problem = _separator_problem(names, allowed) or f"{problem}, which are {_in_short(allowed)}."
        raise InvalidTableError(place, [Fault(None, problem, row)])
    faults = [
        Fault(feature.name, "This column is missing.")
        for feature in features
        if not feature.optional and feature.name not in known
    ]
    faults += [Fault(name, RESERVED_PROBLEM) for name in names if name in reserved]
    unknown = [name for name in dict.fromkeys(names) if name not in reserved and name not in allowed]
    is_header = {*known, *(extra.name for extra in extras)} == set(allowed) and 2 * len(known) >= len(names)
    shown = [name for name in unknown if is_header and _may_be_shown(name, (*features, target))]
    hidden = set(unknown).difference(shown)
    places = [number for number, name in enumerate(names, 1) if name in hidden]
    faults += _unknown(row, shown, [str(number) if in_one_cell else _letters(number) for number in places], allowed)
    faults += [Fault(name, "This column appears more than once.") for name, n in Counter(known).items() if n > 1]
    if faults:
        raise InvalidTableError(place, faults)
    return names


def _separator_problem(names: Sequence[str], allowed: Sequence[str]) -> str | None:
    """The problem of a header that is not separated by commas."""
    text = ",".join(names).casefold()
    if text.startswith("sep="):
        return "This row only says what separates the columns: remove it, and separate them by commas."
    known = {name.casefold() for name in allowed}
    for mark, word in _SEPARATORS.items():
        if mark in text and known.intersection(name.strip(' "') for name in text.split(mark)):
            return f"The columns are separated by {word}: separate them by commas."
    return None


def _unknown(row: int, names: Sequence[str], places: Sequence[str], allowed: Sequence[str]) -> list[Fault]:
    """Faults of unknown columns, by name or by position; the first one lists the known columns."""
    known_columns = f"; the columns are: {_in_short(allowed)}."
    faults = [Fault(name, f"There is no such column{'.' if n else known_columns}") for n, name in enumerate(names)]
    if places:
        problem = f"{len(places)} unknown column(s), {_in_short(places)}"
        faults.append(Fault(None, problem + ("." if names else known_columns), row))
    return faults


def _may_be_shown(name: str, features: Sequence[Feature]) -> bool:
    """Whether a header's cell looks like a name, and is not a value of a record."""
    values = {value.casefold() for feature in features if isinstance(feature, Category) for value in feature.values}
    return _NAME.fullmatch(name) is not None and name.casefold() not in values


def _in_short(words: Sequence[str]) -> str:
    more = len(words) - MOST_NAMES
    return ", ".join(words[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _letters(position: int) -> str:
    """A column as spreadsheets call it: A, B, ... Z, AA."""
    letters = ""
    while position:
        position, letter = divmod(position - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return letters
