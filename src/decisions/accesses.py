"""The log of accesses: who saw, exported or erased decisions."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sql

from tabserve.decisions.plain import dumped, loaded
from tabserve.decisions.schema import accesses
from tabserve.decisions.store import DecisionStore

PAGE = 1000  # accesses at a time


class Access(NamedTuple):
    """One access.

    Attributes
    ----------
    time : float
        Seconds since 1970.
    who : str
        The user.
    action : str
        Such as `find` and `erase`.
    what : mapping
        What was asked for, without values of records.
    rows : int
        How many records it was about.
    """

    time: float
    who: str
    action: str
    what: Mapping[str, Any]
    rows: int


def note(store: DecisionStore, who: str, action: str, what: Mapping[str, Any], rows: int) -> None:
    """Write down an access.

    Raises
    ------
    DecisionLogAwayError
        When the database cannot be used.
    """
    values = {"time": time.time(), "who": who, "action": action, "what": dumped(what), "rows": rows}
    with store.database.writing() as connection:
        connection.execute(sql.insert(accesses), values)


def noted(store: DecisionStore) -> Iterator[Access]:
    """All accesses, the oldest first."""
    last = 0
    query = sql.select(accesses).order_by(accesses.c.number).limit(PAGE)
    while True:
        with store.database.reading() as connection:
            page = connection.execute(query.where(accesses.c.number > last)).all()
        for row in page:
            last = row.number
            yield Access(row.time, row.who, row.action, loaded(row.what), row.rows)
        if len(page) < PAGE:
            return
