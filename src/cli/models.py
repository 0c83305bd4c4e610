"""`tabserve models`: the registry."""

import getpass
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from tabserve.cli.decision_log import open_log
from tabserve.cli.output import aligned, as_json, json_option
from tabserve.click_types import PointInTime
from tabserve.declaration.discovery import all_use_cases, broken_use_cases
from tabserve.errors import BrokenArtifactError, TabserveError, UnknownModelError, UnknownUseCaseError
from tabserve.evaluation.metrics import CROSS_VALIDATION, HOLD_OUT
from tabserve.registry.artifact import Artifact
from tabserve.registry.history import Change, History
from tabserve.registry.manifest import REPORT, Manifest, as_plain
from tabserve.registry.model_id import ModelId
from tabserve.registry.registry import Registry
from tabserve.registry.stores import Location, parse_location
from tabserve.settings import RegistrySettings

LONGEST_SAID = 1000  # characters of a name or a reason


class KnownUseCase(click.ParamType[str]):
    """The name of a use case in the registry, or of a declared one."""

    name = "use_case"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        assert ctx
        if value not in (known := _known(ctx.obj)):
            self.fail(str(UnknownUseCaseError(known)), param, ctx)
        return value


def _known(registry: Registry) -> list[str]:
    """The use cases in the registry and the declared ones, in alphabetical order."""
    return sorted({*registry.use_cases(), *all_use_cases()})


def _location(text: str) -> Location:
    try:
        return parse_location(text)
    except ValueError as error:
        raise click.BadParameter(f"It must be {error}.") from None


def _who() -> str:
    """The name of the system's user; empty where it has none, as in some containers."""
    with suppress(KeyError, OSError):
        return getpass.getuser()
    return ""


def _checked(context: click.Context, parameter: click.Parameter, text: str) -> str:
    text = text.strip()
    if not text.isprintable() or len(text) > LONGEST_SAID:
        raise click.BadParameter(f"It must be one line of at most {LONGEST_SAID} characters.")
    if not text and parameter.name == "by":
        raise click.BadParameter("Say who you are.")
    return text


def said(command: Any) -> Any:
    """Take who makes a change, and why, for the history."""
    by = click.option(
        "--by", default=_who, metavar="NAME", callback=_checked, help="Who.  [default: the system's user]"
    )
    reason = click.option("--reason", default="", metavar="TEXT", callback=_checked, help="Why, for the history.")
    return by(reason(command))


@click.group()
@click.pass_context
def models(context: click.Context) -> None:
    """List, show, promote, verify, copy and delete the models in MODEL_REGISTRY."""
    # A temporary cache: commands look at the bucket itself, not at copies that a service on this machine keeps.
    cache = context.with_resource(TemporaryDirectory())
    context.obj = RegistrySettings.from_environment({**os.environ, "MODEL_CACHE": cache}).open_registry()


@models.command("list")
@click.option("--use-case", type=KnownUseCase(), help="Only this use case's models.")
@json_option
@click.pass_obj
def list_(registry: Registry, use_case: str | None, is_json: bool) -> None:
    """List the models, newest first, champions marked.

    The metric is the headline metric on the hold-out.
    """
    known = [use_case] if use_case else _known(registry)
    for reason in broken_use_cases().values():
        click.echo(reason, err=True)
    champions, faults = _champions(registry)
    for fault in faults.values():  # who wants to promote another needs the list
        click.echo(fault, err=True)
    rows = [_summary(registry, model_id, model_id in champions) for model_id in registry.list(use_case)]
    if is_json:
        click.echo(as_json(rows))
        return
    if not rows:
        click.echo(_none_in(registry, use_case), err=True)
    without = [name for name in known if not registry.list(name)]
    click.echo(aligned([HEADING, *map(_cells, rows), *((name, "no model yet") for name in without)]))


def _none_in(registry: Registry, use_case: str | None = None) -> str:
    return f"There are no {f'{use_case} ' if use_case else ''}models in {registry.location}."


HEADING = ("use case", "model_id", "trained (UTC)", "hold-out", "verdict", "")


def _summary(registry: Registry, model_id: str, is_champion: bool) -> dict[str, Any]:
    """What the list says about a model."""
    parts = ModelId.parse(model_id)
    assert parts
    summary: dict[str, Any] = {"use_case": parts.use_case, "model_id": model_id, "is_champion": is_champion}
    try:
        manifest = registry.manifest(model_id)
    except BrokenArtifactError as error:
        return {**summary, "refused": error.reason}
    return {
        **summary,
        "algorithm": manifest.algorithm,
        "version": manifest.version,
        "created": manifest.created,
        "metric": manifest.headline,
        "hold_out": manifest.headline_of(HOLD_OUT),
        "verdict": manifest.verdict,
    }


def _cells(summary: Mapping[str, Any]) -> tuple[str, ...]:
    names = summary["use_case"], summary["model_id"]
    if "refused" in summary:
        return *names, f"refused: {summary['refused']}"
    score = f"{summary['metric']} {summary['hold_out']:.3f}"
    return *names, _minute(summary["created"]), score, summary["verdict"], "champion" if summary["is_champion"] else ""


def _minute(created: str) -> str:
    return f"{datetime.fromisoformat(created):%Y-%m-%d %H:%M}"


def _champions(registry: Registry) -> tuple[set[str], dict[str, str]]:
    """The champions, and what is wrong with those that cannot answer, by model_id or, without one, by use case."""
    champions: set[str] = set()
    faults: dict[str, str] = {}
    for use_case in registry.use_cases():
        champion = None
        with suppress(BrokenArtifactError):  # which is the fault
            champion = registry.histories.champion(use_case)
        if champion:
            champions.add(champion)
        if fault := registry.histories.fault(use_case):
            faults[champion or use_case] = fault
    return champions, faults


@models.command()
@json_option
@click.pass_obj
def missing(registry: Registry, is_json: bool) -> None:
    """List the use cases without a model that can be loaded."""
    names = [
        use_case
        for use_case in _known(registry)
        if not any(_can_be_loaded(registry, model_id) for model_id in registry.list(use_case))
    ]
    click.echo(as_json(names) if is_json else "\n".join(names), nl=is_json or bool(names))


def _can_be_loaded(registry: Registry, model_id: str) -> bool:
    try:
        registry.load(model_id)
    except BrokenArtifactError as error:
        click.echo(str(error), err=True)
        return False
    return True


@models.command()
@click.argument("model_id")
@json_option
@click.pass_obj
def show(registry: Registry, model_id: str, is_json: bool) -> None:
    """Show what a model is and how good it is.

    With --json, print its manifest and the verdict on it.
    """
    manifest = registry.manifest(model_id)
    if is_json:
        click.echo(as_json({**manifest.to_json(), "verdict": manifest.verdict}))
        return
    click.echo(aligned(list(_description(registry, manifest))))
    click.echo()
    click.echo(aligned(list(_metrics(manifest))))


def _description(registry: Registry, manifest: Manifest) -> Iterator[tuple[str, str]]:
    metric = manifest.headline
    low, high = manifest.intervals[metric]
    yield "model_id", manifest.model_id
    yield "use case", manifest.use_case
    yield "algorithm", manifest.algorithm
    commit = f", commit {manifest.commit}" if manifest.commit else ""
    yield "trained", f"{_minute(manifest.created)} UTC, by version {manifest.version}{commit}"
    yield "data", f"{manifest.data.rows} rows, seed {manifest.seed}"
    yield "hold-out", f"{metric} {manifest.headline_of(HOLD_OUT):.3f}, 95 % interval {low:.3f} to {high:.3f}"
    if manifest.threshold is not None:
        yield "threshold", f"{manifest.threshold:.3f}, by {manifest.threshold_choice}"
    yield "verdict", manifest.verdict
    yield "gates", f"{sum(gate.passed for gate in manifest.gates)} of {len(manifest.gates)} passed"
    for doubt in manifest.doubts:
        yield "warning", doubt
    with suppress(BrokenArtifactError):  # the list reports such a fault
        if registry.histories.champion(manifest.use_case) == manifest.model_id:
            yield "champion", "yes"
    yield "report", f"{registry.location}/{manifest.model_id}/{REPORT}"


def _metrics(manifest: Manifest) -> Iterator[tuple[str, ...]]:
    yield "metric", "cross-validation", "hold-out"
    parts = [manifest.metrics[part] for part in (CROSS_VALIDATION, HOLD_OUT)]
    for metric in parts[-1]:
        yield metric, *(f"{values[metric]:.3f}" for values in parts)


@models.command()
@click.argument("model_id")
@said
@click.pass_obj
def promote(registry: Registry, model_id: str, by: str, reason: str) -> None:
    """Make a model its use case's champion.

    The service then answers with it, even when newer models are trained. A model that passed with warnings needs a
    reason. With APPROVALS=2 the model is proposed, and another person approves it.
    """
    registry.load(model_id)
    _say_what_came_of(registry.histories.promote(model_id, by, reason), f"{model_id} is now the champion.")


def _say_what_came_of(history: History, done: str) -> None:
    """What a change led to: that it is done, or that it waits for a second person."""
    proposed = history.state.proposed
    if proposed and proposed is history.changes[-1]:
        click.echo(
            f"Proposed by {proposed.by}. Another person approves it: tabserve models approve {proposed.model_id}"
        )
    else:
        click.echo(done)


@models.command()
@click.argument("model_id")
@said
@click.pass_obj
def approve(registry: Registry, model_id: str, by: str, reason: str) -> None:
    """Approve what another person proposed.

    That is a promotion, or a split.
    """
    registry.load(model_id)
    history = registry.histories.approve(model_id, by, reason)
    done = "now answers its share of the records" if history.state.split else "is now the champion"
    click.echo(f"{model_id} {done}.")


@models.command()
@click.argument("model_id")
@said
@click.pass_obj
def withdraw(registry: Registry, model_id: str, by: str, reason: str) -> None:
    """Take back, or turn down, what is proposed."""
    registry.histories.withdraw(model_id, by, reason)
    click.echo(f"{model_id} is no longer proposed.")


@models.command()
@click.argument("use_case", type=KnownUseCase())
@said
@click.pass_obj
def rollback(registry: Registry, use_case: str, by: str, reason: str) -> None:
    """Go back to the previous champion.

    Deleted models are skipped. Without an earlier champion, nothing changes. It needs no second person.
    """
    click.echo(f"{registry.histories.rollback(use_case, by, reason)} is the champion again.")


@models.command()
@click.argument("use_case", type=KnownUseCase())
@json_option
@click.pass_obj
def history(registry: Registry, use_case: str, is_json: bool) -> None:
    """Show who made which model answer, when and why.

    All of it is verified first. The exit status is 1 when a change was altered, is missing, or lacks the service's
    signature.
    """
    found = registry.histories.of(use_case)
    state = found.state
    if is_json:
        content = {
            "use_case": use_case,
            "champion": state.champion,
            "proposed": state.proposed.model_id if state.proposed else None,
            "split": dict(state.split.shares) if state.split else None,
            "earlier": found.earlier,
            "changes": [{name: value for name, value in as_plain(change).items() if value} for change in found.changes],
        }
        click.echo(as_json(content))
        return
    rows = [("", "", "champion, from before there was a history", model_id) for model_id in reversed(found.earlier)]
    click.echo(aligned([HISTORY_HEADING, *rows, *map(_change_cells, found.changes)]))
    click.echo(f"champion: {state.champion or 'none'}")
    if state.proposed:
        click.echo(f"proposed: {state.proposed.model_id}, by {state.proposed.by}")
    if state.split:
        click.echo(f"split: {_shares(state.split)}")


HISTORY_HEADING = ("time (UTC)", "by", "change", "model_id", "verdict", "reason")


def _change_cells(change: Change) -> tuple[str, ...]:
    action = f"{change.action} {'/'.join(map(str, change.shares.values()))}" if change.shares else change.action
    if change.begins:
        action += " (the changes before are refused)"
    return _minute(change.time), change.by or "-", action, change.model_id, change.verdict or "-", change.reason


def _shares(change: Change) -> str:
    return " ".join(f"{model_id}={share}" for model_id, share in change.shares.items())


@models.command()
@click.argument("names", nargs=-1)
@click.pass_obj
def sign(registry: Registry, names: tuple[str, ...]) -> None:
    """Sign models and histories again with the newest key.

    That is the first in MODEL_SIGNING_KEY. By default, all are signed that one of the keys has signed. NAMES are
    model_ids and use cases: those are signed even if no key has signed them, so look at them first. Digests and the
    chain of a history stay.
    """
    if not RegistrySettings.from_environment().model_signing_key:
        raise click.ClickException("There is nothing to sign with: set MODEL_SIGNING_KEY, the newest key first.")
    refused = []
    for name in names or [*registry.list(), *registry.use_cases()]:
        signing = registry.sign if ModelId.parse(name) else registry.histories.sign
        try:
            signing(name, vouched=bool(names))
        except TabserveError as error:
            refused.append(name)
            click.echo(str(error), err=True)
        else:
            click.echo(f"{name} is signed.")
    if refused:
        raise click.ClickException(f"{len(refused)} not signed. Name what shall be signed all the same.")


class Share(click.ParamType[tuple[str, int]]):
    """A model_id with its share of 100 records."""

    name = "model_id=share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        model_id, _, share = str(value).partition("=")
        if not (ModelId.parse(model_id) and share.isascii() and share.isdecimal()):
            self.fail(
                f"{value!r} is not MODEL_ID=SHARE, such as credit-lightgbm_v1.0.0-1795287600.123456=10.", param, ctx
            )
        return model_id, int(share)


@models.command()
@click.argument("use_case", type=KnownUseCase())
@click.argument("shares", nargs=-1, type=Share(), metavar="[MODEL_ID=SHARE]...")
@click.option("--off", is_flag=True, help="Let the champion answer every record again.")
@said
@click.pass_obj
def split(
    registry: Registry, use_case: str, shares: tuple[tuple[str, int], ...], off: bool, by: str, reason: str
) -> None:
    """Divide records between the champion and a challenger.

    The shares sum to 100; one is the champion's. Without shares, say how the records are divided now.
    """
    if off and shares:
        raise click.UsageError("Give shares, or --off.")
    if off:
        registry.histories.end_split(use_case, by, reason)
        click.echo("The champion answers every record again.")
        return
    if shares:
        for model_id, _ in shares:
            registry.load(model_id)
        _say_what_came_of(registry.histories.split(use_case, dict(shares), by, reason), "The records are divided.")
        return
    now = registry.histories.of(use_case).state.split
    click.echo(_shares(now) if now else f"The records of {use_case} are not divided.")


@models.command()
@click.argument("model_ids", nargs=-1)
@json_option
@click.pass_obj
def verify(registry: Registry, model_ids: tuple[str, ...], is_json: bool) -> None:
    """Check that models are as training wrote them.

    By default, all models are checked. The exit status is 1 when any is refused.
    """
    _, refused = ({}, {}) if model_ids else _champions(registry)
    found = model_ids or registry.list()
    if not (found or refused):
        raise click.ClickException(_none_in(registry))
    whole = []
    for model_id in found:
        try:
            registry.verify(model_id)
        except TabserveError as error:
            refused.setdefault(model_id, str(error))
        else:
            whole.append(model_id)
            if not is_json:  # not at the end: a registry may be large
                click.echo(f"{model_id} is whole.")
    if is_json:
        click.echo(as_json({"whole": whole, "refused": refused}))
    for reason in refused.values():
        click.echo(reason, err=True)
    if refused:
        raise click.ClickException(f"{len(refused)} model(s) refused.")


@models.command()
@click.argument("destination", type=_location)
@click.argument("model_ids", nargs=-1)
@click.option("--hold-out", type=bool, default=True, show_default=True, help="Whether to copy test.parquet.")
@click.pass_obj
def copy(registry: Registry, destination: Location, model_ids: tuple[str, ...], hold_out: bool) -> None:
    """Copy models to a folder or a bucket.

    DESTINATION is a folder or s3://bucket/prefix; train.parquet is never copied. By default, the models that answer are
    copied: the champion of each use case, which is also champion there, the challenger of a split, and for each
    algorithm the newest model that can be loaded.
    """
    to = registry.beside(destination)

    def copy_one(model_id: str) -> None:
        is_taken_away = not hold_out and to.has_hold_out(model_id)
        is_new = registry.copy(model_id, to, hold_out=hold_out)
        if is_taken_away:
            click.echo(f"{model_id}: the earlier copy of its hold-out, test.parquet, was deleted.")
        click.echo(f"{model_id} was copied." if is_new else f"{model_id} is there already.")

    if model_ids:
        for model_id in model_ids:
            copy_one(model_id)
        return
    is_empty = True
    for use_case in registry.use_cases():
        answering = registry.histories.of(use_case).state.answering
        for model_id in answering:
            registry.load(model_id)
            copy_one(model_id)
        if answering:
            registry.histories.copy(use_case, to.histories)
            is_empty = False
        for model_id in _newest(registry, use_case):
            if model_id not in answering:
                copy_one(model_id)
            is_empty = False
    if is_empty:
        raise click.ClickException(f"No model in {registry.location} can be copied.")


def _newest(registry: Registry, use_case: str) -> Iterator[str]:
    """For each algorithm, the newest model that can be loaded."""
    algorithms: set[str] = set()
    for model_id in registry.list(use_case):
        parts = ModelId.parse(model_id)
        assert parts
        if parts.algorithm not in algorithms and _can_be_loaded(registry, model_id):
            algorithms.add(parts.algorithm)
            yield model_id


@models.command()
@click.argument("model_id")
@click.confirmation_option(prompt="Delete the model and its files?")
@said
@click.pass_obj
def delete(registry: Registry, model_id: str, by: str, reason: str) -> None:
    """Delete a model and its files.

    With DECISION_LOG, a model is kept as long as the log holds what it decided.
    """
    _check_not_needed(model_id)
    registry.delete(model_id, by, reason)
    click.echo(f"{model_id} was deleted.")


@models.command()
@click.argument("model_id")
@click.option(
    "--since", type=PointInTime(), default="90d", show_default=True, help="From when on: a date, or how long ago."
)
@click.option("--until", type=PointInTime(), help="Until when.  [default: now]")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page, too.")
@json_option
@click.pass_obj
def challenge(
    registry: Registry, model_id: str, since: float, until: float | None, html: Path | None, is_json: bool
) -> None:
    """Show what a model would have decided.

    The records of the decision log are predicted again by it. Nothing is changed or logged. DECISION_LOG says where the
    log is. Where outcomes are known, the metric and the cost are compared on the same records.
    """
    address = RegistrySettings.from_environment().decision_log
    if not address:
        raise click.ClickException("There is no decision log to replay: set DECISION_LOG to the service's.")
    from tabserve.monitoring import challenge as challenging  # imported here: most commands do without them
    from tabserve.monitoring import challenge_page

    found = challenging.challenge(
        open_log(address), registry.load(model_id), _champion_beside(registry, model_id), since, until
    )
    if html:
        html.write_text(challenge_page.page(found), encoding="utf-8")
    if is_json:
        click.echo(as_json(asdict(found)))
        return
    click.echo("\n".join(challenge_page.sentences(found)))
    for table in challenge_page.tables(found):
        click.echo(f"\n{table.caption}")
        click.echo(aligned([table.head, *table.rows]))


def _champion_beside(registry: Registry, model_id: str) -> Artifact | None:
    """The champion that a model challenges; None when there is no other, or it cannot be loaded."""
    parts = ModelId.parse(model_id)
    assert parts
    with suppress(BrokenArtifactError, UnknownModelError):
        champion = registry.histories.champion(parts.use_case)
        return registry.load(champion) if champion and champion != model_id else None
    return None


def _check_not_needed(model_id: str) -> None:
    """Refuse to delete what decisions in the log are replayed with."""
    settings = RegistrySettings.from_environment()
    if not settings.decision_log:
        return
    from tabserve.decisions.references import decided_by  # imported here: SQLAlchemy takes 0.2 s

    if decided := decided_by(open_log(settings.decision_log), model_id):
        raise click.ClickException(
            f"{model_id} decided {decided:,} record(s) in the log, which cannot be replayed without it. Keep it until "
            "they have expired by DECISION_RETENTION or were erased."
        )
