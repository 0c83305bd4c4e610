"""The routes: what goes in and comes out over HTTP, every row of the table of errors included."""

import csv
import io
import json
import math
import os
import re
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from openpyxl import Workbook
from sklearn.metrics import roc_auc_score

import tabserve
from tabserve.api.app import create_app
from tabserve.api.controller import readiness_answer
from tabserve.declaration.discovery import all_use_cases
from tabserve.declaration.use_case import UseCase
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tabserve.tables.reader import read_training_table
from tests.artifacts import change_byte, copy_of

MARKER = "Xylophone4711"
LIST_ROUTES = ["/predict", "/output/credit", "/outputs/credit"]
RECORD_ROUTES = ["/predict", "/output/credit", "/output/latest", "/output/champion"]


@pytest.fixture(scope="module")
def service(trained: Registry) -> FlaskClient:
    """A client of models that no test changes."""
    return create_app(Settings(model_registry=trained.location, auth_required=False)).test_client()


@pytest.fixture(scope="module")
def narrow(trained: Registry) -> FlaskClient:
    """A client of a service that takes three rows and 3,000 bytes."""
    settings = Settings(model_registry=trained.location, auth_required=False, max_rows=3, max_content_length=3000)
    return create_app(settings).test_client()


@pytest.fixture(scope="module")
def labelled(credit: UseCase) -> list[dict[str, Any]]:
    """The real data with their outcome."""
    table = read_training_table(credit.path, credit.features, credit.target.feature)
    return [{**record, "default": target} for record, target in zip(table.records, table.target or (), strict=True)]


def assert_problem(answer: Any, status: int) -> Any:
    """Assert that the answer is a problem with that status; return its `errors`."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["type"] == "about:blank"
    assert answer.json["title"]
    assert answer.json["detail"]
    return answer.json.get("errors")


def csv_of(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def xlsx_of(rows: list[list[Any]]) -> bytes:
    workbook = Workbook()
    assert workbook.active
    for row in rows:
        workbook.active.append(row)
    content = io.BytesIO()
    workbook.save(content)
    return content.getvalue()


def ordinary_xlsx(rows: list[dict[str, Any]]) -> bytes:
    return xlsx_of([list(rows[0]), *(list(row.values()) for row in rows)])


def bank_export(rows: list[dict[str, Any]]) -> bytes:
    return xlsx_of([[line] for line in csv_of(rows).decode().splitlines()])


FILES: dict[str, tuple[str, Callable[[list[dict[str, Any]]], bytes]]] = {
    "CSV": ("new.csv", csv_of),
    "XLSX": ("New.XLSX", ordinary_xlsx),
    "the bank's export": ("export.xlsx", bank_export),
}


def upload(client: FlaskClient, content: bytes, name: str = "new.csv", query: str = "", accept: str = "*/*") -> Any:
    head = f'--B\r\nContent-Disposition: form-data; name="fileupload"; filename="{name}"\r\n\r\n'
    return client.post(
        f"/outputs_upload/credit{query}",
        data=head.encode() + content + b"\r\n--B--\r\n",
        content_type="multipart/form-data; boundary=B",
        headers={"Accept": accept},
        buffered=True,  # read to its end and closed, as by a server
    )


# what is asked of the service itself


@pytest.mark.parametrize("slash", ["", "/"])
def test_health_says_ok(service: FlaskClient, slash: str) -> None:
    answer = service.get(f"/health{slash}")
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    assert answer.json == {"status": "ok"}


@pytest.mark.parametrize(
    "path", ["/health", "/ready", "/ready/credit", "/version", "/models", "/models/credit", "/openapi.json"]
)
def test_head_is_answered_as_get_without_a_body(service: FlaskClient, path: str) -> None:
    answer = service.head(path)
    assert answer.status_code == 200
    assert answer.data == b""
    assert answer.content_type == service.get(path).content_type


@pytest.mark.parametrize(
    "path", ["/health", "/ready", "/ready/credit", "/version", "/models", "/models/credit", "/openapi.json"]
)
def test_a_trailing_slash_does_not_matter_to_what_is_read(service: FlaskClient, path: str) -> None:
    assert service.get(f"{path}/").status_code == 200
    assert service.get(f"{path}/").data == service.get(path).data


@pytest.mark.parametrize("path", RECORD_ROUTES)
def test_a_trailing_slash_does_not_matter_to_a_prediction(
    service: FlaskClient, path: str, record: dict[str, Any]
) -> None:
    assert service.post(f"{path}/", json=record).status_code == 200
    assert service.post(f"{path}/", json=record).data == service.post(path, json=record).data


def test_a_trailing_slash_does_not_matter_to_an_upload(service: FlaskClient, record: dict[str, Any]) -> None:
    data = {"fileupload": (io.BytesIO(csv_of([record])), "new.csv")}
    assert service.post("/outputs_upload/credit/", data=data).status_code == 200


def test_the_version_is_the_package_s(service: FlaskClient) -> None:
    assert service.get("/version").json == {"version": tabserve.__version__, "api_version": "1"}


def test_ready_names_the_model_of_each_use_case(service: FlaskClient, trained: Registry) -> None:
    models = {use_case: trained.latest(use_case) for use_case in all_use_cases()}
    well = {"status": "ready", "models": models, "unavailable": {}, "refused": {}, "registry": "ok"}
    answer = service.get("/ready")
    assert (answer.status_code, answer.json) == (200, well)
    for use_case, model_id in models.items():
        answer = service.get(f"/ready/{use_case}")
        assert (answer.status_code, answer.json) == (200, {**well, "models": {use_case: model_id}})


@pytest.mark.parametrize("name", ["nothing", "latest", "Credit", "credit-lightgbm_v1.0.0-1.000000", "%00"])
def test_only_use_cases_can_be_ready(service: FlaskClient, name: str) -> None:
    answer = service.get(f"/ready/{name}")
    assert_problem(answer, 404)
    assert "choose one of: credit, bikes" in answer.json["detail"]


def test_a_use_case_that_cannot_be_answered_takes_no_other_away(
    registry: Registry, client: FlaskClient, record: dict[str, Any]
) -> None:
    for model_id in registry.list("bikes"):
        change_byte(registry.location / model_id / "model.pkl")
    ready = client.get("/ready")
    assert (ready.status_code, ready.json["status"]) == (200, "ready")
    assert list(ready.json["models"]) == ["credit"]
    assert list(ready.json["unavailable"]) == ["bikes"]
    assert "its file model.pkl is not the one that training wrote" in ready.json["unavailable"]["bikes"]
    assert client.get("/ready/credit").status_code == 200
    errors = assert_problem(client.get("/ready/bikes"), 503)
    assert errors == {"bikes": [ready.json["unavailable"]["bikes"]]}
    assert client.post("/output/credit", json=record).status_code == 200


def test_a_use_case_without_a_model_is_said_and_takes_no_other_away(registry: Registry, client: FlaskClient) -> None:
    registry.delete(registry.latest("credit"))
    ready = client.get("/ready")
    assert ready.status_code == 200
    assert (list(ready.json["models"]), ready.json["unavailable"]) == (["bikes"], {})
    assert_problem(client.get("/ready/credit"), 404)
    named = create_app(Settings(model_registry=registry.location, auth_required=False, default_use_case="credit"))
    ready = named.test_client().get("/ready")
    assert ready.json["unavailable"] == {"credit": "There is no credit model yet; train one."}
    assert_problem(named.test_client().get("/ready/credit"), 503)


def serving(registry: Registry, *use_cases: str) -> FlaskClient:
    return create_app(Settings(model_registry=registry.location, auth_required=False, serve=use_cases)).test_client()


def test_what_is_not_served_is_unknown_everywhere(trained: Registry, record: dict[str, Any]) -> None:
    client, bikes = serving(trained, "credit"), trained.latest("bikes")
    for name in ("bikes", bikes):
        for answer in (
            *(client.get(path) for path in (f"/models/{name}", f"/models/{name}/report", f"/ready/{name}")),
            *(client.post(f"/{route}/{name}", json=[record]) for route in ("output", "outputs", "explain")),
        ):
            assert_problem(answer, 404)
    assert client.get("/models").json["models"] == trained.list("credit")
    errors = assert_problem(client.get("/models?use_case=bikes"), 422)
    assert errors == {"use_case": ["Must be one of: credit."]}
    assert client.get("/ready").json["models"] == {"credit": trained.latest("credit")}
    assert client.post("/output/credit", json=record).status_code == 200


def test_what_is_not_served_is_as_if_the_registry_did_not_hold_it(registry: Registry) -> None:
    paths = ("/", "/openapi.json", "/ready", "/models", "/ready/bikes", "/models/bikes", "/models?use_case=bikes")
    shown = {path: serving(registry, "credit").get(path).text for path in paths}
    for model_id in registry.list("bikes"):
        registry.delete(model_id)
    without = create_app(Settings(model_registry=registry.location, auth_required=False)).test_client()
    for path in paths:
        assert shown[path] == without.get(path).text, path


def test_what_is_served_has_the_order_in_which_it_is_named_and_the_default_comes_first(trained: Registry) -> None:
    settings = Settings(model_registry=trained.location, auth_required=False, serve=("bikes", "credit"))
    for default, order in ((None, ["credit", "bikes"]), ("bikes", ["bikes", "credit"])):
        client = create_app(replace(settings, default_use_case=default)).test_client()
        assert list(client.get("/ready").json["models"]) == order
    assert list(serving(trained, "bikes").get("/ready").json["models"]) == ["bikes"]


def test_a_deployment_that_lacks_a_model_is_not_ready_and_answers_the_others(
    registry: Registry, record: dict[str, Any]
) -> None:
    client = serving(registry, "credit", "churn")
    answer = client.get("/ready")
    errors = assert_problem(answer, 503)
    assert answer.json["detail"] == "Not ready: the registry holds no model of churn."
    assert errors == {"churn": ["There is no churn model yet; train one."]}
    assert_problem(client.get("/ready/churn"), 503)
    assert client.get("/ready/credit").status_code == 200
    assert client.post("/output/credit", json=record).status_code == 200
    assert_problem(client.post("/output/churn", json=record), 503)


def test_a_damaged_model_that_is_to_be_served_leaves_the_service_ready(
    registry: Registry, record: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    for model_id in registry.list("bikes"):
        change_byte(registry.location / model_id / "model.pkl")
    client = serving(registry, "credit", "bikes")
    for _ in range(3):
        ready = client.get("/ready")
        assert (ready.status_code, list(ready.json["models"])) == (200, ["credit"])
        assert_problem(client.get("/ready/bikes"), 503)
        assert client.post("/output/credit", json=record).status_code == 200
    said = [line for line in caplog.messages if registry.latest("bikes") in line and "is refused" in line]
    assert said == [ready.json["unavailable"]["bikes"]]


@pytest.mark.parametrize("harm", ["none", "damaged", "missing", "empty"])
def test_what_is_known_is_answered_as_it_is_when_the_registry_is_asked(
    registry: Registry, tmp_path: Path, harm: str
) -> None:
    if harm == "damaged":
        change_byte(registry.location / registry.latest("bikes") / "model.pkl")
    location = tmp_path / "none" if harm == "empty" else registry.location
    serve = ("credit", "bikes", "churn") if harm == "missing" else ()
    app = create_app(Settings(model_registry=location, auth_required=False, serve=serve))
    predictor = app.extensions["predictor"]
    predictor.resolver.refresh()
    for use_cases in ([], *([use_case] for use_case in predictor.use_cases())):
        asked = app.test_client().get("/".join(["/ready", *use_cases]))
        known = readiness_answer(predictor.known_readiness(use_cases))
        assert (known.status_code, known.content_type, known.data) == (
            asked.status_code,
            asked.content_type,
            asked.data,
        )


def damaged_manifest(registry: Registry, model_id: str) -> None:
    (registry.location / model_id / "manifest.json").write_bytes(b"[" * 100_000)


def damaged_model(registry: Registry, model_id: str) -> None:
    (registry.location / model_id / "model.pkl").write_bytes(b"")


def pipe_for_a_model(registry: Registry, model_id: str) -> None:
    (registry.location / model_id / "model.pkl").unlink()
    os.mkfifo(registry.location / model_id / "model.pkl")


def folder_that_cannot_be_read(registry: Registry, model_id: str) -> None:
    shutil.rmtree(registry.location / model_id)
    (registry.location / model_id).symlink_to(registry.location / model_id)  # a loop: root may read the others


def file_for_a_folder(registry: Registry, model_id: str) -> None:
    shutil.rmtree(registry.location / model_id)
    (registry.location / model_id).write_bytes(b"")


def damaged_champion(registry: Registry, model_id: str) -> None:
    (registry.location / "churn.history").write_bytes(b"\xff" * 5000)


def folder_for_a_champion(registry: Registry, model_id: str) -> None:
    (registry.location / "churn.history").unlink()
    (registry.location / "churn.history").mkdir()


def champion_that_is_gone(registry: Registry, model_id: str) -> None:
    shutil.rmtree(registry.location / model_id)


@pytest.mark.parametrize("loaded_before", [True, False])
@pytest.mark.parametrize(
    "damage",
    [
        damaged_manifest,
        damaged_model,
        pipe_for_a_model,
        folder_that_cannot_be_read,
        file_for_a_folder,
        damaged_champion,
        folder_for_a_champion,
        champion_that_is_gone,
    ],
)
def test_one_damaged_model_takes_no_other_with_it(
    registry: Registry,
    record: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Registry, str], None],
    loaded_before: bool,
) -> None:
    monkeypatch.setattr("tabserve.resolver.RECHECK_AFTER", 0)
    churn = copy_of(registry, "churn-lightgbm_v1.0.0-1900000000.000000", use_case="churn")
    registry.histories.promote(churn, reason="a test")
    client = create_app(Settings(model_registry=registry.location, auth_required=False)).test_client()
    if loaded_before:
        assert list(client.get("/ready").json["models"]) == ["credit", "bikes", "churn"]
    damage(registry, churn)
    assert client.post("/output/credit", json=record).status_code == 200
    ready = client.get("/ready")
    answering = ["credit", "bikes", "churn"] if loaded_before else ["credit", "bikes"]
    assert (ready.status_code, list(ready.json["models"])) == (200, answering)
    assert list(ready.json["unavailable"]) == ([] if loaded_before else ["churn"])
    # what was loaded before goes on answering
    assert client.post("/output/churn", json=record).status_code == (200 if loaded_before else 503)
    for path in ("/", "/openapi.json", "/models", "/ready/bikes", "/health"):
        assert client.get(path).status_code == 200, path


def test_health_depends_on_nothing(trained: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = tmp_path / "users.txt"
    users.write_text("a line that is broken")
    (tmp_path / "file").write_text("not a registry")
    for location in (trained.location, tmp_path / "none", tmp_path / "file"):
        app = create_app(Settings(model_registry=location, auth_users_file=users))
        monkeypatch.setattr(app.extensions["predictor"].registry, "use_cases", lambda: pytest.fail("it was asked"))
        answer = app.test_client().get("/health", headers={"Authorization": "Basic bm9ib2R5Om5vdGhpbmc="})
        assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def test_a_champion_of_another_use_case_answers_nothing(
    registry: Registry, client: FlaskClient, record: dict[str, Any]
) -> None:
    (registry.location / "credit.champion").write_text(registry.latest("bikes"))
    refused = client.post("/output/credit", json=record)
    assert_problem(refused, 503)
    assert "another use case; promote a model again" in refused.json["detail"]
    assert client.get("/ready").json["unavailable"] == {"credit": refused.json["detail"]}
    assert client.get("/").status_code == 200


def test_models_are_listed(service: FlaskClient, artifact: Artifact) -> None:
    listed = service.get("/models").json["models"]
    assert artifact.model_id in listed
    assert {name.partition("-")[0] for name in listed} == set(all_use_cases())
    assert service.get("/models?use_case=credit").json == {"models": [artifact.model_id]}


def test_models_are_listed_newest_first_by_time_and_not_as_texts(registry: Registry, client: FlaskClient) -> None:
    (model_id,) = registry.list("credit")
    stem = model_id.rpartition("-")[0].replace("_v1.0.0", "_v{}")
    older, newest = stem.format("0.10.0") + "-999.000000", stem.format("0.9.0") + "-10000000000.000000"
    for name in (older, newest):
        (registry.location / name).mkdir()
        (registry.location / name / "manifest.json").write_text("{}")
    assert client.get("/models?use_case=credit").json["models"] == [newest, model_id, older]
    everything = client.get("/models").json["models"]
    assert (everything[0], everything[-1]) == (newest, older)


def test_an_unknown_use_case_is_refused_with_those_there_are(service: FlaskClient) -> None:
    errors = assert_problem(service.get(f"/models?use_case={MARKER}"), 422)
    assert "credit" in errors["use_case"][0]
    assert MARKER not in json.dumps(errors)


@pytest.mark.parametrize("name", ["credit", "latest", "champion"])
def test_a_model_is_described_by_the_public_part_of_its_manifest(
    service: FlaskClient, artifact: Artifact, name: str
) -> None:
    answer = service.get(f"/models/{name}").json
    assert answer == service.get(f"/models/{artifact.model_id}").json
    described = {**artifact.manifest.to_json(), **artifact.declared.signature()}
    for part in ("model_id", "metrics", "parameters", "features", "target", "version", "libraries", "created"):
        assert answer[part] == json.loads(json.dumps(described[part]))
    assert not answer.keys() & {"files", "hmac"}


# its report


@pytest.mark.parametrize("name", ["credit", "latest", "champion", "bikes"])
def test_the_report_is_the_artifacts_own_page(service: FlaskClient, trained: Registry, name: str) -> None:
    model_id = trained.latest("bikes" if name == "bikes" else "credit")
    answer = service.get(f"/models/{name}/report")
    assert answer.status_code == 200
    assert answer.content_type == "text/html; charset=utf-8"
    assert answer.data == (trained.location / model_id / "report.html").read_bytes()
    assert answer.data == service.get(f"/models/{model_id}/report/").data


def test_the_report_may_load_run_and_frame_nothing(service: FlaskClient) -> None:
    headers = service.get("/models/credit/report").headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert policy["img-src"] == "data:"
    assert "script-src" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_there_is_no_report_of_an_unknown_model(service: FlaskClient) -> None:
    for name in (MARKER, "credit-lightgbm_v1.0.0-1795287600.123456"):
        assert_problem(service.get(f"/models/{name}/report"), 404)


def test_a_report_that_was_changed_is_not_shown(registry: Registry, client: FlaskClient) -> None:
    assert client.get("/models/credit/report").status_code == 200
    path = registry.location / registry.latest("credit") / "report.html"
    path.write_bytes(path.read_bytes().replace(b"Verdict", b"VERDICT"))
    answer = client.get("/models/credit/report")
    assert_problem(answer, 503)
    assert "report.html is not the one that training wrote" in answer.text
    assert str(registry.location) not in answer.text


def test_a_model_without_a_report_is_served_and_has_none(
    registry: Registry, client: FlaskClient, record: dict[str, Any]
) -> None:
    source = registry.latest("credit")
    manifest = registry.manifest(source)
    files = {name: registry.read(source, name, manifest) for name in manifest.files if name != "report.html"}
    model_id = registry.save(files, replace(manifest, model_id="credit-lightgbm_v1.0.0-9999999999.000000"))
    assert client.post(f"/output/{model_id}", json=record).status_code == 200
    assert_problem(client.get(f"/models/{model_id}/report"), 503)


# one record


@pytest.mark.parametrize("path", RECORD_ROUTES)
def test_a_record_is_answered_with_decision_and_probability(
    service: FlaskClient, artifact: Artifact, record: dict[str, Any], path: str
) -> None:
    answer = service.post(path, json=record)
    score = artifact.model.predict(artifact.pipeline.transform([record]))[0]
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    assert answer.json == {
        "model": artifact.model_id,
        "version": tabserve.__version__,
        "result": [int(score >= artifact.manifest.threshold)],
        "probability": [score],
        "errors": None,
    }


def test_a_model_is_asked_for_by_its_id(service: FlaskClient, artifact: Artifact, record: dict[str, Any]) -> None:
    answer = service.post(f"/output/{artifact.model_id}", json=record)
    assert answer.json == service.post("/predict", json=record).json


def test_a_whole_number_may_be_written_with_a_decimal_point(service: FlaskClient, record: dict[str, Any]) -> None:
    answer = service.post("/predict", data=json.dumps({**record, "age": 35.0}))
    assert answer.json == service.post("/predict", json={**record, "age": 35}).json


def test_the_content_type_of_json_does_not_matter(service: FlaskClient, record: dict[str, Any]) -> None:
    for content_type in ("application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded", ""):
        assert service.post("/predict", data=json.dumps(record), content_type=content_type).status_code == 200


INTEGER, AMOUNT, HOUSING = "Not a valid integer.", "Must be between 1 and 1000000.", "for free, own, rent"
NULL = "Field may not be null."
FAULTS = [
    *[("age", value, INTEGER) for value in ("x", "35", 35.5, True, [35], {"a": 35})],
    *[("amount", value, AMOUNT) for value in (0, -1, 1_000_001, 2**70, 1e308)],
    *[("housing", value, HOUSING) for value in ("castle", "OWN", "own ", "", 1, False, ["own"], {"own": "own"})],
    *[(field, None, NULL) for field in ("age", "housing")],
]


@pytest.mark.parametrize("path", ["/predict", "/output/credit"])
@pytest.mark.parametrize(("field", "value", "problem"), FAULTS)
def test_an_invalid_value_is_refused_with_its_field_and_what_is_allowed(
    service: FlaskClient, record: dict[str, Any], path: str, field: str, value: Any, problem: str
) -> None:
    errors = assert_problem(service.post(path, json={**record, field: value}), 422)
    assert list(errors) == [field]
    assert problem in errors[field][0]


def test_missing_and_unknown_fields_are_named_all_at_once(service: FlaskClient, record: dict[str, Any]) -> None:
    changed = {name: value for name, value in record.items() if name not in ("age", "job")} | {"colour": 1}
    errors = assert_problem(service.post("/predict", json=changed), 422)
    assert set(errors) == {"age", "job", "colour"}


def test_an_empty_object_misses_every_field(service: FlaskClient, record: dict[str, Any]) -> None:
    assert assert_problem(service.post("/predict", json={}), 422).keys() == record.keys()


def test_the_target_is_an_unknown_field_of_a_record_to_predict(service: FlaskClient, record: dict[str, Any]) -> None:
    assert list(assert_problem(service.post("/predict", json={**record, "default": 1}), 422)) == ["default"]


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("field", ["age", "housing"])
def test_nan_and_infinity_are_refused_with_their_field(
    service: FlaskClient, record: dict[str, Any], literal: str, field: str
) -> None:
    body = json.dumps({**record, field: float(literal.lower())})
    assert literal in body
    assert list(assert_problem(service.post("/predict", data=body), 422)) == [field]
    for path in LIST_ROUTES:
        errors = assert_problem(service.post(path, data=f"[{body}]"), 422)
        assert list(errors["rows"]["0"]) == [field]


@pytest.mark.parametrize("path", LIST_ROUTES)
@pytest.mark.parametrize(
    "body",
    [
        *(b"nonsense", b"{", b"[1]", b"[[]]", b"null", b"1", b"true", b'"text"', b"[]", b"[null]", b"[{}, 1]", b"NaN"),
        *(b"\xff\xfe", b"\x00", b"[" * 100_000, b'{"a":' * 5000, b"{} {}", b"[NaN", b'{"a": NaN,}', b"\xef\xbb\xbf"),
        *(b"[" * 100_000 + b"NaN", b"1" * 10_000, b"[Infinity, " + b"1" * 10_000 + b"]", b" ", "{}".encode("utf-16")),
    ],
    ids=lambda body: str(body[:12]),
)
def test_what_is_no_json_or_of_another_shape_is_a_bad_request(service: FlaskClient, path: str, body: bytes) -> None:
    assert assert_problem(service.post(path, data=body), 400) is None


@pytest.mark.parametrize("path", ["/predict", "/output/credit"])
def test_no_body_is_a_bad_request_where_one_is_needed(service: FlaskClient, path: str) -> None:
    assert_problem(service.post(path), 400)


def test_a_single_record_is_a_bad_request_where_a_list_is_needed(service: FlaskClient, record: dict[str, Any]) -> None:
    assert_problem(service.post("/outputs/credit", json=record), 400)


# lists


@pytest.mark.parametrize("path", LIST_ROUTES)
def test_results_stand_in_the_order_of_the_input(
    service: FlaskClient, records: list[dict[str, Any]], path: str
) -> None:
    order = list(range(len(records)))
    Random(5).shuffle(order)
    straight = service.post(path, json=records).json
    shuffled = service.post(path, json=[records[row] for row in order]).json
    assert len(set(straight["probability"])) > 100
    assert shuffled["probability"] == [straight["probability"][row] for row in order]
    assert shuffled["result"] == [straight["result"][row] for row in order]


def test_a_list_is_answered_as_its_records_one_by_one_to_the_last_bit(
    service: FlaskClient, records: list[dict[str, Any]]
) -> None:
    some = records[::7]
    batch = service.post("/outputs/credit", json=some).json
    singles = [service.post("/predict", json=one).json for one in some]
    assert batch["probability"] == [single["probability"][0] for single in singles]
    assert batch["result"] == [single["result"][0] for single in singles]
    assert set(batch["result"]) == {0, 1}


def test_a_list_of_one_is_answered_as_its_record(service: FlaskClient, record: dict[str, Any]) -> None:
    assert service.post("/output/credit", json=[record]).json == service.post("/output/credit", json=record).json


def test_the_order_of_keys_does_not_matter(service: FlaskClient, records: list[dict[str, Any]]) -> None:
    turned = [dict(reversed(one.items())) for one in records[:20]]
    assert service.post("/predict", json=turned).json == service.post("/predict", json=records[:20]).json


@pytest.mark.parametrize("path", LIST_ROUTES)
def test_one_invalid_row_stops_the_whole_list(service: FlaskClient, records: list[dict[str, Any]], path: str) -> None:
    rows = [*records[:3], {**records[3], "age": "x", "housing": "castle"}, *records[4:6]]
    errors = assert_problem(service.post(path, json=rows), 422)
    assert errors == {
        "rows": {"3": {"age": ["Not a valid integer."], "housing": ["Must be one of: for free, own, rent."]}},
        "count": 1,
    }


def test_the_first_hundred_rows_at_fault_are_named_and_all_are_counted(
    service: FlaskClient, records: list[dict[str, Any]]
) -> None:
    rows = [{**one, "age": "x"} if row % 2 else one for row, one in enumerate(records[:300])]
    errors = assert_problem(service.post("/outputs/credit", json=rows), 422)
    assert list(errors["rows"]) == [str(row) for row in range(1, 200, 2)]
    assert errors["count"] == 150


@pytest.mark.parametrize("path", LIST_ROUTES)
def test_partial_answers_the_good_rows_and_names_the_others(
    service: FlaskClient, records: list[dict[str, Any]], path: str
) -> None:
    whole = service.post(path, json=records[:5]).json
    rows = [records[0], {}, records[2], {**records[3], "age": -1}, records[4]]
    answer = service.post(f"{path}?partial=true", json=rows)
    assert answer.status_code == 200
    for column in ("result", "probability"):
        good = whole[column]
        assert answer.json[column] == [good[0], None, good[2], None, good[4]]
    assert list(answer.json["errors"]["rows"]) == ["1", "3"]
    assert answer.json["errors"]["rows"]["3"] == {"age": ["Must be between 18 and 120."]}
    assert answer.json["errors"]["count"] == 2


def test_partial_of_good_rows_alone_changes_nothing(service: FlaskClient, records: list[dict[str, Any]]) -> None:
    answer = service.post("/predict?partial=true", json=records[:5])
    assert answer.json == service.post("/predict?partial=false", json=records[:5]).json
    assert answer.json["errors"] is None


def test_partial_of_faulty_rows_alone_predicts_nothing(service: FlaskClient) -> None:
    answer = service.post("/outputs/credit?partial=true", json=[{}, {"default": 1}])
    assert answer.status_code == 200
    assert answer.json["result"] == [None, None]
    assert answer.json["auc_score"] is None
    assert answer.json["errors"]["count"] == 2


def test_partial_is_true_or_false(service: FlaskClient, records: list[dict[str, Any]]) -> None:
    errors = assert_problem(service.post(f"/predict?partial={MARKER}", json=records[:2]), 422)
    assert list(errors) == ["partial"]
    assert MARKER not in json.dumps(errors)


# lists with outcome


def test_without_a_body_the_hold_out_of_the_training_is_answered(
    service: FlaskClient, artifact: Artifact, trained: Registry
) -> None:
    answer = service.post("/outputs/credit")
    assert answer.status_code == 200
    hold_out = pd.read_parquet(trained.location / artifact.model_id / "test.parquet")
    assert len(answer.json["result"]) == len(hold_out)
    assert len(hold_out) == pytest.approx(300, abs=30)
    assert answer.json["auc_score"] == artifact.manifest.metrics["hold_out"]["roc_auc"]
    assert answer.json["auc_score"] == pytest.approx(
        roc_auc_score(hold_out["default"] == 2, answer.json["probability"])
    )


def test_the_auc_is_that_of_the_scores_and_not_of_the_decisions(
    service: FlaskClient, labelled: list[dict[str, Any]]
) -> None:
    answer = service.post("/outputs/credit", json=labelled).json
    defaulted = [row["default"] == 2 for row in labelled]
    assert answer["auc_score"] == pytest.approx(roc_auc_score(defaulted, answer["probability"]), abs=1e-12)
    assert answer["auc_score"] != pytest.approx(roc_auc_score(defaulted, answer["result"]), abs=1e-3)


def test_the_target_does_not_change_the_prediction(
    service: FlaskClient, records: list[dict[str, Any]], labelled: list[dict[str, Any]]
) -> None:
    without = service.post("/outputs/credit", json=records[:50]).json
    assert "auc_score" not in without
    scored = service.post("/outputs/credit", json=labelled[:50]).json
    assert scored.pop("auc_score") > 0.5
    assert scored == without


def test_an_auc_of_one_class_is_null(service: FlaskClient, record: dict[str, Any]) -> None:
    assert service.post("/outputs/credit", json=[{**record, "default": 1}]).json["auc_score"] is None


def test_an_invalid_outcome_is_a_fault_of_its_row(service: FlaskClient, labelled: list[dict[str, Any]]) -> None:
    rows = [*labelled[:50], {**labelled[50], "default": 3}, {**labelled[51], "default": "2"}]
    errors = assert_problem(service.post("/outputs/credit", json=rows), 422)
    assert list(errors["rows"]) == ["50", "51"]
    assert list(errors["rows"]["50"]) == ["default"]
    answer = service.post("/outputs/credit?partial=true", json=rows)
    assert answer.json["auc_score"] == service.post("/outputs/credit", json=labelled[:50]).json["auc_score"]


@pytest.mark.parametrize("is_open", [{"default": None}, {}], ids=["null", "absent"])
def test_a_record_whose_outcome_is_open_is_predicted_and_not_measured(
    service: FlaskClient, labelled: list[dict[str, Any]], is_open: dict[str, Any]
) -> None:
    undecided = [{name: value for name, value in row.items() if name != "default"} | is_open for row in labelled[50:60]]
    answer = service.post("/outputs/credit", json=[*undecided, *labelled[:50]])
    assert answer.status_code == 200
    whole = service.post("/outputs/credit", json=labelled[:60]).json
    assert answer.json["probability"] == whole["probability"][50:] + whole["probability"][:50]
    assert answer.json["auc_score"] == service.post("/outputs/credit", json=labelled[:50]).json["auc_score"]
    nobody = service.post("/outputs/credit", json=[{**undecided[0], "default": None}]).json
    assert (len(nobody["result"]), nobody["auc_score"]) == (1, None)


def test_a_row_at_fault_whose_outcome_is_open_is_only_blamed_for_the_fault(
    service: FlaskClient, labelled: list[dict[str, Any]]
) -> None:
    rows = [*labelled[:2], {**labelled[2], "age": "x", "default": None}]
    errors = assert_problem(service.post("/outputs/credit", json=rows), 422)
    assert errors == {"rows": {"2": {"age": ["Not a valid integer."]}}, "count": 1}


def test_a_hold_out_of_more_rows_than_allowed_is_not_answered(narrow: FlaskClient) -> None:
    answer = narrow.post("/outputs/credit")
    assert_problem(answer, 413)
    assert answer.json["detail"] == "The hold-out has more than 3 rows: send some as a list."


# files


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_answered_as_the_list_of_its_rows(
    service: FlaskClient, records: list[dict[str, Any]], kind: str
) -> None:
    name, write = FILES[kind]
    answer = upload(service, write(records[:40]), name)
    assert answer.status_code == 200, answer.text
    found = dict(answer.json)
    assert found.pop("read_as")["format"] == ("csv" if kind == "CSV" else "xlsx")
    assert found == service.post("/outputs/credit", json=records[:40]).json


@pytest.mark.parametrize("kind", FILES)
def test_a_file_with_the_outcome_is_answered_with_the_auc(
    service: FlaskClient, labelled: list[dict[str, Any]], kind: str
) -> None:
    name, write = FILES[kind]
    answer = upload(service, write(labelled[:60]), name)
    found = {name: value for name, value in answer.json.items() if name != "read_as"}
    assert found == service.post("/outputs/credit", json=labelled[:60]).json
    assert answer.json["auc_score"] > 0.5


@pytest.mark.parametrize("kind", FILES)
def test_the_table_comes_back_with_the_answer_when_csv_is_asked_for(
    service: FlaskClient, labelled: list[dict[str, Any]], kind: str
) -> None:
    name, write = FILES[kind]
    answer = upload(service, write(labelled[:30]), name, accept="text/csv")
    assert answer.status_code == 200
    assert answer.mimetype == "text/csv"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    expected = service.post("/outputs/credit", json=labelled[:30]).json
    assert [int(row.pop("result")) for row in rows] == expected["result"]
    words = [["Expected to repay", "Expected to default"][result] for result in expected["result"]]
    assert [row.pop("outcome") for row in rows] == words
    assert [float(row.pop("probability")) for row in rows] == expected["probability"]
    assert rows == [{column: str(value) for column, value in row.items()} for row in labelled[:30]]


def test_a_csv_answer_leaves_the_cells_of_faulty_rows_empty(
    service: FlaskClient, records: list[dict[str, Any]]
) -> None:
    rows = [records[0], {**records[1], "age": "old"}]
    answer = upload(service, csv_of(rows), query="?partial=true", accept="text/csv")
    good, faulty = csv.DictReader(io.StringIO(answer.text))
    assert good["result"] in ("0", "1")
    assert (faulty["result"], faulty["probability"], faulty["age"]) == ("", "", "old")
    assert (good["errors"], faulty["errors"]) == ("", "age: Not a valid integer.")


def test_a_csv_answer_keeps_the_order_of_the_files_columns(
    service: FlaskClient, labelled: list[dict[str, Any]]
) -> None:
    backwards = [dict(reversed(row.items())) for row in labelled[:3]]
    answer = upload(service, csv_of(backwards), accept="text/csv")
    assert answer.text.splitlines()[0] == ",".join([*backwards[0], "result", "outcome", "probability"])


@pytest.mark.parametrize("kind", FILES)
def test_a_row_at_fault_stops_the_whole_file(service: FlaskClient, records: list[dict[str, Any]], kind: str) -> None:
    name, write = FILES[kind]
    content = write([records[0], {**records[1], "housing": MARKER}, records[2]])
    answer = upload(service, content, name)
    errors = assert_problem(answer, 422)
    row = "3"  # as a spreadsheet shows it
    assert errors == {"rows": {row: {"housing": ["Must be one of: for free, own, rent."]}}, "count": 1}
    partial = upload(service, content, name, query="?partial=true")
    assert partial.json["result"][1] is None
    assert partial.json["errors"] == errors
    assert MARKER not in answer.text + partial.text


def test_missing_and_unknown_columns_are_named(service: FlaskClient, record: dict[str, Any]) -> None:
    row = {name: value for name, value in record.items() if name != "age"} | {"colour": "red"}
    errors = assert_problem(upload(service, csv_of([row])), 422)
    assert set(errors) == {"age", "the whole row"}
    assert "1 unknown column(s), T" in errors["the whole row"][0]


def test_a_file_without_a_row_is_nothing_to_predict(service: FlaskClient, record: dict[str, Any]) -> None:
    assert_problem(upload(service, csv_of([record]).splitlines()[0]), 400)


def test_a_request_without_a_file_is_told_which_field_to_send(service: FlaskClient) -> None:
    assert list(assert_problem(service.post("/outputs_upload/credit"), 422)) == ["fileupload"]
    assert list(assert_problem(service.post("/outputs_upload/credit", data={"fileupload": "text"}), 422)) == [
        "fileupload"
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("table.exe", b"a,b\n1,2\n"),
        ("table", b"a,b\n1,2\n"),
        ("table.xls", b"\xd0\xcf\x11\xe0"),
        ("table.csv", b"\x89PNG\xff"),
        ("table.csv", b"a\x00b\n"),
        ("table.csv", b'a,"b\n1,2\n'),
        ("table.xlsx", b"PK\x03\x04 and nothing else"),
        ("table.xlsx", xlsx_of([["a"]])[:-100]),
        ("table.xlsx", b"\x89PNG\r\n\x1a\n\x00"),
    ],
)
def test_what_is_neither_csv_nor_xlsx_is_an_unsupported_type(service: FlaskClient, name: str, content: bytes) -> None:
    assert_problem(upload(service, content, name), 415)


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\xef\xbb\xbf", b'"a,b\nc"\n', b'"a,""b"\n', b",\n", b"a,a\n1,2\n", b"\r\r"]
)
def test_an_odd_csv_is_refused_with_its_columns(service: FlaskClient, content: bytes) -> None:
    assert assert_problem(upload(service, content), 422)


@pytest.mark.parametrize(
    "rows",
    [
        [["a,b\nc"]],
        [["a," + "b" * 30_000]],
        [[]],
        [[None, "a,b"]],
        [["=1+1", 1.5, True, None]],
    ],
)
def test_an_odd_xlsx_is_refused_with_its_columns(service: FlaskClient, rows: list[list[Any]]) -> None:
    assert assert_problem(upload(service, xlsx_of(rows), "odd.xlsx"), 422)


def test_a_row_that_says_it_is_the_two_billionth_does_not_keep_the_service_busy(
    service: FlaskClient, record: dict[str, Any]
) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(ordinary_xlsx([record]))) as whole, zipfile.ZipFile(content, "w") as changed:
        for name in whole.namelist():
            entry = re.sub(rb'r="([A-Z]?)2"', rb'r="\g<1>2000000000"', whole.read(name))
            changed.writestr(name, entry if name.endswith("sheet1.xml") else whole.read(name))
    assert_problem(upload(service, content.getvalue(), "far.xlsx"), 413)


def test_a_file_without_a_header_gives_back_little_of_what_it_holds(
    service: FlaskClient, records: list[dict[str, Any]]
) -> None:
    text = " ".join(str(value) for one in records[:50] for value in one.values())
    answer = upload(service, csv_of([{text: 1}]))
    assert_problem(answer, 422)
    assert text[:200] not in answer.text


# names


BAD_NAMES = [
    *("nothing", "Credit", "CREDIT", "LATEST", "credit ", " credit", "credit.", "credit-", "-", "~", "*", "None", "0"),
    *("..", ".", "%2e%2e", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%5c..%5cwindows", "..%2f..%2fsetup.py", "credit%00"),
    *(
        "%2fetc%2fpasswd",
        "file:%2f%2f%2fetc",
        "\u0441redit",
        "crédit",
        "学分",
        "%ff%fe",
        "%F0%9F%9A%B2",
        "credit%0a",
        "x" * 3000,
    ),
    "credit-lightgbm_v1.0.0-1795287600.123456%0a",
    "credit-lightgbm_v1.0.0-\uff11795287600.123456",
    "credit-lightgbm_v1.0.0-1795287600.123456%2f..%2f..",
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: name[:45])
def test_a_name_that_means_no_model_is_not_found_and_not_looked_for_on_disk(
    service: FlaskClient, trained: Registry, record: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched = []

    def spy(function: Callable[..., Any]) -> Callable[..., Any]:
        def spied(path: Any, *args: Any, **kwargs: Any) -> Any:
            touched.append(path)
            return function(path, *args, **kwargs)

        return spied

    monkeypatch.setattr(os, "stat", spy(os.stat))
    monkeypatch.setattr(os, "listdir", spy(os.listdir))
    monkeypatch.setattr(io, "open", spy(io.open))
    answers = [
        service.get(f"/models/{name}"),
        service.post(f"/output/{name}", json=record),
        service.post(f"/outputs/{name}"),
        service.post(f"/outputs_upload/{name}"),
    ]
    monkeypatch.undo()
    for answer in answers:
        assert_problem(answer, 404)
    there = {str(path) for path in (trained.location, *trained.location.rglob("*"))}
    looked_for = {str(path) for path in touched if isinstance(path, (str, Path))}
    assert {path for path in looked_for if path.startswith(str(trained.location))} <= there


def test_an_id_that_no_model_has_is_not_found(service: FlaskClient, record: dict[str, Any]) -> None:
    assert_problem(service.post("/output/credit-lightgbm_v1.0.0-1795287600.123456", json=record), 404)
    assert_problem(service.post("/output/nothing-lightgbm_v1.0.0-1795287600.123456", json=record), 404)
    assert_problem(service.get("/models/credit-lightgbm_v1.0.0-1795287600.123456"), 404)


def test_a_path_with_slashes_leads_nowhere(service: FlaskClient, record: dict[str, Any]) -> None:
    for path in ("/output/../../etc/passwd", "/output/credit/../credit", "//output/credit", "/output//credit"):
        assert_problem(service.post(path, json=record), 404)


# the other rows of the table of errors


@pytest.mark.parametrize("path", ["/nothing", "/output", "/outputs/", "/health/x", "/static/../application.py"])
def test_an_unknown_route_is_a_problem_too(service: FlaskClient, path: str) -> None:
    assert_problem(service.delete(path) if path == "/nothing" else service.get(path), 404)


@pytest.mark.parametrize(("method", "path"), [("GET", "/predict"), ("POST", "/health"), ("DELETE", "/models/credit")])
def test_another_method_is_a_problem_that_says_which_there_are(service: FlaskClient, method: str, path: str) -> None:
    answer = service.open(path, method=method)
    assert_problem(answer, 405)
    assert answer.headers["Allow"]


@pytest.mark.parametrize("path", LIST_ROUTES)
def test_more_rows_than_allowed_are_too_many(narrow: FlaskClient, records: list[dict[str, Any]], path: str) -> None:
    small = [{}] * 4
    assert_problem(narrow.post(path, json=small), 413)
    assert_problem(narrow.post(f"{path}?partial=true", json=small), 413)
    assert narrow.post(path, json=records[:3]).status_code == 200


def test_more_rows_in_a_file_than_allowed_are_too_many(narrow: FlaskClient, records: list[dict[str, Any]]) -> None:
    assert upload(narrow, csv_of(records[:3])).status_code == 200
    assert_problem(upload(narrow, csv_of(records[:4])), 413)


@pytest.mark.parametrize("path", [*LIST_ROUTES, "/outputs_upload/credit"])
def test_more_bytes_than_allowed_are_too_many(narrow: FlaskClient, path: str) -> None:
    content_type = "multipart/form-data; boundary=x" if "upload" in path else "application/json"
    assert_problem(narrow.post(path, data=b" " * 3001, content_type=content_type), 413)


@pytest.mark.parametrize("path", LIST_ROUTES)
def test_more_bytes_than_allowed_are_too_many_when_their_number_is_not_told(narrow: FlaskClient, path: str) -> None:
    answer = narrow.post(
        path, input_stream=io.BytesIO(b" " * 30_001), environ_overrides={"wsgi.input_terminated": True}
    )
    assert_problem(answer, 413)


def test_without_a_model_predictions_are_unavailable_and_health_is_not(tmp_path: Path, record: dict[str, Any]) -> None:
    client = create_app(Settings(model_registry=tmp_path / "none", auth_required=False)).test_client()
    for path in ("/predict", "/output/credit", "/output/latest", "/outputs/champion", "/outputs_upload/credit"):
        assert_problem(client.post(path, json=record), 503)
    assert_problem(client.get("/models/credit"), 503)
    for path in ("/ready", "/ready/credit"):
        answer = client.get(path)
        assert_problem(answer, 503)
        assert "There is no model yet; train one." in answer.json["detail"]
    assert client.get("/models").json == {"models": []}
    assert client.get("/health").status_code == 200


def test_a_model_with_a_changed_byte_is_unavailable_with_the_reason_and_no_path(
    registry: Registry, client: FlaskClient, record: dict[str, Any]
) -> None:
    model_id = registry.latest("credit")
    file = registry.location / model_id / "model.pkl"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    paths = ("/ready/credit", "/models/credit", "/models/credit/report")
    for answer in (client.post(f"/output/{model_id}", json=record), *map(client.get, paths)):
        assert_problem(answer, 503)
        assert "model.pkl is not the one that training wrote" in answer.text
        assert str(registry.location) not in answer.text


def test_a_hold_out_that_goes_missing_leaves_other_answers_unharmed(
    registry: Registry, client: FlaskClient, record: dict[str, Any]
) -> None:
    model_id = registry.latest("credit")
    (registry.location / model_id / "test.parquet").unlink()
    assert client.get("/ready/credit").status_code == 200
    answer = client.post("/outputs/credit")
    assert_problem(answer, 404)
    assert answer.json["detail"].endswith("is not stored here; send a list of records.")
    assert client.post("/outputs/credit", json=[record]).status_code == 200


@pytest.mark.parametrize(
    ("name", "method", "path"),
    [("test.parquet", "POST", "/outputs/credit"), ("report.html", "GET", "/models/credit/report")],
)
@pytest.mark.parametrize("loaded_before", [True, False])
def test_a_file_that_was_changed_is_never_given_out(
    registry: Registry, client: FlaskClient, name: str, method: str, path: str, loaded_before: bool
) -> None:
    if loaded_before:
        assert client.open(path, method=method).status_code == 200
    change_byte(registry.location / registry.latest("credit") / name)
    answer = client.open(path, method=method)
    assert_problem(answer, 503)
    assert f"its file {name} is not the one that training wrote" in answer.json["detail"]
    assert client.get("/ready").json["unavailable"] == {}


def test_no_answer_repeats_what_the_client_sent(
    service: FlaskClient, record: dict[str, Any], app: APIFlask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    bad = {**record, "housing": MARKER, "age": [MARKER], "amount": {"a": MARKER}, "job": f"<script>{MARKER}"}
    answers = [
        service.post("/predict", json=bad),
        service.post("/outputs/credit", json=[bad, {**record, "default": MARKER}]),
        service.post("/outputs/credit?partial=true", json=[bad, {**record, "default": MARKER}]),
        service.post("/predict", data=f"{{{MARKER}"),
        service.post("/predict", json=MARKER),
        service.post("/predict", json=[MARKER]),
        service.post(f"/output/{MARKER}", json=record),
        service.post(f"/{MARKER}", json=record),
        service.get(f"/models/{MARKER}"),
        service.get(f"/models?use_case={MARKER}"),
        service.post(f"/predict?partial={MARKER}", json=[bad]),
        service.put(f"/predict?{MARKER}", headers={"X-Thing": MARKER, "Content-Type": MARKER}),
        upload(service, csv_of([bad])),
        upload(service, MARKER.encode(), f"{MARKER}.exe"),
        upload(service, b"\xff", f"{MARKER}.csv"),
        upload(service, csv_of([record]) + f"{MARKER}\n".encode(), f"{MARKER}.csv"),
        upload(service, bank_export([bad]), f"{MARKER}.xlsx"),
        service.post("/outputs_upload/credit", data={MARKER: MARKER}),
    ]
    for number, answer in enumerate(answers):
        assert answer.status_code in (200, 400, 404, 405, 413, 415, 422), (number, answer.text)
        assert MARKER not in answer.text, number
        assert MARKER not in str(answer.headers), number
        assert not re.search(r"Traceback|/work|site-packages", answer.text), number
    assert MARKER not in caplog.text


def test_nobody_is_told_how_a_small_group_fares(service: FlaskClient, artifact: Artifact) -> None:
    groups = artifact.manifest.groups["foreign_worker"]
    assert min(group["rows"] for group in groups.values.values()) < 20
    told = service.get("/models/credit").text
    figures = [groups.disparate_impact, *(group["mean_score"] for group in groups.values.values())]
    assert not [figure for figure in figures if str(figure) in told]
    assert "Foreign worker: disparate impact withheld" in service.get("/models/credit/report").text


def test_the_answers_to_a_file_say_where_its_rows_stand(service: FlaskClient, records: list[dict[str, Any]]) -> None:
    answer = upload(service, csv_of(records[:30]), accept="text/csv")
    assert answer.headers["Row-Numbers"] == "2-31"
    assert "Row-Numbers" not in upload(service, csv_of(records[:30])).headers


# explanations


def test_an_explanation_adds_up_to_the_score_that_is_answered(service: FlaskClient, record: dict[str, Any]) -> None:
    answer = service.post("/explain/credit", json=record)
    assert answer.status_code == 200
    (one,) = answer.json["explanations"]
    prediction = service.post("/output/credit", json=record).json
    assert answer.json["model"] == prediction["model"]
    assert [one["score"]] == prediction["probability"]
    assert sum(one["contributions"].values()) + one["base_value"] == pytest.approx(one["raw_score"], abs=1e-9)
    assert 1 / (1 + math.exp(-one["raw_score"])) == pytest.approx(one["score"], abs=1e-9)
    assert [one["result"]] == prediction["result"]


def test_the_reasons_for_an_answer_come_first_and_those_against_it_apart(
    service: FlaskClient, records: list[dict[str, Any]]
) -> None:
    explanations = service.post("/explain/credit", json=records[:100]).json["explanations"]
    assert {one["result"] for one in explanations} == {0, 1}
    for one in explanations:
        towards = 1 if one["result"] else -1
        for name, sign in (("reasons", towards), ("counter_reasons", -towards)):
            contributions = [sign * reason["contribution"] for reason in one[name]]
            assert 1 <= len(contributions) <= 4
            assert contributions == sorted(contributions, reverse=True)
            assert contributions[-1] > 0
            for reason in one[name]:
                assert reason["contribution"] == one["contributions"][reason["feature"]]
                assert reason.keys() == {"feature", "reason", "contribution", "protected"}


def test_a_list_is_explained_in_its_order(service: FlaskClient, records: list[dict[str, Any]]) -> None:
    rows = service.post("/explain/credit", json=records[:20]).json["explanations"]
    assert [row["score"] for row in rows] == service.post("/outputs/credit", json=records[:20]).json["probability"]
    alone = service.post("/explain/credit", json=records[7]).json["explanations"]
    assert alone == [rows[7]]


def test_a_regression_is_explained_by_what_raised_its_value_and_what_lowered_it(
    service: FlaskClient, bikes: UseCase
) -> None:
    (one,) = service.post("/explain/bikes", json=dict(bikes.example)).json["explanations"]
    assert one["result"] == one["score"]
    raised, lowered = ([reason["contribution"] for reason in one[name]] for name in ("reasons", "counter_reasons"))
    assert min(raised) > 0 > max(lowered)
    assert one["contributions"].keys() == {*bikes.example, "year", "season", "weekend"}


def test_what_cannot_be_explained_is_501_with_the_reason(
    service: FlaskClient, trained: Registry, bikes: UseCase
) -> None:
    path = f"/explain/{trained.latest('bikes', 'SVR')}"
    answer = service.post(path, json=dict(bikes.example))
    assert_problem(answer, 501)
    assert "SVR" in answer.json["detail"]
    assert "kernel" in answer.json["detail"]
    assert_problem(service.post(path, json={}), 422)


def test_a_record_that_cannot_be_explained_is_named_as_for_a_prediction(
    service: FlaskClient, record: dict[str, Any]
) -> None:
    for body in ({**record, "age": "x"}, [record, {**record, "age": "x"}]):
        assert service.post("/explain/credit", json=body).json == service.post("/output/credit", json=body).json
    for body, status in (([], 400), (3, 400), ([3], 400), ([record] * 1001, 413)):
        assert_problem(service.post("/explain/credit", json=body), status)
    assert_problem(service.post("/explain/nothing", json=record), 404)


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ("partial=true&partial=false", {"partial": ["Must be true or false, once."]}),
        ("partal=true", {"partal": ["Unknown field."]}),
        ("partial=true&x=1", {"x": ["Unknown field."]}),
    ],
)
def test_a_query_that_is_not_understood_is_refused_and_not_passed_over(
    service: FlaskClient, record: dict[str, Any], query: str, errors: dict[str, list[str]]
) -> None:
    answer = service.post(f"/outputs/credit?{query}", json=[record])
    assert_problem(answer, 422)
    assert answer.json["errors"] == errors


def test_a_query_of_the_models_list_that_is_not_understood_is_refused(service: FlaskClient) -> None:
    assert assert_problem(service.get("/models?usecase=credit"), 422) == {"usecase": ["Unknown field."]}


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/x-www-form-urlencoded", b"a&" * 1_000_000, 422),
        ("application/json", b"{}", 422),
        (
            "multipart/form-data; boundary=B",
            b'--B\r\nContent-Disposition: form-data; name="%s"\r\n\r\n' % (b"\\" * 10**6),
            413,
        ),
        ("multipart/form-data; boundary=B", b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 20, 413),
        (
            "multipart/form-data; boundary=B",
            b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"1" * 10**6,
            413,
        ),
    ],
    ids=["another form", "no form", "a long head", "many parts", "a long text"],
)
def test_a_form_that_holds_more_than_a_file_is_refused_before_it_is_built(
    service: FlaskClient, kind: str, body: bytes, status: int
) -> None:
    tracemalloc.start()
    answer = service.post("/outputs_upload/credit", data=body, content_type=kind)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert_problem(answer, status)
    assert peak < 3 * 10**6 + len(body)


def test_two_files_in_one_form_are_refused(service: FlaskClient, record: dict[str, Any]) -> None:
    part = b'--B\r\nContent-Disposition: form-data; name="fileupload"; filename="a.csv"\r\n\r\n' + csv_of([record])
    answer = service.post(
        "/outputs_upload/credit",
        data=part + b"\r\n" + part + b"\r\n--B--",
        content_type="multipart/form-data; boundary=B",
    )
    assert list(assert_problem(answer, 422)) == ["fileupload"]


def test_a_body_of_unknown_length_is_not_cut_off_at_the_limit(narrow: FlaskClient, record: dict[str, Any]) -> None:
    content = json.dumps(record).encode().ljust(3000)
    for end, status in ((b"", 200), (b" ", 413), (b"garbage", 413)):
        options = {"input_stream": io.BytesIO(content + end), "headers": {"Transfer-Encoding": "chunked"}}
        answer = narrow.post("/predict", **options, environ_overrides={"wsgi.input_terminated": True})
        assert answer.status_code == status, answer.text


# columns


def by_columns(records: list[dict[str, Any]]) -> dict[str, Any]:
    return {"columns": {name: [record[name] for record in records] for name in records[0]}}


@pytest.mark.parametrize("path", LIST_ROUTES)
def test_columns_are_answered_as_the_list_of_their_rows(service: FlaskClient, records: Any, path: str) -> None:
    wrong = [{**records[0], "age": 300}, *records[1:20], {**records[20], "purpose": []}]
    for body in (records[:20], wrong):
        for query in ("", "?partial=true"):
            answer, expected = (service.post(f"{path}{query}", json=one) for one in (by_columns(body), body))
            assert (answer.status_code, answer.json) == (expected.status_code, expected.json)


def test_columns_with_outcomes_are_measured_where_outcomes_may_be(service: FlaskClient, labelled: Any) -> None:
    body = by_columns(labelled[:50])
    answer = service.post("/outputs/credit", json=body)
    assert answer.json == service.post("/outputs/credit", json=labelled[:50]).json
    assert 0.5 < answer.json["auc_score"] <= 1
    refused = service.post("/output/credit", json=body)
    assert_problem(refused, 422)
    assert refused.json["errors"] == {"default": ["Unknown field."]}


def test_columns_can_be_explained_and_faults_in_their_form_are_told(service: FlaskClient, records: Any) -> None:
    body = by_columns(records[:3])
    assert service.post("/explain/credit", json=body).json == service.post("/explain/credit", json=records[:3]).json
    uneven = {"columns": {**body["columns"], "age": [35]}}
    refused = service.post("/output/credit", json=uneven)
    assert_problem(refused, 400)
    assert "equally long" in refused.json["detail"]
    del body["columns"]["age"]
    missing = service.post("/output/credit", json=body)
    assert_problem(missing, 422)
    assert missing.json["errors"] == {"age": ["Missing data for required field."]}
