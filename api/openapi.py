"""Completes the OpenAPI document that APIFlask writes from the routes' decorators.

It adds the bodies and queries of the prediction routes, which parse them themselves, since APIFlask's parsing costs
more than a prediction; examples; and the answers of authentication and rate limits.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from apiflask import APIFlask

from tabserve.api import auth, limits
from tabserve.api.answers import ROW_NUMBERS
from tabserve.api.controller import MOST_EXPLAINED
from tabserve.api.errors import PROBLEM_TYPE
from tabserve.api.schemas import MODEL_ID_PATTERN, record_json_schema
from tabserve.declaration.discovery import all_use_cases
from tabserve.declaration.use_case import UseCase
from tabserve.settings import Settings

DESCRIPTION = """\
Predictions from models trained on tables.

Every error is an RFC 9457 problem. A path that is not described here is answered with 404, another method with 405 and
`Allow`. A trailing slash makes no difference.
"""
NEVER_PARTIAL = ("/explain/{model_id}",)  # all records of a body are answered, or none
FILE_TYPES = "text/csv, application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

_PARTIAL = {
    "name": "partial",
    "in": "query",
    "schema": {"type": "boolean", "default": False},
    "description": "Answer the valid rows of a list even if others are invalid",
}


def init_app(app: APIFlask, settings: Settings, path_parameters: Mapping[str, dict[str, Any]]) -> None:
    """Set what APIFlask writes by itself, and complete its document when it is requested.

    Parameters
    ----------
    app : APIFlask
        The service.
    settings : Settings
        Default use case and limits.
    path_parameters : mapping
        Path parameters other than `model_id`, by name.
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
        use_cases = _default_first(settings.default_use_case)
        spec["tags"] = [*{tag["name"]: tag for tag in spec["tags"]}.values()]  # blueprints may share one
        spec["components"]["schemas"] |= _record_schemas(use_cases)
        for path, body in _bodies(use_cases, settings).items():
            operation = spec["paths"][path]["post"]
            operation["requestBody"] = body
            if path not in NEVER_PARTIAL:
                operation["parameters"] = [*operation.get("parameters", []), _PARTIAL]
        uploaded = spec["paths"]["/outputs_upload/{model_id}"]["post"]["responses"]["200"]["content"]
        table = f"The table with the answer's columns; the header `{ROW_NUMBERS}` says which rows of the file these are"
        uploaded["text/csv"] = {"schema": {"type": "string", "description": table}}
        described = {"model_id": _model_name(use_cases), "use_case": _use_case_name(use_cases), **path_parameters}
        counted = _paths(app, limits.count_request) if settings.rate_limit else set()
        guarded = _paths(app, auth.require_user, *([auth.require_user_if_set] if settings.auth_required else []))
        if guarded:
            spec["components"]["securitySchemes"] = {auth.auth.name: auth.auth.get_security_scheme()}
        for path, item in spec["paths"].items():
            for operation in item.values():
                if path in guarded:
                    operation["security"] = [{auth.auth.name: []}]
                for parameter in operation.get("parameters", []):
                    if parameter["in"] == "path":
                        parameter |= described[parameter["name"]]
                    if shown := parameter["schema"].pop("examples", None):
                        parameter["example"] = shown[0]  # where Swagger UI looks for it
                answers = {**_refusals(operation, path in counted), **operation["responses"]}
                operation["responses"] = dict(sorted(answers.items()))
        return spec


def _default_first(default: str) -> dict[str, UseCase]:
    """The use cases, the default one first, so that its examples are shown first."""
    use_cases = all_use_cases()
    return {default: use_cases[default], **use_cases}


def _record_schemas(use_cases: dict[str, UseCase]) -> dict[str, Any]:
    """Each use case's record, without and with its outcome."""
    plain = {_record_name(name): record_json_schema(use_case) for name, use_case in use_cases.items()}
    labelled = {
        f"Labelled{_record_name(name)}": record_json_schema(use_case, labelled=True)
        for name, use_case in use_cases.items()
    }
    return {**plain, **labelled}


def _bodies(use_cases: dict[str, UseCase], settings: Settings) -> dict[str, Any]:
    default = settings.default_use_case
    records = {name: _reference(_record_name(name)) for name in use_cases}
    labelled = {name: _reference(f"Labelled{_record_name(name)}") for name in use_cases}
    examples = {
        name: {"summary": f"{use_case.title}: for model_id {name}", "value": dict(use_case.example)}
        for name, use_case in use_cases.items()
    }
    lists = {name: {**example, "value": [example["value"]]} for name, example in examples.items()}

    def many(record: dict[str, Any], most: int = settings.max_rows) -> dict[str, Any]:
        return {"type": "array", "items": record, "minItems": 1, "maxItems": min(most, settings.max_rows)}

    # a list holds records of one use case
    one_or_many = {name: [record, many(record)] for name, record in records.items()}
    explained = {name: [record, many(record, MOST_EXPLAINED)] for name, record in records.items()}
    return {
        "/predict": _json_body(one_or_many[default], {default: examples[default]}),
        "/output/{model_id}": _json_body([schema for pair in one_or_many.values() for schema in pair], examples),
        "/explain/{model_id}": _json_body([schema for pair in explained.values() for schema in pair], examples),
        "/outputs/{model_id}": {**_json_body([many(record) for record in labelled.values()], lists), "required": False},
        "/outputs_upload/{model_id}": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": _upload(use_cases),
                    "encoding": {"fileupload": {"contentType": FILE_TYPES}},
                }
            },
        },
    }


def _upload(use_cases: dict[str, UseCase]) -> dict[str, Any]:
    columns = "; ".join(
        f"for {name}: {', '.join(feature.name for feature in use_case.features)}"
        for name, use_case in use_cases.items()
    )
    return {
        "type": "object",
        "required": ["fileupload"],
        "properties": {
            "fileupload": {
                "type": "string",
                "contentMediaType": "application/octet-stream",
                "description": f"A .csv (UTF-8) or .xlsx file with a column for each feature; {columns}",
            }
        },
    }


def _model_name(use_cases: dict[str, UseCase]) -> dict[str, Any]:
    """The parameter `model_id`; each example has the name of the body's example that goes with it."""
    names = "|".join([*use_cases, "latest", "champion", MODEL_ID_PATTERN])
    return {
        "description": "A model_id, `latest`, `champion`, or the name of a use case",
        "schema": {"type": "string", "pattern": f"^({names})$"},
        "examples": {
            name: {"summary": f"{use_case.title}: with the body of that name", "value": name}
            for name, use_case in use_cases.items()
        },
    }


def _use_case_name(use_cases: dict[str, UseCase]) -> dict[str, Any]:
    return {
        "description": "The name of a use case",
        "schema": {"type": "string", "enum": list(use_cases)},
        "example": next(iter(use_cases)),
    }


def _paths(app: APIFlask, *checks: Callable[[], Any]) -> set[str]:
    """The paths of the blueprints that make any of these checks before a request, as OpenAPI writes them."""
    blueprints = {name for name, made in app.before_request_funcs.items() if not set(checks).isdisjoint(made)}
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint.rpartition(".")[0] in blueprints]
    return {re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule) for rule in rules}


def _refusals(operation: dict[str, Any], is_counted: bool) -> dict[str, Any]:
    """What may be answered before the view is called."""
    needs_user = bool(operation.get("security"))
    refusals = {}
    if needs_user:
        refusals["401"] = _problem("Wrong or missing credentials", {"WWW-Authenticate": {"type": "string"}})
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
