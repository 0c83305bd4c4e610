"""Migrations of the decision log's database, by Alembic: each file of `versions` leads from one schema to the next."""

from pathlib import Path

import sqlalchemy as sql

from tabserve.errors import NewerDecisionLogError

NEWEST = "2"  # the last of `versions`
VERSION_TABLE = "tabserve_decisions_version"


def migrate(connection: sql.Connection) -> None:
    """Bring a database to the newest schema, within a transaction that keeps others from doing the same.

    Raises
    ------
    NewerDecisionLogError
        When it has a schema that this program does not know.
    """
    if _is_newest(connection):
        return
    from alembic.migration import MigrationContext  # 10 MB, for a database that is not there yet or not up to date
    from alembic.operations import Operations
    from alembic.script import ScriptDirectory

    folder = Path(__file__).parent
    scripts = ScriptDirectory(folder, version_locations=[folder / "versions"])
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    at = context.get_current_revision()
    if at is not None and at not in {script.revision for script in scripts.walk_revisions()}:
        raise NewerDecisionLogError
    for script in reversed([*scripts.iterate_revisions(NEWEST, at or "base")]):
        script.module.upgrade(Operations(context))
    context.stamp(scripts, NEWEST)


def _is_newest(connection: sql.Connection) -> bool:
    if not sql.inspect(connection).has_table(VERSION_TABLE):
        return False
    version = sql.table(VERSION_TABLE, sql.column("version_num"))
    return connection.scalar(sql.select(version.c.version_num)) == NEWEST
