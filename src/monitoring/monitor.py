"""Monitoring: what a model meets and decides, beside what it was trained on and what came of it."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tabserve.columns.features import Category
from tabserve.decisions.store import DecisionStore
from tabserve.declaration.plain import from_plain
from tabserve.errors import InvalidUseCaseError
from tabserve.evaluation.distribution import Distribution, Tallies
from tabserve.evaluation.drift import DRIFT, SIGNIFICANCE, Drift, compare
from tabserve.evaluation.fairness import GroupBy
from tabserve.evaluation.gates import Gate
from tabserve.evaluation.metrics import Metrics
from tabserve.monitoring.arms import Arm, compare_arms
from tabserve.monitoring.quality import UNCERTAIN, LiveVerdict, Quality, estimated, joined, realised, unjudged
from tabserve.monitoring.tally import Month, Sample, Tally, tally
from tabserve.registry.artifact import Artifact
from tabserve.registry.manifest import FAILED

WHOLE = "all"  # the window of all months together
QUALITY, WARNING = "quality", "warning"  # what is found, beside drift
FEWEST_OF_A_MONTH = 200  # rows of training in a calendar month, from which on it is compared with that month
SCORE_NAME, DECISION_NAME = "prediction", "decision"  # what they are called beside the columns


@dataclass(frozen=True)
class Compared:
    """A column, the predictions or the decisions in a window, beside those of the training part.

    Parameters
    ----------
    name : str
    bins : tuple of str
        What the shares are of; the last is of missing values.
    training, live : tuple of float
        The share of rows in each bin.
    drift : Drift
    other : float or None
        The share of values that were treated as the declared `other`.
    months : tuple of str
        The calendar months of training that are compared with; empty for all.
    """

    name: str
    bins: tuple[str, ...]
    training: tuple[float, ...]
    live: tuple[float, ...]
    drift: Drift
    other: float | None = None
    months: tuple[str, ...] = ()


@dataclass(frozen=True)
class Window:
    """A month, or all months together.

    Parameters
    ----------
    name : str
        Such as `2026-03`, or `WHOLE`.
    rows : int
        Decisions.
    coverage : float
        The share of them whose outcome is known.
    columns, scores : tuple of Compared
    decisions : Compared or None
    refused : mapping of int
        Records that were refused, by field and kind of fault.
    quality : Quality or None
    unjudged : str
        Why there is no quality, such as outcomes that are not known yet; else empty.
    estimated : mapping of float
        Metrics that are expected of calibrated predictions; empty where these are not.
    """

    name: str
    rows: int
    coverage: float
    columns: tuple[Compared, ...]
    scores: tuple[Compared, ...]
    decisions: Compared | None
    refused: Mapping[str, int]
    quality: Quality | None
    unjudged: str
    estimated: Metrics

    @property
    def compared(self) -> tuple[Compared, ...]:
        """Columns, predictions and decisions."""
        return (*self.columns, *self.scores, *([self.decisions] if self.decisions else []))


@dataclass(frozen=True)
class Finding:
    """What a person should look at.

    Parameters
    ----------
    kind : str
        `drift`, `quality` or, where too few rows are there to say whether a gate holds, `warning`.
    window : str
    subject : str
        A column, a metric or a gate.
    sentence : str
    """

    kind: str
    window: str
    subject: str
    sentence: str


@dataclass(frozen=True)
class Monitored:
    """What was found in the decision log.

    Parameters
    ----------
    use_case, model_id : str
    time : float
        When, in seconds since 1970.
    since, until : float or None
    windows : tuple of Window
        The months in their order, and last all of them.
    findings : tuple of Finding
    others : int
        Decisions by other models, which are left out.
    arms : tuple of Arm
        Of all splits in that time, whichever model decided; empty where there are fewer than two.
    """

    use_case: str
    model_id: str
    time: float
    since: float | None
    until: float | None
    windows: tuple[Window, ...]
    findings: tuple[Finding, ...] = ()
    others: int = 0
    arms: tuple[Arm, ...] = ()

    @property
    def whole(self) -> Window:
        """All months together."""
        return self.windows[-1]

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is undefined or infinite is None."""
        plain: dict[str, Any] = _finite(asdict(self))
        return plain


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def monitor(
    store: DecisionStore, artifact: Artifact, since: float | None = None, until: float | None = None
) -> Monitored:
    """Compare what the log holds of a model's decisions with its training, and with the outcomes.

    Parameters
    ----------
    store : DecisionStore
        The decision log.
    artifact : Artifact
        The model.
    since, until : float, optional
        Seconds since 1970; `until` itself is not included.

    Returns
    -------
    Monitored

    Raises
    ------
    DecisionLogAwayError
        When the database cannot be used.
    """
    groups, gates = _declared(artifact)
    counted = tally(store, artifact, groups, since, until)
    windows = tuple(_windows(artifact, groups, gates, counted))
    found = (*(finding for window in windows for finding in _findings(window)), *_warnings(windows))
    use_case = artifact.manifest.use_case
    arms = compare_arms(artifact, counted.arms)
    return Monitored(use_case, artifact.model_id, time.time(), since, until, windows, found, counted.others, arms)


def _declared(artifact: Artifact) -> tuple[tuple[GroupBy, ...], tuple[Gate, ...]]:
    """The groups and gates that were declared when the model was trained; none where code declared what data cannot."""
    try:
        use_case = from_plain(artifact.manifest.declaration, artifact.manifest.use_case)
    except InvalidUseCaseError:
        return (), ()
    return use_case.groups, use_case.gates


def _windows(
    artifact: Artifact, groups: tuple[GroupBy, ...], gates: tuple[Gate, ...], counted: Tally
) -> Iterator[Window]:
    months = {name: counted.months[name] for name in sorted(counted.months)}
    significance = SIGNIFICANCE / _comparisons(artifact, len(months) + 1)
    sample = joined(month.sample for month in months.values())
    quality = realised(artifact, groups, gates, sample)
    calibration = quality.calibration if quality else None
    for name, month in months.items():
        of_month = realised(artifact, groups, gates, month.sample)
        expected = estimated(artifact, month.sample, calibration)
        yield _window(artifact, name, month, {name: month.rows}, significance, month.sample, of_month, expected)
    expected = estimated(artifact, sample, calibration)
    rows = {name: month.rows for name, month in months.items()}
    yield _window(artifact, WHOLE, _summed([*months.values()]), rows, significance, sample, quality, expected)


def _comparisons(artifact: Artifact, windows: int) -> int:
    bins = artifact.manifest.distributions
    return max(1, windows * (len(bins.columns) + len(bins.scores) + bool(bins.decisions)))


def _summed(months: Sequence[Month]) -> Month:
    """All months together, without their samples."""
    decisions = [month.decisions for month in months if month.decisions is not None]
    return Month(
        sum(month.rows for month in months),
        sum(month.known for month in months),
        _added(month.columns for month in months),
        _added(month.scores for month in months),
        np.sum(decisions, axis=0) if decisions else None,
        _added(month.others for month in months),
        _added(month.refused for month in months),
    )


def _added(counts: Any) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for some in counts:
        for name, count in some.items():
            total[name] = total[name] + count if name in total else count
    return total


def _window(
    artifact: Artifact,
    name: str,
    month: Month,
    months: Mapping[str, int],
    significance: float,
    sample: Sample,
    quality: Quality | None,
    expected: Metrics,
) -> Window:
    bins = artifact.manifest.distributions
    others = {feature.name for feature in artifact.features if isinstance(feature, Category) and feature.other}

    def compared(column: str, one: Distribution, live: Tallies | None, shown: str) -> Compared:
        other = month.others.get(column, 0) / max(month.rows, 1) if column in others and shown == column else None
        return _compared(
            shown, one, np.zeros(len(one.tallies), int) if live is None else live, months, significance, other
        )

    return Window(
        name,
        month.rows,
        month.known / max(month.rows, 1),
        tuple(compared(column, one, month.columns.get(column), column) for column, one in bins.columns.items()),
        tuple(
            compared(score, one, month.scores.get(score), _score(score, bins.scores))
            for score, one in bins.scores.items()
        ),
        compared("", bins.decisions, month.decisions, DECISION_NAME) if bins.decisions else None,
        month.refused,
        quality,
        "" if quality else _unjudged(artifact, sample),
        expected,
    )


def _unjudged(artifact: Artifact, sample: Sample) -> str:
    if not sample.rows:
        return "Nothing was decided."
    _, y, decided, _ = sample.arrays
    return unjudged(artifact.task, y, decided)


def _score(name: str, scores: Mapping[str, Any]) -> str:
    return SCORE_NAME if len(scores) == 1 else f"{SCORE_NAME} of {name}"


def _compared(
    name: str, bins: Distribution, live: Tallies, months: Mapping[str, int], significance: float, other: float | None
) -> Compared:
    training, season = _season(bins, months)
    return Compared(
        name,
        bins.bins,
        _shares(training),
        _shares(live),
        compare(training, live, significance),
        other,
        season,
    )


def _season(bins: Distribution, months: Mapping[str, int]) -> tuple[Tallies, tuple[str, ...]]:
    """The rows of training that are compared with: those of the same calendar months, where they are enough.

    Of several months, as many of each as there are live rows: a few days of summer beside a winter are no summer.
    """
    live: dict[str, int] = {}
    for name, rows in months.items():
        if rows:
            live[name[-2:]] = live.get(name[-2:], 0) + rows
    known = {month: np.array(bins.months[month]) for month in sorted(live) if month in bins.months}
    if not live or len(known) < len(live) or min(int(some.sum()) for some in known.values()) < FEWEST_OF_A_MONTH:
        return bins.tallies, ()
    weights = {month: live[month] / int(some.sum()) for month, some in known.items()}
    most = max(weights.values())
    taken = [np.rint(some * (weights[month] / most)).astype(np.int64) for month, some in known.items()]
    return np.sum(taken, axis=0), tuple(known)


def _shares(counts: Tallies) -> tuple[float, ...]:
    return tuple((counts / max(int(counts.sum()), 1)).tolist())


def _findings(window: Window) -> Iterator[Finding]:
    for one in window.compared:
        if one.drift.verdict == DRIFT:
            sentence = f"{one.name} is not distributed as in training: PSI {one.drift.psi:.2f}, {_most_moved(one)}."
            yield Finding(DRIFT, window.name, one.name, sentence)
    if quality := window.quality:
        for gate in quality.gates:
            if gate.verdict == FAILED:
                sentence = f"The declared gate fails on what happened: {gate.gate}."
                yield Finding(QUALITY, window.name, gate.gate, sentence)
        if quality.worse:
            low, high = quality.intervals[quality.worse]
            value = quality.metrics[quality.worse]
            sentence = f"{quality.worse} is {value:.3f} ({low:.3f} to {high:.3f}), and was better on the hold-out."
            yield Finding(QUALITY, window.name, quality.worse, sentence)


def _warnings(windows: Sequence[Window]) -> Iterator[Finding]:
    """What cannot be told of the gates, in the widest or else the newest window that is judged."""
    judged = next((window for window in reversed(windows) if window.quality), None)
    if judged and judged.quality:
        for gate in judged.quality.gates:
            if gate.verdict == UNCERTAIN:
                yield Finding(WARNING, judged.name, gate.gate, _what_is_missing(gate))


def _what_is_missing(gate: LiveVerdict) -> str:
    told = f"It cannot be told whether the declared gate holds: {gate.gate}"
    if gate.low is not None:
        told += f", between {gate.low:.3f} and {gate.high:.3f} with the limit {gate.bound:g}"
    return f"{told}." if gate.missing is None else f"{told}; about {gate.missing:,} more decisions would tell."


def _most_moved(one: Compared) -> str:
    """The bin whose share changed most, in words."""
    place = int(np.argmax(np.abs(np.subtract(one.live, one.training))))
    return f"{one.bins[place]} was {100 * one.training[place]:.0f} % and is {100 * one.live[place]:.0f} %"
