"""Retention: what is older than DECISION_RETENTION is deleted, a batch at a time."""

import time
from collections.abc import Iterator

import sqlalchemy as sql

from tabserve.decisions.reading import MOST_IDS
from tabserve.decisions.schema import decisions, keys, outcomes, tables
from tabserve.decisions.store import DecisionStore

DAY = 86_400  # seconds


def expire(store: DecisionStore, days: float, most: int | None = None) -> int:
    """Delete the entries that are older than some days, with their tables, keys and outcomes; nothing of them stays.

    Each transaction deletes few of them, so that nobody waits for long. SQLite's file shrinks.

    Parameters
    ----------
    store : DecisionStore
    days : float
    most : int, optional
        Stop after about so many, and leave the rest for the next time.

    Returns
    -------
    int
        How many entries were deleted.

    Raises
    ------
    DecisionLogAwayError
        When the database cannot be used.
    """
    before = time.time() - days * DAY
    deleted = 0
    for use_case in use_cases(store):
        while number := _delete_some(store, use_case, before):
            deleted += number
            if most is not None and deleted >= most:
                break
    if deleted:
        store.database.empty_log()
    return deleted


def use_cases(store: DecisionStore) -> Iterator[str]:
    """The use cases in the log, in alphabetical order; each is looked up in the index, however many entries it has."""
    c = decisions.c
    last = None
    while True:
        query = sql.select(sql.func.min(c.use_case))
        with store.database.reading() as connection:
            last = connection.scalar(query if last is None else query.where(c.use_case > last))
        if last is None:
            return
        yield last


def _delete_some(store: DecisionStore, use_case: str, before: float) -> int:
    c = decisions.c
    old = sql.select(c.id).where(c.use_case == use_case, c.time < before).order_by(c.time).limit(MOST_IDS)
    with store.database.reading() as connection:
        ids = connection.scalars(old).all()
    if ids:
        with store.database.writing() as connection:
            store.database.lock(connection)  # an outcome that is recorded just now must not stay
            for table in (keys, outcomes, tables):
                connection.execute(sql.delete(table).where(table.c.decision.in_(ids)))
            connection.execute(sql.delete(decisions).where(c.id.in_(ids)))
    return len(ids)
