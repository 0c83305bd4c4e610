"""Production server settings: `gunicorn application`, from this folder."""

import os
from pathlib import Path
from typing import Any

# Imported here, before the workers are forked, and used nowhere in this file: libraries' code and not the service's.
# A worker then shares their memory and is ready in a fraction of a second, when it replaces another too. That is not
# preload_app: a Booster that was loaded before a fork hangs in OpenMP, so models are loaded after it.
import apiflask  # noqa: F401
import joblib
import numpy  # noqa: F401
import orjson  # noqa: F401

from api.config import Settings

settings = Settings.from_environment()
cpus = joblib.cpu_count()  # those granted: affinity and cgroup limits count, not what the machine has

bind = f"{os.environ.get('HOST', '0.0.0.0')}:{settings.port}"
workers = settings.web_concurrency or cpus  # a prediction is pure computation: more workers than CPUs only wait
worker_class = "gthread"  # keep-alive connections wait in the main thread and cost no worker thread
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
loglevel = settings.log_level.lower()
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": settings.log_level, "handlers": ["stderr"]},
    "loggers": {"gunicorn.error": {"level": settings.log_level, "handlers": [], "propagate": True}},
}

# LightGBM's threads for large lists: what the workers leave of the CPUs; more than there are would be many times slower
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cpus // workers)))


def post_worker_init(worker: Any) -> None:
    """Load the models before the first request; what is missing is said by /ready."""
    worker.wsgi.extensions["models"].readiness()
