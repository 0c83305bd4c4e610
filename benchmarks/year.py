"""A year of decisions, and what monitoring finds in it: `python -m benchmarks.year`.

A model is trained on a made-up table; a million decisions of twelve months are written to a decision log. In September
one column moves. Outcomes arrive 60 days late: at the end of the year those of November and December are open.
`--rows` makes fewer, `--database postgresql://...` writes to an empty PostgreSQL instead of a file.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import sqlalchemy as sql

from tabserve.decisions.schema import decisions, outcomes
from tabserve.decisions.store import DecisionStore
from tabserve.declaration.plain import from_plain
from tabserve.declaration.use_case import UseCase
from tabserve.monitoring.monitor import WHOLE, Monitored, monitor
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.train_pipeline import run_training
from tabserve.training.plan import Plan

ROWS = 1_000_000
AT_ONCE = 20_000
TRAINED_ON = 6_000
MONTH, COLUMN = "2025-09", "income"  # what moves, and when
BEGIN, END = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (2025, 2026))
LATE = 60 * 86_400.0  # seconds until an outcome is known
DECLARED: dict[str, Any] = {
    "title": "A year",
    "task": "binary",
    "target": "defaulted",
    "cost": {"missed": 5, "false_alarm": 1},
    "columns": {
        "age": {"kind": "integer", "low": 18, "high": 99},
        "income": {"kind": "number", "low": 0},
        "amount": {"kind": "number", "low": 0},
        "months": {"kind": "integer", "low": 1, "high": 120},
        "savings": {"kind": "number", "missing": True},
        "region": {"kind": "category", "values": ["north", "east", "south", "west"]},
        "purpose": {"kind": "category", "values": ["car", "home", "study"], "other": "else"},
        "owner": {"kind": "boolean"},
        "defaulted": {"kind": "boolean"},
    },
    "gates": {},
}


@dataclass(frozen=True)
class Drawn:
    """Records, and what becomes of them."""

    records: list[dict[str, Any]]
    chances: Any


def draw(generator: np.random.Generator, n_rows: int, is_shifted: Any = False) -> Drawn:
    """Draw records; the income of shifted ones is half as large again."""
    age = generator.integers(18, 90, n_rows)
    income = np.round(generator.lognormal(7.8, 0.4, n_rows) * np.where(is_shifted, 1.5, 1.0), 2)
    amount = np.round(generator.lognormal(8.2, 0.7, n_rows), 2)
    months = generator.integers(6, 61, n_rows)
    savings = np.round(generator.exponential(2000, n_rows), 2)
    has_savings = generator.random(n_rows) < 0.7
    region = generator.choice(["north", "east", "south", "west"], n_rows, p=[0.4, 0.3, 0.2, 0.1])
    purpose = generator.choice(["car", "home", "study", "boat", "trip"], n_rows, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    owner = generator.random(n_rows) < 0.35
    raw = -1.2 + amount / 9000 + months / 60 - owner * 0.8 - age / 80 + (region == "west") * 0.5 - income / 9000
    columns = (age, income, amount, months, savings, has_savings, region, purpose, owner)
    records = [
        {
            "age": one[0],
            "income": one[1],
            "amount": one[2],
            "months": one[3],
            "savings": one[4] if one[5] else None,
            "region": one[6],
            "purpose": one[7],
            "owner": one[8],
        }
        for one in zip(*(column.tolist() for column in columns), strict=True)
    ]
    return Drawn(records, 1 / (1 + np.exp(-raw)))


def trained(folder: Path) -> Artifact:
    """A model of such records."""
    generator = np.random.default_rng(1)
    drawn = draw(generator, TRAINED_ON)
    table = pd.DataFrame(drawn.records).assign(defaulted=generator.random(TRAINED_ON) < drawn.chances)
    table.to_csv(folder / "year.csv", index=False)
    use_case: UseCase = from_plain(DECLARED, "year", folder)
    registry = Registry(folder / "models")
    run_training(use_case, registry, folder / "year.csv", Plan(trials=1, seed=42, jobs=1), [use_case.baseline.name])
    return registry.load(registry.latest("year"))


def fill(store: DecisionStore, artifact: Artifact, n_rows: int) -> None:
    """Write a year of decisions, evenly over time, and the outcomes that are known at its end."""
    generator = np.random.default_rng(2)
    times = np.linspace(BEGIN, END, n_rows, endpoint=False)
    for start in range(0, n_rows, AT_ONCE):
        some = times[start : start + AT_ONCE]
        months = some.astype("M8[s]").astype("M8[M]").astype(str)
        drawn = draw(generator, len(some), months == MONTH)
        scores = artifact.model.predict(artifact.pipeline.transform(drawn.records))
        decided = artifact.decision.decide(scores).astype(int)
        happened = generator.random(len(some)) < drawn.chances
        ids = [
            f"{int(when * 1000):012x}"[:8] + f"-0000-7000-8000-{start + place:012x}" for place, when in enumerate(some)
        ]
        rows = [
            _row(artifact, *one)
            for one in zip(ids, some.tolist(), drawn.records, scores.tolist(), decided.tolist(), strict=True)
        ]
        known = [
            {"decision": id_, "row": 0, "outcome": str(bool(one)).lower(), "time": when + LATE, "client": ""}
            | {"reports": 1, "contradicted": 0}
            for id_, one, when in zip(ids, happened, some.tolist(), strict=True)
            if when + LATE < END
        ]
        _insert(store, decisions, rows)
        _insert(store, outcomes, known)


def _row(
    artifact: Artifact, id_: str, when: float, record: dict[str, Any], score: float, decided: int
) -> dict[str, Any]:
    return {
        "id": id_,
        "kind": "decision",
        "time": when,
        "request_id": "",
        "client": "",
        "use_case": "year",
        "model_id": artifact.model_id,
        "digest": artifact.digest,
        "route": "/output/<model_id>",
        "arm": "",
        "record": orjson.dumps(record).decode(),
        "score": score,
        "decision": str(decided),
        "rows": 1,
        "answers": "",
    }


def _insert(store: DecisionStore, table: sql.Table, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    with store.database.writing() as connection:
        if store.database.file:
            connection.execute(sql.insert(table), rows)
            return
        names = ", ".join(f'"{name}"' for name in rows[0])
        with connection.connection.cursor().copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(list(row.values()))


def found(result: Monitored) -> Iterator[str]:
    """What was found and missed, in lines."""
    for window in result.windows:
        columns = [one.name for one in window.columns if one.drift.verdict == "drift"]
        more = [one.name for one in (*window.scores, window.decisions) if one and one.drift.verdict == "drift"]
        quality = window.quality.metrics["roc_auc"] if window.quality else None
        expected = window.estimated.get("roc_auc")
        yield (
            f"{window.name}: {window.rows:,} decisions, outcomes {window.coverage:.0%}, drift {columns + more}, "
            f"AUC {quality and round(quality, 3)}, expected {expected and round(expected, 3)}"
        )


def drifted(result: Monitored) -> set[tuple[str, str]]:
    """Month and name of each column that drifted."""
    return {
        (window.name, one.name)
        for window in result.windows
        if window.name != WHOLE
        for one in window.columns
        if one.drift.verdict == "drift"
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--database")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        artifact = trained(Path(folder))
        store = DecisionStore(chosen.database or f"sqlite:///{folder}/year.db")
        begun = time.monotonic()
        fill(store, artifact, chosen.rows)
        with store.database.writing() as connection:
            connection.execute(sql.text("ANALYZE"))  # as PostgreSQL's autovacuum does by itself when rows come slowly
        print(f"{chosen.rows:,} decisions written in {time.monotonic() - begun:.0f} s")
        begun, cpu = time.monotonic(), time.process_time()
        result = monitor(store, artifact)
        seconds, of_cpu = time.monotonic() - begun, time.process_time() - cpu
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"monitored in {seconds:.1f} s, {of_cpu:.1f} s of CPU, at most {memory} MB")
        print("\n".join(found(result)))
        store.database.close()
        assert drifted(result) == {(MONTH, COLUMN)}, drifted(result)


if __name__ == "__main__":
    main()
