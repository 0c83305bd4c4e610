"""The folder of sheets: one for each service, in shared memory, for as long as the service runs.

A process takes the first sheet of its name that no other process has: a new one, or that of a process that has ended.
So figures outlive those who counted, and there are never more files than there were processes at a time.
"""

import atexit
import fcntl
import itertools
import logging
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tabserve.api.metrics.sheet import SIZE, Sheet

VARIABLE = "TABSERVE_METRICS_FOLDER"  # by which a service tells its processes; nobody else sets it
PREFIX = "tabserve-metrics-"
OWNER = "owner"  # a file that is locked while the service runs
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
# names of sheets: of a worker's threads, of its event loop, which waits for no lock, of the process that answers jobs,
# and of the one that moves decisions to their database
WORKER, LOOP, JOBS, MOVER = "worker", "loop", "jobs", "mover"

logger = logging.getLogger(__name__)


def make() -> Path:
    """Make the folder, and tell the processes that this one starts. It is deleted when this one ends."""
    parent = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    owner = os.open(folder / OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(owner, fcntl.LOCK_EX)
    os.environ[VARIABLE] = str(folder)
    atexit.register(_delete, folder, os.getpid())
    return folder


def found() -> Path | None:
    """The folder of the service that this process belongs to."""
    folder = os.environ.get(VARIABLE)
    return Path(folder) if folder and Path(folder).is_dir() else None


def open_sheet(name: str) -> Sheet:
    """Open a sheet for this process in the service's folder."""
    folder = found() or make()
    try:
        sheets = (Sheet.open(folder / f"{name}-{number}") for number in itertools.count(1))
        return next(sheet for sheet in sheets if sheet)
    except OSError as error:
        logger.error("this process is not in the metrics: %s", error.strerror)
        return Sheet(mmap.mmap(-1, SIZE))


def sheets(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The name and content of each sheet."""
    for path in sorted(folder.glob("*-*")):
        with suppress(OSError):
            yield path.name, path.read_bytes()


def _delete(folder: Path, process: int) -> None:
    if os.getpid() == process:  # and not one that was forked
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Delete the folders of services that were killed."""
    for path in parent.glob(f"{PREFIX}*/{OWNER}"):
        with suppress(OSError), path.open() as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path.parent, ignore_errors=True)
