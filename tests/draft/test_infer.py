"""Kinds of columns, inferred from their cells."""

from datetime import date, datetime
from typing import Any

import pytest

from tabserve.columns.dates import Date
from tests.draft.tables import ROWS, proposed, repeated

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]


@pytest.mark.parametrize(
    ("name", "cells", "kind", "options"),
    [
        ("rooms", ["1", "4", "7"], "integer", {"low": 0, "high": 10}),
        ("balance", ["-120", "80", "7"], "integer", {"low": -200, "high": 150}),
        ("arrears", ["0", "", "0"], "integer", {"low": 0, "high": 1, "missing": True}),
        ("age", ["18", "75", "33"], "integer", {"low": 0, "high": 120}),
        ("weight", ["1.5", "80.25"], "number", {"low": 0, "high": 100}),
        ("load", ["0.25", "0.75", "0.5"], "number", {"low": 0, "high": 1}),
        ("rate", ["5%", "12.5%", "7%"], "number", {"low": 0, "high": 1, "percent": True}),
        ("price", ["1,389.50", "12.00"], "number", {"low": 0, "high": 2000, "thousands": True}),
        ("way", ["12 km", "30 km", "25 km"], "integer", {"low": 0, "high": 40, "unit": "km"}),
        ("built", ["1990.0", "2005.0", "1970.0"], "integer", {"low": 0, "high": 3000}),
        ("year", ["2011", "2013", "2012"], "integer", {"low": 2010, "high": 2030}),
        ("partner", ["Yes", "No"], "boolean", {}),
        ("balkon", ["ja", "nein"], "boolean", {"words": ["nein", "ja"]}),
        ("express", ["TRUE", "FALSE"], "boolean", {}),
        ("flag", ["0", "1"], "boolean", {}),
        ("colour", ["red", "blue"], "category", {"values": ["blue", "red"]}),
        ("size", ["M", "S", "L"], "ordered", {"values": ["S", "M", "L"]}),
        ("mood", ["Very_High", "Low", "Medium"], "ordered", {"values": ["Low", "Medium", "Very_High"]}),
        ("cut", ["Good", "Ideal", "Fair"], "ordered", {"values": ["Fair", "Good", "Ideal"]}),
        ("day", ["2020-01-02", "2021-03-04"], "date", {}),
        ("day", ["02.01.2020", "04.03.2021"], "date", {"format": "%d.%m.%Y"}),
        ("at", ["31/01/2020 10:00", "01/02/2020 11:30"], "datetime", {"format": "%d/%m/%Y %H:%M"}),
    ],
)
def test_a_kind_follows_from_the_cells(name: str, cells: list[str], kind: str, options: dict[str, Any]) -> None:
    proposal = proposed(name, repeated(cells))
    assert (proposal.kind, proposal.options) == (kind, options)
    assert proposal.why
    assert proposal.seen


def test_all_months_are_allowed_where_some_were_seen() -> None:
    proposal = proposed("month", repeated(["Mar", "Jan", "Feb"]))
    assert proposal.kind == "ordered"
    assert proposal.options["values"][:4] == ["Jan", "Feb", "Mar", "Apr"]
    assert len(proposal.options["values"]) == 12


def test_a_decimal_comma_is_read_where_the_file_has_it() -> None:
    proposal = proposed("price", repeated(["59,56", "7,5", "120,25"]), decimal=",")
    assert (proposal.kind, proposal.seen) == ("number", "7.5 to 120.2")


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([1, 2, 5], "integer"),
        ([1.5, 2.25], "number"),
        ([True, False], "boolean"),
        ([date(2020, 1, 2), date(2021, 3, 4)], "date"),
        ([datetime(2020, 1, 2), datetime(2021, 3, 4)], "date"),
        ([datetime(2020, 1, 2, 10, 30), datetime(2021, 3, 4)], "datetime"),
        (["a", 3, "b", 4], "category"),
    ],
)
def test_typed_cells_are_understood(cells: list[Any], kind: str) -> None:
    assert proposed("column", repeated(cells)).kind == kind


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("id", [f"{number}" for number in range(5, ROWS + 5)]),
        ("customerID", [f"{number}-ABC" for number in range(ROWS)]),
        ("code", [f"X{number:05}" for number in range(ROWS)]),
        ("passenger", [f"{number * number}-{number}" for number in range(ROWS)]),
        ("customer_id", [f"{number * 7 % 100}" for number in range(ROWS)]),
    ],
)
def test_what_tells_rows_apart_is_an_id_and_shown_in_outline(name: str, cells: list[str]) -> None:
    proposal = proposed(name, cells)
    assert proposal.kind == "id"
    assert proposal.is_secret


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("Name", [f"Doe, Mr. Jack {number}" for number in range(ROWS)]),
        ("first_name", [f"Jack{number}" for number in range(ROWS)]),
        ("contact", [f"jack{number}@example.org" for number in range(ROWS)]),
    ],
)
def test_what_tells_who_somebody_is_is_left_out(name: str, cells: list[str]) -> None:
    proposal = proposed(name, cells)
    assert proposal.kind == "ignore"
    assert "tells who somebody is" in proposal.doubts[0]


def test_free_text_is_text() -> None:
    remarks = [f"{WORDS[number % 8]} and {WORDS[number * 3 % 7]} came {number} times" for number in range(ROWS)]
    proposal = proposed("remark", remarks)
    assert proposal.kind == "text"
    assert "Free text" in proposal.doubts[0]


def test_a_list_in_a_cell_is_text() -> None:
    genres = [f"{WORDS[number % 8]}|{WORDS[number * 3 % 7]}|{WORDS[number // 8 % 8]}" for number in range(ROWS)]
    assert proposed("genres", genres).kind == "text"


def test_many_values_are_learnt_and_not_listed() -> None:
    carriers = repeated([f"Carrier {number}" for number in range(60)])
    assert proposed("carrier", carriers).options == {"other": "other"}


def test_a_rare_value_says_that_there_may_be_others() -> None:
    proposal = proposed("colour", [*repeated(["red", "blue"]), "green"])
    assert proposal.options == {"values": ["blue", "green", "red"], "other": "other"}
    assert proposal.doubts == ("green occurs in fewer than 5 rows: values never seen are read as 'other'.",)


def test_a_value_called_other_stands_for_values_never_seen() -> None:
    proposal = proposed("colour", [*repeated(["red", "Other"]), "green"])
    assert proposal.options["other"] == "Other"


@pytest.mark.parametrize(
    ("name", "cells", "why"),
    [
        ("plz", ["01234", "90210", "02138"], "leading zeros"),
        ("zip_code", ["10001", "90210", "20138"], "By its name it holds codes"),
    ],
)
def test_digits_that_are_codes_are_a_category(name: str, cells: list[str], why: str) -> None:
    proposal = proposed(name, repeated(cells))
    assert proposal.kind == "category"
    assert why in " ".join(proposal.doubts)


def test_dates_that_may_begin_with_day_or_month_are_left_to_a_person() -> None:
    proposal = proposed("ordered", repeated(["03/04/2020", "05/06/2021"]))
    assert proposal.kind == "ignore"
    assert 'format = "%d/%m/%Y" or format = "%m/%d/%Y"' in proposal.doubts[0]


@pytest.mark.parametrize(("cells", "says"), [(["a"], "same value in all rows"), ([""], "No row has a value")])
def test_what_says_nothing_is_left_out(cells: list[str], says: str) -> None:
    proposal = proposed("column", repeated(cells))
    assert proposal.kind == "ignore"
    assert says in proposal.doubts[0]


def test_numbers_too_large_to_measure_anything_are_left_out() -> None:
    assert proposed("hash", repeated(["123456789012345678901", "5"])).kind == "ignore"


def test_nobody_is_born_in_the_future_though_years_have_two_digits() -> None:
    proposal = proposed("birth_date", ["31.12.45", "01.05.60", "13.02.99", "14.03.01"])
    assert proposal.options["format"] == "%d.%m.%y"
    assert proposal.seen == "1945-12-31 to 2001-03-14"
    assert Date(name="birth_date", **proposal.options).parse("01.05.60") == "1960-05-01"
    assert any("hundred years earlier" in doubt for doubt in proposal.doubts)


def test_other_dates_in_the_future_are_doubted_if_their_years_have_two_digits() -> None:
    proposal = proposed("due", ["31.12.67", "01.05.68", "13.02.09"])
    assert "high" not in proposal.options
    assert any("some dates are in the future: 2009-02-13 to 2068-05-01" in doubt for doubt in proposal.doubts)
    assert not proposed("due", ["31.12.17", "01.05.18", "13.02.09"]).doubts
