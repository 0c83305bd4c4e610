"""Worker, mover and database are killed while decisions are made: each one that was answered is in the log once."""

import json
import os
import random
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from tabserve.decisions.mover import Mover
from tabserve.decisions.schema import decisions, tables
from tabserve.decisions.store import DecisionStore
from tabserve.registry.registry import Registry
from tests.conftest import Server, children_of, running_server, wait_until
from tests.postgres import Postgres, new_database

SECRET = "not-in-any-log"
MOMENTS = 20
PAUSE = 0.01  # seconds between two requests of a client

pytestmark = pytest.mark.slow


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    server = Postgres("keeper", SECRET)
    server.start()
    yield server
    server.stop()


class Clients:
    """Clients that send records and lists until they are stopped, and note the ids of all whole answers."""

    def __init__(self, url: str, record: dict[str, Any]) -> None:
        self._bodies = [json.dumps(content).encode() for content in (record, record, record, [record] * 3)]
        self._url = f"{url}/output/credit"
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(3)]
        self.answered: list[str] = []

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        number = 0
        while not self._is_over.wait(PAUSE):
            number += 1
            body = self._bodies[number % len(self._bodies)]
            request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
            with suppress(OSError, HTTPException, ValueError):  # a connection that breaks, or half an answer
                answer = urllib.request.urlopen(request, timeout=5)
                with answer:
                    self.answered += json.loads(answer.read())["decision_ids"]


def command_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def kill(server: Server, *, mover: bool) -> None:
    """Kill a worker or the mover."""
    found = [pid for pid in children_of(server.process.pid) if ("tabserve mover" in command_of(pid)) == mover]
    if found:
        os.kill(random.choice(found), signal.SIGKILL)


@pytest.mark.parametrize(
    ("database", "killed"),
    [
        ("sqlite", "worker"),
        ("sqlite", "mover"),
        ("postgresql", "worker"),
        ("postgresql", "mover"),
        ("postgresql", "database"),
    ],
)
def test_each_answered_decision_is_in_the_log_once(
    database: str,
    killed: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    trained: Registry,
    record: dict[str, Any],
) -> None:
    postgres: Postgres | None = request.getfixturevalue("postgres") if database == "postgresql" else None
    address = f"sqlite:///{tmp_path / 'decisions.db'}"
    if postgres:
        address = new_database(f"postgresql://keeper:{SECRET}@127.0.0.1:{postgres.port}")
    environment = {
        "MODEL_REGISTRY": str(trained.location),
        "WEB_CONCURRENCY": "2",
        "DECISION_LOG": address,
        "DECISION_SPOOL_FOLDER": str(tmp_path / "spool"),
    }
    constants = {"tabserve.api.companion.LONG": 0.0, "tabserve.decisions.spool.OLDEST": 0.5}
    store = DecisionStore(address)
    random.seed(f"{database} {killed}")
    with running_server(tmp_path / "log.txt", environment, constants) as server:
        clients = Clients(server.url, record)
        with clients:
            wait_until(lambda: len(clients.answered) > 10, 20, "Nothing is answered.")
            for _ in range(MOMENTS):
                time.sleep(random.uniform(0.05, 1.5))
                if postgres and killed == "database":
                    postgres.kill()
                    time.sleep(random.uniform(0, 0.5))
                    postgres.start()
                else:
                    kill(server, mover=killed == "mover")
            time.sleep(1)
    mover = Mover(tmp_path / "spool", store, trained)  # as at the next start
    mover.move()
    mover.close()
    singles = {id_ for id_ in clients.answered if "." not in id_}
    lists = {id_.partition(".")[0] for id_ in clients.answered if "." in id_}
    with store.database.reading() as connection:
        kept = connection.scalars(sql.select(decisions.c.id)).all()
        beside = connection.scalars(sql.select(tables.c.decision)).all()
    store.database.close()
    assert len(clients.answered) == len(set(clients.answered)) > 100
    assert len(kept) == len(set(kept))
    assert singles | lists <= set(kept)
    assert lists <= set(beside)
    assert not [*(tmp_path / "spool").glob("*.damaged")]
