"""Statistics of the decision log: how much it holds, of what, and since when."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sql

from tabserve.decisions.reading import iso
from tabserve.decisions.reasons import waiting_decisions
from tabserve.decisions.retention import DAY
from tabserve.decisions.schema import decisions, metadata
from tabserve.decisions.store import DecisionStore


def statistics(store: DecisionStore) -> dict[str, Any]:
    """Count what the log holds.

    Returns
    -------
    dict
        `days`: for each day (UTC), use case, model and kind of entry, the `entries` and the `records` in them, the
        oldest day first; `oldest`: the time of the oldest entry; `bytes`: what the log takes on disk;
        `without_reasons`: how many decisions have a record, and their reasons are not worked out yet.

    Raises
    ------
    DecisionLogAwayError
        When the database cannot be used.
    """
    c = decisions.c
    day = sql.func.floor(c.time / DAY) if store.database.file is None else sql.cast(c.time / DAY, sql.Integer)
    by = (day, c.use_case, c.model_id, c.kind)
    query = sql.select(*by, sql.func.count(), sql.func.sum(c.rows)).group_by(*by).order_by(*by)
    with store.database.reading() as connection:
        counted = connection.execute(query).all()
        oldest = connection.scalar(sql.select(sql.func.min(c.time)))
        size = _size(store, connection)
    names = ("use_case", "model_id", "kind", "entries", "records")
    days = [
        {"day": f"{datetime.fromtimestamp(number * DAY, UTC):%Y-%m-%d}", **dict(zip(names, rest, strict=True))}
        for number, *rest in counted
    ]
    waiting = waiting_decisions(store)
    return {"days": days, "oldest": None if oldest is None else iso(oldest), "bytes": size, "without_reasons": waiting}


def _size(store: DecisionStore, connection: sql.Connection) -> int:
    if store.database.file:
        return store.database.file.stat().st_size
    sizes = [sql.func.pg_total_relation_size(name) for name in metadata.tables]
    return sum(connection.execute(sql.select(*sizes)).one())
