"""Distributions: bins that hold everything, show nobody, and mean the same for training and live rows."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.declaration.plain import from_plain
from tabserve.evaluation.distribution import (
    SCORE,
    Distribution,
    distribution_of_codes,
    distribution_of_numbers,
)
from tabserve.evaluation.drift import DRIFT, NONE, compare
from tabserve.evaluation.fairness import FEWEST
from tabserve.registry.artifact import Artifact
from tabserve.training.distributions import columns_of
from tabserve.training.parts import read, split

numbers = st.lists(
    st.one_of(st.just(math.nan), st.integers(-3, 3).map(float), st.floats(-1e30, 1e30)), min_size=1, max_size=300
).map(np.array)
codes = st.lists(st.one_of(st.just(math.nan), st.integers(0, 5).map(float)), min_size=1, max_size=300).map(np.array)
LABELS = ("a", "b", "c", "d", "e", "f")


@given(numbers)
def test_each_number_is_in_one_bin_and_no_bin_is_of_a_few_people(values: np.ndarray) -> None:
    found = distribution_of_numbers(values)
    assert sum(found.counts) + found.missing == len(values)
    assert found.missing == np.isnan(values).sum()
    assert len(found.counts) == 1 or min(found.counts[1:-1], default=FEWEST) >= FEWEST
    assert len(found.counts) == 1 or all(not count or count >= FEWEST for count in found.counts)
    assert list(found.edges) == sorted(set(found.edges))
    assert np.array_equal(found.count(values), found.tallies)
    assert len(found.bins) == len(found.tallies)


@given(codes)
def test_each_category_is_in_one_bin_and_no_label_is_of_a_few_people(values: np.ndarray) -> None:
    found = distribution_of_codes(values, LABELS)
    assert np.array_equal(found.count(values), found.tallies)
    assert found.tallies.sum() == len(values)
    assert all(count >= FEWEST for count in found.counts[:-1])
    assert found.counts[-1] == 0 or found.counts[-1] >= FEWEST or not found.codes
    for code, label, count in zip(found.codes, found.labels, found.counts, strict=False):
        assert LABELS[int(code)] == label
        assert count == (values == code).sum()


def test_deciles_hold_equally_many_and_their_edges_are_nobody_s_value() -> None:
    values = np.random.default_rng(0).lognormal(size=5000)
    found = distribution_of_numbers(values)
    assert len(found.counts) == 10
    assert min(found.counts) > 400
    assert max(found.counts) < 600
    assert not set(found.edges) & set(values.tolist())


def test_a_column_of_few_whole_numbers_has_them_as_bins() -> None:
    found = distribution_of_numbers(np.repeat([0.0, 1.0, 2.0, 4.0], [700, 100, 100, 100]))
    assert found.edges == (0.0, 0.01, 2.0, 4.0)
    assert found.counts == (0, 700, 100, 100, 100)
    assert found.bins == ("below 0", "0 to 0.01", "0.01 to 2", "2 to 4", "4 and above", "(missing)")


def test_a_value_that_most_have_is_a_bin_and_others_are_seen() -> None:
    mostly = np.concatenate([np.zeros(950), np.linspace(1, 9, 50)])
    found = distribution_of_numbers(mostly)
    assert (found.counts, found.bins) == ((0, 950, 50), ("below 0", "0 to 0.0001", "0.0001 and above", "(missing)"))
    live = np.concatenate([np.zeros(300), np.full(300, 5.0)])
    assert compare(found.tallies, found.count(live), 0.0001).verdict == DRIFT
    at_top = distribution_of_numbers(np.concatenate([np.full(900, 10.0), np.linspace(1, 9, 100)]))
    assert at_top.count(np.array([10.0, 11.0])).tolist()[-3:] == [1, 1, 0]


def test_a_constant_that_changes_is_seen() -> None:
    found = distribution_of_numbers(np.full(700, 7.0))
    assert found.bins == ("below 7", "7 to 7.01", "7.01 and above", "(missing)")
    assert compare(found.tallies, found.count(np.full(60, 7.0)), 0.0001).verdict == NONE
    assert compare(found.tallies, found.count(np.full(60, 7.5)), 0.0001).verdict == DRIFT


@pytest.mark.parametrize("values", [np.full(FEWEST - 1, 7.0), np.full(50, math.nan), np.empty(0)])
def test_what_does_not_vary_or_is_of_few_is_one_bin(values: np.ndarray) -> None:
    assert distribution_of_numbers(values).bins == ("any", "(missing)")


def test_live_values_outside_of_what_training_saw_are_counted() -> None:
    found = distribution_of_numbers(np.arange(1000.0))
    assert found.count(np.array([-1e9, 1e9, math.nan])).tolist() == [1, *[0] * 8, 1, 1]
    rare = distribution_of_codes(np.repeat([0.0, 1.0, 2.0], [100, 30, 5]), LABELS)
    assert rare.labels == ("a",)  # without b, the rarer ones would be five people
    assert rare.count(np.array([0.0, 1.0, 5.0])).tolist() == [1, 2, 0]


def test_months_are_counted_apart() -> None:
    values, months = np.repeat([0.0, 1.0, math.nan], 40), np.tile([1, 12], 60)
    found = distribution_of_codes(values, LABELS).with_months(values, months)
    assert found.months == {"01": (20, 20, 0, 20), "12": (20, 20, 0, 20)}


def test_a_model_knows_what_it_was_trained_on_and_what_it_predicts(artifact: Artifact) -> None:
    kept, manifest = artifact.manifest.distributions, artifact.manifest
    assert set(kept.columns) == {column.name for column in artifact.declared.columns}
    trained_on = manifest.data.rows - manifest.hold_out.of
    assert {int(one.tallies.sum()) for one in kept.columns.values()} == {trained_on}
    assert kept.scores[SCORE].tallies.sum() == trained_on
    assert kept.decisions is not None
    assert kept.decisions.labels == artifact.task.outcomes
    assert kept.calibration is not None
    assert kept.calibration.holds(0.05)


def test_bins_say_what_they_are_about() -> None:
    assert Distribution((5, 3), 1, codes=(2.0,), labels=("red",)).bins == ("red", "(rarer values)", "(missing)")


DATED = {
    "target": "left",
    "outcomes": ["no", "yes"],
    "time": "day",
    "columns": {
        "day": {"kind": "date"},
        "born": {"kind": "date"},
        "size": {"kind": "integer", "low": 0, "high": 999},
        "left": {"kind": "boolean"},
    },
    "derived": {
        "year": {"kind": "date_part", "date": "day", "part": "year"},
        "birth_year": {"kind": "date_part", "date": "born", "part": "year"},
        "age": {"kind": "years_between", "start": "born", "end": "day"},
    },
}


def test_what_is_computed_from_the_time_alone_is_left_out_like_the_time(tmp_path: Path) -> None:
    use_case = from_plain(DATED, "leavers")
    days = pd.date_range("2024-01-01", periods=300).strftime("%Y-%m-%d")
    rows = {"day": days, "born": [f"19{50 + n % 50}-05-05" for n in range(300)], "size": range(300)}
    path = tmp_path / "leavers.csv"
    pd.DataFrame({**rows, "left": ["yes", "no"] * 150}).to_csv(path, index=False)
    assert {*columns_of(split(use_case, read(use_case, path), 42))} == {"born", "size", "birth_year", "age"}
