"""Resolver: finds the model that a name means, and keeps it loaded."""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from tabserve.errors import (
    BrokenArtifactError,
    NoDefaultUseCaseError,
    NoModelError,
    StoreAwayError,
    TabserveError,
    UnavailableError,
    UnknownModelError,
    UnknownUseCaseError,
)
from tabserve.predict import make_prediction
from tabserve.registry.artifact import Artifact
from tabserve.registry.model_id import USE_CASE
from tabserve.registry.registry import Registry
from tabserve.settings import DEFAULT_USE_CASE

logger = logging.getLogger(__name__)

ALIASES = ("latest", "champion")  # of the default use case
KEPT_MODELS = 8  # models requested by model_id that stay loaded in a process
RECHECK_AFTER = 1.0  # seconds until the registry is asked again which use cases it holds, and what an alias means
# Seconds until a refused model is verified again although its files did not change: memory may have been short, or a
# download damaged.
REFUSED_FOR = 60.0


@dataclass(frozen=True)
class _Resolved:
    artifact: Artifact
    expires: float
    refused: str | None  # why the model that should answer does not


@dataclass(frozen=True)
class _Held:
    use_cases: list[str]
    expires: float


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
    default_use_case : str, optional
        What `latest` and `champion` mean. By default, the only use case in the registry, or `credit` if there are
        several.
    """

    def __init__(self, registry: Registry, default_use_case: str | None = None) -> None:
        self.registry = registry
        self._default = default_use_case
        self._held: _Held | None = None
        self._load = lru_cache(KEPT_MODELS)(self._load_warm)
        self._resolved: dict[str, _Resolved] = {}
        self._refused: dict[str, _Refusal] = {}
        self._reported: set[str] = set()
        self._lock = threading.Lock()

    def use_cases(self) -> list[str]:
        """The use cases that the registry holds, in alphabetical order, the default one first.

        The default use case is one of them even without a model if it was named.
        """
        held = self._in_registry()
        first = self._default or (DEFAULT_USE_CASE if DEFAULT_USE_CASE in held else None)
        return list(dict.fromkeys([first, *held])) if first else held

    def default_use_case(self) -> str:
        """The use case that is meant where none is named.

        Raises
        ------
        NoModelError
            When the registry is empty.
        NoDefaultUseCaseError
            When the registry holds several use cases and none of them is the default.
        """
        use_cases = self.use_cases()
        if not use_cases:
            raise NoModelError
        if len(use_cases) > 1 and self._default is None and use_cases[0] != DEFAULT_USE_CASE:
            raise NoDefaultUseCaseError(use_cases)
        return use_cases[0]

    def check_use_case(self, name: str) -> None:
        """Refuse a use case that the registry does not hold.

        Raises
        ------
        NoModelError
            When the registry is empty.
        UnknownUseCaseError
            With the use cases that it holds.
        """
        use_cases = self.use_cases()
        if not use_cases:
            raise NoModelError
        if name not in use_cases:
            raise UnknownUseCaseError(use_cases)

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
            When the default use case has no model yet, or the registry is empty.
        NoDefaultUseCaseError
            When an alias is asked for, and no use case is the default.
        BrokenArtifactError
            When its artifact is refused.
        """
        resolved = self._resolved.get(name)
        if resolved and time.monotonic() < resolved.expires:
            return resolved.artifact
        if resolved or name in ALIASES or self._is_use_case(name):
            return self._ask_registry(name, resolved)
        self.registry.check_exists(name)
        return self._load(name)

    def readiness(self, use_cases: Iterable[str] = ()) -> Readiness:
        """Load the models of these use cases, by default of all, and say which can be answered."""
        readiness = Readiness()
        for use_case in use_cases or self.use_cases():
            try:
                readiness.models[use_case] = self.resolve(use_case).model_id
            except TabserveError as error:
                readiness.unavailable[use_case] = str(error)
            else:
                resolved = self._resolved.get(use_case)  # None: its last model was just deleted
                if resolved and resolved.refused:
                    readiness.refused[use_case] = resolved.refused
        return replace(readiness, registry="away" if self.registry.away else "ok")

    def _in_registry(self) -> list[str]:
        """The use cases in the registry; while it cannot be reached, those that it held before."""
        held, now = self._held, time.monotonic()
        if held is None or now >= held.expires:
            try:
                held = _Held(self.registry.use_cases(), now + RECHECK_AFTER)
            except UnavailableError:
                if held is None:
                    raise
            self._held = held
        return held.use_cases

    def _is_use_case(self, name: str) -> bool:
        """Whether a name is a use case's. Malformed names are refused without asking the registry."""
        if not USE_CASE.fullmatch(name):
            return False
        use_cases = self.use_cases()
        if not use_cases:
            raise NoModelError
        return name in use_cases

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
        except (NoModelError, NoDefaultUseCaseError):  # no thread may answer with the model that was meant before
            self._resolved.pop(name, None)
            raise
        finally:
            self._lock.release()

    def _newest_usable(self, name: str) -> tuple[Artifact, UnavailableError | None]:
        """The model that answers to a name, and why the first choice does not when it is another one."""
        use_case = self.default_use_case() if name in ALIASES else name
        refused: UnavailableError | None = None
        for model_id in self._candidates(use_case, latest=name == "latest"):
            try:
                return self._kept(model_id) or self._load(model_id), refused
            except UnavailableError as error:
                reason = error
            except UnknownModelError:  # a champion whose folder was removed, or a model that was just deleted
                reason = BrokenArtifactError(model_id, "it no longer exists")
            self._report(reason)
            refused = refused or reason
        raise refused or NoModelError(use_case)

    def _kept(self, model_id: str) -> Artifact | None:
        """A model that answers to a name already, however many use cases there are."""
        artifacts = (resolved.artifact for resolved in list(self._resolved.values()))
        return next((artifact for artifact in artifacts if artifact.model_id == model_id), None)

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


def _warm_up(artifact: Artifact) -> None:
    try:
        make_prediction(artifact, [artifact.declared.example])
    except Exception as error:
        raise BrokenArtifactError(artifact.model_id, "it cannot answer its own example") from error
