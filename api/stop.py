"""Stopping without loss: every client that believes it is connected is answered, and every answer is complete.

It overrides `set_accept_enabled` and the signal handlers of gunicorn's worker, `send_headers`, `_emit_body` and
`close` of its response, and `stop` of its master.
"""

import time
from socket import SOL_SOCKET
from typing import Any

from gunicorn import util
from gunicorn.http import wsgi

from tabserve.api.connection import SMALL
from tabserve.api.worker import Worker

LAST_HANDSHAKES = 0.5  # seconds for connections in the making when the service stops; enough on a busy machine, too

SO_BINDTOIFINDEX = 62  # in asm-generic/socket.h; Python 3.13 has no name for it
NO_INTERFACE = 2**31 - 1


class Response(wsgi.Response):  # type: ignore[misc]
    """gunicorn's response, whose head is sent together with the beginning of the body.

    gunicorn sends the head alone, and a proxy passes it on at once. If the worker is killed before the body follows,
    the client gets half an answer. Without the head, the proxy could still have asked another replica.
    """

    headers_sent: bool

    def send_headers(self) -> None:
        """Do nothing: the headers are sent with the body."""

    def _send_head(self, body: bytes = b"") -> None:
        if not self.headers_sent:
            lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
            util.write(self.sock, "".join(lines).encode("latin-1") + body[:SMALL])
            self.headers_sent = True
            if len(body) > SMALL:  # the rest, without copying it
                util.write(self.sock, memoryview(body)[SMALL:])

    def _emit_body(self, data: bytes) -> None:
        if self.headers_sent or self.chunked:
            self._send_head()
            super()._emit_body(data)
        else:
            self._send_head(data)

    def close(self) -> None:
        self._send_head()
        super().close()


wsgi.Response = Response  # the worker takes it from there


class StoppingWorker(Worker):
    """A worker that, when it stops, answers every client that believes it is connected.

    These are more than gthread has accepted: the kernel makes connections by itself and queues them. Closing the
    listening socket drops its queue.
    """

    def set_accept_enabled(self, enabled: bool) -> None:
        if not self.alive and self.sockets:
            self._stop_turn()
            super().set_accept_enabled(True)  # even when there are too many connections: no more will come
            end = time.monotonic() + LAST_HANDSHAKES
            while (left := end - time.monotonic()) > 0:
                self.wait_for_and_dispatch_events(left)
            super().set_accept_enabled(False)
            for listener in self.sockets:
                while self.accept(listener):
                    pass
                listener.close()  # now, not when all is answered: new clients should go elsewhere at once
            self.sockets = []
            self._begin_long()
        elif self.sockets:
            super().set_accept_enabled(enabled)

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._stop_turn()
        super().handle_exit(sig, frame)

    def handle_quit(self, sig: int, frame: Any) -> None:
        self._stop_turn()
        super().handle_quit(sig, frame)

    def handle_abort(self, sig: int, frame: Any) -> None:
        self._stop_turn()
        super().handle_abort(sig, frame)

    def _stop_turn(self) -> None:
        """Tell the application to begin no more large work; repeating it does no harm."""
        extensions = getattr(getattr(self, "wsgi", None), "extensions", {})
        if "turn" in extensions:
            extensions["turn"].stop()


def stop_without_loss(server: Any) -> None:
    """Make the server, when it stops, first tell the kernel to make no more connections.

    The listening sockets are bound to a network interface that does not exist. New clients are then refused at once;
    connections in the making are completed and wait for a worker to accept them. Since Linux 5.7 this needs no
    privilege. Where it fails, the log says so, and a connection may be lost at the moment when the sockets are closed.
    gunicorn has no hook for this, so its `stop` is replaced.

    Parameters
    ----------
    server : gunicorn.arbiter.Arbiter
        The master process, which is about to start its workers.
    """
    stop = server.stop

    def stop_(graceful: bool = True) -> None:
        if not (server.reexec_pid or server.master_pid or server.systemd):  # no other process uses the sockets
            for listener in server.LISTENERS:
                try:
                    listener.setsockopt(SOL_SOCKET, SO_BINDTOIFINDEX, NO_INTERFACE)
                except OSError as error:
                    server.log.warning("new connections cannot be refused (%s): one may be lost", error.strerror)
        stop(graceful)

    server.stop = stop_
