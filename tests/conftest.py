"""What nearly every test needs: a small trained registry, made once, and the service in front of it."""

import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from apiflask import APIFlask
from argon2 import PasswordHasher
from flask.testing import FlaskClient
from tabserve.api.app import create_app
from tabserve.declaration.discovery import get_use_case
from tabserve.declaration.use_case import UseCase
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tabserve.tables.reader import read_training_table
from tabserve.train_pipeline import Plan, run_training

ROOT = Path(__file__).parent.parent
ALICE = ("alice", "correct horse battery")  # a user: what `auth` of the test client takes

# a busy machine is no failure: nothing here is judged by how fast it runs
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session")
def credit() -> UseCase:
    return get_use_case("credit")


@pytest.fixture(scope="session")
def record(credit: UseCase) -> dict[str, Any]:
    """A valid record."""
    return dict(credit.example)


@pytest.fixture(scope="session")
def records(credit: UseCase) -> list[dict[str, Any]]:
    """The thousand records of the real data, without their outcome."""
    return read_training_table(credit.path, credit.features, credit.target.feature).records


@pytest.fixture(scope="session")
def bikes() -> UseCase:
    return get_use_case("bikes")


@pytest.fixture(scope="session")
def some_bikes(bikes: UseCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tenth of the hours of the real data."""
    path = tmp_path_factory.mktemp("data") / "bikes.csv"
    header, *hours = bikes.path.read_text().splitlines()
    path.write_text("\n".join([header, *hours[::10]]))
    return path


@pytest.fixture(scope="session")
def trained(credit: UseCase, bikes: UseCase, some_bikes: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A registry with models of few trials, those of bikes of few rows; not to be changed: see `registry`."""
    registry = Registry(tmp_path_factory.mktemp("models"))
    run_training(credit, registry, credit.path, Plan(trials=2, seed=42))
    run_training(replace(bikes, gates=()), registry, some_bikes, Plan(trials=2, seed=42))  # few rows pass no gate
    return registry


@pytest.fixture(scope="session")
def artifact(trained: Registry) -> Artifact:
    return trained.load(trained.latest("credit"))


@pytest.fixture
def registry(trained: Registry, tmp_path: Path) -> Registry:
    """A copy of the trained registry that a test may change."""
    shutil.copytree(trained.location, tmp_path / "models")
    return Registry(tmp_path / "models")


@pytest.fixture
def app(registry: Registry) -> APIFlask:
    return create_app(Settings(model_registry=registry.location, auth_required=False))


@pytest.fixture
def client(app: APIFlask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="session")
def users_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A users file with ALICE; not to be changed."""
    path = tmp_path_factory.mktemp("users") / "users.txt"
    write_users(path, ALICE)
    return path


def write_users(path: Path, *users: tuple[str, str]) -> None:
    """A users file with names and passwords, whose hashes take no time."""
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    path.write_text("".join(f"{name}:{hasher.hash(password)}\n" for name, password in users))


# each worker of pytest-xdist its own, and none that the kernel gives to a client's connection
_ports = itertools.count(10_000 + 500 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")))


def free_port() -> int:
    """A port of this machine that no other test is given."""
    while True:
        port = next(_ports)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(is_so: Callable[[], bool], within: float, what: str) -> float:
    """The seconds that it took until something was so; the test fails with `what` when it takes too long."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < within, what
        time.sleep(0.02)
    return time.monotonic() - began


def children_of(pid: int) -> list[int]:
    """The processes whose parent it is; the kernel's own list may lack some while others come and go."""
    children = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it is over by now
            _, parent = path.read_text().rpartition(")")[2].split()[:2]
            children += [int(path.parent.name)] if int(parent) == pid else []
    return children


@dataclass(frozen=True)
class Server:
    """A running gunicorn."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


@pytest.fixture(scope="session")
def server(trained: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service as it runs in production, one worker, on a port of its own; its models are not to be changed."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    environment = {"MODEL_REGISTRY": str(trained.location), "WEB_CONCURRENCY": "1"}
    with running_server(log, environment) as running:
        yield running


class running_server:  # noqa: N801 - used as a function
    """gunicorn with the project's own settings while the `with` block runs."""

    def __init__(self, log: Path, environment: dict[str, str]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        defaults = {"HOST": "127.0.0.1", "PORT": str(port), "AUTH_REQUIRED": "false"}
        self.environment = {**os.environ, **defaults, **environment}

    def __enter__(self) -> Server:
        command = [sys.executable, "-m", "gunicorn", "application"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=5).close()
                return Server(self.url, self.process, self.log)
            except OSError:  # not there yet, or busy with loading its models
                time.sleep(0.05)
        self.__exit__()
        pytest.fail(f"gunicorn did not start:\n{self.log.read_text()}")

    def __exit__(self, *exception: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
