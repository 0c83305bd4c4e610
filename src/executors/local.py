"""Executors on this machine: threads and processes."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, TypeVar

import joblib

from tabserve import log
from tabserve.executors.pool import Pool, Shared

T = TypeVar("T")

MOST_KEPT = 2  # shared values that a process keeps open: the latest are those in use


class Threads(ThreadPoolExecutor, Pool):
    """Threads of this process, which share its memory."""

    @contextmanager
    def share(self, value: T) -> Iterator[Shared[T]]:
        yield Shared(value)

    __exit__ = Pool.__exit__


class Processes(ProcessPoolExecutor, Pool):
    """Processes of this machine.

    They are started afresh, not forked: OpenMP, and with it LightGBM, hangs in a fork of a process that has used it.

    Parameters
    ----------
    jobs : int
        How many.
    """

    def __init__(self, jobs: int) -> None:
        super().__init__(jobs, multiprocessing.get_context("spawn"), _begin)
        self._others = set(multiprocessing.active_children())
        self._folder = TemporaryDirectory(prefix="tabserve-")

    @contextmanager
    def share(self, value: T) -> Iterator[Shared[T]]:
        shared = _Filed(value, Path(self._folder.name))
        try:
            yield shared
        finally:
            shared.path.unlink()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:  # nobody waits for what they are doing
            for process in set(multiprocessing.active_children()) - self._others:
                process.terminate()
        self.shutdown(cancel_futures=True)
        self._folder.cleanup()


class _Filed(Shared[T]):
    """A value in a file, whose arrays all processes map into their memory: it is there once for all of them."""

    def __init__(self, value: T, folder: Path) -> None:
        super().__init__(value)
        self.path = folder / self.key
        joblib.dump(value, self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {"key": self.key, "path": self.path}

    def get(self) -> T:
        value: T = self._value if hasattr(self, "_value") else _opened(self.path)
        return value


@lru_cache(MOST_KEPT)
def _opened(path: Path) -> Any:
    return joblib.load(path, mmap_mode="r")


def _begin() -> None:
    """Make a process log as its parent does, leave Ctrl-C to it, and end when it does."""
    log.configure_command()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)
