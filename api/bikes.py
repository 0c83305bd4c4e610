"""Routes for older clients of the bikes service: its status, predictions from a query, and its models' scores.

Where the registry holds no bikes model, the last two answer 404, and the OpenAPI document does without them.
"""

from collections.abc import Mapping
from typing import Any

from apiflask import APIBlueprint
from apiflask.fields import Float, String
from apiflask.validators import Range
from flask import Response
from marshmallow import RAISE

from tabserve.api import current, limits
from tabserve.api.answers import as_json
from tabserve.api.auth import auth, require_scope
from tabserve.api.bodies import record_in_query
from tabserve.api.controller import problems, record_predicted
from tabserve.api.decided import DECISION_ID, checked_log, keep_answered, refusals_kept
from tabserve.api.json_schema import query_parameter
from tabserve.api.schemas import AnswerSchema, QuerySchema
from tabserve.api.users import PREDICT, READ
from tabserve.decisions.plain import dumped
from tabserve.errors import InvalidFieldsError, UnknownAlgorithmError
from tabserve.evaluation.metrics import HOLD_OUT
from tabserve.registry.artifact import Declared
from tabserve.use_cases.bikes import USE_CASE

blueprint = APIBlueprint("bikes", __name__)  # open to anybody

scores = APIBlueprint("scores", __name__, tag="Bikes")
scores.before_request(require_scope(READ))  # whatever AUTH_REQUIRED is: the answer names the user

predictions = APIBlueprint("predictions", __name__, tag="Predictions")
predictions.before_request(require_scope(PREDICT))
predictions.before_request(limits.count_request)


@scores.before_request
@predictions.before_request
def check_there_are_models() -> None:
    """Answer 404 where the registry holds no bikes model."""
    current.predictor().check_use_case(USE_CASE.name)


ONE = {"type": "integer", "const": 1}
ALGORITHMS = [algorithm.name for algorithm in USE_CASE.algorithms]
ALGORITHM = {
    "description": "The model's algorithm; `model` in the query overrides it",
    "schema": {"type": "string", "enum": ALGORITHMS},
    "example": ALGORITHMS[-1],
}


def describe(paths: dict[str, Any], use_cases: Mapping[str, Declared]) -> None:
    """Complete what the OpenAPI document says of these routes, or leave out those that have no model."""
    score = paths["/scores/{name}"]["post"]
    (name,) = [parameter for parameter in score["parameters"] if parameter["in"] == "path"]
    name |= ALGORITHM
    if declared := use_cases.get(USE_CASE.name):
        paths["/predictions"]["post"]["parameters"] = [
            query_parameter(feature, declared.example.get(feature.name)) for feature in declared.features
        ]
    else:
        del paths["/predictions"], paths["/scores/{name}"]


class RentalsSchema(AnswerSchema):
    """How many bikes are rented."""

    user = String(required=True, metadata={"description": "Who asked"})
    bikes = Float(required=True, validate=Range(min=0))


class ScoreQuery(QuerySchema):
    """Query of a score."""

    model = String(metadata={"description": "Overrides the name in the path", "enum": ALGORITHMS})


class ScoreSchema(AnswerSchema):
    """How good a model is."""

    user = String(required=True, metadata={"description": "Who asked"})
    model = Float(required=True, validate=Range(max=1), metadata={"description": "R² on the hold-out"})


@blueprint.get("/status")
@blueprint.doc(responses={200: {"description": "It is running", "content": {"application/json": {"schema": ONE}}}})  # type: ignore[arg-type]  # schemas too
def status() -> Response:
    """Say that the service is running."""
    return as_json(1)


@predictions.post("/predictions")
@predictions.output(RentalsSchema)
@problems(404, 422, 503)
def rentals() -> Response:
    """Predict how many bikes are rented in an hour."""
    predictor = current.predictor()
    artifact = predictor.resolve(USE_CASE.name)
    log = checked_log()
    with refusals_kept(log, artifact):
        record = record_in_query(artifact.features)
        answered = record_predicted(predictor, artifact, record)
    if log:
        keep_answered(log, answered, dumped(record).encode())
    response = as_json({"user": auth.current_user, "bikes": answered.content["result"][0]})
    if (id_ := answered.content.get("decision_ids", [None])[0]) is not None:
        response.headers[DECISION_ID] = id_  # the body is as older clients know it
    return response


@scores.post("/scores/<name>")
@scores.input(ScoreQuery, location="query", unknown=RAISE)
@scores.output(ScoreSchema)
@problems(404, 422, 503)
def score(name: str, query_data: Mapping[str, str]) -> Response:
    """Give the R² on the hold-out of an algorithm's newest bikes model."""
    try:
        algorithm = USE_CASE.algorithm(query_data.get("model", name)).name
    except UnknownAlgorithmError as error:
        raise InvalidFieldsError({"model": [str(error)]}) from None
    registry = current.predictor().registry
    manifest = registry.manifest(registry.latest(USE_CASE.name, algorithm))
    return as_json({"user": auth.current_user, "model": manifest.headline_of(HOLD_OUT)})


blueprint.register_blueprint(scores)
blueprint.register_blueprint(predictions)
