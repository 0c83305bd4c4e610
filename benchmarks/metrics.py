"""What metrics cost a one-row request, in process: a service without them and one with them, measured by turns.

Each has a process of its own, as it would have: Python's interpreter adapts itself to the classes that it meets.
`MODEL_REGISTRY=models python -m benchmarks.metrics` prints microseconds of CPU as JSON.
"""

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import orjson

from tabserve.api.app import create_app
from tabserve.api.front import Front
from tabserve.api.metrics.front import front_of
from tabserve.settings import Settings

REQUESTS = 50  # in a row: few enough for one turn on the CPU
HEADERS = [(b"host", b"localhost:8080"), (b"accept", b"*/*"), (b"content-type", b"application/json")]
KINDS = ("off", "path", "off")  # twice, to see how much two measurements of the same differ


def front_with(metrics: str, use_case: str) -> tuple[Front, bytes]:
    """A front whose model is loaded, and a record."""
    app = create_app(replace(Settings.from_environment(), auth_required=False, metrics=metrics))
    artifact = app.extensions["predictor"].resolve(use_case)
    return front_of(app), orjson.dumps(artifact.declared.example)


def us_of(front: Front, path: str, body: bytes) -> float:
    """Microseconds of CPU for a request."""
    begun = time.process_time()
    for _ in range(REQUESTS):
        scope = {"method": "POST", "path": path, "query_string": b"", "headers": HEADERS, "client": ("127.0.0.1", 5)}
        answer = front.at_once(scope, body)
    took = time.process_time() - begun
    assert answer
    assert answer.status == 200
    return took / REQUESTS * 1e6


def serve(metrics: str, use_case: str) -> None:
    """Measure whenever a line comes."""
    front, body = front_with(metrics, use_case)
    us_of(front, f"/output/{use_case}", body)
    gc.freeze()
    for _ in sys.stdin:
        sys.stdout.write(f"{us_of(front, f'/output/{use_case}', body)}\n")
        sys.stdout.flush()


def main() -> None:
    """Measure by turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--use-case", default="credit")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.use_case)
        return
    command = [sys.executable, "-m", "benchmarks.metrics", "--use-case", options.use_case, "--serve"]
    services = [
        subprocess.Popen([*command, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        for kind in KINDS
    ]
    rounds = []
    for _ in range(options.rounds):
        taken = []
        for service in services:
            assert service.stdin
            assert service.stdout
            service.stdin.write("\n")
            taken.append(float(service.stdout.readline()))
        rounds.append(taken)
    for service in services:
        service.communicate()
    sys.stdout.write(json.dumps({"median": figures_of(rounds, 0.5), "fastest_tenth": figures_of(rounds, 0.1)}) + "\n")


def figures_of(rounds: Sequence[Sequence[float]], share: float) -> dict[str, float]:
    """Microseconds at a quantile: on a busy machine, the lower ones say most."""
    off, on, again = (sorted(column)[int(len(rounds) * share)] for column in zip(*rounds, strict=True))
    figures = {"off": off, "on": on, "off_again": again, "more": on - (off + again) / 2}
    return {name: round(value, 2) for name, value in figures.items()}


if __name__ == "__main__":
    main()
