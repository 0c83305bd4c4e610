"""Who asks: users by HTTP Basic."""

import logging
import os
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Any

from apiflask import APIFlask, HTTPBasicAuth
from flask import Response, current_app, request
from werkzeug.datastructures import Authorization

from api.config import Settings
from api.errors import problem
from api.limits import FAILURES, FailedAttempts
from api.users import Users, matches
from src.errors import TabserveError

logger = logging.getLogger(__name__)

REMEMBERED_FOR = 60.0  # seconds for which credentials that were right are not checked again
MOST_REMEMBERED = 1000  # credentials that are remembered at a time


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


class Credentials:
    """Checks names and passwords.

    Those that were right are remembered for a while, not by themselves but by a digest with a key of this process. The
    file is read anew for all others, so that who was removed from it is refused when that while is over.

    Parameters
    ----------
    users : Users
        Who may ask.
    failures : FailedAttempts
        Which addresses are to be refused.
    """

    def __init__(self, users: Users, failures: FailedAttempts) -> None:
        self._users = users
        self._failures = failures
        self._key = os.urandom(32)
        self._remembered: dict[bytes, float] = {}  # until when, the oldest first
        self._lock = threading.Lock()
        # One hash at a time: each takes 19 MiB, which stay with the thread that it was computed in.
        self._hashing = ThreadPoolExecutor(1, "hashing")

    def are_right(self, name: str, password: str, address: str) -> bool:
        """Whether a user has that name and that password.

        Raises
        ------
        TooManyRequests
            When too many attempts from this address were wrong; nothing was checked then.
        UsersFileError
            When the users file cannot be used.
        """
        now = time.monotonic()
        digest = blake2b(f"{len(name)}:{name}{password}".encode(), key=self._key).digest()
        if now < self._remembered.get(digest, 0.0):
            return True
        hashes = self._users.read()
        number = self._failures.begin(address)
        is_known = name in hashes
        # the password of nobody is compared with somebody's, so that the answer takes as long
        hash_ = hashes[name] if is_known else next(iter(hashes.values()), None)
        is_equal = hash_ is not None and self._hashing.submit(matches, hash_, password).result()
        if not (is_known and is_equal):
            # an unknown name may be a password, typed in the wrong field
            who = name if is_known else "an unknown user"
            logger.warning("refused %s from %r: attempt %d of %d a minute", who, address, number, FAILURES.amount)
            return False
        self._failures.take_back(address)
        self._remember(digest, now + REMEMBERED_FOR)
        return True

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
    credentials: Credentials = current_app.extensions["credentials"]
    return name if credentials.are_right(name, password, str(request.remote_addr)) else None


@auth.error_handler  # type: ignore[untyped-decorator]
def refuse(status: int) -> Response:
    """Ask for credentials, whatever was wrong with those that came."""
    return problem(status, "This needs the name and the password of a user, by HTTP Basic.")


def client() -> str:
    """Say who asks: the user, or else the address."""
    return f"user {auth.current_user}" if auth.current_user else f"address {request.remote_addr}"


def init_app(app: APIFlask, settings: Settings) -> None:
    """Let users be known to an application.

    That there are some is for the server to check at its start: when the last one is removed later, a worker that
    replaces another must refuse requests, and not stop the whole service.
    """
    users = Users(settings.auth_users_file)
    app.extensions["credentials"] = Credentials(users, FailedAttempts(settings.rate_limit_storage))


def require(app: APIFlask, blueprints: Collection[str]) -> None:
    """Ask for credentials before each view of some blueprints, and of any other that is decorated to need them.

    The decorator alone would ask too late, after what an application has put around the view: its limit.
    """
    for endpoint, view in app.view_functions.items():
        spec = getattr(view, "_spec", {})
        if endpoint.partition(".")[0] in blueprints or "auth" in spec:
            protected = auth.login_required(view)
            # where APIFlask's own decorator notes it, but in a copy: other applications share the view
            protected._spec = {**spec, "auth": auth, "roles": []}
            app.view_functions[endpoint] = protected


def check_at_start(settings: Settings) -> None:
    """End the process with one line and no traceback when credentials are required and nobody can have any."""
    try:
        if settings.auth_required:
            Users(settings.auth_users_file).check_there_are_some()
    except TabserveError as error:
        sys.exit(str(error))
