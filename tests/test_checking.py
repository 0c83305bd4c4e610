"""What is wrong with records: a problem is reported exactly when the encoder refuses, and repeats no value."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings

from tabserve.columns.features import Feature
from tabserve.declaration.use_case import UseCase
from tabserve.tables.checking import LONGEST_NAME, MOST_FIELDS, field_problems, row_problems
from tests.records import EXTRAS, FEATURE_SETS, SPECIAL, VALID, encoder_accepts, records, valid_example


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_the_encoder_accepts_a_record_exactly_when_nothing_is_wrong_with_it(name: str) -> None:
    features = FEATURE_SETS[name]
    seen = set()

    @settings(max_examples=4 * settings().max_examples, deadline=None, database=None)
    @given(records(features))
    def check(record: dict[str, Any]) -> None:
        accepted = encoder_accepts(features, record)
        seen.add(accepted)
        assert (not field_problems(features, record)) == accepted

    check()
    assert seen == {True, False}


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_nothing_is_wrong_with_a_special_value_in_any_field_exactly_when_the_encoder_takes_it(name: str) -> None:
    features = FEATURE_SETS[name]
    valid = {feature.name: valid_example(feature) for feature in features}
    assert encoder_accepts(features, valid)
    for feature in features:
        for value in SPECIAL:
            record = {**valid, feature.name: value}
            assert (not field_problems(features, record)) == encoder_accepts(features, record), (feature.name, value)


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_the_encoder_accepts_extras_exactly_when_nothing_is_wrong_with_them(name: str) -> None:
    features = FEATURE_SETS[name]
    seen = set()

    @settings(max_examples=2 * settings().max_examples, deadline=None, database=None)
    @given(records(features, EXTRAS))
    def check(record: dict[str, Any]) -> None:
        accepted = encoder_accepts(features, record, EXTRAS)
        seen.add(accepted)
        assert (not field_problems(features, record, EXTRAS)) == accepted

    check()
    assert seen == {True, False}


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra.kind)
def test_an_extra_is_checked_and_not_encoded(extra: Feature) -> None:
    features = FEATURE_SETS["bikes"]
    record = {feature.name: valid_example(feature) for feature in features}
    for value in (*SPECIAL, *VALID.get(extra.kind, [])):
        with_extra = {**record, extra.name: value}
        problems = field_problems(features, with_extra, EXTRAS)
        assert encoder_accepts(features, with_extra, EXTRAS) == (not problems)
        assert problems.keys() <= {extra.name}


def test_a_problem_is_named_by_field_with_what_would_do(credit: UseCase) -> None:
    record = {**credit.example, "housing": "castle", "age": "x", "amount": 0, "dependents": None, "colour": "red"}
    del record["job"]
    assert field_problems(credit.features, record) == {
        "housing": ["Must be one of: for free, own, rent."],
        "age": ["Not a valid integer."],
        "amount": ["Must be between 1 and 1000000."],
        "dependents": ["Field may not be null."],
        "job": ["Missing data for required field."],
        "colour": ["Unknown field."],
    }


def test_known_fields_at_fault_are_named_before_unknown_ones_and_there_are_not_too_many(credit: UseCase) -> None:
    record = {f"unknown {number}": 1 for number in range(1000)} | dict(credit.example) | {"age": "x"}
    errors = field_problems(credit.features, record)
    assert next(iter(errors)) == "age"
    assert len(errors) == MOST_FIELDS


def test_a_long_name_is_cut_and_one_that_is_not_unicode_can_be_written(credit: UseCase) -> None:
    record = {**credit.example, "x" * 10_000: 1, "\ud800": 1}
    errors = field_problems(credit.features, record)
    assert set(errors) == {"x" * LONGEST_NAME, "?"}
    assert json.dumps(errors, ensure_ascii=False).encode()


def test_a_million_unknown_fields_cost_no_more_than_those_that_are_named(credit: UseCase) -> None:
    record = {**credit.example, **dict.fromkeys(map(str, range(1_000_000)))}
    tracemalloc.start()
    errors = field_problems(credit.features, record)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(errors) == MOST_FIELDS
    assert peak < 1_000_000


def test_rows_at_fault_are_named_by_the_numbers_they_have_and_all_are_counted(credit: UseCase) -> None:
    faulty = {**credit.example, "age": "x"}
    errors = row_problems(credit.features, {50: faulty, 7: dict(credit.example, housing=1)}, 200)
    assert errors["count"] == 200
    assert errors["rows"]["50"] == {"age": ["Not a valid integer."]}
    assert list(errors["rows"]["7"]) == ["housing"]
