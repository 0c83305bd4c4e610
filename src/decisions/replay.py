"""Replay: a logged record is predicted and explained again by the model that decided, and the figures are compared."""

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tabserve.decisions.entry import DECISION, SHADOW, Entry
from tabserve.decisions.plain import dumped, loaded
from tabserve.errors import BrokenArtifactError, InvalidRecordsError, NotExplainableError, UnknownModelError
from tabserve.explain import reasons_for
from tabserve.predict import make_prediction
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry


def replay(registry: Registry, entry: Entry) -> list[str]:
    """Predict and explain a logged record again.

    Parameters
    ----------
    registry : Registry
        Where the model that decided is.
    entry : Entry
        A decision with its record: of a single record, or of a row of a table.

    Returns
    -------
    list of str
        What is not the same to the last bit, as sentences without values of the record: none when score, result,
        threshold and, where they were logged, reasons are. When something differs, also which libraries do.
    """
    if entry.kind not in (DECISION, SHADOW) or not entry.record:
        return ["The log holds no record of it."]
    try:
        artifact = registry.load(entry.model_id)
    except UnknownModelError:
        return [f"The model {entry.model_id} is not in the registry."]
    except BrokenArtifactError as error:
        return [str(error), *_libraries_of(registry, entry.model_id)]
    differences = [*_differences(artifact, entry)]
    return [*differences, *_other_libraries(artifact.manifest.libraries)] if differences else []


def _differences(artifact: Artifact, entry: Entry) -> Iterator[str]:
    if artifact.digest != entry.digest:
        yield "The model in the registry has another digest than the one that decided."
    try:
        columns = make_prediction(artifact, [entry.record]).columns
    except InvalidRecordsError:
        yield "The record is not valid for the model."
        return
    (decision,) = columns["result"]
    (score,) = columns.get("probability", columns["result"])
    threshold = artifact.decision.cut if entry.threshold is not None else None
    for name, logged, found in (
        ("score", entry.score, score),
        ("decision", entry.decision, decision),
        ("threshold", entry.threshold, threshold),
    ):
        if _plain(logged) != _plain(found):
            yield f"The {name} was {_plain(logged)} and is now {_plain(found)}."
    if entry.reasons is not None and _plain(entry.reasons) != _reasons(artifact, entry.record):
        yield "The reasons are not the same."


def _reasons(artifact: Artifact, record: Mapping[str, Any]) -> Any:
    try:
        (reasons,) = reasons_for(artifact, [record])
    except NotExplainableError:
        return None
    return _plain([reason.to_json() for reason in reasons])


def _plain(value: Any) -> Any:
    """A value as the log keeps it."""
    return loaded(dumped(value))


def _libraries_of(registry: Registry, model_id: str) -> Iterator[str]:
    try:
        yield from _other_libraries(registry.manifest(model_id).libraries)
    except (BrokenArtifactError, UnknownModelError):
        return


def _other_libraries(libraries: Mapping[str, str]) -> Iterator[str]:
    """Which libraries have other versions here than where the model was trained."""
    for name, written in libraries.items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            installed = "not installed"
        if installed != written:
            yield f"{name} was {written} when the model was trained and is {installed} here."
