"""Pipeline: transformers in a row."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tabserve.columns.features import Category, Integer
from tabserve.declaration.use_case import UseCase
from tabserve.errors import InvalidRecordsError, NotFittedError
from tabserve.pipeline import Pipeline
from tabserve.tables.reader import read_training_table
from tabserve.transformers import MinMax, OneHot, RecordEncoder, Standardize

FEATURES = (
    Category(name="colour", description="", values=("red", "green", "blue")),
    Integer(name="age", description="", low=0, high=120),
)
RECORDS = [{"colour": "red", "age": 1}, {"colour": "blue", "age": 3}]


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline((RecordEncoder(FEATURES), OneHot((0,)), Standardize()))


def test_each_step_is_fed_with_what_the_one_before_made(pipeline: Pipeline) -> None:
    assert pipeline.fit_transform(RECORDS).tolist() == [[-1, 1, -1], [1, -1, 1]]


def test_fit_then_transform_is_fit_transform(pipeline: Pipeline) -> None:
    expected = pipeline.fit_transform(RECORDS)
    np.testing.assert_array_equal(pipeline.fit(RECORDS).transform(RECORDS), expected)


def test_transform_uses_what_was_learnt_from_other_rows(pipeline: Pipeline) -> None:
    pipeline.fit(RECORDS)
    assert pipeline.transform([{"colour": "green", "age": 2}]).tolist() == [[0, -1, -1]]


def test_a_pipeline_may_be_a_step_of_another() -> None:
    nested = Pipeline((Pipeline((RecordEncoder(FEATURES), OneHot((0,)))), Standardize()))
    assert nested.fit_transform(RECORDS).tolist() == [[-1, 1, -1], [1, -1, 1]]


def test_it_is_fitted_when_its_steps_are(pipeline: Pipeline) -> None:
    with pytest.raises(NotFittedError, match="not fitted yet"):
        pipeline.check_is_fitted()
    pipeline.fit(RECORDS).check_is_fitted()
    with pytest.raises(NotFittedError, match="This Standardize is not fitted yet"):
        Pipeline((*pipeline.steps[:2], Standardize())).check_is_fitted()


def test_records_at_fault_are_named_through_the_pipeline(pipeline: Pipeline) -> None:
    with pytest.raises(InvalidRecordsError) as caught:
        pipeline.fit(RECORDS).transform([*RECORDS, {"colour": "red"}])
    assert caught.value.rows == [2]


def test_a_column_is_traced_back_through_all_steps() -> None:
    records = [{"colour": "red", "age": 1}, {"colour": "green", "age": 2}]
    pipeline = Pipeline((RecordEncoder(FEATURES), OneHot((0,)), OneHot((0,)), Standardize())).fit(records)
    # age goes before the two colours, and is then itself one-hot, after them
    assert pipeline.origins(2) == [0, 0, 1, 1]
    assert Pipeline(()).origins(2) == [0, 1]


def test_the_pipelines_of_the_credit_model_and_of_its_baseline_encode_all_real_records(
    credit: UseCase, records: list[dict[str, Any]]
) -> None:
    model, baseline = (credit.pipeline(algorithm).fit(records) for algorithm in (credit.algorithms[0], credit.baseline))
    assert model.transform(records).shape == (1000, len(credit.algorithms[0].model.get_params()["monotone"]))
    standardised = baseline.transform(records)
    assert standardised.shape[1] > 20
    np.testing.assert_allclose(standardised.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(standardised.std(axis=0), 1)


def test_the_pipelines_of_the_bikes_models_encode_all_real_hours(bikes: UseCase, some_bikes: Path) -> None:
    hours = read_training_table(some_bikes, bikes.features, bikes.target.feature).records
    widths = {}
    for algorithm in bikes.algorithms:
        matrix = bikes.pipeline(algorithm).fit_transform(hours)
        assert len(matrix) == len(hours)
        assert np.all(np.isfinite(matrix))
        if any(isinstance(step, MinMax) for step in algorithm.transformers):
            assert (matrix.min(axis=0) == 0).all()
            assert (matrix.max(axis=0) == 1).all()
        widths[algorithm.name] = matrix.shape[1]
    columns = len(bikes.features) + len(bikes.derived)
    assert widths == {
        "Lasso": columns,
        "SVR": columns - 1 + 24,
        "LinearRegression": columns - 3 + 24 + 7 + 12,
        "DecisionTreeRegressor": columns,
        "LGBMRegressor": columns,
    }


def test_values_of_columns_are_added_up_by_where_these_come_from() -> None:
    records = [{"colour": "red", "age": 1}, {"colour": "green", "age": 2}]
    pipeline = Pipeline((RecordEncoder(FEATURES), OneHot((0,)))).fit(records)  # age, then a column for each colour
    assert pipeline.by_origin(np.array([[5.0, 1.0, 2.0], [0.0, 3.0, -3.0]]), 2).tolist() == [[3.0, 5.0], [0.0, 0.0]]
