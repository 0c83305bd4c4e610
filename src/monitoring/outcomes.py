"""Outcomes: what really happened to what was decided about, joined to the decision log."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from tempfile import SpooledTemporaryFile
from typing import Any, NamedTuple

import sqlalchemy as sql

from tabserve.columns.features import Encoder, Feature
from tabserve.decisions.entry import DECISION, TABLE
from tabserve.decisions.plain import dumped, loaded
from tabserve.decisions.reading import IN_MEMORY, MOST_IDS, copy_table, split_id
from tabserve.decisions.schema import decisions, keys, outcomes
from tabserve.decisions.store import DecisionStore, key_of
from tabserve.decisions.tables import decided_in

MOST_PROBLEMS = 20  # that an answer lists


class Given(NamedTuple):
    """A reported outcome.

    Attributes
    ----------
    id : str or int
        Of the decision, or the record's value in the id column.
    outcome : object
        What really happened, as the target column holds it.
    """

    id: Any
    outcome: Any


@dataclass
class Counts:
    """What became of reported outcomes.

    Attributes
    ----------
    recorded, repeated, contradicting, corrected : int
        Decisions: whose outcome is known now; was known, and is the same; is another one, which was kept; was another
        one, which was replaced.
    unknown, invalid : int
        Reports: about no decision in the log, or with an outcome that the model's target cannot be.
    problems : dict of str
        What is wrong with the first invalid reports, by their numbers.
    """

    recorded: int = 0
    repeated: int = 0
    contradicting: int = 0
    corrected: int = 0
    unknown: int = 0
    invalid: int = 0
    problems: dict[int, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The counts, and the problems by place, if there are any."""
        plain = asdict(self)
        problems = plain.pop("problems")
        errors = {str(number): [text] for number, text in problems.items()}
        return {**plain, "errors": errors} if errors else plain


class _Decision(NamedTuple):
    """A record that was decided about."""

    id: str
    row: int
    model_id: str


class _Known(NamedTuple):
    """An outcome in the log."""

    outcome: Any
    reports: int
    contradicted: int


class Outcomes:
    """Records outcomes in a decision log.

    The first outcome of a decision counts, however late it comes. The same one again changes nothing; another one is
    counted as a contradiction, and replaces the first one only as a correction.

    Parameters
    ----------
    store : DecisionStore
    target_of : callable
        From a model_id to the model's target column, by whose rules an outcome is valid.
    """

    def __init__(self, store: DecisionStore, target_of: Callable[[str], Feature]) -> None:
        self._store = store
        self._target_of = target_of
        self._targets: dict[str, tuple[Feature, Encoder]] = {}

    def record(
        self,
        given: Sequence[Given],
        *,
        use_case: str = "",
        column: str = "",
        client: str = "",
        correct: bool = False,
        numbers: Sequence[int] | None = None,
    ) -> Counts:
        """Record outcomes; those of a batch together or not at all.

        Parameters
        ----------
        given : sequence of Given
        use_case, column : str
            The id column whose values the reports hold, and its use case; an outcome is that of every decision about a
            record with the value. By default they hold the ids of decisions.
        client : str
            Who reports.
        correct : bool
            Whether other outcomes than those that are known replace them.
        numbers : sequence of int, optional
            What the reports are called in `Counts.problems`; by default their places.

        Returns
        -------
        Counts

        Raises
        ------
        DecisionLogAwayError
            When the database cannot be used.
        """
        counts = Counts()
        called = range(len(given)) if numbers is None else numbers
        for start in range(0, len(given), MOST_IDS):
            some = given[start : start + MOST_IDS]
            with self._store.database.writing() as connection:
                self._store.database.lock(connection)  # of two reports at once, the second sees the first
                about = _by_key(connection, some, use_case, column) if column else _by_id(connection, some)
                self._record(connection, some, about, called[start : start + MOST_IDS], client, correct, counts)
        return counts

    def _record(
        self,
        connection: sql.Connection,
        given: Sequence[Given],
        about: Sequence[Sequence[_Decision]],
        numbers: Sequence[int],
        client: str,
        correct: bool,
        counts: Counts,
    ) -> None:
        before = _known(connection, [*{one.id for some in about for one in some}])
        known = dict(before)
        for number, report, meant in zip(numbers, given, about, strict=True):
            counts.unknown += not meant
            problem = next(filter(None, (self._problem(one, report.outcome) for one in meant)), None)
            if problem:
                counts.invalid += 1
                if len(counts.problems) < MOST_PROBLEMS:
                    counts.problems[number] = problem
                continue
            for one in meant:
                known[one.id, one.row] = self._merged(
                    one, known.get((one.id, one.row)), report.outcome, correct, counts
                )
        _write(connection, before, known, client)

    def _problem(self, decision: _Decision, outcome: Any) -> str | None:
        if outcome is None:
            return "The outcome is missing."
        return self._target(decision)[0].problem(outcome)

    def _target(self, decision: _Decision) -> tuple[Feature, Encoder]:
        if decision.model_id not in self._targets:
            feature = self._target_of(decision.model_id)
            self._targets[decision.model_id] = feature, feature.encoder()
        return self._targets[decision.model_id]

    def _merged(
        self, decision: _Decision, before: _Known | None, outcome: Any, correct: bool, counts: Counts
    ) -> _Known:
        if before is None:
            counts.recorded += 1
            return _Known(outcome, 1, 0)
        _, encode = self._target(decision)
        if before.outcome == outcome or encode(before.outcome) == encode(outcome):
            counts.repeated += 1
            return before._replace(reports=before.reports + 1)
        counts.corrected += correct
        counts.contradicting += not correct
        kept = outcome if correct else before.outcome
        return _Known(kept, before.reports + 1, before.contradicted + 1)


def _by_id(connection: sql.Connection, given: Sequence[Given]) -> list[list[_Decision]]:
    """What each report is about, by the ids of decisions."""
    ids = [split_id(report.id) if isinstance(report.id, str) else ("", None) for report in given]
    c = decisions.c
    of_rows = {id_ for id_, row in ids if row is not None}
    query = sql.select(c.id, c.kind, c.model_id, c.erased).where(c.id.in_({id_ for id_, _ in ids}))
    models: dict[tuple[str, int | None], str] = {}
    for id_, kind, model_id, erased in connection.execute(query).all():
        if kind == DECISION and erased is None:
            models[id_, None] = model_id
        elif kind == TABLE and id_ in of_rows:
            models |= dict.fromkeys(((id_, row) for row in _rows(connection, id_)), model_id)
    return [[_Decision(id_, row or 0, models[id_, row])] if (id_, row) in models else [] for id_, row in ids]


def _rows(connection: sql.Connection, id_: str) -> Sequence[int]:
    """The rows of a table that were decided, and not erased."""
    with SpooledTemporaryFile(IN_MEMORY) as file:
        return decided_in(file) if copy_table(connection, id_, file) else ()


def _by_key(connection: sql.Connection, given: Sequence[Given], use_case: str, column: str) -> list[list[_Decision]]:
    """What each report is about, by the values of an id column."""
    values = [key_of(report.id) if isinstance(report.id, str | int | float) else None for report in given]
    query = sql.select(keys.c.value, keys.c.decision, keys.c.row, decisions.c.model_id)
    joined = query.join_from(keys, decisions, decisions.c.id == keys.c.decision)
    is_meant = keys.c.value.in_({value for value in values if value is not None})
    of_column = (keys.c.use_case == use_case, keys.c.column == column, decisions.c.kind.in_((DECISION, TABLE)))
    found: dict[str | None, list[_Decision]] = {}
    for value, *rest in connection.execute(joined.where(*of_column, is_meant)):
        found.setdefault(value, []).append(_Decision(*rest))
    return [found.get(value, []) for value in values]


def _known(connection: sql.Connection, ids: Sequence[str]) -> dict[tuple[str, int], _Known]:
    """The outcomes of decisions that are known, by id and row."""
    c = outcomes.c
    query = sql.select(c.decision, c.row, c.outcome, c.reports, c.contradicted)
    some = (query.where(c.decision.in_(ids[start : start + MOST_IDS])) for start in range(0, len(ids), MOST_IDS))
    return {
        (id_, row): _Known(loaded(outcome), reports, contradicted)
        for one in some
        for id_, row, outcome, reports, contradicted in connection.execute(one)
    }


def _write(
    connection: sql.Connection,
    before: Mapping[tuple[str, int], _Known],
    known: Mapping[tuple[str, int], _Known],
    client: str,
) -> None:
    """Write down what is new and what has changed; the time and the client are those of the outcome that is kept."""
    new, changed = [], []
    for (id_, row), one in known.items():
        values = {**one._asdict(), "outcome": dumped(one.outcome), "time": time.time(), "client": client}
        if (id_, row) not in before:
            new.append({"decision": id_, "row": row, **values})
        elif one != before[id_, row]:
            if one.outcome == before[id_, row].outcome:
                del values["time"], values["client"]
            changed.append(((id_, row), values))
    if new:
        connection.execute(sql.insert(outcomes), new)
    for (id_, row), values in changed:
        is_meant = (outcomes.c.decision == id_, outcomes.c.row == row)
        connection.execute(sql.update(outcomes).where(*is_meant).values(**values))
