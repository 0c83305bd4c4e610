"""The writer of Parquet and Feather: columns have the types of their values."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.tables.limits import Deadline
from tabserve.tables.parquet_writer import GROUP, feather_pieces, parquet_pieces
from tabserve.tables.workbook import open_workbook

Write = Callable[[Mapping[str, Iterable[Any]]], Iterator[bytes]]
BOTH = pytest.mark.parametrize("write", [parquet_pieces, feather_pieces])


def table_of(write: Write, columns: Mapping[str, Iterable[Any]]) -> pa.Table:
    content = io.BytesIO(b"".join(write(columns)))
    return pyarrow.parquet.read_table(content) if write is parquet_pieces else pa.ipc.open_file(content).read_all()


@BOTH
@pytest.mark.parametrize(
    ("values", "kind", "read"),
    [
        ([True, None], pa.bool_(), None),
        ([1, None], pa.int64(), None),
        ([1, 0.5, None], pa.float64(), None),
        ([np.float32(0.25), np.int64(3)], pa.float64(), [0.25, 3.0]),
        (["a", None, ""], pa.string(), None),
        ([date(2024, 2, 29), None], pa.date32(), None),
        ([datetime(2024, 2, 29, 1, 2, 3), None], pa.timestamp("us"), None),
        ([None, None], pa.string(), None),
        ([1, "a", True, None], pa.string(), ["1", "a", "true", None]),
        ([date(2024, 2, 29), "29.2."], pa.string(), ["2024-02-29", "29.2."]),
        ([2**63, 0.5], pa.string(), ["9223372036854775808", "0.5"]),
        (["a\ud800"], pa.string(), ["a?"]),
        ([], pa.string(), None),
    ],
)
def test_a_column_has_the_narrowest_type_that_takes_its_values(
    write: Write, values: list[Any], kind: pa.DataType, read: list[Any] | None
) -> None:
    table = table_of(write, {"a": iter(values)})
    assert table.schema.field("a").type == kind
    assert table.column("a").to_pylist() == (values if read is None else read)


NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)


@BOTH
@given(
    rows=st.lists(st.tuples(st.none() | st.text(min_size=1, max_size=9), st.none() | NUMBERS, st.dates()), min_size=1)
)
def test_what_is_written_is_read_again(write: Write, rows: list[tuple[Any, ...]]) -> None:
    table = table_of(write, dict(zip("abc", zip(*rows, strict=True), strict=True)))
    assert list(zip(*(column.to_pylist() for column in table.columns), strict=True)) == rows


@BOTH
def test_long_texts_are_written_a_piece_at_a_time(write: Write) -> None:
    columns = {"number": list(range(40)), "text": ["x" * (GROUP // 10)] * 40}
    assert len(list(write(columns))) > 3
    assert table_of(write, columns).to_pydict() == columns


@BOTH
def test_the_reader_takes_what_is_written(write: Write) -> None:
    content = b"".join(write({"a": [1, None], "b": ["x", "=y"]}))
    with open_workbook(io.BytesIO(content), "a", Deadline(60)) as sheets:
        (sheet,) = sheets
        assert [cells for _, cells, _ in sheet.rows] == [["a", "b"], [1, "x"], [None, "=y"]]
