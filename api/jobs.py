"""The routes of jobs: tables that are too large to be answered at once are sent, watched, fetched and deleted."""

import itertools
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from apiflask import APIBlueprint, APIFlask
from apiflask.fields import Dict, Integer, Nested, String
from apiflask.schemas import EmptySchema, FileSchema
from apiflask.validators import OneOf, Range
from flask import Response, request

from tabserve.api import auth, current, limits
from tabserve.api.answers import as_json, media_type_of
from tabserve.api.bodies import read_body, uploaded_file, wants_partial
from tabserve.api.controller import problems
from tabserve.api.schemas import AnswerSchema, ModelIdField, ProblemSchema
from tabserve.api.users import PREDICT
from tabserve.errors import JobsAwayError, NoResultError, UnknownJobError
from tabserve.jobs.job import DONE, FAILED, FILE, HOLD_OUT, JSON, RESULTS, RUNNING, WAITING, Job, Order, is_id
from tabserve.settings import Settings

if TYPE_CHECKING:
    from tabserve.jobs.store import Store

PIECE = 1_000_000  # bytes of a body that are read at a time

orders = APIBlueprint("orders", __name__, tag="Jobs")
orders.before_request(auth.require_scope_if_set(PREDICT))  # AUTH_REQUIRED
orders.before_request(limits.count_request)  # RATE_LIMIT, by user
blueprint = APIBlueprint("jobs", __name__, tag="Jobs")  # looking how far a job is does not count
blueprint.before_request(auth.require_scope_if_set(PREDICT))


class JobSchema(AnswerSchema):
    """A table that is answered later."""

    id = String(required=True)
    state = String(required=True, validate=OneOf([WAITING, RUNNING, DONE, FAILED]))
    model = ModelIdField(required=True, metadata={"description": "The model that answers"})
    rows = Integer(required=True, allow_none=True, metadata={"description": "Rows of the table, once it is read"})
    rows_done = Integer(required=True, validate=Range(min=0), metadata={"description": "How many are predicted"})
    created = String(required=True, metadata={"format": "date-time"})
    started = String(required=True, allow_none=True, metadata={"format": "date-time"})
    finished = String(required=True, allow_none=True, metadata={"format": "date-time"})
    expires = String(
        required=True,
        allow_none=True,
        metadata={"format": "date-time", "description": "When it is deleted; null while it runs"},
    )
    error = Nested(
        ProblemSchema,
        required=True,
        allow_none=True,
        metadata={"description": "Why it failed: the problem that a request would have been answered with"},
    )
    summary = Dict(
        required=True,
        allow_none=True,
        metadata={"description": "The answer beside the columns of the result, as /outputs gives it"},
    )
    results = Dict(
        keys=String(), values=String(), required=True, metadata={"description": "Paths of the result, by kind of file"}
    )


@orders.post("/jobs/<name>")
@orders.output(JobSchema, status_code=202)
@problems(400, 404, 413, 415, 422, 503)
def add_job(name: str) -> Response:
    """Take a table of any allowed size, to be answered later: the location says how far it is.

    Without a body, the hold-out of the model's own training is answered.
    """
    artifact, partial = current.predictor().resolve(name), wants_partial()
    kind, body = _body()
    order = Order(
        owner=auth.auth.current_user or "",
        client=auth.client(),
        model_id=artifact.model_id,
        kind=kind,
        partial=partial,
    )
    store = _store()
    job = store.get(store.add(order, body))
    if job is None:
        raise JobsAwayError
    return _as_json(job, 202, {"Location": f"/jobs/{job.id}"})


@blueprint.get("/jobs/<name>")
@blueprint.output(JobSchema)
@problems(404, 503)
def show_job(name: str) -> Response:
    """Say how far a job is."""
    return _as_json(_visible(name))


@blueprint.get("/jobs/<name>/result.<kind>")
@blueprint.output(FileSchema(type="string", format="binary"), content_type="text/csv", description="The file")
@problems(404, 503)
def show_result(name: str, kind: str) -> Response:
    """Send a job's table with the answer's columns as a file."""
    job = _visible(name)
    size = _store().size(job.id, kind) if job.state == DONE and kind in RESULTS else None
    if size is None:
        raise NoResultError
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f"attachment; filename=result.{kind}",
        "X-Content-Type-Options": "nosniff",
    }
    read_as = (job.summary or {}).get("read_as", {})
    content = _whole(_store().read(job.id, kind), size)
    begun = itertools.chain([next(content)], content)  # what is wrong with the database is said before the head is sent
    return Response(begun, headers=headers, content_type=media_type_of(kind, read_as))


@blueprint.delete("/jobs/<name>")
@blueprint.output(EmptySchema, status_code=204, description="It is gone, with its table and its result")
@problems(404, 503)
def delete_job(name: str) -> Response:
    """Delete everything about a job; one that is not finished is given up."""
    _store().delete(_visible(name).id)
    answer = Response(status=204)
    del answer.headers["Content-Type"]
    return answer


def init_app(app: APIFlask, settings: Settings) -> None:
    """Let an application keep jobs; the store is opened when it is first used, in the worker process."""

    @cache
    def open_store() -> "Store":
        from tabserve.jobs.store import Store  # imports SQLAlchemy, which most processes do not need

        return Store(settings.database_url, settings.job_hours)

    app.extensions["jobs"] = open_store


def _store() -> "Store":
    store: Store = current.extension("jobs")()
    return store


def _visible(id_: str) -> Job:
    """A job that this client may see: with users, only its owner."""
    job = _store().get(id_) if is_id(id_) else None
    if job is None or (current.settings().auth_required and job.owner != auth.auth.current_user):
        raise UnknownJobError
    return job


def _body() -> tuple[str, Iterable[bytes]]:
    """What was sent, and its bytes."""
    if request.mimetype == "multipart/form-data":
        stream = uploaded_file().stream
        return FILE, iter(lambda: stream.read(PIECE), b"")
    content = read_body(current.settings().max_content_length)
    return (JSON, [content]) if content else (HOLD_OUT, [])


def _whole(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The pieces of a result; when the job is deleted meanwhile, the transfer breaks, and the client knows."""
    for piece in pieces:
        size -= len(piece)
        yield piece
    if size:
        raise UnknownJobError


def _as_json(job: Job, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    content: dict[str, Any] = {
        "id": job.id,
        "state": job.state,
        "model": job.model_id,
        "rows": job.rows,
        "rows_done": job.rows_done,
        **{name: _moment(getattr(job, name)) for name in ("created", "started", "finished", "expires")},
        "error": job.error,
        "summary": job.summary,
        "results": {kind: f"/jobs/{job.id}/result.{kind}" for kind in RESULTS} if job.state == DONE else {},
    }
    answer = as_json(content)
    answer.status_code = status
    answer.headers.update(headers or {})
    if job.state in (WAITING, RUNNING):
        answer.headers["Retry-After"] = "1"
    return answer


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
