"""The split: no row ever changes sides."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabserve.columns.boolean import Boolean
from tabserve.columns.carried import Id
from tabserve.columns.dates import Date, Datetime
from tabserve.columns.features import Category, CyclicInteger, Feature, Integer, Number, OrderedCategory
from tabserve.columns.texts import Text
from tabserve.declaration.use_case import UseCase
from tabserve.training.hold_out import hashes, held_out
from tabserve.training.parts import read
from tabserve.transformers import Target
from tests.conftest import ROOT

FEATURES: tuple[Feature, ...] = (
    Number(name="size", description="-", low=-1e9, high=1e9, missing=True),
    Integer(name="rooms", description="-", low=0, high=9, missing=True),
    CyclicInteger(name="hour", description="-", low=0, high=24),
    Category(name="colour", description="-", values=("red", "blue", "ä"), missing=True),
)
FIRST_HELD_OUT = [21, 32, 34, 35, 36, 39, 47, 49, 52, 59, 67, 69]  # rows of the credit data
SUMS_OF_HASHES = {  # of the columns below, each number times another one
    "size": 18315683927760265868,
    "rooms": 4843265265472390928,
    "hour": 11621073328247189266,
    "colour": 8800066911523434592,
    "town": 4673561500086249856,
    "level": 3480032452947191504,
    "new": 17259012220287676206,
    "sold": 14377718744732029440,
    "built": 3420626072967174172,
    "seen": 15700240257802278578,
    "note": 2530073306547272315,
    "number": 15539029584010510744,
    "owner": 13994342324594315344,
}
HOUSES_HELD_OUT = [1, 4, 12, 14, 17, 18, 19, 20, 33, 37]
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


def test_rows_of_every_kind_of_column_are_on_these_sides(tmp_path: Path) -> None:
    features: tuple[Feature, ...] = (
        Number(name="size", low=-1e9, high=1e9, missing=True, markers=("?",)),
        Integer(name="rooms", low=0, high=9, missing=True),
        CyclicInteger(name="hour", low=0, high=24),
        Category(name="colour", values=("red", "blue", "ä"), missing=True),
        Category(name="town", other="others", missing=True),
        OrderedCategory(name="level", values=("low", "high")),
        Boolean(name="new", missing=True),
        Boolean(name="sold"),
        Date(name="built", missing=True, format="%d.%m.%Y"),
        Datetime(name="seen"),
        Text(name="note", missing=True, longest=99),
    )
    ids = (Id(name="number"), Id(name="owner"))
    lines = [";".join([*(feature.name for feature in (*features, *ids)), "price"])]
    for row in range(40):
        cells = [
            "" if row % 7 == 3 else "?" if row % 11 == 5 else f"{(row * 37 % 23) / 4 - 2}".replace(".", ","),
            "" if row % 5 == 2 else f"{row % 10}",
            f"{row % 25}",
            ("red", "blue", "ä", "")[row % 4],
            ("Ulm", "Köln ", "", "7", "07")[row % 5],
            ("low", "high")[row % 2],
            ("yes", "no", "")[row % 3],
            ("true", "0")[row // 2 % 2],
            "" if row % 6 == 4 else f"{1 + row % 28:02}.0{1 + row % 9}.19{50 + row}",
            f"2024-03-{1 + row % 30:02}T{row % 24:02}:15:00",
            "" if row % 8 == 1 else f"as number {row % 6}",
            "" if row % 9 == 0 else f"{2**40 + row // 2}",
            ("a", "17", "17.0", "b")[row % 4],
        ]
        lines.append(";".join([*cells, f"{row},5"]))
    (tmp_path / "houses.csv").write_text("\n".join(lines), encoding="utf-8")
    price = Target(Number(name="price", low=0, high=1000))
    use_case = UseCase(name="houses", features=features, extras=ids, target=price, splits=2, repeats=1)
    data = read(use_case, tmp_path / "houses.csv")
    table = pd.concat([data.table, data.extras], axis=1)
    numbers = {feature.name: hashes(table, [feature], 7) for feature in (*features, *ids)}
    weights = np.arange(1, 81, 2, np.uint64)
    assert {name: int(np.bitwise_xor.reduce(bits * weights)) for name, bits in numbers.items()} == SUMS_OF_HASHES
    assert np.flatnonzero(held_out(hashes(table, features, 42), 0.3)).tolist() == HOUSES_HELD_OUT
