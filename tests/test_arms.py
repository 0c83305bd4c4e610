"""Arms of a split: a difference is found where there is one, and seldom where there is none."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats
from sklearn import metrics

from tabserve.aliases import Vector
from tabserve.cli.commands import tabserve
from tabserve.decisions.store import DecisionStore
from tabserve.evaluation.drift import TOO_FEW
from tabserve.evaluation.intervals import deviate
from tabserve.monitoring.arms import ALIKE, DIFFERENT, Arm, Difference, compare_arms
from tabserve.monitoring.monitor import monitor
from tabserve.monitoring.page import render
from tabserve.monitoring.tally import ArmTally, Sample
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.tasks.binary import Binary
from tabserve.tasks.multiclass import Multiclass
from tests.conftest import ROOT
from tests.decisions import fill, fill_table

OTHER = "credit-a_v1-1.2"
START = 1.75e9


def arm(scores: Any, y: Vector, decided: Vector, times: Vector | None = None) -> ArmTally:
    sample = Sample()
    sample.add(scores, y, decided, np.arange(len(y), dtype=np.float64) if times is None else times)
    return ArmTally(len(y), 0, sample)


def drawn(
    generator: np.random.Generator, rows: int, event: float = 0.3, skill: float = 1.0, cut: float = 0.6
) -> ArmTally:
    """Decisions with outcomes, of a model of some skill that cuts somewhere."""
    y = (generator.random(rows) < event).astype(np.float64)
    scores = 1 / (1 + np.exp(-generator.normal(skill * (y - 0.5), 1)))
    return arm(scores, y, (scores >= cut).astype(np.float64), np.linspace(0, 1, rows))


def compared(artifact: Artifact, first: ArmTally, other: ArmTally) -> tuple[Arm, Arm]:
    one, two = compare_arms(artifact, {OTHER: other, artifact.model_id: first})
    assert (one.model_id, two.model_id, one.differences) == (artifact.model_id, OTHER, ())
    return one, two


def named(arm: Arm) -> dict[str, Difference]:
    return {one.name: one for one in arm.differences}


@pytest.fixture(scope="module")
def labels(artifact: Artifact) -> tuple[str, ...]:
    return artifact.task.outcomes


def test_figures_and_differences_are_those_of_an_independent_computation(
    artifact: Artifact, labels: tuple[str, ...]
) -> None:
    generator = np.random.default_rng(1)
    champion, challenger = drawn(generator, 900), drawn(generator, 300, cut=0.5)
    first, other = compared(artifact, champion, challenger)
    assert isinstance(artifact.task, Binary)
    for found, counted in ((first, champion), (other, challenger)):
        scores, y, decided, _ = counted.sample.arrays
        interval = stats.binomtest(int(decided.sum()), len(y)).proportion_ci(method="wilson")
        share = found.figures[f"share of {labels[1]}"]
        assert (share.value, share.low, share.high) == pytest.approx((decided.mean(), interval.low, interval.high))
        mean = found.figures["mean prediction"]
        expected = stats.t.interval(0.95, len(y) - 1, scores.mean(), stats.sem(scores))
        assert (mean.value, mean.low, mean.high) == pytest.approx((scores.mean(), *expected))
        assert found.figures["roc_auc"].value == pytest.approx(metrics.roc_auc_score(y, scores))
        cost = artifact.task.cost
        costs = np.where(decided == y, 0.0, np.where(y == 1, cost.missed, cost.false_alarm))
        one = found.figures["expected_cost"]
        assert one.value == pytest.approx(costs.mean())
        assert one.high - one.low == pytest.approx(2 * 1.96 * stats.sem(costs), rel=0.1)
    assert set(named(other)) == {f"share of {labels[1]}", "mean prediction", "roc_auc", "expected_cost"}
    difference = named(other)["mean prediction"]
    one, two = (counted.sample.arrays[0] for counted in (challenger, champion))
    z = deviate(4)
    welch = stats.ttest_ind(one, two, equal_var=False).confidence_interval(1 - 0.05 / 4)
    assert difference.value == pytest.approx(one.mean() - two.mean())
    assert (difference.low, difference.high) == pytest.approx((welch.low, welch.high), abs=0.001)
    error = np.hypot(stats.sem(one), stats.sem(two))
    assert difference.visible == pytest.approx(z * error, rel=0.01)
    assert difference.matters == pytest.approx(0.1 * np.std(two))
    shift = difference.matters / error
    assert difference.power == pytest.approx(stats.norm.sf(z - shift) + stats.norm.cdf(-z - shift), abs=0.01)


def test_a_known_difference_is_found(artifact: Artifact, labels: tuple[str, ...]) -> None:
    generator = np.random.default_rng(2)
    first, other = compared(artifact, drawn(generator, 5000), drawn(generator, 1500, skill=2.0, cut=0.4))
    assert {name: one.verdict for name, one in named(other).items()} == {
        f"share of {labels[1]}": DIFFERENT,
        "mean prediction": named(other)["mean prediction"].verdict,
        "roc_auc": DIFFERENT,
        "expected_cost": DIFFERENT,
    }
    auc = named(other)["roc_auc"]
    assert auc.low < stats.norm.cdf(2 / 2**0.5) - stats.norm.cdf(1 / 2**0.5) < auc.high
    assert auc.value == pytest.approx(other.figures["roc_auc"].value - first.figures["roc_auc"].value)


def test_a_tiny_difference_of_many_decisions_is_none(artifact: Artifact) -> None:
    generator = np.random.default_rng(3)

    def of(event: float) -> ArmTally:
        scores = generator.beta(2, 5, 400_000) + event
        return arm(scores, np.full(400_000, np.nan), (generator.random(400_000) < 0.3 + event).astype(float))

    _, other = compared(artifact, of(0.0), of(0.008))
    for one in other.differences:
        assert one.low > 0
        assert one.verdict == ALIKE


def test_few_decisions_say_what_they_could_tell(artifact: Artifact, labels: tuple[str, ...]) -> None:
    generator = np.random.default_rng(4)
    _, other = compared(artifact, drawn(generator, 540), drawn(generator, 60))
    share = named(other)[f"share of {labels[1]}"]
    assert share.verdict == TOO_FEW
    assert 0.1 < share.visible < 0.25
    assert share.power < 0.2
    assert "roc_auc" not in named(other)  # 60 outcomes are too few


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "others"), [(1500, 200), (400, 400)])
def test_arms_without_a_difference_hardly_ever_have_one(
    artifact: Artifact, rows: int, others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tabserve.monitoring.arms.SAMPLES", 200)
    monkeypatch.setattr("tabserve.monitoring.arms.DEVIATIONS", 0.0)  # whatever is more than chance counts
    monkeypatch.setattr("tabserve.monitoring.arms.MARGIN", 0.0)
    monkeypatch.setattr("tabserve.monitoring.arms.OF_COST", 0.0)
    alarms = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        _, other = compared(artifact, drawn(generator, rows), drawn(generator, others))
        assert len(other.differences) == 4
        alarms += any(one.verdict == DIFFERENT for one in other.differences)
    assert alarms <= 11  # of 100 at a twentieth: more has a chance of one in a hundred


def test_many_arms_are_no_reason_for_more_alarms(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tabserve.monitoring.arms.DEVIATIONS", 0.0)
    alarms = 0
    for seed in range(400):
        generator = np.random.default_rng(seed)
        tallies = {name: drawn(generator, rows) for name, rows in zip("abcde", (500, 90, 90, 90, 90), strict=True)}
        for tally in tallies.values():
            tally.sample.parts[0][1][:] = np.nan
        first, *others = compare_arms(artifact, tallies)
        assert first.model_id == "a"  # the one with the most decisions, since the model is no arm
        alarms += any(one.verdict == DIFFERENT for other in others for one in other.differences)
    assert 2 <= alarms <= 31  # of 400 at a twentieth, and less: the two figures go together


def test_an_arm_of_few_decisions_shows_nothing(artifact: Artifact) -> None:
    generator = np.random.default_rng(5)
    _, other = compared(artifact, drawn(generator, 500), drawn(generator, 19))
    assert (other.rows, other.figures, other.differences) == (19, {}, ())
    _, one = compared(artifact, drawn(generator, 500), drawn(generator, 1))
    assert (one.rows, one.figures, one.differences) == (1, {}, ())


def test_outcomes_of_the_accepted_only_judge_nothing(artifact: Artifact) -> None:
    champion, challenger = drawn(np.random.default_rng(6), 2000), drawn(np.random.default_rng(7), 2000)
    _, y, decided, _ = challenger.sample.arrays
    challenger.sample.parts[0][1][:] = np.where(decided == 1, np.nan, y)
    first, other = compared(artifact, champion, challenger)
    assert "roc_auc" in first.figures
    assert "roc_auc" not in other.figures
    assert other.coverage < 0.8
    assert set(named(other)) == {*other.figures} - {f"share of {artifact.task.outcomes[0]}"}


def test_outcomes_of_one_class_have_no_auc(artifact: Artifact) -> None:
    champion, challenger = drawn(np.random.default_rng(6), 500), drawn(np.random.default_rng(7), 500, event=0.0)
    _, other = compared(artifact, champion, challenger)
    assert "roc_auc" not in other.figures


def test_only_decisions_of_the_same_time_are_compared(artifact: Artifact, labels: tuple[str, ...]) -> None:
    generator = np.random.default_rng(8)
    before, during = drawn(generator, 3000, cut=0.1), drawn(generator, 1000)
    columns = zip(before.sample.arrays, during.sample.arrays, strict=True)
    champion = arm(*(np.concatenate(pair) for pair in columns))
    champion.sample.parts[0][3][:] = np.linspace(0, 4, 4000)
    challenger = drawn(generator, 1000)
    challenger.sample.parts[0][3][:] = np.linspace(3, 4, 1000)
    first, other = compared(artifact, champion, challenger)
    assert other.beside == 1000
    name = f"share of {labels[1]}"
    assert first.figures[name].value - other.figures[name].value > 0.4
    assert abs(named(other)[name].value) < 0.07


def test_a_split_of_another_time_is_too_few(artifact: Artifact) -> None:
    champion, challenger = drawn(np.random.default_rng(6), 500), drawn(np.random.default_rng(7), 500)
    challenger.sample.parts[0][3][:] += 10
    _, other = compared(artifact, champion, challenger)
    assert (other.beside, other.differences) == (0, ())
    assert other.figures


def test_several_classes_have_a_share_and_a_mean_each(artifact: Artifact) -> None:
    several = replace(artifact, task=Multiclass(outcomes=("a", "b", "c")))

    def of(seed: int, of_b: float) -> ArmTally:
        generator = np.random.default_rng(seed)
        y = generator.choice(3, 1200, p=[0.7 - of_b, of_b, 0.3]).astype(float)
        scores = generator.dirichlet(np.ones(3), 1200) + 0.5 * np.eye(3)[y.astype(int)]
        scores /= scores.sum(axis=1, keepdims=True)
        return arm(scores, y, np.argmax(scores, axis=1).astype(float))

    _, other = compared(several, of(1, 0.2), of(2, 0.5))
    shares, means = ({f"{kind} {label}" for label in "abc"} for kind in ("share of", "mean prediction of"))
    assert set(named(other)) == shares | means | {"roc_auc_ovr"}
    assert named(other)["share of b"].verdict == DIFFERENT
    assert named(other)["share of c"].verdict != DIFFERENT
    assert sum(other.figures[name].value for name in shares) == pytest.approx(1)


def test_a_number_has_a_mean_and_r2(trained: Registry) -> None:
    artifact = trained.load(trained.latest("bikes"))

    def of(seed: int, more: float, error: float) -> ArmTally:
        generator = np.random.default_rng(seed)
        y = generator.gamma(2, 50, 2000)
        values = y + more + generator.normal(0, error, 2000)
        return arm(values, y, values)

    first, other = compared(artifact, of(1, 0, 30), of(2, 40, 30))
    assert set(first.figures) == set(named(other)) == {"mean prediction", "r2"}
    assert first.figures["r2"].value == pytest.approx(1 - 30**2 / (2 * 50**2), abs=0.03)
    assert {one.verdict for one in other.differences} == {DIFFERENT}
    _, other = compared(artifact, of(1, 0, 30), of(2, 0, 30))
    assert named(other)["mean prediction"].low < 0 < named(other)["mean prediction"].high


def test_one_arm_is_nothing_to_compare(artifact: Artifact) -> None:
    assert compare_arms(artifact, {}) == ()
    assert compare_arms(artifact, {"a": drawn(np.random.default_rng(1), 100)}) == ()
    assert compare_arms(artifact, {"a": drawn(np.random.default_rng(1), 100), "b": ArmTally()}) == ()


def test_constant_predictions_are_alike(artifact: Artifact) -> None:
    same = [arm(np.full(500, 0.2), np.full(500, np.nan), np.zeros(500)) for _ in range(2)]
    _, other = compared(artifact, *same)
    assert named(other)["mean prediction"].verdict == ALIKE


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, artifact: Artifact, records: list[dict[str, Any]]) -> str:
    """A log in which a split divided half of the records, and a list was decided besides."""
    address = f"sqlite:///{tmp_path_factory.mktemp('log') / 'decisions.db'}"
    store = DecisionStore(address)

    def log(some: Sequence[dict[str, Any]], first: int, **values: Any) -> None:
        fill(store, artifact, some, [START + place for place in range(len(some))], first=first, **values)

    log(records[:300], 0)
    log(records[300:700], 1000, arm=artifact.model_id)
    log(records[700:900], 2000, arm=OTHER, model_id=OTHER)
    log(records[900:910], 3000, arm=OTHER)  # the challenger refused them
    fill_table(store, artifact, records[:50], START, number=9000)
    store.database.close()
    return address


def test_the_log_tells_of_all_arms(address: str, artifact: Artifact) -> None:
    store = DecisionStore(address)
    found = monitor(store, artifact)
    store.database.close()
    assert (found.whole.rows, found.others) == (760, 200)
    first, other = found.arms
    assert (first.model_id, first.rows, first.elsewhere) == (artifact.model_id, 400, 0)
    assert (other.model_id, other.rows, other.elsewhere) == (OTHER, 210, 10)
    assert other.beside == 200
    assert "expected_cost" not in other.figures
    assert {one.verdict for one in other.differences} <= {TOO_FEW, ALIKE}


def test_terminal_json_and_page_show_them(address: str, trained: Registry, tmp_path: Path) -> None:
    environment = {"MODEL_REGISTRY": str(trained.location), "DECISION_LOG": address}
    file = tmp_path / "page.html"
    plain = CliRunner().invoke(tabserve, ["monitor", "credit", "--json", "--html", str(file)], env=environment)
    arms = json.loads(plain.output)["arms"]
    assert [one["rows"] for one in arms] == [400, 210]
    assert set(arms[1]["figures"]["mean prediction"]) == {"value", "low", "high"}
    assert arms[1]["differences"][0]["verdict"] == TOO_FEW
    text = CliRunner().invoke(tabserve, ["monitor", "credit"], env=environment).output
    said = f"With 210 decisions of {OTHER} and 200 of {arms[0]['model_id']} at the same time a difference of share of"
    for shown in (text, file.read_text()):
        assert f"{OTHER} less {arms[0]['model_id']}" in shown
        assert said in shown
        assert "Answered by another model" in shown


def test_the_example_in_the_documentation_is_such_an_arm(artifact: Artifact) -> None:
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    (block,) = (one for one in re.findall(r"```json\n(.*?)```", text, re.DOTALL) if '"elsewhere"' in one)
    shown = json.loads(block)
    few = np.full(210, np.nan)
    labelled = replace(artifact, task=replace(artifact.task, outcomes=("good", "bad")))
    _, other = compared(
        labelled,
        arm(
            np.linspace(0, 1, 1890), np.full(1890, np.nan), np.repeat([1.0, 0.0], [832, 1058]), np.linspace(0, 1, 1890)
        ),
        arm(np.linspace(0, 1, 210), few, np.repeat([1.0, 0.0], [96, 114]), np.linspace(0, 1, 210)),
    )
    expected = json.loads(json.dumps(asdict(other)))
    assert shown.keys() == expected.keys()
    assert shown["unjudged"] == expected["unjudged"]
    assert shown["figures"].keys() == expected["figures"].keys()
    for label in ("good", "bad"):
        assert shown["figures"][f"share of {label}"] == pytest.approx(
            expected["figures"][f"share of {label}"], abs=6e-4
        )
    share, mean = expected["differences"]
    assert [one.keys() for one in shown["differences"]] == [share.keys(), mean.keys()]
    assert {**shown["differences"][0], "name": "", "verdict": ""} == pytest.approx(
        {**share, "name": "", "verdict": ""}, abs=6e-4
    )
    assert shown["differences"][0]["verdict"] == share["verdict"]


def test_without_a_split_nothing_is_said_of_arms(trained: Registry, artifact: Artifact, tmp_path: Path) -> None:
    store = DecisionStore(f"sqlite:///{tmp_path / 'decisions.db'}")
    plain = monitor(store, artifact).to_json()
    store.database.close()
    assert plain["arms"] == []
    assert "arms" not in render([plain])
