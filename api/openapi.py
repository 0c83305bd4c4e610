"""What the OpenAPI document says beyond what the routes' decorators know: bodies and queries of the prediction routes.

Those routes read their bodies themselves: APIFlask's own parsing costs more than a prediction.
"""

from typing import Any

from apiflask import APIFlask

from api.schemas import record_json_schema
from src.use_cases import all_use_cases

_PARTIAL = {
    "name": "partial",
    "in": "query",
    "schema": {"type": "boolean"},
    "description": "Answer the good rows of a list when others are at fault",
}


def init_app(app: APIFlask, default_use_case: str) -> None:
    """Set what APIFlask should write by itself, and complete its document when it is asked for."""
    app.config["DESCRIPTION"] = "Predictions from models that were trained on tables."
    app.config["AUTO_404_RESPONSE"] = False  # the routes name their errors, which are problems and not APIFlask's own
    app.config["AUTO_VALIDATION_ERROR_RESPONSE"] = False
    app.config["AUTO_TAGS"] = False
    app.config["AUTO_SERVERS"] = False
    app.schema_name_resolver = lambda schema: type(schema).__name__.removesuffix("Schema")

    @app.spec_processor  # type: ignore[arg-type]  # a dict, since the format is JSON
    def complete(spec: dict[str, Any]) -> dict[str, Any]:
        use_cases = all_use_cases()
        names = {name: f"{name.title().replace('_', '')}Record" for name in use_cases}
        schemas = spec["components"]["schemas"]
        schemas |= {names[name]: record_json_schema(use_case) for name, use_case in use_cases.items()}
        schemas["Record"] = _any_of([_reference(name) for name in names.values()])
        labelled = {f"Labelled{names[name]}": use_case for name, use_case in use_cases.items()}
        schemas |= {name: record_json_schema(use_case, labelled=True) for name, use_case in labelled.items()}
        schemas["LabelledRecord"] = _any_of([_reference(name) for name in labelled])
        example = dict(use_cases[default_use_case].example)
        bodies = {
            "/predict": _json_body(_one_or_many(_reference(names[default_use_case])), example),
            "/output/{model_id}": _json_body(_one_or_many(_reference("Record")), example),
            "/outputs/{model_id}": {**_json_body(_many(_reference("LabelledRecord")), [example]), "required": False},
            "/outputs_upload/{model_id}": {
                "required": True,
                "content": {"multipart/form-data": {"schema": _upload(default_use_case)}},
            },
        }
        for path, body in bodies.items():
            operation = spec["paths"][path]["post"]
            operation["requestBody"] = body
            operation["parameters"] = [*operation.get("parameters", []), _PARTIAL]
        answers = spec["paths"]["/outputs_upload/{model_id}"]["post"]["responses"]["200"]["content"]
        answers["text/csv"] = {"schema": {"type": "string", "description": "The table with the answer's columns"}}
        for path, item in spec["paths"].items():
            if "{model_id}" in path:
                for operation in item.values():
                    _describe_model_id(operation["parameters"], default_use_case)
        return spec


def _describe_model_id(parameters: list[dict[str, Any]], example: str) -> None:
    for parameter in parameters:
        if parameter["name"] == "model_id":
            parameter["description"] = "A model_id, `latest`, `champion`, or the name of a use case"
            parameter["example"] = example


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _many(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema, "minItems": 1}


def _one_or_many(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, _many(schema)]}


def _json_body(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


def _upload(use_case: str) -> dict[str, Any]:
    columns = ", ".join(feature.name for feature in all_use_cases()[use_case].features)
    return {
        "type": "object",
        "required": ["fileupload"],
        "properties": {
            "fileupload": {
                "type": "string",
                "contentMediaType": "application/octet-stream",
                "description": f"CSV (UTF-8) or XLSX, a column for each feature; for {use_case}: {columns}",
            }
        },
    }
