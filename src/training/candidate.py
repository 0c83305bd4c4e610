"""Candidate: one algorithm, fitted on the training part alone: pipeline, search, model, decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sklearn.base import clone

from tabserve.aliases import Matrix, Predictions
from tabserve.columns.matrix import Columns
from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.use_case import UseCase
from tabserve.models.base import CrossValidation, Model
from tabserve.pipeline import Pipeline
from tabserve.tasks.base import Task
from tabserve.tasks.decision import Decision
from tabserve.training.folds import folds_of
from tabserve.training.parts import Part
from tabserve.training.plan import Plan
from tabserve.tuning import BayesianSearch, Trial, best_of

INITIAL_SHARE = 1 / 3  # of the trials, at random points before the surrogate chooses


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
    """

    algorithm: Algorithm
    pipeline: Pipeline
    model: Model
    trials: Sequence[Trial]
    out_of_fold: Predictions
    task: Task
    decision: Decision

    def predict(self, part: Part) -> Predictions:
        """The model's prediction of each row."""
        return self.model.predict(self.pipeline.transform_encoded(part.X))

    def refit(self, part: Part) -> "Candidate":
        """The candidate with pipeline and model fitted again on other rows, its parameters as they were chosen."""
        pipeline = clone(self.pipeline)
        X = pipeline.fit_transform_encoded(part.X)
        model = clone(self.model).fit(X, part.y, pipeline.columns_, part.weights)
        return replace(self, pipeline=pipeline, model=model)


def fit(use_case: UseCase, algorithm: Algorithm, train: Part, plan: Plan) -> Candidate:
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
    trials = _search(use_case, algorithm, X, train, pipeline.columns_, plan)
    best = best_of(trials)
    chosen = {**best.parameters, **best.cross_validation.parameters}
    model = clone(algorithm.model).set_params(**chosen).fit(X, train.y, pipeline.columns_, train.weights)
    out_of_fold = best.cross_validation.out_of_fold
    decision = use_case.task.decide(train.y, out_of_fold)
    return Candidate(algorithm, pipeline, model, trials, out_of_fold, use_case.task, decision)


def _search(
    use_case: UseCase, algorithm: Algorithm, X: Matrix, train: Part, columns: Columns, plan: Plan
) -> list[Trial]:
    """Cross-validate points of the search space; a single one where there is nothing to search."""
    folds, metric = folds_of(use_case, train, plan.seed), use_case.task.metric

    def cross_validate(parameters: Mapping[str, Any]) -> CrossValidation:
        model = clone(algorithm.model).set_params(**parameters)
        result: CrossValidation = model.cross_validate(X, train.y, folds, metric, plan.jobs, columns, train.weights)
        return result

    space = algorithm.searched(*X.shape)
    total = plan.trials if space else 1
    plan.progress(algorithm, [], total)
    if space:
        initial = max(1, round(total * INITIAL_SHARE))
        search = BayesianSearch(space, initial, total - initial, plan.seed)
        return search.run(cross_validate, lambda trials: plan.progress(algorithm, trials, total))
    trials = [Trial({}, cross_validate({}))]
    plan.progress(algorithm, trials, total)
    return trials
