"""The front, observed: whoever answers a request, the observers hear of it."""

from collections.abc import Sequence
from time import time_ns

from flask import Flask

from tabserve.api.bridge import Message, Receive, Scope, Send
from tabserve.api.certain import Certain, Reply
from tabserve.api.front import Front
from tabserve.api.metrics.figures import METHODS, NOT_KNOWN
from tabserve.api.metrics.front import Routes, front_of
from tabserve.api.observers.access_log import AccessLog
from tabserve.api.observers.observer import Answered, Observer
from tabserve.api.observers.tracing import Tracing
from tabserve.settings import Settings


def observed(app: Flask) -> "Front | ObservedFront":
    """The service as an ASGI application, with the observers that its settings ask for."""
    settings: Settings = app.extensions["settings"]
    front, observers = front_of(app), list[Observer]()
    if settings.access_log:
        observers.append(AccessLog())
    if settings.otel_exporter_otlp_endpoint:
        observers.append(Tracing(settings.otel_exporter_otlp_endpoint, app.extensions["predictor"]))
    return ObservedFront(front, app, observers) if observers else front


class ObservedFront:
    """A front that tells observers of its requests.

    Parameters
    ----------
    front : Front
    app : Flask
        The whole service.
    observers : sequence of Observer
    """

    def __init__(self, front: Front, app: Flask, observers: Sequence[Observer]) -> None:
        self._front = front
        self._routes = Routes(app)
        self._observers = observers
        self.start, self.refused = front.start, front.refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        self._begin(scope)
        request = _Request(receive, send)
        try:
            await self._front(scope, request.receive, request.send)
        finally:
            if request.status:
                self._tell(scope, request.status, request.size, request.begun)

    def at_once(self, scope: Scope, body: bytes, reply: Reply) -> bool:
        """Answer a request that is certain: see `Front.at_once`."""
        self._begin(scope)
        begun = time_ns()

        def told(answer: Certain) -> None:
            self._tell(scope, answer.status, len(answer.body), begun)
            reply(answer)

        return self._front.at_once(scope, body, told)

    def _begin(self, scope: Scope) -> None:
        for observer in self._observers:
            observer.begin(scope)

    def _tell(self, scope: Scope, status: int, size: int, begun: int) -> None:
        route = self._routes.route_of(scope["path"])
        method = scope["method"] if scope["method"] in METHODS else NOT_KNOWN
        answered = Answered(scope, route, method, status, size, begun, time_ns())
        for observer in self._observers:
            observer.answered(answered)


class _Request:
    """Looks at a request as it comes and is answered."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self.begun = time_ns()
        self.status = self.size = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if not message.get("more_body"):
            self.begun = time_ns()
        return message

    async def send(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        self.size += len(message.get("body", b""))
        await self._send(message)
