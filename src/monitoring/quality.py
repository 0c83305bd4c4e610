"""Quality: how good decisions turned out to be and, before that is known, how good they are expected to be."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from tabserve.evaluation.bootstrap import bootstrap_intervals
from tabserve.evaluation.calibration import Calibration
from tabserve.evaluation.fairness import GroupBy, GroupComparison, compare_groups, smallest_ratios
from tabserve.evaluation.gates import (
    LESS_IS_BETTER,
    Evidence,
    Gate,
    LargestGap,
    LargestMetric,
    SmallestGroupRatio,
    SmallestMetric,
    Verdict,
    judge,
)
from tabserve.evaluation.metrics import HOLD_OUT, Metrics
from tabserve.monitoring.tally import MOST_JUDGED, Sample
from tabserve.registry.artifact import Artifact

COVERED = 0.8  # share of a window's decisions whose outcomes must be known: those that come first are not typical
FEWEST_JUDGED = 100  # outcomes that metrics rest on
CALIBRATED = 0.05  # calibration error beyond chance up to which probabilities are taken for calibrated
SAMPLES = 200
OF_LIVE = (SmallestMetric, LargestMetric, LargestGap, SmallestGroupRatio)  # gates on what a model does to new rows


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
    gates : tuple of Verdict
        The declared gates on what a model does to new rows, by these metrics.
    failed : tuple of str
        Those that fail even at the better end of the interval, so that it is more than chance.
    worse : str
        The headline metric's name where all of its interval is worse than that of the hold-out; else empty.
    """

    rows: int
    metrics: Metrics
    intervals: Mapping[str, tuple[float, float]]
    calibration: Calibration | None
    groups: Mapping[str, GroupComparison] = field(default_factory=dict)
    gates: tuple[Verdict, ...] = ()
    failed: tuple[str, ...] = ()
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
        None when the outcomes are too few, or all the same.
    """
    task, decision, manifest = artifact.task, artifact.decision, artifact.manifest
    scores, y, decided, of_groups = sample.arrays
    known = ~np.isnan(y)
    scores, y, decided, of_groups = scores[known], y[known], decided[known], of_groups[known]
    if len(y) < FEWEST_JUDGED or not task.can_be_judged_by(y):
        return None
    measure = task.measure(y, scores, decision)
    metrics = measure(None)
    intervals = bootstrap_intervals(measure, len(y), manifest.seed, SAMPLES)
    compared = {
        by.feature: compare_groups(y, scores, decided, of_groups[:, place].tolist())
        for place, by in enumerate(groups)
        if task.compares_groups
    }
    live = tuple(gate for gate in gates if isinstance(gate, OF_LIVE))
    at_best = {name: low if name in LESS_IS_BETTER else high for name, (low, high) in intervals.items()}
    failed = [verdict.gate for verdict in _judged(artifact, live, at_best, compared) if not verdict.passed]
    return Quality(
        len(y),
        metrics,
        intervals,
        task.calibration(y, scores),
        {name: comparison.publishable() for name, comparison in compared.items()},
        _judged(artifact, live, metrics, compared),
        tuple(name for name in failed if not _is_of_few(name, compared)),
        _worse(artifact, intervals),
    )


def _judged(
    artifact: Artifact, gates: tuple[Gate, ...], metrics: Metrics, groups: Mapping[str, GroupComparison]
) -> tuple[Verdict, ...]:
    manifest = artifact.manifest
    evidence = Evidence(
        {**manifest.metrics, HOLD_OUT: metrics},
        manifest.comparison[manifest.baseline],
        group_ratios=smallest_ratios(groups),
    )
    return judge(tuple(gate for gate in gates if not gate.of_groups or gate.name in groups), evidence)


def _is_of_few(gate: str, groups: Mapping[str, GroupComparison]) -> bool:
    """Whether a gate is on groups of which one is small: its ratio is mostly chance."""
    sizes = {name: [one["rows"] or 0 for one in comparison.values.values()] for name, comparison in groups.items()}
    return any(gate.endswith(f"by {name}") and min(rows) < FEWEST_JUDGED for name, rows in sizes.items())


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
        for kept, part in zip((whole.scores, whole.y, whole.decided, whole.groups), sample.arrays, strict=True):
            kept.append(part[rows])
        whole.rows += int(rows.sum())
    return whole
