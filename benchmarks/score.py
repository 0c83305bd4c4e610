"""How fast `tabserve score` is, beside what people write themselves: `make bench-score`.

The credit data are enlarged to a Parquet file of many rows. Each contender reads it, predicts with the same LightGBM
model and writes a Parquet file with the rows and their probabilities, in a process of its own. CPU time is that of the
whole process, imports included; the median of some rounds, in which the contenders take turns, is shown. Their
probabilities must be equal.

`python -m benchmarks.score ROWS [ROUNDS]` prints the table.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tabserve.registry.registry import Registry

PIECE = 100_000  # rows that are made at a time
SEED = 42
MOST_FOR_TABLES = 2_000_000  # rows that pandas and polars are given: more would not fit into small machines


@dataclass(frozen=True)
class Cost:
    """What a contender took."""

    name: str
    rows: int
    micros: float  # CPU a row
    seconds: float
    megabytes: float  # at most


def measure(rows: int, rounds: int, folder: Path) -> list[Cost]:
    """The costs of all contenders, the files being in a folder."""
    registry = trained(folder / "models")
    source = folder / "rows.parquet"
    enlarge(source, rows)
    costs: dict[str, list[Cost]] = {}
    names = [name for name in CONTENDERS if rows <= MOST_FOR_TABLES or name.startswith("tabserve")]
    for _ in range(rounds):
        for name in names:
            output = folder / f"{name.replace(' ', '-').replace(',', '')}.parquet"
            costs.setdefault(name, []).append(run(name, registry, source, output, rows))
    first, *others = (folder / f"{name.replace(' ', '-').replace(',', '')}.parquet" for name in names)
    assert all(are_equal(first, other) for other in others), "the probabilities differ"
    return [
        Cost(
            name,
            rows,
            *(statistics.median(getattr(one, part) for one in of) for part in ("micros", "seconds", "megabytes")),
        )
        for name, of in costs.items()
    ]


def as_markdown(costs: list[Cost]) -> str:
    """The costs as a table."""
    lines = ["| Parquet to Parquet | rows | CPU a row | seconds | peak memory |", "|---|---|---|---|---|"]
    lines += [
        f"| {one.name} | {one.rows:,} | {one.micros:.2f} µs | {one.seconds:.1f} | {one.megabytes:.0f} MB |"
        for one in costs
    ]
    return "\n".join(lines)


def trained(folder: Path) -> Path:
    """A registry with a LightGBM model of credit."""
    from tabserve.declaration.discovery import get_use_case
    from tabserve.train_pipeline import run_training
    from tabserve.training.plan import Plan

    if not Registry(folder).list("credit"):
        credit = get_use_case("credit")
        run_training(credit, Registry(folder), credit.path, Plan(trials=10, seed=SEED), ["lightgbm"])
    return folder


def enlarge(path: Path, rows: int) -> None:
    """Write rows of the credit data, drawn at random, as Parquet."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    from tabserve.declaration.discovery import get_use_case
    from tabserve.tables.reader import read_training_table

    credit = get_use_case("credit")
    table = pa.Table.from_pylist([*read_training_table(credit.path, credit.features, credit.target.feature).records])
    random = np.random.default_rng(SEED)
    with ParquetWriter(path, table.schema) as writer:
        for start in range(0, rows, PIECE):
            writer.write_table(table.take(random.integers(0, len(table), min(PIECE, rows - start))))


def run(name: str, registry: Path, source: Path, output: Path, rows: int) -> Cost:
    """Run a contender in a process of its own."""
    output.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.score", "--run", name, *map(str, (registry, source, output))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    cpu, seconds, kilobytes = map(float, done.stdout.split()[-3:])
    return Cost(name, rows, cpu / rows * 1e6, seconds, kilobytes / 1024)


def are_equal(one: Path, other: Path) -> bool:
    """Whether two files hold the same probabilities."""
    import pyarrow.parquet as pq

    first, second = (pq.read_table(path, columns=["probability"])["probability"] for path in (one, other))
    return bool(first.equals(second))


def with_tabserve(registry: Path, source: Path, output: Path, *, lignum: bool = False, compiled: bool = False) -> None:
    if not lignum:
        sys.modules["lignum"] = None  # type: ignore[assignment] # as if it were not installed
    if compiled:
        os.environ["COMPILED_TREES"] = str(registry.parent / "compiled")
        (registry.parent / "compiled").mkdir(exist_ok=True)
    os.environ["MODEL_REGISTRY"] = str(registry)
    from tabserve.cli.commands import tabserve

    tabserve(["score", "credit", str(source), str(output), "--overwrite", "--jobs", "1"], standalone_mode=False)


def with_pandas(registry: Path, source: Path, output: Path) -> None:
    import lightgbm
    import pandas as pd

    artifact, booster = model(registry, lightgbm)
    table = pd.read_parquet(source)
    matrix = np.empty((len(table), len(artifact.encoder.columns)))
    for place, feature in enumerate(artifact.features):
        column = table[feature.name]
        if hasattr(feature, "values"):
            matrix[:, place] = pd.Categorical(column, categories=feature.values).codes
        else:
            matrix[:, place] = column
    with_derived(artifact, matrix)
    table["probability"] = booster.predict(matrix, num_threads=1)
    table.to_parquet(output, index=False)


def with_polars(registry: Path, source: Path, output: Path) -> None:
    import lightgbm
    import polars as pl

    artifact, booster = model(registry, lightgbm)
    table = pl.read_parquet(source)
    encoded = table.select(
        pl.col(feature.name).cast(pl.Enum(feature.values)).to_physical().cast(pl.Float64)
        if hasattr(feature, "values")
        else pl.col(feature.name).cast(pl.Float64)
        for feature in artifact.features
    )
    matrix = np.empty((len(table), len(artifact.encoder.columns)))
    matrix[:, : encoded.width] = encoded.to_numpy()
    with_derived(artifact, matrix)
    table.with_columns(probability=pl.Series(booster.predict(matrix, num_threads=1))).write_parquet(output)


def model(registry: Path, lightgbm: Any) -> tuple[Any, Any]:
    artifact = Registry(registry).load(Registry(registry).latest("credit"))
    return artifact, lightgbm.Booster(model_str=artifact.model.text_)


def with_derived(artifact: Any, matrix: Any) -> None:
    for place, column in enumerate(artifact.encoder.derived, len(artifact.features)):
        matrix[:, place], _ = column.compute(matrix, artifact.features)


CONTENDERS: Mapping[str, Callable[..., None]] = {
    "tabserve score, LightGBM": with_tabserve,
    "tabserve score, extra trees": lambda *paths: with_tabserve(*paths, lignum=True),
    "tabserve score, extra trees compiled": lambda *paths: with_tabserve(*paths, lignum=True, compiled=True),
    "pandas and Booster.predict": with_pandas,
    "polars and Booster.predict": with_polars,
}


def main(rows: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(as_markdown(measure(rows, rounds, Path(folder))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        import time

        began = time.monotonic()
        CONTENDERS[sys.argv[2]](*map(Path, sys.argv[3:]))
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cpu = sum(one.ru_utime + one.ru_stime for one in used)
        print(cpu, time.monotonic() - began, max(one.ru_maxrss for one in used))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 1_000_000, int(sys.argv[2]) if sys.argv[2:] else 3)
