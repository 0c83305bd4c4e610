"""From ASGI to Flask: first the whole body, then a thread, then the answer. No thread ever waits for a client."""

import io
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes

from flask import Flask

from tabserve.api.request_id import KEY, marks_of
from tabserve.api.threads import BusyError, Lane, Pool
from tabserve.settings import Settings

Scope: TypeAlias = dict[str, Any]
Message: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

SHORT = 4 * 1024  # bytes of a body that is a record, or a few
SMALL = 64 * 1024  # bytes of a body for which there is always room
LARGE = 1_000_000  # bytes of a body whose records take as much memory as those of a file
PIECE = 1_000_000  # bytes of an answer that are made at a time, and sent before more are made
PLAIN = ("content-type", "content-length")  # headers whose names in WSGI do not begin with HTTP_


class GoneError(Exception):
    """The client is gone."""


class Bridge:
    """Answers requests by the Flask application, in the threads of a pool.

    Parameters
    ----------
    app : Flask
        The whole service.
    pool : Pool
    """

    def __init__(self, app: Flask, pool: Pool) -> None:
        settings: Settings = app.extensions["settings"]
        self._app = app
        self._pool = pool
        self._longest = settings.max_content_length
        self._room = settings.max_bodies_in_memory  # bytes that bodies may still take
        self._needs_user = settings.auth_required

    async def __call__(self, scope: Scope, receive: Receive, send: Send, begun: Message | None = None) -> None:
        """Answer a request.

        Parameters
        ----------
        scope, receive, send
            As in ASGI.
        begun : dict, optional
            What was received already.

        Raises
        ------
        BusyError
            When bodies take too much memory already, or the request waited too long. Nothing was sent.
        """
        try:
            body = await self._collect(receive, begun) if self._is_wanted(scope) else b""
        except GoneError:
            return
        size = len(body)
        answer = _Answer(self._app, environ_of(scope, body))
        del body  # else it would be kept until the whole answer is sent
        try:
            await self._send(answer, scope, size, send)
        finally:
            self._room += size

    def _is_wanted(self, scope: Scope) -> bool:
        """Whether the body matters: Flask refuses too long ones by their length, and those of nobody by the head."""
        is_refused = self._needs_user and not header_of(scope, b"authorization")
        return not is_refused and int(header_of(scope, b"content-length") or 0) <= self._longest

    async def _collect(self, receive: Receive, begun: Message | None) -> bytes:
        """Receive the body, or of one that is too long, enough to know that.

        It is in memory once: pieces that are joined would be there beside the whole.
        """
        body, is_whole = io.BytesIO(), False
        try:
            while not is_whole and body.tell() <= self._longest:
                message, begun = begun or await receive(), None
                if message["type"] == "http.disconnect":
                    raise GoneError
                self._take(message.get("body", b""), body)
                is_whole = not message.get("more_body", False)
        except BaseException:
            self._room += body.tell()
            raise
        return body.getvalue()

    def _take(self, piece: bytes, body: io.BytesIO) -> None:
        if len(piece) > self._room and body.tell() + len(piece) > SMALL:
            raise BusyError
        self._room -= body.write(piece)

    async def _send(self, answer: "_Answer", scope: Scope, size: int, send: Send) -> None:
        """Let a thread answer a request with a body of some size, and send it."""
        lane = lane_of(scope, size)
        is_patient = scope["method"] == "POST" and scope["path"].startswith("/jobs/")  # it is only stored
        try:
            piece = await self._pool.run(lane, answer.begin, waits=not is_patient)
            await send(answer.head)
            while not answer.is_over:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                piece = await self._pool.run(lane, answer.more, waits=False)
            await send({"type": "http.response.body", "body": piece})
        except BusyError:
            answer.give_up()  # it was not begun: closing it would wait for the turn that it did not get
            raise
        finally:
            if not answer.is_over:
                await self._pool.run(lane, answer.close, waits=False)


class _Body(io.BytesIO):
    """A body whose memory is free once it was read: a form's file is in a file of its own by then."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._left = len(content)

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self._left -= len(content)
        if not self._left:
            self.seek(0)
            self.truncate()
        return content


class _Answer:
    """An answer of the application; its methods run in threads, one after the other."""

    head: Message

    def __init__(self, app: Flask, environ: dict[str, Any]) -> None:
        self._app = app
        self._environ = environ
        self._pieces: Iterable[bytes] = ()
        self._rest: Iterator[bytes] = iter(())
        self.is_over = False

    def begin(self) -> bytes:
        """Answer; return the beginning of the body."""
        self._pieces = self._app(self._environ, self._start)
        self._environ = {}
        self._rest = iter(self._pieces)
        return self.more()

    def more(self) -> bytes:
        """The next part of the body; `is_over` says whether it is the last."""
        pieces, size = [], 0
        for piece in self._rest:
            pieces.append(piece)
            size += len(piece)
            if size >= PIECE:
                return b"".join(pieces)
        self.close()
        return b"".join(pieces)

    def give_up(self) -> None:
        """Free the body of a request that is not answered; the error that refuses it holds the answer for a while."""
        self.is_over = True
        self._environ = {}

    def close(self) -> None:
        """Free what the answer holds."""
        if not self.is_over:
            self.is_over = True
            getattr(self._pieces, "close", lambda: None)()

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], object]:
        self.head = {"type": "http.response.start", "status": int(status[:3]), "headers": encoded(headers)}
        return _write


def _write(piece: bytes) -> object:
    raise NotImplementedError  # of old WSGI; Flask returns its answers


def encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def header_of(scope: Scope, name: bytes) -> str:
    """A header of a request; one that is there several times is joined, as in WSGI."""
    return b",".join([value for key, value in scope["headers"] if key == name]).decode("latin-1")


def lane_of(scope: Scope, size: int) -> Lane:
    """The lane of a request with a body of so many bytes."""
    is_file = scope["path"].startswith("/outputs") and (size == 0 or scope["path"].startswith("/outputs_upload"))
    if (is_file and scope["method"] == "POST") or size > LARGE:
        return Lane.LARGE
    return Lane.SHORT if size <= SHORT else Lane.LIST


def environ_of(scope: Scope, body: bytes) -> dict[str, Any]:
    """A request as WSGI has it, as in PEP 3333."""
    host, port = scope.get("server") or ("", 80)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": (scope.get("client") or ("",))[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": _Body(body),
        "wsgi.input_terminated": True,  # it ends with the body, whoever said how long that is
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        KEY: marks_of(scope),
    }
    for name, value in scope["headers"]:
        key = _key(name.decode("latin-1"))
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ


def _key(name: str) -> str:
    key = name.upper().replace("-", "_")
    return key if name in PLAIN else f"HTTP_{key}"
