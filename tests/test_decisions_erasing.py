"""Erasing records from the decision log, deleting old ones, and the log of accesses."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from tabserve.decisions.accesses import note, noted
from tabserve.decisions.entry import SHADOW, Entry
from tabserve.decisions.erasing import digest_of, erase
from tabserve.decisions.plain import loaded
from tabserve.decisions.reading import Wanted, found, logged, one
from tabserve.decisions.retention import DAY, expire, use_cases
from tabserve.decisions.schema import decisions, keys, outcomes, tables
from tabserve.decisions.store import DecisionStore
from tabserve.registry.artifact import Artifact
from tests.decisions import (  # noqa: F401 - three are fixtures
    add_outcomes,
    address_of_log,
    decision_store,
    decisions_postgres,
    entry_of,
    fill,
    fill_table,
    id_of,
)


def count(store: DecisionStore, table: sql.Table, *conditions: Any) -> int:
    with store.database.reading() as connection:
        return int(connection.scalar(sql.select(sql.func.count()).select_from(table).where(*conditions)) or 0)


def everything(store: DecisionStore) -> str:
    """All that is in the log but keys, as text."""
    with store.database.reading() as connection:
        return repr([connection.execute(sql.select(table)).all() for table in (decisions, keys, outcomes)])


def test_an_erased_record_leaves_a_tombstone_with_its_digest(
    store: DecisionStore, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    marked = [{**records[0], "purpose": "radio/tv", "person": "Xylophone4711"}, records[1]]
    store.add(
        [
            entry_of(
                artifact,
                id_of(number),
                10.0 + number,
                record=record,
                score=0.25,
                decision=0,
                client="alice",
                request_id="r",
                reasons=[{"text": "Xylophone4711"}],
                keys={"person": f"Xylophone4711{number}"},
            )
            for number, record in enumerate(marked)
        ]
    )
    store.add([entry_of(artifact, id_of(9), 10.0, kind=SHADOW, record=marked[0], score=0.5, answers=id_of(0))])
    add_outcomes(store, [(id_of(0), 0, 1), (id_of(1), 0, 1)])
    assert erase(store, [id_of(0), id_of(0), id_of(7), "nonsense"]) == (1, 2)
    kept = one(store, id_of(0))
    assert kept
    assert kept.erased
    assert kept.erased_digest == digest_of(dict(reversed(marked[0].items())))
    assert (kept.entry.record, kept.entry.score, kept.entry.decision, kept.entry.client) == ({}, None, None, "")
    assert (kept.entry.model_id, kept.entry.time, kept.outcome) == (artifact.model_id, 10.0, None)
    assert [batch.ids for batch in logged(store, "credit", with_outcomes=True)] == [[id_of(1)]]
    assert [*logged(store, "credit", kind=SHADOW)] == []
    assert [kept.entry.id for kept in found(store, Wanted(where={"person": "Xylophone47110"}))] == []
    assert "Xylophone47110" not in everything(store)
    assert count(store, outcomes) == 1
    assert erase(store, [id_of(0)]) == (0, 1)
    store.add([entry_of(artifact, id_of(0), 10.0, record=marked[0], score=0.25, decision=0)])  # what was late
    assert "Xylophone47110" not in everything(store)


def test_rows_of_a_table_are_erased_and_the_others_stay(
    store: DecisionStore, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    people = {"person": [str(number % 3) for number in range(6)]}
    table = fill_table(store, artifact, records[:6], 10.0, [0, 1, 0, 1, 0, 1], keys=people)
    before = {kept.entry.id: kept for kept in found(store, Wanted(), expand=True)}
    ids = [kept.entry.id for kept in found(store, Wanted(where={"person": "1"}))]
    assert ids == [f"{table}.1", f"{table}.4"]
    assert erase(store, [*ids, f"{table}.77"]) == (2, 1)
    (batch,) = logged(store, "credit", with_outcomes=True)
    assert batch.ids == [f"{table}.{row}" for row in (0, 2, 3, 5)]
    assert [one(store, id_) for id_ in batch.ids] == [before[id_] for id_ in batch.ids]
    assert one(store, ids[0]) is None
    tombstone = one(store, table)
    assert tombstone
    assert loaded(tombstone.erased_digest or "") == {"1": digest_of(records[1]), "4": digest_of(records[4])}
    assert (count(store, keys), count(store, outcomes)) == (4, 4)
    assert erase(store, [f"{table}.0"]) == (1, 0)
    again = one(store, table)
    assert again
    assert [*loaded(again.erased_digest or "")] == ["1", "4", "0"]
    assert erase(store, [table]) == (1, 0)
    assert [*logged(store, "credit")] == []
    assert (count(store, tables), count(store, keys), count(store, outcomes)) == (0, 0, 0)


@pytest.mark.parametrize("erased", [".1", ""])
def test_shadows_of_a_tables_rows_are_erased_with_them(
    store: DecisionStore, artifact: Artifact, records: list[dict[str, Any]], erased: str
) -> None:
    table = fill_table(store, artifact, records[:3], 10.0)
    shadow = {"kind": SHADOW, "record": {"purpose": "Xylophone4711"}, "score": 0.5, "answers": f"{table}.1"}
    store.add([entry_of(artifact, id_of(9), 10.0, **shadow)])
    assert erase(store, [f"{table}{erased}"]) == (1, 0)
    assert "Xylophone4711" not in everything(store)
    assert [*logged(store, "credit", kind=SHADOW)] == []


def test_what_is_old_is_deleted_with_all_that_belongs_to_it(
    store: DecisionStore, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    now = time.time()
    times = [now - 40 * DAY] * 700 + [now - 10 * DAY, now]
    ids = fill(store, artifact, (records * 2)[:702], times, [1] * 702, keys={"person": [*range(702)]})
    fill_table(store, artifact, records[:3], now - 31 * DAY, number=800)
    table = fill_table(store, artifact, records[:3], now - 5 * DAY, number=801)
    store.add([entry_of(artifact, id_of(900), now - 50 * DAY, use_case="wine")])
    assert [*use_cases(store)] == ["credit", "wine"]
    assert expire(store, 30) == 702
    assert [kept.entry.id for kept in found(store, Wanted())] == [ids[700], table, ids[701]]
    assert [count(store, one) for one in (decisions, keys, outcomes, tables)] == [3, 2, 2, 1]
    assert expire(store, 30) == 0


def test_a_record_with_half_a_character_is_erased(store: DecisionStore, artifact: Artifact) -> None:
    store.add([entry_of(artifact, id_of(0), 1.0, record={"purpose": "\ud800"}, score=0.5, decision=0)])
    assert erase(store, [id_of(0)]) == (1, 0)


def test_sqlite_gives_the_space_back(artifact: Artifact, record: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "decisions.db"
    store = DecisionStore(f"sqlite:///{path}")
    store.add([entry_of(artifact, id_of(number), 10.0, record=record) for number in range(5000)])
    store.database.empty_log()
    before = path.stat().st_size
    assert expire(store, 1) == 5000
    assert path.stat().st_size < before / 10
    assert record["purpose"].encode() not in path.read_bytes()


def test_the_process_that_moves_decisions_deletes_what_is_old(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'decisions.db'}"
    store = DecisionStore(address)
    usual = {"use_case": "credit", "model_id": "credit-a_v1-1.2", "digest": "ab", "route": "/predict"}
    store.add([Entry(id=id_of(age), time=time.time() - age * DAY, **usual) for age in (0, 20, 40, 60)])
    environment = {
        **os.environ,
        "DECISION_LOG": address,
        "DECISION_SPOOL_FOLDER": str(tmp_path / "spool"),
        "DECISION_RETENTION": "30d",
        "MODEL_REGISTRY": str(tmp_path / "models"),
    }
    command = [sys.executable, "-m", "tabserve", "mover", "--parent", "1"]  # which is gone, so it looks once
    subprocess.run(command, env=environment, check=True, timeout=60, capture_output=True)
    assert [kept.entry.id for kept in found(store, Wanted())] == [id_of(20), id_of(0)]


def test_accesses_are_listed_in_their_order(store: DecisionStore) -> None:
    note(store, "alice", "find", {"use_case": "credit", "where": ["person"]}, 3)
    note(store, "bob", "erase", {}, 0)
    first, second = noted(store)
    assert first[1:] == ("alice", "find", {"use_case": "credit", "where": ["person"]}, 3)
    assert second[1:] == ("bob", "erase", {}, 0)
    assert 0 <= time.time() - first.time < 60
