"""How gunicorn answers and stops with the project's worker: what a client was promised is answered, and as a whole."""

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlsplit

import pytest
from gunicorn.config import Config
from gunicorn.http import RequestParser, wsgi

from api.config import Settings
from api.worker import Response, stop_without_loss
from src.registry import Registry
from tests.conftest import ROOT, Server, running_server, wait_until
from tests.load import Load

OK = b'{"status":"ok"}'


@pytest.fixture
def stoppable(trained: Registry, tmp_path: Path) -> Any:
    environment = {"MODEL_REGISTRY": str(trained.location), "WEB_CONCURRENCY": "2", "LOG_LEVEL": "INFO"}
    with running_server(tmp_path / "log.txt", environment) as running:
        wait_until(lambda: running.log.read_text().count("loaded credit-") == 2, 60, "two workers do not start")
        yield running


def stop(server: Server, within: float) -> None:
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(within) == 0, server.log.read_text()


@pytest.mark.parametrize("keep_alive", [False, True], ids=["new connections", "kept connections"])
def test_no_request_is_lost_when_the_server_stops_under_load(
    stoppable: Server, record: dict[str, Any], keep_alive: bool
) -> None:
    with Load(f"{stoppable.url}/output/credit", record, clients=16, keep_alive=keep_alive) as load:
        wait_until(lambda: load.counts["answered"] > 200, 30, "there is no load")
        stop(stoppable, within=20)
        wait_until(lambda: load.counts["refused"] > 0, 30, "nobody is refused")
    assert load.lost == {}


def request(server: Server) -> bytes:
    return f"GET /health HTTP/1.1\r\nHost: {urlsplit(server.url).netloc}\r\n\r\n".encode()


def connected(server: Server) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def connected_until_refused(server: Server) -> list[socket.socket]:
    """The connections that a server still makes."""
    made = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            made.append(connected(server))
        except ConnectionRefusedError:
            return made
        time.sleep(0.01)
    pytest.fail("The server makes connections for ever.")


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
        # refused while the workers still have the sockets open: what is made now could be lost
        late = connected_until_refused(stoppable)
        for client in late:
            client.sendall(request(stoppable))
    finally:
        send(signal.SIGCONT, *workers)
    for client in (*waiting, *late):
        with closing(client):
            assert answer(client)[0] == 200
    assert stoppable.process.wait(20) == 0


def test_a_stopping_server_makes_no_new_connection_and_answers_on_those_there_are(stoppable: Server) -> None:
    with closing(connected(stoppable)) as kept, closing(connected(stoppable)) as silent:
        kept.sendall(request(stoppable))
        assert answer(kept)[:2] == (200, "keep-alive")
        stoppable.process.send_signal(signal.SIGTERM)
        late = connected_until_refused(stoppable)
        clients = (kept, silent, *late)
        for client in clients:
            client.sendall(request(stoppable))
        for client in clients:
            while (answered := answer(client)) == (200, "keep-alive", OK):  # its worker has not heard of the stop yet
                client.sendall(request(stoppable))
            assert answered == (200, "close", OK)
        for client in late:
            client.close()
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


@pytest.fixture
def sent() -> Any:
    """Gives what gunicorn sends as the answer to a request, piece by piece."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # keeps the pieces apart

    def answer_to(method: str, headers: dict[str, str], *body: bytes) -> list[bytes]:
        request = next(RequestParser(Config(), iter([f"{method} / HTTP/1.1\r\n\r\n".encode()]), ("127.0.0.1", 1)))
        response, _ = wsgi.create(request, ours, ("127.0.0.1", 1), ("127.0.0.1", 2), Config())
        assert isinstance(response, Response)
        response.start_response("200 OK", list(headers.items()))
        for part in body:
            response.write(part)
        response.close()
        ours.close()
        return list(iter(lambda: theirs.recv(10_000), b""))

    yield answer_to
    ours.close()
    theirs.close()


Sent = Callable[..., list[bytes]]


def test_head_and_body_are_sent_together(sent: Sent) -> None:
    (whole,) = sent("POST", {"Content-Length": "4"}, b"1234")
    head, _, body = whole.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length: 4" in head
    assert body == b"1234"


def test_each_part_of_a_body_is_sent_once_and_the_head_with_the_first(sent: Sent) -> None:
    first, second = sent("GET", {"Content-Length": "4"}, b"12", b"34")
    assert first.endswith(b"\r\n\r\n12")
    assert second == b"34"


def test_a_body_of_unknown_length_is_sent_in_chunks(sent: Sent) -> None:
    head, *chunks = sent("GET", {}, b"1234", b"", b"56")
    assert head.endswith(b"\r\n\r\n")
    assert b"".join(chunks) == b"4\r\n1234\r\n2\r\n56\r\n0\r\n\r\n"


@pytest.mark.parametrize(("method", "length", "body"), [("HEAD", "4", b""), ("GET", "0", b"")])
def test_an_answer_without_a_body_is_its_head(sent: Sent, method: str, length: str, body: bytes) -> None:
    (whole,) = sent(method, {"Content-Length": length}, body)
    assert whole.endswith(b"\r\n\r\n")


def test_a_file_is_sent_after_its_head(stoppable: Server) -> None:
    with closing(connected(stoppable)) as client:
        client.sendall(request(stoppable).replace(b"/health", b"/page.css"))
        status, _, body = answer(client)
    assert status == 200
    assert body == (ROOT / "api" / "static" / "page.css").read_bytes()


def test_a_system_that_cannot_refuse_connections_is_no_secret_and_stops_as_usual() -> None:
    listener, server = Mock(), Mock(reexec_pid=0, master_pid=0, systemd=False)
    listener.setsockopt.side_effect = PermissionError(1, "Operation not permitted")
    server.LISTENERS, stop = [listener], server.stop
    stop_without_loss(server)
    server.stop(graceful=True)
    stop.assert_called_once_with(True)
    assert "Operation not permitted" in str(server.log.warning.call_args)
