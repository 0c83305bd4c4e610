"""`flask models ...` and `flask users ...`: the registry and the users file from the command line."""

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from flask import Flask
from flask.cli import NoAppException, ScriptInfo
from tabserve import log
from tabserve.api.users import InvalidUserError, Users, check_name
from tabserve.declaration.discovery import all_use_cases
from tabserve.errors import BrokenArtifactError, TabserveError, UnknownModelError
from tabserve.registry.model_id import ModelId
from tabserve.registry.registry import Registry
from tabserve.registry.stores import Location, parse_location
from tabserve.settings import RegistrySettings, Settings


def _service() -> Flask:
    from tabserve.api.app import create_app  # most commands do without it

    try:
        settings = Settings.from_environment()
        log.configure(settings.log_level)  # `flask run` logs requests otherwise
        return create_app(settings)
    except TabserveError as error:
        raise NoAppException(str(error)) from None


def _offer_service() -> None:
    """Let `flask run`, `flask routes` and `flask --help` find the service, when they are told of no other application.

    Flask looks for wsgi.py and app.py in the folder that it runs in, and its help begins with an error without them.
    """
    context = click.get_current_context(silent=True)
    info = context and context.find_object(ScriptInfo)
    if info and not info.app_import_path and not any(Path(name).exists() for name in ("wsgi.py", "app.py")):
        info.create_app = info.create_app or _service


_offer_service()  # when `flask` looks for the commands below, which is before it looks for an application


def _location(text: str) -> Location:
    try:
        return parse_location(text)
    except ValueError as error:
        raise click.BadParameter(f"It must be {error}.") from None


class _Group(click.Group):
    """Commands whose expected errors are one line and exit status 1."""

    def invoke(self, ctx: click.Context) -> object:
        log.configure_command()
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever reads has read enough, as `head` does: click ends without a word
            raise
        except (TabserveError, OSError) as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Group)
@click.pass_context
def models(context: click.Context) -> None:
    """List, show, promote, verify, copy and delete the models in MODEL_REGISTRY."""
    # A bucket is looked at itself, and not what a service on this machine has kept of it.
    cache = context.with_resource(TemporaryDirectory())
    context.obj = RegistrySettings.from_environment({**os.environ, "MODEL_CACHE": cache}).open_registry()


@models.command("list")
@click.option("--use-case", type=click.Choice(list(all_use_cases())), help="Only this use case's models.")
@click.pass_obj
def list_(registry: Registry, use_case: str | None) -> None:
    """Print the model_ids, newest first, champions marked."""
    champions, faults = _champions(registry)
    for fault in faults.values():  # who shall promote another must see what there is
        click.echo(fault, err=True)
    model_ids = registry.list(use_case)
    if not model_ids:
        click.echo(_none_in(registry, use_case), err=True)
    for model_id in model_ids:
        mark = "  champion" if model_id in champions else ""
        click.echo(f"{model_id}{mark}")


def _champions(registry: Registry) -> tuple[set[str], dict[str, str]]:
    """The champions, and what is wrong with those that cannot answer, by their model_id or else their use case."""
    champions: set[str] = set()
    faults: dict[str, str] = {}
    for use_case in all_use_cases():
        champion, prefix = None, f"The champion of {use_case} cannot answer: "
        try:
            if champion := registry.champion(use_case):
                champions.add(champion)
                registry.load(champion)
        except BrokenArtifactError as error:
            faults[champion or use_case] = f"{prefix if champion else ''}{error}"
        except UnknownModelError:
            faults[champion or use_case] = f"{prefix}{champion} is not there; promote a model again."
    return champions, faults


def _none_in(registry: Registry, use_case: str | None = None) -> str:
    return f"There are no {f'{use_case} ' if use_case else ''}models in {registry.location}."


@models.command()
@click.pass_obj
def missing(registry: Registry) -> None:
    """Print the use cases that have no model that can be loaded."""
    for use_case in all_use_cases():
        if not any(_can_be_loaded(registry, model_id) for model_id in registry.list(use_case)):
            click.echo(use_case)


def _can_be_loaded(registry: Registry, model_id: str) -> bool:
    try:
        registry.load(model_id)
    except BrokenArtifactError as error:
        click.echo(str(error), err=True)
        return False
    return True


@models.command()
@click.argument("model_id")
@click.pass_obj
def show(registry: Registry, model_id: str) -> None:
    """Print a model's manifest."""
    click.echo(json.dumps(registry.manifest(model_id).to_json(), indent=2))


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
    _, refused = ({}, {}) if model_ids else _champions(registry)
    found = model_ids or registry.list()
    if not (found or refused):
        raise click.ClickException(_none_in(registry))
    for model_id in found:
        try:
            registry.verify(model_id)
            click.echo(f"{model_id} is whole.")
        except TabserveError as error:
            refused.setdefault(model_id, str(error))
    for reason in refused.values():
        click.echo(reason, err=True)
    if refused:
        raise click.ClickException(f"{len(refused)} model(s) refused.")


@models.command()
@click.argument("destination", type=_location)
@click.argument("model_ids", nargs=-1)
@click.option("--hold-out", type=bool, default=True, show_default=True, help="Whether test.csv goes along.")
@click.pass_obj
def copy(registry: Registry, destination: Location, model_ids: tuple[str, ...], hold_out: bool) -> None:
    """Copy models, all but train.csv, to DESTINATION: a folder, or s3://bucket/prefix.

    By default, those that answer: of each use case the champion, which is one there, too, and the newest model of each
    algorithm that can be loaded.
    """
    to = registry.beside(destination)

    def copy_one(model_id: str) -> None:
        is_taken_away = not hold_out and to.has_hold_out(model_id)
        is_new = registry.copy(model_id, to, hold_out=hold_out)
        if is_taken_away:
            click.echo(f"{model_id}: its hold-out, test.csv, was there and is deleted.")
        click.echo(f"{model_id} is copied." if is_new else f"{model_id} is there already.")

    if model_ids:
        for model_id in model_ids:
            copy_one(model_id)
        return
    for use_case in all_use_cases():
        champion = registry.champion(use_case)
        if champion:
            registry.load(champion)
            copy_one(champion)
            registry.copy_champion(use_case, to)
        algorithms: set[str] = set()
        for model_id in registry.list(use_case):
            parts = ModelId.parse(model_id)
            assert parts
            if parts.algorithm not in algorithms and _can_be_loaded(registry, model_id):
                algorithms.add(parts.algorithm)
                copy_one(model_id)


@models.command()
@click.argument("model_id")
@click.confirmation_option(prompt="Delete the model and its files?")
@click.pass_obj
def delete(registry: Registry, model_id: str) -> None:
    """Delete a model and its files."""
    registry.delete(model_id)
    click.echo(f"{model_id} is deleted.")


@click.group(cls=_Group)
@click.pass_context
def users(context: click.Context) -> None:
    """Add, remove and list the users in AUTH_USERS_FILE."""
    context.obj = Users(Settings.from_environment().auth_users_file)


@users.command()
@click.argument("name")
@click.pass_obj
def add(users: Users, name: str) -> None:
    """Add a user, or give one another password; it is asked for, or read from a standard input that is no terminal."""
    check_name(name)
    is_new = users.add(name, _password())
    click.echo(f"{name} is added." if is_new else f"{name} has a new password.")


@users.command()
@click.argument("name")
@click.pass_obj
def remove(users: Users, name: str) -> None:
    """Remove a user; a running service refuses them within a minute."""
    users.remove(name)
    click.echo(f"{name} is removed.")


@users.command("list")
@click.pass_obj
def list_users(users: Users) -> None:
    """Print the users' names."""
    for name in sorted(users.read()):
        click.echo(name)


def _password() -> str:
    """A password that somebody types, or that another program writes; never an argument, which others can see."""
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        return password
    line = sys.stdin.buffer.readline()
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise InvalidUserError("The password must be UTF-8 text.") from None
