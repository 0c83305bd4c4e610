"""Request ids: what a request is found by in its answer, in the log and in the log of decisions.

A client's `X-Request-Id` and its `traceparent`, of W3C Trace Context, are taken when they are well-formed. A request
without an id is given one.
"""

import re
from random import getrandbits  # each process has a generator of its own: Python seeds it again after a fork
from typing import Any

from apiflask import APIFlask
from flask import Response, request

from tabserve.log import MARKS, NO_MARKS, Marks

ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# version, trace id, parent's id and flags: https://www.w3.org/TR/trace-context/
TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
KEY = "tabserve.marks"  # of a request's marks in its ASGI scope or its WSGI environment


def marks_of(scope: dict[str, Any]) -> Marks:
    """The marks of a request: found or made when they are first asked for, and the same from then on.

    Parameters
    ----------
    scope : dict
        The request's head, as in ASGI.
    """
    found: Marks | None = scope.get(KEY)
    if found is None:
        request_id, traceparent = b"", b""
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                request_id = value
            elif name == b"traceparent":
                traceparent = value
        found = scope[KEY] = _well_formed(request_id, traceparent)
    return found


def request_id_of(scope: dict[str, Any]) -> str:
    """The id of a request whose head is as in ASGI."""
    return marks_of(scope).request_id


def headers_of(marks: Marks) -> list[tuple[bytes, bytes]]:
    """What an answer says of the request that it answers."""
    headers = [(b"X-Request-Id", marks.request_id.encode())]
    return [*headers, (b"traceparent", marks.traceparent.encode())] if marks.traceparent else headers


def _well_formed(request_id: bytes, traceparent: bytes) -> Marks:
    is_given = request_id and ID.fullmatch(request_id)
    is_traced = traceparent and TRACEPARENT.fullmatch(traceparent)
    return Marks(
        request_id.decode()
        if is_given
        else getrandbits(128).to_bytes(16).hex(),  # in a third of the time that an f-string takes
        traceparent.decode() if is_traced else "",
    )


def init_app(app: APIFlask) -> None:
    """Mark the requests that the application answers, and their answers; those of the front are marked already."""

    @app.before_request
    def mark() -> None:
        given = (request.headers.get(name, "").encode("latin-1") for name in ("X-Request-Id", "traceparent"))
        MARKS.set(request.environ.get(KEY) or _well_formed(*given))

    @app.after_request
    def tell(response: Response) -> Response:
        for name, value in headers_of(MARKS.get()):
            response.headers[name.decode()] = value.decode()
        return response

    @app.teardown_request
    def forget(_: object) -> None:
        MARKS.set(NO_MARKS)  # other servers answer the next request in the same thread
