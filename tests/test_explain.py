"""explain: exact contributions by column, and reasons, for and against, that are true, few and only of the model."""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from tabserve.aliases import Matrix, Vector, Weights
from tabserve.columns.derived import DerivedColumn, Quotient
from tabserve.columns.features import Category, Feature, Number
from tabserve.columns.matrix import Columns
from tabserve.declaration.use_case import UseCase
from tabserve.errors import InvalidRecordsError, NotExplainableError, NothingToPredictError
from tabserve.explain import MOST_REASONS, Explanation, Reason, explain
from tabserve.models.base import Model, Regressor
from tabserve.models.lightgbm import LgbClassifier
from tabserve.models.linear import LogisticRegression
from tabserve.pipeline import Pipeline
from tabserve.predict import make_prediction
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.tables.reader import read_training_table
from tabserve.tasks.binary import Threshold
from tabserve.tasks.regression import AsPredicted, Regression
from tabserve.transformers import OneHot, RecordEncoder, Standardize, Transformer

HOUR = {"hour": 15, "weekday": "Friday", "month": "June", "weather": "Cloudy"}
PROTECTED = {"personal_status", "age", "foreign_worker", "duration_for_age"}


def made_of(
    credit: UseCase,
    model: Model,
    features: Sequence[Feature],
    derived: Sequence[DerivedColumn] = (),
    transformers: tuple[Transformer, ...] = (),
) -> Artifact:
    """A model of some columns of the credit data, as if it came from a registry."""
    table = read_training_table(credit.path, credit.features, credit.target.feature)
    pipeline = Pipeline(RecordEncoder(tuple(features), tuple(derived)), tuple(map(clone, transformers)))
    target = clone(credit.target)
    names = [feature.name for feature in features]
    X = pipeline.fit_transform([{name: record[name] for name in names} for record in table.records])
    fitted = clone(model).fit(X, target.fit_transform(table.target), pipeline.columns_)
    return Artifact({}, pipeline, target, fitted, credit.task, Threshold(0.5))


def named(columns: Sequence[Any], *names: str) -> list[Any]:
    return [column for column in columns if column.name in names]


@pytest.fixture(scope="module")
def baseline(credit: UseCase) -> Artifact:
    """The logistic regression, whose pipeline moves columns and makes many of one."""
    return made_of(credit, credit.baseline.model, credit.features, credit.derived, credit.baseline.transformers)


@pytest.fixture(params=["lightgbm", "logistic"])
def classifier(request: pytest.FixtureRequest, artifact: Artifact, baseline: Artifact) -> Artifact:
    return artifact if request.param == "lightgbm" else baseline


def bikes_models(trained: Registry) -> dict[str, Artifact]:
    return {model_id.partition("_")[0]: trained.load(model_id) for model_id in trained.list("bikes")}


def test_contributions_and_the_base_value_sum_to_the_log_odds(classifier: Artifact, records: Any) -> None:
    explanations = explain(classifier, records)
    assert len({explanation.base_value for explanation in explanations}) == 1
    for explanation in explanations:
        total = explanation.base_value + sum(explanation.contributions.values())
        assert total == pytest.approx(explanation.raw_score, rel=0, abs=1e-9)
        log_odds = np.log(explanation.score / (1 - explanation.score))
        assert explanation.raw_score == pytest.approx(log_odds, rel=0, abs=1e-9)


def test_contributions_are_named_by_feature_and_derived_column_in_their_order(
    classifier: Artifact, credit: UseCase, record: Any
) -> None:
    (explanation,) = explain(classifier, [record])
    assert list(explanation.contributions) == [column.name for column in (*credit.features, *credit.derived)]


def test_the_score_is_that_of_a_prediction_before_and_after(classifier: Artifact, records: Any) -> None:
    before = make_prediction(classifier, records[:200]).predictions.tolist()
    assert [explanation.score for explanation in explain(classifier, records[:200])] == before
    assert make_prediction(classifier, records[:200]).predictions.tolist() == before


def test_a_contribution_is_what_the_model_says_of_its_columns(baseline: Artifact, record: Any) -> None:
    """Of a linear model, another value of one category moves the raw score by the change of its contribution."""
    changed = {**record, "purpose": "education"}
    one, other = explain(baseline, [record, changed])
    moved = {name for name in one.contributions if one.contributions[name] != other.contributions[name]}
    assert moved == {"purpose"}
    step = other.contributions["purpose"] - one.contributions["purpose"]
    assert other.raw_score - one.raw_score == pytest.approx(step, rel=0, abs=1e-9)


@given(st.randoms(use_true_random=False), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_neither_the_order_of_keys_nor_other_records_matter(
    artifact: Artifact, records: Any, shuffler: random.Random, position: int
) -> None:
    keys = list(records[position])
    shuffler.shuffle(keys)
    shuffled = {key: records[position][key] for key in keys}
    (alone,) = explain(artifact, [shuffled])
    assert explain(artifact, [records[0], records[position]])[1] == alone


def test_records_are_not_changed(artifact: Artifact, record: Any) -> None:
    given_record = dict(record)
    explain(artifact, [given_record])
    assert given_record == record


def all_reasons(explanation: Explanation) -> list[Reason]:
    return [*explanation.reasons, *explanation.counter_reasons]


def pushing(explanation: Explanation, sign: int) -> list[tuple[str, float]]:
    """The columns that pushed a score up (1) or down (-1) most, at most four."""
    ranked = sorted(explanation.contributions.items(), key=lambda part: -sign * part[1])
    return [(name, value) for name, value in ranked[:MOST_REASONS] if sign * value > 0]


def told(reasons: list[Reason]) -> list[tuple[str, float]]:
    return [(reason.column, reason.contribution) for reason in reasons]


def test_the_result_is_the_decision_that_predictions_answer_with(classifier: Artifact, records: Any) -> None:
    results = [explanation.result for explanation in explain(classifier, records)]
    assert results == make_prediction(classifier, records).columns["result"]
    assert set(results) == {0, 1}


def test_reasons_pushed_towards_the_decision_that_was_made_and_counter_reasons_away(
    classifier: Artifact, records: Any
) -> None:
    for explanation in explain(classifier, records):
        towards = 1 if explanation.result else -1
        assert told(explanation.reasons) == pushing(explanation, towards)
        assert told(explanation.counter_reasons) == pushing(explanation, -towards)


@pytest.mark.parametrize("threshold", [0.0, 1.1])
def test_the_threshold_says_which_reasons_come_first(artifact: Artifact, record: Any, threshold: float) -> None:
    (explanation,) = explain(dataclasses.replace(artifact, decision=Threshold(threshold)), [record])
    assert explanation.result == (threshold == 0)
    assert told(explanation.reasons) == pushing(explanation, 1 if threshold == 0 else -1)
    assert told(explanation.counter_reasons) == pushing(explanation, -1 if threshold == 0 else 1)


class Told(Regressor):
    """A model whose contributions are given."""

    def __init__(self, parts: Sequence[float]) -> None:
        self.parts = parts

    def fit(self, X: Matrix, y: Vector, columns: Columns = (), weights: Weights = None) -> Self:
        return self

    def predict(self, X: Matrix) -> Vector:
        return self.contributions(X).sum(axis=1)

    def contributions(self, X: Matrix) -> Matrix:
        return np.array([self.parts])


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_what_rounding_leaves_is_no_reason_whatever_the_unit(credit: UseCase, record: Any, scale: float) -> None:
    parts = [scale, -scale, 3e-11 * scale, -3e-11 * scale, *[0.0] * 16, 0.0]
    pipeline = Pipeline(RecordEncoder(credit.features).fit())
    (explanation,) = explain(Artifact({}, pipeline, credit.target, Told(parts), Regression(), AsPredicted()), [record])
    assert told(explanation.reasons) == [("checking_balance", scale)]
    assert told(explanation.counter_reasons) == [("months_loan_duration", -scale)]


def test_a_reason_says_what_is_in_the_record(classifier: Artifact, credit: UseCase, records: Any) -> None:
    columns = {column.name: column for column in (*credit.features, *credit.derived)}
    for record, explanation in zip(records[:200], explain(classifier, records[:200]), strict=True):
        values = {
            **{name: columns[name].encoder()(value) for name, value in record.items()},
            "instalment": record["amount"] / record["months_loan_duration"],
            "duration_for_age": record["months_loan_duration"] / record["age"],
        }
        for reason in all_reasons(explanation):
            assert reason.text == columns[reason.column].in_words(values[reason.column])


def test_the_reasons_of_the_example_can_be_read(baseline: Artifact, record: Any) -> None:
    (explanation,) = explain(baseline, [record])
    assert [(reason.text, reason.protected) for reason in explanation.reasons] == [
        ("Checking account below 0 DM", False),
        ("Loan for a new car", False),
        ("Loan lasts 47 months", False),
        ("Loan lasts 1.34 months for each year of age", True),
    ]
    assert [reason.text for reason in explanation.counter_reasons] == [
        "Instalment is below 20 % of disposable income",
        "Most valuable property: real estate",
        "Telephone in the applicant's name",
        "No instalment plan elsewhere",
    ]


def test_a_reason_that_comes_from_a_protected_feature_is_flagged(baseline: Artifact, records: Any) -> None:
    reasons = [reason for explanation in explain(baseline, records) for reason in all_reasons(explanation)]
    assert {reason.column for reason in reasons if reason.protected} == PROTECTED
    assert not {reason.column for reason in reasons if not reason.protected} & PROTECTED


def test_a_column_derived_from_a_protected_feature_is_protected_even_without_the_feature_s_own_push(
    credit: UseCase, records: Any
) -> None:
    features = named(credit.features, "months_loan_duration", "age")
    model = made_of(credit, LogisticRegression(), features, named(credit.derived, "duration_for_age"), (Standardize(),))
    sent = [{feature.name: record[feature.name] for feature in features} for record in records]
    reasons = [reason for explanation in explain(model, sent) for reason in all_reasons(explanation)]
    flags = {(reason.column, reason.protected) for reason in reasons}
    assert flags == {("months_loan_duration", False), ("age", True), ("duration_for_age", True)}


@pytest.mark.parametrize("name", ["lightgbm", "logistic"])
def test_a_model_trained_without_protected_features_never_gives_one_as_a_reason(
    credit: UseCase, records: Any, name: str
) -> None:
    algorithm = credit.baseline if name == "logistic" else credit.algorithms[0]
    transformers = credit.pipeline(algorithm, exclude_protected=True).transformers
    model = made_of(credit, algorithm.model, credit.features, credit.derived, transformers)
    explanations = explain(model, records)
    for explanation in explanations:
        assert {explanation.contributions[column] for column in PROTECTED} == {0}
        assert not any(reason.protected or reason.column in PROTECTED for reason in all_reasons(explanation))
    assert max(len(explanation.reasons) for explanation in explanations) == MOST_REASONS
    assert max(len(explanation.counter_reasons) for explanation in explanations) == MOST_REASONS
    changed = explain(
        model,
        [{**record, "age": 19, "personal_status": "female", "foreign_worker": "no"} for record in records],
    )
    assert changed == explanations


@given(st.sets(st.integers(0, 19), min_size=1, max_size=5))
@settings(max_examples=10, deadline=None)
def test_only_features_that_are_in_the_model_are_named(credit: UseCase, records: Any, chosen: set[int]) -> None:
    features = [credit.features[position] for position in sorted(chosen)]
    names = [feature.name for feature in features]
    categories = tuple(feature.name for feature in features if isinstance(feature, Category))
    model = made_of(credit, LogisticRegression(), features, (), (OneHot(categories), Standardize()))
    for explanation in explain(model, [{name: record[name] for name in names} for record in records[:20]]):
        assert list(explanation.contributions) == names
        assert {reason.column for reason in all_reasons(explanation)} <= set(names)


def test_a_column_that_the_model_never_asks_about_is_no_reason(credit: UseCase, records: Any) -> None:
    model = made_of(credit, LgbClassifier(num_rounds=1, num_leaves=2), credit.features, credit.derived)
    explanations = explain(model, records)
    used = {name for explanation in explanations for name, value in explanation.contributions.items() if value}
    assert len(used) == 1
    assert {reason.column for explanation in explanations for reason in all_reasons(explanation)} == used
    assert {len(all_reasons(explanation)) for explanation in explanations} == {1}
    assert any(not explanation.reasons for explanation in explanations)


def test_a_use_case_without_words_gets_label_and_value(credit: UseCase) -> None:
    amount = Number(name="loan_amount", description="", low=0, high=1e6, missing=True)
    months = Number(name="months", description="", low=1, high=120)
    share = Quotient(name="monthly_share", description="", numerator="loan_amount", denominator="months")
    pipeline = Pipeline(RecordEncoder((amount, months), (share,)))
    sent = [{"loan_amount": 100.0 * i, "months": 8} for i in range(1, 41)]
    X = pipeline.fit_transform(sent)
    model = LgbClassifier(num_rounds=3, min_data_in_leaf=2).fit(X, (X[:, 0] > 2000).astype(float))
    artifact = Artifact({}, pipeline, credit.target, model, credit.task, Threshold(0.5))
    high, missing = explain(artifact, [sent[-1], {"months": 3}])
    assert [reason.text for reason in high.reasons] == ["Loan amount: 4000"]
    assert {reason.text for reason in all_reasons(missing)} <= {"Loan amount: not given", "Monthly share: not given"}


def test_wording_comes_with_the_artifact(artifact: Artifact, record: Any) -> None:
    encoder = artifact.encoder
    told = tuple(dataclasses.replace(feature, reason="Told", reason_for={}) for feature in encoder.features)
    derived = tuple(dataclasses.replace(column, reason="Told") for column in encoder.derived)
    pipeline = Pipeline(RecordEncoder(told, derived).fit())
    (explanation,) = explain(dataclasses.replace(artifact, pipeline=pipeline), [record])
    assert {reason.text for reason in all_reasons(explanation)} == {"Told"}


def test_plain_values_only(classifier: Artifact, record: Any) -> None:
    (explanation,) = explain(classifier, [record])
    plain = dataclasses.asdict(explanation)
    numbers = [plain["score"], plain["raw_score"], plain["base_value"], *plain["contributions"].values()]
    assert {type(number) for number in numbers} == {float}
    assert [{name: type(value) for name, value in reason.items()} for reason in plain["reasons"]] == [
        {"column": str, "text": str, "contribution": float, "protected": bool}
    ] * len(plain["reasons"])


def test_nothing_to_explain_is_an_error(artifact: Artifact) -> None:
    with pytest.raises(NothingToPredictError):
        explain(artifact, [])


@pytest.mark.parametrize("wrong", [{}, {"age": -1}, {"age": "35"}, {"purpose": "gambling"}, {"extra": 1}])
def test_records_at_fault_are_refused_as_by_a_prediction(artifact: Artifact, record: Any, wrong: Any) -> None:
    sent = [record, {**record, **wrong} if wrong else {}, record]
    with pytest.raises(InvalidRecordsError) as ours:
        explain(artifact, sent)
    with pytest.raises(InvalidRecordsError) as theirs:
        make_prediction(artifact, sent)
    assert (ours.value.rows, str(ours.value)) == (theirs.value.rows, str(theirs.value))


# bikes


@pytest.mark.parametrize("name", ["Lasso", "LinearRegression", "DecisionTreeRegressor", "LGBMRegressor"])
def test_a_count_is_explained_by_what_raised_it_and_what_lowered_it(
    trained: Registry, bikes: UseCase, name: str
) -> None:
    model = bikes_models(trained)[f"bikes-{name}"]
    hours = [*read_training_table(bikes.path, bikes.features, bikes.target.feature).records][::100]
    for explanation, score in zip(explain(model, hours), make_prediction(model, hours).predictions, strict=True):
        assert explanation.score == score
        assert list(explanation.contributions) == [*HOUR, "year", "season", "weekend"]
        total = explanation.base_value + sum(explanation.contributions.values())
        assert total == pytest.approx(explanation.raw_score, rel=1e-12, abs=1e-9)
        raw = np.exp(total) if name == "LGBMRegressor" else max(total, 0)
        assert score == pytest.approx(raw, rel=1e-9, abs=1e-9)
        assert explanation.result == score
        assert told(explanation.reasons) == pushing(explanation, 1)
        assert told(explanation.counter_reasons) == pushing(explanation, -1)


def test_another_weekday_moves_only_what_comes_from_it(trained: Registry) -> None:
    model = bikes_models(trained)["bikes-LinearRegression"]
    friday, sunday = explain(model, [HOUR, {**HOUR, "weekday": "Sunday"}])
    moved = {name for name, value in friday.contributions.items() if sunday.contributions[name] != value}
    assert moved == {"weekday", "weekend"}


def test_hour_24_is_explained_as_hour_0_and_a_year_left_out_as_the_newest(trained: Registry) -> None:
    model = bikes_models(trained)["bikes-LGBMRegressor"]
    one, other = explain(model, [{**HOUR, "hour": 0, "year": 2012}, {**HOUR, "hour": 24}])
    assert one == other


def test_a_model_with_a_kernel_cannot_be_explained(trained: Registry) -> None:
    with pytest.raises(NotExplainableError, match=r"SVR.*kernel"):
        explain(bikes_models(trained)["bikes-SVR"], [HOUR])
