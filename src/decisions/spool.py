"""Spool: where a worker keeps decisions until they are in the database.

Each worker appends to a file of its own. It holds the file's lock (`flock`) while it lives and uses the file, so that
whoever gets the lock knows that the file is finished, even after `kill -9`. What is written survives the process at
once, and the machine after a tenth of a second, or before the answer when each entry is forced to the disk.
"""

import fcntl
import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from tabserve.decisions.frames import framed
from tabserve.decisions.ids import new_id
from tabserve.errors import DecisionLogFullError

SUFFIX = ".spool"  # of a file of entries
TABLE_SUFFIX = ".parquet"  # of the table of an entry, which has its id
BEAT = 0.1  # seconds between two looks of a worker's thread: it forces files to the disk, and adds up the folder
LARGEST = 16 * 1024 * 1024  # bytes of a file
SHARE = 64  # a file takes at most this part of all that may wait
SMALLEST = 64 * 1024
OLDEST = 60.0  # seconds after which a file is finished: what was erased in the database must not stay here

logger = logging.getLogger(__name__)


class Spool:
    """The entries of one process on their way to the database. Make it after a fork: it has a thread.

    Parameters
    ----------
    folder : Path
        Where the files are, of all workers. It is made if need be.
    most : int
        Bytes that may wait in the folder.
    syncs_each : bool
        Whether each entry is forced to the disk before `append` returns.
    """

    def __init__(self, folder: Path, most: int, *, syncs_each: bool = False) -> None:
        self._folder = folder
        self._most = most
        self._syncs_each = syncs_each
        self._largest = max(SMALLEST, min(LARGEST, most // SHARE))
        self._lock = threading.Lock()
        self._file: int | None = None  # its descriptor
        self._size = 0
        self._begun = 0.0
        self._finished: list[int] = []  # descriptors of files that are not closed yet
        self._syncing = threading.Lock()
        self._is_new = False  # whether the file's name may not be on the disk yet
        self._nr_written = self._nr_synced = 0  # writes, and those that are on the disk
        self._waiting = 0  # bytes in the folder at the last look, and those of our own since
        self._is_closing = threading.Event()
        self._is_failing = False
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._look()
        self._thread = threading.Thread(target=self._beat, name="decisions", daemon=True)
        self._thread.start()

    @property
    def is_full(self) -> bool:
        """Whether as much waits as may."""
        return self._waiting >= self._most

    def append(self, *payloads: bytes) -> None:
        """Keep entries, with one write.

        Parameters
        ----------
        payloads : bytes
            UTF-8.

        Raises
        ------
        DecisionLogFullError
            When as much waits as may, or they cannot be written. Then nothing of them is kept.
        """
        frame = framed(*payloads)
        try:
            with self._lock:
                if self._waiting >= self._most:
                    raise DecisionLogFullError
                file = self._file
                if file is None or self._size >= self._largest:
                    file = self._open()
                self._write(file, frame)
                number = self._nr_written
            if self._syncs_each:
                self._sync_until(number)
        except OSError as error:
            self._say_failing(error)
            raise DecisionLogFullError from None
        self._is_failing = False

    def write_table(self, id_: str, content: bytes) -> None:
        """Keep the table of an entry that is appended next.

        Raises
        ------
        DecisionLogFullError
            As `append` does.
        """
        if self._waiting + len(content) > self._most:
            raise DecisionLogFullError
        path = self._folder / f"{id_}{TABLE_SUFFIX}"
        new = path.with_suffix(".new")
        try:
            with open(new, "wb", opener=_private) as file:  # a worker that was killed may have left a part of it
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            new.rename(path)
            _sync_folder(self._folder)
        except OSError as error:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            self._say_failing(error)
            raise DecisionLogFullError from None
        self._waiting += len(content)

    def drop_table(self, id_: str) -> None:
        """Remove the table of an entry that could not be appended."""
        (self._folder / f"{id_}{TABLE_SUFFIX}").unlink(missing_ok=True)

    def close(self) -> None:
        """Force everything to the disk, and finish the file."""
        self._is_closing.set()
        self._thread.join()
        with self._lock:
            self._finish()
        self._sync()

    # inside

    def _open(self) -> int:
        """Begin a file. It has its name only when it is locked, so that nobody takes it for finished."""
        self._finish()
        name = new_id()
        hidden = self._folder / f"{name}.new"
        file = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        hidden.rename(self._folder / f"{name}{SUFFIX}")
        if self._syncs_each:
            _sync_folder(self._folder)
        self._file, self._size, self._begun, self._is_new = file, 0, time.monotonic(), True
        return file

    def _finish(self) -> None:
        """Use the file no longer; the thread forces it to the disk and gives up its lock."""
        if self._file is not None:
            self._finished.append(self._file)
            self._file = None

    def _write(self, file: int, frame: bytes) -> None:
        try:
            is_whole = os.write(file, frame) == len(frame)
        except OSError:
            os.ftruncate(file, self._size)
            raise
        if not is_whole:  # the disk is full
            os.ftruncate(file, self._size)
            raise OSError(28, os.strerror(28))
        self._size += len(frame)
        self._waiting += len(frame)
        self._nr_written += 1

    def _beat(self) -> None:
        while not self._is_closing.wait(BEAT):
            try:
                with self._lock:
                    if self._size and time.monotonic() > self._begun + OLDEST:
                        self._finish()
                self._sync()
                self._look()
            except OSError as error:
                self._say_failing(error)

    def _sync(self) -> None:
        """Force to the disk what was written since the last time."""
        with self._syncing:
            self._sync_files()
            is_new, self._is_new = self._is_new, False
            try:
                if is_new:
                    _sync_folder(self._folder)
            except OSError:
                self._is_new = True
                raise

    def _sync_until(self, number: int) -> None:
        """Force a write to the disk; those that came while another one waited for the disk go there together."""
        with self._syncing:
            if self._nr_synced < number:
                self._sync_files()

    def _sync_files(self) -> None:
        with self._lock:
            number = self._nr_written
            files, self._finished = self._finished, []
            if self._file is not None and number > self._nr_synced:
                files = [*files, os.dup(self._file)]
        for file in files:
            try:
                os.fdatasync(file)
            finally:
                os.close(file)
        self._nr_synced = number

    def _look(self) -> None:
        """Add up what waits in the folder."""
        self._waiting = waiting_bytes(self._folder)

    def _say_failing(self, error: OSError) -> None:
        if not self._is_failing:
            logger.error("decisions cannot be kept: %s", error.strerror)
        self._is_failing = True


def waiting_bytes(folder: Path) -> int:
    """Bytes of a folder's files."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # moved by now
                total += entry.stat().st_size
    return total


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
