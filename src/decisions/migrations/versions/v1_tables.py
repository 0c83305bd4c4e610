"""The tables of the decision log."""

from typing import TYPE_CHECKING

import sqlalchemy as sql

if TYPE_CHECKING:
    from alembic.operations import Operations

revision = "1"
down_revision = None


def upgrade(op: "Operations") -> None:
    """Make the tables."""
    op.create_table(
        "tabserve_decisions",
        sql.Column("id", sql.String(36), primary_key=True),
        sql.Column("kind", sql.String(8), nullable=False),
        sql.Column("time", sql.Double, nullable=False),
        sql.Column("request_id", sql.String, nullable=False),
        sql.Column("client", sql.String, nullable=False),
        sql.Column("use_case", sql.String, nullable=False),
        sql.Column("model_id", sql.String, nullable=False),
        sql.Column("digest", sql.String, nullable=False),
        sql.Column("route", sql.String, nullable=False),
        sql.Column("arm", sql.String, nullable=False),
        sql.Column("record", sql.Text),
        sql.Column("score", sql.Double),
        sql.Column("scores", sql.Text),
        sql.Column("decision", sql.Text),
        sql.Column("threshold", sql.Double),
        sql.Column("reasons", sql.Text),
        sql.Column("rows", sql.Integer, nullable=False),
        sql.Column("answers", sql.String, nullable=False),
        sql.Column("faults", sql.Text),
        sql.Column("erased", sql.Double),
        sql.Column("erased_digest", sql.String),
    )
    op.create_index("tabserve_decisions_by_time", "tabserve_decisions", ["use_case", "time"])
    op.create_index("tabserve_decisions_by_model", "tabserve_decisions", ["model_id"])
    shadows = sql.text("answers <> ''")
    op.create_index(
        "tabserve_decisions_by_answers",
        "tabserve_decisions",
        ["answers"],
        sqlite_where=shadows,
        postgresql_where=shadows,
    )
    op.create_table(
        "tabserve_decision_tables",
        sql.Column("decision", sql.String(36), primary_key=True),
        sql.Column("part", sql.Integer, primary_key=True),
        sql.Column("content", sql.LargeBinary, nullable=False),
    )
    op.create_table(
        "tabserve_decision_keys",
        sql.Column("use_case", sql.String, primary_key=True),
        sql.Column("column", sql.String, primary_key=True),
        sql.Column("value", sql.String, primary_key=True),
        sql.Column("decision", sql.String(36), primary_key=True),
        sql.Column("row", sql.Integer, primary_key=True),
    )
    op.create_index("tabserve_decision_keys_by_decision", "tabserve_decision_keys", ["decision"])
    op.create_table(
        "tabserve_outcomes",
        sql.Column("decision", sql.String(36), primary_key=True),
        sql.Column("row", sql.Integer, primary_key=True),
        sql.Column("outcome", sql.Text, nullable=False),
        sql.Column("time", sql.Double, nullable=False),
        sql.Column("client", sql.String, nullable=False),
        sql.Column("reports", sql.Integer, nullable=False),
        sql.Column("contradicted", sql.Integer, nullable=False),
    )
    op.create_table(
        "tabserve_accesses",
        sql.Column("number", sql.Integer, primary_key=True),
        sql.Column("time", sql.Double, nullable=False),
        sql.Column("who", sql.String, nullable=False),
        sql.Column("action", sql.String, nullable=False),
        sql.Column("what", sql.Text, nullable=False),
        sql.Column("rows", sql.Integer, nullable=False),
    )
    op.create_table(
        "tabserve_monitored",
        sql.Column("use_case", sql.String, primary_key=True),
        sql.Column("time", sql.Double, nullable=False),
        sql.Column("result", sql.Text, nullable=False),
    )
