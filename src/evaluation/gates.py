"""Gates: what a candidate must reach before it is registered."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from tabserve.columns.kinds import check_kinds
from tabserve.evaluation.metrics import CROSS_VALIDATION, HOLD_OUT, TRAIN, Metrics

NOT_COMPARED = ", not compared: "  # in a gate's words, before the reason
LESS_IS_BETTER = frozenset({"brier", "log_loss", "expected_cost", "rmse", "mae"})  # of all others, more is better


@dataclass(frozen=True)
class Verdict:
    """What a gate found.

    Parameters
    ----------
    gate : str
        What was demanded, in words.
    value : float or None
        What the candidate has; None where nothing could be compared.
    bound : float
        The gate's limit.
    passed : bool
        Whether the value keeps to the bound.
    accepted : str
        The reason for which a person accepted a model that did not pass; empty when nobody did.
    """

    gate: str
    value: float | None
    bound: float
    passed: bool
    accepted: str = ""

    @property
    def outcome(self) -> str:
        """Passed, failed or, where a person accepted a failure, accepted."""
        return "passed" if self.passed else "accepted" if self.accepted else "failed"

    @property
    def not_compared(self) -> bool:
        """Whether the gate had nothing to judge; a value may also be withheld."""
        return NOT_COMPARED in self.gate


@dataclass(frozen=True)
class Evidence:
    """What a candidate is judged by.

    Parameters
    ----------
    metrics, baseline : mapping of str to dict
        Metrics of each part, the candidate's and the baseline's: train, cross_validation, hold_out.
    champion : mapping of float, optional
        Metrics of the model that the candidate would replace, on the hold-out's rows that this model accepts; None when
        there is no such model, or it cannot be compared.
    beside_champion : mapping of float, optional
        The candidate's metrics on the same rows; by default those on the whole hold-out.
    not_compared : str
        Why it cannot be compared with the model that it would replace.
    flattered : str
        Why that model may have been trained on rows that it is judged by here; empty when it was not.
    accept_worse : str
        The reason for which a candidate may be worse than that model.
    group_ratios : mapping of float
        The disparate impact of each grouping.
    """

    metrics: Mapping[str, Metrics]
    baseline: Mapping[str, Metrics]
    champion: Metrics | None = None
    beside_champion: Metrics | None = None
    not_compared: str = ""
    flattered: str = ""
    accept_worse: str = ""
    group_ratios: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Gate(ABC):
    """A demand that a candidate must meet before it is registered.

    Parameters
    ----------
    name : str
        What is judged: a metric or, where the gate says so, a grouping.
    bound : float
        The limit; its meaning is the gate's.

    Attributes
    ----------
    of_groups : bool
        Whether its name is that of a grouping.
    """

    of_groups: ClassVar[bool] = False

    name: str
    bound: float

    def __post_init__(self) -> None:
        check_kinds(self)

    @abstractmethod
    def judge(self, evidence: Evidence) -> Verdict | None:
        """Compare a candidate with the bound; None when there is nothing to compare.

        Parameters
        ----------
        evidence : Evidence

        Returns
        -------
        Verdict or None
        """

    def _at_least(self, gate: str, value: float) -> Verdict:
        return Verdict(gate, value, self.bound, bool(value >= self.bound))

    def _at_most(self, gate: str, value: float) -> Verdict:
        return Verdict(gate, value, self.bound, bool(value <= self.bound))

    @property
    def _worse(self) -> str:
        return "above" if self.name in LESS_IS_BETTER else "below"

    def _how_much_worse(self, metrics: Metrics, others: Metrics) -> float:
        difference = others[self.name] - metrics[self.name]
        return -difference if self.name in LESS_IS_BETTER else difference


class SmallestMetric(Gate):
    """The hold-out metric must reach the bound."""

    def judge(self, evidence: Evidence) -> Verdict:
        return self._at_least(f"smallest hold-out {self.name}", evidence.metrics[HOLD_OUT][self.name])


class LargestMetric(Gate):
    """The hold-out metric, of which less is better, must not exceed the bound."""

    def judge(self, evidence: Evidence) -> Verdict:
        return self._at_most(f"largest hold-out {self.name}", evidence.metrics[HOLD_OUT][self.name])


class LargestGap(Gate):
    """On the hold-out the metric may be worse than on the training part by at most the bound."""

    def judge(self, evidence: Evidence) -> Verdict:
        gap = self._how_much_worse(evidence.metrics[HOLD_OUT], evidence.metrics[TRAIN])
        return self._at_most(f"largest train-to-hold-out gap of {self.name}", gap)


class BaselineMargin(Gate):
    """In cross-validation the metric may be worse than the baseline's by at most the bound.

    Cross-validation and not the hold-out: on a few hundred rows the difference of two models is mostly chance.
    """

    def judge(self, evidence: Evidence) -> Verdict:
        worse = self._how_much_worse(evidence.metrics[CROSS_VALIDATION], evidence.baseline[CROSS_VALIDATION])
        return self._at_most(f"largest {self.name} {self._worse} baseline", worse)


class ChampionMargin(Gate):
    """On the same rows the metric may be worse than that of the model to replace by at most the bound.

    A model that cannot be compared, such as one of another library version, stops nothing: the verdict says that it was
    not compared. It also says when that model may have been trained on these rows.
    """

    def judge(self, evidence: Evidence) -> Verdict | None:
        gate = f"largest {self.name} {self._worse} champion"
        if evidence.not_compared:
            return Verdict(f"{gate}{NOT_COMPARED}{evidence.not_compared}", None, self.bound, passed=True)
        if evidence.champion is None:
            return None
        if evidence.flattered:
            gate += f", which may have seen these rows: {evidence.flattered}"
        own = evidence.beside_champion or evidence.metrics[HOLD_OUT]
        verdict = self._at_most(gate, self._how_much_worse(own, evidence.champion))
        return verdict if verdict.passed else replace(verdict, accepted=evidence.accept_worse)


class SmallestGroupRatio(Gate):
    """The disparate impact of a grouping must reach the bound; it is undefined for fewer than two groups."""

    of_groups = True

    def judge(self, evidence: Evidence) -> Verdict:
        return self._at_least(group_gate(self.name), evidence.group_ratios[self.name])


def group_gate(name: str) -> str:
    """What the gate on a grouping is called in a verdict.

    Parameters
    ----------
    name : str
        The feature that makes the groups.

    Returns
    -------
    str
    """
    return f"smallest ratio between groups by {name}"


def judge(gates: tuple[Gate, ...], evidence: Evidence) -> tuple[Verdict, ...]:
    """Ask every gate; NaN never passes.

    Parameters
    ----------
    gates : tuple of Gate
    evidence : Evidence

    Returns
    -------
    tuple of Verdict
    """
    return tuple(verdict for gate in gates if (verdict := gate.judge(evidence)))
