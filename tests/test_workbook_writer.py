"""The writer of workbooks: what it writes is read again as it was."""

import io
from datetime import date, datetime
from typing import Any

import openpyxl
from hypothesis import given
from hypothesis import strategies as st

from tabserve.tables.limits import Deadline
from tabserve.tables.workbook import open_workbook
from tabserve.tables.workbook_writer import xlsx_bytes


def read_again(columns: dict[str, list[Any]]) -> list[list[Any]]:
    with open_workbook(io.BytesIO(xlsx_bytes(columns)), "a.xlsx", Deadline(None)) as sheets:
        (sheet,) = sheets
        return [list(cells) for _, cells, _ in sheet.rows]


def test_values_keep_their_kinds() -> None:
    values = ["text", 1, 1.5, True, date(2024, 2, 29), datetime(2024, 2, 29, 1, 2, 3)]
    assert read_again({"a": values, "b": ["x"] * 6})[1:] == [[value, "x"] for value in values]


def test_a_text_is_never_a_formula_or_an_error() -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "#N/A", "\t=1", "=cmd|' /C calc'!A0"]
    sheet = openpyxl.load_workbook(io.BytesIO(xlsx_bytes({"=a": texts}))).active
    assert sheet is not None
    assert [cell.data_type for (cell,) in sheet.iter_rows()] == ["s"] * 8
    assert [cell.value for (cell,) in sheet.iter_rows()] == ["=a", *texts]


def test_what_a_workbook_cannot_hold_is_left_out() -> None:
    assert read_again({"a": [float("nan"), None, "a\x00b", "x" * 40_000], "b": [1] * 4})[1:] == [
        [None, 1],
        [None, 1],
        ["ab", 1],
        ["x" * 32_767, 1],
    ]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1), max_size=5))
def test_any_text_is_read_again(texts: list[str]) -> None:
    cells = [row.value for (row,) in _written({"a": texts})]
    assert cells == ["a", *texts]


def _written(columns: dict[str, list[Any]]) -> Any:
    sheet = openpyxl.load_workbook(io.BytesIO(xlsx_bytes(columns))).active
    assert sheet is not None
    return sheet.iter_rows()
