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
