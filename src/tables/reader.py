"""The reader: files to tables; every fault says where it is.

Where the table stands and how it is written is found out by the known columns (`finding`, `dialect`); its cells stay in
columns, which read them as they are declared. Nothing is dropped or guessed. pandas would not do: it renames repeated
columns, reads texts such as "NA" as missing, and has no row numbers.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from tabserve.columns.features import Feature
from tabserve.errors import Fault, FileLimitError, InvalidTableError
from tabserve.tables.batch import with_long_texts_once
from tabserve.tables.dialect import find_dialect
from tabserve.tables.finding import Known, find_table
from tabserve.tables.formats import TEXT, kind_of
from tabserve.tables.kept import given_places
from tabserve.tables.limits import Deadline
from tabserve.tables.lines import json_rows, open_csv
from tabserve.tables.reading import Reading
from tabserve.tables.source import Sheet
from tabserve.tables.table import Table
from tabserve.tables.workbook import TRAINING, open_workbook

MAX_TEXTS = 32_000_000  # bytes of columns of long texts, each text counted once; numbers and known values are short

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
    with path.open("rb") as stream, _opened(stream, path.name, known, markers, dialect, sheet, own=True) as reading:
        table = _kept(reading, own=True)
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
    table = _kept(Reading(find_table([sheet], known, {}, own=True), known, markers), own=True)
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
    known = given_places(table.target)
    missing = len(table.records) - len(known)
    if not missing:
        return table
    if not len(known):
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
    with _opened(stream, name, known, markers, dialect, sheet, max_rows, deadline) as reading:
        return _kept(reading)


@contextmanager
def _opened(
    stream: BinaryIO,
    name: str,
    known: Known,
    markers: Sequence[str],
    dialect: Mapping[str, str] | None,
    sheet: str | None,
    max_rows: int | None = None,
    deadline: Deadline | None = None,
    *,
    own: bool = False,
) -> Iterator[Reading]:
    dialect, deadline = dialect or {}, deadline or Deadline(None)
    with open_sheets(stream, name, known.names, dialect, sheet, deadline) as sheets:
        found = find_table(sheets, known, dialect, sheet, own=own)
        yield Reading(found, known, markers, dialect, max_rows, deadline)


def _kept(reading: Reading, *, own: bool = False) -> Table:
    """All rows as a table, with a limit on long texts: numbers and known values are short."""
    ignored = {feature.name for feature in reading.features if own and feature.kind == "ignore"}
    kept = [name for name in reading.columns if name not in ignored]
    left = MAX_TEXTS * (TRAINING if own else 1)
    batches = []
    for batch in reading.batches:
        cells, size = with_long_texts_once(batch.cells.select(kept))
        left -= size
        if left < 0:
            raise FileLimitError("The file holds too much text: its columns should hold numbers and known values.")
        batches.append(batch._replace(cells=cells))
    return reading.table(batches)


@contextmanager
def open_batches(
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
) -> Iterator[Reading]:
    """Read a file as `read_table` does, a batch of rows at a time.

    Parameters
    ----------
    stream, name, features, target, extras, markers, dialect, sheet, max_rows, deadline
        As for `read_table`.

    Yields
    ------
    Reading
        Its batches must be taken before the context ends.

    Raises
    ------
    InvalidTableError, UnsupportedFileError, TooManyRowsError, FileLimitError
        As for `read_table`, when the reading begins or when a batch is taken.
    """
    known = Known(features, target, extras)
    with _opened(stream, name, known, markers, dialect, sheet, max_rows, deadline) as reading:
        yield reading


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
    if not found.separator:
        with closing(json_rows(stream, name, deadline, found.encoding)) as rows:
            yield [Sheet(name, rows, typed=True, read_as=found.read_as)]
        return
    with open_csv(stream, deadline, found.encoding, found.separator, found.skipped) as text:
        yield [Sheet(name, text.rows(), typed=False, read_as=found.read_as, rest=partial(text.batches, name))]
