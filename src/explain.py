"""explain: what each column contributed to a prediction, and in words what speaks for the result or against it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tabserve.aliases import Matrix, Places, Predictions, Record, Vector
from tabserve.errors import NothingToPredictError
from tabserve.registry.artifact import Artifact
from tabserve.tasks.base import Explained

MOST_REASONS = 4
ROUNDING = 1e-9  # a smaller share of the contributions' total size may be rounding alone


@dataclass(frozen=True)
class Reason:
    """A column that raised or lowered a prediction.

    Parameters
    ----------
    column : str
        A feature or a derived column.
    text : str
        A sentence about the record, from the column's declaration; it does not say the direction.
    contribution : float
        How much the column added to the raw score; negative where it lowered it.
    protected : bool
        Whether the column is, or is computed from, a feature that people must not be judged by.
    """

    column: str
    text: str
    contribution: float
    protected: bool

    def to_json(self) -> dict[str, str | float | bool]:
        """As it is answered and logged."""
        return {
            "feature": self.column,
            "reason": self.text,
            "contribution": self.contribution,
            "protected": self.protected,
        }


@dataclass(frozen=True)
class Explanation:
    """How a prediction came about.

    Parameters
    ----------
    result : int, float or str
        As predictions answer: the decision (0 or 1), the label, or the value.
    score : float
        What the model predicts: the probability of a 1 or of the label, or the value.
    raw_score : float
        The sum of base value and contributions, from which the model makes the prediction: log-odds of a classifier,
        the label's raw score before softmax, the logarithm of a count or of 1 plus a target on a log scale, the value
        of any other regressor before it is raised to a floor.
    base_value : float
        The part of the raw score that is the same for all records.
    contributions : dict
        What each column added, by name: the features, then the derived columns; 0 for one that the model does not see.
    reasons : list of Reason
        At most four columns that speak for the result, strongest first. For a 1 they raised its probability, for a 0
        they lowered it, for a label they raised its raw score, for a regression they raised the value.
    counter_reasons : list of Reason
        At most four that pushed the other way, strongest first.
    """

    result: float | str
    score: float
    raw_score: float
    base_value: float
    contributions: dict[str, float]
    reasons: list[Reason]
    counter_reasons: list[Reason]


def explain(artifact: Artifact, records: Sequence[Record]) -> list[Explanation]:
    """Explain the predictions of records.

    Parameters
    ----------
    artifact : Artifact
        The model to explain.
    records : sequence of mapping
        n_rows records.

    Returns
    -------
    list of Explanation
        One for each record, in their order.

    Raises
    ------
    NothingToPredictError
        When there is no record.
    InvalidRecordsError
        When records are invalid.
    NotExplainableError
        When the model's predictions cannot be split into what each column contributes.
    """
    told = _told(artifact, records)
    names = [column.name for column in artifact.encoder.columns]
    results, scores, parts = told.results, told.explained.predictions.tolist(), told.parts.tolist()
    reasons, counter_reasons = (_reasons(artifact, told, sign) for sign in (1, -1))
    return [
        Explanation(
            result=result,
            score=score,
            raw_score=sum(row),
            base_value=row[-1],
            contributions=dict(zip(names, row[:-1], strict=True)),
            reasons=for_it,
            counter_reasons=against_it,
        )
        for result, score, row, for_it, against_it in zip(results, scores, parts, reasons, counter_reasons, strict=True)
    ]


def reasons_for(artifact: Artifact, records: Sequence[Record]) -> list[list[Reason]]:
    """What speaks most for the results of records: the `reasons` of `explain`, without the rest, which takes longer.

    Parameters
    ----------
    artifact : Artifact
        The model that predicts.
    records : sequence of mapping
        n_rows records.

    Returns
    -------
    list of list of Reason
        At most four for each record, in their order.

    Raises
    ------
    NothingToPredictError, InvalidRecordsError, NotExplainableError
        As for `explain`.
    """
    return _reasons(artifact, _told(artifact, records), 1)


def reason_texts(
    artifact: Artifact, encoded: Matrix, matrix: Matrix, predictions: Predictions, most: int
) -> list[list[str | None]]:
    """What speaks most for the results of many rows: the texts of their `Explanation.reasons`, by rank.

    Parameters
    ----------
    artifact : Artifact
        The model that predicted.
    encoded : ndarray, shape (n_rows, n_encoded_columns)
        The rows as its encoder gives them.
    matrix : ndarray, shape (n_rows, n_model_columns)
        The same as the model gets them.
    predictions : ndarray, shape (n_rows,) or (n_rows, n_classes)
        What the model predicted.
    most : int
        How many reasons a row has at most.

    Returns
    -------
    list of list
        `most` columns of n_rows texts, the strongest reasons first; None where a row has fewer.

    Raises
    ------
    NotExplainableError
        As for `explain`.
    """
    explained = artifact.task.explained(predictions, artifact.model.contributions(matrix), artifact.decision)
    parts = _by_column(artifact, explained.contributions)
    ranked, is_strong = _ranked(parts, explained.signs, most)
    columns: list[list[str | None]] = [[None] * len(encoded) for _ in range(most)]
    for rank, (chosen, strong) in enumerate(zip(ranked.T, is_strong.T, strict=True)):
        for place in np.unique(chosen[strong]):
            rows = np.flatnonzero(strong & (chosen == place))
            codes, which = np.unique(encoded[rows, place], return_inverse=True)
            texts = [artifact.encoder.columns[place].in_words(code) for code in codes.tolist()]
            for row, code in zip(rows.tolist(), which.tolist(), strict=True):
                columns[rank][row] = texts[code]
    return columns


class _Told(NamedTuple):
    """What the predictions of n_rows records are explained by."""

    encoded: Matrix  # the records as the encoder gives them
    results: Sequence[float | str]
    explained: Explained
    parts: Matrix  # shape (n_rows, n_declared_columns + 1): the contributions, the base value last


def _told(artifact: Artifact, records: Sequence[Record]) -> _Told:
    if not records:
        raise NothingToPredictError
    encoded = artifact.encoder.transform(records)
    matrix = artifact.pipeline.transform_encoded(encoded)
    predictions = artifact.model.predict(matrix)
    explained = artifact.task.explained(predictions, artifact.model.contributions(matrix), artifact.decision)
    results = artifact.task.answer(predictions, artifact.decision)["result"]
    return _Told(encoded, results, explained, _by_column(artifact, explained.contributions))


def _by_column(artifact: Artifact, contributions: Matrix) -> Matrix:
    """The contributions of the model's columns added up by the declared columns; the base value stays last."""
    by_column = artifact.pipeline.by_origin(contributions[:, :-1])
    return np.hstack([by_column, contributions[:, -1:]])


def _ranked(parts: Matrix, signs: Vector, most: int) -> tuple[Places, Matrix]:
    """The columns that raised each raw score most or, for the sign -1, lowered it most; strongest first.

    Parameters
    ----------
    parts : ndarray, shape (n_rows, n_columns + 1)
        The contributions; the base value is the last.
    signs : ndarray, shape (n_rows,)
    most : int

    Returns
    -------
    ranked : ndarray of int, shape (n_rows, at most `most`)
        Their places.
    is_strong : ndarray of bool, of the same shape
        Whether a column did so at all; rounding does not count.
    """
    for_result = parts[:, :-1] * signs[:, np.newaxis]
    ranked = np.argsort(-for_result, axis=1, kind="stable")[:, :most]
    least = ROUNDING * np.abs(parts).sum(axis=1, keepdims=True)
    return ranked, for_result[np.arange(len(ranked))[:, np.newaxis], ranked] > least


def _reasons(artifact: Artifact, told: _Told, sign: int) -> list[list[Reason]]:
    """What speaks for the results or, for the sign -1, against them."""
    ranked, is_strong = _ranked(told.parts, sign * told.explained.signs, MOST_REASONS)
    protected = {feature.name for feature in artifact.features if feature.protected}
    columns = artifact.encoder.columns
    rows = np.arange(len(ranked))[:, np.newaxis]
    chosen = (is_strong.sum(axis=1), ranked, told.encoded[rows, ranked], told.parts[rows, ranked])
    return [
        [
            Reason(columns[at].name, columns[at].in_words(code), part, not protected.isdisjoint(columns[at].sources))
            for at, code, part in zip(places[:count], codes, parts, strict=False)
        ]
        for count, places, codes, parts in zip(*(values.tolist() for values in chosen), strict=True)
    ]
