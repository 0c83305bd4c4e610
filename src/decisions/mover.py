"""Mover: takes the entries that workers have spooled into the database, exactly once each."""

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tabserve.decisions.entry import TABLE, Entry
from tabserve.decisions.frames import find_frames
from tabserve.decisions.listed import as_parquet
from tabserve.decisions.plain import loaded
from tabserve.decisions.reasons import Reasons
from tabserve.decisions.spool import SUFFIX, TABLE_SUFFIX
from tabserve.decisions.store import DecisionStore
from tabserve.log import traced
from tabserve.registry.registry import Registry

PIECE = 2_000_000  # bytes that are read and moved at a time
DAMAGED = ".damaged"
LOCK = "mover.lock"
ORPHANED = 600.0  # seconds after which a table is nobody's that no entry came for

logger = logging.getLogger(__name__)


@dataclass
class _Source:
    """A file of entries that is being moved."""

    path: Path
    file: int
    at: int = 0  # what comes before is in the database


class Mover:
    """Moves entries from a folder into the database.

    After a kill at any moment the files are moved from their beginning again: what is in the database already changes
    nothing there. A file is deleted when all of it is in the database and its worker has left it.

    Parameters
    ----------
    folder : Path
        The workers' spool.
    store : DecisionStore
        Where entries go.
    registry : Registry
        Where the models are, to work out the reasons for decisions.
    """

    def __init__(self, folder: Path, store: DecisionStore, registry: Registry) -> None:
        self._folder = folder
        self._store = store
        self._reasons = Reasons(store, registry)
        self._sources: dict[Path, _Source] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)

    def is_alone(self) -> bool:
        """Whether no other process moves the entries of this folder; from then on none can."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def move(self) -> int:
        """Move what is there now.

        Returns
        -------
        int
            How many entries were moved.

        Raises
        ------
        DecisionLogAwayError
            When the database cannot be used. What is not moved stays.
        """
        moved = 0
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            if path not in self._sources:
                self._sources[path] = _Source(path, os.open(path, os.O_RDONLY))
            moved += self._move(self._sources[path])
        self._remove_orphans()
        return moved

    def work_out_reasons(self) -> int:
        """Work out some reasons of decisions in the database: see `Reasons.work_out`."""
        return self._reasons.work_out()

    @property
    def is_done(self) -> bool:
        """Whether nothing waits and no worker has a file."""
        return not self._sources

    @property
    def waiting(self) -> int:
        """Bytes that are not moved yet."""
        waiting = 0
        for path in self._folder.glob(f"*{SUFFIX}"):
            with suppress(FileNotFoundError):  # its worker has just deleted it
                waiting += path.stat().st_size - (self._sources[path].at if path in self._sources else 0)
        return waiting

    def close(self) -> None:
        """Close the files."""
        for source in self._sources.values():
            os.close(source.file)
        self._sources.clear()
        os.close(self._lock)

    def _move(self, source: _Source) -> int:
        is_finished = _is_finished(source.file)  # first: nothing is written after that
        moved = 0
        size = PIECE
        while True:
            content = os.pread(source.file, size, source.at)
            is_end = len(content) < size
            found = find_frames(content, is_whole=is_finished and is_end)
            if found.end:
                self._add(found.payloads)
                for damaged in found.damaged:
                    self._set_aside(source.path, damaged)
                source.at += found.end
                moved += len(found.payloads)
            if is_end:
                break
            size = PIECE if found.end else 2 * size  # an entry may be larger than a piece
        if is_finished:
            source.path.unlink()
            os.close(self._sources.pop(source.path).file)
        return moved

    def _add(self, payloads: Sequence[bytes]) -> None:
        entries = [*self._entries(payloads)]
        singles = [entry for entry, _ in entries if entry.kind != TABLE]
        self._store.add(singles)
        self._reasons.expect(singles)
        for entry, content in entries:
            if entry.kind == TABLE:
                self._add_table(entry, content)

    def _add_table(self, entry: Entry, content: bytes) -> None:
        path = self._folder / f"{entry.id}{TABLE_SUFFIX}"
        if not content and path.exists():  # it is gone when the entry was added before
            content = path.read_bytes()
        self._store.add([entry], {entry.id: content})
        path.unlink(missing_ok=True)

    def _entries(self, payloads: Sequence[bytes]) -> Iterator[tuple[Entry, bytes]]:
        """Entries, and of a list its table."""
        for payload in payloads:
            try:
                values = loaded(payload)
                listed = values.pop("table", None)
                entry, content = Entry(**values), as_parquet(listed) if listed else b""
            except Exception as error:  # nothing may hold up the log
                logger.error("an entry cannot be read: %s", traced(error))
                self._set_aside(self._folder / "entries", payload)
            else:
                yield entry, content

    def _set_aside(self, path: Path, content: bytes) -> None:
        """Keep what cannot be read, for a person to look at."""
        file = os.open(path.with_suffix(DAMAGED), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        os.write(file, content)
        os.close(file)
        logger.error("%d bytes of a spool file were damaged; they are set aside in the spool's folder", len(content))

    def _remove_orphans(self) -> None:
        """Remove tables whose workers were killed before they wrote the entry, and answered.

        An entry is written right after its table, so those of old tables have just been moved.
        """
        for path in self._folder.glob("*"):
            if path.suffix in (TABLE_SUFFIX, ".new"):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < time.time() - ORPHANED:
                        path.unlink()


def _is_finished(file: int) -> bool:
    """Whether no worker has a file."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
