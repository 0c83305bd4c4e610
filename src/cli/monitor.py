"""`tabserve monitor`: what a model meets and decides, beside its training and the outcomes."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from tabserve.cli.decision_log import open_log
from tabserve.cli.output import aligned, as_json, json_option
from tabserve.evaluation.drift import DRIFT
from tabserve.monitoring import page
from tabserve.monitoring.kept import keep
from tabserve.monitoring.monitor import QUALITY
from tabserve.monitoring.monitor import monitor as look
from tabserve.settings import DAYS, RegistrySettings

DAY = 86_400  # seconds


class When(click.ParamType[float]):
    """A moment: so long ago, as 30d, 4w or 1y, or a day in ISO 8601."""

    name = "when"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds since 1970."""
        number, unit = value[:-1], value[-1:]
        if unit in DAYS and number.isascii() and number.isdecimal():
            return time.time() - int(number) * DAYS[unit] * DAY
        try:
            return datetime.fromisoformat(value).replace(tzinfo=UTC).timestamp()
        except ValueError:
            self.fail("It must be so long ago, such as 30d, 4w or 1y, or a day such as 2026-03-31.", param, ctx)


def _kinds(context: click.Context, parameter: click.Parameter, text: str) -> list[str]:
    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    if not {DRIFT, QUALITY}.issuperset(kinds):
        raise click.BadParameter(f"It must be {DRIFT}, {QUALITY} or both, separated by a comma.")
    return kinds


@click.command()
@click.argument("use_case")
@click.option("--since", type=When(), help="Only what was decided since, such as 30d, 4w, 1y or 2026-03-31.")
@click.option("--until", type=When(), help="Only what was decided before.")
@click.option("--model", "model_id", help="The model to look at.  [default: the one that answers]")
@click.option("--fail-on", callback=_kinds, default="", help="End with status 1 for drift, quality or drift,quality.")
@json_option
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page, too.")
def monitor(
    use_case: str,
    since: float | None,
    until: float | None,
    model_id: str | None,
    fail_on: Sequence[str],
    is_json: bool,
    html: Path | None,
) -> None:
    """Compare what the model of USE_CASE met and decided with its training, and with the outcomes.

    It reads the database of DECISION_LOG, and keeps the result there for the page and the metrics.
    """
    settings = RegistrySettings.from_environment()
    if settings.decision_log is None:
        raise click.UsageError("Decisions are not logged: set DECISION_LOG.")
    registry = settings.open_registry()
    artifact = registry.load(model_id or registry.histories.champion(use_case) or registry.latest(use_case))
    store = open_log(settings.decision_log)
    result = look(store, artifact, since, until)
    plain = result.to_json()
    keep(store, plain)
    store.database.close()
    if html:
        html.write_text(page.render([plain]), encoding="utf-8")
    if is_json:
        click.echo(as_json(plain))
    else:
        click.echo("\n\n".join(["\n".join(page.heading(plain)), *map(aligned, page.terminal_tables(plain))]) + "\n")
        for finding in result.findings:
            click.echo(f"{finding.kind} ({finding.window}): {finding.sentence}")
        for sentence in page.what_arms_tell(plain):
            click.echo(sentence)
    if any(finding.kind in fail_on for finding in result.findings):
        raise SystemExit(1)
