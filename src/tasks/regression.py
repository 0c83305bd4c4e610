"""A number: the score is the answer, and nothing is decided."""

from dataclasses import dataclass

import numpy as np
from tabserve.aliases import Matrix, Metric, Vector
from tabserve.columns.features import Number
from tabserve.evaluation.metrics import HOLD_OUT, TRAIN, Metrics, r2
from tabserve.models.base import Fold, Regressor
from tabserve.tasks.base import SMALLEST_PART, Task, check_number
from tabserve.transformers import RemapTarget, Target


@dataclass(frozen=True)
class Regression(Task):
    """A number."""

    headline = "r2"
    kind_of_model = Regressor
    decides = False
    answer_name = "r2_score"

    @property
    def metric(self) -> Metric:
        return r2

    def metrics(self, y: Vector, scores: Vector, threshold: float | None = None) -> Metrics:
        return {
            "r2": r2(y, scores),
            "rmse": float(np.sqrt(np.mean((scores - y) ** 2))),
            "mae": float(np.mean(np.abs(scores - y))),
        }

    def folds(self, y: Vector, splits: int, repeats: int, seed: int) -> list[Fold]:
        from sklearn.model_selection import RepeatedKFold

        return list(RepeatedKFold(n_splits=splits, n_repeats=repeats, random_state=seed).split(y))

    def target_problem(self, target: Target) -> str | None:
        """It must be a number."""
        if isinstance(target, RemapTarget) or not isinstance(target.feature, Number):
            return f"a regression predicts a number, and the target '{target.feature.name}' is a class."
        return None

    def check_parts(self, train: Vector, hold_out: Vector, splits: int) -> None:
        """Each fold must judge by two rows, since one does not vary."""
        check_number(TRAIN, len(train), max(SMALLEST_PART[TRAIN], 2 * splits))
        check_number(HOLD_OUT, len(hold_out), SMALLEST_PART[HOLD_OUT])

    def thresholds(self, y: Vector, out_of_fold: Matrix) -> dict[str, float]:
        """None: nothing is decided."""
        return {}
