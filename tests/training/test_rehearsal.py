"""Rehearsal: what would fail after the tuning is refused before it."""

import dataclasses
from pathlib import Path

import pytest

from tabserve.declaration.declaration import Algorithm
from tabserve.errors import (
    InvalidUseCaseError,
    UniformTargetError,
)
from tabserve.models.lightgbm import LgbRegressor
from tabserve.models.scikit import LinearRegression
from tabserve.search_space import Whole
from tabserve.train_pipeline import run_training
from tabserve.training.plan import Plan
from tabserve.transformers import Drop, Target
from tests.fixtures.wine import USE_CASE

WINE = Path(__file__).parent.parent / "fixtures" / "wine.csv"


@pytest.mark.parametrize("rare", [0, 1])
def test_a_target_that_does_not_vary_is_refused_in_words(quick, empty, some_bikes, tmp_path, rare):
    header, *hours = some_bikes.read_text().splitlines()
    counts = [7] * rare + [5] * (len(hours) - rare)
    rows = [f"{hour.rpartition(',')[0]},{count}" for hour, count in zip(hours, counts, strict=True)]
    data = tmp_path / "uniform.csv"
    data.write_text("\n".join([header, *rows]))
    with pytest.raises(UniformTargetError, match="The target 'count' has the same value in all rows of a fold"):
        run_training(quick, empty, data, Plan(trials=1))
    assert not empty.location.exists()


@pytest.mark.parametrize(
    ("algorithm", "problem"),
    [
        (Algorithm(name="line", model=LinearRegression()), "its predictions are not finite"),
        (Algorithm(name="trees", model=LgbRegressor(num_leaves=1), search_space={}), ""),
        (Algorithm(name="trees", model=LgbRegressor(), search_space={"num_leaves": Whole(1, 9)}), ""),
        (Algorithm(name="trees", model=LgbRegressor(), search_space={"max_bin": Whole(0, 1)}), ""),
    ],
)
def test_an_algorithm_that_cannot_be_fitted_on_such_columns_is_refused(
    bikes, empty, some_bikes, untuned, algorithm, problem
):
    features = tuple(dataclasses.replace(one, missing=True, default=None) for one in bikes.features)
    broken = dataclasses.replace(bikes, features=features, algorithms=(algorithm,), baseline=algorithm)
    with pytest.raises(InvalidUseCaseError, match=f"^bikes: {algorithm.name} fails on these columns, .*: .*{problem}"):
        run_training(broken, empty, some_bikes, Plan(trials=1))


def test_a_model_without_a_column_is_refused_in_words(quick, empty, some_bikes, untuned):
    everything = Drop(tuple(column.name for column in quick.columns))
    for model in (LgbRegressor(), LinearRegression()):
        blind = Algorithm(name="blind", model=model, transformers=(everything,))
        with pytest.raises(InvalidUseCaseError, match=r": no column is left for the model$"):
            run_training(dataclasses.replace(quick, algorithms=(blind,)), empty, some_bikes, Plan(trials=1))


def test_what_cannot_be_saved_is_refused_before_tuning(quick, empty, some_bikes, untuned):
    class Local(Target):
        """A class that no other process can import."""

    with pytest.raises(InvalidUseCaseError, match=r"^bikes: its columns or its task cannot be saved: "):
        run_training(dataclasses.replace(quick, target=Local(quick.target.feature)), empty, some_bikes, Plan(trials=1))


def test_parts_by_time_that_lack_a_class_are_refused_by_its_name(empty, tmp_path, untuned):
    header, *wines = WINE.read_text().splitlines()
    wines.sort(key=lambda line: line.endswith("Barbera"))
    data = tmp_path / "by time.csv"
    data.write_text("\n".join([header, *wines]))
    by_time = dataclasses.replace(USE_CASE, chronological=True)
    with pytest.raises(UniformTargetError, match="'cultivar' is 'Barbera' in no row of the first part by time"):
        run_training(by_time, empty, data, Plan(trials=1))


class Odd(LinearRegression):
    """A model whose predictions are odd."""

    def __init__(self, how: str = "") -> None:
        super().__init__()
        self.how = how

    def predict(self, X):
        scores = super().predict(X)
        odd = {"column": scores[:, None], "one": scores[:1], "list": scores.tolist(), "whole": scores.astype(int)}
        return odd[self.how]


@pytest.mark.parametrize("how", ["column", "one", "list", "whole"])
def test_predictions_that_are_not_an_array_of_floats_are_refused_before_tuning(quick, empty, some_bikes, untuned, how):
    odd = Algorithm(name="odd", model=Odd(how), transformers=quick.baseline.transformers)
    with pytest.raises(InvalidUseCaseError, match=r"^bikes: odd fails .* its predictions are not an array of floats"):
        run_training(dataclasses.replace(quick, algorithms=(odd,)), empty, some_bikes, Plan(trials=1))


def test_a_last_part_in_which_the_target_does_not_vary_is_refused(quick, empty, some_bikes, tmp_path, untuned):
    header, *hours = some_bikes.read_text().splitlines()
    last = [hour.rpartition(",")[0] + ",7" for hour in hours[len(hours) // 2 :]]
    data = tmp_path / "the same in the end.csv"
    data.write_text("\n".join([header, *hours[: len(hours) // 2], *last]))
    with pytest.raises(UniformTargetError, match="has the same value in all rows of the last part by time"):
        run_training(quick, empty, data, Plan(trials=1))
