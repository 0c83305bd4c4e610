"""Declared values have the types of their annotations."""

from collections.abc import Callable
from typing import Any

import pytest

from tabserve.columns.boolean import Boolean
from tabserve.columns.features import Category, Integer, Number
from tabserve.columns.kinds import fits
from tabserve.declaration.declaration import Algorithm
from tabserve.errors import InvalidUseCaseError
from tabserve.evaluation.fairness import GroupBy
from tabserve.evaluation.gates import Gate, SmallestMetric
from tabserve.models.lightgbm import LgbRegressor
from tabserve.models.scikit import LinearRegression
from tabserve.search_space import Real, Whole
from tabserve.tasks.binary import Binary, CostMatrix
from tabserve.transformers import RemapTarget, Target
from tests.test_checks import CLASSES, FEATURES, LINEAR, SPECIES, declare

NO_NUMBERS: list[Any] = ["0.7", None, float("nan"), float("inf"), True, 10**400, (1,)]


@pytest.mark.parametrize(
    "make",
    [
        *(lambda bad=bad: SmallestMetric("r2", bad) for bad in NO_NUMBERS),
        *(lambda bad=bad: CostMatrix(1, bad) for bad in [*NO_NUMBERS, -1]),
        *(lambda bad=bad: CostMatrix(bad, 1) for bad in [*NO_NUMBERS, -1]),
        lambda: CostMatrix(0, 0),
        lambda: Binary(None),
        lambda: Binary(CostMatrix(1, 1), outcomes=("good", "bad", "ugly")),
        *(lambda bad=bad: Real(bad, 2) for bad in NO_NUMBERS),
        *(lambda bad=bad: Number(name="x", description="-", low=bad, high=9) for bad in NO_NUMBERS),
        lambda: Number(name="x", description="-", low=0, high=9, reason="{value[0]}"),
        lambda: Category(name="x", description="-", values=("aa", "b"), reason="{value[1]}"),
        lambda: Category(name="x", description="-", values=(1, 2, 3)),
        lambda: Category(name="x", description="-", values="abc"),
        lambda: Category(name="x", description="-", values=("a", "\ud800")),
        lambda: Category(name=7, description="-", values=("a", "b")),
        lambda: Integer(name="x", description="-", low=0, high=1, missing="no"),
        lambda: GroupBy(feature="x", cuts=25),
        *(lambda bad=bad: GroupBy(feature="x", cuts=(bad,)) for bad in NO_NUMBERS),
        lambda: Algorithm(name="x", model=LinearRegression),
        lambda: Algorithm(name="x", model=LgbRegressor(), search_space={"num_leaves": (2, 4)}),
        lambda: Algorithm(name="x", model=LgbRegressor(), transformers=Target(FEATURES[0])),
        lambda: declare(gates=SmallestMetric("r2", 0.1)),
        lambda: declare(gates=(None,)),
        lambda: declare(limits="One sentence."),
        lambda: declare(limits=(1,)),
        lambda: declare(features=FEATURES[0]),
        lambda: declare(algorithms=LINEAR),
        lambda: declare(baseline="linear"),
        lambda: declare(target=FEATURES[0]),
        lambda: declare(target=Target("price")),
        lambda: declare(task=1),
        lambda: declare(example=None),
        lambda: declare(splits=2.5),
        lambda: declare(repeats="2"),
        lambda: declare(title=None),
        lambda: declare(**{**CLASSES, "target": RemapTarget(SPECIES, {"setosa": None, "virginica": 1})}),
        lambda: declare(**{**CLASSES, "target": RemapTarget(SPECIES, None)}),
    ],
)
def test_what_is_of_another_kind_is_refused_in_one_sentence(make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidUseCaseError, match=r"^[^\n]{20,600}\.$"):
        make()


def test_what_is_forgotten_is_named() -> None:
    with pytest.raises(InvalidUseCaseError, match=r"^UseCase: limits of 'things' must be a tuple, with a comma even"):
        declare(limits="One sentence.")
    with pytest.raises(
        InvalidUseCaseError, match=r"^SmallestMetric: bound of 'r2' must be a finite number, not '0.7'\.$"
    ):
        SmallestMetric("r2", "0.7")


def test_what_cross_validation_chooses_is_not_searched_for() -> None:
    searching = Algorithm(name="x", model=LgbRegressor(), search_space={"num_rounds": Whole(3, 5)})
    with pytest.raises(InvalidUseCaseError, match="cross-validation chooses num_rounds itself"):
        declare(algorithms=(searching,))


def test_an_unknown_key_of_the_example_is_named() -> None:
    with pytest.raises(InvalidUseCaseError, match=r"does not fit the features\. shoe: There is no such feature"):
        declare(example={"size": 2, "grade": "low", "colour": "red", "hour": 3, "shoe": 43})


def test_a_list_is_as_good_as_a_tuple_and_a_whole_number_as_a_float() -> None:
    assert fits([1, 2.5], tuple[float, ...])
    assert fits([], tuple[Gate, ...])
    assert not fits(2.0, int)


def test_what_may_be_left_out_fits_with_none_and_with_a_value() -> None:
    assert fits(None, int | None)
    assert fits(3, int | None)
    assert not fits("3", int | None)
    with pytest.raises(InvalidUseCaseError, match=r"search_space of 'x' must be a mapping to a Dimension, not 5\.$"):
        Algorithm(name="x", model=LgbRegressor(), search_space=5)


@pytest.mark.parametrize(
    ("words", "cell", "value"),
    [
        (("1", "2"), "1", False),
        (("1", "2"), 2.0, True),
        (("1", "2"), "2.0", True),
        (("1", "2"), "0", "0"),
        (("1", "2"), True, True),
        (("f", "n"), "t", "t"),
        (("m", "f"), "n", "n"),
        (("nein", "ja"), "0", False),
        (("nein", "ja"), "yes", True),
    ],
)
def test_words_that_mean_the_opposite_elsewhere_leave_only_the_columns_own(
    words: tuple[str, str], cell: Any, value: Any
) -> None:
    found = Boolean(name="signed", words=words).from_cell(cell)
    assert (found, type(found)) == (value, type(value))


def test_a_word_that_is_not_known_is_refused_with_the_way_to_declare_it() -> None:
    assert "words = ['nein', 'ja']" in str(Boolean(name="signed").cell_problem("Wahr"))
    assert Boolean(name="signed").problem("Wahr") == "Must be true or false."
