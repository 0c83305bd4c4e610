"""Quality: how good decisions turned out to be and, before that is known, how good they are expected to be."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tabserve.aliases import Mask, Vector
from tabserve.evaluation.bootstrap import bootstrap_intervals
from tabserve.evaluation.calibration import Calibration
from tabserve.evaluation.fairness import FEWEST, GroupBy, GroupComparison, compare_groups
from tabserve.evaluation.gates import (
    NOT_COMPARED,
    Evidence,
    Gate,
    LargestGap,
    LargestMetric,
    SmallestGroupRatio,
    SmallestMetric,
    Verdict,
    judge,
)
from tabserve.evaluation.intervals import Estimate, smallest_ratio
from tabserve.evaluation.metrics import HOLD_OUT, Metrics
from tabserve.monitoring.tally import MOST_JUDGED, Sample
from tabserve.registry.artifact import Artifact
from tabserve.registry.manifest import FAILED, PASSED
from tabserve.tasks.base import Task

COVERED = 0.8  # share of a window's decisions whose outcomes must be known: those that come first are not typical
FEWEST_JUDGED = 100  # outcomes that metrics rest on
CALIBRATED = 0.05  # calibration error beyond chance up to which probabilities are taken for calibrated
SAMPLES = 200
OF_LIVE = (SmallestMetric, LargestMetric, LargestGap, SmallestGroupRatio)  # gates on what a model does to new rows
UNCERTAIN = "uncertain"  # beside failed and passed: too few rows to tell which
TOO_SMALL = "fewer than two groups have favourable decisions"


@dataclass(frozen=True)
class LiveVerdict:
    """What a gate found of live rows: a verdict on all that lies in the interval, not on the value alone.

    Parameters
    ----------
    gate : str
        What was demanded, in words.
    value, low, high : float or None
        What the model has, with a 95 % interval. None where it would show a group of few people, or there is none.
    bound : float
        The gate's limit.
    verdict : str
        `FAILED` where the whole interval is beyond the bound, `PASSED` where it keeps to it, else `UNCERTAIN`.
    missing : int or None
        Of an uncertain one, about how many more decisions would tell, if the value stays what it is: an interval
        becomes narrower with the square root of the rows.
    """

    gate: str
    value: float | None
    low: float | None
    high: float | None
    bound: float
    verdict: str
    missing: int | None = None


@dataclass(frozen=True)
class Quality:
    """How good a model's decisions turned out to be.

    Parameters
    ----------
    rows : int
        Decisions that the metrics rest on.
    metrics : mapping of float
    intervals : mapping of (float, float)
        95 % interval of each metric.
    calibration : Calibration or None
    groups : mapping of GroupComparison
        By feature; without small groups.
    gates : tuple of LiveVerdict
        The declared gates on what a model does to new rows, by these metrics.
    worse : str
        The headline metric's name where all of its interval is worse than that of the hold-out; else empty.
    """

    rows: int
    metrics: Metrics
    intervals: Mapping[str, tuple[float, float]]
    calibration: Calibration | None
    groups: Mapping[str, GroupComparison] = field(default_factory=dict)
    gates: tuple[LiveVerdict, ...] = ()
    worse: str = ""


def realised(
    artifact: Artifact, groups: tuple[GroupBy, ...], gates: tuple[Gate, ...], sample: Sample
) -> Quality | None:
    """Judge decisions by their outcomes.

    Parameters
    ----------
    artifact : Artifact
        The model that decided.
    groups : tuple of GroupBy
        By which people are compared.
    gates : tuple of Gate
        The declared ones.
    sample : Sample
        The decisions.

    Returns
    -------
    Quality or None
        None where `unjudged` says why.
    """
    if not sample.rows:
        return None
    task, decision, manifest = artifact.task, artifact.decision, artifact.manifest
    scores, y, decided, of_groups = sample.arrays
    if unjudged(task, y, decided):
        return None
    known = ~np.isnan(y)
    ratios = {
        by.feature: _ratio(decided, of_groups[:, place]) for place, by in enumerate(groups) if task.compares_groups
    }
    scores, y, decided, of_groups = scores[known], y[known], decided[known], of_groups[known]
    measure = task.measure(y, scores, decision)
    metrics = measure(None)
    intervals = bootstrap_intervals(measure, len(y), manifest.seed, SAMPLES)
    compared = {
        by.feature: compare_groups(y, scores, decided, of_groups[:, place].tolist())
        for place, by in enumerate(groups)
        if task.compares_groups
    }
    return Quality(
        len(y),
        metrics,
        intervals,
        task.calibration(y, scores),
        {name: comparison.publishable() for name, comparison in compared.items()},
        tuple(
            _judged(
                artifact,
                gates,
                {name: Estimate(metrics[name], *ends) for name, ends in intervals.items()},
                ratios,
                len(y),
            )
        ),
        _worse(artifact, intervals),
    )


def unjudged(task: Task, y: Vector, decided: Vector) -> str:
    """Why decisions cannot be judged by their outcomes, in a sentence; empty when they can.

    Of each decision the outcomes must be known. Where those of the refused are not, as of loans that were never paid
    out, nothing is known of false alarms, and the AUC of the accepted alone is lower than that of all.

    Parameters
    ----------
    task : Task
    y : ndarray, shape (n_rows,)
        The outcomes; NaN where they are not known.
    decided : ndarray, shape (n_rows,)
        The decisions, as the target is encoded.

    Returns
    -------
    str
    """
    known = ~np.isnan(y)
    if np.sum(known) < COVERED * len(y) or not len(y):
        return f"{_known(known)} of the decisions are known: they are judged from {100 * COVERED:.0f} % on."
    for code, label in enumerate(task.outcomes):
        of_decision = known[decided == code]
        if len(of_decision) >= FEWEST and np.mean(of_decision) < COVERED:
            return f"{_known(of_decision)} of the decisions “{label}” are known: the others are not typical of all."
    if np.sum(known) < FEWEST_JUDGED:
        return f"{np.sum(known)} outcomes are known: decisions are judged by {FEWEST_JUDGED} or more."
    return "" if task.can_be_judged_by(y[known]) else "All known outcomes are the same: no metric can be told."


def _known(known: Mask) -> str:
    return f"The outcomes of {100 * float(np.mean(known)) if len(known) else 0:.0f} %"


@dataclass(frozen=True)
class _Ratio:
    """The smallest share of favourable decisions divided by the largest, among groups of which one may be small."""

    estimate: Estimate
    rows: int
    is_of_few: bool


def _ratio(decided: Vector, groups: Any) -> _Ratio:
    """Of all decisions: those whose outcome is known are not typical of them."""
    _, places = np.unique(groups.astype(str), return_inverse=True)
    sizes, favourable = np.bincount(places), np.bincount(places, decided == 0).astype(np.int64)
    estimate = smallest_ratio([*zip(favourable.tolist(), sizes.tolist(), strict=True)])
    return _Ratio(estimate, len(decided), bool(np.any(sizes < FEWEST)))


def _judged(
    artifact: Artifact,
    gates: tuple[Gate, ...],
    metrics: Mapping[str, Estimate],
    ratios: Mapping[str, _Ratio],
    rows: int,
) -> Iterator[LiveVerdict]:
    for gate in gates:
        if isinstance(gate, OF_LIVE) and (not gate.of_groups or gate.name in ratios):
            ratio = ratios[gate.name] if gate.of_groups else None
            at = [_verdict(artifact, gate, metrics, ratios, end) for end in ("value", "low", "high")]
            found = _live(*at, rows=ratio.rows if ratio else rows)
            yield replace(found, value=None, low=None, high=None) if ratio and ratio.is_of_few else found


def _verdict(
    artifact: Artifact, gate: Gate, metrics: Mapping[str, Estimate], ratios: Mapping[str, _Ratio], end: str
) -> Verdict:
    """What a gate says of the values, or of an end of their intervals."""
    manifest = artifact.manifest
    live = {name: getattr(estimate, end) for name, estimate in metrics.items()}
    evidence = Evidence(
        {**manifest.metrics, HOLD_OUT: live},
        manifest.comparison[manifest.baseline],
        group_ratios={name: getattr(ratio.estimate, end) for name, ratio in ratios.items()},
    )
    (verdict,) = judge((gate,), evidence)
    return verdict


def _live(at_value: Verdict, *at_ends: Verdict, rows: int) -> LiveVerdict:
    low, high = sorted(verdict.value or 0.0 for verdict in at_ends)
    passed = {verdict.passed for verdict in at_ends}
    verdict = UNCERTAIN if len(passed) > 1 else PASSED if passed == {True} else FAILED
    value, bound = at_value.value, at_value.bound
    if value is None or math.isnan(value):
        return LiveVerdict(f"{at_value.gate}{NOT_COMPARED}{TOO_SMALL}", None, None, None, bound, UNCERTAIN)
    missing = _missing(value, low, high, bound, rows) if verdict == UNCERTAIN else None
    return LiveVerdict(at_value.gate, value, low, high, bound, verdict, missing)


def _missing(value: float, low: float, high: float, bound: float, rows: int) -> int | None:
    """How many more rows would bring the end of the interval to the bound, if the value stays; None for any number."""
    to_end, to_bound = (low if bound < value else high) - value, bound - value
    return None if not to_bound else math.ceil(rows * ((to_end / to_bound) ** 2 - 1))


def _worse(artifact: Artifact, intervals: Mapping[str, tuple[float, float]]) -> str:
    headline = artifact.manifest.headline
    before = artifact.manifest.intervals.get(headline)
    return headline if before and intervals[headline][1] < before[0] else ""


def estimated(artifact: Artifact, sample: Sample, calibration: Calibration | None) -> Metrics:
    """The metrics that are expected of all decisions; empty where the model's probabilities are not calibrated.

    Parameters
    ----------
    artifact : Artifact
        The model that decided.
    sample : Sample
        The decisions.
    calibration : Calibration or None
        By the outcomes that are known; without any, that of the predictions out of fold counts.
    """
    calibration = calibration or artifact.manifest.distributions.calibration
    if calibration is None or not calibration.holds(CALIBRATED) or not sample.rows:
        return {}
    return artifact.task.estimated(sample.arrays[0], artifact.decision)


def joined(samples: Iterable[Sample]) -> Sample:
    """The decisions of several windows, each drawn with the same chance."""
    samples = [sample for sample in samples if sample.rows]
    decided = sum(sample.rows / sample.share for sample in samples)
    share = min([MOST_JUDGED / max(decided, 1), *(sample.share for sample in samples)])
    whole, generator = Sample(share), np.random.default_rng(1)
    for sample in samples:
        rows = generator.random(sample.rows) < share / sample.share
        whole.parts.append(tuple(column[rows] for column in sample.arrays))
        whole.rows += int(rows.sum())
    return whole
