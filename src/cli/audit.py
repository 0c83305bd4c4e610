"""Who uses the decision log at the command line."""

import getpass
import os
import sys

import click

from tabserve.api.users import AUDIT, Users, matches
from tabserve.errors import TabserveError
from tabserve.settings import Settings


class NotAllowedError(TabserveError):
    """A person may not see what is logged, or did not say who it is."""


def person(settings: Settings, name: str | None) -> str:
    """The name of the person at the command line, whose access is noted.

    With a users file and AUTH_REQUIRED, this must be a user with the scope `audit` who knows the password: it is taken
    from TABSERVE_PASSWORD, asked for, or read from standard input. Otherwise it is the system's user.

    Raises
    ------
    NotAllowedError
        When it is not said who it is, or this user may not.
    UsersFileError
        When the users file cannot be used.
    """
    users = Users(settings.auth_users_file).read() if settings.auth_required else {}
    if not users:
        return getpass.getuser()
    if name is None:
        raise NotAllowedError("Say who you are with --by NAME: a user in AUTH_USERS_FILE with the scope `audit`.")
    user = users.get(name)
    password = os.environ.get("TABSERVE_PASSWORD") or _asked()
    if not password:
        raise NotAllowedError(f"Give the password of {name} in TABSERVE_PASSWORD, at a terminal or by standard input.")
    if user is None or not matches(user.hash, password):
        raise NotAllowedError("The user's name or password is wrong.")
    if AUDIT not in user.scopes:
        raise NotAllowedError(f"The user {name} does not have the scope `audit`; `tabserve users scopes` gives it.")
    return name


def _asked() -> str:
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True)
        return password
    return sys.stdin.readline().rstrip("\r\n")
