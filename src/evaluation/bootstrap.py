"""Bootstrap: how certain a metric is, and the difference of two.

A sample of the rows is how often each of them was drawn. What a metric needs besides, such as the order of the rows, is
the same in all samples and found once. DeLong, DeLong and Clarke-Pearson (1988) give the variance of an AUC's
difference without samples, but of no other headline metric; with the rows ordered once, the samples cost so little that
one way for all metrics is worth more.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from tabserve.evaluation.metrics import Measure, Rows, Scorer

MOST_DRAWN = 20_000_000  # rows in all samples: intervals of many rows are narrow, and hardly need so many
FEWEST_SAMPLES = 200


def bootstrap_intervals(
    measure: Measure, n_rows: int, seed: int, samples: int = 2000
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of metrics, covering 95 %.

    Rows are drawn with replacement. A sample in which a metric is undefined, such as one without both classes, is left
    out for that metric (Efron and Tibshirani 1993, ch. 13).

    Parameters
    ----------
    measure : callable
        The metrics of n_rows rows, by how often each of them counts.
    n_rows : int
    seed : int
        Seed of the drawing.
    samples : int
        How many samples to draw; fewer of more than 10,000 rows.

    Returns
    -------
    dict of (float, float)
        Lower and upper end of each metric.
    """
    values = [measure(counts) for counts in _samples(n_rows, seed, samples)]
    return {name: _interval([value[name] for value in values]) for name in values[0]}


def bootstrap_difference(
    scorer: Scorer, others: Scorer, n_rows: int, seed: int, samples: int = 2000
) -> tuple[float, float, float]:
    """How much better predictions are than others of the same rows, with the paired bootstrap's 95 % interval.

    Each sample of rows judges both, so that rows that are hard for both do not widen the interval.

    Parameters
    ----------
    scorer, others : callable
        The metric of the predictions and of the others, by how often each of the n_rows rows counts; higher is better.
    n_rows : int
    seed : int
        Seed of the drawing.
    samples : int
        How many samples to draw; fewer of more than 10,000 rows.

    Returns
    -------
    tuple of (float, float, float)
        The difference of the metric, and the interval's lower and upper end.
    """
    differences = [scorer(counts) - others(counts) for counts in _samples(n_rows, seed, samples)]
    return scorer(None) - others(None), *_interval(differences)


def _samples(n_rows: int, seed: int, samples: int) -> Iterator[Rows]:
    """How often each row was drawn, sample after sample."""
    generator = np.random.default_rng(seed)
    enough = max(FEWEST_SAMPLES, MOST_DRAWN // max(n_rows, 1))
    for _ in range(min(samples, enough)):
        yield np.bincount(generator.integers(0, n_rows, n_rows), minlength=n_rows)


def _interval(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)
