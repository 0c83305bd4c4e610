"""For any declaration and any table, training succeeds or is refused in words before anything is tuned."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import tabserve.training.evidence
from tabserve.columns.boolean import Boolean
from tabserve.columns.carried import Id
from tabserve.columns.dates import Date, Datetime
from tabserve.columns.features import Category, CyclicInteger, Feature, Integer, Number, OrderedCategory
from tabserve.columns.texts import Text
from tabserve.declaration.declaration import Algorithm
from tabserve.declaration.use_case import UseCase
from tabserve.errors import TabserveError
from tabserve.evaluation.bootstrap import bootstrap_difference, bootstrap_intervals
from tabserve.evaluation.fairness import GroupBy
from tabserve.evaluation.gates import ChampionMargin, LargestGap, SmallestGroupRatio, SmallestMetric
from tabserve.models.lightgbm import LgbClassifier, LgbCountRegressor, LgbMulticlassClassifier, LgbRegressor
from tabserve.models.linear import LogisticRegression, MultinomialRegression
from tabserve.models.scikit import SVR, DecisionTreeRegressor, Lasso, LinearRegression
from tabserve.predictor import Predictor
from tabserve.registry.registry import Registry
from tabserve.search_space import Real, Whole
from tabserve.tables.limits import Deadline
from tabserve.tables.writer import write_csv
from tabserve.tasks.binary import Binary, CostMatrix
from tabserve.tasks.multiclass import Multiclass
from tabserve.tasks.regression import Regression
from tabserve.train_pipeline import run_training
from tabserve.training.plan import Plan
from tabserve.transformers import MinMax, OneHot, RemapTarget, Standardize, Target
from tabserve.tuning import Trial

QUICK = (2, 13, 18)  # a training of each task; most other seeds are refused
SEEDS = [*QUICK, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(24) if seed not in QUICK)]
SEARCH_SPACE = {"num_leaves": Whole(2, 4), "learning_rate": Real(0.1, 0.1)}
LABELS = ("a", 'a, "b"', "probability", "1", "=1", "null", "$x_$ <b>", "__proto__")
TEXTS = ("a", "b", 'c "quoted", with $ and \\d', "a name that is much longer than there is room for in a chart")
NAMES = ("size", "self", "co\\lour", 'the "name"', "x y")
Draw = Callable[[Random], Any]
KINDS: tuple[tuple[type[Feature], dict[str, Any], Draw], ...] = (
    (Number, {"low": -1e6, "high": 1e6}, lambda random: random.choice([random.gauss(0, 1), 0.0, 1.5, 1e-300, -1e6])),
    (Integer, {"low": 0, "high": 9}, lambda random: random.randint(0, 9)),
    (CyclicInteger, {"low": 0, "high": 4}, lambda random: random.randint(0, 4)),
    (Category, {"values": TEXTS}, lambda random: random.choice(TEXTS)),
    (OrderedCategory, {"values": TEXTS}, lambda random: random.choice(TEXTS)),
    (Boolean, {}, lambda random: random.random() < 0.5),
    (Date, {}, lambda random: f"20{random.randint(10, 30)}-02-{random.randint(1, 28):02d}"),
    (Datetime, {}, lambda random: f"2024-02-{random.randint(1, 28):02d}T{random.randint(0, 23):02d}:00:00"),
    (Text, {"buckets": 4}, lambda random: f"{random.choice(TEXTS)} {random.randint(0, 9)}"),
    (Category, {"other": "other"}, lambda random: f"value {random.randint(0, 99)}"),  # learnt from the training part
)
ROLES: dict[str, tuple[tuple[Feature, Draw], ...]] = {
    "weight": ((Number(name="weight", description="-", low=0, high=9), lambda random: random.choice([0.5, 1, 2])),),
    "group": (
        (Id(name="customer", description="-"), lambda random: random.randint(0, 40)),
        (Category(name="customer", description="-", other="other"), lambda random: f"customer {random.randint(0, 9)}"),
    ),
    "time": (
        (
            Date(name="when", description="-"),
            lambda random: f"20{random.randint(10, 30)}-02-{random.randint(1, 28):02d}",
        ),
        (Integer(name="when", description="-", low=1990, high=2030), lambda random: random.randint(2000, 2020)),
    ),
}
FILLED = ("all", "all", "most", "constant", "two rows", "none", "absent")  # how many of a column's cells hold a value


@dataclass(frozen=True)
class Case:
    """A declaration and a table for it."""

    use_case: UseCase
    rows: Sequence[dict[str, Any]]
    columns: Sequence[str]
    exclude_protected: bool


def some_column(random: Random, place: int, n_rows: int) -> tuple[Feature, list[Any] | None]:
    """A feature and its column; None when the file lacks the column."""
    kind, bounds, value = random.choice(KINDS)
    filled = random.choice(FILLED) if place else "all"  # the first feature keeps the rows distinct
    feature = kind(
        name=f"{random.choice(NAMES)}{place}",
        description="-",
        missing=filled not in ("all", "constant") or random.random() < 0.2,
        protected=random.random() < 0.3,
        **bounds,
    )
    cells = [value(random) for _ in range(n_rows)]
    if filled == "absent":
        return feature, None
    if filled == "constant":
        return feature, cells[:1] * n_rows
    held = {"all": n_rows, "most": n_rows - 5, "two rows": 2, "none": 0}[filled]
    return feature, cells[:held] + [None] * (n_rows - held)


def some_case(random: Random) -> Case:
    n_rows = random.randint(30, 250)
    drawn = [some_column(random, place, n_rows) for place in range(random.randint(1, 5))]
    features = tuple(feature for feature, _ in drawn)
    cells = {feature.name: column for feature, column in drawn if column}
    rows = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    if random.random() < 0.3:  # mostly duplicates
        rows = [dict(random.choice(rows[:30])) for _ in rows]
    example = {**dict.fromkeys(feature.name for feature in features), **rows[0]}
    extras = {role: random.choice(ROLES[role]) for role in ROLES if random.random() < 0.3}
    rows = [{**row, **{extra.name: draw(random) for extra, draw in extras.values()}} for row in rows]
    some_target = random.choice([some_classes, some_labels, some_numbers])
    target, outcomes, declared = some_target(random, features, n_rows)
    rows = [{**row, "truth": outcome} for row, outcome in zip(rows, outcomes, strict=True)]
    use_case = UseCase(
        name="any",
        title="Any",
        description="-",
        source="any.csv",
        features=features,
        target=target,
        baseline=declared["algorithms"][-1],
        example=example if random.random() < 0.5 else {},
        extras=tuple(extra for extra, _ in extras.values()),
        **{role: extra.name for role, (extra, _) in extras.items()},
        splits=random.choice([2, 3]),
        repeats=1,
        chronological=random.random() < 0.3,
        **declared,
    )
    return Case(use_case, rows, [*rows[0]], random.random() < 0.3)


def some_transformers(random: Random) -> tuple[Any, ...]:
    one_hot = (OneHot(), Standardize())
    return random.choice([(), (MinMax(),), (Standardize(),), one_hot, one_hot])


def some_classes(
    random: Random, features: tuple[Feature, ...], n_rows: int
) -> tuple[Target, list[Any], dict[str, Any]]:
    rate = random.choice([0.5, 0.5, 0.4, 0.1, 0.0])
    outcome = Category(name="truth", description="-", values=("no", "yes"))
    groups = tuple(GroupBy(feature=feature.name) for feature in features if random.random() < 0.5)
    algorithms = (
        Algorithm(name="trees", model=LgbClassifier(), search_space=SEARCH_SPACE),
        Algorithm(name="line", model=LogisticRegression(), transformers=some_transformers(random)),
    )
    gates = (SmallestMetric("roc_auc", random.choice([0.0, 0.6])), ChampionMargin("expected_cost", 9.0))
    declared = {
        "task": Binary(CostMatrix(missed=2, false_alarm=1)),
        "algorithms": algorithms,
        "groups": groups,
        "gates": (*gates, *(SmallestGroupRatio(group.feature, 0.1) for group in groups)),
    }
    target = RemapTarget(outcome, classes={"no": 0, "yes": 1})
    return target, ["yes" if random.random() < rate else "no" for _ in range(n_rows)], declared


def some_labels(random: Random, features: tuple[Feature, ...], n_rows: int) -> tuple[Target, list[Any], dict[str, Any]]:
    labels = tuple(random.sample(LABELS, random.randint(3, 4)))
    weights = [random.choice([1.0, 1.0, 0.2]) for _ in labels]
    algorithms = (
        Algorithm(name="trees", model=LgbMulticlassClassifier(), search_space=SEARCH_SPACE),
        Algorithm(name="line", model=MultinomialRegression(), transformers=some_transformers(random)),
    )
    gates = (SmallestMetric("roc_auc_ovr", random.choice([0.0, 0.6])), ChampionMargin("log_loss", 9.0))
    declared = {"task": Multiclass(outcomes=labels), "algorithms": algorithms, "gates": gates}
    codes = random.choices(range(len(labels)), weights, k=n_rows)
    if random.random() < 0.3:
        numbers = Integer(name="truth", description="-", low=1, high=len(labels))
        classes = {code + 1: code for code in range(len(labels))}
        return RemapTarget(numbers, classes=classes), [code + 1 for code in codes], declared
    values = Category(name="truth", description="-", values=labels)
    return Target(values), [labels[code] for code in codes], declared


def some_numbers(
    random: Random, features: tuple[Feature, ...], n_rows: int
) -> tuple[Target, list[Any], dict[str, Any]]:
    low = random.choice([-100, 0])
    values = random.choice([range(low, 100), range(low, 100), [7], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]])
    trees = LgbRegressor if low or random.random() < 0.5 else LgbCountRegressor
    other = random.choice([LinearRegression(floor=0), Lasso(), SVR(), DecisionTreeRegressor()])
    algorithms = (
        Algorithm(name="trees", model=trees(), search_space=SEARCH_SPACE),
        Algorithm(name="line", model=other, transformers=some_transformers(random)),
    )
    gates = (LargestGap("r2", random.choice([0.0, 1e9])), ChampionMargin("r2", 1e9))
    declared = {"task": Regression(), "algorithms": algorithms, "gates": gates}
    target = Target(Integer(name="truth", description="-", low=low, high=100))
    return target, [random.choice(values) for _ in range(n_rows)], declared


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bootstrap intervals from few samples, because their width does not matter here."""
    for function in (bootstrap_intervals, bootstrap_difference):
        monkeypatch.setattr(tabserve.training.evidence, function.__name__, partial(function, samples=100))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_training_saves_models_or_is_refused_in_words_before_it_tunes(few_samples: None, seed: int) -> None:
    case = some_case(Random(seed))
    tuned: list[str] = []

    def progress(algorithm: Algorithm, trials: Sequence[Trial], total: int) -> None:
        tuned.append(algorithm.name)

    plan = Plan(trials=2, jobs=1, exclude_protected=case.exclude_protected, progress=progress)
    with TemporaryDirectory() as folder:
        registry, data = Registry(Path(folder) / "models"), Path(folder) / "any.csv"
        data.write_text(write_csv(case.columns, case.rows))
        for _ in range(2):  # the second training has a champion
            before = registry.list()
            try:
                result = run_training(case.use_case, registry, data, plan)
            except TabserveError:
                assert (tuned, registry.list()) == ([], [])
                return
            saved = [outcome.model_id for outcome in result.saved]
            assert [model_id for model_id in registry.list() if model_id not in before] == saved
            for model_id in saved:
                artifact = registry.load(model_id)
                predictor = Predictor(registry, "any")
                hold_out = predictor.read_hold_out(artifact, predictor.hold_out(artifact), 10**4, Deadline(60))
                (score,) = predictor.predict_table(artifact, hold_out).score().values()
                assert score == pytest.approx(artifact.manifest.headline_of("hold_out"))


# tables of which others were seen to fail


def trained_on(folder: Path, features: Sequence[Feature], target: Target, rows: Sequence[dict[str, Any]]) -> Any:
    """The newest model of a small training, to its report and back, and its prediction of an example."""
    use_case = UseCase(name="small", description="-", features=tuple(features), target=target, splits=2, repeats=1)
    line = next(algorithm for algorithm in use_case.algorithms if algorithm.name == use_case.baseline.name)
    use_case = replace(use_case, algorithms=(line,), baseline=line, gates=())
    registry, data = Registry(folder / "models"), folder / "small.csv"
    data.write_text(write_csv([*rows[0]], rows))
    run_training(use_case, registry, data, Plan(trials=1, jobs=1))
    artifact = registry.load(registry.latest("small"))
    assert registry.read(artifact.model_id, "report.html", artifact.manifest).endswith(b"</html>")
    (result,) = artifact.task.answer(
        artifact.model.predict(artifact.pipeline.transform([artifact.manifest.declaration["example"]])),
        artifact.decision,
    )["result"]
    assert result is not None
    return artifact


SIZE = Number(name="size", description="-", low=-100, high=100)
SHARE = Number(name="share", description="-", low=0, high=1, missing=True)
REGION = Category(name="region", description="-", values=("east", "west"), missing=True)
LEFT = RemapTarget(Category(name="left", description="-", values=("no", "yes")), classes={"no": 0, "yes": 1})
RENT = Target(Number(name="rent", description="-", low=-1000, high=1000))


def small_rows(number: int, **more: Callable[[int], Any]) -> list[dict[str, Any]]:
    random = Random(1)
    sizes = [round(random.gauss(0, 1), 6) for _ in range(number)]
    return [
        {"size": size, **{name: of(row) for name, of in more.items()}, "rent": size + random.gauss(0, 1)}
        for row, size in enumerate(sizes)
    ]


def as_classes(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**{k: v for k, v in row.items() if k != "rent"}, "left": "yes" if row["rent"] > 0 else "no"} for row in rows
    ]


@pytest.mark.parametrize("columns", [(REGION,), (SHARE,), (REGION, SHARE)], ids=len)
def test_optional_columns_that_the_file_lacks_are_named_and_trained_without(few_samples, columns, tmp_path) -> None:
    artifact = trained_on(tmp_path, (SIZE, *columns), LEFT, as_classes(small_rows(200)))
    names = ", ".join(f"'{column.name}'" for column in columns)
    assert artifact.manifest.warnings[0].found == f"No row has a value of {names}: nothing is learnt from it."


@pytest.mark.parametrize("target", [LEFT, RENT], ids=["classes", "numbers"])
def test_a_column_that_is_filled_in_two_rows_is_trained_with_and_named(few_samples, target, tmp_path) -> None:
    rows = small_rows(200, share=lambda row: 0.5 + row / 1000 if row in (40, 120) else None)
    artifact = trained_on(tmp_path, (SIZE, SHARE), target, rows if target is RENT else as_classes(rows))
    assert "Columns have values in very few of 200 rows: 'share' in 2." in [
        warning.found for warning in artifact.manifest.warnings
    ]


def test_a_category_of_many_values_is_learnt_from_the_training_part(few_samples, tmp_path) -> None:
    carrier = Category(name="carrier", description="-", other="other")
    rows = as_classes(small_rows(600, carrier=lambda row: f"N{row // 2}"))
    artifact = trained_on(tmp_path, (SIZE, carrier), LEFT, rows)
    learnt = artifact.features[1].values
    assert 150 < len(learnt) < 290  # of 300: some stand in the hold-out alone


@pytest.mark.slow
def test_many_columns_and_a_category_of_5_000_values_survive(few_samples, tmp_path) -> None:
    wide = [replace(SIZE, name=f"column{place}") for place in range(499)]
    more = {feature.name: lambda row, place=place: (row * place) % 97 for place, feature in enumerate(wide)}
    trained_on(tmp_path, (SIZE, *wide), RENT, small_rows(120, **more))
    carrier = Category(name="carrier", description="-", other="other")
    (tmp_path / "deep").mkdir()
    trained_on(tmp_path / "deep", (SIZE, carrier), RENT, small_rows(8000, carrier=lambda row: f"N{row % 5000}"))


@pytest.mark.parametrize("number", [30, 5])
def test_too_few_rows_are_refused_in_a_sentence(number: int, tmp_path) -> None:
    with pytest.raises(TabserveError, match="There are too few rows to train on: the "):
        trained_on(tmp_path, (SIZE,), RENT, small_rows(number))


def test_a_class_of_five_rows_is_refused_in_a_sentence(tmp_path) -> None:
    rows = [{**row, "left": "yes" if place < 5 else "no"} for place, row in enumerate(as_classes(small_rows(300)))]
    with pytest.raises(TabserveError, match="of 'yes' and needs at least"):
        trained_on(tmp_path, (SIZE,), LEFT, rows)
