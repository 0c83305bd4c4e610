"""Artifact: what a training saved for one model."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from tabserve.aliases import Record
from tabserve.columns.carried import Id
from tabserve.columns.derived import DerivedColumn
from tabserve.columns.features import Feature
from tabserve.models.base import Model
from tabserve.pipeline import Pipeline
from tabserve.registry.manifest import Manifest
from tabserve.tasks.base import Task
from tabserve.tasks.decision import Decision
from tabserve.transformers import RecordEncoder, Target


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What was declared when a model was trained: all that a service must know of it, without the declaration.

    Columns, target and task are those that the artifact holds, whoever wrote their code; the rest comes from the
    manifest.

    Parameters
    ----------
    name : str
        The use case's.
    title, description : str
        For people.
    task : Task
        The kind of prediction.
    features : tuple of Feature
        The input columns.
    derived : tuple of DerivedColumn
        What is computed from them.
    extras : tuple of Feature
        What records and files may hold besides.
    target : Target
        The predicted column.
    example : mapping
        A valid record.
    limits : tuple of str
        What people must know before they trust the model.
    """

    name: str
    title: str
    description: str
    task: Task
    features: tuple[Feature, ...]
    derived: tuple[DerivedColumn, ...]
    extras: tuple[Feature, ...]
    target: Target
    example: Record
    limits: tuple[str, ...]

    @property
    def columns(self) -> tuple[Feature | DerivedColumn, ...]:
        """The columns of the encoded records."""
        return (*self.features, *self.derived)

    def signature(self) -> dict[str, Any]:
        """Features, derived columns and target as JSON Schema with names."""
        target = self.target.feature
        return {
            "features": [
                {"name": feature.name, "kind": type(feature).__name__, **feature.json_schema()}
                for feature in self.features
            ],
            "derived": [column.declaration() for column in self.derived],
            "target": {"name": target.name, **target.json_schema()},
        }


@dataclass(frozen=True)
class Split:
    """Which records a challenger answers in a champion's place.

    Parameters
    ----------
    challenger : Artifact
    share : int
        How many of 100 records.
    """

    challenger: "Artifact"
    share: int

    def takes(self, champion: "Artifact", record: Record) -> bool:
        """Whether a record is the challenger's.

        The same value of a declared id column always is, or without one the same record. A larger share takes the
        records of a smaller one, and more.
        """
        told: Record = record
        for extra in champion.encoder.extras:
            if isinstance(extra, Id) and record.get(extra.name) is not None:
                told = {extra.name: record[extra.name]}
                break
        key = orjson.dumps(told, default=str, option=orjson.OPT_SORT_KEYS)
        digest = blake2b(key, digest_size=8, key=self.challenger.model_id.encode()[-64:]).digest()
        return int.from_bytes(digest) % 100 < self.share


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
    digest : str
        The SHA-256 in its manifest's JSON: what exactly was trained. Signing it again does not change it.
    split : Split or None
        Which single records a challenger answers instead.
    """

    manifest: Manifest
    pipeline: Pipeline
    target: Target
    model: Model
    task: Task
    decision: Decision
    digest: str = ""
    split: "Split | None" = None

    def speed_up(self, folder: Path | None = None) -> None:
        """Predict faster from now on, where the predictions stay equal to the last bit: see `Model.speed_up`."""
        self.model.speed_up(self.model_id, folder)

    def arm_of(self, record: Record) -> "Artifact":
        """The model that answers a record: this one, or a challenger."""
        return self.split.challenger if self.split and self.split.takes(self, record) else self

    @property
    def model_id(self) -> str:
        """The model_id in the manifest."""
        return self.manifest.model_id

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a decision says of the model that made it."""
        return {
            "use_case": self.manifest.use_case,
            "model_id": self.model_id,
            "digest": self.digest,
            "threshold": self.decision.cut,
        }

    @property
    def encoder(self) -> RecordEncoder:
        """The pipeline's encoder, with this model's columns and their words."""
        return self.pipeline.encoder

    @cached_property
    def declared(self) -> Declared:
        """What was declared when it was trained."""
        plain = self.manifest.declaration
        return Declared(
            name=self.manifest.use_case,
            title=plain.get("title", self.manifest.use_case),
            description=plain.get("description", ""),
            task=self.task,
            features=self.features,
            derived=self.encoder.derived,
            extras=self.encoder.extras,
            target=self.target,
            example=plain.get("example", {}),
            limits=tuple(plain.get("limits", ())),
        )

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features that this model was trained with, whatever the use case declares now."""
        return self.encoder.features
