"""How gunicorn stops with the project's settings: what a client was promised is answered."""

import os
import signal
import socket
import time
from contextlib import closing
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from api.config import Settings
from src.registry import Registry
from tests.conftest import Server, running_server
from tests.load import Load


@pytest.fixture
def stoppable(trained: Registry, tmp_path: Path) -> Any:
    environment = {"MODEL_REGISTRY": str(trained.location), "WEB_CONCURRENCY": "2"}
    with running_server(tmp_path / "log.txt", environment) as running:
        yield running


def stop(server: Server, within: float) -> None:
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(within) == 0, server.log.read_text()


@pytest.mark.parametrize("keep_alive", [False, True], ids=["new connections", "kept connections"])
def test_no_request_is_lost_when_the_server_stops_under_load(
    stoppable: Server, record: dict[str, Any], keep_alive: bool
) -> None:
    with Load(f"{stoppable.url}/output/credit", record, clients=16, keep_alive=keep_alive) as load:
        time.sleep(1)
        answered = load.counts["answered"]
        stop(stoppable, within=20)
        time.sleep(0.2)
    assert load.lost == {}
    assert answered > 16
    assert load.counts["refused"] > 0


def request(server: Server) -> bytes:
    return f"GET /health HTTP/1.1\r\nHost: {urlsplit(server.url).netloc}\r\n\r\n".encode()


def connected(server: Server) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def workers_of(server: Server) -> list[int]:
    pid = server.process.pid
    first, second = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(first), int(second)]


def send(number: signal.Signals, *processes: int) -> None:
    for process in processes:
        os.kill(process, number)


def answer(client: socket.socket) -> tuple[int, str | None, bytes]:
    """Status, what becomes of the connection, and body."""
    with closing(HTTPResponse(client)) as response:
        response.begin()
        return response.status, response.headers["Connection"], response.read()


def test_what_waits_in_the_queue_of_the_kernel_is_answered(stoppable: Server) -> None:
    workers = workers_of(stoppable)
    send(signal.SIGSTOP, *workers)  # so that nobody accepts
    try:
        waiting = [connected(stoppable) for _ in range(20)]
        for client in waiting:
            client.sendall(request(stoppable))
        stoppable.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
    finally:
        send(signal.SIGCONT, *workers)
    for client in waiting:
        with closing(client):
            assert answer(client)[0] == 200
    assert stoppable.process.wait(20) == 0


def test_a_stopping_server_makes_no_new_connection_and_answers_on_those_there_are(stoppable: Server) -> None:
    with closing(connected(stoppable)) as kept, closing(connected(stoppable)) as silent:
        kept.sendall(request(stoppable))
        assert answer(kept)[:2] == (200, "keep-alive")
        stoppable.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        with pytest.raises(OSError, match=r"refused|timed out"):
            connected(stoppable)
        for client in (kept, silent):
            client.sendall(request(stoppable))
            assert answer(client) == (200, "close", b'{"status":"ok"}')
    assert stoppable.process.wait(20) == 0


def test_a_client_that_never_asks_does_not_hold_up_the_stop(stoppable: Server) -> None:
    with closing(connected(stoppable)):
        time.sleep(6)  # by then it waits among the pending ones, whose time gunicorn leaves as it is
        began = time.monotonic()
        stop(stoppable, within=20)
        assert time.monotonic() - began < 10


def test_who_sends_too_much_is_told_so(stoppable: Server) -> None:
    body = bytes(Settings().max_content_length + 1)
    head = f"POST /predict HTTP/1.1\r\nHost: {urlsplit(stoppable.url).netloc}\r\nContent-Length: {len(body)}\r\n"
    for last in ("", "Connection: close\r\n"):
        with closing(connected(stoppable)) as client:
            client.sendall(f"{head}{last}\r\n".encode() + body)
            assert answer(client)[0] == 413


def test_one_worker_of_several_that_stops_leaves_the_others_their_connections(stoppable: Server) -> None:
    send(signal.SIGTERM, workers_of(stoppable)[0])
    for _ in range(50):
        with closing(connected(stoppable)) as client:
            client.sendall(request(stoppable))
            assert answer(client)[0] == 200
