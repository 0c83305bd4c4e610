"""Metrics: how good predictions are.

Nothing here imports scikit-learn, since serving workers compute metrics, too. Tests compare each metric with
scikit-learn's.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Matrix, Predictions, Vector

Metrics: TypeAlias = dict[str, float]
Rows: TypeAlias = npt.NDArray[np.intp]
Tallies: TypeAlias = npt.NDArray[np.intp]
Counts: TypeAlias = npt.NDArray[np.intp] | None  # how often each row counts; None: once
# All metrics of given rows, or one of them, as a function of how often each row counts (None: once), shape (n_rows,).
# What does not depend on that, such as the order of the rows, is computed once.
Measure: TypeAlias = Callable[[Counts], Metrics]
Scorer: TypeAlias = Callable[[Counts], float]
SMALLEST_PROBABILITY = 1e-15  # where a logarithm is cut off
TRAIN, CROSS_VALIDATION, HOLD_OUT, CHRONOLOGICAL = "train", "cross_validation", "hold_out", "chronological"


@dataclass(frozen=True)
class Tally:
    """Where the 1s are among the 0s: all that metrics of ranks depend on.

    Each array holds a number of rows for each of the distinct predictions that a 1 has, which ascend; shape
    (n_predictions,).

    Parameters
    ----------
    ones_below, zeros_below : ndarray
        The 1s and the 0s with a smaller prediction.
    ones_up_to, zeros_up_to : ndarray
        Those, and the ones with this prediction.
    n_ones, n_zeros : int
        All of them.
    """

    ones_below: Tallies
    zeros_below: Tallies
    ones_up_to: Tallies
    zeros_up_to: Tallies
    n_ones: int
    n_zeros: int

    @cached_property
    def _ones(self) -> Tallies:
        """The 1s with each prediction."""
        return self.ones_up_to - self.ones_below

    def roc_auc(self) -> float:
        """Area under the ROC curve: the chance that a 1 ranks above a 0, ties counting half.

        Returns
        -------
        float
            NaN when a class is absent.

        Notes
        -----
        As a count of pairs: Mann and Whitney (1947), doi 10.1214/aoms/1177730491.
        """
        if not self.n_ones or not self.n_zeros:
            return float("nan")
        pairs_twice = np.sum(self._ones * (self.zeros_below + self.zeros_up_to))
        return float(pairs_twice) / 2 / (self.n_ones * self.n_zeros)

    def average_precision(self) -> float:
        """Area under the precision-recall curve as mean precision at each 1, ties taken together.

        Returns
        -------
        float
            NaN without a 1.
        """
        if not self.n_ones:
            return float("nan")
        found = self.n_ones - self.ones_below
        predicted = found + (self.n_zeros - self.zeros_below)
        precision = found / np.maximum(predicted, 1)  # above the largest prediction that was counted, there are none
        return float(np.sum(self._ones * precision)) / self.n_ones

    def kolmogorov_smirnov(self) -> float:
        """Largest distance between the distributions of the two classes' predictions.

        Returns
        -------
        float
            NaN when a class is absent.
        """
        if not self.n_ones or not self.n_zeros:
            return float("nan")
        # the distance grows with each 0 until the next 1, and falls with each 1 until the next 0
        above = self.zeros_below / self.n_zeros - self.ones_below / self.n_ones
        below = self.zeros_up_to / self.n_zeros - self.ones_up_to / self.n_ones
        return float(max(np.max(above), -np.min(below)))


class Ranking:
    """The order of rows by their predictions, found once for any number of samples of these rows.

    Parameters
    ----------
    y : ndarray of 0 and 1, shape (n_rows,)
    predictions : ndarray, shape (n_rows,)
    """

    def __init__(self, y: Vector, predictions: Vector) -> None:
        self._order = np.argsort(predictions, kind="stable")
        ascending = predictions[self._order]
        self._ones = self._order[y[self._order] == 1]
        of_ones = predictions[self._ones]
        is_last = np.append(of_ones[1:] != of_ones[:-1], [True])[: len(of_ones)]
        distinct = of_ones[is_last]
        self._last = np.flatnonzero(is_last) + 1
        self._below = np.searchsorted(ascending, distinct, "left")
        self._up_to = np.searchsorted(ascending, distinct, "right")

    def tally(self, counts: Counts = None) -> Tally:
        """Where the 1s are among the 0s.

        Parameters
        ----------
        counts : ndarray, shape (n_rows,), optional
            How often each row counts; by default once.

        Returns
        -------
        Tally
        """
        rows, ones = _running(self._order, counts), _running(self._ones, counts)
        ones_up_to = ones[self._last]
        ones_below = np.append(0, ones_up_to[:-1])[: len(ones_up_to)]
        zeros_below, zeros_up_to = rows[self._below] - ones_below, rows[self._up_to] - ones_up_to
        return Tally(ones_below, zeros_below, ones_up_to, zeros_up_to, int(ones[-1]), int(rows[-1] - ones[-1]))


def _running(rows: Rows, counts: Counts) -> Tallies:
    """How many are counted of the first so many rows, from 0 to all."""
    if counts is None:
        return np.arange(len(rows) + 1)
    running = np.zeros(len(rows) + 1, dtype=np.intp)
    np.cumsum(counts[rows], out=running[1:])
    return running


class Confusion:
    """Which class rows of each class are taken for, counted for any number of samples of these rows.

    Parameters
    ----------
    y, results : ndarray of codes, shape (n_rows,)
    n_classes : int
    """

    def __init__(self, y: Vector, results: Vector, n_classes: int) -> None:
        self._n_classes = n_classes
        self._cells = y.astype(np.intp) * n_classes + results.astype(np.intp)

    def table(self, counts: Counts = None) -> Matrix:
        """How many rows of each class were taken for which class.

        Parameters
        ----------
        counts : ndarray, shape (n_rows,), optional
            How often each row counts; by default once.

        Returns
        -------
        ndarray, shape (n_classes, n_classes)
            True classes from top to bottom, results from left to right.
        """
        n = self._n_classes
        return np.bincount(self._cells, counts, n**2).reshape(n, n).astype(np.float64)


def roc_auc(y: Vector, predictions: Vector) -> float:
    """`Tally.roc_auc` of rows that count once each.

    Parameters
    ----------
    y : ndarray of 0 and 1, shape (n_rows,)
    predictions : ndarray, shape (n_rows,)

    Returns
    -------
    float
        NaN when a class is absent.
    """
    return Ranking(y, predictions).tally().roc_auc()


def roc_auc_ovr(y: Vector, probabilities: Predictions) -> float:
    """`mean_roc_auc` of rows that count once each.

    Parameters
    ----------
    y : ndarray of codes, shape (n_rows,)
    probabilities : ndarray, shape (n_rows, n_classes)

    Returns
    -------
    float
        NaN when all rows are of the same class.
    """
    return mean_roc_auc([ranking.tally() for ranking in one_vs_rest(y, probabilities)])


def one_vs_rest(y: Vector, probabilities: Predictions) -> list[Ranking]:
    """The rows' order by the probability of each class, where a 1 is a row of that class.

    Parameters
    ----------
    y : ndarray of codes, shape (n_rows,)
    probabilities : ndarray, shape (n_rows, n_classes)

    Returns
    -------
    list of Ranking
        n_classes of them.
    """
    return [Ranking(y == code, of) for code, of in enumerate(probabilities.T)]


def mean_roc_auc(tallies: Iterable[Tally]) -> float:
    """Mean over the classes of the ROC AUC of one class against the rest.

    Parameters
    ----------
    tallies : iterable of Tally
        Of each class, as from `one_vs_rest`.

    Returns
    -------
    float
        Over the classes that have rows; NaN when all rows are of the same class.
    """
    known = [auc for tally in tallies if not math.isnan(auc := tally.roc_auc())]
    return float(np.mean(known)) if known else float("nan")


def r2(y: Vector, predictions: Vector, counts: Counts = None) -> float:
    """Coefficient of determination: the share of the targets' variance that the predictions explain.

    Parameters
    ----------
    y, predictions : ndarray, shape (n_rows,)
    counts : ndarray, shape (n_rows,), optional
        How often each row counts; by default once.

    Returns
    -------
    float
        1 for predictions that are right, 0 for the mean of `y`, below 0 for worse; NaN when the targets do not vary.
    """
    counted = y if counts is None else y[counts > 0]
    if not len(counted) or np.max(counted) == np.min(counted):  # rounding gives constant targets a variance, too
        return float("nan")
    variance = np.average((y - np.average(y, weights=counts)) ** 2, weights=counts)
    return float(1 - np.average((y - predictions) ** 2, weights=counts) / variance) if variance else float("nan")


def log_losses(y: Vector, probabilities: Predictions) -> Vector:
    """Negative logarithm of the true class's probability, for each row.

    Parameters
    ----------
    y : ndarray of codes, shape (n_rows,)
    probabilities : ndarray, shape (n_rows, n_classes)

    Returns
    -------
    ndarray, shape (n_rows,)
        In nats; a probability below 1e-15 counts as that.
    """
    of_truth = probabilities[np.arange(len(y)), y.astype(np.intp)]
    losses: Vector = -np.log(np.clip(of_truth, SMALLEST_PROBABILITY, 1.0))
    return losses


def class_metrics(counts: Matrix) -> dict[str, Vector]:
    """Precision, recall and F1 of each class.

    Parameters
    ----------
    counts : ndarray, shape (n_classes, n_classes)
        As from `confusion`.

    Returns
    -------
    dict of ndarray, shape (n_classes,)
        NaN where undefined: the precision of a class that nothing was taken for, the recall of one without rows, the
        F1 of one with neither.
    """
    hits, true, taken = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return {"precision": hits / taken, "recall": hits / true, "f1": 2 * hits / (true + taken)}
