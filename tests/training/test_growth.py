"""A table that grows: no model is judged by rows that it, or the model before it, was trained on."""

import dataclasses
import itertools
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tabserve.columns.features import Category, Feature, Integer, Number
from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.use_case import UseCase
from tabserve.errors import InvalidTableError, InvalidUseCaseError, UniformTimeError
from tabserve.evaluation.gates import ChampionMargin
from tabserve.models.linear import LogisticRegression
from tabserve.registry.manifest import Manifest
from tabserve.registry.registry import Registry
from tabserve.tasks.binary import Binary, CostMatrix
from tabserve.train_pipeline import run_training
from tabserve.training.folds import folds_of
from tabserve.training.parts import Parts, read, split
from tabserve.training.plan import Plan
from tabserve.transformers import RemapTarget
from tests.training.helpers import saved_table

FEATURES: tuple[Feature, ...] = (
    Integer(name="row", description="-", low=0, high=10**6),  # tells rows apart in the saved parts
    Number(name="size", description="-", low=-100, high=100),
)
EXTRAS: tuple[Feature, ...] = (
    Integer(name="customer", description="-", low=0, high=10**6, missing=True),
    Integer(name="day", description="-", low=0, high=10**6, missing=True),
    Number(name="counts", description="-", low=0, high=1e6, missing=True),
)
OUTCOME = RemapTarget(Category(name="left", description="-", values=("no", "yes")), classes={"no": 0, "yes": 1})
LINE = Algorithm(name="line", model=LogisticRegression())
FIVE = (200, 260, 330, 400, 500)


def declared(**changes: Any) -> UseCase:
    said = {
        "name": "leavers",
        "description": "-",
        "task": Binary(CostMatrix(missed=1, false_alarm=1)),
        "features": FEATURES,
        "extras": EXTRAS,
        "target": OUTCOME,
        "algorithms": (LINE,),
        "baseline": LINE,
        "gates": (ChampionMargin("roc_auc", 1.0),),
        "example": {"row": 1, "size": 1.0},
        "splits": 2,
        "repeats": 1,
    }
    return UseCase(**{**said, **changes})


def some_rows(number: int, seed: int = 1) -> pd.DataFrame:
    random = Random(seed)
    rows = [
        {
            "row": row,
            "size": random.gauss(0, 1),
            "customer": row // 10 + random.randrange(5),  # new ones keep coming
            "day": row // 3,
            "counts": random.choice([0.5, 1, 3]),
        }
        for row in range(number)
    ]
    table = pd.DataFrame(rows)
    table["left"] = np.where(table["size"] + [random.gauss(0, 1) for _ in rows] > 0, "yes", "no")
    return table


def part(registry: Registry, manifest: Manifest, name: str) -> set[int]:
    return set(saved_table(registry, manifest, name)["row"])


def grown(use_case: UseCase, tables: list[pd.DataFrame], folder: Path) -> list[tuple[Manifest, set[int], set[int]]]:
    """Train on each table in turn; each manifest, with the rows that were trained on and held out."""
    registry, path = Registry(folder / "models"), folder / "leavers.csv"
    found = []
    for table in tables:
        table.to_csv(path, index=False)
        (manifest,) = run_training(use_case, registry, path, Plan(trials=1, jobs=1)).manifests
        assert manifest.passed
        manifest = registry.manifest(manifest.model_id)
        found.append((manifest, part(registry, manifest, "train.parquet"), part(registry, manifest, "test.parquet")))
    return found


@pytest.mark.parametrize(
    "roles",
    [
        {},
        pytest.param({"group": "customer"}, marks=pytest.mark.slow),
        pytest.param({"time": "day"}, marks=pytest.mark.slow),
        {"group": "customer", "time": "day"},
    ],
    ids=str,
)
def test_no_champion_ever_saw_a_row_of_the_hold_out_however_the_table_grew(roles: dict[str, str], tmp_path) -> None:
    whole = some_rows(FIVE[-1])
    if not roles.get("time"):
        whole = whole.sample(frac=1, random_state=1)
    found = grown(declared(**roles), [whole[:number].sample(frac=1, random_state=number) for number in FIVE], tmp_path)
    seen: set[int] = set()
    for _, train, test in found:
        assert not test & seen
        assert len(test) == pytest.approx(0.3 * (len(train) + len(test)), rel=0.4)
        seen |= train
    for (earlier, _, _), (later, _, _) in itertools.pairwise(found):
        assert later.champion is not None
        assert later.champion.model_id == earlier.model_id
        (gate,) = later.gates
        assert gate.gate == "largest roc_auc below champion"  # it saw none of these rows, and nothing says otherwise
    assert found[-1][0].split.by == ("time" if roles.get("time") else "group" if roles else "features")


@pytest.mark.parametrize("time", ["", "day"])
def test_rows_of_one_group_are_on_one_side_of_split_and_folds(time: str, tmp_path: Path) -> None:
    parts = parts_of(some_rows(300), tmp_path, group="customer", time=time)
    customers = dict(some_rows(300)[["row", "customer"]].to_numpy().tolist())

    def of(rows: Any) -> set[float]:
        return {customers[row] for row in rows["row"]}

    assert not of(parts.train.table) & of(parts.test.table)
    for fitted, judged in folds_of(parts.use_case, parts.train, 42):
        assert not of(parts.train.table.iloc[fitted]) & of(parts.train.table.iloc[judged])


def parts_of(table: pd.DataFrame, folder: Path, not_before: Any = None, **roles: str) -> Parts:
    path = folder / "leavers.csv"
    table.to_csv(path, index=False)
    return split(declared(**roles), read(declared(**roles), path), 42, not_before)


def test_rows_without_a_group_are_parted_by_their_features(tmp_path: Path) -> None:
    table = some_rows(300).assign(customer=None)
    whole = parts_of(table, tmp_path)
    grouped = parts_of(table, tmp_path, group="customer")
    assert grouped.test.table.equals(whole.test.table)
    assert set(grouped.split.columns) == {"customer", "row", "size"}


def test_the_newest_rows_are_held_out_and_the_manifest_says_from_when_on(tmp_path: Path) -> None:
    ((manifest, train, test),) = grown(declared(time="day"), [some_rows(300).sample(frac=1, random_state=1)], tmp_path)
    assert max(train) < min(test)
    assert manifest.split.cut == min(test) // 3 == 70
    assert manifest.split.columns == {"day": "Integer"}


def test_old_rows_that_arrive_late_move_no_row_back_into_the_hold_out(tmp_path: Path) -> None:
    table = some_rows(300).assign(day=lambda rows: rows["row"] + 10_000)
    late = some_rows(400, seed=2).assign(row=lambda rows: rows["row"] + 1000, day=lambda rows: rows["row"])
    first, second = grown(declared(time="day"), [table, pd.concat([table, late])], tmp_path)
    assert second[0].split.cut == first[0].split.cut
    assert not second[2] & first[1]
    assert second[2] == first[2]


def test_a_champion_of_newer_rows_is_said_to_have_seen_the_hold_out(tmp_path: Path) -> None:
    older = dataclasses.replace(declared(time="day"), name="leavers")
    registry, path = Registry(tmp_path / "models"), tmp_path / "leavers.csv"
    some_rows(300).to_csv(path, index=False)
    run_training(declared(), registry, path, Plan(trials=1, jobs=1))  # split by its features
    (manifest,) = run_training(older, registry, path, Plan(trials=1, jobs=1)).manifests
    assert manifest.gates[0].gate.endswith(
        "which may have seen these rows: its hold-out was split off by features, this one by time"
    )


def test_rows_of_one_moment_are_on_one_side(tmp_path: Path) -> None:
    parts = parts_of(some_rows(300).assign(day=lambda rows: rows["row"] // 100), tmp_path, time="day")
    assert parts.split.cut == 2
    assert sorted(parts.test.table["row"]) == list(range(200, 300))


def test_time_needs_times(tmp_path: Path) -> None:
    with pytest.raises(UniformTimeError, match="'day' has the same value in all rows"):
        parts_of(some_rows(300).assign(day=1), tmp_path, time="day")
    table = some_rows(300).astype({"day": object})
    table.loc[[3, 7], "day"] = None
    with pytest.raises(InvalidTableError, match=r"column 'day': 2 row\(s\) have no value, and time decides"):
        parts_of(table, tmp_path, time="day")


def test_weights_are_those_of_the_column_and_no_model_sees_them(tmp_path: Path) -> None:
    parts = parts_of(some_rows(300), tmp_path, weight="counts")
    expected = some_rows(300).set_index("row")["counts"]
    assert parts.train.weights is not None
    assert parts.train.weights.tolist() == expected[parts.train.table["row"]].tolist()
    assert parts.train.X.shape[1] == len(FEATURES)


def test_weights_change_what_is_learnt(tmp_path: Path) -> None:
    table = some_rows(300)
    folders = [tmp_path / name for name in ("even", "uneven")]
    for folder in folders:
        folder.mkdir()
    ((even, *_),) = grown(declared(), [table], folders[0])
    ((uneven, *_),) = grown(declared(weight="counts"), [table], folders[1])
    assert even.metrics["hold_out"]["brier"] != uneven.metrics["hold_out"]["brier"]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, r"column 'counts': 1 row\(s\) have no value, but this column says"),
        (-1, "'counts': -1: Must be between 0"),
    ],
)
def test_a_row_needs_a_weight_from_0_on(value: Any, problem: str, tmp_path: Path) -> None:
    table = some_rows(300).astype({"counts": object})
    table.loc[5, "counts"] = value
    with pytest.raises(InvalidTableError, match=problem):
        parts_of(table, tmp_path, weight="counts")


def test_a_weight_is_no_feature_and_a_time_has_an_order() -> None:
    with pytest.raises(InvalidUseCaseError, match=r"no model may see the weight 'row'.* make it an extra column"):
        declared(weight="row")
    colour = Category(name="colour", description="-", values=("red", "blue"))
    with pytest.raises(InvalidUseCaseError, match="the time 'colour' must be a date or a number"):
        declared(extras=(colour,), time="colour")
