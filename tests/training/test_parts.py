"""Data and parts: what is learnt from and what is judged by."""

import dataclasses
import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tabserve.errors import (
    UnsupportedFileError,
)
from tabserve.train_pipeline import run_training
from tabserve.training.candidate import fit_each
from tabserve.training.parts import read, split
from tabserve.training.plan import Plan
from tests.training.helpers import predictions, saved_table, unpromised


def test_the_split_is_about_70_to_30_and_loses_no_row(credit, artifact, trained):
    whole = read(credit, credit.path).table
    rows = {}
    for name in ("train.parquet", "test.parquet"):
        table = saved_table(trained, artifact.manifest, name)
        assert list(table) == [*(feature.name for feature in credit.features), "default"]
        assert np.mean(table["default"] == 2) == pytest.approx(0.3, abs=0.04)
        rows[name] = [*table.itertuples(index=False, name=None)]
    assert len(rows["test.parquet"]) == pytest.approx(300, abs=30)
    every = whole.itertuples(index=False, name=None)
    assert Counter(rows["train.parquet"] + rows["test.parquet"]) == Counter(every)
    assert artifact.manifest.hold_out.rows == artifact.manifest.hold_out.of == len(rows["test.parquet"])
    assert artifact.manifest.hold_out.score == artifact.manifest.metrics["hold_out"]["roc_auc"]


def test_each_part_is_encoded_as_its_records_are(bikes, some_bikes):
    parts = split(bikes, read(bikes, some_bikes), 42)
    encoder = bikes.encoder.fit()
    for part in (parts.whole, parts.train, parts.test, *parts.whole.split_by_time()):
        assert len(part.X) == len(part.table) == len(part.y)
        np.testing.assert_array_equal(part.X, encoder.transform(part.features))
        np.testing.assert_array_equal(part.y, part.table["count"])


def test_the_digest_is_of_the_data_that_were_read_and_not_of_what_the_file_became(credit, empty, data, monkeypatch):
    read_data = data.read_bytes()

    def edit_the_file_and_fit(*arguments: Any) -> Any:
        data.write_text("something else")
        return fit_each(*arguments)

    monkeypatch.setattr("tabserve.train_pipeline.fit_each", edit_the_file_and_fit)
    fast = unpromised(credit, algorithms=(credit.baseline,), gates=())
    (manifest,) = run_training(fast, empty, data, Plan(trials=1, seed=42)).manifests
    assert data.read_bytes() != read_data
    assert manifest.data.sha256 == hashlib.sha256(read_data).hexdigest()


def test_a_file_that_is_not_there_is_named(credit, empty, tmp_path):
    with pytest.raises(UnsupportedFileError, match=r"^The file loans.csv cannot be read: No such file or directory\.$"):
        run_training(credit, empty, tmp_path / "loans.csv", Plan(trials=1))


def test_all_models_of_one_training_are_judged_by_the_same_hold_out(bikes, trained):
    ids = trained.list("bikes")
    hold_outs = {trained.read(model_id, "test.parquet", trained.manifest(model_id)) for model_id in ids}
    assert len(ids) == len(bikes.algorithms)
    assert len(hold_outs) == 1


def test_a_column_that_the_file_lacks_is_trained_without_and_named(bikes, empty, some_bikes, tmp_path):
    weather = dataclasses.replace(bikes.features[3], missing=True)
    optional = dataclasses.replace(
        bikes, features=(*bikes.features[:3], weather, bikes.features[4]), algorithms=(bikes.baseline,), gates=()
    )
    data = tmp_path / "without weather.csv"
    pd.read_csv(some_bikes).drop(columns="weather").to_csv(data, index=False)
    (manifest,) = run_training(optional, empty, data, Plan(trials=1)).manifests
    assert manifest.warnings[0].found == "No row has a value of 'weather': nothing is learnt from it."
    artifact = empty.load(manifest.model_id)
    with_it, without_it = ({**bikes.example, "weather": weather} for weather in ("Stormy", None))
    assert predictions(artifact, [with_it]) == predictions(artifact, [without_it])
    empty_column = pd.read_csv(data).assign(weather=None)
    empty_column.to_csv(data, index=False)
    (again,) = run_training(optional, empty, data, Plan(trials=1)).manifests
    assert again.metrics == manifest.metrics
