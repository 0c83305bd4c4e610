"""Clusters: a real scheduler and real workers on this machine, which lose workers while they work."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.use_case import UseCase
from tabserve.errors import ClusterAwayError, DifferentVersionsError, LostWorkerError, TooFewRowsError
from tabserve.executors import Pool, open_executor
from tabserve.registry.registry import Registry
from tabserve.training import search
from tabserve.training.candidate import fit
from tabserve.training.parts import read, split
from tabserve.training.plan import Plan
from tabserve.tuning import Trial
from tests import executor_work
from tests.conftest import ROOT, free_port
from tests.training.helpers import FEW_FOLDS

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
cluster_module = pytest.importorskip("tabserve.executors.cluster")

pytestmark = pytest.mark.slow

DASK = Path(sys.executable).with_name("dask")


class Cluster:
    """A scheduler and its workers, each with a log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.processes: list[subprocess.Popen[bytes]] = []
        host, _, port = self.address.removeprefix("tcp://").rpartition(":")
        self.scheduler = self.start("scheduler", "--host", host, "--port", port)

    @property
    def spec(self) -> str:
        return f"dask:{self.address}"

    def start(self, kind: str, *arguments: str) -> "subprocess.Popen[bytes]":
        log = self.folder / f"{len(self.processes)}.log"
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DASK_CONFIG": str(ROOT / "deploy" / "dask.yaml"),  # what our images have
            "DASK_TEMPORARY_DIRECTORY": str(self.folder),
        }
        with log.open("wb") as file:
            process = subprocess.Popen(
                [DASK, kind, *arguments, "--no-dashboard"], cwd=self.folder, env=environment, stdout=file, stderr=file
            )
        self.processes.append(process)
        return process

    def add_worker(self, *arguments: str) -> None:
        self.start("worker", self.address, "--host", "127.0.0.1", "--nthreads", "1", *arguments)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def logs(self) -> str:
        return "".join(path.read_text() for path in self.folder.glob("*.log"))

    def pids(self) -> set[int]:
        """The processes that work; each has a nanny, which starts another when it ends."""
        with distributed.Client(self.address, set_as_default=False) as client:
            return set(client.run(os.getpid).values())

    def kill_a_worker(self) -> int:
        pid = min(self.pids())
        os.kill(pid, signal.SIGKILL)
        return pid


@contextmanager
def started(folder: Path, workers: int) -> Iterator[Cluster]:
    cluster = Cluster(folder)
    try:
        for _ in range(workers):
            cluster.add_worker()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with started(tmp_path_factory.mktemp("cluster"), 2) as one:
        with distributed.Client(one.address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(2, 60)
        yield one


@pytest.fixture
def pool(cluster: Cluster) -> Iterator[Pool]:
    with distributed.Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(2, 60)  # the last test may have killed one
    with open_executor(cluster.spec, 1) as opened:
        yield opened


def test_the_results_come_in_order(pool: Pool) -> None:
    assert list(pool.map(executor_work.square, range(20))) == [number * number for number in range(20)]


def test_each_worker_gets_a_shared_value_once_and_so_does_one_that_comes_later(pool: Pool, cluster: Cluster) -> None:
    with pool.share(np.arange(1000.0)) as shared:
        found = list(pool.map(executor_work.place_and_sum, [shared] * 10, range(10)))
        assert [total for _, _, total in found] == [499_500.0 + number for number in range(10)]
        places = {(process, place) for process, place, _ in found}
        assert {process for process, _ in places} == cluster.pids()
        assert len(places) == 2
        for pid in cluster.pids():
            os.kill(pid, signal.SIGKILL)
        again = list(pool.map(executor_work.place_and_sum, [shared] * 10, range(10)))
    assert [total for _, _, total in again] == [total for _, _, total in found]
    assert not {process for process, _, _ in again} & {process for process, _ in places}


def test_what_a_killed_worker_did_is_done_by_another(pool: Pool, cluster: Cluster) -> None:
    futures = [pool.submit(executor_work.slow_square, number, 0.3) for number in range(12)]
    assert futures[1].result()[0] == 1
    killed = cluster.kill_a_worker()
    results = [future.result() for future in futures]
    assert [result for result, _ in results] == [number * number for number in range(12)]
    assert killed not in {pid for _, pid in results[-2:]}


def test_a_task_that_ends_one_worker_is_done_and_one_that_ends_every_worker_fails_in_a_sentence(
    pool: Pool, tmp_path: Path
) -> None:
    assert pool.submit(executor_work.end_unless, tmp_path / "told").result() == "done"
    with pytest.raises(LostWorkerError, match="perhaps for lack of memory"):
        pool.submit(executor_work.end).result()
    assert pool.submit(executor_work.square, 3).result() == 9


def test_an_error_comes_as_it_was_raised(pool: Pool) -> None:
    with pytest.raises(TooFewRowsError, match="the training part has 3 and needs at least 50"):
        pool.submit(executor_work.fail).result()


def test_no_log_holds_a_value(pool: Pool, cluster: Cluster) -> None:
    with pytest.raises(ValueError, match="Grete Muster"):
        pool.submit(executor_work.reveal, "Grete Muster").result()
    with pool.share("Grete Muster") as shared, pytest.raises(AttributeError):
        pool.submit(executor_work.place_and_sum, shared, 1).result()
    assert "a task failed: ValueError at" in cluster.logs()
    assert "Grete" not in cluster.logs()


def test_an_interrupt_cancels_what_has_not_begun(cluster: Cluster, tmp_path: Path) -> None:
    futures: list[Future[None]] = []

    def interrupted() -> None:
        with open_executor(cluster.spec, 1) as pool:
            futures.extend(pool.submit(executor_work.wait, 1, tmp_path / str(number)) for number in range(9))
            while not list(tmp_path.iterdir()):
                time.sleep(0.02)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(future.cancelled() for future in futures)
    with open_executor(cluster.spec, 1) as pool:  # goes on with other work
        assert pool.submit(executor_work.square, 3).result() == 9
    assert len(list(tmp_path.iterdir())) < 5


def write_loans(path: Path, records: Sequence[Mapping[str, Any]], times: int) -> None:
    table = pa.Table.from_pylist(list(records))
    path.parent.mkdir(exist_ok=True)
    csv.write_csv(pa.concat_tables([table] * times), path)


def test_every_row_is_scored_once_though_a_worker_is_lost(
    cluster: Cluster, pool: Pool, trained: Registry, records: list[dict[str, Any]], tmp_path: Path
) -> None:
    names = [f"{number}.csv" for number in range(6)]
    for number, name in enumerate(names):
        write_loans(tmp_path / "in" / name, records[number:], 30)

    def scoring(destination: str, executor: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [DASK.with_name("tabserve"), "score", "credit", "in", destination, "--executor", executor],
            env={**os.environ, "MODEL_REGISTRY": str(trained.location)},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )

    with scoring("here", "threads") as process:
        expected = json.loads(process.communicate(timeout=120)[0])
    victim = min(cluster.pids())
    with scoring("there", cluster.spec) as process:
        while not list((tmp_path / "there").glob("*.csv")):
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(victim, signal.SIGKILL)
        assert len(list((tmp_path / "there").glob("*.csv"))) < len(names) - 1, "too late"
        found = json.loads(process.communicate(timeout=120)[0])
    assert process.returncode == 0
    assert (found["rows"], found["refused"]) == (expected["rows"], 0)
    assert sorted(one["output"] for one in found["files"]) == [f"there/{name}" for name in names]
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == [".tabserve", *names]
    for name in names:
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_the_model_is_the_same_though_a_worker_is_lost_while_tuning(
    cluster: Cluster, pool: Pool, credit: UseCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MANY_ROWS", 500)
    monkeypatch.setattr(search, "SMALLEST_SAMPLE", 60)
    few = replace(credit, **FEW_FOLDS)
    algorithm = replace(credit.algorithms[0], search_space=None)
    train = split(few, read(few, few.path), 42).train
    here = fit(few, algorithm, train, Plan(trials=8, jobs=1))
    before = cluster.pids()
    killed = []

    def progress(algorithm: Algorithm, trials: Sequence[Trial], total: int) -> None:
        if len(trials) in (1, 6) and len(trials) > len(killed):
            killed.append(cluster.kill_a_worker())

    there = fit(few, algorithm, train, Plan(trials=8, jobs=1, executor=pool, progress=progress))
    assert killed
    assert cluster.pids() != before
    assert [trial.parameters for trial in there.trials] == [trial.parameters for trial in here.trials]
    assert [trial.cross_validation.score for trial in there.trials] == [
        trial.cross_validation.score for trial in here.trials
    ]
    assert there.model.text_ == here.model.text_


def test_without_a_scheduler_it_is_said_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "ANSWERS", 0.5)
    began = time.monotonic()
    with pytest.raises(ClusterAwayError, match="no Dask scheduler answers"), open_executor(nobody(), 1):
        raise AssertionError("nothing is opened")
    assert time.monotonic() - began < 10


def nobody() -> str:
    return f"dask:tcp://127.0.0.1:{free_port()}"


def test_without_workers_it_is_said_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "ANSWERS", 30)
    monkeypatch.setattr(cluster_module, "JOINS", 0.5)
    refused = pytest.raises(ClusterAwayError, match="the scheduler has no workers")
    with started(tmp_path, 0) as one, refused, open_executor(one.spec, 1):
        raise AssertionError("nothing is opened")


def test_a_scheduler_that_ends_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dask

    monkeypatch.setattr(cluster_module, "ANSWERS", 30)

    def lose_the_scheduler() -> None:
        with open_executor(one.spec, 1) as pool:
            future = pool.submit(executor_work.wait, 30, tmp_path / "began")
            while not (tmp_path / "began").exists():
                time.sleep(0.02)
            one.scheduler.kill()
            future.result(30)

    short = dask.config.set({"distributed.comm.timeouts.connect": "1s"})
    with started(tmp_path, 1) as one, short, pytest.raises(ClusterAwayError, match="the scheduler went away"):
        lose_the_scheduler()


def test_a_worker_with_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "ANSWERS", 30)
    other = tmp_path / "other.py"
    other.write_text("import tabserve\ntabserve.__version__ = '0.0.1'\n")
    with started(tmp_path, 0) as one:
        one.add_worker("--preload", str(other))
        with pytest.raises(DifferentVersionsError, match=r"has tabserve 0\.0\.1, and"), open_executor(one.spec, 1):
            raise AssertionError("nothing is opened")


def test_so_is_one_that_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    task = cluster_module._Task(executor_work.square, (2,), {})
    assert task() == (4, None)
    there = {**cluster_module.versions(), "lightgbm": "3.0.0"}
    monkeypatch.setattr(cluster_module, "versions", lambda: there)
    result, error = task()
    assert result is None
    assert isinstance(error, DifferentVersionsError)


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({}, "has lightgbm 3"),
        (ModuleNotFoundError("tabserve"), "has no tabserve, and this machine has tabserve"),
    ],
)
def test_versions_that_differ(theirs: Any, message: str) -> None:
    ours = cluster_module.versions()
    found = {**ours, "lightgbm": "3"} if isinstance(theirs, dict) else theirs
    with pytest.raises(DifferentVersionsError, match=message):
        cluster_module.check_versions(ours, found)
