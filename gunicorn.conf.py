"""Production server settings: `gunicorn application`, from this folder."""

import gc
import logging
import os
import struct
import sys
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


class Worker(ThreadWorker):  # type: ignore[misc]
    """gthread, but for two things.

    Requests that are no HTTP are not repeated in the answer and in the log. A record whose Content-Length is too small
    is one: what is left of it is taken for the next request.

    A client that stops in the middle of a request is let go: gthread would wait for it for ever, and a few such clients
    would hold all threads. The limit is the kernel's (SO_RCVTIMEO), since gunicorn sets Python's own back.
    """

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


def post_worker_init(worker: Any) -> None:
    """Load the models before the first request; what is missing is said by /ready."""
    worker.wsgi.extensions["models"].readiness()
    # What is loaded by now stays: the garbage collector need not look through it again, nor after every few requests.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)
