"""The loop, over real processes: predict, log, outcomes, monitor, retrain, challenge, approve, roll back, replay."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tabserve.api.users import Users
from tabserve.registry.registry import Registry
from tests.conftest import ALICE, ROOT, running_server, wait_until
from tests.test_log import authorization

Run = Callable[..., str]
AUDITOR = ("audrey", "a password for looking")
ROWS = 300
SINGLES = 20
HELD = {0: 1, 1: 2}  # outcomes as the data's target column holds them


@pytest.fixture
def environment(registry: Registry, tmp_path: Path) -> dict[str, str]:
    """What the service and those who operate it have set."""
    users = Users(tmp_path / "users.txt")
    users.add(*ALICE)
    users.add(*AUDITOR, scopes=("read", "audit"))
    return {
        "MODEL_REGISTRY": str(registry.location),
        "LOG_FORMAT": "json",
        "APPROVALS": "2",
        "AUTH_REQUIRED": "true",
        "AUTH_USERS_FILE": str(tmp_path / "users.txt"),
        "TABSERVE_PASSWORD": AUDITOR[1],
        "DECISION_LOG": f"sqlite:///{tmp_path / 'decisions.db'}",
        "DECISION_SPOOL_FOLDER": str(tmp_path / "spool"),
        "WEB_CONCURRENCY": "1",
    }


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Runs a command as its own process; it must end with a status, and its output is returned."""

    def run(*arguments: str, status: int = 0) -> str:
        command = [sys.executable, "-m", "tabserve", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == status, f"{arguments}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


def post(url: str, content: Any, user: tuple[str, str] = ALICE) -> Any:
    headers = {"Content-Type": "application/json", "Authorization": authorization(*user)}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(content).encode(), headers), timeout=60) as done:
        return json.load(done)


@pytest.mark.slow
def test_the_loop(
    environment: dict[str, str], registry: Registry, run: Run, records: list[dict[str, Any]], tmp_path: Path
) -> None:
    first = registry.latest("credit")
    promote(run, first, "it is the first")
    with running_server(tmp_path / "log.txt", environment) as server:
        # predict, and log
        answers = [post(f"{server.url}/output/credit", record) for record in records[:SINGLES]]
        many = post(f"{server.url}/output/credit", records[SINGLES:ROWS])
        ids = [one for answer in (*answers, many) for one in answer["decision_ids"]]
        decided = [one for answer in (*answers, many) for one in answer["result"]]
        assert len({*ids}) == len(decided) == ROWS
        wait_until(lambda: logged(run) == ROWS, 60, "all decisions are in the log")

        # outcomes
        reports = [
            {"id": id_, "outcome": HELD[outcome ^ (number % 4 == 0)]}
            for number, (id_, outcome) in enumerate(zip(ids, decided, strict=True))
        ]
        assert post(f"{server.url}/outcomes", reports)["recorded"] == ROWS
        assert post(f"{server.url}/outcomes", reports[:5])["repeated"] == 5

        # monitor
        found = json.loads(run("monitor", "credit", "--since", "1d", "--json", "--html", str(tmp_path / "page.html")))
        assert found["model_id"] == first
        assert (tmp_path / "page.html").read_text().startswith("<!")

        # retrain
        run("train", "credit", "--trials", "1", "--seed", "7", "--accept-worse", "a test of the loop")
        second = registry.latest("credit")
        assert second != first

        # challenge
        challenged = json.loads(run("models", "challenge", second, "--since", "1d", "--json"))
        assert (challenged["compared"], challenged["outcomes"], challenged["refused"]) == (ROWS, ROWS, 0)
        assert challenged["decided_by"] == {first: ROWS}
        assert challenged["flips"]["kinds"]

        # approve, and promote
        assert answering(server.url, records[0]) == first  # who is not promoted does not answer
        promote(run, second, "newer data", server.url, records[0])
        wait_until(lambda: answering(server.url, records[0]) == second, 60, "the new champion answers")

        # roll back
        run("models", "rollback", "credit", "--by", "ann", "--reason", "a complaint")
        wait_until(lambda: answering(server.url, records[0]) == first, 60, "the champion before answers")
    history = json.loads(run("models", "history", "credit", "--json"))
    assert history["champion"] == first
    assert [(one["action"], one["model_id"], one["by"]) for one in history["changes"]] == [
        ("promote", first, "ann"),
        ("approve", first, "bob"),
        ("promote", second, "ann"),
        ("approve", second, "bob"),
        ("rollback", first, "ann"),
    ]

    # replay a decision of the first model, of each kind
    for id_ in (ids[0], ids[-1]):
        assert "to the last bit" in run("decisions", "replay", id_, "--by", AUDITOR[0])
    run("decisions", "replay", ids[0], "--by", ALICE[0], status=1)  # may not see records
    actions = [one["action"] for one in json.loads(run("decisions", "accesses", "--by", AUDITOR[0], "--json"))]
    assert actions == ["replay", "replay"]
    log = (tmp_path / "log.txt").read_text()
    assert "unexpected" not in log
    assert "Traceback" not in log


def promote(run: Run, model_id: str, reason: str, url: str = "", record: Any = None) -> None:
    """One person proposes; another one approves, and nobody approves alone."""
    before = answering(url, record) if url else ""
    run("models", "promote", model_id, "--by", "ann", "--reason", reason)
    run("models", "approve", model_id, "--by", "ann", status=1)
    assert not url or answering(url, record) == before
    run("models", "approve", model_id, "--by", "bob")


def answering(url: str, record: Any) -> str:
    """The model that answers."""
    model: str = post(f"{url}/output/credit", record)["model"]
    return model


def logged(run: Run) -> int:
    """How many records the log holds."""
    return sum(day["records"] for day in json.loads(run("decisions", "stats", "--json"))["days"])
