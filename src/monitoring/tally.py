"""Tallies of the decision log: what is counted of each month, in one pass and in little memory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tabserve.aliases import Mask, Predictions, Record, Vector
from tabserve.columns.features import Category
from tabserve.decisions.entry import REFUSED
from tabserve.decisions.reading import Logged, Wanted, found, logged
from tabserve.decisions.store import DecisionStore
from tabserve.errors import InvalidTargetError
from tabserve.evaluation.distribution import SCORE, Distributions, Tallies
from tabserve.evaluation.fairness import GroupBy
from tabserve.registry.artifact import Artifact

MOST_JUDGED = 50_000  # decisions of a month that metrics rest on, drawn at random where there are more


@dataclass
class Sample:
    """Decisions drawn at random, of which there are never more than twice `MOST_JUDGED` in memory.

    Attributes
    ----------
    share : float
        With what chance a decision is in it.
    rows : int
    parts : list of tuple of ndarray
        As they were added.
    """

    share: float = 1.0
    rows: int = 0
    parts: list[tuple[Any, ...]] = field(default_factory=list)
    _generator: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def drawn(self, n_rows: int) -> Mask:
        """Which of some more rows are to be kept."""
        drawn: Mask = self._generator.random(n_rows) < self.share
        return drawn

    def add(self, scores: Predictions, y: Vector, decided: Vector, beside: Any) -> None:
        """Keep rows; when they become too many, every second one of all.

        Parameters
        ----------
        scores : ndarray, shape (n_rows,) or (n_rows, n_classes)
            The predictions.
        y, decided : ndarray, shape (n_rows,)
            The outcomes as numbers, NaN where they are not known, and the decisions' codes.
        beside : ndarray of n_rows
            What else is to be known of each: its groups, or when it was decided.
        """
        self.parts.append((scores, y, decided, beside))
        self.rows += len(y)
        if self.rows > MOST_JUDGED:
            self.share /= 2
            mask = self._generator.random(self.rows) < 0.5
            self.parts = [tuple(column[mask] for column in self.arrays)]
            self.rows = int(mask.sum())

    @property
    def arrays(self) -> tuple[Any, ...]:
        """Scores, outcomes, decisions and what is beside them, of all rows."""
        return tuple(np.concatenate(column) for column in zip(*self.parts, strict=True))


@dataclass
class Month:
    """What was counted of a month.

    Attributes
    ----------
    rows, known : int
        Decisions, and those whose outcome is known.
    columns, scores : dict of ndarray
        Tallies in the bins of the training part.
    decisions : ndarray or None
    others : dict of int
        Values that were treated as the declared `other`, by column.
    refused : dict of int
        Records that were refused, by field and kind of fault.
    """

    rows: int = 0
    known: int = 0
    columns: dict[str, Tallies] = field(default_factory=dict)
    scores: dict[str, Tallies] = field(default_factory=dict)
    decisions: Tallies | None = None
    others: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    sample: Sample = field(default_factory=Sample)


@dataclass
class ArmTally:
    """What was counted of an arm of a split.

    Attributes
    ----------
    rows : int
        Decisions about the records that fell into it.
    elsewhere : int
        Those of them that another model answered, because the arm's refused the record.
    sample : Sample
        With the time of each.
    """

    rows: int = 0
    elsewhere: int = 0
    sample: Sample = field(default_factory=Sample)


@dataclass
class Tally:
    """What was counted of the log, by month such as `2026-03`.

    Attributes
    ----------
    months : dict of Month
    others : int
        Decisions by other models, which are not counted there.
    arms : dict of ArmTally
        By model_id, whichever model decided; empty where no record fell into an arm.
    """

    months: dict[str, Month] = field(default_factory=dict)
    others: int = 0
    arms: dict[str, ArmTally] = field(default_factory=dict)

    def month(self, name: str) -> Month:
        """The month of that name."""
        return self.months.setdefault(name, Month())


def tally(
    store: DecisionStore,
    artifact: Artifact,
    groups: Sequence[GroupBy],
    since: float | None = None,
    until: float | None = None,
) -> Tally:
    """Count what a model decided.

    Parameters
    ----------
    store : DecisionStore
        The decision log.
    artifact : Artifact
        The model; its manifest has the bins.
    groups : sequence of GroupBy
        By which people are compared.
    since, until : float, optional
        Seconds since 1970.

    Returns
    -------
    Tally

    Raises
    ------
    DecisionLogAwayError
        When the database cannot be used.
    """
    counted, counter = Tally(), _Counter(artifact, groups)
    use_case = artifact.manifest.use_case
    for batch in logged(store, use_case, since, until, with_outcomes=True):
        own = np.array([model_id == artifact.model_id for model_id in batch.model_ids])
        counted.others += int(np.sum(~own))
        months = batch.times.astype("M8[s]").astype("M8[M]").astype(str)
        for name in np.unique(months[own]).tolist():
            counter.count(batch, np.flatnonzero(own & (months == name)), counted.month(name))
        for arm in {*batch.arms} - {""}:
            rows = np.flatnonzero(np.array([one == arm for one in batch.arms]))
            counter.count_arm(batch, rows, arm, counted.arms.setdefault(arm, ArmTally()))
    for name, faults in _refused(store, use_case, since, until):
        refused = counted.month(name).refused
        for fault, times in faults.items():
            refused[fault] = refused.get(fault, 0) + times
    return counted


def _refused(
    store: DecisionStore, use_case: str, since: float | None, until: float | None
) -> Iterator[tuple[str, Mapping[str, int]]]:
    for kept in found(store, Wanted(use_case=use_case, since=since, until=until, kind=REFUSED)):
        yield str(np.datetime64(int(kept.entry.time), "s").astype("M8[M]")), kept.entry.faults


class _Counter:
    """Counts batches of what a model decided.

    Parameters
    ----------
    artifact : Artifact
    groups : sequence of GroupBy
    """

    def __init__(self, artifact: Artifact, groups: Sequence[GroupBy]) -> None:
        self.artifact = artifact
        self.groups = groups
        self.bins: Distributions = artifact.manifest.distributions
        self.places = {column.name: place for place, column in enumerate(artifact.declared.columns)}
        self.others = {
            feature.name: feature.labels.index(feature.other)
            for feature in artifact.features
            if isinstance(feature, Category) and feature.other
        }

    def count(self, batch: Logged, rows: Any, month: Month) -> None:
        """Count some rows of a batch."""
        records = [batch.records[row] for row in rows]
        matrix, _ = self.artifact.encoder.encode(records)
        for name, bins in self.bins.columns.items():
            _add(month.columns, name, bins.count(matrix[:, self.places[name]]))
        for name, code in self.others.items():
            month.others[name] = month.others.get(name, 0) + int(np.sum(matrix[:, self.places[name]] == code))
        scores = self._scores([batch.scores[row] for row in rows])
        for name, bins in self.bins.scores.items():
            _add(month.scores, name, bins.count(scores if name == SCORE else scores[:, self._class(name)]))
        decided = self._codes([batch.decisions[row] for row in rows])
        if self.bins.decisions:
            counts = self.bins.decisions.count(decided)
            month.decisions = counts if month.decisions is None else month.decisions + counts
        outcomes = [batch.outcomes[row] for row in rows]
        month.rows += len(rows)
        month.known += sum(outcome is not None for outcome in outcomes)
        drawn = np.flatnonzero(month.sample.drawn(len(rows)))
        y = self.artifact.target.transform_known([outcomes[row] for row in drawn])
        month.sample.add(scores[drawn], y, decided[drawn], self._groups([records[row] for row in drawn]))

    def count_arm(self, batch: Logged, rows: Any, name: str, arm: ArmTally) -> None:
        """Count some rows of a batch that fell into an arm, whichever model answered.

        Decisions of another kind, such as those of a model with other classes, cannot be compared and are left out.
        """
        drawn = rows[arm.sample.drawn(len(rows))]
        try:
            scores = self._scores([batch.scores[row] for row in drawn])
            decided = self._codes([batch.decisions[row] for row in drawn])
            y = self.artifact.target.transform_known([batch.outcomes[row] for row in drawn])
        except (KeyError, TypeError, ValueError, InvalidTargetError):
            return
        arm.rows += len(rows)
        arm.elsewhere += sum(batch.model_ids[row] != name for row in rows)
        arm.sample.add(scores, y, decided, batch.times[drawn])

    def _scores(self, scores: Sequence[Any]) -> Predictions:
        """The predictions as the model gave them: of several classes a column for each."""
        if SCORE in self.bins.scores:
            return np.array(scores, np.float64)
        return np.array([[score[name] for name in self.artifact.task.outcomes] for score in scores])

    def _class(self, name: str) -> int:
        return self.artifact.task.outcomes.index(name)

    def _codes(self, decisions: Sequence[Any]) -> Vector:
        """The decisions' codes: a label's place, and what is a code already."""
        codes = {name: code for code, name in enumerate(self.artifact.task.outcomes)}
        return np.array([codes.get(decision, decision) for decision in decisions], np.float64)

    def _groups(self, records: Sequence[Record]) -> Any:
        """The group of each record, a column for each grouping; shape (n_records, n_groupings)."""
        if not self.groups or not records:
            return np.empty((len(records), len(self.groups)), object)
        import pandas as pd

        table = pd.DataFrame({by.feature: [record.get(by.feature) for record in records] for by in self.groups})
        return np.array([by.labels(table) for by in self.groups], object).T


def _add(tallies: dict[str, Tallies], name: str, counts: Tallies) -> None:
    tallies[name] = tallies[name] + counts if name in tallies else counts
