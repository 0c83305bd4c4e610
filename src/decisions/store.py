"""DecisionStore: the decision log's database."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sql
from sqlalchemy.exc import OperationalError

from tabserve.database import Database
from tabserve.decisions.entry import DECISION, SHADOW, Entry
from tabserve.decisions.migrations import migrate
from tabserve.decisions.plain import dumped
from tabserve.decisions.schema import decisions, keys, tables
from tabserve.errors import DecisionLogAwayError

PART = 1_000_000  # bytes of a table that are written or read at a time
MOST_IDS = 500  # that a statement asks for; SQLite allows some 32,000 values

_COLUMNS = [column.name for column in decisions.columns if not column.name.startswith("erased")]


class DecisionStore:
    """The decision log's database. Nothing is opened before it is used, so a process may fork after making it.

    Parameters
    ----------
    address : str
        ``sqlite:///file.db`` or ``postgresql://user:password@host/database``.

    Attributes
    ----------
    database : Database
        Its transactions. The first one makes the tables, or brings them to the newest schema.
    """

    def __init__(self, address: str) -> None:
        self.database = Database(address, "decisions", migrate, DecisionLogAwayError)

    def add(self, entries: Sequence[Entry], tables_of: Mapping[str, bytes] | None = None) -> int:
        """Add entries, together or not at all; those whose ids are there already, or were erased, change nothing.

        Parameters
        ----------
        entries : sequence of Entry
        tables_of : mapping
            The tables of entries of kind `table`, as Parquet, by their ids.

        Returns
        -------
        int
            How many were new.

        Raises
        ------
        DecisionLogAwayError
            When the database cannot be used.
        """
        by_id = {entry.id: entry for entry in entries}
        if not by_id:
            return 0
        with self.database.writing() as connection:
            insert = _insert if self.database.file else _copy
            new = insert(connection, [*map(_row, by_id.values())])
            _add_all(connection, keys, [key for id_ in new for key in _keys(by_id[id_])])
            parts = [part for id_ in new for part in _parts(id_, (tables_of or {}).get(id_, b""))]
            for part in parts:  # one at a time: they are large
                _add_all(connection, tables, [part])
        return len(new)


def _insert(connection: sql.Connection, rows: list[dict[str, Any]]) -> list[str]:
    """Insert rows that are not there yet into an SQLite database, which nobody else writes to; return their ids."""
    known: set[str] = set()
    for start in range(0, len(rows), MOST_IDS):
        some = [row["id"] for row in rows[start : start + MOST_IDS]]
        known.update(connection.scalars(sql.select(decisions.c.id).where(decisions.c.id.in_(some))))
    new = [row for row in rows if row["id"] not in known]
    _add_all(connection, decisions, new)
    return [row["id"] for row in new]


def _copy(connection: sql.Connection, rows: list[dict[str, Any]]) -> list[str]:
    """Copy rows into a PostgreSQL, and insert those that are not there yet; return their ids."""
    import psycopg  # not with SQLite

    names = ", ".join(f'"{name}"' for name in _COLUMNS)
    connection.exec_driver_sql(
        f"CREATE TEMP TABLE tabserve_arriving ON COMMIT DROP AS SELECT {names} FROM tabserve_decisions WHERE false"  # noqa: S608 - names of our own
    )
    cursor = connection.connection.cursor()
    try:
        with cursor.copy(f"COPY tabserve_arriving ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row([row[name] for name in _COLUMNS])
    except psycopg.Error as error:
        raise OperationalError("", {}, error) from None
    return [
        *connection.exec_driver_sql(
            f"INSERT INTO tabserve_decisions ({names}) SELECT {names} FROM tabserve_arriving "  # noqa: S608
            "ON CONFLICT DO NOTHING RETURNING id"
        ).scalars()
    ]


def _add_all(connection: sql.Connection, table: sql.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        connection.execute(sql.insert(table), rows)


def _row(entry: Entry) -> dict[str, Any]:
    """An entry as the database keeps it."""
    is_by_label = isinstance(entry.score, Mapping)
    json = {
        "record": entry.record if entry.kind in (DECISION, SHADOW) else None,
        "scores": entry.score if is_by_label else None,
        "decision": entry.decision,
        "reasons": entry.reasons,
        "faults": entry.faults or None,
    }
    return {
        **{name: getattr(entry, name) for name in _COLUMNS if name not in json},
        **{name: None if value is None else dumped(value) for name, value in json.items()},
        "score": None if is_by_label else entry.score,
        "client": _text(entry.client),
    }


def _keys(entry: Entry) -> Iterable[dict[str, Any]]:
    """What identifies the records of an entry; values that are given twice in a column stand for each of their rows."""
    for column, values in entry.keys.items():
        for row, value in enumerate(values if isinstance(values, list) else [values]):
            if value is not None:
                fixed = {"use_case": entry.use_case, "column": column, "decision": entry.id}
                yield {**fixed, "value": key_of(value), "row": row}


def key_of(value: object) -> str:
    """An id of a record as the database keeps it, to be found again: 7, 7.0 and "7" are the same.

    Parameters
    ----------
    value : str, int or float
    """
    if isinstance(value, float):
        with suppress(ValueError, OverflowError):
            value = int(value) if value == int(value) else value
    return _text(str(value))


def _text(text: str) -> str:
    """A text as any database can keep it: without zeros and halves of surrogate pairs."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _parts(id_: str, content: bytes) -> Iterable[dict[str, Any]]:
    for part, start in enumerate(range(0, len(content), PART)):
        yield {"decision": id_, "part": part, "content": content[start : start + PART]}
