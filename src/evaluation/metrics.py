"""Metrics: how good predictions are.

Nothing here imports scikit-learn, since serving workers compute metrics, too. Tests compare each metric with
scikit-learn's.
"""

from typing import TypeAlias

import numpy as np

from tabserve.aliases import Matrix, Predictions, Vector

Metrics: TypeAlias = dict[str, float]
SMALLEST_PROBABILITY = 1e-15  # where a logarithm is cut off
TRAIN, CROSS_VALIDATION, HOLD_OUT, CHRONOLOGICAL = "train", "cross_validation", "hold_out", "chronological"


def roc_auc(y: Vector, predictions: Vector) -> float:
    """Area under the ROC curve: the chance that a 1 ranks above a 0, ties counting half.

    Parameters
    ----------
    y : ndarray of 0 and 1, shape (n_rows,)
    predictions : ndarray, shape (n_rows,)

    Returns
    -------
    float
        NaN when a class is absent.

    Notes
    -----
    From the rank sum: Mann and Whitney (1947), doi 10.1214/aoms/1177730491.
    """
    _, inverse, counts = np.unique(predictions, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # ties share their mean rank
    ones = float(np.sum(y))
    zeros = len(y) - ones
    if not ones or not zeros:
        return float("nan")
    return float((np.sum(ranks[y == 1]) - ones * (ones + 1) / 2) / (ones * zeros))


def average_precision(y: Vector, predictions: Vector) -> float:
    """Area under the precision-recall curve as mean precision at each 1, ties taken together.

    Parameters
    ----------
    y : ndarray of 0 and 1, shape (n_rows,)
    predictions : ndarray, shape (n_rows,)

    Returns
    -------
    float
        NaN without a 1.
    """
    thresholds, inverse = np.unique(-predictions, return_inverse=True)
    if not np.any(y == 1):
        return float("nan")
    ones = np.bincount(inverse, weights=y, minlength=len(thresholds))
    found = np.cumsum(ones)
    predicted = np.cumsum(np.bincount(inverse, minlength=len(thresholds)))
    return float(np.sum(ones / found[-1] * found / predicted))


def kolmogorov_smirnov(y: Vector, predictions: Vector) -> float:
    """Largest distance between the distributions of the two classes' predictions.

    Parameters
    ----------
    y : ndarray of 0 and 1, shape (n_rows,)
    predictions : ndarray, shape (n_rows,)

    Returns
    -------
    float
        NaN when a class is absent.
    """
    if not np.any(y == 0) or not np.any(y == 1):
        return float("nan")
    at = np.unique(predictions)
    shares = [
        np.searchsorted(np.sort(predictions[y == label]), at, side="right") / np.sum(y == label) for label in (0, 1)
    ]
    return float(np.max(np.abs(shares[0] - shares[1])))


def r2(y: Vector, predictions: Vector) -> float:
    """Coefficient of determination: the share of the targets' variance that the predictions explain.

    Parameters
    ----------
    y, predictions : ndarray, shape (n_rows,)

    Returns
    -------
    float
        1 for predictions that are right, 0 for the mean of `y`, below 0 for worse; NaN when the targets do not vary.
    """
    varies = len(y) and np.max(y) > np.min(y)  # rounding gives constant targets a variance, too
    variance = float(np.sum((y - np.mean(y)) ** 2)) if varies else 0.0
    return 1 - float(np.sum((y - predictions) ** 2)) / variance if variance else float("nan")


def log_loss(y: Vector, probabilities: Predictions) -> float:
    """Mean negative logarithm of the true class's probability.

    Parameters
    ----------
    y : ndarray of codes, shape (n_rows,)
    probabilities : ndarray, shape (n_rows, n_classes)

    Returns
    -------
    float
        In nats; a probability below 1e-15 counts as that.
    """
    of_truth = probabilities[np.arange(len(y)), y.astype(np.intp)]
    return float(-np.mean(np.log(np.clip(of_truth, SMALLEST_PROBABILITY, 1.0))))


def roc_auc_ovr(y: Vector, probabilities: Predictions) -> float:
    """Mean over the classes of the ROC AUC of one class against the rest.

    Parameters
    ----------
    y : ndarray of codes, shape (n_rows,)
    probabilities : ndarray, shape (n_rows, n_classes)

    Returns
    -------
    float
        Over the classes that have rows; NaN when all rows are of the same class.
    """
    if len(np.unique(y)) < 2:
        return float("nan")
    return float(np.nanmean([roc_auc((y == code).astype(np.float64), of) for code, of in enumerate(probabilities.T)]))


def confusion(y: Vector, results: Vector, n_classes: int) -> Matrix:
    """How many rows of each class were taken for which class.

    Parameters
    ----------
    y, results : ndarray of codes, shape (n_rows,)
    n_classes : int

    Returns
    -------
    ndarray, shape (n_classes, n_classes)
        True classes from top to bottom, results from left to right.
    """
    places = y.astype(np.intp) * n_classes + results.astype(np.intp)
    return np.bincount(places, minlength=n_classes**2).reshape(n_classes, n_classes).astype(np.float64)


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
