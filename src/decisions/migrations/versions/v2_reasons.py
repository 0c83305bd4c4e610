"""The index of the decisions whose reasons are not worked out yet."""

from typing import TYPE_CHECKING

import sqlalchemy as sql

if TYPE_CHECKING:
    from alembic.operations import Operations

revision = "2"
down_revision = "1"


def upgrade(op: "Operations") -> None:
    """Make the index."""
    waiting = sql.text("reasons IS NULL AND record IS NOT NULL")
    op.create_index(
        "tabserve_decisions_without_reasons",
        "tabserve_decisions",
        ["model_id", "digest", "id"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
