"""Evaluation: metrics, thresholds, intervals and gates.

Nothing here imports scikit-learn: a serving worker computes an AUC too. Tests hold each metric against scikit-learn's.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from tabserve.aliases import Matrix, Vector
from tabserve.errors import InvalidUseCaseError, TooFewRowsError
from tabserve.models.base import Classifier, Fold, Metric, Model, Regressor
from tabserve.transformers import RemapTarget, Target
from tabserve.use_cases.features import Number
from tabserve.use_cases.kinds import check_kinds, fits

Metrics: TypeAlias = dict[str, float]
TRAIN, CROSS_VALIDATION, HOLD_OUT, CHRONOLOGICAL = "train", "cross_validation", "hold_out", "chronological"
# Rows that the training part and the hold-out need at least, of each class or of numbers: with fewer, neither a fold's
# figure nor the hold-out's means anything.
SMALLEST_CLASS = {TRAIN: 10, HOLD_OUT: 5}
SMALLEST_PART = {TRAIN: 30, HOLD_OUT: 10}
_PART_NAMES = {TRAIN: "training part", HOLD_OUT: "hold-out"}
LESS_IS_BETTER = frozenset({"brier", "log_loss", "expected_cost", "rmse", "mae"})  # of all other metrics, more is
_SMALLEST_PROBABILITY = 1e-15  # where a logarithm is cut off


def roc_auc(y: Vector, scores: Vector) -> float:
    """Area under the ROC curve: the chance that a 1 scores above a 0, ties counting half.

    Parameters
    ----------
    y : ndarray of 0 and 1, shape (n_rows,)
    scores : ndarray, shape (n_rows,)

    Returns
    -------
    float
        NaN when a class is absent.

    Notes
    -----
    From the rank sum: Mann and Whitney (1947), doi 10.1214/aoms/1177730491.
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # tied scores share their mean rank
    ones = float(np.sum(y))
    zeros = len(y) - ones
    if not ones or not zeros:
        return float("nan")
    return float((np.sum(ranks[y == 1]) - ones * (ones + 1) / 2) / (ones * zeros))


def average_precision(y: Vector, scores: Vector) -> float:
    """Area under the precision-recall curve as mean precision at each 1, ties taken together.

    Parameters
    ----------
    y : ndarray of 0 and 1, shape (n_rows,)
    scores : ndarray, shape (n_rows,)

    Returns
    -------
    float
        NaN without a 1.
    """
    thresholds, inverse = np.unique(-scores, return_inverse=True)
    if not np.any(y == 1):
        return float("nan")
    ones = np.bincount(inverse, weights=y, minlength=len(thresholds))
    found = np.cumsum(ones)
    predicted = np.cumsum(np.bincount(inverse, minlength=len(thresholds)))
    return float(np.sum(ones / found[-1] * found / predicted))


def kolmogorov_smirnov(y: Vector, scores: Vector) -> float:
    """Largest distance between the two classes' score distributions.

    Parameters
    ----------
    y : ndarray of 0 and 1, shape (n_rows,)
    scores : ndarray, shape (n_rows,)

    Returns
    -------
    float
        NaN when a class is absent.
    """
    if not np.any(y == 0) or not np.any(y == 1):
        return float("nan")
    at = np.unique(scores)
    shares = [np.searchsorted(np.sort(scores[y == label]), at, side="right") / np.sum(y == label) for label in (0, 1)]
    return float(np.max(np.abs(shares[0] - shares[1])))


def r2(y: Vector, scores: Vector) -> float:
    """Coefficient of determination: the share of the targets' variance that the scores explain.

    Parameters
    ----------
    y, scores : ndarray, shape (n_rows,)

    Returns
    -------
    float
        1 for scores that are right, 0 for the mean of `y`, below 0 for worse; NaN when the targets do not vary.
    """
    varies = len(y) and np.max(y) > np.min(y)  # rounding gives constant targets a variance, too
    variance = float(np.sum((y - np.mean(y)) ** 2)) if varies else 0.0
    return 1 - float(np.sum((y - scores) ** 2)) / variance if variance else float("nan")


@dataclass(frozen=True)
class CostMatrix:
    """What a wrong decision costs; a right one costs nothing.

    Parameters
    ----------
    missed : float
        A 1 that was taken for a 0.
    false_alarm : float
        A 0 that was taken for a 1.

    Raises
    ------
    InvalidUseCaseError
        When a cost is no finite number, or below 0, or both are 0: no threshold is then cheaper than another.
    """

    missed: float
    false_alarm: float

    def __post_init__(self) -> None:
        costs = (self.missed, self.false_alarm)
        if not fits(costs, tuple[float, ...]) or min(costs) < 0 or not any(costs):
            raise InvalidUseCaseError("The costs of mistakes must be finite numbers of 0 or more, and not both 0.")

    def expected(self, y: Vector, decisions: Vector) -> float:
        """Mean cost of a row.

        Parameters
        ----------
        y, decisions : ndarray of 0 and 1, shape (n_rows,)

        Returns
        -------
        float
            In the unit of the two costs.
        """
        return float(np.mean(np.where(y == 1, self.missed * (decisions == 0), self.false_alarm * (decisions == 1))))

    def cheapest_threshold(self, y: Vector, scores: Vector) -> float:
        """The threshold with the smallest cost on the given rows.

        Between two neighbouring scores every threshold costs the same; the middle is taken.

        Parameters
        ----------
        y : ndarray of 0 and 1, shape (n_rows,)
        scores : ndarray of probabilities, shape (n_rows,)

        Returns
        -------
        float
            From 0 to just above 1; a score that reaches it is taken for a 1.
        """
        order = np.argsort(scores, kind="stable")
        ascending, labels = scores[order], y[order]
        # cost when the k lowest scores are taken for 0 and the rest for 1, for k = 0 ... n_rows
        cost = np.concatenate([[0.0], np.cumsum(self.missed * labels)]) + self.false_alarm * (
            np.sum(labels == 0) - np.concatenate([[0.0], np.cumsum(labels == 0)])
        )
        edges = np.concatenate([[0.0], ascending, [np.nextafter(1.0, 2.0)]])  # above a score of 1, too
        cost[1:-1][ascending[1:] == ascending[:-1]] = np.inf  # equal scores cannot be parted
        best = int(np.argmin(cost))
        middle = (edges[best] + edges[best + 1]) / 2
        # between scores too close for floats to have a middle, the upper one parts them
        return float(middle if middle > edges[best] else edges[best + 1])


class Task(ABC):
    """What kind of prediction a use case makes, and so how it is measured and decided."""

    headline: str  # the metric that models are chosen by; higher is better
    kind_of_model: type[Model]
    decides: bool  # whether a threshold makes decisions of scores
    answer_name: str  # what answers to clients call it

    @property
    @abstractmethod
    def metric(self) -> Metric:
        """The headline metric as a function of targets and scores."""

    @abstractmethod
    def metrics(self, y: Vector, scores: Vector, threshold: float | None = None) -> Metrics:
        """All metrics of the given rows.

        Parameters
        ----------
        y, scores : ndarray, shape (n_rows,)
            Targets and the model's scores.
        threshold : float, optional
            Where decisions are cut; without it the metrics of decisions are left out.

        Returns
        -------
        dict of float
            By the metrics' names, the headline among them.
        """

    def decision_metrics(self, y: Vector, scores: Vector, threshold: float) -> Metrics:
        """The metrics that depend on a threshold.

        Parameters
        ----------
        y, scores : ndarray, shape (n_rows,)
            Targets and the model's scores.
        threshold : float
            Where decisions are cut.

        Returns
        -------
        dict of float
            By the metrics' names; empty where nothing is decided.
        """
        return {}

    @abstractmethod
    def folds(self, y: Vector, splits: int, repeats: int, seed: int) -> list[Fold]:
        """Folds of repeated cross-validation.

        Parameters
        ----------
        y : ndarray, shape (n_rows,)
        splits : int
            Folds of one repeat, which together judge each row once.
        repeats : int
            How often the rows are dealt out anew.
        seed : int
            Seed of the dealing.

        Returns
        -------
        list of (ndarray, ndarray)
            Row numbers to fit on and to judge by: `splits` times `repeats` folds, repeat after repeat.
        """

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of all metrics, those of decisions among them."""
        return tuple(self.metrics(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0.5))

    @abstractmethod
    def target_problem(self, target: Target) -> str | None:
        """Why it cannot predict a target; None when it can."""

    @abstractmethod
    def check_parts(self, train: Vector, hold_out: Vector, splits: int) -> None:
        """Refuse parts that are too small to be tuned on and judged by.

        Parameters
        ----------
        train, hold_out : ndarray, shape (n_rows,)
            Targets of the training part and of the hold-out.
        splits : int
            Folds of one repeat of cross-validation.

        Raises
        ------
        TooFewRowsError
            With the part that is too small.
        """

    @abstractmethod
    def thresholds(self, y: Vector, out_of_fold: Matrix) -> dict[str, float]:
        """Choose thresholds from out-of-fold scores.

        Parameters
        ----------
        y : ndarray, shape (n_rows,)
        out_of_fold : ndarray, shape (n_repeats, n_rows)
            The score of each row by a model that did not see it, once for each repeat.

        Returns
        -------
        dict of float
            By how they were chosen; the first is the one to decide by, and none means that nothing is decided.
        """


@dataclass(frozen=True)
class Classification(Task):
    """Two classes.

    Parameters
    ----------
    cost : CostMatrix
        What the threshold minimises.
    outcomes : tuple of (str, str)
        What the classes 0 and 1 are to people: a decision is shown as one of these.
    """

    cost: CostMatrix
    outcomes: tuple[str, str] = ("0", "1")
    headline = "roc_auc"
    kind_of_model = Classifier
    decides = True
    answer_name = "auc_score"

    def __post_init__(self) -> None:
        check_kinds(self)

    @property
    def metric(self) -> Metric:
        return roc_auc

    def metrics(self, y: Vector, scores: Vector, threshold: float | None = None) -> Metrics:
        clipped = np.clip(scores, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
        auc = roc_auc(y, scores)
        values = {
            "roc_auc": auc,
            "gini": 2 * auc - 1,
            "pr_auc": average_precision(y, scores),
            "ks": kolmogorov_smirnov(y, scores),
            "brier": float(np.mean((scores - y) ** 2)),
            "log_loss": float(-np.mean(y * np.log(clipped) + (1 - y) * np.log(1 - clipped))),
        }
        return values if threshold is None else {**values, **self.decision_metrics(y, scores, threshold)}

    def decision_metrics(self, y: Vector, scores: Vector, threshold: float) -> Metrics:
        """The metrics that depend on a threshold; precision, recall and F1 are of class 1, 0 where undefined."""
        decisions = (scores >= threshold).astype(np.float64)
        hits = float(np.sum(decisions * y))
        precision = hits / max(float(np.sum(decisions)), 1.0)
        recall = hits / max(float(np.sum(y)), 1.0)
        return {
            "accuracy": float(np.mean(decisions == y)),
            "precision": precision,
            "recall": recall,
            "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
            "expected_cost": self.cost.expected(y, decisions),
        }

    def folds(self, y: Vector, splits: int, repeats: int, seed: int) -> list[Fold]:
        from sklearn.model_selection import RepeatedStratifiedKFold

        return list(RepeatedStratifiedKFold(n_splits=splits, n_repeats=repeats, random_state=seed).split(y, y))

    def target_problem(self, target: Target) -> str | None:
        """It must give 0 and 1, and nothing else."""
        codes = target.codes()
        if codes != {0.0, 1.0}:
            given = "any number" if codes is None else f"{len(codes)} class(es)"
            return (
                f"a classification has the two classes 0 and 1, and the target '{target.feature.name}' gives {given}."
            )
        return None if len(set(self.outcomes)) == 2 else "a classification has two outcomes, with different names."

    def check_parts(self, train: Vector, hold_out: Vector, splits: int) -> None:
        """Each fold must judge by a row of each class."""
        for part, y, least in ((TRAIN, train, splits), (HOLD_OUT, hold_out, 0)):
            for label, outcome in enumerate(self.outcomes):
                _check_number(part, int(np.sum(y == label)), max(SMALLEST_CLASS[part], least), f" of '{outcome}'")

    def thresholds(self, y: Vector, out_of_fold: Matrix) -> dict[str, float]:
        """The cheapest, 0.5, and the ROC-balanced one, where true-positive rate less false-positive rate is largest.

        Repeats are pooled and not averaged: an average of several models is less spread than the one that will serve.
        """
        repeated, scores = np.tile(y, len(out_of_fold)), out_of_fold.ravel()
        balanced = CostMatrix(missed=1 / float(np.sum(repeated)), false_alarm=1 / float(np.sum(repeated == 0)))
        return {
            "cost": self.cost.cheapest_threshold(repeated, scores),
            "half": 0.5,
            "roc_balanced": balanced.cheapest_threshold(repeated, scores),
        }


@dataclass(frozen=True)
class Regression(Task):
    """A number."""

    headline = "r2"
    kind_of_model = Regressor
    decides = False
    answer_name = "r2_score"

    @property
    def metric(self) -> Metric:
        return r2

    def metrics(self, y: Vector, scores: Vector, threshold: float | None = None) -> Metrics:
        return {
            "r2": r2(y, scores),
            "rmse": float(np.sqrt(np.mean((scores - y) ** 2))),
            "mae": float(np.mean(np.abs(scores - y))),
        }

    def folds(self, y: Vector, splits: int, repeats: int, seed: int) -> list[Fold]:
        from sklearn.model_selection import RepeatedKFold

        return list(RepeatedKFold(n_splits=splits, n_repeats=repeats, random_state=seed).split(y))

    def target_problem(self, target: Target) -> str | None:
        """It must be a number."""
        if isinstance(target, RemapTarget) or not isinstance(target.feature, Number):
            return f"a regression predicts a number, and the target '{target.feature.name}' is a class."
        return None

    def check_parts(self, train: Vector, hold_out: Vector, splits: int) -> None:
        """Each fold must judge by two rows, since one does not vary."""
        _check_number(TRAIN, len(train), max(SMALLEST_PART[TRAIN], 2 * splits))
        _check_number(HOLD_OUT, len(hold_out), SMALLEST_PART[HOLD_OUT])

    def thresholds(self, y: Vector, out_of_fold: Matrix) -> dict[str, float]:
        """None: nothing is decided."""
        return {}


def _check_number(part: str, found: int, needed: int, of: str = "") -> None:
    if found < needed:
        raise TooFewRowsError(_PART_NAMES[part], found, needed, of)


def bootstrap_intervals(
    y: Vector, scores: Vector, measure: Callable[[Vector, Vector], Metrics], seed: int, samples: int = 2000
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of metrics, covering 95 %.

    Rows are drawn with replacement; samples in which a metric is undefined, as one without both classes, are left out
    for it (Efron and Tibshirani 1993, ch. 13).

    Parameters
    ----------
    y, scores : ndarray, shape (n_rows,)
    measure : callable
        The metrics of targets and scores.
    seed : int
        Seed of the drawing.
    samples : int
        How many samples to draw.

    Returns
    -------
    dict of (float, float)
        Lower and upper end of each metric.
    """
    values = [measure(y[rows], scores[rows]) for rows in _samples(len(y), seed, samples)]
    return {name: _interval([value[name] for value in values]) for name in values[0]}


def bootstrap_difference(
    y: Vector, scores: Vector, others: Vector, metric: Metric, seed: int, samples: int = 2000
) -> tuple[float, float, float]:
    """How much better scores are than others of the same rows, with the paired bootstrap's 95 % interval.

    Each sample of rows judges both, so that what is hard for both does not widen the interval.

    Parameters
    ----------
    y, scores, others : ndarray, shape (n_rows,)
    metric : callable
        Of targets and scores; higher is better.
    seed : int
        Seed of the drawing.
    samples : int
        How many samples to draw.

    Returns
    -------
    tuple of (float, float, float)
        The difference of the metric, and the interval's lower and upper end.
    """
    differences = [
        metric(y[rows], scores[rows]) - metric(y[rows], others[rows]) for rows in _samples(len(y), seed, samples)
    ]
    return metric(y, scores) - metric(y, others), *_interval(differences)


def _samples(n_rows: int, seed: int, samples: int) -> Iterator[npt.NDArray[np.intp]]:
    generator = np.random.default_rng(seed)
    return (generator.integers(0, n_rows, n_rows) for _ in range(samples))


def _interval(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


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
    """

    gate: str
    value: float | None
    bound: float
    passed: bool


@dataclass(frozen=True)
class Evidence:
    """What a candidate is judged by.

    Parameters
    ----------
    metrics, baseline : mapping of str to dict
        Metrics of each part, the candidate's and the baseline's: train, cross_validation, hold_out.
    champion : mapping of float, optional
        Metrics of the model that the candidate would replace, of the hold-out's rows that it takes; None when it would
        replace none, or cannot be compared with it.
    beside_champion : mapping of float, optional
        The candidate's metrics of the same rows; by default those of the whole hold-out.
    not_compared : str
        Why it cannot be compared with the model that it would replace.
    group_ratios : mapping of float
        The disparate impact of each grouping.
    """

    metrics: Mapping[str, Metrics]
    baseline: Mapping[str, Metrics]
    champion: Metrics | None = None
    beside_champion: Metrics | None = None
    not_compared: str = ""
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

    A model with which nothing can be compared, such as one of another library's version, stops nothing: the verdict
    says that it was not compared.
    """

    def judge(self, evidence: Evidence) -> Verdict | None:
        gate = f"largest {self.name} {self._worse} champion"
        if evidence.not_compared:
            return Verdict(f"{gate}, not compared: {evidence.not_compared}", None, self.bound, passed=True)
        if evidence.champion is None:
            return None
        own = evidence.beside_champion or evidence.metrics[HOLD_OUT]
        return self._at_most(gate, self._how_much_worse(own, evidence.champion))


class SmallestGroupRatio(Gate):
    """The disparate impact of a grouping must reach the bound; where there are not two groups, it is undefined."""

    of_groups = True

    def judge(self, evidence: Evidence) -> Verdict:
        return self._at_least(group_gate(self.name), evidence.group_ratios[self.name])


def group_gate(name: str) -> str:
    """What the gate on a grouping is called in a verdict.

    Parameters
    ----------
    name : str
        The feature that parts the groups.

    Returns
    -------
    str
    """
    return f"smallest ratio between groups by {name}"


def judge(gates: tuple[Gate, ...], evidence: Evidence) -> list[dict[str, Any]]:
    """Ask every gate; a NaN passes nothing.

    Parameters
    ----------
    gates : tuple of Gate
    evidence : Evidence

    Returns
    -------
    list of dict
        The verdicts as plain data.
    """
    return [asdict(verdict) for gate in gates if (verdict := gate.judge(evidence))]
