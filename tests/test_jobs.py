"""The routes of jobs: tables are sent, watched, fetched and deleted, each by the user who sent it."""

import io
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from flask.testing import FlaskClient

from tabserve.api.app import create_app
from tabserve.api.problems import problem_of
from tabserve.jobs import store as store_module
from tabserve.jobs.runner import Limits, Runner
from tabserve.jobs.store import Store
from tabserve.predictor import Predictor
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tests.conftest import ALICE, write_users
from tests.test_controller import assert_problem, csv_of, ordinary_xlsx, upload

BOB = ("bob", "another long password")
SECRET = "hunter2-of-the-jobs"


def settings_for(trained: Registry, folder: Path, **others: Any) -> Settings:
    defaults = {"auth_required": False, "database_url": f"sqlite:///{folder / 'jobs.db'}"}
    return Settings(model_registry=trained.location, **{**defaults, **others})


@pytest.fixture
def client(trained: Registry, tmp_path: Path) -> FlaskClient:
    return create_app(settings_for(trained, tmp_path, sync_rows=20)).test_client()


@pytest.fixture
def work(trained: Registry, tmp_path: Path) -> Any:
    """Answers the jobs that wait."""
    store = Store(f"sqlite:///{tmp_path / 'jobs.db'}", 24)
    runner = Runner(store, Predictor(trained, "credit"), Limits(1000, 60), problem_of)

    def run() -> None:
        while runner.run_next():
            pass

    return run


def send_file(client: FlaskClient, content: bytes, name: str = "new.csv", query: str = "", **options: Any) -> Any:
    form = {"fileupload": (io.BytesIO(content), name)}
    return client.post(f"/jobs/credit{query}", data=form, content_type="multipart/form-data", **options)


def test_a_list_is_taken_watched_and_fetched(
    client: FlaskClient, trained: Registry, records: list[dict[str, Any]], work: Any
) -> None:
    taken = client.post("/jobs/credit", json=records[:100])
    assert (taken.status_code, taken.headers["Retry-After"]) == (202, "1")
    location = taken.headers["Location"]
    assert location == f"/jobs/{taken.json['id']}"
    waiting = client.get(location)
    assert waiting.json == taken.json
    assert waiting.headers["Retry-After"] == "1"
    assert waiting.json | {"id": "", "created": "", "expires": ""} == {
        "id": "",
        "state": "waiting",
        "model": trained.latest("credit"),
        "rows": None,
        "rows_done": 0,
        "created": "",
        "started": None,
        "finished": None,
        "expires": "",
        "error": None,
        "summary": None,
        "results": {},
    }
    work()
    done = client.get(f"{location}/")
    assert "Retry-After" not in done.headers
    assert (done.json["state"], done.json["rows"], done.json["rows_done"]) == ("done", 100, 100)
    moments = [datetime.fromisoformat(done.json[name]) for name in ("created", "started", "finished", "expires")]
    assert moments == sorted(moments)
    assert {moment.utcoffset() for moment in moments} == {moments[0].utcoffset()}
    assert str(moments[0].tzinfo) == "UTC"
    assert done.json["summary"] == {"version": done.json["summary"]["version"], "errors": None}
    assert done.json["results"] == {kind: f"{location}/result.{kind}" for kind in ("csv", "xlsx", "parquet")}
    table = pyarrow.parquet.read_table(io.BytesIO(client.get(done.json["results"]["parquet"]).data))
    assert (table.num_rows, table.column_names[-3:]) == (100, ["result", "outcome", "probability"])


def test_results_are_sent_as_files(client: FlaskClient, records: list[dict[str, Any]], work: Any) -> None:
    content = csv_of(records[:30]).decode().replace(",", ";").encode("utf-16")
    location = send_file(client, content).headers["Location"]
    work()
    expected = {
        "csv": "text/csv; charset=utf-16",
        "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "parquet": "application/vnd.apache.parquet",
    }
    for kind, media_type in expected.items():
        answer = client.get(f"{location}/result.{kind}")
        assert answer.status_code == 200
        assert answer.content_type == media_type
        assert answer.headers["Content-Disposition"] == f"attachment; filename=result.{kind}"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert int(answer.headers["Content-Length"]) == len(answer.data) > 0
        head = client.head(f"{location}/result.{kind}")
        assert (head.status_code, head.data, head.headers["Content-Length"]) == (200, b"", str(len(answer.data)))
    assert client.get(f"{location}/result.csv").data.decode("utf-16").startswith(";".join(records[0]) + ";result;")


def test_what_is_beyond_sync_rows_is_refused_with_the_way_to_jobs(
    client: FlaskClient, records: list[dict[str, Any]], work: Any
) -> None:
    many, few = records[:21], records[:20]
    detail = "The table has more than 20 rows: send it to /jobs/<model_id>, which answers large tables."
    for answer in (
        client.post("/predict", json=many),
        client.post("/output/credit", json=many),
        client.post("/outputs/credit", json=many),
        client.post("/outputs/credit"),  # the hold-out
        upload(client, csv_of(many)),
        upload(client, ordinary_xlsx(many), "new.xlsx"),
    ):
        assert_problem(answer, 413)
        assert answer.json["detail"] == detail
    for answer in (client.post("/outputs/credit", json=few), upload(client, csv_of(few))):
        assert answer.status_code == 200
    for taken in (client.post("/jobs/credit", json=many), client.post("/jobs/credit"), send_file(client, csv_of(many))):
        work()
        assert client.get(taken.headers["Location"]).json["state"] == "done"


def test_explanations_beyond_sync_rows_are_not_sent_to_jobs_which_give_none(
    client: FlaskClient, records: list[dict[str, Any]]
) -> None:
    answer = client.post("/explain/credit", json=records[:21])
    assert_problem(answer, 413)
    assert answer.json["detail"] == "More than 20 rows; send them in several requests."


def test_bodies_are_counted_before_they_are_built(client: FlaskClient) -> None:
    answer = client.post("/output/credit", data=b"[" + b"{}," * 2000 + b"0]")
    assert "/jobs/<model_id>" in answer.json["detail"]


def test_where_sync_rows_are_all_rows_large_tables_are_to_be_split(
    trained: Registry, tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    client = create_app(settings_for(trained, tmp_path, max_rows=3)).test_client()
    assert client.post("/outputs/credit", json=records[:4]).json["detail"] == (
        "More than 3 rows; send them in several requests."
    )


def test_a_job_that_fails_says_what_a_request_would_have_been_told(
    client: FlaskClient, records: list[dict[str, Any]], work: Any
) -> None:
    faulty = [*records[:9], {**records[9], "age": 300}]
    location = client.post("/jobs/credit", json=faulty).headers["Location"]
    partly = client.post("/jobs/credit?partial=true", json=faulty).headers["Location"]
    work()
    failed, done = client.get(location).json, client.get(partly).json
    assert (failed["state"], failed["results"]) == ("failed", {})
    assert failed["error"] == client.post("/outputs/credit", json=faulty).json
    assert_problem(client.get(f"{location}/result.csv"), 404)
    assert (done["state"], done["error"]) == ("done", None)
    assert done["summary"]["errors"] == client.post("/outputs/credit?partial=true", json=faulty).json["errors"]


def test_what_can_be_refused_at_once_is(client: FlaskClient, records: list[dict[str, Any]]) -> None:
    assert_problem(client.post("/jobs/nothing", json=records[:1]), 404)
    assert_problem(client.post("/jobs/credit?partial=perhaps", json=records[:1]), 422)
    assert_problem(client.post("/jobs/credit?rows=3", json=records[:1]), 422)
    assert_problem(send_file(client, b"x", "new.exe"), 415)
    form = client.post("/jobs/credit", data={"other": "x"}, content_type="multipart/form-data")
    assert "fileupload" in assert_problem(form, 422)
    too_long = client.post(
        "/jobs/credit", data=b"x" * (client.application.extensions["settings"].max_content_length + 1)
    )
    assert_problem(too_long, 413)
    methods = client.put("/jobs/credit").headers["Allow"]
    assert {"GET", "HEAD", "POST", "DELETE"} <= set(re.split(", ", methods))


def test_a_deleted_job_is_gone(client: FlaskClient, records: list[dict[str, Any]], work: Any, tmp_path: Path) -> None:
    for is_done in (False, True):
        location = client.post("/jobs/credit", json=records[:5]).headers["Location"]
        if is_done:
            work()
        deleted = client.delete(location)
        assert (deleted.status_code, deleted.data) == (204, b"")
        assert "Content-Type" not in deleted.headers
        for answer in (client.get(location), client.get(f"{location}/result.csv"), client.delete(location)):
            assert_problem(answer, 404)
    work()


@pytest.mark.parametrize("id_", ["x", "x" * 21, "x" * 23, "é" * 22, "." * 22, "x" * 21 + "\n"])
def test_malformed_ids_are_refused_without_touching_the_database(trained: Registry, tmp_path: Path, id_: str) -> None:
    client = create_app(settings_for(trained, tmp_path)).test_client()
    for ask in (client.get, client.delete):
        assert_problem(ask(f"/jobs/{id_}"), 404)
        assert_problem(ask(f"/jobs/{id_}/result.csv"), 404 if ask == client.get else 405)
    assert not (tmp_path / "jobs.db").exists()
    assert_problem(client.get(f"/jobs/{'x' * 22}"), 404)
    assert (tmp_path / "jobs.db").exists()


def test_a_result_of_another_kind_or_of_an_unfinished_job_is_not_there(
    client: FlaskClient, records: list[dict[str, Any]], work: Any
) -> None:
    location = client.post("/jobs/credit", json=records[:5]).headers["Location"]
    assert_problem(client.get(f"{location}/result.csv"), 404)
    work()
    for kind in ("feather", "body", "", "csv.csv"):
        assert_problem(client.get(f"{location}/result.{kind}"), 404)


def test_jobs_belong_to_the_users_who_sent_them(
    trained: Registry, tmp_path: Path, records: list[dict[str, Any]], work: Any
) -> None:
    users = tmp_path / "users.txt"
    write_users(users, ALICE, BOB)
    guarded = create_app(settings_for(trained, tmp_path, auth_required=True, auth_users_file=users)).test_client()
    assert guarded.post("/jobs/credit", json=records[:5]).status_code == 401
    location = guarded.post("/jobs/credit", json=records[:5], auth=ALICE).headers["Location"]
    work()
    for path in (location, f"{location}/result.csv"):
        assert guarded.get(path, auth=ALICE).status_code == 200
        assert guarded.get(path).status_code == 401
        assert_problem(guarded.get(path, auth=BOB), 404)
    assert guarded.delete(location).status_code == 401
    assert_problem(guarded.delete(location, auth=BOB), 404)
    # without users, whoever has the id sees it; and with users, nobody sees what nobody sent
    client = create_app(settings_for(trained, tmp_path)).test_client()
    assert client.get(location).status_code == 200
    nobodys = client.post("/jobs/credit", json=records[:5]).headers["Location"]
    assert_problem(guarded.get(nobodys, auth=ALICE), 404)
    assert guarded.delete(location, auth=ALICE).status_code == 204


def test_sending_a_job_counts_towards_the_limit_and_watching_it_does_not(
    trained: Registry, tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    client = create_app(settings_for(trained, tmp_path, rate_limit="2/minute")).test_client()
    location = client.post("/jobs/credit", json=records[:5]).headers["Location"]
    for _ in range(5):
        assert client.get(location).status_code == 200
    assert client.post("/jobs/credit", json=records[:5]).status_code == 202
    assert client.post("/jobs/credit", json=records[:5]).status_code == 429
    assert client.delete(location).status_code == 204


def test_too_many_waiting_jobs_are_refused(
    client: FlaskClient, records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MOST_OF_ONE", 2)
    for _ in range(2):
        assert client.post("/jobs/credit", json=records[:5]).status_code == 202
    answer = client.post("/jobs/credit", json=records[:5])
    assert_problem(answer, 503)
    assert answer.headers["Retry-After"] == "30"


@pytest.mark.parametrize("address", ["sqlite:////nowhere/jobs.db", f"postgresql://me:{SECRET}@127.0.0.1:1/jobs"])
def test_while_the_database_is_away_jobs_are_refused_and_the_rest_is_answered(
    trained: Registry,
    tmp_path: Path,
    records: list[dict[str, Any]],
    address: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = create_app(settings_for(trained, tmp_path, database_url=address)).test_client()
    for answer in (client.post("/jobs/credit", json=records[:5]), client.get(f"/jobs/{'x' * 22}")):
        assert_problem(answer, 503)
        assert answer.headers["Retry-After"] == "5"
        assert SECRET not in answer.text
    assert client.post("/outputs/credit", json=records[:5]).status_code == 200
    assert client.get("/ready").status_code == 200
    (line,) = [message for message in caplog.messages if "database" in message]
    assert SECRET not in line


def test_a_result_whose_job_is_deleted_while_it_is_sent_breaks_off(
    client: FlaskClient, records: list[dict[str, Any]], work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PART", 1000)
    location = client.post("/jobs/credit", json=records[:100]).headers["Location"]
    work()
    answer = client.get(f"{location}/result.csv")
    pieces = answer.iter_encoded()
    next(iter(pieces))
    client.delete(location)
    with pytest.raises(Exception, match="no such job"):
        list(pieces)


def test_the_answer_of_a_job_is_what_the_document_says(client: FlaskClient) -> None:
    document: Any = client.get("/openapi.json").json
    accepted = document["paths"]["/jobs/{name}"]["post"]["responses"]["202"]
    assert accepted["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Job"}
    names = {
        (method, parameter["name"]): parameter["description"]
        for method, operation in document["paths"]["/jobs/{name}"].items()
        for parameter in operation["parameters"]
        if parameter["in"] == "path"
    }
    assert names["get", "name"] == names["delete", "name"] == "A job's id"
    assert "model_id" in names["post", "name"]
    assert json.dumps(document["paths"]["/jobs/{name}"]["post"]["requestBody"]).count("multipart/form-data") == 1
