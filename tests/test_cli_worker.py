"""`tabserve worker`: real processes that are stopped and killed in the middle of their work."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tabserve.cli.worker import MOST_KEPT
from tabserve.jobs.job import DONE, JSON, RUNNING, WAITING, Job, Order
from tabserve.jobs.store import Store
from tabserve.registry.registry import Registry
from tests.conftest import ROOT, wait_until

MARKER = "Xylophone4711"
# a worker whose predictions take long: jobs are in the middle of their work for as long as a test needs
SLOW = """
import time
from tabserve import predictor
predict, predictor.PIECE = predictor.make_prediction, 50

def slow(*arguments, **options):
    time.sleep(0.1)
    return predict(*arguments, **options)

predictor.make_prediction = slow
from tabserve.cli import main
main()
"""


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.fixture
def store(address: str) -> Store:
    return Store(address, 24)


class Workers:
    """Starts workers on one database and one registry, and ends them."""

    def __init__(self, folder: Path, address: str, registry: Registry) -> None:
        self.log = folder / "log.txt"
        self.environment = {
            **os.environ,
            "DATABASE_URL": address,
            "MODEL_REGISTRY": str(registry.location),
        }
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, *options: str, slow: bool = False, **environment: str) -> subprocess.Popen[bytes]:
        program = ["-c", SLOW] if slow else ["-m", "tabserve"]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *program, "worker", *options],
                cwd=ROOT,
                env={**self.environment, **environment},
                stdout=log,
                stderr=log,
            )
        self.running.append(process)
        return process

    def end(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture
def workers(tmp_path: Path, address: str, trained: Registry) -> Iterator[Workers]:
    some = Workers(tmp_path, address, trained)
    yield some
    some.end()


def sent(store: Store, registry: Registry, records: list[dict[str, Any]], client: str = "x") -> str:
    order = Order(owner="", client=client, model_id=str(registry.latest("credit")), kind=JSON, partial=False)
    return store.add(order, [json.dumps(records).encode()])


def job_of(store: Store, id_: str) -> Job:
    job = store.get(id_)
    assert job
    return job


def wait_for(store: Store, id_: str, state: str, rows_done: int = 0) -> None:
    def is_there() -> bool:
        job = job_of(store, id_)
        return job.state == state and job.rows_done >= rows_done

    wait_until(is_there, 60, f"The job is not {state}.")


@pytest.mark.slow
def test_a_job_whose_worker_is_killed_in_the_middle_is_done_by_another(
    store: Store, workers: Workers, trained: Registry, records: list[dict[str, Any]]
) -> None:
    id_ = sent(store, trained, records)
    first = workers.start("--lease", "3", slow=True)
    wait_for(store, id_, RUNNING, 50)
    first.kill()
    first.wait()
    assert job_of(store, id_).state == RUNNING
    workers.start("--lease", "3")
    wait_for(store, id_, DONE)
    job = job_of(store, id_)
    assert (job.attempts, job.rows, job.rows_done) == (2, 1000, 1000)
    assert len(b"".join(store.read(id_, "csv")).splitlines()) == 1001


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_stopped_gives_its_job_back_at_once(
    store: Store, workers: Workers, trained: Registry, records: list[dict[str, Any]], sign: signal.Signals
) -> None:
    id_ = sent(store, trained, [{**record, "telephone": record["telephone"]} for record in records])
    worker = workers.start(slow=True)
    wait_for(store, id_, RUNNING, 50)
    worker.send_signal(sign)
    assert worker.wait(20) == 0
    job = job_of(store, id_)
    assert (job.state, job.attempts, job.started, job.rows_done) == (WAITING, 0, None, 0)
    log = workers.log.read_text()
    assert log.splitlines()[-1].endswith("stopped")
    assert "Traceback" not in log
    assert id_ not in log


@pytest.mark.slow
def test_two_workers_do_twenty_jobs_once_each(
    store: Store, workers: Workers, trained: Registry, record: dict[str, Any]
) -> None:
    ids = [sent(store, trained, [record] * 3, f"user {number % 4}") for number in range(20)]
    for _ in range(2):
        workers.start()
    for id_ in ids:
        wait_for(store, id_, DONE)
    assert {job_of(store, id_).attempts for id_ in ids} == {1}
    assert workers.log.read_text().count("over") == 20


def test_a_worker_waits_for_a_database_and_models_that_are_away_and_says_so_once(
    tmp_path: Path, workers: Workers, trained: Registry, record: dict[str, Any]
) -> None:
    later = tmp_path / "later"
    address = f"sqlite:///{later / 'jobs.db'}"
    worker = workers.start(DATABASE_URL=address)
    wait_until(lambda: "cannot be used" in workers.log.read_text(), 60, "Nothing is said.")
    later.mkdir()
    store = Store(address, 24)
    id_ = sent(store, trained, [record])
    wait_for(store, id_, DONE)
    assert worker.poll() is None
    log = workers.log.read_text()
    assert log.count("the database of jobs cannot be used") == 1
    assert "can be used again" in log
    assert str(tmp_path) not in log


def test_a_worker_ends_with_its_parent(tmp_path: Path, workers: Workers) -> None:
    parent = """
import os, subprocess, sys
subprocess.Popen([sys.executable, "-m", "tabserve", "worker", "--parent", str(os.getpid())])
sys.stdin.readline()
"""
    with workers.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", parent], cwd=ROOT, env=workers.environment, stdin=subprocess.PIPE, stderr=log
        )
    wait_until(lambda: "waiting for jobs" in workers.log.read_text(), 60, "The worker does not start.")
    process.kill()
    process.communicate()
    wait_until(lambda: "stopped" in workers.log.read_text(), 20, "The worker does not end.")


def test_a_worker_with_little_to_do_takes_little_memory(
    workers: Workers, store: Store, trained: Registry, records: list[dict[str, Any]]
) -> None:
    process = workers.start()
    for _ in range(2):  # the second is done by the program that began again
        id_ = sent(store, trained, records * 30)
        wait_for(store, id_, DONE)
        wait_until(lambda: memory_of(process.pid) < MOST_KEPT, 30, "the memory of a large table is kept")
    process.terminate()
    assert process.wait(30) == 0


def memory_of(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_worker_gives_way_to_others(workers: Workers) -> None:
    worker = workers.start()
    wait_until(lambda: "waiting for jobs" in workers.log.read_text(), 60, "The worker does not start.")
    assert os.getpriority(os.PRIO_PROCESS, worker.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    assert int(Path(f"/proc/{worker.pid}/oom_score_adj").read_text()) >= 500


def test_a_wrong_setting_is_one_line(workers: Workers) -> None:
    worker = workers.start(DATABASE_URL=f"postgres://me:{MARKER}@host")
    assert worker.wait(60) == 1
    (line,) = workers.log.read_text().splitlines()
    assert line.startswith("The environment variable DATABASE_URL is invalid")
    assert MARKER not in line


def test_its_log_is_json_where_that_is_asked_for(workers: Workers) -> None:
    worker = workers.start(LOG_FORMAT="json")
    wait_until(lambda: "waiting for jobs" in workers.log.read_text(), 60, "It does not wait for jobs.")
    worker.terminate()
    worker.wait(20)
    lines = [json.loads(line) for line in workers.log.read_text().splitlines()]
    assert [line["message"] for line in lines] == ["waiting for jobs", "stopped"]
    assert {line["process"] for line in lines} == {worker.pid}
