"""make_prediction: from records to an answer."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from tabserve.aliases import Matrix, Places, Predictions, Record
from tabserve.errors import InvalidRecordsError, NothingToPredictError
from tabserve.registry.artifact import Artifact
from tabserve.tables.kept import faulty_places, taken


class Prediction(NamedTuple):
    """The answer to a list of records.

    Parameters
    ----------
    columns : dict of list
        `result` and what goes with it; each has one entry for each record, None for an invalid one.
    predictions : ndarray, shape (n_good_rows,) or (n_good_rows, n_classes)
        What the model gave, from which the answers follow.
    good, faulty : list of int
        Positions of the records that were predicted and of those that could not be.
    """

    columns: dict[str, list[Any]]
    predictions: Predictions
    good: Sequence[int]
    faulty: Sequence[int]


def make_prediction(
    artifact: Artifact, records: Sequence[Record], *, target: Sequence[Any] | None = None, partial: bool = False
) -> Prediction:
    """Predict records.

    Parameters
    ----------
    artifact : Artifact
        The model that answers.
    records : sequence of mapping
        n_rows records.
    target : sequence, optional
        Each record's outcome, None while it is open; one that is not allowed makes its record invalid.
    partial : bool
        Whether to answer the valid records when others are invalid.

    Returns
    -------
    Prediction

    Raises
    ------
    NothingToPredictError
        When there is no record.
    InvalidRecordsError
        When records are invalid and `partial` is not set.
    """
    if not records:
        raise NothingToPredictError
    encoded, at_fault = artifact.encoder.encode(records)
    faulty = [*map(int, at_fault)]
    if target is not None:
        faulty = sorted({*faulty, *faulty_places(target, replace(artifact.target.feature, missing=True))})
    if faulty:
        if not partial:
            raise InvalidRecordsError(faulty)
        return _predict_others(artifact, encoded, faulty)
    predictions = artifact.model.predict(artifact.pipeline.transform_encoded(encoded))
    columns = artifact.task.answer(predictions, artifact.decision)
    return Prediction(columns, predictions, range(len(records)), faulty)


def _predict_others(artifact: Artifact, encoded: Matrix, faulty: Sequence[int]) -> Prediction:
    """Predict the valid records, and leave the others' places empty."""
    good = np.delete(np.arange(len(encoded)), faulty)
    if not len(good):
        nothing = {part.name: [None] * len(encoded) for part in artifact.task.answer_parts}
        return Prediction(nothing, np.empty(0), [], faulty)
    predictions = artifact.model.predict(artifact.pipeline.transform_encoded(encoded[good]))
    columns = artifact.task.answer(predictions, artifact.decision)
    spread = {name: _spread(column, good, len(encoded)) for name, column in columns.items()}
    return Prediction(spread, predictions, good.tolist(), faulty)


def joined(pieces: Sequence[Prediction]) -> Prediction:
    """The answers to the pieces of a list, at least one, as the answer to the whole."""
    sizes = [len(piece.good) + len(piece.faulty) for piece in pieces]
    starts = [0, *itertools.accumulate(sizes)]
    columns = {
        name: list(itertools.chain.from_iterable(piece.columns[name] for piece in pieces)) for name in pieces[0].columns
    }
    predictions = [piece.predictions for piece in pieces if len(piece.good)]
    good, faulty = (
        [start + place for start, places in zip(starts, some, strict=False) for place in places]
        for some in ([piece.good for piece in pieces], [piece.faulty for piece in pieces])
    )
    return Prediction(columns, np.concatenate(predictions) if predictions else np.empty(0), good, faulty)


def measure(artifact: Artifact, prediction: Prediction, target: Sequence[Any]) -> float | None:
    """The model's headline metric on the predicted records whose outcome is known.

    Parameters
    ----------
    artifact : Artifact
        The model that predicted.
    prediction : Prediction
        What it answered.
    target : sequence
        Outcome of each record, the faulty ones included; None while it is open.

    Returns
    -------
    float or None
        None where it is undefined, such as the AUC of a single class.

    Raises
    ------
    InvalidTargetError
        When the outcome of a predicted record is not allowed.
    """
    y = artifact.target.transform_known(taken(target, prediction.good) if prediction.faulty else target)
    is_known = ~np.isnan(y)
    if not is_known.any():
        return None
    value = artifact.task.metric(y[is_known], prediction.predictions[is_known])
    return value if np.isfinite(value) else None


def _spread(column: list[Any], good: Places, length: int) -> list[Any]:
    """Values at their records' positions, None elsewhere."""
    values: list[Any] = [*column, None]
    places = np.full(length, len(column))
    places[good] = np.arange(len(good))
    return [values[place] for place in places.tolist()]
