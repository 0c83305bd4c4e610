"""Production server settings: `gunicorn application`, from this folder."""

import ctypes
import gc
import logging
import os
import struct
import sys
import time
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from socket import SO_RCVTIMEO, SOL_SOCKET, socket
from typing import Any

# Imported here, before the workers are forked, though not used in this file: a worker then shares the libraries' memory
# and is ready in a fraction of a second, when it replaces another too. That is not preload_app: a Booster that was
# loaded before a fork hangs in OpenMP, so models are loaded after it. The settings bring the use cases along, too: new
# code needs a restart, a reload (SIGHUP) would mix it with the old.
import apiflask  # noqa: F401
import joblib
import numpy  # noqa: F401
import orjson  # noqa: F401
from gunicorn.glogging import Logger
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName, ParseException
from gunicorn.workers.gthread import ThreadWorker

from api.auth import check_at_start
from api.config import Settings

READ_TIMEOUT = 10  # seconds for which a client that has begun a request may send nothing
MOST_REFUSED = 64 * 1024 * 1024  # bytes of a body that was refused; what comes after them is not read
LAST_HANDSHAKES = 0.5  # seconds for connections that are being made while the service stops, also on a busy machine

# Drops those packets to a listening socket that ask for a connection (SYN), and none other: a program for the kernel's
# packet filter (struct sock_filter), which loads the byte of the TCP flags, tests it and says how much to keep.
SO_ATTACH_FILTER = 26  # socket has no name for it
NO_NEW_CONNECTIONS = b"".join(
    struct.pack("HBBI", *line)
    for line in ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 2**32 - 1))
)


class Worker(ThreadWorker):  # type: ignore[misc]
    """gthread, but for four things.

    Requests that are no HTTP are not repeated in the answer and in the log. A record whose Content-Length is too small
    is one: what is left of it is taken for the next request.

    A client that stops in the middle of a request is let go: gthread would wait for it for ever, and a few such clients
    would hold all threads. The limit is the kernel's (SO_RCVTIMEO), since gunicorn sets Python's own back.

    A worker that stops answers all that clients believe to be connected, which is more than gthread has accepted: the
    kernel makes connections by itself and queues them, and what is in the queue of a socket that is closed is lost.

    A body that was refused is read to its end. gthread reads 64 kB of it and closes, and the client, or the proxy in
    between, may then never see why: its system throws the answer away.
    """

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
        from api.errors import problem

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
        from api.errors import traced

        error = sys.exc_info()[1]
        self.error(f"{msg} (%s)", *args, traced(error) if error else "no error")


settings = Settings.at_start()
check_at_start(settings)  # here, in the master: it would start workers that cannot work again and again
cpus = joblib.cpu_count()  # those granted: affinity and cgroup limits count, not what the machine has

bind = f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"
workers = settings.web_concurrency or cpus  # a prediction is pure computation: more workers than CPUs only wait
worker_class = Worker  # gthread: keep-alive connections wait in the main thread and cost no worker thread
threads = 4  # so that a large file does not hold up the short requests of its worker
timeout = 60  # seconds without a sign of life after which a worker is replaced
graceful_timeout = 30  # seconds that a stopping worker has to answer what it has accepted
keepalive = 75  # longer than a load balancer's 60 s: the side that opens a connection should be the one to close it
max_requests = 200_000  # recycle workers, in case a library leaks
max_requests_jitter = 50_000  # and not all at the same time
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # heartbeats in memory: a slow disk kills nobody
preload_app = False  # see above
control_socket_disable = True  # no second way in, and no file outside the folders we know
accesslog = None  # a line for each request costs more than a prediction; the load balancer keeps one
errorlog = "-"
logger_class = Log
gunicorns_level = "INFO" if settings.log_level == "DEBUG" else settings.log_level  # its DEBUG lines quote requests
loglevel = gunicorns_level.lower()
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": settings.log_level, "handlers": ["stderr"]},
    "loggers": {"gunicorn.error": {"level": gunicorns_level, "handlers": [], "propagate": True}},
}

# LightGBM's threads for large lists: what the workers leave of the CPUs; more than there are would be many times slower
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cpus // workers)))


def when_ready(server: Any) -> None:
    """Let the server, when it stops, first tell the kernel to make no more connections: there is no hook for it."""
    stop = server.stop

    def stop_without_loss(graceful: bool = True) -> None:
        if not (server.reexec_pid or server.master_pid or server.systemd):  # the sockets are nobody else's
            for listener in server.LISTENERS:
                program = ctypes.create_string_buffer(NO_NEW_CONNECTIONS)
                filter_ = struct.pack("HP", len(NO_NEW_CONNECTIONS) // 8, ctypes.addressof(program))
                with suppress(OSError):  # where there is no such filter, a connection may be lost, in a millisecond
                    listener.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, filter_)
        stop(graceful)

    server.stop = stop_without_loss


def post_worker_init(worker: Any) -> None:
    """Load the models before the first request; what is missing is said by /ready."""
    worker.wsgi.extensions["models"].readiness()
    # What is loaded by now stays: the garbage collector need not look through it again, nor after every few requests.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)
