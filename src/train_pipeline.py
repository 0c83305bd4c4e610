"""Training: a table goes in; a tuned, gated, versioned model comes out.

Run as `python -m src.train_pipeline`, as `python src/train_pipeline.py` or as `tabserve-train`.
"""

if __name__ == "__main__" and not __package__:
    import sys
    from pathlib import Path

    # run as a file: Python then looks for modules beside this file, and not where the packages are
    sys.path[0] = str(Path(sys.path[0]).parent)

import hashlib
import io
import logging
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import joblib
import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sklearn.base import clone

from src import __version__
from src.aliases import Matrix, Vector
from src.datasets.reader import read_training_table
from src.errors import FailedGatesError, TabserveError
from src.evaluation import CROSS_VALIDATION, HOLD_OUT, TRAIN, Metrics, bootstrap_interval, judge
from src.models.base import CrossValidation, Model
from src.pipeline import Pipeline
from src.registry import MODEL, PIPELINE, TEST_TABLE, TRAIN_TABLE, ModelId, Registry, library_versions
from src.transformers import Target
from src.tuning import BayesianSearch, Trial, best_of
from src.use_cases import all_use_cases, get_use_case
from src.use_cases.declaration import Algorithm, UseCase, signature

HOLD_OUT_SHARE = 0.3
SPLITS, REPEATS = 10, 2  # one pass over the folds ranks trials by noise
INITIAL_SHARE = 1 / 3  # of the trials, at random points before the surrogate chooses


@dataclass(frozen=True)
class Plan:
    """How a training is run; see `run_training`."""

    trials: int = 30
    seed: int = 42
    jobs: int = field(default_factory=joblib.cpu_count)
    progress: Callable[[int, Trial, Trial], None] = lambda number, trial, best: None


@dataclass(frozen=True)
class Part:
    """The training part or the hold-out.

    Parameters
    ----------
    table : DataFrame
        n_rows rows: the features and, as its last column, the target.
    y : ndarray, shape (n_rows,)
        The target as numbers.
    """

    table: pd.DataFrame
    y: Vector


@dataclass(frozen=True)
class Candidate:
    """An algorithm's outcome.

    Parameters
    ----------
    algorithm : Algorithm
        What was fitted.
    pipeline : Pipeline
        Fitted on the training part, as is the model.
    model : Model
        With the best trial's parameters, and its threshold.
    trials : sequence of Trial
        All points that were tried.
    out_of_fold : ndarray, shape (n_repeats, n_training_rows)
        The best trial's scores of rows that its models did not see.
    thresholds : mapping
        Thresholds by how they were chosen; the first is the model's.
    """

    algorithm: Algorithm
    pipeline: Pipeline
    model: Model
    trials: Sequence[Trial]
    out_of_fold: Matrix
    thresholds: Mapping[str, float]


def run_training(use_case: UseCase, registry: Registry, data: Path, plan: Plan) -> dict[str, Any]:
    """Train a use case's model and register it if it passes the gates.

    Parameters
    ----------
    use_case : UseCase
        What to train.
    registry : Registry
        Where to save.
    data : Path
        CSV or XLSX file with the use case's columns.
    plan : Plan
        Number of trials, seed, folds worked on at once, and who is told of each trial. The same data, plan and
        versions give the same model, whatever the number of jobs.

    Returns
    -------
    dict
        The manifest of the saved model.

    Raises
    ------
    InvalidTableError
        When the data do not fit the use case.
    FailedGatesError
        When the candidate is not good enough; nothing is saved.
    InterruptedTrainingError
        On Ctrl-C; nothing is saved.
    """
    digest = hashlib.sha256(data.read_bytes()).hexdigest()  # now: the file may change while the model is tuned
    table = read(use_case, data)
    train, test, target = split(use_case, table, plan.seed)
    candidate = fit(use_case, use_case.algorithm, train, plan)
    baseline = fit(use_case, use_case.baseline, train, plan)
    metrics = evaluate(use_case, candidate, train, test)
    baseline_metrics = evaluate(use_case, baseline, train, test)
    gates = judge(use_case.gates, metrics, baseline_metrics)
    manifest = {
        **identify(use_case, candidate, digest, len(table), plan),
        **explain_choice(use_case, candidate, train, test, plan),
        "metrics": metrics,
        "baseline": {"algorithm": baseline.algorithm.name, "metrics": baseline_metrics},
        "gates": gates,
    }
    if not all(gate["passed"] for gate in gates):
        raise FailedGatesError(manifest)
    registry.save(pack(candidate, target, train, test), manifest)
    return manifest


def read(use_case: UseCase, data: Path) -> pd.DataFrame:
    """Read a data file and check all of it.

    Parameters
    ----------
    use_case : UseCase
        Whose columns it must have.
    data : Path
        CSV or XLSX.

    Returns
    -------
    DataFrame
        The features and, as its last column, the target as it stands in the file.

    Raises
    ------
    InvalidTableError
        With the place of everything that does not fit.
    UnsupportedFileError
        When the file is neither CSV nor XLSX.
    """
    table = read_training_table(data, use_case.features, use_case.target.feature)
    return pd.DataFrame(table.records).assign(**{use_case.target.feature.name: table.target})


def split(use_case: UseCase, table: pd.DataFrame, seed: int) -> tuple[Part, Part, Target]:
    """Part the rows, before anything is fitted on features.

    Parameters
    ----------
    use_case : UseCase
        Says how rows are parted.
    table : DataFrame
        What `read` gave.
    seed : int
        Of the drawing.

    Returns
    -------
    train, test : Part
        The training part and the hold-out.
    target : Target
        The fitted transformer of the target column.

    Raises
    ------
    TooFewRowsError
        When a class has too few rows.
    """
    target = clone(use_case.target)
    y = target.fit_transform(list(table[target.feature.name]))
    train, test = (
        Part(table.iloc[rows].reset_index(drop=True), y[rows]) for rows in use_case.task.split(y, HOLD_OUT_SHARE, seed)
    )
    return train, test, target


def fit(use_case: UseCase, algorithm: Algorithm, train: Part, plan: Plan) -> Candidate:
    """Fit the pipeline, tune, and fit the model with the best parameters: all of it on the training part alone.

    Parameters
    ----------
    use_case : UseCase
        Says what is tuned for and how the threshold is chosen.
    algorithm : Algorithm
        What to fit; left unfitted itself.
    train : Part
        The training part.
    plan : Plan
        Number of trials, seed and jobs.

    Returns
    -------
    Candidate
        The fitted pipeline and model, and how they were chosen.

    Raises
    ------
    InterruptedTrainingError
        On Ctrl-C while tuning.
    """
    pipeline = clone(use_case.pipeline(algorithm))  # the declaration's own steps stay unfitted
    X = pipeline.fit_transform(features_of(use_case, train))
    folds = use_case.task.folds(train.y, SPLITS, REPEATS, plan.seed)
    prototype = clone(algorithm.model)

    def cross_validate(parameters: Mapping[str, Any]) -> CrossValidation:
        model = clone(prototype).set_params(**parameters)
        result: CrossValidation = model.cross_validate(X, train.y, folds, use_case.task.metric, plan.jobs)
        return result

    if algorithm.search_space:
        initial = max(1, round(plan.trials * INITIAL_SHARE))
        search = BayesianSearch(algorithm.search_space, initial, plan.trials - initial, plan.seed)
        trials = search.run(cross_validate, plan.progress)
    else:
        trials = [Trial({}, cross_validate({}))]
    best = best_of(trials)
    model = prototype.set_params(**best.parameters, **best.cross_validation.parameters).fit(X, train.y)
    thresholds = use_case.task.thresholds(train.y, best.cross_validation.out_of_fold)
    model.threshold_ = next(iter(thresholds.values()), None)
    return Candidate(algorithm, pipeline, model, trials, best.cross_validation.out_of_fold, thresholds)


def evaluate(use_case: UseCase, candidate: Candidate, train: Part, test: Part) -> dict[str, Metrics]:
    """Measure a candidate.

    Returns
    -------
    dict
        Metrics by part: on the training part, out of fold (the mean over repeats) and on the hold-out.
    """
    measure, threshold = use_case.task.metrics, candidate.model.threshold_
    repeats = [measure(train.y, scores, threshold) for scores in candidate.out_of_fold]
    return {
        TRAIN: measure(train.y, score(use_case, candidate, train), threshold),
        CROSS_VALIDATION: {name: float(np.mean([repeat[name] for repeat in repeats])) for name in repeats[0]},
        HOLD_OUT: measure(test.y, score(use_case, candidate, test), threshold),
    }


def score(use_case: UseCase, candidate: Candidate, part: Part) -> Vector:
    """The model's score of each row."""
    return candidate.model.predict_score(candidate.pipeline.transform(features_of(use_case, part)))


def features_of(use_case: UseCase, part: Part) -> pd.DataFrame:
    """The table without its target column."""
    return part.table.drop(columns=use_case.target.feature.name)


def identify(use_case: UseCase, candidate: Candidate, digest: str, n_rows: int, plan: Plan) -> dict[str, Any]:
    """What the model is and what it was made from, for the manifest."""
    now = time.time()
    name = candidate.algorithm.name
    return {
        "model_id": str(ModelId(use_case.name, name, __version__, f"{now:.6f}")),
        "use_case": use_case.name,
        "algorithm": name,
        "version": __version__,
        "commit": commit(),
        "created": datetime.fromtimestamp(now, UTC).isoformat(),
        "python": platform.python_version(),
        "libraries": library_versions(),
        "data": {"sha256": digest, "rows": n_rows},
        "seed": plan.seed,
        "threads": 1,
        **signature(use_case),
        "example": dict(use_case.example),
    }


def explain_choice(use_case: UseCase, candidate: Candidate, train: Part, test: Part, plan: Plan) -> dict[str, Any]:
    """How the model was chosen and how sure its hold-out metric is, for the manifest."""
    task, scores = use_case.task, score(use_case, candidate, test)
    interval = bootstrap_interval(test.y, scores, task.metric, plan.seed)
    return {
        "parameters": candidate.model.get_params(),
        "trials": [
            {
                "parameters": {**trial.parameters, **trial.cross_validation.parameters},
                "score": trial.cross_validation.score,
            }
            for trial in candidate.trials
        ],
        "threshold": candidate.model.threshold_,
        "threshold_choice": next(iter(candidate.thresholds), None),
        "thresholds": {
            name: {
                "threshold": threshold,
                CROSS_VALIDATION: task.decision_metrics(
                    np.tile(train.y, len(candidate.out_of_fold)), candidate.out_of_fold.ravel(), threshold
                ),
                HOLD_OUT: task.decision_metrics(test.y, scores, threshold),
            }
            for name, threshold in candidate.thresholds.items()
        },
        "intervals": {task.headline: interval},
    }


def pack(candidate: Candidate, target: Target, train: Part, test: Part) -> dict[str, bytes]:
    """The artifact's files."""
    return {
        PIPELINE: pickled((candidate.pipeline, target)),
        MODEL: pickled(candidate.model),
        TRAIN_TABLE: train.table.to_csv(index=False).encode(),
        TEST_TABLE: test.table.to_csv(index=False).encode(),
    }


def pickled(thing: Any) -> bytes:
    """Bytes that `joblib.load` takes."""
    buffer = io.BytesIO()
    joblib.dump(thing, buffer)
    return buffer.getvalue()


def commit() -> str | None:
    """The code's git commit, marked when files were changed since; None outside a repository."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def metrics_table(manifest: Mapping[str, Any]) -> Table:
    """Metrics of the candidate by part, the baseline's cross-validation and hold-out beside them."""
    table = Table(title="Metrics", title_justify="left")
    parts = [manifest["metrics"][part] for part in (TRAIN, CROSS_VALIDATION, HOLD_OUT)]
    parts += [manifest["baseline"]["metrics"][part] for part in (CROSS_VALIDATION, HOLD_OUT)]
    table.add_column("", no_wrap=True)
    for heading in ("train", "CV", "hold-out", "gap", "baseline CV", "baseline hold-out"):
        table.add_column(heading, justify="right")
    for name in parts[0]:
        train, out_of_fold, hold_out, *baseline = [part[name] for part in parts]
        values = (train, out_of_fold, hold_out, train - hold_out, *baseline)
        table.add_row(name, *(f"{value:.3f}" for value in values))
    return table


def gates_table(manifest: Mapping[str, Any]) -> Table:
    """The gates' verdicts."""
    table = Table("gate", "value", "bound", "verdict", title="Gates", title_justify="left")
    for gate in manifest["gates"]:
        verdict = "passed" if gate["passed"] else "FAILED"
        table.add_row(gate["gate"], f"{gate['value']:.3f}", f"{gate['bound']:.3f}", verdict)
    return table


@click.command()
@click.option(
    "--use-case",
    "name",
    type=click.Choice(list(all_use_cases())),
    default="credit",
    show_default=True,
    help="What to train.",
)
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV or XLSX file to train on.  [default: the use case's own]",
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
@click.version_option(__version__, prog_name="tabserve")
def main(name: str, data: Path | None, trials: int, seed: int, jobs: int | None) -> None:
    """Train a model on a table, tune it, and register it if it passes its gates."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    console = Console()
    use_case = get_use_case(name)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    try:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("tuning", total=trials)

            def progress(number: int, trial: Trial, best: Trial) -> None:
                scores = f"score {trial.cross_validation.score:.4f}, best {best.cross_validation.score:.4f}"
                bar.update(task, completed=number, description=f"trial {number}: {scores}")

            plan = Plan(trials, seed, jobs or joblib.cpu_count(), progress)
            registry = Registry.from_environment()
            manifest = run_training(use_case, registry, data or use_case.path, plan)
    except FailedGatesError as error:
        console.print(metrics_table(error.manifest), gates_table(error.manifest))
        raise click.ClickException(str(error)) from None
    except TabserveError as error:
        raise click.ClickException(str(error)) from None
    low, high = manifest["intervals"][use_case.task.headline]
    console.print(metrics_table(manifest), gates_table(manifest))
    console.print(f"95 % interval of the hold-out {use_case.task.headline}: {low:.3f} to {high:.3f}")
    for choice, outcome in manifest["thresholds"].items():
        chosen = " (chosen)" if choice == manifest["threshold_choice"] else ""
        console.print(f"threshold by {choice}: {outcome['threshold']:.3f}{chosen}")
    console.print(f"saved: {manifest['model_id']}", soft_wrap=True)


if __name__ == "__main__":
    main()
