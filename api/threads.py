"""Threads that answer requests beside an event loop: a fixed number work at a time, each kind of work in its lane."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from enum import IntEnum, auto
from functools import partial
from queue import SimpleQueue
from typing import Any, ClassVar, TypeVar

from tabserve.errors import TabserveError

Result = TypeVar("Result")

_thread = threading.local()


class Lane(IntEnum):
    """A kind of work; what comes first here goes first."""

    SHORT = auto()
    LIST = auto()
    LARGE = auto()


class BusyError(TabserveError):
    """Work waited too long for its turn; nothing was done."""

    headers: ClassVar = {"Retry-After": "1"}

    def __init__(self) -> None:
        super().__init__("The service is busy. Nothing was done; send it again in a second.")


@dataclass(eq=False)
class _Waiting:
    """Work that waits for a thread, or a paused thread that waits for its place."""

    lane: Lane
    start: Callable[[], object]
    timer: asyncio.TimerHandle | None = None


class Pool:
    """Threads for the work of one event loop, which alone decides what comes next.

    Short work may have all threads; lists and large work leave it one. Large work is done one piece at a time, because
    of the memory that it takes.

    Parameters
    ----------
    size : int
        How many threads work at a time.
    patience : float
        Seconds that work waits before it is refused.
    """

    def __init__(self, size: int, patience: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._size = size
        self._patience = patience
        self._tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._nr_threads = self._nr_taken = 0  # those that are taken work or are paused
        self._working = dict.fromkeys(Lane, 0)
        self._waiting: dict[Lane, deque[_Waiting]] = {lane: deque() for lane in Lane}

    async def run(self, lane: Lane, work: Callable[..., Result], *arguments: Any, waits: bool = True) -> Result:
        """Let a thread do the work, in the context of the caller, and return what it returns.

        Who is cancelled while the work is done waits for its end.

        Parameters
        ----------
        lane : Lane
        work : callable
        *arguments : object
            What it is called with.
        waits : bool
            Whether it is refused when it waits too long; what was begun already is not.

        Raises
        ------
        BusyError
            When it waited longer than `patience`; it will not be done.
        """
        done: asyncio.Future[Result] = self._loop.create_future()
        waiting = _Waiting(
            lane, partial(self._begin, partial(self._work, lane, done, partial(copy_context().run, work, *arguments)))
        )
        if self._has_place(lane):
            self._take_place(waiting)
        else:
            self._waiting[lane].append(waiting)
            if waits:
                waiting.timer = self._loop.call_later(self._patience, self._refuse, waiting, done)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:  # the client is gone
            if waiting in self._waiting[lane]:
                self._waiting[lane].remove(waiting)
                if waiting.timer:
                    waiting.timer.cancel()
            else:
                await _over(done)
            raise

    def _refuse(self, waiting: _Waiting, done: "asyncio.Future[Any]") -> None:
        self._waiting[waiting.lane].remove(waiting)
        if not done.done():
            done.set_exception(BusyError())

    def _has_place(self, lane: Lane) -> bool:
        working = sum(self._working.values())
        if lane is Lane.SHORT:
            return working < self._size
        longer = working - self._working[Lane.SHORT]
        is_alone = lane is Lane.LIST or not self._working[lane]
        return working < self._size and longer < max(1, self._size - 1) and is_alone

    def _take_place(self, waiting: _Waiting) -> None:
        if waiting.timer:
            waiting.timer.cancel()
        self._working[waiting.lane] += 1
        waiting.start()

    def _leave_place(self, lane: Lane) -> None:
        self._working[lane] -= 1
        for other, waiting in self._waiting.items():
            while waiting and self._has_place(other):
                self._take_place(waiting.popleft())

    def _begin(self, task: Callable[[], None]) -> None:
        self._nr_taken += 1
        if self._nr_taken > self._nr_threads:
            self._nr_threads += 1
            threading.Thread(target=self._serve, daemon=True).start()  # a stop in a hurry does not wait for it
        self._tasks.put(task)

    # what the threads do

    def _serve(self) -> None:
        while True:
            self._tasks.get()()

    def _work(self, lane: Lane, done: "asyncio.Future[Result]", work: Callable[[], Result]) -> None:
        _thread.pool, _thread.lane = self, lane
        try:
            settle = partial(done.set_result, work())
        except BaseException as error:
            settle = partial(done.set_exception, error)
        with suppress(RuntimeError):  # the loop is over
            self._loop.call_soon_threadsafe(self._finish, lane, done, settle)

    def _finish(self, lane: Lane, done: "asyncio.Future[Any]", settle: Callable[[], None]) -> None:
        self._nr_taken -= 1
        self._leave_place(lane)
        settle()

    @contextmanager
    def paused(self, lane: Lane) -> Iterator[None]:
        """Give the thread's place to others while the `with` block waits for something."""
        self._loop.call_soon_threadsafe(self._leave_place, lane)
        try:
            yield
        finally:
            has_place: Future[None] = Future()
            self._loop.call_soon_threadsafe(self._come_back, lane, has_place)
            has_place.result()

    def _come_back(self, lane: Lane, has_place: "Future[None]") -> None:
        self._waiting[lane].appendleft(_Waiting(lane, partial(has_place.set_result, None)))
        self._working[lane] += 1  # undone by the next line, which gives a place to the first that waits
        self._leave_place(lane)


async def _over(done: "asyncio.Future[Any]") -> None:
    """Wait until work is over, however often that is cancelled."""
    while not done.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([done])


@contextmanager
def paused() -> Iterator[None]:
    """Wait for something in the `with` block; if this is a pool's thread, another one works meanwhile."""
    pool: Pool | None = getattr(_thread, "pool", None)
    if pool is None:
        yield
        return
    with pool.paused(_thread.lane):
        yield
