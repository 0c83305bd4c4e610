"""Leaks: how well a rule of one column alone predicts the target on rows that the rule was not made from."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Vector
from tabserve.draft.profile import Profile

BINS = 100  # of numbers and dates
MOST_ROWS = 100_000
SEED = 0

Bins: TypeAlias = npt.NDArray[np.int64]


def bins_of(profile: Profile, values: npt.NDArray[np.generic] | None) -> Bins:
    """A bin for each row: a category's value, or a range of numbers; one more for missing values.

    Parameters
    ----------
    profile : Profile
        The column.
    values : ndarray, shape (n_texts,), optional
        The texts as numbers or moments.

    Returns
    -------
    ndarray, shape (n_rows,)
        Counted from 0.
    """
    if values is None:
        of_text = np.arange(len(profile.texts))
    else:
        numbers = values.astype(np.float64)
        rows = np.repeat(numbers, profile.counts)
        edges = np.unique(np.quantile(rows, np.linspace(0, 1, BINS + 1)[1:-1])) if len(rows) else rows
        of_text = np.searchsorted(edges, numbers, side="left")
    return np.append(of_text, len(profile.texts) + BINS)[profile.codes]


def strength(bins: Bins, target: Vector, classes: int) -> float:
    """How well the bins predict the target.

    Parameters
    ----------
    bins : ndarray, shape (n_rows,)
        The bin of each row.
    target : ndarray, shape (n_rows,)
        A class counted from 0, or a number.
    classes : int
        How many classes there are; 0 for a number.

    Returns
    -------
    float
        Of two classes the ROC AUC, of more the share of mistakes that is avoided by knowing the bin, of a number R²; in
        each case of a rule made from one half of the rows, on the other.
    """
    generator = np.random.default_rng(SEED)
    order = generator.permutation(len(bins))[:MOST_ROWS]
    half = len(order) // 2
    learnt, judged = order[:half], order[half:]
    if half < 2:
        return 0.0
    if classes > 2:
        return _avoided(bins, target.astype(np.int64), classes, learnt, judged)
    means = _means(bins[learnt], target[learnt], int(bins.max()) + 1)
    if classes:
        return _auc(means[bins[judged]], target[judged])
    spread = np.sum((target[judged] - target[judged].mean()) ** 2)
    return float(1 - np.sum((target[judged] - means[bins[judged]]) ** 2) / spread) if spread else 0.0


def rows_of(profile: Profile, values: npt.NDArray[np.generic]) -> Vector:
    """The number of each row, shape (n_rows,); NaN for a missing one."""
    return np.append(values.astype(np.float64), np.nan)[profile.codes]


def linear_strength(numbers: Vector, target: Vector) -> float:
    """R² of a straight line, shape (n_rows,) both; of few rows, bins are too coarse for one that fits nearly all.

    Rows without a number count as not predicted.
    """
    known = ~np.isnan(numbers)
    x, y = numbers[known], target[known]
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1] ** 2 * np.mean(known))


def _means(bins: Bins, target: Vector, size: int) -> Vector:
    """The target's mean in each bin, drawn a little to that of all rows, which an unknown bin has."""
    counts, sums = np.bincount(bins, minlength=size), np.bincount(bins, target, minlength=size)
    means: Vector = (sums + 0.1 * target.mean()) / (counts + 0.1)
    return means


def _auc(scores: Vector, classes: Vector) -> float:
    """ROC AUC by ranks; ties count half."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    events = np.sum(classes == 1)
    others = len(classes) - events
    if not events or not others:
        return 0.5
    return float((np.sum(ranks[classes == 1]) - events * (events + 1) / 2) / (events * others))


def _avoided(bins: Bins, target: Bins, classes: int, learnt: Bins, judged: Bins) -> float:
    counts = np.zeros((int(bins.max()) + 1, classes), np.int64)
    np.add.at(counts, (bins[learnt], target[learnt]), 1)
    totals = counts.sum(axis=0)
    most_frequent = np.argmax(counts + totals / totals.sum() * 0.1, axis=1)
    mistakes = np.mean(most_frequent[bins[judged]] != target[judged])
    guessing = np.mean(np.argmax(totals) != target[judged])
    return float(1 - mistakes / guessing) if guessing else 0.0
