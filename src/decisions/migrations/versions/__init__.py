"""The schemas of the decision log's database, oldest first; Alembic finds them by their `revision`."""
