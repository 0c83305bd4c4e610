"""A client's connection: how much of a request has arrived, and what is still to be sent."""

import re
import select
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from io import SEEK_END
from socket import socket
from typing import Any
from urllib.parse import unquote_to_bytes

from gunicorn.http import RequestParser
from gunicorn.workers.gthread import TConn

SMALL = 64 * 1024  # bytes of a request, head included, up to which it is collected before it gets a thread
BODY_TIME = 30  # seconds for a whole body, however it arrives
BEGINNING = 5  # seconds that a large body may take beyond the pace of SLOWEST
SLOWEST = 64 * 1024  # bytes a second at which a client must send a large body or take a large answer

LINE = re.compile(rb"[^a-z\s]+ \S+ HTTP/1\.[0-9]")
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*0*([0-9]{1,15})[ \t]*\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
LONGEST_LINE = 4096  # bytes of a request's first line; gunicorn refuses longer ones
LONG_WORK = b"/outputs"  # in the paths that take whole files, where even a few kB may take long


class Arrived(Enum):
    """How much of a request has arrived."""

    NOTHING = auto()
    HEAD = auto()  # a part of it
    BODY = auto()  # the head and a part of the body
    WHOLE = auto()  # all of it, or enough to refuse it: a thread need not wait for the client
    LONG = auto()  # enough for a thread that may take long: it reads a large body itself, or works on a file


def arrived(data: bytes) -> Arrived:
    """Say how much of a request has arrived.

    It need not understand everything that gunicorn's parser does: where it is wrong about a whole request, the thread
    does not wait for more.

    Parameters
    ----------
    data : bytes
        All that was received and is not answered yet.
    """
    if not data:
        return Arrived.NOTHING
    line, line_ends, _ = data.removeprefix(b"\r\n").partition(b"\r\n")
    end = data.find(b"\r\n\r\n") + 4
    if end < 4:
        is_malformed = data.count(b"\n") != data.count(b"\r\n") or len(line) > LONGEST_LINE
        if is_malformed or (line_ends and not LINE.fullmatch(line)):
            return Arrived.WHOLE
        return Arrived.HEAD if len(data) < SMALL else Arrived.LONG
    head = data[:end]
    if CHUNKED.search(head):
        is_incomplete, is_long = data.find(b"\r\n\r\n", end) < 0, True  # after the last chunk
    else:
        length = LENGTH.search(head)
        is_incomplete = len(data) < end + int(length[1] if length else 0)
        is_long = LONG_WORK in unquote_to_bytes(line)
    if is_incomplete:
        return Arrived.BODY if len(data) < SMALL else Arrived.LONG
    return Arrived.LONG if is_long else Arrived.WHOLE


class Client(socket):
    """The socket of a connection, which never blocks.

    It keeps the part of an answer that the client does not take at once, so that no thread waits to send it. A thread
    may wait for data, for the total time that `allow` grants.

    Parameters
    ----------
    accepted : socket
        What a listening socket has accepted; this one replaces it.
    """

    def __init__(self, accepted: socket) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, accepted.detach())
        super().settimeout(0)
        self._unsent: deque[memoryview] = deque()
        self._began = self._until = self._received = 0.0

    def settimeout(self, value: float | None) -> None:
        """Do nothing: gunicorn would switch to blocking and back."""

    def setblocking(self, flag: bool) -> None:
        """Do nothing: gunicorn would switch to blocking and back."""

    def allow(self, seconds: float) -> None:
        """Let a thread wait this long for a large body; with 0, not at all."""
        self._began = time.monotonic() if seconds else 0.0
        self._until = self._began + seconds
        self._received = SMALL

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Read in a thread; BlockingIOError when the allowed time is over."""
        while True:
            try:
                data = super().recv(size, flags)
            except BlockingIOError:
                until = min(self._until, self._began + BEGINNING + self._received / SLOWEST)
                left = until - time.monotonic()
                if left <= 0:
                    raise
                _wait_for_data(self, left)
            else:
                self._received += len(data)
                return data

    def recv_now(self, size: int) -> bytes:
        """Read what is there; BlockingIOError when nothing is."""
        return super().recv(size)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send what the client takes at once, and keep the rest."""
        if not self._unsent:
            with suppress(BlockingIOError):
                data = memoryview(data)[self.send(data) :]
        if data:
            self._unsent.append(memoryview(data))
            self.send_now()

    def send_now(self) -> int:
        """Send as much of what waits as the client takes; return how many bytes that was."""
        total = 0
        while self._unsent:
            try:
                sent = self.send(self._unsent[0])
            except BlockingIOError:
                break
            total += sent
            self._unsent[0] = self._unsent[0][sent:]
            if not self._unsent[0]:
                self._unsent.popleft()
        return total

    @property
    def unsent(self) -> int:
        """How many bytes wait to be sent."""
        return sum(map(len, self._unsent)) if self._unsent else 0


def _wait_for_data(client: socket, seconds: float) -> None:
    poll = select.poll()
    poll.register(client, select.POLLIN)
    poll.poll(1000 * seconds)


class Connection(TConn):  # type: ignore[misc]
    """gthread's connection, and what the worker's main thread knows about it.

    Attributes
    ----------
    there : Arrived
        How much of the next request has arrived.
    begun : float
        When `there` last changed.
    timeout : float
        When the connection is closed if it is still waiting.
    then : callable
        What the worker does when the client has sent something, or can take more.
    is_kept : bool
        Whether another request may follow.
    """

    sock: Client

    def __init__(self, cfg: Any, client: Client, address: Any, server: Any) -> None:
        super().__init__(cfg, client, address, server)
        self.parser = RequestParser(cfg, client, address)
        self.there = Arrived.NOTHING
        self.begun = self.timeout = 0.0
        self.is_kept = True
        self.watched = 0  # the event that the poller watches for
        self.then: Callable[[Connection], None]
        self.was_told_to_go_on = False  # by "100 Continue"

    @property
    def received(self) -> bytes:
        """What was received and is not answered yet."""
        data: bytes = self.parser.unreader.buf.getvalue()
        return data

    def receive(self) -> bool:
        """Collect what has arrived; return whether the client may send more."""
        data = self.sock.recv_now(SMALL)
        buffer = self.parser.unreader.buf
        buffer.seek(0, SEEK_END)
        buffer.write(data)
        return bool(data)

    def parsed_head(self) -> Any:
        """The request whose head has arrived.

        Raises
        ------
        ParseException
            When the head is malformed.
        """
        return next(RequestParser(self.cfg, iter([self.received]), self.client))
