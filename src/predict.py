"""make_prediction: from records to an answer."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from tabserve.aliases import Record, Vector
from tabserve.errors import InvalidRecordsError, NothingToPredictError
from tabserve.registry.artifact import Artifact
from tabserve.tasks.base import Task


class Prediction(NamedTuple):
    """The answer to a list of records.

    Parameters
    ----------
    columns : dict of list
        `result` and what goes with it; each has one entry for each record, None for one at fault.
    scores : ndarray, shape (n_good_rows,)
        The scores behind the answers.
    good, faulty : list of int
        Positions of the records that were predicted and of those that could not be.
    """

    columns: dict[str, list[Any]]
    scores: Vector
    good: Sequence[int]
    faulty: Sequence[int]


def make_prediction(
    artifact: Artifact, records: Sequence[Record], *, target: Sequence[Any] | None = None, partial: bool = False
) -> Prediction:
    """Predict records.

    Parameters
    ----------
    artifact : Artifact
        Which model answers.
    records : sequence of mapping
        n_rows records.
    target : sequence, optional
        Each record's outcome, None while it is open; one that is not allowed is a fault of its record.
    partial : bool
        Whether to answer the good records when others are at fault.

    Returns
    -------
    Prediction

    Raises
    ------
    NothingToPredictError
        When there is no record.
    InvalidRecordsError
        When records are at fault and `partial` is not asked for.
    """
    if not records:
        raise NothingToPredictError
    check = artifact.target.feature.problem
    faulty = [position for position, value in enumerate(target or ()) if value is not None and check(value)]
    try:
        matrix = artifact.pipeline.transform(records)
    except InvalidRecordsError as error:
        faulty = sorted({*faulty, *error.rows})
    if faulty:
        if not partial:
            raise InvalidRecordsError(faulty)
        return _predict_others(artifact, records, faulty)
    scores = artifact.model.predict_score(matrix)
    return Prediction(artifact.model.answer(scores), scores, range(len(records)), faulty)


def _predict_others(artifact: Artifact, records: Sequence[Record], faulty: Sequence[int]) -> Prediction:
    """Predict the records that are not at fault, and leave the others' places empty."""
    good = sorted(set(range(len(records))).difference(faulty))
    matrix = artifact.pipeline.transform([records[position] for position in good])
    scores = artifact.model.predict_score(matrix) if good else np.empty(0)
    columns = artifact.model.answer(scores)
    return Prediction(
        {name: _spread(column, good, len(records)) for name, column in columns.items()}, scores, good, faulty
    )


def measure(artifact: Artifact, task: Task, prediction: Prediction, target: Sequence[Any]) -> float | None:
    """The task's headline metric on the predicted records whose outcome is known.

    Parameters
    ----------
    artifact : Artifact
        The model that predicted.
    task : Task
        What it is measured by.
    prediction : Prediction
        What it answered.
    target : sequence
        Outcome of each record, the faulty ones included; None while it is open.

    Returns
    -------
    float or None
        None where it is undefined, as an AUC of one class is.

    Raises
    ------
    InvalidTargetError
        When the outcome of a predicted record is not allowed.
    """
    outcomes = [target[row] for row in prediction.good]
    known = [place for place, outcome in enumerate(outcomes) if outcome is not None]
    if not known:
        return None
    value = task.metric(artifact.target.transform([outcomes[place] for place in known]), prediction.scores[known])
    return value if np.isfinite(value) else None


def _spread(column: list[Any], good: Sequence[int], length: int) -> list[Any]:
    """Values at their records' positions, None elsewhere."""
    values: list[Any] = [None] * length
    for position, value in zip(good, column, strict=True):
        values[position] = value
    return values
