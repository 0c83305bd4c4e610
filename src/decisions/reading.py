"""The reading side of the decision log: batches of what was decided, in the order of time."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import numpy as np
import sqlalchemy as sql

from tabserve.aliases import Record, Vector
from tabserve.decisions.entry import DECISION, TABLE, Entry
from tabserve.decisions.plain import loaded
from tabserve.decisions.schema import decisions, keys, outcomes, tables
from tabserve.decisions.store import DecisionStore, key_of
from tabserve.decisions.tables import Rows, rows_at, rows_in

SIZE = 10_000  # decisions at a time
MOST_IDS = 500  # in a statement
IN_MEMORY = 16_000_000  # bytes of a table that are not on disk while it is read


@dataclass(frozen=True)
class Logged:
    """Some decided records, in the order of time; all sequences have n entries.

    Attributes
    ----------
    ids : list of str
        The decisions' ids; `<id>.<n>` for row n of a table, counted from 0.
    times : ndarray, shape (n,)
        Seconds since 1970.
    model_ids, arms : list of str
    records : list of mapping
        As they came; columns that a table's row left empty are not there.
    scores : ndarray, shape (n,), or list of mapping
        The predictions: of several classes the probabilities by label.
    decisions : list
        The results.
    outcomes : list
        What really happened; None where that is not known, or was not asked for.
    """

    ids: list[str]
    times: Vector
    model_ids: list[str]
    arms: list[str]
    records: list[Record]
    scores: Vector | list[Mapping[str, float]]
    decisions: list[Any]
    outcomes: list[Any]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which entries of the log are meant; what is None or empty does not matter.

    Parameters
    ----------
    use_case, model_id, client, request_id : str
    since, until : float or None
        Seconds since 1970; `until` itself is not included.
    kind : str
        Of decisions, those about tables are meant, too.
    where : mapping of str
        The values of declared id columns, by column.
    """

    use_case: str = ""
    model_id: str = ""
    client: str = ""
    request_id: str = ""
    since: float | None = None
    until: float | None = None
    kind: str = DECISION
    where: Mapping[str, str] = field(default_factory=dict)

    def conditions(self) -> list[sql.ColumnElement[bool]]:
        """What is true of these entries; of a table, at least of one row."""
        columns = decisions.c
        # the keys in `where` are of the use case anyway; named twice, SQLite would go through all its decisions instead
        names = (*(() if self.where else ("use_case",)), "model_id", "client", "request_id")
        kinds = (DECISION, TABLE) if self.kind == DECISION else (self.kind,)
        return [
            *(columns[name] == value for name in names if (value := getattr(self, name))),
            *([columns.time >= self.since] if self.since is not None else []),
            *([columns.time < self.until] if self.until is not None else []),
            columns.kind.in_(kinds),
            *([columns.id.in_(sql.select(self.keyed().c.decision))] if self.where else []),
        ]

    def keyed(self) -> sql.Subquery:
        """The decisions and rows whose records have the values in `where`."""
        found = [
            sql.select(keys.c.decision, keys.c.row).where(
                keys.c.column == column,
                keys.c.value == key_of(value),
                *([keys.c.use_case == self.use_case] if self.use_case else []),
            )
            for column, value in self.where.items()
        ]
        return sql.intersect(*found).subquery() if len(found) > 1 else found[0].subquery()


@dataclass(frozen=True)
class Outcome:
    """What really happened to what was decided about.

    Parameters
    ----------
    outcome : object
        As the target column holds it.
    time : float
        When it was reported.
    client : str
        Who reported it.
    reports, contradicted : int
        How often it was reported, and how often something else was.
    """

    outcome: Any
    time: float
    client: str
    reports: int
    contradicted: int


@dataclass(frozen=True)
class Kept:
    """An entry of the log with what came of it.

    Parameters
    ----------
    entry : Entry
        Of a row of a table, with the id `<id>.<n>` and what was decided about this row.
    outcome : Outcome or None
        None where it is not known.
    erased : float or None
        When the record was erased.
    erased_digest : str or None
        SHA-256 of the record that was erased.
    reasons_wait : bool
        Whether the log will have reasons for it and does not yet.
    reasons_note : str
        Where reasons come from that are not in the log, or why there are none: see `reasons.with_reasons`.
    """

    entry: Entry
    outcome: Outcome | None = None
    erased: float | None = None
    erased_digest: str | None = None
    reasons_wait: bool = False
    reasons_note: str = ""

    def to_json(self) -> dict[str, Any]:
        """All that is kept, by the names of `Entry`; times as in ISO 8601. What is not there is null."""
        entry = {**vars(self.entry), "time": iso(self.entry.time), "record": self.entry.record or None}
        del entry["keys"]
        outcome = self.outcome and {**vars(self.outcome), "time": iso(self.outcome.time)}
        erased = None if self.erased is None else iso(self.erased)
        return {
            **entry,
            "outcome": outcome,
            "erased": erased,
            "erased_digest": self.erased_digest,
            "reasons_note": self.reasons_note,
        }


def iso(time: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(time, UTC).isoformat()


_ID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:\.(0|[1-9][0-9]{0,8}))?")
_JSON = ("record", "decision", "reasons", "faults")
_FIELDS = [one.name for one in fields(Entry) if one.name in decisions.c]
_OUTCOME = (
    outcomes.c.outcome,
    outcomes.c.time.label("outcome_time"),
    outcomes.c.client.label("outcome_client"),
    outcomes.c.reports,
    outcomes.c.contradicted,
)


def logged(
    store: DecisionStore,
    use_case: str,
    since: float | None = None,
    until: float | None = None,
    model_id: str | None = None,
    kind: str = DECISION,
    with_outcomes: bool = False,
    size: int = SIZE,
) -> Iterator[Logged]:
    """The decided records of a use case, a batch at a time, single ones and rows of tables alike.

    What was erased and rows at fault are left out. No transaction is open between batches, so entries that arrive
    meanwhile may be among them.

    Parameters
    ----------
    store : DecisionStore
    use_case : str
    since, until : float, optional
        Seconds since 1970; `until` itself is not included.
    model_id : str, optional
        Only what this model decided.
    kind : str
        `decision` or `shadow`.
    with_outcomes : bool
        Whether to say what really happened.
    size : int
        The most records in a batch.

    Raises
    ------
    DecisionLogAwayError
        When the database cannot be used.
    """
    wanted = Wanted(use_case=use_case, model_id=model_id or "", since=since, until=until, kind=kind)
    c = decisions.c
    shown = [c.id, c.time, c.model_id, c.arm, c.record, c.score, c.scores, c.decision, c.kind]
    query = _with_outcomes(sql.select(*shown, outcomes.c.outcome)) if with_outcomes else sql.select(*shown, sql.null())
    is_there = sql.or_(c.kind == TABLE, c.record.is_not(None))
    for page in _pages(store, query.where(*wanted.conditions(), is_there), size):
        start = 0
        for at, row in enumerate(page):
            if row[8] == TABLE:
                yield from _singles(page[start:at])
                yield from _of_table(store, row, with_outcomes, size)
                start = at + 1
        yield from _singles(page[start:])


def found(store: DecisionStore, wanted: Wanted, *, expand: bool = False, size: int = SIZE) -> Iterator[Kept]:
    """Entries of the log in the order of time, with what came of them; those that were erased, too.

    Parameters
    ----------
    store : DecisionStore
    wanted : Wanted
        Which ones. With `where`, the rows of tables that it means instead of the whole tables.
    expand : bool
        Whether to give all decided rows of a table instead of the table, and nothing of what was erased.
    size : int
        The most entries in memory, and rows of a table.

    Raises
    ------
    DecisionLogAwayError
        When the database cannot be used.
    """
    query = _with_outcomes(sql.select(decisions, *_OUTCOME)).where(*wanted.conditions())
    for page in _pages(store, query, size):
        rows = _keyed_rows(store, wanted, page) if wanted.where else {}
        for row in page:
            kept = _kept(row)
            if kept.entry.id in rows:
                yield from _expanded(store, kept.entry, size, rows[kept.entry.id])
            elif expand and kept.entry.kind == TABLE:
                yield from _expanded(store, kept.entry, size)
            elif kept.erased is None or not expand:
                yield kept


def is_id_column(store: DecisionStore, column: str) -> bool:
    """Whether the log holds a record with a value in this column, which was declared as `id`.

    Raises
    ------
    DecisionLogAwayError
        When the database cannot be used.
    """
    with store.database.reading() as connection:
        return connection.execute(sql.select(keys.c.row).where(keys.c.column == column).limit(1)).first() is not None


def one(store: DecisionStore, id_: str) -> Kept | None:
    """An entry of the log, or a row of a table, by its id; None when there is none.

    Raises
    ------
    DecisionLogAwayError
        When the database cannot be used.
    """
    decision, row = split_id(id_)
    query = _with_outcomes(sql.select(decisions, *_OUTCOME)).where(decisions.c.id == decision)
    with store.database.reading() as connection:
        known = connection.execute(query).one_or_none()
    kept = _kept(known) if known else None
    if kept is None or row is None:
        return kept
    return next(_expanded(store, kept.entry, 1, [row]), None) if kept.entry.kind == TABLE else None


def split_id(id_: str) -> tuple[str, int | None]:
    """The id of an entry and the row of its table, None without one; an empty id for what can be none."""
    parts = _ID.fullmatch(id_)
    return (parts[1], None if parts[2] is None else int(parts[2])) if parts else ("", None)


def _with_outcomes(query: sql.Select[Any]) -> sql.Select[Any]:
    """A query of decisions with the outcomes of single records."""
    known = sql.and_(outcomes.c.decision == decisions.c.id, outcomes.c.row == 0, decisions.c.kind != TABLE)
    return query.join_from(decisions, outcomes, known, isouter=True)


def _keyed_rows(store: DecisionStore, wanted: Wanted, page: Sequence[Any]) -> dict[str, list[int]]:
    """Of the tables in a page, the rows that are meant."""
    ids = [row.id for row in page if row.kind == TABLE]
    keyed = wanted.keyed()
    rows: dict[str, list[int]] = {}
    with store.database.reading() as connection:
        for start in range(0, len(ids), MOST_IDS):
            some = keyed.c.decision.in_(ids[start : start + MOST_IDS])
            for id_, row in connection.execute(sql.select(keyed).where(some).order_by(keyed.c.row)):
                rows.setdefault(id_, []).append(row)
    return rows


def _kept(row: Any) -> Kept:
    values = {name: getattr(row, name) for name in _FIELDS}
    texts = {name: values[name] for name in _JSON}
    values |= {name: loaded(text) for name, text in texts.items() if text is not None}
    values |= {"record": values["record"] or {}, "faults": values["faults"] or {}}
    if row.scores is not None:
        values["score"] = loaded(row.scores)
    outcome = None
    if row.outcome is not None:
        outcome = Outcome(loaded(row.outcome), row.outcome_time, row.outcome_client, row.reports, row.contradicted)
    waits = row.reasons is None and row.record is not None
    return Kept(Entry(**values), outcome, row.erased, row.erased_digest, reasons_wait=waits)


def _expanded(store: DecisionStore, entry: Entry, size: int, only: Collection[int] | None = None) -> Iterator[Kept]:
    """The decided rows of a table, or only some of them."""
    with table_file(store, entry.id) as file:
        if file is None:
            return
        for rows in rows_in(file, size) if only is None else rows_at(file, only):
            known = _outcomes(store, entry.id, rows)
            for place, decision in enumerate(rows.decisions):
                number = rows.first + place
                if decision is not None:
                    of_row = {"record": rows.records[place], "score": rows.scores[place], "decision": decision}
                    yield Kept(
                        replace(entry, kind=DECISION, id=f"{entry.id}.{number}", rows=1, **of_row), known.get(number)
                    )


def _pages(store: DecisionStore, query: sql.Select[Any], size: int) -> Iterator[Sequence[Any]]:
    """The rows of a query whose first columns are id and time, by time, at most `size` at once.

    Each page is a transaction of its own: a long one would keep SQLite's log, and PostgreSQL's dead rows, from
    being cleaned.
    """
    c = decisions.c
    query = query.order_by(c.time, c.id).limit(size)
    page: Sequence[Any] = ()
    while True:
        # the first condition follows from the second, and lets PostgreSQL begin in the index where the page ended
        after = [c.time >= page[-1][1], sql.tuple_(c.time, c.id) > (page[-1][1], page[-1][0])] if page else []
        with store.database.reading() as connection:
            page = connection.execute(query.where(*after)).all()
        if page:
            yield page
        if len(page) < size:
            return


def _singles(rows: Sequence[Any]) -> Iterator[Logged]:
    if rows:
        ids, times, model_ids, arms, records, scores, by_label, decided, _, happened = map(
            list, zip(*rows, strict=True)
        )
        yield Logged(
            ids,
            np.array(times),
            model_ids,
            arms,
            [*map(loaded, records)],
            _scores([value if text is None else loaded(text) for value, text in zip(scores, by_label, strict=True)]),
            [*map(loaded, decided)],
            [None if text is None else loaded(text) for text in happened],
        )


def _scores(scores: list[Any]) -> Vector | list[Mapping[str, float]]:
    return scores if any(isinstance(score, Mapping) for score in scores) else np.array(scores, np.float64)


def _of_table(store: DecisionStore, row: Any, with_outcomes: bool, size: int) -> Iterator[Logged]:
    id_, time, model_id, arm = row[:4]
    with table_file(store, id_) as file:
        for rows in rows_in(file, size) if file else ():
            places = [place for place, decision in enumerate(rows.decisions) if decision is not None]
            known = _outcomes(store, id_, rows) if with_outcomes else {}
            if places:
                yield Logged(
                    [f"{id_}.{rows.first + place}" for place in places],
                    np.full(len(places), time),
                    [model_id] * len(places),
                    [arm] * len(places),
                    [rows.records[place] for place in places],
                    _scores([rows.scores[place] for place in places]),
                    [rows.decisions[place] for place in places],
                    [known[at].outcome if (at := rows.first + place) in known else None for place in places],
                )


def _outcomes(store: DecisionStore, id_: str, rows: Rows) -> dict[int, Outcome]:
    """What really happened, by row of a table."""
    c = outcomes.c
    between = c.row.between(rows.first, rows.first + len(rows.decisions) - 1)
    query = sql.select(c.row, c.outcome, c.time, c.client, c.reports, c.contradicted)
    with store.database.reading() as connection:
        known = connection.execute(query.where(c.decision == id_, between)).all()
    return {row: Outcome(loaded(outcome), *rest) for row, outcome, *rest in known}


@contextmanager
def table_file(store: DecisionStore, id_: str) -> Iterator[IO[bytes] | None]:
    """A table of the log as a file, which is deleted afterwards; None when there is none."""
    with SpooledTemporaryFile(IN_MEMORY) as file:
        with store.database.reading() as connection:
            is_there = copy_table(connection, id_, file)
        yield file if is_there else None


def copy_table(connection: sql.Connection, id_: str, file: IO[bytes]) -> bool:
    """Copy a table of the log into an empty file, to be read; whether there is one.

    It is as it was before or after somebody erased rows of it, but not half of each.
    """
    c = tables.c
    query = sql.select(c.content).where(c.decision == id_).order_by(c.part)
    with connection.execute(query.execution_options(stream_results=True, max_row_buffer=1)) as parts:  # they are large
        for part in parts.scalars():
            file.write(part)
    is_there = file.tell() > 0
    file.seek(0)
    return is_there
