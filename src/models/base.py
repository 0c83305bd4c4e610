"""Model: what every algorithm looks like to the rest of the project."""

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Matrix, Metric, Predictions, Vector, Weights
from tabserve.base import Estimator
from tabserve.columns.matrix import Columns
from tabserve.errors import NotExplainableError
from tabserve.search_space import Dimension

Fold: TypeAlias = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]  # rows to fit on, rows to judge by

_CPUS: ContextVar[int] = ContextVar("cpus", default=1)  # a new thread begins with the default
AT_ONCE = 50_000  # rows that are predicted at once where there may be very many


@contextmanager
def on_cpus(number: int) -> Iterator[None]:
    """Let a model use so many CPUs where this thread fits one; by default one. The model is the same."""
    token = _CPUS.set(number)
    try:
        yield
    finally:
        _CPUS.reset(token)


def cpus() -> int:
    """How many CPUs a model that is fitted may use."""
    return _CPUS.get()


@dataclass(frozen=True)
class CrossValidation:
    """How good a model is on rows that it was not fitted on.

    Parameters
    ----------
    score : float
        Mean of the metric over all folds.
    out_of_fold : ndarray, shape (n_repeats, n_rows) or (n_repeats, n_rows, n_classes)
        The prediction of each row by a model that did not see it, once for each repeat of the cross-validation; NaN
        for rows that no fold judges by.
    parameters : mapping
        What the cross-validation chose itself, such as a number of rounds; to be set before the final fit.
    """

    score: float
    out_of_fold: Predictions
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Model(Estimator, ABC):
    """Something that is fitted on a matrix and predicts the rows of another.

    Attributes
    ----------
    smallest_target : float
        The smallest target that it can be fitted to.
    keeps_monotone : bool
        Whether it keeps the `monotone` of the columns that reach it.
    chosen_by_cross_validation : frozenset of str
        Parameters that `cross_validate` chooses itself, so that no search can.
    limits : mapping of (float, float)
        Between what its parameters make sense: no search goes beyond.
    most_rows : int
        Of more rows a training gives it a sample: all would take too long, or change nothing that is seen.
    """

    smallest_target: ClassVar[float] = -math.inf
    keeps_monotone: ClassVar[bool] = False
    chosen_by_cross_validation: ClassVar[frozenset[str]] = frozenset()
    limits: ClassVar[Mapping[str, tuple[float, float]]] = MappingProxyType({})
    most_rows: ClassVar[int] = sys.maxsize

    @abstractmethod
    def fit(self, X: Matrix, y: Vector, columns: Columns = (), weights: Weights = None) -> Self:
        """Learn from a matrix and its targets.

        Parameters
        ----------
        X : ndarray, shape (n_rows, n_columns)
        y : ndarray, shape (n_rows,)
        columns : sequence of MatrixColumn
            What each column holds; by default all are numbers, none of them monotone.
        weights : ndarray, shape (n_rows,), optional
            How much each row counts, 0 or more; by default all the same. A row of weight 2 counts as two rows.

        Returns
        -------
        Model
            Itself.
        """

    @abstractmethod
    def predict(self, X: Matrix) -> Predictions:
        """Predict each row.

        Parameters
        ----------
        X : ndarray, shape (n_rows, n_columns)

        Returns
        -------
        ndarray, shape (n_rows,) or (n_rows, n_classes)
            The kind of model says what is predicted.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """

    def contributions(self, X: Matrix) -> Predictions:
        """Split each row's raw score exactly into what its columns contribute.

        The raw score is the sum from which the model makes its prediction: the log-odds of a classifier, the logarithm
        of a count, the value of any other regressor before it is raised to a floor. A classifier of several classes has
        one for each class; softmax turns them into probabilities.

        Parameters
        ----------
        X : ndarray, shape (n_rows, n_columns)

        Returns
        -------
        ndarray, shape (n_rows, n_columns + 1) or (n_rows, n_classes, n_columns + 1)
            In the unit of the raw score; at the end of the last axis is the base value, the same for all rows. The last
            axis sums to the raw score.

        Raises
        ------
        NotFittedError
            Before `fit`.
        NotExplainableError
            When the model has no such split.
        """
        self.check_is_fitted()
        raise NotExplainableError(type(self).__name__, "its raw score is not a sum over the columns")

    def speed_up(self, name: str, folder: Path | None = None) -> None:
        """Predict faster from now on, where the predictions stay equal to the last bit.

        Parameters
        ----------
        name : str
            What the log calls the model.
        folder : Path, optional
            Where machine code of models may be made and kept; only this user may write to it.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """

    def default_search_space(self, n_rows: int, n_columns: int) -> Mapping[str, Dimension]:
        """The ranges that its parameters are searched in where an algorithm declares none.

        Parameters
        ----------
        n_rows, n_columns : int
            Size of the matrix that it will be fitted on.

        Returns
        -------
        mapping
            Range of each parameter that is tuned; empty for a model that has nothing to tune.
        """
        return {}

    def cross_validate(
        self,
        X: Matrix,
        y: Vector,
        folds: Sequence[Fold],
        metric: Metric,
        jobs: int = 1,
        columns: Columns = (),
        weights: Weights = None,
    ) -> CrossValidation:
        """Fit on each fold's first part and predict its second; the model itself is not changed.

        Parameters
        ----------
        X : ndarray, shape (n_rows, n_columns)
        y : ndarray, shape (n_rows,)
        folds : sequence of (ndarray, ndarray)
            Row numbers to fit on and to judge by. The second parts of consecutive folds make up repeats; only the last
            repeat may lack folds.
        metric : callable
            Of targets and predictions; higher is better.
        jobs : int
            How many CPUs to use, for so many folds at once; a model may use those that are left.
        columns : sequence of MatrixColumn
            As for `fit`.
        weights : ndarray, shape (n_rows,), optional
            As for `fit`.

        Returns
        -------
        CrossValidation
        """

        def fit_and_predict(fold: Fold) -> Predictions:
            rows, judged = fold
            model = type(self)(**self.get_params())
            return model.fit(X[rows], y[rows], columns, of_rows(weights, rows)).predict(X[judged])

        with ThreadPoolExecutor(jobs) as pool:
            predictions = list(pool.map(fit_and_predict, folds))
        return CrossValidation(mean_metric(metric, y, folds, predictions), gather(folds, predictions, len(y)))


class Classifier(Model):
    """A model of two classes, 0 and 1: it predicts the probability of class 1, shape (n_rows,)."""


class MulticlassClassifier(Model):
    """A model of the classes 0 to n_classes - 1: it predicts the probability of each, shape (n_rows, n_classes)."""


class Regressor(Model):
    """A model of a number, which it predicts; shape (n_rows,)."""


def of_rows(weights: Weights, rows: npt.NDArray[np.intp]) -> Weights:
    """The weights of some rows.

    Parameters
    ----------
    weights : ndarray, shape (n_rows,), optional
    rows : ndarray
        Row numbers.

    Returns
    -------
    ndarray, optional
    """
    return None if weights is None else weights[rows]


def mean_metric(metric: Metric, y: Vector, folds: Sequence[Fold], predictions: Sequence[Predictions]) -> float:
    """The metric's mean over folds.

    Parameters
    ----------
    metric : callable
        Of targets and predictions.
    y : ndarray, shape (n_rows,)
    folds : sequence of (ndarray, ndarray)
        Row numbers; the second parts were predicted.
    predictions : sequence of ndarray
        Each fold's, in the order of its second part.

    Returns
    -------
    float
    """
    return float(np.mean([metric(y[rows], predicted) for (_, rows), predicted in zip(folds, predictions, strict=True)]))


def gather(folds: Sequence[Fold], predictions: Sequence[Predictions], n_rows: int) -> Predictions:
    """Put the predictions of folds in the order of the rows.

    Parameters
    ----------
    folds : sequence of (ndarray, ndarray)
        Row numbers. The second parts of consecutive folds make up repeats; only the last repeat may lack folds.
    predictions : sequence of ndarray
        Each fold's, in the order of its second part.
    n_rows : int
        Rows of one repeat.

    Returns
    -------
    ndarray, shape (n_repeats, n_rows) or (n_repeats, n_rows, n_classes)
        NaN for rows that are in no second part.
    """
    rows = np.concatenate([rows for _, rows in folds])
    values = np.concatenate(list(predictions))
    result = np.full((math.ceil(len(rows) / n_rows), n_rows, *values.shape[1:]), np.nan)
    result[np.arange(len(rows)) // n_rows, rows] = values
    return result
