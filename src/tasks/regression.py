"""A number: the prediction is the answer, and nothing is decided."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Predictions, Vector
from tabserve.columns.features import Number
from tabserve.evaluation.metrics import HOLD_OUT, TRAIN, Measure, Scorer, r2
from tabserve.models.base import Fold, Model, Regressor
from tabserve.models.log_target import LogTarget
from tabserve.tasks.base import SMALLEST_PART, AnswerPart, Task, check_number
from tabserve.tasks.decision import Decision
from tabserve.transformers import RemapTarget, Target

SMALLEST_SUM = 1e-300  # of squared differences, of which R² is a share: not far below, floats end


@dataclass(frozen=True)
class AsPredicted(Decision):
    """The prediction itself: nothing is decided."""

    def decide(self, predictions: Predictions) -> Vector:
        """The predictions."""
        return predictions


@dataclass(frozen=True)
class Regression(Task):
    """A number.

    Parameters
    ----------
    log : bool
        Whether models are fitted to log(1 + target), for a target of 0 or more that is skewed, such as a price. Metrics
        are still those of the target itself. The predictions are medians rather than means: their sum is too low.
    """

    log: bool = False
    kind = "regression"
    headline = "r2"
    report_module = "tabserve.tasks.regression_report"
    kind_of_model = Regressor
    answer_score = AnswerPart(
        "r2_score", {"type": ["number", "null"], "maximum": 1}, "R² of the values; null when the outcomes do not vary"
    )

    def target_problem(self, target: Target) -> str | None:
        """Its feature must be a number."""
        if isinstance(target, RemapTarget) or not isinstance(target.feature, Number):
            return f"a regression predicts a number, but the target '{target.feature.name}' is a class."
        if self.log and target.feature.low < 0:
            return (
                f"log needs no target below 0, but '{target.feature.name}' may be as low as {target.feature.low:g}. "
                "Raise its lower bound, or leave log out."
            )
        return None

    def prepared(self, model: Model) -> Model:
        """On a log scale, behind `LogTarget`."""
        return LogTarget(model) if self.log and isinstance(model, Regressor) else model

    def check_parts(self, train: Vector, hold_out: Vector, splits: int) -> None:
        """Each fold needs two rows to judge by, since one does not vary."""
        check_number(TRAIN, len(train), max(SMALLEST_PART[TRAIN], 2 * splits))
        check_number(HOLD_OUT, len(hold_out), SMALLEST_PART[HOLD_OUT])

    def varies(self, y: Vector) -> bool:
        """Whether two rows differ, by so much that squares can tell."""
        differ = bool(len(y)) and float(np.max(y)) > float(np.min(y))  # rounding gives equal ones a variance, too
        return differ and float(np.sum((y - np.mean(y)) ** 2)) >= SMALLEST_SUM

    def few(self, y: Vector, most: int) -> npt.NDArray[np.intp]:
        """The rows with the smallest and the largest targets."""
        order = np.argsort(y, kind="stable")
        return np.unique([*order[: most // 2], *order[-(most // 2) :]])

    def _strata(self, y: Vector) -> Vector:
        return np.zeros(len(y))

    def _folds(self, y: Vector, splits: int, repeats: int, seed: int) -> list[Fold]:
        from sklearn.model_selection import RepeatedKFold

        return list(RepeatedKFold(n_splits=splits, n_repeats=repeats, random_state=seed).split(y))

    def scorer(self, y: Vector, predictions: Predictions) -> Scorer:
        return partial(r2, y, predictions)

    def measure(self, y: Vector, predictions: Predictions, decision: Decision) -> Measure:
        squares, distances = (predictions - y) ** 2, np.abs(predictions - y)
        return lambda counts: {
            "r2": r2(y, predictions, counts),
            "rmse": float(np.sqrt(np.average(squares, weights=counts))),
            "mae": float(np.average(distances, weights=counts)),
        }

    @property
    def metric_names(self) -> tuple[str, ...]:
        return tuple(self.metrics(np.array([0.0, 1.0]), np.array([0.0, 1.0]), AsPredicted()))

    def decide(self, y: Vector, out_of_fold: Predictions) -> AsPredicted:
        """Nothing is decided."""
        return AsPredicted()

    @property
    def answer_parts(self) -> tuple[AnswerPart, ...]:
        return (AnswerPart("result", {"type": "number"}, "the value"),)

    def answer(self, predictions: Predictions, decision: Decision) -> dict[str, list[Any]]:
        """The values as `result`."""
        return {"result": predictions.tolist()}

    def table_arrays(self, predictions: Predictions, decision: Decision) -> Mapping[str, Any]:
        return {"result": predictions}
