"""Use cases: the declaration, the shipped use cases, and that a new one takes one file."""

import dataclasses
import importlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import load_workbook
from sklearn.base import clone

import tabserve.use_cases
from tabserve.api.app import create_app
from tabserve.columns.features import Category, OrderedCategory
from tabserve.declaration.discovery import all_use_cases, forget_use_cases, get_use_case
from tabserve.declaration.use_case import UseCase
from tabserve.errors import InvalidRecordsError, InvalidUseCaseError, UnknownAlgorithmError, UnknownUseCaseError
from tabserve.evaluation.fairness import GroupBy
from tabserve.evaluation.gates import SmallestGroupRatio
from tabserve.predict import make_prediction
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tabserve.tables.reader import read_training_table
from tabserve.train_pipeline import run_training
from tabserve.training.candidate import Candidate, fit
from tabserve.training.parts import read, split
from tabserve.training.plan import Plan

AS_CLIENTS_SEND_IT = {
    **{"checking_balance": "< 0 DM", "months_loan_duration": 47, "credit_history": "repaid", "purpose": "car (new)"},
    **{"amount": 10722, "savings_balance": "< 100 DM", "employment_length": "0 - 1 yrs", "installment_rate": 1},
    **{"personal_status": "female", "other_debtors": "none", "residence_history": 1, "property": "real estate"},
    **{"age": 35, "installment_plan": "none", "housing": "own", "existing_credits": 1, "dependents": 1},
    **{"telephone": "yes", "foreign_worker": "yes", "job": "unskilled resident"},
}
IN_THE_BANKS_ORDER = [
    *["checking_balance", "months_loan_duration", "credit_history", "purpose", "amount", "savings_balance"],
    *["employment_length", "installment_rate", "personal_status", "other_debtors", "residence_history", "property"],
    *["age", "installment_plan", "housing", "existing_credits", "default", "dependents", "telephone"],
    *["foreign_worker", "job"],
]
NATURAL_ORDER = {
    "checking_balance": ["< 0 DM", "1 - 200 DM", "> 200 DM"],
    "savings_balance": ["< 100 DM", "101 - 500 DM", "501 - 1000 DM", "> 1000 DM"],
    "employment_length": ["unemployed", "0 - 1 yrs", "1 - 4 yrs", "4 - 7 yrs", "> 7 yrs"],
}
UMBRELLA = '''
"""Whether someone will need an umbrella."""

from tabserve.evaluation.gates import SmallestMetric
from tabserve.models.lightgbm import LgbClassifier
from tabserve.models.linear import LogisticRegression
from tabserve.tasks.binary import Binary, CostMatrix
from tabserve.transformers import OneHot, RemapTarget, Standardize
from tabserve.search_space import Real
from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.use_case import UseCase
from tabserve.columns.features import Category, Number

FEATURES = (
    Category(name="sky", description="Colour of the sky", values=("blue", "grey")),
    Number(name="wind", description="Wind, in m/s", low=0, high=100, missing=True),
)
USE_CASE = UseCase(
    name="umbrella",
    title="Umbrella",
    description="Will it rain?",
    task=Binary(cost=CostMatrix(missed=2, false_alarm=1)),
    source="umbrella.csv",
    features=FEATURES,
    target=RemapTarget(Category(name="rain", description="Rain", values=("no", "yes")), classes={"no": 0, "yes": 1}),
    algorithms=(
        Algorithm(
            name="lightgbm",
            model=LgbClassifier(num_leaves=3),
            search_space={"learning_rate": Real(0.1, 0.5, log=True)},
        ),
    ),
    baseline=Algorithm(
        name="logistic",
        model=LogisticRegression(),
        transformers=(OneHot(), Standardize()),
    ),
    gates=(SmallestMetric("roc_auc", 0.5),),
    example={"sky": "grey", "wind": 3.5},
)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A further folder with modules of use cases."""
    monkeypatch.setattr(tabserve.use_cases, "__path__", [*tabserve.use_cases.__path__, str(tmp_path)])
    before = set(sys.modules)
    forget_use_cases()
    importlib.invalidate_caches()
    yield tmp_path
    forget_use_cases()
    for name in set(sys.modules) - before:
        if name.startswith("tabserve.use_cases."):
            del sys.modules[name]


@pytest.fixture(scope="module")
def table(credit: UseCase) -> Any:
    return read_training_table(credit.path, credit.features, credit.target.feature)


def test_use_cases_are_found_by_name() -> None:
    assert get_use_case("credit").name == "credit"
    assert list(all_use_cases()) == sorted(all_use_cases())


@pytest.mark.parametrize("name", ["", "Credit", "declaration", "../credit"])
def test_an_unknown_name_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(UnknownUseCaseError, match=r"There is no such use case; choose one of: .*credit"):
        get_use_case(name)


def test_a_further_use_case_costs_one_file(folder: Path) -> None:
    (folder / "umbrella.py").write_text(UMBRELLA)
    lines = ["wind,sky,rain"]
    generator = np.random.default_rng(0)
    for _ in range(120):
        grey = generator.random() < 0.5
        rain = generator.random() < (0.8 if grey else 0.2)
        lines.append(f"{generator.integers(20) or ''},{'grey' if grey else 'blue'},{'yes' if rain else 'no'}")
    data, registry = folder / "umbrella.csv", Registry(folder / "models")
    data.write_text("\n".join(lines))

    (manifest,) = run_training(get_use_case("umbrella"), registry, data, Plan(trials=1, jobs=1)).manifests
    settings = Settings(model_registry=registry.location, auth_required=False, default_use_case="umbrella")
    client = create_app(settings).test_client()
    answer = client.post("/output/umbrella", json=[{"sky": "grey", "wind": 3.5}, {"sky": "blue"}])
    assert answer.status_code == 200
    assert answer.json["model"] == manifest.model_id
    grey, blue = answer.json["probability"]
    assert blue < 0.5 < grey
    assert client.post("/output/umbrella", json={"sky": "green", "wind": 1}).json["errors"] == {
        "sky": ["Must be one of: blue, grey."]
    }


def test_two_files_cannot_declare_the_same_use_case(folder: Path) -> None:
    (folder / "parasol.py").write_text(UMBRELLA)
    with pytest.raises(InvalidUseCaseError, match=r"parasol.py declares the use case 'umbrella'"):
        get_use_case("parasol")


def test_a_module_that_declares_nothing_is_no_use_case(folder: Path) -> None:
    (folder / "helpers.py").write_text("ANSWER = 42\n")
    assert "helpers" not in all_use_cases()
    assert "credit" in all_use_cases()


@pytest.mark.parametrize(
    ("example", "problem"),
    [
        ({"age": "35"}, "age: Not a valid integer."),
        ({"age": None}, "age: Field may not be null."),
        ({"purpose": "gambling"}, "purpose: Must be one of"),
        ({"shoe_size": 43}, ""),
        ({"default": 1}, ""),
    ],
)
def test_an_example_that_would_be_refused_when_sent_is_refused(
    credit: UseCase, example: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidUseCaseError, match=rf"^credit: the example does not fit the features\. {problem}"):
        dataclasses.replace(credit, example={**credit.example, **example})


def test_an_example_without_a_feature_is_refused(credit: UseCase) -> None:
    with pytest.raises(InvalidUseCaseError, match="age: Field may not be null"):
        dataclasses.replace(credit, example={name: value for name, value in credit.example.items() if name != "age"})


@pytest.mark.parametrize("repeated", [0, None])
def test_two_columns_cannot_share_a_name(credit: UseCase, repeated: int | None) -> None:
    column = credit.target.feature if repeated is None else credit.features[repeated]
    with pytest.raises(InvalidUseCaseError, match="credit: two columns share a name"):
        dataclasses.replace(credit, features=(*credit.features, column))


def test_the_record_that_clients_send_today_is_accepted(credit: UseCase) -> None:
    row = credit.pipeline(credit.algorithms[0]).fit([AS_CLIENTS_SEND_IT]).transform([AS_CLIENTS_SEND_IT])
    assert row.shape[0] == 1
    assert dict(credit.example) == AS_CLIENTS_SEND_IT


@pytest.mark.parametrize("name", NATURAL_ORDER)
def test_categories_with_a_natural_order_are_encoded_in_it(credit: UseCase, name: str) -> None:
    (feature,) = (feature for feature in credit.features if feature.name == name)
    codes = [feature.encoder()(value) for value in NATURAL_ORDER[name]]
    assert codes == sorted(codes)
    assert len(set(codes)) == len(codes)
    assert isinstance(feature, OrderedCategory)


def test_only_categories_without_an_order_are_categorical_for_the_model(credit: UseCase) -> None:
    columns = credit.pipeline(credit.algorithms[0]).fit([AS_CLIENTS_SEND_IT]).columns_
    names = {column.name for column in columns if column.is_nominal}
    assert names == {"purpose", "personal_status", "other_debtors", "installment_plan", "housing"}


def test_the_credit_model_is_constrained_as_its_columns_declare(credit: UseCase, records: Any) -> None:
    pipeline = clone(credit.pipeline(credit.algorithms[0]))
    X = pipeline.fit_transform(records)
    model = clone(credit.algorithms[0].model).set_params(num_rounds=1).fit(X, X[:, 0] > 1, pipeline.columns_)
    assert "[monotone_constraints: -1,1,0,0,0,-1,-1,1,0,0,0,-1,-1,0,0,0,0,0,0,0,0,0]" in model.text_
    assert "[categorical_feature: 3,8,9,13,14]" in model.text_


def test_longer_loans_and_younger_applicants_are_never_better_with_all_else_equal(
    credit: UseCase, artifact: Artifact, records: Any
) -> None:
    encoded = artifact.encoder.transform(records[:200])
    held = [(place, feature) for place, feature in enumerate(credit.features) if feature.all_else_equal]
    assert {feature.name for _, feature in held} == {"months_loan_duration", "age"}
    for place, feature in held:
        rows = np.repeat(encoded[:, None], 10, axis=1)
        rows[:, :, place] = np.linspace(feature.low, feature.high, 10)
        matrix = artifact.pipeline.transform_encoded(rows.reshape(-1, encoded.shape[1]))
        scores = artifact.model.predict(matrix).reshape(200, 10)
        assert np.all(np.diff(scores, axis=1) * feature.monotone >= 0), feature.name


def test_the_real_data_stand_in_the_banks_order(credit: UseCase) -> None:
    (sheet,) = load_workbook(credit.path).worksheets
    assert [cell.value for cell in sheet[1]] == IN_THE_BANKS_ORDER
    assert sheet.max_row == 1001


def test_the_real_data_fit_the_declaration_and_use_every_value_of_it(credit: UseCase, table: Any) -> None:
    assert len(table.records) == 1000
    assert Counter(table.target) == {1: 700, 2: 300}
    for feature in credit.features:
        seen = {record[feature.name] for record in table.records}
        assert [value for value in seen if feature.problem(value)] == []
        if isinstance(feature, Category):
            assert seen == set(feature.values), feature.name


def test_a_default_is_class_1(credit: UseCase, table: Any) -> None:
    y = clone(credit.target).fit_transform(table.target)
    assert y.sum() == 300
    assert y[table.target.index(2)] == 1


def test_every_feature_of_the_credit_model_is_described(credit: UseCase) -> None:
    descriptions = [feature.description for feature in (*credit.features, credit.target.feature)]
    assert min(map(len, descriptions)) > 10
    assert len(set(descriptions)) == len(descriptions)


def test_every_value_of_the_credit_model_has_words_of_its_own(credit: UseCase) -> None:
    said: list[str] = []
    for feature in credit.features:
        coded = isinstance(feature, Category) or feature.high <= 4
        values = feature.values if isinstance(feature, Category) else range(feature.low, min(feature.high, 150) + 1)
        sentences = [feature.in_words(feature.encoder()(value)) for value in values]
        assert not any(sentence.startswith(f"{feature.title}:") for sentence in sentences), feature.name
        if coded and not feature.reason:
            assert set(feature.reason_for) == set(values), feature.name
        said += sentences
    for column in credit.derived:
        said += [column.in_words(number) for number in (0.1, 1.34, 228.1276, 10_722.0)]
    assert len(set(said)) == len(said)
    for sentence in said:
        assert sentence[0].isupper(), sentence
        assert 10 < len(sentence) < 70, sentence
        assert not set("{}<>_()") & set(sentence), sentence
        assert not any(code in sentence for code in ("mangement", "yrs", "unknown", "none", "radio/tv")), sentence


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("checking_balance", "< 0 DM", "Checking account below 0 DM"),
        ("checking_balance", "unknown", "No checking account at this bank"),
        ("months_loan_duration", 47, "Loan lasts 47 months"),
        ("months_loan_duration", 1, "Loan lasts one month"),
        ("amount", 10722, "Loan of 10,722 DM"),
        ("amount", 1_000_000, "Loan of 1,000,000 DM"),
        ("purpose", "domestic appliances", "Loan for domestic appliances"),
        ("installment_rate", 4, "Instalment is over 35 % of disposable income"),
        ("age", 35, "Applicant is 35 years old"),
        ("job", "mangement self-employed", "In management, self-employed or in highly qualified work"),
    ],
)
def test_a_reason_of_the_credit_model_reads_well(credit: UseCase, name: str, value: Any, sentence: str) -> None:
    (feature,) = (feature for feature in credit.features if feature.name == name)
    assert feature.in_words(feature.encoder()(value)) == sentence


def test_the_derived_columns_of_the_credit_model_read_well(credit: UseCase) -> None:
    instalment, duration_for_age = credit.derived
    assert instalment.in_words(10722 / 47) == "Instalment of 228 DM a month before interest"
    assert duration_for_age.in_words(47 / 35) == "Loan lasts 1.34 months for each year of age"


def test_sex_age_and_nationality_are_protected(credit: UseCase) -> None:
    protected = {feature.name for feature in credit.features if feature.protected}
    assert protected == {"personal_status", "age", "foreign_worker"}


def test_a_column_derived_from_a_protected_feature_is_protected_too(credit: UseCase, bikes: UseCase) -> None:
    assert credit.protected == ("personal_status", "age", "foreign_worker", "duration_for_age")
    alone = dataclasses.replace(
        credit,
        features=tuple(dataclasses.replace(feature, monotone=0) for feature in credit.features),
        derived=(),
        algorithms=(credit.baseline,),
    )
    assert alone.protected == ("personal_status", "age", "foreign_worker")
    assert bikes.protected == ()


def test_groups_are_compared_for_every_protected_feature(credit: UseCase) -> None:
    assert {group.feature for group in credit.groups} == {f.name for f in credit.features if f.protected}
    judged = {gate.name for gate in credit.gates if isinstance(gate, SmallestGroupRatio)}
    assert judged <= {group.feature for group in credit.groups}


@pytest.mark.parametrize("feature", ["shoe_size", "default", "duration_for_age"])
def test_a_group_of_no_feature_is_refused(credit: UseCase, feature: str) -> None:
    groups = (*credit.groups, GroupBy(feature=feature))
    with pytest.raises(InvalidUseCaseError, match=f"^credit: there is no feature '{feature}' to group by: "):
        dataclasses.replace(credit, groups=groups)


def test_a_pipeline_can_drop_the_protected_columns(credit: UseCase, record: Any) -> None:
    algorithm = credit.algorithms[0]
    every, others = (
        clone(credit.pipeline(algorithm, exclude_protected=excluded)).fit([record]) for excluded in (False, True)
    )
    values = dict(zip([column.name for column in every.columns_], every.transform([record])[0], strict=True))
    assert values["age"] == 35
    expected = {name: value for name, value in values.items() if name not in credit.protected}
    names = [column.name for column in others.columns_]
    assert dict(zip(names, others.transform([record])[0], strict=True)) == expected


def test_where_all_is_protected_nothing_else_can_be_predicted_from(bikes: UseCase) -> None:
    guarded = dataclasses.replace(
        bikes, features=tuple(dataclasses.replace(feature, protected=True) for feature in bikes.features)
    )
    assert guarded.pipeline(guarded.baseline).transformers == bikes.baseline.transformers
    with pytest.raises(InvalidUseCaseError, match="bikes: all columns are protected, and without them none are left"):
        guarded.pipeline(guarded.baseline, exclude_protected=True)


def test_where_nothing_is_protected_nothing_is_left_out(bikes: UseCase) -> None:
    for algorithm in bikes.algorithms:
        assert repr(bikes.pipeline(algorithm, exclude_protected=True)) == repr(bikes.pipeline(algorithm))


@pytest.fixture(scope="module")
def candidates(credit: UseCase) -> dict[tuple[str, bool], Candidate]:
    """Fitted models, by algorithm and by whether protected features were excluded."""
    train = split(credit, read(credit, credit.path), 42).train
    quick = dataclasses.replace(credit, splits=2, repeats=1)
    trees = dataclasses.replace(credit.algorithms[0], search_space={})
    return {
        (algorithm.name, excluded): fit(quick, algorithm, train, Plan(jobs=1, exclude_protected=excluded))
        for algorithm in (trees, credit.baseline)
        for excluded in (False, True)
    }


PEOPLE = {
    "age": st.integers(18, 120),
    "personal_status": st.sampled_from(["divorced male", "female", "married male", "single male"]),
    "foreign_worker": st.sampled_from(["no", "yes"]),
}


@pytest.mark.parametrize("algorithm", ["lightgbm", "logistic"])
@given(position=st.integers(0, 999), person=st.fixed_dictionaries({}, optional=PEOPLE))
def test_nothing_protected_moves_the_score_of_a_model_trained_without_it(
    candidates: dict[tuple[str, bool], Candidate],
    records: list[dict[str, Any]],
    algorithm: str,
    position: int,
    person: dict[str, Any],
) -> None:
    pair = [records[position], {**records[position], **person}]
    before, after = scores_of(candidates[algorithm, True], pair)
    assert before == after


@pytest.mark.parametrize(
    ("algorithm", "change"),
    [
        ("lightgbm", {"age": 20}),  # these few trees use no other protected feature
        *[
            ("logistic", {"age": 20}),
            ("logistic", {"personal_status": "female"}),
            ("logistic", {"foreign_worker": "no"}),
        ],
    ],
)
def test_what_is_protected_moves_the_score_of_a_model_trained_with_it(
    candidates: dict[tuple[str, bool], Candidate], records: list[dict[str, Any]], algorithm: str, change: dict[str, Any]
) -> None:
    changed = [{**record, **change} for record in records]
    candidate = candidates[algorithm, False]
    assert np.any(scores_of(candidate, records) != scores_of(candidate, changed))


def test_a_model_trained_without_protected_features_is_still_a_model_of_the_others(
    candidates: dict[tuple[str, bool], Candidate], records: list[dict[str, Any]]
) -> None:
    changed = [{**record, "checking_balance": "unknown"} for record in records]
    for candidate in candidates.values():
        assert np.any(scores_of(candidate, records) != scores_of(candidate, changed))
        with pytest.raises(InvalidRecordsError):  # clients still send all features
            scores_of(candidate, [{name: value for name, value in records[0].items() if name != "age"}])


def scores_of(candidate: Candidate, records: list[dict[str, Any]]) -> np.ndarray:
    return candidate.model.predict(candidate.pipeline.transform(records))


def test_the_words_of_the_bikes_model_need_no_declaration(bikes: UseCase) -> None:
    row = bikes.pipeline(bikes.baseline).encoder.fit().transform([HOURS])[0]
    columns = (*bikes.features, *bikes.derived)
    assert [column.in_words(code) for column, code in zip(columns, row, strict=True)] == [
        *["Hour: 15", "Weekday: Friday", "Month: June", "Weather: Cloudy", "Year: 2012"],
        *["Season: summer", "Weekend: no"],
    ]


def test_what_is_searched_for_are_parameters_of_the_model(credit: UseCase) -> None:
    for algorithm in (credit.algorithms[0], credit.baseline):
        assert algorithm.searched(700, 22).keys() <= algorithm.model.get_params().keys()


def test_the_credit_model_keeps_the_promises_of_its_features(
    credit: UseCase, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    promised = [feature for feature in credit.features if feature.monotone and not feature.all_else_equal]
    assert {feature.name for feature in promised} >= {"checking_balance", "savings_balance", "installment_rate"}
    for feature in promised:
        values = feature.values if isinstance(feature, Category) else range(feature.low, feature.high + 1)
        scores = [
            make_prediction(artifact, [{**record, feature.name: value} for record in records[:200]]).predictions
            for value in values
        ]
        assert np.all(np.diff(scores, axis=0) * feature.monotone >= 0), feature.name


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "age"},
        {"name": "default"},
        {"numerator": "housing"},
        {"denominator": "housing"},
        {"denominator": "nothing"},
    ],
)
def test_a_quotient_that_cannot_be_computed_is_refused(credit: UseCase, changes: dict[str, str]) -> None:
    (first, *_) = credit.derived
    with pytest.raises(InvalidUseCaseError):
        dataclasses.replace(credit, derived=(dataclasses.replace(first, **changes),))


def test_a_quotient_by_a_number_that_may_be_zero_is_refused(credit: UseCase) -> None:
    features = tuple(
        dataclasses.replace(feature, low=0) if feature.name == "age" else feature for feature in credit.features
    )
    with pytest.raises(InvalidUseCaseError, match="above 0"):
        dataclasses.replace(credit, features=features)


def test_fitting_again_changes_no_earlier_candidate(credit: UseCase) -> None:
    parts = split(credit, read(credit, credit.path), 42)
    first = fit(credit, credit.baseline, parts.train, Plan())
    before = first.predict(parts.test)
    fit(credit, credit.baseline, parts.train.take(slice(300)), Plan())
    assert first.predict(parts.test).tolist() == before.tolist()
    assert not any(hasattr(step, "mean_") for step in credit.baseline.transformers)


# bikes

HOURS = {"hour": 15, "weekday": "Friday", "month": "June", "weather": "Cloudy"}


@pytest.fixture(scope="module")
def hours(bikes: UseCase) -> Any:
    return read_training_table(bikes.path, bikes.features, bikes.target.feature)


def test_the_real_hours_fit_the_declaration_and_use_every_value_of_it(bikes: UseCase, hours: Any) -> None:
    assert len(hours.records) == 17_379
    assert sum(hours.target) == 3_292_679
    for feature in bikes.features:
        seen = {record[feature.name] for record in hours.records}
        expected = set(feature.values) if isinstance(feature, Category) else None
        if feature.name == "hour":
            expected = set(range(24))
        elif feature.name == "year":
            expected = {2011, 2012}
        assert seen == expected, feature.name


def test_the_first_hour_of_2011_was_on_a_saturday(hours: Any) -> None:
    first = {"hour": 0, "weekday": "Saturday", "month": "January", "weather": "Clear", "year": 2011}
    assert hours.records[0] == first
    assert hours.target[0] == 16


def test_the_real_hours_stand_in_the_order_of_time(bikes: UseCase, hours: Any) -> None:
    months = get_use_case("bikes").features[2].values
    moments = [(record["year"], months.index(record["month"])) for record in hours.records]
    assert moments == sorted(moments)
    assert bikes.chronological


@pytest.mark.parametrize(
    ("changes", "season", "weekend"),
    [
        ({}, "summer", "no"),
        ({"month": "December", "weekday": "Saturday"}, "winter", "yes"),
        ({"month": "February", "weekday": "Sunday"}, "winter", "yes"),
        ({"month": "March", "weekday": "Monday"}, "spring", "no"),
        ({"month": "November", "weekday": "Thursday"}, "autumn", "no"),
    ],
)
def test_season_and_weekend_are_derived(bikes: UseCase, changes: dict[str, Any], season: str, weekend: str) -> None:
    encoder = bikes.pipeline(bikes.baseline).encoder.fit()
    *_, season_code, weekend_code = encoder.transform([{**HOURS, **changes}])[0]
    groups = {column.name: list(column.groups) for column in bikes.derived}
    assert groups["season"][int(season_code)] == season
    assert groups["weekend"][int(weekend_code)] == weekend


def test_hour_24_is_hour_0_and_a_year_that_is_left_out_is_the_newest(bikes: UseCase) -> None:
    encoder = bikes.pipeline(bikes.baseline).encoder.fit()
    plain, same = encoder.transform([{**HOURS, "hour": 0, "year": 2012}, {**HOURS, "hour": 24}]).tolist()
    assert plain == same
    assert plain != encoder.transform([{**HOURS, "hour": 0, "year": 2011}]).tolist()[0]


def test_no_bikes_model_predicts_a_negative_count(trained: Registry, hours: Any) -> None:
    for model_id in trained.list("bikes"):
        prediction = make_prediction(trained.load(model_id), hours.records[:2000])
        assert min(prediction.columns["result"]) >= 0, model_id


def test_what_is_searched_for_are_parameters_of_the_bikes_models(bikes: UseCase) -> None:
    searched = [algorithm for algorithm in bikes.algorithms if algorithm.search_space]
    assert {algorithm.name for algorithm in searched} == {"DecisionTreeRegressor", "LGBMRegressor"}
    for algorithm in searched:
        assert algorithm.search_space.keys() <= algorithm.model.get_params().keys()


def test_algorithms_are_found_whatever_the_case_of_their_names(bikes: UseCase) -> None:
    assert bikes.algorithm("lgbmregressor") is bikes.algorithm("LGBMRegressor")
    with pytest.raises(UnknownAlgorithmError, match="bikes has no such algorithm; choose one of: Lasso, SVR, "):
        bikes.algorithm("lightgbm")


def test_two_algorithms_cannot_share_a_name(bikes: UseCase) -> None:
    again = dataclasses.replace(bikes.algorithms[0], name=bikes.algorithms[0].name.upper())
    with pytest.raises(InvalidUseCaseError, match="bikes: each algorithm needs a name of its own"):
        dataclasses.replace(bikes, algorithms=(*bikes.algorithms, again))


def test_an_algorithms_name_must_fit_into_a_model_id(bikes: UseCase) -> None:
    wrong = dataclasses.replace(bikes.algorithms[0], name="LGBM/Regressor")
    with pytest.raises(InvalidUseCaseError, match="an algorithm cannot have the name 'LGBM/Regressor'"):
        dataclasses.replace(bikes, algorithms=(wrong,))


@pytest.mark.parametrize("changes", [{"missing": True}, {"default": 5}])
def test_a_target_that_may_be_missing_is_refused(bikes: UseCase, changes: dict[str, Any]) -> None:
    target = type(bikes.target)(dataclasses.replace(bikes.target.feature, **changes))
    with pytest.raises(
        InvalidUseCaseError, match="bikes: the target 'count' can be neither missing nor have a default"
    ):
        dataclasses.replace(bikes, target=target)


def test_a_gate_on_groups_that_are_not_declared_is_refused(credit: UseCase) -> None:
    with pytest.raises(InvalidUseCaseError, match="credit: a gate is on the groups by 'age', which are not declared"):
        dataclasses.replace(credit, groups=credit.groups[1:])
