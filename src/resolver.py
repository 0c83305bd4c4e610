"""Resolver: finds the model that a name means, and keeps it loaded."""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from tabserve.declaration.discovery import all_use_cases
from tabserve.errors import (
    BrokenArtifactError,
    NoModelError,
    StoreAwayError,
    TabserveError,
    UnavailableError,
    UnknownModelError,
)
from tabserve.predict import make_prediction
from tabserve.registry.artifact import Artifact
from tabserve.registry.model_id import ModelId
from tabserve.registry.registry import Registry

logger = logging.getLogger(__name__)

KEPT_MODELS = 8  # models requested by model_id that stay loaded in a process
RECHECK_AFTER = 1.0  # seconds until the registry is asked again which model an alias means
# Seconds until a refused model is verified again although its files did not change: memory may have been short, or a
# download damaged.
REFUSED_FOR = 60.0


@dataclass(frozen=True)
class _Resolved:
    artifact: Artifact
    expires: float
    refused: str | None  # why the model that should answer does not


@dataclass(frozen=True)
class _Refusal:
    reason: str
    version: object  # of the files that were refused
    expires: float


@dataclass(frozen=True)
class Readiness:
    """Which use cases can be answered.

    Parameters
    ----------
    models : dict of str
        The model_id that answers, by use case.
    unavailable : dict of str
        Why no model answers, for each of the other use cases.
    refused : dict of str
        Why the model that should answer does not, for use cases that another model answers meanwhile.
    registry : str
        `ok`, or `away` while it cannot be reached and models that were read before answer.
    """

    models: dict[str, str] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    registry: str = "ok"


class Resolver:
    """The models of one process, by their names.

    A name is resolved again every second, so that a newly trained or promoted model is served soon. The model before
    it answers until the new one is verified, loaded and warm, or for good when the new one is refused. A refused model
    is verified again when one of its files changes, and after a minute.

    Parameters
    ----------
    registry : Registry
        Where the artifacts are.
    default_use_case : str
        What `latest` and `champion` mean.
    """

    def __init__(self, registry: Registry, default_use_case: str) -> None:
        self.registry = registry
        self.default_use_case = default_use_case
        self._load = lru_cache(KEPT_MODELS)(self._load_warm)
        self._resolved: dict[str, _Resolved] = {}
        self._refused: dict[str, _Refusal] = {}
        self._reported: set[str] = set()
        self._lock = threading.Lock()

    def resolve(self, name: str) -> Artifact:
        """The model that a name means.

        Parameters
        ----------
        name : str
            A model_id, `latest`, `champion` or a use case's name.

        Raises
        ------
        UnknownModelError
            When no model has this name.
        NoModelError
            When the use case has no model yet.
        BrokenArtifactError
            When its artifact is refused.
        """
        resolved = self._resolved.get(name)
        if resolved and time.monotonic() < resolved.expires:
            return resolved.artifact
        if name in ("latest", "champion") or name in all_use_cases():
            return self._ask_registry(name, resolved)
        self._check_served(name)
        return self._load(name)

    def readiness(self, use_cases: Iterable[str] = ()) -> Readiness:
        """Load the models of these use cases, by default of all, and say which can be answered."""
        readiness = Readiness()
        for use_case in use_cases or all_use_cases():
            try:
                readiness.models[use_case] = self.resolve(use_case).model_id
            except TabserveError as error:
                readiness.unavailable[use_case] = str(error)
            else:
                resolved = self._resolved.get(use_case)  # None: its last model was just deleted
                if resolved and resolved.refused:
                    readiness.refused[use_case] = resolved.refused
        return replace(readiness, registry="away" if self.registry.away else "ok")

    def model_ids(self, use_case: str | None = None) -> list[str]:
        """The models that can be requested, of one use case or of all declared ones, newest first."""
        return [model_id for model_id in self.registry.list(use_case) if _is_of_a_use_case(model_id)]

    def _check_served(self, model_id: str) -> None:
        if not _is_of_a_use_case(model_id):
            raise UnknownModelError
        self.registry.check_exists(model_id)

    def _ask_registry(self, name: str, before: _Resolved | None) -> Artifact:
        # One thread asks the registry; meanwhile the others answer with the model they have, if any.
        if not self._lock.acquire(blocking=before is None):
            assert before
            return before.artifact
        try:
            before = self._resolved.get(name)  # another thread may have replaced it
            try:
                artifact, refused = self._newest_usable(name)
            except UnavailableError as error:
                if before is None:
                    raise
                artifact, refused = before.artifact, error
            # an unreachable registry is reported as such, not as a refused model
            reason = str(refused) if refused and not isinstance(refused, StoreAwayError) else None
            self._resolved[name] = _Resolved(artifact, time.monotonic() + RECHECK_AFTER, reason)
            return artifact
        except NoModelError:  # all models are gone: no thread may answer with the old one
            self._resolved.pop(name, None)
            raise
        finally:
            self._lock.release()

    def _newest_usable(self, name: str) -> tuple[Artifact, UnavailableError | None]:
        """The model that answers to a name, and why the first choice does not when it is another one."""
        use_case = name if name in all_use_cases() else self.default_use_case
        refused: UnavailableError | None = None
        for model_id in self._candidates(use_case, latest=name == "latest"):
            try:
                return self._load(model_id), refused
            except UnavailableError as error:
                reason = error
            except UnknownModelError:  # a champion whose folder was removed, or a model that was just deleted
                reason = BrokenArtifactError(model_id, "it no longer exists")
            self._report(reason)
            refused = refused or reason
        raise refused or NoModelError(use_case)

    def _candidates(self, use_case: str, *, latest: bool) -> Sequence[str]:
        """The model_ids that may answer, best first. Nothing stands in for a champion, because a person chose it."""
        try:
            champion = None if latest else self.registry.champion(use_case)
        except UnavailableError as error:
            self._report(error)
            raise
        return [champion] if champion else self.registry.list(use_case)

    def _report(self, error: UnavailableError) -> None:
        if str(error) not in self._reported:  # the same error comes every second
            self._reported.add(str(error))
            logger.error("%s", error)

    def _load_warm(self, model_id: str) -> Artifact:
        version = self.registry.version(model_id)  # before anything is read: a later change must be noticed
        refusal = self._refused.get(model_id)
        if refusal and refusal.version == version and time.monotonic() < refusal.expires:
            raise BrokenArtifactError(model_id, refusal.reason)
        try:
            artifact = self.registry.load(model_id)
            _warm_up(artifact)
        except BrokenArtifactError as error:
            self._refused[model_id] = _Refusal(error.reason, version, time.monotonic() + REFUSED_FOR)
            raise
        self._refused.pop(model_id, None)
        logger.info("loaded %s", model_id)
        return artifact


def _is_of_a_use_case(model_id: str) -> bool:
    parts = ModelId.parse(model_id)
    return parts is not None and parts.use_case in all_use_cases()


def _warm_up(artifact: Artifact) -> None:
    try:
        make_prediction(artifact, [artifact.declared.example])
    except Exception as error:
        raise BrokenArtifactError(artifact.model_id, "it cannot answer its own example") from error
