"""Errors as RFC 9457 problems: a table of statuses and one way to write them."""

from http import HTTPStatus
from typing import Any

import orjson
from apiflask import APIFlask, HTTPError
from flask import Response
from gunicorn.http.errors import NoMoreData, ParseException
from werkzeug.exceptions import HTTPException

from tabserve import errors
from tabserve.api import problems
from tabserve.api.threads import BusyError
from tabserve.api.users import UsersFileError

PROBLEM_TYPE = "application/problem+json"


class LargeTableError(errors.TabserveError):
    """A table is too large to be answered at once, and a job would answer it."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The table has more than {limit:,} rows: send it to /jobs/<model_id>, which answers large tables."
        )


STATUS: dict[type[errors.TabserveError], HTTPStatus] = {
    **problems.STATUS,
    LargeTableError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UsersFileError: HTTPStatus.SERVICE_UNAVAILABLE,
    BusyError: HTTPStatus.SERVICE_UNAVAILABLE,
}
LATER = {
    errors.TooManyJobsError: {"Retry-After": "30"},
    errors.JobsAwayError: {"Retry-After": "5"},
    errors.DecisionLogAwayError: {"Retry-After": "5"},
    errors.DecisionLogFullError: {"Retry-After": "5"},
    errors.NoMemoryError: {"Retry-After": "5"},
}


def problem(status: int, detail: str, by_field: Any = None, headers: Any = None) -> Response:
    """A problem+json answer."""
    return _answer(problems.problem_body(status, detail, by_field), headers)


def answer_to(error: Exception) -> Response:
    """The answer to an error; one that nobody thought of is logged."""
    headers = getattr(error, "headers", LATER.get(type(error))) if isinstance(error, errors.TabserveError) else None
    return _answer(problems.problem_of(error, STATUS), headers)


def _answer(body: dict[str, Any], headers: Any = None) -> Response:
    return Response(orjson.dumps(body), body["status"], headers, content_type=PROBLEM_TYPE)


def init_app(app: APIFlask) -> None:
    """Answer every error with a problem."""
    app.register_error_handler(errors.TabserveError, answer_to)
    app.register_error_handler(Exception, answer_to)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        if isinstance(error.response, Response):  # made by the code that raised it
            return error.response
        headers = [(name, value) for name, value in error.get_headers() if name.lower() != "content-type"]
        return problem(error.code or 500, error.description or "", headers=headers)

    @app.errorhandler(NoMoreData)
    @app.errorhandler(ParseException)
    def broken_transfer(error: Exception) -> Response:
        # gunicorn's other workers raise these when a body's chunks are malformed; what follows cannot be read either
        return problem(HTTPStatus.BAD_REQUEST, "The request is not well-formed HTTP.", headers={"Connection": "close"})

    @app.errorhandler(HTTPError)
    def invalid_input(error: HTTPError) -> Response:
        # raised by APIFlask when a query or form does not match its schema; detail is {location: {field: [message]}}
        by_field = {field: messages for fields in error.detail.values() for field, messages in fields.items()}
        return problem(error.status_code, "Some parameters are invalid: see errors.", by_field, error.headers)

    @app.errorhandler(TimeoutError)
    @app.errorhandler(ConnectionError)
    def slow_transfer(error: OSError) -> Response:
        # raised by servers that read the body while the application waits for it; ours has it already
        detail = "The request did not arrive in time."
        return problem(HTTPStatus.BAD_REQUEST, detail, headers={"Connection": "close"})
