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
