"""Results: what a model gave for the hold-out, for a task's own part of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tabserve.aliases import Predictions, Vector
from tabserve.charts.parts import number
from tabserve.columns.features import Column
from tabserve.evaluation.metrics import Metrics
from tabserve.tasks.decision import Decision
from tabserve.transformers import Target

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Results:
    """What a model gave for the hold-out, and how good that is.

    Parameters
    ----------
    target : Target
        What was predicted.
    decision : Decision
        How results follow from predictions.
    y : ndarray, shape (n_rows,)
        The true targets.
    predictions : ndarray, shape (n_rows,) or (n_rows, n_classes)
    table : DataFrame
        The n_rows rows, without the target.
    metrics : mapping of float
    intervals : mapping of (float, float)
        95 % intervals of metrics.
    train_y : ndarray, shape (n_training_rows,)
        The targets of the training part.
    out_of_fold : ndarray, shape (n_repeats, n_training_rows) or (n_repeats, n_training_rows, n_classes)
        Predictions of the training part by models that did not see the row; NaN where there is none.
    columns : sequence of Column
        The features, the most important first.
    """

    target: Target
    decision: Decision
    y: Vector
    predictions: Predictions
    table: "pd.DataFrame"
    metrics: Metrics
    intervals: Mapping[str, Sequence[float]]
    train_y: Vector
    out_of_fold: Predictions
    columns: Sequence[Column]

    def metric(self, name: str) -> str:
        """A metric as it is written."""
        return number(self.metrics[name])

    def within(self, name: str) -> str:
        """A metric's interval in brackets, with a space before it; empty when none was computed."""
        if name not in self.intervals:
            return ""
        low, high = self.intervals[name]
        return f" (95 % interval {number(low)} to {number(high)})"
