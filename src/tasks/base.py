"""Task: what every kind of prediction looks like to the rest of the project.

A task owns what differs between kinds: which target it can predict, how large parts must be and how they are folded,
the metrics, the decision, the answer and what is said about it to people. A new kind of prediction is one module here.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Matrix, Predictions, Vector
from tabserve.errors import TooFewRowsError
from tabserve.evaluation.calibration import Calibration
from tabserve.evaluation.metrics import HOLD_OUT, TRAIN, Measure, Metrics, Scorer
from tabserve.models.base import Fold, Model
from tabserve.tasks.dealing import are_distinct, grouped_folds
from tabserve.tasks.decision import Decision
from tabserve.tasks.results import Results
from tabserve.transformers import Target

if TYPE_CHECKING:
    from tabserve.charts.parts import Section

# The fewest rows of the training part and of the hold-out, of each class or in a regression: with fewer, neither a
# fold's metrics nor the hold-out's mean anything.
SMALLEST_CLASS = {TRAIN: 10, HOLD_OUT: 5}
SMALLEST_PART = {TRAIN: 30, HOLD_OUT: 10}

_PART_NAMES = {TRAIN: "training part", HOLD_OUT: "hold-out"}


@dataclass(frozen=True)
class AnswerPart:
    """A part of the answer to a record, or to records whose outcome is known.

    Parameters
    ----------
    name : str
        Its key in JSON.
    schema : mapping
        The value as JSON Schema.
    description : str
        What it means, as a phrase.
    """

    name: str
    schema: Mapping[str, Any]
    description: str


class Explained(NamedTuple):
    """The side of each row's prediction that an explanation is about.

    Parameters
    ----------
    predictions : ndarray, shape (n_rows,)
        The number that is explained.
    contributions : ndarray, shape (n_rows, n_columns + 1)
        What each column added to its raw score, and the base value.
    signs : ndarray of 1 and -1, shape (n_rows,)
        Whether what raises the raw score speaks for the result, or against it.
    """

    predictions: Vector
    contributions: Matrix
    signs: Vector


class Task(ABC):
    """What kind of prediction a use case makes, and so how it is measured and decided.

    Attributes
    ----------
    kind : str
        The name by which the page tells tasks apart.
    headline : str
        The metric that models are chosen by; higher is better.
    kind_of_model : type
        The base class of its models.
    has_direction : bool
        Whether a prediction can rise and fall, so that a column can be monotone.
    compares_groups : bool
        Whether groups of people can be compared by its decisions, 0 being the favourable one.
    report_module : str
        The module with its part of the report.
    answer_score : AnswerPart
        The headline metric in the answer to records whose outcome is known.
    outcomes : tuple of str
        What the classes are called, in the order of their codes; empty where a number is predicted.
    """

    kind: ClassVar[str]
    headline: ClassVar[str]
    kind_of_model: ClassVar[type[Model]]
    has_direction: ClassVar[bool] = True
    compares_groups: ClassVar[bool] = False
    report_module: ClassVar[str]
    answer_score: ClassVar[AnswerPart]
    outcomes: tuple[str, ...] = ()

    # the target

    @abstractmethod
    def target_problem(self, target: Target) -> str | None:
        """Why this task cannot predict a target; None when it can."""

    @abstractmethod
    def check_parts(self, train: Vector, hold_out: Vector, splits: int) -> None:
        """Refuse parts that are too small to tune on and to judge by.

        Parameters
        ----------
        train, hold_out : ndarray, shape (n_rows,)
            Targets of the training part and of the hold-out.
        splits : int
            Folds of one repeat of cross-validation.

        Raises
        ------
        TooFewRowsError
            For a part that is too small.
        """

    def prepared(self, model: Model) -> Model:
        """An unfitted model, as this task fits it."""
        return model

    def predicts_like(self, other: "Task") -> bool:
        """Whether the predictions of another task's model can be measured by this one."""
        return self.kind == other.kind

    @abstractmethod
    def varies(self, y: Vector) -> bool:
        """Whether a model can be fitted to these targets, and every metric is defined for them."""

    def can_be_judged_by(self, y: Vector) -> bool:
        """Whether every metric is defined for these targets."""
        return self.varies(y)

    @abstractmethod
    def few(self, y: Vector, most: int) -> npt.NDArray[np.intp]:
        """Row numbers, ascending, of about `most` rows or fewer whose targets still vary if all do."""

    def folds(
        self, y: Vector, splits: int, repeats: int, seed: int, groups: npt.NDArray[np.uint64] | None = None
    ) -> list[Fold]:
        """Folds of repeated cross-validation, with the same share of each class.

        Parameters
        ----------
        y : ndarray, shape (n_rows,)
        splits : int
            Folds of one repeat, which together judge each row once.
        repeats : int
            How often the rows are dealt out.
        seed : int
            Seed of the dealing.
        groups : ndarray, shape (n_rows,), optional
            Equal for rows that must be in the same fold; by default none must.

        Returns
        -------
        list of (ndarray, ndarray)
            Row numbers to fit on and to judge by: `splits` times `repeats` folds, repeat after repeat.
        """
        if groups is None or are_distinct(groups):
            return self._folds(y, splits, repeats, seed)
        return list(grouped_folds(self._strata(y), groups, splits, repeats, seed))

    @abstractmethod
    def _folds(self, y: Vector, splits: int, repeats: int, seed: int) -> list[Fold]:
        """Folds of rows none of which belong together."""

    @abstractmethod
    def _strata(self, y: Vector) -> Vector:
        """What each fold should have the same share of, such as the class of each row."""

    # predictions and metrics

    def prediction_problem(self, predictions: Any, n_rows: int) -> str | None:
        """Why a model's predictions cannot be used; None when they can.

        Parameters
        ----------
        predictions : object
            Whatever the model gave.
        n_rows : int
            How many rows it was asked to predict.

        Returns
        -------
        str or None
        """
        expected = (n_rows, *self._shape_of_one)
        if not isinstance(predictions, np.ndarray) or predictions.shape != expected or predictions.dtype.kind != "f":
            return f"its predictions are not an array of floats of the shape {expected}"
        if not np.isfinite(predictions).all():
            return "its predictions are not finite"
        return None

    @property
    def _shape_of_one(self) -> tuple[int, ...]:
        """The shape of a single prediction."""
        return ()

    @abstractmethod
    def scorer(self, y: Vector, predictions: Predictions) -> Scorer:
        """The headline metric of the given rows, as a function of how often each of them counts."""

    def metric(self, y: Vector, predictions: Predictions) -> float:
        """The headline metric of targets and predictions."""
        return self.scorer(y, predictions)(None)

    @abstractmethod
    def measure(self, y: Vector, predictions: Predictions, decision: Decision) -> Measure:
        """All metrics of the given rows, as a function of how often each of them counts.

        Parameters
        ----------
        y : ndarray, shape (n_rows,)
            Targets.
        predictions : ndarray, shape (n_rows,) or (n_rows, n_classes)
        decision : Decision
            What this task decided on.

        Returns
        -------
        callable
        """

    def metrics(self, y: Vector, predictions: Predictions, decision: Decision) -> Metrics:
        """All metrics of the given rows.

        Parameters
        ----------
        y : ndarray, shape (n_rows,)
            Targets.
        predictions : ndarray, shape (n_rows,) or (n_rows, n_classes)
        decision : Decision
            What this task decided on.

        Returns
        -------
        dict of float
            By the metrics' names, the headline included.
        """
        return self.measure(y, predictions, decision)(None)

    def calibration(self, y: Vector, predictions: Predictions) -> Calibration | None:
        """How far predictions are from the outcomes; None where they are not the probability of one of two classes."""
        return None

    def estimated(self, predictions: Predictions, decision: Decision) -> Metrics:
        """The metrics that are expected of predictions before any outcome is known; empty where none can be.

        Parameters
        ----------
        predictions : ndarray, shape (n_rows,) or (n_rows, n_classes)
            They must be calibrated.
        decision : Decision
            What this task decided on.

        Returns
        -------
        dict of float
        """
        return {}

    @property
    @abstractmethod
    def metric_names(self) -> tuple[str, ...]:
        """The names of all metrics."""

    # the decision

    @abstractmethod
    def decide(self, y: Vector, out_of_fold: Predictions) -> Decision:
        """Choose how results follow from predictions.

        Parameters
        ----------
        y : ndarray, shape (n_rows,)
        out_of_fold : ndarray, shape (n_repeats, n_rows) or (n_repeats, n_rows, n_classes)
            The prediction of each row by a model that did not see it, once for each repeat; NaN where there is none.

        Returns
        -------
        Decision
        """

    def thresholds(self, decision: Decision, rows: Mapping[str, tuple[Vector, Predictions]]) -> dict[str, Any]:
        """For the manifest: the decision's threshold, how it was chosen, and what each alternative leads to.

        Parameters
        ----------
        decision : Decision
            What this task decided on.
        rows : mapping of (ndarray, ndarray)
            Targets and predictions by part.

        Returns
        -------
        dict
            `threshold`, `threshold_choice` and `thresholds`: None or empty for a task without thresholds.
        """
        return {"threshold": None, "threshold_choice": None, "thresholds": {}}

    # the answer

    @property
    @abstractmethod
    def answer_parts(self) -> tuple[AnswerPart, ...]:
        """What `answer` gives: `result` and whatever goes with it."""

    @abstractmethod
    def answer(self, predictions: Predictions, decision: Decision) -> dict[str, list[Any]]:
        """Turn predictions into an answer.

        Parameters
        ----------
        predictions : ndarray, shape (n_rows,) or (n_rows, n_classes)
        decision : Decision
            What this task decided on.

        Returns
        -------
        dict of list
            The answer's columns by the names in `answer_parts`; each has one plain value for each row.
        """

    @property
    def table_columns(self) -> tuple[str, ...]:
        """The columns that an answer adds to a table."""
        return tuple(part.name for part in self.answer_parts)

    def as_table(self, answer: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
        """An answer as the columns that it adds to a table, `table_columns`.

        Parameters
        ----------
        answer : mapping of sequence
            As from `answer`; None stands for a row without one.

        Returns
        -------
        mapping of sequence
        """
        return answer

    def table_arrays(self, predictions: Predictions, decision: Decision) -> Mapping[str, Any]:
        """What `as_table` gives for the answer to many rows, without a Python object for each where that is possible.

        Parameters
        ----------
        predictions : ndarray, shape (n_rows,) or (n_rows, n_classes)
        decision : Decision
            What this task decided on.

        Returns
        -------
        mapping of ndarray or sequence
            The n_rows values of each of `table_columns`.
        """
        return self.as_table(self.answer(predictions, decision))

    # words

    def explained(self, predictions: Predictions, contributions: Predictions, decision: Decision) -> Explained:
        """The side of each prediction that explains the result.

        Parameters
        ----------
        predictions : ndarray, shape (n_rows,) or (n_rows, n_classes)
        contributions : ndarray, shape (n_rows, n_columns + 1) or (n_rows, n_classes, n_columns + 1)
            As from the model.
        decision : Decision
            What this task decided on.

        Returns
        -------
        Explained
        """
        return Explained(predictions, contributions, np.ones(len(predictions)))

    def report(self, results: Results) -> "tuple[list[str], list[Section]]":
        """What a report says about a model of this task: the `summary` and `sections` of its `report_module`.

        Parameters
        ----------
        results : Results
            What the model gave for the hold-out, and how good that is.

        Returns
        -------
        summary : list of str
            The model's quality in sentences.
        sections : list of Section
        """
        module = import_module(self.report_module)  # with what draws, which nothing else needs
        return module.summary(self, results), module.sections(self, results)


def check_number(part: str, found: int, needed: int, of: str = "") -> None:
    """Raise TooFewRowsError for a part with too few rows, or too few `of` a class."""
    if found < needed:
        raise TooFewRowsError(_PART_NAMES[part], found, needed, of)


def probability_problem(probabilities: Predictions) -> str | None:
    """Why numbers cannot be probabilities; None when they can."""
    if ((probabilities >= 0) & (probabilities <= 1)).all():
        return None
    return "its predictions are not probabilities: they must lie between 0 and 1"


def pooled(y: Vector, out_of_fold: Predictions) -> tuple[Vector, Predictions]:
    """Targets and predictions of all repeats, one after the other; rows without a prediction are left out.

    They are not averaged: the mean of several models spreads less than the one model that will serve.

    Parameters
    ----------
    y : ndarray, shape (n_rows,)
    out_of_fold : ndarray, shape (n_repeats, n_rows) or (n_repeats, n_rows, n_classes)

    Returns
    -------
    tuple of (ndarray, ndarray)
        n_repeats * n_rows of each, where every row was judged.
    """
    predictions = out_of_fold.reshape(-1, *out_of_fold.shape[2:])
    judged = ~np.isnan(predictions).reshape(len(predictions), -1).any(axis=1)
    return np.tile(y, len(out_of_fold))[judged], predictions[judged]
