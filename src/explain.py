"""explain: what each column contributed to a score, and in words what speaks for the answer and what against it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tabserve.aliases import Matrix, Record, Vector
from tabserve.errors import NothingToPredictError
from tabserve.models.base import Classifier
from tabserve.registry.artifact import Artifact

MOST_REASONS = 4
ROUNDING = 1e-9  # the share of all that was added up below which a contribution may be rounding alone


@dataclass(frozen=True)
class Reason:
    """A column that pushed a score up or down.

    Parameters
    ----------
    column : str
        A feature or a derived column.
    text : str
        A sentence about the record, from the column's declaration; it says nothing of the direction.
    contribution : float
        How much the column added to the raw score; negative where it lowered it.
    protected : bool
        Whether the column is, or is computed from, a feature that people must not be judged by.
    """

    column: str
    text: str
    contribution: float
    protected: bool


@dataclass(frozen=True)
class Explanation:
    """How a score came about.

    Parameters
    ----------
    result : int or float
        What predictions answer with: the decision, 0 or 1, or the value.
    score : float
        The model's score: a probability or a value.
    raw_score : float
        The sum of base value and contributions, from which the model makes the score: log-odds of a classifier, the
        logarithm of a count, the value of any other regressor before it is raised to a floor.
    base_value : float
        The part of the raw score that is the same for all records.
    contributions : dict
        What each column added, by name: the features, then the derived columns; 0 for one that the model does not see.
    reasons : list of Reason
        At most four columns that pushed the score towards the decision, up for 1 and down for 0, most first. A value
        is no decision: of a regression, the columns that raised it.
    counter_reasons : list of Reason
        At most four that pushed the other way, most first.
    """

    result: float
    score: float
    raw_score: float
    base_value: float
    contributions: dict[str, float]
    reasons: list[Reason]
    counter_reasons: list[Reason]


def explain(artifact: Artifact, records: Sequence[Record]) -> list[Explanation]:
    """Explain the scores of records.

    Parameters
    ----------
    artifact : Artifact
        Which model to explain.
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
        When records are at fault.
    NotExplainableError
        When the model's score cannot be split into what each column contributes.
    """
    if not records:
        raise NothingToPredictError
    encoded = artifact.encoder.transform(records)
    matrix = artifact.pipeline.transform_encoded(encoded)
    contributions = _by_column(artifact, artifact.model.contributions(matrix))
    scores = artifact.model.predict_score(matrix)
    results = artifact.model.answer(scores)["result"]
    return [
        _explanation(artifact, *one)
        for one in zip(results, scores.tolist(), encoded, contributions.tolist(), strict=True)
    ]


def _explanation(artifact: Artifact, result: float, score: float, row: Vector, parts: Sequence[float]) -> Explanation:
    names = [column.name for column in artifact.encoder.columns]
    up, down = _reasons(artifact, row, parts, 1), _reasons(artifact, row, parts, -1)
    is_lowered = isinstance(artifact.model, Classifier) and not result
    return Explanation(
        result=result,
        score=score,
        raw_score=sum(parts),
        base_value=parts[-1],
        contributions=dict(zip(names, parts[:-1], strict=True)),
        reasons=down if is_lowered else up,
        counter_reasons=up if is_lowered else down,
    )


def _by_column(artifact: Artifact, contributions: Matrix) -> Matrix:
    """The contributions of the model's columns added up by the encoder's columns; the base value stays last."""
    by_column = artifact.pipeline.by_origin(contributions[:, :-1])
    return np.hstack([by_column, contributions[:, -1:]])


def _reasons(artifact: Artifact, row: Vector, parts: Sequence[float], sign: int) -> list[Reason]:
    """The columns of an encoded record that pushed its score up most or, for the sign -1, down most.

    The last of the parts is the base value.
    """
    least = ROUNDING * sum(map(abs, parts))
    protected = {feature.name for feature in artifact.features if feature.protected}
    ranked = sorted(zip(parts[:-1], artifact.encoder.columns, row, strict=True), key=lambda part: -sign * part[0])
    return [
        Reason(column.name, column.in_words(code), contribution, not protected.isdisjoint(column.sources))
        for contribution, column, code in ranked[:MOST_REASONS]
        if sign * contribution > least
    ]
