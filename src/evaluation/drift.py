"""Drift: whether live values are distributed as those of training, by a verdict that is no artefact of their number.

With few rows any two samples differ by chance, and with a million every difference is significant. So drift is said
only of a difference that is both larger than a bound and more than chance; where rows are too few to see such a
difference, that is said instead.
"""

import math
from dataclasses import dataclass

import numpy as np

from tabserve.aliases import Vector
from tabserve.evaluation.distribution import Tallies

DRIFT, WATCH, NONE, TOO_FEW = "drift", "watch", "as in training", "too few rows"  # verdicts, the worst first
DRIFTED, WATCHED = 0.2, 0.1  # PSI beyond chance from which on a difference matters (Siddiqi 2006)
SIGNIFICANCE = 0.01  # the chance that a month without drift has a false alarm in any of its columns
EXPECTED = 5  # rows in a bin from which on chi-squared is near enough (Cochran 1954)
DIVISIONS = 20_000  # of the rows into two at random, at once
AS_FAR = 5  # divisions that are as far apart, in so many of which a p-value shows that is just significant


@dataclass(frozen=True)
class Drift:
    """How far live values are from those of training.

    Parameters
    ----------
    rows : int
        Live values.
    psi : float
        Population stability index: the sum over bins of (q - p) ln(q / p), p and q being the shares in training and
        live. Half a row for each bin is shared out as both samples together are, so that an empty bin is not infinite.
    chance : float
        The PSI that is expected when nothing changed: (bins - 1)(1/n + 1/m) for n live rows and m of training.
    p_value : float
        The chance of such a difference when nothing changed, by Pearson's chi-squared test of two samples. Where fewer
        than five rows are expected in a bin, a small one is twice the smaller of two: of the same test with the small
        bins as one, and by dividing the rows of both at random.
    detectable : float
        The smallest PSI that is more than chance with so many rows; infinite when there is nothing to compare.
    power : float
        The chance that a true PSI of `DRIFTED` is found to be more than chance.
    verdict : str
        `DRIFT`, `WATCH`, `NONE` or `TOO_FEW`.

    Notes
    -----
    When nothing changed, PSI / (1/n + 1/m) is distributed as chi-squared with bins - 1 degrees of freedom (Yurdakul
    2018, Statistical properties of population stability index), as Pearson's statistic is, to which it is equal to the
    second order. With few rows Pearson's is nearer to that distribution, so the test uses it.
    """

    rows: int
    psi: float
    chance: float
    p_value: float
    detectable: float
    power: float
    verdict: str

    @property
    def excess(self) -> float:
        """The PSI beyond chance."""
        return max(0.0, self.psi - self.chance)


def compare(training: Tallies, live: Tallies, significance: float = SIGNIFICANCE) -> Drift:
    """Compare live values with those of training.

    Parameters
    ----------
    training, live : ndarray of int, shape (n_bins,)
        The rows in each bin; missing values are a bin.
    significance : float
        Below which a p-value is more than chance: `SIGNIFICANCE` divided by the number of comparisons (Bonferroni).

    Returns
    -------
    Drift
    """
    m, n = int(training.sum()), int(live.sum())
    held = (training + live) > 0
    training, live = training[held], live[held]
    freedom = len(live) - 1
    if not n or not m or freedom < 1:
        return Drift(n, 0.0, 0.0, 1.0, math.inf, 0.0, NONE if n and m else TOO_FEW)
    unit = 1 / n + 1 / m
    psi = _psi(training, live)
    p_value = _p_value(training, live, freedom, significance)
    critical = _critical(freedom, significance)
    power = _noncentral_above(critical, freedom, DRIFTED / unit)
    excess = psi - freedom * unit
    verdict = _verdict(excess, p_value <= significance, critical * unit)
    return Drift(n, psi, freedom * unit, p_value, critical * unit, power, verdict)


def _verdict(excess: float, is_significant: bool, detectable: float) -> str:
    if is_significant and excess >= WATCHED:
        return DRIFT if excess >= DRIFTED else WATCH
    return NONE if detectable <= DRIFTED else TOO_FEW


def _psi(training: Tallies, live: Tallies) -> float:
    both = (training + live) / (training.sum() + live.sum())
    p, q = ((some + both * len(both) / 2) / (some.sum() + len(both) / 2) for some in (training, live))
    return float(np.sum((q - p) * np.log(q / p)))


def _p_value(training: Tallies, live: Tallies, freedom: int, significance: float) -> float:
    p_value = chi_squared_above(_pearson(training, live), freedom)
    both = training + live
    expected = both / both.sum() * min(int(live.sum()), int(training.sum()))
    if p_value > significance or expected.min() >= EXPECTED:
        return p_value
    # two tests, so twice the smaller p-value: a large shift shows when the small bins are one, and that is soon told
    training_of_pooled, live_of_pooled = (_pooled(some, expected) for some in (training, live))
    freedom = len(live_of_pooled) - 1
    of_pooled = chi_squared_above(_pearson(training_of_pooled, live_of_pooled), freedom) if freedom else 1.0
    if 2 * of_pooled <= significance:
        return 2 * of_pooled
    return min(1.0, 2 * min(of_pooled, _divided_at_random(training, live, significance / 2)))


def _pooled(tallies: Tallies, expected: Vector) -> Tallies:
    """The tallies with one bin for all in which few rows are expected, and for the next larger while these are few."""
    order = np.argsort(expected, kind="stable")
    together = np.cumsum(expected[order])
    small = max(int(np.sum(expected < EXPECTED)), 1 + int(np.searchsorted(together, EXPECTED)))
    return np.append(tallies[order[small:]], tallies[order[:small]].sum())


def _divided_at_random(training: Tallies, live: Tallies, significance: float) -> float:
    """The share of divisions of the rows of both into two that are as far apart, until it is surely more than that.

    So many divisions are made that it can be less, too.
    """
    both, n = training + live, int(live.sum())
    far = float(np.sum((live - n * both / both.sum()) ** 2 / both)) * (1 - 1e-9)
    generator, enough = np.random.default_rng(0), max(DIVISIONS, math.ceil(AS_FAR / significance))
    as_far = divisions = 0
    while divisions < enough and as_far < AS_FAR:
        drawn = generator.multivariate_hypergeometric(both, n, DIVISIONS, method="marginals")
        as_far += int(np.sum(np.sum((drawn - n * both / both.sum()) ** 2 / both, axis=1) >= far))
        divisions += DIVISIONS
    return (1 + as_far) / (1 + divisions)


def _pearson(training: Tallies, live: Tallies) -> float:
    m, n = int(training.sum()), int(live.sum())
    both = (training + live) / (m + n)
    return float(np.sum((live - n * both) ** 2 / both)) * (1 / n + 1 / m)


def chi_squared_above(x: float, freedom: int) -> float:
    """The chance that chi-squared is larger than x (Abramowitz and Stegun 1964, 26.4.4 and 26.4.5).

    Parameters
    ----------
    x : float
        From 0 on.
    freedom : int
        Degrees of freedom, from 1 on.

    Returns
    -------
    float
    """
    half = x / 2
    terms = range(freedom // 2) if freedom % 2 == 0 else [place + 0.5 for place in range(freedom // 2)]
    tail = sum(_term(half, power) for power in terms)
    return min(1.0, tail if freedom % 2 == 0 else math.erfc(math.sqrt(half)) + tail)


def _term(half: float, power: float) -> float:
    """exp(-h) h^k / Gamma(k + 1)."""
    if not half:
        return float(power == 0)
    return math.exp(power * math.log(half) - half - math.lgamma(power + 1))


def _critical(freedom: int, significance: float) -> float:
    """The value that chi-squared exceeds with that chance."""
    low, high = 0.0, 10.0
    while chi_squared_above(high, freedom) > significance:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if chi_squared_above(middle, freedom) > significance else (low, middle)
    return high


def _noncentral_above(x: float, freedom: int, noncentrality: float) -> float:
    """The chance that noncentral chi-squared is larger than x: a Poisson mixture of central ones (26.4.25)."""
    half = noncentrality / 2
    if noncentrality + freedom - x > 8 * math.sqrt(2 * (freedom + 2 * noncentrality)):  # 8 standard deviations
        return 1.0
    spread = 10 * math.sqrt(half) + 20
    first, last = max(0, int(half - spread)), int(half + spread)
    total = sum(_term(half, power) * chi_squared_above(x, freedom + 2 * power) for power in range(first, last + 1))
    return min(1.0, total)
