"""`tabserve serve`: the service."""

import os
from ipaddress import ip_address

import click

from tabserve.api.server import Server
from tabserve.api.start import check
from tabserve.cli.interrupt import end_at_interrupt
from tabserve.declaration.discovery import all_use_cases, broken_use_cases
from tabserve.errors import TabserveError, in_short
from tabserve.settings import Settings

FOR_OTHERS = ("HOST", "AUTH_REQUIRED", "AUTH_USERS_FILE")  # whoever sets one of these thinks of other users


def _address(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    try:
        return text and str(ip_address(text))
    except ValueError:
        raise click.BadParameter("It must be an IP address of this machine.") from None


@click.command()
@click.option("--host", callback=_address, help="Address to listen on (HOST).  [default: 0.0.0.0]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on (PORT).  [default: 8080]")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes (WEB_CONCURRENCY).  [default: one for each CPU granted]",
)
@click.option("--approved-only", is_flag=True, help="Answer only with models that were promoted (APPROVED_ONLY).")
def serve(host: str | None, port: int | None, workers: int | None, approved_only: bool) -> None:
    """Serve predictions over HTTP, with gunicorn.

    Options override the environment variables in parentheses; the README lists all settings. Without users, and
    without any of HOST, AUTH_REQUIRED and AUTH_USERS_FILE, only this machine is served. At Ctrl-C the service answers
    the requests it has accepted and stops.
    """
    end_at_interrupt()  # until gunicorn has its own handler
    given = {"HOST": host, "PORT": port, "WEB_CONCURRENCY": workers, "APPROVED_ONLY": "true" if approved_only else None}
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    is_for_others = any(name in os.environ for name in FOR_OTHERS) or Settings().auth_users_file.exists()
    if not is_for_others:
        os.environ.update(HOST="127.0.0.1", AUTH_REQUIRED="false")
    settings = check()
    if not is_for_others:
        click.echo(
            f"Serving http://localhost:{settings.port} for this machine only, without users. To serve others, add "
            "users (`tabserve users add NAME`) and set HOST, such as --host 0.0.0.0.",
            err=True,
        )
    for name, reason in broken_use_cases().items():
        click.echo(f"Warning: the use case {name} cannot be trained: {reason}", err=True)
    _say_what_to_train(settings)
    Server().run()


def _say_what_to_train(settings: Settings) -> None:
    """Say how to train when there is no model; the service answers as soon as there is one."""
    try:
        if settings.open_registry().use_cases():
            return
    except TabserveError:  # the log says why
        return
    names = in_short([*all_use_cases()])
    click.echo(
        f"There is no model in {settings.model_registry} yet. Train one: `tabserve train NAME`, where NAME is one of "
        f"{names}. It answers as soon as it is trained.",
        err=True,
    )
