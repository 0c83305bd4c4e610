"""Intervals in closed form: of a share, of a mean, and of the difference and the ratio of two that are not paired.

A difference or a ratio is taken of two estimates, whatever they are of, from the distances of each to the ends of its
own interval (the method of variance estimates recovery, MOVER: Zou and Donner 2008). Of two shares that is Newcombe's
interval, which holds with few rows and at 0 and 1, where plus or minus 1.96 standard errors does not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from tabserve.aliases import Vector

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure of some rows, with the ends of an interval; both are infinite where rows say nothing of them."""

    value: float
    low: float
    high: float

    def widened(self, by: float) -> "Estimate":
        """The estimate with ends that are so many times as far away."""
        low, high = self.value - self.low, self.high - self.value
        return Estimate(self.value, self.value - by * low, self.value + by * high)


def deviate(comparisons: int = 1, level: float = LEVEL) -> float:
    """How many standard errors to either side an interval takes.

    Parameters
    ----------
    comparisons : int
        How many intervals shall cover together (Bonferroni).
    level : float
        With what chance.

    Returns
    -------
    float
    """
    return NormalDist().inv_cdf(1 - (1 - level) / 2 / comparisons)


def share(hits: int, rows: int, z: float | None = None) -> Estimate:
    """A share of rows, with Wilson's score interval (1927).

    Parameters
    ----------
    hits, rows : int
        How many of how many; at least one row.
    z : float, optional
        As from `deviate`; by default that of a single interval.

    Returns
    -------
    Estimate
        Its interval keeps to 0 and 1, and has a width when no row is a hit, or each.
    """
    z = deviate() if z is None else z
    value = hits / rows
    middle = (value + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z * math.sqrt(value * (1 - value) / rows + z**2 / (4 * rows**2)) / (1 + z**2 / rows)
    return Estimate(value, min(value, max(0.0, middle - half)), max(value, min(1.0, middle + half)))


def mean(values: Vector) -> Estimate:
    """The mean of some values, with Student's interval (1908).

    Parameters
    ----------
    values : ndarray, shape (n_rows,)
        At least one; the interval of a single one is infinite.

    Returns
    -------
    Estimate
    """
    value, rows = float(np.mean(values)), len(values)
    if rows < 2:
        return Estimate(value, -math.inf, math.inf)
    half = _student(rows - 1) * float(np.std(values, ddof=1)) / math.sqrt(rows)
    return Estimate(value, value - half, value + half)


def _student(freedom: int) -> float:
    """The deviate of Student's t, expanded about the normal one (Abramowitz and Stegun 1964, 26.7.5)."""
    if freedom <= len(_FEW):
        return _FEW[freedom - 1]
    z = deviate()
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / float(freedom) ** power for power, term in enumerate(terms, 1))


_FEW = (12.7062, 4.30265, 3.18245, 2.77645, 2.57058)  # with so few degrees of freedom the expansion is off


def difference(one: Estimate, other: Estimate) -> Estimate:
    """How much larger one estimate is than another of other rows (Newcombe 1998, method 10; Zou and Donner 2008).

    Parameters
    ----------
    one, other : Estimate
        With intervals of the same level.

    Returns
    -------
    Estimate
    """
    value = one.value - other.value
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    return Estimate(value, value - below, value + above)


def ratio(one: Estimate, other: Estimate) -> Estimate:
    """One estimate divided by another of other rows (Donner and Zou 2012).

    Parameters
    ----------
    one, other : Estimate
        From 0 on, with intervals of the same level.

    Returns
    -------
    Estimate
        NaN divided by 0; the upper end is infinite where the other may be 0.

    Notes
    -----
    The ends are those r at which the interval of one - r other, by `difference`, begins or ends with 0. The quadratic
    equation is solved by the root that divides by no small difference.
    """
    a, b = one.value, other.value
    c, d = a - one.low, other.high - b
    root = math.sqrt(max(0.0, (a * d) ** 2 + (b * c) ** 2 - (c * d) ** 2))
    low = (a**2 - c**2) / (a * b + root) if a * b + root else 0.0
    c, d = one.high - a, b - other.low
    root = math.sqrt(max(0.0, (a * d) ** 2 + (b * c) ** 2 - (c * d) ** 2))
    high = (a * b + root) / (b**2 - d**2) if d < b else math.inf
    return Estimate(a / b if b else math.nan, low, high)


def smallest_ratio(shares: Sequence[tuple[int, int]]) -> Estimate:
    """The smallest of several shares divided by the largest.

    Parameters
    ----------
    shares : sequence of (int, int)
        How many of how many rows each of them is.

    Returns
    -------
    Estimate
        NaN for fewer than two, and where all shares are 0.

    Notes
    -----
    The smallest of several shares is the smaller, and the largest the larger, the more they vary by chance: of ten
    equal groups the ratio is far below 1, and so would be a bootstrap's whole interval. The ratio is that of the pair
    whose ratio is smallest. So the intervals of the ratios of all pairs are made to cover together (Bonferroni; that
    of b / a follows from that of a / b), and the smallest of their lower and of their upper ends are taken.
    """
    if len(shares) < 2:
        return Estimate(math.nan, 0.0, 1.0)
    z = deviate(len(shares) * (len(shares) - 1) // 2)
    estimates = [share(hits, rows, z) for hits, rows in shares]
    pairs = [ratio(one, other) for one in estimates for other in estimates if one is not other]
    smallest, largest = (find(estimate.value for estimate in estimates) for find in (min, max))
    value = smallest / largest if largest else math.nan
    return Estimate(value, min(1.0, *(pair.low for pair in pairs)), min(1.0, *(pair.high for pair in pairs)))
