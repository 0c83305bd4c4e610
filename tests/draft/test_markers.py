"""Texts and numbers that stand for a missing value."""

import pytest

from tests.draft.tables import proposed, repeated


@pytest.mark.parametrize("marker", ["?", "NA", "N/A", "n/a", "null", "NULL", "-", "NaN", "none", "#N/A", "k.A."])
def test_a_marker_among_numbers_is_missing(marker: str) -> None:
    proposal = proposed("amount", repeated(["1.5", "2.5", marker]))
    assert (proposal.kind, proposal.options["markers"], proposal.options["missing"]) == ("number", [marker], True)
    assert proposal.doubts == (f"“{marker}” is read as missing (100 rows).",)


def test_a_blank_is_missing_without_a_marker() -> None:
    proposal = proposed("amount", repeated(["1.5", " ", ""]))
    assert proposal.options == {"low": 0, "high": 2, "missing": True}
    assert proposal.profile.missing == 200


@pytest.mark.parametrize("marker", ["?", "N/A", "-"])
def test_a_marker_in_a_category_is_missing(marker: str) -> None:
    proposal = proposed("colour", repeated(["red", "blue", marker]))
    assert proposal.options == {"values": ["blue", "red"], "missing": True, "markers": [marker]}


def test_none_is_a_value_of_a_category() -> None:
    assert proposed("alley", repeated(["gravel", "paved", "None"])).options["values"] == ["gravel", "None", "paved"]


def test_na_is_a_value_among_codes_and_missing_among_words() -> None:
    codes = proposed("region", repeated(["APAC", "EMEA", "NA"]))
    assert codes.options["values"] == ["APAC", "EMEA", "NA"]
    assert "NA is read as a value" in codes.doubts[0]
    words = proposed("region", repeated(["north", "south", "NA"]))
    assert words.options["markers"] == ["NA"]


@pytest.mark.parametrize("sentinel", ["-999", "9999", "-1", "999"])
def test_a_number_far_from_all_others_is_missing(sentinel: str) -> None:
    proposal = proposed("height", repeated([str(number) for number in range(150, 200)] + [sentinel]))
    is_known = sentinel != "-1"
    assert ("markers" in proposal.options) == is_known
    assert proposal.options["low"] == 0 if is_known else proposal.options["low"] < 0


def test_999_among_numbers_of_its_size_is_a_number() -> None:
    proposal = proposed("price", repeated([str(number) for number in range(0, 2000, 37)] + ["999"]))
    assert "markers" not in proposal.options


def test_a_few_words_among_numbers_are_missing_and_said() -> None:
    proposal = proposed("price", [*repeated(["1.5", "2.5", "3.5"]), "on request", "see remark"])
    assert proposal.kind == "number"
    assert proposal.options["markers"] == ["on request", "see remark"]
    assert "Mixed types" in proposal.doubts[0]


def test_many_words_among_numbers_make_a_category() -> None:
    assert proposed("price", repeated(["1.5", "2.5", "cheap"])).kind == "category"
