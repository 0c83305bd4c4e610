"""Challenge: what a candidate would have decided about logged records."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from sklearn.metrics import roc_auc_score

from tabserve.cli.commands import tabserve
from tabserve.decisions.entry import Entry
from tabserve.decisions.ids import new_id
from tabserve.decisions.store import DecisionStore
from tabserve.declaration.use_case import UseCase
from tabserve.errors import BrokenArtifactError, NothingLoggedError
from tabserve.monitoring.challenge import challenge
from tabserve.monitoring.challenge_page import page, sentences
from tabserve.monitoring.outcomes import Given, Outcomes
from tabserve.predict import make_prediction
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.tables.reader import read_training_table
from tabserve.tasks.binary import Threshold
from tests.artifacts import copy_of
from tests.decisions import address_of_log, decision_store, decisions_postgres, entry_of  # noqa: F401 - fixtures
from tests.wines import DATA, registry_of_wines, wine_is_declared, wine_use_case  # noqa: F401 - fixtures

NOW = time.time()


def log(store: DecisionStore, artifact: Artifact, records: Sequence[Mapping[str, Any]], when: float = NOW) -> list[str]:
    """Log what a model decides about records, as a service does; return the ids."""
    answer = make_prediction(artifact, records).columns
    scores = answer.get("probability", answer["result"])
    entries = [
        Entry(
            id=new_id(),
            time=when,
            use_case=artifact.manifest.use_case,
            model_id=artifact.model_id,
            digest=artifact.digest,
            route="/output/<model_id>",
            record=record,
            score=score,
            decision=decision,
        )
        for record, score, decision in zip(records, scores, answer["result"], strict=True)
    ]
    store.add(entries)
    return [entry.id for entry in entries]


def cautious(artifact: Artifact) -> Artifact:
    """A model with the same predictions that takes more people for a 1."""
    assert isinstance(artifact.decision, Threshold)
    return replace(artifact, decision=replace(artifact.decision, value=artifact.decision.value / 2))


def test_the_model_that_decided_would_decide_the_same(
    store: DecisionStore, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    log(store, artifact, records)
    found = challenge(store, artifact, artifact)
    assert (found.compared, found.refused, found.outcomes) == (len(records), 0, 0)
    assert found.decided_by == {artifact.model_id: len(records)}
    assert found.flips is not None
    assert (found.flips.rows, found.flips.kinds) == (len(records), {})
    assert (found.reasons, found.columns) == ({}, {})
    assert found.explained > 0
    assert all(was == will_be for was, will_be in found.ratios.values())


def test_decisions_that_flip_are_told_by_group_and_by_column(
    store: DecisionStore, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    log(store, artifact, records)
    candidate = cautious(artifact)
    found = challenge(store, candidate, artifact)
    was, will_be = (make_prediction(one, records).columns["result"] for one in (artifact, candidate))
    flipped = sum(before != after for before, after in zip(was, will_be, strict=True))
    assert flipped > 0
    assert found.flips is not None
    (kind,) = found.flips.kinds
    no, yes = artifact.task.outcomes
    assert (kind, found.flips.kinds[kind]) == (f"{no} → {yes}", flipped)
    assert set(found.groups) == {"age", "personal_status", "foreign_worker"}
    ages = found.groups["age"]
    assert sum(group.rows for group in ages.values()) == len(records)
    assert sum(sum(group.kinds.values()) for group in ages.values()) == flipped
    assert len(found.columns) == 3
    assert found.ratios["age"][0] != found.ratios["age"][1]


def test_with_outcomes_metric_and_cost_have_paired_intervals(
    store: DecisionStore, artifact: Artifact, credit: Any, records: list[dict[str, Any]]
) -> None:
    outcomes = read_training_table(credit.path, credit.features, credit.target.feature).target
    ids = log(store, artifact, records)
    given = [Given(id_, one) for id_, one in zip(ids, outcomes, strict=True)]
    assert Outcomes(store, lambda model_id: credit.target.feature).record(given).recorded == len(ids)
    found = challenge(store, cautious(artifact), artifact)
    assert found.outcomes == len(records)
    assert found.metrics.keys() == {"roc_auc", "expected_cost"}
    assert found.metrics["roc_auc"].better == (0, 0, 0)
    cost = found.metrics["expected_cost"]
    value, low, high = cost.better
    assert value == pytest.approx(cost.was - cost.would_be)
    assert low <= value <= high
    assert low < high


def test_records_that_the_candidate_refuses_are_counted(
    store: DecisionStore, artifact: Artifact, record: dict[str, Any]
) -> None:
    log(store, artifact, [record] * 30)
    bad = Entry(
        id=new_id(), time=NOW, use_case="credit", model_id="other", digest="", route="", score=0.5, decision=1,
        record={**record, "age": "very old"},
    )  # fmt: skip
    new = replace(bad, id=new_id(), record={**record, "colour": "red"})
    store.add([bad, new])
    found = challenge(store, artifact, None)
    assert (found.compared, found.refused, found.left_out) == (31, 1, ("colour",))
    assert "clients must not send them" in " ".join(sentences(found))


def test_only_records_of_that_time_count(store: DecisionStore, artifact: Artifact, record: dict[str, Any]) -> None:
    with pytest.raises(NothingLoggedError, match="holds no record of credit"):
        challenge(store, artifact, None)
    log(store, artifact, [record] * 3, NOW - 1000)
    log(store, artifact, [record] * 2, NOW)
    assert challenge(store, artifact, None, since=NOW - 10).compared == 2
    assert challenge(store, artifact, None, until=NOW - 10).compared == 3


def test_of_a_number_the_distance_is_told(store: DecisionStore, trained: Registry) -> None:
    artifact = trained.load(trained.latest("bikes", "LGBMRegressor"))
    other = trained.load(trained.latest("bikes", "LinearRegression"))
    example = artifact.declared.example
    log(store, artifact, [{**example, "hour": hour} for hour in range(24)])
    assert challenge(store, artifact, None).moved == (0, 0)
    found = challenge(store, other, artifact)
    assert found.flips is None
    assert found.moved is not None
    assert 0 < found.moved[0] <= found.moved[1]


# several classes


@pytest.fixture
def two_wines(wines: Registry) -> tuple[Artifact, Artifact]:
    """The boosted trees, and the regression that challenges them."""
    return wines.load(wines.latest("wine", "lightgbm")), wines.load(wines.latest("wine", "logistic"))


@pytest.fixture
def labelled(wine: UseCase) -> tuple[list[dict[str, Any]], list[str]]:
    """All analyses, and which wine each one is of."""
    table = pd.read_csv(DATA)
    labels = table.pop("cultivar").tolist()
    rows = [{name: value for name, value in row.items() if value == value} for row in table.to_dict("records")]
    return rows, labels


def test_of_several_classes_flips_and_metrics_are_those_of_the_predictions(
    store: DecisionStore,
    two_wines: tuple[Artifact, Artifact],
    labelled: tuple[list[dict[str, Any]], list[str]],
    wine: UseCase,
) -> None:
    champion, candidate = two_wines
    analyses, wines = labelled
    ids = log(store, champion, analyses)
    given = [Given(id_, one) for id_, one in zip(ids, wines, strict=True)]
    assert Outcomes(store, lambda model_id: wine.target.feature).record(given).recorded == len(ids)
    found = challenge(store, candidate, champion)
    was, will_be = (make_prediction(one, analyses) for one in two_wines)
    pairs = [*zip(was.columns["result"], will_be.columns["result"], strict=True)]
    assert found.flips is not None
    assert found.flips.kinds == Counter(f"{a} → {b}" for a, b in pairs if a != b)
    assert found.flips.kinds
    assert (found.compared, found.outcomes, found.moved) == (len(analyses), len(analyses), None)
    assert (found.groups, found.ratios) == ({}, {})
    assert found.explained == len(analyses)
    assert found.metrics.keys() == {"roc_auc_ovr"}
    codes = [wine.task.outcomes.index(one) for one in wines]
    for prediction, value in (
        (was, found.metrics["roc_auc_ovr"].was),
        (will_be, found.metrics["roc_auc_ovr"].would_be),
    ):
        assert value == pytest.approx(roc_auc_score(codes, prediction.predictions, multi_class="ovr"))
    html = page(found)
    assert all(kind in html for kind in found.flips.kinds)


def test_of_several_classes_the_model_that_decided_would_decide_the_same(
    store: DecisionStore, two_wines: tuple[Artifact, Artifact], labelled: tuple[list[dict[str, Any]], list[str]]
) -> None:
    champion, _ = two_wines
    log(store, champion, labelled[0])
    found = challenge(store, champion, champion)
    assert found.flips is not None
    assert (found.flips.kinds, found.reasons, found.columns) == ({}, {}, {})


@pytest.mark.parametrize(
    ("candidate_of", "score", "decision"),
    [
        ("wine", 0.3, 0),
        ("wine", 213.5, 213.5),
        ("wine", {"Barolo": 0.7, "Merlot": 0.3}, "Barolo"),
        ("wine", {"Barolo": 0.5, "Grignolino": 0.2, "Barbera": 0.2, "Merlot": 0.1}, "Barolo"),
        ("credit", {"Barolo": 0.7, "Grignolino": 0.2, "Barbera": 0.1}, "Barolo"),
        ("credit", 213.5, 213.5),
        ("bikes", 0.3, 0),
        ("bikes", {"Barolo": 0.7, "Grignolino": 0.2, "Barbera": 0.1}, "Barolo"),
    ],
)
def test_what_predicts_something_else_than_the_log_holds_is_refused(
    store: DecisionStore, trained: Registry, wines: Registry, candidate_of: str, score: Any, decision: Any
) -> None:
    registry = wines if candidate_of == "wine" else trained
    candidate = registry.load(registry.latest(candidate_of))
    store.add([entry_of(candidate, new_id(), NOW, record=candidate.declared.example, score=score, decision=decision)])
    with pytest.raises(BrokenArtifactError, match="it predicts something else than the log holds"):
        challenge(store, candidate, None)


def test_the_page_is_self_contained(store: DecisionStore, artifact: Artifact, records: list[dict[str, Any]]) -> None:
    log(store, artifact, records)
    found = challenge(store, cautious(artifact), artifact)
    html = page(found)
    assert all(sentence.partition("<")[0] in html for sentence in sentences(found)[:2])
    assert "<svg" in html
    assert "Decisions that change, by age" in html
    assert not any(word in html for word in ("<script", 'http-equiv="refresh', 'src="http', 'href="http'))


@pytest.fixture
def run(registry: Registry, log_address: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("MODEL_REGISTRY", str(registry.location))
    monkeypatch.setenv("DECISION_LOG", log_address)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(tabserve, ["models", "challenge", *arguments])

    return run


def test_the_command_prints_text_json_and_a_page(
    run: Any, registry: Registry, store: DecisionStore, records: list[dict[str, Any]], tmp_path: Path
) -> None:
    champion, candidate = registry.latest("credit"), copy_of(registry)
    registry.histories.promote(champion)
    log(store, registry.load(champion), records[:100])
    told = run(candidate, "--since", "1d", "--html", str(tmp_path / "page.html"))
    assert told.exit_code == 0, told.output
    assert "100 logged records from " in told.stdout
    assert "0 decisions (0.0 %) would have been others." in told.stdout
    assert "Challenger of credit" in (tmp_path / "page.html").read_text()
    found = json.loads(run(candidate, "--json").stdout)
    assert (found["model_id"], found["compared"], found["explained"]) == (candidate, 100, 100)
    for since in ("yesterday", "90"):
        assert run(candidate, "--since", since).exit_code == 2
    assert run(candidate, "--since", "2020-01-01", "--until", "2020-02-01").exit_code == 1


def test_the_command_needs_a_log(run: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DECISION_LOG")
    refused = run(registry.latest("credit"))
    assert (refused.exit_code, "set DECISION_LOG" in refused.stderr) == (1, True)
