"""`tabserve serve`: the service."""

import os
from ipaddress import ip_address

import click

from tabserve.api.server import Server
from tabserve.api.start import check
from tabserve.cli.interrupt import end_at_interrupt


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
def serve(host: str | None, port: int | None, workers: int | None) -> None:
    """Serve predictions over HTTP, with gunicorn.

    Options override the environment variables in parentheses; the README lists all settings. At Ctrl-C the service
    answers the requests it has accepted and stops.
    """
    end_at_interrupt()  # until gunicorn has its own handler
    given = {"HOST": host, "PORT": port, "WEB_CONCURRENCY": workers}
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    check()
    Server().run()
