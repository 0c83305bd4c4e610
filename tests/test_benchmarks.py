"""What the benchmarks measure with: their figures are worth no more than their clients."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.clients import Address, Clients, Connection, Crowd, LostError, Tally, percentile, request, whole_answer
from benchmarks.stress_report import summary

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
GOODBYE = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(handle: Handler) -> AsyncIterator[Address]:
    """A server for the `async with` block; it ends when all its clients have left."""
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with suppress(ConnectionError):
            await handle(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(run, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()
    if tasks:
        await asyncio.wait(tasks, timeout=20)


def answering(answers: Iterable[bytes]) -> Handler:
    """Answer the requests of a connection so, and then close it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            if not await reader.read(10_000):
                break
            writer.write(answer)

    return handle


async def tally_of(handle: Handler, number: int = 1) -> Tally:
    """What became of the requests of clients until there were twenty."""
    async with listening(handle) as address, Clients(address, [request("GET", "/")], number) as tally:
        async with asyncio.timeout(20):
            while tally.answered + tally.unanswered < 20:
                await asyncio.sleep(0.01)
    return tally


@given(st.integers(200, 599), st.binary(max_size=50), st.booleans(), st.data())
def test_an_answer_is_whole_when_its_last_byte_is_there(status, body, closes, data):
    head = f"HTTP/1.1 {status} X\r\n{'Connection: Close' if closes else 'X: y'}\r\nContent-Length: {len(body)}\r\n\r\n"
    sent = head.encode() + body
    cut = data.draw(st.integers(0, len(sent) - 1))

    assert whole_answer(sent[:cut]) is None
    assert whole_answer(sent)[:2] == (status, closes)
    assert whole_answer(sent).body == body


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_the_smallest_value_that_the_share_does_not_exceed(values, share):
    found = percentile(values, share)

    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_answers_are_counted_by_status():
    tally = asyncio.run(tally_of(answering(cycle([OK, OK, BUSY]))))

    assert tally.answered > tally.statuses[503] > 0
    assert not tally.lost.total()


def test_a_request_without_an_answer_is_lost():
    tally = asyncio.run(tally_of(answering([b""])))

    assert tally.answered == 0
    assert tally.lost.total() >= 20


def test_half_an_answer_is_lost():
    tally = asyncio.run(tally_of(answering([OK[:-1]])))

    assert tally.answered == 0
    assert tally.lost.total() >= 20


def test_clients_honour_a_goodbye():
    tally = asyncio.run(tally_of(answering([OK, GOODBYE]), number=3))

    assert tally.unanswered == 0
    assert tally.answered >= 20


def test_a_client_with_a_schedule_asks_no_faster():
    async def count() -> Tally:
        async with listening(answering(cycle([OK]))) as address:
            async with Clients(address, [request("GET", "/")], 5, rate=20) as tally:
                await asyncio.sleep(0.5)
            return tally

    assert 1 <= asyncio.run(count()).answered <= 12


def test_nobody_listens_and_nothing_is_lost():
    async def ask() -> Tally:
        async with listening(answering([])) as address:
            pass
        async with Clients(address, [request("GET", "/")]) as tally, asyncio.timeout(20):
            while not tally.not_connected:
                await asyncio.sleep(0.01)
        return tally

    tally = asyncio.run(ask())

    assert tally.unanswered == tally.answered == 0


def test_a_refusal_before_the_request_is_its_answer():
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(BUSY)
        await reader.read(10_000)

    async def ask() -> int:
        async with listening(refuse) as address:
            connection = await Connection.open(address)
            await asyncio.sleep(0.05)
            status = (await connection.ask(request("GET", "/"))).status
            connection.close()
            return status

    assert asyncio.run(ask()) == 503


def test_asking_on_a_connection_that_breaks_says_so():
    async def ask() -> None:
        async with listening(answering([b""])) as address:
            await (await Connection.open(address)).ask(request("GET", "/"))

    with pytest.raises(LostError):
        asyncio.run(ask())


def test_the_crowd_comes_in_all_its_kinds(monkeypatch):
    monkeypatch.setattr(Crowd, "IDLE", 3)
    monkeypatch.setattr(Crowd, "DRIBBLING", 2)
    monkeypatch.setattr(Crowd, "HALF_CLOSED", 1)
    monkeypatch.setattr(Crowd, "BYTE_EVERY", 0.01)
    received: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = len(received)
        received.append(b"")
        try:
            while data := await reader.read(10_000):
                received[place] += data
            received[place] += b"<end>"
        except ConnectionResetError:
            received[place] += b"<reset>"

    def is_complete() -> bool:
        return (
            sum(one == b"" for one in received) >= 3
            and any(b"X-Slow: aaa" in one for one in received)
            and any(b"{  " in one for one in received)
            and any(one.endswith(b"{<end>") for one in received)
            and any(one.endswith(b"<reset>") for one in received)
        )

    async def watch() -> bool:
        async with listening(listen) as address, Crowd(address, "/").there(), asyncio.timeout(20):
            while not is_complete():
                await asyncio.sleep(0.01)
        return True

    assert asyncio.run(watch())


def test_a_summary_has_medians_but_the_slowest_probe_and_all_losses():
    rounds = [
        {"crowd_p99_ms": p99, "quiet_p99_ms": 2.0, "crowd_ready_ms": ready, "lost_400": lost}
        for p99, ready, lost in ((3.0, 5.0, 0), (4.0, 90.0, 2), (90.0, 4.0, 1))
    ]

    assert summary(rounds) == {
        "crowd_p99_ms": 4.0,
        "quiet_p99_ms": 2.0,
        "crowd_p99_ratio": 2.0,
        "crowd_ready_ms": 90.0,
        "lost_400": 3,
    }
