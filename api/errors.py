"""Errors as RFC 9457 problems: a table of statuses and one way to write them."""

import logging
from http import HTTPStatus
from typing import Any

import orjson
from apiflask import APIFlask, HTTPError
from flask import Response
from gunicorn.http.errors import NoMoreData, ParseException
from werkzeug.exceptions import HTTPException

from tabserve import errors
from tabserve.api.threads import BusyError
from tabserve.api.users import UsersFileError
from tabserve.log import traced

logger = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"


STATUS: dict[type[errors.TabserveError], HTTPStatus] = {
    errors.InvalidBodyError: HTTPStatus.BAD_REQUEST,
    errors.NothingToPredictError: HTTPStatus.BAD_REQUEST,
    errors.InvalidFieldsError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InvalidTableError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownModelError: HTTPStatus.NOT_FOUND,
    errors.UnknownUseCaseError: HTTPStatus.NOT_FOUND,
    errors.NoDefaultUseCaseError: HTTPStatus.NOT_FOUND,
    errors.NoHoldOutError: HTTPStatus.NOT_FOUND,
    errors.TooManyRowsError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.FileLimitError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UnsupportedFileError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.NotExplainableError: HTTPStatus.NOT_IMPLEMENTED,
    errors.NoModelError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.BrokenArtifactError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StoreAwayError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.UnknownJobError: HTTPStatus.NOT_FOUND,
    errors.NoResultError: HTTPStatus.NOT_FOUND,
    errors.AbandonedJobError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.TooManyJobsError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.JobsAwayError: HTTPStatus.SERVICE_UNAVAILABLE,
    UsersFileError: HTTPStatus.SERVICE_UNAVAILABLE,
    BusyError: HTTPStatus.SERVICE_UNAVAILABLE,
}


def problem(status: int, detail: str, by_field: Any = None, headers: Any = None) -> Response:
    """A problem+json answer."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if by_field:
        body["errors"] = by_field
    return Response(orjson.dumps(body), status, headers, content_type=PROBLEM_TYPE)


def answer_to(error: errors.TabserveError) -> Response:
    """The answer to one of our errors."""
    status = STATUS.get(type(error))
    if status is None:
        return unexpected(error)
    if isinstance(error, errors.InvalidTableError):
        return problem(status, "The file cannot be used: see errors.", error.by_column())
    return problem(status, str(error), getattr(error, "by_field", None), getattr(error, "headers", None))


def unexpected(error: Exception) -> Response:
    """The answer to an error that nobody thought of."""
    logger.error("unexpected %s", traced(error))
    return problem(500, "Something went wrong here; it has been logged.")


def init_app(app: APIFlask) -> None:
    """Answer every error with a problem."""
    app.register_error_handler(errors.TabserveError, answer_to)
    app.register_error_handler(Exception, unexpected)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        if isinstance(error.response, Response):  # made by the code that raised it
            return error.response
        headers = [(name, value) for name, value in error.get_headers() if name.lower() != "content-type"]
        return problem(error.code or 500, error.description or "", headers=headers)

    @app.errorhandler(NoMoreData)
    @app.errorhandler(ParseException)
    def broken_transfer(error: Exception) -> Response:
        # gunicorn raises these when a body's chunks are malformed; what follows cannot be read either
        return problem(HTTPStatus.BAD_REQUEST, "The request is not well-formed HTTP.", headers={"Connection": "close"})

    @app.errorhandler(HTTPError)
    def invalid_input(error: HTTPError) -> Response:
        # raised by APIFlask when a query or form does not match its schema; detail is {location: {field: [message]}}
        by_field = {field: messages for fields in error.detail.values() for field, messages in fields.items()}
        return problem(error.status_code, "Some parameters are invalid: see errors.", by_field, error.headers)

    @app.errorhandler(BlockingIOError)
    @app.errorhandler(ConnectionError)
    def slow_transfer(error: OSError) -> Response:
        # raised by a read from a client that is too slow (see api/connection.py) or gone
        detail = "The request did not arrive in time."
        return problem(HTTPStatus.BAD_REQUEST, detail, headers={"Connection": "close"})
