"""make_prediction: from records to an answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.aliases import Record, Vector
from src.errors import InvalidRecordsError, NothingToPredictError
from src.evaluation import Task
from src.registry import Artifact


@dataclass(frozen=True)
class Prediction:
    """The answer to a list of records.

    Parameters
    ----------
    columns : dict
        `result` and what goes with it; each has one entry for each record, None for one at fault.
    scores : ndarray, shape (n_good_rows,)
        The scores behind the answers.
    good, faulty : list of int
        Positions of the records that were predicted and of those that could not be.
    """

    columns: dict[str, Any]
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
        Each record's outcome, where it is known; one that is not allowed is a fault of its record.
    partial : bool
        Whether to answer the good records when others are at fault.

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
    faulty = {position for position, value in enumerate(target or ()) if check(value)}
    try:
        matrix = artifact.pipeline.transform(records)
    except InvalidRecordsError as error:
        faulty |= set(error.rows)
    good: Sequence[int] = range(len(records))
    if faulty:
        if not partial:
            raise InvalidRecordsError(sorted(faulty))
        good = [position for position in good if position not in faulty]
        matrix = artifact.pipeline.transform([records[position] for position in good])
    scores = artifact.model.predict_score(matrix) if len(matrix) else np.empty(0)
    columns: dict[str, Any] = dict(artifact.model.answer(scores))
    if faulty:
        columns = {name: _spread(column, good, len(records)) for name, column in columns.items()}
    return Prediction(columns, scores, good, sorted(faulty))


def measure(artifact: Artifact, task: Task, prediction: Prediction, target: Sequence[Any]) -> float | None:
    """The task's headline metric on the predicted records; None where it is undefined, as an AUC of one class is.

    Parameters
    ----------
    target : sequence
        Outcome of each record, the faulty ones included.
    """
    if not len(prediction.good):
        return None
    value = task.metric(artifact.target.transform([target[row] for row in prediction.good]), prediction.scores)
    return value if np.isfinite(value) else None


def _spread(column: Any, good: Sequence[int], length: int) -> list[Any]:
    """Values at their records' positions, None elsewhere."""
    values: list[Any] = [None] * length
    for position, value in zip(good, column.tolist(), strict=True):
        values[position] = value
    return values
