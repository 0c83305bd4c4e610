"""In-process timings, without sockets: `run.py` starts this on one core and reads the JSON that it prints.

It runs in a separate process, so that, as in a worker, neither pandas nor scikit-learn nor lightgbm is imported.
"""

import argparse
import io
import itertools
import json
import statistics
import sys
import tempfile
import timeit
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import orjson

from benchmarks.floor import application as floor
from tabserve.api.app import create_app
from tabserve.api.users import Users
from tabserve.predict import make_prediction
from tabserve.settings import Settings

USER = ("bench", "a password for nothing")


def median_us(function: Callable[[Any], object], arguments: Iterable[Any], repeats: int) -> float:
    """Median over repeats of the mean time of a call, in microseconds; the calls take the arguments in turn."""
    arguments = list(arguments)

    def call_all() -> None:
        for argument in arguments:
            function(argument)

    call_all()
    return statistics.median(timeit.repeat(call_all, number=1, repeat=repeats)) / len(arguments) * 1e6


def post(application: Callable[..., Any], path: str, **headers: str) -> Callable[[bytes], None]:
    """A function that sends a body to a WSGI callable, as a server would."""

    def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
        assert status == "200 OK", status

    def send(body: bytes) -> None:
        environ = {
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "RAW_URI": path,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "127.0.0.1",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            **headers,
        }
        answer = application(environ, start_response)
        b"".join(answer)
        answer.close()

    return send


def main() -> None:
    """Time the parts of a prediction and the WSGI callables; print microseconds as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bodies", type=Path, required=True, help="JSON records, one a line")
    parser.add_argument("--model", type=Path, required=True, help="the pickled model to take the parts from")
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()

    bodies = options.bodies.read_bytes().splitlines()
    settings = Settings.from_environment()
    service = create_app(replace(settings, auth_required=False))
    artifact = service.extensions["predictor"].resolve("credit")
    transform, predict = artifact.pipeline.transform, joblib.load(options.model).predict
    lists = [[orjson.loads(body)] for body in bodies]
    matrices = [transform(one) for one in lists]

    timings = {
        "orjson": median_us(orjson.loads, bodies, options.repeats),
        "encode": median_us(transform, lists, options.repeats),
        "predict": median_us(predict, matrices, options.repeats),
        "record_to_probability": median_us(lambda one: predict(transform(one))[0], lists, options.repeats),
        "same_record_to_probability": median_us(
            lambda one: predict(transform(one))[0], lists[:1] * len(lists), options.repeats
        ),
        "make_prediction": median_us(lambda one: make_prediction(artifact, one), lists, options.repeats),
    }
    with tempfile.TemporaryDirectory() as folder:
        users = Path(folder) / "users.txt"
        Users(users).add(*USER)
        guarded = create_app(replace(settings, auth_required=True, auth_users_file=users))
        credentials = f"Basic {b64encode(':'.join(USER).encode()).decode()}"
        callables = {
            "wsgi_service": post(service, "/output/credit"),
            "wsgi_service_user": post(guarded, "/output/credit", HTTP_AUTHORIZATION=credentials),
            "wsgi_floor": post(floor, "/flask"),
            "wsgi_floor_orjson": post(floor, "/orjson"),
        }
        rounds: dict[str, list[float]] = {name: [] for name in callables}
        for name in itertools.chain.from_iterable(itertools.repeat(list(callables), max(1, options.repeats // 20))):
            rounds[name].append(median_us(callables[name], bodies, 5))
    timings |= {name: statistics.median(values) for name, values in rounds.items()}
    sys.stdout.write(json.dumps(timings) + "\n")
    unwanted = {"pandas", "sklearn", "lightgbm"} & sys.modules.keys()
    assert not unwanted, unwanted


if __name__ == "__main__":
    main()
