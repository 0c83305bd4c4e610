"""Transformers: the steps from records to the matrix that a model is fitted on, and from a target column to numbers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self, cast

import numpy as np
from tabserve.aliases import Matrix, Record, Records, Vector
from tabserve.base import Estimator
from tabserve.columns.derived import DerivedColumn
from tabserve.columns.features import Category, Column, Feature, Integer
from tabserve.errors import InvalidRecordsError, InvalidTargetError

MANY_CLASSES = 100  # a target of more whole numbers is measured and not classified


class Transformer(Estimator, ABC):
    """A step that learns something from data and then changes data accordingly.

    Attributes
    ----------
    keeps_columns : bool
        Whether each column of a matrix stays in its place and keeps its codes, so that a model after this step may be
        told of columns by their positions.
    """

    keeps_columns: ClassVar[bool] = False

    @abstractmethod
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from data.

        Parameters
        ----------
        X : list, DataFrame or ndarray
            n_rows records, values of the target column, or rows of a matrix.
        y : ndarray, optional
            Targets, shape (n_rows,), for a step that learns from them.

        Returns
        -------
        Transformer
            Itself.
        """

    @abstractmethod
    def transform(self, X: Any) -> Any:
        """Change data by what was learnt.

        Parameters
        ----------
        X : list, DataFrame or ndarray
            As for `fit`, the number of rows apart.

        Returns
        -------
        ndarray of float64
            A matrix, or the numbers of a target column; rows keep their order.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """`fit`, then `transform` the same data.

        Parameters
        ----------
        X : list, DataFrame or ndarray
            As for `fit`.
        y : ndarray, optional
            As for `fit`.

        Returns
        -------
        ndarray of float64
            As from `transform`.
        """
        return self.fit(X, y).transform(X)

    def origins(self, n_columns: int) -> list[int]:
        """From which column each column that `transform` makes comes.

        Parameters
        ----------
        n_columns : int
            Columns of the matrix that is transformed; for a step that takes records, of the one that it makes.

        Returns
        -------
        list of int
            A position, from 0 to `n_columns` - 1, for each new column.
        """
        return list(range(n_columns))


class RecordEncoder(Transformer):
    """Records to a matrix of numbers: the first step of every pipeline.

    A category becomes its position among the declared values, a number stays itself, a missing value becomes NaN where
    the feature allows one. Nothing is guessed: a record with a key too many or too few, or with a value that is not
    allowed, is refused.

    Parameters
    ----------
    features : tuple of Feature
        The first columns of the matrix, in its order.
    derived : tuple of DerivedColumn
        The columns after them.

    Attributes
    ----------
    encoders_ : list of (str, callable)
        Name of each feature and its way from a value to a number.
    computers_ : list of callable
        Each derived column's way from an encoded row to its number.
    absent_ : dict
        The features that a record may leave out, each with None.
    """

    def __init__(self, features: tuple[Feature, ...], derived: tuple[DerivedColumn, ...] = ()) -> None:
        self.features = features
        self.derived = derived

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the matrix."""
        return (*self.features, *self.derived)

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Build the look-ups; the declaration says all there is to learn, so `X` is not read."""
        self.encoders_ = [(feature.name, feature.encoder()) for feature in self.features]
        self.computers_ = [column.computer(self.features) for column in self.derived]
        self.absent_ = {feature.name: None for feature in self.features if feature.optional}
        return self

    def transform(self, X: Records) -> Matrix:
        """Encode records.

        Parameters
        ----------
        X : list of dict, or DataFrame
            n_rows records.

        Returns
        -------
        ndarray of float64, shape (n_rows, n_features + n_derived)

        Raises
        ------
        InvalidRecordsError
            With the positions of all records that cannot be encoded.
        """
        self.check_is_fitted()
        encoders = self.encoders_
        width = len(encoders)
        rows: list[list[float]] = []
        faulty: list[int] = []
        for position, record in enumerate(_records(X)):
            try:
                if len(record) != width:
                    if len(record) > width:  # perhaps a million keys: not copied
                        raise KeyError
                    record = {**self.absent_, **record}
                    if len(record) != width:
                        raise KeyError
                row = [encode(record[name]) for name, encode in encoders]
                for compute in self.computers_:
                    row.append(compute(row))
                rows.append(row)
            except (KeyError, TypeError, ValueError):
                faulty.append(position)
        if faulty:
            raise InvalidRecordsError(faulty)
        return np.array(rows, dtype=np.float64) if rows else np.empty((0, width + len(self.computers_)))


def _records(X: Records) -> Sequence[Record]:
    if isinstance(X, list) or not hasattr(X, "astype"):
        return cast("Sequence[Record]", X)
    # pandas writes a missing value as NaN, and turns a column of whole numbers with a gap into floats
    cells = X.astype(object)
    return cast("Sequence[Record]", cells.where(cells.notna(), None).to_dict("records"))


class Blank(Transformer):
    """Columns that the model must not see: every value in them becomes 0.

    They keep their places, so that what is declared by a column's position stays right.

    Parameters
    ----------
    columns : tuple of int
        The columns to blank.
    """

    keeps_columns = True

    def __init__(self, columns: tuple[int, ...]) -> None:
        self.columns = columns

    def fit(self, X: Matrix, y: Any = None) -> Self:
        """Note the width of a (n_rows, n_columns) matrix."""
        self.n_columns_ = X.shape[1]
        return self

    def transform(self, X: Matrix) -> Matrix:
        """The matrix with 0 in those columns."""
        self.check_is_fitted()
        blanked = X.copy()
        blanked[:, self.columns] = 0.0
        return blanked


class OneHot(Transformer):
    """Codes of categories to one column of 0 and 1 for each value that was seen.

    The new columns stand after the others. A value that `fit` did not see, and a missing one, is 0 in all of them.

    Parameters
    ----------
    columns : tuple of int
        The columns that hold codes.

    Attributes
    ----------
    levels_ : list of ndarray
        The codes seen in each column, ascending.
    """

    def __init__(self, columns: tuple[int, ...]) -> None:
        self.columns = columns

    def fit(self, X: Matrix, y: Any = None) -> Self:
        """Find the codes of each column of a (n_rows, n_columns) matrix."""
        self.levels_ = [np.unique(column[~np.isnan(column)]) for column in (X[:, i] for i in self.columns)]
        return self

    def transform(self, X: Matrix) -> Matrix:
        """A matrix of n_rows rows: the other columns, then a column for each level."""
        self.check_is_fitted()
        others = np.delete(X, self.columns, axis=1)
        levels = [X[:, [i]] == levels for i, levels in zip(self.columns, self.levels_, strict=True)]
        return np.hstack([others, *levels]).astype(np.float64)

    def origins(self, n_columns: int) -> list[int]:
        self.check_is_fitted()
        others = [column for column in range(n_columns) if column not in self.columns]
        levels = [column for column, levels in zip(self.columns, self.levels_, strict=True) for _ in levels]
        return others + levels


class MinMax(Transformer):
    """Every column to the range from 0 to 1; a missing value becomes 0.

    Attributes
    ----------
    low_, range_ : ndarray, shape (n_columns,)
        Smallest value of each column, NaN where it has none, and its distance to the largest; the range of a constant
        column is 1.
    """

    def fit(self, X: Matrix, y: Any = None) -> Self:
        """Measure the columns of a (n_rows, n_columns) matrix."""
        self.low_: Vector = np.fmin.reduce(X)
        distance = np.fmax.reduce(X) - self.low_
        self.range_: Vector = np.where(distance > 0, distance, 1.0)
        return self

    def transform(self, X: Matrix) -> Matrix:
        """The scaled matrix, of the same shape; rows that `fit` did not see may leave the range."""
        self.check_is_fitted()
        return np.nan_to_num((X - self.low_) / self.range_, nan=0.0)


class Standardize(Transformer):
    """Every column to mean 0 and standard deviation 1; a missing value becomes the mean.

    Attributes
    ----------
    mean_, scale_ : ndarray, shape (n_columns,)
        Mean of each column, NaN where it has no value, and standard deviation; the scale of a constant column is 1.
    """

    def fit(self, X: Matrix, y: Any = None) -> Self:
        """Measure the columns of a (n_rows, n_columns) matrix."""
        known = ~np.isnan(X).all(axis=0)
        self.mean_: Vector = np.full(X.shape[1], np.nan)
        self.mean_[known] = np.nanmean(X[:, known], axis=0)
        deviation = np.ones(X.shape[1])
        deviation[known] = np.nanstd(X[:, known], axis=0)
        varies = np.fmax.reduce(X) > np.fmin.reduce(X)  # rounding gives constant columns a deviation, too
        self.scale_: Vector = np.where(varies & (deviation > 0), deviation, 1.0)
        return self

    def transform(self, X: Matrix) -> Matrix:
        """The standardised matrix, of the same shape."""
        self.check_is_fitted()
        return np.nan_to_num((X - self.mean_) / self.scale_, nan=0.0)


class Target(Transformer):
    """The target column as numbers.

    Parameters
    ----------
    feature : Feature
        What the column is called and which values it may hold.

    Attributes
    ----------
    encode_ : callable
        From a value to its number.
    """

    def __init__(self, feature: Feature) -> None:
        self.feature = feature

    def codes(self) -> set[float] | None:
        """All numbers that it can give; None where these are any of a range."""
        feature = self.feature
        if isinstance(feature, Category):
            return {float(code) for code in range(len(feature.values))}
        if isinstance(feature, Integer) and feature.high - feature.low < MANY_CLASSES:
            return {float(code) for code in range(math.ceil(feature.low), math.floor(feature.high) + 1)}
        return None

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Build the look-up; the declaration says all there is to learn, so `X` is not read."""
        self.encode_ = self.feature.encoder()
        return self

    def transform(self, X: Sequence[Any]) -> Vector:
        """Numbers of the n_rows values of the target column.

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
    """A target whose labels stand for the classes 0 and 1.

    Parameters
    ----------
    feature : Feature
        What the column is called and which values it may hold.
    classes : dict
        The class, 0 or 1, of each label; 1 is the event that the score is the probability of.

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
        """Classes (0.0 or 1.0) of the n_rows labels."""
        super().transform(X)  # refuses what is not allowed
        try:
            return np.array([self.classes[label] for label in X], dtype=np.float64)
        except KeyError:
            raise InvalidTargetError(f"The target '{self.feature.name}' allows a value that has no class.") from None
