"""The routes: HTTP in, a call to `src`, HTTP out."""

import io
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import orjson
from apiflask import APIBlueprint
from apiflask.schemas import FileSchema
from flask import Response, current_app, request
from marshmallow import RAISE

import src
from api import API_VERSION
from api.config import Settings
from api.errors import PROBLEM_TYPE, BadRequestError, InvalidFieldsError, NotReadyError
from api.schemas import (
    MOST_ROWS,
    ExplanationsSchema,
    HealthSchema,
    ModelSchema,
    ModelsQuery,
    ModelsSchema,
    PredictionSchema,
    ProblemSchema,
    ReadySchema,
    ScoredPredictionSchema,
    VersionSchema,
    field_errors,
    in_words,
    printable,
    public_manifest,
    record_schema,
    row_errors,
)
from api.serving import ModelStore
from src.aliases import Record
from src.datasets.reader import NOT_A_TABLE, Table, file_kind_is_known, read_table, write_csv
from src.errors import InvalidRecordsError, NothingToPredictError, TooManyRowsError, UnsupportedFileError
from src.explain import Explanation, explain
from src.predict import Prediction, make_prediction, measure
from src.registry import REPORT, TEST_TABLE, Artifact
from src.use_cases import get_use_case

blueprint = APIBlueprint("service", __name__)
predictions = APIBlueprint("predictions", __name__)  # what may need credentials and have a limit
View = TypeVar("View", bound=Callable[..., Any])

MOST_EXPLAINED = 1000  # records in one request: an explanation takes many times as long as a prediction

# Bodies beyond this many bytes are answered one after the other: each may take 200 MB, and a container has but 512.
# Python computes them by one thread at a time anyway.
LARGE = 1_000_000
_turn = threading.Lock()
_no_turn = nullcontext()

ERRORS = {
    400: "Not JSON, JSON of another shape, or nothing to predict",
    404: "No such model",
    413: "Too many rows or bytes",
    415: "Neither CSV nor XLSX",
    422: "A field is missing, unknown or invalid",
    501: "No model of this kind can be explained",
    503: "No usable model",
}

REPORT_HEADERS = {  # a report is styled by itself and does nothing
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def problems(*statuses: int) -> Callable[[View], View]:
    """Document the errors that a view may answer with."""
    responses = {
        status: {
            "description": ERRORS[status],
            "content": {PROBLEM_TYPE: {"schema": ProblemSchema()}},
        }
        for status in statuses
    }
    decorate: Callable[[View], View] = blueprint.doc(responses=responses)  # type: ignore[arg-type]  # schemas too
    return decorate


@blueprint.get("/health")
@blueprint.output(HealthSchema)
def health() -> Response:
    """Say that the process is alive."""
    return as_json({"status": "ok"})


@blueprint.get("/ready")
@blueprint.output(ReadySchema)
@problems(503)
def ready() -> Response:
    """Say whether every use case has a model loaded."""
    models, missing = store().readiness()
    if missing:
        raise NotReadyError(missing)
    registry = "away" if store().registry.away else "ok"
    return as_json({"status": "ready", "models": models, "registry": registry})


@blueprint.get("/version")
@blueprint.output(VersionSchema)
def version() -> Response:
    """Name the versions of the program and of its HTTP contract."""
    return as_json({"version": src.__version__, "api_version": API_VERSION})


@blueprint.get("/models")
@blueprint.input(ModelsQuery, location="query", unknown=RAISE)
@blueprint.output(ModelsSchema)
@problems(422, 503)
def models(query_data: Mapping[str, str]) -> Response:
    """List the models, newest first."""
    return as_json({"models": store().registry.list(query_data.get("use_case"))})


@blueprint.get("/models/<model_id>")
@blueprint.output(ModelSchema)
@problems(404, 503)
def model(model_id: str) -> Response:
    """Describe a model: what it is, how it was made and how good it is."""
    return as_json(public_manifest(store().get(model_id).manifest))


@blueprint.get("/models/<model_id>/report")
@blueprint.output(FileSchema(type="string", format="html"), content_type="text/html", description="The report")
@problems(404, 503)
def report(model_id: str) -> Response:
    """Show a model's training report: a page that loads nothing."""
    artifact = store().get(model_id)
    content = store().registry.read(artifact.model_id, REPORT, artifact.manifest)
    return Response(content, headers=REPORT_HEADERS, content_type="text/html; charset=utf-8")


@predictions.post("/predict")
@predictions.output(PredictionSchema)
@problems(400, 413, 422, 503)
def predict() -> Response:
    """Predict one record or a list of them with the default use case's model."""
    return output(_settings().default_use_case)


@predictions.post("/output/<model_id>")
@predictions.output(PredictionSchema)
@problems(400, 404, 413, 422, 503)
def output(model_id: str) -> Response:
    """Predict one record or a list of them."""
    artifact = store().get(model_id)
    content = _bytes()
    with _in_turn(content):
        body = _parsed(content)
        partial = _partial()
        if type(body) is not dict:
            return _answer(artifact, Table.of(_list(body)), partial)
        try:
            prediction = make_prediction(artifact, [body])
        except InvalidRecordsError:
            raise InvalidFieldsError(field_errors(record_schema(artifact.features), body)) from None
        return as_json(_content(artifact, prediction))


@predictions.post("/explain/<model_id>")
@predictions.output(ExplanationsSchema)
@problems(400, 404, 413, 422, 501, 503)
def explanations(model_id: str) -> Response:
    """Explain the score of one record or of each of a list.

    The contributions of the columns and the base value sum to the raw score: the log-odds of a classifier, the
    logarithm of a count, the value of any other regressor.
    """
    artifact = store().get(model_id)
    content = _bytes()
    with _in_turn(content):
        body = _parsed(content)
        is_one = type(body) is dict
        records = [body] if is_one else _list(body, MOST_EXPLAINED)
        try:
            explained = explain(artifact, records)
        except InvalidRecordsError as error:
            schema = record_schema(artifact.features)
            faults = field_errors(schema, body) if is_one else row_errors(schema, records, error.rows)
            raise InvalidFieldsError(faults) from None
    return as_json(
        {
            "model": artifact.model_id,
            "version": artifact.manifest["version"],
            "explanations": [_explanation(one) for one in explained],
        }
    )


def _explanation(one: Explanation) -> dict[str, Any]:
    reasons = [
        {
            "feature": reason.column,
            "reason": reason.text,
            "contribution": reason.contribution,
            "protected": reason.protected,
        }
        for reason in one.reasons
    ]
    return {**vars(one), "reasons": reasons}


@predictions.post("/outputs/<model_id>")
@predictions.output(ScoredPredictionSchema)
@problems(400, 404, 413, 422, 503)
def outputs(model_id: str) -> Response:
    """Predict a list of records; without a body, the hold-out of the model's own training.

    When the records hold the target column, the answer says how good the predictions are.
    """
    artifact = store().get(model_id)
    target = artifact.target.feature
    content = _bytes()
    if not content:
        table = store().registry.read(artifact.model_id, TEST_TABLE, artifact.manifest)
        return _answer(artifact, read_table(io.BytesIO(table), TEST_TABLE, artifact.features, target), _partial())
    with _in_turn(content):
        records = _list(_parsed(content))
        if not any(target.name in record for record in records):
            return _answer(artifact, Table.of(records), _partial())
        features = [{key: value for key, value in record.items() if key != target.name} for record in records]
        return _answer(artifact, Table.of(features, [record.get(target.name) for record in records]), _partial())


@predictions.post("/outputs_upload/<model_id>")
@predictions.output(ScoredPredictionSchema)
@problems(400, 404, 413, 415, 422, 503)
def outputs_upload(model_id: str) -> Response:
    """Predict the rows of a CSV or XLSX file; with `Accept: text/csv` the answer is the table with new columns."""
    artifact = store().get(model_id)
    file = request.files.get("fileupload")
    if file is None:
        raise InvalidFieldsError({"fileupload": ["Send a CSV or XLSX file in this multipart field."]})
    if not file_kind_is_known(file.filename or ""):
        raise UnsupportedFileError(NOT_A_TABLE)
    settings = _settings()
    content = file.read()
    with _in_turn(content):
        stream = io.BytesIO(content)
        target = artifact.target.feature
        limits = (settings.max_rows, settings.max_file_seconds)
        table = read_table(stream, "The file", artifact.features, target, *limits)
        return _answer(artifact, table, _partial(), as_csv=_wants_csv())


def _answer(artifact: Artifact, table: Table, partial: bool, *, as_csv: bool = False) -> Response:
    """Predict a table and answer in the order of its rows."""
    try:
        prediction = make_prediction(artifact, table.records, target=table.target, partial=partial)
    except InvalidRecordsError as error:
        raise InvalidFieldsError(_row_errors(artifact, table, error.rows)) from None
    if as_csv:
        return _csv(artifact, table, prediction)
    content = _content(artifact, prediction)
    if prediction.faulty:
        content["errors"] = _row_errors(artifact, table, prediction.faulty)
    if table.target is not None:
        task = get_use_case(artifact.manifest["use_case"]).task
        content[task.answer_name] = measure(artifact, task, prediction, table.target)
    return as_json(content)


def _content(artifact: Artifact, prediction: Prediction) -> dict[str, Any]:
    return {
        "model": artifact.model_id,
        "version": artifact.manifest["version"],
        **prediction.columns,
        "errors": None,
    }


def _csv(artifact: Artifact, table: Table, prediction: Prediction) -> Response:
    """The table with the answer's columns, and with what is wrong where a row is at fault."""
    columns: dict[str, Sequence[Any]] = dict(prediction.columns)
    if prediction.faulty:
        faults = _row_errors(artifact, table, prediction.faulty, most=len(prediction.faulty))["rows"]
        columns["errors"] = [in_words(faults.get(str(row), {})) for row in range(len(table.records))]
    if table.target is not None:
        columns[artifact.target.feature.name] = table.target
    rows = (
        {**record, **dict(zip(columns, cells, strict=True))}
        for record, *cells in zip(table.records, *columns.values(), strict=True)
    )
    names = dict.fromkeys([*table.columns, *columns])
    return Response(write_csv(list(names), rows), content_type="text/csv; charset=utf-8")


def _row_errors(artifact: Artifact, table: Table, rows: Sequence[int], most: int = MOST_ROWS) -> dict[str, Any]:
    """What is wrong with the rows at fault, their target included when there is one."""
    if table.target is None:
        return row_errors(record_schema(artifact.features), table.records, rows, most)
    target = artifact.target.feature
    whole = {row: {**table.records[row], target.name: table.target[row]} for row in rows}
    return row_errors(record_schema((*artifact.features, target)), whole, rows, most)


def _list(body: Any, most: int | None = None) -> Sequence[Record]:
    """The body as a list of records, neither empty nor too long: of MAX_ROWS records, and of `most`."""
    if type(body) is not list or not all(type(record) is dict for record in body):
        raise BadRequestError("The body must be a list of JSON objects; /output takes a single object too.")
    if not body:
        raise NothingToPredictError
    limit = min(most or _settings().max_rows, _settings().max_rows)
    if len(body) > limit:
        raise TooManyRowsError(limit)
    return body


def _bytes() -> bytes:
    """The request's body.

    Of a known length within the limit it is read from the server itself: Flask's stream around it, which checks just
    that, costs as much as a prediction. Flask reads, or refuses, all others.
    """
    length = request.content_length
    if length is None or length > _settings().max_content_length:
        return request.get_data()
    body: bytes = request.environ["wsgi.input"].read(length)
    return body


def _in_turn(content: bytes) -> AbstractContextManager[Any]:
    """What to answer a body in, once it is read: no client that sends slowly holds up others."""
    return _turn if len(content) > LARGE else _no_turn


def _parsed(data: bytes) -> Any:
    """The JSON in a body."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    # Many writers emit NaN and Infinity, which are not JSON, or 1e999: read them, so that the field can be named.
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError):
        raise BadRequestError("The body is not JSON.") from None


def _wants_csv() -> bool:
    return request.accept_mimetypes.best_match(["application/json", "text/csv"]) == "text/csv"


def _partial() -> bool:
    if not request.query_string:
        return False
    texts = request.args.getlist("partial")
    if unknown := request.args.keys() - {"partial"}:
        raise InvalidFieldsError({printable(name): ["Unknown field."] for name in unknown})
    if texts not in (["true"], ["false"]):
        raise InvalidFieldsError({"partial": ["Must be true or false, once."]})
    return texts == ["true"]


def as_json(content: Any) -> Response:
    """Answer with JSON."""
    return Response(orjson.dumps(content), content_type="application/json")


def store() -> ModelStore:
    """Return the running application's models."""
    models: ModelStore = current_app.extensions["models"]
    return models


def _settings() -> Settings:
    settings: Settings = current_app.extensions["settings"]
    return settings
