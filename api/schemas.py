"""marshmallow schemas of requests and answers; those of queries are built from features."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast

from apiflask import Schema
from apiflask.fields import Boolean, Dict, Field, Float, Integer, List, Nested, String
from apiflask.validators import Equal, Length, OneOf, Range
from marshmallow import RAISE, ValidationError, pre_load

from tabserve.columns.features import Feature
from tabserve.declaration.discovery import all_use_cases
from tabserve.declaration.use_case import UseCase
from tabserve.registry.model_id import MODEL_ID
from tabserve.tasks.base import AnswerPart, Task

MODEL_ID_PATTERN = re.sub(r"\?P<\w+>", "", MODEL_ID.pattern)  # JSON Schema has no named groups


class QueryField(Field[Any]):
    """A feature's field in a query, where every value is a text; the feature itself checks it."""

    def __init__(self, feature: Feature, example: Any) -> None:
        optional = {"default": feature.default, "examples": [example]}
        super().__init__(
            required=not feature.optional,
            metadata={
                **replace(feature, missing=False, default=None).json_schema(),  # a text is never null
                **{name: value for name, value in optional.items() if value is not None and value != [None]},
            },
        )
        self.feature = feature

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        parsed = self.feature.parse(value)
        if problem := self.feature.problem(parsed):
            raise ValidationError(problem)
        return parsed


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


def query_schema(use_case: UseCase) -> Schema:
    """The schema of a query that holds one record of a use case."""
    example = use_case.example
    fields: dict[str, Any] = {one.name: QueryField(one, example.get(one.name)) for one in use_case.features}
    return cast("type[Schema]", QuerySchema.from_dict(fields, name="Query"))()


def record_json_schema(use_case: UseCase, *, labelled: bool = False) -> dict[str, Any]:
    """A use case's record as JSON Schema, for the OpenAPI document; labelled, it may hold its outcome too."""
    columns = [*use_case.features, *([replace(use_case.target.feature, missing=True)] if labelled else [])]
    schema = {
        "type": "object",
        "title": f"{use_case.title}, with its outcome where it is known" if labelled else use_case.title,
        "description": use_case.description,
        "properties": {feature.name: feature.json_schema() for feature in columns},
        "required": [feature.name for feature in columns if not feature.optional],
        "additionalProperties": False,
    }
    return schema if labelled else {**schema, "examples": [dict(use_case.example)]}


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


TASKS = tuple(use_case.task for use_case in all_use_cases().values())


class TaskField(Field[Any]):
    """A part of an answer that tasks declare, as JSON Schema."""

    def __init__(self, schema: Mapping[str, Any], *, required: bool) -> None:
        super().__init__(required=required, metadata=dict(schema))


def answer_columns(tasks: Collection[Task]) -> dict[str, Any]:
    """The columns of the tasks' answers: lists with a value for each record, null for an invalid one."""
    by_name = _by_name((task, part) for task in tasks for part in task.answer_parts)
    null = {"type": "null"}
    return {
        name: TaskField(
            {
                "type": "array",
                "items": {"anyOf": [*_different(parts), null]},
                "minItems": 1,
                "description": f"For each record {_in_words(parts)}; null for an invalid one",
            },
            required=len({task.kind for task, _ in parts}) == len({task.kind for task in tasks}),
        )
        for name, parts in by_name.items()
    }


def answer_result(tasks: Collection[Task]) -> Any:
    """The result of one record, whatever the task."""
    parts = _by_name((task, part) for task in tasks for part in task.answer_parts)["result"]
    schema = {"anyOf": _different(parts), "description": f"As predictions answer: {_in_words(parts)}"}
    return TaskField(schema, required=True)


def answer_scores(tasks: Collection[Task]) -> dict[str, Any]:
    """The tasks' headline metrics of records whose outcome is known."""
    parts = {task.answer_score.name: task.answer_score for task in tasks}
    return {
        name: TaskField({**part.schema, "description": part.description}, required=False)
        for name, part in parts.items()
    }


def _by_name(parts: Iterable[tuple[Task, AnswerPart]]) -> dict[str, list[tuple[Task, AnswerPart]]]:
    by_name: dict[str, list[tuple[Task, AnswerPart]]] = {}
    for task, part in parts:
        by_name.setdefault(part.name, []).append((task, part))
    return by_name


def _different(parts: Iterable[tuple[Task, AnswerPart]]) -> list[Mapping[str, Any]]:
    schemas: list[Mapping[str, Any]] = []
    for _, part in parts:
        if part.schema not in schemas:
            schemas.append(part.schema)
    return schemas


def _in_words(parts: Iterable[tuple[Task, AnswerPart]]) -> str:
    words = {task.kind: part.description for task, part in parts}
    return " or ".join(f"{description} ({kind})" for kind, description in words.items())


class PredictionSchema(AnswerSchema):
    """The answer to records, in their order; `probability` is there where classes are predicted."""

    class Meta(AnswerSchema.Meta):
        """What the tasks add."""

        include: ClassVar = answer_columns(TASKS)

    model = ModelIdField(required=True, metadata={"description": "The model that answered"})
    version = String(required=True, metadata={"description": "Version of the program that trained it"})
    errors = Nested(
        RowErrorsSchema,
        required=True,
        allow_none=True,
        metadata={"description": "With `partial=true`: what is wrong with the invalid rows"},
    )


class ScoredPredictionSchema(PredictionSchema):
    """The answer to records, and how good it is when their outcome is known."""

    class Meta(PredictionSchema.Meta):
        """What the tasks add."""

        include: ClassVar = {**answer_columns(TASKS), **answer_scores(TASKS)}


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

    result = answer_result(TASKS)
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

    use_case = String(validate=OneOf(list(all_use_cases())), metadata={"description": "Only this use case's models"})


def shown(schema: type[Schema], content: Mapping[str, Any]) -> dict[str, Any]:
    """The part of some content that a schema has fields for."""
    return {name: content[name] for name in schema().fields}
