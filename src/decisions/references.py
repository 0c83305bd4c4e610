"""References: how many decisions in the log need a model to be replayed."""

import sqlalchemy as sql

from tabserve.decisions.entry import DECISION, TABLE
from tabserve.decisions.schema import decisions
from tabserve.decisions.store import DecisionStore


def decided_by(store: DecisionStore, model_id: str) -> int:
    """How many records a model decided whose records are still in the log.

    Raises
    ------
    DecisionLogAwayError
        When the database cannot be used.
    """
    of_model = decisions.c.model_id == model_id, decisions.c.kind.in_((DECISION, TABLE)), decisions.c.erased.is_(None)
    with store.database.reading() as connection:
        return int(connection.scalar(sql.select(sql.func.sum(decisions.c.rows)).where(*of_model)) or 0)
