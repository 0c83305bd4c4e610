"""The users file: a line for each user, with the name, a hash of the password and what the user may do."""

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from argon2 import PasswordHasher, Type
from argon2.exceptions import VerificationError, VerifyMismatchError

from tabserve.errors import TabserveError

SHORTEST_PASSWORD = 8  # characters, as NIST SP 800-63B asks
LONGEST_PASSWORD = 1024  # bytes in UTF-8

PREDICT, READ, AUDIT = "predict", "read", "audit"  # scopes
SCOPES = {
    PREDICT: "get predictions, and report outcomes",
    READ: "see how models do: figures, never records",
    AUDIT: "see logged decisions with their records",
}
DEFAULT_SCOPES = frozenset({PREDICT, READ})  # of a user whose line names none

_NAME = r"[A-Za-z0-9._@-]{1,64}"
_HASH = r"\$argon2id\$v=19\$m=[0-9]{1,8},t=[0-9]{1,4},p=[0-9]{1,4}\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}"
_SCOPE = "|".join(SCOPES)
_LINE = re.compile(f"({_NAME}):({_HASH})(?::((?:{_SCOPE})(?:,(?:{_SCOPE}))*))?".encode())
# OWASP's smaller parameters: 19 MiB for each hash; the library's own 64 MiB are too much for a small container
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, type=Type.ID)


class UsersFileError(TabserveError):
    """The users file cannot be used. The message gives the reason, and neither its path nor its content."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The users file (AUTH_USERS_FILE) cannot be used: {reason}.")


class NoUsersError(TabserveError):
    """Credentials are required and there are no users."""

    def __init__(self) -> None:
        super().__init__(
            "AUTH_REQUIRED is on and the users file (AUTH_USERS_FILE) has no user: "
            "add one with `tabserve users add NAME`, or set AUTH_REQUIRED=false."
        )


class UnknownUserError(TabserveError):
    """No user has that name."""

    def __init__(self) -> None:
        super().__init__("There is no user of that name; `tabserve users list` shows all users.")


class InvalidUserError(TabserveError):
    """A name, a password or a scope that no user may have."""


class User(NamedTuple):
    """What the file says of a user: the password's hash, and what the user may do."""

    hash: str
    scopes: frozenset[str] = DEFAULT_SCOPES

    def line(self, name: str) -> str:
        """The user's line; the scopes that everybody has are not written."""
        scopes = "" if self.scopes == DEFAULT_SCOPES else f":{','.join(in_order(self.scopes))}"
        return f"{name}:{self.hash}{scopes}\n"


class Users:
    """The users in a file of lines `name:hash` or `name:hash:scope,scope`.

    Parameters
    ----------
    path : Path
        The file; made when the first user is added.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, User]:
        """The users, by name.

        Raises
        ------
        UsersFileError
            When the file cannot be read, or a line in it is not a user's.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UsersFileError(f"reading it failed ({type(error).__name__})") from None
        users: dict[str, User] = {}
        for number, line in enumerate(content.splitlines(), 1):
            found = _LINE.fullmatch(line)
            if found is None:
                raise UsersFileError(
                    f"line {number} is not a name, a colon and an argon2id hash, with or without a colon and scopes"
                )
            name, hash_, scopes = (part.decode() for part in found.groups(b""))
            if name in users:
                raise UsersFileError(f"line {number} has the name of a line above it")
            users[name] = User(hash_, frozenset(scopes.split(",")) if scopes else DEFAULT_SCOPES)
        return users

    def check_there_are_some(self) -> None:
        """Raise NoUsersError when there are none."""
        if not self.read():
            raise NoUsersError

    def add(self, name: str, password: str, scopes: Iterable[str] | None = None) -> bool:
        """Add a user, or change a user's password; return whether the user is new.

        Without scopes, a new user has the usual ones, and another keeps those that are in the file.

        Raises
        ------
        InvalidUserError
            For a name, a password or a scope that no user may have.
        UsersFileError
            When the file cannot be read or written.
        """
        check_name(name)
        check_password(password)
        given = None if scopes is None else check_scopes(scopes)
        hash_ = _HASHER.hash(password)
        with self._changed() as users:
            is_new = name not in users
            kept = DEFAULT_SCOPES if is_new else users[name].scopes
            users[name] = User(hash_, kept if given is None else given)
        return is_new

    def allow(self, name: str, scopes: Iterable[str]) -> None:
        """Change what a user may do to exactly this.

        Raises
        ------
        InvalidUserError
            For a scope that there is not, or none at all.
        UnknownUserError
            When there is no user of that name.
        UsersFileError
            When the file cannot be read or written.
        """
        allowed = check_scopes(scopes)
        with self._changed() as users:
            if name not in users:
                raise UnknownUserError
            users[name] = users[name]._replace(scopes=allowed)

    def remove(self, name: str) -> None:
        """Remove a user.

        Raises
        ------
        UnknownUserError
            When there is none of that name.
        UsersFileError
            When the file cannot be read or written.
        """
        with self._changed() as users:
            if users.pop(name, None) is None:
                raise UnknownUserError

    @contextmanager
    def _changed(self) -> Iterator[dict[str, User]]:
        """The users, written back after the `with` block; a lock keeps others from changing them meanwhile."""
        try:
            folder = os.open(self._path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)  # not the file itself: it is replaced
                users = self.read()
                yield users
                self._write("".join(user.line(name) for name, user in users.items()).encode())
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise UsersFileError(f"writing it failed ({type(error).__name__})") from None

    def _write(self, content: bytes) -> None:
        path = self._path.resolve()  # a symbolic link stays one
        temporary = path.with_name(f".{path.name}.new")
        temporary.unlink(missing_ok=True)  # left by a process that was killed
        with open(temporary, "xb", opener=_private) as file:
            if path.exists():  # when root adds a user, the file stays the service's
                owner = path.stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def check_name(name: str) -> None:
    """Raise InvalidUserError for a name that no user may have."""
    if not re.fullmatch(_NAME, name):
        raise InvalidUserError("A user's name has 1 to 64 characters: letters (a-z, A-Z), digits and . _ - @.")


def check_password(password: str) -> None:
    """Raise InvalidUserError for a password that no user may have."""
    if len(password) < SHORTEST_PASSWORD:
        raise InvalidUserError(f"The password must have at least {SHORTEST_PASSWORD} characters.")
    try:
        length = len(password.encode())
    except UnicodeEncodeError:  # what Python makes of bytes from a terminal that are not UTF-8
        raise InvalidUserError("The password must be UTF-8 text.") from None
    if length > LONGEST_PASSWORD:
        raise InvalidUserError(f"The password must have at most {LONGEST_PASSWORD} bytes.")


def check_scopes(scopes: Iterable[str]) -> frozenset[str]:
    """Return the scopes; raise InvalidUserError for one that there is not, or for none at all."""
    found = frozenset(scopes)
    if not found or not found <= SCOPES.keys():
        raise InvalidUserError(f"A user has one or more of the scopes {', '.join(SCOPES)}, with commas between them.")
    return found


def in_order(scopes: frozenset[str]) -> list[str]:
    """Scopes in the order in which they are always written."""
    return [scope for scope in SCOPES if scope in scopes]


def matches(hash_: str, password: str) -> bool:
    """Whether a password has this hash.

    Raises
    ------
    UsersFileError
        When argon2 cannot use the hash, or there is not enough memory to compute it.
    """
    try:
        return _HASHER.verify(hash_, password)
    except VerifyMismatchError:
        return False
    except VerificationError:
        raise UsersFileError("a hash in it could not be computed again") from None


def _private(path: str, flags: int) -> int:
    """Make a file that only its owner can read and write."""
    return os.open(path, flags, 0o600)
