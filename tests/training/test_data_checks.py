"""Data checks: what is odd about data is said, with what to do, before anything is tuned."""

import dataclasses
import re
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from tabserve.columns.features import Category, Feature, Number
from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.use_case import UseCase
from tabserve.errors import InvalidTableError, WarnedError
from tabserve.evaluation.gates import ChampionMargin, SmallestMetric
from tabserve.models.linear import LogisticRegression
from tabserve.models.scikit import LinearRegression
from tabserve.registry.manifest import DataWarning
from tabserve.registry.registry import Registry
from tabserve.tasks.binary import Binary, CostMatrix, Threshold
from tabserve.tasks.regression import Regression
from tabserve.train_pipeline import main, run_training
from tabserve.training.data_checks import check_data, check_decisions
from tabserve.training.parts import read, split
from tabserve.training.plan import Plan
from tabserve.transformers import RemapTarget, Standardize, Target

OUTCOME = RemapTarget(Category(name="left", description="-", values=("no", "yes")), classes={"no": 0, "yes": 1})
LINE = Algorithm(name="line", model=LogisticRegression(), transformers=(Standardize(),))
SIZE = Number(name="size", description="-", low=-100, high=100)
RENT = Target(Number(name="rent", description="-", low=-1000, high=1000))


def declared(*features: Feature, **changes: Any) -> UseCase:
    said = {
        "name": "leavers",
        "description": "-",
        "task": Binary(CostMatrix(missed=1, false_alarm=1), outcomes=("stays", "leaves")),
        "features": (SIZE, *features),
        "target": OUTCOME,
        "algorithms": (LINE,),
        "baseline": LINE,
        "gates": (),
        "splits": 2,
        "repeats": 1,
    }
    return UseCase(**{**said, **changes})


def numbers(*features: Feature, **changes: Any) -> UseCase:
    line = Algorithm(name="line", model=LinearRegression(), transformers=(Standardize(),))
    return declared(
        *features, **{"task": Regression(), "target": RENT, "algorithms": (line,), "baseline": line, **changes}
    )


def some_rows(number: int = 400, rate: float = 0.5) -> pd.DataFrame:
    random = Random(1)
    table = pd.DataFrame({"size": [random.gauss(0, 1) for _ in range(number)]})
    table["left"] = ["yes" if random.random() < rate else "no" for _ in range(number)]
    table["rent"] = [random.gauss(0, 1) for _ in range(number)]
    return table


def warnings(use_case: UseCase, table: pd.DataFrame, folder: Path) -> list[str]:
    path = folder / "leavers.csv"
    names = [feature.name for feature in (*use_case.features, use_case.target.feature)]
    table[[name for name in names if name in table]].to_csv(path, index=False)
    parts = split(use_case, read(use_case, path), 42)
    return [str(warning) for warning in check_data(parts.use_case, parts)]


def test_data_without_anything_odd_have_no_warnings(tmp_path: Path) -> None:
    assert warnings(declared(), some_rows(), tmp_path) == []
    assert warnings(numbers(), some_rows(), tmp_path) == []


SIGN = Category(name="sign", description="-", values=("a", "b", "c"), missing=True)
CODE = Number(name="code", description="-", low=-1e6, high=1e6, missing=True)


@pytest.mark.parametrize(
    ("feature", "leak"),
    [
        (SIGN, lambda table: table["left"].map({"yes": "a", "no": "b"})),
        (SIGN, lambda table: table["left"].map({"yes": "c", "no": None})),  # filled in for those who left
        (CODE, lambda table: (table["left"] == "yes") * 1000 + table["size"]),
        (CODE, lambda table: abs(table["size"]) * (2 * (table["left"] == "yes") - 1)),
    ],
)
def test_a_column_that_alone_tells_the_class_is_a_leak(feature: Feature, leak: Any, tmp_path: Path) -> None:
    table = some_rows()
    (warning,) = warnings(declared(feature), table.assign(**{feature.name: leak(table)}), tmp_path)
    assert warning.startswith(f"The column '{feature.name}' alone predicts nearly all of the target: roc_auc is ")
    assert "ignore it" in warning


@pytest.mark.parametrize("leak", [lambda rent: rent, lambda rent: 3 * rent + 1, lambda rent: rent + 0.01])
def test_a_column_that_nearly_equals_the_number_is_a_leak(leak: Any, tmp_path: Path) -> None:
    table = some_rows(4000)
    (warning,) = warnings(numbers(CODE), table.assign(code=leak(table["rent"])), tmp_path)
    assert warning.startswith("The column 'code' alone predicts nearly all of the target: r2 is ")


def test_an_id_for_each_row_is_no_leak(tmp_path: Path) -> None:
    many = Category(name="sign", description="-", values=tuple(f"id {row}" for row in range(400)))
    assert warnings(declared(many), some_rows().assign(sign=many.values), tmp_path) == []


def test_empty_hardly_filled_and_constant_columns_are_named(tmp_path: Path) -> None:
    table = some_rows().assign(empty=None, few=None, same=3.0)
    table.loc[[3, 5], "few"] = 1.5
    features = [dataclasses.replace(CODE, name=name) for name in ("absent", "empty", "few", "same")]
    assert [line.partition(":")[0] for line in warnings(declared(*features), table, tmp_path)] == [
        "No row has a value of 'absent', 'empty'",
        "Columns have values in very few of 400 rows",
        "All rows have the same value of 'same'. Nothing can be learnt from it",
    ]


def test_columns_that_tell_the_same_are_named_though_their_values_are_called_otherwise(tmp_path: Path) -> None:
    table = some_rows()
    table["sign"] = ["abc"[row % 3] for row in range(400)]
    table["code"] = [row % 3 for row in range(400)]
    (warning,) = warnings(declared(SIGN, CODE), table, tmp_path)
    assert warning.startswith("The columns 'sign' and 'code' hold the same, row by row.")


def test_repeated_rows_are_counted(tmp_path: Path) -> None:
    table = some_rows()
    (warning,) = warnings(declared(), pd.concat([table, table[:30], table[:10]]), tmp_path)
    assert warning.startswith("40 of 440 rows repeat the features of another row. They are kept together in split and")


def test_few_events_in_the_hold_out_are_counted(tmp_path: Path) -> None:
    (warning,) = warnings(declared(), some_rows(2000, 0.02), tmp_path)
    assert re.match(r"Only \d+ rows of the hold-out are 'leaves', and \d+ rows of the training part\.", warning)


def test_a_rate_that_moves_with_time_is_said(tmp_path: Path) -> None:
    table = pd.concat([some_rows(700, 0.2), some_rows(300, 0.6)])
    wide = dataclasses.replace(SIZE, high=1000)
    use_case = dataclasses.replace(declared(), features=(wide,), chronological=True)
    found = warnings(use_case, table.assign(size=range(1000)), tmp_path)
    assert [line for line in found if line.startswith("The share of 'leaves' is ")]
    shifted = table.assign(size=range(1000), rent=[row // 700 + Random(row).random() for row in range(1000)])
    numeric = dataclasses.replace(numbers(), features=(wide,), chronological=True)
    assert [line for line in warnings(numeric, shifted, tmp_path) if line.startswith("The mean of the target is")]


def test_a_threshold_that_never_says_an_outcome_is_named() -> None:
    use_case, predictions = declared(), pd.Series([0.1, 0.2]).to_numpy()
    assert [one.found for one in check_decisions(use_case, "line", Threshold(0.5), predictions)] == [
        "The model never says 'leaves' on the hold-out."
    ]
    (never,) = check_decisions(use_case, "line", Threshold(0.05), predictions)
    assert never == DataWarning("The model never says 'stays' on the hold-out.", never.advice, "line")
    assert check_decisions(use_case, "line", Threshold(0.15), predictions) == ()


# in a whole training


def odd(folder: Path) -> Path:
    path = folder / "leavers.csv"
    some_rows(600, 0.1).assign(same=1).drop(columns="rent").to_csv(path, index=False)
    return path


def test_warnings_are_in_the_manifest_and_strictness_makes_them_faults(tmp_path: Path) -> None:
    use_case = declared(dataclasses.replace(CODE, name="same"))
    registry = Registry(tmp_path / "models")
    with pytest.raises(WarnedError, match=r"^2 warning\(s\), which --strict makes faults:\n  All rows have the same"):
        run_training(use_case, registry, odd(tmp_path), Plan(trials=1, jobs=1, strict=True))
    assert registry.list() == []
    (manifest,) = run_training(use_case, registry, odd(tmp_path), Plan(trials=1, jobs=1)).manifests
    saved = registry.manifest(manifest.model_id)
    assert saved.warnings == manifest.warnings
    assert [warning.algorithm for warning in saved.warnings] == ["", "", "line"]
    assert saved.warnings[2].found == "The model never says 'leaves' on the hold-out."


def test_a_model_with_warnings_of_its_own_is_not_registered_by_a_strict_training(tmp_path: Path) -> None:
    path = tmp_path / "leavers.csv"
    some_rows(2000, 0.1).drop(columns="rent").to_csv(path, index=False)
    registry = Registry(tmp_path / "models")
    result = run_training(declared(), registry, path, Plan(trials=1, jobs=1, strict=True))
    assert result.problems == ["line was not registered; it failed: no warnings, as --strict demands."]
    assert registry.list() == []


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A function that runs the command on some rows, and gives its result."""
    runner = CliRunner(env={"MODEL_REGISTRY": str(tmp_path / "models"), "COLUMNS": "200"})

    def run(use_case: UseCase, table: pd.DataFrame, *arguments: str) -> Any:
        monkeypatch.setattr("tabserve.train_pipeline.get_use_case", lambda name: use_case)
        path = tmp_path / "rows.csv"
        table.drop(columns="rent", errors="ignore").to_csv(path, index=False)
        return runner.invoke(main, ["--data", str(path), "--trials", "1", "--jobs", "1", *arguments])

    return run


def test_a_model_that_is_worse_than_the_champion_is_accepted_for_a_reason(command: Any, tmp_path: Path) -> None:
    table = some_rows(600)
    table["size"] += 2 * (table["left"] == "yes")
    use_case = declared(CODE, gates=(ChampionMargin("roc_auc", 0.02),))
    good = table.assign(code=table["size"])
    assert command(use_case, good).exit_code == 0
    worse = good.assign(code=None)
    worse["left"] = worse["left"].sample(frac=1, random_state=1).tolist()
    weak = dataclasses.replace(use_case, gates=(ChampionMargin("roc_auc", -1.0),))
    result = command(weak, worse)
    assert result.exit_code == 1
    assert "it failed: largest roc_auc below champion" in result.stderr
    result = command(weak, worse, "--accept-worse", "The [old] data were wrong.")
    assert result.exit_code == 0, result.output
    assert "line: accepted though worse than the champion: The [old] data were wrong.\n" in result.stdout
    registry = Registry(tmp_path / "models")
    (gate,) = registry.manifest(registry.latest("leavers")).gates
    assert (gate.passed, gate.accepted) == (False, "The [old] data were wrong.")
    failing = dataclasses.replace(weak, gates=(*weak.gates, SmallestMetric("roc_auc", 1.0)))
    assert command(failing, worse, "--accept-worse", "So be it.").exit_code == 1
    assert command(weak, worse, "--accept-worse", " ").exit_code == 2


def test_rows_without_a_target_are_counted_and_left_out_when_that_is_asked_for(command: Any, tmp_path: Path) -> None:
    table = some_rows(400)
    table.loc[[3, 7, 9], "left"] = None
    result = command(declared(), table)
    assert result.exit_code == 1
    assert (
        "column 'left': 3 of 400 rows have no value, the first is row 5: fill them in, or leave these rows out with "
        "--drop-missing-target."
    ) in result.stderr
    result = command(declared(), table, "--drop-missing-target")
    assert result.exit_code == 0, result.output
    registry = Registry(tmp_path / "models")
    data = registry.manifest(registry.latest("leavers")).data
    assert (data.rows, data.dropped) == (397, 3)


def test_a_table_without_any_target_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "leavers.csv"
    some_rows(50).assign(left=None).drop(columns="rent").to_csv(path, index=False)
    with pytest.raises(InvalidTableError, match="column 'left': No row has a value"):
        read(declared(), path, drop_missing_target=True)


def test_warnings_are_shown_before_anything_is_fitted(command: Any) -> None:
    table = some_rows(600).assign(code=7)
    result = command(declared(CODE), table)
    assert "warning: All rows have the same value of 'code'. Nothing can be learnt from it" in result.stdout
