"""Task: what every kind of prediction looks like to the rest of the project."""

from abc import ABC, abstractmethod

import numpy as np
from tabserve.aliases import Matrix, Metric, Vector
from tabserve.errors import TooFewRowsError
from tabserve.evaluation.metrics import HOLD_OUT, TRAIN, Metrics
from tabserve.models.base import Fold, Model
from tabserve.transformers import Target

# Rows that the training part and the hold-out need at least, of each class or of numbers: with fewer, neither a fold's
# figure nor the hold-out's means anything.
SMALLEST_CLASS = {TRAIN: 10, HOLD_OUT: 5}


SMALLEST_PART = {TRAIN: 30, HOLD_OUT: 10}


_PART_NAMES = {TRAIN: "training part", HOLD_OUT: "hold-out"}


class Task(ABC):
    """What kind of prediction a use case makes, and so how it is measured and decided."""

    headline: str  # the metric that models are chosen by; higher is better
    kind_of_model: type[Model]
    decides: bool  # whether a threshold makes decisions of scores
    answer_name: str  # what answers to clients call it

    @property
    @abstractmethod
    def metric(self) -> Metric:
        """The headline metric as a function of targets and scores."""

    @abstractmethod
    def metrics(self, y: Vector, scores: Vector, threshold: float | None = None) -> Metrics:
        """All metrics of the given rows.

        Parameters
        ----------
        y, scores : ndarray, shape (n_rows,)
            Targets and the model's scores.
        threshold : float, optional
            Where decisions are cut; without it the metrics of decisions are left out.

        Returns
        -------
        dict of float
            By the metrics' names, the headline among them.
        """

    def decision_metrics(self, y: Vector, scores: Vector, threshold: float) -> Metrics:
        """The metrics that depend on a threshold.

        Parameters
        ----------
        y, scores : ndarray, shape (n_rows,)
            Targets and the model's scores.
        threshold : float
            Where decisions are cut.

        Returns
        -------
        dict of float
            By the metrics' names; empty where nothing is decided.
        """
        return {}

    @abstractmethod
    def folds(self, y: Vector, splits: int, repeats: int, seed: int) -> list[Fold]:
        """Folds of repeated cross-validation.

        Parameters
        ----------
        y : ndarray, shape (n_rows,)
        splits : int
            Folds of one repeat, which together judge each row once.
        repeats : int
            How often the rows are dealt out anew.
        seed : int
            Seed of the dealing.

        Returns
        -------
        list of (ndarray, ndarray)
            Row numbers to fit on and to judge by: `splits` times `repeats` folds, repeat after repeat.
        """

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of all metrics, those of decisions among them."""
        return tuple(self.metrics(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0.5))

    @abstractmethod
    def target_problem(self, target: Target) -> str | None:
        """Why it cannot predict a target; None when it can."""

    @abstractmethod
    def check_parts(self, train: Vector, hold_out: Vector, splits: int) -> None:
        """Refuse parts that are too small to be tuned on and judged by.

        Parameters
        ----------
        train, hold_out : ndarray, shape (n_rows,)
            Targets of the training part and of the hold-out.
        splits : int
            Folds of one repeat of cross-validation.

        Raises
        ------
        TooFewRowsError
            With the part that is too small.
        """

    @abstractmethod
    def thresholds(self, y: Vector, out_of_fold: Matrix) -> dict[str, float]:
        """Choose thresholds from out-of-fold scores.

        Parameters
        ----------
        y : ndarray, shape (n_rows,)
        out_of_fold : ndarray, shape (n_repeats, n_rows)
            The score of each row by a model that did not see it, once for each repeat.

        Returns
        -------
        dict of float
            By how they were chosen; the first is the one to decide by, and none means that nothing is decided.
        """


def check_number(part: str, found: int, needed: int, of: str = "") -> None:
    """Raise TooFewRowsError for a part with too few rows, perhaps `of` some class."""
    if found < needed:
        raise TooFewRowsError(_PART_NAMES[part], found, needed, of)
