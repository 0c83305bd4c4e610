"""The console: what a training prints."""

import re
import shutil
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from click.testing import CliRunner

from tabserve.errors import MissingExtraError
from tabserve.registry.registry import Registry
from tabserve.train_pipeline import main
from tabserve.training.console import LIBRARIES, check_installed, short
from tests.artifacts import edit_manifest
from tests.conftest import ROOT
from tests.training.helpers import run


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
    assert "Serve it: tabserve serve\n" in result.stdout

    saved = re.findall("^saved: (.+)$", result.stdout, re.MULTILINE)
    reports = re.findall("^report: (.+)$", result.stdout, re.MULTILINE)
    assert saved == registry.list("bikes")[:2]
    assert reports == [f"{registry.location}/{model_id}/report.html" for model_id in saved]
    assert all(Path(report).is_file() for report in reports)

    champion = registry.latest("bikes", "SVR")
    registry.histories.promote(champion, reason="a test")
    result = CliRunner().invoke(main, arguments)
    assert f"bikes is answered by its champion: {champion}\n" in result.stdout


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder, champion: edit_manifest(Registry(folder), champion, protocol=1), "it has protocol 1, "),
        (lambda folder, champion: shutil.rmtree(folder / champion), "does not exist; promote a model again."),
    ],
)
def test_a_champion_that_cannot_answer_is_not_said_to_answer(harm, said, quick, some_bikes, registry, monkeypatch):
    monkeypatch.setattr("tabserve.train_pipeline.get_use_case", lambda name: quick)
    monkeypatch.setenv("MODEL_REGISTRY", str(registry.location))
    champion = registry.latest("bikes", "SVR")
    registry.histories.promote(champion, reason="a test")
    harm(registry.location, champion)
    arguments = ["--use-case", "bikes", "--data", str(some_bikes), "--trials", "1", "--algorithm", "LinearRegression"]
    result = CliRunner().invoke(main, arguments)
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("The champion of bikes ")]
    assert result.exit_code == 0
    assert said in line
    assert line.endswith(f" To let the new model answer, promote {registry.list('bikes', 'LinearRegression')[0]}.")
    assert "is answered by" not in result.stdout


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


def test_the_libraries_of_training_are_those_of_its_extra():
    extra = re.findall(r"^[a-z][a-z-]*", (ROOT / "requirements-train.in").read_text(), re.MULTILINE)
    modules = {name for name, (package, *_) in packages_distributions().items() if package.lower() in extra}
    assert set(LIBRARIES) <= modules
    assert len(LIBRARIES) == len(extra)


WITHOUT = "import sys; sys.modules.update(dict.fromkeys({libraries})); from tabserve.train_pipeline import main; main()"


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_library_of_training_is_missed_by_name(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"\({library}\)"):
        check_installed()


def test_without_a_library_of_training_the_command_says_which_extra_brings_it(tmp_path):
    done = run(["-c", WITHOUT.format(libraries=LIBRARIES[:1])], tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: Libraries are missing ({LIBRARIES[0]}): pip install 'tabserve[train]'\n"
    assert list(tmp_path.iterdir()) == []


def test_without_all_of_them_there_is_help_still(tmp_path):
    done = run(["-c", WITHOUT.format(libraries=LIBRARIES), "--help"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--use-case" in done.stdout


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.90787, "0.908"), (-0.0219, "-0.022"), (155.49, "155.5"), (-10.44, "-10.4"), (12345678.9, "1.23e+07")],
)
def test_a_number_is_shortened_and_never_cut(value, shown):
    assert short(value) == shown
