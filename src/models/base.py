"""Model: what every algorithm looks like to the rest of the project."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from tabserve.aliases import Matrix, Metric, Vector
from tabserve.base import Estimator
from tabserve.columns.matrix import Columns
from tabserve.errors import NotExplainableError

Fold: TypeAlias = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]  # rows to fit on, rows to judge by


@dataclass(frozen=True)
class CrossValidation:
    """How good a model is on rows that it was not fitted on.

    Parameters
    ----------
    score : float
        Mean of the metric over all folds.
    out_of_fold : ndarray, shape (n_repeats, n_rows)
        The score of each row by a model that did not see it, once for each repeat of the cross-validation.
    parameters : mapping
        What the cross-validation chose itself, such as a number of rounds; to be set before the final fit.
    """

    score: float
    out_of_fold: Matrix
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Model(Estimator, ABC):
    """Something that is fitted on a matrix and scores the rows of another.

    Attributes
    ----------
    threshold_ : float or None
        Where decisions are cut; training sets it after `fit`, and models that decide nothing ignore it.
    smallest_target : float
        What targets may not be below.
    keeps_monotone : bool
        Whether it keeps the `monotone` of the columns that reach it.
    chosen_by_cross_validation : frozenset of str
        Parameters that `cross_validate` chooses itself, so that no search can.
    """

    smallest_target: ClassVar[float] = -math.inf
    keeps_monotone: ClassVar[bool] = False
    chosen_by_cross_validation: ClassVar[frozenset[str]] = frozenset()
    threshold_: float | None = None

    @abstractmethod
    def fit(self, X: Matrix, y: Vector, columns: Columns = ()) -> Self:
        """Learn from a matrix and its targets.

        Parameters
        ----------
        X : ndarray, shape (n_rows, n_columns)
        y : ndarray, shape (n_rows,)
        columns : sequence of MatrixColumn
            What each column holds; without it, all are numbers that promise nothing.

        Returns
        -------
        Model
            Itself.
        """

    @abstractmethod
    def predict_score(self, X: Matrix) -> Vector:
        """Score each row.

        Parameters
        ----------
        X : ndarray, shape (n_rows, n_columns)

        Returns
        -------
        ndarray, shape (n_rows,)
            A probability for a classifier, a value for a regressor.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """

    @abstractmethod
    def answer(self, scores: Vector) -> dict[str, list[Any]]:
        """Turn scores into an answer.

        Parameters
        ----------
        scores : ndarray, shape (n_rows,)

        Returns
        -------
        dict of list
            The answer's columns, `result` and whatever goes with it; each has one plain value for each row.
        """

    def contributions(self, X: Matrix) -> Matrix:
        """Split each row's raw score exactly into what its columns contribute.

        The raw score is what the model adds up before it makes a score of it: the log-odds of a classifier, the
        logarithm of a count, the value of any other regressor, before it is raised to a floor.

        Parameters
        ----------
        X : ndarray, shape (n_rows, n_columns)

        Returns
        -------
        ndarray, shape (n_rows, n_columns + 1)
            In the unit of the raw score; the last column is the base value, the same for all rows. Each row sums to
            its raw score.

        Raises
        ------
        NotFittedError
            Before `fit`.
        NotExplainableError
            When the model has no such split.
        """
        self.check_is_fitted()
        raise NotExplainableError(type(self).__name__, "its raw score is no sum over the columns")

    def cross_validate(
        self, X: Matrix, y: Vector, folds: Sequence[Fold], metric: Metric, jobs: int = 1, columns: Columns = ()
    ) -> CrossValidation:
        """Fit on each fold's first part and score its second; the model itself stays as it is.

        Parameters
        ----------
        X : ndarray, shape (n_rows, n_columns)
        y : ndarray, shape (n_rows,)
        folds : sequence of (ndarray, ndarray)
            Row numbers to fit on and to score; the second parts of consecutive folds make up whole repeats.
        metric : callable
            Of targets and scores; higher is better.
        jobs : int
            How many folds to work on at once.
        columns : sequence of MatrixColumn
            As for `fit`.

        Returns
        -------
        CrossValidation
        """

        def fit_and_score(fold: Fold) -> Vector:
            rows, judged = fold
            return type(self)(**self.get_params()).fit(X[rows], y[rows], columns).predict_score(X[judged])

        with ThreadPoolExecutor(jobs) as pool:
            scores = list(pool.map(fit_and_score, folds))
        return CrossValidation(mean_metric(metric, y, folds, scores), gather(folds, scores, len(y)))


class Classifier(Model):
    """A model of two classes: its score is the probability of class 1, and the decision is 1 from a threshold on."""

    def answer(self, scores: Vector) -> dict[str, list[Any]]:
        """The decisions (0 or 1) as `result`, the scores as `probability`; the threshold is 0.5 until one is chosen."""
        threshold = 0.5 if self.threshold_ is None else self.threshold_
        probability = scores.tolist()
        return {"result": [int(score >= threshold) for score in probability], "probability": probability}


class Regressor(Model):
    """A model of a number: its score is its answer."""

    def answer(self, scores: Vector) -> dict[str, list[Any]]:
        """The scores as `result`."""
        return {"result": scores.tolist()}


def mean_metric(metric: Metric, y: Vector, folds: Sequence[Fold], scores: Sequence[Vector]) -> float:
    """The metric's mean over folds.

    Parameters
    ----------
    metric : callable
        Of targets and scores.
    y : ndarray, shape (n_rows,)
    folds : sequence of (ndarray, ndarray)
        Row numbers; the second parts were scored.
    scores : sequence of ndarray
        Each fold's scores, in the order of its second part.

    Returns
    -------
    float
    """
    return float(np.mean([metric(y[rows], fold_scores) for (_, rows), fold_scores in zip(folds, scores, strict=True)]))


def gather(folds: Sequence[Fold], scores: Sequence[Vector], n_rows: int) -> Matrix:
    """Put scores of folds where their rows are.

    Parameters
    ----------
    folds : sequence of (ndarray, ndarray)
        Row numbers; the second parts of consecutive folds make up whole repeats.
    scores : sequence of ndarray
        Each fold's scores, in the order of its second part.
    n_rows : int
        Rows of one repeat.

    Returns
    -------
    ndarray, shape (n_repeats, n_rows)
    """
    rows = np.concatenate([rows for _, rows in folds]).reshape(-1, n_rows)
    result = np.empty(rows.shape)
    np.put_along_axis(result, rows, np.concatenate(list(scores)).reshape(-1, n_rows), axis=1)
    return result
