"""History: who made which model answer for a use case, when and why; each change is chained to the one before."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from unicodedata import category, normalize

from tabserve.registry.manifest import as_plain, from_plain
from tabserve.registry.model_id import ModelId
from tabserve.registry.signing import Keys

# what a change does
PROMOTE, SPLIT = "promote", "split"  # wait for a second person where two are asked for
APPROVE, WITHDRAW = "approve", "withdraw"
ROLL_BACK, END_SPLIT, DELETE = "rollback", "end split", "delete"  # take effect at once
ACTIONS = (PROMOTE, SPLIT, APPROVE, WITHDRAW, ROLL_BACK, END_SPLIT, DELETE)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of which model answers for a use case, or a step towards one.

    Parameters
    ----------
    use_case : str
    number : int
        Its place in the history, from 1 on.
    action : str
        One of `ACTIONS`.
    model_id : str
        The model that it is about; of a split, the challenger.
    digest : str
        The digest of the model's manifest; empty where nothing new begins to answer.
    report : str
        The SHA-256 of its report.
    verdict : str
        On the model: see `Manifest.verdict`.
    gates : mapping of str
        What came of each gate: passed, failed or accepted.
    shares : mapping of int
        Of a split, how many of 100 records each model answers, the champion first.
    by, reason : str
        Who made the change, and why.
    time : str
        ISO 8601, UTC.
    people : int
        How many people had to stand behind it: 1 or 2.
    champion : str
        Who answered after it, for readers that do not know the rules; empty without one.
    earlier : tuple of str
        Of the first change, the champions before it, newest first: from before there were histories.
    begins : bool
        Whether the changes before it are refused and no longer count.
    previous : str
        SHA-256 of the change before; of one that begins, of all that stands before it.
    """

    use_case: str
    number: int = 0
    action: str
    model_id: str
    digest: str = ""
    report: str = ""
    verdict: str = ""
    gates: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, int] = field(default_factory=dict)
    by: str = ""
    reason: str = ""
    time: str = ""
    people: int = 1
    champion: str = ""
    earlier: tuple[str, ...] = ()
    begins: bool = False
    previous: str = ""

    def content(self) -> bytes:
        """The bytes that its digest and its signature are computed from; no manifest begins like this."""
        return b"history " + json.dumps(as_plain(self)).encode()

    def line(self, keys: Keys) -> bytes:
        """Its line in the file of the history, signed if there is a key."""
        return json.dumps({**as_plain(self), "hmac": keys.sign(self.content())}).encode() + b"\n"


@dataclass(frozen=True)
class State:
    """What follows from the changes of a history.

    Parameters
    ----------
    champion : str or None
        The model that answers.
    before : tuple of str
        The champions before it, newest first, each once.
    approved : mapping of str
        Every model that was ever let answer, with its manifest's digest; empty where nobody wrote it down.
    proposed : Change or None
        What waits for a second person.
    split : Change or None
        How the records are divided now.
    asks_two : bool
        Whether two people stood behind a change already.
    """

    champion: str | None = None
    before: tuple[str, ...] = ()
    approved: Mapping[str, str] = field(default_factory=dict)
    proposed: Change | None = None
    split: Change | None = None
    asks_two: bool = False

    @property
    def answering(self) -> tuple[str, ...]:
        """The models that answer, the champion first."""
        return tuple(self.split.shares) if self.split else (self.champion,) if self.champion else ()

    def rolled_back(self, model_id: str) -> "State":
        """The state after going back to a champion before."""
        place = self.before.index(model_id)
        return replace(self, champion=model_id, before=self.before[place + 1 :], split=None)

    def effective(self, change: Change) -> "State":
        """The state after a promotion or a split took effect."""
        champion = change.model_id
        state = replace(self, proposed=None, approved={**self.approved, champion: change.digest})
        if change.action == SPLIT:
            return replace(state, split=change)
        before = tuple(other for other in (self.champion, *self.before) if other and other != champion)
        return replace(state, champion=champion, before=before, split=None)


@dataclass(frozen=True)
class History:
    """The changes of which model answers for a use case, verified.

    Parameters
    ----------
    use_case : str
    changes : tuple of Change
        Those that count, oldest first.
    people : int
        How many people must stand behind a change: see `asked`.
    earlier : tuple of str
        The champions, newest first, while there is no change.
    """

    use_case: str
    changes: tuple[Change, ...] = ()
    people: int = 1
    earlier: tuple[str, ...] = ()

    @cached_property
    def state(self) -> State:
        """What follows from the changes."""
        state = _state_of(self.changes[0].earlier if self.changes else self.earlier)
        for change in self.changes:
            state = self.after(state, change)
        return state

    @property
    def waits(self) -> bool:
        """Whether it begins again with a promotion that waits for a second person: nobody knows who answers."""
        return bool(self.changes) and self.changes[0].begins and self.state.champion is None

    def goes_on_from(self, earlier: "History") -> bool:
        """Whether it has the changes of an earlier one, or began again after them."""
        if not earlier.changes:
            return True
        last = earlier.changes[-1]
        return last in self.changes or (bool(self.changes) and self.changes[0].number > last.number)

    def asked(self, state: State, change: Change) -> int:
        """How many people a change needs: as many as it says.

        Where two are asked for, and two stood behind a change once, nobody can go back to one.
        """
        return max(change.people, self.people) if state.asks_two else change.people

    def after(self, state: State, change: Change) -> State:
        """The state after a change. One that its rules do not allow changes nothing."""
        if change.action == SPLIT and state.champion not in change.shares:
            return state
        if change.action in (PROMOTE, SPLIT):
            is_proposed = self.asked(state, change) > 1
            return replace(state, proposed=change) if is_proposed else state.effective(change)
        if change.action == APPROVE and not why_not_approved(state, change):
            assert state.proposed
            return replace(state.effective(state.proposed), asks_two=True)
        if change.action == WITHDRAW and state.proposed and change.model_id == state.proposed.model_id:
            return replace(state, proposed=None)
        if change.action == ROLL_BACK and change.model_id in state.before:
            return state.rolled_back(change.model_id)
        if change.action == END_SPLIT:
            return replace(state, split=None)
        if change.action == DELETE and change.model_id == state.champion:
            return replace(state, champion=None, split=None)
        return state


def why_not_approved(state: State, change: Change) -> str | None:
    """Why an approval is none, as a sentence; None when it is one."""
    proposed = state.proposed
    if proposed is None or proposed.model_id != change.model_id:
        return "It is not proposed: promote it, or see `tabserve models history` for what is."
    if proposed.digest != change.digest:
        return "It was trained again since it was proposed: promote it again."
    if proposed.action == SPLIT and state.champion not in proposed.shares:
        return "The champion has changed since it was proposed: propose it again."
    if not _written_alike(proposed.by):
        return "Nobody knows who proposed it: propose it again."
    if not _written_alike(change.by) or same_person(proposed.by, change.by):
        return f"{proposed.by} proposed it: another person must approve it."
    return None


def same_person(one: str, other: str) -> bool:
    """Whether two names are one person's, however they are written."""
    return _written_alike(one) == _written_alike(other)


def _written_alike(name: str) -> str:
    """A name without what may differ: case, spaces, invisible characters, and how accents and wide letters are stored.

    Unicode Standard Annex 15 (NFKC), and section 3.13 of the Unicode Standard for comparing without case.
    """
    alike = normalize("NFKC", normalize("NFKC", name).casefold())
    return " ".join("".join(one for one in alike if category(one) != "Cf").split())


def _state_of(champions: Sequence[str]) -> State:
    if not champions:
        return State()
    return State(champions[0], tuple(champions[1:]), dict.fromkeys(champions, ""))


def read_changes(content: bytes, use_case: str, keys: Keys) -> tuple[Change, ...]:
    """Read and verify the changes in the file of a history.

    Parameters
    ----------
    content : bytes
        Of the file.
    use_case : str
        Whose history it must be.
    keys : Keys
        What must have signed it.

    Returns
    -------
    tuple of Change
        From the last one that begins a history on.

    Raises
    ------
    ValueError
        With the reason, when a change was altered, is missing, or is not signed.
    """
    lines = content.split(b"\n")
    if lines.pop():
        raise ValueError("its last change is not whole")
    first = _where_it_begins(lines, use_case, keys)
    changes: list[Change] = []
    expected = hashlib.sha256(b"".join(line + b"\n" for line in lines[:first])).hexdigest() if first else ""
    for place, line in enumerate(lines[first:], first + 1):
        try:
            change = _read_change(line, use_case, keys)
        except ValueError as error:
            raise ValueError(f"change {place} of its history {error}") from None
        if (change.number, change.previous) != (place, expected) or (change.begins and place > first + 1):
            raise ValueError(f"change {place} of its history does not follow the one before")
        expected = digest_of(change)
        changes.append(change)
    if not changes:
        raise ValueError("its history is empty")
    return tuple(changes)


def digest_of(change: Change) -> str:
    """What the next change holds of this one."""
    return hashlib.sha256(change.content()).hexdigest()


def appended(content: bytes, changes: Sequence[Change] | None, change: Change, keys: Keys) -> tuple[bytes, Change]:
    """A history's file with one more change, and the change as it stands there.

    Parameters
    ----------
    content : bytes
        Of the file; empty where there is none.
    changes : sequence of Change or None
        Those in it, from `read_changes`; None when what was there is refused, so that the change begins a history.
    change : Change
        What is added; its number and its link to what is before are filled in.
    keys : Keys
        What signs it.
    """
    if content and not content.endswith(b"\n"):
        content += b"\n"  # of a change that is not whole, and that no longer counts
    previous = digest_of(changes[-1]) if changes else hashlib.sha256(content).hexdigest() if content else ""
    number = content.count(b"\n") + 1
    change = replace(change, number=number, previous=previous, begins=changes is None)
    return content + change.line(keys), change


def signed_again(content: bytes, use_case: str, accepted: Keys, keys: Keys) -> bytes:
    """A history's file, verified by the accepted keys, with signatures by the newest of others.

    What stands before the last beginning stays as it is: its digest is in the chain.
    """
    changes = read_changes(content, use_case, accepted)
    lines = content.split(b"\n")[: changes[0].number - 1]
    return b"".join(line + b"\n" for line in lines) + b"".join(change.line(keys) for change in changes)


def is_signed(content: bytes) -> bool:
    """Whether the last change in a history's file has a signature."""
    try:
        return bool(json.loads(content.rstrip(b"\n").rpartition(b"\n")[2])["hmac"])
    except (ValueError, KeyError, TypeError):
        return False


def _where_it_begins(lines: Sequence[bytes], use_case: str, keys: Keys) -> int:
    """The place of the last change after which the changes before no longer count; 0 where all count."""
    for place in range(len(lines) - 1, 0, -1):
        if b'"begins": true' not in lines[place]:
            continue
        try:
            if _read_change(lines[place], use_case, keys).begins:
                return place
        except ValueError:
            pass
    return 0


def _read_change(line: bytes, use_case: str, keys: Keys) -> Change:
    try:
        plain = json.loads(line)
        signature = plain.pop("hmac")
        change: Change = from_plain(Change, plain)
        is_as_written = line == json.dumps({**as_plain(change), "hmac": signature}).encode()
        named = [ModelId.parse(name) for name in (change.model_id, *change.shares, *change.earlier)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ValueError("cannot be read") from None
    if not is_as_written or change.action not in ACTIONS or not all(named):
        raise ValueError("cannot be read")
    if not keys.accept(signature, change.content()):
        raise ValueError("is not signed with this service's key")
    if {change.use_case, *(name.use_case for name in named if name)} != {use_case}:
        raise ValueError("is another use case's")
    return change
