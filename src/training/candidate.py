"""Candidate: one algorithm, fitted on the training part alone: pipeline, search, model, decision."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from tabserve.aliases import Matrix, Predictions, Vector
from tabserve.columns.matrix import Columns
from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.use_case import UseCase
from tabserve.errors import InterruptedTrainingError
from tabserve.models.base import CrossValidation, Model
from tabserve.pipeline import Pipeline
from tabserve.search_space import Dimension
from tabserve.tasks.base import Task
from tabserve.tasks.decision import Decision
from tabserve.training.folds import folds_of
from tabserve.training.parts import Part
from tabserve.training.plan import Plan
from tabserve.transformers import MANY_CLASSES
from tabserve.tuning import BayesianSearch, Found, Trial, best_of

INITIAL_SHARE = 1 / 3  # of the trials, at random points before the surrogate chooses
MANY_ROWS = 20_000  # with more, trials are made on a sample in two folds, and the best few repeated on all
SAMPLE = 60_000  # rows
FINALISTS = 3
FEWEST_OF_A_CLASS = 30  # rows that a sample holds if there are as many


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
        With the best trial's parameters.
    trials : sequence of Trial
        All points that were tried.
    out_of_fold : ndarray, shape (n_repeats, n_training_rows) or (n_repeats, n_training_rows, n_classes)
        The best trial's predictions of rows that its models did not see.
    task : Task
        What kind of prediction it makes.
    decision : Decision
        How results follow from the model's predictions.
    notes : sequence of str
        What a person should know of the search, in sentences.
    """

    algorithm: Algorithm
    pipeline: Pipeline
    model: Model
    trials: Sequence[Trial]
    out_of_fold: Predictions
    task: Task
    decision: Decision
    notes: Sequence[str] = ()

    def predict(self, part: Part) -> Predictions:
        """The model's prediction of each row."""
        return self.model.predict(self.pipeline.transform_encoded(part.X))

    def refit(self, part: Part) -> "Candidate":
        """The candidate with pipeline and model fitted again on other rows, its parameters as they were chosen."""
        pipeline = clone(self.pipeline)
        X = pipeline.fit_transform_encoded(part.X)
        model = clone(self.model).fit(X, part.y, pipeline.columns_, part.weights)
        return replace(self, pipeline=pipeline, model=model)


def fit_each(use_case: UseCase, algorithms: Iterable[Algorithm], train: Part, plan: Plan) -> list[Candidate]:
    """Fit algorithms in turn; those whose parameters others take over come first."""
    candidates: list[Candidate] = []
    for algorithm in algorithms:
        candidates.append(fit(use_case, algorithm, train, plan, candidates))
    return candidates


def fit(
    use_case: UseCase, algorithm: Algorithm, train: Part, plan: Plan, fitted: Sequence[Candidate] = ()
) -> Candidate:
    """Fit the pipeline, tune, fit the model with the best parameters, and decide.

    Parameters
    ----------
    use_case : UseCase
        Says what is tuned for, and how results follow from predictions.
    algorithm : Algorithm
        What to fit; left unfitted itself.
    train : Part
        The training part.
    plan : Plan
        Number of trials, seed and jobs.
    fitted : sequence of Candidate
        With the one whose parameters are taken over, if any are.

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
    X = pipeline.fit_transform_encoded(train.X)
    taken = _taken_over(algorithm, fitted)
    found = _search(use_case, algorithm, X, train, pipeline.columns_, plan, taken)
    best = best_of(found.trials)
    chosen = {**best.parameters, **best.cross_validation.parameters}
    model = use_case.task.prepared(clone(algorithm.model).set_params(**chosen))
    model.fit(X, train.y, pipeline.columns_, train.weights)
    out_of_fold = best.cross_validation.out_of_fold
    decision = use_case.task.decide(train.y, out_of_fold)
    return Candidate(algorithm, pipeline, model, found.trials, out_of_fold, use_case.task, decision, found.notes)


def _taken_over(algorithm: Algorithm, fitted: Sequence[Candidate]) -> Mapping[str, Any]:
    """The best parameters of the algorithm that this one takes them from."""
    if not algorithm.parameters_from:
        return {}
    (source,) = (one for one in fitted if one.algorithm.name == algorithm.parameters_from)
    return best_of(source.trials).parameters


def _search(
    use_case: UseCase,
    algorithm: Algorithm,
    X: Matrix,
    train: Part,
    columns: Columns,
    plan: Plan,
    taken: Mapping[str, Any],
) -> Found:
    """Cross-validate points of the search space; a single one where there is nothing to search."""
    space = algorithm.searched(*X.shape)
    total = plan.trials if space else 1

    def progress(trials: Sequence[Trial]) -> None:
        plan.progress(algorithm, trials, total)

    progress([])
    on_all_rows = _objective(use_case, algorithm, X, train, columns, plan)
    if not space:
        found = Found([Trial(taken, on_all_rows(taken))])
        progress(found.trials)
        return found
    search = _bayesian_search(algorithm, space, total, plan)
    if len(X) <= MANY_ROWS:
        return search.run(on_all_rows, progress)
    rows = sample(train.y, SAMPLE, plan.seed)
    in_halves = replace(use_case, splits=2, repeats=1)
    on_a_sample = _objective(in_halves, algorithm, X[rows], train.take(rows), columns, plan)
    return _finals(search.run(on_a_sample, progress), on_all_rows, progress, len(rows), len(X))


Objective = Callable[[Mapping[str, Any]], CrossValidation]


def _objective(
    use_case: UseCase, algorithm: Algorithm, X: Matrix, part: Part, columns: Columns, plan: Plan
) -> Objective:
    folds, metric = folds_of(use_case, part, plan.seed), use_case.task.metric

    def cross_validate(parameters: Mapping[str, Any]) -> CrossValidation:
        model = use_case.task.prepared(clone(algorithm.model).set_params(**parameters))
        result: CrossValidation = model.cross_validate(X, part.y, folds, metric, plan.jobs, columns, part.weights)
        return result

    return cross_validate


def _bayesian_search(algorithm: Algorithm, space: Mapping[str, Dimension], total: int, plan: Plan) -> BayesianSearch:
    """A declared space is searched as it is; the model's own starts at its parameters, and is widened."""
    initial = max(1, round(total * INITIAL_SHARE))
    is_own = algorithm.search_space is None
    parameters = algorithm.model.get_params()
    return BayesianSearch(
        space,
        initial,
        total - initial,
        plan.seed,
        start={name: parameters[name] for name in space} if is_own else None,
        limits=algorithm.model.limits,
        adapts=is_own,
        seconds=None if plan.minutes is None else 60 * plan.minutes,
    )


def _finals(
    found: Found, on_all_rows: Objective, progress: Callable[[Sequence[Trial]], None], n_sample: int, n_rows: int
) -> Found:
    """Try the best of a search on all rows, and the point that it started from."""
    trials = [replace(trial, is_sampled=True) for trial in found.trials]
    ranked = sorted(trials, key=lambda trial: trial.cross_validation.score, reverse=True)
    finalists = [*ranked[:FINALISTS], *(trial for trial in trials[:1] if trial not in ranked[:FINALISTS])]
    rows = "all rows" if n_sample == n_rows else f"{n_sample:,} of {n_rows:,} rows"
    note = (
        f"{len(trials)} trials were made on {rows} in two folds, and the {len(finalists)} most promising ones repeated "
        "on all rows and folds."
    )
    try:
        for trial in finalists:
            trials.append(Trial(trial.parameters, on_all_rows(trial.parameters)))
            progress(trials)
    except KeyboardInterrupt:
        raise InterruptedTrainingError(len(trials), len(found.trials) + len(finalists)) from None
    return Found(trials, [note, *found.notes])


def sample(y: Vector, size: int, seed: int) -> npt.NDArray[np.intp]:
    """Row numbers, ascending, of a random sample in which no class is lost.

    Parameters
    ----------
    y : ndarray, shape (n_rows,)
        Targets.
    size : int
        How many rows, about.
    seed : int
        Another one draws other rows.

    Returns
    -------
    ndarray
        All rows where there are no more.
    """
    order = np.random.default_rng(seed).permutation(len(y))
    values, classes = np.unique(y[order], return_inverse=True)
    few = [np.flatnonzero(classes == number)[:FEWEST_OF_A_CLASS] for number in range(len(values))]
    kept = np.concatenate([np.arange(min(size, len(y))), *(few if len(values) <= MANY_CLASSES else ())])
    return np.sort(order[np.unique(kept)])
