"""`tabserve mover`: moves decisions into their database, beside the service, which starts it."""

import logging
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import click

from tabserve import log
from tabserve.api.metrics import catalogue, folder
from tabserve.api.metrics.figures import Figures
from tabserve.api.metrics.monitored import show_drift
from tabserve.cli.worker import STOPS, let_others_go_first
from tabserve.decisions.mover import Mover
from tabserve.decisions.reasons import waiting_decisions
from tabserve.decisions.retention import expire
from tabserve.decisions.store import DecisionStore
from tabserve.errors import DecisionLogAwayError, NewerDecisionLogError
from tabserve.settings import Settings

BETWEEN_EXPIRIES = 60.0  # seconds
MOST_EXPIRED = 5000  # decisions at a time: what arrives must not wait for long
PAUSE = 0.2  # seconds between two looks for entries: a transaction for each write would take four times the CPU
MANY = 100  # entries in one look; where there are more, requests need the CPU, and reasons wait
FIRST_AWAY, LONGEST_AWAY = 0.5, 10.0  # seconds between two tries while the database is away

logger = logging.getLogger(__name__)


@click.command()
@click.option("--parent", type=int, hidden=True, help="End with this process.")
def mover(parent: int | None) -> None:
    """Move decisions from the spool's folder into the database of DECISION_LOG.

    While few come, it works out the reasons of those that are there. `tabserve serve` starts it itself when decisions
    are logged. At SIGTERM it first moves what the service's workers leave behind.
    """
    settings = Settings.at_start()
    log.configure(settings.log_level, settings.log_format)
    if settings.decision_log is None:
        raise click.UsageError("Decisions are not logged: set DECISION_LOG.")
    let_others_go_first()
    store = DecisionStore(settings.decision_log)
    moving = Mover(settings.decision_spool_folder, store, settings.open_registry())
    _Loop(moving, parent, partial(_expire, store, settings.decision_retention), partial(_show, store)).run()
    moving.close()
    store.database.close()


def _expire(store: DecisionStore, days: int | None) -> None:
    """Delete some of what is older than DECISION_RETENTION."""
    if days is not None:
        expire(store, days, MOST_EXPIRED)


def _show(store: DecisionStore, figures: Figures) -> None:
    """Count what the database knows."""
    show_drift(store, figures)
    figures.set(catalogue.WITHOUT_REASONS, float(waiting_decisions(store)))


class _Loop:
    def __init__(
        self,
        mover: Mover,
        parent: int | None,
        expire: Callable[[], None],
        show: Callable[[Figures], None],
    ) -> None:
        self._mover = mover
        self._expire = expire
        self._show = show
        self._expires_at = 0.0
        self._parent = parent
        self._is_stopping = False
        self._figures = Figures.of_companion(folder.MOVER)
        self._empty_at = time.time()  # when nothing waited

    def run(self) -> None:
        for sign in STOPS:
            signal.signal(sign, self._stop)
        pause = 0.0
        while not self._mover.is_alone():
            if self._should_stop():
                return
            time.sleep(PAUSE)
        logger.info("moving decisions into their database")
        while True:
            is_stopping = self._should_stop()  # before the last look
            try:
                moved = self._mover.move()
                worked_out = 0 if moved > MANY or is_stopping else self._mover.work_out_reasons()
                pause = 0 if worked_out or is_stopping else PAUSE
                self._count(moved, is_away=False)
                if time.monotonic() > self._expires_at:
                    self._expires_at = time.monotonic() + BETWEEN_EXPIRIES
                    self._expire()
                    if self._figures:
                        self._show(self._figures)
            except (DecisionLogAwayError, NewerDecisionLogError) as error:
                if is_stopping:
                    logger.warning("decisions stay in the spool's folder: the database cannot be used")
                    return
                if isinstance(error, NewerDecisionLogError):
                    logger.error("%s", error)
                self._count(0, is_away=True)
                pause = min(max(FIRST_AWAY, 2 * pause), LONGEST_AWAY)
            if is_stopping and self._mover.is_done:
                return
            self._wait(pause)

    def _count(self, moved: int, *, is_away: bool) -> None:
        if not self._figures:
            return
        waiting, now = self._mover.waiting, time.time()
        if not waiting:
            self._empty_at = now
        self._figures.count(catalogue.LOGGED, amount=moved)
        self._figures.set(catalogue.LOG_AWAY, float(is_away))
        self._figures.set(catalogue.QUEUE_BYTES, float(waiting))
        self._figures.set(catalogue.QUEUE_SECONDS, now - self._empty_at)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        was_stopping = self._should_stop()
        while time.monotonic() < end and self._should_stop() == was_stopping:
            time.sleep(PAUSE)

    def _should_stop(self) -> bool:
        return self._is_stopping or (self._parent is not None and os.getppid() != self._parent)

    def _stop(self, *_: Any) -> None:
        self._is_stopping = True
