"""`tabserve users`: the users file."""

import sys

import click

from tabserve.api.users import InvalidUserError, UnknownUserError, Users, check_name, check_scopes, in_order
from tabserve.cli.output import as_json, json_option
from tabserve.settings import Settings


class Scopes(click.ParamType[frozenset[str]]):
    """Scopes with commas between them."""

    name = "scopes"

    def convert(self, value: str, param: click.Parameter | None, context: click.Context | None) -> frozenset[str]:
        """The scopes; InvalidUserError says which there are."""
        return check_scopes(value.split(","))


@click.group()
@click.pass_context
def users(context: click.Context) -> None:
    """List, add and remove the users in AUTH_USERS_FILE."""
    context.obj = Users(Settings.from_environment().auth_users_file)


@users.command("list")
@json_option
@click.pass_obj
def list_(users: Users, is_json: bool) -> None:
    """Print the users' names."""
    names = sorted(users.read())
    click.echo(as_json(names) if is_json else "\n".join(names), nl=is_json or bool(names))


@users.command()
@click.argument("name")
@click.option("--scope", type=Scopes(), help="What the user may do: predict, read, audit. By default predict,read.")
@click.pass_obj
def add(users: Users, name: str, scope: frozenset[str] | None) -> None:
    """Add a user, or change a password.

    The command asks for the password; without a terminal it reads a line of standard input.
    """
    check_name(name)
    is_new = users.add(name, _password(), scope)
    click.echo(f"{name} was added." if is_new else f"{name} has a new password.")


@users.command()
@click.argument("name")
@click.argument("scopes", type=Scopes(), required=False)
@click.pass_obj
def scopes(users: Users, name: str, scopes: frozenset[str] | None) -> None:
    """Print what a user may do, or change it to SCOPES.

    SCOPES is one or more of predict, read and audit, with commas between them. A running service knows within a minute.
    """
    if scopes:
        users.allow(name, scopes)
    user = users.read().get(name)
    if user is None:
        raise UnknownUserError
    click.echo(",".join(in_order(user.scopes)))


@users.command()
@click.argument("name")
@click.pass_obj
def remove(users: Users, name: str) -> None:
    """Remove a user.

    A running service refuses the user within a minute.
    """
    users.remove(name)
    click.echo(f"{name} was removed.")


def _password() -> str:
    """A password from the terminal or from another program, never from an argument, which other users can see."""
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        return password
    line = sys.stdin.buffer.readline()
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise InvalidUserError("The password must be UTF-8 text.") from None
