"""Candidate: one algorithm, fitted on the training part alone: pipeline, search, model, decision."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from tabserve.aliases import Predictions
from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.use_case import UseCase
from tabserve.models.base import AT_ONCE, Model, on_cpus
from tabserve.pipeline import Pipeline
from tabserve.tasks.base import Task
from tabserve.tasks.decision import Decision
from tabserve.training.parts import Part
from tabserve.training.plan import Plan
from tabserve.training.search import sample, search
from tabserve.tuning import Trial, best_of


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
        The best trial's predictions of rows that its models did not see; NaN for rows that were not judged.
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
        """The model's prediction of each row; some rows at a time, since one-hot columns of all may be very many."""
        starts = range(0, max(1, len(part.y)), AT_ONCE)
        matrices = (self.pipeline.transform_encoded(part.X[start : start + AT_ONCE]) for start in starts)
        return np.concatenate([self.model.predict(matrix) for matrix in matrices])

    def fitted_on(self, part: Part) -> Part:
        """The rows of a part that its model would be fitted on."""
        return _some(part, _rows(self.algorithm, part))

    def out_of_fold_of(self, train: Part) -> Predictions:
        """The predictions out of fold of the rows of the training part that its model was fitted on."""
        return self.out_of_fold[:, _rows(self.algorithm, train)]

    def refit(self, part: Part) -> "Candidate":
        """The candidate with pipeline and model fitted again on other rows, its parameters as they were chosen."""
        part = self.fitted_on(part)
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
    rows = _rows(algorithm, train)
    some = _some(train, rows)
    X = pipeline.fit_transform_encoded(some.X)
    taken = _taken_over(algorithm, fitted)
    found = search(use_case, algorithm, X, some, pipeline.columns_, plan, taken)
    best = best_of(found.trials)
    chosen = {**best.parameters, **best.cross_validation.parameters}
    model = use_case.task.prepared(clone(algorithm.model).set_params(**chosen))
    with on_cpus(plan.jobs):
        model.fit(X, some.y, pipeline.columns_, some.weights)
    out_of_fold = _spread(best.cross_validation.out_of_fold, rows, len(train.y))
    decision = use_case.task.decide(train.y, out_of_fold)
    notes = [*_notes(algorithm, len(rows), len(train.y)), *found.notes]
    return Candidate(algorithm, pipeline, model, found.trials, out_of_fold, use_case.task, decision, notes)


def _rows(algorithm: Algorithm, part: Part) -> npt.NDArray[np.intp]:
    """Which rows of a part the model takes: all, or a sample that is the same each time."""
    return sample(part.y, algorithm.model.most_rows, seed=0)


def _some(part: Part, rows: npt.NDArray[np.intp]) -> Part:
    return part if len(rows) == len(part.y) else part.take(rows)


def _spread(out_of_fold: Predictions, rows: npt.NDArray[np.intp], n_rows: int) -> Predictions:
    """Predictions of some rows among those of all, NaN for the others."""
    spread = np.full((len(out_of_fold), n_rows, *out_of_fold.shape[2:]), np.nan)
    spread[:, rows] = out_of_fold
    return spread


def _notes(algorithm: Algorithm, taken: int, n_rows: int) -> list[str]:
    if taken == n_rows:
        return []
    return [f"{algorithm.name} takes {taken:,} of the {n_rows:,} rows: more would take long and hardly change it."]


def _taken_over(algorithm: Algorithm, fitted: Sequence[Candidate]) -> Mapping[str, Any]:
    """The best parameters of the algorithm that this one takes them from."""
    if not algorithm.parameters_from:
        return {}
    (source,) = (one for one in fitted if one.algorithm.name == algorithm.parameters_from)
    return best_of(source.trials).parameters
