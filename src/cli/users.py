"""`tabserve users`: the users file."""

import sys

import click

from tabserve.api.users import InvalidUserError, Users, check_name
from tabserve.cli.output import as_json, json_option
from tabserve.settings import Settings


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
@click.pass_obj
def add(users: Users, name: str) -> None:
    """Add a user, or change a password.

    The command asks for the password; without a terminal it reads a line of standard input.
    """
    check_name(name)
    is_new = users.add(name, _password())
    click.echo(f"{name} was added." if is_new else f"{name} has a new password.")


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
