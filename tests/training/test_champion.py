"""The champion: what a candidate is compared with."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from tabserve.declaration.use_case import UseCase
from tabserve.errors import (
    BrokenArtifactError,
)
from tabserve.evaluation.gates import ChampionMargin, Verdict
from tabserve.registry.registry import Registry
from tabserve.report import render_report
from tabserve.tasks.regression import AsPredicted, Regression
from tabserve.train_pipeline import main, run_training
from tabserve.training.champion import NotCompared, champion_of
from tabserve.training.parts import read
from tabserve.training.plan import Plan
from tests.artifacts import change_byte, copy_of, edit_manifest
from tests.training.helpers import failed, newest, predictions, saved_table, split_of, unpromised

TIME = {"by": "time", "columns": {}, "cut": None}


@pytest.mark.slow
def test_a_model_trained_again_is_exactly_as_good_as_the_one_that_it_replaces(again, artifact):
    champion = again.manifest.champion
    assert champion.model_id == artifact.model_id
    assert champion.metrics == artifact.manifest.metrics["hold_out"]
    assert champion.difference == {"roc_auc": (0, 0, 0)}
    (gate,) = (gate for gate in again.manifest.gates if "champion" in gate.gate)
    assert gate == Verdict("largest roc_auc below champion", 0, 0.02, True)
    assert tuple(gate for gate in again.manifest.gates if "champion" not in gate.gate) == artifact.manifest.gates


def test_the_promoted_model_is_compared_with_and_else_the_newest(credit, registry, hold_out):
    old = registry.latest("credit")
    new = copy_of(registry)
    assert champion_of(credit, registry, hold_out, 42, split_of(credit)).model_id == new
    registry.histories.promote(old, reason="a test")
    assert champion_of(credit, registry, hold_out, 42, split_of(credit)).model_id == old


def test_a_champion_decides_by_its_own_threshold(credit, registry, hold_out, artifact):
    champion = champion_of(credit, registry, hold_out, 42, split_of(credit))
    assert champion.metrics == artifact.manifest.metrics["hold_out"]
    np.testing.assert_array_equal(champion.predictions, predictions(artifact, hold_out.features))


def test_where_there_is_no_model_there_is_no_champion(credit, empty, registry, hold_out, caplog):
    assert champion_of(credit, empty, hold_out, 42, split_of(credit)) is None
    for model_id in registry.list("credit"):
        registry.delete(model_id)
    assert registry.list("bikes")  # which nobody asks
    assert champion_of(credit, registry, hold_out, 42, split_of(credit)) is None
    assert caplog.messages == []


def test_a_broken_newest_model_is_passed_over_with_a_line_in_the_log(credit, registry, hold_out, caplog):
    whole = registry.latest("credit")
    broken = copy_of(registry)
    change_byte(registry.location / broken / "model.pkl")
    assert champion_of(credit, registry, hold_out, 42, split_of(credit)).model_id == whole
    (line,) = caplog.messages
    assert line.startswith(f"{broken} is not compared with: ")
    change_byte(registry.location / whole / "model.pkl")
    assert champion_of(credit, registry, hold_out, 42, split_of(credit)).model_id == broken
    assert champion_of(credit, registry, hold_out, 42, split_of(credit)).reason.startswith(f"{broken} is refused: ")


def test_no_other_model_stands_in_for_a_promoted_one_that_is_broken(credit, registry, hold_out, caplog):
    broken = copy_of(registry)
    copy_of(registry)
    registry.histories.promote(broken, reason="a test")
    change_byte(registry.location / broken / "model.pkl")
    assert isinstance(champion_of(credit, registry, hold_out, 42, split_of(credit)), NotCompared)
    assert [line.partition(" ")[0] for line in caplog.messages] == [broken]


def test_a_champion_does_without_the_columns_that_it_does_not_know(credit, registry, hold_out, caplog):
    table = hold_out.table.copy()
    table.insert(0, "shoe_size", 43)
    wider = dataclasses.replace(hold_out, table=table)
    champion = champion_of(credit, registry, wider, 42, split_of(credit))
    np.testing.assert_array_equal(
        champion.predictions, champion_of(credit, registry, hold_out, 42, split_of(credit)).predictions
    )
    assert caplog.messages == []


def test_a_champion_is_seen_on_the_rows_that_it_takes(credit, registry, hold_out):
    newer = hold_out.table.astype({"housing": "str"})
    newer.loc[::3, "housing"] = "a houseboat"
    champion = champion_of(credit, registry, dataclasses.replace(hold_out, table=newer), 42, split_of(credit))
    known = np.arange(len(newer)) % 3 > 0
    np.testing.assert_array_equal(champion.rows, known)
    np.testing.assert_array_equal(
        champion.predictions, champion_of(credit, registry, hold_out, 42, split_of(credit)).predictions[known]
    )
    assert champion.metrics["roc_auc"] == credit.task.metric(hold_out.y[known], champion.predictions)


def test_a_champion_whose_classes_stand_for_other_labels_is_not_compared_with(credit, registry, hold_out):
    flipped = dataclasses.replace(hold_out, y=1 - hold_out.y)  # as if the labels' classes were declared the other way
    champion = champion_of(credit, registry, flipped, 42, split_of(credit))
    assert isinstance(champion, NotCompared)
    assert champion.reason.endswith("it predicts something else.")


def test_a_champion_whose_labels_were_renamed_is_compared_with(credit, registry, hold_out):
    table = hold_out.table.copy()
    table.iloc[:, -1] += 100
    champion = champion_of(credit, registry, dataclasses.replace(hold_out, table=table), 42, split_of(credit))
    assert champion.metrics == champion_of(credit, registry, hold_out, 42, split_of(credit)).metrics


@pytest.mark.parametrize("spoil", ["few rows", "one outcome", "a column"])
def test_a_champion_that_takes_too_little_is_not_compared_with(credit, registry, hold_out, caplog, spoil):
    table = hold_out.table.astype({"housing": "str"})
    if spoil == "few rows":
        table.loc[: 0.6 * len(table), "housing"] = "a houseboat"
    elif spoil == "one outcome":
        table.loc[hold_out.y == 1, "housing"] = "a houseboat"
    else:
        table = table.drop(columns="housing")
    champion = champion_of(credit, registry, dataclasses.replace(hold_out, table=table), 42, split_of(credit))
    assert isinstance(champion, NotCompared)
    assert f"{champion.model_id} is not compared with: {champion.reason}" in caplog.text


def test_a_new_category_does_not_switch_off_the_gate_of_the_champion(quick, registry, some_bikes, tmp_path):
    features = tuple(
        dataclasses.replace(one, values=(*one.values, "Foggy")) if one.name == "weather" else one
        for one in quick.features
    )
    gated = dataclasses.replace(quick, features=features, gates=(ChampionMargin("rmse", 1),))
    table = pd.read_csv(some_bikes)
    table.loc[::9, "weather"] = "Foggy"
    table.to_csv(tmp_path / "foggy.csv", index=False)
    registry.histories.promote(registry.latest("bikes", "LGBMRegressor"), reason="a test")
    (manifest,) = run_training(gated, registry, tmp_path / "foggy.csv", Plan(trials=1), ["Lasso"]).manifests
    assert failed(manifest) == {"largest rmse above champion"}
    assert 0 < manifest.champion.rows < manifest.data.rows * 0.3


def test_a_champion_that_cannot_be_loaded_stops_no_training_and_is_named(quick, registry, some_bikes, monkeypatch):
    gated = dataclasses.replace(quick, gates=(ChampionMargin("r2", 0.02),))
    broken = registry.latest("bikes", "LGBMRegressor")
    registry.histories.promote(broken, reason="a test")
    change_byte(registry.location / broken / "model.pkl")
    monkeypatch.setattr("tabserve.train_pipeline.get_use_case", lambda name: gated)
    monkeypatch.setattr("tabserve.train_pipeline.render_report", render_report)
    arguments = ["--use-case", "bikes", "--data", str(some_bikes), "--trials", "1", "--algorithm", "Lasso"]
    result = CliRunner().invoke(main, arguments, env={"MODEL_REGISTRY": str(registry.location), "COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    manifest = registry.manifest(registry.latest("bikes", "Lasso"))
    assert manifest.champion.model_id == broken
    said = f"largest r2 below champion, not compared: {manifest.champion.not_compared}"
    assert manifest.gates == (Verdict(said, None, 0.02, True),)
    assert "not compared: " in result.stdout
    assert said in registry.read(manifest.model_id, "report.html", manifest).decode()


@pytest.fixture(scope="module")
def applicants(credit: UseCase) -> pd.DataFrame:
    """Many applicants: each of the real ones, and what might be others, with an amount that is slightly different."""
    table = read(credit, credit.path).table
    others = table.assign(amount=table["amount"] + 1)
    return pd.concat([table, others]).sample(frac=1, random_state=1)


def test_a_model_of_more_rows_takes_the_place_of_one_that_never_saw_what_it_is_judged_by(
    credit, empty, applicants, tmp_path, caplog
):
    fast = unpromised(credit, algorithms=(credit.baseline,), gates=(ChampionMargin("roc_auc", 0.02),))
    data, seen, held = tmp_path / "applicants.csv", set(), set()
    for number in range(1300, 2000, 300):
        applicants[:number].to_csv(data, index=False)
        run_training(fast, empty, data, Plan(trials=1, seed=42))
        manifest = newest(empty).manifest
        parts = [saved_table(empty, manifest, name) for name in ("train.parquet", "test.parquet")]
        train, test = ({row[:-1] for row in part.itertuples(index=False, name=None)} for part in parts)
        assert sum(map(len, parts)) == number
        seen, held = seen | train, held | test
        assert not seen & held
    assert manifest.champion.model_id == empty.list()[1]
    assert [gate.passed for gate in manifest.gates] == [True]
    assert "may have seen" not in caplog.text


@pytest.mark.parametrize(
    ("manifest", "flattered"),
    [
        ({}, ""),
        ({"seed": 41}, "it was trained with another seed"),
        (
            {"split": {"by": "time", "columns": {}, "cut": None}},
            "its hold-out was split off by time, this one by features",
        ),
        (
            {"split": {"by": "features", "columns": {}, "cut": None}},
            "other columns decided which rows it was trained on",
        ),
    ],
)
def test_the_verdict_says_when_a_champion_may_have_seen_the_hold_out(credit, registry, caplog, manifest, flattered):
    edit_manifest(registry, registry.latest("credit"), **manifest)
    fast = unpromised(credit, algorithms=(credit.baseline,), gates=(ChampionMargin("roc_auc", 1),))
    (judged,) = run_training(fast, registry, credit.path, Plan(trials=1, seed=42)).manifests
    assert ("may have seen rows of this hold-out" in caplog.text) == bool(flattered)
    assert [gate.gate for gate in judged.gates] == [
        f"largest roc_auc below champion{flattered and f', which may have seen these rows: {flattered}'}"
    ]


def test_a_model_of_another_task_is_not_compared_with(credit, registry, hold_out, caplog, artifact, monkeypatch):
    of_numbers = dataclasses.replace(artifact, task=Regression(), decision=AsPredicted())
    monkeypatch.setattr(Registry, "load", lambda self, model_id: of_numbers)
    assert isinstance(champion_of(credit, registry, hold_out, 42, split_of(credit)), NotCompared)
    assert "it predicts something else" in caplog.text


def test_a_champion_that_cannot_be_read_stops_the_training_before_anything_is_fitted(credit, registry, monkeypatch):
    (registry.location / "credit.champion").write_text("nonsense")
    monkeypatch.setattr(
        "tabserve.train_pipeline.fit_each", lambda *arguments: pytest.fail("this took time for nothing")
    )
    before = registry.list()
    with pytest.raises(BrokenArtifactError, match="promote a model again"):
        run_training(credit, registry, credit.path, Plan(trials=1))
    assert registry.list() == before
