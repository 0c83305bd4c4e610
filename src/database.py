"""A database of the service's own, SQLite or PostgreSQL, which many processes use at once."""

import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from tabserve.errors import TabserveError

BUSY = 10  # seconds to wait for another process that writes to SQLite
CONNECT_TIME = 5  # seconds, for PostgreSQL
_LOCK = 0x7461_6273  # "tabs": the key of PostgreSQL's advisory lock

logger = logging.getLogger(__name__)


class Database:
    """Transactions of a database. Nothing is opened before it is used, so a process may fork after making it.

    Parameters
    ----------
    address : str
        ``sqlite:///file.db`` or ``postgresql://user:password@host/database``.
    what : str
        What is kept there, for the log: ``jobs``.
    prepare : callable
        Makes the tables unless they are there, before the first transaction and after each failure. It gets the
        connection of a transaction in which no other process does the same.
    away : callable
        Makes the error that a transaction raises when the database cannot be used.

    Attributes
    ----------
    file : Path or None
        The file of an SQLite database.
    is_away : bool
        Whether the last transaction failed.
    """

    def __init__(
        self, address: str, what: str, prepare: Callable[[sql.Connection], None], away: Callable[[], TabserveError]
    ) -> None:
        url = sql.make_url(address)
        self.file = Path(url.database or "") if url.drivername == "sqlite" else None
        self.is_away = False
        self._what = what
        self._make_tables = prepare
        self._away = away
        self._engine = _sqlite(url) if self.file else _postgresql(url)
        self._writer = self._engine.execution_options(writes=True)
        self._is_ready = False

    def reading(self) -> AbstractContextManager[sql.Connection]:
        """A transaction that reads."""
        return self._transaction(self._engine)

    def writing(self) -> AbstractContextManager[sql.Connection]:
        """A transaction that may write; with SQLite, no other does meanwhile."""
        return self._transaction(self._writer)

    def lock(self, connection: sql.Connection) -> None:
        """Let no other process come to this point until the transaction, which may write, has ended."""
        if self.file is None:
            connection.execute(sql.select(sql.func.pg_advisory_xact_lock(_LOCK)))

    def empty_log(self) -> None:
        """Empty SQLite's log, in which deleted rows still stand."""
        if self.file is None:
            return
        with suppress(SQLAlchemyError, sqlite3.Error), closing(self._engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute("PRAGMA busy_timeout=200")  # somebody who reads just now is not waited for
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the connections that are kept open; the next transaction opens others."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self, engine: sql.Engine) -> Iterator[sql.Connection]:
        try:
            self._prepare()
            with engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, OSError) as error:
            self._is_ready = False  # the tables may be gone
            if not self.is_away:
                logger.error("the database of %s cannot be used: %s", self._what, reason_of(error))
            self.is_away = True
            raise self._away() from None
        if self.is_away:
            logger.info("the database of %s can be used again", self._what)
        self.is_away = False

    def _prepare(self) -> None:
        if self._is_ready and (self.file is None or self.file.exists()):
            return
        if self.file:
            with suppress(FileExistsError):  # nobody else reads it, from its first byte on
                os.close(os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            _use_wal(self._engine)
        with self._writer.begin() as connection:
            self.lock(connection)
            self._make_tables(connection)
        self._is_ready = True


def reason_of(error: Exception) -> str:
    """What the database says, on one line and without addresses, values and paths."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    said = str(getattr(error, "orig", None) or type(error).__name__) if isinstance(error, OperationalError) else ""
    lines = [line for line in said.strip().splitlines() if line.strip()]
    reason = re.sub(r"^.* failed: ", "", lines[0]) if lines else type(error).__name__
    return re.sub(r"\S*/\S*", "...", reason)[:200]


def _sqlite(url: sql.URL) -> sql.Engine:
    # a connection for each transaction: one that is kept would go on with a file that was deleted
    engine = sql.create_engine(url, poolclass=sql.NullPool, hide_parameters=True)

    @sql.event.listens_for(engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # begin() below begins transactions, not Python
        connection.execute(f"PRAGMA busy_timeout={BUSY * 1000}")
        connection.execute("PRAGMA secure_delete=ON").fetchall()

    @sql.event.listens_for(engine, "begin")
    def begin(connection: sql.Connection) -> None:
        # who will write says so at the beginning: two readers that become writers would refuse each other
        is_writer = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")

    return engine


def _postgresql(url: sql.URL) -> sql.Engine:
    limits = {"connect_timeout": CONNECT_TIME, "keepalives_idle": 10, "tcp_user_timeout": 20_000}
    return sql.create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=2,
        pool_pre_ping=True,
        pool_recycle=300,
        hide_parameters=True,
        connect_args=limits,
    )


def _use_wal(engine: sql.Engine) -> None:
    """Let readers and a writer of an SQLite file not wait for each other, and let the file shrink."""
    end = time.monotonic() + BUSY
    while True:
        try:
            with closing(engine.raw_connection()) as connection:  # which raises what SQLite does, unlike `connect`
                cursor = connection.cursor()
                cursor.execute("PRAGMA auto_vacuum=FULL").fetchall()  # has an effect before there is a table
                cursor.execute("PRAGMA journal_mode=WAL").fetchall()
                return
        except sqlite3.Error as error:  # SQLite does not wait for another process that does the same
            if "locked" not in str(error) or time.monotonic() > end:
                raise OperationalError("", {}, error) from None
            time.sleep(0.02)
