"""What monitoring keeps in the decision log's database, for the page and the metrics."""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sql

from tabserve.decisions.entry import DECISION, TABLE
from tabserve.decisions.schema import decisions, monitored
from tabserve.decisions.store import DecisionStore


def keep(store: DecisionStore, result: Mapping[str, Any]) -> None:
    """Store a result, in the place of the one before.

    Parameters
    ----------
    store : DecisionStore
    result : mapping
        As `Monitored.to_json` gives it.

    Raises
    ------
    DecisionLogAwayError
        When the database cannot be used.
    """
    row = {"use_case": result["use_case"], "time": result["time"], "result": json.dumps(result, allow_nan=False)}
    with store.database.writing() as connection:
        connection.execute(sql.delete(monitored).where(monitored.c.use_case == result["use_case"]))
        connection.execute(sql.insert(monitored).values(row))


def newest(store: DecisionStore, use_case: str) -> dict[str, Any] | None:
    """The newest result for a use case, as `Monitored.to_json` gives it; None when there is none.

    Raises
    ------
    DecisionLogAwayError
        When the database cannot be used.
    """
    with store.database.reading() as connection:
        text = connection.scalar(sql.select(monitored.c.result).where(monitored.c.use_case == use_case))
    return None if text is None else json.loads(text)


def newest_of_all(store: DecisionStore) -> dict[str, dict[str, Any]]:
    """The newest result of each use case.

    Raises
    ------
    DecisionLogAwayError
        When the database cannot be used.
    """
    with store.database.reading() as connection:
        rows = connection.execute(sql.select(monitored.c.use_case, monitored.c.result)).all()
    return {use_case: json.loads(text) for use_case, text in rows}


def traffic(store: DecisionStore, since: float) -> dict[str, int]:
    """How many records were decided since a time, by use case.

    Raises
    ------
    DecisionLogAwayError
        When the database cannot be used.
    """
    c = decisions.c
    query = sql.select(c.use_case, sql.func.sum(c.rows)).where(c.time >= since, c.kind.in_((DECISION, TABLE)))
    with store.database.reading() as connection:
        return {name: int(rows) for name, rows in connection.execute(query.group_by(c.use_case)).all()}
