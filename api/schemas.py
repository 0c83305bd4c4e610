"""marshmallow schemas of requests and answers, without what depends on the models: `openapi` adds that."""

import re
from collections.abc import Mapping
from typing import Any

from apiflask import Schema
from apiflask.fields import Boolean, Dict, Float, Integer, List, Nested, Raw, String
from apiflask.validators import Equal, Length, OneOf, Range
from marshmallow import RAISE, ValidationError, pre_load

from tabserve.registry.manifest import FAILED, PASSED, PASSED_WITH_WARNINGS
from tabserve.registry.model_id import MODEL_ID

MODEL_ID_PATTERN = re.sub(r"\?P<\w+>", "", MODEL_ID.pattern)  # JSON Schema has no named groups


class QuerySchema(Schema):
    """A query; a parameter that is given twice is refused."""

    @pre_load
    def refuse_repetitions(self, data: Any, **kwargs: Any) -> Any:
        """Name the parameters that are given more than once."""
        repeated = {name: ["Given more than once."] for name in data if len(data.getlist(name)) > 1}
        if repeated:
            raise ValidationError(repeated)
        return data


class ModelIdField(String):
    """A model_id in an answer."""

    def __init__(self, *, metadata: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        example = "credit-lightgbm_v1.0.0-1795287600.123456"
        shape = {"pattern": f"^{MODEL_ID_PATTERN}$", "examples": [example]}
        super().__init__(metadata={**(metadata or {}), **shape}, **kwargs)


class AnswerSchema(Schema):
    """An answer with exactly these fields."""

    class Meta:
        """Makes the OpenAPI document say `additionalProperties: false`."""

        unknown = RAISE


class HealthSchema(AnswerSchema):
    """The process is alive."""

    status = String(required=True, validate=Equal("ok"))


class ReadySchema(AnswerSchema):
    """At least one of the requested use cases has a model that answers."""

    status = String(required=True, validate=Equal("ready"))
    models = Dict(
        keys=String(),
        values=ModelIdField(),
        required=True,
        validate=Length(min=1),
        metadata={"description": "The model_id that answers, by use case"},
    )
    unavailable = Dict(
        keys=String(),
        values=String(),
        required=True,
        metadata={"description": "Why no model answers, by use case; empty when all is well"},
    )
    refused = Dict(
        keys=String(),
        values=String(),
        required=True,
        metadata={
            "description": "Why another model answers than the one that should, by use case; empty when all is well"
        },
    )
    registry = String(
        required=True,
        validate=OneOf(["ok", "away"]),
        metadata={"description": "away: it cannot be reached; the models that were read before answer"},
    )


class VersionSchema(AnswerSchema):
    """Versions of the program and of its HTTP contract."""

    version = String(required=True)
    api_version = String(required=True)


class ModelsSchema(AnswerSchema):
    """The models, newest first."""

    models = List(ModelIdField(), required=True)


class GateSchema(AnswerSchema):
    """What a gate demanded, and what it found."""

    gate = String(required=True)
    value = Float(
        required=True, allow_none=True, metadata={"description": "null where it rests on groups that are withheld"}
    )
    bound = Float(required=True)
    passed = Boolean(required=True)
    accepted = String(metadata={"description": "The reason for which a person accepted a model that did not pass"})


class KeptSchema(AnswerSchema):
    """How much of the hold-out is kept with a model."""

    rows = Integer(required=True, metadata={"description": "How many rows the kept file has"})
    of = Integer(required=True, metadata={"description": "How many rows were held out"})
    score = Float(
        required=True,
        allow_none=True,
        metadata={"description": "The main metric of the kept rows; null where it is undefined"},
    )


class ModelSchema(AnswerSchema):
    """What a model is, how it was made and how good it is."""

    model_id = ModelIdField(required=True)
    use_case = String(required=True)
    algorithm = String(required=True)
    version = String(required=True, metadata={"description": "Version of the program that trained it"})
    created = String(required=True, metadata={"format": "date-time", "description": "UTC time of training"})
    python = String(required=True)
    libraries = Dict(
        keys=String(),
        values=String(),
        required=True,
        metadata={"description": "Versions of the libraries it depends on"},
    )
    parameters = Dict(required=True)
    headline = String(required=True, metadata={"description": "The main metric; models are chosen by it"})
    metrics = Dict(
        keys=String(),
        values=Dict(keys=String(), values=Float()),
        required=True,
        metadata={
            "description": "Metrics by part: train, cross_validation, hold_out and, for rows in the order of time, "
            "chronological"
        },
    )
    hold_out = Nested(KeptSchema, required=True)
    baseline = String(required=True, metadata={"description": "The algorithm that the gates compare with"})
    comparison = Dict(
        keys=String(),
        values=Dict(keys=String(), values=Dict(keys=String(), values=Float())),
        required=True,
        metadata={"description": "The metrics of all algorithms of the same training, the baseline included"},
    )
    baseline_difference = Dict(
        keys=String(),
        values=List(Float(), validate=Length(equal=3)),
        required=True,
        metadata={"description": "How much better than the baseline on the hold-out, with a paired 95 % interval"},
    )
    champion = Dict(
        required=True, allow_none=True, metadata={"description": "The model that answered before, on the same hold-out"}
    )
    groups = Dict(
        required=True,
        metadata={
            "description": "How groups of people are treated, by feature. Groups that would reveal fewer than 20 rows "
            "are left out and counted in `withheld`; ratio and difference are null then"
        },
    )
    protected = Dict(
        required=True,
        allow_none=True,
        metadata={"description": "The main metric with and without the protected columns; whether they are excluded"},
    )
    intervals = Dict(
        keys=String(),
        values=List(Float(), validate=Length(equal=2)),
        required=True,
        metadata={"description": "Bootstrap 95 % intervals of hold-out metrics"},
    )
    threshold = Float(required=True, allow_none=True)
    threshold_choice = String(
        required=True, allow_none=True, metadata={"description": "How the threshold was chosen: a name in `thresholds`"}
    )
    thresholds = Dict(required=True, metadata={"description": "The thresholds considered, and what each leads to"})
    gates = List(Nested(GateSchema), required=True)
    verdict = String(
        required=True,
        validate=OneOf([FAILED, PASSED_WITH_WARNINGS, PASSED]),
        metadata={"description": "On the model as a whole; its report says what the warnings are"},
    )
    features = List(Dict(), required=True)
    target = Dict(required=True)


class RowErrorsSchema(AnswerSchema):
    """What is wrong with the first invalid rows of a list, and how many rows are invalid."""

    rows = Dict(
        keys=String(),
        values=Dict(keys=String(), values=List(String())),
        required=True,
        metadata={"description": "What is wrong, by row and by field; a file's rows are numbered as in a spreadsheet"},
    )
    count = Integer(required=True, validate=Range(min=1))


class PredictionSchema(AnswerSchema):
    """The answer to records, in their order; `probability` is there where classes are predicted."""

    model = ModelIdField(required=True, metadata={"description": "The model that answered"})
    version = String(required=True, metadata={"description": "Version of the program that trained it"})
    errors = Nested(
        RowErrorsSchema,
        required=True,
        allow_none=True,
        metadata={"description": "With `partial=true`: what is wrong with the invalid rows"},
    )
    ids = Dict(
        keys=String(),
        values=List(Raw(allow_none=True)),
        metadata={"description": "What the records hold in columns declared as ids; left out without any"},
    )
    decision_ids = List(
        String(allow_none=True),
        metadata={
            "description": "Where decisions are logged: what each record's is found by; null for an invalid record"
        },
    )


class ScoredPredictionSchema(PredictionSchema):
    """The answer to records, and how good it is when their outcome is known."""

    read_as = Dict(keys=String(), metadata={"description": "How a file was read: format, separator, sheet and so on"})


class ReasonSchema(AnswerSchema):
    """A column that raised or lowered a prediction."""

    feature = String(required=True, metadata={"description": "A feature or a column derived from features"})
    reason = String(required=True, metadata={"description": "What the record says, in words"})
    contribution = Float(
        required=True, metadata={"description": "What the column added to the raw score; negative if it lowered it"}
    )
    protected = Boolean(
        required=True, metadata={"description": "Whether it comes from a feature that people must not be judged by"}
    )


class ExplanationSchema(AnswerSchema):
    """How a prediction came about."""

    score = Float(
        required=True, metadata={"description": "The predicted value or probability; for a label, the label's own"}
    )
    raw_score = Float(required=True, metadata={"description": "The sum of base value and contributions"})
    base_value = Float(required=True, metadata={"description": "The part of the raw score that all records share"})
    contributions = Dict(
        keys=String(), values=Float(), required=True, metadata={"description": "What each column added, by name"}
    )
    reasons = List(
        Nested(ReasonSchema),
        required=True,
        validate=Length(max=4),
        metadata={
            "description": "Columns that speak for the result, strongest first: for a 1 they raised the probability, "
            "for a 0 they lowered it, for a label they raised its raw score, for a regression they raised the value"
        },
    )
    counter_reasons = List(
        Nested(ReasonSchema),
        required=True,
        validate=Length(max=4),
        metadata={"description": "Columns that speak against it, strongest first"},
    )


class ExplanationsSchema(AnswerSchema):
    """How the predictions of records came about, in the records' order."""

    model = ModelIdField(required=True, metadata={"description": "The model that is explained"})
    version = String(required=True, metadata={"description": "Version of the program that trained it"})
    explanations = List(Nested(ExplanationSchema), required=True, validate=Length(min=1))


class ProblemSchema(AnswerSchema):
    """RFC 9457 problem details."""

    type = String(required=True, validate=Equal("about:blank"))
    title = String(required=True)
    status = Integer(required=True, validate=Range(min=400, max=599))
    detail = String(required=True)
    errors = Dict(
        metadata={
            "description": "What is wrong, by field or, for a list, by row",
            "anyOf": [
                {"additionalProperties": {"type": "array", "items": {"type": "string"}}},
                {"$ref": "#/components/schemas/RowErrors"},
            ],
        }
    )


class ModelsQuery(QuerySchema):
    """Query of the list of models."""

    use_case = String(metadata={"description": "Only this use case's models"})


def shown(schema: type[Schema], content: Mapping[str, Any]) -> dict[str, Any]:
    """The part of some content that a schema has fields for."""
    return {name: content[name] for name in schema().fields}
