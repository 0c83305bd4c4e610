"""One table to score: where it is, where its scores go, and the work itself, in whatever process."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tabserve.errors import Fault, RefusedRowsError, ScoringError, TabserveError, UnknownModelError
from tabserve.registry.artifact import Artifact
from tabserve.registry.stores import parse_location
from tabserve.scoring.answering import Answering, Options
from tabserve.scoring.database import open_writer
from tabserve.scoring.reading import is_query, open_table
from tabserve.scoring.storage import Draft, in_words, storage_of
from tabserve.scoring.writing import pieces, written_as
from tabserve.settings import RegistrySettings

if TYPE_CHECKING:
    import pyarrow as pa

KEPT = ".tabserve"  # the folder beside scores that says what they were made of
_SDK = ("botocore", "aiobotocore", "aiohttp", "s3fs", "fsspec")  # whose errors are those of a bucket
ERRORS = ".errors.csv"  # what the name of a file with faults ends with


@dataclass(frozen=True)
class Item:
    """A table to score. It can be sent to another process or machine.

    Parameters
    ----------
    source : str
        A path, or the address of a database.
    version : str
        What the source was when the run began: see `Storage.version`; empty for a database.
    query : str
        What to read of a database.
    output : str
        The path of the file to write, or the address of a database.
    record : str
        The path of the file that says what the output was made of; empty for a database.
    model_id : str
    registry : str
        Where the model is.
    options : Options
    run : str
        Tells this run from others.
    table : str
        The table to write in a database.
    """

    source: str
    version: str
    query: str
    output: str
    record: str
    model_id: str
    registry: str
    options: Options
    run: str
    table: str = ""

    @property
    def errors(self) -> str:
        """The path of the file with faults."""
        return f"{self.output}{ERRORS}"

    @property
    def place(self) -> str:
        """What people call the output."""
        return f"{self.output}, table {self.table}" if self.table else self.output

    @property
    def key(self) -> str:
        """The source as it is known to all runs."""
        return self.source if is_query(self.source) else storage_of(self.source).resolved(self.source)

    @property
    def origin(self) -> dict[str, Any]:
        """What decides the content of the output."""
        options = {"columns": list(self.options.columns), "reasons": self.options.reasons}
        return {"model_id": self.model_id, "source": self.version, "query": self.query, **options}


@dataclass(frozen=True)
class Scored:
    """What was written for an item.

    Parameters
    ----------
    source, output : str
    rows : int
        Of the source, and so of the output.
    refused : int
        How many of them have no answer.
    bytes : int
        The size of the output.
    seconds : float
    skipped : bool
        Whether an earlier run had written it.
    """

    source: str
    output: str
    rows: int
    refused: int
    bytes: int
    seconds: float
    skipped: bool = False


Watch = Callable[[str, int, float], None]  # is told of a source, the rows that were read, and its share of the whole


def score(item: Item, watch: Watch | None = None) -> Scored:
    """Score a table into a file, or a table of a database: its scores appear when they are complete.

    Parameters
    ----------
    item : Item
    watch : callable, optional
        Is told how far it is.

    Returns
    -------
    Scored

    Raises
    ------
    RefusedRowsError
        For rows at fault, unless `partial` is set.
    ScoringError
        In a sentence, when the source cannot be read or changes meanwhile, or the output cannot be written.
    TabserveError
        As the reader raises them.
    """
    began = time.monotonic()
    with _told_of(item), ExitStack() as stack:
        write = _into_table if item.table else _into_file
        answering, size = write(item, stack, watch)
    return Scored(
        source=item.source,
        output=item.place,
        rows=answering.rows,
        refused=answering.refused,
        bytes=size,
        seconds=round(time.monotonic() - began, 3),
    )


def _into_file(item: Item, stack: ExitStack, watch: Watch | None) -> tuple[Answering, int]:
    """Write a file and what belongs to it; what was answered, and the size of the file."""
    with _writing(item.output):
        begin(item)
    faults = stack.enter_context(_Faults(item))
    work = _open(item, stack, faults.add, watch)
    draft = stack.enter_context(_draft(item.output))
    for piece in pieces(work.answering.schema, work.tables(), work.written):
        _write(draft, piece, item.output)
    work.source.check()
    size = _publish(item, draft, faults)
    with _writing(item.record):
        keep(item, work.answering.rows, work.answering.refused, size)
    return work.answering, size


def _into_table(item: Item, stack: ExitStack, watch: Watch | None) -> tuple[Answering, int]:
    """Write the rows of a table of a database; what was answered, and no size."""
    writer = stack.enter_context(open_writer(item.output, item.table, item.key))
    writer.begin(json.dumps(item.origin))

    def refuse(faults: Sequence[Fault]) -> None:
        _check_partial(item, faults)
        writer.refuse(faults)

    work = _open(item, stack, refuse, watch)
    writer.write(work.answering.schema, work.tables())
    work.source.check()
    writer.end(work.answering.rows, work.answering.refused)
    return work.answering, 0


@dataclass(frozen=True)
class _Work:
    """A table that is being answered: its source, and how it is written."""

    source: "_Source"
    answering: Answering
    written: Mapping[str, str]
    watch: Watch | None

    def tables(self) -> "Iterator[pa.Table]":
        for table in self.answering.tables():
            if self.watch:
                self.watch(self.source.name, self.answering.rows, self.source.share())
            yield table


def _open(item: Item, stack: ExitStack, refuse: Callable[[Sequence[Fault]], None], watch: Watch | None) -> _Work:
    """Start reading and answering."""
    artifact = load(item.registry, item.model_id)
    source = stack.enter_context(_Source(item))
    opened = stack.enter_context(open_table(artifact, item.source, item.query, source.file))
    written = {"format": "database"} if item.table else written_as(item.output, opened.reading.read_as)
    as_dictionaries = written["format"] == "parquet"
    kept = {} if item.table else opened.kept(item.output)
    answering = Answering(artifact, opened.reading, item.options, kept, refuse, dictionaries=as_dictionaries)
    return _Work(source, answering, written, watch)


@lru_cache(2)
def load(registry: str, model_id: str) -> Artifact:
    """A model, verified, loaded and sped up once in each process; the environment holds its key."""
    from tabserve.registry.registry import Registry

    settings = RegistrySettings.from_environment()
    try:
        artifact = Registry(parse_location(registry), settings.model_signing_key, settings.model_cache).load(model_id)
    except UnknownModelError:  # it was there when the run began
        raise ScoringError(
            f"{model_id} is not in the model registry as this worker sees it: MODEL_REGISTRY must be a bucket, or a "
            "folder that all machines share."
        ) from None
    artifact.speed_up(settings.compiled_trees)
    return artifact


def begin(item: Item) -> None:
    """Note that the output is this run's from now on, although it is not there yet."""
    storage_of(item.record).write(item.record, json.dumps({"run": item.run, **item.origin}).encode())


def keep(item: Item, rows: int, refused: int, size: int) -> None:
    """Note that the output is complete."""
    done = {"rows": rows, "refused": refused, "bytes": size}
    storage_of(item.record).write(item.record, json.dumps({"run": item.run, **item.origin, "done": done}).encode())


def kept(path: str) -> Mapping[str, Any] | None:
    """What a record says; None without one that can be read."""
    content = storage_of(path).read(path)
    with suppress(ValueError):
        found = None if content is None else json.loads(content)
        return found if type(found) is dict else None
    return None


class _Source:
    """What is read, which must not change meanwhile."""

    def __init__(self, item: Item) -> None:
        self._item = item
        self.name = item.source
        self._storage = None if is_query(item.source) else storage_of(item.source)
        self.file = self._storage.open(item.source) if self._storage else None
        self._size = int(item.version.partition("-")[0] or 0)

    def __enter__(self) -> "_Source":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self.file:
            self.file.close()
        if error is not None and not isinstance(error, RefusedRowsError) and isinstance(error, Exception):
            with suppress(OSError):  # the error itself says more
                self.check()

    def check(self) -> None:
        """Raise `ScoringError` when it is not what it was."""
        if self._storage and self._storage.version(self._item.source) != self._item.version:
            raise ScoringError(
                f"{self._item.source} changed while it was read: score it again when nobody writes to it."
            ) from None

    def share(self) -> float:
        """How much of it was read, about: from 0 to 1."""
        if self.file is None or not self._size:
            return 0.0
        return min(self.file.tell() / self._size, 1.0)


class _Faults:
    """The file with what is wrong with the rows that have no answer; it is there when there are any."""

    def __init__(self, item: Item) -> None:
        self._item = item
        self._draft: Draft | None = None

    def __enter__(self) -> "_Faults":
        return self

    def __exit__(self, *_: object) -> None:
        if self._draft:
            self._draft.discard()

    def add(self, faults: Sequence[Fault]) -> None:
        from tabserve.tables.writer import csv_pieces

        _check_partial(self._item, faults)
        columns: dict[str, list[Any]] = {
            "row": [fault.row for fault in faults],
            "column": [fault.column for fault in faults],
            "problem": [fault.problem for fault in faults],
        }
        content = b"".join(csv_pieces(columns))
        if self._draft is None:
            self._draft = _draft(self._item.errors)
        else:
            content = content.partition(b"\r\n")[2]
        _write(self._draft, content, self._item.errors)

    def complete(self) -> None:
        if self._draft:
            self._draft.complete()

    def publish(self) -> None:
        """Make it visible; without faults, delete what an earlier run left."""
        if self._draft:
            self._draft.publish()
        else:
            storage_of(self._item.errors).remove(self._item.errors)


def _check_partial(item: Item, faults: Sequence[Fault]) -> None:
    if not item.options.partial:
        raise RefusedRowsError(item.source, faults, len(faults))


def _draft(path: str) -> Draft:
    with _writing(path):
        return storage_of(path).draft(path)


def _write(draft: Draft, piece: bytes, path: str) -> None:
    with _writing(path):
        draft.file.write(piece)


def _publish(item: Item, draft: Draft, faults: _Faults) -> int:
    """Make output and faults visible, and return the output's size; an error when another run has taken over."""
    with _writing(item.output):
        faults.complete()
        draft.complete()
        if (kept(item.record) or {}).get("run") != item.run:
            raise ScoringError(f"Another run writes {item.output} now: what this one made was dropped.")
        faults.publish()
        draft.publish()
        return storage_of(item.output).size(item.output) or 0


@contextmanager
def _writing(path: str) -> Iterator[None]:
    """Turn what a storage raises into a sentence."""
    try:
        yield
    except TabserveError:
        raise
    except Exception as error:
        raise ScoringError(f"{path} cannot be written ({in_words(error)}): nothing of it was kept.") from error


@contextmanager
def _told_of(item: Item) -> Iterator[None]:
    """Turn what a source or its library raises into a sentence."""
    try:
        yield
    except TabserveError:
        raise
    except Exception as error:
        if not isinstance(error, (OSError, ValueError)) and type(error).__module__.partition(".")[0] not in _SDK:
            raise
        raise ScoringError(f"{item.source} cannot be read ({in_words(error)}).") from error
