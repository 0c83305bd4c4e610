"""`flask models ...`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.commands import models
from src.registry import Registry
from tests.artifacts import change_byte, copy_of, edit_manifest
from tests.conftest import ROOT

UNKNOWN = "credit-lightgbm_v1.0.0-1.000000"


@pytest.fixture
def model_id(registry: Registry) -> str:
    return registry.latest("credit")


@pytest.fixture
def run(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    """Run a command on the changeable registry; it fails in the expected way or not at all."""
    monkeypatch.setenv("MODEL_REGISTRY", str(registry.folder))

    def run(*arguments: str, answer: str | None = None) -> Result:
        result = CliRunner().invoke(models, arguments, input=answer)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert str(registry.folder) not in result.output
        return result

    return run


def test_list_prints_the_model_ids_newest_first_and_marks_the_champion(run, registry, model_id):
    new = copy_of(registry)
    registry.promote(model_id)
    result = run("list")
    assert result.exit_code == 0
    assert result.stdout == f"{new}\n{model_id}  champion\n"


def test_list_prints_one_use_cases_models(run, registry, model_id):
    other = copy_of(registry, "bikes-lightgbm_v1.0.0-1.000000")
    assert run("list").stdout.split() == [model_id, other]
    assert run("list", "--use-case", "credit").stdout.split() == [model_id]
    assert run("list", "--use-case", "typo").exit_code == 2


def test_list_of_an_empty_registry_prints_nothing(run, monkeypatch, tmp_path):
    monkeypatch.setenv("MODEL_REGISTRY", str(tmp_path / "none yet"))
    result = run("list")
    assert (result.exit_code, result.output) == (0, "")


def test_show_prints_the_manifest(run, registry, model_id):
    result = run("show", model_id)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == registry.manifest(model_id)


def test_promote_makes_a_champion(run, registry, model_id):
    copy_of(registry)
    result = run("promote", model_id)
    assert result.exit_code == 0
    assert model_id in result.stdout
    assert registry.champion("credit") == model_id


def test_a_broken_model_is_not_promoted(run, registry, model_id):
    change_byte(registry.folder / model_id / "model.pkl")
    result = run("promote", model_id)
    assert result.exit_code == 1
    assert "model.pkl is not the one that training wrote" in result.stderr
    assert registry.champion("credit") is None


def test_verify_checks_all_models_and_says_so(run, registry, model_id):
    new = copy_of(registry)
    result = run("verify")
    assert result.exit_code == 0
    assert result.stdout == f"{new} is whole.\n{model_id} is whole.\n"


def test_verify_names_the_refused_ones_with_reasons_and_exits_with_1(run, registry, model_id):
    changed, foreign = copy_of(registry), copy_of(registry)
    change_byte(registry.folder / changed / "test.csv")
    edit_manifest(registry, foreign, libraries={"scikit-learn": "0.1", "lightgbm": "0.1"})
    result = run("verify")
    assert result.exit_code == 1
    assert result.stdout == f"{model_id} is whole.\n"
    assert f"{changed} is refused: its file test.csv is not the one that training wrote." in result.stderr
    assert f"{foreign} is refused: it was written with" in result.stderr
    assert "2 model(s) refused" in result.stderr


def test_verify_checks_only_the_named_models(run, registry, model_id):
    broken = copy_of(registry)
    change_byte(registry.folder / broken / "model.pkl")
    assert run("verify", model_id).exit_code == 0
    assert run("verify", broken).exit_code == 1
    assert run("verify", model_id, UNKNOWN).exit_code == 1


def test_verify_refuses_unsigned_models_where_a_key_is_set(run, model_id, monkeypatch):
    monkeypatch.setenv("MODEL_SIGNING_KEY", "key")
    result = run("verify")
    assert result.exit_code == 1
    assert "not signed with this service's key" in result.stderr


def test_delete_asks_before_it_deletes(run, registry, model_id):
    assert run("delete", model_id, answer="n\n").exit_code == 1
    assert registry.list() == [model_id]
    assert run("delete", model_id, answer="y\n").exit_code == 0
    assert registry.list() == []


def test_delete_deletes_without_asking_when_told_so(run, registry, model_id):
    new = copy_of(registry)
    result = run("delete", "--yes", new)
    assert result.exit_code == 0
    assert new in result.stdout
    assert registry.list() == [model_id]
    assert not (registry.folder / new).exists()


@pytest.mark.parametrize("name", [UNKNOWN, "../models", "/etc/passwd", "credit", ""])
@pytest.mark.parametrize("command", [("show",), ("promote",), ("verify",), ("delete", "--yes")])
def test_an_unknown_model_is_one_line_and_exit_status_1(run, registry, model_id, command, name):
    result = run(*command, name)
    assert result.exit_code == 1
    assert "There is no model of that name" in result.stderr
    assert registry.list() == [model_id]


def test_a_setting_that_cannot_be_used_is_one_line_and_exit_status_1(run, monkeypatch):
    monkeypatch.setenv("MODEL_REGISTRY", "")
    result = run("list")
    assert result.exit_code == 1
    assert "MODEL_REGISTRY" in result.stderr


def test_flask_knows_the_commands(registry, model_id):
    flask = Path(sys.executable).with_name("flask")
    if not flask.exists():
        pytest.skip("flask is not installed as a command here")
    environment = {**os.environ, "MODEL_REGISTRY": str(registry.folder)}
    done = subprocess.run(
        [flask, "models", "list"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{model_id}\n", "")
