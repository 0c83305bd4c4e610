"""Quality: a gate fails on what happened when all of its interval is beyond the limit, and else is uncertain."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tabserve.evaluation.fairness import GroupBy
from tabserve.evaluation.gates import BaselineMargin, Gate, SmallestGroupRatio, SmallestMetric
from tabserve.monitoring.monitor import _what_is_missing
from tabserve.monitoring.quality import UNCERTAIN, LiveVerdict, realised, unjudged
from tabserve.monitoring.tally import Sample
from tabserve.registry.artifact import Artifact
from tabserve.registry.manifest import FAILED, PASSED

SEX = (GroupBy(feature="sex"),)
RATIO = SmallestGroupRatio("sex", 0.8)


def sample(favourable: Sequence[tuple[int, int]]) -> Sample:
    """Decisions about groups: how many of how many are favourable, with outcomes that are as the decisions."""
    generator = np.random.default_rng(1)
    decided = np.concatenate([np.repeat([0.0, 1.0], [hits, rows - hits]) for hits, rows in favourable])
    groups = np.repeat([*map(str, range(len(favourable)))], [rows for _, rows in favourable]).astype(object)[:, None]
    scores = np.clip(decided * 0.3 + generator.random(len(decided)) * 0.7, 0, 1)
    drawn = Sample()
    drawn.add(scores, decided.copy(), decided, groups)
    return drawn


def judged(artifact: Artifact, gate: Gate, favourable: Sequence[tuple[int, int]]) -> LiveVerdict:
    quality = realised(artifact, SEX, (gate,), sample(favourable))
    assert quality
    (verdict,) = quality.gates
    return verdict


@pytest.mark.parametrize(
    ("favourable", "verdict"),
    [
        ([(700, 1000), (690, 1000)], PASSED),
        ([(700, 1000), (400, 1000)], FAILED),
        ([(70, 100), (55, 100)], UNCERTAIN),  # 0.79, and so below the limit by chance
        ([(70, 100), (60, 100)], UNCERTAIN),  # 0.86, and so above it by chance
        ([(70, 100), (9, 21)], UNCERTAIN),
        ([(70, 100), (1, 21)], FAILED),
    ],
)
def test_a_gate_on_groups_is_judged_by_its_interval(
    artifact: Artifact, favourable: list[tuple[int, int]], verdict: str
) -> None:
    found = judged(artifact, RATIO, favourable)
    assert found.verdict == verdict
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high
    assert (found.missing is not None) == (verdict == UNCERTAIN)


def test_so_many_more_rows_tell(artifact: Artifact) -> None:
    found = judged(artifact, RATIO, [(70, 100), (50, 100)])
    assert found.verdict == UNCERTAIN
    assert found.missing
    times = 1 + found.missing / 200
    shares = [(round(70 * times), round(100 * times)), (round(50 * times), round(100 * times))]
    more = judged(artifact, RATIO, shares)
    assert more.high == pytest.approx(0.8, abs=0.03)


def test_a_group_of_few_people_is_not_shown(artifact: Artifact) -> None:
    found = judged(artifact, RATIO, [(300, 400), (4, 5)])
    assert (found.value, found.low, found.high, found.verdict) == (None, None, None, UNCERTAIN)
    assert ", between" not in _what_is_missing(found)


@pytest.mark.parametrize("favourable", [[(300, 400)], [(0, 400), (0, 400)]])
def test_what_has_no_ratio_is_not_compared(artifact: Artifact, favourable: list[tuple[int, int]]) -> None:
    drawn = sample(favourable)
    drawn.parts[0][1][:] = np.tile([0.0, 1.0], drawn.rows // 2)
    quality = realised(artifact, SEX, (RATIO,), drawn)
    assert quality
    (found,) = quality.gates
    assert (found.value, found.verdict, found.missing) == (None, UNCERTAIN, None)
    assert ", not compared: " in _what_is_missing(found)


def test_decisions_count_for_the_ratio_though_their_outcome_is_not_known(artifact: Artifact) -> None:
    drawn = sample([(900, 1000), (500, 1000)])
    unknown = np.flatnonzero(drawn.parts[0][2] == 1)[:100]
    drawn.parts[0][1][unknown] = np.nan
    quality = realised(artifact, SEX, (RATIO,), drawn)
    assert quality
    assert quality.rows == 1900
    assert quality.gates[0].value == pytest.approx(5 / 9)


def test_a_gate_on_a_metric_is_judged_by_the_same_words(artifact: Artifact) -> None:
    shares = [(60, 100), (60, 100)]
    assert judged(artifact, SmallestMetric("accuracy", 0.1), shares).verdict == PASSED
    value = judged(artifact, SmallestMetric("roc_auc", 0.1), shares).value
    assert value is not None
    assert judged(artifact, SmallestMetric("roc_auc", value + 0.001), shares).verdict == UNCERTAIN
    assert judged(artifact, SmallestMetric("roc_auc", 1.0), shares).verdict == FAILED


def test_a_gate_at_its_limit_needs_no_number_of_rows(artifact: Artifact) -> None:
    found = judged(artifact, SmallestGroupRatio("sex", 0.5), [(100, 200), (50, 200)])
    assert (found.verdict, found.missing) == (UNCERTAIN, None)


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ({}, ""),
        ({"good": 0.7, "bad": 0.7}, "The outcomes of 70 % of the decisions are known: they are judged from 80 % on."),
        ({"bad": 0.0}, "The outcomes of 0 % of the decisions “bad” are known: the others are not typical of all."),
        ({"rows": 90}, "90 outcomes are known: decisions are judged by 100 or more."),
        ({"same": True}, "All known outcomes are the same: no metric can be told."),
        ({"rows": 0}, "The outcomes of 0 % of the decisions are known: they are judged from 80 % on."),
    ],
)
def test_why_decisions_cannot_be_judged_is_said(artifact: Artifact, outcomes: dict[str, Any], said: str) -> None:
    _, bad = artifact.task.outcomes
    decided = np.repeat([0.0, 1.0], [900, 100])  # nine in ten are accepted
    y = np.tile([0.0, 1.0], 500)
    if outcomes.get("same"):
        y[:] = 0
    for code, label in enumerate(("good", "bad")):
        of_label = np.flatnonzero(decided == code)
        y[of_label[int(len(of_label) * outcomes.get(label, 1.0)) :]] = np.nan
    rows = outcomes.get("rows", 1000)
    assert unjudged(artifact.task, y[-rows:] if rows else y[:0], decided[-rows:] if rows else y[:0]) == said.replace(
        "bad", bad
    )


def test_the_accepted_alone_are_not_taken_for_worse(artifact: Artifact) -> None:
    drawn = sample([(1700, 2000)])
    assert realised(artifact, (), (), drawn)
    drawn.parts[0][1][drawn.parts[0][2] == 1] = np.nan
    assert realised(artifact, (), (), drawn) is None


def test_gates_on_what_live_rows_cannot_tell_are_left_out(artifact: Artifact) -> None:
    quality = realised(artifact, (), (BaselineMargin("roc_auc", 0.1), RATIO), sample([(60, 100), (60, 100)]))
    assert quality
    assert quality.gates == ()
