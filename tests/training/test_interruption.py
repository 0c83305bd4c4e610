"""Trainings that are stopped leave the registry as it was."""

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest

import tabserve.registry.stores
import tabserve.train_pipeline
from tabserve.models.lightgbm import LgbClassifier
from tabserve.registry.registry import Registry
from tabserve.registry.stores import FolderStore
from tabserve.resolver import Resolver
from tabserve.train_pipeline import main
from tests.artifacts import copy_of
from tests.training.helpers import predictions, unpromised

pytestmark = pytest.mark.slow  # trainings, in processes that are killed

WRITES = 6  # of a saving: five files and the manifest


def in_a_process(function: Callable[..., None], *arguments: Any) -> int:
    """Run a function of this module in a process of its own; how that ended."""
    process = CONTEXT.Process(target=function, args=arguments)
    process.start()
    process.join(120)
    status = process.exitcode
    process.kill()
    process.join()
    process.close()
    assert status is not None, "the process did not end"
    return status


CONTEXT = multiprocessing.get_context("forkserver")


CONTEXT.set_forkserver_preload([__name__])


def send(number: signal.Signals) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.kill(os.getpid(), number)


def stopped_while_tuning(folder: Path, number: signal.Signals, output: Path) -> NoReturn:
    """The command; the signal comes during the second trial."""
    cross_validate = LgbClassifier.cross_validate
    calls = []

    def stop(self: LgbClassifier, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            send(number)
        return cross_validate(self, *arguments)

    LgbClassifier.cross_validate = stop
    command(folder, output, "--trials", "3", "--jobs", "1", "--algorithm", "lightgbm")


def stopped_while_saving(folder: Path, number: signal.Signals, output: Path) -> NoReturn:
    """The command with the fast baseline for a model; the signal comes when the second file is half written."""
    stop_writing(2, number)
    fast_command(folder, output)


def short_of_room(folder: Path, output: Path) -> NoReturn:
    """The same where no file may be larger than this."""
    sys.dont_write_bytecode = True  # Python would leave half of a module, on which all later tests stumble
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    fast_command(folder, output)


def fast_command(folder: Path, output: Path) -> NoReturn:
    credit = tabserve.train_pipeline.get_use_case("credit")
    fast = unpromised(credit, algorithms=(credit.baseline,), gates=())
    tabserve.train_pipeline.get_use_case = lambda name: fast
    command(folder, output, "--trials", "1", "--jobs", "1")


def command(folder: Path, output: Path, *arguments: str) -> NoReturn:
    os.environ["MODEL_REGISTRY"] = str(folder)
    with output.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        main(arguments)


def stop_writing(failing: int, number: signal.Signals) -> None:
    write = tabserve.registry.stores._write
    calls = []

    def stop(path: Path, content: bytes, mode: str) -> None:
        calls.append(path)
        if len(calls) == failing:
            write(path, content[: len(content) // 2], mode)
            send(number)
        write(path, content, mode)

    tabserve.registry.stores._write = stop


def save_and_stop(folder: Path, failing: int, number: signal.Signals) -> None:
    """Save a model that was trained before; the signal comes when a file is half written."""
    stop_writing(failing, number)
    copy_of(Registry(folder))


def save_and_be_killed_at_the_renaming(folder: Path, done: bool) -> None:
    rename = Path.replace

    def kill(self: Path, target: Path) -> None:
        if done:
            rename(self, target)
        send(signal.SIGKILL)

    Path.replace = kill
    copy_of(Registry(folder))


def delete_and_be_killed(folder: Path, model_id: str) -> None:
    delete = FolderStore.delete

    def kill_after_the_first(self: FolderStore, path: str) -> None:
        delete(self, path)
        send(signal.SIGKILL)

    FolderStore.delete = kill_after_the_first
    Registry(folder).delete(model_id)


@pytest.fixture
def unharmed(registry: Registry, records: list[Mapping[str, Any]]):
    """Check that a registry lists, loads and serves what it did at the beginning of the test, and can be saved to."""
    before, model_id = registry.list(), registry.latest("credit")
    expected = predictions(registry.load(model_id), records)

    def check() -> None:
        assert registry.list() == before
        registry.load(model_id)
        assert predictions(registry.load(model_id), records) == expected
        served = Resolver(registry, "credit")
        assert [served.resolve(name).model_id for name in ("credit", "latest", "champion", model_id)] == [model_id] * 4
        after = copy_of(registry, "credit-lightgbm_v1.0.0-9999999999.000000")
        assert registry.list() == [after, *before]

    return check


def test_a_disk_without_room_is_a_line_and_exit_status_1(tmp_path):
    models, output = tmp_path / "models", tmp_path / "output"
    assert in_a_process(short_of_room, models, output) == 1
    _, line = filter(None, output.read_text().splitlines())  # how tuning went, and the error
    assert line == f"Error: Models cannot be saved in {models} (File too large). Nothing was saved."
    assert Registry(models).list() == []


def test_ctrl_c_while_tuning_says_so_and_saves_nothing(registry, unharmed, tmp_path):
    output = tmp_path / "output"
    assert in_a_process(stopped_while_tuning, registry.location, signal.SIGINT, output) == 1
    assert "Interrupted after 1 of 3 trials; nothing was saved." in output.read_text()
    assert "Traceback" not in output.read_text()
    assert sorted(path.name for path in registry.location.iterdir()) == sorted(registry.list())
    unharmed()


def test_ctrl_c_while_saving_says_so_and_saves_nothing(registry, unharmed, tmp_path):
    output = tmp_path / "output"
    assert in_a_process(stopped_while_saving, registry.location, signal.SIGINT, output) == 1
    assert "Aborted!" in output.read_text()
    unharmed()


@pytest.mark.parametrize("training", [stopped_while_tuning, stopped_while_saving])
def test_a_training_that_is_killed_leaves_the_registry_as_it_was(registry, unharmed, tmp_path, training):
    assert in_a_process(training, registry.location, signal.SIGKILL, tmp_path / "output") == -signal.SIGKILL
    unharmed()


@pytest.mark.parametrize("failing", range(1, WRITES + 1))
def test_a_saving_that_is_killed_in_any_write_leaves_the_registry_as_it_was(registry, unharmed, failing):
    assert in_a_process(save_and_stop, registry.location, failing, signal.SIGKILL) == -signal.SIGKILL
    assert len(list(registry.location.iterdir())) == len(registry.list()) + 1  # it had begun
    unharmed()


def test_a_saving_makes_no_more_writes_than_those(registry):
    assert in_a_process(save_and_stop, registry.location, WRITES + 1, signal.SIGKILL) == 0
    assert len(registry.list("credit")) == 2


def test_a_saving_that_is_killed_before_the_manifest_is_renamed_leaves_the_registry_as_it_was(registry, unharmed):
    assert in_a_process(save_and_be_killed_at_the_renaming, registry.location, False) == -signal.SIGKILL
    unharmed()


def test_a_saving_that_is_killed_after_the_manifest_is_renamed_has_saved_a_whole_model(registry):
    assert in_a_process(save_and_be_killed_at_the_renaming, registry.location, True) == -signal.SIGKILL
    assert len(registry.list("credit")) == 2
    registry.load(registry.latest("credit"))


def test_a_deletion_that_is_killed_has_deleted_that_model_and_no_other(registry, unharmed):
    new = copy_of(registry)
    assert in_a_process(delete_and_be_killed, registry.location, new) == -signal.SIGKILL
    assert (registry.location / new).exists()
    unharmed()
