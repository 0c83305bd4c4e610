"""Two classes: the prediction is a probability, and a threshold chosen by costs makes the decision."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tabserve.aliases import Matrix, Predictions, Vector
from tabserve.columns.kinds import check_kinds, fits
from tabserve.errors import InvalidUseCaseError
from tabserve.evaluation.calibration import Calibration, calibration
from tabserve.evaluation.metrics import SMALLEST_PROBABILITY, Confusion, Counts, Measure, Metrics, Ranking, Scorer
from tabserve.models.base import Classifier
from tabserve.tasks.base import AnswerPart, Explained, pooled, probability_problem
from tabserve.tasks.classes import ClassTask, given
from tabserve.tasks.decision import Decision
from tabserve.transformers import Target

LARGEST_COST = 1e30  # those of many rows, added up, are still a number


@dataclass(frozen=True)
class CostMatrix:
    """What a wrong decision costs; a right one costs nothing.

    Parameters
    ----------
    missed : float
        A 1 that was taken for a 0.
    false_alarm : float
        A 0 that was taken for a 1.

    Raises
    ------
    InvalidUseCaseError
        When a cost is not a number from 0 to 1e30, or when both are 0: then no threshold is cheaper than another.
    """

    missed: float
    false_alarm: float

    def __post_init__(self) -> None:
        costs = (self.missed, self.false_alarm)
        if not fits(costs, tuple[float, ...]) or min(costs) < 0 or max(costs) > LARGEST_COST or not any(costs):
            raise InvalidUseCaseError("The costs of mistakes must be numbers from 0 to 1e30, and not both 0.")

    def expected(self, y: Vector, decisions: Vector) -> float:
        """Mean cost of a row.

        Parameters
        ----------
        y, decisions : ndarray of 0 and 1, shape (n_rows,)

        Returns
        -------
        float
            In the unit of the two costs.
        """
        return self.of(Confusion(y, decisions, 2).table())

    def of(self, table: Matrix) -> float:
        """Mean cost of a row of a confusion matrix."""
        return float((self.missed * table[1, 0] + self.false_alarm * table[0, 1]) / table.sum())

    def cheapest_threshold(self, y: Vector, probabilities: Vector) -> float:
        """The threshold with the smallest cost on the given rows.

        Between two neighbouring probabilities every threshold costs the same; the middle is taken.

        Parameters
        ----------
        y : ndarray of 0 and 1, shape (n_rows,)
        probabilities : ndarray, shape (n_rows,)

        Returns
        -------
        float
            From 0 to just above 1; a probability that reaches it is taken for a 1.
        """
        order = np.argsort(probabilities, kind="stable")
        ascending, labels = probabilities[order], y[order]
        # cost when the k lowest are taken for 0 and the rest for 1, for k = 0 ... n_rows
        cost = np.concatenate([[0.0], np.cumsum(self.missed * labels)]) + self.false_alarm * (
            np.sum(labels == 0) - np.concatenate([[0.0], np.cumsum(labels == 0)])
        )
        edges = np.concatenate([[0.0], ascending, [np.nextafter(1.0, 2.0)]])  # above a probability of 1, too
        cost[1:-1][ascending[1:] == ascending[:-1]] = np.inf  # no threshold separates equal ones
        best = int(np.argmin(cost))
        middle = (edges[best] + edges[best + 1]) / 2
        # when no float lies between the two, the upper one separates them
        return float(middle if middle > edges[best] else edges[best + 1])


@dataclass(frozen=True)
class Threshold(Decision):
    """The cut: a probability that reaches it is taken for a 1.

    Parameters
    ----------
    value : float
        From 0 to just above 1.
    chosen_by : str
        How it was chosen: the name of one of the alternatives.
    alternatives : mapping of float
        All thresholds that were considered, by how they are chosen.
    """

    value: float
    chosen_by: str = ""
    alternatives: Mapping[str, float] = field(default_factory=dict)

    @property
    def cut(self) -> float:
        return self.value

    def decide(self, predictions: Predictions) -> Vector:
        """1 from the threshold on, else 0."""
        return (predictions >= self.value).astype(np.float64)


@dataclass(frozen=True)
class Binary(ClassTask):
    """Two classes.

    Parameters
    ----------
    cost : CostMatrix
        What the threshold minimises.
    outcomes : tuple of (str, str)
        The names of the classes 0 and 1: people see a decision as one of these.
    """

    cost: CostMatrix
    outcomes: tuple[str, str] = ("0", "1")
    kind = "binary"
    headline = "roc_auc"
    report_module = "tabserve.tasks.binary_report"
    kind_of_model = Classifier
    compares_groups = True
    answer_score = AnswerPart(
        "auc_score",
        {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "ROC AUC of the probabilities; null when all outcomes are the same",
    )

    def __post_init__(self) -> None:
        check_kinds(self)

    def target_problem(self, target: Target) -> str | None:
        """Its codes must be 0 and 1, and no others."""
        if target.codes() != {0.0, 1.0}:
            return (
                f"a classification needs the two classes 0 and 1, but the target '{target.feature.name}' gives "
                f"{given(target)}."
            )
        return None if len(set(self.outcomes)) == 2 else "a classification needs two outcomes with different names."

    def prediction_problem(self, predictions: Any, n_rows: int) -> str | None:
        return super().prediction_problem(predictions, n_rows) or probability_problem(predictions)

    def scorer(self, y: Vector, predictions: Predictions) -> Scorer:
        ranking = Ranking(y, predictions)
        return lambda counts: ranking.tally(counts).roc_auc()

    def measure(self, y: Vector, predictions: Predictions, decision: Decision) -> Measure:
        ranking, decided = Ranking(y, predictions), Confusion(y, decision.decide(predictions), 2)
        clipped = np.clip(predictions, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        squares = (predictions - y) ** 2
        losses = -(y * np.log(clipped) + (1 - y) * np.log(1 - clipped))

        def metrics(counts: Counts) -> Metrics:
            tally = ranking.tally(counts)
            auc = tally.roc_auc()
            return {
                "roc_auc": auc,
                "gini": 2 * auc - 1,
                "pr_auc": tally.average_precision(),
                "ks": tally.kolmogorov_smirnov(),
                "brier": float(np.average(squares, weights=counts)),
                "log_loss": float(np.average(losses, weights=counts)),
                **self._of_decisions(decided.table(counts)),
            }

        return metrics

    def decision_metrics(self, y: Vector, decisions: Vector) -> Metrics:
        """The metrics of decisions; precision, recall and F1 are those of class 1, and 0 where undefined.

        Parameters
        ----------
        y, decisions : ndarray of 0 and 1, shape (n_rows,)

        Returns
        -------
        dict of float
        """
        return self._of_decisions(Confusion(y, decisions, 2).table())

    def _of_decisions(self, table: Matrix) -> Metrics:
        (_, false_alarms), (missed, hits) = table.tolist()
        precision = hits / max(hits + false_alarms, 1.0)
        recall = hits / max(hits + missed, 1.0)
        return {
            "accuracy": float(table.trace() / table.sum()),
            "precision": precision,
            "recall": recall,
            "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
            "expected_cost": self.cost.of(table),
        }

    def calibration(self, y: Vector, predictions: Predictions) -> Calibration:
        return calibration(y, predictions)

    def estimated(self, predictions: Predictions, decision: Decision) -> Metrics:
        """AUC and cost if each row has outcome 1 with its own probability.

        As in confidence-based performance estimation (NannyML 2022; Garg et al. 2022, Leveraging unlabeled data to
        predict out-of-distribution performance): a row counts as p of a 1 and as 1 - p of a 0. The cost is the mean of
        `missed` p where a 0 was decided and `false_alarm` (1 - p) where a 1 was; the AUC is the share, among pairs of
        two rows, of p_i (1 - p_j) with p_i > p_j, ties counting half.
        """
        p = np.sort(predictions)
        decided = decision.decide(p)
        cost = np.mean(np.where(decided == 1, self.cost.false_alarm * (1 - p), self.cost.missed * p))
        _, first, places, counts = np.unique(p, return_index=True, return_inverse=True, return_counts=True)
        zeros = np.concatenate([[0.0], np.cumsum(1 - p)])
        below, up_to = zeros[first][places], zeros[first + counts][places]
        own = p * (1 - p)  # a row is no pair with itself
        pairs = float(np.sum(p * zeros[-1] - own))
        ranked = float(np.sum(p * (below + up_to) / 2 - own / 2))
        return {"roc_auc": ranked / pairs if pairs > 0 else math.nan, "expected_cost": float(cost)}

    @property
    def metric_names(self) -> tuple[str, ...]:
        return tuple(self.metrics(np.array([0.0, 1.0]), np.array([0.0, 1.0]), Threshold(0.5)))

    def decide(self, y: Vector, out_of_fold: Predictions) -> Threshold:
        """Choose the cheapest threshold; the alternatives are 0.5 and the ROC-balanced one.

        The ROC-balanced threshold is the one with the largest true-positive rate minus false-positive rate.
        """
        repeated, probabilities = pooled(y, out_of_fold)
        balanced = CostMatrix(missed=1 / float(np.sum(repeated)), false_alarm=1 / float(np.sum(repeated == 0)))
        alternatives = {
            "cost": self.cost.cheapest_threshold(repeated, probabilities),
            "half": 0.5,
            "roc_balanced": balanced.cheapest_threshold(repeated, probabilities),
        }
        return Threshold(alternatives["cost"], "cost", alternatives)

    def thresholds(self, decision: Decision, rows: Mapping[str, tuple[Vector, Predictions]]) -> dict[str, Any]:
        chosen = threshold_of(decision)

        def outcome(value: float) -> dict[str, Any]:
            cut = Threshold(value)
            found = {part: self.decision_metrics(y, cut.decide(predicted)) for part, (y, predicted) in rows.items()}
            return {"threshold": value, **found}

        return {
            "threshold": chosen.value,
            "threshold_choice": chosen.chosen_by,
            "thresholds": {name: outcome(value) for name, value in chosen.alternatives.items()},
        }

    @property
    def table_columns(self) -> tuple[str, ...]:
        return ("result", "outcome", "probability")

    def as_table(self, answer: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
        """Beside the 0 or 1, `outcome` says it in words."""
        words = [None if result is None else self.outcomes[result] for result in answer["result"]]
        return {"result": answer["result"], "outcome": words, "probability": answer["probability"]}

    def table_arrays(self, predictions: Predictions, decision: Decision) -> Mapping[str, Any]:
        results = decision.decide(predictions).astype(np.int64)
        words = np.array(self.outcomes, dtype=np.object_)[results]
        return {"result": results, "outcome": words, "probability": predictions}

    @property
    def answer_parts(self) -> tuple[AnswerPart, ...]:
        return (
            AnswerPart("result", {"type": "integer", "enum": [0, 1]}, "the decision, 0 or 1"),
            AnswerPart("probability", {"type": "number", "minimum": 0, "maximum": 1}, "the probability of a 1"),
        )

    def answer(self, predictions: Predictions, decision: Decision) -> dict[str, list[Any]]:
        """The decisions (0 or 1) as `result`, the probabilities of a 1 as `probability`."""
        results = predictions >= threshold_of(decision).value
        return {"result": results.view(np.int8).tolist(), "probability": predictions.tolist()}

    def explained(self, predictions: Predictions, contributions: Predictions, decision: Decision) -> Explained:
        """What raises the probability speaks for a 1, and against a 0."""
        return Explained(predictions, contributions, 2 * decision.decide(predictions) - 1)


def threshold_of(decision: Decision) -> Threshold:
    """A binary task's decision, with its own type."""
    assert isinstance(decision, Threshold)
    return decision
