"""Multiclass: metrics, decision, answer and words of the task; and a use case of wines from training to the page."""

import csv
import html
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import FilePayload, Page, Route, expect
from sklearn import metrics as sklearn_metrics
from werkzeug.serving import make_server

from tabserve.api.app import create_app
from tabserve.api.json_schema import always_answered, answer_columns, answer_result, answer_scores
from tabserve.columns.features import Category, Integer, Number
from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.use_case import UseCase
from tabserve.errors import InvalidUseCaseError, TooFewRowsError
from tabserve.evaluation.fairness import GroupBy
from tabserve.evaluation.gates import LESS_IS_BETTER, SmallestMetric
from tabserve.evaluation.metrics import Confusion, class_metrics
from tabserve.explain import explain
from tabserve.models.linear import LogisticRegression
from tabserve.predict import make_prediction, measure
from tabserve.registry.artifact import Artifact
from tabserve.registry.manifest import REPORT
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tabserve.tables.reader import read_training_table
from tabserve.tables.writer import csv_pieces, write_csv
from tabserve.tasks.binary import Binary, CostMatrix
from tabserve.tasks.multiclass import MostProbable, Multiclass
from tabserve.tasks.regression import Regression
from tabserve.train_pipeline import run_training
from tabserve.training.champion import NotCompared, champion_of
from tabserve.training.parts import read, split
from tabserve.training.plan import Plan
from tabserve.transformers import RemapTarget, Target
from tests.training.helpers import split_of
from tests.wines import DATA, registry_of_wines, wine_is_declared, wine_use_case  # noqa: F401 - fixtures

pytest_plugins = ["tests.browser"]

pytestmark = pytest.mark.usefixtures("declared")

WINES = ("Barolo", "Grignolino", "Barbera")
TASK = Multiclass(outcomes=WINES)
Rows = tuple[np.ndarray, np.ndarray]

chances = st.lists(st.sampled_from([0.0, 0.2, 0.5]) | st.floats(0.01, 1), min_size=3, max_size=3).filter(any)


@st.composite
def rows(draw: st.DrawFn, all_classes: bool = False) -> Rows:
    """Codes and probabilities of some rows, ties among them."""
    codes = draw(st.lists(st.integers(0, 2), min_size=1, max_size=20)) + ([0, 1, 2] if all_classes else [])
    weights = np.array([draw(chances) for _ in codes])
    return np.array(codes, dtype=float), weights / weights.sum(axis=1, keepdims=True)


# metrics


@settings(deadline=None)
@given(rows=rows(all_classes=True))
def test_the_metrics_are_scikit_learn_s(rows: Rows) -> None:
    y, probabilities = rows
    results = np.argmax(probabilities, axis=1)
    assert TASK.metrics(y, probabilities, MostProbable()) == {
        "roc_auc_ovr": pytest.approx(
            sklearn_metrics.roc_auc_score(y, probabilities, multi_class="ovr", average="macro")
        ),
        "log_loss": pytest.approx(sklearn_metrics.log_loss(y, np.clip(probabilities, 1e-15, 1))),
        "accuracy": pytest.approx(sklearn_metrics.accuracy_score(y, results)),
        "balanced_accuracy": pytest.approx(sklearn_metrics.balanced_accuracy_score(y, results)),
        "macro_f1": pytest.approx(sklearn_metrics.f1_score(y, results, average="macro")),
    }


@settings(deadline=None)
@given(rows=rows())
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_means_leave_out_classes_without_rows(rows: Rows) -> None:
    y, probabilities = rows
    results = np.argmax(probabilities, axis=1)
    found = TASK.metrics(y, probabilities, MostProbable())
    assert TASK.varies(y) == (len(set(y)) == 3)
    assert np.isnan(found["roc_auc_ovr"]) == (len(set(y)) == 1) == (not TASK.can_be_judged_by(y))
    if len(set(y)) > 1:
        of_each = [sklearn_metrics.roc_auc_score(y == code, probabilities[:, int(code)]) for code in set(y)]
        assert found["roc_auc_ovr"] == pytest.approx(np.mean(of_each))
    assert found["balanced_accuracy"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(y, results))
    assert found["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(y, results, average="macro"))


@settings(deadline=None)
@given(rows=rows(), data=st.data())
def test_rows_that_count_several_times_or_not_at_all_are_as_good_as_repeated_ones(
    rows: Rows, data: st.DataObject
) -> None:
    y, probabilities = rows
    times = st.lists(st.integers(0, 3), min_size=len(y), max_size=len(y)).filter(any)
    counts = np.array(data.draw(times))
    repeated = (np.repeat(one, counts, axis=0) for one in rows)
    found = TASK.measure(y, probabilities, MostProbable())(counts)
    assert found == pytest.approx(TASK.metrics(*repeated, MostProbable()), rel=1e-14, nan_ok=True)


@settings(deadline=None)
@given(rows=rows(all_classes=True))
def test_the_confusion_matrix_and_what_is_told_of_each_class_are_scikit_learn_s(rows: Rows) -> None:
    y, probabilities = rows
    results = np.argmax(probabilities, axis=1)
    counts = Confusion(y, results, 3).table()
    np.testing.assert_array_equal(counts, sklearn_metrics.confusion_matrix(y, results, labels=[0, 1, 2]))
    found = class_metrics(counts)
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        y, results, labels=[0, 1, 2], zero_division=np.nan
    )
    np.testing.assert_allclose(found["precision"], precision)
    np.testing.assert_allclose(found["recall"], recall)
    np.testing.assert_allclose(found["f1"], f1)


def test_it_is_known_of_which_metrics_less_is_better() -> None:
    y = np.array([0.0, 1.0, 2.0, 2.0])
    right, wrong = np.eye(3)[[0, 1, 2, 2]], np.eye(3)[[1, 2, 0, 0]]
    good, bad = (TASK.metrics(y, probabilities, MostProbable()) for probabilities in (right, wrong))
    assert {name for name in good if good[name] < bad[name]} == LESS_IS_BETTER & set(TASK.metric_names)
    assert good[TASK.headline] == TASK.metric(y, right) == 1
    assert set(TASK.metric_names) == good.keys()


# parts, decision and answer


def test_the_first_of_the_most_probable_classes_is_the_result() -> None:
    probabilities = np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])
    decision = TASK.decide(np.array([0.0, 1.0]), probabilities[None])
    assert decision.decide(probabilities).tolist() == [1, 0]
    assert TASK.answer(probabilities, decision) == {
        "result": ["Grignolino", "Barolo"],
        "probability": [
            {"Barolo": 0.2, "Grignolino": 0.5, "Barbera": 0.3},
            {"Barolo": 0.4, "Grignolino": 0.4, "Barbera": 0.2},
        ],
    }
    assert TASK.thresholds(decision, {}) == {"threshold": None, "threshold_choice": None, "thresholds": {}}


def test_in_a_table_each_label_s_probability_is_a_column() -> None:
    answer = {"result": ["Barolo", None], "probability": [dict(zip(WINES, (0.5, 0.3, 0.2), strict=True)), None]}
    assert TASK.as_table(answer) == {
        "result": ["Barolo", None],
        "probability_Barolo": [0.5, None],
        "probability_Grignolino": [0.3, None],
        "probability_Barbera": [0.2, None],
    }
    assert tuple(TASK.as_table(answer)) == TASK.table_columns


@pytest.mark.parametrize(
    ("train", "hold_out", "splits", "problem"),
    [
        ((50, 1, 50), (5, 5, 5), 2, "the training part has 1 of 'Grignolino' and needs at least 2"),
        ((50, 50, 0), (5, 5, 5), 2, "the training part has 0 of 'Barbera' and needs at least 2"),
        ((9, 9, 9), (5, 5, 5), 2, "the training part has 27 and needs at least 30"),
        ((50, 50, 50), (5, 4, 0), 2, "the hold-out has 9 and needs at least 10"),
    ],
)
def test_too_few_rows_of_a_class_are_refused(
    train: tuple[int, ...], hold_out: tuple[int, ...], splits: int, problem: str
) -> None:
    codes = np.arange(3.0)
    with pytest.raises(TooFewRowsError, match=f"^There are too few rows to train on: {problem}"):
        TASK.check_parts(np.repeat(codes, train), np.repeat(codes, hold_out), splits)


def test_a_rare_class_is_no_reason_to_refuse_a_table() -> None:
    TASK.check_parts(np.repeat([0.0, 1.0, 2.0], [20, 20, 2]), np.repeat([0.0, 1.0], [5, 5]), 5)


@given(rare=st.integers(2, 9), splits=st.integers(2, 5), seed=st.integers(0, 99), grouped=st.booleans())
def test_every_model_of_a_fold_sees_every_class_however_rare(rare: int, splits: int, seed: int, grouped: bool) -> None:
    y = np.random.default_rng(seed).permutation(np.repeat([0.0, 1.0, 2.0], [30, 20, rare]))
    groups = np.arange(len(y), dtype=np.uint64)
    if grouped:  # two rows of the most frequent class belong together
        groups[np.flatnonzero(y == 0)[:2]] = 0
    for fitted, judged in TASK.folds(y, splits, 2, seed, groups):
        assert TASK.varies(y[fitted])
        assert TASK.can_be_judged_by(y[judged])


def test_folds_hold_the_classes_in_the_shares_of_the_data() -> None:
    y = np.repeat([0.0, 1.0, 2.0], [10, 20, 30])
    for fitted, judged in TASK.folds(y, splits=5, repeats=2, seed=1):
        assert np.bincount(y[judged].astype(int)).tolist() == [2, 4, 6]
        assert np.bincount(y[fitted].astype(int)).tolist() == [8, 16, 24]


def test_a_few_rows_of_very_many_classes_have_each_of_them() -> None:
    many = Multiclass(outcomes=tuple(map(str, range(300))))
    y = np.tile(np.arange(300.0), 10)
    assert many.few(y, 200).tolist() == list(range(300))


def test_a_few_rows_have_every_class() -> None:
    y = np.repeat([1.0, 0.0, 2.0], [500, 3, 500])
    few = TASK.few(y, 30)
    assert len(few) == 23
    assert TASK.varies(y[few])


@pytest.mark.parametrize(
    ("predictions", "problem"),
    [
        (np.full((2, 3), 1 / 3), None),
        (np.full(2, 1 / 3), "not an array of floats of the shape (2, 3)"),
        (np.full((2, 2), 0.5), "not an array of floats of the shape (2, 3)"),
        (np.array([[np.nan, 0.5, 0.5]] * 2), "not finite"),
        (np.array([[1.2, -0.1, -0.1]] * 2), "between 0 and 1"),
        (np.full((2, 3), 0.5), "add up to 1"),
    ],
)
def test_predictions_are_probabilities_of_all_classes(predictions: Any, problem: str | None) -> None:
    found = TASK.prediction_problem(predictions, 2)
    assert found is None if problem is None else problem in str(found)


# declaration

CULTIVAR = Category(name="cultivar", description="-", values=WINES)


@pytest.mark.parametrize(
    ("outcomes", "target", "problem"),
    [
        (("Barolo", "Barbera"), Target(CULTIVAR), "needs three outcomes or more"),
        (("Barolo", "Barolo", "Barbera"), Target(CULTIVAR), "with different names"),
        ((*WINES, "Dolcetto"), Target(CULTIVAR), r"the 4 outcomes need the classes 0 to 3, .* gives 3 class\(es\)"),
        (WINES, Target(Number(name="cultivar", description="-", low=0, high=2)), "'cultivar' gives any number"),
        (WINES, Target(Integer(name="cultivar", description="-", low=1, high=3)), "need the classes 0 to 2"),
        (WINES, Target(Integer(name="cultivar", description="-", low=1, high=3)), r"gives 3 class\(es\): 1, 2, 3\."),
        (WINES[::-1], Target(CULTIVAR), "must be the values of the target 'cultivar', in their order"),
        (
            WINES,
            RemapTarget(CULTIVAR, classes=dict(zip(WINES, (2, 1, 0), strict=True))),
            "the class of the label 'Barolo' of the target 'cultivar' is 2, and that is the outcome 'Barbera'",
        ),
    ],
)
def test_outcomes_that_do_not_fit_the_target_are_refused(
    wine: UseCase, outcomes: tuple[str, ...], target: Target, problem: str
) -> None:
    with pytest.raises(InvalidUseCaseError, match=problem):
        replace(wine, task=Multiclass(outcomes=outcomes), target=target)


def test_labels_of_any_kind_may_stand_for_the_classes(wine: UseCase) -> None:
    region = Integer(name="cultivar", description="-", low=1, high=4)
    target = RemapTarget(region, classes={1: 0, 2: 1, 3: 2, 4: 2})
    assert replace(wine, target=target).task.outcomes == WINES


def test_a_column_cannot_have_the_name_of_a_label_s_probability(wine: UseCase) -> None:
    odd = Number(name="probability_Barolo", description="-", low=0, high=1, missing=True)
    with pytest.raises(InvalidUseCaseError, match="a column cannot be called 'probability_Barolo'"):
        replace(wine, features=(*wine.features, odd))
    dolcetto = replace(odd, name="probability_Dolcetto")
    assert replace(wine, features=(*wine.features, dolcetto)).features[-1] is dolcetto


def test_a_promise_of_a_direction_is_refused_since_labels_have_none(wine: UseCase) -> None:
    first, *others = wine.features
    with pytest.raises(InvalidUseCaseError, match="'alcohol' cannot be monotone: predictions of several classes"):
        replace(wine, features=(replace(first, monotone=1), *others))


def test_models_of_two_classes_and_groups_of_people_are_refused(wine: UseCase) -> None:
    two = Algorithm(name="two", model=LogisticRegression())
    with pytest.raises(InvalidUseCaseError, match="needs a model that is a MulticlassClassifier"):
        replace(wine, algorithms=(two,), baseline=two)
    with pytest.raises(InvalidUseCaseError, match="groups by 'alcohol' are compared by decisions of 0 and 1"):
        replace(wine, groups=(GroupBy(feature="alcohol", cuts=(12,)),))


# the schema of answers


def test_the_schema_of_answers_is_what_the_tasks_declare() -> None:
    tasks = (Binary(CostMatrix(1, 1)), TASK, Regression())
    columns = answer_columns(tasks)
    assert list(columns) == ["result", "probability"]
    assert always_answered(tasks) == ["result"]
    for name, values in TASK.answer(np.eye(3), MostProbable()).items():
        jsonschema.validate([*values, None], columns[name])
    for wrong in ({"Barolo": 1.0}, {**dict.fromkeys(WINES, 0.0), "Dolcetto": 1.0}, dict.fromkeys(WINES, 2.0)):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate([wrong], columns["probability"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(["Dolcetto"], columns["result"])
    jsonschema.validate("Barbera", answer_result(tasks))
    assert set(answer_scores(tasks)) == {"auc_score", "auc_ovr_score", "r2_score"}


# from training to the page


@pytest.fixture(scope="module")
def registry(wines: Registry) -> Registry:
    return wines


@pytest.fixture(scope="module", params=["lightgbm", "logistic"])
def artifact(registry: Registry, request: pytest.FixtureRequest) -> Artifact:
    return registry.load(registry.latest("wine", request.param))


@pytest.fixture(scope="module")
def client(registry: Registry) -> FlaskClient:
    settings = Settings(model_registry=registry.location, auth_required=False, default_use_case="wine")
    return create_app(settings).test_client()


@pytest.fixture(scope="module")
def hold_out(registry: Registry) -> list[dict[str, Any]]:
    """The records that were held out, with their outcome."""
    content = registry.hold_out(latest := registry.latest("wine"), registry.manifest(latest))
    rows: list[dict[str, Any]] = pd.read_parquet(io.BytesIO(content)).to_dict("records")
    return rows


def unlabelled(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in record.items() if name != "cultivar"} for record in records]


def test_both_models_pass_their_gates_and_the_manifest_holds_every_metric_with_its_interval(artifact: Artifact) -> None:
    manifest = artifact.manifest
    assert [gate.passed for gate in manifest.gates] == [True] * len(manifest.gates)
    assert len(manifest.gates) >= 5
    assert manifest.headline == "roc_auc_ovr"
    for metrics in manifest.metrics.values():
        assert set(metrics) == set(TASK.metric_names)
    low, high = manifest.intervals["roc_auc_ovr"]
    assert 0.9 < low <= manifest.metrics["hold_out"]["roc_auc_ovr"] <= high <= 1
    assert (manifest.threshold, manifest.thresholds) == (None, {})


def test_a_class_of_five_rows_is_trained(wine: UseCase, tmp_path: Path) -> None:
    header, *rows = DATA.read_text().splitlines()
    rare = [row for row in rows if "Barbera" in row]
    data = tmp_path / "wines.csv"
    data.write_text("\n".join([header, *(row for row in rows if row not in rare), *rare[:5]]))
    registry = Registry(tmp_path / "models")
    run_training(replace(wine, gates=()), registry, data, Plan(trials=1, jobs=2))
    manifest = registry.manifest(registry.latest("wine"))
    assert manifest.metrics["hold_out"]["roc_auc_ovr"] > 0.9
    assert any("'Barbera'" in warning.found for warning in manifest.warnings)


def test_a_loaded_model_predicts_the_hold_out_as_its_manifest_says(
    artifact: Artifact, hold_out: list[dict[str, Any]]
) -> None:
    target = [record["cultivar"] for record in hold_out]
    prediction = make_prediction(artifact, unlabelled(hold_out), target=target)
    metrics = artifact.manifest.metrics["hold_out"]
    assert measure(artifact, prediction, target) == pytest.approx(metrics["roc_auc_ovr"], abs=1e-12)
    right = np.mean([result == truth for result, truth in zip(prediction.columns["result"], target, strict=True)])
    assert right == pytest.approx(metrics["accuracy"])


def test_a_candidate_that_is_not_good_enough_is_not_registered(wine: UseCase, tmp_path: Path) -> None:
    strict = replace(wine, gates=(SmallestMetric("roc_auc_ovr", 1.1),), algorithms=(wine.baseline,))
    result = run_training(strict, Registry(tmp_path), DATA, Plan(trials=1, jobs=1))
    assert result.problems == ["logistic was not registered; it failed: smallest hold-out roc_auc_ovr."]
    assert Registry(tmp_path).list() == []


def test_a_table_with_too_few_of_a_label_is_refused(wine: UseCase, tmp_path: Path) -> None:
    few = tmp_path / "few.csv"
    header, *lines = DATA.read_text().splitlines()
    barberas = [line for line in lines if line.endswith("Barbera")]
    few.write_text("\n".join([header, *(line for line in lines if line not in barberas), *barberas[:1]]))
    with pytest.raises(TooFewRowsError, match="of 'Barbera' and needs at least"):
        run_training(wine, Registry(tmp_path), few, Plan(trials=1))


def test_a_model_of_other_labels_is_not_compared_with(wine: UseCase, registry: Registry) -> None:
    test = split(wine, read(wine, DATA), 42).test
    champion = champion_of(wine, registry, test, 42, split_of(wine))
    assert not isinstance(champion, NotCompared)
    assert champion is not None
    assert champion.predictions.shape == (len(test.y), 3)
    swapped = (WINES[1], WINES[0], WINES[2])
    other = replace(
        wine, task=Multiclass(outcomes=swapped), target=Target(replace(wine.target.feature, values=swapped))
    )
    assert isinstance(champion_of(other, registry, test, 42, split_of(other)), NotCompared)


def test_a_result_is_explained_by_what_raised_its_own_raw_score(
    artifact: Artifact, hold_out: list[dict[str, Any]]
) -> None:
    records = unlabelled(hold_out)
    prediction = make_prediction(artifact, records)
    raw = artifact.model.contributions(artifact.pipeline.transform(records)).sum(axis=-1)
    np.testing.assert_allclose(
        np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True), prediction.predictions, rtol=1e-9, atol=1e-12
    )
    for row, explanation in enumerate(explain(artifact, records)):
        result = prediction.columns["result"][row]
        assert explanation.result == result
        assert explanation.score == prediction.columns["probability"][row][result]
        assert explanation.raw_score == pytest.approx(raw[row, WINES.index(result)], abs=1e-9)
        total = explanation.base_value + sum(explanation.contributions.values())
        assert total == pytest.approx(explanation.raw_score, abs=1e-9)
        assert all(reason.contribution > 0 for reason in explanation.reasons)
        assert all(reason.contribution < 0 for reason in explanation.counter_reasons)
    assert {explanation.result for explanation in explain(artifact, records)} == set(WINES)


def test_one_record_and_a_list_are_answered_with_labels_and_their_probabilities(
    client: FlaskClient, wine: UseCase, hold_out: list[dict[str, Any]]
) -> None:
    answer = client.post("/output/wine", json=dict(wine.example)).json
    (result,), (probability,) = answer["result"], answer["probability"]
    assert list(probability) == list(WINES)
    assert sum(probability.values()) == pytest.approx(1)
    assert result == max(probability, key=probability.get)
    many = client.post("/output/wine", json=unlabelled(hold_out)).json
    alone = [client.post("/output/wine", json=record).json for record in unlabelled(hold_out)[:10]]
    assert [one["result"][0] for one in alone] == many["result"][:10]
    assert [one["probability"][0] for one in alone] == many["probability"][:10]


def test_a_partial_answer_leaves_the_rows_at_fault_empty(client: FlaskClient, wine: UseCase) -> None:
    answer = client.post("/output/wine?partial=true", json=[dict(wine.example), {"hue": 1}]).json
    assert (answer["result"][1], answer["probability"][1]) == (None, None)
    assert answer["result"][0] in WINES
    assert answer["errors"]["count"] == 1
    none = client.post("/output/wine?partial=true", json=[{"hue": 1}]).json
    assert (none["result"], none["probability"]) == ([None], [None])


def test_labelled_records_are_answered_with_their_score(
    client: FlaskClient, registry: Registry, hold_out: list[dict[str, Any]]
) -> None:
    manifest = registry.manifest(registry.latest("wine"))
    answer = client.post("/outputs/wine", json=hold_out).json
    assert answer["auc_ovr_score"] == pytest.approx(manifest.metrics["hold_out"]["roc_auc_ovr"], abs=1e-12)
    assert client.post("/outputs/wine").json["auc_ovr_score"] == answer["auc_ovr_score"]
    assert client.post("/outputs/wine", json=hold_out[:1]).json["auc_ovr_score"] is None
    assert "auc_ovr_score" not in client.post("/outputs/wine", json=unlabelled(hold_out)).json


def test_a_file_is_answered_with_a_column_for_each_label(client: FlaskClient, hold_out: list[dict[str, Any]]) -> None:
    rows = [*hold_out[:5], {**hold_out[5], "hue": "much"}]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)

    def upload(accept: str) -> Any:
        form = {"fileupload": (io.BytesIO(text.getvalue().encode()), "wines.csv")}
        return client.post("/outputs_upload/wine?partial=true", data=form, headers={"Accept": accept})

    found = list(csv.DictReader(io.StringIO(upload("text/csv").text)))
    expected = upload("application/json").json
    assert list(found[0]) == [*rows[0], "result", *(f"probability_{wine}" for wine in WINES), "errors"]
    for row, result, probability in zip(found[:5], expected["result"], expected["probability"], strict=False):
        assert row["result"] == result
        assert {wine: float(row[f"probability_{wine}"]) for wine in WINES} == probability
    assert (found[5]["result"], found[5]["probability_Barolo"]) == ("", "")
    assert found[5]["errors"] == "hue: Not a valid number."


def test_an_explanation_is_answered_with_the_label(client: FlaskClient, wine: UseCase) -> None:
    prediction = client.post("/output/wine", json=dict(wine.example)).json
    (one,) = client.post("/explain/wine", json=dict(wine.example)).json["explanations"]
    assert [one["result"]] == prediction["result"]
    assert one["score"] == prediction["probability"][0][one["result"]]
    assert one["reasons"]


def test_the_report_shows_the_confusion_matrix_and_every_class(registry: Registry) -> None:
    for model_id in registry.list("wine"):
        manifest = registry.manifest(model_id)
        text = registry.read(model_id, REPORT, manifest).decode()
        for shown in ("Confusion matrix", "Permutation importance", "Contributions", "Learning curve", "Macro F1"):
            assert shown in text
        assert f"{manifest.metrics['hold_out']['roc_auc_ovr']:.3f}" in text
        for label in WINES:
            assert f'<th scope="row">{label}</th>' in text


def test_the_page_says_what_kind_of_answer_to_expect(client: FlaskClient, wine: UseCase) -> None:
    text = client.get("/").text
    assert 'data-name="wine" data-kind="multiclass"' in text
    assert f"data-outcomes='{json.dumps(WINES)}'" in text
    assert f"data-answers='{json.dumps(TASK.table_columns)}'" in text
    assert "ROC AUC OVR" in text


@pytest.fixture(scope="module")
def url(client: FlaskClient) -> Iterator[str]:
    """Where the service runs, for a browser."""
    server = make_server("127.0.0.1", 0, client.application, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_page_shows_the_label_the_probabilities_and_what_speaks_for_it(
    page: Page, url: str, client: FlaskClient, wine: UseCase
) -> None:
    expected = client.post("/output/wine", json=dict(wine.example)).json
    (result,), (probability,) = expected["result"], expected["probability"]
    page.goto(url)
    place = page.locator('.use-case[data-name="wine"]')
    place.get_by_role("button", name="Predict").click()
    answer = place.locator(".answer")
    expect(answer.locator(".decision")).to_have_text(result)
    ordered = sorted(probability, key=probability.get, reverse=True)
    expect(answer.locator(".probabilities tbody th")).to_have_text(ordered)
    expect(answer).to_contain_text(f"Speaks for \u201c{result}\u201d")
    expect(answer).to_contain_text(f"Speaks against \u201c{result}\u201d")
    reasons = client.post("/explain/wine", json=dict(wine.example)).json["explanations"][0]["reasons"]
    expect(answer.locator("ol.reasons.up li")).to_have_text([reason["reason"] for reason in reasons])


def test_the_page_shows_the_answers_to_a_file_as_labels_and_numbers(page: Page, url: str, wine: UseCase) -> None:
    page.goto(url)
    place = page.locator('.use-case[data-name="wine"]')
    rows = write_csv(list(wine.example), [wine.example, {**wine.example, "hue": None}])
    file: FilePayload = {"name": "wines.csv", "mimeType": "text/csv", "buffer": rows.encode()}
    place.locator("input.upload").set_input_files(file)
    header = place.locator(".table thead th")
    expect(header.nth(1)).to_have_text("result")
    expect(header.nth(2)).to_have_text("probability_Barolo")
    first = place.locator(".table tbody tr").first.locator("td.outcome")
    expect(first).to_have_count(4)
    assert first.first.text_content() in WINES
    assert float(first.nth(1).text_content() or "") <= 1


def test_the_page_shows_a_label_without_the_apostrophe_that_keeps_spreadsheets_from_running_it(
    page: Page, url: str, wine: UseCase
) -> None:
    labels = ["-1", "0", "=1+1", "'quoted'"]
    answer = b"".join(csv_pieces({"hue": [1, 1, 1, 1], "result": labels})).decode()
    assert "'=1+1" in answer  # but a number stays a number

    def with_other_labels(route: Route) -> None:
        response = route.fetch()
        text = response.text().replace(json.dumps(WINES), html.escape(json.dumps(labels)))
        route.fulfill(response=response, body=text)

    page.route(f"{url}/", with_other_labels)
    page.route("**/outputs_upload/**", lambda route: route.fulfill(body=answer, content_type="text/csv"))
    page.goto(url)
    place = page.locator('.use-case[data-name="wine"]')
    file: FilePayload = {"name": "a.csv", "mimeType": "text/csv", "buffer": b"hue"}
    place.locator("input.upload").set_input_files(file)
    expect(place.locator(".table tbody td.outcome")).to_have_text(labels)


def test_the_data_fit_the_use_case(wine: UseCase) -> None:
    table = read_training_table(DATA, wine.features, wine.target.feature)
    assert len(table.records) == 178
