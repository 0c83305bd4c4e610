"""Training as a whole, and its command."""

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Sequence

import pytest
from click.testing import CliRunner

import tabserve.registry.stores
import tabserve.train_pipeline
from tabserve.declaration.declaration import Algorithm
from tabserve.errors import (
    UnknownAlgorithmError,
)
from tabserve.evaluation.gates import SmallestMetric
from tabserve.registry.registry import Registry
from tabserve.train_pipeline import main, run_training
from tabserve.training.plan import Plan
from tabserve.tuning import Trial
from tests.conftest import ROOT
from tests.training.helpers import newest, predictions, run, unpromised


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


def test_a_run_can_be_restricted_to_some_algorithms(quick, empty, some_bikes):
    told: list[tuple[str, int, int]] = []

    def progress(algorithm: Algorithm, trials: Sequence[Trial], total: int) -> None:
        told.append((algorithm.name, len(trials), total))

    plan = Plan(trials=2, jobs=1, progress=progress)
    manifests = run_training(quick, empty, some_bikes, plan, ["lasso", "DecisionTreeRegressor", "Lasso"]).manifests
    assert [manifest.algorithm for manifest in manifests] == ["DecisionTreeRegressor", "Lasso"]
    assert empty.list() == [manifest.model_id for manifest in manifests]
    # the baseline is fitted to compare with, and not saved
    assert manifests[0].comparison.keys() == {"Lasso", "DecisionTreeRegressor", "LinearRegression"}
    assert told == [
        *[("Lasso", 0, 1), ("Lasso", 1, 1)],
        *[("DecisionTreeRegressor", done, 2) for done in range(3)],
        *[("LinearRegression", 0, 1), ("LinearRegression", 1, 1)],
    ]


def test_an_algorithm_takes_over_the_best_parameters_of_another_which_is_fitted_for_that(credit, empty):
    quick = unpromised(credit, gates=())
    told = []
    plan = Plan(trials=2, jobs=1, progress=lambda algorithm, trials, total: told.append((algorithm.name, total)))
    (blend,) = run_training(quick, empty, credit.path, plan, ["blend"]).manifests
    assert set(told) == {("lightgbm", 2), ("blend", 1), ("logistic", 1)}
    assert (blend.algorithm, len(blend.trials)) == ("blend", 1)
    assert blend.comparison.keys() == {"lightgbm", "blend", "logistic"}
    _, lightgbm = sorted(run_training(quick, empty, credit.path, plan).manifests, key=lambda one: one.algorithm)
    assert blend.parameters == lightgbm.parameters
    best = max(lightgbm.trials, key=lambda trial: trial.score)
    assert blend.trials[0].parameters == best.parameters


def test_an_unknown_algorithm_is_refused_with_those_there_are(quick, empty, some_bikes):
    with pytest.raises(UnknownAlgorithmError, match=r"^bikes has no such algorithm; choose one of: Lasso, "):
        run_training(quick, empty, some_bikes, Plan(), ["Ridge"])
    assert not empty.location.exists()


@pytest.mark.slow
def test_the_module_trains_prints_its_metrics_and_saves_what_another_process_loads(tmp_path, artifact, records):
    done = run(["-m", "tabserve.train_pipeline", "--trials", "2", "--jobs", "1", "--algorithm", "lightgbm"], tmp_path)
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


@pytest.mark.slow
def test_warnings_are_shown_when_it_is_run_as_a_module(registry, some_bikes):
    quick = ["--use-case", "bikes", "--data", str(some_bikes), "--algorithm", "LinearRegression", "--seed", "7"]
    done = run(["-m", "tabserve.train_pipeline", *quick], registry.location)
    assert "may have seen rows of this hold-out: it was trained with another seed." in done.stderr


def test_an_unknown_algorithm_is_a_line_and_exit_status_1(tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_REGISTRY", str(tmp_path / "none"))
    result = CliRunner().invoke(main, ["--algorithm", "Ridge"])
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: credit has no such algorithm; choose one of: lightgbm, blend.\n",
    )
    assert not (tmp_path / "none").exists()


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
    options = ["--trials", "1", "--jobs", "1", "--algorithm", "lightgbm"]
    command = [sys.executable, "-m", "tabserve.train_pipeline", *options]
    environment = {**os.environ, "MODEL_REGISTRY": str(tmp_path)}
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=closed, stderr=subprocess.PIPE, timeout=120)
    assert done.stderr == b""
    assert len(Registry(tmp_path).list()) == 1
