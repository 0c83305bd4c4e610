"""Resolver: finds the model that a name means, and keeps it loaded."""

import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from tabserve.errors import (
    BrokenArtifactError,
    NoApprovedModelError,
    NoDefaultUseCaseError,
    NoModelError,
    StoreAwayError,
    TabserveError,
    UnapprovedModelError,
    UnavailableError,
    UnknownModelError,
    UnknownUseCaseError,
    in_short,
)
from tabserve.log import traced
from tabserve.predict import make_prediction
from tabserve.registry.artifact import Artifact, Split
from tabserve.registry.histories import NOT_APPROVED
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
LATE_AFTER = 10.0  # seconds after which a registry that has not answered counts as away


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
    missing : tuple of str
        Use cases that are to be served, by their names, though the registry holds no model of them.
    """

    models: dict[str, str] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    registry: str = "ok"
    missing: tuple[str, ...] = ()

    @property
    def problem(self) -> str | None:
        """Why the service is not ready, as a sentence; None when it is.

        One that can answer something is ready, unless its deployment is incomplete.
        """
        if self.missing:
            return f"Not ready: the registry holds no model of {in_short(self.missing)}."
        if self.models:
            return None
        names = in_short([*self.unavailable])
        return f"Not ready: no usable model for {names}." if names else f"Not ready. {NoModelError()}"

    def of(self, use_cases: Collection[str]) -> "Readiness | None":
        """The part about these use cases; None when it says nothing about one of them."""
        if not all(name in self.models or name in self.unavailable for name in use_cases):
            return None
        models, unavailable, refused = (
            {name: found[name] for name in use_cases if name in found}
            for found in (self.models, self.unavailable, self.refused)
        )
        missing = tuple(name for name in use_cases if name in self.missing)
        return replace(self, models=models, unavailable=unavailable, refused=refused, missing=missing)


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
    compiled_trees : Path, optional
        Where machine code of models' trees is kept: see `Model.speed_up`.
    approved_only : bool
        Whether only models answer that are, or were, champions, as they were when they were promoted.

    Attributes
    ----------
    failures : Counter of str
        How often each model was refused when it was to be loaded.
    """

    def __init__(
        self,
        registry: Registry,
        default_use_case: str | None = None,
        compiled_trees: Path | None = None,
        *,
        approved_only: bool = False,
    ) -> None:
        self.registry = registry
        self._approved_only = approved_only
        self.failures: Counter[str] = Counter()
        self._compiled_trees = compiled_trees
        self._default = default_use_case
        self._held: _Held | None = None
        self._resolved: dict[str, _Resolved] = {}
        self._by_id = _Models()
        self._refused: dict[str, _Refusal] = {}
        self._reported: set[str] = set()
        self._lock = threading.Lock()
        self._known: Readiness | None = None
        self._began: float | None = None  # the `refresh` that has not ended yet

    def use_cases(self) -> list[str]:
        """The use cases that are served: those in the registry, in alphabetical order, the default one first.

        Those that were named to be served, and a default one that was named, are among them even without a model.
        """
        held = list(self.registry.served) or self._in_registry()
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
        if self._hangs and (artifact := self.loaded(name)):
            return artifact
        if resolved or name in ALIASES or self._is_use_case(name):
            return self._ask_registry(name, resolved)
        return self._by_model_id(name)

    def loaded(self, name: str) -> Artifact | None:
        """The model that a name means, as far as it is known without asking the registry.

        It never blocks, so an event loop may call it. A `Refresher` keeps it true.

        Parameters
        ----------
        name : str
            Any text, perhaps from a URL.

        Returns
        -------
        Artifact or None
            None when the name was never resolved, or means no model any more.
        """
        resolved = self._resolved.get(name)
        return resolved.artifact if resolved else self._by_id.get(name)

    def held(self) -> list[Artifact]:
        """The models that are loaded; it never blocks."""
        of_names = [resolved.artifact for resolved in list(self._resolved.values())]
        return list({one.model_id: one for one in (*of_names, *self._by_id.artifacts())}.values())

    def known_readiness(self, use_cases: Collection[str] = ()) -> Readiness | None:
        """What the last `refresh` found, about these use cases or about all.

        It never blocks. None before the first `refresh`, and when one of the use cases is unknown.
        """
        known = self._known
        if known and self._hangs:
            known = replace(known, registry="away")
        return known.of(use_cases) if known and use_cases else known

    def refresh(self) -> None:
        """Resolve all names again that were resolved before, and all use cases, and keep their readiness.

        Raises
        ------
        UnavailableError
            When the registry was never reached.
        """
        self._began = time.monotonic()
        try:
            for name in list(self._resolved):
                with suppress(TabserveError):
                    self.resolve(name)
            for model_id in self._by_id.names():
                with suppress(TabserveError):
                    self._check_exists(model_id)
                    self._check_approved(model_id)
            self._known = self.readiness()
        finally:
            self._began = None

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
        missing = tuple(filter(self._is_missing, readiness.unavailable))
        return replace(readiness, registry="away" if self.registry.away else "ok", missing=missing)

    def _is_missing(self, use_case: str) -> bool:
        """Whether the registry has no model of a use case that is to be served by its name."""
        with suppress(UnavailableError):  # a registry that was never reached may have one
            return use_case in self.registry.served and not self.registry.list(use_case)
        return False

    @property
    def _hangs(self) -> bool:
        """Whether the registry has not answered a `refresh` for so long that nobody else should wait for it."""
        began = self._began
        return began is not None and time.monotonic() > began + LATE_AFTER

    def _in_registry(self) -> list[str]:
        """The use cases in the registry; while it cannot be reached, those that it held before."""
        held, now = self._held, time.monotonic()
        if held is None or (now >= held.expires and not self._hangs):
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
                artifact, refused = self._divided(name, artifact, before, refused)
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

    def _check_exists(self, model_id: str) -> None:
        try:
            self.registry.check_exists(model_id)
        except UnknownModelError:
            self._by_id.forget(model_id)
            raise

    def _by_model_id(self, model_id: str) -> Artifact:
        self._check_exists(model_id)
        artifact = self._by_id.get(model_id)
        if artifact is None:
            self._check_approved(model_id)  # before anything of it is unpickled
            artifact = self._answering(model_id) or self._load(model_id)
            self._by_id.keep(artifact)
        return artifact

    def _check_approved(self, model_id: str) -> None:
        if self._approved_only and model_id not in self._approved(model_id):
            self._by_id.forget(model_id)  # its history was refused, and began again without it
            raise UnapprovedModelError(model_id)

    def _approved(self, model_id: str) -> Mapping[str, str]:
        """The approved models of a model's use case, with their digests."""
        return self.registry.histories.of(model_id.partition("-")[0]).state.approved

    def _newest_usable(self, name: str) -> tuple[Artifact, UnavailableError | None]:
        """The model that answers to a name, and why the first choice does not when it is another one."""
        use_case = self.default_use_case() if name in ALIASES else name
        refused: UnavailableError | None = None
        for model_id in self._candidates(use_case, latest=name == "latest"):
            try:
                return self._answering(model_id) or self._load(model_id), refused
            except UnavailableError as error:
                reason = error
            except UnknownModelError:  # a champion whose folder was removed, or a model that was just deleted
                reason = BrokenArtifactError(model_id, "it no longer exists")
            self._report(reason)
            refused = refused or reason
        raise refused or NoModelError(use_case)

    def _answering(self, model_id: str) -> Artifact | None:
        """A model that answers to a name already, however many use cases there are."""
        for resolved in list(self._resolved.values()):
            artifact, split = resolved.artifact, resolved.artifact.split
            if artifact.model_id == model_id:
                return replace(artifact, split=None) if split else artifact
            if split and split.challenger.model_id == model_id:
                return split.challenger
        return None

    def _divided(
        self, name: str, artifact: Artifact, before: _Resolved | None, refused: UnavailableError | None
    ) -> tuple[Artifact, UnavailableError | None]:
        """The model that answers to a name, with the challenger that a share of the records is split off for."""
        split = None if name == "latest" else self.registry.histories.of(artifact.manifest.use_case).state.split
        if split is None or artifact.model_id not in split.shares:
            return artifact, refused
        share = split.shares[split.model_id]
        known = before.artifact if before and before.artifact.digest == artifact.digest else None
        if known and known.split and (known.split.challenger.model_id, known.split.share) == (split.model_id, share):
            return known, refused
        try:
            challenger = self._answering(split.model_id) or self._load(split.model_id)
        except UnknownModelError:
            return artifact, BrokenArtifactError(split.model_id, "it no longer exists")
        except UnavailableError as error:
            return artifact, error
        return replace(artifact, split=Split(challenger, share)), refused

    def _candidates(self, use_case: str, *, latest: bool) -> Sequence[str]:
        """The model_ids that may answer, best first. Nothing stands in for a champion, because a person chose it."""
        try:
            history = self.registry.histories.of(use_case)
            if history.waits:  # the newest model must not answer because somebody damaged a history
                raise BrokenArtifactError(
                    f"The champion of {use_case}", "its history begins again, and another person must approve it"
                )
        except UnavailableError as error:
            self._report(error)
            raise
        state = history.state
        if state.champion and not latest:
            return [state.champion]
        model_ids = self.registry.list(use_case)
        if not self._approved_only or not model_ids:
            return model_ids
        approved = [model_id for model_id in model_ids if latest and model_id in state.approved]
        if not approved:
            raise NoApprovedModelError(use_case)
        return approved

    def _report(self, error: UnavailableError) -> None:
        if str(error) not in self._reported:  # the same error comes every second
            self._reported.add(str(error))
            logger.error("%s", error)

    def _load(self, model_id: str) -> Artifact:
        version = self.registry.version(model_id)  # before anything is read: a later change must be noticed
        refusal = self._refused.get(model_id)
        if refusal and refusal.version == version and time.monotonic() < refusal.expires:
            raise BrokenArtifactError(model_id, refusal.reason)
        try:
            artifact = self.registry.load(model_id)
            if self._approved_only and self._approved(model_id).get(model_id) not in ("", artifact.digest):
                raise BrokenArtifactError(model_id, NOT_APPROVED)
            _warm_up(artifact, self._compiled_trees)
        except BrokenArtifactError as error:
            self.failures[model_id] += 1
            self._refused[model_id] = _Refusal(error.reason, version, time.monotonic() + REFUSED_FOR)
            raise
        self._refused.pop(model_id, None)
        logger.info("loaded %s", model_id)
        return artifact


class _Models:
    """The models that were requested by model_id; of more than KEPT_MODELS, the one used longest ago is given up."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, Artifact] = OrderedDict()

    def get(self, model_id: str) -> Artifact | None:
        artifact = self._models.get(model_id)
        if artifact is not None:
            try:  # noqa: SIM105 - `suppress` takes longer than all the rest
                self._models.move_to_end(model_id)
            except KeyError:  # another thread has just given it up
                pass
        return artifact

    def keep(self, artifact: Artifact) -> None:
        self._models[artifact.model_id] = artifact
        while len(self._models) > KEPT_MODELS:
            self._models.popitem(last=False)

    def forget(self, model_id: str) -> None:
        self._models.pop(model_id, None)

    def names(self) -> list[str]:
        return list(self._models)

    def artifacts(self) -> list[Artifact]:
        return list(self._models.values())


def _warm_up(artifact: Artifact, compiled_trees: Path | None) -> None:
    try:
        artifact.speed_up(compiled_trees)
        make_prediction(artifact, [artifact.declared.example])
    except Exception as error:
        raise BrokenArtifactError(artifact.model_id, "it cannot answer its own example") from error


class Refresher(threading.Thread):
    """A thread that refreshes a resolver every second, so that `loaded` and `known_readiness` stay true.

    It ends with the process. Start it after the fork.

    Parameters
    ----------
    resolver : Resolver
        What is refreshed.
    """

    def __init__(self, resolver: Resolver) -> None:
        super().__init__(name="refresher", daemon=True)
        self._resolver = resolver
        self._looked, self._stopped = threading.Event(), threading.Event()

    def run(self) -> None:
        """Refresh until the thread is stopped; whatever goes wrong, the next refresh may go well."""
        reported = ""
        while not self._stopped.is_set():
            try:
                self._resolver.refresh()
            except UnavailableError:  # the store has logged it
                pass
            except Exception as error:
                if reported != (reported := traced(error)):  # it may come every second
                    logger.error("unexpected %s", reported)
            self._looked.set()
            self._stopped.wait(RECHECK_AFTER)

    def wait_for_first_look(self, seconds: float) -> bool:
        """Wait until everything was refreshed once, and return whether it was."""
        return self._looked.wait(seconds)

    def stop(self) -> None:
        """End the thread after the refresh that it is in."""
        self._stopped.set()
