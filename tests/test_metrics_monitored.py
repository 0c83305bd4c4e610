"""The gauges of drift: the newest results of `tabserve monitor`, which vanish with their columns."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from tabserve.api.metrics import folder
from tabserve.api.metrics.exposition import exposition
from tabserve.api.metrics.figures import Figures
from tabserve.api.metrics.monitored import show_drift
from tabserve.decisions.store import DecisionStore
from tabserve.monitoring.kept import keep


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DecisionStore]:
    store = DecisionStore(f"sqlite:///{tmp_path / 'decisions.db'}")
    yield store
    store.database.close()


@pytest.fixture
def sheets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "sheets"
    path.mkdir()
    monkeypatch.setenv(folder.VARIABLE, str(path))
    return path


def result_of(time: float, **verdicts: str) -> dict[str, Any]:
    """A result of two months, the first of which does not matter."""
    columns = [{"name": name, "drift": {"psi": 0.25, "verdict": verdict}} for name, verdict in verdicts.items()]
    windows = [{"columns": some, "scores": []} for some in ([], columns, [])]
    return {"use_case": "credit", "time": time, "windows": windows}


def shown(sheets: Path) -> dict[tuple[str, ...], float]:
    families = parsed(exposition(sheets)[0].decode())
    return {
        (one.name.removeprefix("tabserve_"), *one.labels.values()): one.value
        for family in families
        for one in family.samples
        if "drift" in one.name or "monitored" in one.name
    }


def test_the_last_month_is_shown(store: DecisionStore, sheets: Path) -> None:
    keep(store, result_of(17.0, age="drift", amount="watch"))
    show_drift(store, Figures.of_process("mover"))
    found = shown(sheets)
    assert {value for key, value in found.items() if key[0] == "drift" and "age" in key} == {1.0}
    assert {value for key, value in found.items() if key[0] == "drift" and "amount" in key} == {0.0}
    assert {value for key, value in found.items() if key[0] == "drift_psi"} == {0.25}
    assert found["monitored_timestamp_seconds", "credit"] == 17.0


def test_what_is_gone_vanishes(store: DecisionStore, sheets: Path) -> None:
    figures = Figures.of_process("mover")
    keep(store, result_of(17.0, age="drift"))
    show_drift(store, figures)
    keep(store, result_of(18.0, amount="drift"))
    assert any("age" in key for key in shown(sheets))
    show_drift(store, figures)
    assert not any("age" in key for key in shown(sheets))
    assert shown(sheets)["monitored_timestamp_seconds", "credit"] == 18.0


def test_without_a_result_there_is_nothing_to_show(store: DecisionStore, sheets: Path) -> None:
    show_drift(store, Figures.of_process("mover"))
    assert shown(sheets) == {}
