"""Data and parts: what is learnt from, and which of its rows are kept to judge by."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone

from tabserve.aliases import Mask, Matrix, Vector, Weights
from tabserve.declaration.use_case import UseCase
from tabserve.errors import Fault, InvalidTableError, UnsupportedFileError
from tabserve.registry.manifest import Source, Split
from tabserve.tables.database import is_database, open_database
from tabserve.tables.kept import column_of
from tabserve.tables.reader import read_training_rows, read_training_table
from tabserve.tables.table import Table
from tabserve.training.frames import as_series
from tabserve.training.hold_out import sides_of
from tabserve.training.matrices import empty_matrix
from tabserve.transformers import RecordEncoder, Target

HOLD_OUT_SHARE = 0.3
AT_ONCE = 50_000  # rows that are encoded at once
MOST_KEPT = 100_000  # rows of each part that are saved with a model: enough to measure it by


@dataclass(frozen=True)
class Data:
    """A checked file.

    Parameters
    ----------
    table : DataFrame
        n_rows rows: the features, those that the file lacks without any value, and as its last column the target as
        it stands in the file.
    extras : DataFrame
        The same rows: the columns that no model sees, those that the file lacks without any value.
    source : Source
        Which file it is.
    """

    table: pd.DataFrame
    extras: pd.DataFrame
    source: Source


@dataclass(frozen=True)
class Part:
    """Some rows of the data, such as the training part or the hold-out.

    Parameters
    ----------
    table : DataFrame
        n_rows rows: the features and, as its last column, the target.
    X : ndarray, shape (n_rows, n_columns)
        The features as the encoder of the use case sees them.
    y : ndarray, shape (n_rows,)
        The target as numbers.
    groups : ndarray, shape (n_rows,), optional
        Equal for rows that may not be parted, by split and folds; by default, any two rows may.
    times : ndarray, shape (n_rows,), optional
        When each row was, where time splits the data.
    weights : ndarray, shape (n_rows,), optional
        How much each row counts when a model is fitted; by default all the same.
    """

    table: pd.DataFrame
    X: Matrix
    y: Vector
    groups: npt.NDArray[np.uint64] | None = None
    times: Vector | None = None
    weights: Weights = None

    @property
    def features(self) -> pd.DataFrame:
        """The table without its target column."""
        return self.table.iloc[:, :-1]

    def take(self, rows: Any) -> "Part":
        """Some of the rows: their numbers, a slice, or whether each is taken."""
        of_rows = (None if one is None else one[rows] for one in self.more)
        return Part(self.table.iloc[rows].reset_index(drop=True), self.X[rows], self.y[rows], *of_rows)

    @property
    def more(self) -> tuple[Any, ...]:
        """Groups, times and weights."""
        return self.groups, self.times, self.weights

    def split_by_time(self) -> tuple["Part", "Part"]:
        """The first rows, as large a share as is trained on, and the rest."""
        cut = first_rows(len(self.y))
        return self.take(slice(cut)), self.take(slice(cut, None))


@dataclass(frozen=True)
class Parts:
    """The data after the split, each part in the table's order.

    Parameters
    ----------
    use_case : UseCase
        With what its features learnt from the training part.
    train, test : Part
        The training part and the hold-out.
    held_out : ndarray of bool, shape (n_rows,)
        Which rows of the table are in the hold-out.
    target : Target
        The fitted transformer of the target column.
    source : Source
        The file that all rows come from.
    split : Split
        What decided on which side a row is.
    """

    use_case: UseCase
    train: Part
    test: Part
    held_out: Mask
    target: Target
    source: Source
    split: Split

    @property
    def y(self) -> Vector:
        """The targets of all rows, in the table's order."""
        return _merged(self.train.y, self.test.y, self.held_out, np.empty(len(self.held_out)))

    @property
    def whole(self) -> Part:
        """All rows, in the table's order; they are put together each time."""
        both = (self.train, self.test)
        order = np.argsort(np.concatenate([np.flatnonzero(~self.held_out), np.flatnonzero(self.held_out)]))
        table = pd.concat([part.table for part in both], ignore_index=True).iloc[order]
        X = _merged(self.train.X, self.test.X, self.held_out, empty_matrix((len(order), self.train.X.shape[1])))
        more = [None if one is None else np.concatenate([one, other])[order] for one, other in _pairs(*both)]
        return Part(table, X, self.y, *more)


def _pairs(train: Part, test: Part) -> Iterator[tuple[Any, Any]]:
    return zip(train.more, test.more, strict=True)


def first_rows(n_rows: int) -> int:
    """How many of the rows in the order of time a model of the first ones is fitted on."""
    return round(n_rows * (1 - HOLD_OUT_SHARE))


def _merged(train: Vector, test: Vector, held_out: Mask, merged: Vector) -> Vector:
    """What training part and hold-out have for each row, in the table's order."""
    merged[~held_out], merged[held_out] = train, test
    return merged


def sample(n_rows: int, most: int, seed: int) -> npt.NDArray[np.intp]:
    """Row numbers, ascending, drawn without replacement when there are more than `most`."""
    if n_rows <= most:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, most, replace=False))


def read(use_case: UseCase, path: Path, sheet: str | None = None, *, drop_missing_target: bool = False) -> Data:
    """Read a data file and check all of it.

    Parameters
    ----------
    use_case : UseCase
        Whose columns it must have.
    path : Path
        A file with a table; the use case's own path where its source is a database.
    sheet : str, optional
        The sheet of a workbook; by default the declared one, and else the one with the known columns.
    drop_missing_target : bool
        Whether rows without a target are left out; otherwise they are refused.

    Returns
    -------
    Data

    Raises
    ------
    InvalidTableError
        With the place of everything that does not fit.
    UnsupportedFileError
        When the file cannot be read.
    DatabaseError
        When the database or its query cannot be read.
    """
    import pyarrow as pa

    data = _typed(use_case, *_read_table(use_case, path, sheet, drop=drop_missing_target))
    pa.default_memory_pool().release_unused()  # the raw cells' memory, 170 MB for a million rows of 20 columns
    return data


def _typed(use_case: UseCase, found: Table, digest: str) -> Data:
    """The values of a table as pandas columns."""
    names = [feature.name for feature in use_case.features]
    columns = {name: as_series(column_of(found.records, name)) for name in names}
    target = as_series(found.target or ())
    table = pd.DataFrame({**columns, use_case.target.feature.name: target}, copy=False)
    values = {name: as_series(values) for name, values in found.extras.items()}
    extras = pd.DataFrame(values, columns=[extra.name for extra in use_case.extras], index=table.index)
    return Data(table, extras, Source(digest, len(table), found.dropped))


def _read_table(use_case: UseCase, path: Path, sheet: str | None, *, drop: bool) -> tuple[Table, str]:
    """The table to train on, and the digest of what it was read from: a file's bytes, or a database's rows."""
    features, target = use_case.features, use_case.target.feature
    if path == use_case.path and is_database(use_case.source):
        with open_database(use_case.source, use_case.query, use_case.folder) as rows:
            known = (use_case.extras, use_case.markers)
            found = read_training_rows(rows.sheet, features, target, *known, drop_missing_target=drop)
            return found, rows.digest.hexdigest()
    digest = _digest_of(path)
    more = (use_case.extras, use_case.markers, use_case.dialect, sheet or use_case.sheet or None)
    return read_training_table(path, features, target, *more, drop_missing_target=drop), digest


def _digest_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnsupportedFileError(f"The file {path.name} cannot be read: {error.strerror}.") from None


def split(use_case: UseCase, data: Data, seed: int, not_before: Any = None) -> Parts:
    """Part the rows, learn what features learn from the training part, and encode all rows by that.

    Parameters
    ----------
    use_case : UseCase
        Whose features and target they have.
    data : Data
        All rows.
    seed : int
        Another one parts them otherwise, unless time decides.
    not_before : object, optional
        Where time decides: no row before this time is held out.

    Returns
    -------
    Parts

    Raises
    ------
    InvalidTableError
        For a weight or a time that cannot be one.
    TooFewRowsError
        When there are too few rows, or too few of a class.
    UniformTimeError
        When all rows have the same time.
    """
    target = clone(use_case.target)
    places, values = data.table[target.feature.name].factorize()
    y = target.fit_transform(values.tolist())[places]
    columns = pd.concat([data.table, data.extras], axis=1)
    sides = sides_of(use_case, columns, HOLD_OUT_SHARE, seed, not_before)
    weights = _weights(columns[use_case.weight]) if use_case.weight else None
    learnt = _learnt(use_case, data.table, ~sides.held_out)
    source, whole = data.source, Part(data.table, np.empty((len(y), 0)), y, sides.groups, sides.times, weights)
    parts = [whole.take(rows) for rows in (~sides.held_out, sides.held_out)]
    del data, columns, whole  # a million rows of 20 columns take 70 MB, and are in both parts now
    train, test = _encoded(learnt.encoder.fit(), parts)
    use_case.task.check_parts(train.y, test.y, use_case.folds_of(len(train.y))[0])
    return Parts(learnt, train, test, sides.held_out, target, source, sides.split)


def _encoded(encoder: RecordEncoder, parts: Sequence[Part]) -> list[Part]:
    """Parts with their matrices: some rows of a single one, which is filled some rows at a time."""
    X = empty_matrix((sum(len(part.y) for part in parts), len(encoder.matrix_columns)))
    encoded, begin = [], 0
    for part in parts:
        matrix = X[begin : begin + len(part.y)]
        for start in range(0, len(matrix), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            matrix[some] = encoder.transform(part.features.iloc[some])
        encoded.append(replace(part, X=matrix))
        begin += len(matrix)
    return encoded


def _learnt(use_case: UseCase, table: pd.DataFrame, rows: Mask) -> UseCase:
    """The use case with what its features learn from some rows, those of the training part."""
    features = tuple(feature.learnt(_values(table[feature.name], rows)) for feature in use_case.features)
    return replace(use_case, features=features)


def _values(column: "pd.Series[Any]", rows: Mask) -> Iterator[Any]:
    """The distinct values, found when they are asked for: most features learn nothing."""
    yield from column[rows].dropna().unique().tolist()


def _weights(column: "pd.Series[Any]") -> Vector:
    if number := int(column.isna().sum()):  # a declaration whose weights may be negative is refused
        advice = f"{number} row(s) have no value, but this column says how much a row counts: give each row 0 or more."
        raise InvalidTableError("the data", [Fault(str(column.name), advice)])
    return column.to_numpy(dtype=np.float64)
