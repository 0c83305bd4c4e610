"""Storage: the tables that are scored and those with the scores, in folders and in S3 buckets.

Both have the same few operations. What is written becomes visible at once and as a whole, or never.
"""

import errno
import fcntl
import itertools
import json
import os
import re
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast
from uuid import uuid4

from tabserve.errors import BusyDestinationError, ScoringError
from tabserve.tables.formats import ENDINGS

BUCKETS = "s3://"
WILD = re.compile(r"[*?\[]")
_PART = re.compile(r"\.(?P<name>.+)\.part-[0-9a-f]{12}", re.DOTALL)  # a file that is being written
_BLOCK = 8 * 1024 * 1024  # bytes of a bucket's file that are sent or fetched at a time
_LIMITS = {"connect_timeout": 5, "read_timeout": 30, "retries": {"total_max_attempts": 3}}  # seconds
_ATTEMPTS = 3
_BEAT = 60.0  # seconds after which a run says again that it holds a lock in a bucket
_STALE = 5 * _BEAT  # seconds of silence after which nobody holds it


class Draft(ABC):
    """A file that nobody sees before it is published; it is discarded at the end of the `with` block otherwise.

    Attributes
    ----------
    file : binary file
        To write to.
    """

    file: BinaryIO

    @abstractmethod
    def complete(self) -> None:
        """Write what is still kept in memory."""

    @abstractmethod
    def publish(self) -> None:
        """Make it visible under its name, instead of any file that was there."""

    @abstractmethod
    def discard(self) -> None:
        """Delete it, unless it was published."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


class Storage(ABC):
    """Files by path: that of a file system, or `s3://bucket/key`."""

    @abstractmethod
    def within(self, folder: str) -> list[str]:
        """The paths of all files in a folder and in those below, sorted; none for a folder that does not exist."""

    @abstractmethod
    def version(self, path: str) -> str | None:
        """A text that changes when a file does; None without such a file."""

    @abstractmethod
    def size(self, path: str) -> int | None:
        """The bytes of a file; None without such a file."""

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """Open a file to read it."""

    @abstractmethod
    def draft(self, path: str) -> Draft:
        """Begin to write a file; its folder is made where it is missing."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Delete a file, if there is one."""

    @abstractmethod
    def sweep(self, paths: Collection[str]) -> None:
        """Delete the drafts of these files that runs left behind."""

    @abstractmethod
    def hold(self, path: str) -> "Any":
        """A context in which no other run holds the same path.

        Raises
        ------
        BusyDestinationError
            With the process that holds it.
        """

    @abstractmethod
    def resolved(self, path: str) -> str:
        """The path in the one way in which it can be compared with others."""

    def read(self, path: str) -> bytes | None:
        """The content of a small file; None without such a file."""
        try:
            with self.open(path) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def write(self, path: str, content: bytes) -> None:
        """Write a small file."""
        with self.draft(path) as draft:
            draft.file.write(content)
            draft.complete()
            draft.publish()


def storage_of(path: str) -> Storage:
    """The storage that a path belongs to."""
    return _bucket() if path.startswith(BUCKETS) else Folders()


@cache
def _bucket() -> "Buckets":
    return Buckets()


def tables_within(folder: str) -> list[str]:
    """The paths of the tables in a folder and in those below, sorted; names that begin with a dot or _ are left out."""
    inside = folder.rstrip("/")
    return [
        path
        for path in storage_of(folder).within(inside)
        if path.casefold().endswith(ENDINGS)
        and not any(part.startswith((".", "_")) for part in path[len(inside) + 1 :].split("/"))
    ]


def matching(pattern: str) -> list[str]:
    """The paths of the tables that a pattern matches, sorted; `*` stands for no slash, `**` for whole folders."""
    expression = _expression(pattern)
    return [path for path in tables_within(root_of(pattern)) if expression.fullmatch(path)]


def root_of(pattern: str) -> str:
    """The folder before the first wildcard of a pattern."""
    return pattern[: WILD.search(pattern).start()].rpartition("/")[0] or "."  # type: ignore[union-attr]


def _expression(pattern: str) -> re.Pattern[str]:
    pattern = pattern if root_of(pattern) != "." or pattern.startswith("./") else f"./{pattern}"
    parts = []
    for part in pattern.split("/"):
        parts.append("**" if part == "**" else _segment(part))
    text = "/".join(parts).replace("**/", "(?:[^/]+/)*").replace("/**", "(?:/[^/]+)*")
    return re.compile(text, re.DOTALL)


@cache
def _segment(part: str) -> str:
    """A part of a pattern as a regular expression."""
    text = ""
    for piece in re.findall(r"\[!?\]?[^\]]*\]|.", part, re.DOTALL):
        if piece == "*":
            text += "[^/]*"
        elif piece == "?":
            text += "[^/]"
        elif len(piece) > 1:
            text += piece.replace("[!", "[^")
        else:
            text += re.escape(piece)
    return text


class Folders(Storage):
    """The file system."""

    def within(self, folder: str) -> list[str]:
        found = []
        for inner, folders, names in os.walk(folder):
            folders.sort()
            found += [f"{inner}/{name}" for name in names]
        return sorted(found)

    def version(self, path: str) -> str | None:
        try:
            now = os.stat(path)  # noqa: PTH116 - as everything here
        except (FileNotFoundError, NotADirectoryError):
            return None
        return f"{now.st_size}-{now.st_mtime_ns}" if os.path.isfile(path) else None  # noqa: PTH113

    def size(self, path: str) -> int | None:
        version = self.version(path)
        return None if version is None else int(version.partition("-")[0])

    def open(self, path: str) -> BinaryIO:
        return Path(path).open("rb")

    def draft(self, path: str) -> Draft:
        return _File(Path(path))

    def remove(self, path: str) -> None:
        Path(path).unlink(missing_ok=True)

    def sweep(self, paths: Collection[str]) -> None:
        names: dict[Path, set[str]] = {}
        for path in map(Path, paths):
            names.setdefault(path.parent, set()).add(path.name)
        for folder, ours in names.items():
            with suppress(FileNotFoundError):
                for found in list(folder.iterdir()):
                    match = _PART.fullmatch(found.name)
                    if match and match["name"] in ours:
                        found.unlink(missing_ok=True)

    @contextmanager
    def hold(self, path: str) -> Iterator[None]:
        """The lock ends with the process, however that ends."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise BusyDestinationError(file.read(200)) from None
            file.truncate(0)
            file.write(_who())
            file.flush()
            yield

    def resolved(self, path: str) -> str:
        return str(Path(path).resolve())


class _File(Draft):
    """A file of another name beside it, which is renamed when it is complete and on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = path.with_name(f".{path.name}.part-{uuid4().hex[:12]}")
        self.file = self._temporary.open("xb")

    def complete(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()

    def publish(self) -> None:
        self._temporary.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        with suppress(OSError):  # what cannot be written any more
            self.file.close()
        self._temporary.unlink(missing_ok=True)


class Buckets(Storage):
    """S3 buckets. The AWS SDK finds credentials, region and endpoint."""

    def __init__(self) -> None:
        try:
            from s3fs import S3FileSystem  # imported here: it takes a second and 50 MB
        except ModuleNotFoundError:
            raise ScoringError("s3fs is not installed: pip install 'tabserve[s3]'") from None
        self._files = S3FileSystem(config_kwargs=_LIMITS, use_listings_cache=False, skip_instance_cache=True)
        self._files.retries = _ATTEMPTS

    def within(self, folder: str) -> list[str]:
        try:
            with _reached(folder):
                return sorted(f"{BUCKETS}{path}" for path in self._files.find(folder))
        except FileNotFoundError:  # no such bucket
            return []

    def version(self, path: str) -> str | None:
        found = self._info(path)
        return found and f"{found['size']}-{found['ETag'].strip(chr(34))}"

    def size(self, path: str) -> int | None:
        found = self._info(path)
        return found and int(found["size"])

    def _info(self, path: str) -> Any:
        try:
            with _reached(path):
                found = self._files.info(path)
        except FileNotFoundError:
            return None
        return found if found["type"] == "file" and found.get("ETag") else None

    def open(self, path: str) -> BinaryIO:
        with _reached(path):
            return cast(BinaryIO, self._files.open(path, "rb", block_size=_BLOCK))

    def draft(self, path: str) -> Draft:
        return _Upload(self._files.open(path, "wb", block_size=_BLOCK, autocommit=False))

    def remove(self, path: str) -> None:
        with suppress(FileNotFoundError), _reached(path):
            self._files.rm_file(path)

    def sweep(self, paths: Collection[str]) -> None:
        for bucket in {path.removeprefix(BUCKETS).partition("/")[0] for path in paths}:
            ours = {path.removeprefix(f"{BUCKETS}{bucket}/") for path in paths}
            shared = "/".join(_shared([key.split("/") for key in ours]))
            # one page of a thousand: what is left is found by a later run
            listed = self._files.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=shared)
            for upload in listed.get("Uploads", ()):
                if upload["Key"] in ours:
                    self._files.call_s3(
                        "abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )

    @contextmanager
    def hold(self, path: str) -> Iterator[None]:
        """The lock is an object that its owner writes again every minute; after five without, it counts for nothing."""
        self._take(path)
        is_over = threading.Event()
        beat = threading.Thread(target=self._go_on_holding, args=(path, is_over), daemon=True)
        beat.start()
        try:
            yield
        finally:
            is_over.set()
            beat.join()
            with suppress(Exception):  # a bucket that is away: the lock grows old
                self._files.rm_file(path)

    def _take(self, path: str) -> None:
        try:
            self._files.pipe_file(path, _signed(), mode="create")
        except FileExistsError:
            holder = json.loads(self.read(path) or b"{}")
            if time.time() - holder.get("at", 0) < _STALE and not _is_dead(holder):
                raise BusyDestinationError(str(holder.get("who", "another process"))[:200]) from None
            self._files.pipe_file(path, _signed())

    def _go_on_holding(self, path: str, is_over: threading.Event) -> None:
        while not is_over.wait(_BEAT):
            with suppress(Exception):  # the run itself will notice
                self._files.pipe_file(path, _signed())

    def resolved(self, path: str) -> str:
        return path.rstrip("/")


class _Upload(Draft):
    """A multipart upload: the object appears when it is completed."""

    def __init__(self, file: Any) -> None:
        self.file = self._upload = file
        self._is_open = True

    def complete(self) -> None:
        self._upload.close()

    def publish(self) -> None:
        self._upload.commit()
        self._is_open = False

    def discard(self) -> None:
        if self._is_open:
            with suppress(Exception):  # a bucket that is away: the next run looks for it
                self._upload.discard()
            self._upload.closed = True  # it would send the rest when it is forgotten


@contextmanager
def _reached(path: str) -> Iterator[None]:
    """Turn whatever the SDK raises into a sentence; a file that is not there is not an error of the bucket."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except Exception as error:
        raise ScoringError(f"{path} cannot be reached ({in_words(error)}).") from error


def _shared(paths: Sequence[Sequence[str]]) -> list[str]:
    """The folders that all paths begin with."""
    return [parts[0] for parts in itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))]


def _who() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _signed() -> bytes:
    return json.dumps({"who": _who(), "host": socket.gethostname(), "pid": os.getpid(), "at": time.time()}).encode()


def _is_dead(holder: Any) -> bool:
    """Whether the holder of a lock was a process of this machine that is over."""
    if holder.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, KeyError):
        return False
    return False


def in_words(error: Exception) -> str:
    """Why a file cannot be read or written, in a few words without a path."""
    if isinstance(error, OSError) and error.errno in _REASONS:
        return _REASONS[error.errno]
    code = (getattr(error.__cause__, "response", None) or {}).get("Error", {}).get("Code")  # of S3, such as SlowDown
    return code or getattr(error, "strerror", None) or type(error).__name__


_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EFBIG: "the file would be larger than is allowed",
}
