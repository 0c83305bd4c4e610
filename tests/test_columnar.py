"""Parquet and Feather files, and Arrow IPC streams: what is read of them, and what is refused."""

import io
import math
import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.columns.arrays import EXACT, python_cells
from tabserve.columns.features import Category, Number
from tabserve.columns.texts import Text
from tabserve.errors import FileLimitError, UnsupportedFileError
from tabserve.tables import workbook, workbook_child
from tabserve.tables.finding import Known, find_table
from tabserve.tables.limits import Deadline
from tabserve.tables.reading import Reading
from tabserve.tables.workbook import open_workbook


def parquet(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    pyarrow.parquet.write_table(table, stream)
    return stream.getvalue()


def feather(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    pyarrow.feather.write_feather(table, stream)
    return stream.getvalue()


def stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def rows_of(content: bytes, seconds: float | None = 60) -> list[Any]:
    with open_workbook(io.BytesIO(content), "a", Deadline(seconds)) as sheets:
        (sheet,) = sheets
        return [[number, [*cells]] for number, cells, _ in sheet.rows]


def batches_of(content: bytes, seconds: float | None) -> list[Any]:
    """The rows below the names, without those that are read one by one for the header."""
    with open_workbook(io.BytesIO(content), "a", Deadline(seconds)) as sheets:
        (sheet,) = sheets
        _, _, width = next(sheet.rows)
        found = [*sheet.batches(width)]
    columns = [[cell for batch in found for cell in python_cells(batch.cells.column(n))] for n in range(width)]
    numbers = [number for batch in found for number in batch.rows]
    return [[number, [*cells]] for number, cells in zip(numbers, zip(*columns, strict=True), strict=True)]


def read_back(value: Any) -> Any:
    """What is read of a value."""
    if value is None or value != value or value == "":
        return None
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value.is_integer() and abs(value) <= EXACT else value
    return value if isinstance(value, (str, int, float, date)) else str(value)


TYPES: dict[pa.DataType, Any] = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float64(): st.floats() | st.just(1e300),
    pa.float32(): st.floats(width=32),
    pa.string(): st.text(max_size=3),
    pa.large_string(): st.text(max_size=3),
    pa.string_view(): st.text(max_size=3),
    pa.dictionary(pa.int8(), pa.string()): st.sampled_from(["", "a", "b"]),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("ms", "UTC"): st.datetimes(timezones=st.just(UTC)),
    pa.time64("us"): st.times(),
    pa.duration("us"): st.timedeltas(timedelta(-900), timedelta(900)),
    pa.decimal128(20, 8): st.decimals(-1000, 1000, places=8),
    pa.null(): st.none(),
}


@st.composite
def tables(draw: Callable[..., Any]) -> pa.Table:
    rows = draw(st.integers(0, 12))
    kinds = draw(st.lists(st.sampled_from([*TYPES]), min_size=1, max_size=4))
    columns = [pa.array(draw(st.lists(st.none() | TYPES[kind], min_size=rows, max_size=rows)), kind) for kind in kinds]
    return pa.table(columns, [f"c{place}" for place in range(len(kinds))])


@given(tables(), st.sampled_from([parquet, feather, stream]), st.integers(1, 5))
def test_batches_hold_what_rows_do(table: pa.Table, write: Callable[[pa.Table], bytes], head: int) -> None:
    content = write(table)
    rows = [[read_back(value) for value in row] for row in zip(*(c.to_pylist() for c in table.columns), strict=True)]
    expected = [[number, row] for number, row in enumerate(rows, 1) if any(cell is not None for cell in row)]
    with patch.object(workbook, "HEADER_ROWS", head), patch.object(workbook_child, "_ARROW_PIECE", 6):
        found = batches_of(content, None)
        one_by_one = rows_of(content, None)[1:]
    assert [[number, [None if cell == "" else cell for cell in cells]] for number, cells in found] == expected
    assert [[number, cells + [None] * (len(table.columns) - len(cells))] for number, cells in one_by_one] == expected


@pytest.mark.parametrize("write", [parquet, feather, stream])
def test_the_child_gives_the_same_batches(write: Callable[[pa.Table], bytes]) -> None:
    names = pa.array(["a", "", None, "b"] * 500).dictionary_encode()
    ids = pa.array([f"text {n}" for n in range(2_000)])
    numbers = pa.array([1.5, None, None, 2.0] * 500)
    content = write(pa.table({"number": numbers, "name": names, "id": pa.array([None] * 2_000, pa.string())}))
    assert batches_of(content, 60) == batches_of(content, None)
    assert len(batches_of(content, 60)) == 1_000
    content = write(pa.table({"number": numbers, "id": ids}))
    assert batches_of(content, 60) == batches_of(content, None)


def test_a_row_of_too_much_text_is_refused() -> None:
    content = parquet(pa.table({f"c{n}": ["a" * 32_000] for n in range(63)}))
    for seconds in (60, None):
        with pytest.raises(FileLimitError, match="characters in a row"):
            rows_of(content, seconds)


BOTH = pytest.mark.parametrize("write", [parquet, feather, stream])


@BOTH
def test_values_keep_their_kinds_and_rows_are_counted_from_1(write: Callable[[pa.Table], bytes]) -> None:
    columns = {
        "whole": [1, None],
        "number": [1.5, float("nan")],
        "text": pa.array(["a", None]).dictionary_encode(),
        "day": [date(2024, 2, 29), None],
        "at": [datetime(2024, 2, 29, 12, tzinfo=UTC), None],
        "amount": [Decimal("1.50"), None],
        "late": [True, False],
    }
    at = datetime(2024, 2, 29, 12, tzinfo=UTC)
    assert rows_of(write(pa.table(columns))) == [
        [0, list(columns)],
        [1, [1, 1.5, "a", date(2024, 2, 29), at, "1.50", True]],
        [2, [None, None, None, None, None, None, False]],
    ]


@BOTH
def test_a_file_of_many_rows_is_read_to_its_end(write: Callable[[pa.Table], bytes]) -> None:
    assert rows_of(write(pa.table({"n": range(1, 5001)})))[1:] == [[number, [number]] for number in range(1, 5001)]


@BOTH
def test_infinity_is_a_number_in_every_row(write: Callable[[pa.Table], bytes]) -> None:
    content = write(pa.table({"n": [math.inf, -math.inf] * 50}))
    assert rows_of(content)[1:] == [[number, [math.inf if number % 2 else -math.inf]] for number in range(1, 101)]


@BOTH
def test_a_column_of_lists_is_refused_by_its_name(write: Callable[[pa.Table], bytes]) -> None:
    with pytest.raises(UnsupportedFileError, match="The column 'tags' holds values that no column takes"):
        rows_of(write(pa.table({"tags": [[1], [2]]})))


@BOTH
def test_a_broken_file_is_refused_in_a_sentence(write: Callable[[pa.Table], bytes]) -> None:
    content = write(pa.table({"n": range(100)}))
    for broken in (content[:-20], content[:8], content[: len(content) // 2] + content[-8:]):
        with pytest.raises(UnsupportedFileError, match="The file is broken"):
            rows_of(broken)


def test_a_small_file_of_long_texts_is_refused() -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["a" * 10_000_000]))
    with pytest.raises(FileLimitError, match=r"characters in a cell|too much memory"):
        rows_of(parquet(pa.table({"x": texts})))


def test_texts_of_one_s_own_file_that_repeat_stay_places_of_a_dictionary_from_the_first_rows_on() -> None:
    few, many = ["red", "blue"] * 500, [random.Random(n).randbytes(100).hex() for n in range(1000)]
    content = parquet(pa.table({"few": few, "many": many}))
    with open_workbook(io.BytesIO(content), "a", Deadline(None)) as sheets:
        (sheet,) = sheets
        known = Known([Category(name="few", values=("red", "blue")), Text(name="many", longest=300)], Number(name="y"))
        batches = [*Reading(find_table([sheet], known, {}), known, ()).batches]
    for name, texts in (("few", few), ("many", many)):
        assert [cell for batch in batches for cell in python_cells(batch.cells[name])] == texts
    *_, last = batches
    assert [pa.types.is_dictionary(column.type) for column in last.cells.columns] == [True, False]
    assert len(last.rows) > 900
