"""Protection from slow and broken clients: deadlines for everything a client does, and a queue for long work.

It overrides `get_thread_pool`, `accept`, `wait_for_and_dispatch_events`, `finish_request`, `murder_keepalived`,
`_cap_keepalive`, `handle` and `handle_error` of gunicorn's threaded worker.
"""

import logging
import struct
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from selectors import EVENT_READ, EVENT_WRITE
from socket import SHUT_WR, SO_LINGER, SOL_SOCKET, socket
from typing import Any

from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName, NoMoreData, ParseException
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, ThreadWorker

from tabserve.api.connection import BODY_TIME, SLOWEST, SMALL, Arrived, Client, Connection, arrived
from tabserve.api.errors import problem
from tabserve.api.threads import Pool

READ_TIMEOUT = 10  # seconds for the whole head of a request, and for each pause in its body
ANSWER_TIME = 30  # seconds to take an answer, and one more for each SLOWEST bytes of it that are taken
LEAVE_TIME = 2  # seconds for the client to close its end; closed at once, a connection may lose the answer
LOOK_AFTER = 0.5  # seconds between looks for connections that have waited too long

MOST_REFUSED = 64 * 1024 * 1024  # bytes of a refused body that are read
MOST_UNSENT = 64 * 1024 * 1024  # bytes of answers that wait for their clients
MOST_LONG = 64  # requests with long work that wait for a thread
YOUNG = 2  # seconds before a connection that has sent nothing counts as idle


class Worker(ThreadWorker):  # type: ignore[misc]
    """gthread whose threads only compute, while the main thread waits for the clients.

    A request gets a thread when all of it has arrived, and the thread is free when the answer is made. The main thread
    sends what the client does not take at once. So clients that send nothing, or a byte now and then, or do not read,
    or do not close, hold no thread. Sending the head, sending the body, taking the answer and leaving each have a
    deadline. When there are too many connections, the one that has been idle longest is closed.

    Long work may have all threads but one: files, and bodies that are too large to collect (`SMALL`), which a thread
    reads itself within BODY_TIME. So short requests always find a thread.

    Malformed requests are never echoed in answers or logs, for they may hold a record: after a Content-Length that is
    too small, the rest of the record is read as the next request.

    A refused body is read to its end. gthread would read 64 kB and close; the client's system, or the proxy in between,
    may then throw the answer away, and the client never sees the reason.

    A thread that waits for a password to be checked gives its place to another.
    """

    sockets: list[socket]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.waiting: dict[Connection, None] = {}  # for their clients, the longest first
        self.long: deque[Connection] = deque()  # with long work, waiting for a thread
        self.nr_long = 0  # those with long work that have a thread
        self.next_look = 0.0

    def get_thread_pool(self) -> Pool:
        return Pool(self.cfg.threads)

    # what the main thread does

    def accept(self, listener: socket) -> bool:
        try:
            accepted, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError:  # out of file descriptors, or of memory
            self._make_room()
            return False
        if self.alive and self.nr_conns + 1 >= self.worker_connections:
            self._make_room()
        self.nr_conns += 1
        self._await_request(Connection(self.cfg, Client(accepted), address, listener.getsockname()))
        return True

    def _make_room(self) -> None:
        """Close a connection: an idle one, else the oldest that has sent part of a request, else a new one."""
        young = time.monotonic() - YOUNG

        def order(conn: Connection) -> tuple[bool, bool, float]:
            is_silent = conn.there is Arrived.NOTHING
            return is_silent and conn.begun > young, not is_silent, conn.timeout

        if self.waiting:
            self._drop(min(self.waiting, key=order))

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        super().wait_for_and_dispatch_events(min(timeout, LOOK_AFTER))

    def _wait(self, conn: Connection, event: int, then: Callable[[Connection], None], seconds: float) -> None:
        self.waiting[conn] = None
        conn.then, conn.timeout = then, time.monotonic() + seconds
        if conn.watched != event:
            self._unwatch(conn)
            self.poller.register(conn.sock, event, partial(self._on_event, conn))
            conn.watched = event

    def _on_event(self, conn: Connection, _: Client) -> None:
        if conn not in self.waiting:  # a thread has it, or it is closed
            self._unwatch(conn)  # only now, since most clients send nothing meanwhile
            return
        try:
            conn.then(conn)
        except BlockingIOError:  # a false alarm
            pass
        except OSError:
            self._drop(conn)

    def _unwatch(self, conn: Connection) -> None:
        if conn.watched:
            self.poller.unregister(conn.sock)
            conn.watched = 0

    def _drop(self, conn: Connection) -> None:
        self.waiting.pop(conn, None)
        self._unwatch(conn)
        self.nr_conns -= 1
        if conn.sock.unsent:  # otherwise the kernel would keep its part of the answer for a client that does not read
            conn.sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        conn.close()

    def _await_request(self, conn: Connection) -> None:
        conn.there, conn.begun, conn.was_told_to_go_on = Arrived.NOTHING, time.monotonic(), False
        seconds = self.cfg.keepalive if self.alive else STOP_KEEPALIVE_LINGER
        self._wait(conn, EVENT_READ, self._receive, seconds)
        if conn.received:  # it came together with the request before
            self._look(conn)

    def _receive(self, conn: Connection) -> None:
        self._look(conn, conn.receive())

    def _look(self, conn: Connection, is_open: bool = True) -> None:
        """Give a request to a thread if enough of it has arrived."""
        there = arrived(conn.received)
        if there is Arrived.NOTHING:
            self._drop(conn)
            return
        if there is Arrived.BODY and conn.there is not there:
            there = self._begin_body(conn)
        if there is Arrived.WHOLE:
            del self.waiting[conn]
            conn.there = there
            conn.sock.allow(0)
            self.enqueue_req(conn)
        elif there is Arrived.LONG or not is_open:
            del self.waiting[conn]
            conn.there = Arrived.LONG
            self.long.append(conn)
            self._begin_long()
        else:
            now = time.monotonic()
            if conn.there is not there:
                conn.there, conn.begun = there, now
            end = conn.begun + (READ_TIMEOUT if there is Arrived.HEAD else BODY_TIME)
            conn.timeout = min(end, now + READ_TIMEOUT)

    def _begin_body(self, conn: Connection) -> Arrived:
        """Tell the client to go on if it waits for that; a head that will be refused needs no body."""
        try:
            request = conn.parsed_head()
        except Exception:  # the thread will meet it, too, and answer
            return Arrived.WHOLE
        if request._expected_100_continue:
            conn.was_told_to_go_on = True
            with suppress(OSError):  # the client is gone, as the next event will say
                conn.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return Arrived.BODY

    def _begin_long(self) -> None:
        spared = 1 if self.alive else 0  # when the worker stops, all that wait should be answered soon
        while self.long and self.nr_long < max(1, self.cfg.threads - spared):
            conn = self.long.popleft()
            self.nr_long += 1
            conn.sock.allow(BODY_TIME)
            self.enqueue_req(conn)
        if len(self.long) > MOST_LONG:
            self._refuse(self.long.pop(), HTTPStatus.SERVICE_UNAVAILABLE, "Too many large requests are waiting.")

    def finish_request(self, conn: Connection, future: Future[bool]) -> None:
        if conn.there is Arrived.LONG:
            self.nr_long -= 1
            self._begin_long()
        conn.is_kept = not future.exception() and future.result()
        self._send(conn)

    def _send(self, conn: Connection) -> None:
        """Send what is left of an answer."""
        if conn.sock.unsent:
            self._wait(conn, EVENT_WRITE, self._send_more, ANSWER_TIME)
            self._bound_memory()
        else:
            self._answered(conn)

    def _send_more(self, conn: Connection) -> None:
        conn.timeout += conn.sock.send_now() / SLOWEST
        if not conn.sock.unsent:
            del self.waiting[conn]
            self._answered(conn)

    def _bound_memory(self) -> None:
        """Close connections while too much waits to be sent, those with the nearest deadlines first."""
        sending = sorted((conn for conn in self.waiting if conn.sock.unsent), key=lambda conn: conn.timeout)
        total = sum(conn.sock.unsent for conn in sending)
        for conn in sending[:-1]:
            if total > MOST_UNSENT:
                total -= conn.sock.unsent
                self._drop(conn)

    def _answered(self, conn: Connection) -> None:
        if conn.is_kept:
            self._await_request(conn)
            return
        try:
            conn.sock.shutdown(SHUT_WR)
        except OSError:  # the client is gone
            self._drop(conn)
        else:
            self._wait(conn, EVENT_READ, self._await_leave, LEAVE_TIME)

    def _await_leave(self, conn: Connection) -> None:
        if not conn.sock.recv_now(SMALL):
            self._drop(conn)

    def _refuse(self, conn: Connection, status: HTTPStatus, detail: str) -> None:
        self.waiting.pop(conn, None)
        conn.there, conn.is_kept = Arrived.WHOLE, False
        with suppress(OSError):
            conn.sock.sendall(_refusal(status, detail))
        self._send(conn)

    def murder_keepalived(self, force: bool = False) -> None:
        """Close the connections that have waited too long."""
        now = time.monotonic()
        if force or now > self.next_look:
            self.next_look = now + LOOK_AFTER
            for conn in [conn for conn in self.waiting if force or conn.timeout < now]:
                if conn.there is Arrived.BODY and not force:
                    self._refuse(conn, HTTPStatus.BAD_REQUEST, "The request did not arrive in time.")
                else:
                    self._drop(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        for conn in self.waiting:
            if conn.there is Arrived.NOTHING:
                conn.timeout = min(conn.timeout, deadline)

    # what the threads do

    def handle(self, conn: Connection) -> bool:
        """Answer a request; return whether another may follow."""
        request = None
        try:
            request = next(conn.parser)
            if conn.was_told_to_go_on:
                request._expected_100_continue = False
            is_kept = self.handle_request(request, conn)
            is_over = conn.parser.finish_body(max_bytes=MOST_REFUSED)
            return bool(is_over and is_kept)
        except (StopIteration, NoMoreData, ConnectionError, BlockingIOError):  # the client is gone, or too slow
            return False
        except OSError:
            self.log.exception("Socket error")
            return False
        except Exception as error:
            self.handle_error(request, conn.sock, conn.client, error)
            return False

    def handle_error(self, req: Any, client: socket, addr: Any, exc: Exception) -> None:
        ours = not isinstance(exc, ParseException) or isinstance(exc, InvalidResponseHeader | InvalidResponseHeaderName)
        status = HTTPStatus.INTERNAL_SERVER_ERROR if ours else HTTPStatus.BAD_REQUEST
        self.log.log(logging.ERROR if ours else logging.WARNING, "answered %s with %d", type(exc).__name__, status)
        detail = "Something went wrong here." if ours else "The request is not well-formed HTTP."
        with suppress(OSError):
            client.sendall(_refusal(status, detail))


def _refusal(status: HTTPStatus, detail: str) -> bytes:
    """An answer after which the connection is closed."""
    again = {"Retry-After": "5"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    answer = problem(status, detail, headers={"Connection": "close", **again})
    return f"HTTP/1.1 {answer.status}\r\n{answer.headers}".encode("latin-1") + answer.get_data()
