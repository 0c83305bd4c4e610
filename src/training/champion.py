"""Champion: the model that answers for the use case today, seen beside the candidates."""

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Predictions
from tabserve.declaration.use_case import UseCase
from tabserve.errors import BrokenArtifactError, InvalidRecordsError, InvalidTargetError, UnknownModelError
from tabserve.evaluation.metrics import Metrics
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.training.hold_out import SPLIT
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
    seed : int or None
        Of the split of its table; None when that was not made by what the features hold.
    """

    model_id: str
    rows: npt.NDArray[np.bool_]
    predictions: Predictions
    metrics: Metrics
    seed: int | None


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


def champion_of(use_case: UseCase, registry: Registry, test: Part, seed: int) -> Champion | NotCompared | None:
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
        Of its split. A model of another split was trained on some of these rows, and a warning says so.

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
    promoted = registry.champion(use_case.name)
    first: NotCompared | None = None
    for model_id in [promoted] if promoted else registry.list(use_case.name):
        try:
            champion = _let_predict(use_case, registry.load(model_id), test)
        except (BrokenArtifactError, UnknownModelError, InvalidRecordsError) as error:
            logger.warning("%s is not compared with: %s", model_id, error)
            first = first or NotCompared(model_id, str(error))
        else:
            if champion.seed != seed:
                logger.warning("%s was trained on rows of this hold-out: it looks better than it is.", model_id)
            return champion
    return first


def _let_predict(use_case: UseCase, artifact: Artifact, test: Part) -> Champion:
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
    if not use_case.task.varies(y):
        raise BrokenArtifactError(model_id, "the rows that it takes lack an outcome")
    predictions = artifact.model.predict(X)
    seed = manifest.seed if manifest.split == SPLIT else None
    metrics = use_case.task.metrics(y, predictions, artifact.decision)
    return Champion(model_id, rows, predictions, metrics, seed)


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
