"""Histories: in a registry's store, who makes which model answer for each use case; each change is decided here."""

import itertools
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol, TypeAlias

from tabserve.errors import (
    BrokenArtifactError,
    BusyHistoryError,
    DivergedHistoryError,
    InvalidSplitError,
    NoEarlierChampionError,
    NotApprovedError,
    ReasonNeededError,
    UnknownModelError,
    UnsignedHistoryError,
)
from tabserve.registry.artifact import Artifact
from tabserve.registry.history import (
    APPROVE,
    DELETE,
    END_SPLIT,
    PROMOTE,
    ROLL_BACK,
    SPLIT,
    WITHDRAW,
    Change,
    History,
    appended,
    is_signed,
    read_changes,
    signed_again,
    why_not_approved,
)
from tabserve.registry.manifest import PASSED, REPORT, Manifest
from tabserve.registry.model_id import ModelId
from tabserve.registry.signing import Keys
from tabserve.registry.stores import CHAMPION_SUFFIX, HISTORY_SUFFIX, Store

logger = logging.getLogger(__name__)

CHANGES_AT_ONCE = 20  # attempts to append to a history while others do, too
NOT_APPROVED = "it is not the one that was approved: promote it again"
UNREADABLE = "its history cannot be read"

Promotions: TypeAlias = list[tuple[str, str]]  # model_ids with their signatures


class Models(Protocol):
    """The models that histories are about; a registry has them."""

    def check_exists(self, model_id: str) -> None:
        """Refuse a name that no artifact has."""

    def manifest_and_digest(self, model_id: str) -> tuple[Manifest, str]:
        """An artifact's manifest and its digest, verified."""

    def load(self, model_id: str) -> Artifact:
        """An artifact, verified."""


class Histories:
    """The histories of a registry, one file for each use case. They are read whole, verified, and only appended to.

    Parameters
    ----------
    store : Store
        Where the files are.
    models : Models
        What is promoted.
    keys : Keys
        What signs changes, and must have signed them.
    people : int
        How many people must stand behind a champion: 1 or 2.
    """

    def __init__(self, store: Store, models: Models, keys: Keys, people: int = 1) -> None:
        self._store, self._models, self._keys, self._people = store, models, keys, people
        self._seen: dict[str, tuple[object, History]] = {}  # by use case, with the version of the file

    # reading

    def champion(self, use_case: str) -> str | None:
        """The model_id of the use case's champion, if it has one.

        Raises
        ------
        BrokenArtifactError
            When its history is refused: no other model may stand in for a champion.
        """
        return self.of(use_case).state.champion

    def of(self, use_case: str) -> History:
        """Who made which model answer for a use case, when and why.

        Raises
        ------
        BrokenArtifactError
            When it cannot be read, a change in it was altered, or one lacks the signature.
        """
        path = _history_file(use_case)
        version = self._store.version(path)
        seen, seen_before = self._seen.get(use_case, (None, None))
        if version is not None and version == seen and seen_before:
            return seen_before
        try:  # a file that was seen and is gone is asked for again: its store may be away
            content = self._store.read(path) if version is not None or seen is not None else None
        except FileNotFoundError:
            content = None
        except OSError:
            raise self._refused_history(use_case, UNREADABLE) from None
        if content is None:
            if self._seen.pop(use_case, None):
                logger.error("the history of %s is gone: nobody promoted who answers now", use_case)
            earlier = self._earlier_champions(use_case)
            return History(use_case, people=self._people, earlier=earlier)
        history = self._history_in(content, use_case)
        if seen_before and not history.goes_on_from(seen_before):
            logger.error("the history of %s lacks changes that it had: an older file was put in its place", use_case)
        self._seen[use_case] = version, history
        return history

    def _history_in(self, content: bytes, use_case: str) -> History:
        try:
            changes = read_changes(content, use_case, self._keys)
        except ValueError as error:
            raise self._refused_history(use_case, str(error)) from None
        return History(use_case, changes, self._people)

    def _refused_history(self, use_case: str, reason: str) -> BrokenArtifactError:
        return BrokenArtifactError(f"The champion of {use_case}", f"{reason}; promote a model again")

    def _earlier_champions(self, use_case: str) -> tuple[str, ...]:
        """The champions in the file from before there were histories, newest first; the first one must be valid."""
        try:
            promotions = self._promotions(use_case)
        except (OSError, ValueError):
            promotions = [("", "")]
        if promotions and (reason := self._why_no_champion(use_case, *promotions[0])):
            raise self._refused_history(use_case, reason)
        return tuple(name for name, signature in promotions if not self._why_no_champion(use_case, name, signature))

    def fault(self, use_case: str) -> str | None:
        """Why a use case's champion cannot answer, as a sentence; None when it can, or when there is none."""
        champion, prefix = None, f"The champion of {use_case} cannot answer: "
        try:
            if champion := self.champion(use_case):
                self._models.load(champion)
        except BrokenArtifactError as error:
            return f"{prefix if champion else ''}{error}"
        except UnknownModelError:
            return f"{prefix}{champion} does not exist; promote a model again."
        return None

    def _promotions(self, use_case: str) -> Promotions:
        """The promotions in a champion's file, the last one first, with their signatures."""
        try:
            lines = self._store.read(_champion_file(use_case)).decode().split("\n")
        except FileNotFoundError:
            return []
        return list(itertools.zip_longest(lines[::2], lines[1::2], fillvalue=""))

    def _why_no_champion(self, use_case: str, model_id: str, signature: str) -> str | None:
        """Why the model in a line of a champion's file may not answer; None if it may."""
        parts = ModelId.parse(model_id)
        if parts is None:
            return "its name cannot be read"
        if parts.use_case != use_case:
            return "it is a model of another use case"
        if not self._keys.accept(signature, _champion_message(model_id)):
            return "it is not signed with this service's key"
        return None

    # changing

    def promote(self, model_id: str, by: str = "", reason: str = "") -> History:
        """Make an artifact the champion of its use case; where two people must stand behind it, propose it.

        Parameters
        ----------
        model_id : str
        by, reason : str
            Who does so, and why.

        Returns
        -------
        History
            With the change. `state.proposed` is that change while it waits for a second person.

        Raises
        ------
        UnknownModelError
            When there is no such artifact.
        ReasonNeededError
            When its gates warn, or the history is refused and so begins again, and no reason is given.
        """
        use_case = _use_case(model_id)
        return self._change(use_case, lambda history: self._begun(PROMOTE, model_id, by, reason), anew=reason)

    def split(self, use_case: str, shares: Mapping[str, int], by: str = "", reason: str = "") -> History:
        """Divide the records of a use case between its champion and a challenger.

        Parameters
        ----------
        use_case : str
        shares : mapping of int
            How many of 100 records each model answers.
        by, reason : str
            Who does so, and why.

        Raises
        ------
        InvalidSplitError
            When the shares do not sum to 100, or the champion has none.
        UnknownModelError
            When there is no such artifact.
        ReasonNeededError
            When the gates of a challenger warn, and no reason is given.
        """

        def begun(history: History) -> Change:
            champion = history.state.champion
            _check_split(champion, shares)
            (challenger,) = (model_id for model_id in shares if model_id != champion)
            ordered = {model_id: shares[model_id] for model_id in (str(champion), challenger)}
            return replace(self._begun(SPLIT, challenger, by, reason), use_case=use_case, shares=ordered)

        return self._change(use_case, begun)

    def approve(self, model_id: str, by: str, reason: str = "") -> History:
        """Approve what another person proposed about a model.

        Raises
        ------
        UnknownModelError
            When there is no such artifact.
        NotApprovedError
            When nothing about it is proposed, the same person proposed it, or it is another model by now.
        """

        def approved(history: History) -> Change:
            change = self._described(APPROVE, model_id, by, reason)
            if why := why_not_approved(history.state, change):
                raise NotApprovedError(why)
            return change

        return self._change(_use_case(model_id), approved)

    def withdraw(self, model_id: str, by: str = "", reason: str = "") -> History:
        """Take back what is proposed about a model.

        Raises
        ------
        NotApprovedError
            When nothing is.
        """

        def withdrawn(history: History) -> Change:
            proposed = history.state.proposed
            if proposed is None or proposed.model_id != model_id:
                raise NotApprovedError("It is not proposed: `tabserve models history` says what is.")
            return Change(use_case=history.use_case, action=WITHDRAW, model_id=model_id, by=by, reason=reason)

        return self._change(_use_case(model_id), withdrawn)

    def rollback(self, use_case: str, by: str = "", reason: str = "") -> str:
        """Make the previous champion of a use case the champion again; deleted models are skipped.

        It needs no second person: who is on call must be able to go back to what was let answer before.

        Returns
        -------
        str
            The new champion's model_id.

        Raises
        ------
        NoEarlierChampionError
            When no earlier champion still exists.
        BrokenArtifactError
            When the earlier champion or the history is refused, or it is not the one that answered before; then nothing
            changes.
        """

        def rolled_back(history: History) -> Change:
            champion = next(filter(self._exists, history.state.before), None)
            if champion is None:
                raise NoEarlierChampionError(use_case)
            digest = self._models.load(champion).digest
            if history.state.approved[champion] not in ("", digest):
                raise BrokenArtifactError(champion, NOT_APPROVED)
            return self._described(ROLL_BACK, champion, by, reason)

        return str(self._change(use_case, rolled_back).state.champion)

    def end_split(self, use_case: str, by: str = "", reason: str = "") -> History:
        """Let the champion answer every record again. It needs no second person, as a rollback does not.

        Raises
        ------
        InvalidSplitError
            When the records are not divided.
        """

        def ended(history: History) -> Change:
            split = history.state.split
            if split is None:
                raise InvalidSplitError(f"The records of {use_case} are not divided.")
            return Change(use_case=use_case, action=END_SPLIT, model_id=split.model_id, by=by, reason=reason)

        return self._change(use_case, ended)

    def check_may_go(self, model_id: str) -> bool:
        """Say whether a model that shall be deleted is its use case's champion, so that the deletion is a change.

        Raises
        ------
        InvalidSplitError
            When it answers a share of the records.
        UnsignedHistoryError
            When it is the champion by a signed history, and there is no key.
        """
        use_case = _use_case(model_id)
        try:
            state = self.of(use_case).state
        except BrokenArtifactError:
            return False
        if state.split and model_id in state.split.shares:
            raise InvalidSplitError(f"{model_id} answers a share of the records: end the split first.")
        if state.champion == model_id:
            self._check_key(use_case, self._content(use_case))
        return state.champion == model_id

    def deleted(self, model_id: str, by: str = "", reason: str = "") -> History:
        """Note that the champion was deleted; its use case has none afterwards."""
        use_case = _use_case(model_id)
        change = Change(use_case=use_case, action=DELETE, model_id=model_id, by=by, reason=reason)
        return self._change(use_case, lambda history: change)

    def _begun(self, action: str, model_id: str, by: str, reason: str) -> Change:
        """A change by which a model begins to answer."""
        change = self._described(action, model_id, by, reason)
        if change.verdict != PASSED and not reason:
            raise ReasonNeededError(f"{model_id} {change.verdict}")
        return replace(change, people=self._people)

    def _described(self, action: str, model_id: str, by: str, reason: str) -> Change:
        """A change, with what is known of its model."""
        manifest, digest = self._models.manifest_and_digest(model_id)
        return Change(
            use_case=manifest.use_case,
            action=action,
            model_id=model_id,
            digest=digest,
            report=manifest.files.get(REPORT, ""),
            verdict=manifest.verdict,
            gates={gate.gate: gate.outcome for gate in manifest.gates},
            by=by,
            reason=reason,
        )

    def _change(self, use_case: str, decide: Callable[[History], Change], anew: str | None = None) -> History:
        """Append a change to a use case's history; decide again when somebody else was faster.

        A history that is refused begins again where there is a reason, `anew`, to; None: never. Nothing is deleted.
        """
        for _ in range(CHANGES_AT_ONCE):
            self._store.refresh()
            if history := self._changed(use_case, decide, anew):
                return history
        raise BusyHistoryError(use_case)

    def _changed(self, use_case: str, decide: Callable[[History], Change], anew: str | None) -> History | None:
        """The history with one more change; None when somebody else was faster."""
        path = _history_file(use_case)
        version = self._store.version(path)
        content = self._content(use_case)
        self._check_key(use_case, content)
        history, refused = self._history_or_none(content if version is not None else None, use_case)
        if refused and not anew:
            raise refused if anew is None else ReasonNeededError(str(refused).rstrip("."))
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        change = replace(decide(history), time=now, earlier=() if history.changes else history.earlier)
        change = replace(change, champion=history.after(history.state, change).champion or "")
        content, change = appended(content, None if refused else history.changes, change, self._keys)
        try:
            self._store.swap(path, content, version)
        except FileExistsError:
            if not self._has(use_case, change):
                return None
        if version is None and self._store.version(_champion_file(use_case)) is not None:
            self._store.delete(_champion_file(use_case))
        return replace(history, changes=(*history.changes, change))

    def _history_or_none(self, content: bytes | None, use_case: str) -> tuple[History, BrokenArtifactError | None]:
        """A history, or an empty one and why it is refused."""
        try:
            return self.of(use_case) if content is None else self._history_in(content, use_case), None
        except BrokenArtifactError as error:
            return History(use_case, people=self._people), error

    def _content(self, use_case: str) -> bytes:
        """What stands in a history's file; nothing without one."""
        try:
            return self._store.read(_history_file(use_case))
        except FileNotFoundError:
            return b""
        except OSError:
            raise self._refused_history(use_case, UNREADABLE) from None

    def _check_key(self, use_case: str, content: bytes) -> None:
        """Refuse to change a signed history without a key."""
        if is_signed(content) and not self._keys:
            raise UnsignedHistoryError(use_case)

    def _exists(self, model_id: str) -> bool:
        with suppress(UnknownModelError):
            self._models.check_exists(model_id)
            return True
        return False

    def _has(self, use_case: str, change: Change) -> bool:
        """Whether a change is in the history though its writing failed: the answer to an earlier attempt was lost."""
        self._store.refresh()
        with suppress(BrokenArtifactError):
            return change in self.of(use_case).changes
        return False

    # to other places and other keys

    def copy(self, use_case: str, to: "Histories") -> None:
        """Copy the use case's history, with its signatures, to another registry, which must have who answers by it.

        Raises
        ------
        UnknownModelError
            When there is no champion, or the other registry has no such artifact.
        BrokenArtifactError
            When the history is refused.
        DivergedHistoryError
            When the other registry has changes that are not here.
        BusyHistoryError
            When somebody changes the history there meanwhile.
        """
        history, path = self.of(use_case), _history_file(use_case)
        for model_id in history.state.answering or ("",):
            to._models.check_exists(model_id)
        version = to._store.version(path)
        there = to.of(use_case).changes if version is not None else ()
        if history.changes[: len(there)] != there:
            raise DivergedHistoryError(use_case, str(history.state.champion))
        if not history.changes:
            to._store.replace(_champion_file(use_case), self._store.read(_champion_file(use_case)))
            return
        to._swap(use_case, self._store.read(path), version)
        if to._store.version(_champion_file(use_case)) is not None:
            to._store.delete(_champion_file(use_case))

    def sign(self, use_case: str, *, vouched: bool = False) -> None:
        """Sign the changes in a use case's history again, with the newest key; their content and their chain stay.

        Raises
        ------
        BrokenArtifactError
            When the history is refused.
        BusyHistoryError
            When somebody changes it meanwhile.
        """
        accepted = Keys(None) if vouched else self._keys
        path = _history_file(use_case)
        version = self._store.version(path)
        if version is None:
            earlier = Histories(self._store, self._models, accepted)._earlier_champions(use_case)
            lines = [line for name in earlier for line in (name, self._keys.sign(_champion_message(name)))]
            if lines:
                self._store.replace(_champion_file(use_case), "\n".join(lines).encode())
            return
        content = self._store.read(path)
        try:
            again = signed_again(content, use_case, accepted, self._keys)
        except ValueError as error:
            raise self._refused_history(use_case, str(error)) from None
        self._swap(use_case, again, version)

    def _swap(self, use_case: str, content: bytes, version: object) -> None:
        """Write a history as it is, unless somebody changes it meanwhile."""
        try:
            self._store.swap(_history_file(use_case), content, version)
        except FileExistsError:
            raise BusyHistoryError(use_case) from None


def _check_split(champion: str | None, shares: Mapping[str, int]) -> None:
    if champion not in shares or len(shares) != 2:
        raise InvalidSplitError(
            f"One of the two shares must be the champion's, {champion}, and one another model's."
            if champion
            else "There is no champion to divide the records with: promote a model first."
        )
    if sum(shares.values()) != 100 or min(shares.values()) < 1:
        raise InvalidSplitError("The shares must be whole numbers above 0 that sum to 100.")


def _use_case(model_id: str) -> str:
    parts = ModelId.parse(model_id)
    if parts is None:
        raise UnknownModelError
    return parts.use_case


def _history_file(use_case: str) -> str:
    return f"{use_case}{HISTORY_SUFFIX}"


def _champion_file(use_case: str) -> str:
    return f"{use_case}{CHAMPION_SUFFIX}"


def _champion_message(model_id: str) -> bytes:
    """The bytes that a champion's signature is computed from; no manifest begins like this."""
    return f"champion {model_id}".encode()
