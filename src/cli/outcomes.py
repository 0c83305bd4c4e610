"""`tabserve outcomes`: what really happened."""

import getpass
from pathlib import Path

import click

from tabserve.cli.decision_log import open_log
from tabserve.cli.output import as_json, json_option
from tabserve.errors import NoDecisionLogError
from tabserve.monitoring.outcomes import Outcomes
from tabserve.monitoring.reported import in_file, targets
from tabserve.predictor import Predictor
from tabserve.settings import Settings


@click.group()
def outcomes() -> None:
    """Record what really happened to what was decided about."""


@outcomes.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--use-case", help="Whose outcomes they are; by default the default use case's.")
@click.option("--correct", is_flag=True, help="Replace outcomes that are known.")
@json_option
def import_(file: Path, use_case: str | None, correct: bool, is_json: bool) -> None:
    """Record the outcomes in FILE.

    FILE is CSV, a workbook, Parquet or JSON lines. It has a column `outcome`, and `id` with the ids of decisions or a
    declared id column. Exit status 1 when some are unknown, invalid or contradicting.
    """
    settings = Settings.from_environment()
    if settings.decision_log is None:
        raise NoDecisionLogError
    predictor = Predictor(settings.open_registry(), settings.default_use_case)
    name = use_case or predictor.default_use_case()
    predictor.check_use_case(name)
    artifact = predictor.resolve(name)
    with file.open("rb") as stream:
        reported = in_file(stream, file.name, artifact)
    store = open_log(settings.decision_log)
    counts = Outcomes(store, targets(predictor.resolve, artifact)).record(
        reported.given,
        use_case=name,
        column=reported.column,
        client=getpass.getuser(),
        correct=correct,
        numbers=reported.rows,
    )
    store.database.close()
    counted = counts.to_json()
    if is_json:
        click.echo(as_json(counted))
    else:
        problems = counted.pop("errors", {})
        click.echo(", ".join(f"{number:,} {what}" for what, number in counted.items()))
        for row, (problem,) in problems.items():
            click.echo(f"row {row}: {problem}", err=True)
    if counts.unknown or counts.invalid or counts.contradicting:
        raise SystemExit(1)
