"""Discovery: which files declare use cases, and that a broken one takes down nothing else."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

import tabserve.use_cases
from tabserve.declaration.discovery import (
    all_use_cases,
    broken_use_cases,
    forget_use_cases,
    get_use_case,
)
from tabserve.errors import InvalidUseCaseError
from tests.conftest import ROOT

LOANS = """
target = "default"
[columns]
age = {kind = "integer", low = 18}
default = {kind = "boolean"}
"""
IN_PYTHON = """
from tabserve.columns.features import Category, Integer
from tabserve.declaration.use_case import UseCase
from tabserve.transformers import Target

USE_CASE = UseCase(
    name="NAME",
    features=(Integer(name="age", low=18),),
    target=Target(Category(name="default", values=("no", "yes"))),
)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder."""
    monkeypatch.setattr(tabserve.use_cases, "__path__", [str(tmp_path), *tabserve.use_cases.__path__])
    return tmp_path


@pytest.fixture(autouse=True)
def again() -> "Callable[[], None]":
    """Use cases are found anew, before a test and after it."""
    before = set(sys.modules)
    forget_use_cases()
    yield forget_use_cases
    forget_use_cases()
    for name in set(sys.modules) - before:
        if name.startswith("tabserve.use_cases."):
            del sys.modules[name]


def test_a_toml_file_and_a_python_file_declare_use_cases(folder: Path) -> None:
    (folder / "loans.toml").write_text(LOANS)
    (folder / "rents.py").write_text(IN_PYTHON.replace("NAME", "rents"))
    assert list(all_use_cases()) == ["bikes", "credit", "loans", "rents"]
    assert get_use_case("rents").path == folder / "rents.csv"
    assert get_use_case("rents").file == folder / "rents.py"


def test_a_broken_file_takes_down_nothing_but_its_own_use_case(folder: Path) -> None:
    (folder / "loans.toml").write_text(LOANS)
    (folder / "typo.toml").write_text(LOANS.replace("integer", "intger"))
    (folder / "error.py").write_text("X = 1\n1 / 0\n")
    (folder / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    (folder / "syntax.py").write_text("a =\n")
    (folder / "refused.py").write_text(IN_PYTHON.replace("NAME", "refused").replace("age", "result"))
    assert list(all_use_cases()) == ["bikes", "credit", "loans"]
    sentences = broken_use_cases()
    assert sentences["typo"] == "typo.toml, line 4: the kind 'intger' is not known: did you mean 'integer'?"
    assert sentences["error"] == "error.py, line 2 cannot be imported: ZeroDivisionError: division by zero"
    assert sentences["leaves"] == "leaves.py, line 2 cannot be imported: SystemExit: 3"
    assert sentences["syntax"].startswith("syntax.py, line 1 cannot be imported: SyntaxError")
    assert sentences["refused"].startswith("refused.py, line 6: refused: a column cannot be called 'result'")
    for name, sentence in sentences.items():
        assert str(folder) not in sentence
        with pytest.raises(InvalidUseCaseError) as caught:
            get_use_case(name)
        assert str(caught.value) == sentence


def test_a_users_use_case_takes_the_place_of_one_that_ships(folder: Path) -> None:
    (folder / "credit.toml").write_text(LOANS)
    assert [feature.name for feature in get_use_case("credit").features] == ["age"]
    assert "bikes" in all_use_cases()


def test_a_declaration_that_changed_does_not_change_what_a_trained_model_accepts(
    folder: Path, client: FlaskClient, record: dict[str, Any]
) -> None:
    (folder / "credit.toml").write_text(LOANS)
    assert get_use_case("credit").features[0].low == 18
    answer = client.post("/output/credit", json=record)
    assert answer.status_code == 200
    assert client.post("/output/credit", json={"age": 30}).status_code == 422


def test_two_files_of_one_name_are_refused(folder: Path) -> None:
    (folder / "loans.toml").write_text(LOANS)
    (folder / "loans.py").write_text(IN_PYTHON.replace("NAME", "loans"))
    assert broken_use_cases() == {
        "loans": "loans.py and loans.toml declare the same use case: remove or rename one of them."
    }


def test_a_python_file_without_a_use_case_may_help_others(folder: Path) -> None:
    (folder / "limits.py").write_text("LOW = 21\n")
    text = IN_PYTHON.replace("NAME", "loans").replace("low=18", "low=LOW")
    (folder / "loans.py").write_text(f"from tabserve.use_cases.limits import LOW\n{text}")
    assert get_use_case("loans").features[0].low == 21
    assert "limits" not in all_use_cases()
    assert not broken_use_cases()


@pytest.mark.parametrize("name", ["latest", "champion", "Loans", "my-loans", "1st", "x" * 60])
def test_a_name_that_urls_cannot_hold_is_refused(name: str, folder: Path) -> None:
    (folder / f"{name}.toml").write_text(LOANS)
    assert broken_use_cases()[name].startswith(f"{name}.toml, line 1: ")
    assert "name" in broken_use_cases()[name]


@pytest.mark.parametrize("name", [".hidden.toml", "_draft.toml", "loans.toml~", "loans.txt"])
def test_other_files_declare_nothing(name: str, folder: Path) -> None:
    (folder / name).write_text("nonsense")
    assert list(all_use_cases()) == ["bikes", "credit"]
    assert not broken_use_cases()


@pytest.mark.parametrize("setting", [None, "here", os.pathsep.join(["here", "there"])])
def test_folders_come_from_the_working_folder_or_the_setting(setting: str | None, tmp_path: Path) -> None:
    folders = (setting or "use_cases").split(os.pathsep)
    for place, folder in enumerate(folders):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"loans{place}.toml").write_text(LOANS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **({"USE_CASES": setting} if setting else {})}
    code = "from tabserve.declaration.discovery import all_use_cases; print(*all_use_cases())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["bikes", "credit", *(f"loans{place}" for place in range(len(folders)))]
