"""A client's connection: what it may make the service wait for, and how long.

Of the private methods of gunicorn's `ASGIProtocol` it overrides `_arm_keepalive_timer`, `_close_transport`,
`_feed_callback_parser`, `_is_websocket_upgrade`, `_on_body`, `_resume_reading`, `_send_error_response`,
`_send_response_start` and `_will_close`. It calls `_maybe_resume_reading`, `_pause_reading`, `_safe_write` and
`_send_body`, reads `_body_receiver`, `_callback_parser`, `_current_request`, `_flow_control` and `_reading_paused`, and
sets `_closed` and `_max_buffer_size`.
"""

import fcntl
import struct
import termios
from array import array
from contextlib import suppress
from enum import Enum, auto
from functools import cache
from http import HTTPStatus
from math import inf
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, NamedTuple

from gunicorn.asgi import protocol
from gunicorn.asgi.protocol import ASGIProtocol

from tabserve.api.certain import Certain
from tabserve.api.errors import problem
from tabserve.api.plain import PlainRequest, plain_request

READ_TIMEOUT = 10  # seconds for the whole head of a request, and for each pause in its body
BODY_TIME = 30  # seconds for a whole body, however it arrives
ANSWER_TIME = 30  # seconds to take an answer, and one more for each SLOWEST bytes of it that are taken
SLOWEST = 64 * 1024
LEAVE_TIME = 2  # seconds for the client to close its end; closed at once, a connection may lose the answer
LINGER = 2  # seconds that an idle connection stays open when the service stops, for a request that is on its way

LARGEST_HEAD = 64 * 1024  # bytes of a head that does not arrive in one piece
MOST_REFUSED = 64 * 1024 * 1024  # bytes of a refused body that are read
BUFFER = 16 * 1024  # bytes of an answer that wait for a client before the connection counts as one that does not read
MOST_AHEAD = 64 * 1024  # bytes of a request that wait for the application before no more is read
SLICE = 4 * 1024  # bytes that are parsed before others get their turn: if they are chunks of a byte, 2 ms

for status in HTTPStatus:  # gunicorn knows the words of some
    protocol._REASON_PHRASES.setdefault(status.value, status.phrase)


class Phase(Enum):
    """What a connection waits for."""

    IDLE = auto()  # the next request
    HEAD = auto()  # the rest of a request's head
    BODY = auto()  # the rest of its body
    WORK = auto()  # the application
    ANSWER = auto()  # the client, to take its answer
    LEAVING = auto()  # the client, to close its end


class Refusal(NamedTuple):
    """Why a connection is closed after an answer that the application does not give."""

    reason: str  # in the metrics
    status: HTTPStatus
    detail: str


CLIENTS = Refusal("clients", HTTPStatus.SERVICE_UNAVAILABLE, "Too many clients are connected.")
SLOW = Refusal("slow", HTTPStatus.BAD_REQUEST, "The request did not arrive in time.")
MALFORMED = Refusal("malformed", HTTPStatus.BAD_REQUEST, "The request is not well-formed HTTP.")
BROKEN = Refusal("broken", HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here.")


@cache
def _answer_to(refusal: Refusal) -> bytes:
    """An answer after which the connection is closed."""
    again = {"Retry-After": "1"} if refusal.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    answer = problem(refusal.status, refusal.detail, headers={"Connection": "close", **again})
    return f"HTTP/1.1 {answer.status}\r\n{answer.headers}".encode("latin-1") + answer.get_data()


class Connection(ASGIProtocol):  # type: ignore[misc]
    """gunicorn's connection, with a deadline for everything a client does.

    Nothing is done for this when a request comes: the worker looks at all connections now and then, and each remembers
    what it waited for at the last look.

    Malformed requests are never echoed in answers or logs, for they may hold a record: after a Content-Length that is
    too small, the rest of the record is read as the next request.

    After an answer that came before the whole body, the rest of the body is read and dropped. If the connection were
    closed, the client's system, or the proxy in between, might throw the answer away.

    Parameters
    ----------
    worker : tabserve.api.worker.Worker
        Whose connection this is.

    Attributes
    ----------
    begun : float
        When it was first seen waiting for what it waits for now.
    """

    _closed: bool
    begun: float
    moved: float

    def __init__(self, worker: Any) -> None:
        super().__init__(worker)
        self._max_buffer_size = MOST_AHEAD
        self.is_half_closed = False  # the client will send no more
        self.head = 0  # bytes of a head that has not arrived completely
        self.received = 0  # bytes; those after the end if the connection is closed
        self.begun = self.moved = worker.loop.time()
        self.seen = (Phase.IDLE, 1, worker.is_stopping)  # phase, number of the request, whether the service stops
        self.seen_received = self.unsent = self.taken = 0
        self._rest = b""  # what has arrived and is not parsed yet; no more is read meanwhile
        self._asked: PlainRequest | None = None  # what the application answers without a task
        self._pieces: list[bytes] = []  # of a body, from one slice

    # what asyncio tells

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=BUFFER)
        self.worker.welcome(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has arrived once all clients were looked at; answered here, a thousand could keep libuv to them."""
        self.received += len(data)
        if len(data) > MOST_AHEAD:  # libuv would read on from a client that sends fast
            self._pause_reading()
        self.worker.loop.call_soon(self._take, data)

    def _take(self, data: bytes) -> None:
        if self._closed:
            self._resume_reading()
            if self.received > MOST_REFUSED:
                self.drop()
            return
        if self._rest or self._asked:
            self._rest += data
            self._pause_reading()
        elif not self._is_answered_at_once(data):
            super().data_received(data)
        self._maybe_resume_reading()

    def _take_rest(self) -> None:
        if not self._closed:
            self._parse()
            self._maybe_resume_reading()
            if self.is_half_closed:
                self._take_end()

    def _is_answered_at_once(self, data: bytes) -> bool:
        """Answer a plain request, if the application knows the answer, without the tasks that gunicorn makes for it."""
        is_busy = self._current_request is not None or self.head or self._flow_control.write_paused
        if is_busy or self.worker.is_stopping or self.worker.nr + 1 >= self.worker.most_requests:
            return False
        request = self._asked = plain_request(data)
        if request is None or not self.app.at_once(self._scope_of(request), request.body, self._reply):
            self._asked = None
            return False
        self.worker.nr += 1
        self.req_count += 1
        return True

    def _reply(self, answer: Certain) -> None:
        request, self._asked = self._asked, None
        if self._closed:
            return
        self._send_response_start(answer.status, answer.headers, request)
        self._send_body(answer.body)
        if self._rest:
            self.worker.loop.call_soon(self._take_waiting)
        elif self.is_half_closed:
            self._take_end()

    def _take_waiting(self) -> None:
        """Take what came before the answer."""
        data, self._rest = self._rest, b""
        self._take(data)
        if self.is_half_closed:
            self._take_end()

    def _scope_of(self, request: PlainRequest) -> dict[str, Any]:
        client = self.transport.get_extra_info("peername")
        return {
            "method": request.method,
            "path": request.path,
            "query_string": b"",
            "headers": request.headers,
            "client": client and client[:2],
        }

    def eof_received(self) -> bool:
        """Answer what has arrived before the end, if there is anything."""
        self.worker.loop.call_soon(self._take_end)
        return True

    def _take_end(self) -> None:
        self.is_half_closed = True
        if self._rest:
            return
        if self.phase is Phase.BODY:
            self.refuse(MALFORMED)
        if self._closed or self.phase not in (Phase.WORK, Phase.ANSWER):
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._count_taken()
        self.worker.bound_unsent(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._count_taken()
        self.worker.unread.discard(self)

    # deadlines

    @property
    def phase(self) -> Phase:
        """What the connection waits for."""
        if self.transport.get_write_buffer_size():
            return Phase.ANSWER
        if self._closed:
            return Phase.LEAVING
        if self._asked:
            return Phase.WORK
        if self._current_request is None:
            return Phase.HEAD if self.head else Phase.IDLE
        return Phase.WORK if self._body_receiver._complete else Phase.BODY

    def look(self, now: float) -> None:
        """Let the client go if it has taken too long."""
        phase = self.phase
        self._compare(phase, now)
        if now < self.deadline(phase):
            return
        if phase is Phase.IDLE:
            if not self._has_unread():
                self._close_transport()
        elif phase is Phase.BODY:
            self.refuse(SLOW)
        else:
            self.drop()

    def _has_unread(self) -> bool:
        """Whether something has come that the loop, on a busy machine, has not read yet."""
        unread = array("i", [0])
        fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.FIONREAD, unread)
        return unread[0] > 0

    def _compare(self, phase: Phase, now: float) -> None:
        """Compare what is with the last look."""
        self._count_taken()
        if self.is_new(phase):
            self.seen = (phase, self.req_count, self.worker.is_stopping)
            self.begun = self.moved = now
            self.taken = 0
        elif self.received != self.seen_received or self._reading_paused:
            self.moved = now
        self.seen_received = self.received

    def _count_taken(self) -> None:
        """Count the bytes that the client took since the last count."""
        unsent = self.transport.get_write_buffer_size()
        self.taken += max(0, self.unsent - unsent)
        self.unsent = unsent

    def is_new(self, phase: Phase) -> bool:
        """Whether something else was waited for at the last look."""
        return self.seen != (phase, self.req_count, self.worker.is_stopping)

    def deadline(self, phase: Phase) -> float:
        """When the client must be done with what it is waited for."""
        if phase is Phase.IDLE:
            return 0 if self.is_half_closed else self.begun + (LINGER if self.worker.is_stopping else self._keepalive)
        if phase is Phase.HEAD:
            return self.begun + READ_TIMEOUT
        if phase is Phase.BODY:
            return min(self.begun + BODY_TIME, self.moved + READ_TIMEOUT)
        if phase is Phase.ANSWER:
            return self.begun + ANSWER_TIME + self.taken / SLOWEST
        if phase is Phase.LEAVING:
            receiver = self._body_receiver
            is_sending = receiver is not None and not receiver._complete
            return min(self.begun + BODY_TIME, self.moved + (READ_TIMEOUT if is_sending else LEAVE_TIME))
        return inf

    # ends

    def refuse(self, refusal: Refusal) -> None:
        """Answer instead of the application, and close."""
        if not self._closed:
            self.app.refused(refusal.reason, refusal.status)
            self._safe_write(_answer_to(refusal))
            self._close_transport()

    def drop(self) -> None:
        """Close the connection at once."""
        self.worker.forget(self)
        if self.transport.get_write_buffer_size():  # else the kernel would keep its part for one that does not read
            self.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _close_transport(self) -> None:
        """Send what is left and then the end; the client should be the one to close."""
        if self._closed:
            return
        self._closed, self.received, self._rest = True, 0, b""
        if self._body_receiver:
            self._body_receiver.signal_disconnect()
        self._resume_reading()
        with suppress(OSError, RuntimeError):  # it is gone already
            self.transport.write_eof()
            if self.is_half_closed:
                self.transport.close()

    # gunicorn's own

    def _feed_callback_parser(self, data: bytes) -> bool:
        self._rest = data + self._rest  # gunicorn gives back what came with a request before
        return self._parse()

    def _parse(self) -> bool:
        """Parse some of what has arrived, and the rest when others had their turn."""
        size = len(self._rest) if self._is_parsed_at_once() else SLICE
        part, self._rest = self._rest[:size], self._rest[size:]
        try:
            is_fine = super()._feed_callback_parser(part)
        except Exception:  # one that gunicorn did not expect, such as for a length of thousands of digits
            is_fine = False
        self.head = self.head + len(part) if self._current_request is None else 0
        if not is_fine or self.head > LARGEST_HEAD:
            self._send_error_response(HTTPStatus.BAD_REQUEST, "")
            return False
        self._pass_on()
        if self._rest:
            self._pause_reading()
            self.worker.loop.call_soon(self._take_rest)
        return True

    def _is_parsed_at_once(self) -> bool:
        """Whether what comes next is only moved: a body without chunks, or what comes with a request before."""
        parser = self._callback_parser
        return self._current_request is not None and (parser.is_complete or not parser.is_chunked)

    def _pass_on(self) -> None:
        """Pass on the pieces of a body as one: chunks of a byte would take a hundred times their size."""
        pieces, self._pieces = self._pieces, []
        if pieces and self._body_receiver:
            self._body_receiver.feed(b"".join(pieces))

    def _on_body(self, chunk: bytes) -> None:
        self._pieces.append(chunk)

    def _resume_reading(self) -> None:
        if not self._rest:
            super()._resume_reading()

    def _send_error_response(self, status: int, message: str, extra_headers: Any = ()) -> None:
        """Answer with a problem; gunicorn's message may quote the request."""
        if self._closed:
            return
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            self.refuse(BROKEN)
        else:
            self.log.warning("answered a malformed request with 400")
            self.refuse(MALFORMED)

    def _send_response_start(self, status: int, headers: Any, request: Any, close: bool = False) -> None:
        if request.version < (1, 1) and not close:  # such clients close unless they are told
            headers = [*headers, (b"Connection", b"keep-alive")]
        super()._send_response_start(status, headers, request, close)

    def _will_close(self, request: Any, response_requires_close: bool) -> bool:
        is_last = self.worker.is_stopping or not self._body_receiver._complete
        return is_last or super()._will_close(request, response_requires_close)

    def _is_websocket_upgrade(self, request: Any) -> bool:
        return False

    def _arm_keepalive_timer(self) -> None:
        """Do nothing: the worker looks for connections that are idle too long."""
