"""Groups, and how decisions treat them: by pencil and paper, and by fairlearn's and scikit-learn's own metrics."""

import copy
import dataclasses
import json
import math

import fairlearn.metrics
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from tabserve.evaluation.fairness import FEWEST, GroupBy, GroupComparison, compare_groups, smallest_ratios
from tabserve.evaluation.gates import Evidence, SmallestGroupRatio, judge

AGES = pd.DataFrame({"age": [18, 25, 26, 40, 41, 99]})
OF_EVERY_GROUP = {"rows", "share_of_1", "accuracy", "selection_rate", "mean_score"}  # always defined


def test_a_cut_belongs_to_the_group_below_it() -> None:
    labels = GroupBy(feature="age", cuts=(25,)).labels(AGES)
    assert labels == [*["25 and under"] * 2, *["over 25"] * 4]


def test_several_cuts_make_groups_in_between() -> None:
    labels = GroupBy(feature="age", cuts=(25, 40, 60)).labels(AGES)
    assert labels == [*["25 and under"] * 2, *["over 25 to 40"] * 2, "over 40 to 60", "over 60"]


def test_a_cut_need_not_be_a_whole_number() -> None:
    assert GroupBy(feature="wind", cuts=(2.5,)).labels(pd.DataFrame({"wind": [2.5, 2.6]})) == [
        "2.5 and under",
        "over 2.5",
    ]


@given(
    ages=st.lists(st.integers(0, 120), min_size=1, max_size=20),
    cuts=st.sets(st.integers(0, 120), min_size=1, max_size=4).map(sorted),
)
def test_people_share_a_group_when_no_cut_parts_them(ages: list[int], cuts: list[int]) -> None:
    labels = GroupBy(feature="age", cuts=tuple(cuts)).labels(pd.DataFrame({"age": ages}))
    for age, label in zip(ages, labels, strict=True):
        for other, others in zip(ages, labels, strict=True):
            assert (label == others) == all((age <= cut) == (other <= cut) for cut in cuts)


def test_without_cuts_each_value_is_a_group() -> None:
    table = pd.DataFrame({"colour": ["red", "green", "red"], "floor": [2, 1, 2]})
    assert GroupBy(feature="colour").labels(table) == ["red", "green", "red"]
    assert GroupBy(feature="floor").labels(table) == ["2", "1", "2"]


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (GroupBy(feature="age", cuts=(25,)), ["25 and under", "not given", "over 25"]),
        (GroupBy(feature="age"), ["3", "not given", "35"]),
        (GroupBy(feature="colour"), ["red", "not given", "green"]),
    ],
    ids=["cuts", "numbers", "categories"],
)
def test_those_of_whom_nothing_is_known_are_a_group_of_their_own(group: GroupBy, expected: list[str]) -> None:
    records = [{"age": 3, "colour": "red"}, {"age": None, "colour": None}, {"age": 35, "colour": "green"}]
    assert group.labels(pd.DataFrame(records)) == expected


def test_a_column_in_which_nothing_is_given_is_one_group() -> None:
    table = pd.DataFrame([{"age": None}, {"age": None}])
    assert GroupBy(feature="age", cuts=(25,)).labels(table) == ["not given"] * 2


# eight people, refused from 0.5 on: of the young 1 of 4 are not, of the old 3 of 4
Y = np.array([0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0])
SCORES = np.array([0.2, 0.6, 0.5, 0.9, 0.1, 0.4, 0.7, 0.3])
GROUPS = ["young"] * 4 + ["old"] * 4


def compared(y: np.ndarray, probabilities: np.ndarray, threshold: float, groups: list[str]) -> GroupComparison:
    """The comparison of groups when a probability from the threshold on is refused."""
    return compare_groups(y, probabilities, (probabilities >= threshold).astype(np.float64), groups)


def test_groups_are_compared_by_pencil_and_paper() -> None:
    comparison = compared(Y, SCORES, 0.5, GROUPS)
    assert comparison.values["young"] == {
        "rows": 4,
        "share_of_1": 0.5,
        "mean_score": pytest.approx(0.55),
        "roc_auc": 0.75,  # of four pairs, only 0.5 does not beat 0.6
        "accuracy": 0.75,
        "selection_rate": 0.25,
        "opportunity": 0.5,  # of the two with outcome 0, one is refused
    }
    assert comparison.values["old"] == {
        "rows": 4,
        "share_of_1": 0.25,
        "mean_score": pytest.approx(0.375),
        "roc_auc": pytest.approx(1 / 3),
        "accuracy": 0.5,
        "selection_rate": 0.75,
        "opportunity": pytest.approx(2 / 3),
    }
    assert comparison.disparate_impact == pytest.approx(1 / 3)
    assert comparison.equal_opportunity_difference == pytest.approx(2 / 3 - 1 / 2)


def test_of_several_groups_the_two_furthest_apart_are_compared() -> None:
    y, scores = np.zeros(12), np.array([0.9, 0.9, 0.9, 0.1, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    comparison = compared(y, scores, 0.5, ["a"] * 4 + ["b"] * 4 + ["c"] * 4)
    rates = {group: values["selection_rate"] for group, values in comparison.values.items()}
    assert rates == {"a": 0.25, "b": 0.5, "c": 1}
    assert comparison.disparate_impact == 0.25
    assert comparison.equal_opportunity_difference == 0.75


def test_a_score_that_reaches_the_threshold_is_refused() -> None:
    rates = [
        compared(Y, SCORES, threshold, ["all"] * 8).values["all"]["selection_rate"]
        for threshold in (0.5, np.nextafter(0.5, 1))
    ]
    assert rates == [4 / 8, 5 / 8]


@pytest.mark.parametrize(("outcome", "opportunity"), [(1.0, None), (0.0, 0.5)])
def test_what_one_outcome_leaves_undefined_is_none(outcome: float, opportunity: float | None) -> None:
    y = np.where(np.array(GROUPS) == "young", Y, outcome)
    comparison = compared(y, SCORES, 0.35, GROUPS)
    old = comparison.values["old"]
    assert old["roc_auc"] is None
    assert old["opportunity"] == opportunity
    assert all(old[name] is not None for name in OF_EVERY_GROUP)
    # of those of whom it is defined
    assert comparison.equal_opportunity_difference == 0


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.1])
def test_where_no_group_has_a_favourable_outcome_there_is_no_opportunity(threshold: float) -> None:
    comparison = compared(np.ones(8), SCORES, threshold, GROUPS)
    assert [values["opportunity"] for values in comparison.values.values()] == [None, None]
    assert comparison.equal_opportunity_difference is None


def test_where_everybody_is_refused_there_is_no_ratio() -> None:
    comparison = compared(Y, SCORES, 0.0, GROUPS)
    assert comparison.disparate_impact is None
    assert comparison.equal_opportunity_difference == 0
    assert math.isnan(smallest_ratios({"age": comparison})["age"])


def test_where_one_group_is_refused_the_ratio_is_0_and_where_nobody_is_1() -> None:
    scores = np.where(np.array(GROUPS) == "young", 0.9, SCORES)
    assert compared(Y, scores, 0.5, GROUPS).disparate_impact == 0
    assert compared(Y, SCORES, 1.1, GROUPS).disparate_impact == 1


@pytest.mark.parametrize("cuts", [(20240107, 20240114, 20240121), (0.1, 0.1 + 0.2, 0.3 + 1e-9), (2**60, 2**60 + 1)])
def test_cuts_that_are_close_part_groups_still(cuts: tuple[float, ...]) -> None:
    labels = GroupBy(feature="day", cuts=cuts).labels(pd.DataFrame({"day": [*cuts, cuts[-1] * 2]}))
    assert len(set(labels)) == len(cuts) + 1


def test_a_value_that_is_called_not_given_is_another_group_than_missing_ones() -> None:
    labels = GroupBy(feature="sex").labels(pd.DataFrame({"sex": ["not given", None, "f"]}))
    assert labels == ["not given", "(not given)", "f"]


def test_one_group_is_compared_with_nobody() -> None:
    comparison = compared(Y, SCORES, 0.5, ["all"] * 8)
    assert list(comparison.values) == ["all"]
    assert (comparison.disparate_impact, comparison.equal_opportunity_difference) == (None, None)
    ratios = smallest_ratios({"sex": comparison})
    (verdict,) = judge((SmallestGroupRatio("sex", 0.1),), Evidence({}, {}, group_ratios=ratios))
    assert not verdict.passed


def test_each_grouping_has_its_ratio() -> None:
    comparisons = {"age": compared(Y, SCORES, 0.5, GROUPS), "all": compared(Y, SCORES, 0.5, ["all"] * 8)}
    assert smallest_ratios(comparisons) == {"age": pytest.approx(1 / 3), "all": pytest.approx(math.nan, nan_ok=True)}
    assert smallest_ratios({}) == {}


people = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.sampled_from("abc")),
    min_size=1,
    max_size=25,
)


@settings(max_examples=30)
@given(people=people, threshold=st.sampled_from([0.0, 0.3, 0.4, 1.1]))
def test_groups_are_compared_as_by_fairlearn_and_scikit_learn(
    people: list[tuple[float, float, str]], threshold: float
) -> None:
    y, scores = np.array([one[0] for one in people]), np.array([one[1] for one in people])
    groups = np.array([one[2] for one in people])
    comparison = compared(y, scores, threshold, groups.tolist())
    accepted = (scores < threshold).astype(int)
    assert comparison.values.keys() == set(groups)
    for group, values in comparison.values.items():
        its = groups == group
        assert values["rows"] == np.sum(its)
        assert values["share_of_1"] == pytest.approx(np.mean(y[its]))
        assert values["mean_score"] == pytest.approx(np.mean(scores[its]))
        assert values["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(1 - y[its], accepted[its]))
        assert values["selection_rate"] == pytest.approx(np.mean(accepted[its]))
        good = its & (y == 0)
        assert values["opportunity"] == (pytest.approx(np.mean(accepted[good])) if good.any() else None)
        both = len(set(y[its])) == 2
        auc = pytest.approx(sklearn.metrics.roc_auc_score(y[its], scores[its])) if both else None
        assert values["roc_auc"] == auc
    ratio = None
    if accepted.any() and len(set(groups)) > 1:
        ratio = pytest.approx(
            fairlearn.metrics.demographic_parity_ratio(1 - y, accepted, sensitive_features=list(groups))
        )
    assert comparison.disparate_impact == ratio


@settings(max_examples=20)
@given(people=people)
def test_a_comparison_is_plain_json_without_nan(people: list[tuple[float, float, str]]) -> None:
    y, scores, groups = (list(column) for column in zip(*people, strict=True))
    comparison = compared(np.array(y), np.array(scores), 0.5, groups)
    plain = dataclasses.asdict(comparison)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def grouped(*sizes: int) -> GroupComparison:
    """A comparison of groups of so many rows."""
    values = {f"group {place}": {"rows": float(size), "accuracy": size / 1000} for place, size in enumerate(sizes)}
    return GroupComparison(values, disparate_impact=0.7, equal_opportunity_difference=0.1)


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ((20, 300), [20, 300]),
        ((19, 300), []),  # those of 300 would tell of the 19, since the whole is known
        ((300, 5, 4, 11, 25), [300, 25]),  # 5, 4 and 11 together are as many as may be told of
        ((300, 5, 4, 10, 25), [300]),
        ((300, 5, 4, 10, 25, 25), [300, 25]),
        ((3,), []),
        ((), []),
    ],
)
def test_a_small_group_is_withheld_with_what_would_tell_of_it(sizes: tuple[int, ...], shown: list[int]) -> None:
    groups = grouped(*sizes).publishable()
    assert [figures["rows"] for figures in groups.values.values()] == shown
    assert groups.withheld == len(sizes) - len(shown)
    is_whole = groups.withheld == 0
    assert groups.disparate_impact == (0.7 if is_whole else None)
    assert groups.equal_opportunity_difference == (0.1 if is_whole else None)


@given(sizes=st.lists(st.integers(1, 60), max_size=8))
def test_what_is_shown_tells_of_nobody_in_a_small_group(sizes: list[int]) -> None:
    comparison = grouped(*sizes)
    before = copy.deepcopy(comparison)
    groups = comparison.publishable()
    assert comparison == before
    rows = [figures["rows"] for figures in groups.values.values()]
    rest = sum(sizes) - sum(rows)  # all that can be computed is about these together
    assert min(rows, default=FEWEST) >= FEWEST
    assert rest == 0 or rest >= FEWEST or not rows
    assert (rest > 0) == any(size < FEWEST for size in sizes)
