"""The benchmark: our service, the floor, an expert's service and a tutorial's, on the same records and model.

Run from the repository's root, in an environment with requirements.txt and benchmarks/requirements.txt:

    python -m benchmarks.run [--rounds 3] [--seconds 5] [--before CHECKOUT]

One worker of each runs on one core; wrk drives it from another. Answers are checked before anything is timed.
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from base64 import b64encode
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import orjson

from benchmarks.in_process import USER
from benchmarks.report import write_report
from benchmarks.services import DRIVER_CORE, ROOT, SERVER_CORE, Running, Service
from tabserve.aliases import Vector
from tabserve.api.users import Users
from tabserve.declaration.discovery import get_use_case
from tabserve.errors import BrokenArtifactError
from tabserve.models.lightgbm import LgbModel
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.settings import RegistrySettings
from tabserve.tables.reader import read_training_table
from tabserve.tasks.binary import threshold_of
from tabserve.transformers import RemapTarget

USE_CASE = get_use_case("credit")
ALGORITHM = "lightgbm"  # whose answers LightGBM itself can check
RECORDS = 200  # different ones, through which one-row requests cycle
LISTS = (100, 1_000, 10_000)
CONNECTIONS = 8  # for one-row requests
LIST_CONNECTIONS = 1  # one list after another: a few in flight at the end would distort the count
WARM_UP = 1  # seconds before each measurement
MANY = 10_000  # one-row requests that a worker has answered when its memory is measured
TREES = 150  # of the model that the in-process target is defined for
RESULTS = Path(__file__).parent / "RESULTS.md"


@dataclass(frozen=True)
class Materials:
    """What all services are given: the model, and bodies with the probabilities that must come back."""

    folder: Path
    artifact: Artifact
    bodies: dict[int, list[bytes]]  # by rows in each
    expected: dict[int, list[Vector]]

    def file(self, rows: int) -> Path:
        """The file with the bodies of this many rows each, one per line."""
        return self.folder / f"bodies_{rows}.jsonl"


def main() -> None:
    """Check, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds, of which medians are taken")
    parser.add_argument("--seconds", type=int, default=5, help="length of each measurement")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="an older checkout, with its .venv, to compare")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the Markdown report goes")
    options = parser.parse_args()
    check_tools()
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="tabserve-bench-") as folder:
        materials = prepare(Path(folder))
        services = make_services(materials, options.before)
        for service in services.values():
            check_answers(service, materials)
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in services}
        for number in range(1, options.rounds + 1):
            for name, service in services.items():
                progress(f"round {number} of {options.rounds}: {service.title}")
                rounds[name].append(measure(service, materials, options.seconds))
        progress("in process")
        timings = time_in_process(materials)
        report = write_report(
            services=services,
            rounds=rounds,
            timings=timings,
            model=described(materials.artifact),
            command=f"python -m benchmarks.run --rounds {options.rounds} --seconds {options.seconds}"
            + (" --before CHECKOUT" if options.before else ""),
            load_before=load_before,
            load_after=os.getloadavg()[0],
        )
    options.output.write_text(report)
    print(report)


def progress(text: str) -> None:
    """Say what is being done, on standard error."""
    print(text, file=sys.stderr, flush=True)


def check_tools() -> None:
    """Exit with status 2 and say what to do when something is not installed or the machine is not suitable."""
    missing = []
    if shutil.which("wrk") is None:
        missing.append("wrk is missing: `sudo apt-get install wrk` (Debian, Ubuntu).")
    if any(importlib.util.find_spec(package) is None for package in ("fastapi", "uvicorn")):
        missing.append("FastAPI is missing: `pip install -r requirements.txt -r benchmarks/requirements.txt`.")
    if SERVER_CORE == DRIVER_CORE:
        missing.append("Two cores are needed: one for the service, one for wrk.")
    if missing:
        print(*missing, sep="\n", file=sys.stderr)
        sys.exit(2)


def prepare(folder: Path) -> Materials:
    """The newest usable model, or one trained for this, in a registry of its own; real records as request bodies."""
    artifact = find_artifact(folder / "models")
    text = model_text(artifact)
    (folder / "model.txt").write_text(text)
    joblib.dump(with_trees(artifact, TREES), folder / "model.pkl")

    records = [*read_training_table(USE_CASE.path, USE_CASE.features, USE_CASE.target.feature).records]
    different = list({orjson.dumps(record): record for record in records}.values())[:RECORDS]
    batches: dict[int, Any] = {1: [[record] for record in different]}
    for rows in LISTS:
        batches[rows] = [(list(records) * (rows // len(records) + 1))[:rows]]

    booster = lightgbm.Booster(model_str=text)
    expected = {
        rows: [np.asarray(booster.predict(artifact.pipeline.transform(batch), num_threads=1)) for batch in some]
        for rows, some in batches.items()
    }
    bodies = {rows: [orjson.dumps(batch if rows > 1 else batch[0]) for batch in some] for rows, some in batches.items()}
    materials = Materials(folder, artifact, bodies, expected)
    for rows, lines in bodies.items():
        materials.file(rows).write_bytes(b"\n".join(lines) + b"\n")
    return materials


def find_artifact(folder: Path) -> Artifact:
    """The newest usable model of MODEL_REGISTRY, copied into a folder; when there is none, one is trained there."""
    registry = RegistrySettings.from_environment().open_registry()
    for model_id in registry.list(USE_CASE.name, ALGORITHM):
        try:
            artifact = registry.load(model_id)
        except BrokenArtifactError:
            continue
        registry.copy(model_id, registry.beside(folder))
        return artifact
    from tabserve.train_pipeline import run_training
    from tabserve.training.plan import Plan

    progress("training a model")
    registry = Registry(folder, os.environ.get("MODEL_SIGNING_KEY"))
    run_training(USE_CASE, registry, USE_CASE.path, Plan(), [ALGORITHM])
    return registry.load(registry.latest(USE_CASE.name, ALGORITHM))


def with_trees(artifact: Artifact, number: int) -> Any:
    """The artifact's model, refitted with a given number of trees."""
    table = read_training_table(USE_CASE.path, USE_CASE.features, USE_CASE.target.feature)
    assert isinstance(artifact.target, RemapTarget)
    parameters = {**artifact.model.get_params(), "num_rounds": number}
    matrix, y = artifact.pipeline.transform(table.records), artifact.target.transform(table.target or [])
    return type(artifact.model)(**parameters).fit(matrix, y, artifact.pipeline.columns_)


def model_text(artifact: Artifact) -> str:
    """The model in LightGBM's own format."""
    assert isinstance(artifact.model, LgbModel)
    return artifact.model.text_


def described(artifact: Artifact) -> str:
    """The model's name and size."""
    return f"{artifact.model_id}, {model_text(artifact).count('Tree=')} trees"


def make_services(materials: Materials, before: Path | None = None) -> dict[str, Service]:
    """The services that are compared, with the one of an older checkout if there is any."""
    gunicorn = ("-m", "gunicorn")
    floor = (*gunicorn, "-c", "benchmarks/floor_gunicorn.py", "benchmarks.floor:application")
    listening = ("--host", "127.0.0.1", "--port", "{port}", "--workers", "1", "--no-access-log")
    uvicorn = ("-m", "uvicorn", *listening, "--loop", "uvloop", "--http", "httptools", "--log-level", "warning")
    expert, tutorial = (*uvicorn, "benchmarks.expert:app"), (*uvicorn, "benchmarks.tutorial:app")
    folder = materials.folder
    registry = {"MODEL_REGISTRY": str(folder / "models"), "DATABASE_URL": f"sqlite:///{folder / 'jobs.db'}"}
    model = {
        "BENCHMARK_MODEL": str(materials.folder / "model.txt"),
        "BENCHMARK_THRESHOLD": repr(threshold_of(materials.artifact.decision).value),
    }
    service = Service("Tabserve", (*gunicorn, "application"), "/output/credit", "/output/credit", registry)
    older = {"before": replace(service, title=f"Tabserve before, {commit(before)}", checkout=before)} if before else {}
    return {
        "floor": Service("Floor: empty Flask route", floor, "/flask"),
        "floor_orjson": Service("Floor with orjson and a plain Response", floor, "/orjson"),
        "service": service,
        "guarded": guarded(service, materials.folder),
        "operated": operated(service, materials.folder),
        **older,
        "expert": Service("Expert", expert, "/predict", "/predict_list", model, forks=False),
        "tutorial": Service("Tutorial", tutorial, "/predict", "/predict_list", model, forks=False),
        "careful": Service("Tutorial, categories fixed", tutorial, "/careful", "/careful_list", model, forks=False),
    }


def commit(checkout: Path) -> str:
    """The commit of a checkout, shortened."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def guarded(service: Service, folder: Path) -> Service:
    """The same service for users only, with a rate limit that none of them reaches."""
    users = folder / "users.txt"
    Users(users).add(*USER)
    settings = {"AUTH_REQUIRED": "true", "AUTH_USERS_FILE": str(users), "RATE_LIMIT": "1000000/second"}
    return replace(
        service,
        title="Tabserve, for users and with a rate limit",
        environment={**service.environment, **settings},
        headers={"Authorization": f"Basic {b64encode(':'.join(USER).encode()).decode()}"},
    )


def operated(service: Service, folder: Path) -> Service:
    """The same service with metrics, and with a decision log that its mover fills meanwhile, on the same core."""
    settings = {
        "METRICS": "path",
        "DECISION_LOG": f"sqlite:///{folder / 'decisions.db'}",
        "DECISION_SPOOL_FOLDER": str(folder / "decisions"),
        "DECISION_SPOOL": str(16 * 1024**3),
    }
    environment = {**service.environment, **settings}
    return replace(service, title="Tabserve, with metrics and a decision log", environment=environment)


def check_answers(service: Service, materials: Materials) -> None:
    """End the run unless every probability equals `lightgbm.Booster.predict`'s and every decision its own."""
    if not service.rows:  # it predicts nothing
        return
    progress(f"checking the answers of {service.title}")
    with Running(service, materials.folder / "check.log") as running:
        for rows, bodies in materials.bodies.items():
            path = service.one_row if rows == 1 else service.rows
            for body, expected in zip(bodies, materials.expected[rows], strict=True):
                answer = running.predict(path, body)
                right = {"probability": expected, "result": expected >= threshold_of(materials.artifact.decision).value}
                if not all(np.array_equal(answer[name], values) for name, values in right.items()):
                    raise SystemExit(f"{service.title}: its answer to {rows} row(s) is not LightGBM's.")


def measure(service: Service, materials: Materials, seconds: int) -> dict[str, float]:
    """One service's figures of one round, in a fresh process."""
    with Running(service, materials.folder / "server.log") as running:
        figures = {"start_seconds": running.start_seconds}
        one_row = drive(running, service.one_row, materials.file(1), CONNECTIONS, seconds)
        figures |= {"requests": one_row["requests"] / one_row["seconds"]}
        figures |= {name: one_row[name] for name in ("p50_ms", "p99_ms", "cpu_us")}
        answer_at_least(running, materials, MANY - one_row["answered"])
        figures |= running.memory_mb()
        if service.rows:
            for rows in LISTS:
                lists = drive(running, service.rows, materials.file(rows), LIST_CONNECTIONS, seconds)
                figures[f"rows_{rows}"] = rows * lists["requests"] / lists["seconds"]
            figures["p99_beside_lists_ms"] = beside_lists(running, materials, seconds)
            figures["rss_after_lists_mb"] = running.memory_mb()["rss_mb"]
        if service.forks:
            figures["replacement_seconds"] = running.replacement_seconds()
    return figures


def answer_at_least(running: Running, materials: Materials, requests: float) -> None:
    """Let a service that answers slowly answer more, so that memory is measured after as much work everywhere."""
    while requests > 0 and running.service.forks:
        requests -= drive(running, running.service.one_row, materials.file(1), CONNECTIONS, WARM_UP)["answered"]


def beside_lists(running: Running, materials: Materials, seconds: int) -> float:
    """p99 of one-row requests in ms while another client sends one list of 100 rows after another."""
    service = running.service
    command = wrk(running, service.rows, materials.file(100), LIST_CONNECTIONS, WARM_UP + seconds + 1)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL):
        return drive(running, service.one_row, materials.file(1), CONNECTIONS, seconds)["p99_ms"]


def drive(running: Running, path: str, bodies: Path, connections: int, seconds: int) -> dict[str, float]:
    """What wrk measured, after a warm-up; any answer other than 200, or any broken connection, ends the run."""
    figures: dict[str, float] = {}
    answered = 0.0
    for duration in (WARM_UP, seconds):
        command = wrk(running, path, bodies, connections, duration)
        cpu_before = running.cpu_seconds()
        finished = subprocess.run(command, capture_output=True, text=True, timeout=duration + 60)
        if finished.returncode:
            raise SystemExit(f"wrk failed: {finished.stdout}{finished.stderr}")
        figures = json.loads(finished.stdout.splitlines()[-1])
        if figures["bad_status"] or figures["socket_errors"]:
            raise SystemExit(f"{running.service.title}, {path}: {figures}\n{running.log.read_text()[-3000:]}")
        answered += figures["requests"]
    if not figures["requests"]:
        raise SystemExit(f"{running.service.title}, {path}: no answer within {seconds} s; take more --seconds.")
    figures["cpu_us"] = (running.cpu_seconds() - cpu_before) / figures["requests"] * 1e6
    figures["answered"] = answered
    return figures


def wrk(running: Running, path: str, bodies: Path, connections: int, seconds: int) -> list[str]:
    """The command that posts the bodies in turn."""
    command = ["taskset", "-c", str(DRIVER_CORE), "wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s"]
    for name, value in running.service.headers.items():
        command += ["-H", f"{name}: {value}"]
    script = str(ROOT / "benchmarks" / "wrk.lua")
    return [*command, "--timeout", "30s", "-s", script, running.url(path), "--", str(bodies)]


def time_in_process(materials: Materials) -> dict[str, float]:
    """Microseconds that each part of a prediction takes, measured in a separate process on the services' core."""
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "benchmarks.in_process"]
    command += ["--bodies", str(materials.file(1)), "--model", str(materials.folder / "model.pkl")]
    environment = {**os.environ, "MODEL_REGISTRY": str(materials.folder / "models"), "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, timeout=300)
    if finished.returncode:
        raise SystemExit("The in-process timings failed; see above.")
    timings: dict[str, float] = json.loads(finished.stdout)
    return timings


if __name__ == "__main__":
    main()
