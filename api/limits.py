"""Limits on a client's requests, and on wrong passwords."""

import logging
import math
import re
import threading
import time
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from apiflask import APIFlask
from flask import Response, request
from werkzeug.exceptions import TooManyRequests

from tabserve.api import current
from tabserve.api.errors import problem
from tabserve.settings import Settings

logger = logging.getLogger(__name__)

WITH_PORT = re.compile(r"\[([0-9a-fA-F:.]+)\](?::[0-9]+)?|([0-9.]+):[0-9]+", re.ASCII)

STORAGE_OPTIONS: dict[str, str | int] = {"socket_connect_timeout": 1, "socket_timeout": 1}  # seconds
STORAGE_RETRY = 30.0  # seconds before a storage that could not be reached is tried again
PREFIX = "tabserve:"  # of our keys in Redis
MOST_IN_MEMORY = 50_000  # clients that a worker counts for itself

MINUTE = 60  # seconds after the first wrong password; then it and those that followed are forgotten
MOST_BY_USER_AND_NETWORK = 10  # wrong passwords a minute for one name from one network
MOST_BY_NETWORK = 100  # for all names from one network: against trying name after name
MOST_BY_USER = 100  # for one name from all networks: against those who have many networks


class Count(NamedTuple):
    """How many events there were, and the seconds until they are forgotten."""

    number: int
    seconds: float


class _Memory:
    """Counts of one worker, by the monotonic clock, which setting the machine's clock does not change."""

    failures: tuple[type[Exception], ...] = ()

    def __init__(self) -> None:
        self._counts: dict[str, Count] = {}  # here `seconds` is the end, by the clock; the oldest first
        self._lock = threading.Lock()

    def add(self, key: str, seconds: int) -> Count:
        now = time.monotonic()
        with self._lock:
            number, end = self._counts.get(key, Count(0, now))
            if end <= now:
                self._counts.pop(key, None)
                number, end = 0, now + seconds
            self._counts[key] = Count(number + 1, end)
            if len(self._counts) > MOST_IN_MEMORY:
                del self._counts[next(iter(self._counts))]
        return Count(number + 1, end - now)

    def read(self, key: str) -> Count:
        number, end = self._counts.get(key, Count(0, 0.0))
        left = end - time.monotonic()
        return Count(number, left) if left > 0 else Count(0, 0.0)


class _Redis:
    """Counts in a Redis, shared by all who use it, by its clock."""

    ADD = """
        local number = redis.call('INCR', KEYS[1])
        if number == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
        return {number, redis.call('PTTL', KEYS[1])}
    """

    def __init__(self, url: str) -> None:
        from redis import Redis, RedisError  # 25 MB, only for those who use it

        self.failures: tuple[type[Exception], ...] = (RedisError,)
        self._redis = Redis.from_url(url, **STORAGE_OPTIONS)
        self._add = self._redis.register_script(self.ADD)

    def add(self, key: str, seconds: int) -> Count:
        number, milliseconds = self._add([PREFIX + key], [seconds])
        return Count(number, milliseconds / 1000)

    def read(self, key: str) -> Count:
        commands = self._redis.pipeline()
        commands.get(PREFIX + key)
        commands.pttl(PREFIX + key)
        number, milliseconds = commands.execute()
        return Count(int(number or 0), milliseconds / 1000)


class Counts:
    """Counts events by key, for all workers together when they share a storage.

    Parameters
    ----------
    storage : str
        The setting RATE_LIMIT_STORAGE; while it cannot be reached, each worker counts for itself.
    """

    def __init__(self, storage: str) -> None:
        self._memory = _Memory()
        self._shared: _Memory | _Redis = self._memory if storage == "memory://" else _Redis(storage)
        self._retry_at = 0.0
        self._is_away = False

    @property
    def is_local(self) -> bool:
        """Whether counting is a matter of this process alone, and so takes no time."""
        return self._shared is self._memory

    def add(self, key: str, seconds: int) -> Count:
        """Count one more event; all events of a key are forgotten so many seconds after the first."""
        return self._ask(lambda storage: storage.add(key, seconds))

    def read(self, key: str) -> Count:
        """The count of a key."""
        return self._ask(lambda storage: storage.read(key))

    def _ask(self, question: Callable[[_Memory | _Redis], Count]) -> Count:
        """The answer of the shared storage, or of this worker's memory when it cannot be reached."""
        if time.monotonic() >= self._retry_at:
            try:
                answer = question(self._shared)
            except self._shared.failures:
                if not self._is_away:
                    logger.warning("RATE_LIMIT_STORAGE cannot be reached: each worker counts for itself")
                self._is_away = True
                self._retry_at = time.monotonic() + STORAGE_RETRY
            else:
                self._is_away = False
                return answer
        return question(self._memory)


class FailedAttempts:
    """Refuses attempts at passwords after too many wrong ones.

    Names that exist and names that do not are treated alike, so that nobody can tell them apart.

    Parameters
    ----------
    counts : Counts
        Where the attempts are counted.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def check(self, user: str, network: str) -> None:
        """Raise TooManyRequests after too many wrong attempts by the user, the network, or both together."""
        for key, most in _limits(user, network).items():
            number, seconds = self._counts.read(key)
            if number >= most:
                raise TooManyRequests(
                    "Too many failed attempts; wait before the next one.", retry_after=_whole(seconds)
                )

    def add(self, user: str, network: str) -> int:
        """Count a wrong attempt; return how many there are by this user from this network."""
        number, *_ = (self._counts.add(key, MINUTE).number for key in _limits(user, network))
        return number


def _limits(user: str, network: str) -> dict[str, int]:
    return {
        f"attempts/{user}/{network}": MOST_BY_USER_AND_NETWORK,
        f"attempts//{network}": MOST_BY_NETWORK,
        f"attempts/{user}/": MOST_BY_USER,
    }


def network_of(address: str | None) -> str:
    """What counts as one client: an IPv4 address, however it is written, or the /64 of an IPv6 address.

    An IPv6 subscriber has at least a /64, which is 18 quintillion addresses.
    """
    text = str(address)
    if with_port := WITH_PORT.fullmatch(text):  # as some proxies write it
        text = with_port[1] or with_port[2]
    try:
        parsed = ip_address(text)
    except ValueError:
        return repr(address)[:64]  # a proxy may send anything
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or IPv6Network((int(parsed), 64), strict=False))


class RateLimit:
    """Limits a client's requests, to all counted routes together.

    Parameters
    ----------
    text : str
        The setting RATE_LIMIT.
    client : callable
        Names the client of the current request.
    counts : Counts
        Where the requests are counted.
    """

    def __init__(self, text: str, client: Callable[[], str], counts: Counts) -> None:
        from limits import parse_many  # most services have no limit

        # the shortest first: what it refuses does not count towards the longer ones
        self._limits = sorted(parse_many(text), key=lambda limit: limit.get_expiry())
        self._client = client
        self._counts = counts

    def admits(self, client: str) -> bool:
        """Count a request if that needs nobody else, and it is not one too many; otherwise count nothing."""
        if not self._counts.is_local:
            return False
        keys = {f"requests/{limit}/{client}": limit for limit in self._limits}
        if any(self._counts.read(key).number >= limit.amount for key, limit in keys.items()):
            return False
        for key, limit in keys.items():
            self._counts.add(key, limit.get_expiry())
        return True

    def count(self) -> Response | None:
        """Count a request; return the refusal if it is one too many."""
        client = self._client()
        for limit in self._limits:
            number, seconds = self._counts.add(f"requests/{limit}/{client}", limit.get_expiry())
            if number > limit.amount:
                if number == limit.amount + 1:
                    logger.info("%s asked for more than %s", client, limit)
                return _refusal(str(limit), seconds)
        return None


def count_request() -> Response | None:
    """Count the current request before it reaches its view; return the refusal if it is one too many."""
    rate_limit: RateLimit | None = current.extension("rate_limit")
    return rate_limit.count() if rate_limit and request.method != "OPTIONS" else None


def init_app(app: APIFlask, settings: Settings, client: Callable[[], str], counts: Counts) -> None:
    """Limit the requests of blueprints that count them, if RATE_LIMIT is set."""
    app.extensions["rate_limit"] = RateLimit(settings.rate_limit, client, counts) if settings.rate_limit else None


def _refusal(limit: str, seconds: float) -> Response:
    detail = f"Too many requests: the limit is {limit}."
    return problem(429, detail, headers={"Retry-After": str(_whole(seconds))})


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))
