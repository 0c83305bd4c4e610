"""Rows in groups, as charts show them."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from tabserve.aliases import Matrix, Vector
from tabserve.columns.boolean import Boolean
from tabserve.columns.features import Category, Feature
from tabserve.evaluation.fairness import FEWEST

MOST_VALUES = 32  # values of a number that are shown one by one
BINS = 10  # groups of rows by a number; fewer, where a group would have too few rows to be shown


def calibration(y: Vector, probabilities: Vector) -> Matrix:
    """Mean probability and share of 1s, by tenths of the rows in the order of their probabilities.

    Parameters
    ----------
    y : ndarray of 0 and 1, shape (n_rows,)
    probabilities : ndarray, shape (n_rows,)

    Returns
    -------
    ndarray, shape (n_bins, 2)
    """
    return np.array([(probabilities[rows].mean(), y[rows].mean()) for rows in tenths(probabilities)])


def tenths(values: Vector) -> list[Any]:
    """Row numbers in ten groups of equal size, in the order of the values; in fewer if ten would be too small."""
    order = np.argsort(values, kind="stable")
    return np.array_split(order, max(1, min(BINS, len(values) // FEWEST)))


def quartiles_by(feature: Feature, values: Vector, errors: Vector) -> tuple[list[str] | Vector, Matrix]:
    """Quartiles of errors by a feature's values, or by tenths of the rows where it has many.

    Groups with too few rows to be shown are left out: their quartiles would reveal single rows.

    Parameters
    ----------
    feature : Feature
        A category, a yes or no, or a number: which values there are, and in which order.
    values : ndarray of object, shape (n_rows,)
        The feature's values.
    errors : ndarray, shape (n_rows,)

    Returns
    -------
    labels : list of str, or ndarray of numbers
    quartiles : ndarray, shape (n_labels, 3)
    """
    if isinstance(feature, Category | Boolean):
        named = feature.words if isinstance(feature, Boolean) else feature.labels
        encode = replace(feature, default=None, missing=True).encoder()
        known = (None if value != value else value for value in values)  # NaN is how pandas writes a missing text
        codes = np.array([*map(encode, known)], dtype=np.float64)
        groups = {name: errors[codes == code] for code, name in enumerate(named)}
        groups = {name: group for name, group in groups.items() if len(group) >= FEWEST}
        return list(groups), _quartiles(groups.values())
    numbers = values.astype(np.float64)
    numbers, errors = numbers[~np.isnan(numbers)], errors[~np.isnan(numbers)]
    distinct, counts = np.unique(numbers, return_counts=True)
    if len(distinct) <= MOST_VALUES:
        distinct = distinct[counts >= FEWEST]
        return distinct, _quartiles(errors[numbers == value] for value in distinct)
    bins = [rows for rows in tenths(numbers) if len(rows) >= FEWEST]
    return np.array([np.median(numbers[rows]) for rows in bins]), _quartiles(errors[rows] for rows in bins)


def quartiles_of_truth(y: Vector, predictions: Vector) -> Matrix:
    """Mean prediction and the truth's quartiles, by tenths of the rows in the order of their predictions.

    Parameters
    ----------
    y, predictions : ndarray, shape (n_rows,)

    Returns
    -------
    ndarray, shape (n_bins, 4)
    """
    bins = tenths(predictions)
    return np.hstack([np.array([[predictions[rows].mean()] for rows in bins]), _quartiles(y[rows] for rows in bins)])


def _quartiles(groups: Iterable[Vector]) -> Matrix:
    """Lower quartile, median and upper quartile of each group."""
    return np.array([np.quantile(group, [0.25, 0.5, 0.75]) for group in groups]).reshape(-1, 3)
