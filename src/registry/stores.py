"""Stores: where a registry's files lie, a folder or a bucket of S3, behind the same few operations.

A path in a store is the name of a file (`credit.champion`) or of a file in a folder (`<model_id>/manifest.json`).
"""

import errno
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
CHAMPION_SUFFIX = ".champion"  # of the file that names a use case's champion
MANIFEST = "manifest.json"  # of a model, which exists exactly when this file does
DELETED = "deleted"  # names the model that was deleted last: a store that holds it may have lost all on purpose

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html, and keys that need no quoting anywhere
BUCKET = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/[a-zA-Z0-9._-]+)*)/?", re.ASCII)
KEPT = re.compile(r"[0-9a-f]{64}", re.ASCII)  # a SHA-256: the names under which a cache keeps files
TEMPORARY = re.compile(r"\..+\.[0-9]+\.[0-9]+", re.ASCII | re.DOTALL)  # a file that is being written
ABANDONED_AFTER = 3600  # seconds after which what is unfinished is taken for a killed process's
SAFE_SEGMENT = re.compile(r"[a-zA-Z0-9._-]*[a-zA-Z0-9_-]", re.ASCII)  # . and .. mean something else on a disk

# Bytes beyond which a file is not read: nobody trained it, and a worker would end of it.
MOST_BYTES = {MANIFEST: 5_000_000, CHAMPION_SUFFIX: 1000}
MOST_BYTES_OF_OTHERS = 1 << 30

RELIST_AFTER = 30.0  # seconds after which a bucket is listed anew, or tried again; each listing is paid for
PATIENCE = 0.25  # seconds that a reader waits for a new listing before it takes the one before
FIRST_PATIENCE = 15.0  # the same for the first listing, s3fs's import included, before that of an earlier process
DIGEST_LENGTH = 64  # of a SHA-256 in hexadecimal digits
# seconds; the SDK tries again after failed connections and errors of the server, s3fs after cut downloads as well
TIMEOUTS = {"connect_timeout": 2, "read_timeout": 5, "retries": {"total_max_attempts": 2}}
ATTEMPTS = 2
# Seconds for a whole listing and a whole file, all attempts included, however slowly their bytes come. Both together
# are less than the minute after which gunicorn replaces a worker that loads its first models.
LISTING_SECONDS = 20.0
READ_SECONDS = 30.0
WRITE_SECONDS = 300.0  # nobody waits for it but who publishes
SLOW = 5.0  # seconds after which a read that fails is taken for a failure of the bucket, not of the one file

Location: TypeAlias = Path | str  # a folder, or s3://bucket/prefix


LOCATION_FORM = "a path to a folder, or s3://bucket/prefix"


def parse_location(text: str) -> Location:
    """Return the location that a text names; a folder need not be there yet.

    Raises
    ------
    ValueError
        For a text that is not as `LOCATION_FORM` says.
    """
    if "://" in text or text.startswith("s3:"):
        match = BUCKET.fullmatch(text)
        if match is None or not all(map(SAFE_SEGMENT.fullmatch, match["prefix"].split("/")[1:])):
            raise ValueError(LOCATION_FORM)
        return text.rstrip("/")
    return parse_folder(text)


def parse_folder(text: str) -> Path:
    """Return the folder that a text names; it need not be there yet.

    Raises
    ------
    ValueError
        For no text, or the path to a file.
    """
    with suppress(OSError):  # for a name that no file can have
        if text and (Path(text).is_dir() or not Path(text).exists()):
            return Path(text)
    raise ValueError("a path to a folder")


def open_store(location: Location, cache: Path) -> "Store":
    """Return the store at a location; nothing is read or connected to yet.

    Parameters
    ----------
    location : Path or str
        From `parse_location`.
    cache : Path
        Folder for what was read from a bucket.
    """
    if isinstance(location, Path):
        return WatchedFolder(location)
    # `s3+` since no bucket's name begins so: `models` in MODEL_CACHE may be somebody's folder of that name
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
        Of a file that names a champion, which is read with the listing.
    """

    version: str
    written: float
    content: str | None = None


class Store(ABC):
    """Files by path.

    Attributes
    ----------
    away : str or None
        Why the store cannot be reached now, when what is known of it comes from before.
    """

    away: str | None = None

    @abstractmethod
    def refresh(self) -> None:
        """See the store as it is now, and not as it was a moment ago.

        Raises
        ------
        StoreAwayError
            When it cannot be reached.
        """

    @abstractmethod
    def paths(self) -> Mapping[str, Any]:
        """All files, by path, in one folder or none; the values are the store's own."""

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        return path in self.paths()

    @abstractmethod
    def read(self, path: str, digest: str | None = None) -> bytes:
        """Read a file; its SHA-256, where it is known, lets a store answer from a copy.

        Raises
        ------
        FileNotFoundError
            When there is none.
        OSError
            When it cannot be read, is too large or no file at all, such as a pipe.
        StoreAwayError
            When it cannot be reached.
        """

    @abstractmethod
    def create(self, path: str, content: bytes) -> None:
        """Write a file that must not be there yet.

        Raises
        ------
        FileExistsError
            When there is one.
        StoreAwayError
            When the store cannot be reached.
        """

    @abstractmethod
    def replace(self, path: str, content: bytes) -> None:
        """Write a file, which is there in full or as it was before."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Delete a file that is there, and its folder when it was the last one in it."""

    @abstractmethod
    def age(self, path: str) -> float:
        """Return the seconds since a file was written."""

    @abstractmethod
    def version(self, path: str) -> Any:
        """What differs when a file was written again, found without reading it; None when there is no such file.

        Raises
        ------
        StoreAwayError
            When the store cannot be reached.
        """

    def sweep(self, seconds: float, is_unfinished: Callable[[str], bool] = lambda path: False) -> None:
        """Delete what killed processes left long ago: half-written files, and files of which that is said.

        Parameters
        ----------
        seconds : float
            How old it must be.
        is_unfinished : function
            Whether the file of a path is one more to be deleted when it is old.
        """
        for path in self.paths():
            if TEMPORARY.fullmatch(path.rpartition("/")[2]) or is_unfinished(path):
                with suppress(OSError, StoreAwayError):  # another one sweeps, too
                    if self.age(path) > seconds:
                        self.delete(path)

    def _went_away(self, error: StoreAwayError) -> None:
        if self.away != error.reason:
            logger.warning("the registry cannot be reached (%s): what was read from it before is used", error.reason)
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
        Made when the first file is written.
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
                raise OSError(errno.EINVAL, "it is no file")
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
    """A local folder that can go away, as a mount does; what was seen in it before is then still taken to be there.

    It is away when it cannot be listed, and when it has lost all of its models and none was deleted.

    Parameters
    ----------
    folder : Path
        Made when the first file is written.
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
        if self._known is None:  # what is not known before the folder goes away is not known after it
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
    """Objects in a bucket of S3, below a prefix.

    Credentials, region and endpoint are found as the AWS SDK finds them: variables of the environment, profiles, the
    role of the machine.

    Parameters
    ----------
    url : str
        `s3://bucket/prefix`.
    """

    def __init__(self, url: str) -> None:
        self._root = url.removeprefix("s3://")
        self._sizes: dict[str, int] = {}  # as listed last

    @cached_property
    def _files(self) -> Any:
        try:
            from s3fs import S3FileSystem  # a second and 50 MB, for those who use it
        except ModuleNotFoundError:
            raise StoreAwayError("s3fs is not installed: pip install -r requirements-s3.txt") from None
        # One of our own, and without a memory of listings: others write to the bucket, too. A file in one request.
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
        """The bucket's objects with that prefix, from pages each of which is a listing, and whole.

        S3's client makes an empty one of an empty answer, and of XML that is something else.
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

    def delete(self, path: str) -> None:
        with _reached():
            self._files.rm_file(f"{self._root}/{path}", timeout=WRITE_SECONDS)

    def age(self, path: str) -> float:
        return time.time() - self.paths()[path].written

    def version(self, path: str) -> Entry | None:
        return self.paths().get(path)


class CachedStore(Store):
    """A bucket in front of which a folder keeps what was read, so that a bucket that is away stops nobody.

    Files are kept by their SHA-256; manifests, whose SHA-256 is not known, by the version that the listing gives, with
    the SHA-256 of what was read: what is kept is neither out of date nor damaged. The listing is kept, too, and with it
    what names the champions. While the bucket cannot be listed, or its listing has lost all models and none was
    deleted, `away` says why, and listing and files are those of before.

    Parameters
    ----------
    bucket : BucketStore
        The original.
    folder : Path
        Of the copies; of this bucket alone. What is in it may be deleted at any time.
    """

    LISTING = "listing.json"

    def __init__(self, bucket: BucketStore, folder: Path) -> None:
        self._bucket = bucket
        self._copies = FolderStore(folder)
        self._known: dict[str, Entry] | None = None
        self._failed: dict[str, StoreAwayError] = {}  # since the last listing
        self._odd: dict[str, bytes] = {}  # the same: what was read, is not as it should be and is not kept
        self._expires = 0.0  # by time.monotonic()
        self._lock = threading.Lock()  # held while the bucket is listed or changed

    def refresh(self) -> None:
        with self._lock:
            self._list()

    def paths(self) -> dict[str, Entry]:
        if time.monotonic() >= self._expires:
            is_needed = self._known is None and not self.away  # nobody waits long twice for a bucket that is away
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
        """List the bucket in a thread of its own: nobody waits long for one that is slow or hangs."""

        def list_and_release() -> None:
            try:
                if time.monotonic() >= self._expires:  # no other thread was faster
                    self._list()
            except StoreAwayError:
                pass  # it is noted
            except Exception as error:
                self._went_away(StoreAwayError(type(error).__name__))
            finally:
                self._lock.release()

        thread = threading.Thread(target=list_and_release, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there are too many
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
        self._failed, self._odd = {}, {}
        self._expires = time.monotonic() + RELIST_AFTER
        if known != self._known or not self._copies.exists(self.LISTING):
            self._known = known
            self._keep(self.LISTING, json.dumps(known).encode())
            self._forget_deleted(known)

    def _with_content(self, path: str, entry: Entry, before: Mapping[str, Entry]) -> Entry:
        if not path.endswith(CHAMPION_SUFFIX):
            return entry
        if path in before and before[path][:2] == entry[:2]:
            return before[path]
        with suppress(OSError):  # deleted this moment, or no champion's name
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
        except OSError as error:  # a full or read-only disk: slower, but no reason not to serve
            logger.warning("a file of the bucket cannot be kept (%s): set MODEL_CACHE", type(error).__name__)

    def _forget_deleted(self, known: Mapping[str, Any]) -> None:
        """Delete the copies of models that are no longer in the bucket, and nothing that is no copy."""
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
        if self.away:  # known to be: no need to wait for it
            raise StoreAwayError(self.away)
        if path in self._failed:
            raise StoreAwayError(self._failed[path].reason)
        if path in self._odd:
            return self._odd[path]
        content = self._read_bucket(path)
        if _sha256(content) == digest:
            self._keep(f"{folder}/{digest}", content)
        elif digest is None and _is_json(content):
            self._keep(version, _sha256(content).encode() + content)
        else:  # perhaps it was damaged on its way
            self._odd[path] = content
        return content

    def _read_bucket(self, path: str) -> bytes:
        began = time.monotonic()
        try:
            return self._bucket.read(path)
        except StoreAwayError as error:
            self._failed[path] = error
            if time.monotonic() - began > SLOW:  # nobody waits as long for the next file
                self._went_away(error)
            raise

    def create(self, path: str, content: bytes) -> None:
        self._changing(self._bucket.create, path, content)

    def replace(self, path: str, content: bytes) -> None:
        self._changing(self._bucket.replace, path, content)

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
            finally:  # what it changed is seen by the next reader, who waits for a new listing
                self._known, self._expires = None, 0.0


@contextmanager
def _reached() -> Iterator[None]:
    """Turn whatever an SDK raises when something cannot be had from a bucket into a StoreAwayError."""
    try:
        yield
    except (FileExistsError, StoreAwayError):
        raise
    except Exception as error:
        code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")  # S3's own word, such as SlowDown
        if code == "NoSuchKey":
            raise
        if isinstance(error, TimeoutError):
            raise StoreAwayError("it does not answer in time") from error
        raise StoreAwayError(code or type(error).__name__) from error


def _check_not_lost(before: Iterable[str], now: Collection[str]) -> None:
    """Take a store whose models are all gone at once for one that is away, unless somebody deleted a model there.

    So does an unmounted folder look, and so does the answer of a server that knows nothing of the bucket.
    """
    if _has_models(before) and not _has_models(now) and DELETED not in now:
        raise StoreAwayError("all of its models are gone at once")


def _has_models(paths: Iterable[str]) -> bool:
    return any(path.endswith(end := f"/{MANIFEST}") and MODEL_ID.fullmatch(path.removesuffix(end)) for path in paths)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a folder; so is one that cannot be looked at, such as a loop of links."""
    try:
        return entry.is_dir()
    except OSError:
        return True


def _names_in(folder: str) -> list[str]:
    """The files in a folder; a manifest for one that cannot be looked into: its model is refused, and not gone."""
    try:
        return os.listdir(folder)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):  # deleted this moment
        return []
    except OSError:
        return [MANIFEST]


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting, as a pipe makes one wait for its other end."""
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
    """Leave nothing of a file that could not be written; on a full disk it would take what room there is."""
    try:
        yield
    except FileExistsError:  # it is another one's
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
