"""The split: no row ever changes sides."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabserve.columns.features import Category, CyclicInteger, Feature, Integer, Number
from tabserve.declaration.use_case import UseCase
from tabserve.training.hold_out import hashes, held_out
from tabserve.training.parts import read
from tests.conftest import ROOT

FEATURES: tuple[Feature, ...] = (
    Number(name="size", description="-", low=-1e9, high=1e9, missing=True),
    Integer(name="rooms", description="-", low=0, high=9, missing=True),
    CyclicInteger(name="hour", description="-", low=0, high=24),
    Category(name="colour", description="-", values=("red", "blue", "ä"), missing=True),
)
FIRST_HELD_OUT = [21, 32, 34, 35, 36, 39, 47, 49, 52, 59, 67, 69]  # rows of the credit data
rows = st.fixed_dictionaries(
    {
        "size": st.none() | st.floats(-1e9, 1e9),
        "rooms": st.none() | st.integers(0, 9),
        "hour": st.integers(0, 23),
        "colour": st.none() | st.sampled_from(["red", "blue", "ä"]),
    }
)
tables = st.lists(rows, min_size=1, max_size=30)


def sides(records: list[dict[str, Any]], seed: int = 42, share: float = 0.5) -> list[bool]:
    return held_out(hashes(pd.DataFrame(records), FEATURES, seed), share).tolist()


@settings(max_examples=50)
@given(parts=st.lists(tables, min_size=5, max_size=5), seed=st.integers(0, 2**31))
def test_a_table_that_grows_five_times_moves_no_row(parts: list[list[dict[str, Any]]], seed: int) -> None:
    grown: list[dict[str, Any]] = []
    before: list[bool] = []
    for part in parts:
        grown = [*grown, *part]
        after = sides(grown, seed)
        assert after[: len(before)] == before
        before = after


@settings(max_examples=50)
@given(records=tables, data=st.data())
def test_order_outcomes_and_duplicates_change_nothing(records: list[dict[str, Any]], data: st.DataObject) -> None:
    expected = sides(records)
    order = data.draw(st.permutations(range(len(records))))
    assert sides([records[place] for place in order]) == [expected[place] for place in order]
    assert sides([{**record, "outcome": place} for place, record in enumerate(records)]) == expected
    assert sides(records * 3) == expected * 3
    assert sides([dict(reversed(record.items())) for record in records]) == expected
    reverse = held_out(hashes(pd.DataFrame(records), FEATURES[::-1], 42), 0.5).tolist()
    assert reverse == expected


@settings(max_examples=50)
@given(records=tables)
def test_equal_values_are_equal_however_they_are_written(records: list[dict[str, Any]]) -> None:
    expected = sides(records)
    as_floats = [
        {**record, "rooms": None if record["rooms"] is None else float(record["rooms"]), "hour": record["hour"] or 24}
        for record in records
    ]
    assert sides(as_floats) == expected
    cells = [{name: np.nan if value is None else value for name, value in record.items()} for record in records]
    assert sides(cells) == expected
    named = pd.DataFrame(records).convert_dtypes()
    assert held_out(hashes(named, FEATURES, 42), 0.5).tolist() == expected


def test_a_zero_has_no_sign() -> None:
    record = {"size": 0.0, "rooms": 1, "hour": 1, "colour": "red"}
    assert len({sides([{**record, "size": zero}], seed)[0] for zero in (0.0, -0.0, 0) for seed in (1,)}) == 1


def test_a_column_that_is_absent_is_one_without_values() -> None:
    records = [{"size": float(size), "rooms": None, "hour": 3, "colour": None} for size in range(100)]
    absent = [{"size": record["size"], "hour": 3} for record in records]
    assert sides(absent) == sides(records)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_the_share_is_about_the_one_asked_for(share: float) -> None:
    # on a grid, as tables of few categories are: rows that differ little must fall as if they differed much
    grid = pd.DataFrame(
        [
            {"size": size, "rooms": rooms, "hour": hour, "colour": colour}
            for size in range(10)
            for rooms in range(10)
            for hour in range(24)
            for colour in ("red", "blue", "ä")
        ]
    )
    for seed in range(5):
        held = held_out(hashes(grid, FEATURES, seed), share)
        assert held.mean() == pytest.approx(share, abs=0.02)
        for name in grid:
            assert pd.Series(held).groupby(grid[name]).mean().tolist() == pytest.approx(
                [share] * grid[name].nunique(), abs=0.12
            )


def test_another_seed_deals_the_rows_out_otherwise() -> None:
    records = [{"size": float(size), "rooms": 1, "hour": 3, "colour": "red"} for size in range(1000)]
    one, other = (np.array(sides(records, seed)) for seed in (1, 2))
    assert np.mean(one == other) == pytest.approx(0.5, abs=0.06)


def test_a_row_without_any_value_has_a_side_too() -> None:
    nothing = [{"size": None, "rooms": None, "hour": 3, "colour": None}]
    nothing_at_all = pd.DataFrame({"size": [None]})
    assert {sides(nothing, seed)[0] for seed in range(20)} == {True, False}
    assert {bool(held_out(hashes(nothing_at_all, FEATURES, seed), 0.5)[0]) for seed in range(20)} == {True, False}


@pytest.mark.slow
def test_the_sides_are_these_in_every_process_and_on_every_platform(credit: UseCase) -> None:
    held = held_out(hashes(read(credit, credit.path).table, credit.features, 42), 0.3)
    assert np.flatnonzero(held)[:12].tolist() == FIRST_HELD_OUT
    code = (
        "from tabserve.training.hold_out import hashes, held_out; from tabserve.training.parts import read\n"
        "from tabserve.declaration.discovery import get_use_case\n"
        "use_case = get_use_case('credit')\n"
        "print(*held_out(hashes(read(use_case, use_case.path).table, use_case.features, 42), 0.3).nonzero()[0][:12])"
    )
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert [*map(int, done.stdout.split())] == FIRST_HELD_OUT
