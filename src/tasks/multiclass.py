"""Several classes: the prediction is a probability for each, and the most probable one is the result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabserve.aliases import Predictions, Vector
from tabserve.columns.features import Category
from tabserve.columns.kinds import check_kinds
from tabserve.evaluation.metrics import (
    HOLD_OUT,
    TRAIN,
    Confusion,
    Counts,
    Measure,
    Metrics,
    Scorer,
    class_metrics,
    log_losses,
    mean_roc_auc,
    one_vs_rest,
)
from tabserve.models.base import MulticlassClassifier
from tabserve.tasks.base import SMALLEST_PART, AnswerPart, Explained, Task, check_number, probability_problem
from tabserve.tasks.classes import ClassTask, given
from tabserve.tasks.decision import Decision
from tabserve.transformers import RemapTarget, Target

FEWEST_OF_A_CLASS = 2  # rows of the training part: one to fit on, whichever fold the other judges


@dataclass(frozen=True)
class MostProbable(Decision):
    """The class with the largest probability, the first of equals."""

    def decide(self, predictions: Predictions) -> Vector:
        """Its code."""
        codes: Vector = np.argmax(predictions, axis=1).astype(np.float64)
        return codes


@dataclass(frozen=True)
class Multiclass(ClassTask):
    """Three classes or more.

    The headline metric is the one-vs-rest AUC, the mean over the classes. It counts a rare class as much as a common
    one, as balanced accuracy and macro F1 do, and it moves with every probability: on a few hundred rows many trials
    have the same accuracy.

    Parameters
    ----------
    outcomes : tuple of str
        The classes' labels, in the order of the target's codes; a result is one of them.
    """

    outcomes: tuple[str, ...]
    kind = "multiclass"
    headline = "roc_auc_ovr"
    report_module = "tabserve.tasks.multiclass_report"
    kind_of_model = MulticlassClassifier
    has_direction = False  # what raises the probability of one label lowers others
    answer_score = AnswerPart(
        "auc_ovr_score",
        {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "Mean ROC AUC of each label that occurs against the rest; null when all outcomes are the same",
    )

    def __post_init__(self) -> None:
        check_kinds(self)

    def predicts_like(self, other: Task) -> bool:
        """The classes must be the same, in the same order."""
        return super().predicts_like(other) and other.outcomes == self.outcomes

    def target_problem(self, target: Target) -> str | None:
        """Its codes must be 0, 1, 2 and so on, one for each outcome, and no others."""
        outcomes, feature = tuple(self.outcomes), target.feature
        if len(outcomes) < 3 or len(set(outcomes)) < len(outcomes) or not all(outcomes):
            return "a multiclass classification needs three outcomes or more, with different names."
        if target.codes() != {float(code) for code in range(len(outcomes))}:
            return (
                f"the {len(outcomes)} outcomes need the classes 0 to {len(outcomes) - 1}, but the target "
                f"'{feature.name}' gives {given(target)}."
            )
        if isinstance(target, RemapTarget):
            return self._label_problem(target)
        if isinstance(feature, Category) and tuple(feature.values) != outcomes:
            return f"the outcomes must be the values of the target '{feature.name}', in their order."
        return None

    def _label_problem(self, target: RemapTarget) -> str | None:
        """A label may be called otherwise, but not as the outcome of other labels is."""
        for label, code in target.classes.items():
            if label in self.outcomes and label != self.outcomes[code]:
                return (
                    f"the class of the label '{label}' of the target '{target.feature.name}' is {code}, and that is "
                    f"the outcome '{self.outcomes[code]}'."
                )
        return None

    def check_parts(self, train: Vector, hold_out: Vector, splits: int) -> None:
        """Rare classes are no reason to refuse a table: each needs rows for two folds, so that every model sees it."""
        check_number(TRAIN, len(train), max(SMALLEST_PART[TRAIN], 2 * splits))
        check_number(HOLD_OUT, len(hold_out), SMALLEST_PART[HOLD_OUT])
        for code, outcome in enumerate(self.outcomes):
            check_number(TRAIN, int(np.sum(train == code)), FEWEST_OF_A_CLASS, f" of '{outcome}'")

    def can_be_judged_by(self, y: Vector) -> bool:
        """Whether there are rows of two classes: those without rows are left out of the means."""
        return len(np.unique(y)) > 1

    def prediction_problem(self, predictions: Any, n_rows: int) -> str | None:
        problem = super().prediction_problem(predictions, n_rows) or probability_problem(predictions)
        if problem is None and not np.allclose(predictions.sum(axis=1), 1.0):
            return "its predictions are not probabilities: those of a row must add up to 1"
        return problem

    @property
    def _shape_of_one(self) -> tuple[int, ...]:
        return (len(self.outcomes),)

    def scorer(self, y: Vector, predictions: Predictions) -> Scorer:
        rankings = one_vs_rest(y, predictions)
        return lambda counts: mean_roc_auc(ranking.tally(counts) for ranking in rankings)

    def measure(self, y: Vector, predictions: Predictions, decision: Decision) -> Measure:
        """All metrics of the given rows; a class without rows has no AUC and no recall: means leave it out."""
        headline, losses = self.scorer(y, predictions), log_losses(y, predictions)
        decided = Confusion(y, decision.decide(predictions), len(self.outcomes))

        def metrics(counts: Counts) -> Metrics:
            table = decided.table(counts)
            of_each = class_metrics(table)
            return {
                "roc_auc_ovr": headline(counts),
                "log_loss": float(np.average(losses, weights=counts)),
                "accuracy": float(table.trace() / table.sum()),
                "balanced_accuracy": float(np.nanmean(of_each["recall"])),
                "macro_f1": float(np.nanmean(of_each["f1"])),
            }

        return metrics

    @property
    def metric_names(self) -> tuple[str, ...]:
        size = len(self.outcomes)
        return tuple(self.metrics(np.arange(size, dtype=np.float64), np.eye(size), MostProbable()))

    def decide(self, y: Vector, out_of_fold: Predictions) -> MostProbable:
        """The most probable class, whatever the rows: nothing is chosen."""
        return MostProbable()

    @property
    def answer_parts(self) -> tuple[AnswerPart, ...]:
        outcomes = list(self.outcomes)
        probability = {
            "type": "object",
            "properties": {outcome: {"type": "number", "minimum": 0, "maximum": 1} for outcome in outcomes},
            "required": outcomes,
            "additionalProperties": False,
        }
        return (
            AnswerPart("result", {"type": "string", "enum": outcomes}, "the most probable label"),
            AnswerPart("probability", probability, "the probability of each label"),
        )

    def answer(self, predictions: Predictions, decision: Decision) -> dict[str, list[Any]]:
        """The labels as `result`, an object by label as `probability`."""
        return {
            "result": [self.outcomes[code] for code in decision.decide(predictions).astype(np.intp).tolist()],
            "probability": [dict(zip(self.outcomes, row, strict=True)) for row in predictions.tolist()],
        }

    @property
    def table_columns(self) -> tuple[str, ...]:
        return ("result", *map(_column, self.outcomes))

    def as_table(self, answer: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
        """`probability` becomes a column for each label."""
        probability = answer["probability"]
        columns = {_column(label): [row and row[label] for row in probability] for label in self.outcomes}
        return {"result": answer["result"], **columns}

    def explained(self, predictions: Predictions, contributions: Predictions, decision: Decision) -> Explained:
        """The result's own probability and raw score: what raises them speaks for it."""
        rows, results = np.arange(len(predictions)), decision.decide(predictions).astype(np.intp)
        return Explained(predictions[rows, results], contributions[rows, results], np.ones(len(predictions)))


def _column(label: str) -> str:
    return f"probability_{label}"
