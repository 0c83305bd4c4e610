"""What the benchmarks measure with: their figures are worth no more than their clients."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.clients import Address, Clients, Connection, Crowd, LostError, Tally, percentile, request, whole_answer
from benchmarks.scale_data import USE_CASE, write
from benchmarks.scale_report import Curve, beyond, document, exponent, line
from benchmarks.scale_steps import FOLDER, STEPS
from benchmarks.stress_report import summary
from tabserve.registry.registry import Registry
from tabserve.tables.reader import read_training_table

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


def curve(**values: float) -> Curve:
    """CPU seconds, equal to peak MB, by rows."""
    return {int(rows[1:]): {"cpu": value, "peak": value} for rows, value in values.items()}


@given(st.floats(0.2, 2), st.floats(1e-6, 10))
def test_the_exponent_of_a_power_is_found(power: float, factor: float) -> None:
    sizes = {f"n{rows}": factor * rows**power for rows in (10_000, 100_000, 1_000_000)}
    assert exponent(curve(**sizes), "cpu") == pytest.approx(power)


def test_one_size_has_no_exponent() -> None:
    assert exponent(curve(n10=1), "cpu") is None


def test_a_fixed_cost_and_what_each_row_adds_are_told_apart() -> None:
    assert line(curve(n10=9, n100000=200, n11000=111), "peak") == pytest.approx((100, 0.001))


def test_what_is_beyond_follows_from_the_exponent_and_from_the_line() -> None:
    linear = curve(n1000=1, n10000=10)
    assert beyond(linear, 1_000_000) == pytest.approx((1000, 1000))
    quadratic = curve(n1000=1, n10000=100)
    assert beyond(quadratic, 100_000)[0] == pytest.approx(10_000)
    faster_than_rows = curve(n1000=10, n10000=11)  # a fixed cost: rows still take their time
    assert beyond(faster_than_rows, 100_000)[0] == pytest.approx(110)


def test_memory_that_hardly_grows_counts_as_constant() -> None:
    assert beyond({1000: {"cpu": 1, "peak": 200}, 1_000_000: {"cpu": 1, "peak": 240}}, 10**8)[1] == 240


def test_the_report_says_what_was_measured_and_what_was_not() -> None:
    curves = {step: curve(n10000=0.1, n1000000=20) for step in STEPS} | {
        "read XLSX": curve(n10000=0.3),
        "trees: compiled": {},
    }
    text = document(curves, {"machine": "2 cores; load average 12.5"}, [10_000, 1_000_000], 1)
    assert "| read CSV | 0.10 | 20.00 | 20.00 | **1.15** |" in text
    assert "| read XLSX | 0.30 |  | 30.00 |  |" in text
    assert "trees: compiled" not in text
    assert "| machine | 2 cores; load average 12.5 |" in text
    assert "| Parquet to Parquet, LightGBM | 1,000,000 | 7 | 20.00 | 20 | missed |" in text
    assert "| CSV upload, answered as JSON, without the trees | 1,000,000 | 3 | 0.00 | 20 | reached |" in text


@pytest.mark.parametrize("kind", ["csv", "parquet", "xlsx"])
def test_the_tables_are_the_same_again_and_the_declaration_allows_them(kind: str, tmp_path: Path) -> None:
    first, second = (tmp_path / f"{place}.{kind}" for place in range(2))
    for path in (first, second):
        write(path, 300)
    table, other = (read_training_table(path, USE_CASE.features, USE_CASE.target.feature) for path in (first, second))
    assert len(table.records) == 300
    assert table.records == other.records
    assert set(table.target or ()) == {1, 2}


@pytest.fixture(scope="module")
def few_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tables of 500 rows."""
    folder = tmp_path_factory.mktemp("scale")
    for kind in ("csv", "parquet", "xlsx"):
        write(folder / f"500.{kind}", 500)
    return folder


@pytest.mark.parametrize("step", [step for step in STEPS if "polars" not in step])  # which is for `make scale` alone
def test_every_step_can_be_measured(
    step: str, few_rows: Path, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(few_rows))
    monkeypatch.setenv("MODEL_REGISTRY", str(registry.location))
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'jobs.db'}")
    STEPS[step](500)()
