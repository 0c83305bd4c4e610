"""How gunicorn answers and stops with the project's worker: what a client was promised is answered, and as a whole."""

import asyncio
import json
import os
import resource
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock
from urllib.parse import urlsplit

import pytest
from gunicorn.config import Config

from tabserve.api import connection, worker
from tabserve.api.connection import Connection
from tabserve.api.worker import Worker, stop_without_loss
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tests.conftest import ROOT, Server, children_of, running_server, wait_until
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "number"),
    [("", signal.SIGHUP), ("--max-requests 300 --max-requests-jitter 50", None)],
    ids=["reload", "recycling"],
)
@pytest.mark.parametrize("keep_alive", [False, True], ids=["new connections", "kept connections"])
def test_no_request_is_lost_or_refused_when_workers_are_replaced_under_load(
    trained: Registry,
    record: dict[str, Any],
    tmp_path: Path,
    keep_alive: bool,
    options: str,
    number: signal.Signals | None,
) -> None:
    environment = {"MODEL_REGISTRY": str(trained.location), "WEB_CONCURRENCY": "2", "GUNICORN_CMD_ARGS": options}
    with (
        running_server(tmp_path / "log.txt", environment) as server,
        Load(f"{server.url}/output/credit", record, clients=16, keep_alive=keep_alive) as load,
    ):
        wait_until(lambda: load.counts["answered"] > 200, 30, "there is no load")
        if number:
            server.process.send_signal(number)
        wait_until(lambda: server.log.read_text().count("Worker exiting") >= 2, 60, "no worker is replaced")
        answered = load.counts["answered"]
        wait_until(lambda: load.counts["answered"] > answered + 100, 30, "the new ones do not answer")
    assert set(load.counts) == {"answered"}


def test_a_server_that_is_stopped_while_it_starts_stops(trained: Registry, tmp_path: Path) -> None:
    with started(tmp_path, trained) as server:
        (worker,) = children_of(server.process.pid)
        os.kill(worker, signal.SIGTERM)
        wait_until(lambda: server.log.read_text().count("Booting worker") == 2, 20, "no other worker starts")
        stop(server, within=20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop_waits_for_nobody(trained: Registry, tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path, trained) as server, Crowd(server, 3, b""), Crowd(server, 3, BEGUN["a body"]) as crowd:
        assert_it_answers(server, {}, statuses={200, 422})
        server.process.send_signal(number)
        assert server.process.wait(10) == 0
        assert crowd.are_let_go()


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced(trained: Registry, tmp_path: Path) -> None:
    environment = {
        "MODEL_REGISTRY": str(trained.location),
        "WEB_CONCURRENCY": "1",
        "GUNICORN_CMD_ARGS": "--timeout 2",
    }
    with running_server(tmp_path / "log.txt", environment) as server:
        time.sleep(3)
        (worker,) = children_of(server.process.pid)  # still there, since it gives signs of life
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: children_of(server.process.pid) not in ([worker], []), 30, "nobody takes its place")
        wait_until(lambda: is_answered(server), 30, "the other does not answer")


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


def answer(client: socket.socket) -> tuple[int, str, bytes]:
    """Status, what becomes of the connection, and body."""
    with closing(HTTPResponse(client)) as response:
        response.begin()
        return response.status, "close" if response.will_close else "keep-alive", response.read()


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


def test_a_connection_that_is_accepted_last_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Connection] = []
    monkeypatch.setattr(worker, "LAST_HANDSHAKES", 0)

    async def finish() -> list[Connection]:
        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            listener.setblocking(False)
            stopping = Worker.__new__(Worker)
            stopping.loop, stopping.sockets, stopping.cfg = asyncio.get_running_loop(), [listener], Config()
            stopping.connections, stopping.arriving, stopping.is_stopping = {}, set(), True
            stopping.asgi, stopping.log, stopping.nr_conns = Mock(), Mock(), 0
            stopping.unread, stopping._quick_shutdown = set(), False
            monkeypatch.setattr(stopping, "welcome", made.append)
            monkeypatch.setattr(stopping, "_look", AsyncMock())
            client = socket.create_connection(listener.getsockname())  # waits in the kernel's queue
            with closing(client):
                await stopping._finish()
                return [*made]

    assert len(asyncio.run(finish())) == 1


@pytest.mark.slow
def test_a_client_that_never_asks_does_not_hold_up_the_stop(stoppable: Server) -> None:
    with closing(connected(stoppable)):
        time.sleep(6)  # by then it waits among the pending ones, whose time gunicorn leaves as it is
        began = time.monotonic()
        stop(stoppable, within=20)
        assert time.monotonic() - began < 10


def test_who_sends_too_much_is_told_so(server: Server) -> None:
    body = bytes(Settings().max_content_length + 1)
    head = f"POST /predict HTTP/1.1\r\nHost: {urlsplit(server.url).netloc}\r\nContent-Length: {len(body)}\r\n"
    for last in ("", "Connection: close\r\n"):
        with closing(connected(server)) as client:
            client.sendall(f"{head}{last}\r\n".encode() + body)
            assert answer(client)[0] == 413


def test_one_worker_of_several_that_stops_leaves_the_others_their_connections(stoppable: Server) -> None:
    send(signal.SIGTERM, workers_of(stoppable)[0])
    for _ in range(50):
        with closing(connected(stoppable)) as client:
            client.sendall(request(stoppable))
            assert answer(client)[0] == 200


def test_head_and_body_are_sent_together(server: Server) -> None:
    for _ in range(20):  # or a proxy would pass on half an answer when the worker is killed in between
        with closing(connected(server)) as client:
            client.sendall(request(server))
            assert client.recv(65536).endswith(b"\r\n\r\n" + OK)


def test_a_file_is_sent_after_its_head(server: Server) -> None:
    with closing(connected(server)) as client:
        client.sendall(request(server).replace(b"/health", b"/page.css"))
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


# clients that hold their connection: none of them may hold a thread, or the main thread


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: a", *lines, "", "")).encode()


LARGE = head("POST", "/output/credit", "Content-Length: 10000000")
BEGUN = {  # what such a client has sent, before it goes on byte by byte
    "nothing": b"",
    "a byte": b"G",
    "a head": b"GET /ready HTTP/1.1\r\nHost: a\r\nX: ",
    "a body": head("POST", "/output/credit", "Content-Length: 5000") + b"{",
    "a large body": LARGE + b"[",
    "a large body of which much has come": LARGE + b"[" + b" " * 200_000,
    "chunks": head("POST", "/output/credit", "Transfer-Encoding: chunked") + b"5\r\n\r\n\r\n[\r\n1000\r\n",
    "a file": head("POST", "/outputs_upload/credit", "Content-Length: 5000") + b"--x",
    "a body that waits to be asked for": head(
        "POST", "/output/credit", "Content-Length: 100000", "Expect: 100-continue"
    ),
}
GREEDY = head("GET", "/openapi.json") * 100  # some MB of answers


class Crowd:
    """Clients that have sent something; `dribbling` ones send a byte more now and then."""

    def __init__(self, server: Server, number: int, data: bytes, receive_buffer: int = 0) -> None:
        parts = urlsplit(server.url)
        self.clients = [socket.socket() for _ in range(number)]
        for client in self.clients:
            if receive_buffer:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            client.settimeout(30)
            client.connect((parts.hostname, parts.port))
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.send(data)

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *exception: object) -> None:
        for client in self.clients:
            client.close()

    @contextmanager
    def dribbling(self, byte: bytes = b" ") -> Iterator[None]:
        ended = threading.Event()

        def dribble() -> None:
            while not ended.wait(0.3):
                for client in self.clients:
                    with suppress(OSError):
                        client.send(byte)

        thread = threading.Thread(target=dribble)
        thread.start()
        yield
        ended.set()
        thread.join()

    def are_let_go(self) -> bool:
        """Whether the server has closed all of them."""
        return all(map(is_closed, self.clients))


def is_closed(client: socket.socket) -> bool:
    try:
        while client.recv(100_000):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def assert_it_answers(
    server: Server, record: dict[str, Any], within: float = 10, statuses: Collection[int] = (200,)
) -> None:
    """Assert it several times. The time allowed is generous, but short compared with the waits of a held thread."""
    for method, path, body in [("GET", "/ready", None), ("POST", "/output/credit", json.dumps(record))] * 3:
        with closing(HTTPConnection(urlsplit(server.url).netloc, timeout=within)) as client:
            client.request(method, path, body)
            assert client.getresponse().status in statuses


def kept_by(server: Server) -> tuple[int, int]:
    """How many files and threads the worker has."""
    process = server.process.pid
    (worker,) = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return len(os.listdir(f"/proc/{worker}/fd")), len(os.listdir(f"/proc/{worker}/task"))  # noqa: PTH208


def started(folder: Path, trained: Registry, most: int = 4_000, **constants: float) -> running_server:
    """A server of one worker that takes so many connections, with other values of constants of the server."""
    environment = {"MODEL_REGISTRY": str(trained.location), "WEB_CONCURRENCY": "1", "MAX_CONNECTIONS": str(most)}
    return running_server(folder / "log.txt", environment, {name_of(name): value for name, value in constants.items()})


def name_of(constant: str) -> str:
    module = next(module for module in (connection, worker) if hasattr(module, constant))
    return f"{module.__name__}.{constant}"


@pytest.fixture(scope="module")
def patient(trained: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one worker, for tests that mistreat it."""
    with started(tmp_path_factory.mktemp("patient"), trained) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(trained: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that soon drops clients that send slowly."""
    with started(tmp_path_factory.mktemp("hasty"), trained, READ_TIMEOUT=1, BODY_TIME=1) as running:
        yield running


@pytest.fixture(scope="module")
def brisk(trained: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that soon drops clients that read slowly."""
    with started(tmp_path_factory.mktemp("brisk"), trained, ANSWER_TIME=3) as running:
        yield running


@pytest.mark.parametrize("begun", BEGUN.values(), ids=BEGUN)
def test_clients_that_have_sent_a_part_and_go_on_byte_by_byte_hold_up_nobody(
    patient: Server, record: dict[str, Any], begun: bytes
) -> None:
    with Crowd(patient, 40, begun) as crowd:
        assert_it_answers(patient, record)
        if begun:
            with crowd.dribbling():
                assert_it_answers(patient, record)


def test_hundreds_of_idle_connections_hold_up_nobody(patient: Server, record: dict[str, Any]) -> None:
    with Crowd(patient, 400, b""), Crowd(patient, 40, head("GET", "/health")):
        assert_it_answers(patient, record)


def test_clients_that_do_not_read_hold_up_nobody(patient: Server, record: dict[str, Any]) -> None:
    with Crowd(patient, 20, GREEDY, receive_buffer=4096):
        time.sleep(2)  # by then all buffers in between are full
        assert_it_answers(patient, record)


def test_clients_that_do_not_close_hold_up_nobody(patient: Server, record: dict[str, Any]) -> None:
    with Crowd(patient, 40, head("GET", "/health", "Connection: close")), Crowd(patient, 40, b"no HTTP\r\n\r\n"):
        assert_it_answers(patient, record)


@pytest.mark.parametrize("begun", BEGUN.values(), ids=BEGUN)
def test_half_closed_connections_hold_up_nobody_and_are_let_go(
    patient: Server, record: dict[str, Any], begun: bytes
) -> None:
    with Crowd(patient, 40, begun) as crowd:
        for client in crowd.clients:
            client.shutdown(socket.SHUT_WR)
        assert_it_answers(patient, record)
        wait_until(crowd.are_let_go, 60, "half-closed connections are kept")


def test_resets_leave_nothing_behind(patient: Server, record: dict[str, Any]) -> None:
    assert_it_answers(patient, record)
    whole = head("GET", "/health")
    for begun in (*BEGUN.values(), *(whole + begun for begun in BEGUN.values()), GREEDY, b"no HTTP\r\n\r\n"):
        with Crowd(patient, 10, begun) as crowd:
            for client in crowd.clients:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert_it_answers(patient, record)
    wait_until(lambda: kept_by(patient)[0] < 60, 60, "connections are kept")
    assert kept_by(patient)[1] < 30
    assert patient.log.read_text().count("Booting worker") == 1


@pytest.mark.parametrize("begun", [begun for begun in BEGUN.values() if begun], ids=list(BEGUN)[1:])
def test_who_dribbles_is_let_go_in_the_end(hasty: Server, begun: bytes) -> None:
    with Crowd(hasty, 9, begun) as crowd, crowd.dribbling():
        wait_until(crowd.are_let_go, 60, "those that dribble are kept")


@pytest.mark.slow
def test_who_reads_nothing_is_let_go_in_the_end(brisk: Server, record: dict[str, Any]) -> None:
    before, _ = kept_by(brisk)
    with Crowd(brisk, 20, GREEDY, receive_buffer=4096):
        wait_until(lambda: kept_by(brisk)[0] > before + 10, 30, "they are not even accepted")
        wait_until(lambda: kept_by(brisk)[0] <= before + 1, 60, "those that do not read are kept")
    assert_it_answers(brisk, record)


def test_who_reads_slowly_gets_all_of_the_answer(brisk: Server) -> None:
    with closing(connected(brisk)) as whole, Crowd(brisk, 1, GREEDY, receive_buffer=16_384) as crowd:
        whole.sendall(head("GET", "/openapi.json"))
        expected = answer(whole)[2]
        (client,) = crowd.clients
        client.settimeout(30)
        received = bytearray()
        while received.count(expected) < 100:
            part = client.recv(30_000)
            assert part, "the connection was closed before"
            received += part
            time.sleep(0.01)  # in all, more than the brisk server gives who takes nothing


def test_answers_that_nobody_takes_are_dropped_when_there_are_too_many(trained: Registry, tmp_path: Path) -> None:
    with started(tmp_path, trained, MOST_UNSENT=1) as server:
        before, _ = kept_by(server)
        with Crowd(server, 20, GREEDY, receive_buffer=4096) as crowd:
            wait_until(lambda: sum(map(is_reset, crowd.clients)) >= 19, 20, "they are kept")
            assert kept_by(server)[0] <= before + 2


def is_reset(client: socket.socket) -> bool:
    """Whether the connection is closed, without reading what would make room for more."""
    state = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state != 1  # TCP_ESTABLISHED


# too many connections


def test_when_there_are_too_many_connections_the_longest_idle_ones_make_room(
    trained: Registry, record: dict[str, Any], tmp_path: Path
) -> None:
    with started(tmp_path, trained, most=100, YOUNG=0.5) as server, Crowd(server, 98, b"") as crowd:
        time.sleep(1.5)  # by then the server has seen that they are idle
        with Crowd(server, 22, head("GET", "/health")) as others:
            wait_until(lambda: len(statuses(others)) == 22, 20, "some are not answered")
            assert statuses(others) == [b"HTTP/1.1 200"] * 22
            assert all(map(is_closed, crowd.clients[:20]))
            assert not any(map(is_closed, crowd.clients[30:]))
            assert_it_answers(server, record)


def test_who_has_just_come_is_not_closed_to_make_room_for_the_next_who_is_told_so(
    trained: Registry, tmp_path: Path
) -> None:
    with started(tmp_path, trained, most=20, YOUNG=30) as server, Crowd(server, 20, b"GET /hea") as crowd:
        time.sleep(1)
        with closing(connected(server)) as one_more:
            one_more.sendall(head("GET", "/health"))
            with closing(HTTPResponse(one_more)) as refused:
                refused.begin()
                assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
                assert refused.headers["Content-Type"] == "application/problem+json"
                assert json.loads(refused.read())["detail"] == "Too many clients are connected."
        assert not any(map(is_closed, crowd.clients))
        with closing(crowd.clients.pop()) as first:
            first.setblocking(True)
            first.sendall(b"lth HTTP/1.1\r\nHost: a\r\n\r\n")
            assert answer(first)[0] == 200
        wait_until(lambda: is_answered(server), 20, "there is no room although one has left")


def is_answered(server: Server) -> bool:
    with closing(connected(server)) as client:
        client.sendall(request(server))
        return answer(client)[0] == 200


@pytest.mark.slow
def test_a_worker_without_file_descriptors_goes_on_when_it_has_some_again(
    trained: Registry, record: dict[str, Any], tmp_path: Path
) -> None:
    with started(tmp_path, trained) as server:
        assert_it_answers(server, record)
        (worker,) = children_of(server.process.pid)
        usual = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (kept_by(server)[0] + 20, usual[1]))
        with Crowd(server, 100, b"") as crowd:
            wait_until(lambda: sum(map(is_closed, crowd.clients)) >= 70, 20, "there are enough file descriptors")
            before = cpu_time(worker)
            time.sleep(1)
            assert cpu_time(worker) - before < 0.5
        resource.prlimit(worker, resource.RLIMIT_NOFILE, usual)
        wait_until(lambda: kept_by(server)[0] < 60, 20, "connections are kept")
        assert_it_answers(server, record)
        assert children_of(server.process.pid) == [worker]


def cpu_time(process: int) -> float:
    """Seconds of computation of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def statuses(crowd: Crowd) -> list[bytes]:
    """The first bytes of the answers that are there."""
    there, _, _ = select.select(crowd.clients, [], [], 0)
    return [client.recv(12, socket.MSG_PEEK) for client in there]


def test_a_body_that_stops_is_told_so(hasty: Server) -> None:
    with closing(connected(hasty)) as client:
        client.sendall(BEGUN["a body"])
        status, connection, text = answer(client)
    assert (status, connection) == (400, "close")
    assert json.loads(text)["detail"] == "The request did not arrive in time."


# what goes on as it did


def test_requests_that_come_together_are_answered_one_after_the_other(server: Server, record: dict[str, Any]) -> None:
    body = json.dumps(record).encode()
    predict = head("POST", "/output/credit", f"Content-Length: {len(body)}") + body
    chunked = head("POST", "/output/credit", "Transfer-Encoding: chunked") + b"%x\r\n%s\r\n0\r\n\r\n" % (
        len(body),
        body,
    )
    together = request(server) + predict + chunked + predict + request(server)
    with closing(connected(server)) as client:
        for part in (together[:700], together[700:]):
            client.sendall(part)
            time.sleep(0.1)
        client.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: client.recv(65536), b""))
    assert received.count(b"HTTP/1.1 200 OK") == 5
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert received.endswith(OK)
    assert received.count(b'"probability"') == 3


def test_a_kept_connection_is_answered_however_much_it_has_sent(server: Server, record: dict[str, Any]) -> None:
    body = json.dumps(record).encode()
    predict = head("POST", "/output/credit", f"X-Long: {'x' * 4_000}", f"Content-Length: {len(body)}") + body
    with closing(connected(server)) as client:
        for _ in range(40):  # 180 kB
            client.sendall(predict)
            assert answer(client)[:2] == (200, "keep-alive")


def test_who_waits_to_be_asked_for_the_body_is_asked_once(server: Server, record: dict[str, Any]) -> None:
    body = json.dumps(record).encode()
    with closing(connected(server)) as client:
        for _ in range(2):
            client.sendall(head("POST", "/output/credit", f"Content-Length: {len(body)}", "Expect: 100-continue"))
            assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(body)
            assert answer(client)[:2] == (200, "keep-alive")


@pytest.mark.parametrize(("lines", "becomes"), [((), "close"), (("Connection: keep-alive",), "keep-alive")])
def test_an_older_client_is_kept_when_it_asks_for_it(server: Server, lines: tuple[str, ...], becomes: str) -> None:
    with closing(connected(server)) as client:
        client.sendall(head("GET", "/health", *lines).replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert answer(client) == (200, becomes, OK)


WRONG = {
    "no carriage return": b"GET /secret HTTP/1.1\n",
    "no HTTP": b"secret\r\n",
    "a long line": b"secret" * 1000,
    "a long path": b"GET /secret?" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n",
    "any bytes": bytes(range(256)),
    "a header without a colon": head("GET", "/", "secret"),
    "a header with a space": head("GET", "/", "secret : 1"),
    "a long header": head("GET", "/", "X: " + "secret" * 2000),
    "many headers": head("GET", "/", *("X: secret" for _ in range(200))),
    "another version": b"GET /secret HTTP/2.0\r\n\r\n",
    "another protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nsecret",
    "two lengths": head("POST", "/predict", "Content-Length: 1", "Content-Length: 2") + b"secret",
    "an endless length": head("POST", "/predict", "Content-Length: " + "9" * 5000),
    "a length that is none": head("POST", "/predict", "Content-Length: secret"),
    "another coding": head("POST", "/predict", "Transfer-Encoding: secret"),
    "a length and chunks": head("POST", "/predict", "Content-Length: 6", "Transfer-Encoding: chunked") + b"secret",
    "a chunk that is none": head("POST", "/predict", "Transfer-Encoding: chunked") + b"secret\r\n",
    "a chunk that is too long": head("POST", "/predict", "Transfer-Encoding: chunked") + b"1\r\nsecret\r\n",
    "a record after a length that is too small": head("POST", "/predict", "Content-Length: 1") + b"{secret\r\n\r\n",
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_what_cannot_become_a_request_is_refused_at_once_and_not_repeated(server: Server, data: bytes) -> None:
    with closing(connected(server)) as client:
        client.settimeout(5)  # a client that has only begun has longer
        client.sendall(data)
        received = b"".join(iter(lambda: client.recv(65536), b""))
    *_, last = received.split(b"HTTP/1.1 ")
    assert last.startswith(b"400 ")
    assert b"\r\nConnection: close\r\n" in last
    assert b"application/problem+json" in last
    assert b"well-formed HTTP." in last
    assert b"secret" not in received.lower()
    assert "secret" not in server.log.read_text().lower()


def test_who_asks_for_another_protocol_is_answered_in_this_one(server: Server) -> None:
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    for lines in (("Upgrade: websocket", key, "Sec-WebSocket-Version: 13"), ("Upgrade: h2c", "HTTP2-Settings: AAMAAA")):
        with closing(connected(server)) as client:
            client.sendall(head("GET", "/health", "Connection: Upgrade", *lines))
            assert answer(client) == (200, "keep-alive", OK)


def test_a_half_closed_client_gets_its_answer(server: Server, record: dict[str, Any]) -> None:
    body = json.dumps(record).encode()
    with closing(connected(server)) as client:
        client.sendall(head("POST", "/output/credit", f"Content-Length: {len(body)}") + body)
        client.shutdown(socket.SHUT_WR)
        assert answer(client)[0] == 200
