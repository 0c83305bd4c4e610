"""The routes: HTTP in, a call to `src`, HTTP out."""

import io
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, BinaryIO, TypeVar, cast

import tabserve
from apiflask import APIBlueprint
from apiflask.schemas import FileSchema
from flask import Response, current_app, request
from marshmallow import RAISE
from tabserve.api import API_VERSION
from tabserve.api.answers import as_content, as_csv, as_json, table_errors
from tabserve.api.bodies import as_list, parse, read_body
from tabserve.api.errors import PROBLEM_TYPE, InvalidFieldsError, NotReadyError
from tabserve.api.schemas import (
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
    printable,
    public_manifest,
    record_schema,
)
from tabserve.api.serving import ModelStore
from tabserve.api.turn import Turn
from tabserve.declaration.discovery import all_use_cases, get_use_case
from tabserve.errors import FileLimitError, InvalidRecordsError, TooManyRowsError
from tabserve.explain import Explanation, Reason, explain
from tabserve.predict import Prediction, make_prediction, measure
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import REPORT
from tabserve.settings import Settings
from tabserve.tables.reader import XLSX_MAGIC, Table, check_file_name, read_table
from werkzeug.datastructures import FileStorage

blueprint = APIBlueprint("service", __name__)
predictions = APIBlueprint("predictions", __name__)  # what may need credentials and have a limit
View = TypeVar("View", bound=Callable[..., Any])

MOST_EXPLAINED = 1000  # records in one request: an explanation takes many times as long as a prediction

# Bytes from which on a body waits for its turn. A row of a CSV file may be 20 bytes and take a kilobyte as a record;
# a workbook may unpack to anything.
LARGE_JSON = 1_000_000
LARGE_CSV = 100_000
LARGE_XLSX = 0
_no_turn = nullcontext()

ERRORS = {
    400: "Not JSON, JSON of another shape, or nothing to predict",
    404: "No such model or use case, or no hold-out",
    413: "Too many rows or bytes",
    415: "Neither CSV nor XLSX",
    422: "A field is missing, unknown or invalid",
    501: "No model of this kind can be explained",
    503: "No usable model, or too much large work at a time",
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
    """Say which use cases can be answered: it is ready while at least one can."""
    return _readiness(all_use_cases())


@blueprint.get("/ready/<use_case>")
@blueprint.output(ReadySchema)
@problems(404, 503)
def use_case_ready(use_case: str) -> Response:
    """Say whether one use case can be answered."""
    return _readiness([get_use_case(use_case).name])


def _readiness(use_cases: Iterable[str]) -> Response:
    readiness = store().readiness(use_cases)
    if not readiness.models:
        raise NotReadyError(readiness.unavailable)
    registry = "away" if store().registry.away else "ok"
    return as_json({"status": "ready", **vars(readiness), "registry": registry})


@blueprint.get("/version")
@blueprint.output(VersionSchema)
def version() -> Response:
    """Name the versions of the program and of its HTTP contract."""
    return as_json({"version": tabserve.__version__, "api_version": API_VERSION})


@blueprint.get("/models")
@blueprint.input(ModelsQuery, location="query", unknown=RAISE)
@blueprint.output(ModelsSchema)
@problems(422, 503)
def models(query_data: Mapping[str, str]) -> Response:
    """List the models, newest first."""
    return as_json({"models": store().model_ids(query_data.get("use_case"))})


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
    with _in_turn(len(content), LARGE_JSON):
        return _answer_body(artifact, content)


def _answer_body(artifact: Artifact, content: bytes) -> Response:
    body = _parsed(artifact, content)
    partial = _partial()
    if type(body) is not dict:
        return _answer(artifact, Table.of(as_list(body, _settings().max_rows)), partial)
    try:
        prediction = make_prediction(artifact, [body])
    except InvalidRecordsError:
        raise InvalidFieldsError(field_errors(record_schema(artifact.features), body)) from None
    return as_json(as_content(artifact, prediction))


@predictions.post("/explain/<model_id>")
@predictions.output(ExplanationsSchema)
@problems(400, 404, 413, 422, 501, 503)
def explanations(model_id: str) -> Response:
    """Explain the answer to one record or to each of a list: what speaks for it, what against it, and how much.

    The contributions of the columns and the base value sum to the raw score: the log-odds of a classifier, the
    logarithm of a count, the value of any other regressor.
    """
    artifact = store().get(model_id)
    content = _bytes()
    with _in_turn(len(content), LARGE_JSON):
        explained = _explain_body(artifact, content)
    return as_json(
        {
            "model": artifact.model_id,
            "version": artifact.manifest.version,
            "explanations": [_explanation(one) for one in explained],
        }
    )


def _explain_body(artifact: Artifact, content: bytes) -> list[Explanation]:
    body = _parsed(artifact, content)
    records = [body] if type(body) is dict else as_list(body, min(MOST_EXPLAINED, _settings().max_rows))
    try:
        return explain(artifact, records)
    except InvalidRecordsError as error:
        if type(body) is dict:
            raise InvalidFieldsError(field_errors(record_schema(artifact.features), body)) from None
        raise InvalidFieldsError(table_errors(artifact, Table.of(records), error.rows)) from None


def _explanation(one: Explanation) -> dict[str, Any]:
    both = {"reasons": one.reasons, "counter_reasons": one.counter_reasons}
    return {**vars(one), **{name: [_reason(reason) for reason in reasons] for name, reasons in both.items()}}


def _reason(reason: Reason) -> dict[str, Any]:
    return {
        "feature": reason.column,
        "reason": reason.text,
        "contribution": reason.contribution,
        "protected": reason.protected,
    }


@predictions.post("/outputs/<model_id>")
@predictions.output(ScoredPredictionSchema)
@problems(400, 404, 413, 422, 503)
def outputs(model_id: str) -> Response:
    """Predict a list of records; without a body, the hold-out of the model's own training.

    When the records hold the target column, the answer says how good the predictions are.
    """
    artifact = store().get(model_id)
    content = _bytes()
    if not content:
        return _answer_hold_out(artifact)
    with _in_turn(len(content), LARGE_JSON):
        return _answer_list(artifact, content)


def _answer_list(artifact: Artifact, content: bytes) -> Response:
    """Answer a list of records, with or without their outcomes."""
    records = as_list(_parsed(artifact, content), _settings().max_rows)
    name = artifact.target.feature.name
    if not any(name in record for record in records):
        return _answer(artifact, Table.of(records), _partial())
    features = [{key: value for key, value in record.items() if key != name} for record in records]
    return _answer(artifact, Table.of(features, [record.get(name) for record in records]), _partial())


def _answer_hold_out(artifact: Artifact) -> Response:
    content = store().registry.hold_out(artifact.model_id, artifact.manifest)
    with _in_turn(len(content), LARGE_CSV):
        try:
            table = _read(artifact, io.BytesIO(content), "The hold-out")
        except TooManyRowsError:
            limit = _settings().max_rows
            raise FileLimitError(f"The hold-out has more than {limit} rows: send some as a list.") from None
        return _answer(artifact, table, _partial())


@predictions.post("/outputs_upload/<model_id>")
@predictions.output(ScoredPredictionSchema)
@problems(400, 404, 413, 415, 422, 503)
def outputs_upload(model_id: str) -> Response:
    """Predict the rows of a CSV or XLSX file; with `Accept: text/csv` the answer is the table with new columns."""
    artifact = store().get(model_id)
    # other forms are not parsed: pairs of a few bytes take hundreds each
    files = request.files.getlist("fileupload") if request.mimetype == "multipart/form-data" else []
    if len(files) != 1:
        raise InvalidFieldsError({"fileupload": ["Send one CSV or XLSX file in this multipart field."]})
    (file,) = files
    check_file_name(file.filename or "")
    partial = _partial()
    with ExitStack() as turn:
        turn.enter_context(_in_turn(file.seek(0, io.SEEK_END), LARGE_CSV if _is_csv(file) else LARGE_XLSX))
        response = _answer_file(artifact, cast("BinaryIO", file.stream), partial)
        if response.is_streamed:
            response.call_on_close(turn.pop_all().close)  # the table is kept until all of the answer is sent
        return response


def _answer_file(artifact: Artifact, stream: BinaryIO, partial: bool) -> Response:
    table = _read(artifact, stream, "The file")
    if _wants_csv():
        return as_csv(artifact, table, _predict(artifact, table, partial))
    return _answer(artifact, table, partial)


def _read(artifact: Artifact, stream: BinaryIO, name: str) -> Table:
    """Read a file within the limits of a request."""
    limits = (_settings().max_rows, _settings().max_file_seconds)
    return read_table(stream, name, artifact.features, artifact.target.feature, *limits)


def _predict(artifact: Artifact, table: Table, partial: bool) -> Prediction:
    """Predict a table; what is wrong with rows at fault is said unless a partial answer is asked for."""
    try:
        return make_prediction(artifact, table.records, target=table.target, partial=partial)
    except InvalidRecordsError as error:
        raise InvalidFieldsError(table_errors(artifact, table, error.rows)) from None


def _answer(artifact: Artifact, table: Table, partial: bool) -> Response:
    """Predict a table and answer in the order of its rows."""
    prediction = _predict(artifact, table, partial)
    content = as_content(artifact, prediction)
    if prediction.faulty:
        content["errors"] = table_errors(artifact, table, prediction.faulty)
    if table.target is not None:
        task = get_use_case(artifact.manifest.use_case).task
        content[task.answer_name] = measure(artifact, task, prediction, table.target)
    return as_json(content)


def _parsed(artifact: Artifact, content: bytes) -> Any:
    return parse(content, _settings().max_rows, len(artifact.features) + 1)


def _bytes() -> bytes:
    return read_body(_settings().max_content_length)


def _in_turn(size: int, large: int) -> AbstractContextManager[None]:
    """What to answer a body in, once it is there: no client that sends slowly holds up others."""
    turn: Turn = current_app.extensions["turn"]
    return turn.taken() if size > large else _no_turn


def _is_csv(file: FileStorage) -> bool:
    """Whether a file is read as CSV; what it begins with decides."""
    file.seek(0)
    is_csv: bool = file.read(len(XLSX_MAGIC)) != XLSX_MAGIC
    file.seek(0)
    return is_csv


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


def store() -> ModelStore:
    """Return the running application's models."""
    models: ModelStore = current_app.extensions["models"]
    return models


def _settings() -> Settings:
    settings: Settings = current_app.extensions["settings"]
    return settings
