"""Bootstrap: how certain a metric is, and the difference of two."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Metric, Predictions, Vector
from tabserve.evaluation.metrics import Metrics

MOST_DRAWN = 20_000_000  # rows in all samples: intervals of many rows are narrow, and hardly need so many
FEWEST_SAMPLES = 200


def bootstrap_intervals(
    y: Vector,
    predictions: Predictions,
    measure: Callable[[Vector, Predictions], Metrics],
    seed: int,
    samples: int = 2000,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of metrics, covering 95 %.

    Rows are drawn with replacement. A sample in which a metric is undefined, such as one without both classes, is left
    out for that metric (Efron and Tibshirani 1993, ch. 13).

    Parameters
    ----------
    y : ndarray, shape (n_rows,)
    predictions : ndarray, shape (n_rows,) or (n_rows, n_classes)
    measure : callable
        The metrics of targets and predictions.
    seed : int
        Seed of the drawing.
    samples : int
        How many samples to draw; fewer of more than 10,000 rows.

    Returns
    -------
    dict of (float, float)
        Lower and upper end of each metric.
    """
    values = [measure(y[rows], predictions[rows]) for rows in _samples(len(y), seed, samples)]
    return {name: _interval([value[name] for value in values]) for name in values[0]}


def bootstrap_difference(
    y: Vector, predictions: Predictions, others: Predictions, metric: Metric, seed: int, samples: int = 2000
) -> tuple[float, float, float]:
    """How much better predictions are than others of the same rows, with the paired bootstrap's 95 % interval.

    Each sample of rows judges both, so that rows that are hard for both do not widen the interval.

    Parameters
    ----------
    y : ndarray, shape (n_rows,)
    predictions, others : ndarray, shape (n_rows,) or (n_rows, n_classes)
    metric : callable
        Of targets and predictions; higher is better.
    seed : int
        Seed of the drawing.
    samples : int
        How many samples to draw; fewer of more than 10,000 rows.

    Returns
    -------
    tuple of (float, float, float)
        The difference of the metric, and the interval's lower and upper end.
    """
    differences = [
        metric(y[rows], predictions[rows]) - metric(y[rows], others[rows]) for rows in _samples(len(y), seed, samples)
    ]
    return metric(y, predictions) - metric(y, others), *_interval(differences)


def _samples(n_rows: int, seed: int, samples: int) -> Iterator[npt.NDArray[np.intp]]:
    generator = np.random.default_rng(seed)
    enough = max(FEWEST_SAMPLES, MOST_DRAWN // max(n_rows, 1))
    return (generator.integers(0, n_rows, n_rows) for _ in range(min(samples, enough)))


def _interval(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)
