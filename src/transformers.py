"""Encoders turn records and targets into numbers; transformers turn that matrix into the one a model is fitted on."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from tabserve.aliases import Matrix, Places, Record, Records, Vector
from tabserve.base import Estimator
from tabserve.columns.boolean import Boolean
from tabserve.columns.derived import DerivedColumn
from tabserve.columns.features import Category, Codes, Column, Feature, Integer, Number
from tabserve.columns.matrix import Columns, MatrixColumn, check_described
from tabserve.columns.texts import Text
from tabserve.errors import InvalidRecordsError, InvalidTargetError
from tabserve.tables.kept import CellColumn, ColumnRecords

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

OTHERS = -1.0  # the level of a column that rare values of a category share; no code is negative
_NUMBERS = (np.int64, np.float64)  # types of numbers that are encoded at once
MANY_CLASSES = 100  # a target with more whole numbers is a measurement, not a set of classes


class Encoder(Estimator, ABC):
    """The step from the values of clients and files to numbers. It learns nothing: the declaration says it all."""

    @abstractmethod
    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Build the look-ups.

        Parameters
        ----------
        X, y : optional
            Ignored.

        Returns
        -------
        Encoder
            Itself.
        """

    @abstractmethod
    def transform(self, X: Any) -> Any:
        """Encode values.

        Parameters
        ----------
        X : list or DataFrame
            n_rows records, or values of the target column.

        Returns
        -------
        ndarray of float64
            A matrix, or the numbers of a target column, in the order of the rows.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """`fit`, then `transform`."""
        return self.fit(X, y).transform(X)


class Transformer(Estimator, ABC):
    """A step from matrix to matrix, between the encoder and the model.

    It names columns and learns their positions when it is fitted. A name without a column is ignored, because an
    earlier step may have dropped the column.

    Attributes
    ----------
    columns_ : tuple of MatrixColumn
        The columns of the matrix that `transform` returns.
    """

    columns_: tuple[MatrixColumn, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The declared columns that its parameters name."""
        return ()

    def keeps_order(self, column: Column) -> bool:
        """Whether the values of a declared column come out in their order or not at all; known before `fit`.

        `monotone` can only be guaranteed if they do.
        """
        return False

    @abstractmethod
    def fit(self, X: Matrix, y: Vector | None = None, columns: Columns = ()) -> Self:
        """Learn from a matrix.

        Parameters
        ----------
        X : ndarray, shape (n_rows, n_columns)
        y : ndarray, shape (n_rows,), optional
            Targets, for a step that learns from them.
        columns : sequence of MatrixColumn
            What each column holds. Only a step that names no columns works without it.

        Returns
        -------
        Transformer
            Itself.
        """

    @abstractmethod
    def transform(self, X: Matrix) -> Matrix:
        """Apply what was learnt to a matrix.

        Parameters
        ----------
        X : ndarray, shape (n_rows, n_columns)

        Returns
        -------
        ndarray of float64, shape (n_rows, n_new_columns)

        Raises
        ------
        NotFittedError
            Before `fit`.
        """

    def fit_transform(self, X: Matrix, y: Vector | None = None, columns: Columns = ()) -> Matrix:
        """`fit`, then `transform` the same matrix."""
        return self.fit(X, y, columns).transform(X)


class RecordEncoder(Encoder):
    """Records to a matrix of numbers: the first part of every pipeline.

    A category becomes its position among the declared values, a number stays the same, and a missing value becomes NaN
    where the feature allows one. Nothing is guessed: a record with a missing or unknown key or an invalid value is
    refused.

    Parameters
    ----------
    features : tuple of Feature
        The first columns of the matrix, in order. A text's column there holds its length.
    derived : tuple of DerivedColumn
        The columns after them; what texts hold is counted in the columns that come last.
    extras : tuple of Feature
        What records may hold, too: their values are checked and left out of the matrix.

    Attributes
    ----------
    encoders_ : list of (str, callable)
        The name of each feature, and the function from its values to numbers.
    computers_ : list of callable
        For each derived column the function from an encoded row to its number.
    absent_ : dict
        None for each feature that a record may leave out.
    extras_ : dict
        The extras by name.
    counters_ : list of (str, callable)
        The name of each text, and the function from its values to counts.
    """

    def __init__(
        self,
        features: tuple[Feature, ...],
        derived: tuple[DerivedColumn, ...] = (),
        extras: tuple[Feature, ...] = (),
    ) -> None:
        self.features = features
        self.derived = derived
        self.extras = extras

    @property
    def columns(self) -> tuple[Column, ...]:
        """The declared columns: those that the matrix begins with."""
        return (*self.features, *self.derived)

    @property
    def matrix_columns(self) -> tuple[MatrixColumn, ...]:
        """The columns of the matrix."""
        texts = [feature for feature in self.features if isinstance(feature, Text)]
        counts = [MatrixColumn(text, bucket=bucket) for text in texts for bucket in range(text.buckets)]
        return (*map(MatrixColumn, self.columns), *counts)

    def with_markers(self, markers: Sequence[str]) -> "RecordEncoder":
        """The encoder, unfitted, in whose cells more texts mean a missing value; see `Feature.with_markers`."""
        features, extras = (tuple(one.with_markers(markers) for one in some) for some in (self.features, self.extras))
        return RecordEncoder(features, self.derived, extras)

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Build the look-ups from the declaration; `X` is ignored."""
        self.encoders_ = [(feature.name, feature.encoder()) for feature in self.features]
        self.computers_ = [column.computer(self.features) for column in self.derived]
        self.absent_ = {feature.name: None for feature in self.features if feature.optional}
        self.extras_ = {extra.name: extra for extra in self.extras}
        self.counters_ = [(feature.name, feature.counter()) for feature in self.features if isinstance(feature, Text)]
        return self

    def transform(self, X: Records) -> Matrix:
        """Encode records.

        Parameters
        ----------
        X : list of dict, ColumnRecords, or DataFrame
            n_rows records.

        Returns
        -------
        ndarray of float64, shape (n_rows, n_matrix_columns)

        Raises
        ------
        InvalidRecordsError
            With the positions of all records that cannot be encoded.
        """
        matrix, faulty = self.encode(X)
        if len(faulty):
            raise InvalidRecordsError([*map(int, faulty)])
        return matrix

    def encode(self, X: Records) -> tuple[Matrix, Places | list[int]]:
        """Encode those records that can be encoded.

        Parameters
        ----------
        X : list of dict, ColumnRecords, or DataFrame
            n_rows records.

        Returns
        -------
        matrix : ndarray of float64, shape (n_rows, n_matrix_columns)
            NaN in the rows at fault.
        faulty : sequence of int
            The positions, ascending, of the records that cannot be encoded.
        """
        self.check_is_fitted()
        if isinstance(X, ColumnRecords):
            return X.encoded_by(self)
        if not isinstance(X, list) and hasattr(X, "iloc"):
            return self._transform_table(cast("pd.DataFrame", X))
        return self._transform_records(cast("Sequence[Record]", X))

    def _transform_records(self, records: Sequence[Record]) -> tuple[Matrix, list[int]]:
        """The matrix of records, one after the other, and the positions of those at fault."""
        encoders = self.encoders_
        width = len(encoders)
        extras = self.extras_
        rows: list[Sequence[float]] = []
        faulty: list[int] = []
        for position, record in enumerate(records):
            try:
                if extras and not extras.keys().isdisjoint(record.keys()):
                    record = self._without_extras(record)
                if len(record) != width:
                    if len(record) > width:  # not copied, as there may be a million keys
                        raise KeyError
                    record = {**self.absent_, **record}
                    if len(record) != width:
                        raise KeyError
                row = [encode(record[name]) for name, encode in encoders]
                for compute in self.computers_:
                    row.append(compute(row))
                rows.append(row)
            except (AttributeError, KeyError, TypeError, ValueError):
                faulty.append(position)
                rows.append((math.nan,) * len(self.columns))
        matrix = np.array(rows, dtype=np.float64) if rows else np.empty((0, len(self.columns)))
        if self.counters_:
            at_fault = {*faulty}
            valid = [{} if position in at_fault else record for position, record in enumerate(records)]
            counts = [count([record.get(name) for record in valid]) for name, count in self.counters_]
            matrix = np.hstack([matrix, *counts])
            matrix[faulty] = math.nan
        return matrix, faulty

    def transform_cells(self, cells: "pa.RecordBatch", decimal: str = ".") -> tuple[Matrix, Places]:
        """Encode rows of raw cells: what `transform` gives for the records of what `Feature.from_cell` reads in them.

        Parameters
        ----------
        cells : pyarrow.RecordBatch
            n_rows rows, whose columns have the features' names. A feature without a column is missing in all rows; a
            column that is neither a feature nor an extra is ignored.
        decimal : str
            The decimal sign of numbers that are kept as text.

        Returns
        -------
        matrix : ndarray of float64, shape (n_rows, n_matrix_columns)
            NaN in the rows at fault.
        faulty : ndarray of int
            The positions, ascending, of the rows that cannot be encoded.
        """
        import pyarrow as pa

        absent = dict.fromkeys((feature.name for feature in self.features), pa.nulls(cells.num_rows))
        given = {**absent, **dict(zip(cells.schema.names, cells.columns, strict=True))}
        return self._by_columns(
            cells.num_rows,
            [extra for extra in self.extras if extra.name in given],
            lambda feature: feature.encode_cells(given[feature.name], decimal),
            lambda text: text.count_cells(given[text.name], decimal),
        )

    def transform_values(self, columns: Mapping[str, Sequence[Any]], n_rows: int) -> tuple[Matrix, Places]:
        """Encode columns of values: what `transform` gives for the records that they make, and as `transform_cells`.

        Parameters
        ----------
        columns : mapping
            The n_rows values, of any type, of each column by its name.
        n_rows : int

        Returns
        -------
        matrix : ndarray of float64, shape (n_rows, n_matrix_columns)
        faulty : ndarray of int
        """
        empty = [None] * n_rows
        return self._by_columns(
            n_rows,
            [extra for extra in self.extras if extra.name in columns],
            lambda feature: feature.encode_values(columns.get(feature.name, empty)),
            lambda text: text.count_values(columns.get(text.name, empty)),
        )

    def _transform_table(self, table: "pd.DataFrame") -> tuple[Matrix, Places]:
        """The matrix of a table, of which each distinct value is encoded once, and the rows at fault."""
        known = {feature.name for feature in (*self.features, *self.extras)}
        if not known.issuperset(table.columns):
            return np.full((len(table), len(self.matrix_columns)), math.nan), np.arange(len(table))

        def distinct(name: str) -> tuple[list[Any], Places]:
            return _distinct(table[name]) if name in table else ([None], np.zeros(len(table), np.int64))

        def codes_of(feature: Feature) -> Codes:
            if feature.name in table and isinstance(feature, Number) and table[feature.name].dtype in _NUMBERS:
                return feature.encode_values(table[feature.name].to_numpy())
            values, places = distinct(feature.name)
            codes, faulty = feature.encode_values(values)
            return codes[places], faulty[places]

        def counts_of(text: Text) -> Matrix:
            values, places = distinct(text.name)
            return text.count_values(values)[places]

        extras = [extra for extra in self.extras if extra.name in table]
        return self._by_columns(len(table), extras, codes_of, counts_of)

    def _by_columns(
        self,
        n_rows: int,
        extras: Sequence[Feature],
        codes_of: Callable[[Feature], Codes],
        counts_of: Callable[[Text], Matrix],
    ) -> tuple[Matrix, Places]:
        """The matrix and the rows at fault, from functions that encode one column each."""
        self.check_is_fitted()
        matrix = np.empty((n_rows, len(self.matrix_columns)))
        faulty = np.zeros(n_rows, np.bool_)
        for place, feature in enumerate(self.features):
            matrix[:, place], is_at_fault = codes_of(feature)
            faulty |= is_at_fault
        for extra in extras:
            faulty |= codes_of(extra)[1]
        for place, column in enumerate(self.derived, len(self.features)):
            matrix[:, place], is_at_fault = column.compute(matrix, self.features)
            faulty |= is_at_fault
        place = len(self.columns)
        for text in (feature for feature in self.features if isinstance(feature, Text)):
            matrix[:, place : place + text.buckets] = counts_of(text)
            place += text.buckets
        matrix[faulty] = np.nan
        return matrix, np.flatnonzero(faulty)

    def _without_extras(self, record: Record) -> Record:
        """A record without what no model sees, which must be valid too."""
        if len(record) > len(self.encoders_) + len(self.extras_):
            raise KeyError
        if any(extra.problem(record[name]) for name, extra in self.extras_.items() if name in record):
            raise ValueError
        return {name: value for name, value in record.items() if name not in self.extras_}


def _distinct(column: "pd.Series[Any]") -> tuple[list[Any], Places]:
    """The distinct values of a column, None among them, and which of them each row has."""
    if column.dtype == object:  # where 1 and True are not to be one value
        return column.where(column.notna(), None).tolist(), np.arange(len(column))
    if column.dtype == "category" and len(column.cat.categories) <= len(column):
        return [*column.cat.categories, None], np.asarray(column.cat.codes, np.int64)
    places, values = column.factorize()  # the place of a missing value is -1, that of the last one
    return [*values.tolist(), None], places


class Drop(Transformer):
    """Removes columns that the model must not see.

    Parameters
    ----------
    columns : tuple of str
        Names of declared columns.

    Attributes
    ----------
    kept_ : list of int
        Positions of the others.
    """

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.columns = columns

    @property
    def names(self) -> tuple[str, ...]:
        return self.columns

    def keeps_order(self, column: Column) -> bool:
        return True

    def fit(self, X: Matrix, y: Vector | None = None, columns: Columns = ()) -> Self:
        """Find the columns of a (n_rows, n_columns) matrix."""
        check_described(X, columns)
        self.kept_ = [place for place, column in enumerate(columns) if column.name not in self.columns]
        self.columns_ = tuple(columns[place] for place in self.kept_)
        return self

    def transform(self, X: Matrix) -> Matrix:
        """The matrix without those columns."""
        self.check_is_fitted()
        return X[:, self.kept_]


class OneHot(Transformer):
    """Replaces the codes of a category by one column of 0 and 1 for each frequent value that `fit` saw.

    The new columns come after the others. Where a category has more than `most` values, all others share one more
    column, those that `fit` did not see among them. Else a value that it did not see is 0 in all columns; a missing
    one always is.

    Parameters
    ----------
    columns : tuple of str, optional
        Names of declared columns with few values; by default, all categories without an order.
    most : int
        How many values of a category get a column of their own, the most frequent first: a linear model of thousands
        of columns costs more than it is worth.

    Attributes
    ----------
    kept_ : list of int
        Positions of the columns that stay as they are.
    levels_ : list of (int, ndarray)
        The position of each replaced column, and the codes with a column of their own, ascending.
    rest_ : list of int
        Positions of the columns whose other codes share a column.
    """

    def __init__(self, columns: tuple[str, ...] | None = None, most: int = 50) -> None:
        self.columns = columns
        self.most = most

    @property
    def names(self) -> tuple[str, ...]:
        return self.columns or ()

    def keeps_order(self, column: Column) -> bool:
        return not self._takes(MatrixColumn(column))

    def fit(self, X: Matrix, y: Vector | None = None, columns: Columns = ()) -> Self:
        """Find the codes of the columns of a (n_rows, n_columns) matrix."""
        check_described(X, columns)
        taken = [place for place, column in enumerate(columns) if self._takes(column)]
        self.kept_ = [place for place in range(len(columns)) if place not in taken]
        seen = [(place, *np.unique(X[~np.isnan(X[:, place]), place], return_counts=True)) for place in taken]
        self.levels_ = [
            (place, np.sort(codes[np.argsort(-counts, kind="stable")[: self.most]])) for place, codes, counts in seen
        ]
        self.rest_ = [place for place, codes, _ in seen if len(codes) > self.most]
        levels = [(place, level) for place, levels in self.levels_ for level in levels.tolist()]
        made = [*levels, *((place, OTHERS) for place in self.rest_)]
        self.columns_ = (
            *(columns[place] for place in self.kept_),
            *(MatrixColumn(columns[place].origin, level) for place, level in made),
        )
        return self

    @property
    def places(self) -> list[int]:
        """The position, in the matrix that `fit` saw, that each new column comes from."""
        return [*self.kept_, *(place for place, levels in self.levels_ for _ in levels), *self.rest_]

    def transform(self, X: Matrix) -> Matrix:
        """A matrix of n_rows rows: the other columns, then a column for each level, then those that others share."""
        self.check_is_fitted()
        levels = {place: X[:, [place]] == levels for place, levels in self.levels_}
        rest = [~np.isnan(X[:, [place]]) & ~levels[place].any(axis=1, keepdims=True) for place in self.rest_]
        return np.hstack([X[:, self.kept_], *levels.values(), *rest]).astype(np.float64, copy=False)

    def _takes(self, column: MatrixColumn) -> bool:
        if self.columns is None:
            return column.is_nominal
        return column.name in self.columns and not column.is_level


class Scaler(Transformer):
    """A step that changes the unit of each column, but not its position."""

    def keeps_order(self, column: Column) -> bool:
        return True

    def _describe(self, columns: Columns) -> None:
        self.columns_ = tuple(replace(column, scaled=True) for column in columns)


class MinMax(Scaler):
    """Scales each column to the range from 0 to 1; a missing value becomes 0.

    Attributes
    ----------
    low_, range_ : ndarray, shape (n_columns,)
        Smallest value of each column (NaN where it has none) and its distance to the largest; for a constant column
        the range is 1.
    """

    def fit(self, X: Matrix, y: Vector | None = None, columns: Columns = ()) -> Self:
        """Measure the columns of a (n_rows, n_columns) matrix."""
        self.low_: Vector = np.fmin.reduce(X)
        distance = np.fmax.reduce(X) - self.low_
        self.range_: Vector = np.where(distance > 0, distance, 1.0)
        self._describe(columns)
        return self

    def transform(self, X: Matrix) -> Matrix:
        """The scaled matrix, of the same shape; rows that `fit` did not see may leave the range."""
        self.check_is_fitted()
        return np.nan_to_num((X - self.low_) / self.range_, nan=0.0)


class Standardize(Scaler):
    """Scales each column to mean 0 and standard deviation 1; a missing value becomes the mean.

    Attributes
    ----------
    mean_, scale_ : ndarray, shape (n_columns,)
        Mean of each column (NaN where it has no value) and standard deviation; for a constant column the scale is 1.
    """

    def fit(self, X: Matrix, y: Vector | None = None, columns: Columns = ()) -> Self:
        """Measure the columns of a (n_rows, n_columns) matrix."""
        known = ~np.isnan(X).all(axis=0)
        self.mean_: Vector = np.full(X.shape[1], np.nan)
        self.mean_[known] = np.nanmean(X[:, known], axis=0)
        deviation = np.ones(X.shape[1])
        deviation[known] = np.nanstd(X[:, known], axis=0)
        varies = np.fmax.reduce(X) > np.fmin.reduce(X)  # rounding gives even constant columns a deviation
        self.scale_: Vector = np.where(varies & (deviation > 0), deviation, 1.0)
        self._describe(columns)
        return self

    def transform(self, X: Matrix) -> Matrix:
        """The standardised matrix, of the same shape."""
        self.check_is_fitted()
        return np.nan_to_num((X - self.mean_) / self.scale_, nan=0.0)


class Target(Encoder):
    """The target column as numbers.

    Parameters
    ----------
    feature : Feature
        The column's name and allowed values.

    Attributes
    ----------
    encode_ : callable
        From a value to its number.
    """

    def __init__(self, feature: Feature) -> None:
        self.feature = feature

    def codes(self) -> set[float] | None:
        """All numbers that `transform` can return; None where any number of a range is possible."""
        feature = self.feature
        if isinstance(feature, Category):
            return {float(code) for code in range(len(feature.values))}
        if isinstance(feature, Boolean):
            return {0.0, 1.0}
        if isinstance(feature, Integer) and feature.high - feature.low < MANY_CLASSES:
            return {float(code) for code in range(math.ceil(feature.low), math.floor(feature.high) + 1)}
        return None

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Build the look-up from the declaration; `X` is ignored."""
        self.encode_ = self.feature.encoder()
        return self

    def transform_known(self, X: Sequence[Any]) -> Vector:
        """Encode outcomes of which some may still be open.

        Parameters
        ----------
        X : sequence
            n_rows values of the target column; None is an open one.

        Returns
        -------
        ndarray of float64, shape (n_rows,)
            NaN for an open one.

        Raises
        ------
        InvalidTargetError
            When a value is not allowed.
        """
        if isinstance(X, CellColumn):
            values, places = X.distinct()
            return self.transform_known(values)[places]
        known = [place for place, value in enumerate(X) if value is not None]
        y = np.full(len(X), math.nan)
        y[known] = self.transform([X[place] for place in known])
        return y

    def transform(self, X: Sequence[Any]) -> Vector:
        """Encode the n_rows values of the target column.

        Raises
        ------
        InvalidTargetError
            When a value is not allowed.
        """
        self.check_is_fitted()
        try:
            return np.array([self.encode_(value) for value in X], dtype=np.float64)
        except (KeyError, TypeError, ValueError):
            problem = next(problem for value in X if (problem := self.feature.problem(value)))
            raise InvalidTargetError(f"The target '{self.feature.name}': {problem}") from None


class RemapTarget(Target):
    """A target whose labels stand for classes: 0 and 1, or 0 to the number of outcomes less 1.

    Parameters
    ----------
    feature : Feature
        The column's name and allowed values.
    classes : dict
        The class of each label. Of two classes, the model predicts the probability of 1.

    Raises
    ------
    InvalidTargetError
        By `transform`, for a value that is not allowed or has no class.
    """

    def __init__(self, feature: Feature, classes: dict[Any, int]) -> None:
        super().__init__(feature)
        self.classes = classes

    def codes(self) -> set[float] | None:
        return {float(of) for of in self.classes.values()}

    def transform(self, X: Sequence[Any]) -> Vector:
        """Classes of the n_rows labels, as floats."""
        super().transform(X)  # refuses values that are not allowed
        try:
            return np.array([self.classes[label] for label in X], dtype=np.float64)
        except KeyError:
            raise InvalidTargetError(f"The target '{self.feature.name}' allows a value that has no class.") from None
