"""Folds: rows that belong together are never on both sides."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabserve.declaration.folds import folds_for
from tabserve.declaration.use_case import UseCase
from tabserve.tasks.binary import Binary, CostMatrix
from tabserve.tasks.regression import Regression
from tabserve.training.folds import blocks_of, folds_of
from tabserve.training.parts import Part, read, split

BINARY = Binary(CostMatrix(missed=1, false_alarm=1))


def part(y: list[float], groups: list[int] | None = None, times: list[float] | None = None) -> Part:
    return Part(
        pd.DataFrame({"y": y}),
        np.empty((len(y), 0)),
        np.array(y, dtype=np.float64),
        None if groups is None else np.array(groups, dtype=np.uint64),
        None if times is None else np.array(times, dtype=np.float64),
    )


@pytest.fixture
def binary(credit: UseCase) -> UseCase:
    return dataclasses.replace(credit, splits=5, repeats=2)


@settings(max_examples=50)
@given(
    groups=st.lists(st.integers(0, 30), min_size=30, max_size=200),
    splits=st.integers(2, 5),
    seed=st.integers(0, 2**31 - 1),
    data=st.data(),
)
def test_each_row_is_judged_once_a_repeat_by_models_that_saw_nothing_of_its_group(
    groups: list[int], splits: int, seed: int, data: st.DataObject
) -> None:
    y = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(groups), max_size=len(groups))), dtype=np.float64)
    for task in (BINARY, Regression()):
        folds = task.folds(y, splits, 3, seed, np.array([*groups, *range(100)], dtype=np.uint64)[: len(y)])
        assert len(folds) == 3 * splits
        judged = np.concatenate([rows for _, rows in folds]).reshape(3, -1)
        assert (np.sort(judged) == np.arange(len(y))).all()
        for fitted, judged in folds:
            assert not {groups[row] for row in fitted} & {groups[row] for row in judged}
            assert len(fitted) + len(judged) == len(y)


def test_one_event_in_200_is_in_every_fold_though_rows_are_duplicated() -> None:
    y = np.zeros(10_000)
    y[::200] = 1
    groups = np.arange(10_000, dtype=np.uint64) // 2 * 2
    for fitted, judged in BINARY.folds(y, 5, 2, 42, groups):
        assert np.sum(y[judged]) == 10
        assert np.sum(y[fitted]) == 40
        assert len(judged) == pytest.approx(2000, abs=4)


def test_repeats_and_seeds_deal_groups_out_otherwise() -> None:
    y, groups = np.arange(100.0), np.arange(100, dtype=np.uint64) // 2
    first, second = (Regression().folds(y, 2, 2, 42, groups)[place][1].tolist() for place in (0, 2))
    assert first != second
    assert Regression().folds(y, 2, 2, 42, groups)[0][1].tolist() == first
    assert Regression().folds(y, 2, 2, 43, groups)[0][1].tolist() != first


def test_rows_that_are_all_distinct_are_dealt_out_as_ever(binary) -> None:
    train = split(binary, read(binary, binary.path), 42).train
    expected = binary.task.folds(train.y, 5, 2, 42)
    found = folds_of(binary, train, 42)
    assert all(
        np.array_equal(one[side], other[side]) for one, other in zip(found, expected, strict=True) for side in (0, 1)
    )


def test_where_few_groups_have_events_there_are_fewer_folds(binary) -> None:
    y = [1.0, 1.0, 1.0] * 10 + [0.0] * 170
    groups = [0, 1, 2] * 10 + list(range(10, 180))
    folds = folds_of(binary, part(y, groups), 42)
    assert len(folds) == 3 * 2


@settings(max_examples=50)
@given(times=st.lists(st.integers(0, 40), min_size=1, max_size=200), number=st.integers(1, 10))
def test_blocks_follow_time_and_part_no_moment(times: list[int], number: int) -> None:
    blocks = blocks_of(np.array(times, dtype=np.float64), number)
    assert len(np.unique(blocks)) <= number
    assert (np.diff(blocks[np.argsort(times, kind="stable")]) >= 0).all()
    assert all(len({int(blocks[row]) for row, time in enumerate(times) if time == one}) == 1 for one in set(times))


def test_distinct_moments_make_blocks_of_the_same_size() -> None:
    assert np.bincount(
        blocks_of(np.random.default_rng(1).permutation(103.0 * np.arange(103)), 5)
    ).tolist() == pytest.approx([20.6] * 5, abs=1)


def test_with_time_each_block_is_judged_once_by_a_model_of_the_others(binary) -> None:
    y = [0.0, 1.0] * 50
    folds = folds_of(binary, part(y, list(range(100)), [float(row // 2) for row in range(100)][::-1]), 42)
    assert [(int(judged.min()), int(judged.max())) for _, judged in folds] == [
        (80, 99),
        (60, 79),
        (40, 59),
        (20, 39),
        (0, 19),
    ]
    assert all(len(fitted) == 80 for fitted, _ in folds)


@given(
    number=st.integers(40, 300),
    in_group=st.integers(1, 4),
    seed=st.integers(0, 2**31 - 1),
    chronological=st.booleans(),
)
def test_of_one_split_a_quarter_judges_and_nothing_of_it_was_fitted_on(
    number: int, in_group: int, seed: int, chronological: bool
) -> None:
    rows = np.arange(number)
    groups = (rows // in_group).tolist()
    use_case = SimpleNamespace(folds_of=lambda n_rows: (1, 1), task=Regression())
    times = [float(-row) for row in rows] if chronological else None
    ((fitted, judged),) = folds_of(use_case, part([float(row) for row in rows], groups, times), seed)
    assert sorted([*fitted, *judged]) == rows.tolist()
    assert len(judged) / number == pytest.approx(0.25, abs=0.06)
    if chronological:
        assert max(judged) < min(fitted)  # the newest rows
    else:
        assert not {groups[row] for row in fitted} & {groups[row] for row in judged}


@pytest.mark.parametrize(
    ("n_rows", "expected"), [(700, (10, 2)), (2_000, (10, 1)), (10_000, (5, 1)), (199_999, (5, 1)), (200_000, (1, 1))]
)
def test_the_more_rows_the_fewer_folds(n_rows: int, expected: tuple[int, int]) -> None:
    assert folds_for(n_rows) == expected


def test_blocks_of_time_are_longer_where_shorter_ones_would_lack_a_class(binary) -> None:
    y = [0.0] * 45 + [1.0] * 10 + [0.0] * 45
    folds = folds_of(binary, part(y, list(range(100)), [float(row) for row in range(100)]), 42)
    assert len(folds) == 2
