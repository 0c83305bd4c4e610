"""The settings that `tabserve serve` runs gunicorn with, each with its reason."""

import gc
import os
import resource
import sys
from pathlib import Path
from typing import Any

# Libraries are imported here, before the workers are forked, though this file does not use them: the workers then share
# their memory, and a new worker is ready in a fraction of a second. This is not preload_app: a Booster that was loaded
# before a fork hangs in OpenMP, so models are loaded after it. What they are made of is imported here, too: new code
# needs a restart; a reload (SIGHUP) would mix it with the old.
import apiflask  # noqa: F401
import joblib
import numpy  # noqa: F401
import orjson  # noqa: F401
import uvloop  # noqa: F401

import tabserve.models.lightgbm
import tabserve.models.linear
import tabserve.tasks.binary
import tabserve.tasks.multiclass
import tabserve.tasks.regression  # noqa: F401
from tabserve import log
from tabserve.api.auth import check_at_start
from tabserve.api.companion import PROGRAM, Companion, accompany, mover
from tabserve.api.metrics import folder
from tabserve.api.observers import tracing
from tabserve.api.start import check_gunicorn
from tabserve.resolver import Refresher
from tabserve.settings import Settings

check_gunicorn()  # before any of its methods is overridden

from tabserve.api.server_log import Log  # noqa: E402
from tabserve.api.worker import Worker, stop_without_loss  # noqa: E402

METRICS = "the process that shows metrics"
FIRST_LOOK = 10  # seconds that a worker waits for its models, then /health answers even if the registry hangs

settings = Settings.at_start()
# for the workers, too; gunicorn applies the same configuration again later
log.configure(settings.log_level, settings.log_format)
tracing.check_at_start(settings)
check_at_start(settings)  # in the master, which would otherwise start failing workers again and again
cpus = joblib.cpu_count()  # those granted by affinity and cgroup limits, not those of the machine

bind = f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"
workers = settings.web_concurrency or cpus  # a prediction is pure computation: more workers than CPUs only wait
worker_class = Worker  # gunicorn's ASGI worker, with an application before Flask
asgi_loop = "uvloop"
asgi_lifespan = "off"  # the application needs none
asgi_disconnect_grace_period = 0  # seconds: when a client is gone, nothing is left to tell it
http_parser = "python"  # the one that was tested, should the other be installed
timeout = 60  # seconds without a sign of life after which a worker is replaced
graceful_timeout = settings.graceful_timeout  # whoever stops the service must give it longer than that
keepalive = 75  # longer than a load balancer's 60 s: the side that opens a connection should be the one to close it
max_requests = 1_000_000  # recycle workers, in case a library leaks
max_requests_jitter = 250_000  # and not all at the same time
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # heartbeats in memory: a slow disk delays none
preload_app = False  # see above
sendfile = False  # it would wait for the client, and the files are small
control_socket_disable = True  # no second way in, and no file in a folder of gunicorn's choice
accesslog = None  # see `observers.access_log`, which quotes no request
errorlog = "-"
logger_class = Log
logconfig_dict = log.configuration(settings.log_level, settings.log_format)
loglevel = logconfig_dict["loggers"]["gunicorn.error"]["level"].lower()

# each connection takes a file descriptor, and shells allow only a few; some are needed for other things
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
most = settings.max_connections
worker_connections = most if hard == resource.RLIM_INFINITY else max(1, min(most, hard - 150))

# A thread that computes gives way after 0.2 ms instead of 5. The event loop waits for that at each of its system calls:
# beside such a thread, one-row answers take 1 ms instead of 2 to 5 (median; p99 13 instead of 18 to 26).
sys.setswitchinterval(0.0002)

# LightGBM's threads for large lists: each worker's share of the CPUs; more threads than CPUs are many times slower
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cpus // workers)))


def when_ready(server: Any) -> None:
    """Prepare the master, which is about to start its workers."""
    stop_without_loss(server)
    if settings.metrics != "off":
        folder.make()
    jobs = [Companion()] if settings.job_workers else []
    port = settings.metrics_port
    metrics = (
        [Companion([*PROGRAM, "tabserve.api.metrics.serving", settings.host, str(port), str(os.getpid())], METRICS)]
        if port
        else []
    )
    accompany(server, [*jobs, *metrics, *([mover()] if settings.decision_log else [])])


def post_worker_init(worker: Any) -> None:
    """Load the models before the first request; /ready names those that are missing."""
    refresher = Refresher(worker.wsgi.extensions["predictor"].resolver)
    refresher.start()
    refresher.wait_for_first_look(FIRST_LOOK)
    # What is loaded by now stays, so the garbage collector need not look through it, nor run after every few requests.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)
