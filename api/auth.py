"""Authentication: users by HTTP Basic."""

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
from http import HTTPStatus
from mmap import mmap
from typing import Any

from apiflask import APIFlask, HTTPBasicAuth
from flask import Response, g, request
from werkzeug.datastructures import Authorization
from werkzeug.exceptions import ServiceUnavailable

from tabserve.api import current
from tabserve.api.errors import problem
from tabserve.api.limits import MOST_BY_USER_AND_NETWORK, Counts, FailedAttempts, network_of
from tabserve.api.threads import paused
from tabserve.api.users import SCOPES, User, Users, matches
from tabserve.errors import TabserveError
from tabserve.settings import Settings

logger = logging.getLogger(__name__)

REMEMBERED_FOR = 60.0  # seconds for which a worker trusts verified credentials without reading the users file again
MOST_REMEMBERED = 1000  # verified credentials in a worker
MOST_WAITING = 50  # attempts in a worker that wait to be hashed, which takes 20 to 100 ms each
DIGEST_SIZE = 32  # bytes


class BasicAuth(HTTPBasicAuth):
    """HTTP Basic, strictly as in RFC 7617."""

    def get_auth(self) -> Authorization | None:
        """The request's credentials; None when there are none or they are malformed."""
        # Flask-HTTPAuth's own method accepts any scheme, stray characters, and encodings other than UTF-8
        found = name_and_password(request.headers.get("Authorization", ""))
        return Authorization("basic", {"username": found[0], "password": found[1]}) if found else None

    def get_auth_password(self, auth: Authorization | None) -> None:
        """Return no password to compare with: `verify` compares hashes."""

    def ensure_sync(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function as it is: no view or callback here is a coroutine."""
        return f


def name_and_password(header: str) -> tuple[str, str] | None:
    """What a header `Authorization` says; None when it is malformed or of another scheme."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = b64decode(encoded.lstrip(" "), validate=True).decode().partition(":")
    except ValueError:
        return None
    return (name, password) if colon else None


auth = BasicAuth(realm="Tabserve", description="A user's name and password")


class Verified:
    """Verified credentials, for all workers of a server: memory that processes share after a fork.

    All that is kept is a digest of the name, the password and the hash in the users file, with a key that only these
    processes have. It counts for as long as the users file holds that hash.
    """

    PLACES = 4096  # each for WAYS credentials; when they are all taken, new ones replace one of them
    WAYS = 8

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._places = mmap(-1, self.PLACES * self.WAYS * DIGEST_SIZE)

    def digest(self, name: str, password: str, hash_: str = "") -> bytes:
        """Return the keyed digest of credentials."""
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

    Credentials that were right are remembered. For a minute they are trusted without looking anything up. After that
    the users file is read again, so that removed users are refused, but nothing is hashed: users who were let in once
    are let in at once, however many attempts by others are wrong or waiting.

    All other passwords are hashed one after another, in one thread: a hash takes 19 MiB, which stay allocated for each
    thread that computes one. A wrong attempt is counted there before the next one is checked, so simultaneous attempts
    gain nothing over successive ones.

    Parameters
    ----------
    users : Users
        The users file.
    failures : FailedAttempts
        Refuses attempts after too many wrong ones.
    """

    def __init__(self, users: Users, failures: FailedAttempts) -> None:
        self._users = users
        self._failures = failures
        self._remembered: dict[bytes, tuple[float, frozenset[str]]] = {}  # digest to end and scopes, the oldest first
        self._lock = threading.Lock()
        self._hashing = ThreadPoolExecutor(1, "hashing")
        self._waiting = threading.BoundedSemaphore(MOST_WAITING)

    def remembered(self, header: str, scope: str) -> str | None:
        """The user whose credentials are in a header `Authorization`.

        None unless they were right a short time ago and the user has the scope.
        """
        found = name_and_password(header)
        return found[0] if found and scope in self._recent(VERIFIED.digest(*found)) else None

    def scopes_of(self, name: str, password: str, network: str) -> frozenset[str]:
        """What the user with that name and that password may do; nothing when there is no such user.

        Raises
        ------
        TooManyRequests
            After too many wrong attempts; the password is not checked then.
        ServiceUnavailable
            When too many passwords are waiting to be checked.
        UsersFileError
            When the users file cannot be used.
        """
        now = time.monotonic()
        digest = VERIFIED.digest(name, password)
        if recent := self._recent(digest):
            return recent
        users = self._users.read()
        if self._is_verified(name, password, users) or self._check_in_turn(name, password, network, users):
            self._remember(digest, now + REMEMBERED_FOR, users[name].scopes)
            return users[name].scopes
        return frozenset()

    def _recent(self, digest: bytes) -> frozenset[str]:
        until, scopes = self._remembered.get(digest, (0.0, frozenset[str]()))
        return scopes if time.monotonic() < until else frozenset()

    def _is_verified(self, name: str, password: str, users: dict[str, User]) -> bool:
        return name in users and VERIFIED.digest(name, password, users[name].hash) in VERIFIED

    def _check_in_turn(self, *attempt: Any) -> bool:
        self._check_failures(*attempt)  # before waiting, too: an attempt that will be refused need not wait
        if not self._waiting.acquire(blocking=False):
            raise ServiceUnavailable("Too many passwords are waiting to be checked; try again.", retry_after=1)
        try:
            with paused():
                return self._hashing.submit(self._check, *attempt).result()
        finally:
            self._waiting.release()

    def _check(self, name: str, password: str, network: str, users: dict[str, User]) -> bool:
        if self._is_verified(name, password, users):  # while this attempt was waiting
            return True
        user = self._check_failures(name, password, network, users)
        is_known = name in users
        # for an unknown name, somebody else's hash is compared, so that the answer takes as long
        compared = users[name] if is_known else next(iter(users.values()), None)
        is_equal = compared is not None and matches(compared.hash, password)
        if is_known and is_equal:
            VERIFIED.add(VERIFIED.digest(name, password, users[name].hash))
            return True
        number = self._failures.add(user, network)
        # an unknown name may be a password, typed in the wrong field
        who = name if is_known else "an unknown user"
        logger.warning("refused %s from %s: attempt %d of %d a minute", who, network, number, MOST_BY_USER_AND_NETWORK)
        return False

    def _check_failures(self, name: str, password: str, network: str, users: dict[str, User]) -> str:
        """Refuse what was wrong too often; what stands for the name where that is counted."""
        hashes = "".join(known.hash for known in users.values())
        key = blake2b(hashes.encode()).digest()  # all replicas have it, and nobody else
        user = blake2b(name.encode(), key=key, digest_size=16).hexdigest()
        self._failures.check(user, network)
        return user

    def _remember(self, digest: bytes, until: float, scopes: frozenset[str]) -> None:
        with self._lock:
            self._remembered.pop(digest, None)
            self._remembered[digest] = until, scopes
            if len(self._remembered) > MOST_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]


@auth.verify_password  # type: ignore[untyped-decorator]  # Flask-HTTPAuth has no types
def verify(name: str, password: str) -> str | None:
    """Return the user's name if the request's credentials are right."""
    if not name:  # no credentials: this does not count as an attempt
        return None
    credentials: Credentials = current.extension("credentials")
    g.scopes = credentials.scopes_of(name, password, network_of(request.remote_addr))
    return name if g.scopes else None


@auth.error_handler  # type: ignore[untyped-decorator]
def refuse(status: int) -> Response:
    """Ask for credentials, without saying what was wrong with those that were sent."""
    return problem(status, "Send a user's name and password by HTTP Basic.")


@cache  # one function for each scope, by which the OpenAPI document knows the routes
def require_scope(scope: str) -> Callable[[], Response | None]:
    """For `before_request` of blueprints that only users with a scope may use, whatever AUTH_REQUIRED is."""

    def check_scope() -> Response | None:
        is_open = request.method == "OPTIONS"  # nobody is asked for credentials: browsers ask it before they have any
        return None if is_open or scope in g.scopes else problem(HTTPStatus.FORBIDDEN, _missing(scope))

    required: Callable[[], Response | None] = auth.login_required(check_scope)
    return required


@cache
def require_scope_if_set(scope: str) -> Callable[[], Response | None]:
    """For `before_request` of blueprints that only users with a scope may use if AUTH_REQUIRED is on."""
    return lambda: require_scope(scope)() if current.settings().auth_required else None


def guards(settings: Settings) -> list[Callable[[], Response | None]]:
    """What asks for credentials before a request."""
    asking = [require_scope, require_scope_if_set] if settings.auth_required else [require_scope]
    return [guard(scope) for guard in asking for scope in SCOPES]


def _missing(scope: str) -> str:
    return (
        f"This needs the scope `{scope}`, which lets a user {SCOPES[scope]}; "
        "whoever runs the service gives it with `tabserve users scopes`."
    )


def client() -> str:
    """Name the client: the user, or else the network."""
    return client_of(auth.current_user, request.remote_addr)


def client_of(user: str | None, address: str | None) -> str:
    """Name a client by the user, or else by the network of an address."""
    return f"user {user}" if user else f"address {network_of(address)}"


def init_app(app: APIFlask, settings: Settings, counts: Counts) -> None:
    """Let an application check credentials.

    It does not check that there are users. The server does so when it starts (`check_at_start`): when the last user is
    removed later, a new worker must refuse requests and not stop the whole service.
    """
    users = Users(settings.auth_users_file)
    app.extensions["credentials"] = Credentials(users, FailedAttempts(counts))


@cache  # a reload reads gunicorn.conf.py again, and must not end a running service
def check_at_start(settings: Settings) -> None:
    """Exit with one line and no traceback when credentials are required and there are no users."""
    try:
        if settings.auth_required:
            Users(settings.auth_users_file).check_there_are_some()
    except TabserveError as error:
        sys.exit(str(error))
