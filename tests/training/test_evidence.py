"""Evidence: what a manifest says of how good a model is, and which models are refused."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.base import clone
from sklearn.metrics import r2_score

from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.use_case import UseCase
from tabserve.evaluation.gates import ChampionMargin, LargestGap
from tabserve.models.lightgbm import LgbClassifier
from tabserve.registry.registry import Registry
from tabserve.train_pipeline import main, run_training
from tabserve.training.candidate import fit
from tabserve.training.evidence import measure, without_protected
from tabserve.training.parts import read, split
from tabserve.training.plan import Plan
from tabserve.transformers import Drop
from tests.training.helpers import FEW_FOLDS, failed, saved_table, unpromised


def test_a_manifest_says_how_the_model_was_chosen_and_how_good_it_is(artifact, credit):
    manifest = artifact.manifest
    assert len(manifest.trials) == 2
    for trial in manifest.trials:
        assert trial.parameters.keys() == {*credit.algorithms[0].search_space, "num_rounds"}
        assert 0.5 < trial.score < 1
    names = {"roc_auc", "gini", "pr_auc", "ks", "brier", "log_loss"}
    names |= {"accuracy", "precision", "recall", "f1", "expected_cost"}
    assert manifest.baseline == "logistic"
    assert manifest.comparison.keys() == {"lightgbm", "logistic"}
    assert manifest.comparison["lightgbm"] == manifest.metrics
    for metrics in manifest.comparison.values():
        assert metrics.keys() == {"train", "cross_validation", "hold_out"}
        assert all(part.keys() == names for part in metrics.values())
    assert set(manifest.thresholds) == {"cost", "half", "roc_balanced"}
    assert manifest.threshold == manifest.thresholds["cost"].threshold
    assert manifest.thresholds["half"].threshold == 0.5
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
        assert gate.passed is True
        assert "champion" not in gate.gate


def test_a_manifest_says_how_groups_of_the_hold_out_are_treated(artifact, trained):
    table = saved_table(trained, artifact.manifest)
    scores = artifact.model.predict(artifact.pipeline.transform(table.drop(columns="default")))
    accepted = scores < artifact.manifest.threshold
    groups = artifact.manifest.groups
    assert list(groups) == ["age", "personal_status", "foreign_worker"]
    members = {
        "age": {"25 and under": table["age"] <= 25, "over 25": table["age"] > 25},
        "personal_status": {value: table["personal_status"] == value for value in set(table["personal_status"])},
        "foreign_worker": {value: table["foreign_worker"] == value for value in ("no", "yes")},
    }
    for name, comparison in groups.items():
        assert comparison.values.keys() == members[name].keys()
        rates = {group: np.mean(accepted[its]) for group, its in members[name].items()}
        for group, its in members[name].items():
            assert comparison.values[group]["rows"] == its.sum()
            assert comparison.values[group]["selection_rate"] == pytest.approx(rates[group])
        assert comparison.disparate_impact == pytest.approx(min(rates.values()) / max(rates.values()))
    (gate,) = (gate for gate in artifact.manifest.gates if "groups" in gate.gate)
    assert gate.value == groups["age"].disparate_impact


def test_a_model_that_decides_nothing_about_nobody_has_no_groups(bikes, trained):
    manifest = trained.manifest(trained.latest("bikes"))
    assert manifest.headline == "r2"
    assert manifest.intervals.keys() == {"r2", "rmse", "mae"}
    assert manifest.baseline_difference.keys() == {"r2"}
    assert (manifest.groups, manifest.protected, manifest.champion) == ({}, None, None)
    baseline = trained.manifest(trained.latest("bikes", "LinearRegression"))
    assert baseline.baseline_difference == {"r2": (0, 0, 0)}


def test_a_manifest_says_what_the_protected_features_are_worth(artifact, excluding):
    every, without = artifact.manifest, excluding.manifest
    for manifest in (every, without):
        assert manifest.protected.columns == ("personal_status", "age", "foreign_worker", "duration_for_age")
        assert manifest.protected.metric == "roc_auc"
    assert every.protected.excluded is False
    assert without.protected.excluded is True
    for part in ("cross_validation", "hold_out"):
        assert every.protected.with_[part] == pytest.approx(every.metrics[part]["roc_auc"], abs=0.005)
        assert without.protected.without[part] == pytest.approx(without.metrics[part]["roc_auc"], abs=0.005)
        for manifest in (every, without):
            assert manifest.protected.with_[part] != manifest.protected.without[part]
    assert every.protected.with_["hold_out"] == every.metrics["hold_out"]["roc_auc"]
    assert without.protected.without["hold_out"] == without.metrics["hold_out"]["roc_auc"]


def test_what_protected_features_are_worth_is_the_same_whichever_model_was_chosen(credit):
    credit = dataclasses.replace(credit, **FEW_FOLDS)
    parts = split(credit, read(credit, credit.path), 42)
    found, scores = [], []
    for excluded in (False, True):
        plan = Plan(seed=42, jobs=2, exclude_protected=excluded)
        (one,) = measure(credit, [fit(credit, credit.baseline, parts.train, plan)], parts, plan).values()
        scores.append(one.metrics["hold_out"]["roc_auc"])
        found.append(without_protected(credit, one, parts, plan))
    assert [one.excluded for one in found] == [False, True]
    assert dataclasses.replace(found[0], excluded=True) == found[1]
    assert [found[0].with_["hold_out"], found[0].without["hold_out"]] == pytest.approx(scores)
    assert scores[0] != scores[1]


def test_a_saved_regressor_scores_the_hold_out_as_its_manifest_says(bikes, trained):
    for model_id in trained.list("bikes"):
        saved = trained.load(model_id)
        table = saved_table(trained, saved.manifest)
        y = table.pop("count").to_numpy(dtype=float)
        scores = saved.model.predict(saved.pipeline.transform(table))
        assert r2_score(y, scores) == pytest.approx(saved.manifest.metrics["hold_out"]["r2"], abs=1e-12)
        assert scores.min() >= 0


def test_the_metrics_by_time_are_of_the_last_rows_by_a_model_of_the_first(bikes, some_bikes, trained):
    manifest = trained.manifest(trained.latest("bikes", "Lasso"))
    table = read(bikes, some_bikes).table
    cut = round(0.7 * len(table))
    past, future = (part.drop(columns="count") for part in (table[:cut], table[cut:]))
    lasso = bikes.algorithm("Lasso")
    pipeline = clone(bikes.pipeline(lasso))
    model = clone(lasso.model).fit(pipeline.fit_transform(past), table["count"][:cut].to_numpy(dtype=float))
    expected = r2_score(table["count"][cut:], model.predict(pipeline.transform(future)))
    assert manifest.metrics["chronological"]["r2"] == pytest.approx(expected, abs=1e-12)


def refused(credit: UseCase, registry: Registry, data: Path, **changes: Any) -> Mapping[str, Any]:
    """The manifest of a candidate that must be refused, none being registered."""
    before = registry.list()
    result = run_training(unpromised(credit, **changes), registry, data, Plan(trials=1, seed=42, jobs=2))
    assert registry.list() == before
    (manifest,) = result.manifests
    for gate in failed(manifest):
        assert gate in " ".join(result.problems)
    return manifest


def test_an_overfitted_model_is_refused(credit, empty):
    model = LgbClassifier(learning_rate=0.3, num_leaves=255, min_data_in_leaf=1)
    by_heart = Algorithm(name="lightgbm", model=model, search_space={})
    manifest = refused(credit, empty, credit.path, algorithms=(by_heart,))
    assert "largest train-to-hold-out gap of roc_auc" in failed(manifest)
    assert manifest.metrics["train"]["roc_auc"] > 0.99
    assert [path.name for path in empty.location.iterdir()] == ["rejected"]  # its report


def test_a_model_trained_on_shuffled_targets_is_refused(credit, data, tmp_path):
    table = pd.read_csv(data, keep_default_na=False)
    table["default"] = np.random.default_rng(1).permutation(table["default"])
    table.to_csv(data, index=False)
    arguments = ["--data", str(data), "--trials", "1", "--jobs", "2", "--algorithm", "lightgbm"]
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
    assert manifest.champion.model_id == artifact.model_id
    assert manifest.champion.difference["roc_auc"][0] < -0.02


def test_only_the_model_that_will_answer_is_held_against_the_champion(quick, registry, some_bikes):
    gated = dataclasses.replace(quick, gates=(ChampionMargin("r2", 0.02),))
    plan = Plan(trials=2, seed=42)
    before = registry.list("bikes")
    best, lasso = run_training(gated, registry, some_bikes, plan, ["Lasso", "LGBMRegressor"]).manifests
    assert (best.algorithm, lasso.algorithm) == ("LGBMRegressor", "Lasso")
    assert [gate.gate for gate in best.gates] == ["largest r2 below champion"]
    assert lasso.gates == ()
    assert best.champion.model_id == lasso.champion.model_id == before[0]
    assert lasso.champion.difference["r2"][2] < -0.02  # worse for sure
    assert registry.list("bikes") == [best.model_id, lasso.model_id, *before]

    result = run_training(gated, registry, some_bikes, plan, ["Lasso"])
    assert result.problems == ["Lasso was not registered; it failed: largest r2 below champion."]
    assert registry.list("bikes") == [best.model_id, lasso.model_id, *before]


def test_the_next_best_is_held_against_the_champion_where_the_best_is_refused(quick, registry, some_bikes):
    # the gap of a deep tree on few rows is wide, that of Lasso is not
    gated = dataclasses.replace(quick, gates=(LargestGap("r2", 0.1), ChampionMargin("r2", 0.02)))
    registry.histories.promote(registry.latest("bikes", "LinearRegression"), reason="a test")
    before = registry.list("bikes")
    algorithms = ["Lasso", "DecisionTreeRegressor"]
    best, lasso = run_training(gated, registry, some_bikes, Plan(trials=2, seed=42), algorithms).manifests
    assert failed(best) == {"largest train-to-hold-out gap of r2"}
    assert failed(lasso) == {"largest r2 below champion"}
    assert registry.list("bikes") == before


@pytest.mark.slow
def test_the_credit_model_is_calibrated_and_its_threshold_saves_money(credit, empty):
    manifest, _ = run_training(credit, empty, credit.path, Plan(trials=5, seed=42, jobs=2)).manifests
    brier = {name: metrics["hold_out"]["brier"] for name, metrics in manifest.comparison.items()}
    assert max(brier["lightgbm"], brier["blend"]) <= brier["logistic"] + 0.005
    cost = {choice: outcome.hold_out["expected_cost"] for choice, outcome in manifest.thresholds.items()}
    share = 0.3  # of defaults: what is lost on each when nobody is refused, and else on everybody else
    assert cost["cost"] < min(cost["half"], 5 * share, 1 - share)
    assert manifest.metrics["hold_out"]["expected_cost"] == cost["cost"]
