"""The writer of workbooks: what it writes is read again as it was."""

import io
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

import openpyxl
from hypothesis import example, given
from hypothesis import strategies as st
from openpyxl.utils.escape import unescape

from tabserve.tables.limits import Deadline
from tabserve.tables.workbook import open_workbook
from tabserve.tables.workbook_writer import EXACT, xlsx_pieces


def written(columns: dict[str, list[Any]]) -> bytes:
    return b"".join(xlsx_pieces(columns))


def read_again(columns: dict[str, list[Any]]) -> list[list[Any]]:
    with open_workbook(io.BytesIO(written(columns)), "a.xlsx", Deadline(None)) as sheets:
        (sheet,) = sheets
        return [list(cells) for _, cells, _ in sheet.rows]


def test_values_keep_their_kinds() -> None:
    values = ["text", 1, 1.5, True, date(2024, 2, 29), datetime(2024, 2, 29, 1, 2, 3)]
    assert read_again({"a": values, "b": ["x"] * 6})[1:] == [[value, "x"] for value in values]


def test_a_text_is_never_a_formula_or_an_error() -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "#N/A", "\t=1", "=cmd|' /C calc'!A0"]
    sheet = openpyxl.load_workbook(io.BytesIO(written({"=a": texts}))).active
    assert sheet is not None
    assert [cell.data_type for (cell,) in sheet.iter_rows()] == ["s"] * 8
    assert [cell.value for (cell,) in sheet.iter_rows()] == ["=a", *texts]


def test_a_whole_number_that_a_workbook_would_round_is_a_text() -> None:
    assert read_again({"a": [EXACT, EXACT + 1, -EXACT - 1]})[1:] == [[EXACT], [str(EXACT + 1)], [str(-EXACT - 1)]]


def test_a_date_before_excel_counts_days_right_is_a_text() -> None:
    days = [date(1900, 2, 28), date(1900, 3, 1), date(9999, 12, 31)]
    assert read_again({"a": days})[1:] == [["1900-02-28"], [days[1]], [days[2]]]


def test_columns_have_letters_beyond_z() -> None:
    names = [f"column {number}" for number in range(800)]
    assert read_again({name: [1] for name in names}) == [names, [1] * 800]


def test_no_more_is_asked_for_than_a_piece_holds() -> None:
    asked = []

    def cells() -> Iterator[str]:
        for number in range(100_000):
            asked.append(number)
            yield str(number)

    next(iter(xlsx_pieces({"text": cells()})))
    assert 0 < len(asked) < 10_000


def test_what_a_workbook_cannot_hold_is_left_out() -> None:
    assert read_again({"a": [float("nan"), None, "a\x00b", "x" * 40_000], "b": [1] * 4})[1:] == [
        [None, 1],
        [None, 1],
        ["ab", 1],
        ["x" * 32_767, 1],
    ]


@example(["a\r\nb", "\r", " a\t", "_x0041_", "<a&b>", "]]>"])
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1), max_size=5))
def test_any_text_is_read_again(texts: list[str]) -> None:
    cells = [cell.value and unescape(cell.value) for (cell,) in _written({"a": texts})]
    assert cells == ["a", *(text.replace("\ufffe", "").replace("\uffff", "") or None for text in texts)]


def _written(columns: dict[str, list[Any]]) -> Any:
    sheet = openpyxl.load_workbook(io.BytesIO(written(columns))).active
    assert sheet is not None
    return sheet.iter_rows()
