"""Cells as Arrow arrays: what goes in comes out."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.columns.arrays import cell_array, python_cells
from tabserve.columns.dates import Date

KINDS = (
    st.none(),
    st.text(max_size=5),
    st.just("\ud800"),
    st.integers(),
    st.floats(allow_nan=False).filter(lambda number: not number.is_integer()),
    st.booleans(),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
    st.decimals(allow_nan=False, allow_infinity=False),
)


@given(st.lists(st.one_of(*KINDS)), st.integers(0, 3))
def test_cells_come_back_as_they_were(cells: list[Any], start: int) -> None:
    back = python_cells(cell_array(cells))
    assert back == cells
    assert [*map(type, back)] == [*map(type, cells)]
    assert python_cells(cell_array(cells).slice(start)) == cells[start:]


@given(st.sampled_from(KINDS).flatmap(lambda kind: st.lists(kind | st.none())))
def test_cells_of_one_kind_come_back_as_they_were(cells: list[Any]) -> None:
    assert python_cells(cell_array(cells)) == cells


@pytest.mark.parametrize(("cell", "back"), [(3.0, 3), (float("nan"), None), (1e300, 1e300)])
def test_floats_are_read_as_in_workbooks(cell: float, back: Any) -> None:
    assert python_cells(cell_array([cell, None])) == [back, None]


def test_dates_are_dates_and_times_are_times() -> None:
    cells = [date(2024, 2, 29), datetime(2024, 2, 29, 12), Decimal("1.50")]
    assert python_cells(cell_array(cells)) == cells


def test_nanoseconds_are_cut_off() -> None:
    cells = pa.array([-1, None, 1_500], pa.timestamp("ns"))
    assert python_cells(cells) == [datetime(1969, 12, 31, 23, 59, 59, 999_999), None, datetime(1970, 1, 1, 0, 0, 0, 1)]


@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.timestamp("ms", "UTC"), pa.date64()])
def test_a_moment_that_python_cannot_hold_is_a_text(kind: pa.DataType) -> None:
    first, empty, out_of_range = python_cells(pa.array([0, None, 2**62], pa.int64()).cast(kind))
    assert isinstance(first, date)
    assert empty is None
    assert isinstance(out_of_range, str)
    assert Date(name="x").encode_cells(pa.array([0, 2**62], pa.int64()).cast(kind))[1].tolist() == [False, True]
