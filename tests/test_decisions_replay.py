"""What a service has decided and logged is replayed to the last bit, and outcomes find it."""

from pathlib import Path
from typing import Any

import pytest

from tabserve.api.app import create_app
from tabserve.decisions.erasing import erase
from tabserve.decisions.mover import Mover
from tabserve.decisions.reading import logged, one
from tabserve.decisions.replay import replay
from tabserve.decisions.store import DecisionStore
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tests.decisions import address_of_log, decision_store, decisions_postgres  # noqa: F401 - fixtures


@pytest.fixture
def settings(trained: Registry, log_address: str, tmp_path: Path) -> Settings:
    return Settings(
        model_registry=trained.location,
        auth_required=False,
        decision_log=log_address,
        decision_spool_folder=tmp_path / "spool",
    )


def test_answered_decisions_are_found_replayed_and_joined_with_outcomes(
    settings: Settings, store: DecisionStore, trained: Registry, records: list[dict[str, Any]]
) -> None:
    app = create_app(settings)
    client = app.test_client()
    single = [client.post("/output/credit", json=record).json["decision_ids"][0] for record in records[:5]]
    columns = {"columns": {name: [record[name] for record in records[5:20]] for name in records[0]}}
    rows = [
        *client.post("/output/credit", json=records[20:40]).json["decision_ids"],
        *client.post("/output/credit", json=columns).json["decision_ids"],
    ]
    app.extensions["decision_log"].close()
    mover = Mover(settings.decision_spool_folder, store, trained)
    while mover.move():
        pass
    while mover.work_out_reasons():
        pass
    mover.close()
    for id_ in (*single, rows[0], rows[19], rows[-1]):
        kept = one(store, id_)
        assert kept
        assert replay(trained, kept.entry) == []
        assert (kept.entry.reasons is not None) == (id_ in single)
    reports = [{"id": id_, "outcome": 1 + place % 2} for place, id_ in enumerate([*single, *rows])]
    assert client.post("/outcomes", json=reports).json["recorded"] == 40
    batches = [*logged(store, "credit", with_outcomes=True)]
    outcomes = {id_: outcome for batch in batches for id_, outcome in zip(batch.ids, batch.outcomes, strict=True)}
    assert outcomes == {report["id"]: report["outcome"] for report in reports}
    assert erase(store, [single[0], rows[3]]) == (2, 0)
    erased = one(store, single[0])
    assert erased
    assert replay(trained, erased.entry) == ["The log holds no record of it."]
    app.extensions["decision_store"]().database.close()
