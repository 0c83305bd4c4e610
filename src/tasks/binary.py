"""Two classes: the score is a probability, and a threshold chosen by costs makes the decision."""

from dataclasses import dataclass

import numpy as np
from tabserve.aliases import Matrix, Metric, Vector
from tabserve.columns.kinds import check_kinds, fits
from tabserve.errors import InvalidUseCaseError
from tabserve.evaluation.metrics import HOLD_OUT, TRAIN, Metrics, average_precision, kolmogorov_smirnov, roc_auc
from tabserve.models.base import Classifier, Fold
from tabserve.tasks.base import SMALLEST_CLASS, Task, check_number
from tabserve.transformers import Target

_SMALLEST_PROBABILITY = 1e-15  # where a logarithm is cut off


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
        When a cost is no finite number, or below 0, or both are 0: no threshold is then cheaper than another.
    """

    missed: float
    false_alarm: float

    def __post_init__(self) -> None:
        costs = (self.missed, self.false_alarm)
        if not fits(costs, tuple[float, ...]) or min(costs) < 0 or not any(costs):
            raise InvalidUseCaseError("The costs of mistakes must be finite numbers of 0 or more, and not both 0.")

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
        return float(np.mean(np.where(y == 1, self.missed * (decisions == 0), self.false_alarm * (decisions == 1))))

    def cheapest_threshold(self, y: Vector, scores: Vector) -> float:
        """The threshold with the smallest cost on the given rows.

        Between two neighbouring scores every threshold costs the same; the middle is taken.

        Parameters
        ----------
        y : ndarray of 0 and 1, shape (n_rows,)
        scores : ndarray of probabilities, shape (n_rows,)

        Returns
        -------
        float
            From 0 to just above 1; a score that reaches it is taken for a 1.
        """
        order = np.argsort(scores, kind="stable")
        ascending, labels = scores[order], y[order]
        # cost when the k lowest scores are taken for 0 and the rest for 1, for k = 0 ... n_rows
        cost = np.concatenate([[0.0], np.cumsum(self.missed * labels)]) + self.false_alarm * (
            np.sum(labels == 0) - np.concatenate([[0.0], np.cumsum(labels == 0)])
        )
        edges = np.concatenate([[0.0], ascending, [np.nextafter(1.0, 2.0)]])  # above a score of 1, too
        cost[1:-1][ascending[1:] == ascending[:-1]] = np.inf  # equal scores cannot be parted
        best = int(np.argmin(cost))
        middle = (edges[best] + edges[best + 1]) / 2
        # between scores too close for floats to have a middle, the upper one parts them
        return float(middle if middle > edges[best] else edges[best + 1])


@dataclass(frozen=True)
class Classification(Task):
    """Two classes.

    Parameters
    ----------
    cost : CostMatrix
        What the threshold minimises.
    outcomes : tuple of (str, str)
        What the classes 0 and 1 are to people: a decision is shown as one of these.
    """

    cost: CostMatrix
    outcomes: tuple[str, str] = ("0", "1")
    headline = "roc_auc"
    kind_of_model = Classifier
    decides = True
    answer_name = "auc_score"

    def __post_init__(self) -> None:
        check_kinds(self)

    @property
    def metric(self) -> Metric:
        return roc_auc

    def metrics(self, y: Vector, scores: Vector, threshold: float | None = None) -> Metrics:
        clipped = np.clip(scores, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
        auc = roc_auc(y, scores)
        values = {
            "roc_auc": auc,
            "gini": 2 * auc - 1,
            "pr_auc": average_precision(y, scores),
            "ks": kolmogorov_smirnov(y, scores),
            "brier": float(np.mean((scores - y) ** 2)),
            "log_loss": float(-np.mean(y * np.log(clipped) + (1 - y) * np.log(1 - clipped))),
        }
        return values if threshold is None else {**values, **self.decision_metrics(y, scores, threshold)}

    def decision_metrics(self, y: Vector, scores: Vector, threshold: float) -> Metrics:
        """The metrics that depend on a threshold; precision, recall and F1 are of class 1, 0 where undefined."""
        decisions = (scores >= threshold).astype(np.float64)
        hits = float(np.sum(decisions * y))
        precision = hits / max(float(np.sum(decisions)), 1.0)
        recall = hits / max(float(np.sum(y)), 1.0)
        return {
            "accuracy": float(np.mean(decisions == y)),
            "precision": precision,
            "recall": recall,
            "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
            "expected_cost": self.cost.expected(y, decisions),
        }

    def folds(self, y: Vector, splits: int, repeats: int, seed: int) -> list[Fold]:
        from sklearn.model_selection import RepeatedStratifiedKFold

        return list(RepeatedStratifiedKFold(n_splits=splits, n_repeats=repeats, random_state=seed).split(y, y))

    def target_problem(self, target: Target) -> str | None:
        """It must give 0 and 1, and nothing else."""
        codes = target.codes()
        if codes != {0.0, 1.0}:
            given = "any number" if codes is None else f"{len(codes)} class(es)"
            return (
                f"a classification has the two classes 0 and 1, and the target '{target.feature.name}' gives {given}."
            )
        return None if len(set(self.outcomes)) == 2 else "a classification has two outcomes, with different names."

    def check_parts(self, train: Vector, hold_out: Vector, splits: int) -> None:
        """Each fold must judge by a row of each class."""
        for part, y, least in ((TRAIN, train, splits), (HOLD_OUT, hold_out, 0)):
            for label, outcome in enumerate(self.outcomes):
                check_number(part, int(np.sum(y == label)), max(SMALLEST_CLASS[part], least), f" of '{outcome}'")

    def thresholds(self, y: Vector, out_of_fold: Matrix) -> dict[str, float]:
        """The cheapest, 0.5, and the ROC-balanced one, where true-positive rate less false-positive rate is largest.

        Repeats are pooled and not averaged: an average of several models is less spread than the one that will serve.
        """
        repeated, scores = np.tile(y, len(out_of_fold)), out_of_fold.ravel()
        balanced = CostMatrix(missed=1 / float(np.sum(repeated)), false_alarm=1 / float(np.sum(repeated == 0)))
        return {
            "cost": self.cost.cheapest_threshold(repeated, scores),
            "half": 0.5,
            "roc_balanced": balanced.cheapest_threshold(repeated, scores),
        }
