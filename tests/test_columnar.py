"""Parquet and Feather files: what is read of them, and what is refused."""

import io
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from tabserve.errors import FileLimitError, UnsupportedFileError
from tabserve.tables.limits import Deadline
from tabserve.tables.workbook import open_workbook


def parquet(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    pyarrow.parquet.write_table(table, stream)
    return stream.getvalue()


def feather(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    pyarrow.feather.write_feather(table, stream)
    return stream.getvalue()


def rows_of(content: bytes) -> list[Any]:
    with open_workbook(io.BytesIO(content), "a", Deadline(60)) as sheets:
        (sheet,) = sheets
        return [row[:2] for row in sheet.rows]


BOTH = pytest.mark.parametrize("write", [parquet, feather])


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
