"""How time and memory grow with rows: `make scale [ROWS=10000,100000,1000000] [ROUNDS=1]`, written to SCALE.md.

Each measurement is a process of its own on one core: see `scale_steps`. Tables are made from the credit declaration
in a temporary folder. `--rows 1000,10000` takes about three minutes; a million rows take most of an hour.
"""

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import joblib
import lightgbm

from benchmarks.run import progress
from benchmarks.scale_data import USE_CASE, write
from benchmarks.scale_report import Curve, document
from benchmarks.scale_steps import FEW, FOLDER, STEPS, path_of
from benchmarks.services import ROOT
from tabserve.models.lightgbm import LgbModel
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import MODEL, PIPELINE, Registry
from tabserve.train_pipeline import run_training
from tabserve.training.plan import Plan

OUTPUT = Path(__file__).with_name("SCALE.md")
MOST_IN_A_WORKBOOK = 100_000  # rows; a sheet holds a million
PACKAGES = ("tabserve", "lightgbm", "numpy", "pyarrow", "pandas", "polars", "pylignum", "python-calamine")
TREES = 121  # of the model that the targets were set for
PATIENCE = 20  # seconds on a busy machine for each CPU second
KINDS = ("csv", "parquet", "xlsx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="10000,100000,1000000", help="sizes of the tables, separated by commas")
    parser.add_argument("--rounds", type=int, default=1, help="the figures are medians of so many")
    parser.add_argument("--limit", type=float, default=1800, help="CPU seconds beyond which a step is not measured")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    sizes = sorted(map(int, options.rows.split(",")))
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {FOLDER: folder, "MODEL_REGISTRY": str(Path(folder, "models")), "OMP_NUM_THREADS": "1"}
        os.environ["DATABASE_URL"] = f"sqlite:///{Path(folder, 'jobs.db')}"
        model = make(sizes)
        for curves in measure(sizes, options.rounds, options.limit):
            load = f"load average {load_before:.1f} before, {os.getloadavg()[0]:.1f} after"
            machine = f"{os.cpu_count()} cores, Python {platform.python_version()}; {load}"
            what = {"machine": machine, "model": model, **{package: version(package) for package in PACKAGES}}
            options.output.write_text(document(curves, what, sizes, options.rounds))


def make(sizes: Sequence[int]) -> str:
    """The tables and a model; returns what the model is."""
    for rows in {FEW, *sizes}:
        progress(f"making {rows:,} rows")
        for kind in KINDS:
            if kind != "xlsx" or rows <= MOST_IN_A_WORKBOOK:
                write(path_of(rows, kind), rows)
    progress("training a model")
    folder = Path(os.environ[FOLDER], "trained")
    trained = Registry(folder)
    run_training(USE_CASE, trained, USE_CASE.path, Plan(trials=1, jobs=1), ["lightgbm"])
    artifact = trained.load(trained.latest(USE_CASE.name))
    keep_trees(artifact, trained, Registry(Path(os.environ["MODEL_REGISTRY"])))
    return f"{TREES} trees, {len(artifact.encoder.matrix_columns)} columns"


def keep_trees(artifact: Artifact, trained: Registry, registry: Registry) -> None:
    """Save an artifact elsewhere with the first TREES trees of its model."""
    assert isinstance(artifact.model, LgbModel)
    booster = lightgbm.Booster(model_str=artifact.model.text_)
    artifact.model.text_ = booster.model_to_string(num_iteration=TREES)
    pickled = io.BytesIO()
    joblib.dump((artifact.model, artifact.task, artifact.decision), pickled)
    pipeline = trained.read(artifact.model_id, PIPELINE, artifact.manifest)
    registry.save({PIPELINE: pipeline, MODEL: pickled.getvalue()}, artifact.manifest)


def measure(sizes: Sequence[int], rounds: int, limit: float) -> Iterator[dict[str, Curve]]:
    """The medians of each step so far, after each size, for each size at which it could be measured."""
    curves: dict[str, Curve] = {step: {} for step in STEPS}
    for rows in sizes:
        found: dict[str, list[Mapping[str, float]]] = {step: [] for step in STEPS}
        for _ in range(rounds):
            for step in STEPS:
                is_there = path_of(rows, "xlsx").exists() or "XLSX" not in step
                if is_there and expected(curves[step], rows) <= limit:
                    found[step] += run(step, rows, PATIENCE * limit)
        for step, figures in found.items():
            if figures:
                curves[step][rows] = {name: statistics.median(one[name] for one in figures) for name in figures[0]}
        yield curves


def expected(curve: Curve, rows: int) -> float:
    """CPU seconds of more rows, from the largest size before."""
    return max((one["cpu"] / before * rows for before, one in list(curve.items())[-1:]), default=0.0)


def run(step: str, rows: int, limit: float) -> list[dict[str, float]]:
    """One measurement; none when it fails or takes too long, which is said."""
    progress(f"{datetime.now():%H:%M:%S} {rows:,} rows: {step}")
    compiled = {"COMPILED_TREES": str(Path(os.environ[FOLDER], "trees"))} if step.endswith("compiled") else {}
    command = [sys.executable, "-m", "benchmarks.scale_steps", step, str(rows)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **compiled}, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        progress(f"given up after {limit:.0f} s")
        return []
    if done.returncode:
        progress(f"failed: {done.stderr.strip().splitlines()[-1:]}")
        return []
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return [figures]


if __name__ == "__main__":
    main()
