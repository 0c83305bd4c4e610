"""The training report: whole, readable without pictures and network, and saying what the manifest says."""

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import escape

from tabserve.charts.figures import COLOURS, bars
from tabserve.charts.groups import calibration, quartiles_by, quartiles_of_truth
from tabserve.charts.parts import NOTHING, number
from tabserve.columns.dates import Date
from tabserve.columns.features import Category, Integer, Number
from tabserve.columns.texts import Text
from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.use_case import UseCase
from tabserve.evaluation.fairness import GroupComparison
from tabserve.evaluation.gates import LargestGap, SmallestMetric, Verdict, group_gate
from tabserve.evaluation.metrics import roc_auc
from tabserve.models.linear import LogisticRegression
from tabserve.models.scikit import LinearRegression
from tabserve.registry.manifest import REPORT, ChampionComparison, Kept, Manifest, Tried
from tabserve.registry.registry import Registry
from tabserve.report import measures, render_report
from tabserve.report.measures import (
    contributions,
    learning_curve,
    own_importance,
    permutation_importance,
)
from tabserve.report.subject import Subject
from tabserve.tables.writer import write_csv
from tabserve.tasks.regression import Regression
from tabserve.train_pipeline import run_training
from tabserve.training.candidate import fit
from tabserve.training.evidence import measure
from tabserve.training.parts import read, split
from tabserve.training.plan import Plan
from tabserve.training.provenance import provenance
from tabserve.transformers import MinMax, OneHot, Standardize, Target

VOID = {"meta", "link", "br", "img", "hr"}
HARM = '<script>alert("1")</script>'


class Page(HTMLParser):
    """What a browser would find in a page, and whether its tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.figures: list[dict[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)
        if tag == "figure":
            self.figures.append({"caption": "", "label": ""})
        if ("role", "img") in attrs:
            self.figures[-1]["label"] = dict(attrs)["aria-label"] or ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data)
        if "figcaption" in self._open:
            self.figures[-1]["caption"] += data

    @property
    def plain(self) -> str:
        """All text, a space between its parts."""
        return re.sub(r"\s+", " ", " ".join(self.words))


def report_of(registry: Registry, model_id: str) -> str:
    return registry.read(model_id, REPORT, registry.manifest(model_id)).decode()


@pytest.fixture(scope="module")
def reports(trained: Registry) -> dict[str, Page]:
    """The report of each trained model."""
    return {model_id: Page(report_of(trained, model_id)) for model_id in trained.list()}


@pytest.fixture(scope="module")
def subject(credit: UseCase) -> Subject:
    """The baseline of credit, without a search, and what a report needs of it."""
    return subject_of(credit, credit.baseline)


def subject_of(use_case: UseCase, algorithm: Algorithm, path: Path | None = None) -> Subject:
    plan = Plan(trials=1, seed=42, jobs=1)
    parts = split(use_case, read(use_case, path or use_case.path), plan.seed)
    candidate = fit(use_case, algorithm, parts.train, plan)
    (one,) = measure(use_case, [candidate], parts, plan).values()
    manifest = Manifest(
        **provenance(use_case, algorithm, 10**6, parts.source, plan.seed, parts.split),
        threads=1,
        hold_out=Kept(len(parts.test.y), len(parts.test.y), one.metrics["hold_out"][use_case.task.headline]),
        headline=use_case.task.headline,
        parameters=candidate.model.get_params(),
        trials=(Tried({}, 0.5),),
        search_notes=(),
        threshold=None,
        threshold_choice=None,
        thresholds={},
        intervals={},
        groups={},
        baseline=algorithm.name,
        baseline_difference={},
        champion=None,
        metrics=one.metrics,
        comparison={algorithm.name: one.metrics},
        protected=None,
    )
    return Subject(use_case, manifest, candidate, parts.train, parts.test, one.predictions)


def rendered(subject: Subject, use_case: UseCase | None = None, **changes: Any) -> Page:
    manifest = replace(subject.manifest, **changes)
    return Page(
        render_report(
            use_case or subject.use_case, manifest, subject.candidate, subject.train, subject.test, subject.predictions
        )
    )


# of every model


def test_every_model_has_a_report_that_is_well_formed(reports, trained):
    assert len(reports) == 6
    for model_id, page in reports.items():
        assert page.text.startswith("<!doctype html>")
        assert model_id in page.plain
        assert page.tags["h1"] == page.tags["title"] == page.tags["main"] == 1
        assert ("html", "lang", "en") in page.attributes
        assert any(tag == "meta" and value == "viewport" for tag, _, value in page.attributes)
        ids = [value for _, name, value in page.attributes if name == "id"]
        assert len(ids) == len(set(ids))


def test_a_report_loads_nothing_and_runs_nothing(reports):
    for page in reports.values():
        assert "http:" not in page.text
        assert "https:" not in page.text
        assert not page.tags.keys() & {"script", "img", "iframe", "object", "form", "base"}
        assert "@import" not in page.text
        assert not any(name.startswith("on") for _, name, _ in page.attributes)
        ids = {value for _, name, value in page.attributes if name == "id"}
        references = [value for tag, name, value in page.attributes if name in ("href", "src") and tag != "link"]
        assert references
        assert all(value.startswith("#") and value[1:] in ids for value in references)
        assert set(re.findall(r"url\(#([^)]+)\)", page.text)) <= ids
        assert set(re.findall(r"url\((.)", page.text)) == {"#"}


def test_every_picture_says_what_it_shows_in_words_and_numbers_and_has_a_caption(reports):
    for page in reports.values():
        assert page.tags["svg"] == page.tags["figure"] == len(page.figures) >= 6
        for figure in page.figures:
            assert re.search(r"[0-9]", figure["label"]), figure
            assert len(figure["caption"]) > 80
            assert figure["label"].partition(". ")[2] in figure["caption"]


def test_pictures_have_the_pages_colours_and_text_that_is_text(reports):
    for page in reports.values():
        assert not any(colour in page.text for colour in COLOURS.values())
        assert {f"--{name}:" for name in COLOURS} <= set(re.findall(r"--\w+:", page.text))
        svg = "".join(re.findall(r"<svg.*?</svg>", page.text, re.DOTALL))
        assert set(re.findall(r"(?:fill|stroke): ?([^;\"]+)", svg)) <= {"none", *(f"var(--{name})" for name in COLOURS)}
        assert "<text" in svg


def test_every_table_has_headings(reports):
    for page in reports.values():
        assert page.tags["caption"] == page.tags["table"] == page.tags["thead"]
        assert ("th", "scope", "col") in page.attributes
        assert page.tags["tr"] == page.tags["thead"] + sum(part == ("th", "scope", "row") for part in page.attributes)


def test_the_verdict_comes_first_and_names_every_gate_with_value_and_bound(reports, trained):
    page = reports[trained.latest("credit")]
    gates = trained.manifest(trained.latest("credit")).gates
    assert len(gates) >= 5
    verdict = page.text.partition("<nav")[0]
    assert page.text.index("Verdict: passed") < page.text.index("<figure")
    for gate in gates:
        row = f"{gate.gate}</th><td>{number(gate.value)}</td><td>{number(gate.bound)}</td>"
        assert row in verdict
    assert verdict.count("✓ passed") == len(gates)
    assert "failed" not in Page(f"{verdict}</main></body></html>").plain


def test_the_numbers_are_the_manifests(reports, trained):
    for model_id, page in reports.items():
        manifest = trained.manifest(model_id)
        metrics = list(manifest.metrics.values())
        for name in metrics[0]:
            low, high = manifest.intervals[name]
            cells = [*(number(part[name]) for part in metrics), f"{number(low)} to {number(high)}"]
            assert "".join(f"<td>{cell}</td>" for cell in cells) in page.text, name
        for parameter, value in manifest.parameters.items():
            assert f"{parameter} {number(value) if isinstance(value, float) else ''}" in page.plain
        assert manifest.data.sha256 in page.plain


def test_a_classifiers_report_shows_scores_decisions_and_groups(reports, trained):
    page = reports[trained.latest("credit")]
    titles = [figure["label"].partition(".")[0] for figure in page.figures]
    assert titles[:4] == ["ROC curve", "Precision and recall", "Calibration", "Distributions of the probabilities"]
    assert {"Cost by threshold", "Permutation importance", "Gain importance", "Contributions"} <= set(titles)
    assert {"Algorithms", "Tuning history", "Learning curve"} <= set(titles)
    assert "Groups of people" in page.plain
    assert "disparate impact" in page.plain
    assert "Grömping 2019" in page.plain  # what the use case says of its limits


def test_a_regressors_report_shows_errors_by_hour_and_the_comparison(reports, trained):
    for algorithm in ("Lasso", "SVR", "LinearRegression", "DecisionTreeRegressor", "LGBMRegressor"):
        page = reports[trained.latest("bikes", algorithm)]
        titles = [figure["label"].partition(".")[0] for figure in page.figures]
        assert titles[:2] == ["Predicted against true", "Errors by Hour"]
        assert "ROC curve" not in titles
        comparison = page.figures[titles.index("Algorithms")]["label"]
        for name, metrics in trained.manifest(trained.latest("bikes")).comparison.items():
            assert name in comparison
            assert number(metrics["chronological"]["r2"]) in comparison
        assert ("Contributions" in titles) == (algorithm != "SVR")
        assert ("Tuning history" in titles) == (algorithm in ("DecisionTreeRegressor", "LGBMRegressor"))


@pytest.mark.slow
def test_the_same_training_gives_the_same_report(credit, reports, trained, tmp_path):
    again = Registry(tmp_path)
    (manifest,) = run_training(credit, again, credit.path, Plan(trials=2, seed=42), ["lightgbm"]).manifests
    before = trained.manifest(trained.latest("credit"))
    text = reports[before.model_id].text
    for what in ("model_id", "created"):
        text = text.replace(escape(getattr(before, what)), escape(getattr(manifest, what)))
    assert report_of(again, manifest.model_id) == text


# of some


def test_a_candidate_that_fails_has_a_report_that_says_why_and_is_not_registered(fast, tmp_path):
    registry = Registry(tmp_path)
    strict = replace(fast, gates=(SmallestMetric("roc_auc", 0.99), LargestGap("roc_auc", 0.9)))
    (manifest,) = run_training(strict, registry, fast.path, Plan(trials=1, seed=42)).manifests
    assert registry.list() == []
    (path,) = tmp_path.rglob("*.html")
    assert path.parent == tmp_path / "rejected"
    assert path.stem == manifest.model_id
    page = Page(path.read_text())
    assert "Verdict: failed" in page.plain
    assert "1 of 2 gates failed" in page.plain
    gate = manifest.gates[0]
    assert f"smallest hold-out roc_auc {number(gate.value)} 0.990 ✗ failed" in page.plain


def test_what_the_manifest_does_not_hold_is_left_out(subject):
    page = rendered(subject)
    assert "Verdict: passed with warnings" in page.plain
    assert "No gates are declared" in page.plain
    assert "Groups of people" not in page.plain
    assert "Tuning history" not in page.plain
    assert "the model that answered before" not in page.plain


def test_groups_and_champion_are_shown_where_something_is_undefined_too(subject):
    group = {"rows": 30.0, "selection_rate": 0.25, "roc_auc": None}
    page = rendered(
        subject,
        groups={"age": GroupComparison({HARM: group}, None, 0.125)},
        champion=ChampionComparison("m", 300, {}, {"roc_auc": (0.375, -0.25, 0.75)}),
    )
    assert f"{HARM} 30 0.250 {NOTHING} " in page.plain
    assert f"disparate impact {NOTHING} " in page.plain
    assert "than the model that answered before, m 0.375 -0.250 to 0.750" in page.plain


def test_small_groups_are_withheld_from_a_page_that_anyone_may_read(subject):
    def group(rows: float, rate: float) -> dict[str, Any]:
        return {"rows": rows, "selection_rate": rate}

    def comparison(*groups: dict[str, Any]) -> GroupComparison:
        values = {f"group {place}": group for place, group in enumerate(groups)}
        return GroupComparison(values, 0.617, 0.283)

    groups = {
        "age": comparison(group(19, 0.111), group(281, 0.222)),
        "purpose": comparison(group(11, 0.333), group(50, 0.444), group(239, 0.555)),
        "housing": comparison(group(20, 0.666), group(280, 0.777)),
    }
    gates = tuple(Verdict(group_gate(name), 0.617, 0.5, passed=True) for name in ("age", "housing"))
    page = rendered(subject, groups=groups, gates=gates)
    for figure in ("0.111", "0.222", "0.333", "0.444", "group 0 19", "group 1 281", "group 0 11", "group 1 50"):
        assert figure not in page.plain
    assert f"group 2 239 0.555 2 withheld {NOTHING} {NOTHING} " in page.plain
    assert "group 0 20 0.666 group 1 280 0.777" in page.plain
    assert page.plain.count("0.617") == 2  # of housing, whose groups are all shown, and of the gate on it
    assert f"{gates[0].gate} withheld 0.500 ✓ passed" in page.plain
    assert page.plain.count("disparate impact withheld ") == 2


def test_what_a_prediction_is_kept_from_is_said_where_a_model_can_keep_it(reports, trained, subject, credit):
    page = reports[trained.latest("credit")].plain
    promised = {sign: [column.title for column in credit.columns if column.monotone == sign] for sign in (1, -1)}
    assert f"It never falls as “{promised[1][0]}”" in page
    assert f"It never rises as “{promised[-1][0]}”" in page
    assert "The prediction is constrained" not in rendered(subject).plain  # the logistic baseline promises nothing


def test_markup_in_names_and_values_is_text(subject, credit):
    features = (replace(credit.features[0], label=HARM, description=HARM), *credit.features[1:])
    harmful = replace(credit, title=HARM, description=HARM, features=features, limits=(HARM, "$x$ & y"))
    page = rendered(subject, harmful, gates=(Verdict(HARM, 1.0, 1.0, passed=False),))
    assert page.tags["script"] == 0
    assert page.plain.count(HARM) >= 6
    assert "$x$ & y" in page.plain


def test_a_feature_without_a_value_in_the_hold_out_is_named_and_its_errors_are_not_drawn(tmp_path):
    area = Number(name="area", description="-", low=0, high=1000)
    lift = Number(name=r'the "lift" of \d', description="-", low=0, high=1, missing=True)
    linear = Algorithm(name="linear", model=LinearRegression(), transformers=(MinMax(),))
    flats = UseCase(
        name="flats",
        title="Flats",
        description="-",
        task=Regression(),
        source="flats.csv",
        features=(area, lift),
        target=Target(Number(name="rent", description="-", low=0, high=1e6)),
        algorithms=(linear,),
        baseline=linear,
        gates=(),
        example={"area": 50},
        splits=2,
        repeats=1,
    )
    data, registry = tmp_path / "flats.csv", Registry(tmp_path / "models")
    rows = [{"area": area, lift.name: 0.5 if area == 62 else None, "rent": 9 * area + area % 7} for area in range(120)]
    data.write_text(write_csv(["area", lift.name, "rent"], rows))
    (manifest,) = run_training(flats, registry, data, Plan(trials=1)).manifests
    page = Page(report_of(registry, manifest.model_id))
    assert f"No row of the hold-out has a value of “{lift.title}”, so errors by that are not shown." in page.plain
    assert "Errors by Area" in page.plain
    assert f"Errors by {lift.title}" not in page.plain


def test_dates_and_texts_are_described_by_the_values_of_the_training_part(tmp_path):
    features = (
        Number(name="area", description="-", low=0, high=1000),
        Date(name="built", description="-"),
        Text(name="street", description="-", buckets=4),
    )
    rent = Target(Number(name="rent", description="-", low=0, high=1e6))
    flats = UseCase(name="flats", description="-", features=features, target=rent, splits=2, repeats=1)
    data = tmp_path / "flats.csv"
    rows = [
        {"area": area, "built": f"{2020 - area}-05-01", "street": f"street {area}", "rent": 9 * area + area % 7}
        for area in range(120)
    ]
    data.write_text(write_csv(["area", "built", "street", "rent"], rows))
    subject = subject_of(flats, flats.baseline, data)
    built = [f"{2020 - int(area)}-05-01" for area in subject.train.table["area"]]
    page = rendered(subject)
    assert f"from {min(built)} to {max(built)}" in page.plain
    assert f"{len(built)} distinct values" in page.plain
    assert len(built) < 120


def test_markup_in_a_picture_is_text():
    svg = str(bars("harm", [HARM, "a $b$ $c", ' id="m1"'], [1, 2, 3], "x"))
    page = Page(f"<figure>{svg}</figure>")
    assert page.tags["script"] == 0
    assert "a $b$ $c" in page.plain


# what is measured


def test_permutation_importance_finds_what_the_score_depends_on(subject):
    importance = permutation_importance(subject)
    assert importance.columns[0].name == "checking_balance"
    assert sorted(importance.values, reverse=True) == importance.values.tolist()
    assert importance.values[0] > 0.03
    assert {column.name for column in importance.columns} == {feature.name for feature in subject.use_case.features}


def test_permutation_importance_is_measured_where_the_metric_is_defined(subject, monkeypatch):
    monkeypatch.setattr(measures, "FEWEST_SHUFFLED", 1)
    monkeypatch.setattr(measures, "PREDICTED", 1)  # a single row holds one class
    assert np.isfinite(permutation_importance(subject).values).all()


def test_a_report_says_how_many_rows_of_the_hold_out_importances_were_measured_on(subject, monkeypatch):
    every = len(subject.test.y)
    for most, said in ((100, True), (every, False)):
        monkeypatch.setattr(measures, "FEWEST_SHUFFLED", most)
        monkeypatch.setattr(measures, "PREDICTED", 1)
        monkeypatch.setattr(measures, "EXPLAINED", most - 1 if said else most)
        text = rendered(subject).plain
        assert (f"Measured on 100 of the {every} rows of the hold-out, drawn at random." in text) is said
        assert (f"Measured on 99 of the {every} rows of the hold-out, drawn at random." in text) is said
        assert ("Measured on" in text) is said


def test_a_derived_column_moves_with_the_feature_that_it_comes_from(credit):
    class OnlyInstalment(LogisticRegression):
        def predict(self, X):
            return -X[:, len(credit.features)]

    algorithm = Algorithm(name="derived", model=OnlyInstalment(), transformers=(Standardize(),))
    subject = subject_of(credit, algorithm)
    importance = permutation_importance(subject)
    moved = {column.name for column, value in zip(importance.columns, importance.values, strict=True) if value != 0}
    assert moved == {"amount", "months_loan_duration"}
    assert roc_auc(subject.test.y, subject.predictions) != 0.5


def test_importances_and_contributions_are_added_up_by_the_columns_that_people_know(subject, credit):
    assert any(isinstance(step, OneHot) for step in subject.candidate.pipeline.transformers)
    measure, importance = own_importance(subject)
    columns = {column.name for column in (*credit.features, *credit.derived)}
    assert measure == "coefficient"
    assert {column.name for column in importance.columns} == columns
    assert importance.values.sum() == pytest.approx(1)
    found, directions = contributions(subject)
    assert set(directions) == columns
    assert directions["checking_balance"] == "↓"
    assert directions["months_loan_duration"] == "↑"
    assert directions["purpose"] == ""  # it has no order
    assert found.values[0] >= found.values[-1] >= 0


def test_the_learning_curve_ends_with_what_cross_validation_found_and_leaves_the_hold_out_alone(subject):
    points = learning_curve(replace(subject, test=None, predictions=None))
    rows = [point.rows for point in points]
    assert rows == [40, 80, 159, 318, 637]
    folds = subject.use_case.task.folds(subject.train.y, 10, 2, 42)[:5]
    ends = [roc_auc(subject.train.y[judged], subject.candidate.out_of_fold[0][judged]) for _, judged in folds]
    assert points[-1].score == pytest.approx(np.mean(ends))
    assert points[0].score < points[-1].score


def test_the_learning_curve_leaves_out_what_cannot_be_fitted_on_a_few_rows(subject, monkeypatch):
    model = type(subject.candidate.model)
    fit = model.fit

    def fit_many(self, X, y, columns, weights):
        if len(X) < 150:
            raise ValueError
        return fit(self, X, y, columns, weights)

    before = learning_curve(subject)
    monkeypatch.setattr(model, "fit", fit_many)
    assert learning_curve(subject) == [point for point in before if point.rows >= 150]
    assert before[0].rows < 150 < before[-2].rows


def test_the_learning_curve_fits_no_more_rows_than_a_slow_model_can_bear(subject, monkeypatch):
    monkeypatch.setattr(measures, "LARGEST_FIT", 100)
    assert [point.rows for point in learning_curve(subject)] == [40, 80, 637]


def test_calibration_is_by_tenths_of_the_rows():
    scores = np.linspace(0, 1, 200)
    said, happened = calibration((scores > 0.5).astype(float), scores).T
    assert said == pytest.approx(scores.reshape(10, 20).mean(axis=1))
    assert happened.tolist() == [0.0] * 5 + [1.0] * 5


def test_errors_are_by_value_in_the_features_order_and_by_tenths_where_there_are_many():
    category = Category(name="c", description="", values=("b", "a", "never"))
    values = np.array(["a", "b", "a"] * 20, dtype=object)
    labels, quartiles = quartiles_by(category, values, np.array([1.0, 5.0, 3.0] * 20))
    assert labels == ["b", "a"]
    assert quartiles.tolist() == [[5, 5, 5], [1, 2, 3]]
    values = np.array(["a", np.nan, "a"] * 20, dtype=object)  # as pandas writes a missing text
    assert quartiles_by(category, values, np.array([1.0, 5.0, 3.0] * 20))[0] == ["a"]
    whole = Integer(name="n", description="", low=0, high=999, missing=True)
    values = np.array([2, None, 1] * 20, dtype=object)
    labels, quartiles = quartiles_by(whole, values, np.array([1.0, 9.0, 3.0] * 20))
    assert labels.tolist() == [1, 2]
    assert quartiles[:, 1].tolist() == [3, 1]
    labels, _ = quartiles_by(whole, np.arange(200).astype(object), np.zeros(200))
    assert labels.tolist() == [20 * tenth + 9.5 for tenth in range(10)]


def test_no_picture_tells_what_is_true_of_fewer_than_twenty_rows():
    category = Category(name="c", description="", values=("many", "few"))
    values = np.array(["many"] * 20 + ["few"] * 19, dtype=object)
    labels, quartiles = quartiles_by(category, values, np.arange(39.0))
    assert (labels, quartiles.shape) == (["many"], (1, 3))
    whole = Integer(name="n", description="", low=0, high=999)
    labels, quartiles = quartiles_by(whole, np.array([1] * 20 + [2] * 19, dtype=object), np.arange(39.0))
    assert (labels.tolist(), quartiles.shape) == ([1], (1, 3))
    labels, quartiles = quartiles_by(whole, np.arange(70).astype(object), np.zeros(70))
    assert (labels.tolist(), quartiles.shape) == ([11.5, 35, 58], (3, 3))
    labels, quartiles = quartiles_by(whole, np.arange(19).astype(object), np.zeros(19))
    assert (len(labels), quartiles.shape) == (0, (0, 3))
    some = np.linspace(0, 1, 59)
    assert calibration(some.round(), some).shape == (2, 2)
    assert quartiles_of_truth(some, some).shape == (2, 4)


def test_the_truth_is_shown_by_tenths_of_the_predictions():
    predicted, low, middle, high = quartiles_of_truth(np.arange(400.0) % 40, np.arange(400.0)).T
    assert predicted.tolist() == [40 * tenth + 19.5 for tenth in range(10)]
    assert {(*row,) for row in np.array([low, middle, high]).T.tolist()} == {(9.75, 19.5, 29.25)}


def test_a_feature_of_whose_values_all_have_few_rows_has_no_picture(bikes, some_bikes):
    subject = subject_of(bikes, bikes.baseline, some_bikes)
    for rows in (np.arange(10), np.arange(30)):  # some two of each hour at most
        few = subject.test.take(rows)
        page = rendered(replace(subject, test=few, predictions=subject.predictions[rows]))
        titles = [figure["label"].partition(".")[0] for figure in page.figures]
        assert "Predicted against true" in titles
        assert "Errors by Hour" not in titles


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.500"),
        (-1.25, "-1.250"),
        (123.45, "123.5"),
        (12345.6, "12,346"),
        (7, "7"),
        (None, NOTHING),
        (True, "True"),
    ],
)
def test_numbers_are_written_with_the_digits_that_matter(value, text):
    assert number(value) == text
