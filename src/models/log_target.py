"""LogTarget: a regressor that is fitted to the logarithm of its target."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from tabserve.aliases import Matrix, Metric, Predictions, Vector, Weights
from tabserve.columns.matrix import Columns
from tabserve.models.base import CrossValidation, Fold, Regressor

HIGHEST = math.log(10)  # above the largest logarithm that was seen: a line may lead anywhere


class LogTarget(Regressor):
    """A regressor fitted to log(1 + target), whose predictions are brought back.

    A mean of logarithms is brought back as a median, not as a mean: of skewed targets, sums of predictions are too low.
    A prediction is at most about ten times the largest target that `fit` saw.

    Parameters
    ----------
    model : Regressor
        Unfitted. Its parameters are those of the whole.

    Attributes
    ----------
    model_ : Regressor
        Fitted to logarithms; the raw score and the contributions are its own.
    highest_ : float
        The largest logarithm that is predicted.
    """

    smallest_target = 0.0

    def __init__(self, model: Regressor) -> None:
        self.model = model

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The model itself or, if deep, its parameters."""
        return self.model.get_params() if deep else {"model": self.model}

    def set_params(self, **params: Any) -> Self:
        """Change parameters of the model."""
        self.model.set_params(**params)
        return self

    def fit(self, X: Matrix, y: Vector, columns: Columns = (), weights: Weights = None) -> Self:
        """Fit the model to a (n_rows, n_columns) matrix and the logarithms of its targets."""
        self.model_ = type(self.model)(**self.model.get_params()).fit(X, np.log1p(y), columns, weights)
        self.highest_ = float(np.max(np.log1p(y))) + HIGHEST
        return self

    def predict(self, X: Matrix) -> Predictions:
        self.check_is_fitted()
        return _brought_back(self.model_.predict(X), self.highest_)

    def contributions(self, X: Matrix) -> Predictions:
        self.check_is_fitted()
        return self.model_.contributions(X)

    def speed_up(self, name: str, folder: Path | None = None) -> None:
        self.model_.speed_up(name, folder)

    def cross_validate(
        self,
        X: Matrix,
        y: Vector,
        folds: Sequence[Fold],
        metric: Metric,
        jobs: int = 1,
        columns: Columns = (),
        weights: Weights = None,
    ) -> CrossValidation:
        """As by the model; the metric is one of targets and of predictions that were brought back."""
        highest = float(np.max(np.log1p(y))) + HIGHEST

        def of_logarithms(y: Vector, predictions: Predictions) -> float:
            return metric(np.expm1(y), _brought_back(predictions, highest))

        found = self.model.cross_validate(X, np.log1p(y), folds, of_logarithms, jobs, columns, weights)
        parameters: Mapping[str, Any] = found.parameters
        return CrossValidation(found.score, _brought_back(found.out_of_fold, highest), parameters)


def _brought_back(logarithms: Vector, highest: float) -> Vector:
    values: Vector = np.expm1(np.clip(logarithms, 0.0, highest))
    return values
