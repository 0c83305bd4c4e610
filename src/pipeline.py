"""Pipeline: transformers in a row."""

from typing import Any, Self

import numpy as np
from tabserve.aliases import Matrix
from tabserve.transformers import Transformer


class Pipeline(Transformer):
    """Transformers, each fed with what the one before it made; itself a transformer.

    Parameters
    ----------
    steps : tuple of Transformer
        At least one. The first takes records, the others matrices.

    Examples
    --------
    >>> from tabserve.transformers import OneHot, RecordEncoder
    >>> from tabserve.columns.features import Category
    >>> housing = Category(name="housing", description="Housing", values=("rent", "own"))
    >>> pipeline = Pipeline((RecordEncoder((housing,)), OneHot((0,))))
    >>> pipeline.fit_transform([{"housing": "own"}, {"housing": "rent"}]).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """

    def __init__(self, steps: tuple[Transformer, ...]) -> None:
        self.steps = steps

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit each step on what the steps before it made of `X`."""
        self.fit_transform(X, y)
        return self

    def check_is_fitted(self) -> None:
        """Raise `NotFittedError` unless all steps are fitted."""
        for step in self.steps:
            step.check_is_fitted()

    def transform(self, X: Any) -> Any:
        """Send `X` through all steps."""
        for step in self.steps:
            X = step.transform(X)
        return X

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Fit each step and send `X` through it."""
        for step in self.steps:
            X = step.fit_transform(X, y)
        return X

    def origins(self, n_columns: int) -> list[int]:
        """From which column of the first step's matrix each column of the last step's comes."""
        origins = list(range(n_columns))
        for step in self.steps:
            origins = [origins[column] for column in step.origins(len(origins))]
        return origins

    def by_origin(self, values: Matrix, n_columns: int) -> Matrix:
        """Add up values of the last step's columns by the columns of the first step's that these come from.

        Parameters
        ----------
        values : ndarray, shape (n_rows, n_last_columns)
        n_columns : int
            Columns of the first step's matrix.

        Returns
        -------
        ndarray, shape (n_rows, n_columns)
        """
        added_up = np.zeros((len(values), n_columns))
        np.add.at(added_up.T, self.origins(n_columns), values.T)
        return added_up
