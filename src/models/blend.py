"""A blend: the mean of the raw scores of LightGBM and of a linear model, which is still a sum over the columns."""

from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tabserve.aliases import Matrix, Predictions, Vector, Weights
from tabserve.columns.features import Number
from tabserve.columns.matrix import Columns, MatrixColumn
from tabserve.models.base import Fold, of_rows
from tabserve.models.lightgbm import THREADS, LgbClassifier
from tabserve.models.linear import MonotoneLogisticRegression, expit, linear_sum
from tabserve.models.native import Booster, open_booster, without_objective
from tabserve.transformers import OneHot, Standardize

if TYPE_CHECKING:
    import lightgbm

SHARE = 0.5  # of the linear part
C = 0.1  # inverse strength of its penalty


class BlendClassifier(LgbClassifier):
    """The mean of the log-odds of LightGBM and of a logistic regression on one-hot, standardised columns.

    Trees and lines err in different places: on some thousands of rows or fewer their mean is often better than both.
    The parameters are those of the trees. Both parts keep the columns' `monotone`.

    Attributes
    ----------
    text_ : str
        The trees in LightGBM's text format.
    encoder_, scaler_, line_ : OneHot, Standardize, MonotoneLogisticRegression
        The linear part, fitted.
    """

    def fit(self, X: Matrix, y: Vector, columns: Columns = (), weights: Weights = None) -> Self:
        """Grow the trees on a (n_rows, n_columns) matrix, and fit the linear part."""
        super().fit(X, y, columns, weights)
        self.__dict__.pop("_raw_booster", None)
        return self._fit_line(X, y, columns, weights)

    def predict(self, X: Matrix) -> Predictions:
        self.check_is_fitted()
        return self._blended(self._raw_booster.predict(X), X)

    def contributions(self, X: Matrix) -> Predictions:
        self.check_is_fitted()
        of_line = self.line_.contributions(self._for_line(X))
        by_column = np.zeros((len(X), X.shape[1] + 1))
        np.add.at(by_column.T, [*self.encoder_.places, X.shape[1]], of_line.T)
        return (1 - SHARE) * self._booster.contributions(X) + SHARE * by_column

    def _fit_line(self, X: Matrix, y: Vector, columns: Columns, weights: Weights) -> Self:
        columns = columns or (MatrixColumn(_ANY_NUMBER),) * X.shape[1]
        self.encoder_ = OneHot().fit(X, None, columns)
        self.scaler_ = Standardize().fit(self.encoder_.transform(X), None, self.encoder_.columns_)
        self.line_ = MonotoneLogisticRegression(C).fit(self._for_line(X), y, self.scaler_.columns_, weights)
        return self

    def _for_line(self, X: Matrix) -> Matrix:
        return self.scaler_.transform(self.encoder_.transform(X))

    def _blended(self, raw: Vector, X: Matrix) -> Vector:
        """Probabilities of rows whose trees' log-odds are given."""
        of_line = linear_sum(self.line_.coef_[0], self.line_.intercept_[0], self._for_line(X))
        return expit((1 - SHARE) * raw + SHARE * of_line)

    def _predict_fold(
        self, booster: "lightgbm.Booster", rounds: int, data: tuple[Matrix, Vector, Columns, Weights], fold: Fold
    ) -> Predictions:
        X, y, columns, weights = data
        rows, judged = fold
        part = BlendClassifier()._fit_line(X[rows], y[rows], columns, of_rows(weights, rows))
        raw = booster.predict(X[judged], num_iteration=rounds, num_threads=THREADS, raw_score=True)
        return part._blended(np.asarray(raw), X[judged])

    @cached_property
    def _raw_booster(self) -> Booster:
        return open_booster(without_objective(self.text_))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_raw_booster"}


_ANY_NUMBER = Number(name="number", description="", low=-1e30, high=1e30)
