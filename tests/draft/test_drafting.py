"""From the cells of a table to a first declaration."""

from datetime import date, timedelta
from typing import Any

import pytest

from tabserve.draft.drafting import Draft
from tabserve.errors import DraftError
from tests.draft.tables import ROWS, drafted, repeated, target


def doubts_about(draft: Draft, *columns: str) -> str:
    return " ".join(doubt.sentence for doubt in draft.doubts if doubt.columns == columns)


def columns_of(draft: Draft) -> dict[str, dict[str, Any]]:
    columns: dict[str, dict[str, Any]] = draft.plain()["columns"]
    return columns


def days(rows: int = ROWS, step: int = 1) -> list[str]:
    return [str(date(2020, 1, 1) + timedelta(days=row * step)) for row in range(rows)]


def test_a_draft_is_plain_data_in_the_files_order() -> None:
    draft = drafted({"age": repeated(["18", "75", "33", "50"]), "y": target(), "id": [str(n) for n in range(ROWS)]})
    assert draft.plain() == {
        "source": "loans.csv",
        "target": "y",
        "outcomes": ["no", "yes"],
        "columns": {
            "age": {"kind": "integer", "low": 0, "high": 120, "protected": True},
            "y": {"kind": "boolean"},
            "id": {"kind": "id"},
        },
    }


def test_notes_say_what_was_seen_and_doubted_but_no_identifiers() -> None:
    draft = drafted({"rooms": repeated(["18", "75", "33"]), "y": target(), "id": [str(n) for n in range(ROWS)]})
    assert draft.notes()["columns.rooms"] == "seen: 18 to 75"
    assert draft.notes()["columns.id"].startswith("CHECK: It identifies rows")
    assert "300 rows were read" in draft.notes()[""]


def test_a_column_that_alone_predicts_the_target_is_left_out() -> None:
    draft = drafted({"alive": [f"x{cell}" for cell in target()], "age": repeated(["1", "5", "9"]), "y": target()})
    assert columns_of(draft)["alive"] == {"kind": "ignore"}
    assert "a leak, unless it is truly known before the outcome" in doubts_about(draft, "alive")
    assert columns_of(draft)["age"]["kind"] == "integer"


def test_a_number_above_a_cut_is_a_leak_too() -> None:
    amounts = [str((70 if cell == "yes" else 10) + row % 40) for row, cell in enumerate(target())]
    draft = drafted({"amount": amounts, "age": repeated(["1", "5", "9"]), "y": target()})
    assert columns_of(draft)["amount"]["kind"] == "ignore"


def test_a_column_that_gives_a_number_away_is_a_leak() -> None:
    prices = [str(100 + row * 37 % 211) for row in range(ROWS)]
    draft = drafted({"gross": [f"{int(one) * 1.19:.2f}" for one in prices], "x": repeated(["1", "5"]), "y": prices})
    assert columns_of(draft)["gross"]["kind"] == "ignore"
    assert "R²" in doubts_about(draft, "gross")


def test_a_strong_column_is_kept_and_said() -> None:
    nearly = [cell if row % 40 else "no" for row, cell in enumerate(target())]
    draft = drafted({"hint": nearly, "x": repeated(["1", "5", "9"]), "y": target()})
    assert columns_of(draft)["hint"]["kind"] == "boolean"
    assert "known only after the outcome" in doubts_about(draft, "hint")


def test_of_equal_columns_the_first_is_kept() -> None:
    draft = drafted({"a": repeated(["1", "5", "9"]), "b": repeated(["1", "5", "9"]), "y": target()})
    assert [line["kind"] for line in columns_of(draft).values()] == ["integer", "ignore", "boolean"]
    assert "same as “a”" in doubts_about(draft, "b")


def test_columns_that_say_the_same_in_other_words_are_kept_and_said() -> None:
    draft = drafted({"a": repeated(["1", "5", "9"]), "b": repeated(["one", "five", "nine"]), "y": target()})
    assert columns_of(draft)["b"]["kind"] == "category"
    assert "same as “a” in other words" in doubts_about(draft, "b")


def test_copies_of_rows_are_counted() -> None:
    draft = drafted({"a": repeated(["1", "5", "9"]), "y": repeated(["yes", "no"])})
    assert "Copies of other rows, target included: 294." in doubts_about(draft)


@pytest.mark.parametrize(
    "name",
    [
        "sex",
        "Gender",
        "age",
        "native-country",
        "maritalStatus",
        "Geschlecht",
        "nationalité",
        "estado civil",
        "SeniorCitizen",
    ],
)
def test_protected_traits_are_marked_by_name(name: str) -> None:
    draft = drafted({name: repeated(["a", "b", "c"]), "x": repeated(["1", "5"]), "y": target()})
    assert columns_of(draft)[name]["protected"] is True
    assert "the law may protect" in doubts_about(draft, name)


@pytest.mark.parametrize("name", ["genre", "page", "message", "sextant", "embrace"])
def test_other_names_are_not_marked(name: str) -> None:
    draft = drafted({name: repeated(["a", "b", "c"]), "x": repeated(["1", "5"]), "y": target()})
    assert "protected" not in columns_of(draft)[name]


def test_several_rows_of_one_customer_are_a_group() -> None:
    customers = [str(1000 + row * 7 % 101) for row in range(ROWS)]
    draft = drafted({"customer_id": customers, "x": repeated(["1", "5"]), "y": target()})
    assert draft.plain()["group"] == "customer_id"
    assert "300 rows of 101" in doubts_about(draft, "customer_id")


def test_dates_in_the_files_order_are_the_time() -> None:
    draft = drafted({"signed": days(), "x": repeated(["1", "5"]), "y": target()})
    assert draft.plain()["time"] == "signed"
    assert "judged on the latest rows" in doubts_about(draft, "signed")
    shuffled = [days()[row * 7 % ROWS] for row in range(ROWS)]
    mixed = drafted({"signed": shuffled, "x": repeated(["1", "5"]), "y": target()})
    assert "time" not in mixed.plain()
    assert 'write time = "signed"' in doubts_about(mixed, "signed")


def test_dates_of_birth_and_classes_on_one_side_make_no_split_by_time() -> None:
    born = drafted({"birth_date": days(), "x": repeated(["1", "5"]), "y": target()})
    assert "time" not in born.plain()
    late = ["yes" if row > 250 else "no" for row in range(ROWS)]
    assert "time" not in drafted({"date": days(), "x": repeated(["1", "5", "9", "11"]), "y": late}).plain()


def test_parts_of_dates_are_derived_where_they_vary() -> None:
    draft = drafted({"signed on": days(), "due": days(step=2), "x": repeated(["1", "5"]), "y": target()})
    derived = draft.plain()["derived"]
    assert derived["signed_on_month"] == {"kind": "date_part", "date": "signed on", "part": "month"}
    assert derived["days_signed_on_to_due"] == {"kind": "days_between", "start": "signed on", "end": "due"}
    assert "signed_on_year" not in derived
    assert "due_year" in derived
    assert "signed_on_hour" not in derived


def test_from_birth_to_a_date_are_years() -> None:
    draft = drafted({"signed": days(), "born": days(step=-20), "x": repeated(["1", "5"]), "y": target()})
    assert draft.plain()["derived"]["years_born_to_signed"]["kind"] == "years_between"


def test_a_marker_of_several_columns_is_said_once_for_the_file() -> None:
    columns = {
        "a": repeated(["1", "5", "?"]),
        "b": repeated(["7", "?", "8", "9"]),
        "c": repeated(["u", "NA", "v", "w"]),
    }
    draft = drafted({**columns, "y": target()})
    assert draft.plain()["markers"] == ["?"]
    assert "markers" not in columns_of(draft)["a"]
    assert columns_of(draft)["c"]["markers"] == ["NA"]
    assert "“?” is read as missing in 2 columns (175 cells)." in doubts_about(draft)


def test_weights_are_left_out_until_somebody_decides() -> None:
    draft = drafted({"fnlwgt": [str(row * 31 % 977) for row in range(ROWS)], "x": repeated(["1", "5"]), "y": target()})
    assert columns_of(draft)["fnlwgt"]["kind"] == "ignore"
    assert 'weight = "fnlwgt"' in doubts_about(draft, "fnlwgt")


def test_the_target_is_found_in_other_case() -> None:
    assert drafted({"x": repeated(["1", "5"]), "Y": target()}).plain()["target"] == "Y"


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"x": repeated(["1", "5"]), "ys": target()}, "no column 'y': did you mean 'ys'"),
        ({"x": repeated(["1", "5"]), "abc": target()}, "choose from: x, abc"),
        ({"result": repeated(["1", "5"]), "y": target()}, "cannot be called 'result'"),
        ({"y": target()}, "only the column 'y'"),
        ({"x": repeated(["1"]), "y": target()}, "No column is left"),
    ],
)
def test_what_cannot_be_drafted_is_said(columns: dict[str, list[str]], problem: str) -> None:
    with pytest.raises(DraftError, match=problem):
        drafted(columns)


def test_numbers_that_may_be_read_in_two_ways_are_said() -> None:
    draft = drafted({"price": repeated(["1,389", "2,500", "7,125"]), "y": target()})
    assert "may be 1389 or 1.389" in doubts_about(draft)
