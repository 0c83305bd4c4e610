"""Acceptance over HTTP: what every service must do, wherever it runs; it changes nothing there and asks little.

TABSERVE_URL says where the service is, TABSERVE_USER and TABSERVE_PASSWORD who asks:

    TABSERVE_URL=https://tabserve.example.com TABSERVE_USER=alice TABSERVE_PASSWORD=... pytest tests/test_deployed.py

Without TABSERVE_URL, this project's own gunicorn is started and asked. The service's own models answer; the only
assumption is that each use case has one.
"""

import csv
import io
import json
import os
import time
from base64 import b64encode
from collections.abc import Container, Iterator
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPResponse
from math import isclose
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPErrorProcessor, Request, build_opener

import pytest

from tests.conftest import ALICE, running_server

LONGEST_WAIT = 61  # seconds that a rate limit may ask to wait, all in all for one request
LONGEST_JOB = 120  # seconds; others may be waiting
PROBLEM = "application/problem+json"
NOBODY = ("", "")  # instead of the user


class AsItIs(HTTPErrorProcessor):
    """Takes every status as an answer: none is raised, and no redirect is followed."""

    def http_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:
        return response

    https_response = http_response


OPENER = build_opener(AsItIs)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Message
    body: bytes

    @property
    def kind(self) -> str:
        return self.headers.get_content_type()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Service:
    """Where to ask, and as whom."""

    url: str
    user: str
    password: str

    def ask(
        self,
        method: str,
        path: str,
        content: Any = None,
        *,
        status: int | Container[int] = 200,
        headers: dict[str, str] | None = None,
        user: tuple[str, str] | None = None,
    ) -> Answer:
        """Send a request, content being JSON unless it is bytes; its answer has that status, or one of those.

        An error is a problem. A rate limit that says when to come back is waited for.
        """
        if user is None and self.user:
            user = (self.user, self.password)
        everything = dict(headers or {})
        if user and user != NOBODY:
            everything["Authorization"] = "Basic " + b64encode(":".join(user).encode()).decode()
        body = content
        if content is not None and not isinstance(content, bytes):
            body = json.dumps(content).encode()
            everything.setdefault("Content-Type", "application/json")
        patience = LONGEST_WAIT
        while True:
            try:
                with OPENER.open(Request(self.url + path, body, everything, method=method), timeout=60) as response:
                    answer = Answer(response.status, response.headers, response.read())
            except URLError as error:
                pytest.fail(f"{self.url} cannot be reached: {error.reason}")
            wait = int(answer.headers.get("Retry-After", 0)) if answer.status == 429 else 0
            if not 0 < wait <= patience:
                break
            patience -= wait
            time.sleep(wait)
        said = f"{method} {path}: {answer.status} {answer.kind} {answer.body[:500]!r}"
        assert answer.status in ([status] if isinstance(status, int) else status), said
        if answer.status >= 400 and method != "HEAD":
            assert answer.kind == PROBLEM, said
            assert {"type", "title", "status", "detail"} <= answer.json.keys(), said
            assert answer.json["status"] == answer.status, said
        return answer


@pytest.fixture(scope="module")
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    if url := os.environ.get("TABSERVE_URL"):
        if urlsplit(url).scheme not in ("http", "https"):
            pytest.fail("TABSERVE_URL must look like https://tabserve.example.com")
        yield Service(url.rstrip("/"), os.environ.get("TABSERVE_USER", ""), os.environ.get("TABSERVE_PASSWORD", ""))
        return
    environment = {
        "MODEL_REGISTRY": str(request.getfixturevalue("trained").location),
        "WEB_CONCURRENCY": "1",
        "AUTH_REQUIRED": "true",
        "AUTH_USERS_FILE": str(request.getfixturevalue("users_file")),
        "JOB_WORKERS": "1",
    }
    with running_server(tmp_path_factory.mktemp("deployed") / "log.txt", environment) as running:
        yield Service(running.url, *ALICE)


@pytest.fixture(scope="module")
def document(service: Service) -> Any:
    """The OpenAPI document."""
    return service.ask("GET", "/openapi.json").json


@pytest.fixture(scope="module")
def needs_user(service: Service, document: Any) -> bool:
    """Whether predictions are for users only; then the tests need one."""
    is_needed = bool(document["paths"]["/output/{model_id}"]["post"].get("security"))
    if is_needed and not service.user:
        pytest.fail("Predictions of this service need a user: set TABSERVE_USER and TABSERVE_PASSWORD.")
    return is_needed


@pytest.fixture(scope="module")
def examples(document: Any, needs_user: bool) -> dict[str, Any]:
    """A record of each use case, by its name."""
    body = document["paths"]["/output/{model_id}"]["post"]["requestBody"]["content"]["application/json"]
    records = {name: example["value"] for name, example in body["examples"].items()}
    assert records
    return records


def with_query(path: str, query: dict[str, Any]) -> str:
    return f"{path}?{urlencode(query)}"


# what it is


def test_it_is_alive_and_ready(service: Service, examples: dict[str, Any]) -> None:
    assert service.ask("GET", "/health").json == {"status": "ok"}
    service.ask("HEAD", "/health")
    ready = service.ask("GET", "/ready").json
    assert ready["status"] == "ready"
    assert ready["unavailable"] == {}
    assert ready["models"].keys() == examples.keys()
    for name in examples:
        assert service.ask("GET", f"/ready/{name}").json["models"] == {name: ready["models"][name]}
    service.ask("GET", "/ready/nothing", status=404)
    assert service.ask("GET", "/status").json == 1


def test_checks_and_documents_need_no_user(service: Service) -> None:
    for path in ("/health", "/ready", "/version", "/models", "/openapi.json", "/docs", "/"):
        service.ask("GET", path, user=NOBODY)


def test_it_names_its_version(service: Service, document: Any) -> None:
    version = service.ask("GET", "/version").json
    assert version["version"] == document["info"]["version"]
    assert version["api_version"]


def test_its_models_are_listed_and_described_and_have_a_report(service: Service, examples: dict[str, Any]) -> None:
    listed = service.ask("GET", "/models").json["models"]
    for name in examples:
        assert set(service.ask("GET", f"/models?use_case={name}").json["models"]) <= set(listed)
        described = service.ask("GET", f"/models/{name}").json
        assert described["model_id"] in listed
        assert described["use_case"] == name
        assert described["metrics"]["hold_out"]
        report = service.ask("GET", f"/models/{name}/report")
        assert report.kind == "text/html"
        assert described["model_id"].encode() in report.body


def test_its_pages_are_there_with_all_that_they_load(service: Service, document: Any) -> None:
    assert document["openapi"].startswith("3.1")
    for path in ("/", "/docs"):
        page = service.ask("GET", path)
        assert page.kind == "text/html"
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        loaded = [
            part.partition(b'"')[0].decode()
            for attribute in (b' src="', b' href="')
            for part in page.body.split(attribute)[1:]
        ]
        files = [name for name in loaded if name.endswith((".js", ".css", ".svg", ".png"))]
        assert files
        for name in files:
            assert "://" not in name
            assert service.ask("GET", f"/{name.removeprefix('/')}").body


# what it answers


def test_an_example_is_predicted_alone_and_in_a_list(service: Service, examples: dict[str, Any]) -> None:
    for name, record in examples.items():
        alone = service.ask("POST", f"/output/{name}", record).json
        assert alone["errors"] is None
        assert alone["model"].startswith(f"{name}-")
        (value,) = alone["result"]
        if "probability" in alone:
            assert value in (0, 1)
            assert 0 <= alone["probability"][0] <= 1
        else:
            assert value >= 0
        listed = service.ask("POST", f"/output/{name}", [record] * 3).json
        assert listed["model"] == alone["model"]
        assert listed["result"] == alone["result"] * 3
        assert service.ask("POST", f"/output/{alone['model']}", record).json == alone


def test_the_default_use_case_answers_by_other_names(service: Service, document: Any, examples: dict[str, Any]) -> None:
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    ((name, example),) = body["examples"].items()
    answer = service.ask("POST", f"/output/{name}", example["value"]).json
    assert service.ask("POST", "/predict", example["value"]).json == answer
    assert service.ask("POST", "/output/champion", example["value"]).json == answer


def test_a_trailing_slash_does_not_matter(service: Service, examples: dict[str, Any]) -> None:
    service.ask("GET", "/health/")
    name, record = next(iter(examples.items()))
    service.ask("POST", f"/output/{name}/", record)


def test_wrong_input_is_refused_with_the_name_of_the_field(service: Service, examples: dict[str, Any]) -> None:
    for name, record in examples.items():
        field = next(iter(record))
        faults = (
            {key: value for key, value in record.items() if key != field},
            {**record, field: []},
            {**record, field: "no such value"},
        )
        for wrong in faults:
            assert list(service.ask("POST", f"/output/{name}", wrong, status=422).json["errors"]) == [field]
        unknown = service.ask("POST", f"/output/{name}", {**record, "surprise": 1}, status=422).json
        assert list(unknown["errors"]) == ["surprise"]


def test_a_list_with_a_wrong_row_is_refused_or_answered_in_part(service: Service, examples: dict[str, Any]) -> None:
    for name, record in examples.items():
        field = next(iter(record))
        rows = [record, {**record, field: "no such value"}, record]
        refused = service.ask("POST", f"/output/{name}", rows, status=422).json
        assert list(refused["errors"]["rows"]) == ["1"]
        partial = service.ask("POST", f"/output/{name}?partial=true", rows).json
        first, none, last = partial["result"]
        assert (none, first) == (None, last)
        assert list(partial["errors"]["rows"]["1"]) == [field]


def test_what_is_no_json_and_what_is_empty_is_refused(service: Service, examples: dict[str, Any]) -> None:
    name = next(iter(examples))
    service.ask("POST", f"/output/{name}", b"{", status=400, headers={"Content-Type": "application/json"})
    service.ask("POST", f"/output/{name}", [], status=400)


def test_unknown_models_paths_and_methods_are_problems(service: Service, examples: dict[str, Any]) -> None:
    record = next(iter(examples.values()))
    for model_id in ("nothing", "credit-lightgbm_v1.0.0-1.000001", "..%2f..%2fetc%2fpasswd"):
        service.ask("POST", f"/output/{model_id}", record, status=404)
    service.ask("GET", "/models/nothing", status=404)
    service.ask("GET", "/no/such/page", status=404)
    assert "POST" in service.ask("GET", "/predict", status=405).headers["Allow"]


def test_a_score_is_explained_by_contributions_that_sum_to_it(service: Service, examples: dict[str, Any]) -> None:
    for name, record in examples.items():
        described = service.ask("GET", f"/models/{name}").json
        if "svr" in described["algorithm"].lower():  # the one kind of model that has no contributions
            service.ask("POST", f"/explain/{name}", record, status=501)
            continue
        (one,) = service.ask("POST", f"/explain/{name}", record).json["explanations"]
        whole = one["base_value"] + sum(one["contributions"].values())
        assert isclose(whole, one["raw_score"], rel_tol=1e-6, abs_tol=1e-6)


def test_the_hold_out_of_the_training_is_scored_as_the_manifest_says_where_it_is_kept(
    service: Service, examples: dict[str, Any]
) -> None:
    name = next(iter(examples))
    metrics = service.ask("GET", f"/models/{name}").json["metrics"]["hold_out"]
    scored = service.ask("POST", f"/outputs/{name}", status=(200, 404, 413))
    if scored.status == 413:
        pytest.skip("the hold-out has more rows than MAX_ROWS")
    if scored.status == 404:  # images are built without it
        assert "hold-out" in scored.json["detail"]
        return
    answer = scored.json
    score = answer["auc_score"] if "auc_score" in answer else answer["r2_score"]
    assert any(isclose(score, value, abs_tol=1e-6) for value in metrics.values())


def uploaded(records: list[dict[str, Any]], name: str = "records.csv") -> tuple[bytes, dict[str, str]]:
    """A multipart body with a CSV file, and its header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]))
    writer.writeheader()
    writer.writerows(records)
    head = f'Content-Disposition: form-data; name="fileupload"; filename="{name}"\r\nContent-Type: text/csv'
    body = f"--boundary\r\n{head}\r\n\r\n{text.getvalue()}\r\n--boundary--\r\n"
    return body.encode(), {"Content-Type": "multipart/form-data; boundary=boundary"}


def test_a_file_is_answered_as_its_records_are_and_as_a_table_on_request(
    service: Service, examples: dict[str, Any]
) -> None:
    for name, record in examples.items():
        expected = service.ask("POST", f"/outputs/{name}", [record, record]).json
        body, headers = uploaded([record, record])
        answer = service.ask("POST", f"/outputs_upload/{name}", body, headers=headers).json
        assert answer.pop("read_as") == {"format": "csv", "separator": ",", "decimal": ".", "encoding": "utf-8"}
        assert answer == expected
        table = service.ask("POST", f"/outputs_upload/{name}", body, headers={**headers, "Accept": "text/csv"})
        assert table.kind == "text/csv"
        rows = list(csv.DictReader(io.StringIO(table.body.decode("utf-8-sig"))))
        assert [float(row["result"]) for row in rows] == expected["result"]
    body, headers = uploaded([record], "records.pdf")
    service.ask("POST", f"/outputs_upload/{name}", body, headers=headers, status=415)


def test_a_job_is_answered_and_known_whichever_instance_is_asked(service: Service, examples: dict[str, Any]) -> None:
    name, record = next(iter(examples.items()))
    expected = service.ask("POST", f"/output/{name}", record).json
    path = service.ask("POST", f"/jobs/{name}", [record] * 3, status=202).headers["Location"]
    try:
        deadline = time.monotonic() + LONGEST_JOB
        while (job := service.ask("GET", path).json)["state"] in ("waiting", "running"):
            assert time.monotonic() < deadline, job
            time.sleep(1)
        assert (job["state"], job["rows_done"], job["model"]) == ("done", 3, expected["model"])
        lines = service.ask("GET", job["results"]["csv"]).body.decode().splitlines()
        assert len(lines) == 4
    finally:
        service.ask("DELETE", path, status=204)
    service.ask("GET", path, status=404)


# who may ask


def test_without_credentials_predictions_are_for_nobody_where_users_are_needed(
    service: Service, examples: dict[str, Any], needs_user: bool
) -> None:
    name, record = next(iter(examples.items()))
    for path in (f"/output/{name}", f"/outputs/{name}", f"/explain/{name}", "/predict"):
        if needs_user:
            refused = service.ask("POST", path, record, status=401, user=NOBODY)
            assert refused.headers["WWW-Authenticate"].startswith("Basic ")
    if needs_user:
        service.ask("POST", f"/output/{name}", record, status=401, user=(service.user, "not the password"))
    else:
        service.ask("POST", f"/output/{name}", record, user=NOBODY)


def test_bikes_are_predicted_and_scored_by_the_routes_that_always_need_a_user(service: Service, document: Any) -> None:
    def query(path: str) -> dict[str, Any]:
        parameters = document["paths"][path]["post"]["parameters"]
        return {one["name"]: one["example"] for one in parameters if one["in"] == "query" and one["required"]}

    (name,) = [one for one in document["paths"]["/scores/{name}"]["post"]["parameters"] if one["in"] == "path"]
    hour = with_query("/predictions", query("/predictions"))
    score = f"/scores/{name['example']}"
    for path in (hour, score):
        service.ask("POST", path, status=401, user=NOBODY)
    if not service.user:
        pytest.skip("these routes always need a user: set TABSERVE_USER and TABSERVE_PASSWORD")
    predicted = service.ask("POST", hour).json
    assert predicted["user"] == service.user
    assert predicted["bikes"] >= 0
    scored = service.ask("POST", score).json
    assert scored["user"] == service.user
    assert scored["model"] <= 1
    service.ask("POST", with_query("/predictions", {**query("/predictions"), "hour": 99}), status=422)
