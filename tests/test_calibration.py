"""Calibration: what is right passes however few rows there are, and what is wrong does not."""

import numpy as np
import pytest

from tabserve.evaluation.calibration import calibration


@pytest.mark.parametrize("n_rows", [30, 300, 30_000])
def test_the_error_of_right_probabilities_is_chance(n_rows: int) -> None:
    generator = np.random.default_rng(1)
    errors, chances = [], []
    for _ in range(200 if n_rows < 1000 else 5):
        probabilities = generator.beta(2, 5, n_rows)
        found = calibration((generator.random(n_rows) < probabilities).astype(float), probabilities)
        errors.append(found.error)
        chances.append(found.chance)
    assert np.mean(errors) == pytest.approx(np.mean(chances), rel=0.15)


def test_probabilities_that_are_too_high_do_not_hold() -> None:
    generator = np.random.default_rng(2)
    probabilities = generator.beta(2, 5, 3000)
    found = calibration((generator.random(3000) < probabilities / 2).astype(float), probabilities)
    assert not found.holds(0.05)
    assert sum(found.rows) == 3000
    assert all(observed < predicted for observed, predicted in zip(found.observed, found.predicted, strict=True))


def test_one_row_is_enough() -> None:
    assert calibration(np.array([1.0]), np.array([0.5])).rows == (1,)


def test_equal_probabilities_share_a_bin_whatever_the_order() -> None:
    probabilities = np.repeat([0.1, 0.6], 500)
    y = np.concatenate([np.repeat([1.0, 0.0], [50, 450]), np.repeat([1.0, 0.0], [300, 200])])  # all 1s come first
    found = calibration(y, probabilities)
    assert (found.rows, found.error) == ((500, 500), pytest.approx(0))
    generator = np.random.default_rng(1)
    order = generator.permutation(1000)
    assert calibration(y[order], probabilities[order]) == found


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_certain_probabilities_are_right_or_wrong(value: float) -> None:
    right = calibration(np.full(200, value), np.full(200, value))
    assert (right.error, right.chance, right.holds(0.05)) == (0, 0, True)
    assert not calibration(np.full(200, 1 - value), np.full(200, value)).holds(0.05)


def test_a_rare_outcome_that_is_three_times_as_frequent_does_not_hold() -> None:
    generator = np.random.default_rng(3)
    probabilities = generator.beta(1, 99, 20_000)
    frequent, as_said = ((generator.random(20_000) < times * probabilities).astype(float) for times in (3, 1))
    assert not calibration(frequent, probabilities).holds(0.05)
    assert calibration(as_said, probabilities).holds(0.05)


def test_chance_seldom_makes_right_probabilities_wrong() -> None:
    generator = np.random.default_rng(4)
    held = []
    for share in (1, 10) * 100:
        probabilities = generator.beta(share, 100 - share, 700)
        held.append(calibration((generator.random(700) < probabilities).astype(float), probabilities).holds(0.05))
    assert np.mean(held) > 0.95
