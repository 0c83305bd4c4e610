"""A client's connection: what arrives is read in order and as a whole, and in turns with what others send."""

import asyncio
import itertools
import socket
from collections.abc import Awaitable, Callable
from math import inf
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from gunicorn.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st

from tabserve.api.certain import Certain, Reply
from tabserve.api.connection import SLICE, Connection, Phase

TINY = b"1\r\nx\r\n"  # a chunk of a byte
MANY = 40_000


class Echo:
    """An application that answers with what it was sent."""

    def __init__(self) -> None:
        self.nr_messages = self.nr_turns = 0  # messages of all bodies; turns of the loop until the last was whole

    def at_once(self, scope: Any, body: bytes, reply: Reply) -> bool:
        return False

    def refused(self, reason: str, status: int) -> None:
        """Nobody counts."""

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]) -> None:
        self.nr_turns = 0
        self._count()
        body, is_whole = b"", False
        while not is_whole:
            message = await receive()
            self.nr_messages += 1
            assert message["type"] == "http.request"
            body += message["body"]
            is_whole = not message["more_body"]
        self._turn.cancel()
        length = (b"Content-Length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    def _count(self) -> None:
        self.nr_turns += 1
        self._turn = asyncio.get_running_loop().call_soon(self._count)


class Later(Echo):
    """An echo that answers plain requests without a task: at once, some turns of the loop later, or not.

    Parameters
    ----------
    turns : sequence of int or None
        For each plain request, in turns of the loop; None leaves it to a task.
    """

    def __init__(self, turns: list[int | None]) -> None:
        super().__init__()
        self._turns = itertools.cycle(turns)

    def at_once(self, scope: Any, body: bytes, reply: Reply) -> bool:
        turns = next(self._turns)
        if turns is None:
            return False
        headers = [(b"Content-Length", b"%d" % len(body))]
        self._reply_in(turns, lambda: reply(Certain(200, headers, body)))
        return True

    def _reply_in(self, turns: int, reply: Callable[[], None]) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._reply_in, turns - 1, reply)
        else:
            reply()


async def connected(application: Echo) -> tuple[Connection, socket.socket]:
    """A connection and its client's end."""
    loop = asyncio.get_running_loop()
    config = Config()
    config.set("http_parser", "python")
    known = {"cfg": config, "loop": loop, "asgi": application, "log": Mock(), "alive": True, "max_requests": 10**9}
    worker = SimpleNamespace(**known, most_requests=10**9, is_stopping=False, nr=0, nr_conns=0)
    worker.welcome = worker.forget = worker.bound_unsent = Mock()
    worker.unread = set()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    _, connection = await loop.connect_accepted_socket(lambda: Connection(worker), ours)
    return connection, theirs


async def talk(application: Echo, parts: list[bytes], ends: bool = True) -> bytes:
    """What is answered to parts of requests that arrive one after the other."""
    connection, theirs = await connected(application)
    reader, writer = await asyncio.open_connection(sock=theirs)
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)
    if ends:
        writer.write_eof()
    else:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    reading = asyncio.ensure_future(reader.read())
    while not reading.done():
        await asyncio.wait([reading], timeout=0.05)
        connection.look(asyncio.get_running_loop().time())  # as the worker does
    writer.close()
    connection.transport.abort()
    return reading.result()


def said(application: Echo, parts: list[bytes], ends: bool = True) -> bytes:
    return asyncio.run(asyncio.wait_for(talk(application, parts, ends), 60))


def with_length(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def in_chunks(body: bytes, size: int) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n" % chunks


def bodies_in(answers: bytes) -> list[bytes]:
    """The bodies of answers that came one after the other."""
    bodies = []
    while answers:
        head, _, answers = answers.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        bodies.append(answers[:length])
        answers = answers[length:]
    return bodies


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30_000), st.sampled_from([0, 1, 3, 1000])), min_size=1, max_size=5),
    st.lists(st.floats(0, 1), max_size=4),
    st.booleans(),
)
def test_all_requests_are_answered_in_order_however_they_are_cut(
    requests: list[tuple[int, int]], cuts: list[float], ends: bool
) -> None:
    bodies = [bytes([65 + number]) * length for number, (length, _) in enumerate(requests)]
    whole = b"".join(
        in_chunks(body, size) if size else with_length(body) for body, (_, size) in zip(bodies, requests, strict=True)
    )
    places = [0, *sorted(int(cut * len(whole)) for cut in cuts), len(whole)]
    parts = [whole[start:end] for start, end in itertools.pairwise(places)]
    assert bodies_in(said(Echo(), parts, ends)) == bodies + [b""] * (not ends)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=8),
    st.lists(st.sampled_from([0, 1, 2, 5, 30, None]), min_size=1, max_size=8),
    st.lists(st.floats(0, 1), max_size=8),
    st.booleans(),
)
def test_answers_that_come_later_come_in_order_however_requests_are_cut(
    lengths: list[int], turns: list[int | None], cuts: list[float], ends: bool
) -> None:
    bodies = [bytes([65 + number]) * length for number, length in enumerate(lengths)]
    requests = [with_length(body) for body in bodies]
    whole = b"".join(requests)
    places = [int(cut * len(whole)) for cut in cuts]
    places += itertools.accumulate(map(len, requests))  # most arrive whole, and so may be answered without a task
    parts = [whole[start:end] for start, end in itertools.pairwise(sorted({0, *places}))]
    assert bodies_in(said(Later(turns), parts, ends)) == bodies + [b""] * (not ends)


def test_a_client_that_leaves_before_a_late_answer_is_forgotten() -> None:
    async def leave() -> Connection:
        connection, theirs = await connected(Later([3]))
        theirs.send(with_length(b"a"))
        while connection.phase is not Phase.WORK:
            await asyncio.sleep(0)
        connection.drop()
        theirs.close()
        for _ in range(10):
            await asyncio.sleep(0)
        return connection

    connection = asyncio.run(leave())
    assert connection.transport is None or connection.transport.is_closing()
    assert connection.log.exception.call_count == 0


@pytest.mark.parametrize("before", [0, 1], ids=["first", "after another request"])
def test_others_have_their_turn_while_many_chunks_are_read(before: int) -> None:
    application = Echo()
    answers = said(application, [with_length(b"a") * before + in_chunks(b"x" * MANY, 1)])
    assert bodies_in(answers) == [b"a"] * before + [b"x" * MANY]
    assert application.nr_turns > MANY * len(TINY) / SLICE / 2


def test_pieces_of_a_body_that_are_read_together_are_passed_on_together() -> None:
    application = Echo()  # each would take a hundred bytes
    assert bodies_in(said(application, [in_chunks(b"x" * MANY, 1)])) == [b"x" * MANY]
    assert application.nr_messages < MANY / 100


def test_an_idle_connection_whose_request_has_come_and_is_not_read_yet_is_answered() -> None:
    async def look_late() -> tuple[bytes, bytes]:
        loop = asyncio.get_running_loop()
        connection, theirs = await connected(Echo())
        with theirs:
            theirs.sendall(with_length(b"a"))
            connection.look(inf)  # the loop was held up, and looks before it reads
            theirs.setblocking(False)
            answered = await asyncio.wait_for(loop.sock_recv(theirs, 1000), 10)
            connection.look(inf)
            ended = await asyncio.wait_for(loop.sock_recv(theirs, 1000), 10)
            connection.transport.abort()
            await asyncio.sleep(0)
        return answered, ended

    answered, ended = asyncio.run(look_late())
    assert bodies_in(answered) == [b"a"]
    assert ended == b""
