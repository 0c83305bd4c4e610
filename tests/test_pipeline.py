"""Pipeline: an encoder and transformers, one after another."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from tabserve.columns.features import Category, Integer
from tabserve.columns.texts import Text
from tabserve.declaration.use_case import UseCase
from tabserve.errors import InvalidRecordsError, NotFittedError
from tabserve.pipeline import Pipeline
from tabserve.tables.reader import read_training_table
from tabserve.transformers import Drop, MinMax, OneHot, RecordEncoder, Standardize

FEATURES = (
    Category(name="colour", description="", values=("red", "green", "blue")),
    Integer(name="age", description="", low=0, high=120),
)
RECORDS = [{"colour": "red", "age": 1}, {"colour": "blue", "age": 3}]


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline(RecordEncoder(FEATURES), (OneHot(("colour",)), Standardize()))


def test_each_step_is_fed_with_what_the_one_before_made(pipeline: Pipeline) -> None:
    assert pipeline.fit_transform(RECORDS).tolist() == [[-1, 1, -1], [1, -1, 1]]


def test_fit_then_transform_is_fit_transform(pipeline: Pipeline) -> None:
    expected = pipeline.fit_transform(RECORDS)
    np.testing.assert_array_equal(pipeline.fit(RECORDS).transform(RECORDS), expected)


def test_transform_uses_what_was_learnt_from_other_rows(pipeline: Pipeline) -> None:
    pipeline.fit(RECORDS)
    assert pipeline.transform([{"colour": "green", "age": 2}]).tolist() == [[0, -1, -1]]


def test_a_table_that_was_encoded_once_is_used_as_its_records_are(pipeline: Pipeline) -> None:
    encoded = RecordEncoder(FEATURES).fit().transform(RECORDS)
    expected = clone(pipeline).fit_transform(RECORDS)
    np.testing.assert_array_equal(clone(pipeline).fit_transform_encoded(encoded), expected)
    np.testing.assert_array_equal(pipeline.fit_encoded(encoded).transform_encoded(encoded), expected)
    np.testing.assert_array_equal(pipeline.transform(RECORDS), expected)


def test_an_encoder_alone_is_a_pipeline() -> None:
    pipeline = Pipeline(RecordEncoder(FEATURES)).fit(RECORDS)
    assert pipeline.transform(RECORDS).tolist() == [[0, 1], [2, 3]]
    assert [column.origin for column in pipeline.columns_] == list(FEATURES)


def test_a_transformer_that_describes_another_matrix_than_it_makes_is_refused() -> None:
    class Half(MinMax):
        def transform(self, X: np.ndarray) -> np.ndarray:
            return super().transform(X)[:, :1]

    with pytest.raises(ValueError, match="The matrix has 1 columns, but 2 are described"):
        Pipeline(RecordEncoder(FEATURES), (Half(),)).fit(RECORDS)


def test_it_is_fitted_when_its_parts_are(pipeline: Pipeline) -> None:
    with pytest.raises(NotFittedError, match="not fitted yet"):
        pipeline.check_is_fitted()
    pipeline.fit(RECORDS).check_is_fitted()
    with pytest.raises(NotFittedError, match="This Standardize is not fitted yet"):
        Pipeline(pipeline.encoder, (pipeline.transformers[0], Standardize())).check_is_fitted()


def test_records_at_fault_are_named_through_the_pipeline(pipeline: Pipeline) -> None:
    with pytest.raises(InvalidRecordsError) as caught:
        pipeline.fit(RECORDS).transform([*RECORDS, {"colour": "red"}])
    assert caught.value.rows == [2]


def test_a_column_is_traced_back_through_all_steps() -> None:
    records = [{"colour": "red", "age": 1}, {"colour": "green", "age": 2}]
    transformers = (OneHot(("colour",)), OneHot(("age", "colour")), Standardize())
    pipeline = Pipeline(RecordEncoder(FEATURES), transformers).fit(records)
    # age comes before the two colours; then it is one-hot encoded, too, and comes after them
    traced = [(column.name, column.level, column.scaled) for column in pipeline.columns_]
    assert traced == [("colour", 0, True), ("colour", 1, True), ("age", 1, True), ("age", 2, True)]


def test_the_pipelines_of_the_credit_model_and_of_its_baseline_encode_all_real_records(
    credit: UseCase, records: list[dict[str, Any]]
) -> None:
    model, baseline = (credit.pipeline(algorithm).fit(records) for algorithm in (credit.algorithms[0], credit.baseline))
    assert model.transform(records).shape == (1000, len(credit.columns))
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
    pipeline = Pipeline(RecordEncoder(FEATURES), (OneHot(),)).fit(records)  # age, then a column for each colour
    assert pipeline.by_origin(np.array([[5.0, 1.0, 2.0], [0.0, 3.0, -3.0]])).tolist() == [[3.0, 5.0], [0.0, 0.0]]
    without = Pipeline(RecordEncoder(FEATURES), (Drop(("colour",)),)).fit(records)
    assert without.by_origin(np.array([[5.0], [1.0]])).tolist() == [[0.0, 5.0], [0.0, 1.0]]


def test_what_the_columns_of_a_text_contribute_adds_up_to_the_text() -> None:
    note = Text(name="note", buckets=3)
    pipeline = Pipeline(RecordEncoder((note, Integer(name="age", low=0, high=120))), (Standardize(),))
    X = pipeline.fit_transform([{"note": "two words", "age": 3}, {"note": "one", "age": 4}])
    assert X.shape == (2, 5)
    assert pipeline.by_origin(np.array([[1.0, 10.0, 2.0, 3.0, 4.0]])).tolist() == [[10.0, 10.0]]
