"""Monitoring: a shift is found in its month and column, nothing else is, and quality is judged by what happened."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tabserve.decisions.entry import REFUSED
from tabserve.decisions.store import DecisionStore
from tabserve.evaluation.distribution import Distribution
from tabserve.evaluation.drift import DRIFT, NONE, compare
from tabserve.monitoring.kept import keep, newest
from tabserve.monitoring.monitor import QUALITY, WHOLE, Monitored, _season, monitor
from tabserve.monitoring.quality import joined
from tabserve.monitoring.tally import MOST_JUDGED, Sample
from tabserve.registry.artifact import Artifact
from tests.decisions import entry_of, fill, id_of

N_ROWS = 600  # of a month


def at(month: int) -> float:
    return datetime(2025, month, 10, tzinfo=UTC).timestamp()


def outcomes_of(artifact: Artifact, records: list[dict[str, Any]], generator: np.random.Generator) -> list[int]:
    """Outcomes by the model's own probabilities, so that these are calibrated."""
    probabilities = artifact.model.predict(artifact.pipeline.transform(records))
    labels = [*artifact.target.classes] if hasattr(artifact.target, "classes") else [0, 1]
    return [labels[int(one)] for one in generator.random(len(records)) < probabilities]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DecisionStore]:
    store = DecisionStore(f"sqlite:///{tmp_path_factory.mktemp('log') / 'decisions.db'}")
    yield store
    store.database.close()


@pytest.fixture(scope="module")
def result(store: DecisionStore, artifact: Artifact, records: list[dict[str, Any]]) -> Monitored:
    """Of three months, in the third of which the loans are longer and no outcome is known yet."""
    generator = np.random.default_rng(5)
    for month in (1, 2, 3):
        drawn = [dict(records[row]) for row in generator.integers(0, len(records), N_ROWS)]
        if month == 3:
            for record in drawn:
                record["months_loan_duration"] = min(72, record["months_loan_duration"] * 2)
        happened = outcomes_of(artifact, drawn, generator) if month < 3 else None
        fill(store, artifact, drawn, [at(month)] * N_ROWS, happened, first=month * 10_000)
    fill(store, artifact, records[:3], [at(1)] * 3, first=90_000, model_id="credit-a_v1-1.2")
    refused = {"kind": REFUSED, "faults": {"age:range": 2, "amount:type": 1}}
    store.add([entry_of(artifact, id_of(99_999), at(2), **refused)])
    return monitor(store, artifact)


def test_a_shift_is_found_in_its_month_and_column_and_nowhere_else(result: Monitored) -> None:
    assert [window.name for window in result.windows] == ["2025-01", "2025-02", "2025-03", WHOLE]
    assert result.others == 3
    drifted = {(one.window, one.subject) for one in result.findings if one.kind == "drift"}
    assert ("2025-03", "months_loan_duration") in drifted
    assert {window for window, _ in drifted} <= {"2025-03", WHOLE}


def test_few_rows_of_the_same_are_no_drift(result: Monitored) -> None:
    (age,) = (one for one in result.windows[0].columns if one.name == "age")
    assert sum(age.live) == pytest.approx(1)
    assert len(age.live) == len(age.training) == len(age.bins)
    assert age.drift.verdict == NONE or age.drift.detectable > 0.2


def test_what_was_refused_is_counted_by_field_and_fault(result: Monitored) -> None:
    assert result.windows[1].refused == result.whole.refused == {"age:range": 2, "amount:type": 1}


def test_quality_is_judged_where_outcomes_are_there(result: Monitored, artifact: Artifact) -> None:
    first, _, third, whole = result.windows
    assert first.coverage == 1
    assert third.coverage == 0
    assert third.quality is None
    assert whole.quality is None  # a third of the outcomes are open
    assert first.quality
    low, high = first.quality.intervals["roc_auc"]
    assert low < first.quality.metrics["roc_auc"] < high
    assert first.quality.calibration
    assert first.quality.calibration.holds(0.05)
    assert first.quality.gates
    assert "foreign_worker" in first.quality.groups


def test_what_is_not_known_yet_is_estimated(result: Monitored) -> None:
    first, _, third, _ = result.windows
    assert first.quality
    assert first.estimated["roc_auc"] == pytest.approx(first.quality.metrics["roc_auc"], abs=0.06)
    assert first.estimated["expected_cost"] == pytest.approx(first.quality.metrics["expected_cost"], abs=0.12)
    assert 0.5 < third.estimated["roc_auc"] < 1


def test_a_model_that_became_worthless_is_found(
    tmp_path: Path, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    store = DecisionStore(f"sqlite:///{tmp_path / 'decisions.db'}")
    generator = np.random.default_rng(6)
    happened = outcomes_of(artifact, records, generator)
    generator.shuffle(happened)
    fill(store, artifact, records, [at(1)] * len(records), happened)
    found = monitor(store, artifact)
    assert "roc_auc" in {one.subject for one in found.findings if one.kind == QUALITY}
    assert found.whole.estimated == {}  # its probabilities are not calibrated any more
    store.database.close()


def test_a_result_is_kept_until_the_next(store: DecisionStore, result: Monitored) -> None:
    keep(store, result.to_json())
    keep(store, result.to_json())
    kept = newest(store, "credit")
    assert kept == json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert newest(store, "bikes") is None


def test_an_empty_log_is_no_error(tmp_path: Path, artifact: Artifact) -> None:
    store = DecisionStore(f"sqlite:///{tmp_path / 'decisions.db'}")
    found = monitor(store, artifact)
    assert found.whole.rows == 0
    assert found.findings == ()
    store.database.close()


def test_a_sample_of_months_is_drawn_evenly_from_each() -> None:
    months = []
    for place, rows in enumerate([200_000, 3_000, 90_000]):
        months.append(Sample())
        for _ in range(rows // 1000):
            drawn = int(months[-1].drawn(1000).sum())
            months[-1].add(*(np.full(drawn, float(place)) for _ in range(3)), np.empty((drawn, 0)))
        assert months[-1].rows <= MOST_JUDGED
        assert months[-1].rows / months[-1].share == pytest.approx(rows, rel=0.02)
    scores, *_ = joined(months).arrays
    assert np.bincount(scores.astype(int)) / len(scores) == pytest.approx(np.array([200, 3, 90]) / 293, abs=0.01)
    assert MOST_JUDGED / 2 < len(scores) < 1.02 * MOST_JUDGED


def test_only_the_time_that_is_meant_counts(store: DecisionStore, result: Monitored, artifact: Artifact) -> None:
    found = monitor(store, artifact, since=at(2), until=at(3))
    assert [window.name for window in found.windows] == ["2025-02", WHOLE]


def test_a_window_is_compared_with_as_much_of_each_month_of_training() -> None:
    generator = np.random.default_rng(2)
    winter, summer = np.array([0.7, 0.2, 0.1, 0]), np.array([0.1, 0.2, 0.7, 0])
    of_months = {"01": generator.multinomial(800, winter), "07": generator.multinomial(3000, summer)}
    counts = sum(of_months.values())
    bins = Distribution(
        tuple(counts[:-1].tolist()), 0, (1.0, 2.0), months={name: tuple(of.tolist()) for name, of in of_months.items()}
    )
    live = generator.multinomial(900, winter) + generator.multinomial(40, summer)
    training, months = _season(bins, {"2025-01": 500, "2025-07": 40, "2026-01": 400, "2026-02": 0})
    assert months == ("01", "07")
    assert compare(training, live, 0.0001).verdict == NONE
    assert compare(counts, live, 0.0001).verdict == DRIFT  # beside all months together
    assert training.sum() == pytest.approx(800 + 800 * 40 / 900, abs=3)
    assert _season(bins, {"2025-01": 500, "2025-02": 40})[1] == ()
    assert _season(bins, {})[1] == ()
