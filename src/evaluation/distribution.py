"""Distribution: how often the values of a column fall into each of a few bins, without the rows themselves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Vector
from tabserve.evaluation.calibration import Calibration
from tabserve.evaluation.fairness import FEWEST

MOST_BINS = 10  # of numbers: deciles, as is usual for the population stability index
MOST_LABELS = 30  # categories with a bin of their own: a difference among more of them takes many rows to see
SCORE = "score"  # the name of the only score of a task with one
RARER = "(rarer values)"
MISSING = "(missing)"

Tallies: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Distribution:
    """How often the values of an encoded column fall into each bin.

    Each bin holds at least `FEWEST` rows, unless it is the only one, and an edge is rounded or a value that many rows
    share: no bin and no edge shows anybody's value. Below and above such a value the outer bin may be empty.

    Parameters
    ----------
    counts : tuple of int
        The rows in each bin.
    missing : int
        The rows without a value.
    edges : tuple of float
        Of numbers: where each bin but the first begins, ascending; a value at an edge is above it.
    codes : tuple of float
        Of categories: the code of each bin but the last, ascending. The last bin is for all other codes.
    labels : tuple of str
        Of categories: what the bins but the last stand for.
    months : mapping of tuple of int
        By calendar month, "01" to "12", the rows in each bin and, last, those without a value. Empty where no time is
        known.
    """

    counts: tuple[int, ...]
    missing: int = 0
    edges: tuple[float, ...] = ()
    codes: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    months: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def tallies(self) -> Tallies:
        """The rows in each bin and, last, those without a value; shape (n_bins + 1,)."""
        return np.array([*self.counts, self.missing], np.int64)

    @property
    def bins(self) -> tuple[str, ...]:
        """What each of the tallies is about, in words."""
        if self.codes:
            return (*self.labels, RARER, MISSING)
        if not self.edges:
            return ("any", MISSING)
        shown = [f"{edge:.10g}" for edge in self.edges]
        between = [f"{low} to {high}" for low, high in pairwise(shown)]
        return (f"below {shown[0]}", *between, f"{shown[-1]} and above", MISSING)

    def count(self, values: Vector) -> Tallies:
        """How many values fall into each bin.

        Parameters
        ----------
        values : ndarray of float64, shape (n_rows,)
            An encoded column; NaN is a missing value.

        Returns
        -------
        ndarray of int64, shape (n_bins + 1,)
            The last one counts missing values.
        """
        return np.bincount(self.places(values), minlength=len(self.counts) + 1)

    def places(self, values: Vector) -> npt.NDArray[np.intp]:
        """The bin of each value, as `count` counts them."""
        if self.codes:
            codes = np.array(self.codes)
            places = np.minimum(np.searchsorted(codes, values), len(codes) - 1)
            places = np.where(codes[places] == values, places, len(codes))
        else:
            places = np.searchsorted(np.array(self.edges), values, side="right")
        return np.where(np.isnan(values), len(self.counts), places)

    def with_months(self, values: Vector, months: npt.NDArray[np.int64]) -> "Distribution":
        """With the counts of each calendar month.

        Parameters
        ----------
        values : ndarray of float64, shape (n_rows,)
            The column.
        months : ndarray of int, shape (n_rows,)
            The month of each row, from 1 to 12.
        """
        by_month = {
            f"{month:02}": tuple(self.count(values[months == month]).tolist()) for month in np.unique(months).tolist()
        }
        return replace(self, months=by_month)


@dataclass(frozen=True)
class Distributions:
    """What a model was trained on and what it predicted, to compare with what it meets later.

    Parameters
    ----------
    columns : mapping of Distribution
        The features and derived columns of the training part.
    scores : mapping of Distribution
        The predictions out of fold: of rows that the models that predicted them had not seen. Under the label of each
        class where there are several, else under `SCORE`.
    decisions : Distribution or None
        The decisions that follow from them; None where there is nothing to decide.
    calibration : Calibration or None
        Of these predictions, where they are probabilities of one of two classes.
    """

    columns: Mapping[str, Distribution] = field(default_factory=dict)
    scores: Mapping[str, Distribution] = field(default_factory=dict)
    decisions: Distribution | None = None
    calibration: Calibration | None = None


def distribution_of_numbers(values: Vector) -> Distribution:
    """Bin numbers between their deciles.

    Parameters
    ----------
    values : ndarray of float64, shape (n_rows,)
        NaN is a missing value.

    Returns
    -------
    Distribution
    """
    known = values[~np.isnan(values)]
    edges = _edges(known) if len(known) else np.empty(0)
    empty = Distribution((0,) * (len(edges) + 1), edges=tuple(edges.tolist()))
    return _merged(empty, values)


def _edges(known: Vector) -> Vector:
    """Rounded deciles, and a bin of its own for a value that is several of them."""
    deciles = np.quantile(known, np.arange(1, MOST_BINS) / MOST_BINS, method="higher")
    values, times = np.unique(deciles, return_counts=True)
    frequent = values[(times > 1) & (np.sum(known[:, None] == values, axis=0) >= FEWEST)]
    spread = (
        float(np.subtract(*np.quantile(known, [0.95, 0.05]))) or float(np.ptp(known)) or float(abs(known[0])) or 1.0
    )
    decimals = 2 - math.floor(math.log10(spread))
    others = _rounded(np.setdiff1d(values, frequent), decimals)
    return np.unique([*frequent, *_rounded(frequent + 10.0**-decimals, decimals), *others[others > known.min()]])


def _rounded(edges: Vector, decimals: int) -> Vector:
    return np.array([round(edge, decimals) for edge in edges.tolist()])


def _merged(distribution: Distribution, values: Vector) -> Distribution:
    """The distribution of numbers, whose small bins are one with their smaller neighbours; outer ones may be empty."""
    edges = list(distribution.edges)
    *counts, missing = distribution.count(values).tolist()
    while small := [place for place in range(len(counts)) if _is_small(counts, place)]:
        place = min(small, key=counts.__getitem__)
        neighbours = [beside for beside in (place - 1, place + 1) if 0 <= beside < len(counts)]
        first = min(place, min(neighbours, key=counts.__getitem__))
        counts[first : first + 2] = [counts[first] + counts[first + 1]]
        del edges[first]
    return Distribution(tuple(counts), missing, edges=tuple(edges))


def _is_small(counts: Sequence[int], place: int) -> bool:
    if len(counts) == 1 or counts[place] >= FEWEST:
        return False
    return counts[place] > 0 or 0 < place < len(counts) - 1


def distribution_of_codes(values: Vector, labels: Sequence[str]) -> Distribution:
    """Count categories; rare ones share a bin.

    Parameters
    ----------
    values : ndarray of float64, shape (n_rows,)
        Positions among the labels; NaN is a missing value.
    labels : sequence of str
        What the codes stand for.

    Returns
    -------
    Distribution
    """
    known = values[~np.isnan(values)].astype(np.int64)
    counts = np.bincount(known, minlength=len(labels))
    frequent = np.flatnonzero(counts >= FEWEST)
    kept = np.sort(frequent[np.argsort(-counts[frequent], kind="stable")[:MOST_LABELS]])
    left = len(known) - int(counts[kept].sum())
    if 0 < left < FEWEST and len(kept):  # those that are left must be many, too
        kept = np.delete(kept, np.argmin(counts[kept]))
    rest = len(known) - int(counts[kept].sum())
    return Distribution(
        (*counts[kept].tolist(), rest),
        len(values) - len(known),
        codes=tuple(map(float, kept)),
        labels=tuple(labels[code] for code in kept.tolist()),
    )
