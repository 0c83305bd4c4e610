"""The front: an ASGI application before Flask.

What is certain is answered on the event loop, in microseconds: a valid record or a short list, for a model that is
loaded, by a user who is remembered, within the limit; and probes. Everything else is Flask's. So a certain request is
one that Flask would have answered with the same bytes.
"""

import asyncio

import orjson
from flask import Flask, Response
from werkzeug.http import parse_list_header

from tabserve.api.auth import Credentials, client_of
from tabserve.api.bridge import Bridge, Message, Receive, Scope, Send, header_of, send_response
from tabserve.api.controller import health_answer, predicted, readiness_answer
from tabserve.api.errors import answer_to
from tabserve.api.limits import RateLimit
from tabserve.api.threads import BusyError, Pool
from tabserve.predictor import Predictor
from tabserve.registry.artifact import Artifact
from tabserve.settings import Settings

THREADS = 4  # in which Flask answers; lists and files leave one of them to short requests
LONGEST = 16 * 1024  # bytes of a body that is answered on the loop: some 50 records, a millisecond
LOOK, LOOK_AGAIN = 0.05, 0.005  # seconds until the next look at how late the loop is, and when it was too late
OUTPUT, PREDICT = "/output/", "/predict"
READY = "/ready"


class Front:
    """The service as an ASGI application.

    Parameters
    ----------
    app : Flask
        The whole service.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._settings: Settings = app.extensions["settings"]
        self._predictor: Predictor = app.extensions["predictor"]
        self._credentials: Credentials = app.extensions["credentials"]
        self._rate_limit: RateLimit | None = app.extensions["rate_limit"]
        self._patience = self._settings.queue_ms / 1000
        self._is_late = False
        self._bridge: Bridge | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        bridge = self._bridge or self._start()
        if probe := self._probe(scope):
            await send_response(send, probe)
            return
        try:
            if self._is_late:
                raise BusyError
            begun = None
            if artifact := self._artifact(scope):
                begun = await receive()
                if answer := self._certain(artifact, scope, begun):
                    await _send_json(send, answer)
                    return
            await bridge(scope, receive, send, begun)
        except BusyError as error:
            await send_response(send, answer_to(error))

    def _start(self) -> Bridge:
        """Begin, in the loop that runs."""
        self._bridge = Bridge(self._app, Pool(THREADS, self._patience))
        self._look_later(LOOK)
        return self._bridge

    def _look_later(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(seconds, self._look, loop.time() + seconds)

    def _look(self, due: float) -> None:
        """See how late the loop is: about as long, a request has waited before anybody looks at it."""
        self._is_late = asyncio.get_running_loop().time() - due > self._patience
        self._look_later(LOOK_AGAIN if self._is_late else LOOK)

    def _probe(self, scope: Scope) -> Response | None:
        """The answer to a probe, which nothing may hold up: neither work nor a registry that is away."""
        path: str = scope["path"]
        if scope["method"] != "GET" or scope["query_string"] or self._settings.cors_origins:
            return None
        if path == "/health":
            return health_answer()
        if path != READY and not path.startswith(f"{READY}/"):
            return None
        readiness = self._predictor.known_readiness([*filter(None, [path[len(READY) + 1 :]])])
        return readiness_answer(readiness) if readiness else None

    def _artifact(self, scope: Scope) -> Artifact | None:
        """The loaded model that is asked for predictions, if the request is a plain one."""
        path: str = scope["path"]
        if scope["method"] != "POST" or scope["query_string"] or self._settings.cors_origins:
            return None
        if path.startswith(OUTPUT):
            return self._predictor.loaded(path[len(OUTPUT) :].removesuffix("/"))
        return self._predictor.loaded("champion") if path.removesuffix("/") == PREDICT else None

    def _certain(self, artifact: Artifact, scope: Scope, begun: Message) -> bytes | None:
        """The answer, if it is certain."""
        body = begun.get("body", b"")
        client = self._client(scope)
        if client is None or begun.get("more_body") or not 0 < len(body) <= LONGEST:
            return None
        try:
            answer = predicted(self._predictor, artifact, body, self._settings.max_rows, _never)
        except Exception:  # Flask meets it, too, and says what is wrong
            return None
        is_admitted = self._rate_limit is None or self._rate_limit.admits(client)
        return orjson.dumps(answer) if is_admitted else None

    def _client(self, scope: Scope) -> str | None:
        """Who asks, as far as it matters; None when that must be found out first."""
        user = None
        if self._settings.auth_required:
            user = self._credentials.remembered(header_of(scope, b"authorization"))
            if user is None:
                return None
        return client_of(user, self._address(scope)) if self._rate_limit else ""

    def _address(self, scope: Scope) -> str:
        """The client's address, as `ProxyFix` finds it."""
        proxies = self._settings.trusted_proxies
        forwarded = parse_list_header(header_of(scope, b"x-forwarded-for")) if proxies else []
        return forwarded[-proxies] if len(forwarded) >= max(1, proxies) else (scope["client"] or ("",))[0]


def _never() -> bool:
    return False


async def _send_json(send: Send, body: bytes) -> None:
    headers = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
