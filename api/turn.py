"""Turns: each worker does work that may take much memory one piece at a time."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from traceback import clear_frames
from typing import ClassVar

from flask import Response

from tabserve.api import current
from tabserve.api.threads import paused
from tabserve.errors import TabserveError

MOST_WAITING = 5  # requests, whose bodies are kept meanwhile
PATIENCE = 30.0  # seconds that each waits at most; proxies give up after 60
# A body of more bytes waits for its turn. A row of a CSV file may be 20 bytes and take a kilobyte as a record; a
# workbook may unpack to any size.
LARGE_JSON = 1_000_000
LARGE_CSV = 100_000
LARGE_XLSX = 0
LOOK_AGAIN = 0.1  # seconds after which a waiting request notices that the service is stopping


_NO_TURN = nullcontext()


class BusyError(TabserveError):
    """Too many large requests at a time, or the service is stopping; nothing was done."""

    headers: ClassVar = {"Retry-After": "5"}

    def __init__(self, why: str) -> None:
        super().__init__(f"{why} Nothing was done; send it again in a few seconds.")


class Turn:
    """One piece of large work at a time, a few that wait, and none begun once the service is stopping.

    Each piece may take 200 MB; a container has 512. Python computes in one thread at a time anyway.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = 0
        self._count = threading.Lock()
        self._is_stopping = False

    def stop(self) -> None:
        """Begin no more work. This only sets a flag, since a signal handler calls it."""
        self._is_stopping = True

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold the turn while the `with` block runs.

        Raises
        ------
        BusyError
            When too many are waiting already, the wait is too long, or the service is stopping.
        """
        self._wait()
        try:
            yield
        except BaseException as error:
            clear_frames(error.__traceback__)  # so that what the work held is freed before the next one begins
            raise
        finally:
            self._lock.release()

    def _wait(self) -> None:
        with self._count:
            if self._waiting >= MOST_WAITING:
                raise BusyError("Other large requests are being answered.")
            self._waiting += 1
        try:
            with paused():
                self._acquire(time.monotonic() + PATIENCE)
        finally:
            with self._count:
                self._waiting -= 1

    def _acquire(self, until: float) -> None:
        while not self._is_stopping:
            if self._lock.acquire(timeout=LOOK_AGAIN):
                return
            if time.monotonic() > until:
                raise BusyError("Other large requests are being answered.")
        raise BusyError("The service is stopping.")


def in_turn(size: int, large: int) -> AbstractContextManager[None]:
    """The context in which to answer a body: its turn, if the body is large.

    Enter it when the whole body has arrived, so that no slow client holds up others.

    Parameters
    ----------
    size : int
        Bytes of the body.
    large : int
        Bytes up to which it need not wait.
    """
    if size <= large:
        return _NO_TURN
    turn: Turn = current.extension("turn")
    return turn.taken()


def sent_in_turn(size: int, large: int, answer: Callable[[], Response]) -> Response:
    """Make an answer in its turn, which ends when its last piece is sent: until then its table is in memory.

    Parameters
    ----------
    size, large : int
        As in `in_turn`.
    answer : callable
        Makes the answer.
    """
    with ExitStack() as turn:
        turn.enter_context(in_turn(size, large))
        response = answer()
        if response.is_streamed:
            response.call_on_close(turn.pop_all().close)
        return response
