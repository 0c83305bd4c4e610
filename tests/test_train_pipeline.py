"""Training: what it learns from, what it saves, and that a training which does not end well saves nothing."""

import contextlib
import csv
import dataclasses
import errno
import hashlib
import io
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest
import tabserve.registry.stores
import tabserve.train_pipeline
from click.testing import CliRunner
from sklearn.base import clone
from sklearn.metrics import r2_score, roc_auc_score
from tabserve.declaration.use_case import Algorithm, UseCase
from tabserve.errors import (
    BrokenArtifactError,
    FailedGatesError,
    InvalidUseCaseError,
    UniformTargetError,
    UnknownAlgorithmError,
    UnsavedError,
    UnsupportedFileError,
)
from tabserve.evaluation.bootstrap import bootstrap_difference, bootstrap_intervals
from tabserve.evaluation.gates import ChampionMargin, LargestGap, SmallestMetric
from tabserve.hold_out import held_out
from tabserve.models.lightgbm import LgbClassifier, LgbRegressor
from tabserve.models.linear import LogisticRegression
from tabserve.models.scikit import LinearRegression
from tabserve.registry.artifact import Artifact
from tabserve.registry.model_id import ModelId
from tabserve.registry.registry import Registry
from tabserve.registry.stores import FolderStore
from tabserve.resolver import Resolver
from tabserve.train_pipeline import (
    Candidate,
    NotCompared,
    Part,
    Plan,
    as_csv,
    champion_of,
    check_scores,
    commit,
    features_of,
    fit,
    main,
    read,
    run_training,
    score,
    split,
    without_protected,
)
from tabserve.transformers import Drop
from tabserve.tuning import Trial, Whole

from tests.artifacts import change_byte, copy_of, edit_manifest
from tests.conftest import ROOT

FEW_FOLDS = {"splits": 2, "repeats": 1}  # where it does not matter how the metrics turn out
WRITES = 6  # of a saving: five files and the manifest


def predictions(artifact: Artifact, records: list[Mapping[str, Any]]) -> list[float]:
    return artifact.model.predict_score(artifact.pipeline.transform(records)).tolist()


def unpromised(credit: UseCase, **changes: Any) -> UseCase:
    """Credit in few folds, and without the promises of its features, so that any model may be trained."""
    features = tuple(dataclasses.replace(feature, monotone=0) for feature in credit.features)
    return dataclasses.replace(credit, features=features, **{**FEW_FOLDS, **changes})


def newest(registry: Registry) -> Artifact:
    return registry.load(registry.latest("credit"))


@pytest.fixture
def empty(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "none yet")


@pytest.fixture
def data(credit: UseCase, tmp_path: Path) -> Path:
    """A copy of the data, as CSV."""
    path = tmp_path / "data.csv"
    read(credit, credit.path).to_csv(path, index=False)
    return path


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of single tests draw no charts, and few samples for their intervals: both have tests of their own."""
    monkeypatch.setattr(tabserve.train_pipeline, "render_report", lambda *_: "<!doctype html>")
    for function in (bootstrap_intervals, bootstrap_difference):
        monkeypatch.setattr(tabserve.train_pipeline, function.__name__, partial(function, samples=100))


# the same again


@pytest.fixture(scope="module")
def again(credit: UseCase, trained: Registry, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The credit model trained once more, with more jobs, in a registry that holds the first."""
    folder = tmp_path_factory.mktemp("again") / "models"
    shutil.copytree(trained.location, folder)
    run_training(credit, Registry(folder), credit.path, Plan(trials=2, seed=42, jobs=3))
    return newest(Registry(folder))


@pytest.mark.slow
def test_a_training_with_the_same_seed_and_more_jobs_predicts_the_same_to_the_last_bit(again, artifact, records):
    assert again.model_id != artifact.model_id
    assert predictions(again, records) == predictions(artifact, records)
    for same in ("parameters", "trials", "threshold", "thresholds", "metrics", "intervals", "comparison"):
        assert again.manifest[same] == artifact.manifest[same]
    for same in ("baseline_difference", "groups", "protected"):
        assert again.manifest[same] == artifact.manifest[same]


def test_a_training_with_another_seed_is_another(credit, empty, artifact, records, trained):
    ungated = dataclasses.replace(credit, gates=(), **FEW_FOLDS)  # what is asked is not whether it is any good
    run_training(ungated, empty, credit.path, Plan(trials=1, seed=43, jobs=1))
    other = newest(empty)
    assert other.manifest.seed == 43
    assert other.manifest.trials[0]["parameters"] != artifact.manifest.trials[0]["parameters"]
    assert predictions(other, records) != predictions(artifact, records)
    hold_outs = [
        registry.read(one.model_id, "test.csv", one.manifest) for registry, one in ((empty, other), (trained, artifact))
    ]
    assert hold_outs[0] != hold_outs[1]


# what it learns from


def test_the_split_is_about_70_to_30_and_loses_no_row(credit, artifact, trained):
    whole = read(credit, credit.path)
    rows = {}
    for name in ("train.csv", "test.csv"):
        text = trained.read(artifact.model_id, name, artifact.manifest).decode()
        header, *rows[name] = csv.reader(text.splitlines())
        assert header == [*(feature.name for feature in credit.features), "default"]
        assert np.mean([row[-1] == "2" for row in rows[name]]) == pytest.approx(0.3, abs=0.04)
    assert len(rows["test.csv"]) == pytest.approx(300, abs=30)
    header, *every = csv.reader(whole.to_csv(index=False).splitlines())
    assert Counter(map(tuple, rows["train.csv"] + rows["test.csv"])) == Counter(map(tuple, every))


def test_nothing_that_is_fitted_or_chosen_depends_on_the_hold_out(credit, empty, artifact, data):
    table = pd.read_csv(data, keep_default_na=False)
    hold_out = held_out(table, credit.features, 0.3, 42)
    names = [feature.name for feature in credit.features]
    table.loc[hold_out, names] = table.loc[hold_out, names].iloc[0].tolist()  # so that they stay held out
    table.loc[hold_out, "default"] = 3 - table.loc[hold_out, "default"]
    table.to_csv(data, index=False)

    (manifest,) = run_training(dataclasses.replace(credit, gates=()), empty, data, Plan(trials=2, seed=42))
    before, after = artifact.manifest, newest(empty)
    assert after.model.text_ == artifact.model.text_
    for same in ("parameters", "trials", "threshold"):
        assert after.manifest[same] == before[same]
    for part in ("train", "cross_validation"):
        assert manifest.metrics[part] == before["metrics"][part]
    assert manifest.metrics["hold_out"]["roc_auc"] == 0.5  # all its rows are the same now


def test_the_threshold_is_the_cheapest_on_out_of_fold_scores(credit):
    _, train, _, _ = split(credit, read(credit, credit.path), 42)
    candidate = fit(credit, credit.baseline, train, Plan(trials=1, seed=42, jobs=1))
    y, scores = np.tile(train.y, len(candidate.out_of_fold)), candidate.out_of_fold.ravel()

    def cost(threshold: float) -> float:
        return 5 * np.sum((y == 1) & (scores < threshold)) + np.sum((y == 0) & (scores >= threshold))

    assert cost(candidate.model.threshold_) == min(cost(threshold) for threshold in [*scores, 1.1])
    # and those scores are of rows that their model had not seen
    X = candidate.pipeline.transform(train.table.drop(columns="default"))
    seen = roc_auc_score(train.y, candidate.model.predict_score(X))
    assert all(roc_auc_score(train.y, repeat) < seen - 0.01 for repeat in candidate.out_of_fold)
    assert candidate.out_of_fold.shape[1] == len(train.y)


def test_the_score_is_a_probability_and_bent_by_no_weights(artifact, records):
    assert np.mean(predictions(artifact, records)) == pytest.approx(0.3, abs=0.02)


def test_the_best_trial_is_the_one_that_was_fitted(artifact):
    trials = artifact.manifest.trials
    best = max(trials, key=lambda trial: trial["score"])
    assert best["parameters"].items() <= artifact.manifest.parameters.items()
    # LightGBM leaves out a round in which nothing is worth splitting
    assert 0 < artifact.model.text_.count("Tree=") <= best["parameters"]["num_rounds"]


# what it saves


def test_a_manifest_says_what_the_model_is_and_how_it_was_made(artifact, credit, trained):
    text = (trained.location / artifact.model_id / "manifest.json").read_text()
    manifest = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

    assert manifest["protocol"] == 1
    assert manifest.model_id == artifact.model_id
    assert re.fullmatch(r"credit-lightgbm_v\d+\.\d+\.\d+-\d+\.\d{6}", manifest.model_id)
    assert (manifest.use_case, manifest.algorithm, manifest.seed) == ("credit", "lightgbm", 42)
    assert manifest.version == tabserve.__version__
    assert manifest.python == sys.version.split()[0]
    assert manifest.threads == 1
    created = datetime.fromisoformat(manifest.created)
    assert created.utcoffset() == timedelta(0)
    assert abs(created.timestamp() - float(artifact.model_id.rpartition("-")[2])) < 0.001
    assert created < datetime.now(UTC)
    assert manifest.data == {"sha256": hashlib.sha256(credit.path.read_bytes()).hexdigest(), "rows": 1000}
    assert manifest.libraries.keys() >= {"bayesian-optimization", "joblib", "lightgbm", "numpy", "scikit-learn"}
    assert manifest.libraries == {name: version(name) for name in manifest.libraries}
    assert [feature["name"] for feature in manifest.features] == [feature.name for feature in credit.features]
    assert manifest.target["name"] == "default"
    assert manifest.example == credit.example


def test_a_manifest_names_the_commit_where_there_is_a_repository(artifact):
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("this is no git checkout, or git is not installed")
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", artifact.manifest.commit)


def test_outside_a_repository_the_commit_is_what_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))  # where there is no git
    monkeypatch.setenv("COMMIT", "0123abc")
    assert commit() == "0123abc"
    monkeypatch.delenv("COMMIT")
    assert commit() is None


def test_a_manifest_says_how_the_model_was_chosen_and_how_good_it_is(artifact, credit):
    manifest = artifact.manifest
    assert len(manifest.trials) == 2
    for trial in manifest.trials:
        assert trial["parameters"].keys() == {*credit.algorithms[0].search_space, "num_rounds"}
        assert 0.5 < trial["score"] < 1
    names = {"roc_auc", "gini", "pr_auc", "ks", "brier", "log_loss"}
    names |= {"accuracy", "precision", "recall", "f1", "expected_cost"}
    assert manifest.baseline == "logistic"
    assert manifest.comparison.keys() == {"lightgbm", "logistic"}
    assert manifest.comparison["lightgbm"] == manifest.metrics
    for metrics in manifest.comparison.values():
        assert metrics.keys() == {"train", "cross_validation", "hold_out"}
        assert all(part.keys() == names for part in metrics.values())
    assert set(manifest.thresholds) == {"cost", "half", "roc_balanced"}
    assert manifest.threshold == manifest.thresholds["cost"]["threshold"]
    assert manifest.thresholds["half"]["threshold"] == 0.5
    assert manifest.headline == "roc_auc"
    assert manifest.intervals.keys() == names
    for name, (low, high) in manifest.intervals.items():
        assert low < manifest.metrics["hold_out"][name] < high
    (difference,) = manifest.baseline_difference.values()
    hold_outs = [manifest.comparison[name]["hold_out"]["roc_auc"] for name in ("lightgbm", "logistic")]
    assert difference[0] == hold_outs[0] - hold_outs[1]
    assert difference[1] < difference[0] < difference[2]
    assert manifest.champion is None  # there was no model before
    assert len(manifest.gates) == len([gate for gate in credit.gates if not isinstance(gate, ChampionMargin)])
    for gate in manifest.gates:
        assert gate.keys() == {"gate", "value", "bound", "passed"}
        assert gate.passed is True
        assert "champion" not in gate.gate


def test_a_manifest_says_how_groups_of_the_hold_out_are_treated(artifact, trained):
    table = pd.read_csv(trained.location / artifact.model_id / "test.csv", keep_default_na=False)
    scores = artifact.model.predict_score(artifact.pipeline.transform(table.drop(columns="default")))
    accepted = scores < artifact.manifest.threshold
    groups = artifact.manifest.groups
    assert list(groups) == ["age", "personal_status", "foreign_worker"]
    members = {
        "age": {"25 and under": table["age"] <= 25, "over 25": table["age"] > 25},
        "personal_status": {value: table["personal_status"] == value for value in set(table["personal_status"])},
        "foreign_worker": {value: table["foreign_worker"] == value for value in ("no", "yes")},
    }
    for name, comparison in groups.items():
        assert comparison["values"].keys() == members[name].keys()
        rates = {group: np.mean(accepted[its]) for group, its in members[name].items()}
        for group, its in members[name].items():
            assert comparison["values"][group]["rows"] == its.sum()
            assert comparison["values"][group]["selection_rate"] == pytest.approx(rates[group])
        assert comparison["disparate_impact"] == pytest.approx(min(rates.values()) / max(rates.values()))
    (gate,) = (gate for gate in artifact.manifest.gates if "groups" in gate.gate)
    assert gate.value == groups["age"]["disparate_impact"]


def test_a_model_that_decides_nothing_about_nobody_has_no_groups(bikes, trained):
    manifest = trained.manifest(trained.latest("bikes"))
    assert manifest.headline == "r2"
    assert manifest.intervals.keys() == {"r2", "rmse", "mae"}
    assert manifest.baseline_difference.keys() == {"r2"}
    assert (manifest.groups, manifest.protected, manifest.champion) == ({}, None, None)
    baseline = trained.manifest(trained.latest("bikes", "LinearRegression"))
    assert baseline["baseline_difference"] == {"r2": [0, 0, 0]}


# protected features


@pytest.fixture(scope="module")
def excluding(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A credit model trained by the command without the protected features."""
    folder = tmp_path_factory.mktemp("excluding") / "models"
    arguments = ["--trials", "1", "--jobs", "2", "--exclude-protected"]
    result = CliRunner().invoke(main, arguments, env={"MODEL_REGISTRY": str(folder)})
    assert result.exit_code == 0, result.output
    return newest(Registry(folder))


def test_a_manifest_says_what_the_protected_features_are_worth(artifact, excluding):
    every, without = artifact.manifest, excluding.manifest
    for manifest in (every, without):
        assert manifest.protected["columns"] == ["personal_status", "age", "foreign_worker", "duration_for_age"]
        assert manifest.protected["metric"] == "roc_auc"
    assert every["protected"]["excluded"] is False
    assert without["protected"]["excluded"] is True
    for part in ("cross_validation", "hold_out"):
        assert every["protected"]["with"][part] == pytest.approx(every["metrics"][part]["roc_auc"], abs=0.005)
        assert without["protected"]["without"][part] == pytest.approx(without["metrics"][part]["roc_auc"], abs=0.005)
        for manifest in (every, without):
            assert manifest.protected["with"][part] != manifest.protected["without"][part]
    assert every["protected"]["with"]["hold_out"] == every["metrics"]["hold_out"]["roc_auc"]
    assert without["protected"]["without"]["hold_out"] == without["metrics"]["hold_out"]["roc_auc"]


def test_what_protected_features_are_worth_is_the_same_whichever_model_was_chosen(credit):
    credit = dataclasses.replace(credit, **FEW_FOLDS)
    _, train, test, _ = split(credit, read(credit, credit.path), 42)
    found, scores = [], []
    for excluded in (False, True):
        plan = Plan(seed=42, jobs=2, exclude_protected=excluded)
        candidate = fit(credit, credit.baseline, train, plan)
        hold_out_scores = score(credit, candidate, test)
        scores.append(roc_auc_score(test.y, hold_out_scores))
        found.append(without_protected(credit, candidate, train, test, hold_out_scores, plan))
    assert [one.pop("excluded") for one in found] == [False, True]
    assert found[0] == found[1]
    assert [found[0]["with"]["hold_out"], found[0]["without"]["hold_out"]] == pytest.approx(scores)
    assert scores[0] != scores[1]


def test_a_model_trained_without_protected_features_still_takes_them_and_does_not_use_them(
    excluding, artifact, records, credit
):
    others = [
        {**record, "age": 18 + row % 60, "personal_status": "female", "foreign_worker": "no"}
        for row, record in enumerate(records)
    ]
    assert [feature.name for feature in excluding.features] == [feature.name for feature in credit.features]
    assert predictions(excluding, others) == predictions(excluding, records)
    assert predictions(artifact, others) != predictions(artifact, records)


# the champion


@pytest.mark.slow
def test_a_model_trained_again_is_exactly_as_good_as_the_one_that_it_replaces(again, artifact):
    champion = again.manifest.champion
    assert champion["model_id"] == artifact.model_id
    assert champion["metrics"] == artifact.manifest.metrics["hold_out"]
    assert champion["difference"] == {"roc_auc": [0, 0, 0]}
    (gate,) = (gate for gate in again.manifest.gates if "champion" in gate.gate)
    assert gate == {"gate": "largest roc_auc below champion", "value": 0, "bound": 0.02, "passed": True}
    assert [gate for gate in again.manifest.gates if "champion" not in gate.gate] == artifact.manifest.gates


@pytest.fixture(scope="module")
def hold_out(credit: UseCase) -> Part:
    _, _, test, _ = split(credit, read(credit, credit.path), 42)
    return test


def test_the_promoted_model_is_compared_with_and_else_the_newest(credit, registry, hold_out):
    old = registry.latest("credit")
    new = copy_of(registry)
    assert champion_of(credit, registry, hold_out).model_id == new
    registry.promote(old)
    assert champion_of(credit, registry, hold_out).model_id == old


def test_a_champion_decides_by_its_own_threshold(credit, registry, hold_out, artifact):
    champion = champion_of(credit, registry, hold_out)
    assert champion.metrics == artifact.manifest.metrics["hold_out"]
    assert champion.metrics.keys() > credit.task.metrics(hold_out.y, champion.scores).keys()
    np.testing.assert_array_equal(champion.scores, predictions(artifact, features_of(credit, hold_out)))


def test_where_there_is_no_model_there_is_no_champion(credit, empty, registry, hold_out, caplog):
    assert champion_of(credit, empty, hold_out) is None
    for model_id in registry.list("credit"):
        registry.delete(model_id)
    assert registry.list("bikes")  # which nobody asks
    assert champion_of(credit, registry, hold_out) is None
    assert caplog.messages == []


def test_a_broken_newest_model_is_passed_over_with_a_line_in_the_log(credit, registry, hold_out, caplog):
    whole = registry.latest("credit")
    broken = copy_of(registry)
    change_byte(registry.location / broken / "model.pkl")
    assert champion_of(credit, registry, hold_out).model_id == whole
    (line,) = caplog.messages
    assert line.startswith(f"{broken} is not compared with: ")
    change_byte(registry.location / whole / "model.pkl")
    assert champion_of(credit, registry, hold_out).model_id == broken
    assert champion_of(credit, registry, hold_out).reason.startswith(f"{broken} is refused: ")


def test_no_other_model_stands_in_for_a_promoted_one_that_is_broken(credit, registry, hold_out, caplog):
    broken = copy_of(registry)
    copy_of(registry)
    registry.promote(broken)
    change_byte(registry.location / broken / "model.pkl")
    assert isinstance(champion_of(credit, registry, hold_out), NotCompared)
    assert [line.partition(" ")[0] for line in caplog.messages] == [broken]


def test_a_champion_does_without_the_columns_that_it_does_not_know(credit, registry, hold_out, caplog):
    wider = dataclasses.replace(hold_out, table=hold_out.table.assign(shoe_size=43))
    champion = champion_of(credit, registry, wider)
    np.testing.assert_array_equal(champion.scores, champion_of(credit, registry, hold_out).scores)
    assert caplog.messages == []


def test_a_champion_is_seen_on_the_rows_that_it_takes(credit, registry, hold_out):
    newer = hold_out.table.copy()
    newer.loc[::3, "housing"] = "a houseboat"
    champion = champion_of(credit, registry, dataclasses.replace(hold_out, table=newer))
    known = np.arange(len(newer)) % 3 > 0
    np.testing.assert_array_equal(champion.rows, known)
    np.testing.assert_array_equal(champion.scores, champion_of(credit, registry, hold_out).scores[known])
    assert champion.metrics["roc_auc"] == credit.task.metric(hold_out.y[known], champion.scores)


@pytest.mark.parametrize("spoil", ["few rows", "one outcome", "a column"])
def test_a_champion_that_takes_too_little_is_not_compared_with(credit, registry, hold_out, caplog, spoil):
    table = hold_out.table.copy()
    if spoil == "few rows":
        table.loc[: 0.6 * len(table), "housing"] = "a houseboat"
    elif spoil == "one outcome":
        table.loc[hold_out.y == 1, "housing"] = "a houseboat"
    else:
        table = table.drop(columns="housing")
    champion = champion_of(credit, registry, dataclasses.replace(hold_out, table=table))
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
    registry.promote(registry.latest("bikes", "LGBMRegressor"))
    with pytest.raises(FailedGatesError) as error:
        run_training(gated, registry, tmp_path / "foggy.csv", Plan(trials=1), ["Lasso"])
    (manifest,) = error.value.manifests
    assert failed(manifest) == {"largest rmse above champion"}
    assert 0 < manifest.champion["rows"] < manifest.data["rows"] * 0.3


def test_a_champion_that_cannot_be_loaded_stops_no_training_and_is_named(quick, registry, some_bikes, monkeypatch):
    gated = dataclasses.replace(quick, gates=(ChampionMargin("r2", 0.02),))
    broken = registry.latest("bikes", "LGBMRegressor")
    registry.promote(broken)
    change_byte(registry.location / broken / "model.pkl")
    monkeypatch.setattr("tabserve.train_pipeline.get_use_case", lambda name: gated)
    arguments = ["--use-case", "bikes", "--data", str(some_bikes), "--trials", "1", "--algorithm", "Lasso"]
    result = CliRunner().invoke(main, arguments, env={"MODEL_REGISTRY": str(registry.location), "COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    manifest = registry.manifest(registry.latest("bikes", "Lasso"))
    assert manifest.champion["model_id"] == broken
    said = f"largest r2 below champion, not compared: {manifest['champion']['not_compared']}"
    assert manifest.gates == [{"gate": said, "value": None, "bound": 0.02, "passed": True}]
    assert "not compared: " in result.stdout
    assert said in registry.read(manifest.model_id, "report.html", manifest).decode()


# a table that grows


@pytest.fixture(scope="module")
def applicants(credit: UseCase) -> pd.DataFrame:
    """Many applicants: each of the real ones, and what might be others, with an amount that is slightly different."""
    table = read(credit, credit.path)
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
        parts = [empty.read(manifest.model_id, name, manifest).splitlines()[1:] for name in ("train.csv", "test.csv")]
        train, test = ({line.rpartition(b",")[0] for line in part} for part in parts)
        assert sum(map(len, parts)) == number
        seen, held = seen | train, held | test
        assert not seen & held
    assert manifest.champion["model_id"] == empty.list()[1]
    assert [gate.passed for gate in manifest.gates] == [True]
    assert "looks better than it is" not in caplog.text


@pytest.mark.parametrize(("manifest", "flattered"), [({}, False), ({"seed": 41}, True), ({"split": "random"}, True)])
def test_a_champion_of_another_split_is_said_to_look_better_than_it_is(credit, registry, caplog, manifest, flattered):
    edit_manifest(registry, registry.latest("credit"), **manifest)
    fast = unpromised(credit, algorithms=(credit.baseline,), gates=())
    run_training(fast, registry, credit.path, Plan(trials=1, seed=42))
    assert ("was trained on rows of this hold-out: it looks better than it is." in caplog.text) == flattered


def test_a_model_of_another_task_is_not_compared_with(credit, registry, hold_out, caplog):
    edit_manifest(registry, registry.latest("credit"), headline="r2")
    assert isinstance(champion_of(credit, registry, hold_out), NotCompared)
    assert "it predicts something else" in caplog.text


def test_a_champion_that_cannot_be_read_stops_the_training_before_anything_is_fitted(credit, registry, monkeypatch):
    (registry.location / "credit.champion").write_text("nonsense")
    monkeypatch.setattr("tabserve.train_pipeline.fit", lambda *arguments: pytest.fail("this took time for nothing"))
    before = registry.list()
    with pytest.raises(BrokenArtifactError, match="promote a model again"):
        run_training(credit, registry, credit.path, Plan(trials=1))
    assert registry.list() == before


# what it refuses: real trainings, by the gates of the credit use case


def refused(credit: UseCase, registry: Registry, data: Path, **changes: Any) -> Mapping[str, Any]:
    """The manifest of a candidate that must be refused, none being registered."""
    before = registry.list()
    with pytest.raises(FailedGatesError) as error:
        run_training(unpromised(credit, **changes), registry, data, Plan(trials=1, seed=42, jobs=2))
    assert registry.list() == before
    (manifest,) = error.value.manifests
    for gate in failed(manifest):
        assert gate in str(error.value)
    return manifest


def failed(manifest: Mapping[str, Any]) -> set[str]:
    return {gate.gate for gate in manifest.gates if not gate.passed}


def test_an_overfitted_model_is_refused(credit, empty):
    model = LgbClassifier(learning_rate=0.3, num_leaves=255, min_data_in_leaf=1)
    by_heart = Algorithm(name="lightgbm", model=model)
    manifest = refused(credit, empty, credit.path, algorithms=(by_heart,))
    assert "largest train-to-hold-out gap of roc_auc" in failed(manifest)
    assert manifest.metrics["train"]["roc_auc"] > 0.99
    assert [path.name for path in empty.location.iterdir()] == ["rejected"]  # its report


def test_a_model_trained_on_shuffled_targets_is_refused(credit, data, tmp_path):
    table = pd.read_csv(data, keep_default_na=False)
    table["default"] = np.random.default_rng(1).permutation(table["default"])
    table.to_csv(data, index=False)
    arguments = ["--data", str(data), "--trials", "1", "--jobs", "2"]
    result = CliRunner().invoke(main, arguments, env={"MODEL_REGISTRY": str(tmp_path / "models")})
    assert result.exit_code == 1
    assert "lightgbm was not registered; it failed: smallest hold-out roc_auc, " in result.stderr
    assert "FAILED" in result.stdout
    assert "saved" not in result.stdout
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["rejected"]


def test_a_model_that_is_worse_than_the_champion_is_refused(credit, registry, artifact, empty):
    names = [column.name for column in (*credit.features, *credit.derived)]
    unread = tuple(name for name in names if name not in ("checking_balance", "savings_balance"))
    transformers = (Drop(unread), *credit.baseline.transformers)
    weak = Algorithm(name="weak", model=credit.baseline.model, transformers=transformers)
    manifest = refused(credit, registry, credit.path, algorithms=(weak,), baseline=weak)
    assert failed(manifest) == {"largest roc_auc below champion"}  # it is well enough otherwise
    assert manifest.champion["model_id"] == artifact.model_id
    assert manifest.champion["difference"]["roc_auc"][0] < -0.02


# how good the credit model is


@pytest.mark.slow
def test_the_credit_model_is_calibrated_and_its_threshold_saves_money(credit, empty):
    (manifest,) = run_training(credit, empty, credit.path, Plan(trials=5, seed=42, jobs=2))
    brier = {name: metrics["hold_out"]["brier"] for name, metrics in manifest.comparison.items()}
    assert brier["lightgbm"] <= brier["logistic"] + 0.005
    cost = {choice: outcome["hold_out"]["expected_cost"] for choice, outcome in manifest.thresholds.items()}
    share = 0.3  # of defaults: what is lost on each when nobody is refused, and else on everybody else
    assert cost["cost"] < min(cost["half"], 5 * share, 1 - share)
    assert manifest.metrics["hold_out"]["expected_cost"] == cost["cost"]


def test_the_digest_is_of_the_data_that_were_read_and_not_of_what_the_file_became(credit, empty, data, monkeypatch):
    read_data = data.read_bytes()

    def edit_the_file_and_fit(*arguments: Any) -> Candidate:
        data.write_text("something else")
        return fit(*arguments)

    monkeypatch.setattr("tabserve.train_pipeline.fit", edit_the_file_and_fit)
    fast = unpromised(credit, algorithms=(credit.baseline,), gates=())
    (manifest,) = run_training(fast, empty, data, Plan(trials=1, seed=42))
    assert data.read_bytes() != read_data
    assert manifest.data["sha256"] == hashlib.sha256(read_data).hexdigest()


# several algorithms


@pytest.fixture(scope="module")
def quick(bikes: UseCase) -> UseCase:
    """The bikes use case in few folds, without gates, and without the algorithm that takes long."""
    algorithms = tuple(algorithm for algorithm in bikes.algorithms if algorithm.name != "SVR")
    return dataclasses.replace(bikes, algorithms=algorithms, gates=(), **FEW_FOLDS)


def test_all_algorithms_are_saved_and_the_best_of_cross_validation_is_the_newest(bikes, trained):
    manifests = [trained.manifest(model_id) for model_id in trained.list("bikes")]
    assert {manifest.algorithm for manifest in manifests} == {algorithm.name for algorithm in bikes.algorithms}
    scores = [manifest.metrics["cross_validation"]["r2"] for manifest in manifests]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]
    for manifest in manifests:
        assert re.fullmatch(r"bikes-[A-Za-z]+_v\d+\.\d+\.\d+-\d+\.\d{6}", manifest.model_id)
        assert manifest.comparison.keys() == {algorithm.name for algorithm in bikes.algorithms}
        assert manifest.comparison[manifest.algorithm] == manifest.metrics
        for metrics in manifest.comparison.values():
            assert metrics.keys() == {"train", "cross_validation", "hold_out", "chronological"}
            assert all(part.keys() == {"r2", "rmse", "mae"} for part in metrics.values())
        assert manifest.baseline == "LinearRegression"
        assert (manifest.threshold, manifest.thresholds) == (None, {})
        assert len(manifest.trials) == (2 if bikes.algorithm(manifest.algorithm).search_space else 1)


def test_all_models_of_one_training_are_judged_by_the_same_hold_out(bikes, trained):
    ids = trained.list("bikes")
    hold_outs = {trained.read(model_id, "test.csv", trained.manifest(model_id)) for model_id in ids}
    assert len(ids) == len(bikes.algorithms)
    assert len(hold_outs) == 1


def test_a_saved_regressor_scores_the_hold_out_as_its_manifest_says(bikes, trained):
    for model_id in trained.list("bikes"):
        saved = trained.load(model_id)
        table = pd.read_csv(trained.location / model_id / "test.csv")
        y = table.pop("count").to_numpy(dtype=float)
        scores = saved.model.predict_score(saved.pipeline.transform(table))
        assert r2_score(y, scores) == pytest.approx(saved.manifest.metrics["hold_out"]["r2"], abs=1e-12)
        assert scores.min() >= 0


def test_the_metrics_by_time_are_of_the_last_rows_by_a_model_of_the_first(bikes, some_bikes, trained):
    manifest = trained.manifest(trained.latest("bikes", "Lasso"))
    table = read(bikes, some_bikes)
    cut = round(0.7 * len(table))
    past, future = (part.drop(columns="count") for part in (table[:cut], table[cut:]))
    lasso = bikes.algorithm("Lasso")
    pipeline = clone(bikes.pipeline(lasso))
    model = clone(lasso.model).fit(pipeline.fit_transform(past), table["count"][:cut].to_numpy(dtype=float))
    expected = r2_score(table["count"][cut:], model.predict_score(pipeline.transform(future)))
    assert manifest.metrics["chronological"]["r2"] == pytest.approx(expected, abs=1e-12)


def test_a_run_can_be_restricted_to_some_algorithms(quick, empty, some_bikes):
    told: list[tuple[str, int, int]] = []

    def progress(algorithm: Algorithm, trials: Sequence[Trial], total: int) -> None:
        told.append((algorithm.name, len(trials), total))

    plan = Plan(trials=2, jobs=1, progress=progress)
    manifests = run_training(quick, empty, some_bikes, plan, ["lasso", "DecisionTreeRegressor"])
    assert [manifest.algorithm for manifest in manifests] == ["DecisionTreeRegressor", "Lasso"]
    assert empty.list() == [manifest.model_id for manifest in manifests]
    # the baseline is fitted to compare with, and not saved
    assert manifests[0].comparison.keys() == {"Lasso", "DecisionTreeRegressor", "LinearRegression"}
    assert told == [
        *[("Lasso", 0, 1), ("Lasso", 1, 1)],
        *[("DecisionTreeRegressor", done, 2) for done in range(3)],
        *[("LinearRegression", 0, 1), ("LinearRegression", 1, 1)],
    ]


@pytest.mark.parametrize("rare", [0, 1])
def test_a_target_that_does_not_vary_is_refused_in_words(quick, empty, some_bikes, tmp_path, rare):
    header, *hours = some_bikes.read_text().splitlines()
    counts = [7] * rare + [5] * (len(hours) - rare)
    rows = [f"{hour.rpartition(',')[0]},{count}" for hour, count in zip(hours, counts, strict=True)]
    data = tmp_path / "uniform.csv"
    data.write_text("\n".join([header, *rows]))
    with pytest.raises(UniformTargetError, match="The target 'count' has the same value in all rows of a fold"):
        run_training(quick, empty, data, Plan(trials=1))
    assert not empty.location.exists()


def test_an_unknown_algorithm_is_refused_with_those_there_are(quick, empty, some_bikes):
    with pytest.raises(UnknownAlgorithmError, match=r"^bikes has no such algorithm; there are: Lasso, "):
        run_training(quick, empty, some_bikes, Plan(), ["Ridge"])
    assert not empty.location.exists()


def test_the_best_is_saved_first_and_none_that_is_worse_is_ever_the_newest(quick, empty, some_bikes, monkeypatch):
    newest_after_each: list[str] = []
    save = Registry.save

    def save_and_look(self: Registry, *arguments: Any) -> str:
        model_id = save(self, *arguments)
        newest_after_each.append(self.latest("bikes"))
        return model_id

    monkeypatch.setattr(Registry, "save", save_and_look)
    best, *_ = run_training(quick, empty, some_bikes, Plan(trials=1))
    assert newest_after_each == [best["model_id"]] * len(quick.algorithms)


def test_those_that_pass_are_saved_though_others_fail(quick, empty, some_bikes):
    strict = dataclasses.replace(quick, gates=(SmallestMetric("r2", 0.5),))
    with pytest.raises(
        FailedGatesError, match=r"^Lasso was not registered; it failed: smallest hold-out r2\.$"
    ) as error:
        run_training(strict, empty, some_bikes, Plan(trials=1), ["Lasso", "LinearRegression"])
    assert [manifest.algorithm for manifest in error.value.manifests] == ["LinearRegression", "Lasso"]
    assert [ModelId.parse(model_id).algorithm for model_id in empty.list()] == ["LinearRegression"]


def test_only_the_model_that_will_answer_is_held_against_the_champion(quick, registry, some_bikes):
    gated = dataclasses.replace(quick, gates=(ChampionMargin("r2", 0.02),))
    plan = Plan(trials=2, seed=42)
    before = registry.list("bikes")
    best, lasso = run_training(gated, registry, some_bikes, plan, ["Lasso", "LGBMRegressor"])
    assert (best["algorithm"], lasso["algorithm"]) == ("LGBMRegressor", "Lasso")
    assert [gate.gate for gate in best["gates"]] == ["largest r2 below champion"]
    assert lasso["gates"] == []
    assert best["champion"]["model_id"] == lasso["champion"]["model_id"] == before[0]
    assert lasso["champion"]["difference"]["r2"][2] < -0.02  # worse for sure
    assert registry.list("bikes") == [best["model_id"], lasso["model_id"], *before]

    with pytest.raises(FailedGatesError, match=r"^Lasso was not registered; it failed: largest r2 below champion\.$"):
        run_training(gated, registry, some_bikes, plan, ["Lasso"])
    assert registry.list("bikes") == [best["model_id"], lasso["model_id"], *before]


def test_the_next_best_is_held_against_the_champion_where_the_best_is_refused(quick, registry, some_bikes):
    # the gap of a deep tree on few rows is wide, that of Lasso is not
    gated = dataclasses.replace(quick, gates=(LargestGap("r2", 0.1), ChampionMargin("r2", 0.02)))
    registry.promote(registry.latest("bikes", "LinearRegression"))
    before = registry.list("bikes")
    with pytest.raises(FailedGatesError) as error:
        run_training(gated, registry, some_bikes, Plan(trials=2, seed=42), ["Lasso", "DecisionTreeRegressor"])
    best, lasso = error.value.manifests
    assert failed(best) == {"largest train-to-hold-out gap of r2"}
    assert failed(lasso) == {"largest r2 below champion"}
    assert registry.list("bikes") == before


def test_the_command_compares_the_algorithms_and_says_which_answers(quick, some_bikes, registry, monkeypatch):
    monkeypatch.setattr("tabserve.train_pipeline.get_use_case", lambda name: quick)
    monkeypatch.setenv("MODEL_REGISTRY", str(registry.location))
    arguments = ["--use-case", "bikes", "--data", str(some_bikes), "--trials", "1", "--algorithm", "LinearRegression"]
    result = CliRunner().invoke(main, [*arguments, "--algorithm", "lgbmregressor"])
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    heading = next(line for line in lines if "by" in line)
    for word in ("metric", "algorithm", "train", "CV", "hold-out", "by", "time", "gap"):
        assert word in heading
    assert sum("LGBMRegressor" in line for line in lines) == 3  # once for each metric
    assert sum("LinearRegression*" in line for line in lines) == 3
    assert "…" not in result.stdout  # at 80 columns nothing is cut off
    assert f"bikes is answered by: {registry.latest('bikes', 'LGBMRegressor')}\n" in result.stdout

    champion = registry.latest("bikes", "SVR")
    registry.promote(champion)
    result = CliRunner().invoke(main, arguments)
    assert f"bikes is answered by its champion: {champion}\n" in result.stdout


def test_a_model_whose_name_is_newer_than_the_new_ones_is_what_answers(quick, some_bikes, registry, monkeypatch):
    monkeypatch.setattr("tabserve.train_pipeline.get_use_case", lambda name: quick)
    monkeypatch.setenv("MODEL_REGISTRY", str(registry.location))
    begin, _, moment = registry.latest("bikes").rpartition("-")
    ahead = f"{begin}-{float(moment) + 10**6:.6f}"  # by a clock that was ahead
    shutil.copytree(registry.location / f"{begin}-{moment}", registry.location / ahead)
    arguments = ["--use-case", "bikes", "--data", str(some_bikes), "--trials", "1", "--algorithm", "LinearRegression"]
    result = CliRunner().invoke(main, arguments)
    assert f"bikes is answered by: {ahead}\n" in result.stdout
    assert f"promote {registry.list('bikes', 'LinearRegression')[0]}." in " ".join(result.stdout.split())


def test_warnings_are_shown_when_it_is_run_as_a_module(registry, some_bikes):
    quick = ["--use-case", "bikes", "--data", str(some_bikes), "--algorithm", "LinearRegression", "--seed", "7"]
    done = run(["-m", "tabserve.train_pipeline", *quick], registry.location)
    assert "was trained on rows of this hold-out: it looks better than it is." in done.stderr


def test_an_unknown_algorithm_is_a_line_and_exit_status_1(tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_REGISTRY", str(tmp_path / "none"))
    result = CliRunner().invoke(main, ["--algorithm", "Ridge"])
    assert (result.exit_code, result.stderr) == (1, "Error: credit has no such algorithm; there are: lightgbm.\n")
    assert not (tmp_path / "none").exists()


# what it does not save


def test_a_candidate_that_fails_a_gate_is_not_registered_and_the_gate_is_named(credit, registry, monkeypatch):
    before = registry.list()
    gates = (SmallestMetric("roc_auc", 0.5), SmallestMetric("accuracy", 1.01))
    strict = unpromised(credit, algorithms=(credit.baseline,), gates=gates)
    monkeypatch.setattr("tabserve.train_pipeline.get_use_case", lambda name: strict)
    monkeypatch.setenv("MODEL_REGISTRY", str(registry.location))
    result = CliRunner().invoke(main, ["--trials", "1", "--jobs", "1"])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "not registered; it failed: smallest hold-out accuracy." in result.stderr
    assert "FAILED" in result.stdout
    assert registry.list() == before


def test_a_failed_candidates_error_holds_its_manifest(credit, empty):
    strict = unpromised(
        credit, algorithms=(credit.baseline,), gates=(SmallestMetric("roc_auc", 0.99), SmallestMetric("roc_auc", 0.01))
    )
    with pytest.raises(FailedGatesError) as error:
        run_training(strict, empty, credit.path, Plan(trials=1, seed=42))
    assert [gate.passed for gate in error.value.manifests[0].gates] == [False, True]
    assert empty.list() == []
    assert [path.name for path in empty.location.iterdir()] == ["rejected"]  # its report


def test_a_folder_that_takes_nothing_is_refused_before_anything_is_fitted(credit, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    monkeypatch.setattr("tabserve.train_pipeline.fit", lambda *arguments: pytest.fail("a model is fitted"))
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


def test_a_disk_without_room_is_a_line_and_exit_status_1(tmp_path):
    models, output = tmp_path / "models", tmp_path / "output"
    assert in_a_process(short_of_room, models, output) == 1
    _, line = filter(None, output.read_text().splitlines())  # how tuning went, and the error
    assert line == f"Error: Models cannot be saved in {models} (File too large). Nothing was saved."
    assert Registry(models).list() == []


# what would fail after the tuning is refused before it


@pytest.fixture
def untuned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tabserve.train_pipeline.fit", lambda *arguments: pytest.fail("this took time for nothing"))


@pytest.mark.parametrize(
    ("algorithm", "problem"),
    [
        (Algorithm(name="line", model=LinearRegression()), "its scores are no numbers"),
        (Algorithm(name="trees", model=LgbRegressor(num_leaves=1)), ""),
        (Algorithm(name="trees", model=LgbRegressor(), search_space={"num_leaves": Whole(1, 9)}), ""),
        (Algorithm(name="trees", model=LgbRegressor(), search_space={"max_bin": Whole(0, 1)}), ""),
    ],
)
def test_an_algorithm_that_cannot_be_fitted_on_such_columns_is_refused(
    bikes, empty, some_bikes, untuned, algorithm, problem
):
    features = tuple(dataclasses.replace(one, missing=True, default=None) for one in bikes.features)
    broken = dataclasses.replace(bikes, features=features, algorithms=(algorithm,), baseline=algorithm)
    with pytest.raises(InvalidUseCaseError, match=f"^bikes: {algorithm.name} fails on these columns, .*: .*{problem}"):
        run_training(broken, empty, some_bikes, Plan(trials=1))


def test_a_file_that_is_not_there_is_named(credit, empty, tmp_path):
    with pytest.raises(UnsupportedFileError, match=r"^The file loans.csv cannot be read: No such file or directory\.$"):
        run_training(credit, empty, tmp_path / "loans.csv", Plan(trials=1))


class Odd(LinearRegression):
    """A model whose scores are odd."""

    def __init__(self, how: str = "") -> None:
        super().__init__()
        self.how = how

    def predict_score(self, X):
        scores = super().predict_score(X)
        odd = {"column": scores[:, None], "one": scores[:1], "list": scores.tolist(), "whole": scores.astype(int)}
        return odd[self.how]


@pytest.mark.parametrize("how", ["column", "one", "list", "whole"])
def test_scores_that_are_no_array_of_floats_are_refused_before_tuning(quick, empty, some_bikes, untuned, how):
    odd = Algorithm(name="odd", model=Odd(how), transformers=quick.baseline.transformers)
    with pytest.raises(InvalidUseCaseError, match=r"^bikes: odd fails .* its scores are no array of floats"):
        run_training(dataclasses.replace(quick, algorithms=(odd,)), empty, some_bikes, Plan(trials=1))


def test_scores_of_a_classifier_are_probabilities():
    check_scores(LogisticRegression(), np.array([0.0, 1.0]), 2)
    check_scores(LinearRegression(), np.array([-1.0, 2.0]), 2)
    for scores in ([-0.1, 1.0], [0.0, 1.1]):
        with pytest.raises(ValueError, match="between 0 and 1"):
            check_scores(LogisticRegression(), np.array(scores), 2)


@pytest.mark.parametrize("text", ["a\rb", "a\r", "a\nb", "a\r\nb", "a,b", 'a"b'])
def test_a_table_is_read_back_from_its_file(text):
    table = pd.DataFrame({"kind": [text, "c"], "size": [1.5, 2.0]})
    lines = list(csv.reader(io.StringIO(as_csv(table).decode(), newline="")))
    assert lines == [["kind", "size"], [text, "1.5"], ["c", "2.0"]]


def test_a_last_part_in_which_the_target_does_not_vary_is_refused(quick, empty, some_bikes, tmp_path, untuned):
    header, *hours = some_bikes.read_text().splitlines()
    last = [hour.rpartition(",")[0] + ",7" for hour in hours[len(hours) // 2 :]]
    data = tmp_path / "the same in the end.csv"
    data.write_text("\n".join([header, *hours[: len(hours) // 2], *last]))
    with pytest.raises(UniformTargetError, match="has the same value in all rows of the last part by time"):
        run_training(quick, empty, data, Plan(trials=1))


def test_a_column_that_the_file_lacks_is_trained_without_and_named(bikes, empty, some_bikes, tmp_path, caplog):
    weather = dataclasses.replace(bikes.features[3], missing=True)
    optional = dataclasses.replace(
        bikes, features=(*bikes.features[:3], weather, bikes.features[4]), algorithms=(bikes.baseline,), gates=()
    )
    data = tmp_path / "without weather.csv"
    pd.read_csv(some_bikes).drop(columns="weather").to_csv(data, index=False)
    (manifest,) = run_training(optional, empty, data, Plan(trials=1))
    assert "No row has a value of 'weather': nothing is learnt from it." in caplog.messages
    artifact = empty.load(manifest.model_id)
    with_it, without_it = ({**bikes.example, "weather": weather} for weather in ("Stormy", None))
    assert predictions(artifact, [with_it]) == predictions(artifact, [without_it])
    empty_column = pd.read_csv(data).assign(weather=None)
    empty_column.to_csv(data, index=False)
    (again,) = run_training(optional, empty, data, Plan(trials=1))
    assert again["metrics"] == manifest.metrics


# the command


@pytest.mark.slow
def test_the_module_trains_prints_its_metrics_and_saves_what_another_process_loads(tmp_path, artifact, records):
    done = run(["-m", "tabserve.train_pipeline", "--trials", "2", "--jobs", "1"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for printed in ("Metrics", "roc_auc", "hold-out", "gap", "Gates", "passed", "threshold"):
        assert printed in done.stdout
    saved = newest(Registry(tmp_path))
    assert f"saved: {saved.model_id}\n" in done.stdout
    assert predictions(saved, records) == predictions(artifact, records)


def test_the_script_runs_as_a_file(tmp_path):
    done = run(["src/train_pipeline.py", "--version"], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"tabserve, version {tabserve.__version__}\n", "")


def test_a_data_file_that_does_not_fit_is_named_with_row_column_and_value(tmp_path, data):
    lines = data.read_text().splitlines()
    lines[2] = lines[2].replace("radio/tv", "gambling")
    data.write_text("\n".join(lines))
    assert "gambling" in lines[2]
    done = run(["-m", "tabserve", "train", "credit", "--data", str(data)], tmp_path / "models")
    assert done.returncode == 1
    assert "row 3, column 'purpose': 'gambling': Must be one of: business, " in done.stderr
    assert "data.csv" in done.stderr
    assert "Traceback" not in done.stderr
    assert Registry(tmp_path / "models").list() == []


@pytest.mark.parametrize(
    "arguments",
    [["--use-case", "nothing"], ["--trials", "0"], ["--seed", "-1"], ["--jobs", "0"], ["--data", "no such file"]],
)
def test_what_cannot_be_meant_is_a_usage_error(arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_REGISTRY", str(tmp_path))
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr
    assert list(tmp_path.iterdir()) == []


WITHOUT = "import sys; sys.modules.update(dict.fromkeys({libraries})); from tabserve.train_pipeline import main; main()"


def test_the_libraries_of_training_are_those_of_its_extra():
    extra = re.findall(r"^[a-z].*$", (ROOT / "requirements-train.in").read_text(), re.MULTILINE)
    modules = {name for name, packages in packages_distributions().items() if set(packages) & set(extra)}
    assert set(tabserve.train_pipeline.LIBRARIES) <= modules
    assert len(tabserve.train_pipeline.LIBRARIES) == len(extra)


@pytest.mark.parametrize("libraries", [[name] for name in tabserve.train_pipeline.LIBRARIES])
def test_without_a_library_of_training_the_command_says_which_extra_brings_it(libraries, tmp_path):
    done = run(["-c", WITHOUT.format(libraries=libraries)], tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: Libraries are missing here ({libraries[0]}): pip install 'tabserve[train]'\n"
    assert list(tmp_path.iterdir()) == []


def test_without_all_of_them_there_is_help_still(tmp_path):
    done = run(["-c", WITHOUT.format(libraries=tabserve.train_pipeline.LIBRARIES), "--help"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--use-case" in done.stdout


def test_a_use_cases_data_that_are_not_there_are_a_line_and_exit_status_1(credit, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tabserve.train_pipeline.get_use_case", lambda name: dataclasses.replace(credit, source="none.csv")
    )
    monkeypatch.setenv("MODEL_REGISTRY", str(tmp_path / "models"))
    result = CliRunner().invoke(main, [])
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    (line,) = filter(None, result.stderr.splitlines())
    assert "none.csv" in line


@pytest.mark.slow
def test_a_reader_that_has_read_enough_is_no_error(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "tabserve.train_pipeline", "--trials", "1", "--jobs", "1"]
    environment = {**os.environ, "MODEL_REGISTRY": str(tmp_path)}
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=closed, stderr=subprocess.PIPE, timeout=120)
    assert done.stderr == b""
    assert len(Registry(tmp_path).list()) == 1


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments on a registry."""
    environment = {**os.environ, "MODEL_REGISTRY": str(folder)}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


# Trainings that are stopped. They run in processes of their own, forked from one that has imported everything.


def in_a_process(function: Callable[..., None], *arguments: Any) -> int:
    """Run a function of this module in a process of its own; how that ended."""
    process = CONTEXT.Process(target=function, args=arguments)
    process.start()
    process.join(120)
    status = process.exitcode
    process.kill()
    process.join()
    process.close()
    assert status is not None, "the process did not end"
    return status


CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])


def send(number: signal.Signals) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.kill(os.getpid(), number)


def stopped_while_tuning(folder: Path, number: signal.Signals, output: Path) -> NoReturn:
    """The command; the signal comes during the second trial."""
    cross_validate = LgbClassifier.cross_validate
    calls = []

    def stop(self: LgbClassifier, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            send(number)
        return cross_validate(self, *arguments)

    LgbClassifier.cross_validate = stop
    command(folder, output, "--trials", "3", "--jobs", "1")


def stopped_while_saving(folder: Path, number: signal.Signals, output: Path) -> NoReturn:
    """The command with the fast baseline for a model; the signal comes when the second file is half written."""
    stop_writing(2, number)
    fast_command(folder, output)


def short_of_room(folder: Path, output: Path) -> NoReturn:
    """The same where no file may be larger than this."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    fast_command(folder, output)


def fast_command(folder: Path, output: Path) -> NoReturn:
    credit = tabserve.train_pipeline.get_use_case("credit")
    fast = unpromised(credit, algorithms=(credit.baseline,), gates=())
    tabserve.train_pipeline.get_use_case = lambda name: fast
    command(folder, output, "--trials", "1", "--jobs", "1")


def command(folder: Path, output: Path, *arguments: str) -> NoReturn:
    os.environ["MODEL_REGISTRY"] = str(folder)
    with output.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        main(arguments)


def stop_writing(failing: int, number: signal.Signals) -> None:
    write = tabserve.registry.stores._write
    calls = []

    def stop(path: Path, content: bytes, mode: str) -> None:
        calls.append(path)
        if len(calls) == failing:
            write(path, content[: len(content) // 2], mode)
            send(number)
        write(path, content, mode)

    tabserve.registry.stores._write = stop


def save_and_stop(folder: Path, failing: int, number: signal.Signals) -> None:
    """Save a model that was trained before; the signal comes when a file is half written."""
    stop_writing(failing, number)
    copy_of(Registry(folder))


def save_and_be_killed_at_the_renaming(folder: Path, done: bool) -> None:
    rename = Path.replace

    def kill(self: Path, target: Path) -> None:
        if done:
            rename(self, target)
        send(signal.SIGKILL)

    Path.replace = kill
    copy_of(Registry(folder))


def delete_and_be_killed(folder: Path, model_id: str) -> None:
    delete = FolderStore.delete

    def kill_after_the_first(self: FolderStore, path: str) -> None:
        delete(self, path)
        send(signal.SIGKILL)

    FolderStore.delete = kill_after_the_first
    Registry(folder).delete(model_id)


@pytest.fixture
def unharmed(registry: Registry, records: list[Mapping[str, Any]]):
    """Check that a registry lists, loads and serves what it did at the beginning of the test, and can be saved to."""
    before, model_id = registry.list(), registry.latest("credit")
    expected = predictions(registry.load(model_id), records)

    def check() -> None:
        assert registry.list() == before
        registry.load(model_id)
        assert predictions(registry.load(model_id), records) == expected
        served = Resolver(registry, "credit")
        assert [served.resolve(name).model_id for name in ("credit", "latest", "champion", model_id)] == [model_id] * 4
        after = copy_of(registry, "credit-lightgbm_v1.0.0-9999999999.000000")
        assert registry.list() == [after, *before]

    return check


def test_ctrl_c_while_tuning_says_so_and_saves_nothing(registry, unharmed, tmp_path):
    output = tmp_path / "output"
    assert in_a_process(stopped_while_tuning, registry.location, signal.SIGINT, output) == 1
    assert "Interrupted after 1 of 3 trials; nothing was saved." in output.read_text()
    assert "Traceback" not in output.read_text()
    assert sorted(path.name for path in registry.location.iterdir()) == sorted(registry.list())
    unharmed()


def test_ctrl_c_while_saving_says_so_and_saves_nothing(registry, unharmed, tmp_path):
    output = tmp_path / "output"
    assert in_a_process(stopped_while_saving, registry.location, signal.SIGINT, output) == 1
    assert "Aborted!" in output.read_text()
    unharmed()


@pytest.mark.parametrize("training", [stopped_while_tuning, stopped_while_saving])
def test_a_training_that_is_killed_leaves_the_registry_as_it_was(registry, unharmed, tmp_path, training):
    assert in_a_process(training, registry.location, signal.SIGKILL, tmp_path / "output") == -signal.SIGKILL
    unharmed()


@pytest.mark.parametrize("failing", range(1, WRITES + 1))
def test_a_saving_that_is_killed_in_any_write_leaves_the_registry_as_it_was(registry, unharmed, failing):
    assert in_a_process(save_and_stop, registry.location, failing, signal.SIGKILL) == -signal.SIGKILL
    assert len(list(registry.location.iterdir())) == len(registry.list()) + 1  # it had begun
    unharmed()


def test_a_saving_makes_no_more_writes_than_those(registry):
    assert in_a_process(save_and_stop, registry.location, WRITES + 1, signal.SIGKILL) == 0
    assert len(registry.list("credit")) == 2


def test_a_saving_that_is_killed_before_the_manifest_is_renamed_leaves_the_registry_as_it_was(registry, unharmed):
    assert in_a_process(save_and_be_killed_at_the_renaming, registry.location, False) == -signal.SIGKILL
    unharmed()


def test_a_saving_that_is_killed_after_the_manifest_is_renamed_has_saved_a_whole_model(registry):
    assert in_a_process(save_and_be_killed_at_the_renaming, registry.location, True) == -signal.SIGKILL
    assert len(registry.list("credit")) == 2
    registry.load(registry.latest("credit"))


def test_a_deletion_that_is_killed_has_deleted_that_model_and_no_other(registry, unharmed):
    new = copy_of(registry)
    assert in_a_process(delete_and_be_killed, registry.location, new) == -signal.SIGKILL
    assert (registry.location / new).exists()
    unharmed()


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.90787, "0.908"), (-0.0219, "-0.022"), (155.49, "155.5"), (-10.44, "-10.4"), (12345678.9, "1.23e+07")],
)
def test_a_number_is_shortened_and_never_cut(value, shown):
    assert tabserve.train_pipeline.short(value) == shown
