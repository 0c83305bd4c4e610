"""Groups of commands that are imported when they run and print expected errors as one line."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import click

from tabserve import log
from tabserve.cli.interrupt import raise_at_interrupt
from tabserve.errors import TabserveError, UnknownModelError

INTERRUPTED = 130  # exit status, as in shells: 128 plus the signal's number
NO_MODEL = "There is no model of that name; `tabserve models list` lists all models."


class Lazy(click.Command):
    """Stands in for a command until it is needed.

    Parameters
    ----------
    name : str
        The command's name.
    place : str
        Its module and its name there, separated by a colon.
    short_help : str
        Its line in the list of commands.
    """

    def __init__(self, name: str, place: str, short_help: str) -> None:
        super().__init__(name, short_help=short_help)
        self.place = place

    def load(self) -> click.Command:
        """Import the command."""
        module, _, name = self.place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


class Group(click.Group):
    """Commands that end expected errors and Ctrl-C with one line and an exit status."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _in_one_line():  # --help and --version print here
            return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(command, Lazy):
            command = command.load()
        raise_at_interrupt()
        return name, command, rest

    def invoke(self, ctx: click.Context) -> object:
        log.configure_command()
        with _in_one_line():
            return super().invoke(ctx)


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Turn an expected error into one line and an exit status."""
    try:
        yield
    except BrokenPipeError:  # the reader, such as `head`, has read enough: click ends quietly
        raise
    except (KeyboardInterrupt, click.Abort) as error:
        if isinstance(error, click.Abort) and not isinstance(error.__context__, KeyboardInterrupt):
            raise  # the answer to a question was no, or missing
        click.echo("Interrupted.", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    except UnknownModelError:
        raise click.ClickException(NO_MODEL) from None
    except (TabserveError, OSError) as error:
        raise click.ClickException(str(error)) from None
