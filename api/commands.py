"""`flask models ...`: the registry from the command line."""

import json

import click

from api.config import DEFAULT_USE_CASE, Settings
from src.errors import BrokenArtifactError, NoModelError, TabserveError
from src.registry import Registry
from src.use_cases import all_use_cases


class _Group(click.Group):
    """Commands whose expected errors are one line and exit status 1."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except TabserveError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Group)
@click.pass_context
def models(context: click.Context) -> None:
    """List, show, promote, verify and delete the models in MODEL_REGISTRY."""
    settings = Settings.from_environment()
    context.obj = Registry(settings.model_registry, settings.model_signing_key)


@models.command("list")
@click.option("--use-case", type=click.Choice(list(all_use_cases())), help="Only this use case's models.")
@click.pass_obj
def list_(registry: Registry, use_case: str | None) -> None:
    """Print the model_ids, newest first, champions marked."""
    champions = {registry.champion(name) for name in all_use_cases()}
    for model_id in registry.list(use_case):
        mark = "  champion" if model_id in champions else ""
        click.echo(f"{model_id}{mark}")


@models.command()
@click.option("--use-case", type=click.Choice(list(all_use_cases())), default=DEFAULT_USE_CASE, show_default=True)
@click.pass_obj
def latest(registry: Registry, use_case: str) -> None:
    """Print the model_id of the newest model that can be loaded; exit with 1 when there is none."""
    for model_id in registry.list(use_case):
        try:
            registry.load(model_id)
        except BrokenArtifactError as error:
            click.echo(str(error), err=True)
        else:
            click.echo(model_id)
            return
    raise NoModelError(use_case)


@models.command()
@click.argument("model_id")
@click.pass_obj
def show(registry: Registry, model_id: str) -> None:
    """Print a model's manifest."""
    click.echo(json.dumps(registry.manifest(model_id), indent=2))


@models.command()
@click.argument("model_id")
@click.pass_obj
def promote(registry: Registry, model_id: str) -> None:
    """Make a model the champion of its use case: what the service answers with."""
    registry.load(model_id)
    registry.promote(model_id)
    click.echo(f"{model_id} is the champion now.")


@models.command()
@click.argument("model_ids", nargs=-1)
@click.pass_obj
def verify(registry: Registry, model_ids: tuple[str, ...]) -> None:
    """Check models (all of them by default) against their manifests; exit with 1 when one is refused."""
    refused = 0
    for model_id in model_ids or registry.list():
        try:
            registry.load(model_id)
            click.echo(f"{model_id} is whole.")
        except TabserveError as error:
            refused += 1
            click.echo(str(error), err=True)
    if refused:
        raise click.ClickException(f"{refused} model(s) refused.")


@models.command()
@click.argument("model_id")
@click.confirmation_option(prompt="Delete the model and its files?")
@click.pass_obj
def delete(registry: Registry, model_id: str) -> None:
    """Delete a model and its files."""
    registry.delete(model_id)
    click.echo(f"{model_id} is deleted.")
