"""`tabserve monitor`: terminal, JSON, a page, and a status that says what was found."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tabserve.cli.commands import tabserve
from tabserve.decisions.store import DecisionStore
from tabserve.monitoring.kept import newest
from tabserve.monitoring.page import heading
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tests.decisions import fill

MARCH = datetime(2025, 3, 10, tzinfo=UTC).timestamp()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, artifact: Artifact, records: list[dict[str, Any]]) -> str:
    """A log in which all loans are long."""
    address = f"sqlite:///{tmp_path_factory.mktemp('log') / 'decisions.db'}"
    store = DecisionStore(address)
    fill(store, artifact, [{**record, "months_loan_duration": 60} for record in records], [MARCH] * len(records))
    store.database.close()
    return address


def run(trained: Registry, address: str | None, *arguments: str) -> Result:
    environment = {"MODEL_REGISTRY": str(trained.location), "DECISION_LOG": address}
    return CliRunner().invoke(tabserve, ["monitor", "credit", *arguments], env=environment)


def test_people_get_a_table_and_what_was_found(trained: Registry, address: str) -> None:
    done = run(trained, address, "--since", "2025-01-01")
    assert done.exit_code == 0, done.output
    assert "months_loan_duration" in done.output
    assert "drift (2025-03): months_loan_duration is not distributed as in training" in done.output
    store = DecisionStore(address)
    kept = newest(store, "credit")
    store.database.close()
    assert kept
    assert kept["windows"][-1]["rows"] == 1000


def test_each_table_is_as_wide_as_itself(trained: Registry, address: str) -> None:
    _, columns, *_ = run(trained, address, "--since", "2025-01-01").output.split("\n\n")
    head, *rows = columns.splitlines()
    longest = max(len(row.partition("  ")[0]) for row in rows)
    assert head.index("Verdict") == longest + 2


@pytest.mark.parametrize(
    ("rows", "quality", "said"),
    [
        (0, None, "holds none of this time"),
        (9, None, "No drift was found. 9 outcomes are known"),
        (9, {"rows": 9}, "no worse quality"),
    ],
)
def test_that_nothing_was_found_says_of_what(rows: int, quality: Any, said: str) -> None:
    whole = {"rows": rows, "quality": quality, "unjudged": "9 outcomes are known: too few."}
    result = {"model_id": "credit-a", "time": 0.0, "windows": [whole], "others": 0, "findings": []}
    assert said in [*heading(result)][-1]


@pytest.mark.parametrize(("kinds", "status"), [("drift", 1), ("quality", 0), ("drift,quality", 1), ("", 0)])
def test_the_status_says_whether_something_was_found(trained: Registry, address: str, kinds: str, status: int) -> None:
    assert run(trained, address, "--fail-on", kinds, "--json").exit_code == status


def test_programs_get_json(trained: Registry, address: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = run(trained, address, "--until", "2025-03-01", "--json", "--html", str(page))
    assert json.loads(done.output)["windows"][-1]["rows"] == 0
    assert "holds none of this time" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "soon"], "It must be so long ago, such as 30d"),
        (["--since", "d"], "It must be so long ago"),
        (["--fail-on", "colour"], "It must be drift, quality or both"),
        (["--model", "credit-a_v1-1.2"], "no model"),
    ],
)
def test_what_is_wrong_is_said(trained: Registry, address: str, arguments: list[str], said: str) -> None:
    done = run(trained, address, *arguments)
    assert done.exit_code != 0
    assert said in done.output or said in str(done.exception)


def test_without_a_log_there_is_nothing_to_look_at(trained: Registry) -> None:
    done = run(trained, None)
    assert done.exit_code == 2
    assert "set DECISION_LOG" in done.output
