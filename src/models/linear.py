"""Linear models; scikit-learn and scipy are imported when one is fitted."""

from typing import Self

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Matrix, Predictions, Vector, Weights
from tabserve.columns.matrix import Columns
from tabserve.models.base import Classifier, Model, MulticlassClassifier, Regressor

MOST_ROWS = 50_000  # that a linear model is fitted on: more cost time and change nothing that is seen
_BOUNDS = {0: (None, None), 1: (0, None), -1: (None, 0)}  # of a coefficient, by its column's direction
CHUNK = 20_000  # rows of a matrix that are copied at once


def linear_contributions(coefficients: Vector, intercept: float, X: Matrix) -> Matrix:
    """What each column adds to a linear sum: its coefficient times its value.

    Parameters
    ----------
    coefficients : ndarray, shape (n_columns,)
    intercept : float
    X : ndarray, shape (n_rows, n_columns)

    Returns
    -------
    ndarray, shape (n_rows, n_columns + 1)
        The intercept is the last column.
    """
    return np.column_stack([X * coefficients, np.full(len(X), intercept)])


def linear_sum(coefficients: Vector, intercept: float, X: Matrix) -> Vector:
    """A linear sum, equal to the last bit for a row alone and among others.

    scikit-learn multiplies matrices, and BLAS adds up in an order that depends on the number of rows.

    Parameters
    ----------
    coefficients : ndarray, shape (n_columns,)
    intercept : float
    X : ndarray, shape (n_rows, n_columns)

    Returns
    -------
    ndarray, shape (n_rows,)
    """
    terms = np.ascontiguousarray(X) * coefficients
    total: Vector = np.add.reduce(terms, axis=1) + intercept
    return total


def expit(raw: Vector) -> Vector:
    """Probabilities of log-odds, without scipy, which a service that answers one record need not load.

    Parameters
    ----------
    raw : ndarray, shape (n_rows,)

    Returns
    -------
    ndarray, shape (n_rows,)
    """
    probability: Vector = np.exp(-np.logaddexp(0.0, -raw))
    return probability


def softmax(raw: Matrix) -> Matrix:
    """Probabilities of a raw score for each class.

    Parameters
    ----------
    raw : ndarray, shape (n_rows, n_classes)

    Returns
    -------
    ndarray, shape (n_rows, n_classes)
    """
    odds: Matrix = np.exp(raw - raw.max(axis=1, keepdims=True))
    return odds / np.add.reduce(odds, axis=1, keepdims=True)


class _LogisticModel(Model):
    """What logistic models of two and of more classes share.

    Parameters
    ----------
    C : float
        Inverse strength of the L2 penalty.

    Attributes
    ----------
    coef_ : ndarray, shape (1, n_columns) or (n_classes, n_columns)
        Coefficients of each linear sum: one for two classes, else one for each class.
    intercept_ : ndarray, shape (1,) or (n_classes,)
    """

    most_rows = MOST_ROWS

    def __init__(self, C: float = 1.0) -> None:
        self.C = C

    def fit(self, X: Matrix, y: Vector, columns: Columns = (), weights: Weights = None) -> Self:
        """Fit coefficients to a (n_rows, n_columns) matrix and codes of classes, from 0 on."""
        from sklearn.linear_model import LogisticRegression as Estimator

        estimator = Estimator(C=self.C, max_iter=1000).fit(X, y, weights)
        self.coef_: Matrix = estimator.coef_
        self.intercept_: Vector = estimator.intercept_
        return self

    def _sums(self) -> list[tuple[Vector, float]]:
        """Coefficients and intercept of each linear sum: one for two classes, else one for each class."""
        self.check_is_fitted()
        return list(zip(self.coef_, self.intercept_, strict=True))


def some_of_each_class(y: Vector, most: int) -> npt.NDArray[np.intp]:
    """Row numbers, ascending: all, or about `most` of them, with at least one of each class."""
    if len(y) <= most:
        return np.arange(len(y))
    order = np.random.default_rng(0).permutation(len(y))
    share = most / len(y)
    of_class = [order[y[order] == code] for code in np.unique(y)]
    return np.sort(np.concatenate([rows[: max(1, round(len(rows) * share))] for rows in of_class]))


class LogisticRegression(_LogisticModel, Classifier):
    """Logistic regression with an L2 penalty, on standardised columns."""

    def predict(self, X: Matrix) -> Predictions:
        return expit(linear_sum(*self._sums()[0], X))

    def contributions(self, X: Matrix) -> Predictions:
        return linear_contributions(*self._sums()[0], X)


class MonotoneLogisticRegression(LogisticRegression):
    """Logistic regression with an L2 penalty, whose coefficients keep the directions of the columns."""

    keeps_monotone = True

    def fit(self, X: Matrix, y: Vector, columns: Columns = (), weights: Weights = None) -> Self:
        """Fit coefficients within bounds to a (n_rows, n_columns) matrix and the classes 0 and 1."""
        from scipy.optimize import minimize

        counts = self.C * (np.ones(len(y)) if weights is None else weights)

        def loss(parameters: Vector) -> tuple[float, Vector]:
            sums = X @ parameters[:-1] + parameters[-1]
            slopes = counts * (expit(sums) - y)
            value = counts @ (np.logaddexp(0.0, sums) - y * sums) + parameters[:-1] @ parameters[:-1] / 2
            return float(value), np.append(X.T @ slopes + parameters[:-1], slopes.sum())

        directions = [column.monotone for column in columns] or [0] * X.shape[1]
        bounds = [_BOUNDS[direction] for direction in (*directions, 0)]
        start = np.zeros(X.shape[1] + 1)
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000}).x
        self.coef_, self.intercept_ = found[None, :-1], found[-1:]
        return self


class MultinomialRegression(_LogisticModel, MulticlassClassifier):
    """Multinomial logistic regression with an L2 penalty, on standardised columns: a linear sum for each class."""

    def predict(self, X: Matrix) -> Predictions:
        return softmax(np.column_stack([linear_sum(*one, X) for one in self._sums()]))

    def contributions(self, X: Matrix) -> Predictions:
        return np.stack([linear_contributions(*one, X) for one in self._sums()], axis=1)


class Ridge(Regressor):
    """Linear regression with an L2 penalty, on standardised columns.

    It is solved by the normal equations, whose cost grows with the rows and the square of the columns, in memory that
    does not grow with the rows.

    Parameters
    ----------
    alpha : float
        Strength of the penalty, above 0.
    floor : float, optional
        The smallest prediction there can be.

    Attributes
    ----------
    coef_ : ndarray, shape (n_columns,)
    intercept_ : float
    """

    most_rows = MOST_ROWS

    def __init__(self, alpha: float = 1.0, floor: float | None = None) -> None:
        self.alpha = alpha
        self.floor = floor

    def fit(self, X: Matrix, y: Vector, columns: Columns = (), weights: Weights = None) -> Self:
        """Fit coefficients to a (n_rows, n_columns) matrix and its targets."""
        from scipy.linalg import solve

        weights = np.ones(len(y)) if weights is None else weights
        means, mean = weights @ X / weights.sum(), float(weights @ y / weights.sum())
        squares, products = self.alpha * np.eye(X.shape[1]), np.zeros(X.shape[1])
        for start in range(0, len(y), CHUNK):
            rows = slice(start, start + CHUNK)
            centred = X[rows] - means
            weighted = centred * weights[rows, None]
            squares += weighted.T @ centred
            products += weighted.T @ (y[rows] - mean)
        self.coef_: Vector = solve(squares, products, assume_a="pos")
        self.intercept_ = mean - float(means @ self.coef_)
        return self

    def predict(self, X: Matrix) -> Predictions:
        self.check_is_fitted()
        values = linear_sum(self.coef_, self.intercept_, X)
        return values if self.floor is None else np.maximum(values, self.floor)

    def contributions(self, X: Matrix) -> Predictions:
        self.check_is_fitted()
        return linear_contributions(self.coef_, self.intercept_, X)
