"""Linear models, by scikit-learn, which is imported when one is fitted or loaded."""

from typing import Self

import numpy as np

from src.aliases import Matrix, Vector
from src.models.base import Classifier


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
