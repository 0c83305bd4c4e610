"""Running: the items of a plan, one file each, in threads, processes or on a cluster."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from threading import Event
from typing import Any

from tabserve.errors import ScoringError, TabserveError
from tabserve.executors import THREADS, is_cluster, open_executor
from tabserve.scoring.item import Item, Scored, Watch, score
from tabserve.scoring.planning import Plan
from tabserve.scoring.storage import in_words, storage_of


@dataclass
class Summary:
    """What a run did.

    Parameters
    ----------
    model_id : str
    files : list of Scored
        In the order in which they were done, those of earlier runs first.
    failed : dict of str
        Why a source could not be scored.
    not_begun : int
        How many sources were left after the first that failed.
    seconds : float
    """

    model_id: str
    files: list[Scored] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    not_begun: int = 0
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """Of all files."""
        return sum(one.rows for one in self.files)

    @property
    def refused(self) -> int:
        """Rows without an answer."""
        return sum(one.refused for one in self.files)

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            "model_id": self.model_id,
            "rows": self.rows,
            "refused": self.refused,
            "bytes": sum(one.bytes for one in self.files),
            "seconds": round(self.seconds, 3),
            "files": [asdict(one) for one in self.files],
            "failed": self.failed,
            "not_begun": self.not_begun,
        }


def run(
    plan: Plan,
    model_id: str,
    executor: str,
    jobs: int,
    report: Callable[[Scored], None] = lambda scored: None,
    watch: Watch | None = None,
) -> Summary:
    """Score what a plan holds; the first file that fails ends it, after those that were begun.

    Parameters
    ----------
    plan : Plan
    model_id : str
    executor : str
        See `open_executor`.
    jobs : int
        Files at a time.
    report : callable
        Is told of each file that is done.
    watch : callable, optional
        Is told how far files are, where they are scored by threads of this process.

    Returns
    -------
    Summary

    Raises
    ------
    BusyDestinationError
        When another run writes to the destination.
    ScoringError
        When the destination cannot be written to.
    """
    began = time.monotonic()
    summary = Summary(model_id, [*plan.done])
    if plan.items:
        if plan.items[0].table and is_cluster(executor):
            raise ScoringError("A table of a database is written by this machine alone: leave out --executor.")
        most = 1 if plan.items[0].table else len(plan.items)  # a table is written by one transaction after the other
        with _held(plan), open_executor(executor, min(jobs, most)) as pool:
            is_over = Event()
            work = partial(score, watch=partial(_watch, is_over, watch)) if executor == THREADS else score
            there = _anywhere if is_cluster(executor) else lambda item: item
            try:
                _work(summary, {pool.submit(work, there(item)): item for item in plan.items}, report)
            finally:
                is_over.set()
    summary.seconds = time.monotonic() - began
    return summary


def _watch(is_over: Event, watch: Watch | None, source: str, rows: int, share: float) -> None:
    """Pass on how far a source is; after Ctrl-C, end its thread."""
    if is_over.is_set():
        raise ScoringError(f"{source} was not scored: the run was interrupted.")
    if watch:
        watch(source, rows, share)


@contextmanager
def _held(plan: Plan) -> Iterator[None]:
    """The destination, for this run alone, without what dead runs left there."""
    if not plan.lock:
        yield
        return
    storage = storage_of(plan.lock)
    written = [path for item in plan.items for path in (item.output, item.errors, item.record)]
    with ExitStack() as stack:
        try:
            stack.enter_context(storage.hold(plan.lock))
            storage.sweep(written)
        except TabserveError:
            raise
        except Exception as error:
            raise ScoringError(f"The destination cannot be written to ({in_words(error)}).") from error
        yield
        with suppress(Exception):  # the scores are there
            storage.sweep(written)  # of workers that were lost


def _anywhere(item: Item) -> Item:
    """The item with paths that mean the same in another folder and on another machine."""
    return replace(
        item,
        source=_absolute(item.source),
        output=_absolute(item.output),
        record=_absolute(item.record),
        registry=_absolute(item.registry),
    )


def _absolute(path: str) -> str:
    return path if "://" in path else os.path.abspath(path)  # noqa: PTH100 - links stay


def _work(summary: Summary, items: dict["Future[Scored]", Item], report: Callable[[Scored], None]) -> None:
    waiting = set(items)
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            if future.cancelled():
                summary.not_begun += 1
                continue
            try:
                scored = future.result()
            except TabserveError as error:
                summary.failed[items[future].source] = str(error)
                for other in waiting:
                    other.cancel()
            else:
                scored = replace(scored, source=items[future].source, output=items[future].place)
                summary.files.append(scored)
                report(scored)
