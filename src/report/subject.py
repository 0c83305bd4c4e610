"""Subject: everything that a report knows about its model."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tabserve.aliases import Matrix, Predictions
from tabserve.charts.parts import number
from tabserve.declaration.use_case import UseCase
from tabserve.registry.manifest import Manifest

if TYPE_CHECKING:
    import pandas as pd

    from tabserve.training.candidate import Candidate
    from tabserve.training.parts import Part


@dataclass(frozen=True)
class Subject:
    """Everything that a report knows about its model.

    Parameters
    ----------
    use_case : UseCase
        What it was trained for.
    manifest : Manifest
        How it was made and how good it is.
    candidate : Candidate
        The model itself.
    train, test : Part
        The training part and the hold-out.
    predictions : ndarray, shape (n_hold_out_rows,) or (n_hold_out_rows, n_classes)
        Those of the hold-out.
    """

    use_case: UseCase
    manifest: Manifest
    candidate: "Candidate"
    train: "Part"
    test: "Part"
    predictions: Predictions

    @cached_property
    def train_matrix(self) -> Matrix:
        """What the model was fitted on."""
        return self.candidate.pipeline.transform_encoded(self.fitted.X)

    @cached_property
    def fitted(self) -> "Part":
        """The rows of the training part that the model was fitted on."""
        return self.candidate.fitted_on(self.train)

    def features_of(self, part: "Part") -> "pd.DataFrame":
        """A part's table without its target column."""
        return part.table.drop(columns=self.use_case.target.feature.name)

    @property
    def headline(self) -> str:
        """The metric that models are chosen by."""
        return self.use_case.task.headline

    def metric(self, part: str, name: str = "") -> str:
        """A metric of a part, the headline by default, as it is written."""
        return number(self.manifest.metrics[part][name or self.headline])

    def within(self, name: str) -> str:
        """The interval of a hold-out metric in brackets, with a space before it; empty when none was computed."""
        if name not in self.manifest.intervals:
            return ""
        low, high = self.manifest.intervals[name]
        return f" (95 % interval {number(low)} to {number(high)})"
