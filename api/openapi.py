"""Completes the OpenAPI document that APIFlask writes from the routes' decorators.

It adds the bodies and queries of the prediction routes, which parse them themselves, since APIFlask's parsing costs
more than a prediction; examples; and the answers of authentication and rate limits.
"""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import orjson
from apiflask import APIFlask

from tabserve.api import auth, limits
from tabserve.api.answers import FILE_ANSWERS, READ_AS, ROW_NUMBERS
from tabserve.api.controller import MOST_EXPLAINED
from tabserve.api.errors import PROBLEM_TYPE
from tabserve.api.json_schema import (
    always_answered,
    answer_columns,
    answer_result,
    answer_scores,
    columns_schema,
    record_schema,
)
from tabserve.api.schemas import MODEL_ID_PATTERN
from tabserve.errors import TabserveError
from tabserve.jobs.job import RESULTS
from tabserve.registry.artifact import Declared
from tabserve.resolver import ALIASES
from tabserve.settings import Settings
from tabserve.tables.formats import ENDINGS
from tabserve.tables.json_body import COLUMNS
from tabserve.tasks.base import Task

DESCRIPTION = """\
Predictions from models trained on tables.

Every error is an RFC 9457 problem. A path that is not described here is answered with 404, another method with 405 and
`Allow`. A trailing slash makes no difference.
"""
NEVER_PARTIAL = ("/explain/{model_id}",)  # all records of a body are answered, or none
FILE_TYPES = ", ".join((*FILE_ANSWERS.values(), "application/vnd.apache.arrow.stream"))  # of what may be sent

_MAKING = threading.Lock()  # APIFlask keeps the document while it is made
_PARTIAL = {
    "name": "partial",
    "in": "query",
    "schema": {"type": "boolean", "default": False},
    "description": "Answer the valid rows of a list even if others are invalid",
}
_JOB = {
    "description": "A job's id",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{22}$"},
    "example": "x7Yk2fQ9aLw0Zp3rT5vB1g",
}
_KIND = {"description": "The kind of file", "schema": {"type": "string", "enum": list(RESULTS)}, "example": RESULTS[0]}


Describe: TypeAlias = Callable[[dict[str, Any], Mapping[str, Declared]], None]


def init_app(app: APIFlask, settings: Settings, of_one_use_case: Sequence[Describe]) -> None:
    """Set what APIFlask writes by itself, and complete its document when it is made.

    Parameters
    ----------
    app : APIFlask
        The service, with its predictor: the document describes the models that answer.
    settings : Settings
        Limits.
    of_one_use_case : sequence of callable
        What completes the paths that belong to a single use case, by what the answering models were trained for.
    """
    app.config["OPENAPI_VERSION"] = "3.1.1"
    app.config["DESCRIPTION"] = DESCRIPTION
    app.config["AUTO_404_RESPONSE"] = False  # the routes declare their errors, which are problems
    app.config["AUTO_VALIDATION_ERROR_RESPONSE"] = False
    app.config["AUTO_AUTH_ERROR_RESPONSE"] = False
    app.config["AUTO_SERVERS"] = False
    app.schema_name_resolver = lambda schema: type(schema).__name__.removesuffix("Schema")
    app.json.sort_keys = False  # type: ignore[attr-defined]  # features and examples in the order of their declaration

    @app.spec_processor  # type: ignore[arg-type]  # a dict, since the format is JSON
    def complete(spec: dict[str, Any]) -> dict[str, Any]:
        models = app.extensions["predictor"].answering()
        use_cases = {name: artifact.declared for name, artifact in models.items()}
        spec["tags"] = [*{tag["name"]: tag for tag in spec["tags"]}.values()]  # blueprints may share one
        for describe in of_one_use_case:
            describe(spec["paths"], use_cases)
        _complete_answers(spec["components"]["schemas"], [declared.task for declared in use_cases.values()])
        spec["components"]["schemas"] |= _record_schemas(use_cases)
        for path, body in _bodies(use_cases, _default(app), settings).items():
            operation = spec["paths"][path]["post"]
            operation["requestBody"] = body
            if path not in NEVER_PARTIAL:
                operation["parameters"] = [*operation.get("parameters", []), _PARTIAL]
        uploaded = spec["paths"]["/outputs_upload/{model_id}"]["post"]["responses"]["200"]["content"]
        table = (
            f"The table with the answer's columns; the header `{ROW_NUMBERS}` says which rows of the file these are, "
            f"`{READ_AS}` how it was read"
        )
        uploaded |= {kind: {"schema": {"type": "string", "description": table}} for kind in FILE_ANSWERS.values()}
        fetched = spec["paths"]["/jobs/{name}/result.{kind}"]["get"]["responses"]["200"]
        fetched["content"] = {FILE_ANSWERS[kind]: {"schema": {"type": "string"}} for kind in RESULTS}
        accepted = spec["paths"]["/jobs/{name}"]["post"]["responses"]["202"]
        accepted["headers"] = {"Location": {"required": True, "schema": {"type": "string"}}}
        (of_list,) = spec["paths"]["/models"]["get"]["parameters"]
        of_list["schema"] |= {"enum": list(use_cases)} if use_cases else {}
        described = {"model_id": _model_name(use_cases), "use_case": _use_case_name(use_cases), "kind": _KIND}
        counted = _operations(app, limits.count_request) if settings.rate_limit else set()
        guarded = _operations(app, *auth.guards(settings))
        if guarded:
            spec["components"]["securitySchemes"] = {auth.auth.name: auth.auth.get_security_scheme()}
        for path, item in spec["paths"].items():
            for method, operation in item.items():
                of_job = path.startswith("/jobs/")  # one path means a model when it is posted to, else a job
                name = {"name": described["model_id"] if method == "post" else _JOB} if of_job else {}
                if (path, method) in guarded:
                    operation["security"] = [{auth.auth.name: []}]
                for parameter in operation.get("parameters", []):
                    if parameter["in"] == "path":
                        parameter |= {**described, **name}.get(parameter["name"], {})
                    if shown := parameter["schema"].pop("examples", None):
                        parameter["example"] = shown[0]  # where Swagger UI looks for it
                answers = {**_refusals(operation, (path, method) in counted), **operation["responses"]}
                operation["responses"] = dict(sorted(answers.items()))
        return spec


def _default(app: APIFlask) -> str:
    """The default use case; empty when there is none."""
    try:
        return str(app.extensions["predictor"].default_use_case())
    except TabserveError:
        return ""


def document(app: APIFlask) -> bytes:
    """The document as JSON; it is made again only when other models answer."""
    answering = tuple(artifact.model_id for artifact in app.extensions["predictor"].answering().values())
    with _MAKING:
        made_for, content = app.extensions.get("openapi", (None, b""))
        if made_for != answering:
            content = orjson.dumps(app.spec)
            app.extensions["openapi"] = answering, content
    return bytes(content)


def _complete_answers(schemas: dict[str, Any], tasks: Sequence[Task]) -> None:
    """Add what the tasks answer to the schemas of answers; without a model, anything may be answered."""
    if not tasks:
        for name in ("Prediction", "ScoredPrediction", "Explanation"):
            schemas[name]["additionalProperties"] = True
        return
    for name in ("Prediction", "ScoredPrediction"):
        schemas[name]["properties"] |= answer_columns(tasks)
        schemas[name]["required"] += always_answered(tasks)
    schemas["ScoredPrediction"]["properties"] |= answer_scores(tasks)
    schemas["Explanation"]["properties"]["result"] = answer_result(tasks)
    schemas["Explanation"]["required"].append("result")


def _record_schemas(use_cases: Mapping[str, Declared]) -> dict[str, Any]:
    """Each use case's record, without and with its outcome."""
    plain = {_record_name(name): record_schema(declared) for name, declared in use_cases.items()}
    labelled = {
        f"Labelled{_record_name(name)}": record_schema(declared, labelled=True) for name, declared in use_cases.items()
    }
    return {**plain, **labelled}


def _bodies(use_cases: Mapping[str, Declared], default: str, settings: Settings) -> dict[str, Any]:
    records = {name: _reference(_record_name(name)) for name in use_cases} or {"": {"type": "object"}}
    labelled = {name: _reference(f"Labelled{_record_name(name)}") for name in use_cases} or records
    examples = {
        name: {"summary": f"{declared.title}: for model_id {name}", "value": dict(declared.example)}
        for name, declared in use_cases.items()
    }
    lists = {name: {**example, "value": [example["value"]]} for name, example in examples.items()}

    def many(record: dict[str, Any], most: int = settings.rows_at_once) -> dict[str, Any]:
        return {"type": "array", "items": record, "minItems": 1, "maxItems": most}

    def by_columns(name: str, most: int = settings.rows_at_once, *, labelled: bool = False) -> list[dict[str, Any]]:
        record = record_schema(use_cases[name], labelled=labelled) if name in use_cases else {"properties": [COLUMNS]}
        return [] if COLUMNS in record["properties"] else [columns_schema(record, most)]

    # a list holds records of one use case
    one_or_many = {name: [record, many(record), *by_columns(name)] for name, record in records.items()}
    few = min(MOST_EXPLAINED, settings.rows_at_once)
    explained = [schema for name, one in records.items() for schema in (one, many(one, few), *by_columns(name, few))]
    lists_or_columns = [
        schema for name, one in labelled.items() for schema in (many(one), *by_columns(name, labelled=True))
    ]
    any_one_or_many = [schema for pair in one_or_many.values() for schema in pair]
    files = {
        "multipart/form-data": {
            "schema": _upload(use_cases),
            "encoding": {"fileupload": {"contentType": FILE_TYPES}},
        }
    }
    most = settings.max_rows
    of_jobs = [
        schema
        for name, one in labelled.items()
        for schema in (one, many(one, most), *by_columns(name, most, labelled=True))
    ]
    return {
        "/predict": _json_body(
            one_or_many.get(default, any_one_or_many), {name: examples[name] for name in examples if name == default}
        ),
        "/output/{model_id}": _json_body(any_one_or_many, examples),
        "/explain/{model_id}": _json_body(explained, examples),
        "/outputs/{model_id}": {**_json_body(lists_or_columns, lists), "required": False},
        "/outputs_upload/{model_id}": {"required": True, "content": files},
        "/jobs/{name}": {"required": False, "content": {**_json_body(of_jobs, lists)["content"], **files}},
    }


def _upload(use_cases: Mapping[str, Declared]) -> dict[str, Any]:
    columns = "; ".join(
        f"for {name}: {', '.join(feature.name for feature in declared.features)}"
        for name, declared in use_cases.items()
    )
    return {
        "type": "object",
        "required": ["fileupload"],
        "properties": {
            "fileupload": {
                "type": "string",
                "contentMediaType": "application/octet-stream",
                "description": f"A file ({', '.join(ENDINGS)}) with a column for each feature; {columns}",
            }
        },
    }


def _model_name(use_cases: Mapping[str, Declared]) -> dict[str, Any]:
    """The parameter `model_id`; each example has the name of the body's example that goes with it."""
    names = "|".join([*use_cases, *ALIASES, MODEL_ID_PATTERN])
    examples = {
        name: {"summary": f"{declared.title}: with the body of that name", "value": name}
        for name, declared in use_cases.items()
    }
    return {
        "description": "A model_id, `latest`, `champion`, or the name of a use case",
        "schema": {"type": "string", "pattern": f"^({names})$"},
        **({"examples": examples} if examples else {}),
    }


def _use_case_name(use_cases: Mapping[str, Declared]) -> dict[str, Any]:
    known = {"schema": {"type": "string", "enum": list(use_cases)}, "example": next(iter(use_cases), None)}
    return {"description": "The name of a use case", **(known if use_cases else {})}


def _operations(app: APIFlask, *checks: Callable[[], Any]) -> set[tuple[str, str]]:
    """The paths and methods of the blueprints that make any of these checks before a request, as in OpenAPI."""
    blueprints = {name for name, made in app.before_request_funcs.items() if not set(checks).isdisjoint(made)}
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint.rpartition(".")[0] in blueprints]
    return {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in rules
        for method in rule.methods or ()
    }


def _refusals(operation: dict[str, Any], is_counted: bool) -> dict[str, Any]:
    """What may be answered before the view is called."""
    needs_user = bool(operation.get("security"))
    refusals = {}
    if needs_user:
        refusals["401"] = _problem("Wrong or missing credentials", {"WWW-Authenticate": {"type": "string"}})
        refusals["403"] = _problem("The user's scopes do not include the one that this needs")
        refusals["503"] = _problem("The users file cannot be used, or too many passwords are waiting to be checked")
    if needs_user or is_counted:  # attempts at passwords are always counted
        refusals["429"] = _problem("Too many requests", {"Retry-After": {"type": "integer", "minimum": 1}})
    return refusals


def _problem(description: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {name: {"required": True, "schema": schema} for name, schema in (headers or {}).items()},
        "content": {PROBLEM_TYPE: {"schema": _reference("Problem")}},
    }


def _record_name(use_case: str) -> str:
    return f"{use_case.title().replace('_', '')}Record"


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json_body(schemas: list[dict[str, Any]], examples: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": {"anyOf": schemas}, "examples": examples}}}
