"""Search: which parameters an algorithm is fitted with, by trials on growing samples of the rows.

Of many rows, all trials are made on a ninth, the best third of them on a third, and the best few on all rows. That is
successive halving (Jamieson and Talwalkar 2016), with rows as the budget.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from tabserve.aliases import Matrix, Vector, Weights
from tabserve.columns.matrix import Columns
from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.use_case import UseCase
from tabserve.errors import InterruptedTrainingError
from tabserve.executors import Shared
from tabserve.models.base import CrossValidation, Fold, Model
from tabserve.search_space import Dimension
from tabserve.tasks.base import Task
from tabserve.training.folds import folds_of
from tabserve.training.parts import Part
from tabserve.training.plan import Plan
from tabserve.transformers import MANY_CLASSES
from tabserve.tuning import BayesianSearch, Found, Judge, Trial

INITIAL_SHARE = 1 / 3  # of the trials, at random points before the surrogate chooses
MANY_ROWS = 20_000  # with more, trials are made on samples and in batches; with fewer, they cost little
SMALLEST_SAMPLE = 10_000  # rows, except for tables that have less than three times as many
GROWTH = 3  # times as many rows, and a third of the trials
FINALISTS = 3
Rows: TypeAlias = npt.NDArray[np.intp] | None  # of a sample; None: all
BATCH = 4  # trials that are chosen at once and can be made at once, whatever makes them: so the points are the same
FEWEST_OF_A_CLASS = 30  # rows that a sample holds if there are as many


@dataclass(frozen=True)
class Objective:
    """What a trial is: a model with some parameters is cross-validated on some rows.

    Parameters
    ----------
    task : Task
        Says how a model is prepared and measured.
    model : Model
        Unfitted, with the parameters that are not searched.
    X : ndarray, shape (n_rows, n_columns)
    y : ndarray, shape (n_rows,)
    weights : ndarray, shape (n_rows,), optional
    folds : sequence of (ndarray, ndarray)
    columns : sequence of MatrixColumn
    jobs : int
        As for `Model.cross_validate`.
    """

    task: Task
    model: Model
    X: Matrix
    y: Vector
    weights: Weights
    folds: Sequence[Fold]
    columns: Columns
    jobs: int

    def __call__(self, parameters: Mapping[str, Any]) -> CrossValidation:
        model = self.task.prepared(clone(self.model).set_params(**parameters))
        rows = (self.X, self.y, self.folds)
        return model.cross_validate(*rows, self.task.metric, self.jobs, self.columns, self.weights)


def search(
    use_case: UseCase,
    algorithm: Algorithm,
    X: Matrix,
    train: Part,
    columns: Columns,
    plan: Plan,
    taken: Mapping[str, Any],
) -> Found:
    """Cross-validate points of the search space; a single one where there is nothing to search.

    Parameters
    ----------
    use_case : UseCase
        Says what is tuned for.
    algorithm : Algorithm
        Whose space.
    X : ndarray, shape (n_rows, n_columns)
        The training part as the model sees it.
    train : Part
        The same rows.
    columns : sequence of MatrixColumn
        What `X` holds.
    plan : Plan
        Number of trials, seed, and what makes the trials.
    taken : mapping
        The parameters where there is nothing to search.

    Returns
    -------
    Found

    Raises
    ------
    InterruptedTrainingError
        On Ctrl-C.
    """
    space = algorithm.searched(*X.shape)
    total = plan.trials if space else 1

    def progress(trials: Sequence[Trial]) -> None:
        plan.progress(algorithm, trials, total)

    def judge_on(rows: Rows) -> AbstractContextManager[Judge]:
        return _judge(_objective(use_case, algorithm, X, train, columns, plan, rows), plan, len(X))

    progress([])
    if not space:
        objective = _objective(use_case, algorithm, X, train, columns, plan, None)
        found = Found([Trial(taken, objective(taken))])
        progress(found.trials)
        return found
    few, *more = [*(sample(train.y, size, plan.seed) for size in sample_sizes(len(X), total)), None]
    with judge_on(few) as judge:
        found = _bayesian_search(algorithm, space, total, plan, len(X)).run(judge, progress)
    return _narrowed(found, few, more, judge_on, progress, len(X))


def sample_sizes(n_rows: int, trials: int) -> list[int]:
    """How many rows trials are made on before the most promising ones are made on all, ascending.

    Parameters
    ----------
    n_rows, trials : int
        How many there are.

    Returns
    -------
    list of int
        Empty for few rows, or for so few trials that all would be repeated.
    """
    if n_rows <= MANY_ROWS or trials <= FINALISTS:
        return []
    third, ninth = n_rows // GROWTH, n_rows // GROWTH**2
    return [ninth, third] if ninth >= SMALLEST_SAMPLE and trials > GROWTH * FINALISTS else [third]


def _objective(
    use_case: UseCase, algorithm: Algorithm, X: Matrix, train: Part, columns: Columns, plan: Plan, rows: Rows
) -> Objective:
    """A trial on some of the rows; on a sample, it is made in two folds."""
    if rows is not None:
        use_case, X, train = replace(use_case, splits=2, repeats=1), X[rows], train.take(rows)
    folds = folds_of(use_case, train, plan.seed)
    return Objective(use_case.task, algorithm.model, X, train.y, train.weights, folds, columns, plan.jobs)


@contextmanager
def _judge(objective: Objective, plan: Plan, n_rows: int) -> Iterator[Judge]:
    """What makes trials: here, all CPUs one after the other; else a CPU for each."""
    if plan.executor is None or n_rows <= MANY_ROWS:
        yield partial(map, objective)
        return
    with plan.executor.share(replace(objective, jobs=1)) as shared:
        yield partial(plan.executor.map, partial(_judged, shared))


def _judged(shared: Shared[Objective], parameters: Mapping[str, Any]) -> CrossValidation:
    return shared.get()(parameters)


def _bayesian_search(
    algorithm: Algorithm, space: Mapping[str, Dimension], total: int, plan: Plan, n_rows: int
) -> BayesianSearch:
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
        batch=BATCH if n_rows > MANY_ROWS else 1,
    )


def _narrowed(
    found: Found,
    few: Rows,
    more: Sequence[Rows],
    judge_on: Callable[[Rows], AbstractContextManager[Judge]],
    progress: Callable[[Sequence[Trial]], None],
    n_rows: int,
) -> Found:
    """Repeat the best trials on more and more rows, and the first trial, from which a search may have started."""
    if few is None:
        return found
    latest = [replace(trial, is_sampled=True) for trial in found.trials]
    trials, done = list(latest), [f"{len(latest)} trials were made on {len(few):,} of {n_rows:,} rows in two folds"]
    for rows in more:
        is_last = rows is None
        points = _most_promising(latest, FINALISTS if is_last else max(FINALISTS, len(latest) // GROWTH))
        latest = []
        try:
            with judge_on(rows) as judge:
                for point, result in zip(points, judge(points), strict=True):
                    latest.append(Trial(point, result, is_sampled=not is_last))
                    progress([*trials, *latest])
        except KeyboardInterrupt:
            raise InterruptedTrainingError(len(trials) + len(latest), len(trials) + len(points)) from None
        trials += latest
        done.append(f"{len(latest)} on {'all' if rows is None else f'{len(rows):,}'} rows")
    first, *others = done
    return Found(trials, [f"{first}, and the most promising ones repeated: {', '.join(others)}.", *found.notes])


def _most_promising(trials: Sequence[Trial], number: int) -> list[Mapping[str, Any]]:
    """The parameters of the best trials, and of the first, in the order in which they were made."""
    ranked = sorted(range(len(trials)), key=lambda place: trials[place].cross_validation.score, reverse=True)
    return [trials[place].parameters for place in sorted({0, *ranked[:number]})]


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
