"""Data and parts: what is learnt from, and which of its rows are kept to judge by."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone

from tabserve.aliases import Matrix, Vector, Weights
from tabserve.declaration.use_case import UseCase
from tabserve.errors import UnsupportedFileError
from tabserve.registry.manifest import Source
from tabserve.tables.database import is_database, open_database
from tabserve.tables.reader import read_training_rows, read_training_table
from tabserve.tables.table import Table
from tabserve.training.hold_out import hashes, held_out
from tabserve.transformers import Target

HOLD_OUT_SHARE = 0.3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """A checked file.

    Parameters
    ----------
    table : DataFrame
        n_rows rows: the features, those that the file lacks without any value, and as its last column the target as
        it stands in the file.
    X : ndarray, shape (n_rows, n_columns)
        The features as the encoder of the use case sees them: all pipelines are fitted on this matrix.
    source : Source
        Which file it is.
    """

    table: pd.DataFrame
    X: Matrix
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
        of_rows = (None if one is None else one[rows] for one in (self.groups, self.times, self.weights))
        return Part(self.table.iloc[rows].reset_index(drop=True), self.X[rows], self.y[rows], *of_rows)

    def split_by_time(self) -> tuple["Part", "Part"]:
        """The first rows, as large a share as is trained on, and the rest."""
        cut = round(len(self.y) * (1 - HOLD_OUT_SHARE))
        return self.take(slice(cut)), self.take(slice(cut, None))


@dataclass(frozen=True)
class Parts:
    """The data after the split, each part in the table's order.

    Parameters
    ----------
    whole, train, test : Part
        All rows, the training part and the hold-out.
    target : Target
        The fitted transformer of the target column.
    source : Source
        The file that all rows come from.
    """

    whole: Part
    train: Part
    test: Part
    target: Target
    source: Source


def read(use_case: UseCase, path: Path) -> Data:
    """Read a data file, check all of it, and encode it.

    Parameters
    ----------
    use_case : UseCase
        Whose columns it must have.
    path : Path
        A file with a table; the use case's own path where its source is a database.

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
    found, digest = _read_table(use_case, path)
    table = pd.DataFrame(found.records, columns=[feature.name for feature in use_case.features])
    for name in table.columns[table.isna().all()]:
        logger.warning("No row has a value of '%s': nothing is learnt from it.", name)
    table[use_case.target.feature.name] = found.target
    return Data(table, use_case.encoder.fit_transform(found.records), Source(digest, len(table)))


def _read_table(use_case: UseCase, path: Path) -> tuple[Table, str]:
    """The table to train on, and the digest of what it was read from: a file's bytes, or a database's rows."""
    features, target = use_case.features, use_case.target.feature
    if path == use_case.path and is_database(use_case.source):
        with open_database(use_case.source, use_case.query, use_case.folder) as rows:
            found = read_training_rows(rows.sheet, features, target, use_case.extras, use_case.markers)
            return found, rows.digest.hexdigest()
    digest = _digest_of(path)
    more = (use_case.extras, use_case.markers, use_case.dialect, use_case.sheet or None)
    return read_training_table(path, features, target, *more), digest


def _digest_of(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UnsupportedFileError(f"The file {path.name} cannot be read: {error.strerror}.") from None


def split(use_case: UseCase, data: Data, seed: int) -> Parts:
    """Part the rows by what their features hold, before anything is fitted.

    Parameters
    ----------
    use_case : UseCase
        Whose features and target they have.
    data : Data
        All rows.
    seed : int
        Another one parts them otherwise.

    Returns
    -------
    Parts

    Raises
    ------
    TooFewRowsError
        When there are too few rows, or too few of a class.
    """
    target = clone(use_case.target)
    groups = hashes(data.table, use_case.features, seed)
    whole = Part(data.table, data.X, target.fit_transform(list(data.table[target.feature.name])), groups)
    held = held_out(groups, HOLD_OUT_SHARE)
    parts = Parts(whole, whole.take(~held), whole.take(held), target, data.source)
    use_case.task.check_parts(parts.train.y, parts.test.y, use_case.folds_of(len(parts.train.y))[0])
    return parts
