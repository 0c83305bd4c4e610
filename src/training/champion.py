"""Champion: the model that answers for the use case today, seen beside the candidates."""

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Predictions
from tabserve.declaration.use_case import UseCase
from tabserve.errors import BrokenArtifactError, InvalidRecordsError, InvalidTargetError, UnknownModelError
from tabserve.evaluation.metrics import Metrics
from tabserve.registry.artifact import Artifact
from tabserve.registry.manifest import Manifest, Split
from tabserve.registry.registry import Registry
from tabserve.training.hold_out import TIME, is_before, is_time
from tabserve.training.parts import Part
from tabserve.transformers import Target

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Champion:
    """The model that answers for the use case, seen beside the candidates.

    Parameters
    ----------
    model_id : str
        Its name.
    rows : ndarray of bool, shape (n_test_rows,)
        Which rows of the hold-out it takes: it may not know a category that was declared since.
    predictions : ndarray
        Its predictions of these rows.
    metrics : dict of float
        Of these predictions, with its own decision.
    flattered : str
        Why it may have been trained on some of these rows; empty when it was not.
    """

    model_id: str
    rows: npt.NDArray[np.bool_]
    predictions: Predictions
    metrics: Metrics
    flattered: str


@dataclass(frozen=True)
class NotCompared:
    """A model that answers for the use case, and cannot be seen beside the candidates.

    Parameters
    ----------
    model_id : str
        Its name.
    reason : str
        Why not, as a sentence.
    """

    model_id: str
    reason: str


def earliest_cut(use_case: UseCase, registry: Registry) -> Any:
    """The time before which no row may be held out: the model that answers today was trained on such rows.

    Parameters
    ----------
    use_case : UseCase
        Whose model.
    registry : Registry
        Where it is.

    Returns
    -------
    object or None
        A value of the column of times. None where time does not decide, or there is no model that it decided for.
    """
    if not use_case.time:
        return None
    for model_id in _in_turn(use_case, registry):
        with suppress(BrokenArtifactError, UnknownModelError):
            split = registry.manifest(model_id).split
            if split.by == TIME and use_case.time in split.columns and is_time(use_case, split.cut):
                return split.cut
    return None


def _in_turn(use_case: UseCase, registry: Registry) -> list[str]:
    """The model that answers today; if none is promoted, all in turn, the newest first."""
    promoted = registry.histories.champion(use_case.name)
    return [promoted] if promoted else registry.list(use_case.name)


def champion_of(
    use_case: UseCase, registry: Registry, test: Part, seed: int, split: Split
) -> Champion | NotCompared | None:
    """Let the model that answers today predict the hold-out.

    Parameters
    ----------
    use_case : UseCase
        Whose model.
    registry : Registry
        Where it is.
    test : Part
        The hold-out.
    seed : int
        Of its split.
    split : Split
        What decided which rows are held out. A model of another split may have been trained on some of these rows: a
        warning and the verdict say so.

    Returns
    -------
    Champion, NotCompared or None
        None when there is no model at all. Not compared is a model, the newest when none is promoted, where none can
        be loaded and takes half of these rows.

    Raises
    ------
    UnavailableError
        When the champion's name cannot be read, or a registry in a bucket: it is not passed over then.
    """
    first: NotCompared | None = None
    for model_id in _in_turn(use_case, registry):
        try:
            champion = _let_predict(use_case, registry.load(model_id), test, seed, split)
        except (BrokenArtifactError, UnknownModelError, InvalidRecordsError) as error:
            logger.warning("%s is not compared with: %s", model_id, error)
            first = first or NotCompared(model_id, str(error))
        else:
            if champion.flattered:
                logger.warning("%s may have seen rows of this hold-out: %s.", model_id, champion.flattered)
            return champion
    return first


def _let_predict(use_case: UseCase, artifact: Artifact, test: Part, seed: int, split: Split) -> Champion:
    model_id, manifest = artifact.model_id, artifact.manifest
    if not use_case.task.predicts_like(artifact.task) or _encodes_otherwise(artifact.target, test):
        raise BrokenArtifactError(model_id, "it predicts something else")
    known = {feature.name for feature in artifact.features}
    table = test.features
    table = table[[name for name in table if name in known]]  # it does without the columns that were declared since
    rows = np.ones(len(table), dtype=np.bool_)
    try:
        X = artifact.pipeline.transform(table)
    except InvalidRecordsError as error:
        rows[error.rows] = False
        if 2 * np.sum(rows) < len(rows):
            raise
        X = artifact.pipeline.transform(table[rows])
    y = test.y[rows]
    if not use_case.task.can_be_judged_by(y):
        raise BrokenArtifactError(model_id, "the rows that it takes lack an outcome")
    predictions = artifact.model.predict(X)
    metrics = use_case.task.metrics(y, predictions, artifact.decision)
    return Champion(model_id, rows, predictions, metrics, _flattered(use_case, manifest, seed, split))


def _flattered(use_case: UseCase, manifest: Manifest, seed: int, split: Split) -> str:
    """Why a model may have been trained on rows that are held out now; empty when it was not."""
    if manifest.split.by != split.by:
        return f"its hold-out was split off by {manifest.split.by}, this one by {split.by}"
    if manifest.split.columns != split.columns:
        return "other columns decided which rows it was trained on"
    if split.by != TIME and manifest.seed != seed:
        return "it was trained with another seed"
    if split.by == TIME and not is_before(use_case, manifest.split.cut, split.cut):
        return "it was trained on newer rows"
    return ""


def _encodes_otherwise(target: Target, test: Part) -> bool:
    """Whether a target that a model was trained on gives another number for a value than today's does.

    A value that it does not know says nothing: labels may have been renamed, and bounds widened.
    """
    today = dict(zip(test.table.iloc[:, -1].tolist(), test.y.tolist(), strict=True))
    return any(_number(target, value) not in (None, number) for value, number in today.items())


def _number(target: Target, value: object) -> float | None:
    try:
        return float(target.transform([value])[0])
    except InvalidTargetError:
        return None
