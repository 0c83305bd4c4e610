"""How often a client may ask, and how often it may be wrong."""

import logging
import math
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from apiflask import APIFlask
from flask import Response
from limits import parse
from limits.errors import StorageError
from limits.storage import MemoryStorage, Storage, storage_from_string
from werkzeug.exceptions import TooManyRequests

from api.config import Settings
from api.errors import problem

logger = logging.getLogger(__name__)

FAILURES = parse("10 per minute")  # attempts at a password from one address that may be wrong
STORAGE_OPTIONS: dict[str, str | int] = {"socket_connect_timeout": 1, "socket_timeout": 1}  # seconds
STORAGE_RETRY = 30.0  # seconds for which a storage that could not be reached is not asked again

T = TypeVar("T")


class FailedAttempts:
    """Counts attempts at passwords by address, for all workers in the storage that they share.

    An attempt counts from its beginning, so that attempts at the same time are not more than those one by one, and is
    taken back when it turns out to be right.

    Parameters
    ----------
    storage : str
        What RATE_LIMIT_STORAGE says; while it cannot be reached, each worker counts for itself.
    """

    def __init__(self, storage: str) -> None:
        shared = storage_from_string(storage, wrap_exceptions=True, **STORAGE_OPTIONS)
        assert isinstance(shared, Storage)  # the other kind is for asyncio
        self._shared = shared
        self._memory = MemoryStorage()
        self._retry_at = 0.0
        self._is_away = False
        self._lock = threading.Lock()  # MemoryStorage forgets attempts that are counted at the same moment

    def begin(self, address: str) -> int:
        """Count an attempt; how many there are now.

        Raises
        ------
        TooManyRequests
            When there are too many already; this one is not counted then.
        """
        key = FAILURES.key_for("attempts", address)

        def count(storage: Storage) -> tuple[int, float]:
            number = storage.incr(key, FAILURES.get_expiry())
            expires = storage.get_expiry(key)
            if number > FAILURES.amount:
                _decrement(storage, key)
            return number, expires

        number, expires = self._ask(count)
        if number > FAILURES.amount:
            detail = "Too many failed attempts; wait before the next one."
            raise TooManyRequests(detail, retry_after=_seconds_until(expires))
        return number

    def take_back(self, address: str) -> None:
        """Count an attempt no longer: it was right."""
        key = FAILURES.key_for("attempts", address)
        self._ask(lambda storage: _decrement(storage, key))

    def _ask(self, question: Callable[[Storage], T]) -> T:
        """The shared storage's answer; the memory's when there is none."""
        with self._lock:
            if time.monotonic() >= self._retry_at:
                try:
                    answer = question(self._shared)
                except StorageError:
                    if not self._is_away:
                        logger.warning("RATE_LIMIT_STORAGE cannot be reached: each worker counts failures for itself")
                    self._is_away = True
                    self._retry_at = time.monotonic() + STORAGE_RETRY
                else:
                    self._is_away = False
                    return answer
            return question(self._memory)


def init_app(app: APIFlask, settings: Settings, blueprints: Collection[str], client: Callable[[], str]) -> None:
    """Limit the requests to all views of some blueprints together, when there is a RATE_LIMIT.

    Parameters
    ----------
    app : APIFlask
        The service, with its blueprints.
    settings : Settings
        RATE_LIMIT and RATE_LIMIT_STORAGE.
    blueprints : collection of str
        Those whose views are limited; of no other is a request counted.
    client : callable
        Says, during a request, whose it is.
    """
    if not settings.rate_limit:
        return
    from flask_limiter import Limiter

    limiter = Limiter(
        client,
        app=app,
        storage_uri=settings.rate_limit_storage,
        storage_options=STORAGE_OPTIONS,
        in_memory_fallback_enabled=True,
        on_breach=lambda breach: _refusal(str(breach.limit), breach.window.reset_time),
    )
    limit: Callable[[Any], Any] = limiter.shared_limit(settings.rate_limit, scope="predictions")
    for endpoint, view in app.view_functions.items():
        if endpoint.partition(".")[0] in blueprints:
            app.view_functions[endpoint] = limit(view)


def _decrement(storage: Storage, key: str) -> None:
    if storage.get(key) > 0:  # a minute that is over takes nothing back, or the next one would have an attempt more
        storage.incr(key, FAILURES.get_expiry(), -1)


def _refusal(limit: str, expires: float) -> Response:
    detail = f"Too many requests: {limit} are answered."
    return problem(429, detail, headers={"Retry-After": str(_seconds_until(expires))})


def _seconds_until(moment: float) -> int:
    return max(1, math.ceil(moment - time.time()))
