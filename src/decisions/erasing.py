"""Erasing: a record is taken out of the decision log, with all that came of it; a tombstone says that it was there."""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from tempfile import SpooledTemporaryFile
from typing import IO, Any, NamedTuple

import sqlalchemy as sql

from tabserve.aliases import Record
from tabserve.decisions.entry import TABLE
from tabserve.decisions.plain import dumped, loaded
from tabserve.decisions.reading import IN_MEMORY, MOST_IDS, copy_table, split_id
from tabserve.decisions.schema import decisions, keys, outcomes, tables
from tabserve.decisions.store import PART, DecisionStore
from tabserve.decisions.tables import decided_in, rows_at, without_rows

# what a tombstone keeps: when which model decided, and nothing of the record or the person
_NOTHING: dict[str, Any] = {
    "request_id": "",
    "client": "",
    "record": None,
    "score": None,
    "scores": None,
    "decision": None,
    "reasons": None,
}


class Erased(NamedTuple):
    """What became of the ids that were to be erased."""

    records: int
    unknown: int


def digest_of(record: Record) -> str:
    """SHA-256 of a record in its canonical form: JSON in ASCII with sorted keys and without blanks."""
    canonical = json.dumps(loaded(dumped(record)), sort_keys=True, separators=(",", ":"))  # orjson refuses odd texts
    return hashlib.sha256(canonical.encode()).hexdigest()


def erase(store: DecisionStore, ids: Iterable[str]) -> Erased:
    """Erase records by the ids of their decisions: the records, reasons, scores, keys, outcomes and shadows.

    Parameters
    ----------
    store : DecisionStore
    ids : iterable of str
        Of decisions, of rows of tables, or of whole tables.

    Returns
    -------
    Erased
        What was erased already counts as unknown.

    Raises
    ------
    DecisionLogAwayError
        When the database cannot be used.
    """
    wanted: dict[str, set[int]] = {}
    whole: set[str] = set()
    total = 0
    for id_ in dict.fromkeys(ids):
        total += 1
        decision, row = split_id(id_)
        if row is None:
            whole.add(decision)
        else:
            wanted.setdefault(decision, set()).add(row)
    done = sum(_erase_entries(store, some) for some in _some([*whole]))
    done += sum(_erase_rows(store, id_, rows) for id_, rows in wanted.items() if id_ not in whole)
    store.database.empty_log()
    return Erased(done, total - done)


def _some(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), MOST_IDS):
        yield ids[start : start + MOST_IDS]


def _erase_entries(store: DecisionStore, ids: Sequence[str]) -> int:
    """Erase whole entries, and the shadows of them and of their rows."""
    c = decisions.c
    with store.database.writing() as connection:
        store.database.lock(connection)  # an outcome that is recorded just now must not stay
        erased = _bury(connection, c.id.in_(ids))
        _bury_shadows(connection, ids)
    return erased


def _bury(connection: sql.Connection, is_meant: sql.ColumnElement[bool]) -> int:
    """Make tombstones of entries; return of how many."""
    c = decisions.c
    is_there = sql.or_(c.erased.is_(None), c.id.in_(sql.select(tables.c.decision)))  # or some rows still are
    shown = sql.select(c.id, c.kind, c.record, c.erased_digest)
    found = connection.execute(shown.where(is_meant, is_there).with_for_update()).all()
    for id_, kind, record, of_rows in found:
        digest = _bury_table(connection, id_, of_rows) if kind == TABLE else digest_of(loaded(record or "{}"))
        values = {**_NOTHING, "erased": time.time(), "erased_digest": digest}
        connection.execute(sql.update(decisions).where(c.id == id_).values(**values))
    for some in _some([id_ for id_, *_ in found]):
        for table in (keys, outcomes, tables):
            connection.execute(sql.delete(table).where(table.c.decision.in_(some)))
    return len(found)


def _bury_shadows(connection: sql.Connection, answered: Sequence[str]) -> None:
    """Erase what other models predicted for records that are erased, by the ids of their decisions."""
    c = decisions.c
    for some in _some(answered):
        _bury(connection, sql.and_(c.answers.in_(some), c.answers != ""))


def _bury_table(connection: sql.Connection, id_: str, of_rows: str | None) -> str:
    """Erase the shadows of a table's rows; return SHA-256 of its file, beside those of rows that were erased before."""
    with SpooledTemporaryFile(IN_MEMORY) as file:
        is_there = copy_table(connection, id_, file)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if is_there:
            _bury_shadows(connection, [f"{id_}.{row}" for row in decided_in(file)])
    return dumped({**loaded(of_rows or "{}"), "table": digest})


def _erase_rows(store: DecisionStore, id_: str, rows: set[int]) -> int:
    """Erase rows of a table; the table is written again without what they held."""
    c = decisions.c
    with store.database.writing() as connection, SpooledTemporaryFile(IN_MEMORY) as file:
        store.database.lock(connection)
        found = connection.execute(
            sql.select(c.erased_digest).where(c.id == id_, c.kind == TABLE).with_for_update()
        ).one_or_none()
        digests = _digests(file, rows) if found and copy_table(connection, id_, file) else {}
        if found is None or not digests:
            return 0
        known = loaded(found.erased_digest) if found.erased_digest else {}
        connection.execute(sql.delete(tables).where(tables.c.decision == id_))
        _write(connection, id_, file, digests)
        values = {"erased": time.time(), "erased_digest": dumped({**known, **digests})}
        connection.execute(sql.update(decisions).where(c.id == id_).values(**values))
        for some in _some([*digests]):
            for table in (keys, outcomes):
                are_rows = table.c.row.in_([*map(int, some)])
                connection.execute(sql.delete(table).where(table.c.decision == id_, are_rows))
        _bury_shadows(connection, [f"{id_}.{row}" for row in digests])
    return len(digests)


def _digests(file: IO[bytes], rows: set[int]) -> dict[str, str]:
    """The digests of a table's records, by row; none of rows that are not there or hold nothing."""
    return {str(row.first): digest_of(row.records[0]) for row in rows_at(file, rows) if row.decisions[0] is not None}


def _write(connection: sql.Connection, id_: str, file: IO[bytes], erased: Mapping[str, str]) -> None:
    """Write a table again, without what some of its rows held."""
    file.seek(0)
    part, buffer = 0, bytearray()
    for piece in (*without_rows(file, {*map(int, erased)}), None):
        buffer += piece or b""
        while len(buffer) >= PART or (piece is None and buffer):
            content = {"decision": id_, "part": part, "content": bytes(buffer[:PART])}
            connection.execute(sql.insert(tables), content)
            del buffer[:PART]
            part += 1
