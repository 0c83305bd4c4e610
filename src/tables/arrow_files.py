"""Parquet, Feather and Arrow IPC streams of one's own, read here, in constant memory, without an object for each cell.

Files of others are read by a process of their own, within limits: see `workbook`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from tabserve.aliases import Mask
from tabserve.columns.arrays import given_in
from tabserve.errors import UnsupportedFileError
from tabserve.tables.batch import Batch, column_names
from tabserve.tables.formats import PARQUET, STREAM
from tabserve.tables.source import Sheet
from tabserve.tables.workbook_child import of_few_values

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 65_536  # of a batch
_BUFFER = 1 << 20  # bytes of a column of a local file that are read at a time; of others, a whole column of a row group
_BROKEN = "The file is broken: it begins as Parquet or Arrow does, but cannot be read."


@contextmanager
def open_arrow(stream: BinaryIO, name: str, kind: str) -> Iterator[tuple[Sheet, "pa.Schema"]]:
    """Start reading a Parquet or Feather file, or an Arrow IPC stream.

    Parameters
    ----------
    stream : binary file
    name : str
        What errors call the file.
    kind : str
        As from `kind_of`.

    Yields
    ------
    Sheet
        Its row 0 is the header; below it there are batches only.
    pyarrow.Schema
        What the file declares. In batches, texts with few different values may be dictionaries.

    Raises
    ------
    UnsupportedFileError
        When the file is broken, or a column holds what no column takes; also while batches are taken.
    OSError
        When the stream cannot be read.
    """
    with _broken():
        schema, batches = _parquet(stream) if kind == PARQUET else _feather(stream)
    _refuse_nested(schema)
    header = (0, schema.names, len(schema.names))

    def rest(width: int) -> Iterator[Batch]:
        row = 1
        with _broken():
            for cells in batches:
                for start in range(0, cells.num_rows, ROWS):
                    piece = cells.slice(start, ROWS)
                    yield _without_blank_rows(Batch(range(row, row + len(piece)), piece))
                    row += len(piece)

    yield Sheet(name, iter([header]), typed=True, read_as={"format": kind}, rest=rest), schema


def _parquet(stream: BinaryIO) -> tuple["pa.Schema", "Iterator[pa.RecordBatch]"]:
    from pyarrow.parquet import ParquetFile

    whole = ParquetFile(stream, pre_buffer=False)
    schema = whole.schema_arrow
    file = ParquetFile(
        stream,
        metadata=whole.metadata,
        read_dictionary=of_few_values(whole),
        buffer_size=_BUFFER if _is_local(stream) else 0,
        pre_buffer=False,
    )
    batches = file.iter_batches(ROWS)
    return schema, (batch.rename_columns(column_names(batch.num_columns)) for batch in batches)


def _is_local(stream: BinaryIO) -> bool:
    try:
        stream.fileno()
    except OSError:
        return False
    return True


def _feather(stream: BinaryIO) -> tuple["pa.Schema", "Iterator[pa.RecordBatch]"]:
    from pyarrow import ipc

    beginning = stream.read(len(STREAM))
    stream.seek(0)
    if beginning == STREAM:
        batches = ipc.open_stream(stream)
        schema = batches.schema
    else:
        file = ipc.open_file(stream)
        batches, schema = map(file.get_batch, range(file.num_record_batches)), file.schema
    return schema, (batch.rename_columns(column_names(batch.num_columns)) for batch in batches)


@contextmanager
def _broken() -> Iterator[None]:
    """Turn what pyarrow raises for a broken file into a sentence; errors of the stream itself pass."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:
        raise UnsupportedFileError(_BROKEN) from error
    except OSError as error:
        if error.errno is None and error.__cause__ is None:
            raise UnsupportedFileError(_BROKEN) from error
        raise


def _refuse_nested(schema: "pa.Schema") -> None:
    import pyarrow as pa

    types = pa.types
    for field in schema:
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        if types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind):
            problem = f"The column '{field.name[:64]}' holds values that no column takes ({kind}): leave it out."
            raise UnsupportedFileError(problem[:300])


def _without_blank_rows(batch: Batch) -> Batch:
    """The batch without rows all of whose cells are empty, which are counted but are no rows."""
    import pyarrow as pa

    is_filled = np.zeros(len(batch.rows), np.bool_)
    for column in batch.cells.columns:
        is_filled |= _filled(column)
        if is_filled.all():
            return batch
    places = np.flatnonzero(is_filled)
    return Batch([batch.rows[place] for place in places.tolist()], batch.cells.take(pa.array(places)))


def _filled(column: "pa.Array") -> Mask:
    """Which cells are not empty, as NaN is."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_floating(column.type):
        return given_in(column)
    is_filled: Mask = pc.fill_null(pc.invert(pc.is_nan(column)), False).to_numpy(zero_copy_only=False)
    return is_filled
