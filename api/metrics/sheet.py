"""A sheet: the figures of one process, in a memory-mapped file that others read while it is written.

The file holds a head, a directory and the values, 8 bytes each. The directory has a line of JSON for each series: the
metric, the values of its labels, the first place of its values, and for a histogram the upper edges of its buckets,
whose counts are followed by that of larger values and by the sum. A line counts once the head says that the directory
is that long. So there is nothing to be published, and nothing is lost with a process that is killed.
"""

import errno
import fcntl
import json
import math
import mmap
import os
import struct
import threading
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from tabserve.api.metrics.catalogue import BY_NAME, GAUGE, UNCOUNTED, Metric

HEAD = struct.Struct("=qq")  # the process's id, the directory's length in bytes
DIRECTORY = 128 * 1024  # bytes
VALUES = 8192
SIZE = HEAD.size + DIRECTORY + 8 * VALUES
LONGEST_LABEL = 100  # characters


class Series(NamedTuple):
    """One line of the directory, and its values."""

    metric: Metric
    labels: tuple[str, ...]
    place: int
    edges: tuple[float, ...]
    values: Sequence[float] = ()

    @property
    def width(self) -> int:
        """How many values it has."""
        return len(self.edges) + 2 if self.edges else 1


class Sheet:
    """The figures of this process; any of its threads may write.

    A change is three steps for the interpreter, between which another thread may come: hence the lock. Whoever makes
    several changes takes it once, and then changes `values` in place.

    Parameters
    ----------
    memory : mmap
        Of `SIZE` bytes: zeros, or the sheet of a process that has ended, which is continued.

    Attributes
    ----------
    values : memoryview of float
    lock : threading.Lock
    was_used : bool
        Whether it is that of another process, which has ended.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self.lock = threading.Lock()
        self.values = memoryview(memory)[HEAD.size + DIRECTORY :].cast("d")
        before, self._end = HEAD.unpack_from(memory)
        self.was_used = before not in (0, os.getpid())
        known = list(_series(memory[:]))
        self._places = {(one.metric, one.labels): one.place for one in known}
        self._free = max((one.place + one.width for one in known), default=0)
        self._uncounted = self.place(UNCOUNTED)
        self.clear_gauges()  # they tell of the process that has ended
        HEAD.pack_into(memory, 0, os.getpid(), self._end)

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """Open a file, or make it; None when another process writes to it.

        Raises
        ------
        OSError
            When there is no room for it.
        """
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process ends
        except BlockingIOError:
            os.close(file)
            return None
        missing = SIZE - os.fstat(file).st_size  # it is written: a file with holes would end the process on a full disk
        if os.pwrite(file, bytes(missing), SIZE - missing) < missing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return cls(mmap.mmap(file, SIZE))

    def place(self, metric: Metric, labels: tuple[str, ...] = (), edges: tuple[float, ...] = ()) -> int:
        """The place of a series' first value, which is made if need be; -1 when there is no room for it."""
        with self.lock:
            found = self._places.get((metric, labels))
            if found is None:
                short = tuple(label[:LONGEST_LABEL] for label in labels)
                found = self._places[metric, labels] = self._places.get((metric, short)) or self._make(
                    metric, short, edges
                )
            return found

    def add(self, place: int, amount: float = 1) -> None:
        """Add to a value."""
        with self.lock:
            self.values[place if place >= 0 else self._uncounted] += amount

    def observe(self, place: int, edges: tuple[float, ...], value: float) -> None:
        """Count a value of a histogram."""
        with self.lock:
            if place < 0:
                self.values[self._uncounted] += 1
                return
            self.values[place + bisect_left(edges, value)] += 1
            self.values[place + len(edges) + 1] += value

    def set(self, place: int, value: float) -> None:
        """Set a value."""
        with self.lock:
            if place >= 0:
                self.values[place] = value

    def clear_gauges(self, metric: Metric | None = None, but: Collection[tuple[str, ...]] = ()) -> None:
        """Take the values from the gauges, or from those of one metric but some."""
        with self.lock:
            for (known, labels), place in self._places.items():
                if place >= 0 and known.kind == GAUGE and metric in (None, known) and labels not in but:
                    self.values[place] = math.nan

    def _make(self, metric: Metric, labels: tuple[str, ...], edges: tuple[float, ...]) -> int:
        series = Series(metric, labels, self._free, edges)
        line = json.dumps([metric.name, labels, series.place, edges]).encode() + b"\n"
        if self._end + len(line) > DIRECTORY or series.place + series.width > VALUES:
            return -1
        if metric.kind == GAUGE:
            self.values[series.place] = math.nan
        start = HEAD.size + self._end
        self._memory[start : start + len(line)] = line
        self._end += len(line)
        self._free += series.width
        HEAD.pack_into(self._memory, 0, os.getpid(), self._end)
        return series.place


def read(content: bytes) -> tuple[int, list[Series]]:
    """What a sheet holds: the process's id, and the series with their values."""
    if len(content) < SIZE:  # it is being made
        return 0, []
    process, _ = HEAD.unpack_from(content)
    values = memoryview(content)[HEAD.size + DIRECTORY : SIZE].cast("d")
    return process, [
        one._replace(values=values[one.place : one.place + one.width].tolist()) for one in _series(content)
    ]


def _series(content: bytes) -> Iterator[Series]:
    _, end = HEAD.unpack_from(content)
    for line in content[HEAD.size : HEAD.size + end].splitlines():
        name, labels, place, edges = json.loads(line)
        yield Series(BY_NAME[name], tuple(labels), place, tuple(edges))
