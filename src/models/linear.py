"""Linear models, by scikit-learn, which is imported when one is fitted or loaded."""

from typing import Any, Self

import numpy as np

from tabserve.aliases import Matrix, Predictions, Vector
from tabserve.columns.matrix import Columns
from tabserve.models.base import Classifier, MulticlassClassifier


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


class LogisticRegression(Classifier):
    """Logistic regression with an L2 penalty, on standardised columns.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty.

    Attributes
    ----------
    estimator_ : sklearn.linear_model.LogisticRegression
        The fitted model.
    """

    def __init__(self, C: float = 1.0) -> None:
        self.C = C

    def fit(self, X: Matrix, y: Vector, columns: Columns = ()) -> Self:
        """Fit coefficients to a (n_rows, n_columns) matrix and classes 0 and 1."""
        self.estimator_ = _estimator(self.C).fit(X, y)
        return self

    def predict(self, X: Matrix) -> Predictions:
        from scipy.special import expit

        self.check_is_fitted()
        probability: Vector = expit(linear_sum(*_sums(self.estimator_)[0], X))
        return probability

    def contributions(self, X: Matrix) -> Predictions:
        self.check_is_fitted()
        return linear_contributions(*_sums(self.estimator_)[0], X)


class MultinomialRegression(MulticlassClassifier):
    """Multinomial logistic regression with an L2 penalty, on standardised columns: a linear sum for each class.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty.

    Attributes
    ----------
    estimator_ : sklearn.linear_model.LogisticRegression
        The fitted model.
    """

    def __init__(self, C: float = 1.0) -> None:
        self.C = C

    def fit(self, X: Matrix, y: Vector, columns: Columns = ()) -> Self:
        """Fit coefficients to a (n_rows, n_columns) matrix and three classes or more, 0 to n_classes - 1."""
        self.estimator_ = _estimator(self.C).fit(X, y)
        return self

    def predict(self, X: Matrix) -> Predictions:
        from scipy.special import softmax

        self.check_is_fitted()
        sums = np.column_stack([linear_sum(*of_class, X) for of_class in _sums(self.estimator_)])
        probabilities: Predictions = softmax(sums, axis=1)
        return probabilities

    def contributions(self, X: Matrix) -> Predictions:
        self.check_is_fitted()
        return np.stack([linear_contributions(*of_class, X) for of_class in _sums(self.estimator_)], axis=1)


def _estimator(C: float) -> Any:
    from sklearn.linear_model import LogisticRegression as Estimator

    return Estimator(C=C, max_iter=1000)


def _sums(estimator: Any) -> list[tuple[Vector, float]]:
    """Coefficients and intercept of a classifier's linear sums: one for two classes, else one for each class."""
    return list(zip(estimator.coef_, estimator.intercept_, strict=True))
