"""How gunicorn works here: its worker, its log, and how it stops. `gunicorn.conf.py` names them."""

import logging
import struct
import sys
import time
from contextlib import suppress
from http import HTTPStatus
from socket import SO_RCVTIMEO, SOL_SOCKET, socket
from typing import Any

from gunicorn import util
from gunicorn.glogging import Logger
from gunicorn.http import wsgi
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName, ParseException
from gunicorn.workers.gthread import ThreadWorker

from api.errors import problem
from api.threads import Pool
from src.log import traced

READ_TIMEOUT = 10  # seconds for which a client that has begun a request may send nothing
MOST_REFUSED = 64 * 1024 * 1024  # bytes of a body that was refused; what comes after them is not read
LAST_HANDSHAKES = 0.5  # seconds for connections that are being made while the service stops, also on a busy machine

SO_BINDTOIFINDEX = 62  # in asm-generic/socket.h; Python 3.13 has no name for it
NO_INTERFACE = 2**31 - 1


class Response(wsgi.Response):  # type: ignore[misc]
    """gunicorn's response, whose head goes out together with the beginning of the body.

    gunicorn sends it alone, and a proxy passes it on at once: when the worker is killed before the body follows, the
    client gets half an answer, where the proxy could still have asked another replica.
    """

    headers_sent: bool

    def send_headers(self) -> None:
        """Wait for what is to be sent with them."""

    def _send_head(self, body: bytes = b"") -> None:
        if not self.headers_sent:
            lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
            util.write(self.sock, "".join(lines).encode("latin-1") + body)
            self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        if self.headers_sent or self.chunked:
            self._send_head()
            super()._emit_body(data)
        else:
            self._send_head(data)

    def sendfile(self, respiter: Any) -> bool:
        self._send_head()
        return bool(super().sendfile(respiter))

    def close(self) -> None:
        self._send_head()
        super().close()


wsgi.Response = Response  # the worker takes it from there


class Worker(ThreadWorker):  # type: ignore[misc]
    """gthread, but for five things.

    Requests that are no HTTP are not repeated in the answer and in the log. A record whose Content-Length is too small
    is one: what is left of it is taken for the next request.

    A client that stops in the middle of a request is let go: gthread would wait for it for ever, and a few such clients
    would hold all threads. The limit is the kernel's (SO_RCVTIMEO), since gunicorn sets Python's own back.

    A worker that stops answers all that clients believe to be connected, which is more than gthread has accepted: the
    kernel makes connections by itself and queues them, and what is in the queue of a socket that is closed is lost.

    A body that was refused is read to its end. gthread reads 64 kB of it and closes, and the client, or the proxy in
    between, may then never see why: its system throws the answer away.

    A thread that waits for a password to be checked gives its place to another.
    """

    sockets: list[socket]

    def get_thread_pool(self) -> Pool:
        return Pool(self.cfg.threads)

    def set_accept_enabled(self, enabled: bool) -> None:
        if not self.alive and self.sockets:
            super().set_accept_enabled(True)  # even when there are too many connections: no more will come
            end = time.monotonic() + LAST_HANDSHAKES
            while (left := end - time.monotonic()) > 0:
                self.wait_for_and_dispatch_events(left)
            super().set_accept_enabled(False)
            for listener in self.sockets:
                before = None
                while before != self.nr_conns:
                    before = self.nr_conns
                    self.accept(listener)
                listener.close()  # now, not when all is answered: the next client shall go elsewhere at once
            self.sockets = []
        elif self.sockets:
            super().set_accept_enabled(enabled)

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        end = time.monotonic() + READ_TIMEOUT
        is_over = conn.parser.finish_body(deadline=end, max_bytes=MOST_REFUSED)
        return bool(is_over and keepalive)

    def _cap_keepalive(self, deadline: float) -> None:
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:  # gthread would wait for a client that never asked anything, too
            conn.timeout = min(conn.timeout, deadline)

    def handle(self, conn: Any) -> Any:
        if not conn.initialized:
            limit = struct.pack("ll", READ_TIMEOUT, 0)  # a timeval
            conn.sock.setsockopt(SOL_SOCKET, SO_RCVTIMEO, limit)
        return super().handle(conn)

    def handle_error(self, req: Any, client: socket, addr: Any, exc: Exception) -> None:
        ours = not isinstance(exc, ParseException) or isinstance(exc, InvalidResponseHeader | InvalidResponseHeaderName)
        status = HTTPStatus.INTERNAL_SERVER_ERROR if ours else HTTPStatus.BAD_REQUEST
        self.log.log(logging.ERROR if ours else logging.WARNING, "answered %s with %d", type(exc).__name__, status)
        answer = problem(status, "Something went wrong here." if ours else "The request is not well-formed HTTP.")
        answer.headers["Connection"] = "close"
        head = f"HTTP/1.1 {answer.status}\r\n{answer.headers}"
        with suppress(OSError):
            client.sendall(head.encode("latin-1") + answer.get_data())


class Log(Logger):  # type: ignore[misc]
    """gunicorn's log without tracebacks, which hold paths and may quote a request, and without hidden work."""

    def access(self, *args: Any) -> None:
        if self.cfg.accesslog:  # gunicorn makes each request's line, if only to drop it, once there is a logconfig_dict
            super().access(*args)

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        error = sys.exc_info()[1]
        self.error(f"{msg} (%s)", *args, traced(error) if error else "no error")


def stop_without_loss(server: Any) -> None:
    """Let the server, when it stops, first tell the kernel to make no more connections.

    A listening socket that is bound to a network interface that is not there gets no more of them: who asks for one is
    refused at once. Those that are being made are still made, and wait for a worker to accept them. It needs no
    privilege since Linux 5.7; where it cannot be done, the log says so, and a connection may be lost in the moment in
    which the sockets are closed. gunicorn has no hook for it.

    Parameters
    ----------
    server : gunicorn.arbiter.Arbiter
        The master process, which is about to start its workers.
    """
    stop = server.stop

    def stop_(graceful: bool = True) -> None:
        if not (server.reexec_pid or server.master_pid or server.systemd):  # the sockets are nobody else's
            for listener in server.LISTENERS:
                try:
                    listener.setsockopt(SOL_SOCKET, SO_BINDTOIFINDEX, NO_INTERFACE)
                except OSError as error:
                    server.log.warning("new connections cannot be refused (%s): one may be lost", error.strerror)
        stop(graceful)

    server.stop = stop_
