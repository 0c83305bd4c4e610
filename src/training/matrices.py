"""Matrices: memory for encoded rows, and disk where there is not enough of it."""

import math
import os
from pathlib import Path
from tempfile import TemporaryFile, gettempdir

import numpy as np

from tabserve.aliases import Matrix
from tabserve.errors import NoRoomError

LARGEST_SHARE = 0.5  # of the available memory that a matrix may take: models are fitted in the rest
_MEMINFO = Path("/proc/meminfo")
_LIMITS = (  # of a container: cgroups of version 2, and of version 1
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.stat"), "anon"),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.stat"), "rss"),
)


def empty_matrix(shape: tuple[int, int]) -> Matrix:
    """A matrix to be filled, in memory; in a temporary file if it would take too much of the available memory.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.

    Returns
    -------
    ndarray of float64
        The file has no name: it is gone when nothing refers to the matrix any more, however the process ends.

    Raises
    ------
    NoRoomError
        When the disk has no room for it.
    """
    size = math.prod(shape) * np.dtype(np.float64).itemsize
    if size <= LARGEST_SHARE * available_memory():
        return np.empty(shape)
    with TemporaryFile() as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk would end the process later
        except OSError as error:
            raise NoRoomError(size, gettempdir(), error) from None
        return np.memmap(file, np.float64, "r+", shape=shape)


def available_memory() -> float:
    """Bytes that this process may still take; infinite where the system does not say."""
    return min(_of_machine(), *(_of_container(*files) for files in _LIMITS))


def _of_machine() -> float:
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        return 1024 * float(lines["MemAvailable"].split()[0])
    except (OSError, LookupError, ValueError):
        return math.inf


def _of_container(limit: Path, used: Path, key: str) -> float:
    """What is left of its limit; files that are cached do not count, as the kernel can forget them."""
    try:
        lines = dict(line.split() for line in used.read_text().splitlines())
        return float(limit.read_text()) - float(lines[key])
    except (OSError, LookupError, ValueError):  # no container, or no limit
        return math.inf
