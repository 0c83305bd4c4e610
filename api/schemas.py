"""marshmallow schemas: of records, built from features, and of what the service takes and answers."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import marshmallow
from apiflask import Schema
from apiflask.fields import Dict, Field, Float, Integer, List, String
from apiflask.validators import OneOf
from marshmallow import RAISE, ValidationError

from src.aliases import Record
from src.use_cases import all_use_cases
from src.use_cases.declaration import UseCase
from src.use_cases.features import Feature

LONGEST_NAME = 64  # characters of an unknown field's name that an answer repeats
MOST_FIELDS = 50  # fields of one record that an answer names
MOST_ROWS = 100  # rows of a list that an answer names

FieldErrors: TypeAlias = dict[str, list[str]]


class FeatureField(Field[Any]):
    """The field of a feature: the feature itself says what is wrong with a value."""

    def __init__(self, feature: Feature) -> None:
        super().__init__(required=not feature.missing, allow_none=feature.missing, metadata=feature.json_schema())
        self.feature = feature

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if problem := self.feature.problem(value):
            raise ValidationError(problem)
        return value


def record_schema(features: Sequence[Feature]) -> marshmallow.Schema:
    """The schema of a record with these features and no other key."""
    fields: dict[str, Any] = {feature.name: FeatureField(feature) for feature in features}
    return Schema.from_dict(fields, name="Record")(unknown=RAISE)


def field_errors(schema: marshmallow.Schema, record: Record) -> FieldErrors:
    """What is wrong with a record, by field; long names are cut, and no value is repeated."""
    errors = schema.validate(record)
    known = {field: errors.pop(field) for field in schema.fields if field in errors}
    named = [*known.items(), *sorted(errors.items(), key=str)][:MOST_FIELDS]
    return {_printable(field): messages for field, messages in named}


def row_errors(
    schema: marshmallow.Schema,
    records: Sequence[Record] | Mapping[int, Record],
    rows: Sequence[int],
    most: int = MOST_ROWS,
) -> dict[str, Any]:
    """What is wrong with the first of a list's rows at fault, and how many rows are."""
    return {"rows": {str(row): field_errors(schema, records[row]) for row in rows[:most]}, "count": len(rows)}


def in_words(errors: FieldErrors) -> str:
    """What is wrong with a record, in one text."""
    return "; ".join(f"{field}: {' '.join(messages)}" for field, messages in errors.items())


def _printable(name: object) -> str:
    return str(name)[:LONGEST_NAME].encode("utf-8", "replace").decode()


def record_json_schema(use_case: UseCase, *, labelled: bool = False) -> dict[str, Any]:
    """A use case's record as JSON Schema, for the OpenAPI document; labelled, it may hold the target column."""
    columns = [*use_case.features, *([use_case.target.feature] if labelled else [])]
    return {
        "type": "object",
        "title": use_case.title,
        "description": use_case.description,
        "properties": {feature.name: feature.json_schema() for feature in columns},
        "required": [feature.name for feature in use_case.features if not feature.missing],
        "additionalProperties": False,
        "example": dict(use_case.example),
    }


class HealthSchema(Schema):
    """The process is alive."""

    status = String(required=True, metadata={"example": "ok"})


class ReadySchema(Schema):
    """Every use case has a model loaded."""

    status = String(required=True, metadata={"example": "ready"})
    models = Dict(keys=String(), values=String(), required=True, metadata={"description": "model_id by use case"})


class VersionSchema(Schema):
    """Versions of the program and of its HTTP contract."""

    version = String(required=True)
    api_version = String(required=True)


class ModelsSchema(Schema):
    """The models there are, newest first."""

    models = List(String(), required=True)


class ModelSchema(Schema):
    """What a model is, how it was made and how good it is."""

    model_id = String(required=True)
    use_case = String(required=True)
    algorithm = String(required=True)
    version = String(required=True, metadata={"description": "Version of the program that trained it"})
    created = String(required=True, metadata={"description": "UTC time of training, ISO 8601"})
    python = String(required=True)
    libraries = Dict(required=True, metadata={"description": "Versions of the libraries it depends on"})
    parameters = Dict(required=True)
    metrics = Dict(required=True, metadata={"description": "Metrics by part: train, cross_validation, hold_out"})
    baseline = Dict(required=True, metadata={"description": "The same of the model that the gates compare with"})
    intervals = Dict(required=True, metadata={"description": "Bootstrap 95 % intervals of hold-out metrics"})
    threshold = Float(required=True, allow_none=True)
    threshold_choice = String(
        required=True, allow_none=True, metadata={"description": "Which of the thresholds it is, by how it was chosen"}
    )
    thresholds = Dict(required=True, metadata={"description": "Thresholds considered, and what each leads to"})
    gates = List(Dict(), required=True)
    features = List(Dict(), required=True)
    target = Dict(required=True)


class PredictionSchema(Schema):
    """The answer to records, in their order."""

    model = String(required=True, metadata={"description": "model_id of the model that answered"})
    version = String(required=True, metadata={"description": "Version of the program that trained it"})
    result = List(Float(allow_none=True), required=True, metadata={"description": "Decision or value of each record"})
    probability = List(
        Float(allow_none=True), metadata={"description": "Probability behind each decision; classification only"}
    )
    errors = Dict(
        required=True, allow_none=True, metadata={"description": "With `partial=true`: what is wrong with which rows"}
    )


class ScoredPredictionSchema(PredictionSchema):
    """The answer to records, and how good it is when their outcome is known."""

    auc_score = Float(allow_none=True, metadata={"description": "ROC AUC of the probabilities"})
    r2_score = Float(allow_none=True, metadata={"description": "R² of the values; regression only"})


class ProblemSchema(Schema):
    """RFC 9457 problem details."""

    type = String(required=True, metadata={"example": "about:blank"})
    title = String(required=True)
    status = Integer(required=True)
    detail = String(required=True)
    errors = Dict(metadata={"description": "What is wrong, by field or, for a list, by row"})


class ModelsQuery(Schema):
    """Query of the list of models."""

    use_case = String(validate=OneOf(list(all_use_cases())), metadata={"description": "Only this use case's models"})


def public_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a manifest that clients may see."""
    return {name: manifest[name] for name in ModelSchema().fields}
