"""The tables of the decision log. Migrations make and change them: see `migrations`."""

import sqlalchemy as sql

metadata = sql.MetaData()

decisions = sql.Table(
    "tabserve_decisions",
    metadata,
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
    sql.Column("record", sql.Text),  # JSON; null of a table, a refusal and what was erased
    sql.Column("score", sql.Double),
    sql.Column("scores", sql.Text),  # JSON: probabilities by label, of several classes
    sql.Column("decision", sql.Text),  # JSON
    sql.Column("threshold", sql.Double),
    sql.Column("reasons", sql.Text),  # JSON: null where there are none; without a value they are not worked out yet
    sql.Column("rows", sql.Integer, nullable=False),
    sql.Column("answers", sql.String, nullable=False),
    sql.Column("faults", sql.Text),  # JSON
    sql.Column("erased", sql.Double),  # when; the row is then a tombstone
    sql.Column("erased_digest", sql.String),  # SHA-256 of the record that was erased; of a table and its rows, JSON
    sql.Index("tabserve_decisions_by_time", "use_case", "time"),
    sql.Index("tabserve_decisions_by_model", "model_id"),
    sql.Index(
        "tabserve_decisions_by_answers",
        "answers",
        sqlite_where=sql.text("answers <> ''"),
        postgresql_where=sql.text("answers <> ''"),
    ),
    sql.Index(
        "tabserve_decisions_without_reasons",
        "model_id",
        "digest",
        "id",
        sqlite_where=sql.text("reasons IS NULL AND record IS NOT NULL"),
        postgresql_where=sql.text("reasons IS NULL AND record IS NOT NULL"),
    ),
)
# the tables of decisions of kind `table`, as Parquet in parts: the records, `score` or `score_<label>`, and `decision`
tables = sql.Table(
    "tabserve_decision_tables",
    metadata,
    sql.Column("decision", sql.String(36), primary_key=True),
    sql.Column("part", sql.Integer, primary_key=True),
    sql.Column("content", sql.LargeBinary, nullable=False),
)
# what identifies the records of decisions, by the declared id columns, so that outcomes and people can be found
keys = sql.Table(
    "tabserve_decision_keys",
    metadata,
    sql.Column("use_case", sql.String, primary_key=True),
    sql.Column("column", sql.String, primary_key=True),
    sql.Column("value", sql.String, primary_key=True),
    sql.Column("decision", sql.String(36), primary_key=True),
    sql.Column("row", sql.Integer, primary_key=True),  # of a table; 0 of a single record
    sql.Index("tabserve_decision_keys_by_decision", "decision"),
)
# what really happened; the first outcome of a record counts unless it is corrected
outcomes = sql.Table(
    "tabserve_outcomes",
    metadata,
    sql.Column("decision", sql.String(36), primary_key=True),
    sql.Column("row", sql.Integer, primary_key=True),
    sql.Column("outcome", sql.Text, nullable=False),  # JSON
    sql.Column("time", sql.Double, nullable=False),  # when it was reported
    sql.Column("client", sql.String, nullable=False),
    sql.Column("reports", sql.Integer, nullable=False),  # how often it was reported
    sql.Column("contradicted", sql.Integer, nullable=False),  # how often something else was reported
)
accesses = sql.Table(
    "tabserve_accesses",
    metadata,
    sql.Column("number", sql.Integer, primary_key=True),
    sql.Column("time", sql.Double, nullable=False),
    sql.Column("who", sql.String, nullable=False),
    sql.Column("action", sql.String, nullable=False),  # find, export, erase, replay, ...
    sql.Column("what", sql.Text, nullable=False),  # JSON: what was asked for, without values of records
    sql.Column("rows", sql.Integer, nullable=False),
)
# the newest result of `tabserve monitor` for a use case, which the page and the metrics show
monitored = sql.Table(
    "tabserve_monitored",
    metadata,
    sql.Column("use_case", sql.String, primary_key=True),
    sql.Column("time", sql.Double, nullable=False),
    sql.Column("result", sql.Text, nullable=False),  # JSON
)
