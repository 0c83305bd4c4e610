"""Training: a table goes in; a tuned, gated, versioned model comes out.

Run as `python -m src.train_pipeline`, as `python src/train_pipeline.py` or as `tabserve train`.
"""

if __name__ == "__main__" and not __package__:
    import sys
    from pathlib import Path

    # run as a file: Python then looks for modules beside this file, and not where the packages are
    sys.path[0] = str(Path(sys.path[0]).parent)

import csv
import hashlib
import io
import itertools
import logging
import os
import platform
import subprocess
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import click
import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone
from tabserve import __version__, log
from tabserve.aliases import Matrix, Vector
from tabserve.click_types import UseCaseName
from tabserve.declaration.discovery import get_use_case
from tabserve.declaration.use_case import Algorithm, UseCase, signature
from tabserve.errors import (
    BrokenArtifactError,
    FailedGatesError,
    InvalidRecordsError,
    InvalidUseCaseError,
    MissingExtraError,
    TabserveError,
    UnavailableError,
    UniformTargetError,
    UnknownModelError,
    UnpublishedError,
    UnsavedError,
    UnsupportedFileError,
)
from tabserve.evaluation.bootstrap import bootstrap_difference, bootstrap_intervals
from tabserve.evaluation.fairness import compare_groups, smallest_ratios
from tabserve.evaluation.gates import Evidence, judge
from tabserve.evaluation.metrics import CHRONOLOGICAL, CROSS_VALIDATION, HOLD_OUT, TRAIN, Metrics
from tabserve.hold_out import SPLIT, held_out
from tabserve.models.base import Classifier, CrossValidation, Model
from tabserve.pipeline import Pipeline
from tabserve.registry.artifact import Artifact
from tabserve.registry.manifest import (
    ChampionComparison,
    Manifest,
    ProtectedComparison,
    Source,
    ThresholdOutcome,
    Tried,
)
from tabserve.registry.model_id import ModelId
from tabserve.registry.registry import (
    MODEL,
    PIPELINE,
    REJECTED,
    REPORT,
    TEST_TABLE,
    TRAIN_TABLE,
    Registry,
    library_versions,
)
from tabserve.report import render_report
from tabserve.settings import DEFAULT_USE_CASE, RegistrySettings
from tabserve.tables.reader import read_training_table
from tabserve.transformers import Target
from tabserve.tuning import BayesianSearch, Trial, best_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID
    from rich.table import Table

logger = logging.getLogger("tabserve.train_pipeline")  # also when it is run, and is called __main__

LIBRARIES = ("bayes_opt", "fairlearn", "matplotlib", "rich")  # of the extra `train`, imported where they are used
HOLD_OUT_SHARE = 0.3
REHEARSED = 200  # rows
INITIAL_SHARE = 1 / 3  # of the trials, at random points before the surrogate chooses


@dataclass(frozen=True)
class Plan:
    """How a training is run.

    The same data, seed, number of trials and versions give the same models, whatever the number of jobs.

    Parameters
    ----------
    trials : int
        Points of its search space that each algorithm tries.
    seed : int
        Of the split, the folds and the search.
    jobs : int
        Folds worked on at once.
    exclude_protected : bool
        Whether the models must do without the protected features.
    progress : callable
        Told the algorithm, its trials so far and how many there will be: before the first and after each.
    """

    trials: int = 30
    seed: int = 42
    jobs: int = field(default_factory=joblib.cpu_count)
    exclude_protected: bool = False
    progress: Callable[[Algorithm, Sequence[Trial], int], None] = lambda algorithm, trials, total: None


@dataclass(frozen=True)
class Part:
    """Some rows of the table, such as the training part or the hold-out.

    Parameters
    ----------
    table : DataFrame
        n_rows rows: the features and, as its last column, the target.
    y : ndarray, shape (n_rows,)
        The target as numbers.
    """

    table: pd.DataFrame
    y: Vector

    def take(self, rows: Any) -> "Part":
        """Some of the rows: their numbers, a slice, or whether each is taken."""
        return Part(self.table.iloc[rows].reset_index(drop=True), self.y[rows])


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


def run_training(
    use_case: UseCase, registry: Registry, data: Path, plan: Plan, algorithms: Sequence[str] = ()
) -> list[Manifest]:
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
    list of Manifest
        Those of the saved models, the best by cross-validation first: it has the newest model_id, and so
        answers for the use case unless a champion does.

    Raises
    ------
    UnknownAlgorithmError
        When the use case has no such algorithm.
    InvalidTableError
        When the data do not fit the use case.
    TooFewRowsError, UniformTargetError
        When there is too little to learn from.
    FailedGatesError
        When a candidate is not good enough; the others are saved, and its report is kept.
    InterruptedTrainingError
        On Ctrl-C; nothing is saved.
    UnpublishedError
        When the models are saved and cannot be published.
    UnsavedError
        When they cannot be saved: before anything is trained, where that can be known.
    """
    local = registry.on_this_machine()
    check_can_be_saved_in(Path(local.location))
    chosen = {name: use_case.algorithm(name) for name in algorithms} or {one.name: one for one in use_case.algorithms}
    entrants = {one.name: one for one in (*chosen.values(), use_case.baseline)}
    digest = digest_of(data)  # now: the file may change while models are tuned
    table = read(use_case, data)
    whole, train, test, target = split(use_case, table, plan.seed)
    check_variety(use_case, whole, train, test, plan)
    for algorithm in entrants.values():
        rehearse(use_case, algorithm, train)
    champion = champion_of(use_case, registry, test)
    if isinstance(champion, Champion) and champion.seed != plan.seed:
        logger.warning("%s was trained on rows of this hold-out: it looks better than it is.", champion.model_id)
    candidates = {name: fit(use_case, algorithm, train, plan) for name, algorithm in entrants.items()}
    scores = {name: score(use_case, candidate, test) for name, candidate in candidates.items()}

    def measured(name: str) -> dict[str, Metrics]:
        return evaluate(use_case, candidates[name], whole, train, test, scores[name])

    with ThreadPoolExecutor(plan.jobs) as pool:
        metrics = dict(zip(candidates, pool.map(measured, candidates), strict=True))
    by_score = sorted(chosen.values(), key=lambda one: metrics[one.name][CROSS_VALIDATION][use_case.task.headline])
    now = time.time_ns() // 1000
    manifests = [
        Manifest(
            **identify(use_case, algorithm, now + place, digest, len(table), plan),
            **explain_choice(use_case, candidates[algorithm.name], train, test, scores[algorithm.name], plan),
            **compare(use_case, scores, algorithm.name, champion, test, plan),
            metrics=metrics[algorithm.name],
            comparison=metrics,
            protected=without_protected(
                use_case, candidates[algorithm.name], train, test, scores[algorithm.name], plan
            ),
        )
        for place, algorithm in enumerate(by_score)
    ]
    manifests.reverse()  # the best is saved first: a service that looks meanwhile must find no other newest
    to_replace = champion
    for place, unjudged in enumerate(manifests):
        name = unjudged.algorithm
        candidate = candidates[name]
        evidence = Evidence(
            unjudged.metrics,
            metrics[use_case.baseline.name],
            **beside(use_case, to_replace, candidate, scores[name], test),
            group_ratios=smallest_ratios(unjudged.groups),
        )
        manifest = manifests[place] = replace(unjudged, gates=judge(use_case.gates, evidence))
        report = render_report(use_case, manifest, candidate, train, test, scores[name]).encode()
        try:
            if manifest.passed:
                to_replace = None  # this one will answer: those after it replace nothing
                local.save(pack(candidate, target, train, test, report), manifest)
            else:
                local.reject(manifest.model_id, report)
        except OSError as error:
            saved = [one.model_id for one in manifests[:place] if one.passed]
            unsaved = [one.model_id for one in manifests[place:]]
            raise UnsavedError(str(local.location), error, saved, unsaved) from None
    if local is not registry:
        publish(manifests, local, registry)
    if not all(manifest.passed for manifest in manifests):
        raise FailedGatesError(manifests)
    return manifests


def check_can_be_saved_in(folder: Path) -> None:
    """Raise UnsavedError for a folder that nothing can be saved in, as far as that can be known without writing."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
        TemporaryFile(dir=there).close()
    except OSError as error:
        raise UnsavedError(str(folder), error) from None


def digest_of(data: Path) -> str:
    """The SHA-256 of a file.

    Raises
    ------
    UnsupportedFileError
        When it cannot be read.
    """
    try:
        return hashlib.sha256(data.read_bytes()).hexdigest()
    except OSError as error:
        raise UnsupportedFileError(f"The file {data.name} cannot be read: {error.strerror}.") from None


def publish(manifests: Sequence[Manifest], registry: Registry, to: Registry) -> None:
    """Copy the models that passed to the registry that they are served from, the first one first."""
    model_ids = [manifest.model_id for manifest in manifests if manifest.passed]
    for place, model_id in enumerate(model_ids):
        try:
            registry.copy(model_id, to)
        except (UnavailableError, KeyboardInterrupt) as error:
            where, there, reason = str(registry.location), str(to.location), str(error) or "Interrupted."
            raise UnpublishedError(manifests, model_ids[place:], where, there, reason) from None


@dataclass(frozen=True)
class Champion:
    """The model that answers for the use case, seen beside the candidates.

    Parameters
    ----------
    model_id : str
        Its name.
    rows : ndarray of bool, shape (n_test_rows,)
        Which rows of the hold-out it takes: it may not know a category that was declared since.
    scores : ndarray
        Its scores of these rows.
    metrics : dict of float
        Of these scores, decisions being made at its own threshold.
    seed : int or None
        Of the split of its table; None when that was not made by what the features hold.
    """

    model_id: str
    rows: npt.NDArray[np.bool_]
    scores: Vector
    metrics: Metrics
    seed: int | None


@dataclass(frozen=True)
class NotCompared:
    """A model that answers for the use case, and cannot be seen beside the candidates.

    Parameters
    ----------
    model_id : str
        Its name.
    reason : str
        Why not, as a sentence.
    """

    model_id: str
    reason: str


def champion_of(use_case: UseCase, registry: Registry, test: Part) -> Champion | NotCompared | None:
    """Let the model that answers today score the hold-out.

    Parameters
    ----------
    use_case : UseCase
        Whose model.
    registry : Registry
        Where it is.
    test : Part
        The hold-out. A model of another split was trained on some of it, and looks better than it is.

    Returns
    -------
    Champion, NotCompared or None
        None when there is no model at all. Not compared is a model, the newest when none is promoted, where none can
        be loaded and takes half of these rows.

    Raises
    ------
    UnavailableError
        When the champion's name cannot be read, or a registry in a bucket: it is not passed over then.
    """
    promoted = registry.champion(use_case.name)
    first: NotCompared | None = None
    for model_id in [promoted] if promoted else registry.list(use_case.name):
        try:
            return _let_score(use_case, registry.load(model_id), test)
        except (BrokenArtifactError, UnknownModelError, InvalidRecordsError) as error:
            logger.warning("%s is not compared with: %s", model_id, error)
            first = first or NotCompared(model_id, str(error))
    return first


def _let_score(use_case: UseCase, artifact: Artifact, test: Part) -> Champion:
    model_id, manifest = artifact.model_id, artifact.manifest
    if manifest.headline != use_case.task.headline:
        raise BrokenArtifactError(model_id, "it predicts something else")
    known = set(manifest.feature_names)
    table = features_of(use_case, test)
    table = table[[name for name in table if name in known]]  # it does without the columns that were declared since
    rows = np.ones(len(table), dtype=np.bool_)
    try:
        X = artifact.pipeline.transform(table)
    except InvalidRecordsError as error:
        rows[error.rows] = False
        if 2 * np.sum(rows) < len(rows):
            raise
        X = artifact.pipeline.transform(table[rows])
    y = test.y[rows]
    if np.isnan(use_case.task.metric(y, y)):
        raise BrokenArtifactError(model_id, "the rows that it takes are of one outcome")
    scores = artifact.model.predict_score(X)
    seed = manifest.seed if manifest.split == SPLIT else None
    return Champion(model_id, rows, scores, use_case.task.metrics(y, scores, artifact.model.threshold_), seed)


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
        The features, those that the file lacks without any value, and as its last column the target as it stands in
        the file.

    Raises
    ------
    InvalidTableError
        With the place of everything that does not fit.
    UnsupportedFileError
        When the file is neither CSV nor XLSX.
    """
    found = read_training_table(data, use_case.features, use_case.target.feature)
    table = pd.DataFrame(found.records, columns=[feature.name for feature in use_case.features])
    for name in table.columns[table.isna().all()]:
        logger.warning("No row has a value of '%s': nothing is learnt from it.", name)
    table[use_case.target.feature.name] = found.target
    return table


def split(use_case: UseCase, table: pd.DataFrame, seed: int) -> tuple[Part, Part, Part, Target]:
    """Part the rows by what their features hold, before anything is fitted.

    Parameters
    ----------
    use_case : UseCase
        Whose features and target they have.
    table : DataFrame
        What `read` gave.
    seed : int
        Another one parts them otherwise.

    Returns
    -------
    whole, train, test : Part
        All rows, the training part and the hold-out, each in the table's order.
    target : Target
        The fitted transformer of the target column.

    Raises
    ------
    TooFewRowsError
        When there are too few rows, or too few of a class.
    """
    target = clone(use_case.target)
    whole = Part(table, target.fit_transform(list(table[target.feature.name])))
    held = held_out(table, use_case.features, HOLD_OUT_SHARE, seed)
    train, test = whole.take(~held), whole.take(held)
    use_case.task.check_parts(train.y, test.y, use_case.splits)
    return whole, train, test, target


def check_variety(use_case: UseCase, whole: Part, train: Part, test: Part, plan: Plan) -> None:
    """Refuse targets by which some rows could not be fitted or judged, since all of them are the same.

    Raises
    ------
    UniformTargetError
        With the rows.
    """
    metric = use_case.task.metric
    folds = use_case.task.folds(train.y, use_case.splits, use_case.repeats, plan.seed)
    parts = [("a fold of cross-validation", train.y[rows]) for fold in folds for rows in fold]
    parts.append(("the hold-out", test.y))
    if use_case.chronological:
        past, future = split_by_time(whole)
        parts += [("the first part by time", past.y), ("the last part by time", future.y)]
    for name, y in parts:
        if np.isnan(metric(y, y)):
            raise UniformTargetError(use_case.target.feature.name, name)


def rehearse(use_case: UseCase, algorithm: Algorithm, train: Part) -> None:
    """Fit an algorithm on few rows, with its smallest and its largest parameters, before time is spent on tuning.

    Raises
    ------
    InvalidUseCaseError
        With what went wrong.
    """
    order = np.argsort(train.y, kind="stable")
    few = train.take(np.unique([*order[: REHEARSED // 2], *order[-REHEARSED // 2 :]]))  # both classes are among them
    optional = [feature.name for feature in use_case.features if feature.missing]
    corners = [{name: one.value(one.bounds[end]) for name, one in algorithm.search_space.items()} for end in (0, 1)]
    gaps = features_of(use_case, few)
    gaps[optional] = None
    try:
        with warnings.catch_warnings(action="ignore"):
            for excluded, parameters in itertools.product({False, use_case.can_exclude_protected}, corners):
                pipeline = clone(use_case.pipeline(algorithm, exclude_protected=excluded))
                X = pipeline.fit_transform(features_of(use_case, few))
                model = clone(algorithm.model).set_params(**parameters).fit(X, few.y, pipeline.columns_)
                pickled((pipeline, model))
                both = np.vstack([X, pipeline.transform(gaps)])
                check_scores(model, model.predict_score(both), len(both))
    except Exception as error:  # of any library, and of any kind
        reason = str(error).partition("\n")[0]
        raise InvalidUseCaseError(
            f"{use_case.name}: {algorithm.name} fails on these columns, values that may be missing among them: {reason}"
        ) from error


def check_scores(model: Model, scores: Any, n_rows: int) -> None:
    """Raise ValueError unless there is a number for each row, and for a classifier a probability."""
    if not isinstance(scores, np.ndarray) or scores.shape != (n_rows,) or scores.dtype.kind != "f":
        raise ValueError("its scores are no array of floats with one for each row")
    if not np.isfinite(scores).all():
        raise ValueError("its scores are no numbers")
    if isinstance(model, Classifier) and not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("its scores are no probabilities: they must lie between 0 and 1")


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
    # a clone: the declaration's own transformers stay unfitted
    pipeline = clone(use_case.pipeline(algorithm, exclude_protected=plan.exclude_protected))
    X = pipeline.fit_transform(features_of(use_case, train))
    columns = pipeline.columns_
    folds = use_case.task.folds(train.y, use_case.splits, use_case.repeats, plan.seed)
    prototype = clone(algorithm.model)

    def cross_validate(parameters: Mapping[str, Any]) -> CrossValidation:
        model = clone(prototype).set_params(**parameters)
        result: CrossValidation = model.cross_validate(X, train.y, folds, use_case.task.metric, plan.jobs, columns)
        return result

    total = plan.trials if algorithm.search_space else 1
    plan.progress(algorithm, [], total)
    if algorithm.search_space:
        initial = max(1, round(total * INITIAL_SHARE))
        search = BayesianSearch(algorithm.search_space, initial, total - initial, plan.seed)
        trials = search.run(cross_validate, lambda trials: plan.progress(algorithm, trials, total))
    else:
        trials = [Trial({}, cross_validate({}))]
        plan.progress(algorithm, trials, total)
    best = best_of(trials)
    model = prototype.set_params(**{**best.parameters, **best.cross_validation.parameters}).fit(X, train.y, columns)
    thresholds = use_case.task.thresholds(train.y, best.cross_validation.out_of_fold)
    model.threshold_ = next(iter(thresholds.values()), None)
    return Candidate(algorithm, pipeline, model, trials, best.cross_validation.out_of_fold, thresholds)


def evaluate(
    use_case: UseCase, candidate: Candidate, whole: Part, train: Part, test: Part, hold_out_scores: Vector
) -> dict[str, Metrics]:
    """Measure a candidate.

    Returns
    -------
    dict
        Metrics by part: on the training part, out of fold (the mean over repeats), on the hold-out and, where rows
        stand in the order of time, on the last of them by a model of the first.
    """
    measure, threshold = use_case.task.metrics, candidate.model.threshold_
    repeats = [measure(train.y, scores, threshold) for scores in candidate.out_of_fold]
    metrics = {
        TRAIN: measure(train.y, score(use_case, candidate, train), threshold),
        CROSS_VALIDATION: {name: float(np.mean([repeat[name] for repeat in repeats])) for name in repeats[0]},
        HOLD_OUT: measure(test.y, hold_out_scores, threshold),
    }
    if use_case.chronological:
        past, future = split_by_time(whole)
        of_the_past = refit(use_case, candidate, past)
        metrics[CHRONOLOGICAL] = measure(future.y, score(use_case, of_the_past, future), threshold)
    return metrics


def split_by_time(whole: Part) -> tuple[Part, Part]:
    """The first rows, as many as are trained on, and the rest."""
    cut = round(len(whole.y) * (1 - HOLD_OUT_SHARE))
    return whole.take(slice(cut)), whole.take(slice(cut, None))


def refit(use_case: UseCase, candidate: Candidate, part: Part) -> Candidate:
    """The candidate with pipeline and model fitted anew on other rows, its parameters as they were chosen."""
    pipeline = clone(candidate.pipeline)
    X = pipeline.fit_transform(features_of(use_case, part))
    model = clone(candidate.model).fit(X, part.y, pipeline.columns_)
    return replace(candidate, pipeline=pipeline, model=model)


def score(use_case: UseCase, candidate: Candidate, part: Part) -> Vector:
    """The model's score of each row."""
    return candidate.model.predict_score(candidate.pipeline.transform(features_of(use_case, part)))


def features_of(use_case: UseCase, part: Part) -> pd.DataFrame:
    """The table without its target column."""
    return part.table.drop(columns=use_case.target.feature.name)


def identify(use_case: UseCase, algorithm: Algorithm, now: int, digest: str, n_rows: int, plan: Plan) -> dict[str, Any]:
    """What the model is and what it was made from, for the manifest; `now` is Unix time in microseconds."""
    seconds, microseconds = divmod(now, 10**6)  # not a float: it would make two ids of one moment equal
    return {
        "model_id": str(ModelId(use_case.name, algorithm.name, __version__, f"{seconds}.{microseconds:06}")),
        "use_case": use_case.name,
        "algorithm": algorithm.name,
        "version": __version__,
        "commit": commit(),
        "created": datetime.fromtimestamp(now / 10**6, UTC).isoformat(),
        "python": platform.python_version(),
        "libraries": library_versions(),
        "data": Source(digest, n_rows),
        "seed": plan.seed,
        "split": SPLIT,
        "threads": 1,
        **signature(use_case),
        "example": dict(use_case.example),
    }


def explain_choice(
    use_case: UseCase, candidate: Candidate, train: Part, test: Part, hold_out_scores: Vector, plan: Plan
) -> dict[str, Any]:
    """How the model was chosen, how sure its hold-out metrics are and how it treats groups, for the manifest."""
    task, threshold = use_case.task, candidate.model.threshold_
    return {
        "headline": task.headline,
        "parameters": candidate.model.get_params(),
        "trials": tuple(
            Tried({**trial.parameters, **trial.cross_validation.parameters}, trial.cross_validation.score)
            for trial in candidate.trials
        ),
        "threshold": threshold,
        "threshold_choice": next(iter(candidate.thresholds), None),
        "thresholds": {
            name: ThresholdOutcome(
                threshold,
                task.decision_metrics(
                    np.tile(train.y, len(candidate.out_of_fold)), candidate.out_of_fold.ravel(), threshold
                ),
                task.decision_metrics(test.y, hold_out_scores, threshold),
            )
            for name, threshold in candidate.thresholds.items()
        },
        "intervals": bootstrap_intervals(
            test.y, hold_out_scores, lambda y, scores: task.metrics(y, scores, threshold), plan.seed
        ),
        "groups": {
            group.feature: compare_groups(test.y, hold_out_scores, threshold, group.labels(test.table))
            for group in use_case.groups
            if threshold is not None
        },
    }


def compare(
    use_case: UseCase,
    scores: Mapping[str, Vector],
    name: str,
    champion: Champion | NotCompared | None,
    test: Part,
    plan: Plan,
) -> dict[str, Any]:
    """How much better the model is than baseline and champion on the hold-out, for the manifest.

    `scores` are those of the hold-out by algorithm.
    """
    task = use_case.task

    def better_than(others: Vector, rows: Any = slice(None)) -> dict[str, tuple[float, float, float]]:
        y, own = test.y[rows], scores[name][rows]
        return {task.headline: bootstrap_difference(y, own, others, task.metric, plan.seed)}

    beside_champion: ChampionComparison | None = None
    if isinstance(champion, Champion):
        difference = better_than(champion.scores, champion.rows)
        beside_champion = ChampionComparison(
            champion.model_id, int(np.sum(champion.rows)), champion.metrics, difference
        )
    elif champion:
        beside_champion = ChampionComparison(champion.model_id, not_compared=champion.reason)
    return {
        "baseline": use_case.baseline.name,
        "baseline_difference": better_than(scores[use_case.baseline.name]),
        "champion": beside_champion,
    }


def beside(
    use_case: UseCase, champion: Champion | NotCompared | None, candidate: Candidate, scores: Vector, test: Part
) -> dict[str, Any]:
    """What the gates need to know of the model that a candidate would replace: arguments of `Evidence`.

    `scores` are the candidate's of the hold-out.
    """
    if champion is None:
        return {}
    if isinstance(champion, NotCompared):
        return {"not_compared": champion.reason}
    rows = champion.rows
    own = use_case.task.metrics(test.y[rows], scores[rows], candidate.model.threshold_)
    return {"champion": champion.metrics, "beside_champion": own}


def without_protected(
    use_case: UseCase, candidate: Candidate, train: Part, test: Part, hold_out_scores: Vector, plan: Plan
) -> ProtectedComparison | None:
    """The headline metric with and without the protected columns, for the manifest.

    None where there are no protected columns, or no others.

    The other model has the candidate's parameters: what it would gain by a search of its own is not known.
    """
    if not use_case.can_exclude_protected:
        return None
    task = use_case.task
    chosen = {
        CROSS_VALIDATION: best_of(candidate.trials).cross_validation.score,
        HOLD_OUT: task.metric(test.y, hold_out_scores),
    }
    pipeline = clone(use_case.pipeline(candidate.algorithm, exclude_protected=not plan.exclude_protected))
    X = pipeline.fit_transform(features_of(use_case, train))
    folds = task.folds(train.y, use_case.splits, use_case.repeats, plan.seed)
    columns = pipeline.columns_
    validation = clone(candidate.model).cross_validate(X, train.y, folds, task.metric, plan.jobs, columns)
    model = clone(candidate.model).set_params(**validation.parameters).fit(X, train.y, columns)
    other = {
        CROSS_VALIDATION: validation.score,
        HOLD_OUT: task.metric(test.y, model.predict_score(pipeline.transform(features_of(use_case, test)))),
    }
    with_them, without_them = (other, chosen) if plan.exclude_protected else (chosen, other)
    return ProtectedComparison(use_case.protected, plan.exclude_protected, task.headline, with_them, without_them)


def pack(candidate: Candidate, target: Target, train: Part, test: Part, report: bytes) -> dict[str, bytes]:
    """The artifact's files."""
    return {
        PIPELINE: pickled((candidate.pipeline, target)),
        MODEL: pickled(candidate.model),
        TRAIN_TABLE: as_csv(train.table),
        TEST_TABLE: as_csv(test.table),
        REPORT: report,
    }


def as_csv(table: pd.DataFrame) -> bytes:
    """A CSV file that reads back as the same table."""
    text = table.to_csv(index=False)
    if "\r" in text:  # which the writer does not quote by itself, and the reader takes for the end of a line
        text = table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)
    return text.encode()


def pickled(thing: Any) -> bytes:
    """Bytes that `joblib.load` takes."""
    buffer = io.BytesIO()
    joblib.dump(thing, buffer)
    return buffer.getvalue()


def commit() -> str | None:
    """The code's git commit, marked when files were changed since; outside a repository, the environment's COMMIT."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("COMMIT")  # an image has no git, but was told
    return done.stdout.strip()


HEADINGS = {CROSS_VALIDATION: "CV", HOLD_OUT: "hold-out", CHRONOLOGICAL: "by time"}  # short: 80 columns


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


def short(value: float) -> str:
    """A number in as few characters as a table of 80 columns has for it."""
    if abs(value) >= 100_000:
        return f"{value:.3g}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def gates_table(manifests: Sequence[Manifest]) -> "Table":
    """The gates' verdicts."""
    from rich.table import Table

    table = Table("algorithm", "gate", "value", "bound", "verdict", title="Gates", title_justify="left")
    for manifest in manifests:
        for place, gate in enumerate(manifest.gates):
            verdict = "passed" if gate.passed else "FAILED"
            name = "" if place else manifest.algorithm
            table.add_row(name, gate.gate, found(gate.value), f"{gate.bound:.3f}", verdict)
    return table


def found(value: float | None) -> str:
    """What a gate found, in as few characters as a column of the table has for it."""
    if value is None:
        return "-"
    return "undefined" if np.isnan(value) else f"{value:.3f}"


def show(console: "Console", registry: Registry, manifests: Sequence[Manifest]) -> None:
    """Print how good the candidates are, and what was saved where on this machine."""
    local = registry.on_this_machine()
    console.print(metrics_table(manifests), gates_table(manifests))
    for manifest in manifests:
        metric = manifest.headline
        low, high = manifest.intervals[metric]
        console.print(f"{manifest.algorithm}: 95 % interval of the hold-out {metric} {low:.3f} to {high:.3f}")
        for choice, outcome in manifest.thresholds.items():
            chosen = " (chosen)" if choice == manifest.threshold_choice else ""
            console.print(f"{manifest.algorithm}: threshold by {choice} {outcome.threshold:.3f}{chosen}")
    saved = [manifest.model_id for manifest in manifests if manifest.passed]
    for model_id in saved:
        console.print(f"saved: {model_id}", soft_wrap=True)
    for manifest in manifests:
        if not manifest.passed:
            path = f"{local.location}/{REJECTED}/{manifest.model_id}.html"
            console.print(f"report of what was not registered: {path}", soft_wrap=True)


def show_what_answers(console: "Console", registry: Registry, manifests: Sequence[Manifest]) -> None:
    """Print what was published, and which model answers now."""
    use_case = manifests[0].use_case
    saved = [manifest.model_id for manifest in manifests if manifest.passed]
    if saved and registry is not registry.on_this_machine():
        console.print(f"published to {registry.location}", soft_wrap=True)
    champion = registry.champion(use_case)
    if champion:
        console.print(f"{use_case} is answered by its champion: {champion}", soft_wrap=True)
    elif saved:
        newest = registry.latest(use_case)
        console.print(f"{use_case} is answered by: {newest}", soft_wrap=True)
        if newest != saved[0]:
            console.print(f"Its name says that it is newer. To let the new model answer, promote {saved[0]}.")


def check_installed() -> None:
    """Refuse to train without the libraries of the extra `train`."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise click.ClickException(str(MissingExtraError("train", missing)))


@click.command()
@click.argument("use_case_name", metavar="[USE_CASE]", type=UseCaseName(), required=False)
@click.option("--use-case", "option", type=UseCaseName(), help=f"The same as USE_CASE.  [default: {DEFAULT_USE_CASE}]")
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
@click.option("--algorithm", "algorithms", multiple=True, help="Train only this; may be repeated.  [default: all]")
@click.option("--exclude-protected", is_flag=True, help="Train without the protected features.")
@click.version_option(__version__, prog_name="tabserve")
def main(
    use_case_name: str | None,
    option: str | None,
    data: Path | None,
    trials: int,
    seed: int,
    jobs: int | None,
    algorithms: Sequence[str],
    exclude_protected: bool,
) -> None:
    """Train the models of USE_CASE on a table, tune them, and register those that pass their gates."""
    log.configure_command()
    check_installed()
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console()
    if use_case_name and option and use_case_name != option:
        raise click.UsageError(f"Name one use case: USE_CASE is {use_case_name} and --use-case is {option}.")
    use_case = get_use_case(use_case_name or option or DEFAULT_USE_CASE)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    try:
        registry = RegistrySettings.from_environment().open_registry()
        with Progress(*columns, console=console) as bar:
            bars: dict[str, TaskID] = {}

            def progress(algorithm: Algorithm, trials: Sequence[Trial], total: int) -> None:
                if algorithm.name not in bars:
                    bars[algorithm.name] = bar.add_task(algorithm.name, total=total)
                if trials:
                    best = best_of(trials).cross_validation.score
                    label = f"{algorithm.name}: score {trials[-1].cross_validation.score:.4f}, best {best:.4f}"
                    bar.update(bars[algorithm.name], completed=len(trials), description=label)

            plan = Plan(trials, seed, jobs or joblib.cpu_count(), exclude_protected, progress)
            failure: FailedGatesError | None = None
            try:
                manifests: Sequence[Manifest] = run_training(
                    use_case, registry, data or use_case.path, plan, algorithms
                )
            except FailedGatesError as error:
                manifests, failure = error.manifests, error
        show(console, registry, manifests)
        show_what_answers(console, registry, manifests)
        if failure:
            raise failure
    except UnpublishedError as error:
        show(console, registry, error.manifests)
        raise click.ClickException(str(error)) from None
    except BrokenPipeError:  # whoever reads has read enough, as `head` does: click ends without a word
        raise
    except (TabserveError, OSError) as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
