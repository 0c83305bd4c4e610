"""The ranges that parameters are searched in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabserve.search_space import Flag, Real, Whole


@settings(deadline=None)
@given(low=st.floats(1e-9, 1e9), factor=st.floats(1, 1e6), share=st.floats(0, 1), log=st.booleans())
def test_every_position_between_the_bounds_is_a_value_between_them(
    low: float, factor: float, share: float, log: bool
) -> None:
    dimension = Real(low, low * factor, log=log)
    start, end = dimension.bounds
    assert dimension.low <= dimension.value(min(start + share * (end - start), end)) <= dimension.high


@pytest.mark.parametrize("log", [False, True])
def test_both_bounds_can_be_reached(log: bool) -> None:
    real, whole = Real(0.3, 0.7, log=log), Whole(4, 24, log=log)
    assert [real.value(position) for position in real.bounds] == [0.3, 0.7]
    assert [whole.value(position) for position in whole.bounds] == [4, 24]
    assert [Flag().value(position) for position in Flag().bounds] == [False, True]


@given(value=st.floats(-20, 20), low=st.floats(0.5, 5), width=st.floats(0, 5), log=st.booleans())
def test_a_position_within_the_bounds_stands_for_the_value_nearest_to_it(
    value: float, low: float, width: float, log: bool
) -> None:
    real = Real(low, low + width, log=log)
    assert real.bounds[0] <= real.position(value) <= real.bounds[1]
    assert real.value(real.position(value)) == pytest.approx(min(max(value, low), low + width))


@pytest.mark.parametrize(
    ("value", "expected"), [(8, Whole(8, 48, log=True)), (4, Whole(2, 24, log=True)), (24, Whole(4, 48, log=True))]
)
def test_a_range_is_widened_where_a_value_stands_at_its_edge(value: int, expected: Whole) -> None:
    space = Whole(4, 24, log=True)
    assert space.widened_at(value, 1, 100) == (space if value == 8 else expected)


def test_a_range_is_widened_up_to_its_limit_and_a_flag_never() -> None:
    assert Real(0.5, 1.0).widened_at(1.0, 0, 1) == Real(0.5, 1.0)
    assert Real(0.5, 0.9).widened_at(0.9, 0, 1) == Real(0.5, 1.0)
    assert Real(0.5, 1.0).widened_at(0.5, 0, 1) == Real(0.25, 1.0)
    assert Flag().widened_at(True, 0, 1) == Flag()
