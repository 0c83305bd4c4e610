"""What the tests of training need: registries, data, and use cases that are trained fast."""

import dataclasses
import shutil
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

import tabserve.train_pipeline
import tabserve.training.evidence
from tabserve.declaration.use_case import UseCase
from tabserve.evaluation.bootstrap import bootstrap_difference, bootstrap_intervals
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.train_pipeline import main, run_training
from tabserve.training.parts import Part, read, split
from tabserve.training.plan import Plan
from tests.training.helpers import FEW_FOLDS, newest


@pytest.fixture
def empty(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "none yet")


@pytest.fixture
def data(credit: UseCase, tmp_path: Path) -> Path:
    """A copy of the data, as CSV."""
    path = tmp_path / "data.csv"
    read(credit, credit.path).table.to_csv(path, index=False)
    return path


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of single tests draw no charts, and few samples for their intervals: both have tests of their own."""
    monkeypatch.setattr(tabserve.train_pipeline, "render_report", lambda *_: "<!doctype html>")
    for function in (bootstrap_intervals, bootstrap_difference):
        monkeypatch.setattr(tabserve.training.evidence, function.__name__, partial(function, samples=100))


@pytest.fixture(scope="session")
def again(credit: UseCase, trained: Registry, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The credit model trained once more, with more jobs, in a registry that holds the first."""
    folder = tmp_path_factory.mktemp("again") / "models"
    shutil.copytree(trained.location, folder)
    run_training(credit, Registry(folder), credit.path, Plan(trials=2, seed=42, jobs=3), ["lightgbm"])
    return newest(Registry(folder))


@pytest.fixture(scope="session")
def excluding(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A credit model trained by the command without the protected features."""
    folder = tmp_path_factory.mktemp("excluding") / "models"
    arguments = ["--trials", "1", "--jobs", "2", "--exclude-protected", "--algorithm", "lightgbm"]
    result = CliRunner().invoke(main, arguments, env={"MODEL_REGISTRY": str(folder)})
    assert result.exit_code == 0, result.output
    return newest(Registry(folder))


@pytest.fixture(scope="session")
def hold_out(credit: UseCase) -> Part:
    return split(credit, read(credit, credit.path), 42).test


@pytest.fixture(scope="session")
def quick(bikes: UseCase) -> UseCase:
    """The bikes use case in few folds, without gates, and without the algorithm that takes long."""
    algorithms = tuple(algorithm for algorithm in bikes.algorithms if algorithm.name != "SVR")
    return dataclasses.replace(bikes, algorithms=algorithms, gates=(), **FEW_FOLDS)


@pytest.fixture
def untuned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tabserve.train_pipeline.fit_each", lambda *arguments: pytest.fail("this took time for nothing")
    )
