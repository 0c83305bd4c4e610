"""Saving: artifacts of the candidates that passed, reports of the others, and publishing."""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import joblib
import pandas as pd

from tabserve.errors import UnavailableError, UnsavedError
from tabserve.registry.manifest import REPORT, Manifest
from tabserve.registry.registry import MODEL, PIPELINE, REJECTED, TEST_TABLE, TRAIN_TABLE, Registry
from tabserve.tables.parquet_writer import parquet_pieces
from tabserve.training.candidate import Candidate
from tabserve.training.evidence import Measured
from tabserve.training.parts import MOST_KEPT, Parts, sample
from tabserve.training.result import Outcome, TrainingResult


def check_can_be_saved_in(folder: Path) -> None:
    """Raise UnsavedError for a folder that nothing can be saved in, as far as that can be known without writing."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
        TemporaryFile(dir=there).close()
    except OSError as error:
        raise UnsavedError(str(folder), error) from None


def save(
    judged: Sequence[Manifest],
    measured: Mapping[str, Measured],
    reports: Mapping[str, bytes],
    parts: Parts,
    registry: Registry,
) -> list[Outcome]:
    """Save the candidates that passed, in their order, and keep the reports of the others.

    Parameters
    ----------
    judged : sequence of Manifest
        The best first: a service that looks meanwhile must find no other newest.
    measured : mapping of Measured
        The candidates by algorithm.
    reports : mapping of bytes
        By model_id.
    parts : Parts
        What they were trained on.
    registry : Registry
        Where to save, on this machine.

    Returns
    -------
    list of Outcome
        As many as manifests.

    Raises
    ------
    UnsavedError
        With those that were saved before.
    """
    outcomes: list[Outcome] = []
    for manifest in judged:
        report = reports[manifest.model_id]
        try:
            if manifest.passed:
                registry.save(_files(measured[manifest.algorithm].candidate, parts, report, manifest.seed), manifest)
            else:
                registry.reject(manifest.model_id, report)
        except OSError as error:
            saved = [outcome.model_id for outcome in outcomes if outcome.saved]
            unsaved = [manifest.model_id for manifest in judged[len(outcomes) :]]
            raise UnsavedError(str(registry.location), error, saved, unsaved) from None
        outcomes.append(Outcome(manifest, _report_of(manifest, Path(registry.location))))
    return outcomes


def _report_of(manifest: Manifest, folder: Path) -> Path:
    if manifest.passed:
        return folder / manifest.model_id / REPORT
    return folder / REJECTED / f"{manifest.model_id}.html"


def publish(outcomes: Sequence[Outcome], registry: Registry, to: Registry) -> TrainingResult:
    """Copy the saved models to the registry that they are served from, unless they are there; the first one first."""
    published: list[Outcome] = []
    for place, outcome in enumerate(outcomes):
        try:
            if outcome.saved and to is not registry:
                registry.copy(outcome.model_id, to)
        except (UnavailableError, KeyboardInterrupt) as error:
            left = [other.model_id for other in outcomes[place:] if other.saved]
            reason = str(error) or "Interrupted."
            return TrainingResult([*published, *outcomes[place:]], _unpublished(left, registry, to, reason))
        published.append(replace(outcome, published=outcome.saved))
    return TrainingResult(published)


def _unpublished(model_ids: Sequence[str], registry: Registry, to: Registry, reason: str) -> str:
    return (
        f"{reason} Nothing is lost: the models are in {registry.location}. Publish them with: "
        f"MODEL_REGISTRY={registry.location} tabserve models copy {to.location} {' '.join(model_ids)}"
    )


def _files(candidate: Candidate, parts: Parts, report: bytes, seed: int) -> dict[str, bytes]:
    """The artifact's files."""
    return {
        PIPELINE: pickled((candidate.pipeline, parts.target)),
        MODEL: pickled((candidate.model, candidate.task, candidate.decision)),
        TRAIN_TABLE: as_parquet(parts.train.table, seed),
        TEST_TABLE: as_parquet(parts.test.table, seed),
        REPORT: report,
    }


def as_parquet(table: pd.DataFrame, seed: int) -> bytes:
    """A Parquet file with a table's rows, at most `MOST_KEPT` of them, in their order; a missing value is null."""
    kept = table.iloc[sample(len(table), MOST_KEPT, seed)]
    columns = {str(name): _values(kept[name]) for name in kept}
    return b"".join(parquet_pieces(columns))


def _values(column: "pd.Series[Any]") -> list[Any]:
    """The values of a column; None for a missing one."""
    values = column.astype(object)
    return values.where(values.notna(), None).tolist()


def pickled(thing: Any) -> bytes:
    """Bytes that `joblib.load` takes."""
    buffer = io.BytesIO()
    joblib.dump(thing, buffer)
    return buffer.getvalue()
