"""Threads that answer requests: a fixed number work at a time, and one that only waits gives its place to another."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

_current = threading.local()


class Pool:
    """The part of an executor that a gthread worker needs, with threads that may pause.

    Parameters
    ----------
    size : int
        How many threads work at a time.
    """

    def __init__(self, size: int) -> None:
        self._tasks: SimpleQueue[Callable[[], bool]] = SimpleQueue()
        for _ in range(size):
            self._add_thread()

    def submit(self, work: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Let a thread do the work."""
        future: Future[Any] = Future()

        def task() -> bool:
            try:
                future.set_result(work(*arguments))
            except BaseException as error:
                future.set_exception(error)
            return True

        self._tasks.put(task)
        return future

    def shutdown(self, wait: bool = True) -> None:
        """Do nothing: the threads end with the process."""

    def pause(self) -> Callable[[], None]:
        """Let another thread work instead of this one; the function returned waits until this one may work again."""
        self._add_thread()

        def resume() -> None:
            has_left = threading.Event()

            def leave() -> bool:
                has_left.set()
                return False

            self._tasks.put(leave)  # behind the tasks that came before; the thread that takes it ends
            has_left.wait()

        return resume

    def _add_thread(self) -> None:
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        _current.pool = self
        while self._tasks.get()():
            pass


@contextmanager
def paused() -> Iterator[None]:
    """Wait for something in the `with` block; if this is a pool's thread, another one works meanwhile."""
    pool: Pool | None = getattr(_current, "pool", None)
    resume = pool.pause() if pool else lambda: None
    try:
        yield
    finally:
        resume()
