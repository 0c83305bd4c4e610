"""The predictor: everything that models can be asked for, without HTTP."""

import io
from typing import Any

import pytest

from tabserve.declaration.use_case import UseCase
from tabserve.errors import (
    InvalidFieldsError,
    NoHoldOutError,
    NothingToPredictError,
    TooManyRowsError,
    UnknownModelError,
)
from tabserve.predict import make_prediction
from tabserve.predictor import Predictor
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.tables.checking import MOST_ROWS
from tabserve.tables.limits import Deadline
from tabserve.tables.table import Table
from tabserve.tables.writer import write_csv


@pytest.fixture(scope="module")
def predictor(trained: Registry) -> Predictor:
    return Predictor(trained, "credit")


@pytest.fixture(scope="module")
def credit_model(predictor: Predictor) -> Artifact:
    return predictor.resolve("credit")


# which models there are


def test_a_name_means_a_model_and_latest_one_of_the_default_use_case(trained: Registry) -> None:
    predictor = Predictor(trained, "bikes")
    assert predictor.resolve("latest").model_id == trained.latest("bikes")
    assert predictor.resolve("credit").model_id == trained.latest("credit")
    with pytest.raises(UnknownModelError):
        predictor.resolve("nothing")


def test_models_are_listed_and_what_can_be_answered_is_said(predictor: Predictor, trained: Registry) -> None:
    assert predictor.model_ids() == trained.list()
    assert predictor.model_ids("credit") == trained.list("credit")
    readiness = predictor.readiness(["credit"])
    assert readiness.models == {"credit": trained.latest("credit")}
    assert (readiness.unavailable, readiness.refused, readiness.registry) == ({}, {}, "ok")


def test_what_is_loaded_and_ready_is_known_without_asking_the_registry(trained: Registry) -> None:
    predictor = Predictor(trained)
    assert predictor.loaded("credit") is predictor.known_readiness() is None
    predictor.resolver.refresh()
    assert predictor.loaded("credit") is predictor.resolve("credit")
    assert predictor.known_readiness() == predictor.readiness()
    assert predictor.known_readiness(["bikes"]) == predictor.readiness(["bikes"])


def test_a_model_is_described_without_the_figures_of_small_groups(predictor: Predictor, credit_model: Artifact) -> None:
    assert predictor.describe(credit_model).groups["foreign_worker"].values == {}


def test_a_model_has_its_report(predictor: Predictor, credit_model: Artifact) -> None:
    assert credit_model.model_id in predictor.report(credit_model).decode()


# one record


def test_a_record_is_predicted_as_the_model_does(
    predictor: Predictor, credit_model: Artifact, record: dict[str, Any]
) -> None:
    assert predictor.predict(credit_model, record).columns == make_prediction(credit_model, [record]).columns


@pytest.mark.parametrize("ask", ["predict", "explain"])
def test_what_is_wrong_with_a_record_is_said_by_field(
    predictor: Predictor, credit_model: Artifact, record: dict[str, Any], ask: str
) -> None:
    wrong = {**record, "age": "x", "colour": "red"}
    del wrong["job"]
    with pytest.raises(InvalidFieldsError) as caught:
        getattr(predictor, ask)(credit_model, wrong)
    assert caught.value.by_field == {
        "age": ["Not a valid integer."],
        "job": ["Missing data for required field."],
        "colour": ["Unknown field."],
    }


def test_an_explanation_is_of_the_answer(predictor: Predictor, credit_model: Artifact, record: dict[str, Any]) -> None:
    explanation = predictor.explain(credit_model, record)
    assert [explanation.result] == predictor.predict(credit_model, record).columns["result"]
    assert predictor.explain_table(credit_model, Table.of([record, record])) == [explanation] * 2


# tables


def test_without_outcomes_there_is_no_score_and_with_open_ones_it_is_undefined(
    predictor: Predictor, credit_model: Artifact, record: dict[str, Any]
) -> None:
    plain = predictor.predict_table(credit_model, predictor.table_of(credit_model, [record]))
    assert (plain.score(), plain.problems()) == ({}, None)
    open_ = predictor.predict_table(credit_model, predictor.table_of(credit_model, [{**record, "default": None}]))
    assert open_.score() == {"auc_score": None}


def test_the_score_is_that_of_the_hold_out(predictor: Predictor, trained: Registry) -> None:
    model = predictor.resolve("credit")
    table = predictor.read_hold_out(model, predictor.hold_out(model), 1000, Deadline(60))
    expected = trained.manifest(model.model_id).headline_of("hold_out")
    assert predictor.predict_table(model, table).score() == {"auc_score": pytest.approx(expected, abs=1e-12)}


def test_a_hold_out_that_is_too_long_says_what_to_do_and_one_that_is_away_is_missed(
    predictor: Predictor, registry: Registry
) -> None:
    model = predictor.resolve("credit")
    with pytest.raises(TooManyRowsError, match="more than 3 rows: send some as a list"):
        predictor.read_hold_out(model, b"this is not read", 3, Deadline(60))
    (registry.location / model.model_id / "test.parquet").unlink()
    with pytest.raises(NoHoldOutError):
        Predictor(registry, "credit").hold_out(model)


def test_rows_at_fault_are_said_by_their_numbers_the_first_of_them_and_counted(
    predictor: Predictor, credit_model: Artifact, record: dict[str, Any]
) -> None:
    table = Table("f", [], [record, {**record, "age": "x"}] * 150, None, range(5, 305))
    for ask in (predictor.predict_table, predictor.explain_table):
        with pytest.raises(InvalidFieldsError) as caught:
            ask(credit_model, table)
        assert caught.value.by_field["count"] == 150
        assert list(caught.value.by_field["rows"]) == [str(row) for row in range(6, 6 + 2 * MOST_ROWS, 2)]
        assert caught.value.by_field["rows"]["6"] == {"age": ["Not a valid integer."]}
    partial = predictor.predict_table(credit_model, table, partial=True)
    assert partial.problems() == caught.value.by_field
    assert partial.prediction.columns["result"][1] is None


def test_an_outcome_at_fault_is_a_fault_of_its_row(
    predictor: Predictor, credit_model: Artifact, record: dict[str, Any]
) -> None:
    table = predictor.table_of(credit_model, [{**record, "default": 7}, {**record, "default": None}])
    with pytest.raises(InvalidFieldsError) as caught:
        predictor.predict_table(credit_model, table)
    assert list(caught.value.by_field["rows"]) == ["0"]
    assert list(caught.value.by_field["rows"]["0"]) == ["default"]


def test_an_empty_table_has_nothing_to_predict(predictor: Predictor, credit_model: Artifact) -> None:
    for ask in (predictor.predict_table, predictor.explain_table):
        with pytest.raises(NothingToPredictError):
            ask(credit_model, Table.of([]))


def test_a_file_is_read_with_the_models_columns_and_answered_with_more(
    predictor: Predictor, credit_model: Artifact, credit: UseCase
) -> None:
    content = write_csv(list(credit.example), [{**credit.example, "age": 35}, {**credit.example, "age": 300}]).encode()
    table = predictor.read_table(credit_model, io.BytesIO(content), "a file", 2, Deadline(60))
    answer = predictor.predict_table(credit_model, table, partial=True)
    columns = {name: list(cells) for name, cells in answer.columns().items()}
    assert list(columns) == [*credit.example, "result", "outcome", "probability", "errors"]
    assert columns["age"] == [35, 300]
    assert columns["errors"][0] == ""
    assert columns["errors"][1].startswith("age: Must be between")
    with pytest.raises(TooManyRowsError):
        predictor.read_table(credit_model, io.BytesIO(content), "a file", 1, Deadline(60))
