"""Metrics, thresholds, intervals and gates."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from tabserve.aliases import Metric, Vector
from tabserve.errors import InvalidUseCaseError, TooFewRowsError
from tabserve.evaluation.bootstrap import bootstrap_difference, bootstrap_intervals
from tabserve.evaluation.gates import (
    LESS_IS_BETTER,
    BaselineMargin,
    ChampionMargin,
    Evidence,
    Gate,
    LargestGap,
    LargestMetric,
    SmallestGroupRatio,
    SmallestMetric,
    Verdict,
    judge,
)
from tabserve.evaluation.metrics import (
    CROSS_VALIDATION,
    HOLD_OUT,
    TRAIN,
    Counts,
    Metrics,
    Ranking,
    r2,
    roc_auc,
)
from tabserve.tasks.base import Task
from tabserve.tasks.binary import Binary, CostMatrix, Threshold
from tabserve.tasks.regression import AsPredicted, Regression

TASK = Binary(CostMatrix(missed=5, false_alarm=1))
Rows = tuple[np.ndarray, np.ndarray]


def average_precision(y: Vector, scores: Vector) -> float:
    return Ranking(y, scores).tally().average_precision()


def kolmogorov_smirnov(y: Vector, scores: Vector) -> float:
    return Ranking(y, scores).tally().kolmogorov_smirnov()


some_score = st.sampled_from([0.0, 0.25, 0.5, np.nextafter(0.5, 1), 0.75, 1.0, 5e-324]) | st.floats(0, 1)  # ties


def rows_of(scores: st.SearchStrategy[float]) -> st.SearchStrategy[Rows]:
    pairs = st.lists(st.tuples(st.integers(0, 1).map(float), scores), min_size=1, max_size=30)
    return pairs.map(lambda pairs: (np.array([y for y, _ in pairs]), np.array([score for _, score in pairs])))


rows = rows_of(some_score)
rows_of_both_classes = rows.filter(lambda rows: len(set(rows[0])) == 2)


def largest_distance(y: np.ndarray, scores: np.ndarray) -> float:
    false_positives, true_positives, _ = sklearn_metrics.roc_curve(y, scores, drop_intermediate=False)
    return float(np.max(np.abs(true_positives - false_positives)))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (roc_auc, sklearn_metrics.roc_auc_score),
        (average_precision, sklearn_metrics.average_precision_score),
        (kolmogorov_smirnov, largest_distance),
    ],
)
@settings(deadline=None, max_examples=60)
@given(rows=rows_of_both_classes)
def test_a_ranking_metric_is_scikit_learn_s(ours: Callable, theirs: Callable, rows: Rows) -> None:  # type: ignore[type-arg]
    assert ours(*rows) == pytest.approx(theirs(*rows), abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(rows=rows_of(st.sampled_from([0.01, 0.5, 0.99]) | st.floats(1e-6, 1 - 1e-6)), threshold=st.floats(0, 1))
def test_the_other_metrics_are_scikit_learn_s(rows: Rows, threshold: float) -> None:
    y, scores = rows
    values = TASK.metrics(y, scores, Threshold(threshold))
    decisions = scores >= threshold
    assert values["brier"] == pytest.approx(sklearn_metrics.mean_squared_error(y, scores))
    assert values["log_loss"] == pytest.approx(sklearn_metrics.log_loss(y, scores, labels=[0, 1]))
    assert values["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(y, decisions))
    for name in ("precision", "recall", "f1"):
        theirs = getattr(sklearn_metrics, f"{name}_score")(y, decisions, zero_division=0)
        assert values[name] == pytest.approx(theirs), name
    _, false_alarms, missed, _ = sklearn_metrics.confusion_matrix(y, decisions, labels=[0, 1]).ravel()
    assert values["expected_cost"] == pytest.approx((5 * missed + false_alarms) / len(y))


@settings(deadline=None)
@given(rows=rows_of_both_classes)
def test_the_gini_is_twice_the_auc_less_one(rows: Rows) -> None:
    values = TASK.metrics(*rows, Threshold(0.5))
    assert values["gini"] == pytest.approx(2 * values["roc_auc"] - 1)


def test_only_metrics_of_decisions_depend_on_the_threshold() -> None:
    y, scores = np.array([0.0, 1.0]), np.array([0.2, 0.4])
    low, high = (TASK.metrics(y, scores, Threshold(value)) for value in (0.3, 0.5))
    changed = {name for name in low if low[name] != high[name]}
    assert changed == {"accuracy", "precision", "recall", "f1", "expected_cost"}
    assert TASK.decision_metrics(y, np.array([0.0, 1.0])) == {name: low[name] for name in changed}


def test_a_certain_score_that_is_wrong_has_a_finite_log_loss() -> None:
    assert 30 < TASK.metrics(np.array([1.0, 0.0]), np.array([0.0, 1.0]), Threshold(0.5))["log_loss"] < 40


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_metric_that_one_class_leaves_undefined_is_nan(label: float) -> None:
    y, scores = np.full(3, label), np.array([0.1, 0.5, 0.5])
    values = TASK.metrics(y, scores, Threshold(0.5))
    assert np.isnan([values["roc_auc"], values["gini"], values["ks"]]).all()
    assert np.isnan(values["pr_auc"]) == (label == 0)
    assert np.isfinite(
        [value for name, value in values.items() if name not in ("roc_auc", "gini", "ks", "pr_auc")]
    ).all()


def test_no_rows_have_no_ranking() -> None:
    nothing = np.array([])
    assert np.isnan([metric(nothing, nothing) for metric in (roc_auc, average_precision, kolmogorov_smirnov)]).all()


@settings(deadline=None)
@given(rows=rows, missed=st.integers(0, 10), false_alarm=st.integers(0, 10))
def test_no_threshold_is_cheaper_than_the_cheapest(rows: Rows, missed: int, false_alarm: int) -> None:
    assume(missed or false_alarm)
    y, scores = rows
    matrix = CostMatrix(missed, false_alarm)

    def cost(threshold: float) -> float:
        return matrix.expected(y, scores >= threshold)

    cheapest = cost(matrix.cheapest_threshold(y, scores))
    assert cheapest <= min(cost(threshold) for threshold in (0.0, *scores, np.inf)) + 1e-12


def test_the_cheapest_threshold_lies_in_the_middle_between_two_scores() -> None:
    y, scores = np.array([0.0, 1.0, 0.0, 0.0]), np.array([0.3, 0.5, 0.1, 0.2])
    assert CostMatrix(5, 1).cheapest_threshold(y, scores) == pytest.approx(0.4)


def test_an_expected_cost_counts_each_kind_of_mistake() -> None:
    y, decisions = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.0, 1.0, 1.0, 0.0])
    assert CostMatrix(missed=5, false_alarm=1).expected(y, decisions) == 6 / 4


@pytest.mark.parametrize("costs", [(-1, 1), (0, 0), (1, 1e31), (float("inf"), 1)])
def test_costs_that_add_up_to_nothing_or_to_no_number_are_refused(costs: tuple[float, float]) -> None:
    with pytest.raises(InvalidUseCaseError, match="numbers from 0 to 1e30, and not both 0"):
        CostMatrix(*costs)


def test_targets_whose_squared_differences_floats_cannot_hold_do_not_vary() -> None:
    y = np.arange(5.0)
    assert Regression().varies(1e-100 * y)
    assert Regression().varies(1e8 + 1e-7 * y)
    assert not Regression().varies(1e-160 * y)
    assert not Regression().varies(np.full(5, 0.1))


def test_thresholds_come_from_all_out_of_fold_predictions_and_the_cheapest_decides() -> None:
    y = np.array([0.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    out_of_fold = np.random.default_rng(1).random((3, 6))
    decision = TASK.decide(y, out_of_fold)
    thresholds = decision.alternatives
    pooled = np.tile(y, 3), out_of_fold.ravel()
    assert list(thresholds) == ["cost", "half", "roc_balanced"]
    assert (decision.value, decision.chosen_by) == (thresholds["cost"], "cost")
    assert thresholds["cost"] == TASK.cost.cheapest_threshold(*pooled)
    assert thresholds["half"] == 0.5
    false_positives, true_positives, _ = sklearn_metrics.roc_curve(*pooled, drop_intermediate=False)
    decisions = pooled[1] >= thresholds["roc_balanced"]
    youden = decisions[pooled[0] == 1].mean() - decisions[pooled[0] == 0].mean()
    assert youden == pytest.approx(np.max(true_positives - false_positives))


@pytest.fixture
def example() -> Rows:
    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, 80).astype(float)
    return y, y + generator.normal(size=80)


def interval(y: np.ndarray, scores: np.ndarray, metric: Metric, seed: int, samples: int = 2000) -> tuple[float, float]:
    """The interval of one metric."""
    return bootstrap_intervals(by_counts(lambda *rows: {"it": metric(*rows)}, y, scores), len(y), seed, samples)["it"]


def by_counts(function: Callable[[Vector, Vector], Any], y: Vector, scores: Vector) -> Callable[[Counts], Any]:
    """A function of rows as one of how often each counts: the slow way, with a row for each time."""
    return lambda counts: function(
        *(rows if counts is None else np.repeat(rows, counts, axis=0) for rows in (y, scores))
    )


def difference(
    y: Vector, scores: Vector, others: Vector, metric: Metric, seed: int, samples: int = 2000
) -> tuple[float, float, float]:
    """The difference of one metric, with its interval."""
    scorers = (by_counts(metric, y, one) for one in (scores, others))
    return bootstrap_difference(*scorers, len(y), seed, samples)


@settings(deadline=None)
@given(rows=rows, threshold=st.floats(0, 1), data=st.data())
def test_rows_that_count_several_times_or_not_at_all_are_as_good_as_repeated_ones(
    rows: Rows, threshold: float, data: st.DataObject
) -> None:
    y, scores = rows
    times = st.lists(st.integers(0, 3), min_size=len(y), max_size=len(y)).filter(any)
    counts, decision = np.array(data.draw(times)), Threshold(threshold)
    slow = by_counts(lambda *rows: TASK.metrics(*rows, decision), y, scores)(counts)
    assert TASK.measure(y, scores, decision)(counts) == pytest.approx(slow, rel=1e-14, nan_ok=True)
    assert TASK.scorer(y, scores)(counts) == pytest.approx(slow["roc_auc"], rel=0, nan_ok=True)


@settings(deadline=None, max_examples=20)
@given(rows=rows_of_both_classes, seed=st.integers(0, 9))
def test_the_intervals_are_those_of_drawn_rows(rows: Rows, seed: int) -> None:
    y, scores = rows
    generator, decision = np.random.default_rng(seed), Threshold(0.5)
    samples = [generator.integers(0, len(y), len(y)) for _ in range(40)]
    found = [TASK.metrics(y[drawn], scores[drawn], decision) for drawn in samples]
    ends = {name: np.nanquantile([one[name] for one in found], [0.025, 0.975]) for name in TASK.metric_names}
    intervals = bootstrap_intervals(TASK.measure(y, scores, decision), len(y), seed, samples=40)
    assert intervals == {name: pytest.approx(tuple(pair), rel=1e-14) for name, pair in ends.items()}


def test_every_metric_has_a_bootstrap_interval_that_covers_it(example: Rows) -> None:
    y, scores = example[0], 1 / (1 + np.exp(-example[1]))

    measure = TASK.measure(y, scores, Threshold(0.6))
    intervals = bootstrap_intervals(measure, len(y), seed=1, samples=300)
    assert intervals.keys() == measure(None).keys()
    for name, value in measure(None).items():
        low, high = intervals[name]
        assert low < value < high, name


def test_a_bootstrap_interval_of_a_mean_is_the_one_of_textbooks(example: Rows) -> None:
    low, high = interval(*example, lambda y, scores: float(np.mean(scores)), seed=1)
    error = np.std(example[1]) / np.sqrt(80)
    assert low == pytest.approx(np.mean(example[1]) - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(np.mean(example[1]) + 1.96 * error, abs=0.1 * error)


def test_a_bootstrap_interval_depends_on_its_seed_only(example: Rows) -> None:
    first, again, other = (interval(*example, roc_auc, seed, samples=100) for seed in (1, 1, 2))
    assert first == again != other


def test_a_bootstrap_interval_is_the_same_whatever_else_is_measured(example: Rows) -> None:
    y, scores = example[0], 1 / (1 + np.exp(-example[1]))
    together = bootstrap_intervals(TASK.measure(y, scores, Threshold(0.5)), len(y), seed=1, samples=100)
    assert together["roc_auc"] == interval(y, scores, roc_auc, seed=1, samples=100)
    assert together["ks"] == interval(y, scores, kolmogorov_smirnov, seed=1, samples=100)


@pytest.mark.parametrize("metric", [roc_auc, average_precision, kolmogorov_smirnov])
def test_samples_without_both_classes_are_left_out(metric: Metric) -> None:
    y, scores = np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.9, 0.1, 0.2, 0.3])
    assert interval(y, scores, metric, seed=0, samples=100) == (1, 1)


def test_samples_of_equal_targets_are_left_out() -> None:
    y = np.array([0.1, 0.1, 0.1, 0.4])
    assert interval(y, y, r2, seed=0, samples=100) == (1, 1)


def test_a_sample_is_left_out_only_for_the_metrics_that_it_leaves_undefined() -> None:
    y, scores = np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.9, 0.1, 0.1, 0.1])
    intervals = bootstrap_intervals(TASK.measure(y, scores, Threshold(0.95)), len(y), seed=0, samples=200)
    assert intervals["roc_auc"] == (1, 1)
    assert intervals["accuracy"][1] == 1  # of the samples in which all are 0


@pytest.fixture
def rivals(example: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the example that are better than its own, and its own: wrong about much the same rows."""
    y, scores = example
    return scores + 0.4 * y, scores


def test_a_difference_is_what_one_metric_has_more_than_the_other(
    example: Rows, rivals: tuple[np.ndarray, np.ndarray]
) -> None:
    y, _ = example
    better, worse = rivals
    value, low, high = difference(y, better, worse, roc_auc, seed=1, samples=300)
    assert value == roc_auc(y, better) - roc_auc(y, worse) > 0
    assert 0 < low < value < high
    assert bootstrap_difference(TASK.scorer(y, better), TASK.scorer(y, worse), len(y), 1, 300) == (value, low, high)
    turned = difference(y, worse, better, roc_auc, seed=1, samples=300)
    assert turned == pytest.approx((-value, -high, -low))


def test_a_paired_difference_is_surer_than_that_of_two_intervals(
    example: Rows, rivals: tuple[np.ndarray, np.ndarray]
) -> None:
    y, _ = example
    _, low, high = difference(y, *rivals, roc_auc, seed=1, samples=300)
    widths = [float(np.ptp(interval(y, scores, roc_auc, seed=1, samples=300))) for scores in rivals]
    assert high - low < 0.6 * np.hypot(*widths)  # how wide that of two independent samples would be
    assert high - low < min(widths)


def test_the_paired_interval_of_a_mean_s_difference_is_the_one_of_textbooks(example: Rows) -> None:
    y, scores = example
    others = scores / 2
    _, low, high = difference(y, scores, others, lambda y, scores: float(np.mean(scores)), seed=1)
    error = np.std(scores - others) / np.sqrt(80)
    assert low == pytest.approx(np.mean(scores - others) - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(np.mean(scores - others) + 1.96 * error, abs=0.2 * error)


@settings(deadline=None, max_examples=20)
@given(rows=rows_of_both_classes, seed=st.integers(0, 9))
def test_equal_scores_do_not_differ_at_all(rows: Rows, seed: int) -> None:
    y, scores = rows
    assert difference(y, scores, scores.copy(), roc_auc, seed, samples=60) == (0, 0, 0)


def test_samples_in_which_a_difference_is_undefined_are_left_out() -> None:
    y, right = np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.9, 0.1, 0.2, 0.3])
    assert difference(y, right, -right, roc_auc, seed=0, samples=100) == (1, 1, 1)


def metrics(train: float, out_of_fold: float, hold_out: float) -> dict[str, Metrics]:
    return {TRAIN: {"auc": train}, CROSS_VALIDATION: {"auc": out_of_fold}, HOLD_OUT: {"auc": hold_out}}


BASELINE = metrics(0.8, 0.75, 0.9)


@pytest.mark.parametrize(
    ("gate", "candidate", "value", "passed"),
    [
        (SmallestMetric("auc", 0.5), metrics(0, 0, 0.5), 0.5, True),
        (SmallestMetric("auc", 0.5), metrics(1, 1, 0.49), 0.49, False),
        (SmallestMetric("auc", 0.5), metrics(1, 1, np.nan), np.nan, False),
        (LargestMetric("auc", 0.5), metrics(1, 1, 0.5), 0.5, True),
        (LargestMetric("auc", 0.5), metrics(0, 0, 0.51), 0.51, False),
        (LargestMetric("auc", 0.5), metrics(0, 0, np.nan), np.nan, False),
        (LargestGap("auc", 0.25), metrics(0.75, 0, 0.5), 0.25, True),
        (LargestGap("auc", 0.25), metrics(0.5, 0, 0.75), -0.25, True),
        (LargestGap("auc", 0.25), metrics(0.75, 1, 0.25), 0.5, False),
        (LargestGap("auc", 0.25), metrics(np.nan, 1, 0.25), np.nan, False),
        (LargestGap("auc", 0.25), metrics(1, 1, np.nan), np.nan, False),
        (BaselineMargin("auc", 0.25), metrics(0, 0.5, 0), 0.25, True),
        (BaselineMargin("auc", 0.25), metrics(0, 1, 0), -0.25, True),
        (BaselineMargin("auc", 0.25), metrics(1, 0.25, 1), 0.5, False),
        (BaselineMargin("auc", 0.25), metrics(1, np.nan, 1), np.nan, False),
    ],
)
def test_a_gate_passes_up_to_its_bound_and_no_nan(
    gate: Gate, candidate: dict[str, Metrics], value: float, passed: bool
) -> None:
    (verdict,) = judge((gate,), Evidence(candidate, BASELINE))
    check(verdict, gate, value, passed)


@pytest.mark.parametrize(
    ("champion", "hold_out", "value", "passed"),
    [
        (0.75, 0.5, 0.25, True),
        (0.5, 0.75, -0.25, True),
        (0.75, 0.25, 0.5, False),
        (0.75, np.nan, np.nan, False),
        (np.nan, 0.75, np.nan, False),
    ],
)
def test_a_candidate_may_be_a_little_worse_than_the_champion(
    champion: float, hold_out: float, value: float, passed: bool
) -> None:
    gate = ChampionMargin("auc", 0.25)
    (verdict,) = judge((gate,), Evidence(metrics(0, 0, hold_out), BASELINE, {"auc": champion}))
    check(verdict, gate, value, passed)


@pytest.mark.parametrize(
    ("ratio", "passed"), [(0.5, True), (1.0, True), (np.nextafter(0.5, 0), False), (0.0, False), (np.nan, False)]
)
def test_the_groups_ratio_must_reach_its_bound(ratio: float, passed: bool) -> None:
    gate = SmallestGroupRatio("age", 0.5)
    (verdict,) = judge((gate,), Evidence(BASELINE, BASELINE, group_ratios={"age": ratio, "sex": 1 - ratio}))
    check(verdict, gate, ratio, passed)


def check(verdict: Verdict, gate: Gate, value: float, passed: bool) -> None:
    assert verdict.passed is passed
    assert verdict.value == pytest.approx(value, nan_ok=True)
    assert verdict.bound == gate.bound
    assert gate.name in verdict.gate


def test_each_gate_has_its_verdict() -> None:
    gates = SmallestMetric("auc", 0.9), LargestGap("auc", 1.0)
    verdicts = judge(gates, Evidence(metrics(0.9, 0.9, 0.8), BASELINE))
    assert verdicts == (
        Verdict("smallest hold-out auc", value=0.8, bound=0.9, passed=False),
        Verdict("largest train-to-hold-out gap of auc", value=pytest.approx(0.1), bound=1.0, passed=True),
    )


def test_without_a_champion_nothing_is_said_of_one() -> None:
    gates = ChampionMargin("auc", -1.0), SmallestMetric("auc", 0.5), ChampionMargin("auc", 1.0)
    (verdict,) = judge(gates, Evidence(BASELINE, BASELINE))
    assert verdict.gate == "smallest hold-out auc"
    assert len(judge(gates, Evidence(BASELINE, BASELINE, {"auc": 0.9}))) == 3


def test_a_champion_that_cannot_be_compared_with_stops_nothing_and_is_named() -> None:
    (verdict,) = judge((ChampionMargin("auc", 0.1),), Evidence(BASELINE, BASELINE, not_compared="it is gone"))
    said = "largest auc below champion, not compared: it is gone"
    assert verdict == Verdict(said, value=None, bound=0.1, passed=True)


def test_a_champion_is_compared_with_on_the_rows_that_it_takes() -> None:
    evidence = Evidence(metrics(1, 1, 0.9), BASELINE, {"auc": 0.9}, beside_champion={"auc": 0.5})
    (verdict,) = judge((ChampionMargin("auc", 0.1),), evidence)
    assert (verdict.value, verdict.passed) == (0.4, False)


@pytest.mark.parametrize("task", [TASK, Regression()])
def test_it_is_known_of_which_metrics_less_is_better(task: Task) -> None:
    y = np.array([0.0, 0, 1, 1])
    right, wrong = (task.metrics(y, scores, task.decide(y, y[None])) for scores in (y, 1 - y))
    assert {name for name in right if right[name] < wrong[name]} == LESS_IS_BETTER & set(task.metric_names)


@pytest.mark.parametrize("name", sorted(LESS_IS_BETTER))
def test_where_less_is_better_more_is_worse(name: str) -> None:
    def parts(train: float, out_of_fold: float, hold_out: float) -> dict[str, Metrics]:
        return {TRAIN: {name: train}, CROSS_VALIDATION: {name: out_of_fold}, HOLD_OUT: {name: hold_out}}

    gates = LargestGap(name, 0.25), BaselineMargin(name, 0.25), ChampionMargin(name, 0.25)
    others = parts(9, 1, 9)
    worse = judge(gates, Evidence(parts(1, 1.5, 1.5), others, {name: 1}))
    better = judge(gates, Evidence(parts(1, 0.5, 0.5), others, {name: 1}))
    assert [(verdict.value, verdict.passed) for verdict in worse] == [(0.5, False)] * 3
    assert [(verdict.value, verdict.passed) for verdict in better] == [(-0.5, True)] * 3
    assert [verdict.gate for verdict in worse[1:]] == [
        f"largest {name} above {one}" for one in ("baseline", "champion")
    ]


def test_no_two_kinds_of_gate_sound_the_same() -> None:
    kinds = [SmallestMetric, LargestMetric, LargestGap, BaselineMargin, ChampionMargin, SmallestGroupRatio]
    assert set(kinds) == set(Gate.__subclasses__())
    verdicts = judge(
        tuple(kind("auc", 0.5) for kind in kinds), Evidence(BASELINE, BASELINE, {"auc": 1}, group_ratios={"auc": 1})
    )
    assert len({verdict.gate for verdict in verdicts}) == len(kinds)


def test_folds_are_stratified_and_judge_each_row_once_in_each_repeat() -> None:
    y = np.random.default_rng(0).permutation(np.repeat([0.0, 1.0], [70, 30]))
    folds = TASK.folds(y, splits=5, repeats=2, seed=3)
    assert len(folds) == 10
    for repeat in (folds[:5], folds[5:]):
        assert sorted(np.concatenate([judged for _, judged in repeat])) == list(range(100))
    for rows, judged in folds:
        assert sorted([*rows, *judged]) == list(range(100))
        assert np.sum(y[judged]) == 6
    assert not np.array_equal(folds[0][1], folds[5][1])
    again = TASK.folds(y, splits=5, repeats=2, seed=3)
    assert all(np.array_equal(one[1], two[1]) for one, two in zip(folds, again, strict=True))


@pytest.mark.parametrize(
    ("train", "hold_out", "splits", "problem"),
    [
        ((9, 50), (5, 50), 2, "the training part has 9 of 'stays' and needs at least 10"),
        ((50, 0), (5, 50), 2, "the training part has 0 of 'leaves' and needs at least 10"),
        ((11, 50), (5, 50), 12, "the training part has 11 of 'stays' and needs at least 12"),
        ((50, 50), (50, 4), 2, "the hold-out has 4 of 'leaves' and needs at least 5"),
    ],
)
def test_too_few_rows_of_a_class_are_refused(
    train: tuple[int, int], hold_out: tuple[int, int], splits: int, problem: str
) -> None:
    task = Binary(CostMatrix(1, 1), outcomes=("stays", "leaves"))
    with pytest.raises(TooFewRowsError, match=f"^There are too few rows to train on: {problem}"):
        task.check_parts(np.repeat([0.0, 1.0], train), np.repeat([0.0, 1.0], hold_out), splits)


def test_as_many_rows_of_each_class_as_are_needed_are_enough() -> None:
    TASK.check_parts(np.repeat([0.0, 1.0], [10, 10]), np.repeat([0.0, 1.0], [5, 5]), splits=10)


@pytest.mark.parametrize(
    ("predictions", "problem"),
    [
        (np.array([0.0, 1.0]), None),
        (np.array([[0.0], [1.0]]), "not an array of floats of the shape (2,)"),
        (np.array([0, 1]), "not an array of floats"),
        ([0.0, 1.0], "not an array of floats"),
        (np.array([np.nan, 1.0]), "not finite"),
        (np.array([-0.1, 1.0]), "between 0 and 1"),
        (np.array([0.0, 1.1]), "between 0 and 1"),
    ],
)
def test_predictions_of_two_classes_are_probabilities(predictions: Any, problem: str | None) -> None:
    found = TASK.prediction_problem(predictions, 2)
    assert found is None if problem is None else problem in str(found)


# regression

NUMBERS = Regression()
number = st.integers(-800, 800).map(lambda eighths: eighths / 8) | st.floats(-1e6, 1e6)
numbers = st.lists(st.tuples(number, number), min_size=2, max_size=30).map(lambda pairs: tuple(np.array(pairs).T))
varied_numbers = numbers.filter(lambda rows: np.ptp(rows[0]) > 1e-3)


@settings(deadline=None)
@given(rows=varied_numbers)
def test_the_metrics_of_numbers_are_scikit_learn_s(rows: Rows) -> None:
    assert r2(*rows) == pytest.approx(sklearn_metrics.r2_score(*rows), rel=1e-9, abs=1e-9)
    assert NUMBERS.metrics(*rows, AsPredicted()) == {
        "r2": r2(*rows),
        "rmse": pytest.approx(sklearn_metrics.root_mean_squared_error(*rows)),
        "mae": pytest.approx(sklearn_metrics.mean_absolute_error(*rows)),
    }


@settings(deadline=None)
@given(rows=numbers, data=st.data())
def test_numbers_that_count_several_times_or_not_at_all_are_as_good_as_repeated_ones(
    rows: Rows, data: st.DataObject
) -> None:
    times = st.lists(st.integers(0, 3), min_size=len(rows[0]), max_size=len(rows[0])).filter(any)
    counts = np.array(data.draw(times))
    slow = by_counts(lambda *rows: NUMBERS.metrics(*rows, AsPredicted()), *rows)(counts)
    found = NUMBERS.measure(*rows, AsPredicted())(counts)
    assert np.isnan(found["r2"]) == np.isnan(slow["r2"])
    assert found == pytest.approx(slow, rel=1e-9, abs=1e-9, nan_ok=True)
    assert NUMBERS.scorer(*rows)(counts) == pytest.approx(found["r2"], rel=0, nan_ok=True)


@settings(deadline=None)
@given(rows=varied_numbers)
def test_right_scores_explain_all_of_the_variance_and_the_mean_none(rows: Rows) -> None:
    y, _ = rows
    assert r2(y, y) == 1
    assert r2(y, np.full(len(y), np.mean(y))) == pytest.approx(0, abs=1e-9)
    assert r2(y, 2 * np.mean(y) - y) == pytest.approx(-3)


@pytest.mark.parametrize("value", [0.0, 5.0, 0.1, 0.7, 1e-200])  # some means of equal floats are rounded
@pytest.mark.parametrize("length", [1, 3, 10])
def test_targets_that_do_not_vary_have_no_r2(value: float, length: int) -> None:
    y = np.full(length, value)
    assert np.isnan(r2(y, np.arange(length) + 1.0))
    assert np.isnan(r2(y, y))
    values = NUMBERS.metrics(y, y + 2, AsPredicted())
    assert np.isnan(values["r2"])
    assert (values["rmse"], values["mae"]) == pytest.approx((2, 2))


def test_no_targets_have_no_r2() -> None:
    assert np.isnan(r2(np.array([]), np.array([])))


def test_targets_whose_variance_is_too_small_for_floats_have_no_r2() -> None:
    assert np.isnan(r2(np.array([0.0, 5e-324]), np.array([0.0, 1.0])))


def test_predictions_of_numbers_may_be_any_that_are_finite() -> None:
    assert NUMBERS.prediction_problem(np.array([-1.0, 2.0]), 2) is None
    assert "not finite" in str(NUMBERS.prediction_problem(np.array([np.inf, 2.0]), 2))


def test_numbers_are_not_decided() -> None:
    y, scores = np.array([0.0, 1.0, 3.0]), np.array([0.5, 1.5, 2.0])
    decision = NUMBERS.decide(y, scores[None])
    assert decision.decide(scores).tolist() == scores.tolist()
    nothing = {"threshold": None, "threshold_choice": None, "thresholds": {}}
    assert NUMBERS.thresholds(decision, {HOLD_OUT: (y, scores)}) == nothing


@pytest.mark.parametrize("task", [TASK, NUMBERS], ids=["classification", "regression"])
def test_the_headline_is_among_the_metrics_and_is_the_metric(task: Task) -> None:
    y, scores = np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.2, 0.6, 0.9, 0.7])
    assert task.metrics(y, scores, task.decide(y, scores[None]))[task.headline] == task.metric(y, scores)


def test_folds_of_numbers_judge_each_row_once_in_each_repeat() -> None:
    y = np.arange(103.0)
    folds = NUMBERS.folds(y, splits=4, repeats=2, seed=3)
    assert len(folds) == 8
    for repeat in (folds[:4], folds[4:]):
        assert sorted(np.concatenate([judged for _, judged in repeat])) == list(range(103))
    for rows, judged in folds:
        assert sorted([*rows, *judged]) == list(range(103))
        assert len(judged) in (25, 26)
        assert np.any(np.diff(judged) > 1)  # dealt out, not cut
    assert not np.array_equal(folds[0][1], folds[4][1])
    again, other = (NUMBERS.folds(y, splits=4, repeats=2, seed=seed) for seed in (3, 4))
    assert all(np.array_equal(one[1], two[1]) for one, two in zip(folds, again, strict=True))
    assert not np.array_equal(folds[0][1], other[0][1])


@pytest.mark.parametrize(
    ("train", "hold_out", "splits", "problem"),
    [
        (29, 100, 10, "the training part has 29 and needs at least 30"),
        (39, 100, 20, "the training part has 39 and needs at least 40"),
        (100, 9, 2, "the hold-out has 9 and needs at least 10"),
    ],
)
def test_too_few_rows_of_numbers_are_refused(train: int, hold_out: int, splits: int, problem: str) -> None:
    with pytest.raises(TooFewRowsError, match=f"^There are too few rows to train on: {problem}"):
        NUMBERS.check_parts(np.arange(float(train)), np.arange(float(hold_out)), splits)


def test_as_many_rows_of_numbers_as_are_needed_are_enough() -> None:
    NUMBERS.check_parts(np.arange(30.0), np.arange(10.0), splits=15)


def test_fewer_samples_are_drawn_of_many_rows() -> None:
    drawn = []

    def measure(counts: Counts) -> Metrics:
        assert counts is not None
        drawn.append(counts.sum())
        return {"mean": float(np.average(np.arange(50_000.0), weights=counts))}

    low, high = bootstrap_intervals(measure, 50_000, seed=1)["mean"]
    assert drawn == [50_000] * 400
    assert low < 24_999.5 < high
    assert high - low == pytest.approx(2 * 1.96 * 50_000 / np.sqrt(12 * 50_000), rel=0.15)
