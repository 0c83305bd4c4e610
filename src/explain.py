"""explain: what each column contributed to a prediction, and in words what speaks for the result or against it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tabserve.aliases import Matrix, Predictions, Record, Vector
from tabserve.errors import NothingToPredictError
from tabserve.registry.artifact import Artifact

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
    if not records:
        raise NothingToPredictError
    encoded = artifact.encoder.transform(records)
    matrix = artifact.pipeline.transform_encoded(encoded)
    predictions = artifact.model.predict(matrix)
    explained = artifact.task.explained(predictions, artifact.model.contributions(matrix), artifact.decision)
    results = artifact.task.answer(predictions, artifact.decision)["result"]
    contributions = _by_column(artifact, explained.contributions).tolist()
    return [
        _explanation(artifact, *one)
        for one in zip(
            results, explained.predictions.tolist(), encoded, contributions, explained.signs.tolist(), strict=True
        )
    ]


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
    least = ROUNDING * np.abs(parts).sum(axis=1)
    for_result = parts[:, :-1] * explained.signs[:, np.newaxis]
    ranked = np.argsort(-for_result, axis=1, kind="stable")[:, :most]
    columns: list[list[str | None]] = [[None] * len(encoded) for _ in range(most)]
    for rank, chosen in enumerate(ranked.T):
        strong = np.take_along_axis(for_result, chosen[:, np.newaxis], axis=1)[:, 0] > least
        for place in np.unique(chosen[strong]):
            rows = np.flatnonzero(strong & (chosen == place))
            codes, which = np.unique(encoded[rows, place], return_inverse=True)
            texts = [artifact.encoder.columns[place].in_words(code) for code in codes.tolist()]
            for row, code in zip(rows.tolist(), which.tolist(), strict=True):
                columns[rank][row] = texts[code]
    return columns


def _explanation(
    artifact: Artifact, result: float | str, score: float, row: Vector, parts: Sequence[float], sign: float
) -> Explanation:
    names = [column.name for column in artifact.encoder.columns]
    return Explanation(
        result=result,
        score=score,
        raw_score=sum(parts),
        base_value=parts[-1],
        contributions=dict(zip(names, parts[:-1], strict=True)),
        reasons=_reasons(artifact, row, parts, sign),
        counter_reasons=_reasons(artifact, row, parts, -sign),
    )


def _by_column(artifact: Artifact, contributions: Matrix) -> Matrix:
    """The contributions of the model's columns added up by the declared columns; the base value stays last."""
    by_column = artifact.pipeline.by_origin(contributions[:, :-1])
    return np.hstack([by_column, contributions[:, -1:]])


def _reasons(artifact: Artifact, row: Vector, parts: Sequence[float], sign: float) -> list[Reason]:
    """The columns of an encoded record that raised its raw score most or, for the sign -1, lowered it most.

    The last of the parts is the base value; the row goes on with counts of what texts hold.
    """
    least = ROUNDING * sum(map(abs, parts))
    protected = {feature.name for feature in artifact.features if feature.protected}
    ranked = sorted(zip(parts[:-1], artifact.encoder.columns, row, strict=False), key=lambda part: -sign * part[0])
    return [
        Reason(column.name, column.in_words(code), contribution, not protected.isdisjoint(column.sources))
        for contribution, column, code in ranked[:MOST_REASONS]
        if sign * contribution > least
    ]
