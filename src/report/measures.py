"""What a report measures besides the metrics. The hold-out is looked at here, but nothing is chosen by it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tabserve.aliases import Vector
from tabserve.columns.derived import Grouping
from tabserve.columns.features import Column
from tabserve.errors import NotExplainableError
from tabserve.models.base import of_rows
from tabserve.report.subject import Subject
from tabserve.training.folds import folds_of
from tabserve.training.parts import sample

REPEATS = 3  # shuffles of a feature
FEWEST_SHUFFLED = 300  # rows that the shuffles of a feature are measured on at least, if there are that many
PREDICTED = 6000  # rows predicted for all shuffles of all features, if that is more
EXPLAINED = 500  # rows whose contributions are averaged
LARGEST_FIT = 4000  # rows: a kernel machine's time grows with their square
JUDGED = 300  # rows that judge a point of the learning curve, at least
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)  # of the rows that cross-validation fits on


@dataclass(frozen=True)
class Importance:
    """How much each column matters, the most important first.

    Parameters
    ----------
    columns : sequence of Column
    values : ndarray, shape (n_columns,)
    errors : ndarray, shape (n_columns,), optional
        Standard deviation of the values between repeats.
    rows : int, optional
        How many rows of the hold-out it was measured on.
    """

    columns: Sequence[Column]
    values: Vector
    errors: Vector | None = None
    rows: int | None = None


@dataclass(frozen=True)
class Point:
    """A point of the learning curve: rows that were fitted on, and the metric on rows that were not."""

    rows: int
    score: float


def permutation_importance(subject: Subject) -> Importance:
    """How much the headline metric of the hold-out falls when a feature's values are shuffled (Breiman 2001)."""
    seed = subject.manifest.seed
    generator = np.random.default_rng(seed)
    use_case, candidate, metric = subject.use_case, subject.candidate, subject.use_case.task.metric
    rows = sample(len(subject.test.y), max(FEWEST_SHUFFLED, PREDICTED // (REPEATS * len(use_case.features))), seed)
    if not use_case.task.can_be_judged_by(subject.test.y[rows]):  # none of a rare class was drawn
        rows = np.arange(len(subject.test.y))
    y = subject.test.y[rows]
    encoder = candidate.pipeline.encoder
    encoded = subject.test.X[rows]
    before = metric(y, subject.predictions[rows])

    def falls(place: int) -> list[float]:
        matrix = np.tile(encoded, (REPEATS, 1))
        name = use_case.features[place].name
        own = [one for one, column in enumerate(encoder.matrix_columns) if column.name == name]
        shuffled = np.concatenate([generator.permutation(len(encoded)) for _ in range(REPEATS)])
        matrix[:, own] = encoded[shuffled][:, own]
        for position, (column, compute) in enumerate(zip(use_case.derived, encoder.computers_, strict=True)):
            if name in column.sources:
                matrix[:, len(use_case.features) + position] = [compute(row) for row in matrix.tolist()]
        predictions = candidate.model.predict(candidate.pipeline.transform_encoded(matrix))
        return [before - metric(y, repeat) for repeat in np.split(predictions, REPEATS)]

    found = np.array([falls(place) for place in range(len(use_case.features))])
    return replace(_ranked(use_case.features, found.mean(axis=1), found.std(axis=1)), rows=len(rows))


def own_importance(subject: Subject) -> tuple[str, Importance] | None:
    """The model's own importances, as shares of the whole, and by which measure.

    Returns
    -------
    tuple of (str, Importance), or None
        None for a model that has no such measure.
    """
    model = getattr(subject.candidate.model, "model_", subject.candidate.model)
    estimator: Any = getattr(model, "estimator_", model)
    if hasattr(model, "text_"):
        from lightgbm import Booster

        measure = "gain"
        values = Booster(model_str=model.text_).feature_importance("gain")
    elif hasattr(estimator, "feature_importances_"):
        measure, values = "gain", estimator.feature_importances_
    elif hasattr(estimator, "coef_"):
        measure, values = (
            "coefficient",
            np.abs(np.atleast_2d(estimator.coef_)).mean(axis=0) * subject.train_matrix.std(axis=0),
        )
    else:
        return None
    by_column = subject.candidate.pipeline.by_origin(np.asarray(values)[None, :])[0]
    return measure, _ranked(subject.use_case.columns, by_column / (by_column.sum() or 1.0))


def contributions(subject: Subject) -> tuple[Importance, dict[str, str]] | None:
    """Mean absolute contribution of each column to the raw scores of the hold-out, and its direction by name.

    Returns
    -------
    tuple of (Importance, dict), or None
        A direction is "↑" where higher values raise the prediction, "↓" where they lower it, and otherwise empty. None
        for a model whose prediction is not a sum over columns. With several classes, the mean is over the classes,
        too, and no column has a direction: what raises one class lowers others.
    """
    rows = sample(len(subject.test.y), EXPLAINED, subject.manifest.seed)
    pipeline = subject.candidate.pipeline
    encoded = subject.test.X[rows]
    try:
        parts = subject.candidate.model.contributions(pipeline.transform_encoded(encoded))
    except NotExplainableError:
        return None
    if parts.ndim == 3:
        by_column = pipeline.by_origin(parts[..., :-1].reshape(-1, parts.shape[-1] - 1))
        directions = dict.fromkeys((column.name for column in subject.use_case.columns), "")
        return replace(_ranked(subject.use_case.columns, np.abs(by_column).mean(axis=0)), rows=len(rows)), directions
    by_column = pipeline.by_origin(parts[:, :-1])
    directions = {
        column.name: _direction(column, codes, pushed)
        for column, codes, pushed in zip(subject.use_case.columns, encoded.T, by_column.T, strict=False)
    }
    return replace(_ranked(subject.use_case.columns, np.abs(by_column).mean(axis=0)), rows=len(rows)), directions


def learning_curve(subject: Subject) -> list[Point]:
    """The headline metric by the number of rows fitted on, all of it inside the training part.

    The folds are those of the tuning, and the parameters those that it chose. The last point is the tuning's own: only
    the smaller ones have to be fitted.
    """
    from sklearn.base import clone

    use_case, y, weights = subject.use_case, subject.fitted.y, subject.fitted.weights
    folds = folds_of(use_case, subject.fitted, subject.manifest.seed)
    judged_so_far = np.cumsum([len(judged) for _, judged in folds])
    # as few as judge by JUDGED rows, of the first repeat
    folds = folds[: 1 + int(np.searchsorted(judged_so_far, min(JUDGED, len(y))))]
    X, columns, metric = subject.train_matrix, subject.candidate.pipeline.columns_, use_case.task.metric
    out_of_fold = subject.candidate.out_of_fold_of(subject.train)[0]
    whole = len(folds[0][0])
    points = []
    for size in (round(whole * share) for share in SHARES if whole * share <= LARGEST_FIT):
        scores = []
        for rows, judged in folds:
            # shuffled, since rows may stand in the order of time
            some = np.random.default_rng(subject.manifest.seed).permutation(rows)[:size]
            if use_case.task.varies(y[some]):
                try:
                    model = clone(subject.candidate.model).fit(X[some], y[some], columns, of_rows(weights, some))
                    scores.append(metric(y[judged], model.predict(X[judged])))
                except Exception:  # of any library: some models cannot be fitted on a few rows
                    scores.append(math.nan)
        if scores and not np.isnan(scores).any():
            points.append(Point(size, float(np.mean(scores))))
    last = float(np.mean([metric(y[judged], out_of_fold[judged]) for _, judged in folds]))
    return [*points, Point(whole, last)]


def _ranked(columns: Sequence[Column], values: Vector, errors: Vector | None = None) -> Importance:
    order = np.argsort(-values, kind="stable")
    return Importance([columns[place] for place in order], values[order], None if errors is None else errors[order])


def _direction(column: Column, codes: Vector, pushed: Vector) -> str:
    """Whether the contribution mostly rises or falls with the code; codes without an order have no direction."""
    known = ~np.isnan(codes)
    is_ordered = column.is_ordered and not isinstance(column, Grouping)
    if not is_ordered or min(len(np.unique(values[known])) for values in (codes, pushed)) < 2:
        return ""
    correlation = np.corrcoef(codes[known], pushed[known])[0, 1]
    return "↑" if correlation > 0.5 else "↓" if correlation < -0.5 else ""
