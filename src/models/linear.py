"""Linear models, by scikit-learn, which is imported when one is fitted or loaded."""

from typing import Self

import numpy as np

from tabserve.aliases import Matrix, Predictions, Vector, Weights
from tabserve.columns.matrix import Columns
from tabserve.models.base import Classifier, Model, MulticlassClassifier


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


class _LogisticModel(Model):
    """What logistic models of two and of more classes share.

    Parameters
    ----------
    C : float
        Inverse strength of the L2 penalty.

    Attributes
    ----------
    estimator_ : sklearn.linear_model.LogisticRegression
        The fitted model.
    """

    def __init__(self, C: float = 1.0) -> None:
        self.C = C

    def fit(self, X: Matrix, y: Vector, columns: Columns = (), weights: Weights = None) -> Self:
        """Fit coefficients to a (n_rows, n_columns) matrix and codes of classes, from 0 on."""
        from sklearn.linear_model import LogisticRegression as Estimator

        self.estimator_ = Estimator(C=self.C, max_iter=1000).fit(X, y, weights)
        return self

    def _sums(self) -> list[tuple[Vector, float]]:
        """Coefficients and intercept of each linear sum: one for two classes, else one for each class."""
        self.check_is_fitted()
        return list(zip(self.estimator_.coef_, self.estimator_.intercept_, strict=True))


class LogisticRegression(_LogisticModel, Classifier):
    """Logistic regression with an L2 penalty, on standardised columns."""

    def predict(self, X: Matrix) -> Predictions:
        from scipy.special import expit

        probability: Vector = expit(linear_sum(*self._sums()[0], X))
        return probability

    def contributions(self, X: Matrix) -> Predictions:
        return linear_contributions(*self._sums()[0], X)


class MultinomialRegression(_LogisticModel, MulticlassClassifier):
    """Multinomial logistic regression with an L2 penalty, on standardised columns: a linear sum for each class."""

    def predict(self, X: Matrix) -> Predictions:
        from scipy.special import softmax

        probabilities: Predictions = softmax(np.column_stack([linear_sum(*one, X) for one in self._sums()]), axis=1)
        return probabilities

    def contributions(self, X: Matrix) -> Predictions:
        return np.stack([linear_contributions(*one, X) for one in self._sums()], axis=1)
