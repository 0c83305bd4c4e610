"""Stores: the files of a registry, in a folder or an S3 bucket, with the same few operations.

A path in a store names a file (`credit.champion`) or a file in a folder (`<model_id>/manifest.json`).
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import stat
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from tabserve.errors import StoreAwayError
from tabserve.registry.model_id import MODEL_ID

logger = logging.getLogger(__name__)

DEFAULT_FOLDER = Path("models")
DEFAULT_CACHE = Path("model-cache")
HISTORY_SUFFIX = ".history"  # of the file with the changes of who answers for a use case
CHAMPION_SUFFIX = ".champion"  # of the file that named a use case's champion before there were histories
MANIFEST = "manifest.json"  # a model exists exactly when this file does
DELETED = "deleted"  # names the last deleted model: with this file, a store may be empty on purpose

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html, and keys that never need quoting
BUCKET = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/[a-zA-Z0-9._-]+)*)/?", re.ASCII)
KEPT = re.compile(r"[0-9a-f]{64}", re.ASCII)  # a SHA-256: the names under which a cache keeps files
TEMPORARY = re.compile(r"\..+\.[0-9]+\.[0-9]+", re.ASCII | re.DOTALL)  # a file that is being written
ABANDONED_AFTER = 3600  # seconds after which an unfinished file must be a killed process's
SAFE_SEGMENT = re.compile(r"[a-zA-Z0-9._-]*[a-zA-Z0-9_-]", re.ASCII)  # not . and .., which have a meaning on disks

# Bytes beyond which a file is not read: training writes none so large, and reading it could kill a worker.
MOST_BYTES = {MANIFEST: 5_000_000, CHAMPION_SUFFIX: 1000, HISTORY_SUFFIX: 5_000_000}
MOST_BYTES_OF_OTHERS = 1 << 30

RELIST_AFTER = 30.0  # seconds until a bucket is listed, or tried, again; each listing costs money
PATIENCE = 0.25  # seconds that a reader waits for a new listing before using the old one
FIRST_PATIENCE = 15.0  # the same for a process's first listing and s3fs's import, before using an earlier process's
DIGEST_LENGTH = 64  # of a SHA-256 in hexadecimal digits
# seconds; the SDK retries failed connections and server errors, s3fs also interrupted downloads
TIMEOUTS = {"connect_timeout": 2, "read_timeout": 5, "retries": {"total_max_attempts": 2}}
ATTEMPTS = 2
# Seconds for a whole listing and a whole file, with all attempts, however slow the transfer. Together they are less
# than the minute after which gunicorn replaces a worker that is loading its first models.
LISTING_SECONDS = 20.0
READ_SECONDS = 30.0
WRITE_SECONDS = 300.0  # only the person who publishes waits
CHANGED_MEANWHILE = ("PreconditionFailed", "ConditionalRequestConflict")  # S3's words
SLOW = 5.0  # seconds after which a failed read counts as a failure of the bucket, not of the file

Location: TypeAlias = Path | str  # a folder, or s3://bucket/prefix


LOCATION_FORM = "a path to a folder, or s3://bucket/prefix"


def parse_location(text: str) -> Location:
    """Return the location that a text names; a folder need not exist yet.

    Raises
    ------
    ValueError
        When the text does not have `LOCATION_FORM`.
    """
    if "://" in text or text.startswith("s3:"):
        match = BUCKET.fullmatch(text)
        if match is None or not all(map(SAFE_SEGMENT.fullmatch, match["prefix"].split("/")[1:])):
            raise ValueError(LOCATION_FORM)
        return text.rstrip("/")
    return parse_folder(text)


def parse_folder(text: str) -> Path:
    """Return the folder that a text names; it need not exist yet.

    Raises
    ------
    ValueError
        For an empty text, or the path to a file.
    """
    with suppress(OSError):  # no file can have this name
        if text and (Path(text).is_dir() or not Path(text).exists()):
            return Path(text)
    raise ValueError("a path to a folder")


def open_store(location: Location, cache: Path) -> "Store":
    """Return the store at a location, without reading or connecting yet.

    Parameters
    ----------
    location : Path or str
        From `parse_location`.
    cache : Path
        Folder for copies of what was read from a bucket.
    """
    if isinstance(location, Path):
        return WatchedFolder(location)
    # the prefix `s3+` avoids a folder in MODEL_CACHE that is not ours, such as `models`
    return CachedStore(BucketStore(location), cache / f"s3+{location.removeprefix('s3://').replace('/', '+')}")


class Entry(NamedTuple):
    """What a bucket's listing says of a file.

    Parameters
    ----------
    version : str
        Its ETag.
    written : float
        Unix time in seconds.
    content : str, optional
        Of a history or a champion's file, which are read with the listing.
    """

    version: str
    written: float
    content: str | None = None


class Store(ABC):
    """Files by path.

    Attributes
    ----------
    away : str or None
        Why the store cannot be reached now, so that older copies are used; None when it can.
    """

    away: str | None = None

    @abstractmethod
    def refresh(self) -> None:
        """Make later calls see the store as it is now.

        Raises
        ------
        StoreAwayError
            When it cannot be reached.
        """

    @abstractmethod
    def paths(self) -> Mapping[str, Any]:
        """All files by path, at most one folder deep; the values are internal to the store."""

    def exists(self, path: str) -> bool:
        """Whether a file exists."""
        return path in self.paths()

    @abstractmethod
    def read(self, path: str, digest: str | None = None) -> bytes:
        """Read a file; if its SHA-256 is given, a store may answer from a copy.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        OSError
            When it cannot be read, is too large or is not a regular file.
        StoreAwayError
            When the store cannot be reached.
        """

    @abstractmethod
    def create(self, path: str, content: bytes) -> None:
        """Write a file that must not exist yet.

        Raises
        ------
        FileExistsError
            When it exists.
        StoreAwayError
            When the store cannot be reached.
        """

    @abstractmethod
    def replace(self, path: str, content: bytes) -> None:
        """Write a file atomically: readers see the new content or the old one."""

    @abstractmethod
    def swap(self, path: str, content: bytes, version: Any) -> None:
        """Replace a file, atomically, if nobody has written it meanwhile.

        Parameters
        ----------
        path : str
        content : bytes
        version : object
            What `version` said before the old content was read; None where there was none.

        Raises
        ------
        FileExistsError
            When it was written meanwhile. A bucket may also say so of a write whose answer was lost on the way.
        StoreAwayError
            When the store cannot be reached.
        """

    @abstractmethod
    def delete(self, path: str) -> None:
        """Delete an existing file, and its folder when that is empty afterwards."""

    @abstractmethod
    def age(self, path: str) -> float:
        """Return the seconds since a file was written."""

    @abstractmethod
    def version(self, path: str) -> Any:
        """A value that changes when a file is written again, found without reading it; None without such a file.

        Raises
        ------
        StoreAwayError
            When the store cannot be reached.
        """

    def sweep(self, seconds: float, is_unfinished: Callable[[str], bool] = lambda path: False) -> None:
        """Delete old leftovers of killed processes: temporary files, and files that `is_unfinished` names.

        Parameters
        ----------
        seconds : float
            How old a file must be.
        is_unfinished : function
            From a path to whether its file, too, is deleted when it is old.
        """
        for path in self.paths():
            if TEMPORARY.fullmatch(path.rpartition("/")[2]) or is_unfinished(path):
                with suppress(OSError, StoreAwayError):  # another process may be sweeping, too
                    if self.age(path) > seconds:
                        self.delete(path)

    def _went_away(self, error: StoreAwayError) -> None:
        if self.away != error.reason:
            logger.warning("the registry cannot be reached (%s): what was read from it earlier is used", error.reason)
        self.away = error.reason

    def _came_back(self) -> None:
        if self.away:
            logger.info("the registry can be reached again")
        self.away = None


class FolderStore(Store):
    """A local folder.

    Parameters
    ----------
    folder : Path
        Created when the first file is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def refresh(self) -> None:
        pass  # it is always seen so

    def paths(self) -> dict[str, None]:
        paths: dict[str, None] = {}
        with suppress(FileNotFoundError):
            for entry in os.scandir(self.folder):
                if _is_folder(entry):
                    paths.update({f"{entry.name}/{file}": None for file in _names_in(entry.path)})
                else:
                    paths[entry.name] = None
        return paths

    def exists(self, path: str) -> bool:
        return (self.folder / path).is_file()

    def read(self, path: str, digest: str | None = None) -> bytes:
        with open(self.folder / path, "rb", opener=_open_at_once) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is not a file")
            _check_size(path, found.st_size)
            return file.read()

    def create(self, path: str, content: bytes) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with _removed_on_failure(target):
            _write(target, content, "xb")

    def replace(self, path: str, content: bytes) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
        with _removed_on_failure(temporary):
            _write(temporary, content, "wb")
            temporary.replace(target)

    def swap(self, path: str, content: bytes, version: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)  # not the file itself: it is replaced
            if self.version(path) != version:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            self.replace(path, content)
        finally:
            os.close(folder)

    def delete(self, path: str) -> None:
        (self.folder / path).unlink()
        if "/" in path:
            with suppress(OSError):
                (self.folder / path).parent.rmdir()

    def age(self, path: str) -> float:
        return time.time() - (self.folder / path).stat().st_mtime

    def version(self, path: str) -> tuple[int, ...] | None:
        try:
            now = (self.folder / path).stat()
        except OSError:
            return None
        return now.st_mtime_ns, now.st_ctime_ns, now.st_size, now.st_ino


class WatchedFolder(FolderStore):
    """A local folder that may go away, as a mount can; meanwhile, what was seen in it counts as still there.

    It is away when it cannot be listed, or when all its models are gone though none was deleted.

    Parameters
    ----------
    folder : Path
        Created when the first file is written.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._known: dict[str, None] | None = None

    def paths(self) -> dict[str, None]:
        try:
            paths = super().paths()
            _check_not_lost(self._known or {}, paths)
        except (OSError, StoreAwayError) as error:
            reason = StoreAwayError(error.strerror or type(error).__name__) if isinstance(error, OSError) else error
            self._went_away(reason)
            if self._known is None:
                raise reason from None
            return self._known
        self._came_back()
        self._known = paths
        return paths

    def exists(self, path: str) -> bool:
        if self._known is None:  # list it before it can go away, when that is no longer possible
            self.paths()
        return os.path.isfile(self.folder / path) or path in self.paths()  # noqa: PTH113 - Path's own may raise

    def read(self, path: str, digest: str | None = None) -> bytes:
        try:
            return super().read(path, digest)
        except OSError:
            self.paths()
            if self.away:
                raise StoreAwayError(self.away) from None
            raise


class BucketStore(Store):
    """Objects in an S3 bucket, below a prefix.

    The AWS SDK finds credentials, region and endpoint: in environment variables, profiles or the machine's role.

    Parameters
    ----------
    url : str
        `s3://bucket/prefix`.
    """

    def __init__(self, url: str) -> None:
        self._root = url.removeprefix("s3://")
        self._sizes: dict[str, int] = {}  # from the last listing

    @cached_property
    def _files(self) -> Any:
        try:
            from s3fs import S3FileSystem  # imported here: it takes a second and 50 MB
        except ModuleNotFoundError:
            raise StoreAwayError("s3fs is not installed: pip install 'tabserve[s3]'") from None
        # An instance of our own, without cached listings, because others write to the bucket, too. One request a file.
        files = S3FileSystem(
            config_kwargs=TIMEOUTS, max_concurrency=1, use_listings_cache=False, skip_instance_cache=True
        )
        files.retries = ATTEMPTS
        return files

    def refresh(self) -> None:
        pass  # it is always seen so

    def paths(self) -> dict[str, Entry]:
        bucket, _, prefix = self._root.partition("/")
        prefix = f"{prefix}/" if prefix else ""
        with _reached():
            listed = {
                path: entry
                for entry in self._listed(bucket, prefix)
                if all(map(SAFE_SEGMENT.fullmatch, (path := entry["Key"].removeprefix(prefix)).split("/")))
            }
            self._sizes = {path: entry["Size"] for path, entry in listed.items()}
            return {
                path: Entry(entry["ETag"].strip('"'), _timestamp(entry["LastModified"]))
                for path, entry in listed.items()
            }

    def _listed(self, bucket: str, prefix: str) -> Iterator[Mapping[str, Any]]:
        """The bucket's objects with that prefix; each page is checked to be a complete listing.

        S3's client turns an empty answer, or XML of another kind, into an empty listing.
        """
        ends = time.monotonic() + LISTING_SECONDS
        following: dict[str, str] = {}
        while True:
            within = max(ends - time.monotonic(), 0.01)
            page = self._files.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **following, timeout=within)
            objects = page.get("Contents", [])
            if not page.get("Name") or page.get("KeyCount", len(objects)) != len(objects):
                raise StoreAwayError("its answer is not a listing")
            yield from objects
            if not page.get("IsTruncated"):
                return
            following = {"ContinuationToken": page["NextContinuationToken"]}

    def read(self, path: str, digest: str | None = None) -> bytes:
        _check_size(path, self._sizes.get(path, 0))
        with _reached():
            content: bytes = self._files.cat_file(f"{self._root}/{path}", timeout=READ_SECONDS)
        return content

    def create(self, path: str, content: bytes) -> None:
        with _reached():
            self._files.pipe_file(f"{self._root}/{path}", content, mode="create", timeout=WRITE_SECONDS)

    def replace(self, path: str, content: bytes) -> None:
        with _reached():
            self._files.pipe_file(f"{self._root}/{path}", content, timeout=WRITE_SECONDS)

    def swap(self, path: str, content: bytes, version: Entry | None) -> None:
        condition = {"IfMatch": version.version} if version else {"IfNoneMatch": "*"}
        try:
            with _reached():
                self._files.pipe_file(f"{self._root}/{path}", content, timeout=WRITE_SECONDS, **condition)
        except (FileNotFoundError, StoreAwayError) as error:  # it was deleted, or is being written
            if isinstance(error, StoreAwayError) and error.reason not in CHANGED_MEANWHILE:
                raise
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None

    def delete(self, path: str) -> None:
        with _reached():
            self._files.rm_file(f"{self._root}/{path}", timeout=WRITE_SECONDS)

    def age(self, path: str) -> float:
        return time.time() - self.paths()[path].written

    def version(self, path: str) -> Entry | None:
        return self.paths().get(path)


class CachedStore(Store):
    """A bucket with copies in a folder, so that reading goes on while the bucket is away.

    Files are kept by their SHA-256. The SHA-256 of a manifest is not known beforehand, so it is kept by the version in
    the listing, together with the SHA-256 of what was read. So no copy is outdated or damaged. The listing is kept as
    well, including the histories and the champions' files. While the bucket cannot be listed, or all models are gone
    from its listing though none was deleted, `away` says why, and the last listing and the copies are used.

    Parameters
    ----------
    bucket : BucketStore
        The original.
    folder : Path
        For the copies of this bucket only. Its content may be deleted at any time.
    """

    LISTING = "listing.json"

    def __init__(self, bucket: BucketStore, folder: Path) -> None:
        self._bucket = bucket
        self._copies = FolderStore(folder)
        self._known: dict[str, Entry] | None = None
        self._failed: dict[str, StoreAwayError] = {}  # since the last listing, by path
        self._invalid: dict[str, bytes] = {}  # the same: content that was read but is invalid, and so is not kept
        self._expires = 0.0  # by time.monotonic()
        self._lock = threading.Lock()  # held while the bucket is listed or changed

    def refresh(self) -> None:
        with self._lock:
            self._list()

    def paths(self) -> dict[str, Entry]:
        if time.monotonic() >= self._expires:
            is_needed = self._known is None and not self.away  # nobody waits long twice for a lost bucket
            if self._lock.acquire(timeout=FIRST_PATIENCE if is_needed else 0):
                self._list_in_background(FIRST_PATIENCE if is_needed else PATIENCE)
        if self._known is None:
            if not self.away:
                self._went_away(StoreAwayError("it does not answer"))
            self._known = self._listed_before()
        if self._known is None:
            raise StoreAwayError(self.away or "it was not listed yet")
        return self._known

    def _list_in_background(self, patience: float) -> None:
        """List the bucket in a thread, so that a slow listing blocks nobody for long."""

        def list_and_release() -> None:
            try:
                if time.monotonic() >= self._expires:  # no other thread was faster
                    self._list()
            except StoreAwayError:
                pass  # `_list` has noted it
            except Exception as error:
                self._went_away(StoreAwayError(type(error).__name__))
            finally:
                self._lock.release()

        thread = threading.Thread(target=list_and_release, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there are too many threads
            self._lock.release()
        else:
            thread.join(patience)

    def _list(self) -> None:
        before = (self._listed_before() if self._known is None else self._known) or {}
        try:
            listed = self._bucket.paths()
            _check_not_lost(before, listed)
            known = {path: self._with_content(path, entry, before) for path, entry in listed.items()}
        except StoreAwayError as error:
            self._went_away(error)
            raise
        self._came_back()
        self._failed, self._invalid = {}, {}
        self._expires = time.monotonic() + RELIST_AFTER
        if known != self._known or not self._copies.exists(self.LISTING):
            self._known = known
            self._keep(self.LISTING, json.dumps(known).encode())
            self._forget_deleted(known)

    def _with_content(self, path: str, entry: Entry, before: Mapping[str, Entry]) -> Entry:
        if not path.endswith((CHAMPION_SUFFIX, HISTORY_SUFFIX)):
            return entry
        if path in before and before[path][:2] == entry[:2]:
            return before[path]
        with suppress(OSError):  # just deleted, or not readable
            return entry._replace(content=self._bucket.read(path).decode(errors="replace"))
        return entry

    def _went_away(self, error: StoreAwayError) -> None:
        super()._went_away(error)
        self._expires = time.monotonic() + RELIST_AFTER

    def _listed_before(self) -> dict[str, Entry] | None:
        with suppress(OSError, ValueError, AttributeError, TypeError):
            listing = json.loads(self._copies.read(self.LISTING))
            return {
                path: Entry(str(version), float(written), content)
                for path, (version, written, content) in listing.items()
                if isinstance(content, str | None)
            }
        return None

    def _keep(self, name: str, content: bytes) -> None:
        try:
            self._copies.replace(name, content)
        except OSError as error:  # a full or read-only disk makes serving slower, not impossible
            logger.warning("a file from the bucket cannot be cached (%s): set MODEL_CACHE", type(error).__name__)

    def _forget_deleted(self, known: Mapping[str, Any]) -> None:
        """Delete the copies of models that are no longer in the bucket, and only copies."""
        folders = {"", *(path.rpartition("/")[0] for path in known)}
        with suppress(OSError):
            self._copies.sweep(ABANDONED_AFTER)
            for path in self._copies.paths():
                folder, _, name = path.rpartition("/")
                if folder not in folders and KEPT.fullmatch(name):
                    self._copies.delete(path)

    def read(self, path: str, digest: str | None = None) -> bytes:
        entry = self.paths().get(path)
        if entry is None:
            raise FileNotFoundError(path)
        if entry.content is not None:
            return entry.content.encode()
        folder, _, _ = path.rpartition("/")
        version = f"{folder}/{_sha256(f'{path} {entry.version} {entry.written}'.encode())}".lstrip("/")
        with suppress(OSError):
            if digest and _sha256(content := self._copies.read(f"{folder}/{digest}")) == digest:
                return content
        with suppress(OSError):
            content = self._copies.read(version)
            if _sha256(content[DIGEST_LENGTH:]).encode() == content[:DIGEST_LENGTH]:
                return content[DIGEST_LENGTH:]
        if self.away:  # no need to wait for a bucket that is known to be away
            raise StoreAwayError(self.away)
        if path in self._failed:
            raise StoreAwayError(self._failed[path].reason)
        if path in self._invalid:
            return self._invalid[path]
        content = self._read_bucket(path)
        if _sha256(content) == digest:
            self._keep(f"{folder}/{digest}", content)
        elif digest is None and _is_json(content):
            self._keep(version, _sha256(content).encode() + content)
        else:  # it may have been damaged on the way
            self._invalid[path] = content
        return content

    def _read_bucket(self, path: str) -> bytes:
        began = time.monotonic()
        try:
            return self._bucket.read(path)
        except StoreAwayError as error:
            self._failed[path] = error
            if time.monotonic() - began > SLOW:  # nobody shall wait as long for the next file
                self._went_away(error)
            raise

    def create(self, path: str, content: bytes) -> None:
        self._changing(self._bucket.create, path, content)

    def replace(self, path: str, content: bytes) -> None:
        self._changing(self._bucket.replace, path, content)

    def swap(self, path: str, content: bytes, version: Any) -> None:
        self._changing(self._bucket.swap, path, content, version)

    def delete(self, path: str) -> None:
        self._changing(self._bucket.delete, path)

    def age(self, path: str) -> float:
        if path not in self.paths():
            raise FileNotFoundError(path)
        return time.time() - self.paths()[path].written

    def version(self, path: str) -> Entry | None:
        return self.paths().get(path)

    def _changing(self, change: Callable[..., None], *arguments: Any) -> None:
        with self._lock:
            try:
                change(*arguments)
            finally:  # the next reader waits for a new listing, which has the change
                self._known, self._expires = None, 0.0


@contextmanager
def _reached() -> Iterator[None]:
    """Turn whatever the SDK raises for a bucket that cannot be used into a StoreAwayError."""
    try:
        yield
    except (FileExistsError, StoreAwayError):
        raise
    except Exception as error:
        code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")  # of S3, such as SlowDown
        if code == "NoSuchKey":
            raise
        if isinstance(error, TimeoutError):
            raise StoreAwayError("it does not answer in time") from error
        raise StoreAwayError(code or type(error).__name__) from error


def _check_not_lost(before: Iterable[str], now: Collection[str]) -> None:
    """Treat a store as away when all its models are gone at once, unless somebody deleted a model there.

    An unmounted folder looks like this, and so does the answer of a server that does not know the bucket.
    """
    if _has_models(before) and not _has_models(now) and DELETED not in now:
        raise StoreAwayError("all of its models are gone at once")


def _has_models(paths: Iterable[str]) -> bool:
    return any(path.endswith(end := f"/{MANIFEST}") and MODEL_ID.fullmatch(path.removesuffix(end)) for path in paths)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a folder. One that cannot be examined, such as a loop of links, counts as a folder."""
    try:
        return entry.is_dir()
    except OSError:
        return True


def _names_in(folder: str) -> list[str]:
    """The files in a folder. An unreadable folder seems to hold a manifest: its model is refused, not gone."""
    try:
        return os.listdir(folder)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):  # just deleted
        return []
    except OSError:
        return [MANIFEST]


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without blocking: opening a pipe would wait for its other end."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check_size(path: str, size: int) -> None:
    bounds = [most for end, most in MOST_BYTES.items() if path.endswith(end)]
    if size > min(bounds, default=MOST_BYTES_OF_OTHERS):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


@contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    """Delete a file that could not be written completely: on a full disk it would take the last room."""
    try:
        yield
    except FileExistsError:  # another process's file
        raise
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def _write(path: Path, content: bytes, mode: str) -> None:
    with path.open(mode) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _timestamp(moment: datetime) -> float:
    return moment.astimezone(UTC).timestamp()
