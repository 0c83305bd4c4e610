"""The development server."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tabserve.registry.registry import Registry
from tests.conftest import ROOT, free_port

MARKER = "Marker4711"


def exchange(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(request)
        answer = b""
        while part := client.recv(4096):
            answer += part
    return answer


@contextmanager
def development_server(log: Path, environment: dict[str, str]) -> Iterator[int]:
    """The port of the development server while the `with` block runs."""
    port = free_port()
    jobs = {"DATABASE_URL": f"sqlite:///{log.with_suffix('.db')}"}
    environment = {**os.environ, "PORT": str(port), **jobs, **environment}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "application.py"], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and server.poll() is None:
            try:
                assert exchange(port, b"GET /health HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait(20)


def test_the_development_server_answers_and_repeats_nothing(trained: Registry, tmp_path: Path) -> None:
    with development_server(tmp_path / "log.txt", {"MODEL_REGISTRY": str(trained.location)}) as port:
        assert exchange(port, b"GET /ready HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")
        for request in (f"GET /nothing?age={MARKER} HTTP/1.0\r\n\r\n", f'{{"age": "{MARKER}"}}\r\n\r\n'):
            assert MARKER.encode() not in exchange(port, request.encode())
    assert MARKER not in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(("environment", "status"), [({}, 400), ({"AUTH_REQUIRED": "true"}, 401)])
def test_the_development_server_wants_credentials_only_when_it_is_told_to(
    environment: dict[str, str], status: int, trained: Registry, users_file: Path, tmp_path: Path
) -> None:
    environment = {"MODEL_REGISTRY": str(trained.location), "AUTH_USERS_FILE": str(users_file), **environment}
    with development_server(tmp_path / "log.txt", environment) as port:
        assert exchange(port, b"POST /predict HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 %d " % status)


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "application.py"],
            cwd=ROOT,
            env={**os.environ, "PORT": str(port), "MODEL_REGISTRY": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Port {port} on 127.0.0.1 cannot be used (Address already in use).")
