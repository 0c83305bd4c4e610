"""How much of a request has arrived, and a socket that never blocks."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import RequestParser
from hypothesis import given
from hypothesis import strategies as st

from tabserve.api import connection
from tabserve.api.connection import SMALL, Arrived, Client, Connection, arrived

ENOUGH = {Arrived.WHOLE, Arrived.LONG}


def request(path: str, body: bytes, *lines: str, method: str = "POST") -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: a", *lines, "", "")).encode() + body


def of_length(path: str, body: bytes, name: str = "Content-Length") -> bytes:
    return request(path, body, f"{name}: {len(body)}")


REQUESTS = st.one_of(
    st.just(request("/health", b"", method="GET")),
    st.binary(max_size=300).map(lambda body: of_length("/output/credit", body)),
    st.binary(min_size=1, max_size=300).map(
        lambda body: request("/predict", b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), "Transfer-Encoding: chunked")
    ),
    st.binary(max_size=300).map(lambda body: b"\r\n" + of_length("/predict", body, "cOntent-lEngth")),
)


def parsed(data: bytes) -> Any:
    """The request and its body as gunicorn reads them; None when more is needed."""
    try:
        whole = next(RequestParser(Config(), iter([data]), ("127.0.0.1", 1)))
        length = dict(whole.headers).get("CONTENT-LENGTH")
        body = whole.body.read()
    except (StopIteration, OSError):
        return None
    except Exception as error:
        return error
    return None if length and len(body) < int(length) else whole


@given(REQUESTS, st.data())
def test_a_request_is_whole_when_all_of_it_is_there_and_not_before(whole: bytes, data: st.DataObject) -> None:
    assert arrived(whole) in ENOUGH
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]
    is_chunked = b"Transfer-Encoding" in whole  # where its end may be seen too early, for a thread that waits
    assert arrived(part) not in ({Arrived.WHOLE} if is_chunked else ENOUGH)
    assert parsed(whole) is not None


@given(REQUESTS, st.binary(max_size=50))
def test_what_follows_a_request_does_not_matter(whole: bytes, more: bytes) -> None:
    assert arrived(whole + more) is arrived(whole)


@given(st.binary(max_size=200) | st.builds(lambda head, more: head[:30] + more, REQUESTS, st.binary(max_size=30)))
def test_whatever_gunicorn_can_answer_is_handed_over(data: bytes) -> None:
    if not isinstance(parsed(data), Exception | None):
        assert arrived(data) in ENOUGH
    assert (arrived(data) is Arrived.NOTHING) == (not data)


@pytest.mark.parametrize(
    "line", ["GET / HTTP/1.0", "OPTIONS * HTTP/1.1", "M-SEARCH http://a/b HTTP/1.1", "POST /%20?a=b HTTP/1.1"]
)
def test_the_beginning_of_a_request_may_become_one(line: str) -> None:
    for data in (line[:5], line, line + "\r", line + "\r\n", line + "\r\nHost: a\r\n", "\r\n" + line + "\r\n"):
        assert arrived(data.encode()) is Arrived.HEAD


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\n", b"no HTTP\r\n", b"GET / HTTP/2.0\r\n", b"x" * 5000, b"\x16\x03\x01\r\n", b"\r\n\r\n"]
)
def test_what_cannot_become_a_request_needs_no_more(data: bytes) -> None:
    assert arrived(data) is Arrived.WHOLE


@pytest.mark.parametrize(
    "path",
    ["/outputs_upload/credit", "/outputs/credit", "/outputs%5fupload/credit", "/%6f%75tputs/credit", "//outputs"],
)
def test_files_are_long_however_short_they_are(path: str) -> None:
    assert arrived(of_length(path, b"x")) is Arrived.LONG
    assert arrived(of_length(path, b"x")[:-1]) is Arrived.BODY


def test_a_large_body_is_long_when_much_of_it_is_there() -> None:
    data = of_length("/predict", bytes(SMALL))
    assert arrived(data[: SMALL - 1]) is Arrived.BODY
    assert arrived(data[:SMALL]) is Arrived.LONG
    assert arrived(b"GET / HTTP/1.1\r\n" + b"x" * SMALL) is Arrived.LONG


@pytest.fixture
def pair() -> Iterator[tuple[Client, socket.socket]]:
    """A client as the server sees it, and the client."""
    listener = socket.create_server(("127.0.0.1", 0))
    theirs = socket.create_connection(listener.getsockname(), 30)
    ours = Client(listener.accept()[0])
    listener.close()
    with ours, theirs:
        yield ours, theirs


def test_what_the_client_does_not_take_waits(pair: tuple[Client, socket.socket]) -> None:
    ours, theirs = pair
    parts = [bytes([number]) * 1_000_000 for number in range(20)]
    for part in parts:
        ours.sendall(part)
    assert ours.unsent > 0
    received = bytearray()
    while len(received) < 20_000_000:
        received += theirs.recv(1 << 20)
        ours.send_now()
    assert received == b"".join(parts)
    assert ours.unsent == 0
    assert ours.send_now() == 0


def test_a_thread_waits_for_data_as_long_as_it_may_in_all(pair: tuple[Client, socket.socket]) -> None:
    ours, theirs = pair
    ours.setblocking(True)  # as gunicorn does, in vain
    ours.settimeout(None)
    with pytest.raises(BlockingIOError):
        ours.recv(10)
    ours.allow(30)
    threading.Timer(0.2, theirs.sendall, [b"12"]).start()
    assert ours.recv(10) == b"12"
    ours.allow(0)
    with pytest.raises(BlockingIOError):
        ours.recv(10)


def test_a_thread_waits_for_a_slow_client_less_long(
    pair: tuple[Client, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = pair
    monkeypatch.setattr(connection, "BEGINNING", -0.8)  # what has arrived before is worth a second
    ours.allow(30)
    began = time.monotonic()
    with pytest.raises(BlockingIOError):
        ours.recv(10)
    assert time.monotonic() - began < 20


def test_a_connection_collects_a_request(pair: tuple[Client, socket.socket]) -> None:
    ours, theirs = pair
    whole = of_length("/predict", b"12")
    with closing(Connection(Config(), ours, ("127.0.0.1", 1), ("127.0.0.1", 2))) as conn:
        with pytest.raises(BlockingIOError):
            conn.receive()
        for part in (whole[:20], whole[20:]):
            theirs.sendall(part)
            while True:
                with suppress(BlockingIOError):
                    assert conn.receive()
                    break
        assert conn.received == whole
        assert conn.parsed_head().path == "/predict"
        assert next(conn.parser).body.read() == b"12"
        theirs.close()
        while True:
            with suppress(BlockingIOError):
                assert not conn.receive()
                break
