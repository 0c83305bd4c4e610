"""Columns of a table as pandas columns: the values stay, and numbers and texts are no objects."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.columns.arrays import cell_array
from tabserve.columns.boolean import Boolean
from tabserve.columns.carried import Id
from tabserve.columns.features import Category, Feature, Integer, Number
from tabserve.tables.kept import CellColumn, Cells
from tabserve.training.frames import as_series

NUMBER = Number(name="one", missing=True)
TOWN = Category(name="one", other="others", missing=True)
texts = st.none() | st.sampled_from(["Ulm", " Ulm", "Köln", "", "7", "?"])


def column(feature: Feature, *parts: list[Any]) -> CellColumn:
    batches = [pa.RecordBatch.from_arrays([cell_array(part)], ["one"]) for part in parts]
    return CellColumn(feature.with_markers(["?"]), Cells(batches))


@pytest.mark.parametrize(
    ("feature", "parts", "dtype"),
    [
        (NUMBER, (["1", "2.0"], ["3"]), "int64"),
        (NUMBER, (["1", "2.5"], ["3"]), "float64"),
        (NUMBER, (["1", "?"], ["3"]), "float64"),
        (NUMBER, ([1, 2.5], [None, None]), "float64"),
        (Integer(name="one", missing=True), (["1", "2"], ["3"]), "int64"),
        (Integer(name="one", missing=True), (["1", ""], ["3"]), "float64"),
        (TOWN, (["Ulm", None], ["Ulm", "?"]), "category"),
        (Boolean(name="one"), (["yes", "no"],), "bool"),
        (Boolean(name="one", missing=True), (["yes", None],), "object"),
        (Id(name="one"), ([1, 2**40],), "int64"),
        (Id(name="one"), ([1, 2], ["a", None]), "object"),
        (TOWN, ([None, None],), "category"),
    ],
)
def test_a_column_has_the_values_of_its_cells_and_this_type(feature: Feature, parts: Any, dtype: str) -> None:
    values = column(feature, *parts)
    series = as_series(values)
    assert str(series.dtype) == dtype
    assert series.astype(object).where(series.notna(), None).tolist() == [*values]


@given(parts=st.lists(st.lists(texts, min_size=1), min_size=1, max_size=3))
def test_texts_are_kept_once_and_in_their_order(parts: list[list[str | None]]) -> None:
    values = [*column(TOWN, *parts)]
    series = as_series(column(TOWN, *parts))
    assert series.astype(object).where(series.notna(), None).tolist() == values
    if any(values):
        assert [*series.cat.categories] == [*dict.fromkeys(filter(None, values))]


@given(parts=st.lists(st.lists(st.none() | st.floats(-1e9, 1e9) | st.integers(-9, 9), min_size=1), min_size=1))
def test_numbers_stay_the_same_to_the_last_bit(parts: list[list[float | None]]) -> None:
    values = [*column(NUMBER, *parts)]
    expected = [math.nan if value is None else value for value in values]
    np.testing.assert_array_equal(as_series(column(NUMBER, *parts)).to_numpy(dtype=np.float64), expected)


def test_a_column_that_is_not_in_the_file_has_no_value() -> None:
    assert as_series([None, None]).isna().all()
