"""Challenge: what a candidate would have decided about the records in the decision log."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tabserve.aliases import Predictions, Record, Vector
from tabserve.columns.features import Feature, Number
from tabserve.decisions.reading import Logged, logged
from tabserve.decisions.store import DecisionStore
from tabserve.errors import BrokenArtifactError, NotExplainableError, NothingLoggedError
from tabserve.evaluation.bootstrap import bootstrap_difference
from tabserve.evaluation.fairness import FEWEST, GroupBy, compare_groups
from tabserve.evaluation.gates import LESS_IS_BETTER
from tabserve.evaluation.metrics import Measure, Scorer
from tabserve.explain import explain
from tabserve.predict import make_prediction
from tabserve.registry.artifact import Artifact
from tabserve.tasks.decision import AsLogged, Decision

COST = "expected_cost"
EXPLAINED = 500  # records, evenly over the time, whose reasons are compared: an explanation takes many predictions
SHOWN_COLUMNS, MOST_VALUES = 3, 20  # columns that tell best whose decision flips; values of one that are told apart
QUARTERS = (0.25, 0.5, 0.75)
SEED = 42  # of the bootstrap: the same log gives the same intervals


@dataclass(frozen=True)
class Flips:
    """How many decisions about some records would have been others.

    Parameters
    ----------
    rows : int
        How many records there are.
    kinds : mapping of int
        How many of each kind, such as `0 → 1`.
    """

    rows: int
    kinds: Mapping[str, int]

    @property
    def share(self) -> float:
        """The share of decisions that would have been others."""
        return sum(self.kinds.values()) / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Difference:
    """A metric of what was decided, and of the candidate, on the same records with outcomes.

    Parameters
    ----------
    was, would_be : float
    better : tuple of float
        How much better the candidate is, with the ends of a paired 95 % interval.
    """

    was: float
    would_be: float
    better: tuple[float, float, float]


@dataclass(frozen=True)
class Challenge:
    """What a candidate would have decided.

    Parameters
    ----------
    model_id, use_case : str
        The candidate.
    decided_by : mapping of int
        How many records each model decided.
    first, last : float
        When, in seconds since 1970.
    compared, refused : int
        How many records the candidate predicted and how many it would have refused.
    left_out : tuple of str
        Columns of records that the candidate does not know. They are left out here; a service would refuse them.
    flips : Flips or None
        None where a number is predicted.
    moved : tuple of float or None
        The median and the 95 % quantile of the difference of two predictions.
    groups : mapping of mapping of Flips
        By declared grouping and group; groups of few records are left out.
    columns : mapping of mapping of Flips
        The same by the columns that tell best whose decision flips.
    ratios : mapping of (float, float)
        By grouping, the smallest share of favourable decisions divided by the largest: as decided, and the candidate's.
    outcomes : int
        How many records have an outcome.
    metrics : mapping of Difference
        The headline metric and, where costs are declared, the mean cost of a record; empty without enough outcomes.
    reasons : mapping of int
        How many of the explained records have another first reason, by what it was and would be; `explained` has all.
    explained : int
        Of how many records the reasons were compared; 0 where a model cannot be explained.
    """

    model_id: str
    use_case: str
    decided_by: Mapping[str, int]
    first: float
    last: float
    compared: int
    refused: int
    left_out: tuple[str, ...] = ()
    flips: Flips | None = None
    moved: tuple[float, float] | None = None
    groups: Mapping[str, Mapping[str, Flips]] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, Flips]] = field(default_factory=dict)
    ratios: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    outcomes: int = 0
    metrics: Mapping[str, Difference] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    explained: int = 0


def challenge(
    store: DecisionStore,
    candidate: Artifact,
    champion: Artifact | None,
    since: float | None = None,
    until: float | None = None,
) -> Challenge:
    """Let a candidate predict the logged records of its use case.

    Parameters
    ----------
    store : DecisionStore
        The decision log.
    candidate : Artifact
    champion : Artifact or None
        Whose reasons the candidate's are compared with; None leaves this out.
    since, until : float, optional
        Seconds since 1970.

    Returns
    -------
    Challenge

    Raises
    ------
    NothingLoggedError
        When there is no such record, or the candidate refuses all.
    BrokenArtifactError
        When the candidate predicts something else.
    DecisionLogAwayError
        When the log cannot be read.
    """
    replay = _Replay(candidate)
    use_case = candidate.manifest.use_case
    for batch in logged(store, use_case, since, until, with_outcomes=True):
        replay.add(batch)
    return replay.result(champion)


class _Replay:
    """The batches of a log, predicted by a candidate, without the records."""

    def __init__(self, candidate: Artifact) -> None:
        self._candidate, self._task = candidate, candidate.task
        self._groupings = _groupings(candidate)
        self._cuts: dict[str, Sequence[float]] = {}
        self._times: list[float] = []
        self._decided_by: Counter[str] = Counter()
        self._left_out: set[str] = set()
        self._refused = 0
        self._was: list[Predictions] = []
        self._would_be: list[Predictions] = []
        self._decided: list[Vector] = []
        self._y: list[Vector] = []
        self._groups: dict[str, list[str]] = {by.feature: [] for by in self._groupings}
        self._bins: dict[str, list[str]] = defaultdict(list)
        self._sample: list[Record] = []
        self._step = 1  # of so many records one is in the sample

    def add(self, batch: Logged) -> None:
        """Predict a batch."""
        records = [*map(self._known, batch.records)]
        prediction = make_prediction(self._candidate, records, partial=True)
        good = [*prediction.good]
        self._refused += len(records) - len(good)
        if not good:
            return
        taken = [records[place] for place in good]
        self._times += [batch.times[good[0]], batch.times[good[-1]]]
        self._decided_by.update(batch.model_ids[place] for place in good)
        self._was.append(self._scores(batch, good))
        self._would_be.append(prediction.predictions)
        if self._decides:
            self._decided.append(np.array([self._code(batch.decisions[place]) for place in good]))
        self._y.append(self._candidate.target.transform_known([batch.outcomes[place] for place in good]))
        self._group(taken)
        self._keep_some(taken)

    @property
    def _decides(self) -> bool:
        return bool(self._task.outcomes)

    def _known(self, record: Record) -> Record:
        """A record without the columns that the candidate does not know."""
        declared = self._candidate.declared
        known = {one.name for one in (*declared.features, *declared.extras)}
        others = record.keys() - known - {self._candidate.target.feature.name}
        self._left_out |= others
        return {name: value for name, value in record.items() if name in known} if others else record

    def _scores(self, batch: Logged, good: Sequence[int]) -> Predictions:
        """The logged predictions, in the order of the candidate's classes."""
        labels = self._task.outcomes
        if len(labels) > 2:
            by_label = [batch.scores[place] for place in good]
            if not all(isinstance(score, Mapping) and set(score) == set(labels) for score in by_label):
                raise self._predicts_otherwise()
            return np.array([[score[label] for label in labels] for score in by_label])
        if not isinstance(batch.scores, np.ndarray):
            raise self._predicts_otherwise()
        scores: Vector = batch.scores[good]
        if not (self._decides or np.allclose(scores, [batch.decisions[place] for place in good])):
            raise self._predicts_otherwise()  # where a number is predicted, it is the decision, too
        return scores

    def _code(self, decision: Any) -> float:
        """The class of a logged decision: its code, or the place of its label."""
        outcomes = self._task.outcomes
        code = outcomes.index(decision) if decision in outcomes else decision
        if code not in range(len(outcomes)):
            raise self._predicts_otherwise()
        return float(code)

    def _predicts_otherwise(self) -> BrokenArtifactError:
        return BrokenArtifactError(self._candidate.model_id, "it predicts something else than the log holds")

    def _group(self, records: Sequence[Record]) -> None:
        """Note in which group and which bin of each column the records are."""
        import pandas as pd

        for by in self._groupings:
            self._groups[by.feature] += by.labels(pd.DataFrame({by.feature: [one.get(by.feature) for one in records]}))
        if not self._decides:
            return
        for feature in self._candidate.features:
            values = [record.get(feature.name) for record in records]
            self._bins[feature.name] += self._binned(feature, values)

    def _binned(self, feature: Feature, values: Sequence[Any]) -> Iterable[str]:
        if not isinstance(feature, Number):
            return ["not given" if value is None else str(value) for value in values]
        numbers = np.array([_as_number(value) for value in values])
        known = numbers[~np.isnan(numbers)]
        cuts = self._cuts.setdefault(feature.name, sorted({*np.quantile(known, QUARTERS)}) if len(known) else [])
        names = [f"up to {cut:g}" for cut in cuts] + [f"above {cuts[-1]:g}" if len(cuts) else "given", "not given"]
        places = np.where(np.isnan(numbers), len(cuts) + 1, np.searchsorted(cuts, numbers))
        return [names[place] for place in places.tolist()]

    def _keep_some(self, records: Sequence[Record]) -> None:
        self._sample += records[:: self._step]
        while len(self._sample) > EXPLAINED:
            self._sample = self._sample[::2]
            self._step *= 2

    def result(self, champion: Artifact | None) -> Challenge:
        """What was found."""
        if not self._was:
            raise NothingLoggedError(self._candidate.manifest.use_case, self._refused)
        was, would_be = np.concatenate(self._was), np.concatenate(self._would_be)
        y = np.concatenate(self._y)
        found: dict[str, Any] = {}
        if self._decides:
            decided = np.concatenate(self._decided)
            deciding = self._candidate.decision.decide(would_be)
            kinds = self._kinds(decided, deciding)
            found = {
                "flips": _flips(kinds),
                "groups": {by: _by_label(labels, kinds) for by, labels in self._groups.items()},
                "columns": _telling({name: _by_label(labels, kinds) for name, labels in self._bins.items()}),
                "ratios": self._ratios(decided, deciding),
            }
            past: Decision = AsLogged(decided[~np.isnan(y)])
        else:
            moved = np.abs(would_be - was)
            found = {"moved": (float(np.median(moved)), float(np.quantile(moved, 0.95)))}
            past = self._candidate.decision
        known = ~np.isnan(y)
        reasons, explained = _reasons(champion, self._candidate, self._sample)
        return Challenge(
            model_id=self._candidate.model_id,
            use_case=self._candidate.manifest.use_case,
            decided_by=dict(self._decided_by.most_common()),
            first=float(min(self._times)),
            last=float(max(self._times)),
            compared=len(was),
            refused=self._refused,
            left_out=tuple(sorted(self._left_out)),
            outcomes=int(known.sum()),
            metrics=self._metrics(y[known], was[known], would_be[known], past),
            reasons=reasons,
            explained=explained,
            **found,
        )

    def _kinds(self, decided: Vector, deciding: Vector) -> list[str]:
        """What becomes of each decision; empty where it stays."""
        words = self._task.outcomes
        pairs = zip(decided.astype(int).tolist(), deciding.astype(int).tolist(), strict=True)
        return [f"{words[was]} → {words[will_be]}" if was != will_be else "" for was, will_be in pairs]

    def _ratios(self, decided: Vector, deciding: Vector) -> dict[str, tuple[float | None, float | None]]:
        if not self._task.compares_groups:
            return {}
        return {by: (_ratio(decided, labels), _ratio(deciding, labels)) for by, labels in self._groups.items()}

    def _metrics(self, y: Vector, was: Predictions, would_be: Predictions, past: Decision) -> dict[str, Difference]:
        task = self._task
        if len(y) < FEWEST or not task.can_be_judged_by(y):
            return {}
        before = task.measure(y, was, past)
        after = task.measure(y, would_be, self._candidate.decision)
        names = [name for name in (task.headline, COST) if name in task.metric_names]
        return {name: _difference(name, before, after, len(y)) for name in names}


def _groupings(artifact: Artifact) -> list[GroupBy]:
    """The groupings that were declared, of columns that the model has."""
    names = {feature.name for feature in artifact.features}
    declared: Mapping[str, Sequence[float]] = artifact.manifest.declaration.get("groups", {})
    return [GroupBy(feature=name, cuts=tuple(cuts)) for name, cuts in declared.items() if name in names]


def _as_number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _flips(kinds: Sequence[str]) -> Flips:
    return Flips(len(kinds), dict(Counter(filter(None, kinds)).most_common()))


def _by_label(labels: Sequence[str], kinds: Sequence[str]) -> dict[str, Flips]:
    """The flips by group; groups of few records are left out, and of very many groups the small ones."""
    by_label: dict[str, list[str]] = defaultdict(list)
    for label, kind in zip(labels, kinds, strict=True):
        by_label[label].append(kind)
    largest = sorted(by_label.items(), key=lambda item: -len(item[1]))[:MOST_VALUES]
    return {label: _flips(some) for label, some in sorted(largest) if len(some) >= FEWEST}


def _telling(columns: Mapping[str, Mapping[str, Flips]]) -> dict[str, Mapping[str, Flips]]:
    """The columns whose values differ most in how often a decision flips."""

    def spread(name: str) -> float:
        shares = [flips.share for flips in columns[name].values()]
        return max(shares) - min(shares) if shares else 0.0

    return {name: columns[name] for name in sorted(columns, key=spread, reverse=True)[:SHOWN_COLUMNS] if spread(name)}


def _ratio(decisions: Vector, labels: Sequence[str]) -> float | None:
    """The disparate impact of decisions, among groups of enough records."""
    sizes = Counter(labels)
    enough = np.array([sizes[label] >= FEWEST for label in labels])
    if len({label for label in sizes if sizes[label] >= FEWEST}) < 2:
        return None
    some = [label for label in labels if sizes[label] >= FEWEST]
    nothing = np.zeros(len(some))  # outcomes and probabilities do not matter to it
    return compare_groups(nothing, nothing, decisions[enough], some).disparate_impact


def _difference(name: str, before: Measure, after: Measure, rows: int) -> Difference:
    sign = -1.0 if name in LESS_IS_BETTER else 1.0

    def scorer(measure: Measure) -> Scorer:
        return lambda counts: sign * measure(counts)[name]

    better = bootstrap_difference(scorer(after), scorer(before), rows, SEED)
    return Difference(before(None)[name], after(None)[name], better)


def _reasons(champion: Artifact | None, candidate: Artifact, records: list[Record]) -> tuple[dict[str, int], int]:
    """How often the first reason is another column, and of how many records."""
    if champion is None or not records:
        return {}, 0
    try:
        valid = [records[place] for place in make_prediction(champion, records, partial=True).good]
        if not valid:
            return {}, 0
        pairs = [*zip(_first_reasons(champion, valid), _first_reasons(candidate, valid), strict=True)]
    except NotExplainableError:
        return {}, 0
    changed = Counter(f"{was} → {will_be}" for was, will_be in pairs if was != will_be)
    return dict(changed.most_common()), len(pairs)


def _first_reasons(artifact: Artifact, records: Sequence[Record]) -> Iterator[str]:
    for explanation in explain(artifact, records):
        yield explanation.reasons[0].column if explanation.reasons else "none"
