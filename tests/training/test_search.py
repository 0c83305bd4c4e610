"""The search of many rows: samples, batches, and whoever makes the trials."""

import dataclasses
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.use_case import UseCase
from tabserve.executors import open_executor
from tabserve.training import search
from tabserve.training.candidate import Candidate, fit
from tabserve.training.parts import Part, read, split
from tabserve.training.plan import Plan
from tabserve.training.search import FEWEST_OF_A_CLASS, sample, sample_sizes
from tests.training.helpers import FEW_FOLDS


@pytest.fixture
def few(credit: UseCase) -> UseCase:
    return dataclasses.replace(credit, **FEW_FOLDS)


@pytest.fixture
def train(few: UseCase) -> Part:
    return split(few, read(few, few.path), 42).train


@pytest.fixture
def own(credit: UseCase) -> Algorithm:
    """LightGBM with its own search space."""
    return dataclasses.replace(credit.algorithms[0], search_space=None)


@pytest.fixture
def many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of credit are many."""
    monkeypatch.setattr(search, "MANY_ROWS", 500)
    monkeypatch.setattr(search, "SMALLEST_SAMPLE", 60)


def scores(one: Candidate, *, is_sampled: bool) -> list[float]:
    return [trial.cross_validation.score for trial in one.trials if trial.is_sampled == is_sampled]


@given(
    sizes=st.lists(st.integers(1, 100), min_size=1, max_size=5),
    size=st.integers(1, 300),
    seed=st.integers(0, 2**31 - 1),
)
def test_a_sample_loses_no_class_and_is_the_same_for_the_same_seed(sizes: list[int], size: int, seed: int) -> None:
    y = np.repeat(np.arange(float(len(sizes))), sizes)
    rows = sample(y, size, seed)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert len(rows) >= min(size, len(y))
    for code, number in enumerate(sizes):
        assert np.sum(y[rows] == code) >= min(number, FEWEST_OF_A_CLASS, number)
    assert rows.tolist() == sample(y, size, seed).tolist()


@pytest.mark.parametrize(
    ("n_rows", "trials", "expected"),
    [
        (20_000, 30, []),
        (20_001, 30, [6_667]),
        (89_999, 30, [29_999]),
        (90_000, 30, [10_000, 30_000]),
        (1_000_000, 30, [111_111, 333_333]),
        (1_000_000, 9, [333_333]),  # a third of the trials are the finalists
        (1_000_000, 3, []),
        (1_000_000, 1, []),
    ],
)
def test_samples_grow_threefold(n_rows: int, trials: int, expected: list[int]) -> None:
    assert sample_sizes(n_rows, trials) == expected


@pytest.mark.usefixtures("many_rows")
def test_of_many_rows_all_trials_are_made_on_few_and_the_best_few_on_all(few, own, train, monkeypatch) -> None:
    monkeypatch.setattr(search, "SMALLEST_SAMPLE", 600)  # one sample
    told = []
    plan = Plan(trials=5, jobs=1, progress=lambda algorithm, trials, total: told.append((len(trials), total)))
    one = fit(few, own, train, plan)
    sampled = [trial for trial in one.trials if trial.is_sampled]
    finals = [trial for trial in one.trials if not trial.is_sampled]
    assert len(sampled) >= 5
    assert len(finals) in (3, 4)
    assert finals[0].parameters == sampled[0].parameters  # LightGBM's own
    assert sampled[0].parameters.items() <= own.model.get_params().items()
    assert sampled[0].cross_validation.out_of_fold.shape == (1, len(train.y) // 3)
    assert one.out_of_fold.shape == (1, len(train.y))
    assert one.notes[0] == (
        f"{len(sampled)} trials were made on {len(train.y) // 3} of {len(train.y)} rows in two folds, and the most "
        f"promising ones repeated: {len(finals)} on all rows."
    )
    assert told == [(number, 5) for number in range(len(one.trials) + 1)]
    best = max(finals, key=lambda trial: trial.cross_validation.score)
    assert best.parameters.items() <= one.model.get_params().items()


@pytest.mark.usefixtures("many_rows")
def test_only_the_best_of_each_sample_are_repeated_on_the_next(few, own, train) -> None:
    one = fit(few, own, train, Plan(trials=12, jobs=1))
    rows = [trial.cross_validation.out_of_fold.shape[1] for trial in one.trials]
    assert rows == sorted(rows)
    sizes, made = np.unique(rows, return_counts=True)
    assert sizes[0] == pytest.approx(len(train.y) / 9, abs=6)  # more of the rare class
    assert sizes[1:].tolist() == [len(train.y) // 3, len(train.y)]
    assert made[0] >= 12
    assert made[0] // 3 <= made[1] <= made[0] // 3 + 1
    assert made[2] in (3, 4)
    first, second = one.trials[: made[0]], one.trials[made[0] : sum(made[:2])]
    best = max(first, key=lambda trial: trial.cross_validation.score)
    assert best.parameters in [trial.parameters for trial in second]
    best = max(second, key=lambda trial: trial.cross_validation.score)
    assert best.parameters in [trial.parameters for trial in one.trials[sum(made[:2]) :]]
    assert one.notes[0] == (
        f"{made[0]} trials were made on {sizes[0]} of {sizes[2]} rows in two folds, and the most promising ones "
        f"repeated: {made[1]} on {sizes[1]} rows, {made[2]} on all rows."
    )


@pytest.mark.slow
@pytest.mark.usefixtures("many_rows")
def test_whoever_makes_the_trials_the_model_is_the_same(few, own, train) -> None:
    plan = Plan(trials=6, jobs=1)
    here = fit(few, own, train, plan)
    for spec, jobs in (("threads", 1), ("threads", 4), ("processes", 1), ("processes", 4)):
        with open_executor(spec, jobs) as pool:
            there = fit(few, own, train, dataclasses.replace(plan, executor=pool, jobs=jobs))
        assert [trial.parameters for trial in there.trials] == [trial.parameters for trial in here.trials]
        for is_sampled in (True, False):
            assert scores(there, is_sampled=is_sampled) == scores(here, is_sampled=is_sampled)
        assert there.model.text_ == here.model.text_
        assert there.notes == here.notes


def test_few_rows_stay_here(few, own, train) -> None:
    with open_executor("threads", 1) as pool:
        pool.submit = pool.share = partial(pytest.fail, "asked for")
        fit(few, own, train, Plan(trials=1, jobs=1, executor=pool))
