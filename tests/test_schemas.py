"""Schemas: they accept what the encoder accepts, and say what is wrong without repeating it."""

import gc
import json
import tracemalloc
import weakref
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tabserve.api.schemas import (
    LONGEST_NAME,
    MOST_FIELDS,
    ModelSchema,
    field_errors,
    public_manifest,
    query_schema,
    record_json_schema,
    record_schema,
    row_errors,
)
from tabserve.columns.features import Category, CyclicInteger, Feature, Integer, Number, OrderedCategory
from tabserve.declaration.discovery import get_use_case
from tabserve.declaration.use_case import Algorithm, UseCase
from tabserve.errors import InvalidRecordsError
from tabserve.models.linear import LogisticRegression
from tabserve.registry.artifact import Artifact
from tabserve.transformers import RecordEncoder
from werkzeug.datastructures import MultiDict

EVERY_KIND: tuple[Feature, ...] = tuple(
    feature
    for missing, prefix in ((False, "needed"), (True, "optional"))
    for feature in (
        Category(name=f"{prefix}_category", description="c", values=("a", "b", "é", "None", "1"), missing=missing),
        OrderedCategory(name=f"{prefix}_order", description="o", values=("low", "high"), missing=missing),
        Number(name=f"{prefix}_number", description="n", low=-0.5, high=1e9, missing=missing),
        Integer(name=f"{prefix}_integer", description="i", low=-3, high=40, missing=missing),
        Number(name=f"{prefix}_huge", description="h", low=-1e30, high=1e30, missing=missing),
        CyclicInteger(name=f"{prefix}_cycle", description="y", low=0, high=24, missing=missing),
    )
)
WITH_DEFAULTS: tuple[Feature, ...] = (
    Category(name="category", description="c", values=("a", "b", "1"), default="b"),
    OrderedCategory(name="order", description="o", values=("low", "high"), default="low"),
    Number(name="number", description="n", low=-0.5, high=1e9, default=0.0),
    Integer(name="integer", description="i", low=-3, high=40, default=-3),
    CyclicInteger(name="cycle", description="y", low=0, high=24, default=24),
    Integer(name="needed", description="i", low=0, high=1),
)
FEATURE_SETS = {
    **{name: get_use_case(name).features for name in ("credit", "bikes")},
    "every kind": EVERY_KIND,
    "defaults": WITH_DEFAULTS,
}
SPECIAL = [
    *(0, -0.0, 1, 1.0, 35, 35.0, 35.5, -1, 40, 40.0, 41, 1e9, 1e9 + 1, 1e-320, 1e308, -1e308, 1.8e307, 2**53 + 1),
    *(2**63, 2**64, 2**70, -(2**70), 10**400, float("nan"), float("inf"), float("-inf"), True, False, None),
    *("", " ", "35", "35.0", "nan", "NaN", "null", "None", "true", "1", "é", "e\u0301", "\x00", "\ud800", "🚲"),
    *([], [1], {}, {"a": 1}, [None], [[]]),
]
SCALARS = st.one_of(
    st.sampled_from([value for value in SPECIAL if not isinstance(value, (list, dict))]),
    st.booleans(),
    st.integers(),
    st.integers(-5, 130),
    st.floats(),
    st.integers(-5, 130).map(float),
    st.text(max_size=5),
)
JSON = st.one_of(
    st.sampled_from(SPECIAL),
    SCALARS,
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner)),
)


def valid_values(feature: Feature) -> st.SearchStrategy[Any]:
    if isinstance(feature, Category):
        values: st.SearchStrategy[Any] = st.sampled_from(feature.values)
    elif isinstance(feature, Integer):
        whole = st.integers(int(feature.low), int(feature.high))
        values = whole | whole.map(float)
    else:
        assert isinstance(feature, Number)
        values = st.floats(feature.low, feature.high)
    return values | st.none() if feature.optional else values


def near_valid_values(feature: Feature) -> st.SearchStrategy[Any]:
    if isinstance(feature, Category):
        changes = [str.upper, str.title, lambda text: f" {text}", lambda text: f"{text} ", lambda text: text[:-1], list]
        return st.builds(lambda text, change: change(text), st.sampled_from(feature.values), st.sampled_from(changes))
    assert isinstance(feature, Number)
    low, high = feature.low, feature.high
    return st.sampled_from([low, high, low - 1, high + 1, low + 0.5, high - 0.5, str(low), [low], float(high)])


@st.composite
def records(draw: st.DrawFn, features: tuple[Feature, ...]) -> dict[str, Any]:
    """A valid record to which up to three things were done."""
    record = {feature.name: draw(valid_values(feature)) for feature in features}
    for feature in features:
        if feature.optional and draw(st.booleans()):
            del record[feature.name]
    for _ in range(draw(st.integers(0, 3))):
        feature = draw(st.sampled_from(features))
        change = draw(st.sampled_from(["drop", "add", "any", "near", "valid"]))
        if change == "drop":
            record.pop(feature.name, None)
        elif change == "add":
            near = st.sampled_from([feature.name.upper(), f"{feature.name} ", "__class__", "_schema", "a.b"])
            record[draw(near | st.text(max_size=5))] = draw(JSON)
        else:
            values = {"any": JSON, "near": near_valid_values(feature), "valid": valid_values(feature)}[change]
            record[feature.name] = draw(values)
    return record


def encoder_accepts(features: tuple[Feature, ...], record: dict[str, Any]) -> bool:
    try:
        matrix = RecordEncoder(features).fit().transform([record])
    except InvalidRecordsError:
        return False
    assert matrix.shape == (1, len(features))
    return True


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_the_encoder_accepts_a_record_exactly_when_the_schema_does(name: str) -> None:
    features = FEATURE_SETS[name]
    schema = record_schema(features)
    seen = set()

    @settings(max_examples=400, deadline=None, database=None)
    @given(records(features))
    def check(record: dict[str, Any]) -> None:
        accepted = encoder_accepts(features, record)
        seen.add(accepted)
        assert (not schema.validate(record)) == accepted
        assert (not field_errors(schema, record)) == accepted

    check()
    assert seen == {True, False}


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_the_schema_accepts_every_special_value_in_every_field_exactly_when_the_encoder_does(name: str) -> None:
    features = FEATURE_SETS[name]
    schema = record_schema(features)
    valid = {feature.name: valid_example(feature) for feature in features}
    assert encoder_accepts(features, valid)
    for feature in features:
        for value in SPECIAL:
            record = {**valid, feature.name: value}
            assert (not schema.validate(record)) == encoder_accepts(features, record), (feature.name, value)


def valid_example(feature: Feature) -> Any:
    if isinstance(feature, Category):
        return feature.values[0]
    assert isinstance(feature, Number)
    return max(1, feature.low)


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_the_documented_json_schema_accepts_what_the_encoder_accepts(name: str, credit: UseCase) -> None:
    features = FEATURE_SETS[name]
    document = record_json_schema(with_features(credit, features))
    jsonschema.Draft202012Validator.check_schema(document)
    validator = jsonschema.Draft202012Validator(document)

    @settings(max_examples=150, deadline=None, database=None)
    @given(records(features).filter(lambda record: "NaN" not in json.dumps(record)))  # NaN is no JSON
    def check(record: dict[str, Any]) -> None:
        assert validator.is_valid(record) == encoder_accepts(features, record)

    check()


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_a_field_is_required_exactly_when_a_record_may_not_do_without_it(name: str, credit: UseCase) -> None:
    features = FEATURE_SETS[name]
    document = record_json_schema(with_features(credit, features))
    for feature in features:
        record = {one.name: valid_example(one) for one in features if one is not feature}
        assert (feature.name in document["required"]) == bool(record_schema(features).validate(record))
        assert (feature.name in document["required"]) != feature.optional


# queries


def with_features(use_case: UseCase, features: tuple[Feature, ...]) -> UseCase:
    example = {feature.name: valid_example(feature) for feature in features}
    plain = Algorithm(name="plain", model=LogisticRegression())  # which is told of no columns
    return replace(
        use_case,
        features=tuple(replace(feature, monotone=0) for feature in features),
        derived=(),
        algorithms=(plain,),
        baseline=plain,
        groups=(),
        gates=(),
        example=example,
    )


def texts_of(record: dict[str, Any]) -> dict[str, str]:
    return {name: "" if value is None else str(value) for name, value in record.items()}


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_a_record_survives_the_way_through_a_query(name: str, credit: UseCase) -> None:
    features = FEATURE_SETS[name]
    schema = query_schema(with_features(credit, features))

    @settings(max_examples=100, deadline=None, database=None)
    @given(st.fixed_dictionaries({feature.name: valid_values(feature) for feature in features}))
    def check(record: dict[str, Any]) -> None:
        assert schema.load(MultiDict(texts_of(record))) == record

    check()


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_a_query_is_taken_exactly_when_the_record_that_it_stands_for_is(name: str, credit: UseCase) -> None:
    features = FEATURE_SETS[name]
    schema = query_schema(with_features(credit, features))
    seen = set()

    @settings(max_examples=200, deadline=None, database=None)
    @given(records(features).map(texts_of))
    def check(query: dict[str, str]) -> None:
        parsers = {feature.name: feature.parse for feature in features}
        record = {name: parsers[name](text) if name in parsers else text for name, text in query.items()}
        problems = field_errors(record_schema(features), record)
        seen.add(not problems)
        assert field_errors(schema, MultiDict(query)) == problems

    check()
    assert seen == {True, False}


RENTAL = {"hour": "15", "weekday": "Friday", "month": "June", "weather": "Cloudy"}


@pytest.mark.parametrize(
    ("query", "record"),
    [
        (RENTAL, {"hour": 15, "weekday": "Friday", "month": "June", "weather": "Cloudy"}),
        (
            {**RENTAL, "year": "2011"},
            {"hour": 15, "weekday": "Friday", "month": "June", "weather": "Cloudy", "year": 2011},
        ),
        (
            {**RENTAL, "hour": "24.0", "year": ""},
            {"hour": 24.0, "weekday": "Friday", "month": "June", "weather": "Cloudy", "year": None},
        ),
    ],
)
def test_the_texts_of_a_query_become_a_record(bikes: UseCase, query: dict[str, str], record: dict[str, Any]) -> None:
    loaded = query_schema(bikes).load(MultiDict(query))
    assert loaded == record
    assert encoder_accepts(bikes.features, loaded)


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ({**RENTAL, "hour": ""}, {"hour": ["Field may not be null."]}),
        ({**RENTAL, "hour": "25"}, {"hour": ["Must be between 0 and 24."]}),
        ({**RENTAL, "hour": " 5"}, {"hour": ["Not a valid integer."]}),
        ({**RENTAL, "hour": "9.5"}, {"hour": ["Not a valid integer."]}),
        ({**RENTAL, "weather": "cloudy"}, {"weather": ["Must be one of: Clear, Cloudy, Rainy, Stormy."]}),
        ({**RENTAL, "year": "2013"}, {"year": ["Must be between 2011 and 2012."]}),
        ({**RENTAL, "season": "summer", "count": "3"}, {"season": ["Unknown field."], "count": ["Unknown field."]}),
        ({"year": "2011"}, {name: ["Missing data for required field."] for name in RENTAL}),
    ],
)
def test_a_query_at_fault_is_told_as_a_record_is(
    bikes: UseCase, query: dict[str, str], errors: dict[str, list[str]]
) -> None:
    assert field_errors(query_schema(bikes), MultiDict(query)) == errors


def test_what_a_query_says_twice_is_at_fault(bikes: UseCase) -> None:
    query = MultiDict([*RENTAL.items(), ("hour", "3")])
    assert field_errors(query_schema(bikes), query) == {"hour": ["Given more than once."]}


def test_a_query_s_field_is_described_as_the_text_that_it_takes(bikes: UseCase) -> None:
    for feature in bikes.features:
        field = query_schema(bikes).fields[feature.name]
        description = feature.json_schema()["description"]
        assert field.metadata["description"] == description
        assert field.metadata["type"] in ("string", "integer")  # a query has no null
        assert None not in field.metadata.get("enum", ())
        assert field.required == (feature.name != "year")
        assert field.metadata.get("examples", [None]) == [bikes.example.get(feature.name)]


def test_a_problem_is_named_by_field_with_what_would_do(credit: UseCase) -> None:
    record = {**credit.example, "housing": "castle", "age": "x", "amount": 0, "dependents": None, "colour": "red"}
    del record["job"]
    assert field_errors(record_schema(credit.features), record) == {
        "housing": ["Must be one of: for free, own, rent."],
        "age": ["Not a valid integer."],
        "amount": ["Must be between 1 and 1000000."],
        "dependents": ["Field may not be null."],
        "job": ["Missing data for required field."],
        "colour": ["Unknown field."],
    }


def test_known_fields_at_fault_are_named_before_unknown_ones_and_there_are_not_too_many(credit: UseCase) -> None:
    record = {f"unknown {number}": 1 for number in range(1000)} | dict(credit.example) | {"age": "x"}
    errors = field_errors(record_schema(credit.features), record)
    assert next(iter(errors)) == "age"
    assert len(errors) == MOST_FIELDS


def test_a_long_name_is_cut_and_one_that_is_not_unicode_can_be_written(credit: UseCase) -> None:
    record = {**credit.example, "x" * 10_000: 1, "\ud800": 1}
    errors = field_errors(record_schema(credit.features), record)
    assert set(errors) == {"x" * LONGEST_NAME, "?"}
    assert json.dumps(errors, ensure_ascii=False).encode()


def test_a_million_unknown_fields_cost_no_more_than_those_that_are_named(credit: UseCase) -> None:
    record = {**credit.example, **dict.fromkeys(map(str, range(1_000_000)))}
    tracemalloc.start()
    errors = field_errors(record_schema(credit.features), record)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(errors) == MOST_FIELDS
    assert peak < 1_000_000


def test_a_record_at_fault_is_not_kept_in_memory(credit: UseCase) -> None:
    class Marked(dict[str, Any]):
        pass

    record = Marked(credit.example, age="x", colour="red")
    kept = weakref.ref(record)
    gc.disable()
    try:
        assert set(field_errors(record_schema(credit.features), record)) == {"age", "colour"}
        del record
        assert kept() is None
    finally:
        gc.enable()


def test_rows_at_fault_are_named_by_the_numbers_they_have_and_all_are_counted(credit: UseCase) -> None:
    faulty = {**credit.example, "age": "x"}
    errors = row_errors(record_schema(credit.features), {50: faulty, 7: dict(credit.example, housing=1)}, 200)
    assert errors["count"] == 200
    assert errors["rows"]["50"] == {"age": ["Not a valid integer."]}
    assert list(errors["rows"]["7"]) == ["housing"]


def test_clients_see_how_good_a_model_is_but_not_its_files_or_signature(artifact: Artifact) -> None:
    public = public_manifest(artifact.manifest)
    assert not ModelSchema().validate(public)
    assert public["metrics"] == artifact.manifest.metrics
    assert public["model_id"] == artifact.model_id
    assert not public.keys() & {"files", "hmac", "trials", "data", "commit"}


def test_clients_see_no_figures_of_small_groups(artifact: Artifact) -> None:
    groups = artifact.manifest.groups
    small = {name for name, one in groups.items() if min(group["rows"] for group in one.values.values()) < 20}
    assert "foreign_worker" in small
    public = public_manifest(artifact.manifest)["groups"]
    for name, comparison in public.items():
        assert (comparison["withheld"] > 0) == (comparison["disparate_impact"] is None) == (name in small)
        assert all(group["rows"] >= 20 for group in comparison["values"].values())
    assert public["foreign_worker"]["values"] == {}
