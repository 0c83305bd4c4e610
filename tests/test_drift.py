"""Drift: no false alarm however many rows there are, and a real shift is found."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tabserve.evaluation.drift import DRIFT, NONE, TOO_FEW, WATCH, chi_squared_above, compare

DECILES = np.full(10, 0.1)
SKEWED = np.array([0.5, 0.2, 0.1, 0.08, 0.05, 0.03, 0.02, 0.01, 0.005, 0.005])
SHIFTED = np.array([0.02, 0.03, 0.05, 0.08, 0.1, 0.12, 0.14, 0.15, 0.15, 0.16])
counts = st.lists(st.integers(0, 1000), min_size=1, max_size=12)


@pytest.mark.parametrize("n_rows", [60, 600, 60_000])
@pytest.mark.parametrize("shares", [DECILES, SKEWED])
def test_there_are_no_more_false_alarms_than_are_allowed(n_rows: int, shares: np.ndarray) -> None:
    generator = np.random.default_rng(n_rows)
    alarms = [
        compare(training, live).verdict in (DRIFT, WATCH)
        for training, live in zip(
            generator.multinomial(700, shares, 300), generator.multinomial(n_rows, shares, 300), strict=True
        )
    ]
    assert sum(alarms) <= 9  # of 300 at a hundredth: more has a chance of one in a thousand


@pytest.mark.parametrize("n_rows", [600, 60_000])
def test_a_real_shift_is_found(n_rows: int) -> None:
    generator = np.random.default_rng(3)
    found = compare(generator.multinomial(700, DECILES), generator.multinomial(n_rows, SHIFTED), 0.0001)
    assert found.verdict == DRIFT


def test_a_tiny_change_of_a_million_rows_is_significant_and_no_drift() -> None:
    live = (1_000_000 * (DECILES + np.tile([0.002, -0.002], 5))).astype(np.int64)
    found = compare((1_000_000 * DECILES).astype(np.int64), live)
    assert found.p_value < 1e-6
    assert found.verdict == NONE


def test_a_change_between_the_two_bounds_is_to_be_watched() -> None:
    live = (100_000 * np.array([0.18, 0.15, 0.12, 0.1, 0.1, 0.09, 0.08, 0.07, 0.06, 0.05])).astype(np.int64)
    assert compare((100_000 * DECILES).astype(np.int64), live).verdict == WATCH


def test_few_rows_say_what_they_could_tell() -> None:
    found = compare(np.full(10, 70), np.full(10, 6), 0.01 / 20)
    assert found.verdict == TOO_FEW
    assert found.detectable == pytest.approx(stats.chi2.isf(0.01 / 20, 9) * (1 / 60 + 1 / 700))
    assert found.power < 0.2
    assert compare(np.full(10, 70_000), np.full(10, 6_000), 0.01 / 20).power == 1.0


def test_values_that_were_never_missing_and_now_are_count() -> None:
    assert compare(np.array([350, 350, 0]), np.array([21, 21, 18]), 0.0005).verdict == DRIFT
    assert math.isfinite(compare(np.array([700, 0]), np.array([0, 60])).psi)


@pytest.mark.parametrize(
    ("training", "live", "verdict"), [([0], [5], TOO_FEW), ([5, 0], [0, 0], TOO_FEW), ([5], [5], NONE)]
)
def test_what_cannot_be_compared_is_no_drift(training: list[int], live: list[int], verdict: str) -> None:
    assert compare(np.array(training), np.array(live)).verdict == verdict


def test_a_large_shift_is_found_among_many_comparisons_though_a_bin_holds_few_rows() -> None:
    training = np.array([70] * 10 + [0])
    live = np.array([2, 3, 5, 8, 60, 80, 90, 100, 120, 130, 2])  # two values are missing
    assert compare(training, live, 0.01 / 500).verdict == DRIFT
    assert compare(np.array([400, 300, 0]), np.array([270, 210, 120]), 0.01 / 500).verdict == DRIFT
    rare = compare(np.array([690, 0, 0, 0, 0, 0]), np.array([28, 1, 1, 1, 1, 1]), 0.01 / 500)  # only in small bins
    assert 0 < rare.p_value <= 0.01 / 500
    assert rare.verdict == DRIFT


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [80, 900])
def test_twenty_columns_a_month_have_no_more_false_alarms_together(n_rows: int) -> None:
    generator = np.random.default_rng(n_rows)
    shares = [generator.dirichlet(np.full(generator.integers(2, 12), 0.7)) for _ in range(20)]
    alarms = 0
    for _ in range(100):
        columns = [(generator.multinomial(700, of), generator.multinomial(n_rows, of)) for of in shares]
        alarms += any(compare(training, live, 0.01 / 20).p_value <= 0.01 / 20 for training, live in columns)
    assert alarms <= 4  # of 100 at a hundredth: more has a chance of four in a thousand


@given(counts, st.data())
def test_psi_is_finite_and_equal_samples_have_none(training: list[int], data: st.DataObject) -> None:
    live = data.draw(st.lists(st.integers(0, 1000), min_size=len(training), max_size=len(training)))
    found = compare(np.array(training), np.array(live))
    assert 0 <= found.psi < math.inf
    assert 0 <= found.p_value <= 1
    assert 0 <= found.power <= 1
    assert compare(np.array(training), np.array(training)).psi == 0


def test_psi_is_the_textbook_s_where_rows_are_many() -> None:
    p, q = DECILES, SHIFTED
    found = compare((1e7 * p).astype(np.int64), (1e7 * q).astype(np.int64))
    assert found.psi == pytest.approx(float(np.sum((q - p) * np.log(q / p))), rel=1e-4)


@given(st.floats(0, 300), st.integers(1, 60))
def test_chi_squared_is_scipy_s(x: float, freedom: int) -> None:
    assert chi_squared_above(x, freedom) == pytest.approx(stats.chi2.sf(x, freedom), rel=1e-9, abs=1e-300)
