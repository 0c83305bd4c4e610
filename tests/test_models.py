"""Models, and what every model and every transformer promises."""

import importlib
import io
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pytest
import scipy.special
import sklearn.linear_model
import sklearn.svm
import sklearn.tree
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.model_selection import RepeatedStratifiedKFold

import tabserve.models
from tabserve.aliases import Matrix, Metric, Vector, Weights
from tabserve.base import Estimator
from tabserve.columns.derived import Grouping
from tabserve.columns.features import Category, Integer, Number, OrderedCategory
from tabserve.columns.matrix import Columns, MatrixColumn
from tabserve.errors import NotExplainableError, NotFittedError
from tabserve.evaluation.metrics import r2, roc_auc, roc_auc_ovr
from tabserve.models.base import Classifier, Model, MulticlassClassifier, Regressor, on_cpus
from tabserve.models.blend import SHARE, BlendClassifier, C, Line
from tabserve.models.lightgbm import (
    MAX_ROUNDS,
    LgbClassifier,
    LgbCountRegressor,
    LgbModel,
    LgbMulticlassClassifier,
    LgbRegressor,
)
from tabserve.models.linear import (
    CHUNK,
    LogisticRegression,
    MonotoneLogisticRegression,
    MultinomialRegression,
    Ridge,
    expit,
    softmax,
)
from tabserve.models.log_target import LogTarget
from tabserve.models.scikit import SVR, DecisionTreeRegressor, Lasso, LinearRegression, ScikitRegressor
from tabserve.pipeline import Pipeline
from tabserve.transformers import (
    Drop,
    Encoder,
    MinMax,
    OneHot,
    RecordEncoder,
    RemapTarget,
    Standardize,
    Target,
    Transformer,
)

FEATURES = (
    Category(name="colour", description="", values=("red", "green")),
    Integer(name="age", description="", low=0, high=120, missing=True),
)
WARM = Grouping(name="warm", description="", category="colour", groups={"no": ("green",), "yes": ("red",)})
LABEL = Integer(name="label", description="", low=1, high=2)
RECORDS = [{"colour": "red", "age": 3}, {"colour": "green", "age": None}]
MATRIX = np.array([[0.0, 3.0], [1.0, np.nan], [1.0, 5.0]])
MATRIX_COLUMNS = tuple(map(MatrixColumn, FEATURES))

generator = np.random.default_rng(7)
X = np.column_stack([generator.normal(size=(200, 3)), generator.integers(0, 6, 200)])
CHANCE = 1 / (1 + np.exp(-X[:, 0] - 1.5 * (X[:, 3] % 2)))  # rises with column 0; jumps to and fro along column 3
y = (generator.random(200) < CHANCE).astype(float)
counts = generator.poisson(3 * CHANCE).astype(float)
labels = y + (generator.random(200) < np.where(X[:, 1] > 0, 0.8, 0.2))  # 0, 1 and 2
COLUMNS = (
    MatrixColumn(Number(name="a", description="", low=-9, high=9, monotone=1)),
    *(MatrixColumn(Number(name=name, description="", low=-9, high=9)) for name in "bc"),
    MatrixColumn(Category(name="d", description="", values=tuple("012345"))),
)
FOLDS = list(RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0).split(X, y))

TRANSFORMERS: list[tuple[Encoder | Transformer | Pipeline, Any]] = [
    (RecordEncoder(FEATURES, (WARM,)), RECORDS),
    (Drop(("age",)), MATRIX),
    (OneHot(("colour",)), MATRIX),
    (Standardize(), MATRIX),
    (MinMax(), MATRIX),
    (Target(LABEL), [1, 2]),
    (RemapTarget(LABEL, {1: 0, 2: 1}), [1, 2]),
    (Pipeline(RecordEncoder(FEATURES), (OneHot(("colour",)), Standardize())), RECORDS),
]
CLASSIFIERS: list[Classifier] = [
    BlendClassifier(num_rounds=5, bagging_fraction=0.7, seed=3),
    MonotoneLogisticRegression(C=0.3),
    LgbClassifier(num_rounds=5, bagging_fraction=0.7, seed=3),
    LogisticRegression(C=0.3),
]
MULTICLASS_CLASSIFIERS: list[MulticlassClassifier] = [
    LgbMulticlassClassifier(num_rounds=5, bagging_fraction=0.7, seed=3),
    MultinomialRegression(C=0.3),
]
REGRESSORS: list[Regressor] = [
    LgbRegressor(num_rounds=20, bagging_fraction=0.7, seed=3),
    LgbCountRegressor(num_rounds=20, feature_fraction_bynode=0.5, seed=3),
    LinearRegression(floor=0),
    Ridge(alpha=0.5, floor=0),
    LogTarget(LgbRegressor(num_rounds=20, seed=3)),
    Lasso(alpha=0.01, floor=0.5),
    SVR(C=2.0, gamma=0.3, epsilon=0.2, floor=0),
    DecisionTreeRegressor(max_depth=4, min_samples_leaf=3, seed=5),
]
MODELS: list[Model] = [*CLASSIFIERS, *MULTICLASS_CLASSIFIERS, *REGRESSORS]
every_estimator = pytest.mark.parametrize(
    "prototype",
    [*(transformer for transformer, _ in TRANSFORMERS), *MODELS],
    ids=lambda estimator: type(estimator).__name__,
)
every_model, every_classifier, every_multiclass_classifier, every_regressor = (
    pytest.mark.parametrize("prototype", prototypes, ids=lambda model: type(model).__name__)
    for prototypes in (MODELS, CLASSIFIERS, MULTICLASS_CLASSIFIERS, REGRESSORS)
)
every_explainable_model = pytest.mark.parametrize(
    "prototype", [model for model in MODELS if not isinstance(model, SVR)], ids=lambda model: type(model).__name__
)


def fitted(prototype: Estimator) -> Any:
    estimator = clone(prototype)
    if isinstance(estimator, Model):
        return estimator.fit(X, targets_of(estimator), COLUMNS)
    return estimator.fit(*data_of(prototype))


def targets_of(model: Model) -> np.ndarray:
    return y if isinstance(model, Classifier) else labels if isinstance(model, MulticlassClassifier) else counts


def metric_of(model: Model) -> Metric:
    if isinstance(model, MulticlassClassifier):
        return roc_auc_ovr
    return roc_auc if isinstance(model, Classifier) else r2


def used(estimator: Any, prototype: Estimator) -> Any:
    """What an estimator makes of its data."""
    return estimator.predict(X) if isinstance(estimator, Model) else estimator.transform(data_of(prototype)[0])


def data_of(prototype: Estimator) -> tuple[Any, ...]:
    """What `fit` takes; `transform` takes the first of it."""
    data = next(data for transformer, data in TRANSFORMERS if transformer is prototype)
    return (data, None, MATRIX_COLUMNS) if isinstance(prototype, Transformer) else (data,)


def concrete(base: type) -> Iterator[type]:
    """The classes of this project that derive from a class and are not abstract."""
    for kind in base.__subclasses__():
        yield from concrete(kind)
        if kind.__module__.startswith("tabserve.") and not kind.__abstractmethods__:
            yield kind


def test_no_model_and_no_transformer_is_left_out_here() -> None:
    for module in pkgutil.iter_modules(tabserve.models.__path__):
        importlib.import_module(f"tabserve.models.{module.name}")
    tested = {type(prototype) for prototype in (*MODELS, *(transformer for transformer, _ in TRANSFORMERS))}
    assert {*concrete(Model), *concrete(Encoder), *concrete(Transformer), Pipeline} == tested


@every_estimator
def test_the_constructor_stores_its_arguments_unchanged(prototype: Estimator) -> None:
    arguments = prototype.get_params(deep=False)
    copy = type(prototype)(**arguments)
    assert vars(copy).keys() == arguments.keys()
    assert all(value is arguments[name] for name, value in vars(copy).items())


@every_estimator
def test_clone_makes_an_equal_unfitted_one(prototype: Estimator) -> None:
    copy = clone(fitted(prototype))
    assert copy is not prototype
    assert repr(copy) == repr(prototype)
    with pytest.raises(NotFittedError):
        copy.check_is_fitted()


@every_estimator
def test_use_before_fit_is_refused_by_name(prototype: Estimator) -> None:
    name = "RecordEncoder" if isinstance(prototype, Pipeline) else type(prototype).__name__
    with pytest.raises(NotFittedError, match=rf"^This {name} is not fitted yet: call fit\(\)"):
        used(clone(prototype), prototype)


@every_estimator
def test_fit_returns_the_estimator_itself_and_leaves_its_parameters(prototype: Estimator) -> None:
    estimator = clone(prototype)
    before = estimator.get_params()
    data = (X, targets_of(estimator), COLUMNS) if isinstance(estimator, Model) else data_of(prototype)
    result = estimator.fit(*data)
    assert result is estimator
    estimator.check_is_fitted()
    assert all(value is before[name] for name, value in estimator.get_params().items())


@every_estimator
def test_a_pickled_one_does_the_same(prototype: Estimator) -> None:
    estimator = fitted(prototype)
    expected = used(estimator, prototype)
    stream = io.BytesIO()
    joblib.dump(estimator, stream)
    stream.seek(0)
    copy = joblib.load(stream)
    np.testing.assert_array_equal(used(copy, prototype), expected)
    assert repr(copy) == repr(estimator)


@pytest.mark.parametrize(
    "transformer", [transformer for transformer, _ in TRANSFORMERS], ids=lambda transformer: type(transformer).__name__
)
def test_fit_transform_is_fit_then_transform(transformer: Any) -> None:
    data = data_of(transformer)
    expected = clone(transformer).fit(*data).transform(data[0])
    np.testing.assert_array_equal(clone(transformer).fit_transform(*data), expected)


@pytest.mark.parametrize(
    "transformer",
    [one for one, _ in TRANSFORMERS if isinstance(one, Transformer | Pipeline)],
    ids=lambda transformer: type(transformer).__name__,
)
def test_a_transformer_describes_each_column_that_it_makes(transformer: Any) -> None:
    data = data_of(transformer)
    fitted = clone(transformer).fit(*data)
    assert len(fitted.columns_) == fitted.transform(data[0]).shape[1]


@every_classifier
def test_predictions_are_probabilities_one_for_each_row(prototype: Model) -> None:
    scores = fitted(prototype).predict(X)
    assert scores.shape == (200,)
    assert scores.dtype == np.float64
    assert np.all((scores > 0) & (scores < 1))
    assert roc_auc(y, scores) > 0.6


@every_multiclass_classifier
def test_probabilities_of_several_classes_add_up_to_1_in_each_row(prototype: Model) -> None:
    probabilities = fitted(prototype).predict(X)
    assert probabilities.shape == (200, 3)
    assert probabilities.dtype == np.float64
    assert np.all((probabilities > 0) & (probabilities < 1))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert roc_auc_ovr(labels, probabilities) > 0.6


@every_regressor
def test_predictions_are_numbers_one_for_each_row(prototype: Model) -> None:
    scores = fitted(prototype).predict(X)
    assert scores.shape == (200,)
    assert scores.dtype == np.float64
    assert r2(counts, scores) > 0.1


@every_model
def test_a_row_is_predicted_the_same_alone_and_among_others(prototype: Model) -> None:
    model = fitted(prototype)
    wide = np.asfortranarray(X)
    alone = [model.predict(X[[row]])[0].tolist() for row in range(len(X))]
    assert model.predict(X).tolist() == model.predict(wide).tolist() == alone


@every_model
def test_two_fits_of_one_seed_are_equal(prototype: Model) -> None:
    np.testing.assert_array_equal(fitted(prototype).predict(X), fitted(prototype).predict(X))


@every_model
def test_a_second_fit_forgets_the_first(prototype: Model) -> None:
    model = fitted(prototype)
    model.predict(X)
    others = np.max(targets_of(model)) - targets_of(model)
    model.fit(X, others, COLUMNS)
    np.testing.assert_array_equal(model.predict(X), clone(prototype).fit(X, others, COLUMNS).predict(X))


@every_model
def test_cross_validation_predicts_each_row_by_a_model_that_did_not_see_it(prototype: Model) -> None:
    targets, metric = targets_of(prototype), metric_of(prototype)
    result = prototype.cross_validate(X, targets, FOLDS, metric, columns=COLUMNS)
    assert result.out_of_fold.shape == (2, *fitted(prototype).predict(X).shape)
    scores = []
    for number, (rows, judged) in enumerate(FOLDS):
        model = clone(prototype).set_params(**result.parameters).fit(X[rows], targets[rows], COLUMNS)
        expected = model.predict(X[judged])
        np.testing.assert_array_equal(result.out_of_fold[number // 3, judged], expected)
        scores.append(metric(targets[judged], expected))
    assert result.score == pytest.approx(np.mean(scores))


@every_model
def test_cross_validation_leaves_the_model_as_it_was_and_is_the_same_with_two_jobs(prototype: Model) -> None:
    before = repr(prototype)
    targets, metric = targets_of(prototype), metric_of(prototype)
    one, two = (prototype.cross_validate(X, targets, FOLDS, metric, jobs, COLUMNS) for jobs in (1, 2))
    assert repr(prototype) == before
    with pytest.raises(NotFittedError):
        prototype.check_is_fitted()
    assert (one.score, one.parameters) == (two.score, two.parameters)
    np.testing.assert_array_equal(one.out_of_fold, two.out_of_fold)


@every_model
def test_rows_that_weigh_more_draw_the_predictions_to_their_targets(prototype: Model) -> None:
    targets = targets_of(prototype)
    weights = np.where(targets == targets.max(), 20.0, 1.0)
    told = clone(prototype).fit(X, targets, COLUMNS, weights)
    assert upwards(told.predict(X)) > upwards(fitted(prototype).predict(X))


@every_model
def test_cross_validation_fits_with_the_weights_of_each_folds_rows(prototype: Model) -> None:
    targets, metric = targets_of(prototype), metric_of(prototype)
    weights = np.where(targets == targets.max(), 20.0, 1.0)
    result = prototype.cross_validate(X, targets, FOLDS, metric, columns=COLUMNS, weights=weights)
    rows, judged = FOLDS[-1]
    model = clone(prototype).set_params(**result.parameters)
    expected = model.fit(X[rows], targets[rows], COLUMNS, weights[rows]).predict(X[judged])
    np.testing.assert_array_equal(result.out_of_fold[-1, judged], expected)


@every_model
def test_rows_that_no_fold_judges_have_no_prediction(prototype: Model) -> None:
    for number in (1, 4):  # of six folds, three in a repeat
        result = prototype.cross_validate(
            X, targets_of(prototype), FOLDS[:number], metric_of(prototype), columns=COLUMNS
        )
        fitted_on, judged = FOLDS[number - 1]
        assert np.isnan(result.out_of_fold[-1, fitted_on]).all()
        assert np.isfinite(result.out_of_fold[-1, judged]).all()
        assert len(result.out_of_fold) == number // 3 + 1
        assert np.isfinite(result.out_of_fold[:-1]).all()


def upwards(predictions: np.ndarray) -> float:
    """The mean prediction; of several classes, the mean probability of the last."""
    return float(predictions.reshape(len(predictions), -1)[:, -1].mean())


def linear_score(X: np.ndarray, y: np.ndarray, columns: Columns, rows: np.ndarray) -> np.ndarray:
    """Log-odds of rows by the logistic regression on one-hot, standardised columns that a blend fits on X and y."""
    encoder = OneHot().fit(X, None, columns)
    scaler = Standardize().fit(encoder.transform(X), None, encoder.columns_)
    line = MonotoneLogisticRegression(C).fit(scaler.transform(encoder.transform(X)), y, scaler.columns_)
    return raw_score(line, scaler.transform(encoder.transform(rows)))


def line_of_a_blend(rows: np.ndarray) -> np.ndarray:
    return linear_score(X, y, COLUMNS, rows)


def raw_score(model: Any, X: np.ndarray) -> np.ndarray:
    """What a fitted model adds up before it makes a prediction of it, by the library that fitted it."""
    model = getattr(model, "model_", model)
    if isinstance(model, BlendClassifier):
        trees = lightgbm.Booster(model_str=model.text_).predict(X, raw_score=True)
        return (1 - SHARE) * trees + SHARE * line_of_a_blend(X)
    if isinstance(model, LgbModel):
        return lightgbm.Booster(model_str=model.text_).predict(X, raw_score=True)
    if hasattr(model, "coef_"):
        sums = X @ np.atleast_2d(model.coef_).T + model.intercept_
        return sums if isinstance(model, MulticlassClassifier) else sums[:, 0]
    return model.estimator_.predict(X)


@every_explainable_model
def test_contributions_and_the_base_value_sum_to_the_raw_score(prototype: Model) -> None:
    model = fitted(prototype)
    unseen = np.random.default_rng(8).normal(scale=3, size=(100, 4))
    for rows in (X, unseen, X[:1]):
        contributions = model.contributions(rows)
        assert contributions.shape == (*model.predict(rows).shape, 5)
        assert contributions.dtype == np.float64
        np.testing.assert_allclose(contributions.sum(axis=-1), raw_score(model, rows), rtol=0, atol=1e-9)
        assert np.all(contributions[..., -1] == contributions[0, ..., -1])


@every_explainable_model
def test_the_prediction_comes_from_the_raw_score(prototype: Model) -> None:
    model = fitted(prototype)
    before = model.predict(X)
    raw = model.contributions(X).sum(axis=-1)
    expected = raw
    if isinstance(model, Classifier):
        expected = 1 / (1 + np.exp(-raw))
    elif isinstance(model, MulticlassClassifier):
        expected = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    elif isinstance(model, LgbCountRegressor):
        expected = np.exp(raw)
    elif isinstance(model, LogTarget):
        expected = np.expm1(raw)
    elif model.get_params().get("floor") is not None:
        expected = np.maximum(raw, model.floor)
    np.testing.assert_allclose(before, expected, rtol=1e-9)
    np.testing.assert_array_equal(model.predict(X), before)


@every_explainable_model
def test_a_row_is_explained_the_same_alone_and_among_others(prototype: Model) -> None:
    model = fitted(prototype)
    alone = np.vstack([model.contributions(X[[row]]) for row in range(20)])
    np.testing.assert_array_equal(model.contributions(X)[:20], alone)


@every_explainable_model
def test_a_column_that_never_varied_contributes_nothing(prototype: Model) -> None:
    constant = X.copy()
    constant[:, 1] = 0.0
    model = clone(prototype).fit(constant, targets_of(prototype), COLUMNS)
    assert np.abs(model.contributions(constant)[..., 1]).max() == 0


@every_model
def test_contributions_before_fit_are_refused(prototype: Model) -> None:
    with pytest.raises(NotFittedError):
        clone(prototype).contributions(X)


def test_a_model_with_a_kernel_says_why_it_cannot_be_explained() -> None:
    model = SVR().fit(X, counts)
    with pytest.raises(NotExplainableError, match=r"^This model, SVR, cannot explain its predictions: its kernel "):
        model.contributions(X)


def test_a_model_that_says_nothing_of_its_contributions_cannot_be_explained() -> None:
    class Mean(Regressor):
        def fit(self, X: Matrix, y: Vector, columns: Columns = (), weights: Weights = None) -> "Mean":
            self.mean_ = y.mean()
            return self

        def predict(self, X: np.ndarray) -> np.ndarray:
            return np.full(len(X), self.mean_)

    with pytest.raises(NotExplainableError, match="This model, Mean, cannot explain its predictions"):
        Mean().fit(X, counts).contributions(X)


def test_a_linear_contribution_is_coefficient_times_value() -> None:
    model = LinearRegression().fit(X, 3 + 2 * X[:, 0] - X[:, 3])
    np.testing.assert_allclose(model.contributions([[5.0, 1, 1, 4]]), [[10, 0, 0, -4, 3]], atol=1e-9)


def test_a_tree_s_contributions_are_the_moves_of_the_mean_along_its_path() -> None:
    rows = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    model = DecisionTreeRegressor(max_depth=2, min_samples_leaf=1).fit(rows, np.array([0.0, 0.0, 4.0, 8.0]))
    expected = [[-3, 0, 3], [-3, 0, 3], [3, -2, 3], [3, 2, 3]]  # the mean is 3, that of the last two rows 6
    np.testing.assert_allclose(model.contributions(rows), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "loss_of"),
    [
        (LgbClassifier, log_loss),
        (LgbMulticlassClassifier, log_loss),
        (LgbRegressor, mean_squared_error),
        (LgbCountRegressor, mean_squared_error),
    ],
)
def test_cross_validation_chooses_the_number_of_rounds_with_the_smallest_mean_loss(
    kind: type[LgbModel], loss_of: Metric
) -> None:
    model = kind(num_rounds=1, learning_rate=0.2, num_leaves=4)
    targets = targets_of(model)
    rounds = model.cross_validate(X, targets, FOLDS, metric_of(model)).parameters["num_rounds"]

    def loss(rounds: int) -> float:
        copies = [clone(model).set_params(num_rounds=rounds).fit(X[rows], targets[rows]) for rows, _ in FOLDS]
        pairs = zip(copies, FOLDS, strict=True)
        return float(np.mean([loss_of(targets[judged], copy.predict(X[judged])) for copy, (_, judged) in pairs]))

    assert 2 < rounds < MAX_ROUNDS / 2
    assert loss(rounds) < min(loss(rounds + step) for step in (-2, -1, 1, 20))


every_lightgbm_model = pytest.mark.parametrize(
    "prototype", [model for model in MODELS if isinstance(model, LgbModel)], ids=lambda model: type(model).__name__
)


def trees(booster: lightgbm.Booster) -> str:
    """Its text without its parameters."""
    return str(booster.model_to_string()).partition("\nparameters:")[0]


@every_lightgbm_model
@pytest.mark.parametrize("is_weighted", [True, False])
def test_of_many_rows_the_folds_share_their_bins_and_nothing_else(
    prototype: LgbModel, is_weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabserve.models.lightgbm, "MANY", 100)
    targets, metric = targets_of(prototype), metric_of(prototype)
    weights = generator.random(200) + 0.5 if is_weighted else None
    model = clone(prototype).set_params(max_bin=15, min_data_in_leaf=5)
    result = model.cross_validate(X, targets, FOLDS, metric, 2, COLUMNS, weights)
    for number, (rows, judged) in enumerate(FOLDS):
        booster = grown_on_bins_of_all(model, targets, weights, rows, result.parameters["num_rounds"])
        expected = booster.predict(X[judged], raw_score=isinstance(model, BlendClassifier))
        if isinstance(model, BlendClassifier):
            line = Line.fit(X[rows], targets[rows], COLUMNS, None if weights is None else weights[rows])
            expected = expit((1 - SHARE) * expected + SHARE * line.sums(X[judged]))
        np.testing.assert_array_equal(result.out_of_fold[number // 3, judged], expected)


def grown_on_bins_of_all(
    model: LgbModel, targets: Vector, weights: Weights, rows: np.ndarray, rounds: int
) -> lightgbm.Booster:
    """Trees of some rows, which are copied, in bins whose ends come from all rows."""
    parameters = model._parameters(X, targets, COLUMNS, threads=1)
    whole = lightgbm.Dataset(X, targets, categorical_feature=[3], params=parameters)
    some = lightgbm.Dataset(
        X[rows], targets[rows], whole, None if weights is None else weights[rows], params=parameters
    )
    return lightgbm.train(parameters, some, rounds)


@pytest.mark.parametrize("is_weighted", [True, False])
def test_trees_of_a_part_of_a_dataset_are_those_of_its_rows_alone(is_weighted: bool) -> None:
    model = LgbClassifier(num_rounds=30, min_data_in_leaf=5, max_bin=15, bagging_fraction=0.7)
    weights = generator.random(200) + 0.5 if is_weighted else None
    parameters = model._parameters(X, y, COLUMNS, threads=1)
    rows = FOLDS[0][0]
    whole = lightgbm.Dataset(X, y, weight=weights, categorical_feature=[3], params=parameters)
    part = lightgbm.train(parameters, whole.subset(rows.tolist(), parameters), 30)
    alone = grown_on_bins_of_all(model, y, weights, rows, 30)
    assert trees(part) == trees(alone)


@every_lightgbm_model
def test_trees_are_the_same_with_any_number_of_threads(prototype: LgbModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabserve.models.lightgbm, "MANY", 1000)
    rows = np.random.default_rng(1).integers(0, len(X), 3000)
    noisy = X[rows] + np.column_stack([np.random.default_rng(2).normal(size=(3000, 3)), np.zeros(3000)])
    targets, weights = targets_of(prototype)[rows], np.random.default_rng(3).random(3000)
    model = clone(prototype).set_params(num_leaves=31, feature_fraction_bynode=0.7, learning_rate=0.3)
    texts, validations = [], []
    for number in (1, 2, 4):
        with on_cpus(number):
            texts.append(clone(model).fit(noisy, targets, COLUMNS, weights).text_)
        fold = [(np.arange(1000, 3000), np.arange(1000))]
        validations.append(model.cross_validate(noisy, targets, fold, metric_of(model), number, COLUMNS, weights))
    assert texts[0] == texts[1] == texts[2]
    assert len({(one.score, one.parameters["num_rounds"]) for one in validations}) == 1
    for one in validations[1:]:
        np.testing.assert_array_equal(one.out_of_fold, validations[0].out_of_fold)


def test_the_number_of_trees_is_the_number_of_rounds() -> None:
    model = LgbClassifier(num_rounds=7).fit(X, y)
    assert model.text_.count("\nTree=") == 7


def test_several_classes_take_a_tree_each_in_every_round() -> None:
    model = LgbMulticlassClassifier(num_rounds=7).fit(X, labels)
    assert model.text_.count("\nTree=") == 3 * 7


def test_another_seed_makes_another_model() -> None:
    first, second = (LgbClassifier(num_rounds=5, bagging_fraction=0.5, seed=seed).fit(X, y) for seed in (1, 2))
    assert np.any(first.predict(X) != second.predict(X))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_monotone_score_never_goes_the_other_way(sign: int) -> None:
    promised = MatrixColumn(replace(COLUMNS[1].origin, monotone=sign))
    model = LgbClassifier(num_rounds=30, min_data_in_leaf=3).fit(X, y, (COLUMNS[0], promised, *COLUMNS[2:]))
    free = LgbClassifier(num_rounds=30, min_data_in_leaf=3).fit(X, y)
    grid = np.repeat(X[:20, None], 50, axis=1)
    grid[:, :, 1] = np.linspace(-3, 3, 50)

    def steps(model: LgbClassifier) -> np.ndarray:
        return np.diff(model.predict(grid.reshape(-1, 4)).reshape(20, 50), axis=1) * sign

    assert steps(free).min() < 0
    assert steps(model).min() >= 0


def test_a_category_is_split_by_its_values_and_not_by_their_order() -> None:
    codes = np.tile(np.arange(6.0), 150)[:, None]
    odd = codes[:, 0] % 2
    parameters = {"num_rounds": 1, "num_leaves": 2, "learning_rate": 1.0, "cat_smooth": 1.0}
    nominal, ordered = COLUMNS[3:], (MatrixColumn(OrderedCategory(name="d", description="", values=tuple("012345"))),)
    by_value = LgbClassifier(**parameters).fit(codes, odd, nominal).predict(codes)
    by_order = LgbClassifier(**parameters).fit(codes, odd, ordered).predict(codes)
    assert roc_auc(odd, by_value) == 1
    assert roc_auc(odd, by_order) < 1


@pytest.mark.parametrize("scaler", [MinMax(), Standardize()], ids=repr)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_promise_holds_through_transformers_that_keep_the_order(scaler: Transformer, sign: int) -> None:
    features = (
        Integer(name="size", description="", low=0, high=9, monotone=sign, missing=True),
        Category(name="colour", description="", values=tuple("012345")),
        OrderedCategory(name="grade", description="", values=("low", "middle", "high"), monotone=-sign),
    )
    encoded = np.array([[n % 10, n // 30 % 6, n // 10 % 3] for n in range(900)], dtype=np.float64)
    size, _, grade = encoded.T
    humps = (abs(size - 4.5) < 3) + (grade == 1) + 0.05 * sign * (size - grade)  # both rise and fall
    pipeline = Pipeline(RecordEncoder(features), (OneHot(), scaler))
    matrix = pipeline.fit_transform_encoded(encoded)
    kept, free = (
        LgbRegressor(num_rounds=20, min_data_in_leaf=3).fit(matrix, humps, columns)
        for columns in (pipeline.columns_, ())
    )

    def moves(model: Model, place: int, values: int) -> np.ndarray:
        grid = np.repeat(encoded[:50, None], values, axis=1)
        grid[:, :, place] = np.arange(values)
        scores = model.predict(pipeline.transform_encoded(grid.reshape(-1, 3)))
        return np.diff(scores.reshape(50, values), axis=1) * features[place].monotone

    for place, values in ((0, 10), (2, 3)):
        assert moves(free, place, values).min() < 0
        assert moves(kept, place, values).min() >= 0
        assert moves(kept, place, values).max() > 0


def test_columns_that_do_not_describe_the_matrix_are_refused() -> None:
    with pytest.raises(ValueError, match="The matrix has 4 columns, but 3 are described"):
        LgbClassifier().fit(X, y, COLUMNS[:3])


def test_missing_values_are_learnt_from() -> None:
    gaps = X.copy()
    gaps[y == 1, 1] = np.nan
    scores = LgbClassifier(num_rounds=10).fit(gaps, y).predict(gaps)
    assert np.all(np.isfinite(scores))
    assert roc_auc(y, scores) > 0.99


def test_a_matrix_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="columns"):
        fitted(MODELS[0]).predict(X[:, :3])


def test_a_multinomial_regression_is_scikit_learn_s() -> None:
    ours = MultinomialRegression(C=0.7).fit(X, labels)
    theirs = sklearn.linear_model.LogisticRegression(C=0.7, max_iter=1000).fit(X, labels)
    np.testing.assert_allclose(ours.predict(X), theirs.predict_proba(X), rtol=1e-9)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (LinearRegression(), sklearn.linear_model.LinearRegression()),
        (Lasso(alpha=0.05), sklearn.linear_model.Lasso(alpha=0.05)),
        (Lasso(), sklearn.linear_model.Lasso()),
        (SVR(C=3.0, gamma=0.2, epsilon=0.3), sklearn.svm.SVR(C=3.0, gamma=0.2, epsilon=0.3)),
        (
            DecisionTreeRegressor(max_depth=3, min_samples_leaf=7, seed=2),
            sklearn.tree.DecisionTreeRegressor(max_depth=3, min_samples_leaf=7, random_state=2),
        ),
        (
            LgbRegressor(num_rounds=30, learning_rate=0.2, num_leaves=7, min_data_in_leaf=9),
            lightgbm.LGBMRegressor(n_estimators=30, learning_rate=0.2, num_leaves=7, min_child_samples=9, verbosity=-1),
        ),
        (
            LgbCountRegressor(num_rounds=30, lambda_l2=2.0),
            lightgbm.LGBMRegressor(objective="poisson", n_estimators=30, reg_lambda=2.0, verbosity=-1),
        ),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_regressor_is_the_estimator_that_it_wraps(ours: Regressor, theirs: Any) -> None:
    unseen = np.random.default_rng(8).normal(size=(50, 4))
    expected = theirs.fit(X, counts).predict(unseen)
    np.testing.assert_allclose(ours.fit(X, counts).predict(unseen), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [LinearRegression, Lasso, SVR])
@pytest.mark.parametrize("floor", [0, 1.5, -2.0])
def test_no_score_is_below_the_floor_and_the_others_stay(kind: type[ScikitRegressor], floor: float) -> None:
    targets = 6 * X[:, 0]
    free, bounded = (kind(**parameters).fit(X, targets).predict(X) for parameters in ({}, {"floor": floor}))
    assert free.min() < floor < free.max()
    assert bounded.min() == floor
    assert bounded.tolist() == [max(score, floor) for score in free]


few = np.where(X[:, 0] > 1, counts, 0)  # mostly 0: what is fitted by squared errors falls below
cell = st.floats(-1e9, 1e9) | st.integers(-3, 8).map(float) | st.just(np.nan)


@pytest.fixture(scope="module")
def counting() -> LgbCountRegressor:
    return LgbCountRegressor(num_rounds=200, min_data_in_leaf=3).fit(X, few)


@given(rows=arrays(np.float64, (5, 4), elements=cell))
def test_a_count_is_never_negative(counting: LgbCountRegressor, rows: np.ndarray) -> None:
    scores = counting.predict(rows)
    assert np.all((scores >= 0) & np.isfinite(scores))


def test_a_number_that_is_no_count_may_be_negative(counting: LgbCountRegressor) -> None:
    assert LgbRegressor(num_rounds=200, min_data_in_leaf=3).fit(X, few).predict(X).min() < 0
    assert 0 <= counting.predict(X).min() < 0.01
    assert r2(few, counting.predict(X)) > 0.9


def test_a_tree_s_scores_stay_within_the_targets_it_has_seen() -> None:
    model = DecisionTreeRegressor(max_depth=20, min_samples_leaf=1).fit(X, counts)
    scores = model.predict(np.random.default_rng(9).normal(scale=100, size=(500, 4)))
    assert counts.min() <= scores.min() < scores.max() <= counts.max()


def test_a_tree_s_leaves_hold_as_many_rows_as_asked_for() -> None:
    scores = DecisionTreeRegressor(max_depth=20, min_samples_leaf=17).fit(X, counts).predict(X)
    assert np.unique(scores, return_counts=True)[1].min() >= 17
    assert len(np.unique(DecisionTreeRegressor(max_depth=2, min_samples_leaf=1).fit(X, counts).predict(X))) <= 4


def test_an_unknown_parameter_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="LogisticRegression has no parameter depth; it has C"):
        LogisticRegression().set_params(depth=3)


@pytest.mark.parametrize("rows", [100, 1000, 30_000, 300_000])
@pytest.mark.parametrize("n_columns", [1, 20, 500])
@every_model
def test_the_default_search_space_holds_the_models_own_parameters_within_its_limits(
    prototype: Model, rows: int, n_columns: int
) -> None:
    own = prototype if isinstance(prototype, LogTarget) else type(prototype)()  # which is never searched itself
    for name, dimension in own.default_search_space(rows, n_columns).items():
        value = own.get_params()[name]
        if name != "lambda_l2":  # 0 has no logarithm
            assert dimension.value(dimension.position(value)) == pytest.approx(value)
        if name in own.limits:
            least, most = own.limits[name]
            assert least <= dimension.low <= dimension.high <= most


def test_the_default_search_space_grows_with_the_rows() -> None:
    small, large = (LgbClassifier().default_search_space(rows, 20) for rows in (1000, 300_000))
    for name in ("num_leaves", "min_data_in_leaf", "max_bin", "cat_smooth"):
        assert small[name].high < large[name].high


def test_rounds_that_end_at_the_safety_are_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tabserve.models.lightgbm.MAX_ROUNDS", 25)
    LgbClassifier(learning_rate=0.001).cross_validate(X, y, FOLDS, roc_auc)
    assert "the loss still fell after 25 rounds" in caplog.text


def test_a_ridge_regression_is_scikit_learns_with_any_weights() -> None:
    weights = np.random.default_rng(3).uniform(0, 3, len(y))
    ours = Ridge(alpha=2.0).fit(X, counts, weights=weights)
    theirs = sklearn.linear_model.Ridge(alpha=2.0).fit(X, counts, sample_weight=weights)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-9)


def test_a_ridge_regression_takes_more_rows_than_it_copies_at_once_and_constant_columns() -> None:
    many = np.random.default_rng(1).normal(size=(2 * CHUNK + 7, 3))
    many[:, 2] = 4.0
    model = Ridge(alpha=1e-6).fit(many, 3 * many[:, 0] - 2 + many[:, 1])
    np.testing.assert_allclose(model.predict(many[:5]), (3 * many[:, 0] - 2 + many[:, 1])[:5], rtol=1e-6)


def test_the_line_of_a_blend_of_many_rows_is_fitted_on_some_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    many = random.normal(size=(6000, 3))
    rare = (np.arange(6000) == 5).astype(float)
    labels = np.where(random.random(6000) < 0.5, rare, (random.random(6000) < 1 / (1 + np.exp(3 - 2 * many[:, 0]))))
    whole = Line.fit(many, labels).sums(many)
    monkeypatch.setattr("tabserve.models.blend.MOST_ROWS", 3000)
    some = Line.fit(many, labels).sums(many)
    assert 0 < np.abs(some - whole).max() < 0.5
    assert np.isfinite(Line.fit(many, rare).sums(many)).all()


@given(raw=arrays(np.float64, 7, elements=st.floats(-1e4, 1e4)))
def test_a_probability_is_the_same_for_a_row_alone_and_among_others(raw: np.ndarray) -> None:
    together, of_classes = expit(raw), softmax(np.outer(raw, [1.0, -0.5, 0.0]))
    assert together.tolist() == [expit(raw[[row]])[0] for row in range(7)]
    assert of_classes.tolist() == [softmax(np.outer(raw[[row]], [1.0, -0.5, 0.0]))[0].tolist() for row in range(7)]
    np.testing.assert_allclose(together, scipy.special.expit(raw), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(of_classes.sum(axis=1), 1)


@pytest.mark.parametrize("model", [MonotoneLogisticRegression(), BlendClassifier(num_rounds=30, min_data_in_leaf=3)])
@pytest.mark.parametrize("direction", [1, -1])
def test_a_blend_and_its_line_keep_the_direction_of_a_column(model: Classifier, direction: int) -> None:
    promised = MatrixColumn(Number(name="a", description="", low=-9, high=9, monotone=direction))
    told = clone(model).fit(X, y, (promised, *COLUMNS[1:]))
    rows = np.repeat(X[:20], 30, axis=0)
    rows[:, 0] = np.tile(np.linspace(-4, 4, 30), 20)
    steps = np.diff(told.predict(rows).reshape(20, 30), axis=1) * direction
    assert steps.min() >= 0
    assert steps.max() > 0 or direction == -1  # the data rise


def test_a_monotone_logistic_regression_without_promises_is_the_ordinary_one() -> None:
    weights = np.random.default_rng(3).uniform(0, 3, len(y))
    ours = MonotoneLogisticRegression(C=0.5).fit(X, y, weights=weights)
    theirs = LogisticRegression(C=0.5).fit(X, y, weights=weights)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-3)


MANY_LEVELS = MatrixColumn(Category(name="many", description="", values=tuple(map(str, range(80)))))


@given(data=st.data(), gaps=st.floats(0, 0.5))
def test_a_line_without_one_hot_columns_is_the_one_with_them_for_a_row_alone_too(
    data: st.DataObject, gaps: float
) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    wide = np.column_stack([X, random.integers(0, 60, len(X)), np.full(len(X), 3.0)])
    wide[random.random(wide.shape) < gaps] = np.nan
    wide[:, 1] = np.nan if gaps > 0.4 else wide[:, 1]
    columns = (*COLUMNS, MANY_LEVELS, COLUMNS[1])
    line = Line.fit(wide, y, columns)
    rows = np.vstack([wide[:50], random.integers(0, 80, (50, 6)), np.full((1, 6), np.nan)])
    sums = line.sums(rows)
    np.testing.assert_allclose(sums, linear_score(wide, y, columns, rows), rtol=0, atol=1e-9)
    assert list(sums) == [line.sums(rows[[place]]) for place in range(len(rows))]
    added_up = line.base + sum(terms for _, terms in line.terms(rows))
    np.testing.assert_allclose(added_up, sums, rtol=0, atol=1e-9)


def test_a_blend_is_loaded_and_predicts_without_the_libraries_of_training(tmp_path: Path) -> None:
    gaps = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    model = BlendClassifier(num_rounds=9).fit(gaps, y, COLUMNS)
    joblib.dump((model, gaps), tmp_path / "model")
    code = f"import joblib, sys\nmodel, X = joblib.load({str(tmp_path / 'model')!r})\n"
    code += "print(model.predict(X)[:3].tolist())\nprint({'pandas', 'sklearn', 'lightgbm', 'scipy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(model.predict(gaps)[:3].tolist()), "set()"]


def test_a_target_on_a_log_scale_is_brought_back_and_bounded() -> None:
    skewed = np.expm1(2 + X[:, 0])
    skewed[skewed < 0] = 0.0
    model = LogTarget(Ridge(alpha=1e-6)).fit(X, skewed)
    far = X[:1] * 0 + 100.0
    assert model.predict(X).min() >= 0
    assert np.median(np.abs(model.predict(X) - skewed) / (1 + skewed)) < 0.2
    assert np.isfinite(model.predict(far)).all()
    assert model.predict(far).max() < 12 * (1 + skewed.max())
