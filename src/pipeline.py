"""Pipeline: from records to the matrix that a model is fitted on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from tabserve.aliases import Matrix, Places, Records, Vector
from tabserve.base import Estimator
from tabserve.columns.matrix import Columns, MatrixColumn, check_described
from tabserve.transformers import RecordEncoder, Transformer

if TYPE_CHECKING:
    import pyarrow as pa


class Pipeline(Estimator):
    """An encoder of records, followed by transformers.

    `fit_encoded` and `transform_encoded` skip the encoder, so that many pipelines can be fitted on a table that was
    encoded once.

    Parameters
    ----------
    encoder : RecordEncoder
        From records to a matrix.
    transformers : tuple of Transformer
        From matrix to matrix.

    Examples
    --------
    >>> from tabserve.transformers import OneHot, RecordEncoder
    >>> from tabserve.columns.features import Category
    >>> housing = Category(name="housing", description="Housing", values=("rent", "own"))
    >>> pipeline = Pipeline(RecordEncoder((housing,)), (OneHot(("housing",)),))
    >>> pipeline.fit_transform([{"housing": "own"}, {"housing": "rent"}]).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """

    def __init__(self, encoder: RecordEncoder, transformers: tuple[Transformer, ...] = ()) -> None:
        self.encoder = encoder
        self.transformers = transformers

    @property
    def columns_(self) -> tuple[MatrixColumn, ...]:
        """The columns of the matrix that the model gets."""
        return self.transformers[-1].columns_ if self.transformers else self.encoder.matrix_columns

    def check_is_fitted(self) -> None:
        """Raise `NotFittedError` unless all parts are fitted."""
        for part in (self.encoder, *self.transformers):
            part.check_is_fitted()

    def with_markers(self, markers: Sequence[str]) -> "Pipeline":
        """The fitted pipeline, in whose cells more texts mean a missing value; see `Feature.with_markers`."""
        return Pipeline(self.encoder.with_markers(markers).fit(), self.transformers)

    def fit(self, X: Records, y: Vector | None = None) -> Self:
        """Fit all parts on records and, for transformers that need them, targets."""
        self.fit_transform(X, y)
        return self

    def transform(self, X: Records) -> Matrix:
        """Transform records by all parts.

        Raises
        ------
        InvalidRecordsError
            With the positions of all records that cannot be encoded.
        """
        return self.transform_encoded(self.encoder.transform(X))

    def transform_cells(self, cells: "pa.RecordBatch", decimal: str = ".") -> tuple[Matrix, Places]:
        """Transform rows of raw cells by all parts.

        Parameters
        ----------
        cells : pyarrow.RecordBatch
            n_rows rows, as for `RecordEncoder.transform_cells`.
        decimal : str
            The decimal sign of numbers that are kept as text.

        Returns
        -------
        matrix : ndarray of float64, shape (n_rows, n_model_columns)
            NaN in the rows at fault.
        faulty : ndarray of int
            The positions, ascending, of the rows that cannot be encoded.
        """
        encoded, faulty = self.encoder.transform_cells(cells, decimal)
        matrix = self.transform_encoded(encoded)
        matrix[faulty] = np.nan  # transformers replace missing values
        return matrix, faulty

    def fit_transform(self, X: Records, y: Vector | None = None) -> Matrix:
        """`fit`, then `transform` the same records."""
        return self.fit_transform_encoded(self.encoder.fit().transform(X), y)

    def fit_encoded(self, X: Matrix, y: Vector | None = None) -> Self:
        """Fit all parts on encoded records."""
        self.fit_transform_encoded(X, y)
        return self

    def transform_encoded(self, X: Matrix) -> Matrix:
        """Transform encoded records."""
        for transformer in self.transformers:
            X = transformer.transform(X)
        return X

    def fit_transform_encoded(self, X: Matrix, y: Vector | None = None) -> Matrix:
        """`fit_encoded`, then `transform_encoded` the same matrix."""
        self.encoder.fit()
        columns: Columns = self.encoder.matrix_columns
        for transformer in self.transformers:
            X = transformer.fit_transform(X, y, columns)
            columns = transformer.columns_
            check_described(X, columns)
        return X

    def by_origin(self, values: Matrix) -> Matrix:
        """Sum values of the model's columns over the declared column that each comes from.

        Parameters
        ----------
        values : ndarray, shape (n_rows, n_model_columns)

        Returns
        -------
        ndarray, shape (n_rows, n_declared_columns)
            0 in a column that the model does not see.
        """
        places = {column.name: place for place, column in enumerate(self.encoder.columns)}
        added_up = np.zeros((len(values), len(places)))
        np.add.at(added_up.T, [places[column.name] for column in self.columns_], values.T)
        return added_up
