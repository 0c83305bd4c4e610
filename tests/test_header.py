"""The header: found by the known columns, in the spellings that people use."""

from collections.abc import Sequence
from typing import Any

import pytest

from tabserve.tables.header import Spellings, find_header
from tabserve.tables.limits import Row
from tabserve.tables.workbook_child import MERGED

KNOWN = ("hour", "weekday", "month", "Loan amount")


def rows(*cells: Sequence[Any]) -> list[Row]:
    return [(number, row, len(row)) for number, row in enumerate(cells, 1)]


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("hour", "hour"),
        (" Hour\u00a0", "hour"),
        ("HOUR", "hour"),
        ("loan  AMOUNT", "Loan amount"),
        ("loan\namount", "Loan amount"),
        ("hours", None),
        ("", None),
        ("h" * 10_000, None),
    ],
)
def test_a_name_is_known_in_other_case_and_with_other_blanks(name: str, column: str | None) -> None:
    assert Spellings(KNOWN).columns([name]) == [column]


def test_an_exact_name_goes_before_one_in_other_case() -> None:
    assert Spellings(KNOWN).columns(["Hour", "hour"]) == [None, "hour"]


def test_a_name_that_may_mean_two_columns_means_none() -> None:
    assert Spellings(["a", "A"]).columns(["a", "A", " a"]) == ["a", "A", None]


def test_the_header_stands_below_titles() -> None:
    header = find_header(rows(["Rentals"], ["of hour"], ["hour", "weekday"], [8, "Monday"]), KNOWN)
    assert header is not None
    assert (header.row, header.above, header.columns) == (3, 3, ["hour", "weekday"])


def test_the_lower_row_of_a_header_in_two_rows_counts_and_where_it_is_empty_the_upper_one() -> None:
    header = find_header(rows(["when", None, "month"], ["hour", "weekday", None], [8, "Monday", "March"]), KNOWN)
    assert header is not None
    assert (header.row, header.columns) == (2, ["hour", "weekday", "month"])


@pytest.mark.parametrize(
    ("above", "row"),
    [
        ([["hour", "when", None], [MERGED, "weekday", "month"]], 2),
        ([["hour", "weekday", "month"], [MERGED, MERGED, MERGED]], 2),
        ([["Rentals", None, None], ["hour", "when", None], [MERGED, "weekday", "month"]], 3),
        ([["hour", "when", None], [MERGED, "week", "month"], [MERGED, "weekday", MERGED]], 3),
        ([["hour", "weekday", "month"], [None, None, "unit", MERGED]], 1),
    ],
)
def test_cells_of_a_header_may_be_merged_with_those_above(above: list[list[Any]], row: int) -> None:
    header = find_header(rows(*above, [8, "Monday", "March"], [MERGED, "Tuesday", "March"]), KNOWN)
    assert header is not None
    assert (header.row, header.columns) == (row, ["hour", "weekday", "month"])


def test_the_first_of_equal_headers_counts_and_empty_cells_at_its_end_do_not() -> None:
    header = find_header(rows(["hour", "month", "", None], ["hour", "month"]), KNOWN)
    assert header is not None
    assert (header.row, list(header.names)) == (1, ["hour", "month"])


def test_without_a_known_column_there_is_no_header() -> None:
    assert find_header(rows(["a", None], [1, 2]), KNOWN) is None
