"""Linear models, by scikit-learn, which is imported when one is fitted or loaded."""

from typing import Any, Self

import numpy as np

from src.aliases import Matrix, Vector
from src.models.base import Classifier


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

    def fit(self, X: Matrix, y: Vector) -> Self:
        """Fit coefficients to a (n_rows, n_columns) matrix and classes 0 and 1."""
        from sklearn.linear_model import LogisticRegression as Estimator

        self.estimator_ = Estimator(C=self.C, max_iter=1000).fit(X, y)
        return self

    def predict_score(self, X: Matrix) -> Vector:
        self.check_is_fitted()
        return np.ascontiguousarray(self.estimator_.predict_proba(X)[:, 1])

    def contributions(self, X: Matrix) -> Matrix:
        self.check_is_fitted()
        return linear_contributions(self.estimator_, X)
