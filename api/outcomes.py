"""The route by which clients report what really happened."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from apiflask import APIBlueprint
from apiflask.fields import Boolean, Dict, Integer, List, String
from apiflask.validators import Range
from flask import Response, request
from marshmallow import RAISE

from tabserve.api import auth, current, limits
from tabserve.api.answers import as_json
from tabserve.api.bodies import read_body, uploaded_file
from tabserve.api.controller import problems
from tabserve.api.decisions import decision_store
from tabserve.api.schemas import AnswerSchema, QuerySchema
from tabserve.api.users import PREDICT
from tabserve.declaration.declaration import ENDINGS
from tabserve.registry.artifact import Artifact, Declared
from tabserve.settings import Settings
from tabserve.tables.json_body import as_list, parse
from tabserve.tables.limits import Deadline

if TYPE_CHECKING:
    from tabserve.monitoring.reported import Reported

blueprint = APIBlueprint("outcomes", __name__, tag="Outcomes")
blueprint.before_request(auth.require_scope_if_set(PREDICT))
blueprint.before_request(limits.count_request)  # RATE_LIMIT, by user

FIELDS = 2  # of a report


class OutcomesQuery(QuerySchema):
    """How outcomes are meant."""

    use_case = String(metadata={"description": "Whose outcomes they are; by default the default use case's"})
    correct = Boolean(
        truthy={"true"}, falsy={"false"}, metadata={"description": "Whether they replace outcomes that are known"}
    )


def _count(description: str) -> Integer:
    return Integer(required=True, validate=Range(min=0), metadata={"description": description})


class OutcomesSchema(AnswerSchema):
    """What became of reported outcomes."""

    recorded = _count("Decisions whose outcome is known now")
    repeated = _count("Decisions whose outcome was known, and is the same")
    contradicting = _count("Decisions of which another outcome is known, which was kept")
    corrected = _count("Decisions whose outcome was replaced")
    unknown = _count("Reports about no logged decision")  # type: ignore[assignment]  # a field of that name
    invalid = _count("Reports with an outcome that cannot be")
    errors = Dict(
        keys=String(),
        values=List(String()),
        metadata={"description": "What is wrong with the first invalid ones, by their number"},
    )


@blueprint.post("/outcomes")
@blueprint.input(OutcomesQuery, location="query", unknown=RAISE)
@blueprint.output(OutcomesSchema)
@problems(400, 404, 413, 415, 422, 501, 503)
def add_outcomes(query_data: Mapping[str, Any]) -> Response:
    """Say what really happened: one outcome, a list or a file, by decision or by an id column.

    The first outcome of a decision counts, however late it comes; others are counted, and replace it with `correct`.
    """
    store, predictor = decision_store(), current.predictor()
    from tabserve.monitoring.outcomes import Outcomes  # imports SQLAlchemy, which most processes do not need
    from tabserve.monitoring.reported import targets

    use_case = query_data.get("use_case") or predictor.default_use_case()
    predictor.check_use_case(use_case)
    artifact = predictor.resolve(use_case)
    reported = _reported(artifact)
    counts = Outcomes(store, targets(predictor.resolve, artifact)).record(
        reported.given,
        use_case=use_case,
        column=reported.column,
        client=auth.auth.current_user or "",
        correct=query_data.get("correct", False),
        numbers=reported.rows,
    )
    return as_json(counts.to_json())


def _reported(artifact: Artifact) -> "Reported":
    from tabserve.monitoring.reported import in_file, in_list

    settings = current.settings()
    most = settings.rows_at_once
    if request.mimetype == "multipart/form-data":
        stream = cast("BinaryIO", uploaded_file().stream)
        return in_file(stream, "The file", artifact, most, Deadline(settings.max_file_seconds))
    body = parse(read_body(settings.max_content_length), most, FIELDS)
    return in_list(as_list([body] if type(body) is dict else body, most), artifact.declared)


def describe(settings: Settings, paths: dict[str, Any], use_cases: Mapping[str, Declared]) -> None:
    """Complete what the OpenAPI document says of the route."""
    report = {
        "type": "object",
        "required": ["outcome"],
        "properties": {
            "id": {"type": "string", "description": "Of the decision; instead, a declared id column may be named"},
            "outcome": {"description": "What really happened, as the target column holds it"},
        },
        "minProperties": FIELDS,
        "maxProperties": FIELDS,
    }
    lists = {"type": "array", "items": report, "minItems": 1, "maxItems": settings.rows_at_once}
    kinds = f"A file ({', '.join(ENDINGS)}) with the columns `outcome` and `id`, or a declared id column"
    upload = {"type": "string", "contentMediaType": "application/octet-stream", "description": kinds}
    example = {"id": "019a6f2e-7d1c-7b5a-8c3e-2f4d5a6b7c8d", "outcome": 1}
    form = {"type": "object", "required": ["fileupload"], "properties": {"fileupload": upload}}
    (of_decision,) = paths["/decisions/{id}"]["get"]["parameters"]
    of_decision |= {"description": "The id of a decision; `<id>.<n>` for row n of a table", "example": example["id"]}
    paths["/outcomes"]["post"]["requestBody"] = {
        "required": True,
        "content": {
            "application/json": {"schema": {"anyOf": [report, lists]}, "example": example},
            "multipart/form-data": {"schema": form},
        },
    }
