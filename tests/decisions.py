"""Decision logs of tests: filled with what a model decides about records."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from tabserve.aliases import Record
from tabserve.decisions.entry import DECISION, TABLE, Entry
from tabserve.decisions.plain import dumped
from tabserve.decisions.schema import outcomes as outcomes_table
from tabserve.decisions.store import DecisionStore
from tabserve.decisions.tables import columns_of, written
from tabserve.predict import make_prediction
from tabserve.registry.artifact import Artifact
from tests.postgres import new_database, running_postgres

AT_ONCE = 10_000  # entries in a transaction


def id_of(number: int, time: float = 1.7e9) -> str:
    """The UUID version 7 of a time that has this number."""
    milliseconds = f"{int(time * 1000):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7000-8000-{number:012x}"


def decided(artifact: Artifact, records: Sequence[Record]) -> tuple[Sequence[Any], Sequence[Any]]:
    """The scores and the decisions of valid records, as the log keeps them."""
    columns = make_prediction(artifact, records).columns
    return columns.get("probability", columns["result"]), columns["result"]


def fill(
    store: DecisionStore,
    artifact: Artifact,
    records: Sequence[Record],
    times: Sequence[float],
    outcomes: Sequence[Any] | None = None,
    *,
    keys: Mapping[str, Sequence[Any]] | None = None,
    first: int = 0,
    **values: Any,
) -> list[str]:
    """Log what a model decides about records, and what really happened where that is not None; return the ids.

    `keys` are the records' values of id columns, `first` the number of the first id, `values` more of each `Entry`.
    """
    scores, results = decided(artifact, records)
    ids = [id_of(first + number, time) for number, time in enumerate(times)]
    for start in range(0, len(ids), AT_ONCE):
        entries = [
            entry_of(
                artifact,
                ids[at],
                times[at],
                record=records[at],
                score=scores[at],
                decision=results[at],
                keys={name: column[at] for name, column in (keys or {}).items()},
                **values,
            )
            for at in range(start, min(start + AT_ONCE, len(ids)))
        ]
        store.add(entries)
    add_outcomes(store, [(id_, 0, outcome) for id_, outcome in zip(ids, outcomes or [None] * len(ids), strict=True)])
    return ids


def fill_table(
    store: DecisionStore,
    artifact: Artifact,
    records: Sequence[Record],
    time: float,
    outcomes: Sequence[Any] | None = None,
    *,
    number: int = 0,
    keys: Mapping[str, Sequence[Any]] | None = None,
    **values: Any,
) -> str:
    """Log what a model decides about a list, as one entry; return its id, to which `.<n>` is added for row n."""
    scores, results = decided(artifact, records)
    if isinstance(scores[0], Mapping):
        scores = {label: [score[label] for score in scores] for label in scores[0]}
    id_ = id_of(number, time)
    entry = entry_of(artifact, id_, time, kind=TABLE, rows=len(records), keys=keys or {}, **values)
    store.add([entry], {id_: b"".join(written(columns_of(records), scores, results))})
    add_outcomes(store, [(id_, row, outcome) for row, outcome in enumerate(outcomes or [])])
    return id_


def add_outcomes(store: DecisionStore, known: Iterable[tuple[str, int, Any]]) -> None:
    """Say what really happened: by decision and row; None says nothing."""
    rows = [
        {
            "decision": id_,
            "row": row,
            "outcome": dumped(outcome),
            "time": 1.8e9,
            "client": "",
            "reports": 1,
            "contradicted": 0,
        }
        for id_, row, outcome in known
        if outcome is not None
    ]
    if rows:
        with store.database.writing() as connection:
            connection.execute(sql.insert(outcomes_table), rows)


def entry_of(artifact: Artifact, id_: str, time: float, **values: Any) -> Entry:
    """An entry about what a model decided."""
    return Entry(
        **{
            "kind": DECISION,
            "id": id_,
            "time": time,
            "use_case": artifact.manifest.use_case,
            "model_id": artifact.model_id,
            "digest": artifact.digest,
            "route": f"/output/{artifact.model_id}",
            **values,
        }
    )


# fixtures: import them where they are used


@pytest.fixture(scope="session")
def decisions_postgres() -> Iterator[str]:
    """The address of a PostgreSQL, without a database."""
    with running_postgres("keeper", "not-in-any-log") as port:
        yield f"postgresql://keeper:not-in-any-log@127.0.0.1:{port}"


@pytest.fixture(params=["sqlite", "postgresql"], name="log_address")
def address_of_log(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty log in a database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'decisions.db'}"
    return new_database(request.getfixturevalue("decisions_postgres"))


@pytest.fixture(name="store")
def decision_store(log_address: str) -> Iterator[DecisionStore]:
    """An empty log."""
    store = DecisionStore(log_address)
    yield store
    store.database.close()
