"""What metrics and the decision log cost a one-row request, in process: services without and with them, by turns.

Each has a process of its own, as it would have: Python's interpreter adapts itself to the classes that it meets. The
requests come as those of 16 clients do: some eight in one turn of the loop. Nothing takes decisions to a database.
`MODEL_REGISTRY=models python -m benchmarks.operated` prints microseconds of CPU as JSON.
"""

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from tabserve.api.app import create_app
from tabserve.api.certain import Certain
from tabserve.api.front import Front
from tabserve.api.metrics.front import front_of
from tabserve.settings import Settings

TURNS, AT_ONCE = 6, 8  # few enough requests for one turn on the CPU
HEADERS = [(b"host", b"localhost:8080"), (b"accept", b"*/*"), (b"content-type", b"application/json")]
METRICS = {"metrics": "path"}
KINDS: dict[str, dict[str, Any]] = {
    "off": {},
    "metrics": METRICS,
    "log": {"decision_log": "sqlite:///decisions.db"},
    "both": {**METRICS, "decision_log": "sqlite:///decisions.db"},
}


def front_with(kind: str, use_case: str, folder: str) -> tuple[Front, bytes]:
    """A front whose model is loaded, and a record."""
    settings = replace(Settings.from_environment(), auth_required=False, decision_log=None, metrics="off")
    own = {"decision_spool_folder": Path(folder), "decision_spool": 2**33}
    app = create_app(replace(settings, **own, **KINDS[kind]))
    artifact = app.extensions["predictor"].resolve(use_case)
    return front_of(app), orjson.dumps(artifact.declared.example)


async def us_of(front: Front, path: str, body: bytes) -> float:
    """Microseconds of CPU for a request."""
    answers: list[Certain] = []
    begun = time.thread_time()
    for _ in range(TURNS):
        for _ in range(AT_ONCE):
            scope = {"method": "POST", "path": path, "query_string": b"", "headers": HEADERS, "client": ("::1", 5)}
            front.at_once(scope, body, answers.append)
        await asyncio.sleep(0)
    took = time.thread_time() - begun
    assert [answer.status for answer in answers] == [200] * TURNS * AT_ONCE
    return took / TURNS / AT_ONCE * 1e6


def serve(kind: str, use_case: str) -> None:
    """Measure whenever a line comes."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        front, body = front_with(kind, use_case, folder)
        measure: Callable[[], float] = lambda: runner.run(us_of(front, f"/output/{use_case}", body))  # noqa: E731
        measure()
        gc.freeze()
        for _ in sys.stdin:
            sys.stdout.write(f"{measure()}\n")
            sys.stdout.flush()


def rounds_of(use_case: str, rounds: int) -> list[dict[str, float]]:
    """Microseconds by kind, measured by turns."""
    command = [sys.executable, "-m", "benchmarks.operated", "--use-case", use_case, "--serve"]
    services = {
        kind: subprocess.Popen([*command, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        for kind in KINDS
    }
    try:
        return [{kind: _asked(service) for kind, service in services.items()} for _ in range(rounds)]
    finally:
        for service in services.values():
            service.communicate()


def _asked(service: "subprocess.Popen[str]") -> float:
    assert service.stdin
    assert service.stdout
    service.stdin.write("\n")
    return float(service.stdout.readline())


def figures_of(rounds: list[dict[str, float]]) -> Mapping[str, Mapping[str, float]]:
    """Medians of all rounds, what each kind takes more than `off` in the same round, and the fastest tenth."""
    columns = {kind: [one[kind] for one in rounds] for kind in KINDS}
    more = {kind: statistics.median(one[kind] - one["off"] for one in rounds) for kind in KINDS}
    fastest = {kind: statistics.quantiles(column, n=10)[0] for kind, column in columns.items()}
    medians = {kind: statistics.median(column) for kind, column in columns.items()}
    return {
        name: {kind: round(value, 2) for kind, value in figures.items()}
        for name, figures in (("median", medians), ("more", more), ("fastest_tenth", fastest))
    }


def main() -> None:
    """Measure by turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--use-case", default="credit")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--serve", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.use_case)
    else:
        sys.stdout.write(json.dumps(figures_of(rounds_of(options.use_case, options.rounds))) + "\n")


if __name__ == "__main__":
    main()
