"""Intervals: they are those of the sources, and cover as often as they say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from tabserve.evaluation.intervals import Estimate, deviate, difference, mean, ratio, share, smallest_ratio


@given(st.integers(1, 5000), st.data())
def test_a_share_s_interval_is_scipy_s(rows: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, rows))
    found, expected = share(hits, rows), stats.binomtest(hits, rows).proportion_ci(0.95, "wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize("rows", [2, 3, 5, 6, 7, 8, 10, 20, 100, 10_000])
def test_a_mean_s_interval_is_student_s(rows: int) -> None:
    values = np.random.default_rng(rows).normal(3, 2, rows)
    found = mean(values)
    expected = stats.t.interval(0.95, rows - 1, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected, rel=2e-4)


def test_one_value_has_no_interval() -> None:
    assert mean(np.array([2.0])) == Estimate(2.0, -math.inf, math.inf)


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [  # Newcombe 1998, table II, method 10
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_a_difference_of_shares_is_newcombe_s(
    one: tuple[int, int], other: tuple[int, int], low: float, high: float
) -> None:
    found = difference(share(*one), share(*other))
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


def test_a_difference_of_means_is_nearly_welch_s() -> None:
    generator = np.random.default_rng(4)
    one, other = generator.normal(3, 1, 80), generator.normal(2, 4, 300)
    found = difference(mean(one), mean(other))
    expected = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.005)


@given(st.integers(0, 50), st.integers(1, 50), st.integers(1, 2000), st.integers(1, 2000))
def test_a_ratio_s_ends_are_where_the_difference_begins_with_0(a: int, b: int, n: int, m: int) -> None:
    one, other = share(min(a, n), n), share(min(b, m), m)
    found = ratio(one, other)

    def of(r: float) -> Estimate:
        return difference(one, Estimate(r * other.value, r * other.low, r * other.high))

    if one.value:
        low = optimize.brentq(lambda r: of(r).low, 0, one.value / other.value)
        assert found.low == pytest.approx(low, rel=1e-6, abs=1e-9)
    high = optimize.brentq(lambda r: of(r).high, found.value, 1e9)
    assert found.high == pytest.approx(high, rel=1e-6)
    assert 0 <= found.low <= found.value <= found.high


def test_what_may_be_0_divides_to_any_size() -> None:
    found = ratio(share(3, 10), share(0, 10))
    assert math.isnan(found.value)
    assert 0 < found.low < found.high == math.inf
    nothing = ratio(share(0, 10), share(0, 10))
    assert (nothing.low, nothing.high) == (0, math.inf)


@pytest.mark.parametrize(("p", "n", "q", "m"), [(0.5, 30, 0.5, 500), (0.02, 200, 0.05, 200), (0.97, 40, 0.9, 40)])
def test_intervals_cover_as_often_as_they_say(p: float, n: int, q: float, m: int) -> None:
    generator = np.random.default_rng(7)
    differences = ratios = 0
    for a, b in zip(generator.binomial(n, p, 2000).tolist(), generator.binomial(m, q, 2000).tolist(), strict=True):
        one, other = share(a, n), share(b, m)
        found, divided = difference(one, other), ratio(one, other)
        differences += found.low <= p - q <= found.high
        ratios += divided.low <= p / q <= divided.high
    assert 0.93 < differences / 2000 <= 0.99
    assert 0.93 < ratios / 2000 <= 0.99


@pytest.mark.parametrize("groups", [2, 4, 10])
def test_equal_groups_are_not_taken_for_unequal_ones(groups: int) -> None:
    generator = np.random.default_rng(groups)
    found = [
        smallest_ratio([(hits, 60) for hits in hits_of])
        for hits_of in generator.binomial(60, 0.5, (1000, groups)).tolist()
    ]
    assert sum(one.high < 1 for one in found) <= 65  # of 1000 at a twentieth: more has a chance of one in a hundred
    assert all(one.low <= one.value <= one.high for one in found)
    if groups == 10:  # by its value alone, nearly every one would break the rule of four fifths
        assert sum(one.value < 0.8 for one in found) > 900


def test_unequal_groups_are_found() -> None:
    found = smallest_ratio([(300, 1000), (900, 1000), (500, 600)])
    assert found.value == pytest.approx(1 / 3)
    assert 0.28 < found.low < found.high < 0.4


def test_a_ratio_of_one_group_or_of_nothing_is_not_known() -> None:
    for shares in ([(3, 10)], [], [(0, 30), (0, 30)]):
        found = smallest_ratio(shares)
        assert math.isnan(found.value)
        assert (found.low, found.high) == (0, 1)


def test_intervals_that_cover_together_are_wider() -> None:
    assert deviate() == pytest.approx(stats.norm.isf(0.025))
    assert deviate(20) == pytest.approx(stats.norm.isf(0.025 / 20))
    assert Estimate(0.5, 0.4, 0.7).widened(2) == Estimate(0.5, pytest.approx(0.3), pytest.approx(0.9))
