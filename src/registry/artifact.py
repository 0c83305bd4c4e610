"""Artifact: what a training saved for one model."""

from dataclasses import dataclass

from tabserve.columns.features import Feature
from tabserve.models.base import Model
from tabserve.pipeline import Pipeline
from tabserve.registry.manifest import Manifest
from tabserve.tasks.base import Task
from tabserve.tasks.decision import Decision
from tabserve.transformers import RecordEncoder, Target


@dataclass(frozen=True)
class Artifact:
    """What a training saved for one model, verified and loaded.

    Parameters
    ----------
    manifest : Manifest
        What the model is, how it was made and how good it is.
    pipeline : Pipeline
        From records to the model's matrix.
    target : Target
        From the target column to numbers.
    model : Model
        Fitted on that matrix.
    task : Task
        What kind of prediction it makes.
    decision : Decision
        How results follow from its predictions.
    """

    manifest: Manifest
    pipeline: Pipeline
    target: Target
    model: Model
    task: Task
    decision: Decision

    @property
    def model_id(self) -> str:
        """The model_id in the manifest."""
        return self.manifest.model_id

    @property
    def encoder(self) -> RecordEncoder:
        """The pipeline's encoder, with this model's columns and their words."""
        return self.pipeline.encoder

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features that this model was trained with, whatever the use case declares now."""
        return self.encoder.features
