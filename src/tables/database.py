"""Tables in a database, to train on: PostgreSQL and SQLite, through SQLAlchemy.

A transaction that cannot write reads them a piece at a time. The password comes from the environment; no message and no
manifest holds it.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabserve.errors import DatabaseError
from tabserve.tables.limits import Row
from tabserve.tables.source import Sheet

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, CursorResult, Executable

PASSWORD = "DATABASE_PASSWORD"  # noqa: S105 - the name of an environment variable
PIECE = 1_000  # rows that are fetched at a time
CONNECT_TIME = 10  # seconds
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+]*://")
_SUPPORTED = "it must begin with postgresql:// or sqlite:///"


@dataclass(frozen=True)
class DatabaseRows:
    """The rows of a query, and a digest of those that were read.

    Parameters
    ----------
    sheet : Sheet
        Its row 0 is the header, made of the columns' names; rows are counted from 1.
    digest : hashlib hash
        Of the rows so far.
    """

    sheet: Sheet
    digest: Any


def is_database(source: str) -> bool:
    """Whether the source of a declaration is the address of a database, and not a file."""
    return _SCHEME.match(source) is not None


@contextmanager
def open_database(source: str, query: str, folder: Path) -> Iterator[DatabaseRows]:
    """Start reading a query.

    Parameters
    ----------
    source : str
        ``postgresql://user@host/database`` or ``sqlite:///file.db``, without a password.
    query : str
        A ``select``, or the name of a table.
    folder : Path
        What the file of an SQLite database is relative to.

    Yields
    ------
    DatabaseRows

    Raises
    ------
    DatabaseError
        In one sentence, when the database cannot be reached or the query not be run.
    """
    import sqlalchemy  # 0.2 s, for few trainings

    if not query:
        raise DatabaseError("A database needs a query: declare a select, or the name of a table.")
    url = address_of(source, folder)
    try:
        with connected(url) as connection, closing(_run(connection, query)) as result:
            digest = hashlib.sha256()
            rows = _numbered(result, digest)
            yield DatabaseRows(Sheet("the query", rows, typed=True, read_as={"format": "database"}), digest)
    except sqlalchemy.exc.OperationalError as error:
        what = "reached" if error.statement is None else "read"
        raise DatabaseError(f"The database cannot be {what}: {reason_of(error, url)}.") from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise DatabaseError(f"The query cannot be run: {reason_of(error, url)}.") from None


@contextmanager
def connected(url: "URL") -> "Iterator[Connection]":
    """A connection of its own to a database; what SQLAlchemy raises shows no parameters."""
    import sqlalchemy

    limits = {} if url.drivername == "sqlite" else {"connect_timeout": CONNECT_TIME}
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, hide_parameters=True, connect_args=limits)
    with engine.connect() as connection:
        yield connection


def address_of(source: str, folder: Path, *, is_written: bool = False) -> "URL":
    """The address that SQLAlchemy takes, with the password from the environment.

    Parameters
    ----------
    source, folder
        As for `open_database`.
    is_written : bool
        Whether the database is written to: then the file of SQLite need not exist.

    Raises
    ------
    DatabaseError
        When the address is malformed, of another kind of database, or holds a password.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(source)
    except (ArgumentError, ValueError):
        raise DatabaseError(f"The address of the database is malformed: {_SUPPORTED}.") from None
    if url.password is not None or "password" in url.query:
        raise DatabaseError(f"Do not declare the database's password: take it out, and set {PASSWORD} instead.")
    if url.drivername == "sqlite":
        return url.set(database=str(folder / (url.database or ""))) if is_written else _sqlite(url, folder)
    if url.drivername not in ("postgresql", "postgres"):
        raise DatabaseError(f"Databases of this kind cannot be read; the address is wrong: {_SUPPORTED}.")
    return url.set(drivername="postgresql+psycopg", password=os.environ.get(PASSWORD) or None)


def _sqlite(url: "URL", folder: Path) -> "URL":
    path = folder / (url.database or "")
    if not path.is_file():
        raise DatabaseError(f"There is no database {path.name}.")
    return url.set(database=f"{path.absolute().as_uri()}", query={"mode": "ro", "uri": "true"})


def _run(connection: "Connection", query: str) -> "CursorResult[Any]":
    if connection.dialect.name == "postgresql":
        connection = connection.execution_options(postgresql_readonly=True)
    streamed = connection.execution_options(stream_results=True, yield_per=PIECE)
    if re.search(r"\s", query.strip()):
        # as it stands: a colon or a percent sign in it is no parameter
        result = streamed.execution_options(no_parameters=True).exec_driver_sql(query)
    else:
        result = streamed.execute(_select_all(query.strip()))
    if not result.returns_rows:
        result.close()
        raise DatabaseError("The query gives no rows: it must be a select.")
    return result


def _select_all(name: str) -> "Executable":
    """A query for a table by its name, which may be schema.table."""
    from sqlalchemy import select, table, text

    schema, _, inner = name.rpartition(".")
    return select(text("*")).select_from(table(inner, schema=schema or None))


def _numbered(result: Any, digest: Any) -> Iterator[Row]:
    names = list(result.keys())
    digest.update(repr(names).encode())
    yield 0, names, len(names)
    for number, values in enumerate(result, 1):
        cells = [_cell(name, value) for name, value in zip(names, values, strict=True)]
        digest.update(repr(cells).encode(errors="surrogatepass"))
        if any(cell is not None for cell in cells):
            yield number, cells, len(cells)


def _cell(name: str, value: Any) -> Any:
    if isinstance(value, (bytes, memoryview, list, tuple, dict)):
        kind = type(value).__name__
        raise DatabaseError(
            f"The column '{name}' holds values that no column takes ({kind}): leave it out of the query."
        )
    return str(value) if isinstance(value, (time, timedelta)) or type(value).__module__ == "uuid" else value


def reason_of(error: Exception, url: "URL") -> str:
    """What the database says, on one line and without the password."""
    said = str(getattr(error, "orig", None) or error).strip()
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reason = (lines[0] if lines else "no reason was given").rstrip(".")
    for secret in (url.password, os.environ.get("PGPASSWORD")):
        reason = reason.replace(str(secret), "***") if secret else reason
    return reason[:300]
