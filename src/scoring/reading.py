"""Reading: what is scored, a file in a folder or bucket or a query of a database, a batch of rows at a time."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from tabserve.predictor import dialect_of
from tabserve.registry.artifact import Artifact
from tabserve.scoring.storage import BUCKETS
from tabserve.scoring.writing import format_of
from tabserve.tables.arrow_files import open_arrow
from tabserve.tables.database import is_database, open_database
from tabserve.tables.finding import Known, find_table
from tabserve.tables.formats import FEATHER, PARQUET, kind_of
from tabserve.tables.limits import Deadline
from tabserve.tables.reader import open_batches
from tabserve.tables.reading import Reading
from tabserve.tables.source import Sheet

if TYPE_CHECKING:
    import pyarrow as pa


def is_query(source: str) -> bool:
    """Whether a source is the address of a database."""
    return is_database(source) and not source.startswith(BUCKETS)


@dataclass(frozen=True)
class Opened:
    """A table that is being read.

    Parameters
    ----------
    reading : Reading
    types : mapping of pyarrow.DataType
        The types of the columns of a Parquet or Feather file, by their declared names; empty for others.
    """

    reading: Reading
    types: "Mapping[str, pa.DataType]"

    def kept(self, output: str) -> "Mapping[str, pa.DataType]":
        """The types of the columns whose cells are written as they were read: all from CSV to CSV, and from Parquet."""
        import pyarrow as pa

        if self.reading.read_as.get("format") == "csv" and format_of(output) == "csv":
            return dict.fromkeys(self.reading.columns, pa.string())
        return self.types


@contextmanager
def open_table(artifact: Artifact, source: str, query: str, file: BinaryIO | None) -> Iterator[Opened]:
    """Start reading a table with a model's columns.

    Parameters
    ----------
    artifact : Artifact
        The model.
    source : str
        A path, or the address of a database.
    query : str
        What to read of a database.
    file : binary file or None
        The open file; None for a database.

    Yields
    ------
    Opened

    Raises
    ------
    InvalidTableError, UnsupportedFileError, FileLimitError, DatabaseError
        As for `open_batches` and `open_database`.
    """
    target, extras = artifact.target.feature, artifact.declared.extras
    markers = artifact.manifest.declaration.get("markers", ())
    known = Known(artifact.features, target, extras)
    name = PurePosixPath(source).name

    def below_header(sheet: Sheet) -> Reading:
        return Reading(find_table([sheet], known, {}, own=True), known, markers, {}, None, Deadline(None))

    if file is None:
        with open_database(source, query, Path()) as rows:
            yield Opened(below_header(rows.sheet), {})
    elif (kind := kind_of(file)) in (PARQUET, FEATHER):
        with open_arrow(file, name, kind) as (sheet, schema):
            reading = below_header(sheet)
            yield Opened(reading, dict(zip(reading.columns, map(_plain, schema.types), strict=True)))
    else:
        dialect = dialect_of(artifact, file)
        with open_batches(file, name, artifact.features, target, extras, markers, dialect) as reading:
            yield Opened(reading, {})


def _plain(kind: "pa.DataType") -> "pa.DataType":
    """A type without its dictionary."""
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind
