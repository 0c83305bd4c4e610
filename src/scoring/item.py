"""One table to score: where it is, where its scores go, and the work itself, in whatever process."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tabserve.errors import Fault, RefusedRowsError, ScoringError, TabserveError, UnknownModelError
from tabserve.registry.artifact import Artifact
from tabserve.registry.stores import parse_location
from tabserve.scoring.answering import Answering, Options
from tabserve.scoring.reading import is_query, kept_types, open_table, own_types
from tabserve.scoring.storage import Draft, in_words, storage_of
from tabserve.scoring.writing import pieces, written_as
from tabserve.settings import RegistrySettings

if TYPE_CHECKING:
    import pyarrow as pa

KEPT = ".tabserve"  # the folder beside scores that says what they were made of
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
        The path of the file to write.
    record : str
        The path of the file that says what the output was made of.
    model_id : str
    registry : str
        Where the model is.
    options : Options
    run : str
        Tells this run from others.
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

    @property
    def errors(self) -> str:
        """The path of the file with faults."""
        return f"{self.output}{ERRORS}"

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
    """Score a table into a file, which appears when it is complete.

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
    artifact = load(item.registry, item.model_id)
    with _told_of(item), ExitStack() as stack:
        with _writing(item.output):
            begin(item)
        source = stack.enter_context(_Source(item))
        own = own_types(source.file)
        reading = stack.enter_context(open_table(artifact, item.source, item.query, source.file))
        draft = stack.enter_context(_draft(item.output))
        faults = stack.enter_context(_Faults(item, reading.place))
        answering = Answering(artifact, reading, item.options, kept_types(reading, own, item.output), faults.add)
        tables = _watched(answering, source, watch)
        for piece in pieces(answering.schema, tables, written_as(item.output, reading.read_as)):
            _write(draft, piece, item.output)
        source.check()
        written = _publish(item, draft, faults)
        scored = Scored(
            item.source, item.output, answering.rows, answering.refused, written, round(time.monotonic() - began, 3)
        )
        with _writing(item.record):
            keep(item, scored)
    return scored


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


def keep(item: Item, scored: Scored) -> None:
    """Note that the output is complete."""
    content = {"run": item.run, **item.origin, "done": asdict(scored)}
    storage_of(item.record).write(item.record, json.dumps(content).encode())


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

    def __init__(self, item: Item, place: str) -> None:
        self._item = item
        self._place = place
        self._draft: Draft | None = None

    def __enter__(self) -> "_Faults":
        return self

    def __exit__(self, *_: object) -> None:
        if self._draft:
            self._draft.discard()

    def add(self, faults: Sequence[Fault]) -> None:
        from tabserve.tables.writer import csv_pieces

        if not self._item.options.partial:
            raise RefusedRowsError(self._place, faults, len(faults))
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
        if not isinstance(error, (OSError, ValueError)):
            raise
        raise ScoringError(f"{item.source} cannot be read ({in_words(error)}).") from error


def _watched(answering: Answering, source: _Source, watch: Watch | None) -> "Iterator[pa.Table]":
    for table in answering.tables():
        if watch:
            watch(source.name, answering.rows, source.share())
        yield table
