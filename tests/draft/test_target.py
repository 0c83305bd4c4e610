"""What is predicted, and as which kind of task."""

import math

import numpy as np
import pytest

from tabserve.draft.profile import profile_of
from tabserve.draft.target import DraftTarget, draft_target, nearest_names
from tabserve.errors import DraftError
from tests.draft.tables import repeated, table_of


def target_of(name: str, cells: list[str]) -> DraftTarget:
    (column,) = table_of({name: cells}).columns
    return draft_target(profile_of(column), ".")


@pytest.mark.parametrize(
    ("cells", "labels", "reason"),
    [
        (["No", "No", "Yes"], ("No", "Yes"), "since it says yes"),
        (["Yes", "Yes", "No"], ("No", "Yes"), "since it says yes"),
        (["1", "0", "1"], ("0", "1"), "since it says yes"),
        (["good", "bad", "bad"], ("good", "bad"), "since it names something that happens"),
        (["left", "right", "right"], ("right", "left"), "since it is the rarer value"),
    ],
)
def test_of_two_values_one_is_the_event_and_it_is_said_why(
    cells: list[str], labels: tuple[str, ...], reason: str
) -> None:
    target = target_of("y", repeated(cells))
    assert (target.task, target.labels) == ("binary", labels)
    assert f"“{labels[1]}”, {reason}" in target.proposal.doubts[0]
    assert set(target.y) == {0.0, 1.0}
    assert np.mean(target.y) == pytest.approx(cells.count(labels[1]) / 3)


def test_what_stands_for_missing_in_a_target_stays_so() -> None:
    binary = target_of("y", repeated(["no", "yes", "no", "?"]))
    assert binary.proposal.options == {"markers": ["?"]}
    several = target_of("y", repeated(["a", "b", "c", "?"]))
    assert several.proposal.options == {"values": ["a", "b", "c"], "markers": ["?"]}
    assert several.proposal.doubts[0] == "“?” is read as missing (75 rows)."


def test_imbalance_is_said() -> None:
    target = target_of("y", repeated(["no"] * 19 + ["yes"]))
    assert "Imbalance: the rarer class has 5.0% of the rows (15)" in target.proposal.doubts[1]


def test_several_texts_are_classes_and_rare_ones_are_said() -> None:
    target = target_of("species", [*repeated(["a", "b", "c"]), "d"])
    assert (target.task, target.labels) == ("multiclass", ("a", "b", "c", "d"))
    assert target.proposal.options == {"values": ["a", "b", "c", "d"]}
    assert "“d” (1)" in target.proposal.doubts[0]


def test_numbers_are_predicted_as_numbers() -> None:
    target = target_of("price", repeated([str(number) for number in range(100, 180)]))
    assert (target.task, target.labels) == ("regression", ())
    assert target.y[:3].tolist() == [100, 101, 102]


def test_few_whole_numbers_are_classes_by_name_only() -> None:
    assert target_of("class", repeated(["1", "2", "3"])).task == "multiclass"
    quality = target_of("quality", repeated(["3", "4", "5"]))
    assert quality.task == "regression"
    assert "only 3 different numbers" in quality.proposal.doubts[0]


def test_a_long_tail_is_said() -> None:
    skewed = target_of("price", [f"{math.exp(place % 97 / 9):.2f}" for place in range(300)])
    assert "log = true" in " ".join(skewed.proposal.doubts)
    even = target_of("price", [f"{100 + place % 97}" for place in range(300)])
    assert even.proposal.doubts == ()


def test_rows_without_target_are_counted_and_the_target_is_not_optional() -> None:
    target = target_of("y", repeated(["yes", "no", "", "NA"]))
    assert "missing" not in target.proposal.options
    assert "150 rows have no value of it" in " ".join(target.proposal.doubts)
    assert np.isnan(target.y).sum() == 150


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        (["a"], "is 'a' in all rows"),
        ([""], "has no value in any row"),
        (["2020-01-02", "2020-01-03", "2020-01-04"], "holds dates"),
        ([f"word{number}" for number in range(200)], "has 200 different texts"),
    ],
)
def test_what_no_task_predicts_is_refused(cells: list[str], problem: str) -> None:
    with pytest.raises(DraftError, match=problem):
        target_of("y", repeated(cells))


@pytest.mark.parametrize(
    ("name", "near"), [("defualt", ["default"]), ("Price", ["price_eur"]), ("zzz", []), ("defaults", ["default"])]
)
def test_a_mistyped_target_gets_the_nearest_names(name: str, near: list[str]) -> None:
    assert nearest_names(name, ["default", "price_eur", "rooms"]) == near
