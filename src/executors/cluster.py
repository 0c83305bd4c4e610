"""A Dask cluster as an executor: needs the extra `cluster`."""

import logging
import pickle
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from functools import cache, partial
from importlib.metadata import version
from typing import Any, ParamSpec, TypeVar
from uuid import uuid4
from weakref import WeakSet

import distributed
from distributed.scheduler import KilledWorker, NoWorkerError
from distributed.versions import VersionMismatchWarning

from tabserve import __version__, log
from tabserve.errors import ClusterAwayError, DifferentVersionsError, LostWorkerError, TabserveError
from tabserve.executors.pool import Pool, Shared

P = ParamSpec("P")
T = TypeVar("T")

PACKAGES = ("distributed", "joblib", "lightgbm", "numpy", "pyarrow", "scikit-learn")  # the same on all machines
ANSWERS = 10.0  # seconds in which the scheduler must answer
JOINS = 60.0  # seconds in which there must be a worker: the first may just be starting

logger = logging.getLogger(__name__)


class Cluster(Pool):
    """The workers of a Dask scheduler.

    Dask begins a task again on another worker when its worker is lost, up to three times. A task that raises an error
    is not begun again: it would raise it again.

    Parameters
    ----------
    address : str
        The scheduler's. Certificates for tls:// come from Dask's own configuration.
    """

    def __init__(self, address: str) -> None:
        self._client = _connected(address)
        self._futures: WeakSet[Future[Any]] = WeakSet()

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        self._futures.add(future)
        name = getattr(function, "__name__", type(function).__name__)  # for the dashboard
        task = self._client.submit(_Task(function, args, kwargs), key=f"{name}-{uuid4().hex}", pure=False)
        future.add_done_callback(lambda done: task.cancel() if done.cancelled() else None)
        task.add_done_callback(partial(_hand_over, future))
        return future

    @contextmanager
    def share(self, value: T) -> Iterator[Shared[T]]:
        shared = _Kept(value)
        # the scheduler gives it to workers that join later, too, before they begin anything
        self._client.register_plugin(_Keeper(shared.key, value), shared.key)
        try:
            yield shared
        finally:
            if self._client.status == "running":
                self._client.unregister_worker_plugin(shared.key)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            for future in list(self._futures):
                future.cancel()
        if wait:
            wait_for(list(self._futures))
        self._client.close()


def _hand_over(future: Future[Any], task: "distributed.Future[Any]") -> None:
    """Make a task's outcome that of the future that stands for it."""
    result, error = _outcome(task)
    if not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _outcome(task: "distributed.Future[Any]") -> tuple[Any, Exception | None]:
    """A task's result, or why there is none."""
    try:
        outcome: tuple[Any, Exception | None] = task.result()
        return outcome
    except CancelledError:  # here, or because the connection to the scheduler was lost
        return None, ClusterAwayError("the scheduler went away while work was under way")
    except (KilledWorker, NoWorkerError):
        return None, LostWorkerError()
    except Exception as error:
        return None, error


class _Task:
    """A function and its arguments, which neither the scheduler nor Dask's logs see.

    Errors are given back as results: Dask would log them, with the values that they quote.
    """

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._content = pickle.dumps((function, args, kwargs))
        self._versions = versions()

    def __call__(self) -> tuple[Any, Exception | None]:
        try:
            check_versions(self._versions, versions())
            function, args, kwargs = pickle.loads(self._content)
            return function(*args, **kwargs), None
        except Exception as error:
            if not isinstance(error, TabserveError):
                logger.error("a task failed: %s", log.traced(error))
            return None, error


_values: dict[str, Any] = {}  # that this worker keeps, by key


class _Kept(Shared[T]):
    """A value that each worker keeps."""

    def __getstate__(self) -> dict[str, Any]:
        return {"key": self.key}

    def get(self) -> T:
        value: T = self._value if hasattr(self, "_value") else _values[self.key]
        return value


class _Keeper(distributed.WorkerPlugin):
    """Brings a value to each worker, and takes it away."""

    def __init__(self, key: str, value: Any) -> None:
        self._key = key
        self._value = value

    def setup(self, worker: distributed.Worker) -> None:
        _values[self._key] = self._value

    def teardown(self, worker: distributed.Worker) -> None:
        _values.pop(self._key, None)


def _connected(address: str) -> distributed.Client:
    logging.getLogger("distributed").setLevel(logging.WARNING)
    warnings.simplefilter("ignore", VersionMismatchWarning)  # versions that matter are refused below
    try:
        client = distributed.Client(address, timeout=ANSWERS, set_as_default=False)
    except OSError:
        raise ClusterAwayError("no Dask scheduler answers at its address") from None
    try:
        client.wait_for_workers(1, JOINS)
        for found in client.run(versions, on_error="return").values():
            check_versions(versions(), found)
    except TimeoutError:
        client.close()
        raise ClusterAwayError("the scheduler has no workers") from None
    except BaseException:
        client.close()
        raise
    return client


@cache
def versions() -> Mapping[str, str]:
    """What must be the same on all machines for the same result to come, with its version."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"tabserve": __version__, "Python": python, **{name: version(name) for name in PACKAGES}}


def check_versions(ours: Mapping[str, str], theirs: object) -> None:
    """Refuse a worker with other versions.

    Parameters
    ----------
    ours : mapping
        `versions` of the machine where the work comes from.
    theirs : object
        Those of a worker. Whatever else it gave means that it cannot import this package.

    Raises
    ------
    DifferentVersionsError
        For the first that differs.
    """
    found = theirs if isinstance(theirs, Mapping) else {}
    for name, wanted in ours.items():
        if found.get(name) != wanted:
            raise DifferentVersionsError(name, found.get(name), wanted)
