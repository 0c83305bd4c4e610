"""`tabserve decisions`: the decision log."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import click

from tabserve.cli.audit import person
from tabserve.cli.decision_log import open_log
from tabserve.cli.output import aligned, as_json, json_option, of
from tabserve.decisions.accesses import note, noted
from tabserve.decisions.erasing import erase as erase_ids
from tabserve.decisions.exporting import export as export_to
from tabserve.decisions.reading import Kept, Wanted, found, is_id_column, iso, one
from tabserve.decisions.reasons import with_reasons
from tabserve.decisions.replay import replay as replay_entry
from tabserve.decisions.retention import expire as expire_old
from tabserve.decisions.statistics import statistics
from tabserve.decisions.store import DecisionStore
from tabserve.errors import NoDecisionLogError, UnknownDecisionError
from tabserve.settings import Settings

_AGO = re.compile(r"([1-9][0-9]{0,4})([hdwy])")
_HOURS = {"h": 1, "d": 24, "w": 7 * 24, "y": 365 * 24}
MOST_SHOWN = 1000  # decisions that `find` lists unless more are asked for


class Moment(click.ParamType[float]):
    """A time: as ISO 8601 (UTC unless it says otherwise), or how long ago."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if ago := _AGO.fullmatch(value):
            return (datetime.now(UTC) - timedelta(hours=int(ago[1]) * _HOURS[ago[2]])).timestamp()
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail("Give a time such as 2025-03-01, 2025-03-01T12:00 or 30d (ago; h, d, w or y).", param, ctx)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class Where(click.ParamType[tuple[str, str]]):
    """A declared id column and its value."""

    name = "column=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        column, is_given, wanted = value.partition("=")
        if not (column and is_given):
            self.fail("Give a declared id column and its value, such as person=4711.", param, ctx)
        return column, wanted


@dataclass
class Log:
    """The decision log, and who uses it."""

    store: DecisionStore
    settings: Settings

    def who(self, by: str | None) -> str:
        """The person, who may: see `person`."""
        return person(self.settings, by)


@click.group()
@click.pass_context
def decisions(context: click.Context) -> None:
    """Find, show, export, erase and replay what DECISION_LOG holds.

    Commands that show or change records need a user with the scope `audit`, and each use is noted: see `accesses`.
    """
    settings = Settings.from_environment()
    if settings.decision_log is None:
        raise NoDecisionLogError
    store = open_log(settings.decision_log)
    context.obj = Log(store, settings)


by_option = click.option("--by", metavar="NAME", help="Who you are: a user with the scope `audit`.")


def chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say which decisions are meant, as one argument `wanted`."""

    @wraps(command)
    def choose(*arguments: Any, where: Sequence[tuple[str, str]], **options: Any) -> Any:
        names = ("use_case", "model_id", "client", "request_id", "since", "until")
        chosen = {name: value for name in names if (value := options.pop(name)) is not None}
        return command(*arguments, wanted=Wanted(where=dict(where), **chosen), **options)

    for option in (
        click.option("--where", type=Where(), multiple=True, help="The value of a declared id column: person=4711."),
        click.option("--request-id", metavar="ID", help="Only what was decided in this request: its X-Request-Id."),
        click.option("--client", metavar="USER", help="Only what this user asked for."),
        click.option("--model", "model_id", metavar="MODEL_ID", help="Only what this model decided."),
        click.option("--until", type=Moment(), help="Before this time."),
        click.option("--since", type=Moment(), help="From this time on: 2025-03-01, or 30d (ago)."),
        click.option("--use-case", help="Only this use case."),
    ):
        choose = option(choose)
    return choose


@decisions.command()
@chosen
@click.option("--most", type=click.IntRange(1), default=MOST_SHOWN, show_default=True, help="How many, at most.")
@by_option
@json_option
@click.pass_obj
def find(log: Log, wanted: Wanted, most: int, by: str | None, is_json: bool) -> None:
    """List decisions, the oldest first.

    Records are shown by `show`.
    """
    who = log.who(by)
    listed = [kept for kept, _ in zip(found(log.store, wanted), range(most), strict=False)]
    note(log.store, who, "find", _asked(wanted), len(listed))
    rows = [_line(kept) for kept in listed]
    if is_json:
        click.echo(as_json([dict(zip(HEADING, row, strict=True)) for row in rows]))
    elif rows:
        click.echo(aligned([HEADING, *rows]))
    if not listed:
        click.echo(_nothing(log, wanted), err=True)
    if len(listed) == most:
        click.echo(f"There may be more than these {most}: see --most.", err=True)


def _nothing(log: Log, wanted: Wanted) -> str:
    """Why nothing may have been found."""
    unknown = [column for column in wanted.where if not is_id_column(log.store, column)]
    why = f" No record in the log has an id column {', '.join(unknown)}: --where takes those." if unknown else ""
    return f"No such decision is in the log.{why} Those that still wait for the database are not found."


HEADING = ("id", "time", "use case", "model_id", "client", "decision", "score")


def _line(kept: Kept) -> tuple[str, ...]:
    entry = kept.entry
    result = "erased" if kept.erased and not entry.rows > 1 else f"{entry.rows} rows" if entry.kind == "table" else ""
    score = "" if entry.score is None or result else str(entry.score)
    decision = result or ("" if entry.decision is None else str(entry.decision))
    return entry.id, iso(entry.time), entry.use_case, entry.model_id, entry.client, decision, score


def _asked(wanted: Wanted) -> dict[str, Any]:
    """What was asked for, without values of records."""
    asked = {**asdict(wanted), "where": [*wanted.where]}
    return {name: value for name, value in asked.items() if value not in (None, "", [])}


@decisions.command()
@click.argument("id")
@by_option
@click.pass_obj
def show(log: Log, id: str, by: str | None) -> None:  # noqa: A002 - as users call it
    """Print a decision, its reasons and its outcome, as JSON.

    ID.n is row n of a table. Reasons that the log does not have are worked out.
    """
    click.echo(as_json(with_reasons(log.settings.open_registry(), _one(log, id, by, "show")).to_json()))


def _one(log: Log, id_: str, by: str | None, action: str) -> Kept:
    who = log.who(by)
    kept = one(log.store, id_)
    note(log.store, who, action, {"id": kept.entry.id if kept else ""}, 1 if kept else 0)
    if kept is None:
        raise UnknownDecisionError
    return kept


@decisions.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, writable=True))
@chosen
@by_option
@click.pass_obj
def export(log: Log, file: Path, wanted: Wanted, by: str | None) -> None:
    """Write decisions into FILE, as CSV or Parquet by its name.

    Each has its record and its outcome.
    """
    if file.suffix not in (".csv", ".parquet"):
        raise click.UsageError("FILE must end in .csv or .parquet.")
    if not wanted.use_case:
        raise click.UsageError("Give --use-case: a file has the columns of one.")
    who = log.who(by)
    rows = export_to(log.store, wanted, file)
    note(log.store, who, "export", _asked(wanted), rows)
    click.echo(f"{file}: {of(rows, 'decision')}.")
    if not rows:
        click.echo(_nothing(log, wanted), err=True)


@decisions.command()
@click.argument("ids", nargs=-1)
@click.option("--use-case", default="", help="Whose id column --where means.")
@click.option("--where", type=Where(), multiple=True, help="The value of a declared id column: person=4711.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@by_option
@click.pass_obj
def erase(log: Log, ids: Sequence[str], use_case: str, where: Any, yes: bool, by: str | None) -> None:
    """Erase records for ever.

    Give the IDS of their decisions, or the value of an id column by --where.

    The record goes, with its score, reasons, keys and outcome; a tombstone keeps the digest of the record.
    """
    if bool(ids) == bool(where):
        raise click.UsageError("Give either IDS or --where.")
    who, wanted = log.who(by), Wanted(use_case=use_case, where=dict(where))
    meant = [*(ids or (kept.entry.id for kept in found(log.store, wanted)))]
    if meant and not yes:
        click.confirm(f"Erase {of(len(meant), 'decision')} for ever?", abort=True)
    erased = erase_ids(log.store, meant)
    what = {"ids": [*ids]} if ids else {"use_case": use_case, "where": [*wanted.where]}
    note(log.store, who, "erase", what, erased.records)
    click.echo(f"Erased: {of(erased.records, 'record')}.")
    if not meant:
        click.echo(_nothing(log, wanted), err=True)
    if erased.unknown:
        click.echo(f"Unknown, or erased before: {of(erased.unknown, 'id')}.", err=True)
    if erased.unknown or not meant:
        raise SystemExit(1)


@decisions.command()
@click.argument("id")
@by_option
@click.pass_obj
def replay(log: Log, id: str, by: str | None) -> None:  # noqa: A002 - as users call it
    """Predict and explain a logged record again.

    Exit status 0 when all is the same to the last bit; else 1, and what differs.
    """
    kept = _one(log, id, by, "replay")
    if differences := replay_entry(log.settings.open_registry(), kept.entry):
        click.echo("\n".join(differences))
        raise SystemExit(1)
    click.echo(f"{kept.entry.model_id} gives the same {_compared(kept)}, to the last bit.")


def _compared(kept: Kept) -> str:
    if kept.entry.reasons is not None:
        return "score, decision and reasons"
    if kept.reasons_wait:
        return "score and decision (its reasons are not worked out yet)"
    return "score and decision (the log has no reasons for it)"


@decisions.command()
@json_option
@click.pass_obj
def stats(log: Log, is_json: bool) -> None:
    """Count the decisions by use case, model and day."""
    counted = statistics(log.store)
    if is_json:
        click.echo(as_json(counted))
        return
    lines = [
        (one["day"], one["use_case"], one["model_id"], one["kind"], f"{one['records']:,}") for one in counted["days"]
    ]
    click.echo(aligned([("day", "use case", "model_id", "kind", "records"), *lines]))
    click.echo(f"oldest: {counted['oldest'] or 'none'}; size: {counted['bytes']:,} bytes")
    click.echo(f"reasons that are not worked out yet: {counted['without_reasons']:,}")


@decisions.command()
@click.pass_obj
def expire(log: Log) -> None:
    """Delete what is older than DECISION_RETENTION.

    The service does so itself.
    """
    if log.settings.decision_retention is None:
        raise click.UsageError("DECISION_RETENTION is not set: decisions are kept for ever.")
    click.echo(f"Deleted: {expire_old(log.store, log.settings.decision_retention):,}.")


@decisions.command()
@by_option
@json_option
@click.pass_obj
def accesses(log: Log, by: str | None, is_json: bool) -> None:
    """List who used the log, when and for what."""
    log.who(by)
    listed = [{**access._asdict(), "time": iso(access.time)} for access in noted(log.store)]
    if is_json:
        click.echo(as_json(listed))
    elif listed:
        rows = [(one["time"], one["who"], one["action"], f"{one['rows']:,}", _in_words(one["what"])) for one in listed]
        click.echo(aligned([("time", "who", "action", "rows", "what"), *rows]))


def _in_words(what: Mapping[str, Any]) -> str:
    """What was asked for: times as such, and names instead of lists of them."""
    shown = {name: iso(value) if name in ("since", "until") else value for name, value in what.items()}
    return ", ".join(f"{name} {' '.join(some) if isinstance(some, list) else some}" for name, some in shown.items())
