"""What the tests of training share."""

import dataclasses
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tabserve.declaration.use_case import UseCase
from tabserve.registry.artifact import Artifact
from tabserve.registry.manifest import Manifest, Split
from tabserve.registry.registry import TEST_TABLE, Registry
from tests.conftest import ROOT

FEW_FOLDS = {"splits": 2, "repeats": 1}  # where it does not matter how the metrics turn out


def predictions(artifact: Artifact, records: list[Mapping[str, Any]]) -> list[float]:
    return artifact.model.predict(artifact.pipeline.transform(records)).tolist()


def unpromised(credit: UseCase, **changes: Any) -> UseCase:
    """Credit in few folds, and without the promises of its features, so that any model may be trained."""
    features = tuple(dataclasses.replace(feature, monotone=0) for feature in credit.features)
    return dataclasses.replace(credit, features=features, **{**FEW_FOLDS, **changes})


def newest(registry: Registry) -> Artifact:
    return registry.load(registry.latest("credit"))


def saved_table(registry: Registry, manifest: Manifest, name: str = TEST_TABLE) -> pd.DataFrame:
    """The rows that a training saved with a model."""
    return pd.read_parquet(io.BytesIO(registry.read(manifest.model_id, name, manifest)))


def failed(manifest: Manifest) -> set[str]:
    return {gate.gate for gate in manifest.gates if not gate.passed}


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments on a registry."""
    environment = {**os.environ, "MODEL_REGISTRY": str(folder)}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


def split_of(use_case: UseCase) -> Split:
    """How a use case's rows are split when their features decide."""
    return Split("features", {feature.name: type(feature).__name__ for feature in use_case.features})
