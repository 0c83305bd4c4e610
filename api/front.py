"""The front: an ASGI application before Flask.

What is certain is answered on the event loop, in microseconds: a valid record or a short list, for a model that is
loaded, by a user who is remembered, within the limit; and probes. Everything else is Flask's. So a certain request is
one that Flask would have answered with the same bytes.
"""

import asyncio
from collections.abc import Callable

from flask import Flask, Response
from werkzeug.http import parse_list_header

from tabserve.api.auth import Credentials, client_of
from tabserve.api.bridge import Bridge, Receive, Scope, Send, header_of
from tabserve.api.certain import Certain, Reply
from tabserve.api.controller import health_answer, predicted, readiness_answer
from tabserve.api.errors import answer_to
from tabserve.api.limits import RateLimit
from tabserve.api.pulse import Pulse
from tabserve.api.request_id import marks_of, request_id_of
from tabserve.api.threads import BusyError, Pool
from tabserve.api.turn import Turn
from tabserve.api.users import PREDICT as PREDICT_SCOPE
from tabserve.decisions.log import Decided, DecisionLog, Origin
from tabserve.log import MARKS
from tabserve.predictor import Predictor
from tabserve.registry.artifact import Artifact
from tabserve.settings import Settings

THREADS = 4  # in which Flask answers; lists and files leave one of them to short requests
LONGEST = 16 * 1024  # bytes of a body that is answered on the loop: some 50 records, a millisecond
OUTPUT, PREDICT = "/output/", "/predict"
ROUTE = "/output/<model_id>"
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
        self._too_busy = Certain.of(answer_to(BusyError()))  # made once: a refusal must be cheap
        self._log: DecisionLog | None = app.extensions["decision_log"]
        self._turn = Turn(self._log)
        self._pulse: Pulse | None = None
        self._bridge: Bridge | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        bridge = self._bridge or self.start()
        begun = await receive() if self._artifact(scope) else None
        is_whole = begun is not None and not begun.get("more_body")
        answered: asyncio.Future[Certain] = asyncio.get_running_loop().create_future()
        if self.at_once(scope, begun.get("body", b"") if begun and is_whole else b"", _into(answered)):
            await (await answered).send(send)
            return
        try:
            await bridge(scope, receive, send, begun)
        except BusyError:
            await self._busy().to(marks_of(scope)).send(send)

    def at_once(self, scope: Scope, body: bytes, reply: Reply) -> bool:
        """Answer a request that is certain, or that must be refused because the loop is late.

        Predictions are answered at the end of the loop's turn, everything else before this returns.

        Parameters
        ----------
        scope : dict
            The request's head, as in ASGI.
        body : bytes
            The whole body; empty while it is not whole.
        reply : callable
            Takes the answer.

        Returns
        -------
        bool
            Whether it is answered; if not, it is Flask's.
        """
        marks = marks_of(scope)
        MARKS.set(marks)  # for as long as the task, or the callback, that answers
        answer = self._answer(scope, body)
        if isinstance(answer, Certain):
            reply(answer.to(marks))
        elif answer:
            self._turn.answer(answer, marks, reply)
        return answer is not None

    def refused(self, reason: str, status: int) -> None:
        """Hear that a connection was refused before there was a whole request."""

    def start(self) -> Bridge:
        """Begin in the loop that runs, before the first request or with it."""
        self._bridge = Bridge(self._app, Pool(THREADS, self._patience))
        self._pulse = Pulse(asyncio.get_running_loop(), self._patience)
        return self._bridge

    def _answer(self, scope: Scope, body: bytes) -> Certain | Decided | None:
        if probe := self._probe(scope):
            return Certain.of(probe)
        if self._pulse and self._pulse.is_late:
            return self._busy()
        artifact = self._artifact(scope)
        return self._certain(artifact, scope, body) if artifact and 0 < len(body) <= LONGEST else None

    def _busy(self) -> Certain:
        return self._too_busy

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

    def _certain(self, artifact: Artifact, scope: Scope, body: bytes) -> Certain | Decided | None:
        caller = self._caller(scope)
        if caller is None:
            return None
        if refusal := self._turn.refusal():
            return refusal
        user, client = caller
        try:
            answered = predicted(self._predictor, artifact, body, self._settings, _never)
        except Exception:  # Flask meets it, too, and says what is wrong
            return None
        if not (self._rate_limit is None or self._rate_limit.admits(client)):
            return None
        route = PREDICT if scope["path"].startswith(PREDICT) else ROUTE
        return Decided(answered, body, Origin(route, user, request_id_of(scope)))

    def _caller(self, scope: Scope) -> tuple[str, str] | None:
        """The user, and what the rate limit calls the client, as far as they matter; None when they are not known."""
        user = None
        if self._settings.auth_required:
            user = self._credentials.remembered(header_of(scope, b"authorization"), PREDICT_SCOPE)
            if user is None:
                return None
        return user or "", client_of(user, self._address(scope)) if self._rate_limit else ""

    def _address(self, scope: Scope) -> str:
        """The client's address, as `ProxyFix` finds it."""
        proxies = self._settings.trusted_proxies
        forwarded = parse_list_header(header_of(scope, b"x-forwarded-for")) if proxies else []
        return forwarded[-proxies] if len(forwarded) >= max(1, proxies) else (scope["client"] or ("",))[0]


def _into(answered: "asyncio.Future[Certain]") -> Callable[[Certain], None]:
    """A reply to whoever awaits a future, unless the client has left."""
    return lambda answer: None if answered.done() else answered.set_result(answer)


def _never() -> bool:
    return False
