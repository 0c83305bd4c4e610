"""The development server."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from src.registry import Registry
from tests.conftest import ROOT

MARKER = "Marker4711"


def exchange(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(request)
        answer = b""
        while part := client.recv(4096):
            answer += part
    return answer


def test_the_development_server_answers_and_repeats_nothing(trained: Registry, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "MODEL_REGISTRY": str(trained.folder), "PORT": str(port)}
    log = tmp_path / "log.txt"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "application.py"], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and server.poll() is None:
            try:
                answer = exchange(port, b"GET /ready HTTP/1.0\r\n\r\n")
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        assert answer.startswith(b"HTTP/1.1 200")
        for request in (f"GET /nothing?age={MARKER} HTTP/1.0\r\n\r\n", f'{{"age": "{MARKER}"}}\r\n\r\n'):
            assert MARKER.encode() not in exchange(port, request.encode())
    finally:
        server.terminate()
        server.wait(20)
    assert MARKER not in log.read_text()
