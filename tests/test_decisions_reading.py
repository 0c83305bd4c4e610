"""Reading the decision log: batches in the order of time, and entries by id or by a column's value."""

import io
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sql
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from tabserve.decisions.entry import SHADOW, TABLE
from tabserve.decisions.erasing import erase
from tabserve.decisions.reading import Wanted, found, logged, one, table_file
from tabserve.decisions.schema import decisions
from tabserve.decisions.store import DecisionStore
from tabserve.decisions.tables import Rows, columns_of, rows_at, rows_in, written
from tabserve.registry.artifact import Artifact
from tests.decisions import (  # noqa: F401 - three are fixtures
    address_of_log,
    decided,
    decision_store,
    decisions_postgres,
    entry_of,
    fill,
    fill_table,
    id_of,
)

CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.text(max_size=5)
)


def test_single_records_and_rows_of_tables_come_in_the_order_of_time(
    store: DecisionStore, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    ids = fill(store, artifact, records[:6], [10.0, 40, 20, 20, 20, 50], [1, None, 0, 0, 1, None])
    table = fill_table(store, artifact, records[6:13], 30.0, [0, 1, None, 0, 0, 0, 1], number=10, arm="B")
    wanted = [ids[0], *ids[2:5], *(f"{table}.{row}" for row in range(7)), ids[1], ids[5]]
    sent = [records[0], *records[2:5], *records[6:13], records[1], records[5]]
    for size in (1, 2, 3, 100):
        batches = [*logged(store, "credit", with_outcomes=True, size=size)]
        assert all(0 < len(batch.ids) <= size for batch in batches)
        assert [id_ for batch in batches for id_ in batch.ids] == wanted
        assert [record for batch in batches for record in batch.records] == sent
        scores, results = decided(artifact, sent)
        assert np.concatenate([batch.scores for batch in batches]).tolist() == scores
        assert [result for batch in batches for result in batch.decisions] == results
        outcomes = [outcome for batch in batches for outcome in batch.outcomes]
        assert outcomes == [1, 0, 0, 1, 0, 1, None, 0, 0, 0, 1, None, None]
        times = np.concatenate([batch.times for batch in batches])
        assert times.tolist() == [10, 20, 20, 20, *[30] * 7, 40, 50]
        assert [arm for batch in batches for arm in batch.arms] == ["", "", "", "", *["B"] * 7, "", ""]
    (batch,) = logged(store, "credit", until=25.0)
    assert batch.outcomes == [None] * 4
    assert [*logged(store, "bikes")] == []


def test_times_models_and_kinds_choose(store: DecisionStore, artifact: Artifact, records: list[dict[str, Any]]) -> None:
    ids = fill(store, artifact, records[:4], [10.0, 20, 30, 40])
    shadow = fill(
        store, artifact, records[:1], [20.0], first=10, kind=SHADOW, model_id="credit-a_v1-1.2", answers=ids[1]
    )
    (batch,) = logged(store, "credit", since=20.0, until=40.0)
    assert batch.ids == ids[1:3]
    (batch,) = logged(store, "credit", model_id=artifact.model_id)
    assert batch.ids == ids
    assert [*logged(store, "credit", model_id="credit-a_v1-1.2")] == []
    (batch,) = logged(store, "credit", kind=SHADOW)
    assert (batch.ids, batch.model_ids) == (shadow, ["credit-a_v1-1.2"])


def test_probabilities_of_several_classes_come_by_label(store: DecisionStore, artifact: Artifact) -> None:
    by_label = {"low": 0.5, "high.er": 0.25, "": 0.25}
    single, table = id_of(1, 5.0), id_of(2, 6.0)
    store.add([entry_of(artifact, single, 5.0, record={"a": 1}, score=by_label, decision="low")])
    content = written({"a": [1, None]}, {label: [score, None] for label, score in by_label.items()}, ["low", None])
    store.add([entry_of(artifact, table, 6.0, kind=TABLE, rows=2)], {table: b"".join(content)})
    batches = [*logged(store, "credit")]
    assert [batch.ids for batch in batches] == [[single], [f"{table}.0"]]  # a row at fault was not decided
    assert [batch.scores for batch in batches] == [[by_label]] * 2
    assert [batch.records for batch in batches] == [[{"a": 1}]] * 2


def test_an_entry_is_found_by_its_id(store: DecisionStore, artifact: Artifact, records: list[dict[str, Any]]) -> None:
    reasons = [{"column": "age", "weight": -0.5}]
    (id_,) = fill(
        store, artifact, records[:1], [10.0], [1], client="alice", request_id="r", threshold=0.2, reasons=reasons
    )
    table = fill_table(store, artifact, records[1:4], 20.0, [None, 0, 1], threshold=0.2)
    kept = one(store, id_)
    assert kept
    assert kept.outcome
    assert (kept.entry.record, kept.entry.reasons, kept.entry.client) == (records[0], reasons, "alice")
    assert (kept.outcome.outcome, kept.outcome.reports, kept.erased) == (1, 1, None)
    row = one(store, f"{table}.2")
    assert row
    assert row.outcome
    assert (row.entry.id, row.entry.kind, row.entry.rows) == (f"{table}.2", "decision", 1)
    assert (row.entry.record, row.entry.threshold, row.outcome.outcome) == (records[3], 0.2, 1)
    whole = one(store, table)
    assert whole
    assert (whole.entry.kind, whole.entry.rows, whole.entry.record) == (TABLE, 3, {})
    for nothing in (f"{table}.3", f"{table}.02", f"{table}.", f"{table}.-1", f"{id_}.0", id_of(9), "", "\ud800", "\0"):
        assert one(store, nothing) is None


def test_entries_are_found_by_the_values_of_id_columns(
    store: DecisionStore, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    people, cases = ["7", "8", "7"], ["a", "a", "b"]
    ids = fill(store, artifact, records[:3], [10.0, 20, 30], keys={"person": people, "case": cases})
    table = fill_table(store, artifact, records[:3], 25.0, keys={"person": [8, 7.0, None], "case": ["a", "b", "a"]})

    def where(**values: str) -> list[str]:
        return [kept.entry.id for kept in found(store, Wanted(where=values))]

    assert where(person="7") == [ids[0], f"{table}.1", ids[2]]
    assert where(person="8", case="a") == [ids[1], f"{table}.0"]
    assert where(person="8", case="b") == where(person="9") == where(people="7") == []
    assert [kept.entry.id for kept in found(store, Wanted(use_case="bikes", where={"person": "7"}))] == []
    assert [kept.entry.id for kept in found(store, Wanted())] == [*ids[:2], table, ids[2]]
    assert [kept.entry.id for kept in found(store, Wanted(since=20.0), expand=True)] == [
        ids[1],
        *(f"{table}.{row}" for row in range(3)),
        ids[2],
    ]


def test_the_decisions_about_a_person_are_looked_up(tmp_path: Path) -> None:
    store = DecisionStore(f"sqlite:///{tmp_path / 'decisions.db'}")
    wanted = Wanted(use_case="credit", where={"person": "7"})
    query = sql.select(decisions.c.id).where(*wanted.conditions()).order_by(decisions.c.time).limit(10)
    text = str(query.compile(compile_kwargs={"literal_binds": True}, dialect=sqlite.dialect()))
    with store.database.reading() as connection:
        plan = repr(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").all())
    assert "SEARCH tabserve_decisions USING INDEX sqlite_autoindex_tabserve_decisions_1 (id=?)" in plan
    assert "SCAN" not in plan


def test_a_table_is_read_whole_while_its_rows_are_erased(
    store: DecisionStore, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [random.Random(row).randbytes(60_000).hex() for row in range(30)]  # some parts, as nothing is alike
    content = b"".join(written({"text": texts}, [0.5] * 30, [1] * 30))
    store.add([entry_of(artifact, id_of(1), 10.0, kind=TABLE, rows=30)], {id_of(1): content})
    reading, rows = store.database.reading, iter(range(30))

    @contextmanager
    def erasing() -> Iterator[sql.Connection]:  # one after each transaction
        with reading() as connection:
            yield connection
        erase(store, [f"{id_of(1)}.{next(rows)}"])

    monkeypatch.setattr(store.database, "reading", erasing)
    with table_file(store, id_of(1)) as file:
        assert file
        (read,) = rows_in(file, 30)
    assert [record["text"] for record in read.records] == texts


def sizes(read: list[Rows]) -> list[int]:
    return [len(rows.records) for rows in read]


@given(st.lists(st.dictionaries(st.text(max_size=3), CELLS, max_size=4), min_size=1, max_size=6), st.integers(1, 7))
def test_a_table_is_read_as_it_was_written(sent: list[dict[str, Any]], size: int) -> None:
    decisions = [number % 3 or None for number in range(len(sent))]
    scores = [decision and decision / 3 for decision in decisions]
    file = io.BytesIO(b"".join(written(columns_of(sent), scores, decisions)))
    without_none = [{name: value for name, value in record.items() if value is not None} for record in sent]
    for first in range(len(sent)):
        read = [*rows_in(file, size, first)]
        assert [record for rows in read for record in rows.records] == without_none[first:]
        assert [score for rows in read for score in rows.scores] == scores[first:]
        assert [decision for rows in read for decision in rows.decisions] == decisions[first:]
        assert [rows.first for rows in read] == [first + at for at in accumulate(sizes(read)[:-1], initial=0)]
    for at in range(len(sent)):
        places = [place for place in range(len(sent) + 2) if place != at]
        read = [*rows_at(file, places)]
        assert [rows.first for rows in read] == [place for place in places if place < len(sent)]
        assert [record for rows in read for record in rows.records] == without_none[:at] + without_none[at + 1 :]
    read_again = [record for rows in rows_in(file, 9) for record in rows.records]
    for record, again in zip(without_none, read_again, strict=True):  # True is not 1, though they are equal
        assert [type(value) is bool for value in record.values()] == [type(again[name]) is bool for name in record]
