"""Declarations as plain data: what TOML files and manifests hold."""

import json
from typing import Any

import pytest

from tabserve.declaration.discovery import get_use_case
from tabserve.declaration.folds import folds_for
from tabserve.declaration.plain import from_plain, to_plain
from tabserve.errors import InvalidUseCaseError
from tabserve.tasks.regression import Regression
from tests.declarations import comparable

LENDING: dict[str, Any] = {
    "target": "default",
    "columns": {
        "amount": {"kind": "number", "low": 1},
        "purpose": {"kind": "category", "values": ["car", "house"]},
        "default": {"kind": "category", "values": ["no", "yes"]},
    },
}


def lending(**changes: Any) -> dict[str, Any]:
    return {**LENDING, **changes}


def with_target(**line: Any) -> dict[str, Any]:
    return lending(columns={**LENDING["columns"], "default": line})


@pytest.mark.parametrize("name", ["credit", "bikes"])
def test_a_declaration_comes_back_from_plain_data(name: str) -> None:
    use_case = get_use_case(name)
    plain = json.loads(json.dumps(to_plain(use_case), allow_nan=False))
    assert comparable(from_plain(plain, name, use_case.folder, use_case.file)) == comparable(use_case)


def test_columns_and_a_target_are_enough() -> None:
    use_case = from_plain(LENDING, "small_loans")
    assert use_case.title == "Small loans"
    assert use_case.task.kind == "binary"
    assert use_case.task.outcomes == ("no", "yes")
    assert [algorithm.name for algorithm in use_case.algorithms] == ["lightgbm", "blend", "linear"]
    assert use_case.algorithms[1].parameters_from == "lightgbm"
    assert use_case.baseline is use_case.algorithms[2]
    assert {gate.name for gate in use_case.gates} == {"roc_auc"}
    assert not use_case.example


@pytest.mark.parametrize(
    ("line", "kind", "outcomes"),
    [
        ({"kind": "category", "values": ["no", "yes"]}, "binary", ("no", "yes")),
        ({"kind": "ordered", "values": ["low", "high"]}, "binary", ("low", "high")),
        ({"kind": "integer", "low": 0, "high": 1}, "binary", ("0", "1")),
        ({"kind": "integer", "low": 1, "high": 2}, "binary", ("1", "2")),
        ({"kind": "category", "values": ["a", "b", "c"]}, "multiclass", ("a", "b", "c")),
        ({"kind": "integer", "low": 0, "high": 9}, "regression", ()),
        ({"kind": "number"}, "regression", ()),
    ],
)
def test_the_task_follows_from_the_target(line: dict[str, Any], kind: str, outcomes: tuple[str, ...]) -> None:
    use_case = from_plain(with_target(**line), "loans")
    assert use_case.task.kind == kind
    assert use_case.task.outcomes == outcomes
    assert comparable(from_plain(to_plain(use_case), "loans")) == comparable(use_case)


def test_whole_numbers_may_be_classes_when_the_task_says_so() -> None:
    use_case = from_plain({**with_target(kind="integer", low=1, high=3), "task": "multiclass"}, "loans")
    assert use_case.task.outcomes == ("1", "2", "3")
    assert use_case.target.fit().transform([3, 1]).tolist() == [2, 0]


def test_outcomes_may_name_labels() -> None:
    plain = {**with_target(kind="category", values=["A", "B", "C"]), "outcomes": {"good": ["A", "B"], "bad": "C"}}
    use_case = from_plain(plain, "loans")
    assert use_case.task.outcomes == ("good", "bad")
    assert use_case.target.fit().transform(["A", "B", "C"]).tolist() == [0, 0, 1]
    assert to_plain(use_case)["outcomes"] == plain["outcomes"]


@pytest.mark.parametrize(
    ("line", "labels", "values"),
    [
        ({"kind": "boolean"}, ["yes", "no"], [True, False]),
        ({"kind": "boolean", "words": ["nein", "ja"]}, ["ja", "nein"], [True, False]),
        ({"kind": "category", "values": ["A", "B", "C"]}, ["C", "A", "B"], ["C", "A", "B"]),
    ],
)
def test_outcomes_that_are_the_values_in_another_order_mean_these_values(
    line: dict[str, Any], labels: list[str], values: list[Any]
) -> None:
    use_case = from_plain({**with_target(**line), "outcomes": labels}, "loans")
    assert use_case.task.outcomes == tuple(labels)
    assert use_case.target.fit().transform(values).tolist() == list(range(len(values)))


def test_a_promise_leaves_the_linear_model_to_be_the_baseline() -> None:
    columns = {**LENDING["columns"], "amount": {"kind": "number", "low": 1, "monotone": 1}}
    use_case = from_plain(lending(columns=columns), "loans")
    assert [algorithm.name for algorithm in use_case.algorithms] == ["lightgbm", "blend"]
    assert use_case.baseline.name == "linear"


def test_a_column_without_input_is_carried_along() -> None:
    columns = {**LENDING["columns"], "branch": {"kind": "category", "values": ["north", "south"], "input": False}}
    use_case = from_plain(lending(columns=columns), "loans")
    assert [extra.name for extra in use_case.extras] == ["branch"]
    assert "branch" not in [feature.name for feature in use_case.features]
    assert to_plain(use_case)["columns"]["branch"]["input"] is False


@pytest.mark.parametrize(
    ("plain", "sentence", "place"),
    [
        ({"columns": LENDING["columns"]}, "the target is missing", ()),
        ({"target": "default"}, "there are no columns", ()),
        (lending(titel="Loans"), "did you mean 'title'", ("titel",)),
        (lending(title=5), "title must be a text in quotation marks, not 5", ("title",)),
        (lending(target="defualt"), "did you mean 'default'", ("target",)),
        (with_target(kind="categry", values=["no", "yes"]), "did you mean 'category'", ("columns", "default", "kind")),
        (with_target(kind="category"), "'default' needs values, or the name", ("columns", "default")),
        (with_target(kind="category", values="no"), "values must be a list", ("columns", "default", "values")),
        (lending(gates={"smalest": {"roc_auc": 0.5}}), "did you mean 'smallest'", ("gates", "smalest")),
        (lending(gates={"smallest": {"roc_auc": "high"}}), "must be a table", ("gates", "smallest")),
        (
            lending(algorithms={"blend": {"model": "BlendClassifier", "parameters_from": "trees"}}),
            "it cannot take over the parameters of 'trees'",
            ("algorithms", "blend", "parameters_from"),
        ),
        (lending(algorithms={"trees": {"model": "LgbClasifier"}}), "did you mean", ("algorithms", "trees", "model")),
        (lending(derived={"x": {"kind": "quotient"}}), "'x' needs numerator", ("derived", "x")),
    ],
)
def test_a_mistake_has_a_place_and_says_what_would_be_right(
    plain: dict[str, Any], sentence: str, place: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidUseCaseError) as caught:
        from_plain(plain, "loans")
    assert sentence in str(caught.value)
    assert caught.value.place == place


def test_more_rows_are_cross_validated_less_often() -> None:
    assert folds_for(700) == (10, 2)
    assert folds_for(10_000) == (5, 1)
    assert folds_for(100_001) == (3, 1)


def test_a_log_scale_is_said_and_comes_back_and_is_one_of_regressions_only() -> None:
    plain = {**with_target(kind="number", low=0, high=9), "log": True}
    use_case = from_plain(plain, "small_loans")
    assert use_case.task == Regression(log=True)
    assert from_plain(to_plain(use_case), "small_loans").task == use_case.task
    with pytest.raises(InvalidUseCaseError, match="only a regression has a log scale"):
        from_plain({**LENDING, "task": "binary", "log": True}, "small_loans")
