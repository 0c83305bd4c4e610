"""How the service stops without loss: what clients believe to be connected is answered, and each answer is whole.

It overrides `set_accept_enabled` and the handlers of signals of gunicorn's worker, `send_headers`, `_emit_body` and
`close` of its response, and `stop` of its master.
"""

import time
from socket import SOL_SOCKET
from typing import Any

from gunicorn import util
from gunicorn.http import wsgi
from tabserve.api.connection import SMALL
from tabserve.api.worker import Worker

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
            util.write(self.sock, "".join(lines).encode("latin-1") + body[:SMALL])
            self.headers_sent = True
            if len(body) > SMALL:  # not a copy of all of it
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
    """The worker, which when it stops answers all that clients believe to be connected.

    That is more than gthread has accepted: the kernel makes connections by itself and queues them, and what is in the
    queue of a socket that is closed is lost.
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
                listener.close()  # now, not when all is answered: the next client shall go elsewhere at once
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
        """Tell the application that no more may wait for its turn; again and again does no harm."""
        extensions = getattr(getattr(self, "wsgi", None), "extensions", {})
        if "turn" in extensions:
            extensions["turn"].stop()


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
