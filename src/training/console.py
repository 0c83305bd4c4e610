"""Console: what a training says to the person who started it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from tabserve.declaration.declaration import Algorithm
from tabserve.errors import MissingExtraError
from tabserve.evaluation.metrics import CHRONOLOGICAL, CROSS_VALIDATION, HOLD_OUT, TRAIN
from tabserve.registry.manifest import DataWarning, Manifest
from tabserve.registry.registry import Registry
from tabserve.training.result import TrainingResult
from tabserve.tuning import Trial, best_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID
    from rich.table import Table

# of the extra `train`, imported where they are used
LIBRARIES = ("bayes_opt", "matplotlib", "rich", "tomlkit")
HEADINGS = {CROSS_VALIDATION: "CV", HOLD_OUT: "hold-out", CHRONOLOGICAL: "by time"}  # short: 80 columns


def check_installed() -> None:
    """Refuse to train without the libraries of the extra `train`.

    Raises
    ------
    MissingExtraError
        With those that are missing.
    """
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise MissingExtraError("train", missing)


@contextmanager
def progress_bars(console: "Console") -> Iterator[Callable[[Algorithm, Sequence[Trial], int], None]]:
    """A bar for each algorithm, as long as this lasts; gives what a plan calls `progress`."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as bar:

        def progress(algorithm: Algorithm, trials: Sequence[Trial], total: int) -> None:
            if algorithm.name not in bars:
                bars[algorithm.name] = bar.add_task(algorithm.name, total=total)
            if trials:
                best = best_of(trials).cross_validation.score
                label = f"{algorithm.name}: score {trials[-1].cross_validation.score:.4f}, best {best:.4f}"
                total = max(total, len(trials))  # a range that is widened adds trials
                bar.update(bars[algorithm.name], completed=len(trials), total=total, description=label)

        yield progress


def show_warnings(console: "Console", warnings: Sequence[DataWarning]) -> None:
    """Print what a person should look at, one line each."""
    for warning in warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)


def show(console: "Console", registry: Registry, result: TrainingResult) -> None:
    """Print how good the candidates are, what was saved where, and which model answers now."""
    console.print(metrics_table(result.manifests), gates_table(result.manifests))
    for manifest in result.manifests:
        _show_figures(console, manifest)
        _show_doubts(console, manifest)
    for outcome in result.saved:
        console.print(f"saved: {outcome.model_id}", soft_wrap=True)
        console.print(f"report: {outcome.report}", soft_wrap=True)
    for outcome in result.rejected:
        console.print(f"report of what was not registered: {outcome.report}", soft_wrap=True)
    if not result.unpublished:
        _show_what_answers(console, registry, result)


def _show_figures(console: "Console", manifest: Manifest) -> None:
    for note in manifest.search_notes:
        console.print(f"{manifest.algorithm}: {note}", soft_wrap=True)
    low, high = manifest.intervals[manifest.headline]
    console.print(f"{manifest.algorithm}: 95 % interval of the hold-out {manifest.headline} {low:.3f} to {high:.3f}")
    for choice, outcome in manifest.thresholds.items():
        chosen = " (chosen)" if choice == manifest.threshold_choice else ""
        console.print(f"{manifest.algorithm}: threshold by {choice} {outcome.threshold:.3f}{chosen}")


def _show_doubts(console: "Console", manifest: Manifest) -> None:
    """What was found after the data were checked, and what a person accepted."""
    for warning in manifest.warnings:
        if warning.algorithm:  # those of the data were shown before
            line = f"{manifest.algorithm}: warning: {warning}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    for gate in manifest.gates:
        if gate.accepted:
            line = f"{manifest.algorithm}: accepted though worse than the champion: {gate.accepted}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _show_what_answers(console: "Console", registry: Registry, result: TrainingResult) -> None:
    use_case = result.manifests[0].use_case
    saved = [outcome.model_id for outcome in result.saved]
    if saved and registry is not registry.on_this_machine():
        console.print(f"published to {registry.location}", soft_wrap=True)
    if fault := registry.histories.fault(use_case):
        remedy = f" To let the new model answer, promote {saved[0]}." if saved else ""
        console.print(f"{fault}{remedy}", soft_wrap=True)
    elif champion := registry.histories.champion(use_case):
        console.print(f"{use_case} is answered by its champion: {champion}", soft_wrap=True)
    elif saved:
        newest = registry.latest(use_case)
        console.print(f"{use_case} is answered by: {newest}", soft_wrap=True)
        if newest != saved[0]:
            console.print(f"Its name says that it is newer. To let the new model answer, promote {saved[0]}.")
        else:
            console.print("Serve it: tabserve serve")


def metrics_table(manifests: Sequence[Manifest]) -> "Table":
    """Each metric of each algorithm by part, best algorithm first, the baseline among them."""
    from rich.table import Table

    comparison, baseline = manifests[0].comparison, manifests[0].baseline
    names = dict.fromkeys([*(manifest.algorithm for manifest in manifests), *comparison])
    parts = list(comparison[baseline])
    table = Table("metric", title="Metrics", title_justify="left")
    table.add_column("algorithm", no_wrap=True)
    for heading in (*parts, "gap"):
        table.add_column(HEADINGS.get(heading, heading), justify="right")
    for metric in comparison[baseline][TRAIN]:
        for place, name in enumerate(names):
            by_part = {part: metrics[metric] for part, metrics in comparison[name].items()}
            values = (*by_part.values(), by_part[TRAIN] - by_part[HOLD_OUT])
            label = f"{name}*" if name == baseline else name
            table.add_row("" if place else metric, label, *map(short, values))
        table.add_section()
    table.caption = "* the baseline"
    return table


def gates_table(manifests: Sequence[Manifest]) -> "Table":
    """The gates' verdicts."""
    from rich.table import Table

    table = Table("algorithm", "gate", "value", "bound", "verdict", title="Gates", title_justify="left")
    for manifest in manifests:
        for place, gate in enumerate(manifest.gates):
            verdict = "passed" if gate.passed else "accepted" if gate.accepted else "FAILED"
            name = "" if place else manifest.algorithm
            table.add_row(name, gate.gate, found(gate.value), f"{gate.bound:.3f}", verdict)
    return table


def short(value: float) -> str:
    """A number in as few characters as a table of 80 columns has for it."""
    if abs(value) >= 100_000:
        return f"{value:.3g}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def found(value: float | None) -> str:
    """What a gate found, in as few characters as a column of the table has for it."""
    if value is None:
        return "-"
    return "undefined" if np.isnan(value) else f"{value:.3f}"
