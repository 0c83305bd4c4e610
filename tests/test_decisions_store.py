"""The decision log's database, as SQLite and as PostgreSQL."""

import io
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import sqlalchemy as sql
from hypothesis import given
from hypothesis import strategies as st

from tabserve.decisions import store as module
from tabserve.decisions.entry import REFUSED, SHADOW, TABLE, Entry
from tabserve.decisions.migrations import NEWEST, VERSION_TABLE, versions
from tabserve.decisions.plain import dumped, loaded
from tabserve.decisions.schema import decisions, keys, metadata, tables
from tabserve.decisions.statistics import statistics
from tabserve.decisions.store import DecisionStore, key_of
from tabserve.errors import DecisionLogAwayError, NewerDecisionLogError
from tests.postgres import new_database, running_postgres

SECRET = "not-in-any-log"


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with running_postgres("keeper", SECRET) as port:
        yield f"postgresql://keeper:{SECRET}@127.0.0.1:{port}"


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'decisions.db'}"
    return new_database(request.getfixturevalue("postgres"))


@pytest.fixture
def store(address: str) -> Iterator[DecisionStore]:
    store = DecisionStore(address)
    yield store
    store.database.close()


def entry(**values: Any) -> Entry:
    """A decision."""
    usual = {
        "id": str(uuid.uuid4()),
        "time": 1e9,
        "use_case": "credit",
        "model_id": "credit-lightgbm_v1-1.2",
        "digest": "ab",
        "route": "/output/<model_id>",
        "record": {"age": 30, "purpose": "car"},
        "score": 0.25,
        "decision": 0,
        "threshold": 0.5,
    }
    return Entry(**{**usual, **values})


def rows(store: DecisionStore, table: sql.Table = decisions) -> list[dict[str, Any]]:
    with store.database.reading() as connection:
        ordered = sql.select(table).order_by(*table.primary_key)
        return [dict(row._mapping) for row in connection.execute(ordered)]


def test_a_decision_is_kept_as_it_was_made(store: DecisionStore) -> None:
    one = entry(client="alice", request_id="r1", arm="A", reasons=[{"feature": "age", "reason": "Aged 30"}])
    assert store.add([one]) == 1
    (row,) = rows(store)
    assert json.loads(row["record"]) == one.record
    assert json.loads(row["reasons"]) == one.reasons
    assert json.loads(row["decision"]) == 0
    plain = ("id", "kind", "time", "request_id", "client", "use_case", "model_id", "digest", "route", "arm", "score")
    assert {name: row[name] for name in plain} == {name: getattr(one, name) for name in plain}
    assert (row["threshold"], row["rows"], row["scores"], row["faults"], row["erased"]) == (0.5, 1, None, None, None)


def test_other_kinds_are_kept(store: DecisionStore) -> None:
    shadow = entry(kind=SHADOW, answers="x", score={"low": 0.25, "high": 0.75}, decision="high", threshold=None)
    table = entry(kind=TABLE, record={}, rows=3, score=None, decision=None)
    refused = entry(kind=REFUSED, record={}, score=None, decision=None, faults={"age:missing": 2})
    assert store.add([shadow, table, refused]) == 3
    by_kind = {row["kind"]: row for row in rows(store)}
    assert json.loads(by_kind[SHADOW]["scores"]) == shadow.score
    assert (by_kind[SHADOW]["score"], by_kind[SHADOW]["answers"]) == (None, "x")
    assert (by_kind[TABLE]["record"], by_kind[TABLE]["decision"], by_kind[TABLE]["rows"]) == (None, None, 3)
    assert json.loads(by_kind[REFUSED]["faults"]) == {"age:missing": 2}
    assert by_kind[REFUSED]["record"] is None


def test_an_entry_is_added_once(store: DecisionStore) -> None:
    first, second = entry(keys={"customer": "7"}), entry(keys={"customer": "7"})
    assert store.add([first, first]) == 1
    assert store.add([first, second]) == 1
    assert store.add([]) == 0
    assert {row["id"] for row in rows(store)} == {first.id, second.id}
    assert len(rows(store, keys)) == 2


def test_many_entries_are_added_at_once(store: DecisionStore) -> None:
    many = [entry() for _ in range(1500)]
    assert store.add(many[:700]) == 700
    assert store.add(many) == 800
    assert len(rows(store)) == 1500


def test_what_was_erased_does_not_come_back(store: DecisionStore) -> None:
    one = entry(keys={"customer": "7"})
    store.add([one])
    with store.database.writing() as connection:
        connection.execute(sql.update(decisions).values(record=None, erased=1.0))
        connection.execute(sql.delete(keys))
    assert store.add([one]) == 0
    assert rows(store)[0]["record"] is None
    assert rows(store, keys) == []


def test_records_are_found_by_their_ids(store: DecisionStore) -> None:
    single = entry(keys={"customer": 7.0, "order": "a\0b"})
    table = entry(kind=TABLE, keys={"customer": ["x", None, 7]}, rows=3)
    store.add([single, table])
    found = {(key["column"], key["value"], key["decision"], key["row"]) for key in rows(store, keys)}
    assert found == {
        ("customer", "7", single.id, 0),
        ("order", "a\ufffdb", single.id, 0),
        ("customer", "x", table.id, 0),
        ("customer", "7", table.id, 2),
    }


def test_tables_are_kept_in_parts(store: DecisionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", 10)
    one = entry(kind=TABLE, rows=3)
    store.add([one], {one.id: bytes(range(25))})
    store.add([one], {one.id: b"other"})
    content = io.BytesIO()
    for row in rows(store, tables):
        assert row["decision"] == one.id
        content.write(row["content"])
    assert content.getvalue() == bytes(range(25))


def test_whatever_a_text_holds_is_kept(store: DecisionStore) -> None:
    record = {"text": "zero \0, half \ud800, ü, \u2028"}
    store.add([entry(record=record, client="a\0\ud800")])
    (row,) = rows(store)
    assert loaded(row["record"]) == record


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(), st.lists))
def test_json_is_read_as_it_was_written(value: Any) -> None:
    assert loaded(dumped(value)) == value


@pytest.mark.parametrize(
    ("value", "key"), [("7", "7"), (7, "7"), (7.0, "7"), ("7.0", "7.0"), ("", ""), ("\ud800", "?")]
)
def test_keys_are_texts(value: Any, key: str) -> None:
    assert key_of(value) == key


def test_a_batch_is_added_as_a_whole(store: DecisionStore) -> None:
    store.add([entry()])
    with pytest.raises(DecisionLogAwayError):
        store.add([entry(), replace(entry(), kind=None)])  # type: ignore[arg-type]
    assert len(rows(store)) == 1
    store.add([entry()])
    assert len(rows(store)) == 2


def test_migrations_lead_to_the_schema(store: DecisionStore) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with store.database.writing() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_the_newest_revision_is_the_last_file() -> None:
    from alembic.script import ScriptDirectory

    folder = Path(versions.__file__).parent
    assert ScriptDirectory(folder.parent, version_locations=[folder]).get_heads() == [NEWEST]


def test_a_newer_database_is_refused(store: DecisionStore, address: str) -> None:
    store.add([entry()])
    with store.database.writing() as connection:
        connection.exec_driver_sql(f"update {VERSION_TABLE} set version_num = '9999'")
    other = DecisionStore(address)
    with pytest.raises(NewerDecisionLogError, match="newer version"):
        other.add([entry()])
    other.database.close()


def test_several_processes_may_make_the_tables(address: str) -> None:
    stores = [DecisionStore(address) for _ in range(4)]
    threads = [Thread(target=one.add, args=([entry()],)) for one in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows(stores[0])) == 4
    for one in stores:
        one.database.close()


def test_a_database_that_is_away_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = DecisionStore(f"sqlite:///{tmp_path / 'none' / 'decisions.db'}")
    for _ in range(2):
        with pytest.raises(DecisionLogAwayError):
            store.add([entry()])
    assert [record.message for record in caplog.records] == [
        "the database of decisions cannot be used: No such file or directory"
    ]


@pytest.mark.parametrize("what", ["a folder", "another file"])
def test_a_file_that_cannot_be_opened_is_a_log_that_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    path = tmp_path / "decisions.db"
    path.mkdir() if what == "a folder" else path.write_text("no database of SQLite's, but a text\n" * 100)
    store = DecisionStore(f"sqlite:///{path}")
    for _ in range(2):
        with pytest.raises(DecisionLogAwayError):
            statistics(store)
    (message,) = caplog.messages
    assert re.fullmatch("the database of decisions cannot be used: (unable to open|file is not a) database.*", message)
