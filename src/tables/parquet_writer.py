"""The writer of Parquet and Feather: answers for those who sent such a file."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from numbers import Integral, Real
from typing import Any

import numpy as np

from tabserve.aliases import Places
from tabserve.tables.kept import WrittenColumn
from tabserve.tables.pieces import Pieces

GROUP = 8_000_000  # bytes of values, about, that are written at a time
_CELL = 8  # bytes of a number
_INT64 = range(-(2**63), 2**63)

Columns = Mapping[str, Iterable[Any]]


def parquet_pieces(columns: Columns) -> Iterator[bytes]:
    """Columns as a Parquet file.

    Parameters
    ----------
    columns : mapping
        The n_rows values of each column, by its name. A column holds numbers, dates, or yes and no if all its values
        do; otherwise it holds texts. None is null.

    Yields
    ------
    bytes
    """
    from pyarrow.parquet import ParquetWriter  # large, and needed for few answers

    return _pieces(columns, lambda sink, schema: ParquetWriter(sink, schema))


def feather_pieces(columns: Columns) -> Iterator[bytes]:
    """Columns as a Feather file; see `parquet_pieces`."""
    from pyarrow import ipc

    options = ipc.IpcWriteOptions(compression="lz4")
    return _pieces(columns, lambda sink, schema: ipc.new_file(sink, schema, options=options))


def _pieces(columns: Columns, open_writer: Callable[[Any, Any], Any]) -> Iterator[bytes]:
    import pyarrow

    distinct = [
        column.distinct() if isinstance(column, WrittenColumn) else _as_given(column) for column in columns.values()
    ]
    schema = pyarrow.schema([(name, _type(values)) for name, (values, _) in zip(columns, distinct, strict=True)])
    arrays = [_array(values, field.type) for (values, _), field in zip(distinct, schema, strict=True)]
    sink = Pieces()
    with open_writer(sink, schema) as writer:
        for rows in _groups(distinct):
            taken = [
                array.take(pyarrow.array(places[rows])) for array, (_, places) in zip(arrays, distinct, strict=True)
            ]
            writer.write_table(pyarrow.table(taken, schema=schema))
            yield sink.taken()
    yield sink.taken()


def _as_given(column: Iterable[Any]) -> tuple[list[Any], Places]:
    """The values of a column, each in its own row."""
    values = [*column]
    return values, np.arange(len(values))


def _type(column: Sequence[Any]) -> Any:
    """The narrowest type that takes all values."""
    import pyarrow

    kinds = {type(value) for value in column if value is not None}
    if not kinds:
        return pyarrow.string()
    if kinds == {bool}:
        return pyarrow.bool_()
    if kinds == {date}:
        return pyarrow.date32()
    if kinds == {datetime}:
        return pyarrow.timestamp("us")
    if bool in kinds or not all(issubclass(kind, Real) for kind in kinds):
        return pyarrow.string()
    whole = {kind for kind in kinds if issubclass(kind, Integral)}
    numbers = [value for value in column if type(value) in whole] or [0]
    if int(min(numbers)) not in _INT64 or int(max(numbers)) not in _INT64:
        return pyarrow.string()
    return pyarrow.int64() if whole == kinds else pyarrow.float64()


def _groups(columns: Sequence[tuple[Sequence[Any], Places]]) -> Iterator[slice]:
    """Slices of rows that together hold all of them; the values in each take about `GROUP` bytes."""
    sizes = sum(
        np.array([_CELL + (len(value) if type(value) is str else 0) for value in values], np.int64)[places]
        for values, places in columns
    )
    group = np.cumsum(sizes) // GROUP
    ends = [*(np.flatnonzero(np.diff(group)) + 1).tolist(), len(group)]
    return itertools.starmap(slice, itertools.pairwise([0, *ends]))


def _array(values: Sequence[Any], kind: Any) -> Any:
    import pyarrow

    if kind == pyarrow.string():
        with suppress(UnicodeEncodeError, pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
            return pyarrow.array(values, kind)  # texts, and all of whole characters
        return pyarrow.array([None if value is None else _text(value) for value in values], kind)
    if kind == pyarrow.float64():
        return pyarrow.array([None if value is None else float(value) for value in values], kind)
    return pyarrow.array(values, kind)


def _text(value: Any) -> str:
    """The value as a text that is valid Unicode."""
    text = str(value).lower() if type(value) is bool else str(value)
    return text.encode(errors="replace").decode()
