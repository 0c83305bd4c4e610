"""Declarations that could not be trained, or would not do what they say, are refused."""

import dataclasses
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from tabserve.columns.derived import Grouping, Quotient
from tabserve.columns.features import RESERVED_NAMES, Category, CyclicInteger, Integer, Number, OrderedCategory
from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.use_case import UseCase
from tabserve.errors import InvalidUseCaseError
from tabserve.evaluation.fairness import GroupBy
from tabserve.evaluation.gates import ChampionMargin, LargestGap, SmallestGroupRatio, SmallestMetric
from tabserve.models.lightgbm import LgbClassifier, LgbCountRegressor, LgbRegressor
from tabserve.models.linear import LogisticRegression, Ridge
from tabserve.models.scikit import Lasso, LinearRegression
from tabserve.search_space import Real, Whole
from tabserve.tasks.binary import Binary, CostMatrix
from tabserve.tasks.regression import Regression
from tabserve.transformers import (
    Drop,
    MinMax,
    OneHot,
    RecordEncoder,
    RemapTarget,
    Standardize,
    Target,
    Transformer,
)

SIZE = Number(name="size", description="-", low=1, high=9)
GRADE = OrderedCategory(name="grade", description="-", values=("low", "high"))
COLOUR = Category(name="colour", description="-", values=("red", "blue"))
HOUR = CyclicInteger(name="hour", description="-", low=0, high=24)
PRICE = Number(name="price", description="-", low=0, high=100)
FEATURES = (SIZE, GRADE, COLOUR, HOUR)
LINEAR = Algorithm(name="linear", model=LinearRegression(), transformers=(OneHot(("colour",)), MinMax()))
TREES = Algorithm(name="trees", model=LgbRegressor())
WORKS: dict[str, Any] = {
    "name": "things",
    "title": "Things",
    "description": "-",
    "task": Regression(),
    "source": "things.csv",
    "features": FEATURES,
    "target": Target(PRICE),
    "algorithms": (TREES, LINEAR),
    "baseline": LINEAR,
    "gates": (SmallestMetric("r2", 0.2),),
    "example": {"size": 2, "grade": "low", "colour": "red", "hour": 3},
}
LOGISTIC = Algorithm(name="linear", model=LogisticRegression(), transformers=LINEAR.transformers)
SPECIES = Category(name="species", description="-", values=("setosa", "virginica"))
CLASSES: dict[str, Any] = {
    "task": Binary(CostMatrix(1, 1)),
    "target": RemapTarget(SPECIES, classes={"setosa": 0, "virginica": 1}),
    "algorithms": (LOGISTIC,),
    "baseline": LOGISTIC,
    "gates": (SmallestMetric("roc_auc", 0.5), SmallestGroupRatio("grade", 0.5)),
    "groups": (GroupBy(feature="grade"), GroupBy(feature="size", cuts=(3, 5))),
}


def declare(**changes: Any) -> UseCase:
    return UseCase(**{**WORKS, **changes})


def declare_classes(**changes: Any) -> UseCase:
    return declare(**{**CLASSES, **changes})


def refused(problem: str, **changes: Any) -> None:
    with pytest.raises(InvalidUseCaseError, match=f"^things.*: {problem}"):
        declare(**changes)


def trees(model: Any = TREES.model, *transformers: Any, **changes: Any) -> dict[str, Any]:
    """The algorithm declared beside the linear baseline."""
    return {"algorithms": (Algorithm(name="trees", model=model, transformers=transformers, **changes),)}


def promising(feature: Any, sign: int = 1) -> tuple[Any, ...]:
    """The features, one of them monotone."""
    return tuple(dataclasses.replace(one, monotone=sign) if one is feature else one for one in FEATURES)


def test_what_works_is_accepted() -> None:
    assert declare().name == "things"
    assert declare_classes().name == "things"
    whole = Target(Integer(name="species", description="-", low=0, high=1))
    assert declare_classes(target=whole, groups=(), gates=()).target is whole


# names


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_no_column_is_called_as_one_of_an_answer_is(name: str) -> None:
    problem = f"a column cannot be called '{name}', because answers use that name: rename it, in the data too"
    feature = dataclasses.replace(SIZE, name=name)
    refused(problem, features=(*FEATURES, feature), example={**WORKS["example"], name: 2})
    refused(problem, target=Target(dataclasses.replace(PRICE, name=name)))
    derived = Grouping(name=name, description="-", category="grade", groups={"both": ("low", "high")})
    refused(problem, derived=(derived,))


@pytest.mark.parametrize("name", ["latest", "champion"])
def test_no_use_case_is_called_as_an_alias(name: str) -> None:
    with pytest.raises(InvalidUseCaseError, match=f"'{name}' means a model in URLs"):
        declare(name=name)


def test_a_column_without_a_name_and_a_table_without_a_feature_are_refused() -> None:
    refused("each column needs a name", target=Target(dataclasses.replace(PRICE, name="")))
    refused("there is no feature to predict from", features=(), example={}, **trees(LgbRegressor()))


def test_a_baseline_does_not_hide_another_algorithm_of_its_name() -> None:
    baseline = Algorithm(name="TREES", model=LinearRegression())
    refused("the baseline is not the algorithm 'trees': give it another name", baseline=baseline)


# what is learnt


@pytest.mark.parametrize(
    "target",
    [
        Target(SPECIES),
        RemapTarget(SPECIES, classes={"setosa": 0, "virginica": 1}),
        RemapTarget(Integer(name="price", description="-", low=1, high=2), classes={1: 0, 2: 1}),
    ],
)
def test_a_regression_of_classes_is_refused(target: Target) -> None:
    refused(f"a regression predicts a number, but the target '{target.feature.name}' is a class", target=target)


@pytest.mark.parametrize(
    ("target", "given"),
    [
        (Target(Category(name="species", description="-", values=("a", "b", "c"))), r"3 class\(es\)"),
        (Target(Category(name="species", description="-", values=("a",))), r"1 class\(es\)"),
        (RemapTarget(SPECIES, classes={"setosa": 0, "virginica": 0}), r"1 class\(es\)"),
        (RemapTarget(SPECIES, classes={"setosa": 0, "virginica": 2}), r"2 class\(es\)"),
        (Target(Integer(name="species", description="-", low=1, high=2)), r"2 class\(es\)"),
        (Target(Number(name="species", description="-", low=0, high=1)), "any number"),
        (Target(Integer(name="species", description="-", low=0, high=10**6)), "any number"),
    ],
)
def test_a_classification_of_other_than_two_classes_is_refused(target: Target, given: str) -> None:
    problem = f"a classification needs the two classes 0 and 1, but the target 'species' gives {given}"
    refused(problem, **{**CLASSES, "target": target})


def test_every_label_of_a_target_has_a_class_and_every_class_a_label() -> None:
    strange = RemapTarget(SPECIES, classes={"setosa": 0, "virginica": 1, "Virginica": 1})
    refused("the target 'species' has a class for 'Virginica', which is not among", **{**CLASSES, "target": strange})
    three = dataclasses.replace(SPECIES, values=("setosa", "virginica", "versicolor"))
    wanting = RemapTarget(three, classes={"setosa": 0, "virginica": 1})
    refused("the target 'species' has no class for 'versicolor'", **{**CLASSES, "target": wanting})


@pytest.mark.parametrize(
    "classes",
    [
        {"setosa": "0", "virginica": 1},
        {"setosa": False, "virginica": True},
        ["setosa", "virginica"],
        MappingProxyType({"setosa": 0, "virginica": 1}),  # which cannot be saved
    ],
)
def test_classes_are_whole_numbers_by_label(classes: Any) -> None:
    target = RemapTarget(SPECIES, classes=classes)
    refused("the classes of the target 'species' must be a dict of labels to whole", **{**CLASSES, "target": target})


@pytest.mark.parametrize(
    "column",
    [
        Quotient(name="q", description="-", numerator="size", denominator="size", reason_for={(1, 2): "-"}),
        Quotient(name="q", description="-", numerator="size", denominator="size", reason_for={float("inf"): "-"}),
        Grouping(name="q", description="-", category="colour", groups={"all": COLOUR.values}, reason_for={"red": "-"}),
    ],
)
def test_a_derived_column_has_reasons_for_its_own_values_alone(column: Any) -> None:
    with pytest.raises(InvalidUseCaseError, match=r"^'q' has a reason for what is not among its values\.$"):
        declare(derived=(column,))


def test_two_outcomes_have_two_names() -> None:
    task = Binary(CostMatrix(1, 1), outcomes=("no", "no"))
    refused("a classification needs two outcomes with different names", **{**CLASSES, "task": task})


@pytest.mark.parametrize("folds", [{"splits": -2}, {"repeats": -1}])
def test_a_cross_validation_without_folds_is_refused(folds: dict[str, int]) -> None:
    refused("cross-validation needs at least one split", **folds)


@pytest.mark.parametrize("wide", [{"low": 0, "high": 1.1e30}, {"low": -1e300, "high": 9}])
def test_numbers_that_cannot_be_squared_are_refused(wide: dict[str, float]) -> None:
    features = (dataclasses.replace(SIZE, **wide), *FEATURES[1:])
    refused("the bounds of 'size' are too large to learn from", features=features)
    refused("the bounds of 'price' are too large to learn from", target=Target(dataclasses.replace(PRICE, **wide)))


# gates and groups


@pytest.mark.parametrize("gate", [SmallestMetric("accuracy", 0.5), LargestGap("R2", 1), ChampionMargin("", 1)])
def test_a_gate_on_no_metric_is_refused_with_those_there_are(gate: Any) -> None:
    refused(f"a gate is on '{gate.name}', which this task does not measure; choose from: r2, rmse, mae", gates=(gate,))


def test_every_metric_may_be_gated() -> None:
    for make, metric in ((declare, "mae"), (declare_classes, "expected_cost"), (declare_classes, "brier")):
        assert make(gates=(ChampionMargin(metric, 1),)).gates[0].name == metric


def test_groups_are_of_decisions_and_cut_by_ascending_numbers() -> None:
    refused(
        "groups by 'grade' are compared by decisions of 0 and 1, but this task makes none",
        groups=(GroupBy(feature="grade"),),
    )
    for groups, problem in (
        ((GroupBy(feature="colour", cuts=(1,)),), "only a number can be cut into groups, and 'colour' is not a number"),
        ((GroupBy(feature="size", cuts=(5, 3)),), "the cuts of 'size' must ascend"),
        ((GroupBy(feature="size", cuts=(3, 3)),), "the cuts of 'size' must ascend"),
        ((GroupBy(feature="size"), GroupBy(feature="size", cuts=(3,))), "each feature can define groups only once"),
    ):
        refused(problem, **{**CLASSES, "groups": groups, "gates": ()})


# models


def test_a_model_of_another_task_is_refused() -> None:
    refused("the task needs a model that is a Regressor", **trees(LgbClassifier()))
    refused("the task needs a model that is a Classifier", **{**CLASSES, **trees(LgbRegressor())})
    refused("the task needs a model that is a Regressor", baseline=LOGISTIC, **trees())


def test_a_model_of_counts_is_refused_where_the_target_may_be_negative() -> None:
    below = Target(dataclasses.replace(PRICE, low=-0.5))
    problem = "LgbCountRegressor takes no target below 0, but 'price' may be as low as -0.5"
    refused(problem, target=below, **trees(LgbCountRegressor()))
    assert declare(**trees(LgbCountRegressor())).algorithms[0].name == "trees"


def test_a_search_for_what_the_model_does_not_have_is_refused() -> None:
    problem = "LgbRegressor has no parameter depth, leaves to search for"
    refused(problem, **trees(search_space={"leaves": Whole(2, 4), "depth": Whole(2, 4), "num_leaves": Whole(2, 4)}))


@pytest.mark.parametrize("alpha", [np.int64(1), float("nan"), float("inf"), {1, 2}])
def test_a_parameter_that_no_manifest_can_hold_is_refused(alpha: Any) -> None:
    refused("the model's parameters must be plain numbers", **trees(Lasso(alpha=alpha)))


@pytest.mark.parametrize("step", [OneHot(("colour", "color")), Drop(("color",))])
def test_a_transformer_names_columns_that_are_there(step: Any) -> None:
    problem = rf"{type(step).__name__} names the column 'color', which does not exist: did you mean 'colour'"
    refused(problem, **trees(LgbRegressor(), step))
    derived = Grouping(name="color", description="-", category="colour", groups={"any": ("red", "blue")})
    assert declare(derived=(derived,), **trees(LgbRegressor(), OneHot(("color",)))).algorithms[0].transformers


@pytest.mark.parametrize("columns", ["colour", (2,), 2, ("colour", None)])
def test_a_transformer_names_columns_by_a_tuple_of_texts(columns: Any) -> None:
    refused("OneHot must name columns as a tuple of texts, with a comma", **trees(LgbRegressor(), OneHot(columns)))


def test_what_encodes_records_is_no_transformer() -> None:
    with pytest.raises(InvalidUseCaseError, match="transformers of 'trees' must be a tuple"):
        trees(LgbRegressor(), RecordEncoder(FEATURES))


# promises


def test_a_promise_needs_a_model_that_can_keep_it() -> None:
    problem = "'size' is declared as monotone=1, but Lasso cannot guarantee that"
    refused(problem, features=promising(SIZE), **trees(Lasso()))
    assert declare(features=promising(SIZE), **trees(LgbRegressor())).features[0].monotone == 1


def test_a_promise_must_be_kept_by_every_algorithm_that_may_answer_and_not_by_the_baseline() -> None:
    features = promising(SIZE)
    assert declare(features=features, algorithms=(TREES,)).baseline is LINEAR
    with pytest.raises(InvalidUseCaseError, match=r"^things, linear: 'size' is declared as monotone=1, but Linear"):
        declare(features=features, algorithms=(TREES, LINEAR))


def test_a_promise_needs_transformers_that_keep_the_order_of_its_values() -> None:
    problem = "'grade' is declared as monotone=-1, but OneHot, which comes before the model, does not keep the order"
    changes = trees(LgbRegressor(), MinMax(), OneHot(("grade",)))
    refused(problem, features=promising(GRADE, -1), **changes)
    assert declare(features=promising(SIZE), **changes).algorithms[0].transformers


@pytest.mark.parametrize("step", [MinMax(), Standardize(), OneHot(), OneHot(("colour",)), Drop(("colour", "grade"))])
def test_a_transformer_that_keeps_the_order_may_stand_before_a_model_that_promises(step: Any) -> None:
    assert declare(features=promising(GRADE), **trees(LgbRegressor(), step)).algorithms[0].transformers == (step,)


def test_a_transformer_that_says_nothing_of_the_order_keeps_no_promise() -> None:
    class Same(Drop):
        keeps_order = Transformer.keeps_order

    problem = "'size' is declared as monotone=1, but Same, which comes before the model, does not keep the order"
    refused(problem, features=promising(SIZE), **trees(LgbRegressor(), Same(())))


def test_a_promise_of_a_derived_column_must_be_kept_too() -> None:
    derived = Quotient(name="each", description="-", numerator="size", denominator="size", monotone=-1)
    assert declare(derived=(derived,), **trees()).derived == (derived,)
    refused("'each' is declared as monotone=-1", derived=(derived,), **trees(Lasso()))


@pytest.mark.parametrize("feature", [COLOUR, HOUR])
def test_what_has_no_order_promises_nothing(feature: Any) -> None:
    problem = f"'{feature.name}' has no order that a prediction could follow: remove its monotone"
    refused(problem, features=promising(feature), **trees())


def test_a_promise_of_what_moves_other_columns_is_made_with_these_held() -> None:
    derived = Grouping(name="group", description="-", category="grade", groups={"one": ("low",), "two": ("high",)})
    features = promising(GRADE)
    refused(
        "'grade' cannot be monotone, because columns that are derived from it change with it. Say all_else",
        features=features,
        derived=(derived,),
        **trees(),
    )
    held = tuple(dataclasses.replace(one, all_else_equal=one.name == "grade") for one in features)
    assert declare(features=held, derived=(derived,), **trees()).features == held
    refused("'grade' is declared as monotone=1", features=held, derived=(derived,), **trees(Lasso()))


def test_a_promise_has_a_direction() -> None:
    refused("monotone of 'size' must be 1, -1 or 0", features=promising(SIZE, 2), **trees())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"parameters_from": "tree"}, "it cannot take over the parameters of 'tree': did you mean 'trees'?"),
        ({"parameters_from": "taker"}, "it cannot take over the parameters of 'taker': choose from: trees."),
        ({"search_space": {}}, "it either takes over the parameters of 'trees' or has a search of its own: remove one"),
        ({"model": Ridge()}, "Ridge has no parameter num_leaves, which 'trees' has."),
    ],
)
def test_parameters_are_taken_over_from_an_algorithm_that_searches_for_them(
    changes: dict[str, Any], problem: str
) -> None:
    trees = Algorithm(name="trees", model=LgbRegressor(), search_space={"num_leaves": Whole(2, 9)})
    taker = Algorithm(name="taker", model=LgbRegressor(), parameters_from="trees")
    assert declare(algorithms=(trees, taker)).algorithm("taker").searched(1000, 3) == {}
    refused(problem, algorithms=(trees, dataclasses.replace(taker, **changes)))


def test_a_range_that_is_searched_is_finite() -> None:
    with pytest.raises(InvalidUseCaseError):
        Real(0, float("inf"))


def test_a_log_scale_needs_a_target_that_is_never_negative() -> None:
    negative = Target(Number(name="price", description="-", low=-5, high=10))
    refused("log needs no target below 0, but 'price' may be as low as -5", task=Regression(log=True), target=negative)
    assert declare(task=Regression(log=True), target=Target(Number(name="price", description="-", low=0, high=9)))
