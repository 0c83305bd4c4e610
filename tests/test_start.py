"""What is said before the service starts."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tabserve.api.start import TESTED, check_gunicorn, check_port
from tests.conftest import ROOT, free_port


@pytest.fixture(params=["127.0.0.1", "::1"])
def taken(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """An address and a port of it that somebody listens on."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        listener = socket.create_server((request.param, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {request.param}")
    with listener:
        yield request.param, listener.getsockname()[1]


def test_a_port_that_is_taken_is_said_in_one_line_with_another_one(taken: tuple[str, int]) -> None:
    host, port = taken
    with pytest.raises(SystemExit) as end:
        check_port(host, port)
    assert re.fullmatch(
        rf"Port {port} on {re.escape(host)} cannot be used \(Address already in use\). "
        rf"Choose another, such as PORT=({port + 1}|8080)\.",
        str(end.value),
    )


def test_a_port_that_is_free_stays_free() -> None:
    port = free_port()
    for _ in range(2):
        check_port("127.0.0.1", port)
    socket.create_server(("127.0.0.1", port)).close()


def test_an_address_that_this_machine_does_not_have_is_said_in_one_line() -> None:
    with pytest.raises(SystemExit, match=r"^Port 8080 on 192\.0\.2\.1 cannot be used \(.+\)\. Choose another"):
        check_port("192.0.2.1", 8080)


@pytest.mark.parametrize("version", ["26.9.9", "27.1.0", "28.0.0"])
def test_a_gunicorn_that_was_not_tested_is_said_in_one_line(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_gunicorn()
    monkeypatch.setattr("gunicorn.__version__", version)
    with pytest.raises(SystemExit) as end:
        check_gunicorn()
    assert str(end.value) == (
        f"gunicorn {version} is installed, but this service overrides private methods of it and was only tested with "
        "27.0.*: pip install 'gunicorn==27.0.*'"
    )


@pytest.mark.parametrize("command", [["gunicorn", "application"], ["tabserve", "serve"]])
def test_no_server_starts_with_a_gunicorn_that_was_not_tested(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import gunicorn\ngunicorn.__version__ = '28.0.0'\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "AUTH_REQUIRED": "false"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("gunicorn 28.0.0 is installed, but ")


def test_the_requirements_allow_the_gunicorn_that_was_tested_and_no_other() -> None:
    assert f"gunicorn=={TESTED}*" in (ROOT / "requirements.in").read_text().splitlines()


def start(**environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOST": "127.0.0.1", "AUTH_REQUIRED": "false", **environment}
    command = [sys.executable, "-m", "tabserve.api.start"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


def test_nothing_is_said_when_nothing_is_in_the_way() -> None:
    done = start(PORT=str(free_port()))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_settings_users_and_port_are_looked_at(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for environment, text in (
            ({"LOG_LEVEL": "loud"}, "LOG_LEVEL"),
            ({"MODEL_REGISTRY": str(ROOT / "setup.py")}, "MODEL_REGISTRY"),
            ({"AUTH_REQUIRED": "true", "AUTH_USERS_FILE": str(tmp_path / "none")}, "tabserve users add"),
            ({"PORT": str(port)}, f"Port {port} on 127.0.0.1"),
        ):
            done = start(**environment)
            assert (done.returncode, done.stdout) == (1, "")
            (line,) = done.stderr.splitlines()
            assert text in line
