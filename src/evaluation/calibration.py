"""Calibration: whether of the records with a probability of 30 % three in ten have the outcome."""

import math
from dataclasses import dataclass

import numpy as np

from tabserve.aliases import Vector

BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Predicted and observed shares, of bins of equally many rows with ascending probabilities; equal ones share a bin.

    Parameters
    ----------
    rows : tuple of int
        In each bin.
    predicted, observed : tuple of float
        The mean probability of each bin, and its share of 1.
    error : float
        The mean distance of the two, weighted by rows: the expected calibration error (Naeini, Cooper and Hauskrecht
        2015).
    chance : float
        The error that is expected of probabilities that are right, because rows are few: in a bin of n rows the share
        of 1 has the variance p(1 - p) / n, and so the mean distance sqrt(2 p(1 - p) / (pi n)) of a normal deviate.
    """

    rows: tuple[int, ...]
    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    error: float
    chance: float

    def holds(self, most: float) -> bool:
        """Whether the error beyond chance is small, also beside the share of the rarer outcome.

        Parameters
        ----------
        most : float
            The largest error; of a rare outcome it is half of its predicted share, since 0.05 instead of 0.01 is wrong.
        """
        predicted = float(np.average(self.predicted, weights=self.rows))
        return self.error - self.chance <= min(most, min(predicted, 1 - predicted) / 2)


def calibration(y: Vector, probabilities: Vector) -> Calibration:
    """Compare probabilities with outcomes.

    Parameters
    ----------
    y : ndarray of 0 and 1, shape (n_rows,)
        At least one.
    probabilities : ndarray, shape (n_rows,)
        Of a 1.

    Returns
    -------
    Calibration
    """
    order = np.argsort(probabilities, kind="stable")
    ascending = probabilities[order]
    ends = ascending[np.arange(1, BINS) * len(order) // BINS]
    # where equal probabilities are divided by the order of rows, bins would show what changed with time
    bins = [rows for rows in np.split(order, np.unique(np.searchsorted(ascending, ends))) if len(rows)]
    rows = np.array([len(some) for some in bins])
    predicted = np.array([probabilities[some].mean() for some in bins])
    observed = np.array([y[some].mean() for some in bins])
    spread = np.array([np.mean(probabilities[some] * (1 - probabilities[some])) for some in bins])
    return Calibration(
        tuple(rows.tolist()),
        tuple(predicted.tolist()),
        tuple(observed.tolist()),
        float(np.average(np.abs(predicted - observed), weights=rows)),
        float(np.average(np.sqrt(2 * spread / (math.pi * rows)), weights=rows)),
    )
