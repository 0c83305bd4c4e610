"""make_prediction: answers in the order of the records, faults by position."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score, roc_auc_score

from tabserve.declaration.use_case import UseCase
from tabserve.errors import InvalidRecordsError, NothingToPredictError
from tabserve.predict import make_prediction, measure
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.tables.reader import read_table, read_training_table
from tabserve.tables.table import Table

# what may go wrong with a record, each keeping the rest of it
FAULTS = (
    lambda record: {**record, "age": "35"},
    lambda record: {**record, "age": True},
    lambda record: {**record, "age": float("nan")},
    lambda record: {**record, "amount": 10**400},
    lambda record: {**record, "purpose": "gambling"},
    lambda record: {**record, "purpose": None},
    lambda record: {**record, "purpose": []},
    lambda record: {**record, "default": 1},
    lambda record: {name: value for name, value in record.items() if name != "job"},
    lambda record: {},
)


def test_an_answer_has_a_decision_and_a_probability_for_each_record(artifact, records):
    prediction = make_prediction(artifact, records[:50])
    assert set(prediction.columns) == {"result", "probability"}
    assert prediction.columns["probability"] == prediction.predictions.tolist()
    assert list(prediction.good) == list(range(50))
    assert list(prediction.faulty) == []
    assert all(0 < probability < 1 for probability in prediction.predictions)


def test_the_decision_is_1_from_the_models_threshold_on(artifact, records):
    prediction = make_prediction(artifact, records)
    threshold = artifact.manifest.threshold
    assert 0 < threshold < 0.5  # a missed default costs five times a refused good loan
    assert prediction.columns["result"] == [int(score >= threshold) for score in prediction.predictions]
    assert set(prediction.columns["result"]) == {0, 1}


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_a_record_is_answered_the_same_alone_and_among_others(artifact, records, data):
    positions = data.draw(st.lists(st.integers(0, len(records) - 1), min_size=1, max_size=30))
    together = make_prediction(artifact, [records[position] for position in positions]).predictions
    alone = [make_prediction(artifact, [records[position]]).predictions[0] for position in positions]
    assert together.tolist() == alone


def test_the_order_of_a_records_keys_does_not_matter(artifact, record):
    backwards = dict(reversed(record.items()))
    assert list(backwards) != list(record)
    assert make_prediction(artifact, [backwards]).predictions == make_prediction(artifact, [record]).predictions


def test_records_are_not_changed(artifact, record):
    given_record = dict(record)
    make_prediction(artifact, [given_record], partial=True)
    assert given_record == record


def test_nothing_to_predict_is_an_error(artifact):
    with pytest.raises(NothingToPredictError):
        make_prediction(artifact, [])


@pytest.mark.parametrize("spoil", FAULTS)
def test_a_record_at_fault_is_refused_with_its_position(artifact, record, spoil):
    with pytest.raises(InvalidRecordsError) as error:
        make_prediction(artifact, [record, spoil(record), record, spoil(record)])
    assert error.value.rows == [1, 3]


@given(st.lists(st.sampled_from([None, *FAULTS]), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_a_partial_answer_has_none_exactly_where_a_record_is_at_fault(artifact, records, faults):
    sent = [fault(record) if fault else record for fault, record in zip(faults, records, strict=False)]
    prediction = make_prediction(artifact, sent, partial=True)
    good = [position for position, fault in enumerate(faults) if fault is None]
    assert list(prediction.good) == good
    assert list(prediction.faulty) == [position for position, fault in enumerate(faults) if fault]
    assert len(prediction.predictions) == len(good)
    expected: list[Any] = [None] * len(sent)
    for position in good:
        expected[position] = make_prediction(artifact, [records[position]]).predictions[0]
    assert list(prediction.columns["probability"]) == expected
    assert [result is None for result in prediction.columns["result"]] == [fault is not None for fault in faults]


def test_a_partial_answer_without_a_good_record_is_all_none(artifact, record):
    prediction = make_prediction(artifact, [{}, {**record, "age": -1}], partial=True)
    assert prediction.columns == {"result": [None, None], "probability": [None, None]}
    assert prediction.faulty == [0, 1]
    assert len(prediction.predictions) == 0


@pytest.mark.parametrize("outcome", [0, 3, "1", 1.5, float("nan"), True, [1]])
def test_an_outcome_that_is_not_allowed_is_a_fault_of_its_record(artifact, record, outcome):
    with pytest.raises(InvalidRecordsError) as error:
        make_prediction(artifact, [record, record, {}], target=[1, outcome, 2])
    assert error.value.rows == [1, 2]
    prediction = make_prediction(artifact, [record, record, {}], target=[1, outcome, 2], partial=True)
    assert list(prediction.good) == [0]


def test_a_record_whose_outcome_is_open_is_predicted_and_not_measured(artifact, credit, records):
    target = [1, 2] * 10
    prediction = make_prediction(artifact, records[:22], target=[None, *target, None])
    assert prediction.faulty == []
    assert prediction.predictions.tolist() == make_prediction(artifact, records[:22]).predictions.tolist()
    of_known = measure(artifact, make_prediction(artifact, records[1:21], target=target), target)
    assert measure(artifact, prediction, [None, *target, None]) == of_known
    assert measure(artifact, prediction, [None] * 22) is None


def test_known_outcomes_do_not_change_an_answer(artifact, records):
    known = make_prediction(artifact, records[:20], target=[1, 2] * 10)
    assert known.predictions.tolist() == make_prediction(artifact, records[:20]).predictions.tolist()


def test_the_metric_is_of_scores_and_not_of_decisions(artifact: Artifact, credit: UseCase, records):
    target = [1 + (position % 3 == 0) for position in range(len(records))]
    prediction = make_prediction(artifact, records, target=target)
    ones = [value == 2 for value in target]
    auc = measure(artifact, prediction, target)
    assert auc == pytest.approx(roc_auc_score(ones, prediction.predictions), abs=1e-12)
    assert auc != pytest.approx(roc_auc_score(ones, prediction.columns["result"]), abs=1e-3)


def test_the_metric_is_of_the_good_records(artifact, credit, records):
    target = [1, 2] * 10
    whole = measure(artifact, make_prediction(artifact, records[:20], target=target), target)
    spoiled = [{}, *records[:20], {}]
    among_faults = [2, *target, None]
    prediction = make_prediction(artifact, spoiled, target=among_faults, partial=True)
    assert measure(artifact, prediction, among_faults) == whole


def test_the_metric_of_one_class_or_of_no_record_is_none(artifact, credit, records):
    one_class = make_prediction(artifact, records[:5], target=[1] * 5)
    assert measure(artifact, one_class, [1] * 5) is None
    nobody = make_prediction(artifact, [{}], target=[1], partial=True)
    assert measure(artifact, nobody, [1]) is None


def test_the_loaded_model_scores_the_hold_out_as_its_manifest_says(artifact, trained, credit):
    content = trained.read(artifact.model_id, "test.parquet", artifact.manifest)
    table = read_table(io.BytesIO(content), "test.parquet", credit.features, credit.target.feature)
    prediction = make_prediction(artifact, table.records, target=table.target)
    auc = measure(artifact, prediction, table.target)
    assert auc == artifact.manifest.metrics["hold_out"]["roc_auc"]
    assert np.mean(prediction.columns["result"] == np.array(table.target) - 1) == pytest.approx(
        artifact.manifest.metrics["hold_out"]["accuracy"]
    )


# numbers


@pytest.fixture(scope="module", params=["LGBMRegressor", "Lasso", "SVR", "DecisionTreeRegressor"])
def regressor(request, trained: Registry) -> Artifact:
    return trained.load(trained.latest("bikes", request.param))


@pytest.fixture(scope="module")
def hours(some_bikes: Path, bikes: UseCase) -> Table:
    return read_training_table(some_bikes, bikes.features, bikes.target.feature)


def test_an_answer_of_a_number_is_the_score_of_each_record(regressor, hours):
    prediction = make_prediction(regressor, hours.records[:50])
    assert prediction.columns == {"result": prediction.predictions.tolist()}
    assert min(prediction.columns["result"]) >= 0
    assert len(set(prediction.columns["result"])) > 10


def test_a_partial_answer_of_numbers_has_none_where_a_record_is_at_fault(regressor, hours):
    good = hours.records[:3]
    sent = [good[0], {**good[1], "hour": 25}, good[1], {}, good[2]]
    prediction = make_prediction(regressor, sent, partial=True)
    one, two, three = make_prediction(regressor, good).columns["result"]
    assert prediction.columns == {"result": [one, None, two, None, three]}
    assert (list(prediction.good), prediction.faulty) == ([0, 2, 4], [1, 3])


def test_a_year_that_is_left_out_is_the_newest(regressor, bikes):
    def answers(**year: Any) -> list[float]:
        return make_prediction(regressor, [{**bikes.example, "hour": h, **year} for h in range(24)]).columns["result"]

    assert "year" not in bikes.example
    assert answers() == answers(year=None) == answers(year=2012) != answers(year=2011)


def test_24_o_clock_is_0_o_clock(regressor, bikes):
    midnight, again, noon = ({**bikes.example, "hour": hour} for hour in (24, 0, 12))
    answers = make_prediction(regressor, [midnight, again, noon]).columns["result"]
    assert answers[0] == answers[1] != answers[2]


def test_the_metric_of_numbers_is_their_r2(regressor, bikes, hours):
    prediction = make_prediction(regressor, hours.records, target=hours.target)
    value = measure(regressor, prediction, hours.target)
    assert value == pytest.approx(r2_score(hours.target, prediction.predictions), abs=1e-12)


@pytest.mark.parametrize("rows", [[3], [3, 3, 3]])
def test_the_metric_of_numbers_that_do_not_vary_is_none(regressor, bikes, hours, rows):
    records, target = ([column[row] for row in rows] for column in (hours.records, hours.target))
    prediction = make_prediction(regressor, records, target=target)
    assert measure(regressor, prediction, target) is None


@pytest.mark.parametrize("outcome", [-1, 1_000_001, 1.5, "3", True])
def test_a_number_that_is_no_count_is_a_fault_of_its_record(regressor, bikes, outcome):
    with pytest.raises(InvalidRecordsError) as error:
        make_prediction(regressor, [bikes.example] * 2, target=[3, outcome])
    assert error.value.rows == [1]


def test_a_loaded_regressor_scores_the_hold_out_as_its_manifest_says(regressor, trained, bikes):
    content = trained.read(regressor.model_id, "test.parquet", regressor.manifest)
    table = read_table(io.BytesIO(content), "test.parquet", bikes.features, bikes.target.feature)
    prediction = make_prediction(regressor, table.records, target=table.target)
    value = measure(regressor, prediction, table.target)
    assert value == pytest.approx(regressor.manifest.metrics["hold_out"]["r2"], abs=1e-12)
