"""A blend: the mean of the raw scores of LightGBM and of a linear model, which is still a sum over the columns."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tabserve.aliases import Matrix, Predictions, Vector, Weights
from tabserve.columns.features import Number
from tabserve.columns.matrix import Columns, MatrixColumn
from tabserve.models import faster
from tabserve.models.base import Fold, of_rows
from tabserve.models.lightgbm import LgbClassifier
from tabserve.models.linear import MOST_ROWS, MonotoneLogisticRegression, expit, some_of_each_class
from tabserve.models.native import Booster, open_booster, without_objective
from tabserve.transformers import OTHERS, OneHot, Standardize

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
    line_ : Line
        The linear part.
    """

    def fit(self, X: Matrix, y: Vector, columns: Columns = (), weights: Weights = None) -> Self:
        """Grow the trees on a (n_rows, n_columns) matrix, and fit the linear part."""
        super().fit(X, y, columns, weights)
        self.__dict__.pop("_raw_booster", None)
        self.line_: Line = Line.fit(X, y, columns, weights)
        return self

    def predict(self, X: Matrix) -> Predictions:
        self.check_is_fitted()
        return _blended(self._raw_booster.predict(X), self.line_.sums(X))

    def contributions(self, X: Matrix) -> Predictions:
        self.check_is_fitted()
        contributions = (1 - SHARE) * self._booster.contributions(X)
        for place, terms in self.line_.terms(X):
            contributions[:, place] += SHARE * terms
        contributions[:, -1] += SHARE * self.line_.base
        return contributions

    def _predict_fold(
        self, booster: "lightgbm.Booster", rounds: int, data: tuple[Matrix, Vector, Columns, Weights], fold: Fold
    ) -> Predictions:
        X, y, columns, weights = data
        rows, judged = fold
        line = Line.fit(X[rows], y[rows], columns, of_rows(weights, rows))
        threads = booster.params["num_threads"]
        raw = booster.predict(X[judged], num_iteration=rounds, num_threads=threads, raw_score=True)
        return _blended(np.asarray(raw), line.sums(X[judged]))

    def speed_up(self, name: str, folder: Path | None = None) -> None:
        self._raw_booster = faster.speed_up(self._raw_booster, without_objective(self.text_), name, folder)

    @cached_property
    def _raw_booster(self) -> Booster:
        return open_booster(without_objective(self.text_))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_raw_booster"}


@dataclass(frozen=True)
class Line:
    """A logistic regression on one-hot, standardised columns, as a sum of what each column of the matrix adds.

    One record needs no one-hot columns that way, which would take longer than all trees.

    Parameters
    ----------
    base : float
        What all rows have.
    slopes : tuple of (int, float, float)
        The position of a number, its mean and its coefficient; a missing value adds nothing.
    levels : tuple of (int, mapping, float, float)
        The position of a category, what each of its codes adds, what other codes add, and what a missing one does.
    """

    base: float
    slopes: tuple[tuple[int, float, float], ...]
    levels: tuple[tuple[int, Mapping[float, float], float, float], ...]

    @classmethod
    def fit(cls, X: Matrix, y: Vector, columns: Columns = (), weights: Weights = None) -> Self:
        """Fit it to a (n_rows, n_columns) matrix and the classes 0 and 1; of very many rows, to some of each class."""
        rows = some_of_each_class(y, MOST_ROWS)
        strength = C * len(y) / len(rows)  # the penalty is weighed against a sum over the rows
        X, y, weights = (X, y, weights) if len(rows) == len(y) else (X[rows], y[rows], of_rows(weights, rows))
        encoder = OneHot().fit(X, None, columns or (MatrixColumn(_ANY_NUMBER),) * X.shape[1])
        encoded = encoder.transform(X)
        scaler = Standardize().fit(encoded, None, encoder.columns_)
        model = MonotoneLogisticRegression(strength).fit(scaler.transform(encoded), y, scaler.columns_, weights)
        means, coefficients = scaler.mean_.tolist(), (model.coef_[0] / scaler.scale_).tolist()
        by_place: dict[int, dict[float, tuple[float, float]]] = {}
        slopes = []
        for column, place, mean, coefficient in zip(encoder.columns_, encoder.places, means, coefficients, strict=True):
            if column.level is not None:
                by_place.setdefault(place, {})[column.level] = mean, coefficient
            elif not math.isnan(mean):
                slopes.append((place, mean, coefficient))
        levels = tuple((place, *_added(of)) for place, of in by_place.items())
        return cls(float(model.intercept_[0]), tuple(slopes), levels)

    def sums(self, X: Matrix) -> Vector | float:
        """The log-odds of each row; those of a row alone are a number, equal to the last bit."""
        if len(X) == 1:
            return self._sum(X[0].tolist())
        total = np.full(len(X), self.base)
        for _, terms in self.terms(X):
            total += terms
        return total

    def terms(self, X: Matrix) -> Iterator[tuple[int, Vector]]:
        """The position of each column, and what it adds to each row."""
        for place, mean, slope in self.slopes:
            column = X[:, place]
            yield place, np.where(np.isnan(column), 0.0, (column - mean) * slope)
        for place, added, others, missing in self.levels:
            column = X[:, place]
            codes, of_codes = np.array(list(added)), np.array(list(added.values()))
            found = np.minimum(np.searchsorted(codes, column), len(codes) - 1)
            known = np.where(codes[found] == column, of_codes[found], others)
            yield place, np.where(np.isnan(column), missing, known)

    def _sum(self, row: list[float]) -> float:
        """What `sums` does, in the same order, without arrays."""
        total = self.base
        for place, mean, slope in self.slopes:
            value = row[place]
            if value == value:  # it is not missing
                total += (value - mean) * slope
        for place, added, others, missing in self.levels:
            value = row[place]
            total += added.get(value, others) if value == value else missing
        return total


def _added(levels: Mapping[float, tuple[float, float]]) -> tuple[dict[float, float], float, float]:
    """What each code of a category adds, others and a missing one, by the means and coefficients of its levels."""
    missing = -sum(mean * coefficient for mean, coefficient in levels.values())
    added = {code: coefficient + missing for code, (_, coefficient) in sorted(levels.items())}
    return added, added.pop(OTHERS, missing), missing


def _blended(raw: Vector, of_line: Vector | float) -> Vector:
    """Probabilities of rows whose log-odds by the trees and by the line are given."""
    return expit((1 - SHARE) * raw + SHARE * of_line)


_ANY_NUMBER = Number(name="number", description="", low=-1e30, high=1e30)
