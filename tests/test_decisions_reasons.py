"""Reasons of logged decisions: worked out later, once, by the model that decided; or when somebody asks."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from tabserve.decisions import reasons as module
from tabserve.decisions.erasing import erase
from tabserve.decisions.migrations import VERSION_TABLE
from tabserve.decisions.reading import one
from tabserve.decisions.reasons import Reasons, waiting_decisions, waiting_models, with_reasons
from tabserve.decisions.schema import decisions
from tabserve.decisions.spool import Spool
from tabserve.decisions.store import DecisionStore
from tabserve.explain import explain
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tests.conftest import ROOT, wait_until
from tests.decisions import (  # noqa: F401 - three are fixtures
    address_of_log,
    decision_store,
    decisions_postgres,
    entry_of,
    fill,
    fill_table,
    id_of,
)
from tests.test_decisions_mover import payload

Records = list[dict[str, Any]]


def explained(artifact: Artifact, records: Sequence[Any]) -> list[Any]:
    """What the log holds of their reasons."""
    return [[reason.to_json() for reason in one.reasons] for one in explain(artifact, records)]


def kept(store: DecisionStore, ids: Sequence[str]) -> list[Any]:
    """The reasons that the log holds."""
    found = [one(store, id_) for id_ in ids]
    return [entry.entry.reasons for entry in found if entry]


def test_reasons_are_worked_out_for_what_waits_the_newest_first(
    store: DecisionStore, artifact: Artifact, records: Records, trained: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 4)
    ids = fill(store, artifact, records[:10], [float(second) for second in range(10)])
    reasons = Reasons(store, trained)
    assert waiting_decisions(store) == 10
    assert reasons.work_out() == 4
    assert kept(store, ids) == [None] * 6 + explained(artifact, records[6:10])
    assert [reasons.work_out() for _ in range(3)] == [4, 2, 0]
    assert kept(store, ids) == explained(artifact, records[:10])
    assert waiting_decisions(store) == 0


def test_time_for_reasons_is_short(
    store: DecisionStore, artifact: Artifact, records: Records, trained: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST", 0.0)
    monkeypatch.setattr(module, "PIECE", 3)
    fill(store, artifact, records[:7], [1.0] * 7)
    reasons = Reasons(store, trained)
    assert [reasons.work_out() for _ in range(4)] == [3, 3, 1, 0]


def test_decisions_whose_model_is_not_there_wait_until_it_is(
    store: DecisionStore, artifact: Artifact, records: Records, trained: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    load = trained.load
    monkeypatch.setattr(trained, "load", lambda model_id: loads.append(model_id) or load(model_id))
    fill(store, artifact, records[:3], [1.0, 2, 3], digest="another")
    (gone,) = fill(store, artifact, records[:1], [4.0], first=10, model_id="credit-gone_v1.0.0-1.5")
    (there,) = fill(store, artifact, records[:1], [5.0], first=20)
    reasons = Reasons(store, trained)
    assert [reasons.work_out() for _ in range(5)] == [1, 0, 0, 0, 0]
    assert len(loads) == 2  # nothing that is not there is asked for again and again
    assert kept(store, [there]) == explained(artifact, records[:1])
    assert waiting_decisions(store) == 4
    assert waiting_models(store) == sorted(
        [(artifact.model_id, "another"), ("credit-gone_v1.0.0-1.5", artifact.digest)]
    )
    with store.database.writing() as connection:  # the model comes back
        connection.execute(sql.update(decisions).where(decisions.c.id == gone).values(model_id=artifact.model_id))
    assert Reasons(store, trained).work_out() == 1
    assert kept(store, [gone]) == explained(artifact, records[:1])


def test_what_cannot_be_explained_is_asked_once(store: DecisionStore, trained: Registry) -> None:
    model = trained.load(trained.latest("bikes", "SVR"))
    hour = {"hour": 15, "weekday": "Friday", "month": "June", "weather": "Cloudy"}
    ids = fill(store, model, [hour] * 3, [1.0, 2, 3])
    reasons = Reasons(store, trained)
    assert [reasons.work_out(), reasons.work_out(), waiting_decisions(store)] == [3, 0, 0]
    assert kept(store, ids) == [None] * 3
    shown = one(store, ids[0])
    assert shown
    assert not shown.reasons_wait
    assert "cannot be explained" in with_reasons(trained, shown).reasons_note


def test_an_invalid_record_does_not_hold_up_the_others(
    store: DecisionStore, artifact: Artifact, records: Records, trained: Registry
) -> None:
    ids = fill(store, artifact, records[:2], [1.0, 3.0])
    store.add([entry_of(artifact, id_of(9, 2.0), 2.0, record={"age": "x"}, score=0.5, decision=0)])
    reasons = Reasons(store, trained)
    assert [reasons.work_out(), reasons.work_out()] == [3, 0]
    assert kept(store, [*ids, id_of(9, 2.0)]) == [*explained(artifact, records[:2]), None]


def test_what_is_erased_meanwhile_does_not_come_back(
    store: DecisionStore, artifact: Artifact, records: Records, trained: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = fill(store, artifact, records[:2], [1.0, 2.0])
    texts = module._texts
    erasing = threading.Thread(target=erase, args=(store, ids[:1]))

    def erase_first(*arguments: Any) -> list[str]:
        erasing.start()
        erasing.join(0.5)  # PostgreSQL lets it wait for the rows
        return texts(*arguments)

    monkeypatch.setattr(module, "_texts", erase_first)
    Reasons(store, trained).work_out()
    erasing.join()
    erased = one(store, ids[0])
    assert erased
    assert (erased.entry.record, erased.entry.reasons, erased.erased is None) == ({}, None, False)
    assert kept(store, ids[1:]) == explained(artifact, records[1:2])
    assert waiting_decisions(store) == 0


def test_what_waits_is_found_in_an_index_of_its_own(tmp_path: Path, artifact: Artifact, records: Records) -> None:
    store = DecisionStore(f"sqlite:///{tmp_path / 'decisions.db'}")
    fill(store, artifact, records[:1], [1.0])
    said: list[str] = []
    asks = "EXPLAIN QUERY PLAN SELECT id FROM tabserve_decisions WHERE reasons IS NULL AND record IS NOT NULL"
    with store.database.reading() as connection:
        for more in ("", " AND model_id = 'a' AND digest = 'b' ORDER BY id DESC", " ORDER BY model_id, digest LIMIT 1"):
            said += [row[-1] for row in connection.exec_driver_sql(asks + more)]
    assert [("tabserve_decisions_without_reasons" in line) for line in said] == [True] * 3


def test_decisions_of_an_earlier_schema_wait_for_their_reasons(
    store: DecisionStore, log_address: str, artifact: Artifact, records: Records, trained: Registry
) -> None:
    ids = fill(store, artifact, records[:3], [1.0, 2, 3])
    with store.database.writing() as connection:
        connection.exec_driver_sql("DROP INDEX tabserve_decisions_without_reasons")
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '1'")
    store.database.close()
    newer = DecisionStore(log_address)
    assert Reasons(newer, trained).work_out() == 3
    assert kept(newer, ids) == explained(artifact, records[:3])
    newer.database.close()


def test_reasons_that_are_not_in_the_log_are_worked_out_when_asked(
    store: DecisionStore, artifact: Artifact, records: Records, trained: Registry
) -> None:
    (single,) = fill(store, artifact, records[:1], [1.0])
    table = fill_table(store, artifact, records[1:4], 2.0, number=9)
    for id_, record in ((single, records[0]), (f"{table}.2", records[3])):
        found = one(store, id_)
        assert found
        shown = with_reasons(trained, found)
        assert shown.entry.reasons == explained(artifact, [record])[0]
        assert "Worked out when asked" in shown.to_json()["reasons_note"]
        for changes, note in (
            ({"model_id": "credit-gone_v1.0.0-1.5"}, "not in the registry"),
            ({"digest": "a"}, "digest"),
        ):
            other = with_reasons(trained, replace(found, entry=replace(found.entry, **changes)))
            assert (other.entry.reasons, note in other.reasons_note) == (None, True)
    Reasons(store, trained).work_out()
    for id_ in (single, table):  # the log's own, and a whole table, which has none
        found = one(store, id_)
        assert found
        assert with_reasons(trained, found) == found
        assert found.reasons_note == ""


@contextmanager
def mover_of(address: str, folder: Path, registry: Registry) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "DECISION_LOG": address,
        "DECISION_SPOOL_FOLDER": str(folder),
        "MODEL_REGISTRY": str(registry.location),
    }
    process = subprocess.Popen([sys.executable, "-m", "tabserve", "mover"], cwd=ROOT, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_mover_that_is_killed_before_it_has_worked_out_all_loses_none(
    store: DecisionStore, log_address: str, artifact: Artifact, records: Records, trained: Registry, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool", 100_000_000)
    decided = {"model_id": artifact.model_id, "digest": artifact.digest}
    ids = [id_of(number) for number in range(4000)]
    for number, id_ in enumerate(ids):
        spool.append(payload(id=id_, record=records[number % 1000], **decided))
    spool.close()

    def waiting() -> tuple[int, int]:
        with store.database.reading() as connection:
            there = connection.scalar(sql.select(sql.func.count()).select_from(decisions)) or 0
        return there, waiting_decisions(store)

    waiting()  # the tables are there
    with mover_of(log_address, tmp_path / "spool", trained):
        wait_until(lambda: waiting()[0] == 4000 and waiting()[1] < 4000, 60, "No reasons are worked out.")
    assert 0 < waiting()[1] < 4000
    with mover_of(log_address, tmp_path / "spool", trained):
        wait_until(lambda: waiting() == (4000, 0), 60, "Not all reasons are worked out.")
    assert kept(store, ids[::40]) == [explained(artifact, [records[number % 1000]])[0] for number in range(0, 4000, 40)]
