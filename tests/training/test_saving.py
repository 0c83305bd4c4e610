"""Saving: in which order, what of it when something fails, and what is said then."""

import dataclasses
import errno
import io
import os
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tabserve.errors import (
    UnsavedError,
)
from tabserve.evaluation.gates import SmallestMetric
from tabserve.registry.model_id import ModelId
from tabserve.registry.registry import Registry
from tabserve.registry.stores import FolderStore
from tabserve.train_pipeline import run_training
from tabserve.training.plan import Plan
from tabserve.training.saving import as_parquet
from tests.training.helpers import unpromised

WRITES = 6  # of a saving: five files and the manifest


def test_the_best_is_saved_first_and_none_that_is_worse_is_ever_the_newest(quick, empty, some_bikes, monkeypatch):
    newest_after_each: list[str] = []
    save = Registry.save

    def save_and_look(self: Registry, *arguments: Any) -> str:
        model_id = save(self, *arguments)
        newest_after_each.append(self.latest("bikes"))
        return model_id

    monkeypatch.setattr(Registry, "save", save_and_look)
    best, *_ = run_training(quick, empty, some_bikes, Plan(trials=1)).manifests
    assert newest_after_each == [best.model_id] * len(quick.algorithms)


def test_those_that_pass_are_saved_though_others_fail(quick, empty, some_bikes):
    strict = dataclasses.replace(quick, gates=(SmallestMetric("r2", 0.5),))
    result = run_training(strict, empty, some_bikes, Plan(trials=1), ["Lasso", "LinearRegression"])
    assert result.problems == ["Lasso was not registered; it failed: smallest hold-out r2."]
    assert [manifest.algorithm for manifest in result.manifests] == ["LinearRegression", "Lasso"]
    assert [(one.saved, one.published) for one in result.outcomes] == [(True, True), (False, False)]
    assert [one.report.parent.name for one in result.outcomes] == [result.saved[0].model_id, "rejected"]
    assert all(one.report.is_file() for one in result.outcomes)
    assert [ModelId.parse(model_id).algorithm for model_id in empty.list()] == ["LinearRegression"]


def test_a_failed_candidates_outcome_holds_its_manifest(credit, empty):
    strict = unpromised(
        credit, algorithms=(credit.baseline,), gates=(SmallestMetric("roc_auc", 0.99), SmallestMetric("roc_auc", 0.01))
    )
    (outcome,) = run_training(strict, empty, credit.path, Plan(trials=1, seed=42)).outcomes
    assert [gate.passed for gate in outcome.manifest.gates] == [False, True]
    assert empty.list() == []
    assert [path.name for path in empty.location.iterdir()] == ["rejected"]  # its report


def test_a_folder_that_takes_nothing_is_refused_before_anything_is_fitted(credit, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    monkeypatch.setattr("tabserve.train_pipeline.fit_each", lambda *arguments: pytest.fail("a model is fitted"))
    for folder in (tmp_path / "file", tmp_path / "file" / "models", tmp_path / "nowhere"):
        with pytest.raises(UnsavedError, match=rf"^Models cannot be saved in {folder} \(.+\)\. Nothing was saved\.$"):
            run_training(credit, Registry(folder), credit.path, Plan(trials=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "nowhere"]


def test_when_the_disk_is_full_in_between_it_is_said_what_is_saved(quick, some_bikes, empty, monkeypatch):
    create, created = FolderStore.create, []

    def fills_up(store: FolderStore, path: str, content: bytes) -> None:
        if len(created) == WRITES:  # all of the first model, the manifest aside, and one file of the second
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        created.append(path)
        create(store, path, content)

    monkeypatch.setattr(FolderStore, "create", fills_up)
    names = ["LinearRegression", "Lasso", "DecisionTreeRegressor"]
    with pytest.raises(UnsavedError) as error:
        run_training(quick, empty, some_bikes, Plan(trials=1, jobs=1), names)
    (saved,) = empty.list()
    message = str(error.value)
    assert message.startswith(f"Models cannot be saved in {empty.location} (No space left on device). Saved: {saved}; ")
    algorithms = re.findall(r"bikes-(\w+)_v", message.partition("; not saved: ")[2])
    assert sorted([*algorithms, saved.partition("_v")[0].removeprefix("bikes-")]) == sorted(names)
    empty.load(saved)


@pytest.mark.parametrize("text", ["a\rb", "a,b", "01", "", "nan"])
def test_a_table_is_read_back_from_its_file(text):
    table = pd.DataFrame({"kind": [text, "c"], "size": [1.5, np.nan], "code": [None, 7]}, dtype=object)
    found = pd.read_parquet(io.BytesIO(as_parquet(table, seed=1)))
    assert found["kind"].tolist() == [text, "c"]
    assert found.isna().to_numpy().tolist() == [[False, False, True], [False, True, False]]
    assert found["size"][0], found["code"][1] == (1.5, 7)


def test_a_large_table_is_kept_in_part_in_its_order(monkeypatch):
    monkeypatch.setattr("tabserve.training.saving.MOST_KEPT", 10)
    table = pd.DataFrame({"row": range(100)})
    kept, again, other = (pd.read_parquet(io.BytesIO(as_parquet(table, seed)))["row"].tolist() for seed in (1, 1, 2))
    assert kept == sorted(set(kept)) == again != other
    assert len(kept) == 10
