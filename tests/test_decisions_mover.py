"""The mover: from spool files into the database, exactly once."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sql

from tabserve.cli.mover import PAUSE
from tabserve.decisions import mover as module
from tabserve.decisions.frames import framed
from tabserve.decisions.ids import new_id
from tabserve.decisions.mover import Mover
from tabserve.decisions.plain import loaded
from tabserve.decisions.schema import decisions, tables
from tabserve.decisions.spool import SUFFIX, Spool
from tabserve.decisions.store import DecisionStore
from tabserve.errors import DecisionLogAwayError
from tabserve.explain import explain
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tests.conftest import ROOT, wait_until

MOST = 10_000_000


@pytest.fixture
def store(tmp_path: Path) -> DecisionStore:
    return DecisionStore(f"sqlite:///{tmp_path / 'decisions.db'}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(folder: Path) -> Iterator[Spool]:
    spool = Spool(folder, MOST)
    yield spool
    spool.close()


@pytest.fixture
def mover(folder: Path, store: DecisionStore, trained: Registry) -> Iterator[Mover]:
    mover = Mover(folder, store, trained)
    yield mover
    mover.close()


def payload(**values: Any) -> bytes:
    """A spooled entry."""
    usual = {
        "id": new_id(),
        "time": time.time(),
        "use_case": "credit",
        "model_id": "credit-lightgbm_v1-1.2",
        "digest": "ab",
        "route": "/output/<model_id>",
        "record": {"age": 30},
        "score": 0.25,
        "decision": 0,
    }
    return orjson.dumps({**usual, **values})


def kept(store: DecisionStore) -> dict[str, Mapping[str, Any]]:
    with store.database.reading() as connection:
        return {row.id: row._mapping for row in connection.execute(sql.select(decisions))}


def spools(folder: Path) -> list[Path]:
    return [*folder.glob(f"*{SUFFIX}")]


def test_entries_are_moved_while_their_worker_writes(mover: Mover, spool: Spool, store: DecisionStore) -> None:
    assert mover.move() == 0
    for number in range(3):
        spool.append(payload(id=str(number)))
    assert mover.move() == 3
    spool.append(payload(id="3"))
    assert mover.move() == 1
    assert mover.move() == 0
    assert kept(store).keys() == {"0", "1", "2", "3"}
    assert not mover.is_done


def test_a_file_is_opened_once_however_often_it_is_looked_at(mover: Mover, spool: Spool) -> None:
    spool.append(payload())
    mover.move()
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(20):
        mover.move()
    assert len([*Path("/proc/self/fd").iterdir()]) < before + 5  # others may open some meanwhile


def test_a_file_is_deleted_when_its_worker_has_left_it(
    mover: Mover, spool: Spool, store: DecisionStore, folder: Path
) -> None:
    spool.append(payload())
    mover.move()
    assert len(spools(folder)) == 1
    spool.append(payload())
    spool.close()
    mover.move()
    assert spools(folder) == []
    assert mover.is_done
    assert len(kept(store)) == 2


def test_entries_are_added_once_however_often_they_are_moved(
    spool: Spool, store: DecisionStore, folder: Path, trained: Registry
) -> None:
    for _ in range(10):
        spool.append(payload())
    for _ in range(3):  # as after a kill
        mover = Mover(folder, store, trained)
        mover.move()
        mover.close()
    assert len(kept(store)) == 10


def test_entries_wait_for_a_database_that_is_away(
    mover: Mover, spool: Spool, store: DecisionStore, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    spool.append(payload())
    spool.close()
    with monkeypatch.context() as patched:

        def away(*_: Any) -> int:
            raise DecisionLogAwayError

        patched.setattr(store, "add", away)
        for _ in range(2):
            with pytest.raises(DecisionLogAwayError):
                mover.move()
    assert len(spools(folder)) == 1
    mover.move()
    assert len(kept(store)) == 1
    assert spools(folder) == []


def test_entries_larger_than_a_piece_are_moved(
    mover: Mover, spool: Spool, store: DecisionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE", 100)
    for size in (10, 5000, 10, 500):
        spool.append(payload(record={"text": "x" * size}))
    assert mover.move() == 4
    assert len(kept(store)) == 4


def test_what_is_damaged_is_set_aside(
    mover: Mover, store: DecisionStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = bytearray(framed(payload()))
    broken[30] ^= 1
    content = framed(payload(id="a")) + bytes(broken) + framed(b"{}") + framed(payload(id="b")) + framed(payload())[:-1]
    (folder / f"x{SUFFIX}").write_bytes(content)
    mover.move()
    assert kept(store).keys() == {"a", "b"}
    assert spools(folder) == []
    aside = (folder / "x.damaged").read_bytes()
    assert bytes(broken) in aside
    assert (folder / "entries.damaged").read_bytes() == b"{}"
    assert "set aside" in caplog.text
    assert str(folder) not in caplog.text


def test_no_entry_holds_up_those_behind_it(mover: Mover, spool: Spool, store: DecisionStore, folder: Path) -> None:
    deep = payload(record={"remark": 0}).replace(b":0}", b":" + b"[" * 200_000 + b"]" * 200_000 + b"}")
    hostile = [deep, payload(kind="table", table={"decisions": 5}), payload(kind="table", table={"decisions": [1]})]
    for one in hostile:
        spool.append(one)
    spool.append(payload(id="a"))
    mover.move()
    assert kept(store).keys() == {"a"}
    assert (folder / "entries.damaged").read_bytes() == b"".join(hostile)


def test_tables_are_moved_with_their_entries(mover: Mover, spool: Spool, store: DecisionStore, folder: Path) -> None:
    id_ = new_id()
    spool.write_table(id_, b"parquet")
    spool.append(payload(id=id_, kind="table", record={}, score=None, decision=None, rows=2))
    mover.move()
    assert kept(store)[id_]["rows"] == 2
    with store.database.reading() as connection:
        assert connection.scalars(sql.select(tables.c.content)).all() == [b"parquet"]
    assert not [*folder.glob("*.parquet")]


def test_tables_that_nobody_wrote_an_entry_for_are_removed_after_a_while(
    mover: Mover, spool: Spool, folder: Path
) -> None:
    spool.write_table(new_id(), b"old")
    spool.write_table(new_id(), b"new")
    old, new = sorted(folder.glob("*.parquet"))
    os.utime(old, (0, 0))
    spool.append(payload())  # a busy service is never without entries
    mover.move()
    assert [*folder.glob("*.parquet")] == [new]


def test_an_old_table_whose_entry_waited_for_the_database_is_moved(
    mover: Mover, spool: Spool, store: DecisionStore, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    id_ = new_id()
    spool.write_table(id_, b"parquet")
    os.utime(folder / f"{id_}.parquet", (0, 0))
    spool.append(payload(id=id_, kind="table", record={}, score=None, decision=None, rows=2))
    with monkeypatch.context() as patched:

        def away(*_: Any) -> int:
            raise DecisionLogAwayError

        patched.setattr(store, "add", away)
        with pytest.raises(DecisionLogAwayError):
            mover.move()
    mover.move()
    with store.database.reading() as connection:
        assert connection.scalars(sql.select(tables.c.content)).all() == [b"parquet"]


def test_reasons_are_those_of_the_model_that_decided(
    mover: Mover, spool: Spool, store: DecisionStore, artifact: Artifact, record: dict[str, Any]
) -> None:
    decided = {"model_id": artifact.model_id, "digest": artifact.digest, "record": record}
    spool.append(payload(id="same", **decided))
    spool.append(payload(id="other digest", **{**decided, "digest": "other"}))
    spool.append(payload(id="gone"))
    spool.append(payload(id="invalid", **{**decided, "record": {}}))
    assert mover.move() == 4
    assert {row["reasons"] for row in kept(store).values()} == {None}  # moving has not waited for them
    while mover.work_out_reasons():
        pass
    found = kept(store)
    (explanation,) = explain(artifact, [record])
    assert explanation.reasons
    assert loaded(found["same"]["reasons"]) == [reason.to_json() for reason in explanation.reasons]
    assert [found[id_]["reasons"] for id_ in ("other digest", "gone", "invalid")] == [None, None, "null"]
    spool.append(payload(id="again", **decided))
    mover.move()
    mover.work_out_reasons()
    assert kept(store)["again"]["reasons"] == found["same"]["reasons"]


def test_only_one_mover_works_in_a_folder(mover: Mover, folder: Path, store: DecisionStore, trained: Registry) -> None:
    assert mover.is_alone()
    other = Mover(folder, store, trained)
    assert not other.is_alone()
    other.close()


@pytest.fixture
def command(folder: Path, tmp_path: Path, trained: Registry) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "DECISION_LOG": f"sqlite:///{tmp_path / 'decisions.db'}",
        "DECISION_SPOOL_FOLDER": str(folder),
        "MODEL_REGISTRY": str(trained.location),
    }
    process = subprocess.Popen([sys.executable, "-m", "tabserve", "mover"], cwd=ROOT, env=environment)
    yield process
    process.kill()
    process.wait()


def test_the_command_moves_until_it_is_stopped_and_nobody_writes(
    command: subprocess.Popen[bytes], spool: Spool, store: DecisionStore, folder: Path
) -> None:
    spool.append(payload())
    wait_until(lambda: len(kept(store)) == 1, 20, "Nothing is moved.")
    command.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    spool.append(payload())
    assert command.poll() is None
    spool.close()
    assert command.wait(10) == 0
    assert len(kept(store)) == 2
    assert spools(folder) == []


def test_entries_that_come_one_by_one_are_moved_together(
    command: subprocess.Popen[bytes], spool: Spool, store: DecisionStore, tmp_path: Path
) -> None:
    spool.append(payload())
    wait_until(lambda: len(kept(store)) == 1, 20, "Nothing is moved.")
    seen: dict[int, float] = {}  # when others had committed that often
    with closing(sqlite3.connect(tmp_path / "decisions.db")) as connection:
        end = time.monotonic() + 60
        while len(seen) < 7 and time.monotonic() < end:
            spool.append(payload())
            seen.setdefault(connection.execute("PRAGMA data_version").fetchone()[0], time.monotonic())
            time.sleep(0.003)
    assert command.poll() is None
    times = [*seen.values()]
    assert len(times) == 7
    assert times[-1] - times[1] > 5 * PAUSE * 0.8  # a busy machine makes it longer, never shorter


def test_what_waits_is_known(mover: Mover, spool: Spool) -> None:
    assert mover.waiting == 0
    spool.append(payload())
    assert mover.waiting > 200
    mover.move()
    assert mover.waiting == 0
