"""Rehearsal: what could not be trained is refused before time is spent on tuning."""

import itertools
import json
import warnings
from collections.abc import Iterable, Iterator

import numpy as np
from sklearn.base import clone

from tabserve.aliases import Matrix, Vector
from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.plain import to_plain
from tabserve.declaration.use_case import UseCase
from tabserve.errors import InvalidUseCaseError, UniformTargetError
from tabserve.models.base import Model
from tabserve.pipeline import Pipeline
from tabserve.tasks.base import Task
from tabserve.training.folds import folds_of
from tabserve.training.parts import Part, Parts, first_rows
from tabserve.training.plan import Plan
from tabserve.training.saving import pickled

REHEARSED = 200  # rows


def rehearse(use_case: UseCase, algorithms: Iterable[Algorithm], parts: Parts, plan: Plan) -> None:
    """Refuse rows and algorithms that a training would fail on.

    Raises
    ------
    UniformTargetError
        When the target has the same value in rows that a model would be fitted on or judged by.
    InvalidUseCaseError
        When an algorithm cannot be fitted, or what an artifact holds of the use case cannot be saved.
    """
    _rehearse_saving(use_case, parts)
    for name, y, is_fitted in _targets(use_case, parts, plan):
        if not (use_case.task.varies(y) if is_fitted else use_case.task.can_be_judged_by(y)):
            raise UniformTargetError(use_case.target.feature.name, name, _lacking(use_case.task, y))
    for algorithm in algorithms:
        _rehearse_fit(use_case, algorithm, parts.train)


def _targets(use_case: UseCase, parts: Parts, plan: Plan) -> Iterator[tuple[str, Vector, bool]]:
    """All rows that are fitted on or judged by together, in words, their targets, and whether they are fitted on."""
    for fitted, judged in folds_of(use_case, parts.train, plan.seed):
        yield "a fold of cross-validation", parts.train.y[fitted], True
        yield "a fold of cross-validation", parts.train.y[judged], False
    yield "the hold-out", parts.test.y, False
    if use_case.chronological:
        past, future = np.split(parts.y, [first_rows(len(parts.y))])
        yield "the first part by time", past, True
        yield "the last part by time", future, False


def _lacking(task: Task, y: Vector) -> str:
    """An outcome that rows lack; empty where they have one alone, or where a number is predicted."""
    found = set(y.tolist())
    lacking = [outcome for code, outcome in enumerate(task.outcomes) if code not in found]
    return lacking[0] if lacking and len(found) > 1 else ""


def _rehearse_saving(use_case: UseCase, parts: Parts) -> None:
    try:
        pickled((parts.target, use_case.task))
        json.dumps(to_plain(use_case), allow_nan=False)
    except Exception as error:  # whatever an object of somebody's own class raises
        raise InvalidUseCaseError(f"{use_case.name}: its columns or its task cannot be saved: {error}") from error


def _rehearse_fit(use_case: UseCase, algorithm: Algorithm, train: Part) -> None:
    """Fit an algorithm on few rows, with its smallest and its largest parameters."""
    few = train.take(use_case.task.few(train.y, REHEARSED))
    gaps = _without_optional(use_case, few)
    space = algorithm.searched(*train.X.shape)
    corners = [{name: one.value(one.bounds[end]) for name, one in space.items()} for end in (0, 1)]
    try:
        with warnings.catch_warnings(action="ignore"):
            for excluded, parameters in itertools.product({False, use_case.can_exclude_protected}, corners):
                pipeline = clone(use_case.pipeline(algorithm, exclude_protected=excluded))
                model = use_case.task.prepared(clone(algorithm.model).set_params(**parameters))
                _fit_once(use_case.task, pipeline, model, few, gaps)
    except Exception as error:  # of any library, and of any kind
        reason = str(error).partition("\n")[0]
        raise InvalidUseCaseError(
            f"{use_case.name}: {algorithm.name} fails on these columns, values that may be missing among them: {reason}"
        ) from error


def _without_optional(use_case: UseCase, few: Part) -> Matrix:
    """The encoded rows as they would be if every value that may be missing were."""
    gaps = few.features.copy()
    gaps[[feature.name for feature in use_case.features if feature.missing]] = None
    matrix: Matrix = use_case.encoder.fit_transform(gaps)
    return matrix


def _fit_once(task: Task, pipeline: Pipeline, model: Model, few: Part, gaps: Matrix) -> None:
    X = pipeline.fit_transform_encoded(few.X)
    if not X.shape[1]:
        raise ValueError("no column is left for the model")
    model.fit(X, few.y, pipeline.columns_, few.weights)
    pickled((pipeline, model))
    both = np.vstack([X, pipeline.transform_encoded(gaps)])
    if problem := task.prediction_problem(model.predict(both), len(both)):
        raise ValueError(problem)
