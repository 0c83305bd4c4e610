"""JSON Schema of what depends on the models that answer: records, queries and answers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tabserve.columns.features import Feature
from tabserve.registry.artifact import Declared
from tabserve.tables.json_body import COLUMNS
from tabserve.tasks.base import AnswerPart, Task


def record_schema(declared: Declared, *, labelled: bool = False) -> dict[str, Any]:
    """A use case's record; labelled, it may hold its outcome too."""
    target = [replace(declared.target.feature, missing=True)] if labelled else []
    columns = [*declared.features, *target]
    schema = {
        "type": "object",
        "title": f"{declared.title}, with its outcome where it is known" if labelled else declared.title,
        "description": declared.description,
        "properties": {feature.name: feature.json_schema() for feature in (*columns, *declared.extras)},
        "required": [feature.name for feature in columns if not feature.optional],
        "additionalProperties": False,
    }
    return schema if labelled else {**schema, "examples": [dict(declared.example)]}


def columns_schema(record: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Records of a schema by columns, as lists of at most `most` values that are equally long."""
    properties = {
        name: {"type": "array", "items": schema, "minItems": 1, "maxItems": most}
        for name, schema in record["properties"].items()
    }
    columns = {"type": "object", "properties": properties, "required": record["required"]}
    return {
        "type": "object",
        "title": f"{record['title']}, by columns",
        "description": "Equally long lists of values: each has the value of the first record, then that of the second",
        "properties": {COLUMNS: {**columns, "additionalProperties": False}},
        "required": [COLUMNS],
        "additionalProperties": False,
    }


def query_parameter(feature: Feature, example: Any) -> dict[str, Any]:
    """A feature in a query, where every value is a text and none is null."""
    schema = replace(feature, missing=False, default=None).json_schema()
    default = {} if feature.default is None else {"default": feature.default}
    return {
        "name": feature.name,
        "in": "query",
        "required": not feature.optional,
        "description": schema.pop("description"),
        "schema": {**schema, **default},
        **({} if example is None else {"example": example}),
    }


def answer_columns(tasks: Sequence[Task]) -> dict[str, dict[str, Any]]:
    """The columns of the tasks' answers: lists with a value for each record, null for an invalid one."""
    return {
        name: {
            "type": "array",
            "items": {"anyOf": [*_different(parts), {"type": "null"}]},
            "minItems": 1,
            "description": f"For each record {_in_words(parts)}; null for an invalid one",
        }
        for name, parts in _by_name(tasks).items()
    }


def always_answered(tasks: Sequence[Task]) -> list[str]:
    """The columns that the answers of all these tasks have."""
    kinds = {task.kind for task in tasks}
    return [name for name, parts in _by_name(tasks).items() if {task.kind for task, _ in parts} == kinds]


def answer_result(tasks: Sequence[Task]) -> dict[str, Any]:
    """The result of one record, whatever the task."""
    parts = _by_name(tasks)["result"]
    return {"anyOf": _different(parts), "description": f"As predictions answer: {_in_words(parts)}"}


def answer_scores(tasks: Sequence[Task]) -> dict[str, dict[str, Any]]:
    """The tasks' headline metrics of records whose outcome is known."""
    parts = [task.answer_score for task in tasks]
    return {part.name: {**part.schema, "description": part.description} for part in parts}


def _by_name(tasks: Sequence[Task]) -> dict[str, list[tuple[Task, AnswerPart]]]:
    by_name: dict[str, list[tuple[Task, AnswerPart]]] = {}
    for task in tasks:
        for part in task.answer_parts:
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
