"""Reading: what is scored, a file in a folder or bucket or a query of a database, a batch of rows at a time."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from tabserve.predictor import dialect_of
from tabserve.registry.artifact import Artifact
from tabserve.scoring.storage import BUCKETS
from tabserve.scoring.writing import format_of
from tabserve.tables.database import is_database, open_database
from tabserve.tables.finding import Known, find_table
from tabserve.tables.formats import FEATHER, PARQUET, kind_of
from tabserve.tables.limits import Deadline
from tabserve.tables.reader import open_batches
from tabserve.tables.reading import Reading

if TYPE_CHECKING:
    import pyarrow as pa


def is_query(source: str) -> bool:
    """Whether a source is the address of a database."""
    return is_database(source) and not source.startswith(BUCKETS)


def own_types(file: BinaryIO | None) -> "Mapping[str, pa.DataType]":
    """The types of the columns of a Parquet or Feather file, by name, and none of others; it is rewound."""
    kind = file and kind_of(file)
    if file is None or kind not in (PARQUET, FEATHER):
        return {}
    import pyarrow as pa
    from pyarrow import ipc
    from pyarrow.parquet import read_schema

    try:
        schema = read_schema(file) if kind == PARQUET else ipc.open_file(file).schema
    except pa.ArrowException:
        return {}  # the reader says what is wrong
    finally:
        file.seek(0)
    return {field.name: _plain(field.type) for field in schema}


def _plain(kind: "pa.DataType") -> "pa.DataType":
    """A type without its dictionary."""
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def kept_types(reading: Reading, own: "Mapping[str, pa.DataType]", output: str) -> "Mapping[str, pa.DataType]":
    """The types of the columns whose cells are written as they were read: all from CSV to CSV, and from Parquet."""
    import pyarrow as pa

    if reading.read_as.get("format") == "csv" and format_of(output) == "csv":
        return dict.fromkeys(reading.columns, pa.string())
    same_places = len(own) == len(reading.columns)  # though the header may be spelled in another way
    return dict(zip(reading.columns, own.values(), strict=True)) if same_places else {}


@contextmanager
def open_table(artifact: Artifact, source: str, query: str, file: BinaryIO | None) -> Iterator[Reading]:
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
    Reading

    Raises
    ------
    InvalidTableError, UnsupportedFileError, FileLimitError, DatabaseError
        As for `open_batches` and `open_database`.
    """
    target, extras = artifact.target.feature, artifact.declared.extras
    markers = artifact.manifest.declaration.get("markers", ())
    if file is None:
        with open_database(source, query, Path()) as rows:
            known = Known(artifact.features, target, extras)
            yield Reading(find_table([rows.sheet], known, {}), known, markers, {}, None, Deadline(None))
        return
    name = PurePosixPath(source).name
    with open_batches(file, name, artifact.features, target, extras, markers, dialect_of(artifact, file)) as reading:
        yield reading
