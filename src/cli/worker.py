"""`tabserve worker`: answers jobs."""

import ctypes
import gc
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from tabserve import log
from tabserve.api.metrics import catalogue, folder
from tabserve.api.metrics.figures import Figures
from tabserve.api.metrics.predictor import CountingPredictor
from tabserve.api.problems import problem_of
from tabserve.decisions.log import DecisionLog
from tabserve.errors import JobsAwayError, StoreAwayError
from tabserve.jobs.runner import LEASE, Limits, Runner
from tabserve.jobs.store import Store
from tabserve.predictor import Predictor
from tabserve.settings import Settings

NICE = 10  # requests come first
SLOWER = 10  # times as long as within a request, a file may be read
CLEAN = 10.0  # seconds between two looks for what has expired
SHORTEST, LONGEST, AWAY = 0.05, 0.5, 5.0  # seconds between two looks for a job; the last while something is away

MOST_KEPT = 120_000_000  # bytes of memory with which the program goes on after a job; at its start it takes half of it
STOPS = (signal.SIGTERM, signal.SIGINT)

logger = logging.getLogger(__name__)


@click.command()
@click.option("--lease", type=click.FloatRange(min=0.5), default=LEASE, hidden=True)
@click.option("--parent", type=int, hidden=True, help="End with this process.")
def worker(lease: float, parent: int | None) -> None:
    """Answer large tables, one at a time: the jobs of POST /jobs.

    `tabserve serve` starts a worker itself, unless JOB_WORKERS is 0. Others may run beside it, and on other machines if
    they share DATABASE_URL and MODEL_REGISTRY. At Ctrl-C or SIGTERM the job is given back to the others.
    """
    settings = Settings.at_start()
    log.configure(settings.log_level, settings.log_format)
    let_others_go_first()
    Loop(settings, lease, parent).run()


class Loop:
    """Takes one job after the other until it is told to stop.

    Parameters
    ----------
    settings : Settings
        The service's.
    lease : float
        Seconds for which a job is taken.
    parent : int, optional
        Stop when this is no longer the parent process.
    """

    def __init__(self, settings: Settings, lease: float, parent: int | None) -> None:
        self._is_stopping = False
        self._parent = parent
        self._is_away = False
        self._figures = Figures.of_companion(folder.JOBS)
        self._store = Store(settings.database_url, settings.job_hours)
        predictor = Predictor(
            settings.open_registry(),
            settings.default_use_case,
            settings.compiled_trees,
            approved_only=settings.approved_only,
        )
        self._runner = Runner(
            self._store,
            CountingPredictor(predictor, self._figures) if self._figures else predictor,
            Limits(settings.max_rows, SLOWER * settings.max_file_seconds),
            problem_of,
            self.is_stopping,
            lease,
            DecisionLog(settings) if settings.decision_log else None,
        )

    def run(self) -> None:
        """Work until SIGTERM or SIGINT comes."""
        for sign in STOPS:
            signal.signal(sign, self._stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        logger.info("waiting for jobs")
        pause, clean_at = SHORTEST, 0.0
        while not self.is_stopping():
            try:
                if time.monotonic() >= clean_at:
                    self._runner.clean()
                    self._count_jobs()
                    clean_at = time.monotonic() + CLEAN
                has_worked = self._runner.run_next()
                self._is_away = False
            except (JobsAwayError, StoreAwayError) as error:
                has_worked = None
                self._say_once(error)
            if has_worked is None:  # the error is gone by now, and with it the connection to the database that it held
                self._wait(AWAY)
                continue
            if has_worked:
                self._give_memory_back()
            pause = SHORTEST if has_worked else min(2 * pause, LONGEST)
            time.sleep(0 if has_worked else pause)
        logger.info("stopped")

    def is_stopping(self) -> bool:
        """Whether the process should end."""
        return self._is_stopping or (self._parent is not None and os.getppid() != self._parent)

    def _count_jobs(self) -> None:
        if self._figures:
            states = self._store.states()
            self._figures.replace(catalogue.JOBS, {(state,): float(number) for state, number in states.items()})

    def _give_memory_back(self) -> None:
        """Give the memory of a large table back to the system; what is kept even so, only a new program gives back."""
        gc.collect()
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)
        if memory() > MOST_KEPT:
            signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # one that comes now waits for the new program
            if not self.is_stopping():
                os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this program again

    def _stop(self, *_: Any) -> None:
        self._is_stopping = True

    def _say_once(self, error: Exception) -> None:
        """Say that something is away; the store of jobs has said it itself."""
        if not self._is_away and isinstance(error, StoreAwayError):
            logger.warning("%s", error)
        self._is_away = True

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.is_stopping():
            time.sleep(LONGEST)


def let_others_go_first() -> None:
    """Take the CPU last, and be the first whom the kernel ends when memory runs out."""
    usual = os.getpriority(os.PRIO_PROCESS, os.getppid())
    os.nice(max(0, usual + NICE - os.nice(0)))  # once, though the program may begin again
    with suppress(OSError):  # not on Linux
        Path("/proc/self/oom_score_adj").write_text("500")


def memory() -> int:
    """Bytes of memory that this process takes."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not on Linux
        return 0
