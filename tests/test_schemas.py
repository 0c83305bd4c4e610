"""Schemas: they accept what the encoder accepts, and say what is wrong without repeating it."""

import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import jsonschema
import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from tabserve.api.bodies import record_in_query
from tabserve.api.json_schema import query_parameter, record_schema
from tabserve.api.schemas import ModelSchema, shown
from tabserve.columns.features import Feature
from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.use_case import UseCase
from tabserve.errors import InvalidFieldsError
from tabserve.models.linear import LogisticRegression
from tabserve.registry.artifact import Artifact
from tabserve.tables.checking import field_problems
from tests.records import FEATURE_SETS, encoder_accepts, records, valid_example, valid_values


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_the_documented_json_schema_accepts_what_the_encoder_accepts(name: str, credit: UseCase) -> None:
    # of a date, a schema knows neither bounds nor the calendar
    features = tuple(one for one in FEATURE_SETS[name] if one.kind not in ("date", "datetime"))
    document = record_schema(with_features(credit, features))
    jsonschema.Draft202012Validator.check_schema(document)
    validator = jsonschema.Draft202012Validator(document)

    @settings(max_examples=2 * settings().max_examples, deadline=None, database=None)
    @given(records(features).filter(lambda record: "NaN" not in json.dumps(record)))  # NaN is not JSON
    def check(record: dict[str, Any]) -> None:
        assert validator.is_valid(record) == encoder_accepts(features, record)

    check()


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_a_field_is_required_exactly_when_a_record_may_not_do_without_it(name: str, credit: UseCase) -> None:
    features = FEATURE_SETS[name]
    document = record_schema(with_features(credit, features))
    for feature in features:
        record = {one.name: valid_example(one) for one in features if one is not feature}
        assert (feature.name in document["required"]) == bool(field_problems(features, record))
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


def in_query(features: tuple[Feature, ...], query: Any) -> dict[str, Any]:
    """What a query of a request says."""
    with Flask(__name__).test_request_context(query_string=urlencode([*MultiDict(query).items(multi=True)])):
        return dict(record_in_query(features))


def texts_of(record: dict[str, Any]) -> dict[str, str]:
    return {name: "" if value is None else str(value) for name, value in record.items()}


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_a_record_survives_the_way_through_a_query(name: str) -> None:
    features = FEATURE_SETS[name]

    @settings(max_examples=100, deadline=None, database=None)
    @given(st.fixed_dictionaries({feature.name: valid_values(feature) for feature in features}))
    def check(record: dict[str, Any]) -> None:
        assert in_query(features, texts_of(record)) == record

    check()


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
    loaded = in_query(bikes.features, query)
    assert loaded == record
    assert encoder_accepts(bikes.features, loaded)


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ({**RENTAL, "hour": ""}, {"hour": ["Field may not be null."]}),
        ({**RENTAL, "hour": "25"}, {"hour": ["Must be between 0 and 24."]}),
        ({**RENTAL, "hour": " 5"}, {}),
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
    assert field_problems(bikes.features, in_query(bikes.features, query)) == errors


def test_what_a_query_says_twice_is_at_fault(bikes: UseCase) -> None:
    with pytest.raises(InvalidFieldsError) as caught:
        in_query(bikes.features, [*RENTAL.items(), ("hour", "3")])
    assert caught.value.by_field == {"hour": ["Given more than once."]}


def test_a_query_s_field_is_described_as_the_text_that_it_takes(bikes: UseCase) -> None:
    for feature in bikes.features:
        parameter = query_parameter(feature, bikes.example.get(feature.name))
        assert parameter["description"] == feature.description
        assert parameter["schema"]["type"] in ("string", "integer")  # a query has no null
        assert None not in parameter["schema"].get("enum", ())
        assert parameter["required"] == (feature.name != "year")
        assert parameter.get("example") == bikes.example.get(feature.name)


def test_clients_see_how_good_a_model_is_but_not_its_files_or_signature(artifact: Artifact) -> None:
    described = {**artifact.manifest.to_json(), **artifact.declared.signature(), "verdict": artifact.manifest.verdict}
    public = shown(ModelSchema, {**described, "hmac": "secret"})
    assert not ModelSchema().validate(public)
    assert public["metrics"] == artifact.manifest.metrics
    assert public["model_id"] == artifact.model_id
    assert not public.keys() & {"files", "hmac", "trials", "data", "commit"}


def test_clients_see_no_figures_of_small_groups(artifact: Artifact) -> None:
    groups = artifact.manifest.groups
    small = {name for name, one in groups.items() if min(group["rows"] or 0 for group in one.values.values()) < 20}
    assert "foreign_worker" in small
    manifest = artifact.manifest.publishable()
    described = {**manifest.to_json(), **artifact.declared.signature(), "verdict": manifest.verdict}
    public = shown(ModelSchema, described)["groups"]
    for name, comparison in public.items():
        assert (comparison["withheld"] > 0) == (comparison["disparate_impact"] is None) == (name in small)
        assert all(group["rows"] >= 20 for group in comparison["values"].values())
    assert public["foreign_worker"]["values"] == {}
