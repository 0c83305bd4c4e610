"""Arms: the models between which a split divides the records, compared by what they decided and what came of it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import NormalDist

import numpy as np

from tabserve.aliases import Predictions, Vector
from tabserve.evaluation.bootstrap import bootstrap_intervals
from tabserve.evaluation.drift import TOO_FEW
from tabserve.evaluation.fairness import FEWEST
from tabserve.evaluation.intervals import Estimate, deviate, difference, mean, share
from tabserve.monitoring.quality import unjudged
from tabserve.monitoring.tally import ArmTally
from tabserve.registry.artifact import Artifact
from tabserve.tasks.decision import AsLogged

DIFFERENT, ALIKE = "different", "alike"  # verdicts, beside `TOO_FEW`
COST = "expected_cost"
DEVIATIONS = 0.1  # of one decision: from which on a difference of shares or means matters; Cohen (1988) calls 0.2 small
MARGIN = 0.02  # the same of the headline metric: by so much gates let a candidate be worse than the champion
OF_COST = 0.1  # the same of the cost, as a part of it
SAMPLES = 1000


@dataclass(frozen=True)
class Difference:
    """How much larger a figure of an arm is than that of the first.

    Parameters
    ----------
    name : str
        What it is a figure of.
    value, low, high : float
        The difference, with the ends of its interval: those of all differences of a result cover 95 % together.
    matters : float
        The size from which on a difference matters.
    visible : float
        The size below which none can be told from chance with so many decisions: half of the interval.
    power : float
        The chance that a true difference of `matters` is found to be more than chance.
    verdict : str
        `DIFFERENT`: it is more than chance, and matters. `ALIKE`: all of the interval is smaller than what matters
        (Schuirmann 1987). Else `TOO_FEW`.
    """

    name: str
    value: float
    low: float
    high: float
    matters: float
    visible: float
    power: float
    verdict: str


@dataclass(frozen=True)
class Arm:
    """What was decided about the records that fell into an arm.

    Parameters
    ----------
    model_id : str
    rows : int
        Decisions.
    elsewhere : int
        Those of them that another model answered, because the arm's refused the record.
    coverage : float
        The share of them whose outcome is known.
    figures : mapping of Estimate
        The share of each decision, where there are some; the mean prediction, of several classes that of each; and the
        headline metric and the cost of a decision, where they can be judged. Empty for fewer than `FEWEST` decisions.
    unjudged : str
        Why they cannot be judged by their outcomes, in a sentence; else empty.
    beside : int
        Decisions of the first arm in the time from this arm's first decision to its last: it is compared with those.
    differences : tuple of Difference
        To the first arm; empty for that itself, and where one of the two has fewer than `FEWEST` decisions.
    """

    model_id: str
    rows: int
    elsewhere: int
    coverage: float
    figures: Mapping[str, Estimate] = field(default_factory=dict)
    unjudged: str = ""
    beside: int = 0
    differences: tuple[Difference, ...] = ()


def compare_arms(artifact: Artifact, tallies: Mapping[str, ArmTally]) -> tuple[Arm, ...]:
    """Compare the arms of a use case's splits, each with the first.

    Parameters
    ----------
    artifact : Artifact
        The model that is looked at. It is the first where it is an arm; else the one with the most decisions is.
    tallies : mapping of ArmTally
        What was counted of each arm, by model_id.

    Returns
    -------
    tuple of Arm
        The first one first, then by the number of decisions; empty for fewer than two.

    Notes
    -----
    Records fall into arms by chance, so a difference beyond chance is the models' doing. That holds of all records of
    an arm, but not of those that its model answered: which ones a challenger refuses is no chance.
    """
    tallies = {name: counted for name, counted in tallies.items() if counted.sample.rows}
    if len(tallies) < 2:
        return ()
    first, *others = sorted(tallies, key=lambda name: (name != artifact.model_id, -tallies[name].rows, name))
    rows = {name: _Rows(artifact, *counted.sample.arrays) for name, counted in tallies.items()}
    beside = {name: rows[first].between(*rows[name].span) for name in others}
    told = {name: [*rows[name].told(beside[name])] for name in others}
    z = deviate(max(1, sum(map(len, told.values()))))
    arms = [_arm(first, tallies[first], rows[first])]
    for name in others:
        differences = tuple(_difference(figure, rows[name], beside[name], z) for figure in told[name])
        # counted in the sample, which holds that share of all
        at_that_time = round(beside[name].n / tallies[first].sample.share)
        arm = _arm(name, tallies[name], rows[name])
        arms.append(replace(arm, beside=at_that_time, differences=differences))
    return tuple(arms)


def _arm(name: str, counted: ArmTally, rows: "_Rows") -> Arm:
    return Arm(name, counted.rows, counted.elsewhere, rows.coverage, rows.figures, rows.unjudged)


@dataclass(frozen=True)
class _Rows:
    """Decisions of an arm; all arrays have n rows."""

    artifact: Artifact
    scores: Predictions
    y: Vector
    decided: Vector
    times: Vector

    @property
    def n(self) -> int:
        return len(self.times)

    @property
    def span(self) -> tuple[float, float]:
        return float(self.times.min()), float(self.times.max())

    def between(self, first: float, last: float) -> "_Rows":
        """Those of a time; the same when these are all."""
        rows = (self.times >= first) & (self.times <= last)
        if rows.all():
            return self
        return _Rows(self.artifact, self.scores[rows], self.y[rows], self.decided[rows], self.times[rows])

    @property
    def coverage(self) -> float:
        return float(np.mean(~np.isnan(self.y)))

    @property
    def unjudged(self) -> str:
        return unjudged(self.artifact.task, self.y, self.decided)

    @cached_property
    def columns(self) -> dict[str, Vector]:
        """What shares and means are taken of."""
        labels, scores = self.artifact.task.outcomes, self.scores
        shares = {f"share of {label}": self.decided == code for code, label in enumerate(labels)}
        if scores.ndim == 1:
            return {**shares, "mean prediction": scores}
        return {**shares, **{f"mean prediction of {label}": scores[:, code] for code, label in enumerate(labels)}}

    @cached_property
    def figures(self) -> dict[str, Estimate]:
        if self.n < FEWEST:
            return {}
        of_all = {
            name: share(int(column.sum()), self.n) if column.dtype == bool else mean(column)
            for name, column in self.columns.items()
        }
        return {**of_all, **self._metrics()}

    def _metrics(self) -> dict[str, Estimate]:
        task, known = self.artifact.task, ~np.isnan(self.y)
        y = self.y[known]
        if self.unjudged:
            return {}
        measure = task.measure(y, self.scores[known], AsLogged(self.decided[known]))
        intervals = bootstrap_intervals(measure, len(y), self.artifact.manifest.seed, SAMPLES)
        values = measure(None)
        return {
            name: Estimate(values[name], *intervals[name])
            for name in (task.headline, COST)
            if name in values and math.isfinite(values[name])
        }

    def told(self, first: "_Rows") -> Iterator[str]:
        """The figures that both have; of two shares one follows from the other."""
        left_out = f"share of {self.artifact.task.outcomes[0]}" if len(self.artifact.task.outcomes) == 2 else ""
        return (name for name in self.figures if name in first.figures and name != left_out)

    def matters(self, name: str) -> float:
        """From which size on a difference to a figure matters."""
        if name in self.columns:
            return DEVIATIONS * float(np.std(self.columns[name]))
        return OF_COST * abs(self.figures[name].value) if name == COST else MARGIN


def _difference(name: str, arm: _Rows, first: _Rows, z: float) -> Difference:
    found = difference(arm.figures[name], first.figures[name]).widened(z / deviate())
    matters, visible = first.matters(name), (found.high - found.low) / 2
    return Difference(
        name,
        found.value,
        found.low,
        found.high,
        matters,
        visible,
        _power(matters, visible, z),
        _verdict(found, matters),
    )


def _power(size: float, visible: float, z: float) -> float:
    """The chance that the interval of a true difference of that size does not hold 0."""
    if not visible:
        return 1.0
    normal, shift = NormalDist(), z * size / visible
    return normal.cdf(shift - z) + normal.cdf(-shift - z)


def _verdict(found: Estimate, matters: float) -> str:
    if not found.low <= 0 <= found.high and abs(found.value) >= matters:
        return DIFFERENT
    return ALIKE if max(abs(found.low), abs(found.high)) <= matters else TOO_FEW
