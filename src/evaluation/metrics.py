"""Metrics: how good predictions are.

Nothing here imports scikit-learn: a serving worker computes an AUC too. Tests hold each metric against scikit-learn's.
"""

from typing import TypeAlias

import numpy as np
from tabserve.aliases import Vector

Metrics: TypeAlias = dict[str, float]
TRAIN, CROSS_VALIDATION, HOLD_OUT, CHRONOLOGICAL = "train", "cross_validation", "hold_out", "chronological"


def roc_auc(y: Vector, scores: Vector) -> float:
    """Area under the ROC curve: the chance that a 1 scores above a 0, ties counting half.

    Parameters
    ----------
    y : ndarray of 0 and 1, shape (n_rows,)
    scores : ndarray, shape (n_rows,)

    Returns
    -------
    float
        NaN when a class is absent.

    Notes
    -----
    From the rank sum: Mann and Whitney (1947), doi 10.1214/aoms/1177730491.
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # tied scores share their mean rank
    ones = float(np.sum(y))
    zeros = len(y) - ones
    if not ones or not zeros:
        return float("nan")
    return float((np.sum(ranks[y == 1]) - ones * (ones + 1) / 2) / (ones * zeros))


def average_precision(y: Vector, scores: Vector) -> float:
    """Area under the precision-recall curve as mean precision at each 1, ties taken together.

    Parameters
    ----------
    y : ndarray of 0 and 1, shape (n_rows,)
    scores : ndarray, shape (n_rows,)

    Returns
    -------
    float
        NaN without a 1.
    """
    thresholds, inverse = np.unique(-scores, return_inverse=True)
    if not np.any(y == 1):
        return float("nan")
    ones = np.bincount(inverse, weights=y, minlength=len(thresholds))
    found = np.cumsum(ones)
    predicted = np.cumsum(np.bincount(inverse, minlength=len(thresholds)))
    return float(np.sum(ones / found[-1] * found / predicted))


def kolmogorov_smirnov(y: Vector, scores: Vector) -> float:
    """Largest distance between the two classes' score distributions.

    Parameters
    ----------
    y : ndarray of 0 and 1, shape (n_rows,)
    scores : ndarray, shape (n_rows,)

    Returns
    -------
    float
        NaN when a class is absent.
    """
    if not np.any(y == 0) or not np.any(y == 1):
        return float("nan")
    at = np.unique(scores)
    shares = [np.searchsorted(np.sort(scores[y == label]), at, side="right") / np.sum(y == label) for label in (0, 1)]
    return float(np.max(np.abs(shares[0] - shares[1])))


def r2(y: Vector, scores: Vector) -> float:
    """Coefficient of determination: the share of the targets' variance that the scores explain.

    Parameters
    ----------
    y, scores : ndarray, shape (n_rows,)

    Returns
    -------
    float
        1 for scores that are right, 0 for the mean of `y`, below 0 for worse; NaN when the targets do not vary.
    """
    varies = len(y) and np.max(y) > np.min(y)  # rounding gives constant targets a variance, too
    variance = float(np.sum((y - np.mean(y)) ** 2)) if varies else 0.0
    return 1 - float(np.sum((y - scores) ** 2)) / variance if variance else float("nan")
