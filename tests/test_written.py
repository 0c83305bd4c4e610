"""Tables that are written by columns: byte by byte what row by row would be written."""

import io
import zipfile
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet
from hypothesis import given
from hypothesis import strategies as st

from tabserve.columns.arrays import cell_array
from tabserve.columns.boolean import Boolean
from tabserve.columns.carried import Id
from tabserve.columns.dates import Date
from tabserve.columns.features import Category, Feature, Integer, Number
from tabserve.predictor import _dated
from tabserve.tables import workbook_writer, writer
from tabserve.tables.kept import CellColumn, Cells, WrittenColumn
from tabserve.tables.parquet_writer import parquet_pieces
from tabserve.tables.workbook_writer import xlsx_pieces
from tabserve.tables.writer import csv_pieces

FEATURES: list[tuple[Feature, Callable[[Any], Any]]] = [
    (Number(name="x", missing=True), lambda value: value),
    (Integer(name="x", markers=("?",), missing=True), lambda value: value),
    (Category(name="x", values=("a", "=b", 'say "so"'), missing=True), lambda value: value),
    (Id(name="x"), lambda value: value),
    (Boolean(name="x", words=("nein", "ja")), Boolean(name="x", words=("nein", "ja")).word),
    (Date(name="x", format="%d.%m.%Y"), _dated),
]
NUMERALS = st.floats(allow_nan=False).map(repr) | st.integers(-(10**20), 10**20).map(str)
TEXTS = st.one_of(
    NUMERALS,
    st.sampled_from(
        ["", " ", "?", "5", "5.0", "-0", "0.00001", "1,5", "01.02.2024", "2024-02-01", "ja", "a", "=b", "-1+2"]
    ),
    st.text(st.sampled_from("ab=@ ;,\"'\r\n\t\u00e9\uff1d\u4e2d"), max_size=5),
)
VALUES = st.one_of(
    TEXTS,
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(),
    st.dates(),
    st.datetimes(),
    st.just("half \ud800"),
    st.decimals(-1000, 1000, places=2),
)
DIALECTS = st.fixed_dictionaries(
    {"separator": st.sampled_from(",;\t|")},
    optional={
        "decimal": st.sampled_from(",."),
        "encoding": st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"]),
        "first_line": st.just("sep=;"),
    },
)


@st.composite
def tables(draw: Callable[..., Any], cells: st.SearchStrategy[Any]) -> dict[str, Any]:
    """Columns as an answer has them: those of a file, in parts, and those of the answer."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    chosen = draw(st.lists(st.sampled_from(FEATURES), min_size=1, max_size=4))
    columns: dict[str, Any] = {}
    decimal = draw(st.sampled_from(".,"))
    for place, (feature, word) in enumerate(chosen):
        parts = [cell_array(draw(st.lists(cells, min_size=size, max_size=size))) for size in sizes]
        batches = [pa.RecordBatch.from_arrays([part], ["x"]) for part in parts]
        columns[f"c{place}"] = WrittenColumn(CellColumn(feature, Cells(batches, decimal)), word)
    if draw(st.booleans()):
        rows = sum(sizes)
        columns["=p"] = draw(st.lists(st.none() | st.floats(0, 1), min_size=rows, max_size=rows))
        columns["errors"] = draw(st.lists(st.sampled_from(["", "age: wrong, very"]), min_size=rows, max_size=rows))
    return columns


@given(tables(TEXTS) | tables(VALUES), DIALECTS, st.sampled_from([1, 30, writer.LINES]))
def test_csv_has_the_bytes_that_rows_have(columns: dict[str, Any], dialect: dict[str, str], lines: int) -> None:
    values = {name: [*column] for name, column in columns.items()}
    expected = b"".join(csv_pieces(values, dialect))
    with patch.object(writer, "LINES", lines):
        assert b"".join(csv_pieces(columns, dialect)) == expected


@given(tables(TEXTS) | tables(VALUES))
def test_parquet_holds_what_rows_hold(columns: dict[str, Any]) -> None:
    values = {name: [*column] for name, column in columns.items()}
    found, expected = (
        pyarrow.parquet.read_table(io.BytesIO(b"".join(parquet_pieces(some)))) for some in (columns, values)
    )
    assert found.schema == expected.schema
    assert found.equals(expected) or str(found.to_pydict()) == str(expected.to_pydict())  # NaN is not NaN


def sheet_of(columns: dict[str, Any]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(b"".join(xlsx_pieces(columns)))) as archive:
        return archive.read("xl/worksheets/sheet1.xml")


@given(tables(TEXTS) | tables(VALUES), st.sampled_from([1, 100, workbook_writer.LINES]))
def test_a_workbook_holds_what_rows_hold(columns: dict[str, Any], lines: int) -> None:
    values = {name: [*column] for name, column in columns.items()}
    with patch.object(workbook_writer, "LINES", lines):
        assert sheet_of(columns) == sheet_of(values)
