"""The CSV answer: the table that was sent, nothing lost, nothing that a spreadsheet would compute."""

import csv
import io
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabserve.api.answers import table_as_file
from tabserve.predict import make_prediction
from tabserve.predictor import LONGEST_TEXT, TablePrediction
from tabserve.registry.artifact import Artifact
from tabserve.tables.table import Table


def answer_of(artifact: Artifact, table: Table) -> list[dict[str, str]]:
    prediction = make_prediction(artifact, table.records, target=table.target, partial=True)
    answer = table_as_file(TablePrediction(artifact, table, prediction), "csv")
    return list(csv.DictReader(io.StringIO(answer.get_data(as_text=True), newline="")))


def table_of(records: list[dict[str, Any]], target: list[Any] | None = None, header: int = 1) -> Table:
    table = Table.of(records, target)
    rows = range(header + 1, header + 1 + len(records))
    return replace(table, columns=[*records[0], *([] if target is None else ["default"])], rows=rows)


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1", "-1 OR 2", "@SUM(A1)", "\t=1", "\r=1", " =1+1", "\uff1d1+1", '=HYPERLINK("http://x","y")']
)
def test_a_text_that_a_spreadsheet_would_compute_goes_out_harmless(artifact: Artifact, record: Any, cell: str) -> None:
    (row,) = answer_of(artifact, table_of([{**record, "housing": cell}]))
    assert row["housing"] == f"'{cell}"


def test_numbers_go_out_as_they_came_in_negative_ones_too(artifact: Artifact, record: dict[str, Any]) -> None:
    (row,) = answer_of(artifact, table_of([{**record, "amount": -5, "age": 1.5}]))
    assert (row["amount"], row["age"]) == ("-5", "1.5")


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12))
def test_every_text_comes_back_but_for_an_apostrophe_before_what_would_be_computed(
    artifact: Artifact, record: dict[str, Any], text: str
) -> None:
    (row,) = answer_of(artifact, table_of([{**record, "housing": text}]))
    assert row["housing"].removeprefix("'") == text.removeprefix("'")
    assert not row["housing"].lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"))


def test_what_is_wrong_is_said_in_the_row_and_cut_when_it_is_long(artifact: Artifact, record: dict[str, Any]) -> None:
    good, short, long = answer_of(artifact, table_of([record, {**record, "age": "x"}, dict.fromkeys(record, "x")]))
    assert (good["errors"], short["errors"]) == ("", "age: Not a valid integer.")
    assert len(long["errors"]) == LONGEST_TEXT
    assert long["errors"].endswith("…")


def test_an_outcome_that_is_wrong_is_said_and_one_that_is_open_is_not(artifact: Artifact, record: Any) -> None:
    wrong, unknown = answer_of(artifact, table_of([record, record], [7, None]))
    assert wrong["errors"].startswith("default: ")
    assert (wrong["result"], unknown["errors"], unknown["default"]) == ("", "", "")
    assert unknown["result"] in ("0", "1")


@pytest.mark.slow
def test_a_table_in_which_every_row_is_wrong_is_answered_piece_by_piece(artifact: Artifact, record: Any) -> None:
    table = table_of([dict.fromkeys(record, "wrong")] * 20_000)
    prediction = make_prediction(artifact, table.records, partial=True)
    tracemalloc.start()
    length = sum(map(len, table_as_file(TablePrediction(artifact, table, prediction), "csv").response))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert length > 5_000_000
    assert peak < 5_000_000
