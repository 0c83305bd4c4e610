"""lignum's trees against LightGBM's."""

import importlib.util
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabserve.models import faster
from tabserve.models.base import Model
from tabserve.models.blend import BlendClassifier
from tabserve.models.faster import TRIED_ROWS, FasterBooster, rows_to_try, speed_up
from tabserve.models.lightgbm import LgbClassifier, LgbModel, LgbRegressor
from tabserve.models.log_target import LogTarget
from tabserve.models.native import open_booster
from tabserve.predict import make_prediction
from tabserve.registry.registry import Registry
from tabserve.resolver import Resolver
from tabserve.scoring.item import load
from tests.conftest import ROOT

NAME = "credit-lgb-20260101T000000Z-0a0a0a0a"

pytestmark = pytest.mark.skipif(importlib.util.find_spec("lignum") is None, reason="needs the extra trees")
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")

generator = np.random.default_rng(5)
X = np.column_stack([generator.normal(size=(400, 3)), generator.integers(0, 70, 400), np.zeros(400)])
X[generator.random(X.shape) < 0.1] = np.nan
y = (np.nan_to_num(X[:, 0]) + (X[:, 3] % 2 == 0) + generator.normal(size=400) > 0.5).astype(float)


def grown(seed: int = 0, **parameters: Any) -> str:
    """The text of a model of random data."""
    rng = np.random.default_rng(seed)
    matrix = np.column_stack([rng.normal(size=(300, 2)), rng.integers(0, 40, 300), rng.integers(0, 3, 300)])
    matrix[:, 0] = np.round(matrix[:, 0], 1)
    matrix[rng.random(matrix.shape) < rng.choice([0, 0.2])] = np.nan
    raw = 2 * np.nan_to_num(matrix[:, 0]) + (matrix[:, 2] % 3 == 0) + rng.normal(size=300)
    target = {"binary": raw > 0, "multiclass": np.clip(raw, 0, 2.9)}.get(parameters["objective"], np.exp(raw / 2))
    target = target.astype(int) if parameters["objective"] in ("binary", "multiclass") else target
    data = lightgbm.Dataset(matrix, target, categorical_feature=[2, 3])
    options = {"verbosity": -1, "min_data_in_leaf": 3, "num_threads": 1, "min_data_per_group": 3, **parameters}
    return str(lightgbm.train(options, data, 20).model_to_string())


@pytest.fixture(scope="module")
def model() -> LgbClassifier:
    return LgbClassifier(num_rounds=40, min_data_in_leaf=3).fit(X, y)


@pytest.fixture
def private(tmp_path: Path) -> Path:
    return tmp_path / "trees"


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 1000),
    objective=st.sampled_from(["binary", "multiclass", "regression", "poisson"]),
    leaves=st.integers(2, 31),
    bins=st.sampled_from([15, 255, 1023]),
    monotone=st.sampled_from([0, 1]),
    smooth=st.sampled_from([1, 10]),
    extra=st.booleans(),
)
def test_random_models_are_predicted_equal_to_the_last_bit(
    seed: int, objective: str, leaves: int, bins: int, monotone: int, smooth: int, extra: bool
) -> None:
    text = grown(
        seed,
        objective=objective,
        num_class=3 if objective == "multiclass" else 1,
        num_leaves=leaves,
        max_bin=bins,
        cat_smooth=smooth,
        extra_trees=extra,
        monotone_constraints=[monotone, 0, 0, 0],
    )
    exact = open_booster(text)
    booster = speed_up(exact, text, NAME)
    assert isinstance(booster, FasterBooster)
    rng = np.random.default_rng(seed)
    extremes = np.full((2, 4), [[np.inf], [2e300]])  # lignum alone goes another way, where a missing value is split off
    rows = np.concatenate([rows_to_try(text), rng.normal(scale=3, size=(500, 4)), rng.integers(-2, 120, (500, 4))])
    assert booster.predict(rows).tobytes() == exact.predict(rows).tobytes()
    assert booster.predict(extremes).tobytes() == exact.predict(extremes).tobytes()
    assert booster.predict(rows[:1]).tobytes() == exact.predict(rows[:1]).tobytes()
    assert booster.contributions(rows[:3]).tobytes() == exact.contributions(rows[:3]).tobytes()


def test_the_rows_to_try_hold_what_every_split_decides_by(model: LgbClassifier) -> None:
    rows = rows_to_try(model.text_)
    assert rows.shape == (TRIED_ROWS, 5)
    assert rows.tobytes() == rows_to_try(model.text_).tobytes()
    trees = lightgbm.Booster(model_str=model.text_).trees_to_dataframe()
    splits = trees[trees["threshold"].notna()]
    for feature, threshold in zip(splits["split_feature"], splits["threshold"].astype(float), strict=True):
        column = set(rows[:, int(feature.removeprefix("Column_"))].tolist())
        assert {threshold, min(np.nextafter(threshold, np.inf), 1e300), np.nextafter(threshold, -np.inf)} <= column
    assert np.isnan(rows).any(axis=0).all()


def test_the_rows_to_try_hold_every_category_that_splits_name_and_others() -> None:
    rows = rows_to_try(grown(objective="binary", num_leaves=15, cat_smooth=1))
    assert {*range(65), 0.5, -1, 2.0**31} <= set(rows[:, 2].tolist())


def test_the_rows_to_try_reach_nearly_all_leaves(model: LgbClassifier) -> None:
    reference = lightgbm.Booster(model_str=model.text_)
    reached = reference.predict(rows_to_try(model.text_), pred_leaf=True)
    leaves = sum(tree["num_leaves"] for tree in reference.dump_model()["tree_info"])
    assert sum(len(np.unique(column)) for column in reached.T) > 0.9 * leaves


def test_a_model_without_splits_is_predicted() -> None:
    text = LgbRegressor(num_rounds=2, min_data_in_leaf=1000).fit(X, y).text_
    booster = speed_up(open_booster(text), text, NAME)
    assert isinstance(booster, FasterBooster)
    assert booster.predict(X).tobytes() == open_booster(text).predict(X).tobytes()


@pytest.mark.parametrize("shape", [(1, 4), (5, 4), (5, 6), (5,), (0, 4), (2, 1, 5)])
def test_a_matrix_of_another_shape_is_refused(model: LgbClassifier, shape: tuple[int, ...]) -> None:
    booster = speed_up(open_booster(model.text_), model.text_, NAME)
    with pytest.raises(ValueError, match="5 columns"):
        booster.predict(np.zeros(shape))


@pytest.mark.parametrize("matrix", [X[:0], np.asfortranarray(X), X[::2], X[:9].astype(np.float32)])
def test_the_layout_of_a_matrix_does_not_matter(model: LgbClassifier, matrix: np.ndarray) -> None:
    exact = open_booster(model.text_)
    assert speed_up(exact, model.text_, NAME).predict(matrix).tobytes() == exact.predict(matrix).tobytes()


def test_without_the_extra_lightgbm_answers_and_nothing_is_logged(
    model: LgbClassifier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(faster.importlib.util, "find_spec", lambda name: None)
    exact = open_booster(model.text_)
    assert speed_up(exact, model.text_, NAME) is exact
    assert not caplog.records


def wrong(call: Callable[..., Any]) -> Callable[..., Any]:
    """A prediction that is wrong by one bit, in one row."""

    def predict(*args: Any, **options: Any) -> Any:
        predictions = call(*args, **options)
        predictions[-1] = np.nextafter(predictions[-1], 2)
        return predictions

    return predict


def test_a_model_that_is_predicted_otherwise_stays_lightgbm_s_with_a_line_that_says_so(
    model: LgbClassifier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import lignum

    monkeypatch.setattr(lignum.Model, "predict", wrong(lignum.Model.predict))
    exact = open_booster(model.text_)
    assert speed_up(exact, model.text_, NAME) is exact
    assert caplog.messages == [f"{NAME}: its trees are predicted by LightGBM, not by lignum: it predicts other numbers"]


def test_trees_that_lignum_does_not_know_stay_lightgbm_s(caplog: pytest.LogCaptureFixture) -> None:
    text = grown(objective="regression", linear_tree=True)
    exact = open_booster(text)
    assert speed_up(exact, text, NAME) is exact
    assert len(caplog.messages) == 1
    assert "linear trees" in caplog.text


@pytest.mark.parametrize("position", range(0, 40, 8))
def test_a_tree_that_decides_otherwise_is_found(
    model: LgbClassifier, position: int, caplog: pytest.LogCaptureFixture
) -> None:
    tree = model.text_.split("\nTree=")[position + 1]
    line = next(line for line in tree.split("\n") if line.startswith("threshold="))
    first = float(line.removeprefix("threshold=").split(" ")[0])
    moved = line.replace(line.split(" ")[0], f"threshold={np.nextafter(first, 9e99)!r}".replace("np.float64(", ""))
    other = model.text_.replace(tree, tree.replace(line, moved.replace(")", "")))
    assert other != model.text_
    exact = open_booster(model.text_)
    assert speed_up(exact, other, NAME) is exact
    assert "it predicts other numbers" in caplog.text


def test_many_threads_use_one_booster(model: LgbClassifier) -> None:
    booster = speed_up(open_booster(model.text_), model.text_, NAME)
    expected = open_booster(model.text_).predict(X)

    def predict(worker: int) -> bool:
        rows = np.random.default_rng(worker).integers(0, 400, 100)
        singles = all(booster.predict(X[[row]])[0] == expected[row] for row in rows)
        return singles and np.array_equal(booster.predict(X[rows]), expected[rows])

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(predict, range(48)))


@pytest.mark.parametrize("kind", [LgbClassifier, BlendClassifier, lambda **options: LogTarget(LgbRegressor(**options))])
def test_models_are_sped_up_and_answer_as_before(kind: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> None:
    model = kind(num_rounds=10, min_data_in_leaf=3).fit(X, y)
    before, parts = model.predict(X), model.contributions(X)
    model.speed_up(NAME)
    calls = []
    monkeypatch.setattr(FasterBooster, "predict", counted(calls, FasterBooster.predict))
    assert model.predict(X).tobytes() == before.tobytes()
    assert model.contributions(X).tobytes() == parts.tobytes()
    assert len(calls) == 1


def counted(calls: list[int], call: Callable[..., Any]) -> Callable[..., Any]:
    def counting(*args: Any) -> Any:
        calls.append(1)
        return call(*args)

    return counting


def compiled_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


@needs_compiler
def test_trees_are_compiled_once_and_then_loaded(
    model: LgbClassifier, private: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exact = open_booster(model.text_)
    first = speed_up(exact, model.text_, NAME, private)
    file = compiled_file(private)
    assert private.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("PATH", "")  # no compiler any more
    second = speed_up(exact, model.text_, NAME, private)
    for booster in (first, second):
        assert isinstance(booster, FasterBooster)
        assert booster._trees.uses_compiled
        assert booster.predict(X).tobytes() == exact.predict(X).tobytes()
    assert compiled_file(private) == file
    assert not caplog.records


def test_without_a_compiler_trees_are_interpreted_with_a_line_that_says_so(
    model: LgbClassifier, private: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")
    booster = speed_up(open_booster(model.text_), model.text_, NAME, private)
    assert isinstance(booster, FasterBooster)
    assert not booster._trees.uses_compiled
    (line,) = caplog.messages
    assert line.startswith(f"{NAME}: its trees are interpreted, not compiled: C compiler")
    assert not list(private.iterdir())


@needs_compiler
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_machine_code_in_a_folder_that_others_may_write_to_is_not_run(
    model: LgbClassifier, private: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    speed_up(open_booster(model.text_), model.text_, NAME, private)
    private.chmod(mode)
    booster = speed_up(open_booster(model.text_), model.text_, NAME, private)
    assert isinstance(booster, FasterBooster)
    assert not booster._trees.uses_compiled
    assert caplog.messages == [
        f"{NAME}: its trees are interpreted, not compiled: "
        "COMPILED_TREES must be a folder that only this user can write to"
    ]


@needs_compiler
def test_machine_code_that_cannot_be_loaded_is_not_used_and_its_path_not_logged(
    model: LgbClassifier, private: Path, caplog: pytest.LogCaptureFixture
) -> None:
    speed_up(open_booster(model.text_), model.text_, NAME, private)
    file = compiled_file(private)
    file.unlink()  # the old one is still in use
    file.write_bytes(b"cut off")
    booster = speed_up(open_booster(model.text_), model.text_, NAME, private)
    assert isinstance(booster, FasterBooster)
    assert booster.predict(X).tobytes() == open_booster(model.text_).predict(X).tobytes()
    (line,) = caplog.messages
    assert "file too short" in line
    assert str(private) not in line


def test_a_model_that_a_name_means_is_sped_up(
    registry: Registry, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model_id = registry.latest("credit", "lightgbm")
    artifact = Resolver(registry, "credit").resolve(model_id)
    calls: list[int] = []
    monkeypatch.setattr(FasterBooster, "predict", counted(calls, FasterBooster.predict))
    before = make_prediction(registry.load(model_id), [record] * 3)
    assert not calls
    assert make_prediction(artifact, [record] * 3).columns == before.columns
    assert calls
    assert not [line for line in caplog.records if line.levelno >= logging.WARNING]


def test_a_model_that_a_name_means_and_is_predicted_otherwise_is_named_in_the_log(
    registry: Registry, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import lignum

    monkeypatch.setattr(lignum.Model, "predict", wrong(lignum.Model.predict))
    model_id = registry.latest("credit", "lightgbm")
    artifact = Resolver(registry, "credit").resolve(model_id)
    expected = make_prediction(registry.load(model_id), [record] * 3)
    assert make_prediction(artifact, [record] * 3).columns == expected.columns
    assert [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING] == [
        f"{model_id}: its trees are predicted by LightGBM, not by lignum: it predicts other numbers"
    ]


@needs_compiler
def test_tables_are_scored_by_a_model_that_is_sped_up(
    registry: Registry, private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPILED_TREES", str(private))
    load.cache_clear()
    model = load(str(registry.location), registry.latest("credit", "lightgbm")).model
    load.cache_clear()
    assert isinstance(model, LgbModel)
    assert isinstance(model._booster, FasterBooster)
    assert compiled_file(private).suffix == ".so"


def test_a_process_that_ends_with_faster_trees_says_nothing(tmp_path: Path) -> None:
    model = tmp_path / "model.txt"
    model.write_text(LgbRegressor(num_rounds=2).fit(np.arange(100.0).reshape(-1, 1), np.arange(100.0)).text_)
    code = (
        "import sys, pathlib; from tabserve.models import faster, native; "
        "text = pathlib.Path(sys.argv[1]).read_text(); "
        "kept = faster.speed_up(native.open_booster(text), text, 'a model'); print(type(kept).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code, model], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("FasterBooster\n", "")
