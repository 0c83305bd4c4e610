"""What clients can do to a running service: a crowd that holds connections, overload, large files, a stop under load.

Run from the repository's root, in an environment with requirements.txt and benchmarks/requirements.txt:

    python -m benchmarks.stress [--rounds 3] [--seconds 5] [--workers 1 2]

The service, all its workers and that of jobs, share one core; the clients, one event loop, have another. So the
clients are not what limits the service. The report goes to STRESS.md.
"""

import argparse
import asyncio
import csv
import io
import json
import os
import resource
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from http import HTTPStatus
from itertools import chain, islice, product, repeat
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.clients import Address, Clients, Connection, Crowd, Tally, request
from benchmarks.run import USE_CASE, check_tools, described, make_services, prepare, progress
from benchmarks.services import DRIVER_CORE, Running, Service
from benchmarks.stress_report import Figures, write_report
from tabserve.tables.reader import read_training_table

RESULTS = Path(__file__).parent / "STRESS.md"
PATH = "/output/credit"
PROBES = 20  # of /ready, each second, each on a new connection
CAPACITY_CLIENTS = 32  # enough that the service always has work, too few to fill its queue
OVERLOADED_BY = (400, 2_000)  # connections
SETTLED = 3  # seconds until all connections of an overload are made, and some of them again
CROWD_SECONDS = 15  # longer than the deadline for the head of a request
FILES, ROWS = 4, 100_000
JOBS_WITHIN = 300  # seconds
BETWEEN_LOOKS = 0.25  # seconds between two looks at a job
STOPS = [(name, clients) for name in ("SIGTERM", "SIGHUP") for clients in (8, 100)]
PAUSE = 0.02  # seconds of each client between two requests while the service stops


def main() -> None:
    """Stress one service after another, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which medians are taken")
    parser.add_argument("--seconds", type=int, default=5, help="length of each measurement")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of workers, one after another")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="only some of them")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the Markdown report goes")
    options = parser.parse_args()
    check_tools()
    allow_connections()
    load_before = os.getloadavg()[0]
    os.sched_setaffinity(0, {DRIVER_CORE})
    rounds: dict[int, list[Figures]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="tabserve-stress-") as folder:
        materials = prepare(Path(folder))
        requests = [request("POST", PATH, body) for body in materials.bodies[1]]
        service = make_services(materials)["service"]
        upload = multipart(large_file())
        model = described(materials.artifact)
        for number, workers in product(range(1, options.rounds + 1), options.workers):
            progress(f"round {number} of {options.rounds}: {workers} worker(s)")
            one = replace(service, environment={**service.environment, "WEB_CONCURRENCY": str(workers)})
            stress = Stress(one, Path(folder), requests, upload, options.seconds)
            figures: dict[str, float] = {}
            for part in options.parts:
                figures |= PARTS[part](stress)
            rounds[workers].append(figures)
    command = f"python -m benchmarks.stress --rounds {options.rounds} --seconds {options.seconds}"
    report = write_report(rounds, model, command, load_before, os.getloadavg()[0])
    options.output.write_text(report)
    print(report)


def allow_connections() -> None:
    """Let this process open as many files as it may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def large_file() -> bytes:
    """The credit data as CSV, repeated to 100,000 rows."""
    records = [*read_training_table(USE_CASE.path, USE_CASE.features, USE_CASE.target.feature).records]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(records[0]))
    writer.writeheader()
    writer.writerows(islice(chain.from_iterable(repeat(records)), ROWS))
    return text.getvalue().encode()


def multipart(content: bytes) -> bytes:
    """The request that makes a file a job."""
    disposition = 'Content-Disposition: form-data; name="fileupload"; filename="applicants.csv"'
    body = f"--part\r\n{disposition}\r\nContent-Type: text/csv\r\n\r\n".encode() + content + b"\r\n--part--\r\n"
    return request("POST", "/jobs/credit", body, Content_Type="multipart/form-data; boundary=part")


class Stress:
    """The parts of one round, each with a service started for it.

    Parameters
    ----------
    service : Service
        What is started.
    folder : Path
        For logs.
    requests : sequence of bytes
        One-row requests.
    upload : bytes
        A request that makes a job.
    seconds : float
        Length of each measurement.
    """

    def __init__(
        self, service: Service, folder: Path, requests: Sequence[bytes], upload: bytes, seconds: float
    ) -> None:
        self._service, self._folder = service, folder
        self._requests, self._upload, self._seconds = requests, upload, seconds

    def crowd(self) -> dict[str, float]:
        """A steady client and the probes, alone and beside the crowd."""
        with self._running() as running:
            return figures_of(self._crowd(running))

    def overload(self) -> dict[str, float]:
        """Twice the capacity, offered by a few and by many connections."""
        with self._running() as running:
            return figures_of(self._overload(running))

    def jobs(self) -> dict[str, float]:
        """A steady client, alone and beside large files."""
        with self._running() as running:
            return figures_of(self._jobs(running))

    def stops(self) -> dict[str, float]:
        """Requests that are lost when the service stops, and when it reloads."""
        figures: dict[str, float] = {}
        for name, clients in STOPS:
            with self._running() as running:
                figures |= figures_of(self._stop(running, name, clients))
        return figures

    def _running(self) -> Running:
        return Running(self._service, self._folder / "server.log")

    async def _steady(self, address: Address, name: str, seconds: float) -> dict[str, float]:
        """One client that asks without a pause, and the probes."""
        probe = request("GET", "/ready", Connection="close")
        async with (
            Clients(address, [probe], rate=PROBES) as ready,
            Clients(address, self._requests) as steady,
        ):
            await asyncio.sleep(seconds)
        say_lost(steady, ready)
        return {
            f"{name}_requests": steady.answered / seconds,
            f"{name}_p50_ms": steady.milliseconds(0.5),
            f"{name}_p99_ms": steady.milliseconds(0.99),
            f"{name}_ready_ms": ready.milliseconds(1),
            f"{name}_unanswered": steady.unanswered + ready.unanswered,
        }

    async def _crowd(self, running: Running) -> dict[str, float]:
        address = ("127.0.0.1", running.port)
        await self._steady(address, "warm_up", 1)
        figures = await self._steady(address, "quiet", self._seconds)
        async with Crowd(address, PATH).there() as counts:
            figures |= await self._steady(address, "crowd", max(CROWD_SECONDS, self._seconds))
        return figures | {f"crowd_{name}": counts[name] for name in ("connections", "closed", "resets")}

    async def _overload(self, running: Running) -> dict[str, float]:
        address = ("127.0.0.1", running.port)
        figures: dict[str, float] = {}
        for number in OVERLOADED_BY:
            async with Clients(address, self._requests, CAPACITY_CLIENTS) as tally:
                await asyncio.sleep(self._seconds)
            capacity = tally.answered / self._seconds
            async with Clients(address, self._requests, number, 2 * capacity) as tally:
                await asyncio.sleep(SETTLED)
                tally.seconds.clear()
                cpu, began = time.process_time(), time.perf_counter()
                await asyncio.sleep(self._seconds)
                answered = tally.answered
                busy = (time.process_time() - cpu) / (time.perf_counter() - began)
            refusals = tally.seconds[503]
            figures |= {
                f"capacity_{number}": capacity,
                f"accepted_{number}": answered / self._seconds,
                f"accepted_p50_ms_{number}": tally.milliseconds(0.5),
                f"accepted_p99_ms_{number}": tally.milliseconds(0.99),
                f"refused_{number}": len(refusals) / self._seconds,
                f"refused_p50_ms_{number}": tally.milliseconds(0.5, 503),
                f"refused_p99_ms_{number}": tally.milliseconds(0.99, 503),
                f"lost_{number}": tally.unanswered - len(refusals),
                f"not_connected_{number}": tally.not_connected,
                f"client_busy_{number}": busy,
            }
            say_lost(tally)
        return figures

    async def _jobs(self, running: Running) -> dict[str, float]:
        address = ("127.0.0.1", running.port)
        await self._steady(address, "warm_up", 1)
        figures = await self._steady(address, "quiet_before_jobs", self._seconds)
        began = time.perf_counter()
        jobs = [asyncio.create_task(finished_job(address, self._upload)) for _ in range(FILES)]
        ready = Clients(address, [request("GET", "/ready", Connection="close")], rate=PROBES)
        async with ready as probes, Clients(address, self._requests) as steady:
            await asyncio.wait(jobs, timeout=JOBS_WITHIN)
        states = [job.result() if job.done() else "unfinished" for job in jobs]
        if states != ["done"] * FILES:
            raise SystemExit(f"The jobs ended as {states}.")
        say_lost(steady, probes)
        return figures | {
            "jobs_seconds": time.perf_counter() - began,
            "jobs_p99_ms": steady.milliseconds(0.99),
            "jobs_ready_ms": probes.milliseconds(1),
            "jobs_unanswered": steady.unanswered + probes.unanswered,
        }

    async def _stop(self, running: Running, name: str, clients: int) -> dict[str, float]:
        async with Clients(("127.0.0.1", running.port), self._requests, clients, clients / PAUSE) as tally:
            await asyncio.sleep(1)
            running.process.send_signal(signal.Signals[name])
            await asyncio.sleep(self._seconds)
        say_lost(tally)
        return {
            f"lost_{name}_{clients}": tally.unanswered,
            f"answered_{name}_{clients}": tally.answered,
        }


PARTS = {"crowd": Stress.crowd, "overload": Stress.overload, "jobs": Stress.jobs, "stops": Stress.stops}


def figures_of(part: Coroutine[Any, Any, dict[str, float]]) -> dict[str, float]:
    """Run a part on an event loop of its own."""
    figures: dict[str, float] = uvloop.run(part)
    return figures


def say_lost(*tallies: Tally) -> None:
    """Say what became of requests that were not answered with 200."""
    for tally in tallies:
        if tally.unanswered:
            progress(f"  lost {dict(+tally.lost)}, statuses {tally.statuses}")


async def finished_job(address: Address, upload: bytes) -> str:
    """Send a file as a job and wait for it; its last state."""
    status, created = await ask(address, upload)
    if status != HTTPStatus.ACCEPTED:
        raise RuntimeError(f"POST /jobs/credit answered {status}: {created}")
    look = request("GET", f"/jobs/{created['id']}", Connection="close")
    state = "waiting"
    while state not in ("done", "failed"):
        await asyncio.sleep(BETWEEN_LOOKS)
        status, job = await ask(address, look)
        if status not in (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE):
            raise RuntimeError(f"GET /jobs/... answered {status}: {job}")
        state = job.get("state", state)  # a busy service says so, and is asked again
    return str(state)


async def ask(address: Address, request: bytes) -> tuple[int, Any]:
    """Status and JSON of the answer to one request, on a connection of its own."""
    connection = await Connection.open(address)
    try:
        answer = await connection.ask(request)
    finally:
        connection.close()
    return answer.status, json.loads(answer.body)


if __name__ == "__main__":
    main()
