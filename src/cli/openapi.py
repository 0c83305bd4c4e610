"""`tabserve openapi`: the service's OpenAPI document."""

import click

from tabserve.api.app import create_app
from tabserve.cli.output import as_json
from tabserve.settings import Settings


@click.command()
def openapi() -> None:
    """Print the service's OpenAPI document, as JSON."""
    click.echo(as_json(create_app(Settings.from_environment()).spec))
