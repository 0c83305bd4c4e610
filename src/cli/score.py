"""`tabserve score`: the rows of files, buckets and databases, answered offline."""

import json
import sys
import time
from collections.abc import Sequence

import click
import joblib

from tabserve.click_types import ExecutorSpec
from tabserve.executors import THREADS
from tabserve.resolver import Resolver
from tabserve.scoring.answering import Options, check_columns
from tabserve.scoring.item import Scored
from tabserve.scoring.planning import Plan, find_tables, plan
from tabserve.scoring.running import Summary, run
from tabserve.scoring.storage import storage_of
from tabserve.settings import Settings

REFUSED = 3  # exit status: everything was scored but rows at fault
PAUSE, LONG = 0.5, 10.0  # seconds between two lines on a terminal and elsewhere


def _names(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",")) if text else ()
    if "" in names or len(set(names)) < len(names):
        raise click.BadParameter("It must be different names, separated by commas.")
    return names


@click.command(context_settings={"show_default": True})
@click.argument("model")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.argument("destination")
@click.option("--partial", is_flag=True, help="Leave rows at fault without an answer, and list them in a file beside.")
@click.option("--columns", callback=_names, metavar="NAME,...", help="Columns to write.  [default: all]")
@click.option("--reasons", type=click.IntRange(0, 20), default=0, help="Columns with what speaks most for the result.")
@click.option("--query", default="", metavar="SQL|TABLE", help="What to read of a database.")
@click.option("--table", default="", metavar="NAME", help="Table to write, where DESTINATION is a database.")
@click.option("--overwrite", is_flag=True, help="Replace scores that are there, instead of keeping or refusing them.")
@click.option("--chunk", type=click.IntRange(1, 10_000_000), default=65_536, help="Rows that are written at a time.")
@click.option("--executor", type=ExecutorSpec(), default=THREADS, help="threads, processes, or dask:tcp://host:port.")
@click.option("--jobs", type=click.IntRange(min=1), help="Files to work on at once.  [default: the CPUs granted]")
def score(
    model: str,
    sources: Sequence[str],
    destination: str,
    partial: bool,
    columns: tuple[str, ...],
    reasons: int,
    query: str,
    table: str,
    overwrite: bool,
    chunk: int,
    executor: str,
    jobs: int | None,
) -> None:
    """Score tables offline: each SOURCE by one MODEL, into DESTINATION.

    MODEL is a model_id, a use case for its champion, or `latest`; it is resolved once, and answers every row.
    SOURCE is a file, a pattern such as 'loans-*.csv', a folder, s3://bucket/prefix, or a database with --query.
    DESTINATION is a file for one source, or a folder or s3://bucket/prefix, where each source gets a file of its name,
    or a database with --table.

    A file of scores appears when it is complete. Run the command again after a failure: what is done is kept, the rest
    is scored. The last line of standard output is a summary in JSON.

    Exit status: 0 when every row has an answer, 1 when something failed, 3 when --partial left rows without one.
    """
    settings = Settings.from_environment()
    artifact = Resolver(settings.open_registry(), settings.default_use_case, settings.compiled_trees).resolve(model)
    options = Options(columns, reasons, chunk, partial)
    check_columns(artifact, options)
    work = plan(
        find_tables(sources, query),
        destination,
        artifact.model_id,
        str(settings.model_registry),
        options,
        query,
        table,
        overwrite=overwrite,
    )
    progress = Progress(work)
    click.echo(f"Scoring with {artifact.model_id}.", err=True)
    summary = run(work, artifact.model_id, executor, jobs or joblib.cpu_count(), progress.report, progress.watch)
    progress.end()
    _tell(summary)


def _tell(summary: Summary) -> None:
    click.echo(json.dumps(summary.as_json(), ensure_ascii=False))
    if summary.failed:
        left = f"\n{summary.not_begun} more source(s) were not begun." if summary.not_begun else ""
        raise click.ClickException("\n".join(summary.failed.values()) + left)
    if summary.refused:
        click.echo(f"{summary.refused} row(s) have no answer: see the files *.errors.csv.", err=True)
        raise click.exceptions.Exit(REFUSED)


class Progress:
    """What a person sees meanwhile, on standard error: a line that changes on a terminal, elsewhere lines of a log.

    Parameters
    ----------
    plan : Plan
        What is to be done.
    """

    def __init__(self, plan: Plan) -> None:
        self._sizes = {item.source: (_size(item.source) if item.version else 0) for item in plan.items}
        self._rows: dict[str, int] = {}
        self._shares: dict[str, float] = {}
        self._done = 0
        self._is_terminal = sys.stderr.isatty()
        self._began = time.monotonic()
        self._told = self._began

    def watch(self, source: str, rows: int, share: float) -> None:
        """Take note of how far a source is."""
        self._rows[source], self._shares[source] = rows, share
        if time.monotonic() - self._told >= (PAUSE if self._is_terminal else LONG):
            self._told = time.monotonic()
            self._show(self._line())

    def report(self, scored: Scored) -> None:
        """Say that a source is done."""
        self._done += 1
        self._rows[scored.source], self._shares[scored.source] = scored.rows, 1.0
        refused = f", {scored.refused:,} without an answer" if scored.refused else ""
        self.end()
        click.echo(f"{scored.output}: {scored.rows:,} rows{refused} in {scored.seconds:.1f} s", err=True)

    def end(self) -> None:
        """Leave nothing of the changing line."""
        if self._is_terminal:
            click.echo("\r\x1b[K", nl=False, err=True)

    def _show(self, line: str) -> None:
        click.echo(f"\r\x1b[K{line}" if self._is_terminal else line, nl=not self._is_terminal, err=True)

    def _line(self) -> str:
        seconds = time.monotonic() - self._began
        rows = sum(self._rows.values())
        parts = [f"{self._done} of {len(self._sizes)} files", f"{rows:,} rows", f"{rows / seconds:,.0f} rows/s"]
        total = sum(self._sizes.values())
        share = (
            sum(size * self._shares.get(source, 0.0) for source, size in self._sizes.items()) / total if total else 0
        )
        if share > 0.01:
            left = seconds / share - seconds
            parts.append(f"{int(left) // 60}:{int(left) % 60:02} left")
        return ", ".join(parts)


def _size(source: str) -> int:
    return storage_of(source).size(source) or 0
