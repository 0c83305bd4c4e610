"""explain: what each column contributed to a score, and the reasons for a refusal in words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from src.aliases import Matrix, Record, Vector
from src.errors import NothingToPredictError
from src.models.base import Classifier
from src.pipeline import Pipeline
from src.registry import Artifact

MOST_REASONS = 4
ROUNDING = 1e-9  # what a sum of contributions may be off by; less pushes a score nowhere


@dataclass(frozen=True)
class Reason:
    """A column that pushed a score towards class 1, a refusal.

    Parameters
    ----------
    column : str
        A feature or a derived column.
    text : str
        A sentence about the record, from the column's declaration.
    contribution : float
        How much the column added to the raw score.
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
    score : float
        The model's score: a probability or a value.
    raw_score : float
        The sum of base value and contributions, from which the model makes the score: log-odds of a classifier, the
        logarithm of a count, the value of any other regressor before it is raised to a floor.
    base_value : float
        The part of the raw score that is the same for all records.
    contributions : dict
        What each column added, by name: the features, then the derived columns.
    reasons : list of Reason
        At most four, most first; none of a regression, which refuses nobody.
    """

    score: float
    raw_score: float
    base_value: float
    contributions: dict[str, float]
    reasons: list[Reason]


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
    matrix = Pipeline(artifact.pipeline.steps[1:]).transform(encoded)
    contributions = _by_column(artifact, artifact.model.contributions(matrix))
    scores = artifact.model.predict_score(matrix)
    names = [column.name for column in artifact.encoder.columns]
    return [
        Explanation(
            score=score,
            raw_score=sum(parts),
            base_value=parts[-1],
            contributions=dict(zip(names, parts[:-1], strict=True)),
            reasons=_reasons(artifact, row, parts[:-1]),
        )
        for score, row, parts in zip(scores.tolist(), encoded, contributions.tolist(), strict=True)
    ]


def _by_column(artifact: Artifact, contributions: Matrix) -> Matrix:
    """The contributions of the model's columns added up by the encoder's columns; the base value stays last."""
    by_column = artifact.pipeline.by_origin(contributions[:, :-1], len(artifact.encoder.columns))
    return np.hstack([by_column, contributions[:, -1:]])


def _reasons(artifact: Artifact, row: Vector, contributions: Sequence[float]) -> list[Reason]:
    """The columns of an encoded record that pushed its score up most."""
    if not isinstance(artifact.model, Classifier):
        return []
    protected = {feature.name for feature in artifact.features if feature.protected}
    ranked = sorted(zip(contributions, artifact.encoder.columns, row, strict=True), key=lambda part: -part[0])
    return [
        Reason(column.name, column.in_words(code), contribution, not protected.isdisjoint(column.sources))
        for contribution, column, code in ranked[:MOST_REASONS]
        if contribution > ROUNDING
    ]
