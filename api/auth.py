"""Who asks: users by HTTP Basic."""

import logging
import os
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from hashlib import blake2b
from mmap import mmap
from typing import Any

from apiflask import APIFlask, HTTPBasicAuth
from flask import Response, request
from tabserve.api import current
from tabserve.api.errors import problem
from tabserve.api.limits import MOST_BY_USER_AND_NETWORK, Counts, FailedAttempts, network_of
from tabserve.api.threads import paused
from tabserve.api.users import Users, matches
from tabserve.errors import TabserveError
from tabserve.settings import Settings
from werkzeug.datastructures import Authorization
from werkzeug.exceptions import ServiceUnavailable

logger = logging.getLogger(__name__)

REMEMBERED_FOR = 60.0  # seconds for which a worker does not look into the users file for credentials that were right
MOST_REMEMBERED = 1000  # credentials that a worker remembers so at a time
MOST_WAITING = 50  # attempts in a worker that wait for a hash, each some 20 to 100 ms
DIGEST_SIZE = 32  # bytes


class BasicAuth(HTTPBasicAuth):
    """HTTP Basic that takes only what RFC 7617 describes."""

    def get_auth(self) -> Authorization | None:
        """The request's credentials; None when there are none or they are malformed."""
        # Flask-HTTPAuth's own takes them under any scheme, among noise, and in other encodings than UTF-8
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        encoded = encoded.lstrip(" ")
        if scheme.lower() != "basic":
            return None
        try:
            name, colon, password = b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return None
        return Authorization("basic", {"username": name, "password": password}) if colon else None

    def get_auth_password(self, auth: Authorization | None) -> None:
        """No password is looked up to compare with: `verify` compares hashes."""

    def ensure_sync(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function as it is: no view and no callback here is awaited."""
        return f


auth = BasicAuth(realm="Tabserve", description="A user's name and password")


class Verified:
    """Credentials that were right, for all workers of a server: memory that processes share after a fork.

    What is kept of each is a digest of name, password and the hash in the users file, with a key that only these
    processes have: it says that the password is right for this hash, for as long as the file holds it.
    """

    PLACES = 4096  # of so many credentials each; what comes when a place is full takes over from one of those
    WAYS = 8

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._places = mmap(-1, self.PLACES * self.WAYS * DIGEST_SIZE)

    def digest(self, name: str, password: str, hash_: str = "") -> bytes:
        """Return what stands for credentials."""
        content = repr((name, password, hash_))
        return blake2b(content.encode(), key=self._key, digest_size=DIGEST_SIZE).digest()

    def add(self, digest: bytes) -> None:
        ways = self._ways(digest)
        taken = [bytes(self._places[way]) for way in ways]
        free = next((way for way, other in zip(ways, taken, strict=True) if other == bytes(DIGEST_SIZE)), None)
        if digest not in taken:
            self._places[free or ways[digest[4] % self.WAYS]] = digest

    def __contains__(self, digest: bytes) -> bool:
        return any(self._places[way] == digest for way in self._ways(digest))

    def _ways(self, digest: bytes) -> list[slice]:
        start = int.from_bytes(digest[:4]) % self.PLACES * self.WAYS
        return [slice(at * DIGEST_SIZE, (at + 1) * DIGEST_SIZE) for at in range(start, start + self.WAYS)]


VERIFIED = Verified()  # made when gunicorn's master imports this module, before it forks


class Credentials:
    """Checks names and passwords.

    What was right is remembered. For a minute nothing is asked then; after it the users file is read again, so that
    who was removed from it is refused, but nothing is hashed: however many attempts by others are wrong or wait, users
    who were let in once are let in.

    All others wait until the passwords before theirs are hashed, in one thread: each hash takes 19 MiB, which stay with
    the thread that it was computed in. What is wrong is counted there before the next one is checked, so that attempts
    at the same time are no more than those one after another.

    Parameters
    ----------
    users : Users
        Who may ask.
    failures : FailedAttempts
        Which attempts are to be refused.
    """

    def __init__(self, users: Users, failures: FailedAttempts) -> None:
        self._users = users
        self._failures = failures
        self._remembered: dict[bytes, float] = {}  # until when, the oldest first
        self._lock = threading.Lock()
        self._hashing = ThreadPoolExecutor(1, "hashing")
        self._waiting = threading.BoundedSemaphore(MOST_WAITING)

    def are_right(self, name: str, password: str, network: str) -> bool:
        """Whether a user has that name and that password.

        Raises
        ------
        TooManyRequests
            When too many attempts were wrong; nothing was checked then.
        ServiceUnavailable
            When too many wait for their passwords to be checked.
        UsersFileError
            When the users file cannot be used.
        """
        now = time.monotonic()
        digest = VERIFIED.digest(name, password)
        if now < self._remembered.get(digest, 0.0):
            return True
        hashes = self._users.read()
        if self._is_verified(name, password, hashes) or self._check_in_turn(name, password, network, hashes):
            self._remember(digest, now + REMEMBERED_FOR)
            return True
        return False

    def _is_verified(self, name: str, password: str, hashes: dict[str, str]) -> bool:
        return name in hashes and VERIFIED.digest(name, password, hashes[name]) in VERIFIED

    def _check_in_turn(self, *attempt: Any) -> bool:
        self._check_failures(*attempt)  # before it waits, too: those who will be refused need not
        if not self._waiting.acquire(blocking=False):
            raise ServiceUnavailable("Too many passwords wait to be checked; try again.", retry_after=1)
        try:
            with paused():
                return self._hashing.submit(self._check, *attempt).result()
        finally:
            self._waiting.release()

    def _check(self, name: str, password: str, network: str, hashes: dict[str, str]) -> bool:
        if self._is_verified(name, password, hashes):  # by now
            return True
        user = self._check_failures(name, password, network, hashes)
        is_known = name in hashes
        # the password of nobody is compared with somebody's, so that the answer takes as long
        hash_ = hashes[name] if is_known else next(iter(hashes.values()), None)
        is_equal = hash_ is not None and matches(hash_, password)
        if is_known and is_equal:
            VERIFIED.add(VERIFIED.digest(name, password, hashes[name]))
            return True
        number = self._failures.add(user, network)
        # an unknown name may be a password, typed in the wrong field
        who = name if is_known else "an unknown user"
        logger.warning("refused %s from %s: attempt %d of %d a minute", who, network, number, MOST_BY_USER_AND_NETWORK)
        return False

    def _check_failures(self, name: str, password: str, network: str, hashes: dict[str, str]) -> str:
        """Refuse what was wrong too often; what stands for the name where that is counted."""
        key = blake2b("".join(hashes.values()).encode()).digest()  # all replicas have it, and nobody else
        user = blake2b(name.encode(), key=key, digest_size=16).hexdigest()
        self._failures.check(user, network)
        return user

    def _remember(self, digest: bytes, until: float) -> None:
        with self._lock:
            self._remembered.pop(digest, None)
            self._remembered[digest] = until
            if len(self._remembered) > MOST_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]


@auth.verify_password  # type: ignore[untyped-decorator]  # Flask-HTTPAuth has no types
def verify(name: str, password: str) -> str | None:
    """Name the user whose credentials a request holds."""
    if not name:  # there are none, which is no attempt
        return None
    credentials: Credentials = current.extension("credentials")
    return name if credentials.are_right(name, password, network_of(request.remote_addr)) else None


@auth.error_handler  # type: ignore[untyped-decorator]
def refuse(status: int) -> Response:
    """Ask for credentials, whatever was wrong with those that came."""
    return problem(status, "This needs the name and the password of a user, by HTTP Basic.")


def _let_in() -> None:
    """Go on to the view."""


require_user = auth.login_required(_let_in)  # before the requests of a blueprint whose views are for users alone


def require_user_if_set() -> Response | None:
    """Ask for credentials where AUTH_REQUIRED is on."""
    refusal: Response | None = require_user() if current.settings().auth_required else None
    return refusal


def client() -> str:
    """Say who asks: the user, or else the network."""
    return f"user {auth.current_user}" if auth.current_user else f"address {network_of(request.remote_addr)}"


def init_app(app: APIFlask, settings: Settings, counts: Counts) -> None:
    """Let users be known to an application.

    That there are some is for the server to check at its start: when the last one is removed later, a worker that
    replaces another must refuse requests, and not stop the whole service.
    """
    users = Users(settings.auth_users_file)
    app.extensions["credentials"] = Credentials(users, FailedAttempts(counts))


@cache  # a reload reads gunicorn.conf.py again, and must not end a service that runs
def check_at_start(settings: Settings) -> None:
    """End the process with one line and no traceback when credentials are required and nobody can have any."""
    try:
        if settings.auth_required:
            Users(settings.auth_users_file).check_there_are_some()
    except TabserveError as error:
        sys.exit(str(error))
