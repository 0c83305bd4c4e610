"""Executors: where work that can be divided is done: in threads, in processes, or on a cluster of machines.

All are a `concurrent.futures.Executor`. The same work gives the same result in each of them.
"""

import re
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from importlib.util import find_spec

from tabserve.errors import LostWorkerError, MissingExtraError, UnknownExecutorError
from tabserve.executors.pool import Pool, Shared

__all__ = ["PROCESSES", "THREADS", "Pool", "Shared", "check_spec", "is_cluster", "open_executor"]

THREADS, PROCESSES, CLUSTER = "threads", "processes", "dask:"
_HOST = r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)"
_SPEC = re.compile(rf"{THREADS}|{PROCESSES}|{CLUSTER}(tcp|tls)://{_HOST}:[0-9]{{1,5}}")


def check_spec(spec: str) -> str:
    """Return what names an executor: `threads`, `processes`, or a Dask scheduler such as `dask:tcp://host:8786`.

    Raises
    ------
    UnknownExecutorError
        For any other text.
    """
    if not _SPEC.fullmatch(spec):
        raise UnknownExecutorError
    return spec


def is_cluster(spec: str) -> bool:
    """Whether an executor works on other machines, which see other files."""
    return spec.startswith(CLUSTER)


@contextmanager
def open_executor(spec: str, jobs: int) -> Iterator[Pool]:
    """Open an executor.

    At the end, and after an error or Ctrl-C, what has not begun is cancelled, and processes are ended. A cluster goes
    on with the tasks that it has begun, and drops what they give.

    Parameters
    ----------
    spec : str
        See `check_spec`.
    jobs : int
        How much is done at once in threads and processes; a cluster does as much as its workers have threads.

    Yields
    ------
    Pool
        What is given to it must be picklable, the functions by their names: those of modules, and partials of them.

    Raises
    ------
    UnknownExecutorError
        When nothing has that name.
    MissingExtraError
        For a cluster, without the extra `cluster`.
    ClusterAwayError
        When the scheduler does not answer, or has no workers.
    DifferentVersionsError
        When a worker has other versions than this machine: it could give another result.
    LostWorkerError
        When processes or workers end again and again; from the results of what they worked on.
    """
    check_spec(spec)
    try:
        with _opened(spec, jobs) as pool:
            yield pool
    except BrokenExecutor:
        raise LostWorkerError from None


def _opened(spec: str, jobs: int) -> Pool:
    if is_cluster(spec):
        if find_spec("distributed") is None:
            raise MissingExtraError("cluster", ["distributed"])
        from tabserve.executors.cluster import Cluster

        return Cluster(spec.removeprefix(CLUSTER))
    from tabserve.executors.local import Processes, Threads

    return Threads(jobs) if spec == THREADS else Processes(jobs)
