"""Groups of commands that are imported when they run, and whose expected errors are one line."""

import importlib

import click
from tabserve import log
from tabserve.cli.interrupt import raise_at_interrupt
from tabserve.errors import TabserveError, UnknownModelError

INTERRUPTED = 130  # exit status, as shells have it: 128 and the signal's number
NO_MODEL = "There is no model of that name; `tabserve models list` lists all models."


class Lazy(click.Command):
    """Stands for a command until it is asked for.

    Parameters
    ----------
    name : str
        The command's.
    place : str
        Its module and its name there, with a colon in between.
    short_help : str
        What the list of commands says of it.
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
    """Commands whose expected errors are one line and exit status 1, and Ctrl-C another."""

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
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever reads has read enough, as `head` does: click ends without a word
            raise
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)
        except UnknownModelError:
            raise click.ClickException(NO_MODEL) from None
        except (TabserveError, OSError) as error:
            raise click.ClickException(str(error)) from None
