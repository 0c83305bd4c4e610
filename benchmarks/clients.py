"""Clients on one event loop: some that ask and account for every request, and a crowd that only holds a service up.

A request is lost when it was sent and no whole answer came back. It is not lost when no connection could be made, or
when the client knew before it sent that the server had closed: a client can then ask again without a doubt.
"""

import asyncio
import re
import socket
import struct
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, NamedTuple, Self

Address = tuple[str, int]
PATIENCE = 30  # seconds without an answer, after which a request is lost
CONNECT_WITHIN = 5  # seconds
AGAIN = 0.02  # seconds until a client that could not connect tries again
LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n")
CLOSES = b"\r\nconnection: close\r\n"


class LostError(Exception):
    """A request was sent, and no whole answer came."""


class Answer(NamedTuple):
    """What came back, and whether the server closes the connection."""

    status: int
    closes: bool
    head: bytes  # in small letters
    body: bytes


def whole_answer(received: bytes) -> Answer | None:
    """The answer in these bytes; None while some of it is missing."""
    end_of_head = received.find(b"\r\n\r\n") + 4
    if end_of_head < 4:
        return None
    head = received[:end_of_head].lower()
    length = LENGTH.search(head)
    end = end_of_head + int(length[1] if length else 0)
    if len(received) < end:
        return None
    return Answer(int(head[9:12]), CLOSES in head, head, received[end_of_head:end])


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of a request; `_` in a header's name stands for `-`."""
    lines = {"Host": "127.0.0.1", "Content-Type": "application/json", "Content-Length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


class Connection(asyncio.Protocol):
    """A connection that takes one request at a time."""

    transport: Any

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answer: asyncio.Future[Answer] | None = None
        self._received = b""

    @classmethod
    async def open(cls, address: Address) -> Self:
        """Connect; an OSError if that fails."""
        async with asyncio.timeout(CONNECT_WITHIN):  # its TimeoutError is an OSError
            return (await asyncio.get_running_loop().create_connection(cls, *address))[1]

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed it."""
        return not self.closed.done()

    async def ask(self, request: bytes) -> Answer:
        """Send a request and wait for all of its answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        self.data_received(b"")  # a server that refuses the connection may have answered already
        answer = await self._answer
        if answer.closes:
            self.close()
        return answer

    def close(self) -> None:
        """Close it."""
        self.connection_lost(None)
        self.transport.close()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._answer and not self._answer.done() and (answer := whole_answer(self._received)):
            self._received = b""
            self._answer.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(LostError(type(error).__name__ if error else "closed"))
        if self.is_open:
            self.closed.set_result(None)


class Tally:
    """What became of the requests: seconds until the whole answer, by status, and those lost, by what happened."""

    def __init__(self) -> None:
        self.seconds: defaultdict[int, list[float]] = defaultdict(list)
        self.lost: Counter[str] = Counter()
        self.not_connected = 0
        self.late: list[float] = []  # seconds by which the client itself was late to send

    @property
    def answered(self) -> int:
        """How many were answered with 200."""
        return len(self.seconds[200])

    @property
    def statuses(self) -> dict[int, int]:
        """How many were answered with each status."""
        return {status: len(seconds) for status, seconds in self.seconds.items()}

    @property
    def unanswered(self) -> int:
        """How many were sent and not answered with 200."""
        return self.lost.total() + sum(self.statuses.values()) - self.answered

    def milliseconds(self, share: float, status: int = 200) -> float:
        """The time within which this share was answered with a status."""
        return percentile(self.seconds[status], share) * 1e3


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share does not exceed; 0 of nothing."""
    return sorted(values)[max(0, -int(-share * len(values) // 1) - 1)] if values else 0.0


class Clients:
    """Clients that ask, each on its own connection and schedule, while the `async with` block runs.

    Parameters
    ----------
    address : tuple
        Host and port.
    requests : sequence of bytes
        Sent in turn.
    number : int
        How many clients there are, each with one request at a time.
    rate : float, optional
        Requests a second of all clients together. One whose answer is late sends the next as soon as it has it; what
        it could not send meanwhile is not made up for. Without a rate, each sends as soon as it has its answer.
    """

    def __init__(self, address: Address, requests: Sequence[bytes], number: int = 1, rate: float | None = None) -> None:
        self._address, self._requests, self._number = address, requests, number
        self._step = 1 / rate if rate else 0.0
        self._has_ended = False
        self._next = count()
        self.tally = Tally()

    async def __aenter__(self) -> Tally:
        start = time.perf_counter()
        self._tasks = [asyncio.create_task(self._run(start + one * self._step)) for one in range(self._number)]
        return self.tally

    async def __aexit__(self, *exception: object) -> None:
        self._has_ended = True
        _, unfinished = await asyncio.wait(self._tasks, timeout=PATIENCE)
        self.tally.lost["no answer in time"] += len(unfinished)
        await cancelled(self._tasks)

    async def _run(self, due: float) -> None:
        connection: Connection | None = None
        while await self._is_due(due):
            began = time.perf_counter()
            try:
                if connection is None or not connection.is_open:
                    connection = await Connection.open(self._address)
                request = self._requests[next(self._next) % len(self._requests)]
                answer = await connection.ask(request)
            except OSError:
                self.tally.not_connected += 1
                await asyncio.sleep(AGAIN)
            except LostError as error:
                self.tally.lost[str(error)] += 1
            else:
                self.tally.seconds[answer.status].append(time.perf_counter() - began)
            due = max(due + self._step * self._number, time.perf_counter())
        if connection:
            connection.close()

    async def _is_due(self, due: float) -> bool:
        pause = due - time.perf_counter()
        if pause > 0:
            await asyncio.sleep(pause)
            self.tally.late.append(time.perf_counter() - due)
        return not self._has_ended


async def cancelled(tasks: Sequence["asyncio.Task[Any]"]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Crowd:
    """Clients that do not ask as they should; each comes back when the service has closed its connection.

    Parameters
    ----------
    address : tuple
        Host and port.
    path : str
        Where those post to who send something.
    """

    IDLE, DRIBBLING, HALF_CLOSED = 2_000, 200, 50
    BYTE_EVERY = 2.0  # seconds between two bytes of one who dribbles
    COMES_BACK = 1.0  # seconds after it was disconnected
    RESETS = 100  # a second
    ARRIVALS = 1_000  # a second

    def __init__(self, address: Address, path: str) -> None:
        self._address = address
        self._head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n".encode()
        self._begun_body = self._head + b"Content-Length: 1000\r\n\r\n{"
        self.counts: Counter[str] = Counter()

    @asynccontextmanager
    async def there(self) -> AsyncIterator[Counter[str]]:
        """Be there while the `async with` block runs; what happened is counted."""
        roles = [*self._roles()]
        tasks = [asyncio.create_task(self._after(place / self.ARRIVALS, role)) for place, role in enumerate(roles)]
        try:
            yield self.counts
        finally:
            await cancelled(tasks)

    def _roles(self) -> Iterator[Coroutine[Any, Any, None]]:
        yield self._reset_storm()
        yield from (self._hold(b"") for _ in range(self.IDLE))
        yield from (self._hold(self._head + b"X-Slow: ", b"a") for _ in range(self.DRIBBLING // 2))
        yield from (self._hold(self._begun_body, b" ") for _ in range(self.DRIBBLING // 2))
        yield from (self._hold(self._begun_body, half_close=True) for _ in range(self.HALF_CLOSED))

    async def _after(self, seconds: float, role: Coroutine[Any, Any, None]) -> None:
        try:
            await asyncio.sleep(seconds)
            await role
        finally:
            role.close()

    async def _hold(self, first: bytes, byte: bytes = b"", half_close: bool = False) -> None:
        while True:
            with suppress(OSError):
                connection = await Connection.open(self._address)
                self.counts["connections"] += 1
                try:
                    await self._occupy(connection, first, byte, half_close)
                finally:
                    connection.close()
            await asyncio.sleep(self.COMES_BACK)

    async def _occupy(self, connection: Connection, first: bytes, byte: bytes, half_close: bool) -> None:
        connection.transport.write(first)
        if half_close:
            connection.transport.write_eof()
        while byte and connection.is_open:
            connection.transport.write(byte)
            await asyncio.wait([connection.closed], timeout=self.BYTE_EVERY)
        await connection.closed
        self.counts["closed"] += 1

    async def _reset_storm(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with socket.socket() as client, suppress(OSError):
                client.setblocking(False)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no goodbye
                await loop.sock_connect(client, self._address)
                client.send(self._begun_body)
                self.counts["resets"] += 1
            await asyncio.sleep(1 / self.RESETS)
