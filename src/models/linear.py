"""Linear models, by scikit-learn, which is imported when one is fitted or loaded."""

from typing import Any, Self

import numpy as np
from tabserve.aliases import Matrix, Vector
from tabserve.columns.matrix import Columns
from tabserve.models.base import Classifier


def linear_contributions(estimator: Any, X: Matrix) -> Matrix:
    """What each column adds to the linear sum of a fitted estimator of scikit-learn: its coefficient times its value.

    Parameters
    ----------
    estimator : sklearn.base.BaseEstimator
        With `coef_` and `intercept_`, for a single sum.
    X : ndarray, shape (n_rows, n_columns)

    Returns
    -------
    ndarray, shape (n_rows, n_columns + 1)
        The intercept is the last column.
    """
    return np.column_stack([X * np.ravel(estimator.coef_), np.full(len(X), estimator.intercept_)])


def linear_sum(estimator: Any, X: Matrix) -> Vector:
    """The linear sum of a fitted estimator of scikit-learn, the same to the last bit for a row alone and among others.

    scikit-learn's own is a product of matrices, in which BLAS adds up in another order for another number of rows.

    Parameters
    ----------
    estimator : sklearn.base.BaseEstimator
        With `coef_` and `intercept_`, for a single sum.
    X : ndarray, shape (n_rows, n_columns)

    Returns
    -------
    ndarray, shape (n_rows,)
    """
    terms = np.ascontiguousarray(X) * np.ravel(estimator.coef_)
    total: Vector = np.add.reduce(terms, axis=1) + np.ravel(estimator.intercept_)[0]
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
        from sklearn.linear_model import LogisticRegression as Estimator

        self.estimator_ = Estimator(C=self.C, max_iter=1000).fit(X, y)
        return self

    def predict_score(self, X: Matrix) -> Vector:
        from scipy.special import expit

        self.check_is_fitted()
        score: Vector = expit(linear_sum(self.estimator_, X))
        return score

    def contributions(self, X: Matrix) -> Matrix:
        self.check_is_fitted()
        return linear_contributions(self.estimator_, X)
