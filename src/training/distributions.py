"""Distributions of the training part: what live records and predictions are compared with later."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tabserve.columns.boolean import Boolean
from tabserve.columns.calendar import days_of, part_of_days
from tabserve.columns.dates import Moment
from tabserve.columns.derived import Grouping
from tabserve.columns.features import Category, Column
from tabserve.declaration.use_case import UseCase
from tabserve.evaluation.distribution import (
    SCORE,
    Distribution,
    Distributions,
    distribution_of_codes,
    distribution_of_numbers,
)
from tabserve.tasks.base import pooled
from tabserve.training.candidate import Candidate
from tabserve.training.parts import Part, Parts

Months = npt.NDArray[np.int64]


def columns_of(parts: Parts) -> dict[str, Distribution]:
    """The distribution of each feature and derived column.

    Less the time that splits the data and what is computed from it alone, such as its year: they always move on. Where
    months are known, each has the counts of the calendar months.
    """
    use_case, train = parts.use_case, parts.train
    months = _months(use_case, train)
    found = {}
    for place, column in enumerate(use_case.columns):
        if {*column.sources} != {use_case.time}:
            values = np.ascontiguousarray(train.X[:, place])
            labels = _labels(column)
            one = distribution_of_codes(values, labels) if labels else distribution_of_numbers(values)
            found[column.name] = one if months is None else one.with_months(values, months)
    return found


def _labels(column: Column) -> tuple[str, ...]:
    """What the codes of a category stand for; empty for numbers."""
    if isinstance(column, Category):
        return column.labels
    if isinstance(column, Grouping):
        return tuple(column.groups)
    return column.words if isinstance(column, Boolean) else ()


def _months(use_case: UseCase, train: Part) -> Months | None:
    """The calendar month of each row; None where rows have no date of their own."""
    column = next((one for one in (*use_case.features, *use_case.extras) if one.name == use_case.time), None)
    if not isinstance(column, Moment) or train.times is None or use_case.group:  # a group has one time for all its rows
        return None
    return part_of_days("month", days_of(train.times)[0])


def distributions_of(candidate: Candidate, parts: Parts, columns: Mapping[str, Distribution]) -> Distributions:
    """Those of the columns, and of a candidate's predictions out of fold.

    Not of its predictions of the rows that it was fitted on: these are more extreme than those it makes of others. Of
    the repeats of cross-validation the first one counts, so that each row does once.
    """
    task, decision = candidate.task, candidate.decision
    y, predictions = pooled(parts.train.y, candidate.out_of_fold[:1])
    by_name = {SCORE: predictions} if predictions.ndim == 1 else dict(zip(task.outcomes, predictions.T, strict=True))
    scores = {name: distribution_of_numbers(some) for name, some in by_name.items()}
    decisions = distribution_of_codes(decision.decide(predictions), task.outcomes) if task.outcomes else None
    return Distributions(columns, scores, decisions, task.calibration(y, predictions))
