"""Companions: processes beside the service that come and go with it."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

logger = logging.getLogger(__name__)

PROGRAM = (sys.executable, "-P", "-m")  # what comes next is a module; -P: not one that lies in this folder
GRACE = 10.0  # seconds in which it gives its job back; then it is killed, and its job waits for the end of its lease
LONG = 30.0  # seconds after which a process has lived long enough to be restarted at once
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before one is restarted that did not live long


class Companion:
    """A process that is restarted when it ends.

    It is a separate program and no fork: whoever starts it may have threads, and may fork others. It ends by itself
    when its parent has died.

    Parameters
    ----------
    command : sequence of str, optional
        What to run; by default `tabserve worker`.
    what : str
        What the log calls it.
    is_last : bool
        Whether it is told to end when the last request is answered, and not before.
    """

    def __init__(
        self, command: Sequence[str] = (), what: str = "the worker that answers jobs", *, is_last: bool = False
    ) -> None:
        self._command = list(command) or [*PROGRAM, "tabserve", "worker", "--parent", str(os.getpid())]
        self._what = what
        self.is_last = is_last
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopping = False
        self._started_at = self._again_at = 0.0
        self._pause = FIRST_PAUSE

    def start(self) -> None:
        """Start the process."""
        self._started_at = time.monotonic()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - a command of our own
                self._command,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in the terminal is for the parent, which stops it
            )
        except OSError as error:  # too many processes, or no memory for another: `keep` tries again
            self._process = None
            logger.error("%s cannot be started: %s", self._what, error.strerror)

    def keep(self) -> None:
        """Start the process again if it has ended; call this every second or so."""
        # `poll` copes with a parent that has reaped the process already, as gunicorn does with all children
        if self._is_stopping or (self._process and self._process.poll() is None):
            return
        now = time.monotonic()
        if not self._again_at:
            has_lived = now - self._started_at > LONG
            self._pause = FIRST_PAUSE if has_lived else min(2 * self._pause, LONGEST_PAUSE)
            self._again_at = now + (0 if has_lived else self._pause)
            logger.warning("%s has ended; the next one comes in %.0f s", self._what, self._again_at - now)
        if now >= self._again_at:
            self._again_at = 0.0
            self.start()

    def end(self) -> None:
        """Tell the process to end, and do not start another."""
        self._is_stopping = True
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """End the process, and wait until it has."""
        self.end()
        if self._process:
            try:
                self._process.wait(GRACE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def mover() -> Companion:
    """What moves decisions into their database, up to those of the last requests."""
    command = [*PROGRAM, "tabserve", "mover", "--parent", str(os.getpid())]
    return Companion(command, "the process that moves decisions", is_last=True)


def accompany(server: Any, companions: Sequence[Companion]) -> None:
    """Let gunicorn start companions, keep them while it serves, and stop them when it stops.

    gunicorn has no hooks for this, so its `manage_workers`, which it calls every second, and its `stop` are replaced.

    Parameters
    ----------
    server : gunicorn.arbiter.Arbiter
        The master process, which is about to start its workers.
    companions : sequence of Companion
    """
    manage, stop = server.manage_workers, server.stop

    def manage_workers() -> None:
        manage()
        for companion in companions:
            companion.keep()

    def stop_(graceful: bool = True) -> None:
        for companion in companions:
            if not companion.is_last:
                companion.end()  # while the requests are answered
        stop(graceful)
        for companion in companions:
            companion.stop()

    server.manage_workers, server.stop = manage_workers, stop_
    for companion in companions:
        companion.start()
