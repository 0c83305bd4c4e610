"""Example: a valid record that is typical of a table and nobody's own."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tabserve.columns.features import Category, Feature, Integer, Number
from tabserve.declaration.use_case import UseCase

if TYPE_CHECKING:
    import pandas as pd

DIGITS = 3  # of a number, so that it is not recognised


def with_example(use_case: UseCase, table: "pd.DataFrame") -> UseCase:
    """The use case with an example: its own, or one made from the rows to train on."""
    return use_case if use_case.example else replace(use_case, example=typical_record(use_case.features, table))


def typical_record(features: tuple[Feature, ...], table: "pd.DataFrame") -> dict[str, Any]:
    """A record of medians and most frequent values.

    Parameters
    ----------
    features : tuple of Feature
    table : DataFrame
        n_rows rows with valid values of the features.

    Returns
    -------
    dict
        A valid record. It is none of the rows, unless every record that is like it is one.
    """
    record = {feature.name: _typical(feature, table[feature.name]) for feature in features}
    if not _is_a_row(record, table):
        return record
    others = (
        {**record, feature.name: value} for feature in features for value in _others(feature, record[feature.name])
    )
    return next((other for other in others if not _is_a_row(other, table)), record)


def _typical(feature: Feature, column: "pd.Series[Any]") -> Any:
    places, values = column.factorize()
    if not len(values):
        return feature.default
    if isinstance(feature, Number):
        return _rounded(feature, float(column.dropna().astype(float).median()))
    common = values.tolist()[int(np.bincount(places[places >= 0]).argmax())]
    return common if feature.problem(common) is None else None


def _rounded(feature: Number, value: float) -> int | float:
    """A number of few digits within the bounds."""
    if isinstance(feature, Integer):
        return min(max(round(value), math.ceil(feature.low)), math.floor(feature.high))
    return float(min(max(float(f"{value:.{DIGITS}g}"), feature.low), feature.high))


def _others(feature: Feature, value: Any) -> Iterator[Any]:
    """Other values that are valid, the nearest first."""
    if isinstance(feature, Category):
        yield from (other for other in feature.values if other != value)
    elif isinstance(feature, Number) and value is not None:
        step = 1 if isinstance(feature, Integer) else abs(value) / 10 or 1.0
        near = (value + sign * steps * step for steps in range(1, 20) for sign in (1, -1))
        yield from (other for other in near if feature.problem(other) is None)


def _is_a_row(record: dict[str, Any], table: "pd.DataFrame") -> bool:
    left = table
    for name, value in record.items():
        column = left[name]
        left = left[column.isna() if value is None else column == value]
    return len(left) > 0
