"""LightGBM's own C library against the package."""

import gc
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tabserve.columns.features import Category, Number
from tabserve.columns.matrix import MatrixColumn
from tabserve.models import native
from tabserve.models.lightgbm import (
    LgbClassifier,
    LgbCountRegressor,
    LgbModel,
    LgbMulticlassClassifier,
    LgbRegressor,
)
from tabserve.models.native import NativeBooster, PackageBooster, library_path, open_booster

ROOT = Path(__file__).parent.parent
generator = np.random.default_rng(5)
X = np.column_stack([generator.normal(size=(300, 3)), generator.integers(0, 8, 300)])
X[generator.random(X.shape) < 0.1] = np.nan
y = (np.nan_to_num(X[:, 0]) + (X[:, 3] % 2 == 0) + generator.normal(size=300) > 0.5).astype(float)
counts = generator.poisson(3 + 2 * y).astype(float)
labels = np.minimum(counts, 3)
COLUMNS = (
    *(MatrixColumn(Number(name=name, description="", low=-9, high=9)) for name in "abc"),
    MatrixColumn(Category(name="d", description="", values=tuple("01234567"))),
)


@pytest.fixture(scope="module")
def model() -> LgbClassifier:
    return LgbClassifier(num_rounds=60, min_data_in_leaf=3).fit(X, y, COLUMNS)


@pytest.fixture(scope="module")
def reference(model: LgbClassifier) -> lightgbm.Booster:
    return lightgbm.Booster(model_str=model.text_)


@pytest.fixture(scope="module")
def booster(model: LgbClassifier) -> native.Booster:
    return open_booster(model.text_)


cells = st.floats() | st.integers(-2, 12).map(float) | st.sampled_from([np.nan, -0.0, 5e-324, 1e-36, 1e300, 2.0**31])


def test_the_library_of_the_installed_package_is_used(booster: native.Booster) -> None:
    path = library_path()
    assert path is not None
    assert path.is_relative_to(Path(lightgbm.__file__).parent)
    assert isinstance(booster, NativeBooster)


@settings(deadline=None)
@given(matrix=arrays(np.float64, st.tuples(st.integers(1, 5), st.just(4)), elements=cells))
def test_any_rows_are_predicted_as_by_the_package_to_the_last_bit(
    booster: native.Booster, reference: lightgbm.Booster, matrix: np.ndarray
) -> None:
    expected = reference.predict(matrix)
    assert booster.predict(matrix).tobytes() == expected.tobytes()
    for row, value in zip(matrix, expected, strict=True):
        assert booster.predict(row[None]).tolist() == [value]


@pytest.mark.parametrize("kind", [LgbRegressor, LgbCountRegressor])
def test_numbers_and_counts_are_predicted_as_by_the_package_to_the_last_bit(kind: type[LgbModel]) -> None:
    model = kind(num_rounds=60, min_data_in_leaf=3).fit(X, counts, COLUMNS)
    booster, reference = open_booster(model.text_), lightgbm.Booster(model_str=model.text_)
    expected = reference.predict(X)
    assert len(set(expected)) > 100
    assert booster.predict(X).tobytes() == expected.tobytes()
    assert np.concatenate([booster.predict(X[[row]]) for row in range(300)]).tobytes() == expected.tobytes()

    @settings(deadline=None, database=None)
    @given(matrix=arrays(np.float64, st.tuples(st.integers(1, 5), st.just(4)), elements=cells))
    def check(matrix: np.ndarray) -> None:
        expected = reference.predict(matrix)
        assert booster.predict(matrix).tobytes() == expected.tobytes()
        assert [booster.predict(row[None])[0] for row in matrix] == expected.tolist()

    check()


@pytest.mark.parametrize("threads", [1, 2])
def test_several_classes_are_predicted_and_explained_as_by_the_package_to_the_last_bit(threads: int) -> None:
    model = LgbMulticlassClassifier(num_rounds=20, min_data_in_leaf=3).fit(X, labels, COLUMNS)
    reference = lightgbm.Booster(model_str=model.text_)
    expected, parts = reference.predict(X), reference.predict(X, pred_contrib=True).reshape(300, 4, 5)
    for booster in (open_booster(model.text_, threads), PackageBooster(model.text_, threads)):
        assert booster.predict(X).tobytes() == expected.tobytes()
        assert np.concatenate([booster.predict(X[[row]]) for row in range(300)]).tobytes() == expected.tobytes()
        assert booster.contributions(X).shape == (300, 4, 5)
        assert booster.contributions(X).tobytes() == parts.tobytes()
        assert booster.predict(X[:0]).shape == (0, 4)
        assert booster.contributions(X[:0]).shape == (0, 4, 5)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_matrix_and_its_single_rows_are_predicted_as_by_the_package(
    model: LgbClassifier, reference: lightgbm.Booster, threads: int
) -> None:
    booster = open_booster(model.text_, threads)
    expected = reference.predict(X)
    assert len(set(expected)) > 100
    assert booster.predict(X).tobytes() == expected.tobytes()
    assert np.concatenate([booster.predict(X[[row]]) for row in range(300)]).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "matrix",
    [np.asfortranarray(X), X[::2], np.repeat(X, 2, axis=1)[:, ::2], X[5:6], np.asfortranarray(X[5:6]), X[:0]],
)
def test_the_layout_of_a_matrix_does_not_matter(
    booster: native.Booster, reference: lightgbm.Booster, matrix: np.ndarray
) -> None:
    np.testing.assert_array_equal(booster.predict(matrix), reference.predict(matrix))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_other_numbers_are_converted(
    booster: native.Booster, reference: lightgbm.Booster, dtype: type[np.generic]
) -> None:
    matrix = np.nan_to_num(X).astype(dtype)
    expected = reference.predict(matrix.astype(np.float64))
    np.testing.assert_array_equal(booster.predict(matrix), expected)
    np.testing.assert_array_equal(booster.predict(matrix[:1]), expected[:1])


def test_no_rows_give_no_predictions(booster: native.Booster) -> None:
    assert booster.predict(np.empty((0, 4))).shape == (0,)


@pytest.mark.parametrize("shape", [(1, 3), (5, 3), (5, 5), (1, 5), (4,), (0, 3), (1, 1, 4)])
def test_a_matrix_of_another_shape_is_refused(booster: native.Booster, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="4 columns"):
        booster.predict(np.zeros(shape))


def test_an_answer_is_not_overwritten_by_the_next(booster: native.Booster) -> None:
    first = booster.predict(X[:1])
    before = first.tolist()
    booster.predict(X[1:2])
    assert first.tolist() == before


def test_many_threads_on_one_booster_get_right_answers(booster: native.Booster, reference: lightgbm.Booster) -> None:
    expected = reference.predict(X)

    def predict(worker: int) -> bool:
        rows = np.random.default_rng(worker).integers(0, 300, 200)
        singles = all(booster.predict(X[[row]])[0] == expected[row] for row in rows)
        return singles and np.array_equal(booster.predict(X[rows]), expected[rows])

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(predict, range(48)))


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@settings(deadline=None)
@given(matrix=arrays(np.float64, st.tuples(st.integers(1, 5), st.just(4)), elements=cells))
def test_any_rows_are_explained_as_by_the_package_to_the_last_bit(
    booster: native.Booster, reference: lightgbm.Booster, matrix: np.ndarray
) -> None:
    expected = reference.predict(matrix, pred_contrib=True)
    assert booster.contributions(matrix).tobytes() == expected.tobytes()
    for row, contributions in zip(matrix, expected, strict=True):
        assert booster.contributions(row[None]).tobytes() == contributions.tobytes()


@pytest.mark.parametrize("kind", [LgbRegressor, LgbCountRegressor])
def test_numbers_and_counts_are_explained_as_by_the_package_to_the_last_bit(kind: type[LgbModel]) -> None:
    model = kind(num_rounds=60, min_data_in_leaf=3).fit(X, counts, COLUMNS)
    expected = lightgbm.Booster(model_str=model.text_).predict(X, pred_contrib=True)
    assert expected.shape == (300, 5)
    assert open_booster(model.text_, 2).contributions(X).tobytes() == expected.tobytes()


@pytest.mark.parametrize("matrix", [np.asfortranarray(X), X[::2], np.asfortranarray(X[5:6]), X[:3].astype(np.float32)])
def test_the_layout_of_an_explained_matrix_does_not_matter(
    booster: native.Booster, reference: lightgbm.Booster, matrix: np.ndarray
) -> None:
    expected = reference.predict(matrix.astype(np.float64), pred_contrib=True)
    np.testing.assert_array_equal(booster.contributions(matrix), expected)


def test_no_rows_give_no_contributions(booster: native.Booster) -> None:
    assert booster.contributions(np.empty((0, 4))).shape == (0, 5)


@pytest.mark.parametrize("shape", [(1, 3), (5, 5), (4,), (0, 3), (1, 1, 4)])
def test_a_matrix_of_another_shape_is_not_explained(booster: native.Booster, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="4 columns"):
        booster.contributions(np.zeros(shape))


@pytest.mark.parametrize("kind", [native.open_booster, lambda text: PackageBooster(text, 1)])
def test_many_threads_explain_and_predict_with_one_booster_from_its_first_use_on(
    model: LgbClassifier, reference: lightgbm.Booster, kind: Callable[[str], native.Booster]
) -> None:
    expected, scores = reference.predict(X, pred_contrib=True), reference.predict(X)
    fresh = [kind(model.text_) for _ in range(20)]  # the library prepares a model when it is first explained

    def use(worker: int) -> bool:
        row = slice(worker, worker + 1 + worker % 2)
        return all(
            np.array_equal(booster.contributions(X[row]), expected[row])
            and np.array_equal(booster.predict(X[row]), scores[row])
            for booster in fresh
        )

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(use, range(48)))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_boosters_that_come_and_go_free_their_memory_while_others_predict(
    model: LgbClassifier, booster: native.Booster, reference: lightgbm.Booster
) -> None:
    expected = reference.predict(X)

    def come_and_go(times: int) -> bool:
        for _ in range(times):
            passing = open_booster(model.text_)
            if passing.predict(X[:1])[0] != expected[0] or not np.array_equal(passing.predict(X), expected):
                return False
        return True

    def predict(times: int) -> bool:
        return all(booster.predict(X[[row % 300]])[0] == expected[row % 300] for row in range(times))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(come_and_go, [20] * 4))
        gc.collect()
        before = resident()
        tasks = [pool.submit(come_and_go, 100) for _ in range(3)] + [pool.submit(predict, 5000)]
        assert all(task.result() for task in tasks)
        gc.collect()
        assert resident() - before < 100 * len(model.text_)  # of 300 that were opened


def test_without_the_library_the_package_does_the_same(
    model: LgbClassifier, booster: native.Booster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "library_path", lambda: None)
    fallback = open_booster(model.text_)
    assert isinstance(fallback, PackageBooster)
    for matrix in (X, X[:1], X[:0]):
        assert fallback.predict(matrix).tobytes() == booster.predict(matrix).tobytes()
        assert fallback.contributions(matrix).tobytes() == booster.contributions(matrix).tobytes()
        assert fallback.contributions(matrix).shape == booster.contributions(matrix).shape


def test_without_the_package_there_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: None)
    assert library_path() is None


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.8])
def test_a_model_that_is_cut_off_is_refused(model: LgbClassifier, share: float) -> None:
    with pytest.raises(ValueError, match="not a whole LightGBM model"):
        open_booster(model.text_[: int(len(model.text_) * share)])


def test_a_text_that_is_no_model_is_refused_with_the_library_s_reason() -> None:
    with pytest.raises(RuntimeError, match=r"^LightGBM: Model file doesn't specify the number of classes"):
        open_booster("tree\nversion=v4\n\nend of trees\n")


def test_a_process_that_only_predicts_imports_no_heavy_package(model: LgbClassifier, tmp_path: Path) -> None:
    joblib.dump(model, tmp_path / "model.pkl")
    program = (
        "import sys, joblib, numpy as np\n"
        "model = joblib.load(sys.argv[1])\n"
        "print(repr(float(model.predict(np.zeros((1, 4)))[0])), model.predict(np.zeros((3, 4))).shape)\n"
        "assert model.contributions(np.zeros((1, 4))).shape == (1, 5)\n"
        "print(sorted({'lightgbm', 'pandas', 'scipy', 'sklearn'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "model.pkl")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{float(model.predict(np.zeros((1, 4)))[0])!r} (3,)", "[]"]
