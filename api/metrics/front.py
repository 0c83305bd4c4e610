"""The front with a clock: it counts each request, and how long its answer took."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

from flask import Flask

from tabserve.api.bridge import Bridge, Message, Receive, Scope, Send, header_of
from tabserve.api.certain import Certain, Reply
from tabserve.api.front import Front
from tabserve.api.metrics.catalogue import PATH
from tabserve.api.metrics.figures import NOT_KNOWN, Figures
from tabserve.api.metrics.folder import LOOP
from tabserve.api.metrics.predictor import CountingPredictor
from tabserve.api.metrics.route import shown
from tabserve.api.request_id import marks_of

PUBLISH = 1.0  # seconds between two looks at which models there are
COUNTED = "tabserve.counted"  # in a request's scope
_ARGUMENT = re.compile(r"<(?:(?P<kind>[^:<>(]+)(?:\((?P<choices>[^)]*)\))?:)?(?P<name>\w+)>")


def front_of(app: Flask) -> Front:
    """The service as an ASGI application, with metrics or without."""
    return MeasuredFront(app) if app.extensions["figures"] else Front(app)


class MeasuredFront(Front):
    """A front that counts.

    Parameters
    ----------
    app : Flask
        The whole service.
    """

    def __init__(self, app: Flask) -> None:
        super().__init__(app)
        self._figures = Figures.of_process(LOOP)
        counting: CountingPredictor = app.extensions["predictor"]
        self._predictor = counting.uncounted
        self._routes = Routes(app)
        self._shown = PATH if self._settings.metrics == "path" else None
        self._scraper = ThreadPoolExecutor(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = _Request(receive, send)
        if self._is_scrape(scope):
            await self._show(scope, request)
        else:
            await super().__call__(scope, request.receive, request.send)
        if request.status and COUNTED not in scope:
            route = self._routes.route_of(scope["path"])
            self._figures.answered(route, scope["method"], request.status, request.seconds)

    def at_once(self, scope: Scope, body: bytes, reply: Reply) -> bool:
        """Answer a request that is certain: see `Front.at_once`."""
        begun = perf_counter()
        if scope["path"] == self._shown:  # in `__call__`, however late the loop is
            return False

        def counted(answer: Certain) -> None:
            self._count(scope, answer, perf_counter() - begun)
            reply(answer)

        return Front.at_once(self, scope, body, counted)

    def _count(self, scope: Scope, answer: Certain, seconds: float) -> None:
        scope[COUNTED] = True
        path, answered = scope["path"], answer.answered
        if answered:
            self._figures.one_row(path, self._routes.route_of, answered.artifact, answered.prediction, seconds)
        else:
            self._figures.answered(self._routes.route_of(path), scope["method"], answer.status, seconds)

    def start(self) -> Bridge:
        """Begin in the loop that runs: see `Front.start`."""
        self._publish()
        return super().start()

    def refused(self, reason: str, status: int) -> None:
        """Hear that a connection was refused before there was a whole request."""
        self._figures.refused(reason, status)

    def _busy(self) -> Certain:
        self._figures.refused("busy")
        return super()._busy()

    def _publish(self) -> None:
        self._figures.watch(self._predictor.resolver)
        if self._log:
            self._figures.dropped(self._log.dropped)
        asyncio.get_running_loop().call_later(PUBLISH, self._publish)

    def _is_scrape(self, scope: Scope) -> bool:
        return bool(scope["path"] == self._shown and scope["method"] == "GET")

    async def _show(self, scope: Scope, request: "_Request") -> None:
        """Answer with the metrics, made in a thread that does nothing else."""
        accept = header_of(scope, b"accept")
        answer = Certain.of(await asyncio.get_running_loop().run_in_executor(self._scraper, shown, accept))
        await answer.to(marks_of(scope)).send(request.send)


class _Request:
    """Looks at a request as it comes and is answered.

    Attributes
    ----------
    status : int
        Of the answer; 0 before there is one.
    seconds : float
        From when the whole body was there to when the answer was begun.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._begun = perf_counter()
        self.status, self.seconds = 0, 0.0

    async def receive(self) -> Message:
        message = await self._receive()
        if not message.get("more_body"):
            self._begun = perf_counter()
        return message

    async def send(self, message: Message) -> None:
        if not self.status:
            self.status, self.seconds = message["status"], perf_counter() - self._begun
        await self._send(message)


class Routes:
    """Finds a path's route, such as `/output/<model_id>`, without asking Flask.

    Parameters
    ----------
    app : Flask
        Whose routes they are.
    """

    def __init__(self, app: Flask) -> None:
        rules = {rule.rule: None for rule in app.url_map.iter_rules()}
        self._names = [_ARGUMENT.sub(r"<\g<name>>", rule) for rule in rules]
        patterns = "|".join(f"({_pattern(rule)}/?)" for rule in rules)
        self._pattern = re.compile(patterns)

    def route_of(self, path: str) -> str:
        """The route; one name for all paths that have none."""
        found = self._pattern.fullmatch(path)
        return self._names[found.lastindex - 1] if found and found.lastindex else NOT_KNOWN


def _pattern(rule: str) -> str:
    """A regular expression for the paths of a route."""
    pattern, end = "", 0
    for argument in _ARGUMENT.finditer(rule):
        pattern += re.escape(rule[end : argument.start()]) + _argument(argument)
        end = argument.end()
    return pattern + re.escape(rule[end:])


def _argument(found: re.Match[str]) -> str:
    kind: Any = found["kind"]
    if kind == "any":
        choices = (choice.strip(" '\"") for choice in found["choices"].split(","))
        return f"(?:{'|'.join(map(re.escape, choices))})"
    return ".+" if kind == "path" else "[^/]+"
