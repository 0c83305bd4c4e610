"""What a newcomer types first: `make setup`, `make serve` and `make test`, also where the system lacks something."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tabserve.registry.registry import Registry
from tests.conftest import ROOT, free_port, wait_until

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def outside_make() -> dict[str, str]:
    """The environment without what a `make` that runs the tests tells the one that a test runs."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


def run(folder: Path, target: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**outside_make(), "PYTHON": sys.executable, **environment}
    return subprocess.run(["make", target], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


# make setup

LACKS = {  # how a Python is made to miss what a system may not have
    "python": "import sys; sys.version_info = (3, 10)",
    "libgomp": """
import ctypes
class CDLL(ctypes.CDLL):
    def __init__(self, name, *arguments, **options):
        if name == 'libgomp.so.1':
            raise OSError(name)
        super().__init__(name, *arguments, **options)
ctypes.CDLL = CDLL""",
    "ensurepip": "import sys; sys.modules['ensurepip'] = None",
}
VENV = f"python3.{sys.version_info.minor}-venv"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with all that the Makefile needs to make an environment, and none yet."""
    for name in ("Makefile", "requirements-dev.txt", "setup.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere OpenMP does not come from the system's packages")
@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        (["python"], r"Tabserve needs Python 3\.11 or newer\. Name one: make PYTHON=python3\.13 \.\.\."),
        (["python", "libgomp"], r"Tabserve needs Python 3\.11 or newer\. .+"),
        (["libgomp"], r"This system lacks LightGBM's libgomp\.so\.1\. .+: apt-get install libgomp1"),
        (["ensurepip"], rf"This system lacks Python's ensurepip\. .+: apt-get install {VENV}"),
        (["ensurepip", "libgomp"], rf"This system lacks .+ and .+\. .+: apt-get install {VENV} libgomp1"),
    ],
)
def test_what_the_system_lacks_is_said_before_anything_is_installed(
    lacking: list[str], said: str, checkout: Path, tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("\n".join(LACKS[what] for what in lacking))
    done = run(checkout, "setup", PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 2
    line, end = done.stderr.splitlines()
    assert re.fullmatch(said, line)
    assert end.startswith("make: ***")
    assert not (checkout / ".venv").exists()


# make serve


@pytest.fixture
def ready(checkout: Path) -> Path:
    """The same with this environment, and the service's own files."""
    for name in ("application.py", "gunicorn.conf.py"):
        (checkout / name).symlink_to(ROOT / name)
    commands = checkout / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name, module in (("python", ""), ("tabserve", "-m tabserve")):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (commands / name).chmod(0o755)
    (checkout / ".venv" / "ready").touch()
    return checkout


def environment_of(registry: Path, port: int) -> dict[str, str]:
    environment = {"PYTHONPATH": str(ROOT), "MODEL_REGISTRY": str(registry), "PORT": str(port), "WEB_CONCURRENCY": "1"}
    return environment | {"LOG_LEVEL": "INFO"}


@pytest.mark.parametrize(
    ("wrong", "said"), [({}, "Choose another, such as PORT="), ({"AUTH_REQUIRED": "true"}, "tabserve users add")]
)
def test_what_keeps_the_service_from_starting_is_said_before_a_model_is_trained(
    wrong: dict[str, str], said: str, ready: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        environment = environment_of(tmp_path / "models", listener.getsockname()[1])
        done = run(ready, "serve", **environment, AUTH_USERS_FILE=str(tmp_path / "none"), **wrong)
    assert done.returncode == 2
    line, end = done.stderr.splitlines()
    assert said in line
    assert end.startswith("make: ***")
    assert done.stdout == ""
    assert not (tmp_path / "models").exists()


def test_it_is_said_that_the_service_listens_once_it_does(ready: Path, trained: Registry, tmp_path: Path) -> None:
    port = free_port()
    environment = {name: value for name, value in outside_make().items() if name not in ("AUTH_REQUIRED", "HOST")}
    environment |= environment_of(Path(trained.location), port)
    log = tmp_path / "log.txt"
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["make", "serve"], cwd=ready, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until(lambda: "isten" in log.read_text() or server.poll() is not None, 120, "nothing is said")
        first, *rest = log.read_text().splitlines()
        assert f"http://localhost:{port}, for this machine only, with AUTH_REQUIRED=false" in first
        assert "isten" not in first
        assert f"Listening at: http://127.0.0.1:{port} " in "".join(rest)
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60).close()
    finally:
        os.killpg(server.pid, signal.SIGINT)  # as Ctrl-C does
        server.wait(60)
    assert "Traceback" not in log.read_text()


# make test


def pytest_on(file: Path, **environment: str) -> str:
    """What pytest prints of a file's tests."""
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "-p", "no:schemathesis", str(file)]
    own = {name: value for name, value in os.environ.items() if name != "NO_SKIPS"}
    environment = {**own, "PYTHONPATH": str(ROOT), "COLUMNS": "300", **environment}
    return subprocess.run(command, cwd=file.parent, env=environment, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.slow
def test_where_playwright_does_not_start_its_tests_are_skipped_and_say_why(tmp_path: Path) -> None:
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\necho 'libatomic.so.1: cannot open shared object file' >&2\nexit 127\n")
    node.chmod(0o755)
    file = tmp_path / "test_page.py"
    file.write_text("from tests.browser import browser\ndef test_page(browser): pass\n")
    printed = pytest_on(file, PLAYWRIGHT_NODEJS_PATH=str(node))
    assert "apt-get install libatomic1: libatomic.so.1: cannot open shared object file" in printed
    assert printed.splitlines()[-1].strip("= ").startswith("1 skipped in ")


@pytest.mark.slow
def test_where_git_is_not_installed_its_tests_are_skipped_and_say_why(tmp_path: Path) -> None:
    printed = pytest_on(ROOT / "tests" / "test_bundle.py", PATH=str(tmp_path))
    assert "git is not installed" in printed
    assert printed.splitlines()[-1].strip("= ").startswith("1 skipped in ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reason", "outcome"), [("it is not installed", "1 failed"), ("this machine has no ::1", "1 skipped")]
)
def test_where_nothing_may_be_skipped_a_skipped_test_fails_unless_nobody_could_help_it(
    tmp_path: Path, reason: str, outcome: str
) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    file = tmp_path / "test_skipped.py"
    file.write_text(f"import pytest\ndef test_skipped(): pytest.skip({reason!r})\n")
    printed = pytest_on(file, NO_SKIPS="1")
    assert reason in printed
    assert printed.splitlines()[-1].strip("= ").startswith(f"{outcome} in ")
