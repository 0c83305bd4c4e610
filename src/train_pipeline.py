"""Training: a table goes in; a tuned, gated, versioned model comes out.

Run as `python -m src.train_pipeline`, as `python src/train_pipeline.py` or as `tabserve train`.
"""

if __name__ == "__main__" and not __package__:
    import sys
    from pathlib import Path

    # run as a file: Python then looks for modules beside this file, and not where the packages are
    sys.path[0] = str(Path(sys.path[0]).parent)

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import click
import joblib

from tabserve import __version__, log
from tabserve.click_types import ExecutorSpec, UseCaseName
from tabserve.declaration.discovery import get_use_case
from tabserve.declaration.use_case import UseCase
from tabserve.errors import TabserveError
from tabserve.executors import open_executor
from tabserve.registry.manifest import Manifest
from tabserve.registry.registry import Registry
from tabserve.report import render_report
from tabserve.settings import DEFAULT_USE_CASE, RegistrySettings
from tabserve.training.candidate import fit_each
from tabserve.training.champion import champion_of, earliest_cut
from tabserve.training.console import check_installed, progress_bars, show, show_warnings
from tabserve.training.data_checks import check_data
from tabserve.training.evidence import Measured, best_first, describe, judge_in_turn, measure
from tabserve.training.parts import Parts, read, split
from tabserve.training.plan import Plan, competitors, entrants
from tabserve.training.rehearsal import rehearse
from tabserve.training.result import TrainingResult
from tabserve.training.saving import check_can_be_saved_in, publish, save


def run_training(
    use_case: UseCase, registry: Registry, data: Path, plan: Plan, algorithms: Sequence[str] = ()
) -> TrainingResult:
    """Train a use case's models and register those that pass the gates.

    Parameters
    ----------
    use_case : UseCase
        What to train.
    registry : Registry
        Where to save. For a registry in a bucket, the models are saved on this machine first, and then published.
    data : Path
        CSV or XLSX file with the use case's columns.
    plan : Plan
        How to train.
    algorithms : sequence of str
        Names of the algorithms to train; by default, all that the use case has.

    Returns
    -------
    TrainingResult
        What became of each candidate, the best first. One that fails a gate is not registered and its report is kept;
        what cannot be published is saved on this machine.

    Raises
    ------
    UnknownAlgorithmError
        When the use case has no such algorithm.
    InvalidTableError
        When the data do not fit the use case.
    TooFewRowsError, UniformTargetError, UniformTimeError
        When there is too little to learn from.
    InvalidUseCaseError
        When an algorithm cannot be fitted on such columns.
    WarnedError
        When the training is strict and there is something odd about the data.
    InterruptedTrainingError
        On Ctrl-C; nothing is saved.
    UnsavedError
        When the models cannot be saved: before anything is trained, where that can be known.
    """
    local = registry.on_this_machine()
    check_can_be_saved_in(Path(local.location))
    competing = competitors(use_case, algorithms)
    entering = entrants(use_case, competing)

    cut = earliest_cut(use_case, registry)
    parts = split(
        use_case, read(use_case, data, plan.sheet, drop_missing_target=plan.drop_missing_target), plan.seed, cut
    )  # the table has no name, so that it is gone when it is parted
    use_case = parts.use_case  # with what its features learnt
    warnings = check_data(use_case, parts)
    plan.warn(warnings)
    rehearse(use_case, entering, parts, plan)
    champion = champion_of(use_case, registry, parts.test, plan.seed, parts.split)

    candidates = fit_each(use_case, entering, parts.train, plan)
    measured = measure(use_case, candidates, parts, plan)
    ranked = best_first(use_case, competing, measured)
    manifests = describe(use_case, ranked, measured, champion, parts, plan, warnings)
    judged = judge_in_turn(use_case, manifests, measured, champion, parts.test, plan)

    reports = _render_reports(use_case, judged, measured, parts)
    outcomes = save(judged, measured, reports, parts, local)
    return publish(outcomes, local, registry)


def _render_reports(
    use_case: UseCase, manifests: Sequence[Manifest], measured: Mapping[str, Measured], parts: Parts
) -> dict[str, bytes]:
    """The report of each candidate, by model_id."""
    reports = {}
    for manifest in manifests:
        one = measured[manifest.algorithm]
        report = render_report(use_case, manifest, one.candidate, parts.train, parts.test, one.predictions)
        reports[manifest.model_id] = report.encode()
    return reports


@click.command()
@click.argument("use_case_name", metavar="[USE_CASE]", type=UseCaseName(), required=False)
@click.option("--use-case", "option", type=UseCaseName(), help=f"The same as USE_CASE.  [default: {DEFAULT_USE_CASE}]")
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the table to train on.  [default: the use case's own]",
)
@click.option(
    "--trials", type=click.IntRange(min=1), default=30, show_default=True, help="Points of the search space to try."
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=42,
    show_default=True,
    help="The same seed gives the same model.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Folds to work on at once.  [default: the CPUs granted]")
@click.option(
    "--executor",
    type=ExecutorSpec(),
    help="Make the trials of large tables in threads, processes, or on dask:tcp://host:port.  [default: one at a time]",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Begin no trial of an algorithm after so many minutes; the first is always made.  [default: no limit]",
)
@click.option("--algorithm", "algorithms", multiple=True, help="Train only this; may be repeated.  [default: all]")
@click.option("--exclude-protected", is_flag=True, help="Train without the protected features.")
@click.option("--sheet", help="Sheet of a workbook with the data.  [default: the one with the known columns]")
@click.option("--drop-missing-target", is_flag=True, help="Leave out rows whose target is missing, and count them.")
@click.option("--strict", is_flag=True, help="Treat warnings as faults: nothing odd is trained or registered.")
@click.option(
    "--accept-worse",
    metavar="REASON",
    help="Register a model though it is worse than the champion; the reason is kept with it.",
)
@click.version_option(__version__, prog_name="tabserve")
def main(
    use_case_name: str | None,
    option: str | None,
    data: Path | None,
    trials: int,
    seed: int,
    jobs: int | None,
    executor: str | None,
    minutes: float | None,
    algorithms: Sequence[str],
    exclude_protected: bool,
    sheet: str | None,
    drop_missing_target: bool,
    strict: bool,
    accept_worse: str | None,
) -> None:
    """Train the models of USE_CASE on a table, tune them, and register those that pass their gates."""
    log.configure_command()
    if use_case_name and option and use_case_name != option:
        raise click.UsageError(f"Name one use case: USE_CASE is {use_case_name} and --use-case is {option}.")
    if accept_worse is not None and not accept_worse.strip():
        raise click.UsageError("--accept-worse needs a reason, which is kept with the model.")
    try:
        check_installed()
        from rich.console import Console

        console = Console()
        use_case = get_use_case(use_case_name or option or DEFAULT_USE_CASE)
        registry = RegistrySettings.from_environment().open_registry()
        jobs = jobs or joblib.cpu_count()
        opened = open_executor(executor, jobs) if executor else nullcontext()
        with opened as pool, progress_bars(console) as progress:
            plan = Plan(
                trials=trials,
                seed=seed,
                jobs=jobs,
                executor=pool,
                exclude_protected=exclude_protected,
                minutes=minutes,
                sheet=sheet,
                drop_missing_target=drop_missing_target,
                strict=strict,
                accept_worse=(accept_worse or "").strip(),
                progress=progress,
                show_warnings=partial(show_warnings, console),
            )
            result = run_training(use_case, registry, data or use_case.path, plan, algorithms)
        show(console, registry, result)
    except BrokenPipeError:  # whoever reads has read enough, as `head` does: click ends without a word
        raise
    except (TabserveError, OSError) as error:
        raise click.ClickException(str(error)) from None
    if result.problems:
        raise click.ClickException("\n".join(result.problems))


if __name__ == "__main__":
    main()
