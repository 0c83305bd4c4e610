"""POST /outcomes and GET /decisions/<id>: what clients report, and what those may see who may."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from tabserve.api.app import create_app
from tabserve.api.users import Users
from tabserve.decisions.accesses import noted
from tabserve.decisions.reading import logged
from tabserve.decisions.store import DecisionStore
from tabserve.explain import explain
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tests.conftest import ALICE, write_users
from tests.decisions import (  # noqa: F401 - three are fixtures
    address_of_log,
    decision_store,
    decisions_postgres,
    entry_of,
    fill,
    fill_table,
    id_of,
)

AUDITOR = ("audrey", "correct horse battery")


@pytest.fixture
def app(trained: Registry, log_address: str, tmp_path: Path) -> Iterator[APIFlask]:
    write_users(tmp_path / "users.txt", ALICE, AUDITOR)
    Users(tmp_path / "users.txt").allow(AUDITOR[0], ["audit"])
    settings = Settings(
        model_registry=trained.location,
        auth_users_file=tmp_path / "users.txt",
        decision_log=log_address,
        decision_spool_folder=tmp_path / "spool",
    )
    app = create_app(settings)
    yield app
    app.extensions["decision_store"]().database.close()


@pytest.fixture
def client(app: APIFlask) -> FlaskClient:
    return app.test_client()


def post(client: FlaskClient, body: Any, query: str = "", status: int = 200) -> Any:
    """The answer to outcomes from alice."""
    answer = client.post(f"/outcomes{query}", json=body, auth=ALICE)
    assert answer.status_code == status, answer.text
    return answer.json


def send(client: FlaskClient, content: bytes, name: str = "outcomes.csv", query: str = "", status: int = 200) -> Any:
    """The answer to a file from alice."""
    form = {"fileupload": (io.BytesIO(content), name)}
    answer = client.post(f"/outcomes{query}", data=form, auth=ALICE)
    assert answer.status_code == status, answer.text
    return answer.json


def counts(**some: Any) -> dict[str, Any]:
    names = ("recorded", "repeated", "contradicting", "corrected", "unknown", "invalid")
    return {**dict.fromkeys(names, 0), **some}


def test_one_outcome_a_list_and_a_file_are_recorded(
    client: FlaskClient, store: DecisionStore, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    ids = fill(store, artifact, records[:6], [10.0 * number for number in range(6)])
    no, yes = 1, 2  # as the data have it
    assert post(client, {"id": ids[0], "outcome": no}) == counts(recorded=1)
    listed = [{"id": id_, "outcome": outcome} for id_, outcome in zip(ids[:3], (yes, no, yes), strict=True)]
    assert post(client, listed) == counts(recorded=2, contradicting=1)
    assert post(client, listed, "?correct=true&use_case=credit") == counts(corrected=1, repeated=2)
    lines = "".join(f"{id_},{no}\r\n" for id_ in (*ids[2:], id_of(99)))
    content = f"id,outcome\r\n{lines}{ids[5]},\r\n{ids[5]},7\r\n".encode()
    answer = send(client, content)
    assert answer.pop("errors").keys() == {"7", "8"}
    assert answer == counts(recorded=3, contradicting=1, unknown=1, invalid=2)
    (batch,) = logged(store, "credit", with_outcomes=True)
    assert batch.outcomes == [yes, no, yes, no, no, no]


def test_what_is_no_report_is_refused_whole(client: FlaskClient, record: dict[str, Any]) -> None:
    report = {"id": id_of(1), "outcome": 1}
    for body in (
        {"id": "x"},
        {"outcome": 1},
        {**report, "more": 1},
        [report, {"id": "x"}],
        {"person": 1, "outcome": 1},
    ):
        assert "errors" in post(client, body, status=422)
    for id_ in ({}, None, True, [1], 7):
        assert "`id` must be a text." in str(post(client, [report, {"id": id_, "outcome": 1}], status=422))
    for body in ([], "x", [1], None):
        post(client, body, status=400)
    post(client, report, "?correct=perhaps", 422)
    post(client, report, "?use_case=nonsense", 404)
    assert "outcome" in str(send(client, b"id\r\nx\r\n", status=422))
    assert "person" in str(send(client, b"id,outcome,person\r\nx,1,2\r\n", status=422))


def test_a_decision_is_shown_to_those_who_may_see_it_and_that_is_noted(
    client: FlaskClient, store: DecisionStore, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    (id_,) = fill(store, artifact, records[:1], [1e9], ["no"], client="alice", threshold=0.25)
    table = fill_table(store, artifact, records[:3], 1e9, number=7)
    assert client.get(f"/decisions/{id_}").status_code == 401
    refused = client.get(f"/decisions/{id_}", auth=ALICE)
    assert (refused.status_code, "scope `audit`" in refused.json["detail"]) == (403, True)
    shown = client.get(f"/decisions/{id_}", auth=AUDITOR).json
    assert (shown["record"], shown["client"], shown["threshold"]) == (records[0], "alice", 0.25)
    assert (shown["time"], shown["model_id"]) == ("2001-09-09T01:46:40+00:00", artifact.model_id)
    assert shown["outcome"]["outcome"] == "no"
    row = client.get(f"/decisions/{table}.2", auth=AUDITOR).json
    assert row["record"] == records[2]
    (explanation,) = explain(artifact, [records[2]])
    assert row["reasons"] == [reason.to_json() for reason in explanation.reasons]
    assert row["reasons_note"].startswith("Worked out when asked")
    odd = {**records[0], "remark": "\ud800", "large": 2**70}
    store.add([entry_of(artifact, id_of(5), 1e9, record=odd, score=0.5, decision=0)])
    answer = client.get(f"/decisions/{id_of(5)}", auth=AUDITOR)
    assert (answer.json["record"], answer.headers["Cache-Control"]) == (odd, "no-store")
    for unknown in (id_of(99), f"{table}.3", "x", "..%2f"):
        assert client.get(f"/decisions/{unknown}", auth=AUDITOR).status_code == 404
    accesses = [access[1:] for access in noted(store)]
    assert accesses[:2] == [("audrey", "show", {"id": id_}, 1), ("audrey", "show", {"id": f"{table}.2"}, 1)]
    assert all(rows == 0 for *_, rows in accesses[3:])


def test_without_a_log_it_is_said_what_to_do(trained: Registry, tmp_path: Path) -> None:
    write_users(tmp_path / "users.txt", AUDITOR)
    Users(tmp_path / "users.txt").allow(AUDITOR[0], ["audit", "predict"])
    client = create_app(Settings(model_registry=trained.location, auth_users_file=tmp_path / "users.txt")).test_client()
    for answer in (
        client.post("/outcomes", json={"id": "x", "outcome": 1}, auth=AUDITOR),
        client.get(f"/decisions/{id_of(1)}", auth=AUDITOR),
    ):
        assert answer.status_code == 501
        assert "DECISION_LOG=on" in answer.json["detail"]
