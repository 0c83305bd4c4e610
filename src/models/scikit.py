"""Models by scikit-learn, which is imported when one is fitted or loaded."""

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from tabserve.aliases import Matrix, Predictions, Vector, Weights
from tabserve.columns.matrix import Columns
from tabserve.errors import NotExplainableError
from tabserve.models.base import Regressor
from tabserve.models.linear import linear_contributions, linear_sum
from tabserve.search_space import Dimension, Whole


class ScikitRegressor(Regressor):
    """A regressor of scikit-learn behind this project's interface.

    The parameters have scikit-learn's own names and meanings, except for `floor`:

    Parameters
    ----------
    floor : float, optional
        The smallest prediction: smaller ones are raised to it. A linear model may predict -3 of something that is
        counted.

    Attributes
    ----------
    estimator_ : sklearn.base.RegressorMixin
        The fitted estimator.
    """

    floor: float | None = None

    @abstractmethod
    def _estimator(self) -> Any:
        """A new estimator with this model's parameters."""

    def fit(self, X: Matrix, y: Vector, columns: Columns = (), weights: Weights = None) -> Self:
        """Fit the estimator to a (n_rows, n_columns) matrix and its targets."""
        self.estimator_ = self._estimator().fit(X, y, sample_weight=weights)
        return self

    def predict(self, X: Matrix) -> Predictions:
        self.check_is_fitted()
        values = self._predict(X)
        return values if self.floor is None else np.maximum(values, self.floor)

    def _predict(self, X: Matrix) -> Vector:
        values: Vector = self.estimator_.predict(X)
        return values


class LinearRegressor(ScikitRegressor):
    """A regressor whose prediction, apart from the floor, is a weighted sum of the columns."""

    def _predict(self, X: Matrix) -> Vector:
        return linear_sum(self.estimator_.coef_, self.estimator_.intercept_, X)

    def contributions(self, X: Matrix) -> Predictions:
        self.check_is_fitted()
        return linear_contributions(self.estimator_.coef_, self.estimator_.intercept_, X)


class LinearRegression(LinearRegressor):
    """Ordinary least squares.

    Parameters
    ----------
    floor : float, optional
        The smallest prediction there can be.
    """

    def __init__(self, floor: float | None = None) -> None:
        self.floor = floor

    def _estimator(self) -> Any:
        from sklearn import linear_model

        return linear_model.LinearRegression()


class Lasso(LinearRegressor):
    """Linear regression with an L1 penalty, on scaled columns.

    Parameters
    ----------
    alpha : float
        Strength of the penalty.
    floor : float, optional
        The smallest prediction there can be.
    """

    def __init__(self, alpha: float = 1.0, floor: float | None = None) -> None:
        self.alpha = alpha
        self.floor = floor

    def _estimator(self) -> Any:
        from sklearn import linear_model

        return linear_model.Lasso(alpha=self.alpha)


class SVR(ScikitRegressor):
    """Support-vector regression with a Gaussian kernel, on scaled columns.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty.
    gamma : float
        Inverse width of the kernel.
    epsilon : float
        Errors up to this size, in the target's unit, cost nothing; fewer rows are then support vectors.
    floor : float, optional
        The smallest prediction there can be.
    """

    most_rows = 20_000  # fitting takes time that grows with their square

    def __init__(self, C: float = 1.0, gamma: float = 1.0, epsilon: float = 0.1, floor: float | None = None) -> None:
        self.C = C
        self.gamma = gamma
        self.epsilon = epsilon
        self.floor = floor

    def _estimator(self) -> Any:
        from sklearn import svm

        return svm.SVR(C=self.C, gamma=self.gamma, epsilon=self.epsilon, cache_size=500)  # MB; fitting is faster

    def contributions(self, X: Matrix) -> Predictions:
        self.check_is_fitted()
        raise NotExplainableError(
            type(self).__name__, "its kernel compares whole rows, so its prediction is not a sum over the columns"
        )


class DecisionTreeRegressor(ScikitRegressor):
    """A regression tree; its predictions stay within the targets it has seen.

    Parameters
    ----------
    max_depth : int
        The largest number of splits that lead to a leaf.
    min_samples_leaf : int
        The fewest rows of a leaf.
    seed : int
        Seed of the choice among equally good splits.
    """

    limits = MappingProxyType({"max_depth": (1, 64), "min_samples_leaf": (1, 10_000)})

    def __init__(self, max_depth: int = 10, min_samples_leaf: int = 5, seed: int = 0) -> None:
        self.max_depth = max_depth
        self.min_samples_leaf = min_samples_leaf
        self.seed = seed

    def default_search_space(self, n_rows: int, n_columns: int) -> Mapping[str, Dimension]:
        return {"max_depth": Whole(4, 24), "min_samples_leaf": Whole(1, 50, log=True)}

    def _estimator(self) -> Any:
        from sklearn import tree

        return tree.DecisionTreeRegressor(
            max_depth=self.max_depth, min_samples_leaf=self.min_samples_leaf, random_state=self.seed
        )

    def contributions(self, X: Matrix) -> Predictions:
        """Each split on the way to a leaf contributes to its column: by how much it moves the mean.

        Notes
        -----
        Saabas (2014), "Interpreting random forests", https://blog.datadive.net/interpreting-random-forests/. The base
        value is the mean of all rows that the tree was fitted on.
        """
        self.check_is_fitted()
        tree = self.estimator_.tree_
        means = tree.value[:, 0, 0]
        moves = np.zeros((tree.node_count, X.shape[1] + 1))  # from a node's parent to the node
        moves[0, -1] = means[0]
        (split,) = np.nonzero(tree.children_left >= 0)  # -1 in a leaf
        for children in (tree.children_left[split], tree.children_right[split]):
            moves[children, tree.feature[split]] = means[children] - means[split]
        contributions: Predictions = self.estimator_.decision_path(X) @ moves
        return contributions
