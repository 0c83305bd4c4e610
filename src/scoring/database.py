"""Scores in a database: the rows of each source are one transaction, together with a line that says so.

Beside the table with the scores there are two more: `<table>_sources` has a row for each source that was written, and
`<table>_errors` what is wrong with rows that have no answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabserve.errors import Fault, ScoringError
from tabserve.tables.database import address_of, connected, reason_of

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy import Connection, MetaData, Table

ROWS = 10_000  # that are sent at a time


class TableWriter:
    """The rows of one source on their way into a table.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        In a transaction.
    table : str
        Its name.
    source : str
        What is written.
    """

    def __init__(self, connection: "Connection", table: str, source: str) -> None:
        from sqlalchemy import MetaData

        self._connection = connection
        self._name = table
        self._source = source
        self._sources, self._errors = _own_tables(MetaData(), table)

    def begin(self, origin: str) -> None:
        """Claim the source: whoever claims it later waits for the end of this transaction, and then fails."""
        self._connection.execute(self._sources.insert(), [{"source": self._source, "origin": origin}])

    def write(self, schema: "pa.Schema", tables: "Iterator[pa.Table]") -> None:
        """Write all rows; the table is made when it is missing.

        Raises
        ------
        ScoringError
            When it has other columns.
        """
        from sqlalchemy import MetaData, inspect

        table = _table_of(MetaData(), self._name, schema)
        if inspect(self._connection).has_table(self._name):
            found = [column["name"] for column in inspect(self._connection).get_columns(self._name)]
            if found != schema.names:
                raise ScoringError(f"The table {self._name} has other columns: name another one with --table.")
        table.create(self._connection, checkfirst=True)
        for piece in tables:
            for start in range(0, len(piece), ROWS):
                self._connection.execute(table.insert(), piece.slice(start, ROWS).to_pylist())

    def refuse(self, faults: Sequence[Fault]) -> None:
        """Write what is wrong with rows."""
        rows = [
            {"source": self._source, "row": fault.row, "column": fault.column, "problem": fault.problem}
            for fault in faults
        ]
        self._connection.execute(self._errors.insert(), rows)

    def end(self, rows: int, refused: int) -> None:
        """Note that all rows are there."""
        counts = {"rows": rows, "refused": refused}
        self._connection.execute(self._sources.update().where(self._sources.c.source == self._source).values(counts))


def written_sources(address: str, table: str) -> Mapping[str, tuple[str, int, int]]:
    """What earlier runs have written into a table; the tables that say so are made where they are missing.

    Returns
    -------
    mapping
        By source what its scores were made of, its rows, and how many of them have no answer.

    Raises
    ------
    ScoringError
        When there is a table of this name that no run has written.
    DatabaseError
        When the address is malformed, or has a password.
    """
    from sqlalchemy import MetaData, inspect

    with _writing(address, table) as connection:
        sources, errors = _own_tables(MetaData(), table)
        names = inspect(connection).get_table_names()
        if table in names and sources.name not in names:
            raise ScoringError(f"The table {table} exists, and this command did not write it: name another one.")
        for one in (sources, errors):
            one.create(connection, checkfirst=True)
        return {row.source: (row.origin, row.rows, row.refused) for row in connection.execute(sources.select())}


@contextmanager
def open_writer(address: str, table: str, source: str) -> Iterator[TableWriter]:
    """Begin a transaction that writes a source; it is kept at the end of the `with` block, and nothing of it otherwise.

    Raises
    ------
    ScoringError
        When the database refuses something, or another run has written the source.
    """
    with _writing(address, table) as connection:
        yield TableWriter(connection, table, source)


@contextmanager
def _writing(address: str, table: str) -> "Iterator[Connection]":
    from sqlalchemy import exc

    url = address_of(address, Path(), is_written=True)
    try:
        with connected(url) as connection, connection.begin():
            yield connection
    except exc.IntegrityError:
        raise ScoringError(f"Another run writes to {table}: run this one again when that is over.") from None
    except exc.SQLAlchemyError as error:
        raise ScoringError(f"The table {table} cannot be written: {reason_of(error, url)}.") from None


def _own_tables(metadata: "MetaData", table: str) -> "tuple[Table, Table]":
    from sqlalchemy import BigInteger, Column, Table, Text

    sources = Table(
        f"{table}_sources",
        metadata,
        Column("source", Text, primary_key=True),
        Column("origin", Text, nullable=False),
        Column("rows", BigInteger),
        Column("refused", BigInteger),
    )
    errors = Table(
        f"{table}_errors",
        metadata,
        Column("source", Text, nullable=False),
        Column("row", BigInteger),
        Column("column", Text),
        Column("problem", Text),
    )
    return sources, errors


def _table_of(metadata: "MetaData", name: str, schema: "pa.Schema") -> "Table":
    from sqlalchemy import Column, Table

    return Table(name, metadata, *(Column(field.name, _type_of(field.type)) for field in schema))


def _type_of(kind: "pa.DataType") -> Any:
    """The type of a column in a database."""
    import pyarrow as pa
    import sqlalchemy

    types = pa.types
    if types.is_boolean(kind):
        return sqlalchemy.Boolean
    if types.is_integer(kind):
        return sqlalchemy.BigInteger
    if types.is_floating(kind):
        return sqlalchemy.Double
    if types.is_decimal(kind):
        return sqlalchemy.Numeric(kind.precision, kind.scale)
    if types.is_date(kind):
        return sqlalchemy.Date
    return sqlalchemy.DateTime if types.is_timestamp(kind) else sqlalchemy.Text
