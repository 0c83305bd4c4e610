"""The store of jobs: two tables in SQLite or PostgreSQL, which many processes use at once.

A worker takes a job for a short time, its lease, and renews that while it works. When the worker dies, the lease ends,
and another worker begins the job again. Every write of a worker checks that it still has the job. All times are the
database's, since the clocks of machines differ.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sql

from tabserve.database import Database
from tabserve.errors import JobsAwayError, LostJobError, TooManyJobsError
from tabserve.jobs.job import DONE, FAILED, RUNNING, WAITING, Claim, Job, Order, new_id

MOST_WAITING = 100  # jobs in all
MOST_OF_ONE = 10  # of one client
MOST_BYTES = 2_000_000_000  # of bodies and results: beyond that, new jobs are refused
SPARE = 100_000_000  # bytes that stay free on SQLite's disk: on a full one, nothing could even be read or deleted
MOST_ATTEMPTS = 3  # a job that ended its worker so often is not begun again
PART = 1_000_000  # bytes of a file that are written or read at a time

BODY = "body"

_metadata = sql.MetaData()
_jobs = sql.Table(
    "tabserve_jobs",
    _metadata,
    sql.Column("id", sql.String, primary_key=True),
    sql.Column("owner", sql.String, nullable=False),
    sql.Column("client", sql.String, nullable=False),
    sql.Column("model_id", sql.String, nullable=False),
    sql.Column("kind", sql.String, nullable=False),
    sql.Column("partial", sql.Boolean, nullable=False),
    sql.Column("state", sql.String, nullable=False, index=True),
    sql.Column("rows", sql.Integer),
    sql.Column("rows_done", sql.Integer, nullable=False, default=0),
    sql.Column("created", sql.Double, nullable=False),
    sql.Column("started", sql.Double),
    sql.Column("finished", sql.Double),
    sql.Column("expires", sql.Double),
    sql.Column("attempts", sql.Integer, nullable=False, default=0),
    sql.Column("token", sql.String),  # of the worker that has it
    sql.Column("lease_until", sql.Double),
    sql.Column("error", sql.JSON(none_as_null=True)),
    sql.Column("summary", sql.JSON(none_as_null=True)),
)
# bodies and results, apart from what is read and written every second
_files = sql.Table(
    "tabserve_job_files",
    _metadata,
    sql.Column("job", sql.String, primary_key=True),
    sql.Column("name", sql.String, primary_key=True),
    sql.Column("part", sql.Integer, primary_key=True),
    sql.Column("size", sql.Integer, nullable=False),
    sql.Column("content", sql.LargeBinary, nullable=False),
)
_SHOWN = [_jobs.c[name] for name in Job.__dataclass_fields__]
_SQLITE_CLOCK = "(julianday('now') - 2440587.5) * 86400.0"
_POSTGRESQL_CLOCK = "cast(extract(epoch from clock_timestamp()) as double precision)"


class Store:
    """The jobs of a service. Nothing is opened before it is used, so a process may fork after making it.

    Every method raises `JobsAwayError` while the database cannot be used.

    Parameters
    ----------
    address : str
        ``sqlite:///file.db`` or ``postgresql://user:password@host/database``.
    hours : float
        How long a job is kept after it was sent or has finished.
    """

    def __init__(self, address: str, hours: float) -> None:
        self._database = Database(address, "jobs", _metadata.create_all, JobsAwayError)
        self._kept = hours * 3600
        clock = _POSTGRESQL_CLOCK if self._database.file is None else _SQLITE_CLOCK
        self.clock: sql.ColumnElement[float] = sql.literal_column(clock, sql.Double)

    # for clients

    def add(self, order: Order, body: Iterable[bytes]) -> str:
        """Keep a job until a worker takes it, and return its id.

        Raises
        ------
        TooManyJobsError
            When too many are waiting already, or too much is kept.
        """
        with self._database.reading() as connection:
            self._check_room(connection, order.client)  # before anything large is written
        id_ = new_id()
        with self._database.writing() as connection:
            self._write(connection, id_, BODY, enumerate(_parts(body)))
            self._database.lock(connection)
            self._check_room(connection, order.client)
            times = {"created": self.clock, "expires": self.clock + self._kept}
            connection.execute(sql.insert(_jobs).values(id=id_, state=WAITING, **vars(order), **times))
        return id_

    def get(self, id_: str) -> Job | None:
        """A job; None if there is none of that id, or no longer."""
        is_kept = sql.or_(_jobs.c.expires.is_(None), _jobs.c.expires > self.clock)
        with self._database.reading() as connection:
            row = connection.execute(sql.select(*_SHOWN).where(_jobs.c.id == id_, is_kept)).one_or_none()
        return Job(**row._mapping) if row else None

    def size(self, id_: str, name: str) -> int | None:
        """Bytes of a result; None if there is none of that name."""
        with self._database.reading() as connection:
            total = connection.scalar(sql.select(sql.func.sum(_files.c.size)).where(*_of(id_, name)))
        return None if total is None else int(total)

    def read(self, id_: str, name: str) -> Iterator[bytes]:
        """A result, or the body, in pieces; it ends early when the job is deleted meanwhile."""
        part = 0
        while (content := self._part(id_, name, part)) is not None:
            yield content
            part += 1

    def delete(self, id_: str) -> bool:
        """Delete everything about a job; whether there was one. A worker that has it will notice."""
        with self._database.writing() as connection:
            return self._delete(connection, [id_])

    # for workers

    def claim(self, lease: float) -> Claim | None:
        """Take the job that has waited longest, if there is any, for some seconds."""
        has_ended = sql.and_(_jobs.c.state == RUNNING, _jobs.c.lease_until < self.clock)
        can_begin = sql.and_(
            sql.or_(_jobs.c.state == WAITING, has_ended),
            _jobs.c.attempts < MOST_ATTEMPTS,
        )
        oldest = sql.select(_jobs.c.id).where(can_begin).order_by(_jobs.c.created, _jobs.c.id).limit(1)
        with self._database.reading() as connection:
            if connection.scalar(oldest) is None:  # nobody is kept from writing while there is nothing to do
                return None
        token = secrets.token_hex(8)
        with self._database.writing() as connection:
            id_ = connection.scalar(oldest.with_for_update(skip_locked=True))
            if id_ is None:
                return None
            begun = {"state": RUNNING, "started": self.clock, "expires": None, "rows": None, "rows_done": 0}
            taken = {"token": token, "lease_until": self.clock + lease, "attempts": _jobs.c.attempts + 1}
            connection.execute(sql.update(_jobs).where(_jobs.c.id == id_).values(**begun, **taken))
            self._delete_results(connection, id_)
            row = connection.execute(sql.select(*_SHOWN).where(_jobs.c.id == id_)).one()
        return Claim(Job(**row._mapping), token)

    def renew(self, claim: Claim, lease: float, rows: int | None = None, rows_done: int = 0) -> None:
        """Keep a job for some more seconds, and say how far it is.

        Raises
        ------
        LostJobError
            As all methods that take a claim do: when the job was deleted, or another worker has it.
        """
        with self._held(claim) as connection:
            self._update(connection, claim, lease_until=self.clock + lease, rows=rows, rows_done=rows_done)

    def release(self, claim: Claim, *, counts: bool = False) -> None:
        """Give a job back: it waits again, as if it had not been begun, or with this attempt counted."""
        with self._held(claim) as connection:
            again = {"state": WAITING, "started": None, "expires": self.clock + self._kept, "rows_done": 0}
            self._update(connection, claim, **again, token=None, attempts=claim.job.attempts - (not counts))
            self._delete_results(connection, claim.job.id)

    def write(self, claim: Claim, name: str, pieces: Iterable[bytes]) -> None:
        """Keep a result."""
        for part in enumerate(_parts(pieces)):
            with self._held(claim) as connection:
                if self._is_disk_full():
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._write(connection, claim.job.id, name, [part])

    def finish(self, claim: Claim, rows: int, summary: Mapping[str, Any]) -> None:
        """Say that a job is done. Its body is deleted."""
        with self._held(claim) as connection:
            self._end(connection, claim.job.id, state=DONE, rows=rows, rows_done=rows, summary=summary)

    def fail(self, claim: Claim, error: Mapping[str, Any]) -> None:
        """Say why a job failed. Its body is deleted."""
        with self._held(claim) as connection:
            self._delete_results(connection, claim.job.id)
            self._end(connection, claim.job.id, state=FAILED, error=error)

    def give_up(self, error: Mapping[str, Any]) -> None:
        """Let jobs fail that were begun too often."""
        has_ended = sql.and_(_jobs.c.state == RUNNING, _jobs.c.lease_until < self.clock)
        hopeless = sql.select(_jobs.c.id).where(has_ended, _jobs.c.attempts >= MOST_ATTEMPTS)
        with self._database.reading() as connection:
            if connection.scalar(hopeless) is None:
                return
        with self._database.writing() as connection:
            for id_ in connection.scalars(hopeless.with_for_update(skip_locked=True)).all():
                self._delete_results(connection, id_)
                self._end(connection, id_, state=FAILED, error=error)

    def states(self) -> dict[str, int]:
        """How many jobs are in each state."""
        counted = sql.select(_jobs.c.state, sql.func.count()).group_by(_jobs.c.state)
        with self._database.reading() as connection:
            found = {row[0]: row[1] for row in connection.execute(counted)}
        return {state: found.get(state, 0) for state in (WAITING, RUNNING, DONE, FAILED)}

    def clean(self) -> None:
        """Delete what has expired, and what SQLite keeps of deleted rows."""
        over = sql.select(_jobs.c.id).where(_jobs.c.expires < self.clock)
        with self._database.reading() as connection:
            is_any = connection.scalar(over) is not None
        if is_any:
            with self._database.writing() as connection:
                self._delete(connection, connection.scalars(over.with_for_update(skip_locked=True)).all())
        self._database.empty_log()

    # inside

    def _check_room(self, connection: sql.Connection, client: str) -> None:
        waiting = sql.select(sql.func.count()).where(_jobs.c.state == WAITING)
        if (connection.scalar(waiting) or 0) >= MOST_WAITING:
            raise TooManyJobsError(f"{MOST_WAITING} jobs are waiting already.")
        if (connection.scalar(waiting.where(_jobs.c.client == client)) or 0) >= MOST_OF_ONE:
            raise TooManyJobsError(f"{MOST_OF_ONE} of your jobs are waiting already.")
        if (connection.scalar(sql.select(sql.func.sum(_files.c.size))) or 0) > MOST_BYTES:
            raise TooManyJobsError("As many results are kept as may be: delete jobs whose results you have.")
        if self._is_disk_full():
            raise TooManyJobsError("The disk of jobs is nearly full: delete jobs whose results you have.")

    def _is_disk_full(self) -> bool:
        file = self._database.file
        return file is not None and shutil.disk_usage(file.parent).free < SPARE

    def _part(self, id_: str, name: str, part: int) -> bytes | None:
        with self._database.reading() as connection:
            content = connection.scalar(sql.select(_files.c.content).where(*_of(id_, name), _files.c.part == part))
        return None if content is None else bytes(content)

    @staticmethod
    def _write(connection: sql.Connection, id_: str, name: str, parts: Iterable[tuple[int, bytes]]) -> None:
        for part, content in parts:
            values = {"job": id_, "name": name, "part": part, "size": len(content), "content": content}
            connection.execute(sql.insert(_files), values)

    @staticmethod
    def _update(connection: sql.Connection, claim: Claim, **values: Any) -> None:
        connection.execute(sql.update(_jobs).where(_jobs.c.id == claim.job.id).values(**values))

    def _end(self, connection: sql.Connection, id_: str, **values: Any) -> None:
        times = {"finished": self.clock, "expires": self.clock + self._kept}
        ended = {**values, **times, "token": None, "lease_until": None}
        connection.execute(sql.update(_jobs).where(_jobs.c.id == id_).values(**ended))
        connection.execute(sql.delete(_files).where(*_of(id_, BODY)))

    @staticmethod
    def _delete_results(connection: sql.Connection, id_: str) -> None:
        connection.execute(sql.delete(_files).where(_files.c.job == id_, _files.c.name != BODY))

    @staticmethod
    def _delete(connection: sql.Connection, ids: Iterable[str]) -> bool:
        """Delete jobs and then their files: once a job is gone, no worker adds one."""
        ids = [*ids]
        done = connection.execute(sql.delete(_jobs).where(_jobs.c.id.in_(ids)))
        connection.execute(sql.delete(_files).where(_files.c.job.in_(ids)))
        return done.rowcount > 0

    @contextmanager
    def _held(self, claim: Claim) -> Iterator[sql.Connection]:
        """A transaction in which nobody else changes a job that a worker still has."""
        held = sql.select(_jobs.c.id).where(_jobs.c.id == claim.job.id, _jobs.c.token == claim.token)
        with self._database.writing() as connection:
            if connection.scalar(held.with_for_update()) is None:
                raise LostJobError
            yield connection


def _of(id_: str, name: str) -> tuple[Any, Any]:
    return _files.c.job == id_, _files.c.name == name


def _parts(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces of any sizes as such of `PART` bytes; at least one, which may be empty."""
    buffer = bytearray()
    is_any = False
    for piece in pieces:
        buffer += piece
        while len(buffer) >= PART:
            yield bytes(buffer[:PART])
            del buffer[:PART]
            is_any = True
    if buffer or not is_any:
        yield bytes(buffer)
