"""What nearly every test needs: a small trained registry, made once, and the service in front of it."""

import fcntl
import hashlib
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hypothesis
import joblib
import pytest
from apiflask import APIFlask
from argon2 import PasswordHasher
from flask.testing import FlaskClient
from xdist.scheduler import LoadFileScheduling

from tabserve.api.app import create_app
from tabserve.declaration.discovery import get_use_case
from tabserve.declaration.use_case import UseCase
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tabserve.tables.reader import read_training_table
from tabserve.train_pipeline import run_training
from tabserve.training.plan import Plan
from tabserve.training.provenance import commit

ROOT = Path(__file__).parent.parent
ALICE = ("alice", "correct horse battery")  # a user: what `auth` of the test client takes


def pytest_xdist_auto_num_workers() -> int:
    """More workers than CPUs, since many tests wait most of their time."""
    return joblib.cpu_count() * 3


# Files whose tests take long and need little in common: several workers share each.
SHARED = {
    "tests/test_stores.py": 4,
    "tests/test_worker.py": 2,
    "tests/test_page_browser.py": 2,
    "tests/test_page_jobs.py": 2,
}


class FilesAndParts(LoadFileScheduling):
    """A worker gets whole files, whose fixtures it makes once, and of the longest ones parts."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return f"{file} {zlib.crc32(nodeid.encode()) % SHARED.get(file, 1)}"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesAndParts:
    return FilesAndParts(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a browser is slow."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


NO_SKIPS = "NO_SKIPS" in os.environ  # where all that tests need is installed, a skipped test is a failure
EXCUSE = "this machine has no ::1"  # nobody can install that


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    return not_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    return not_skipped((yield))


def not_skipped(report: Any) -> Any:
    """The report of a test or file; with NO_SKIPS, a failure where it would be skipped."""
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        *_, reason = report.longrepr
        if EXCUSE not in reason:
            report.outcome, report.longrepr = "failed", f"{reason}. With NO_SKIPS, that is a failure."
    return report


# no deadlines: tests must not fail because the machine is busy
# The examples follow from the test alone, so that a verdict is about the commit; the profile `search` looks for others.
hypothesis.settings.register_profile("tests", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.register_profile("deep", deadline=None, derandomize=True)  # make coverage
hypothesis.settings.register_profile("search", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session")
def credit() -> UseCase:
    return get_use_case("credit")


@pytest.fixture(scope="session")
def fast(credit: UseCase) -> UseCase:
    """Credit's baseline alone, in few folds and without gates: its training takes little time."""
    features = tuple(replace(feature, monotone=0) for feature in credit.features)
    return replace(credit, features=features, algorithms=(credit.baseline,), gates=(), splits=2, repeats=1)


@pytest.fixture(scope="session")
def record(credit: UseCase) -> dict[str, Any]:
    """A valid record."""
    return dict(credit.example)


@pytest.fixture(scope="session")
def records(credit: UseCase) -> list[dict[str, Any]]:
    """The thousand records of the real data, without their outcome."""
    return [*read_training_table(credit.path, credit.features, credit.target.feature).records]


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
def trained(
    credit: UseCase, bikes: UseCase, some_bikes: Path, tmp_path_factory: pytest.TempPathFactory, request
) -> Registry:
    """A registry with models of few trials, those of bikes also of few rows. Do not change it: see `registry`."""
    location = tmp_path_factory.mktemp("models") / "models"
    with made_once(request.config, "models", __file__) as (folder, is_there):
        if not is_there:
            registry = Registry(folder)
            run_training(credit, registry, credit.path, Plan(trials=2, seed=42), ["lightgbm"])
            few_rows = replace(bikes, gates=())  # its models would not pass them
            run_training(few_rows, registry, some_bikes, Plan(trials=2, seed=42))
        shutil.copytree(folder, location)
    return Registry(location)


@contextmanager
def made_once(config: pytest.Config, name: str, maker: str) -> Iterator[tuple[Path, bool]]:
    """A folder in pytest's cache, and whether its content was made before, by the same code and the same maker.

    Other processes wait meanwhile.
    """
    kept = getattr(config, "cache", None)  # which -p no:cacheprovider takes away
    place = kept.mkdir(f"tabserve-{name}") if kept else Path(tempfile.mkdtemp())
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder, made_by, code = place / "content", place / "made by", digest_of_the_code(Path(maker))
        is_there = made_by.exists() and made_by.read_text() == code
        if not is_there:
            made_by.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
        yield folder, is_there
        made_by.write_text(code)


def digest_of_the_code(maker: Path) -> str:
    """A digest of everything that the result of a training depends on."""
    digest = hashlib.sha256(f"{sys.version} {commit()}".encode())
    for library in ("lightgbm", "numpy", "pandas", "scikit-learn", "scipy"):
        digest.update(f" {library} {version(library)}".encode())
    for path in (maker, *sorted((ROOT / "src").rglob("*.*"))):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f" {path.relative_to(ROOT)} ".encode() + path.read_bytes())
    return digest.hexdigest()


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
    """A users file with ALICE. Do not change it."""
    path = tmp_path_factory.mktemp("users") / "users.txt"
    write_users(path, ALICE)
    return path


def write_users(path: Path, *users: tuple[str, str]) -> None:
    """Write a users file with names and passwords, whose hashes take no time."""
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    path.write_text("".join(f"{name}:{hasher.hash(password)}\n" for name, password in users))


# Each process has ports of its own, even beside another run of the tests on this machine. The kernel gives none of them
# to a client's connection.
PORTS = [range(first, first + 500) for first in range(10_000, 32_000, 500)]


@cache
def own_ports() -> Iterator[int]:
    """Ports that no other process is given until this one ends."""
    for ports in PORTS:
        with suppress(OSError):  # another user's
            lock = os.open(Path(tempfile.gettempdir()) / f"tabserve-tests-{ports[0]}.lock", os.O_CREAT | os.O_WRONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # another process has them
                os.close(lock)
                continue
            return itertools.cycle(ports)  # and the lock stays open
    pytest.fail("Too many tests run on this machine.")


def free_port() -> int:
    """A port of this machine that no other test is given."""
    while True:
        port = next(own_ports())
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(is_so: Callable[[], bool], within: float, what: str) -> float:
    """Wait until something is so, and return the seconds it took; fail with `what` when it takes too long."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < within, what
        time.sleep(0.02)
    return time.monotonic() - began


def children_of(pid: int) -> list[int]:
    """A process's children; the kernel's own list may miss some while others come and go."""
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
    """The service as it runs in production, with one worker, on a port of its own. Do not change its models."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    environment = {"MODEL_REGISTRY": str(trained.location), "WEB_CONCURRENCY": "1"}
    with running_server(log, environment) as running:
        yield running


class running_server:  # noqa: N801 - used as a function
    """gunicorn with the project's own settings while the `with` block runs.

    `constants` overrides constants by their full name, such as `tabserve.api.connection.READ_TIMEOUT`.
    """

    def __init__(
        self, log: Path, environment: dict[str, str], constants: Mapping[str, float | str] | None = None
    ) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self.constants = constants or {}
        jobs = {"DATABASE_URL": f"sqlite:///{log.with_suffix('.db')}", "JOB_WORKERS": "0"}
        defaults = {"HOST": "127.0.0.1", "PORT": str(port), "AUTH_REQUIRED": "false", **jobs}
        self.environment = {**os.environ, **defaults, **environment}

    def __enter__(self) -> Server:
        command = [sys.executable, "-m", "gunicorn", "--config", str(self.configuration()), "application"]
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

    def configuration(self) -> Path:
        """The project's own file, or a file that takes its settings and overrides the constants."""
        own = ROOT / "gunicorn.conf.py"
        if not self.constants:
            return own
        modules = dict.fromkeys(name.rpartition(".")[0] for name in self.constants)
        lines = [
            "from runpy import run_path",
            *(f"import {module}" for module in modules),
            f"globals().update(run_path({str(own)!r}, {{'__name__': 'other'}}))",
            *(f"{name} = {value}" for name, value in self.constants.items()),
        ]
        other = self.log.with_suffix(".conf.py")
        other.write_text("\n".join(lines))
        return other

    def __exit__(self, *exception: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
