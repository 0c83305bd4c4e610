"""The same trees in lignum, which predicts matrices two to ten times as fast as LightGBM: the extra `trees`.

lignum (https://github.com/misterekkk/lignum) is young. So it answers only for models where it agrees with LightGBM to
the last bit on rows made from the model itself, which needs no data. A single row stays LightGBM's: lignum gives the
interpreter lock away for it, which beside a busy thread costs ten times what the faster trees gain.
"""

import atexit
import hashlib
import importlib.util
import logging
import os
import platform
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from weakref import WeakSet

import numpy as np

from tabserve.aliases import Matrix, Predictions, Vector
from tabserve.models.native import Booster, granted_threads

TRIED_ROWS = 2_000  # 12 ms with 121 small trees, 0.7 s with 1,000 large ones
_CATEGORICAL = 1  # this bit of a `decision_type`
_LARGEST = np.float64(1e300)  # LightGBM reads an infinite threshold as this number, lignum as infinity
_SPECIAL = (np.nan, _LARGEST, -np.inf, 0.0, 1e-35, -1e-35, -1.0, 0.5, 2.0**31)  # up to 1e-35: LightGBM's zero
# cc -O2 takes three times as long for code that is slower, measured with 121 and 500 trees
_COMPILER_FLAGS = "-O1"

logger = logging.getLogger(__name__)


def speed_up(exact: Booster, text: str, name: str, folder: Path | None = None) -> Booster:
    """A booster that predicts the same to the last bit, faster where lignum is installed and agrees.

    Where it does not agree, a line in the log says which model stays LightGBM's, and why.

    Parameters
    ----------
    exact : Booster
        LightGBM's.
    text : str
        Its model.
    name : str
        What the log calls the model.
    folder : Path, optional
        Where machine code of models is kept, and made where there is a C compiler. None: the trees are interpreted.

    Returns
    -------
    Booster
        `exact` itself when nothing is faster.
    """
    if importlib.util.find_spec("lignum") is None:
        return exact
    try:
        trees = _load(text)
        if folder is not None:
            _attach(trees, text, name, folder)
        rows = rows_to_try(text)
        booster = FasterBooster(exact, trees, rows.shape[1], granted_threads())
        _check_equal(booster, exact, rows)
    except Exception as error:  # whatever a young library raises, LightGBM can answer
        logger.warning("%s: its trees are predicted by LightGBM, not by lignum: %s", name, error)
        return exact
    return booster


class FasterBooster:
    """LightGBM for single rows and contributions, lignum for matrices.

    Safe between threads and after a fork.

    Parameters
    ----------
    exact : Booster
        LightGBM's.
    trees : lignum.Model
        The same model.
    n_features : int
        Columns that a matrix must have.
    threads : int
        Threads for matrices of many rows.
    """

    def __init__(self, exact: Booster, trees: Any, n_features: int, threads: int) -> None:
        self._exact = exact
        self._trees = trees
        self._n_features = n_features
        self._threads = threads
        _LOADED.add(self)

    def release(self) -> None:
        """Leave all predictions to LightGBM."""
        self._trees = None

    def predict(self, matrix: Matrix) -> Predictions:
        """Predictions of a matrix: see `Booster`."""
        trees = self._trees
        is_other_shape = len(matrix) < 2 or matrix.shape[1:] != (self._n_features,)  # LightGBM refuses a wrong one
        if trees is None or is_other_shape or (matrix > _LARGEST).any():
            return self._exact.predict(matrix)
        predictions: Predictions = trees.predict(matrix, n_jobs=self._threads)
        return predictions

    def contributions(self, matrix: Matrix) -> Predictions:
        """What each feature contributes to the raw scores of a matrix: see `Booster`."""
        return self._exact.contributions(matrix)


_LOADED: WeakSet[FasterBooster] = WeakSet()


@atexit.register
def _release_all() -> None:
    """Free what lignum holds before the interpreter ends, or it prints what is left on standard error."""
    for booster in [*_LOADED]:
        booster.release()


def rows_to_try(text: str) -> Matrix:
    """Rows at which the trees of a model decide: their thresholds and categories, and what is just beside them.

    Parameters
    ----------
    text : str
        A model in LightGBM's text format.

    Returns
    -------
    ndarray of float64, shape (TRIED_ROWS, n_features)
        The same rows for the same text. Each column holds all values at which its splits decide, or as many as there
        are rows, in an order of its own, with missing values, unseen categories and extreme numbers among them.
    """
    n_features = int(_entry(text, "max_feature_idx")) + 1
    decisive: list[list[Vector]] = [[np.array(_SPECIAL)] for _ in range(n_features)]
    for feature, values in _decisive(text):
        decisive[feature].append(values)
    generator = np.random.default_rng(0)
    columns = (generator.permutation(np.unique(np.minimum(np.concatenate(of), _LARGEST))) for of in decisive)
    return np.column_stack([generator.permutation(np.resize(column, TRIED_ROWS)) for column in columns])


def _decisive(text: str) -> Iterator[tuple[int, Vector]]:
    """The values at which splits decide, with the feature that is split by each."""
    for tree in text.partition("\nend of trees\n")[0].split("\nTree=")[1:]:
        if "\nsplit_feature=" not in tree:  # a leaf alone
            continue
        features = _numbers(tree, "split_feature").astype(int)
        thresholds = _numbers(tree, "threshold")
        by_category = (_numbers(tree, "decision_type").astype(int) & _CATEGORICAL).astype(bool)
        for feature in np.unique(features[~by_category]).tolist():
            at = np.minimum(thresholds[~by_category & (features == feature)], _LARGEST)
            yield feature, np.concatenate([at, np.nextafter(at, np.inf), np.nextafter(at, -np.inf)])
        if by_category.any():
            words = np.diff(_numbers(tree, "cat_boundaries"))[thresholds[by_category].astype(int)]
            for feature, highest in zip(features[by_category].tolist(), (32 * words).tolist(), strict=True):
                yield feature, np.arange(highest + 1)


def _numbers(tree: str, name: str) -> Vector:
    return np.array(_entry(tree, name).split(), dtype=np.float64)


def _entry(text: str, name: str) -> str:
    return text.partition(f"\n{name}=")[2].partition("\n")[0]


def _check_equal(booster: Booster, exact: Booster, rows: Matrix) -> None:
    found, expected = booster.predict(rows), exact.predict(rows)
    if found.shape != expected.shape or found.tobytes() != expected.tobytes():
        raise ValueError("it predicts other numbers")


def _load(text: str) -> Any:
    import lignum

    with TemporaryDirectory() as folder:  # it reads files only
        path = Path(folder, "model.txt")
        path.write_text(text)
        return lignum.load(str(path))


def _attach(trees: Any, text: str, name: str, folder: Path) -> None:
    """Let a model use its machine code, which is made first where it is missing; without it, trees are interpreted."""
    try:
        _check_private(folder)
        library = folder / _library_name(text)
        if not library.exists():
            _compile(trees, library)
        trees.load_compiled(library)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        logger.warning("%s: its trees are interpreted, not compiled: %s", name, reason.replace(f"{folder}{os.sep}", ""))


def _check_private(folder: Path) -> None:
    """Refuse a folder whose files others could write: what is in it runs in this process."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("COMPILED_TREES must be a folder that only this user can write to")


def _library_name(text: str) -> str:
    import lignum

    return f"{hashlib.sha256(text.encode()).hexdigest()}-{lignum.__version__}-{platform.machine()}.so"


def _compile(trees: Any, library: Path) -> None:
    with TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder, library.name)
        trees.compile(flags=_COMPILER_FLAGS, work_dir=folder, jobs=1, library=made)
        made.replace(library)  # so that no other process loads a part of it
