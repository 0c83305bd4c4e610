"""The reader: CSV and XLSX files to records, with every fault named by its place.

Two forms are read: ordinary columns, and the bank's own export, an XLSX file in which all values of a row stand in the
first column, joined by commas. Cells of text become numbers where the use case says that a column holds numbers;
apart from that nothing is changed, dropped or guessed. pandas is not needed, nor would it do: it renames repeated
columns, takes texts such as "NA" for missing, and knows no row numbers.
"""

import csv
import io
import math
import re
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from src.aliases import Record
from src.errors import Fault, FileLimitError, InvalidTableError, TooManyRowsError, UnsupportedFileError
from src.use_cases.features import Feature

NOT_A_TABLE = "The file is neither CSV (UTF-8) nor XLSX."
MAX_UNPACKED = 200_000_000  # bytes that an XLSX file may unpack to: more is an attack or a mistake
MAX_SHEET_ROWS = 1_048_576  # as many as Excel writes: a row may say that it is the billionth, and empty ones are read
XLSX_MAGIC = b"PK\x03\x04"

Cells = Sequence[Any]


@dataclass(frozen=True)
class Table:
    """A file's content with known columns.

    Parameters
    ----------
    place : str
        The file's name and, for XLSX, its sheet.
    columns : list of str
        The columns, in the file's order.
    records : list of dict
        One for each row, with the feature columns only. Values are typed but not checked.
    target : list or None
        Values of the target column, when the file has one.
    rows : sequence of int
        Where each record stands: the number of its row as a spreadsheet shows it.
    """

    place: str
    columns: list[str]
    records: Sequence[Record]
    target: list[Any] | None
    rows: Sequence[int]

    @classmethod
    def of(cls, records: Sequence[Record], target: list[Any] | None = None) -> "Table":
        """Records that came from no file.

        Parameters
        ----------
        records : sequence of mapping
            n_rows records.
        target : list, optional
            The n_rows values of the target column.

        Returns
        -------
        Table
            Without columns; its rows are counted from 0.
        """
        return cls("the list", [], records, target, range(len(records)))

    def check(self, features: Sequence[Feature], target: Feature | None) -> None:
        """Check every value.

        Parameters
        ----------
        features : sequence of Feature
            The columns of the records.
        target : Feature or None
            The target column; None when its values do not matter.

        Raises
        ------
        InvalidTableError
            With every value that does not fit its column.
        """
        faults = [
            Fault(feature.name, problem, row, record.get(feature.name))
            for row, record in zip(self.rows, self.records, strict=True)
            for feature in features
            if (problem := feature.problem(record.get(feature.name)))
        ]
        if target:
            faults += [
                Fault(target.name, problem, row, value)
                for row, value in zip(self.rows, self.target or (), strict=self.target is not None)
                if (problem := target.problem(value))
            ]
        if faults:
            raise InvalidTableError(self.place, sorted(faults, key=lambda fault: fault.row or 0))


def read_training_table(path: Path, features: Sequence[Feature], target: Feature) -> Table:
    """Read and check a file to train on: all columns there, the target too, every value allowed.

    No default stands in for a missing value here: it is meant for questions, not for what is learnt from.

    Parameters
    ----------
    path : Path
        The file.
    features : sequence of Feature
        The columns that are predicted from.
    target : Feature
        The column to predict.

    Returns
    -------
    Table
        With at least one record and with its target.

    Raises
    ------
    InvalidTableError
        With file, sheet, row, column and value of the first faults.
    UnsupportedFileError
        As of `read_table`.
    """
    features = [replace(feature, default=None) for feature in features]
    with path.open("rb") as stream:
        table = read_table(stream, path.name, features, target)
    if table.target is None:
        raise InvalidTableError(table.place, [Fault(target.name, "This column is missing.")])
    if not table.records:
        raise InvalidTableError(table.place, [Fault(features[0].name, "There is no row below the header.")])
    table.check(features, target)
    return table


def read_table(
    stream: BinaryIO,
    name: str,
    features: Sequence[Feature],
    target: Feature,
    max_rows: int | None = None,
    seconds: float | None = None,
) -> Table:
    """Read a file with the given columns, in any order; the target and what may be missing can be left out.

    Parameters
    ----------
    stream : binary file
        What to read; an XLSX file needs one that can seek.
    name : str
        What errors call the file.
    features : sequence of Feature
        The columns that are predicted from.
    target : Feature
        The column to predict.
    max_rows : int, optional
        Refuse more rows than this.
    seconds : float, optional
        Give up when reading takes longer than this.

    Returns
    -------
    Table
        Its values are typed and not checked.

    Raises
    ------
    InvalidTableError
        When a column is missing, unknown or there twice, a row has another number of cells than the header, a cell of
        the bank's export cannot be split, or several sheets hold data.
    UnsupportedFileError
        When it is neither CSV nor XLSX, is malformed, or is an XLSX file beyond the limits of this module.
    TooManyRowsError
        When there are more than `max_rows`.
    FileLimitError
        When it takes longer than `seconds`.
    """
    is_xlsx = stream.read(len(XLSX_MAGIC)) == XLSX_MAGIC
    stream.seek(0)
    place, rows = _xlsx_rows(stream, name) if is_xlsx else (name, _csv_rows(stream))
    typed = is_xlsx
    numbered = _filled(rows, seconds)
    first_row, header = next(numbered, (1, ()))
    first = str(header[0]) if header else ""
    if "," in first and not any(cell is not None for cell in header[1:]):
        numbered, typed = _split(place, numbered), False
        header = _split_cell(place, first_row, first)
    columns = _columns(place, header, features, target)
    numbers, body = _body(numbered, max_rows)
    _check_width(place, numbers, body, len(columns), ragged=typed)

    by_name = {feature.name: feature for feature in (*features, target)}
    values = {
        column: [_value(row, position, by_name[column], typed) for row in body]
        for position, column in enumerate(columns)
    }
    target_values = values.pop(target.name, None)
    records = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return Table(place, columns, records, target_values, numbers)


def _value(row: Cells, position: int, feature: Feature, typed: bool) -> Any:
    cell = row[position] if position < len(row) else None
    return cell if typed or cell is None else feature.parse(cell)


def _csv_rows(stream: BinaryIO) -> Iterator[Cells]:
    content = stream.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnsupportedFileError(NOT_A_TABLE) from None
    if "\0" in text:
        raise UnsupportedFileError(NOT_A_TABLE)
    try:
        yield from csv.reader(io.StringIO(text, newline=""), strict=True)
    except csv.Error:
        raise UnsupportedFileError("The file is not well-formed CSV: a quote is not closed or stands alone.") from None


def _xlsx_rows(stream: BinaryIO, name: str) -> tuple[str, Iterator[Cells]]:
    from openpyxl import load_workbook

    try:
        with zipfile.ZipFile(stream) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_UNPACKED:
            raise UnsupportedFileError(f"The XLSX file unpacks to more than {MAX_UNPACKED // 10**6} MB.")
        workbook = load_workbook(stream, read_only=True, data_only=True)
        for sheet in workbook.worksheets:
            sheet.reset_dimensions()  # what a file says of its size may be wrong, and would cut rows off
        filled = [
            sheet for sheet in workbook.worksheets if any(map(_is_filled, _guarded(sheet.iter_rows(values_only=True))))
        ]
    except UnsupportedFileError:
        raise
    except Exception as error:  # openpyxl has no error of its own for a broken file: it lets any of a dozen through
        raise UnsupportedFileError(NOT_A_TABLE) from error
    if len(filled) > 1:
        problem = f"One sheet is read, and {len(filled)} hold data."
        raise InvalidTableError(name, [Fault(sheet.title, problem) for sheet in filled])
    if not filled:
        return name, iter(())
    (sheet,) = filled
    return f"{name}, sheet '{sheet.title}'", _guarded(sheet.iter_rows(values_only=True))


def _guarded(rows: Iterable[Cells]) -> Iterator[Cells]:
    try:
        for number, row in enumerate(rows):
            if number == MAX_SHEET_ROWS:
                raise UnsupportedFileError(f"The XLSX file has more than {MAX_SHEET_ROWS:,} rows in a sheet.")
            yield row
    except UnsupportedFileError:
        raise
    except Exception as error:  # as above: a sheet is parsed while it is read
        raise UnsupportedFileError(NOT_A_TABLE) from error


def _filled(rows: Iterable[Cells], seconds: float | None) -> Iterator[tuple[int, Cells]]:
    """The rows that hold anything, each with its number, until the time is over."""
    end = math.inf if seconds is None else time.monotonic() + seconds
    for number, row in enumerate(rows, 1):
        if time.monotonic() > end:
            raise FileLimitError(f"Reading the file takes longer than {seconds} seconds; send it in several parts.")
        if _is_filled(row):
            yield number, row


def _split(place: str, rows: Iterable[tuple[int, Cells]]) -> Iterator[tuple[int, Cells]]:
    """Rows of the bank's export: the first cell holds all values, and no other cell anything."""
    for number, row in rows:
        if _is_filled(row[1:]):
            raise InvalidTableError(place, [Fault("second", "Only the first column may hold values.", number, row[1])])
        yield number, _split_cell(place, number, str(row[0]))


def _split_cell(place: str, number: int, cell: str) -> Cells:
    try:
        return next(csv.reader([cell], strict=True))
    except csv.Error:
        problem = "Not values joined by commas: a quote is not closed, stands alone, or a line is broken."
        raise InvalidTableError(place, [Fault("first", problem, number, cell)]) from None


def _columns(place: str, header: Cells, features: Sequence[Feature], target: Feature) -> list[str]:
    """The header's columns, each known and there once; a trailing run of empty header cells is no column."""
    names = ["" if cell is None else str(cell) for cell in header]
    while names and not names[-1]:
        names.pop()
    required = [feature.name for feature in features if not feature.optional]
    allowed = [*(feature.name for feature in features), target.name]
    faults = [Fault(name, "This column is missing.") for name in required if name not in names]
    faults += [
        Fault(name, f"There is no such column; there are: {', '.join(allowed)}.")
        for name in names
        if name not in allowed
    ]
    faults += [Fault(name, "This column is there more than once.") for name, n in Counter(names).items() if n > 1]
    if faults:
        raise InvalidTableError(place, faults)
    return names


def _body(rows: Iterable[tuple[int, Cells]], max_rows: int | None) -> tuple[list[int], list[Cells]]:
    """The rows below the header and their numbers."""
    numbers: list[int] = []
    body: list[Cells] = []
    for number, row in rows:
        if len(body) == max_rows:
            raise TooManyRowsError(max_rows)
        numbers.append(number)
        body.append(row)
    return numbers, body


def _is_filled(row: Cells) -> bool:
    return any(cell not in (None, "") for cell in row)


def _check_width(place: str, numbers: Sequence[int], body: Sequence[Cells], width: int, *, ragged: bool) -> None:
    """No row holds values beyond the header, and none is shorter, unless rows may be ragged, as those of a sheet."""
    faults = [
        Fault(None, f"The row has {len(row)} cells and the header {width}.", number)
        for number, row in zip(numbers, body, strict=True)
        if _is_filled(row[width:]) or (len(row) < width and not ragged)
    ]
    if faults:
        raise InvalidTableError(place, faults)


def file_kind_is_known(name: str) -> bool:
    """Whether a file's name ends as a CSV or XLSX file's does.

    Parameters
    ----------
    name : str
        Upper and lower case are the same.

    Returns
    -------
    bool
    """
    return re.search(r"\.(csv|xlsx)$", name, re.IGNORECASE) is not None


def write_csv(columns: Sequence[str], records: Iterable[Record]) -> str:
    """Records as CSV text; what is missing becomes an empty cell.

    Parameters
    ----------
    columns : sequence of str
        The header, in this order.
    records : iterable of mapping
        The rows; all keys must be columns.

    Returns
    -------
    str
        Lines end in a line feed.

    Raises
    ------
    ValueError
        When a record has a key that is no column.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
