"""Executors: the same work gives the same result in threads and processes; test_cluster.py has clusters."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from tabserve import errors
from tabserve.cli.commands import tabserve
from tabserve.click_types import ExecutorSpec
from tabserve.errors import Fault, InvalidTableError, LostWorkerError, TooFewRowsError, UnknownExecutorError
from tabserve.executors import PROCESSES, THREADS, Pool, check_spec, open_executor
from tests import executor_work
from tests.conftest import ROOT
from tests.test_layout import modules_after

CLUSTERS = ["dask:tcp://10.0.0.1:8786", "dask:tls://scheduler.example.org:1", "dask:tcp://[::1]:8786"]


@pytest.fixture(scope="module", params=[THREADS, PROCESSES])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with open_executor(request.param, 2) as opened:
        yield opened


def test_the_results_come_in_order(pool: Pool) -> None:
    assert list(pool.map(executor_work.square, range(20))) == [number * number for number in range(20)]


def test_a_worker_has_a_shared_value_once(pool: Pool) -> None:
    with pool.share(np.arange(1000.0)) as shared:
        assert shared.get().sum() == 499_500
        found = list(pool.map(executor_work.place_and_sum, [shared] * 10, range(10)))
    assert [total for _, _, total in found] == [499_500.0 + number for number in range(10)]
    places = {(process, place) for process, place, _ in found}
    assert len(places) == len({process for process, _ in places})


def test_an_error_comes_as_it_was_raised(pool: Pool) -> None:
    with pytest.raises(TooFewRowsError, match="the training part has 3 and needs at least 50"):
        pool.submit(executor_work.fail).result()


def all_errors() -> list[type[errors.TabserveError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TabserveError)]


@pytest.mark.parametrize("kind", all_errors())
def test_every_error_can_come_from_another_process(kind: type[errors.TabserveError]) -> None:
    error = kind.__new__(kind, "a sentence")
    error.limit = 5  # type: ignore[attr-defined]
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (kind, "a sentence", {"limit": 5})


def test_the_faults_of_a_table_come_from_another_process() -> None:
    error = InvalidTableError("The file", [Fault("age", "is too high", 3, 200)])
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.by_column()) == (str(error), error.by_column())


def test_a_process_that_ends_is_told_in_a_sentence() -> None:
    with pytest.raises(LostWorkerError, match="perhaps for lack of memory"), open_executor(PROCESSES, 1) as pool:
        pool.submit(executor_work.end).result()


def test_an_error_ends_processes_at_once_and_cancels_what_has_not_begun(tmp_path: Path) -> None:
    futures: list[Future[None]] = []

    def interrupted() -> None:
        with open_executor(PROCESSES, 1) as pool:
            futures.extend(pool.submit(executor_work.wait, 60, tmp_path / str(number)) for number in range(5))
            wait_for(tmp_path / "0")
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - began < 30
    assert all(future.done() for future in futures)
    assert not (tmp_path / "4").exists()


def test_processes_end_with_their_parent_even_when_it_is_killed(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from tabserve.executors import open_executor\n"
        "from tests import executor_work\n"
        "with open_executor('processes', 1) as pool:\n"
        f"    pool.submit(executor_work.wait, 60, Path({str(tmp_path / 'pid')!r})).result()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as parent:
        wait_for(tmp_path / "pid")
        child = int((tmp_path / "pid").read_text())
        parent.send_signal(signal.SIGKILL)
    ends = time.monotonic() + 20
    while is_running(child):
        assert time.monotonic() < ends
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(path: Path) -> None:
    ends = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < ends
        time.sleep(0.02)


@pytest.mark.parametrize("spec", [THREADS, PROCESSES, *CLUSTERS])
def test_what_names_an_executor(spec: str) -> None:
    assert check_spec(spec) == spec
    assert ExecutorSpec().convert(spec, None, None) == spec


@pytest.mark.parametrize(
    "spec", ["", "thread", "dask", "tcp://host:8786", "dask:host:8786", "dask:tcp://host", "threads "]
)
def test_what_names_none(spec: str) -> None:
    with pytest.raises(UnknownExecutorError):
        check_spec(spec)
    with pytest.raises(click.BadParameter, match="it is threads, processes, or a Dask scheduler such as dask:tcp://"):
        ExecutorSpec().convert(spec, None, None)
    with pytest.raises(UnknownExecutorError), open_executor(spec, 1):
        raise AssertionError("nothing is opened")


@pytest.mark.parametrize("command", [["train", "credit"], ["score", "credit", "in.csv", "out.csv"]])
def test_commands_take_only_names_of_executors(command: list[str]) -> None:
    result = CliRunner().invoke(tabserve, [*command, "--executor", "spark"])
    assert result.exit_code == 2
    assert "it is threads, processes, or a Dask scheduler" in result.output.replace("\n", " ")


def test_a_cluster_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tabserve.executors.find_spec", lambda name: None)
    with (
        pytest.raises(errors.MissingExtraError, match=r"pip install 'tabserve\[cluster\]'"),
        open_executor(CLUSTERS[0], 1),
    ):
        raise AssertionError("nothing is opened")


def test_dask_is_not_imported_before_it_is_needed() -> None:
    loaded = modules_after("import tabserve.train_pipeline, tabserve.executors.local")
    assert "tabserve" in loaded
    assert not loaded & {"dask", "distributed"}
