"""The companion: a process that comes, stays and goes with the one that started it."""

import itertools
import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tabserve.api import companion as module
from tabserve.api.companion import Companion
from tabserve.registry.registry import Registry
from tests.conftest import children_of, running_server, wait_until

SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.txt"
    path.touch()
    return path


def program(log: Path, code: str) -> list[str]:
    """A command that notes its pid and then runs some code."""
    noted = f"import os; open({str(log)!r}, 'a').write(f'{{os.getpid()}}\\n'); {code}"
    return [sys.executable, "-c", noted]


def pids(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def companions() -> Iterator[list[Companion]]:
    some: list[Companion] = []
    yield some
    for one in some:
        one.stop()


def test_it_starts_and_stops(log: Path, companions: list[Companion]) -> None:
    companion = Companion(program(log, SLEEP))
    companions.append(companion)
    companion.start()
    wait_until(lambda: bool(pids(log)), 20, "It does not start.")
    (pid,) = pids(log)
    companion.keep()
    assert is_alive(pid)
    companion.stop()
    assert not is_alive(pid)
    companion.keep()
    companion.stop()
    assert pids(log) == [pid]


def test_one_that_ends_is_started_again_after_pauses_that_grow(
    log: Path, companions: list[Companion], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    starts: list[float] = []
    start = Companion.start

    def noted(self: Companion) -> None:
        starts.append(now[0])
        start(self)
        assert self._process
        os.waitpid(self._process.pid, 0)  # somebody else reaps it, as gunicorn does

    monkeypatch.setattr(Companion, "start", noted)
    companion = Companion([sys.executable, "-c", ""])
    companions.append(companion)
    companion.start()
    for _ in range(300):
        now[0] += 1
        companion.keep()
    pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert pauses == sorted(pauses)
    assert pauses[0] <= 3
    assert 60 <= pauses[-1] <= 62
    assert 6 <= len(caplog.messages) <= 9
    now[0] += 1000  # the last one has lived long
    companion.keep()
    assert starts[-1] == now[0]


def test_one_that_does_not_listen_is_killed(
    log: Path, companions: list[Companion], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.2)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); "
    companion = Companion(program(log, deaf + SLEEP))
    companions.append(companion)
    companion.start()
    wait_until(lambda: bool(pids(log)), 20, "It does not start.")
    time.sleep(0.1)
    companion.stop()
    assert not is_alive(pids(log)[0])


def test_one_that_cannot_be_started_is_said(companions: list[Companion], caplog: pytest.LogCaptureFixture) -> None:
    companion = Companion(["/nowhere/at/all"])
    companions.append(companion)
    companion.start()
    companion.keep()
    assert "cannot be started: No such file or directory" in caplog.text
    assert "/nowhere" not in caplog.text


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def companions_of(pid: int) -> list[int]:
    return [child for child in children_of(pid) if "tabserve worker" in command_of(child)]


def ask(url: str, body: Any = None) -> Any:
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_the_service_answers_jobs_restarts_its_worker_and_stops_it(
    trained: Registry, tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    environment = {"MODEL_REGISTRY": str(trained.location), "WEB_CONCURRENCY": "1", "JOB_WORKERS": "1"}
    with running_server(tmp_path / "log.txt", environment) as server:
        master = server.process.pid
        wait_until(lambda: len(companions_of(master)) == 1, 30, "There is no worker.")
        (first,) = companions_of(master)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: companions_of(master) not in ([], [first]), 30, "The worker does not come back.")
        job = ask(f"{server.url}/jobs/credit", records)
        url = f"{server.url}/jobs/{job['id']}"
        wait_until(lambda: ask(url)["state"] == "done", 60, "The job is not done.")
        (second,) = companions_of(master)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert not is_alive(second)
    log = (tmp_path / "log.txt").read_text()
    assert "the worker that answers jobs has ended" in log
    assert "Traceback" not in log
    assert job["id"] not in log


def test_a_worker_ends_when_the_master_is_killed(trained: Registry, tmp_path: Path) -> None:
    environment = {"MODEL_REGISTRY": str(trained.location), "WEB_CONCURRENCY": "1", "JOB_WORKERS": "1"}
    with running_server(tmp_path / "log.txt", environment) as server:
        wait_until(lambda: "waiting for jobs" in server.log.read_text(), 30, "There is no worker.")
        (worker,) = companions_of(server.process.pid)
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not is_alive(worker), 30, "The worker outlives its master.")


def test_without_job_workers_there_is_none(trained: Registry, tmp_path: Path) -> None:
    environment = {"MODEL_REGISTRY": str(trained.location), "WEB_CONCURRENCY": "1", "JOB_WORKERS": "0"}
    with running_server(tmp_path / "log.txt", environment) as server:
        assert companions_of(server.process.pid) == []
