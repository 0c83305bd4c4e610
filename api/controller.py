"""The routes: HTTP in, a call to the predictor, HTTP out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any, BinaryIO, TypeVar, cast

from apiflask import APIBlueprint
from apiflask.schemas import FileSchema
from flask import Response
from marshmallow import RAISE

import tabserve
from tabserve.aliases import Record
from tabserve.api import API_VERSION, auth, current, limits
from tabserve.api.answers import (
    FILE_ANSWERS,
    as_json,
    explanations_as_json,
    record_content,
    table_as_file,
    table_content,
)
from tabserve.api.bodies import read_body, uploaded_file, wanted_file, wants_partial
from tabserve.api.decided import DECISION_ID, checked_log, keep_answered, keep_refusal, origin, refusals_kept
from tabserve.api.errors import PROBLEM_TYPE, LargeTableError, problem
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
    shown,
)
from tabserve.api.users import PREDICT
from tabserve.decisions.log import Answered, row_ids
from tabserve.errors import InvalidFieldsError, TooManyRowsError
from tabserve.predictor import Predictor
from tabserve.registry.artifact import Artifact
from tabserve.resolver import Readiness
from tabserve.settings import Settings
from tabserve.tables.json_body import as_list
from tabserve.tables.limits import Deadline
from tabserve.tables.table import Table

blueprint = APIBlueprint("service", __name__)  # open to anybody
predictions = APIBlueprint("predictions", __name__)
predictions.before_request(auth.require_scope_if_set(PREDICT))  # AUTH_REQUIRED
predictions.before_request(limits.count_request)  # RATE_LIMIT, by user
Answer = TypeVar("Answer")
View = TypeVar("View", bound=Callable[..., Any])

MOST_EXPLAINED = 1000  # records in one request: an explanation takes many times as long as a prediction

ERRORS = {
    400: "Not JSON, JSON of the wrong shape, or nothing to predict",
    404: "No such model, use case, job or decision, no hold-out, or no result",
    413: "Too many rows or bytes",
    415: "Not a table that can be read",
    422: "A field is missing, unknown or invalid",
    501: "Models of this kind cannot be explained, or no decisions are logged",
    503: "No usable model, too much to do, or the database of jobs cannot be used",
}

REPORT_HEADERS = {  # a report brings its own style and runs no scripts
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
    return health_answer()


def health_answer() -> Response:
    """The answer of a process that is alive."""
    return as_json({"status": "ok"})


@blueprint.get("/ready")
@blueprint.output(ReadySchema)
@problems(503)
def ready() -> Response:
    """Say which use cases have a model that answers.

    The service is ready while at least one has, and there is a model of each that SERVE names.
    """
    return readiness_answer(current.predictor().readiness())


@blueprint.get("/ready/<use_case>")
@blueprint.output(ReadySchema)
@problems(404, 503)
def use_case_ready(use_case: str) -> Response:
    """Say whether a use case has a model that answers."""
    predictor = current.predictor()
    predictor.check_use_case(use_case)
    return readiness_answer(predictor.readiness([use_case]))


def readiness_answer(readiness: Readiness) -> Response:
    """Answer whether the service, or a use case, is ready, and with what."""
    if readiness.problem:
        reasons = {use_case: [reason] for use_case, reason in readiness.unavailable.items()}
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, readiness.problem, reasons)
    shown = ("models", "unavailable", "refused", "registry")
    return as_json({"status": "ready", **{name: getattr(readiness, name) for name in shown}})


@blueprint.get("/version")
@blueprint.output(VersionSchema)
def version() -> Response:
    """Give the versions of the program and of its HTTP contract."""
    return as_json({"version": tabserve.__version__, "api_version": API_VERSION})


@blueprint.get("/models")
@blueprint.input(ModelsQuery, location="query", unknown=RAISE)
@blueprint.output(ModelsSchema)
@problems(422, 503)
def models(query_data: Mapping[str, str]) -> Response:
    """List the models, newest first."""
    return as_json({"models": current.predictor().model_ids(query_data.get("use_case"))})


@blueprint.get("/models/<model_id>")
@blueprint.output(ModelSchema)
@problems(404, 503)
def model(model_id: str) -> Response:
    """Describe a model: what it is, how it was made and how good it is."""
    predictor = current.predictor()
    artifact = predictor.resolve(model_id)
    manifest = predictor.describe(artifact)
    described = {**manifest.to_json(), "verdict": manifest.verdict, **artifact.declared.signature()}
    return as_json(shown(ModelSchema, described))


@blueprint.get("/models/<model_id>/report")
@blueprint.output(FileSchema(type="string", format="html"), content_type="text/html", description="The report")
@problems(404, 503)
def report(model_id: str) -> Response:
    """Show a model's training report, a self-contained page."""
    predictor = current.predictor()
    content = predictor.report(predictor.resolve(model_id))
    return Response(content, headers=REPORT_HEADERS, content_type="text/html; charset=utf-8")


@predictions.post("/predict")
@predictions.output(PredictionSchema)
@problems(400, 404, 413, 422, 503)
def predict() -> Response:
    """Predict one record or a list of them with the default use case's model."""
    return output("champion")


@predictions.post("/output/<model_id>")
@predictions.output(PredictionSchema)
@problems(400, 404, 413, 422, 503)
def output(model_id: str) -> Response:
    """Predict one record or a list of them."""
    predictor = current.predictor()
    artifact = predictor.resolve(model_id)
    settings = current.settings()
    content = read_body(settings.max_content_length)
    log = checked_log()
    with refusals_kept(log, artifact):
        answered = predicted(predictor, artifact, content, settings, wants_partial)
    if log:
        keep_answered(log, answered, content)
    return as_json(answered.content)


def predicted(
    predictor: Predictor, artifact: Artifact, content: bytes, settings: Settings, is_partial: Callable[[], bool]
) -> Answered:
    """What is answered to a body with a record or a list; the front uses it, too."""
    most, partial = settings.rows_at_once, is_partial()
    with _at_once(settings):
        body = predictor.read_body(artifact, content, most)
        if type(body) is dict:
            return record_predicted(predictor, artifact, body)
        table = Table.of(as_list(body, most))
    answer = predictor.predict_table(artifact, table, partial=partial)
    return Answered(artifact, table_content(answer), answer.prediction, answer)


def record_predicted(predictor: Predictor, artifact: Artifact, record: Record) -> Answered:
    """What is answered to a record."""
    arm = artifact.arm_of(record)
    answering, prediction = _by_arm(artifact, arm, record, predictor.predict)
    arm_id = arm.model_id if artifact.split else ""
    return Answered(answering, record_content(answering, record, prediction), prediction, arm=arm_id)


def _by_arm(
    artifact: Artifact, arm: Artifact, record: Record, ask: Callable[[Artifact, Record], Answer]
) -> tuple[Artifact, Answer]:
    """Ask the model whose record it is; where a challenger refuses one, the champion answers."""
    if arm is not artifact:
        with suppress(InvalidFieldsError):
            return arm, ask(arm, record)
    return artifact, ask(artifact, record)


@predictions.post("/explain/<model_id>")
@predictions.output(ExplanationsSchema)
@problems(400, 404, 413, 422, 501, 503)
def explanations(model_id: str) -> Response:
    """Explain the prediction for one record or for each of a list: what speaks for it, what against it, and how much.

    The contributions of the columns and the base value sum to the raw score: the log-odds of a classifier, the
    logarithm of a count, the value of any other regressor.
    """
    predictor = current.predictor()
    artifact = predictor.resolve(model_id)
    settings = current.settings()
    body = predictor.read_body(artifact, read_body(settings.max_content_length), settings.rows_at_once)
    if type(body) is dict:
        answering, explanation = _by_arm(artifact, artifact.arm_of(body), body, predictor.explain)
        return explanations_as_json(answering, [explanation])
    table = Table.of(as_list(body, min(MOST_EXPLAINED, settings.rows_at_once)))
    return explanations_as_json(artifact, predictor.explain_table(artifact, table))


@predictions.post("/outputs/<model_id>")
@predictions.output(ScoredPredictionSchema)
@problems(400, 404, 413, 422, 503)
def outputs(model_id: str) -> Response:
    """Predict a list of records; without a body, the hold-out of the model's own training.

    When the records hold the target column, the answer says how good the predictions are.
    """
    predictor = current.predictor()
    artifact = predictor.resolve(model_id)
    settings = current.settings()
    content = read_body(settings.max_content_length)
    log = checked_log()
    with _at_once(settings):
        if content:
            body = predictor.read_body(artifact, content, settings.rows_at_once, with_outcomes=True)
            table = predictor.table_of(artifact, as_list(body, settings.rows_at_once))
        else:
            table = predictor.read_hold_out(artifact, predictor.hold_out(artifact), *_file_limits(settings))
    with refusals_kept(log, artifact):
        answer = predictor.predict_table(artifact, table, partial=wants_partial())
    answered = Answered(artifact, table_content(answer), answer.prediction, answer)
    if content and log:  # the hold-out is nobody's to decide about
        keep_answered(log, answered, content)
    return as_json(answered.content)


@predictions.post("/outputs_upload/<model_id>")
@predictions.output(ScoredPredictionSchema)
@problems(400, 404, 413, 415, 422, 503)
def outputs_upload(model_id: str) -> Response:
    """Predict the rows of a file with a table; with `Accept: text/csv` the answer is the table with new columns."""
    predictor = current.predictor()
    artifact = predictor.resolve(model_id)
    file, partial, kind = uploaded_file(), wants_partial(), wanted_file(FILE_ANSWERS)
    settings = current.settings()
    log = checked_log()
    with _at_once(settings):
        table = predictor.read_table(artifact, cast("BinaryIO", file.stream), "The file", *_file_limits(settings))
    with refusals_kept(log, artifact):
        answer = predictor.predict_table(artifact, table, partial=partial)
    id_ = log.keep_table(answer, origin()) if log else None
    if log and answer.prediction.faulty:
        keep_refusal(log, artifact, answer.problems())
    if kind:
        response = table_as_file(answer, kind)
        response.headers.update({DECISION_ID: id_} if id_ else {})
        return response
    ids = {"decision_ids": row_ids(id_, answer.prediction)} if log else {}
    return as_json({**table_content(answer), **ids})


@contextmanager
def _at_once(settings: Settings) -> Iterator[None]:
    """Say where tables are answered that are too large to be answered at once."""
    try:
        yield
    except TooManyRowsError:
        if settings.rows_at_once < settings.max_rows:
            raise LargeTableError(settings.rows_at_once) from None
        raise


def _file_limits(settings: Settings) -> tuple[int, Deadline]:
    return settings.rows_at_once, Deadline(settings.max_file_seconds)
