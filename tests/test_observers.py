"""What looks at requests: the log of accesses and traces, of the front's answers and of Flask's, on a real server."""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tabserve.api.front import Front
from tabserve.api.observers.access_log import AccessLog
from tabserve.api.observers.front import ObservedFront, observed
from tabserve.api.observers.observer import Answered, Observer
from tabserve.registry.registry import Registry
from tests.asgi import answered_at_once, ask, scope_of
from tests.conftest import ROOT, free_port, running_server, wait_until

MARKER = "Xylophone4711"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Heard(Observer):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.heard: list[tuple[str, str, int, int]] = []

    def begin(self, scope: Any) -> None:
        self.begun.append(scope["path"])

    def answered(self, answered: Answered) -> None:
        assert answered.begun <= answered.ended
        self.heard.append((answered.method, answered.route, answered.status, answered.size))


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/health", "/health", 200),
        ("GET", "/models?use_case=credit", "/models", 200),
        ("POST", "/predict", "/predict", 400),
        ("POST", f"/output/{MARKER}", "/output/<model_id>", 404),
        ("GET", f"/{MARKER}\n{MARKER}", "(unknown)", 404),
        ("XYLOPHONE", "/health", "(unknown)", 405),
    ],
)
def test_an_observer_hears_of_each_request_once_and_nothing_that_clients_made_up(
    app: APIFlask, method: str, path: str, route: str, status: int
) -> None:
    heard = Heard()
    answered = ask(ObservedFront(Front(app), app, [heard]), method, path, b"{")
    shown = method if method in ("GET", "POST") else "(unknown)"
    route = "/health" if path == "/health" else route
    assert heard.heard == [(shown, route, status, len(answered.body))]
    assert len(heard.begun) == 1


def test_it_hears_of_what_is_answered_at_once(app: APIFlask, record: dict[str, Any]) -> None:
    app.extensions["predictor"].resolve("credit")
    heard = Heard()
    front = ObservedFront(Front(app), app, [heard])
    answer = answered_at_once(front, scope_of("POST", "/output/credit"), json.dumps(record).encode())
    assert answer
    assert heard.heard == [("POST", "/output/<model_id>", 200, len(answer.body))]
    assert answered_at_once(front, scope_of("POST", "/output/credit"), b"{") is None
    assert len(heard.heard) == 1


def test_a_client_that_leaves_was_not_answered(app: APIFlask) -> None:
    heard = Heard()
    ask(ObservedFront(Front(app), app, [heard]), "POST", "/predict", [b"{", None])
    assert heard.heard == []


def test_without_the_settings_nothing_observes(app: APIFlask) -> None:
    assert type(observed(app)) is Front


# the log of accesses


def get(url: str, body: bytes | None = None, method: str | None = None, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers


def test_a_line_of_the_log_is_as_bounded_as_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "tabserve.access")
    AccessLog().answered(
        Answered(scope_of("GET", "/"), "/output/<model_id>", "POST", 200, 87, 10**18, 10**18 + 1234567)
    )
    (line,) = caplog.records
    assert line.getMessage() == "POST /output/<model_id> 200 in 1.235 ms, 87 bytes"
    assert line.__dict__["fields"] == {
        "method": "POST",
        "route": "/output/<model_id>",
        "status": 200,
        "ms": 1.235,
        "bytes": 87,
    }


@pytest.mark.parametrize("metrics", ["off", "path"])
def test_a_server_logs_each_request_without_query_and_body(
    trained: Registry, record: dict[str, Any], tmp_path: Path, metrics: str
) -> None:
    log = tmp_path / "log.txt"
    environment = {
        "MODEL_REGISTRY": str(trained.location),
        "WEB_CONCURRENCY": "1",
        "ACCESS_LOG": "true",
        "LOG_FORMAT": "json",
        "METRICS": metrics,
    }
    body = json.dumps(record).encode()
    with running_server(log, environment) as server:
        asked = [
            (f"/output/credit?{MARKER}={MARKER}", body, 422),
            ("/output/credit", body, 200),
            ("/output/credit", json.dumps({**record, "housing": MARKER}).encode(), 422),
            (f"/jobs/{MARKER}", None, 404),
            (f"/{MARKER}%0A{MARKER}", None, 404),
        ]
        for number, (path, content, status) in enumerate(asked):
            headers = {"X-Request-Id": f"number-{number}", "traceparent": TRACEPARENT}
            assert get(f"{server.url}{path}", content, **headers)[0] == status
    text = log.read_text()
    assert MARKER not in text
    lines = [json.loads(line) for line in text.splitlines()]
    accesses = {line["request_id"]: line for line in lines if line["logger"] == "tabserve.access"}
    found = [accesses[f"number-{number}"] for number in range(len(asked))]
    assert [line["route"] for line in found] == [*["/output/<model_id>"] * 3, "/jobs/<name>", "(unknown)"]
    assert [line["status"] for line in found] == [status for *_, status in asked]
    assert {line["trace_id"] for line in found} == {TRACE}
    assert all(line["ms"] > 0 and line["bytes"] > 0 for line in found)


# traces


class Receiver:
    """A receiver of OpenTelemetry's protocol over HTTP."""

    def __init__(self) -> None:
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.take(self.path, ExportTraceServiceRequest.FromString(content))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.spans: list[Span] = []
        self.service: dict[str, str] = {}
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, path: str, request: ExportTraceServiceRequest) -> None:
        assert path == "/v1/traces"
        for of_resource in request.resource_spans:
            self.service = {one.key: one.value.string_value for one in of_resource.resource.attributes}
            for of_scope in of_resource.scope_spans:
                self.spans += of_scope.spans

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def by_request(self) -> dict[str, tuple[Span, dict[str, Any]]]:
        """The spans with their attributes, by the request's id."""
        found = {}
        for span in self.spans:
            attributes = {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
            found[attributes["tabserve.request_id"]] = span, attributes
        return found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with closing(Receiver()) as running:
        yield running


def test_a_server_sends_a_span_for_each_request(
    trained: Registry, record: dict[str, Any], receiver: Receiver, tmp_path: Path
) -> None:
    log = tmp_path / "log.txt"
    environment = {
        "MODEL_REGISTRY": str(trained.location),
        "WEB_CONCURRENCY": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "ACCESS_LOG": "true",
        "LOG_FORMAT": "json",
    }
    body = json.dumps(record).encode()
    with running_server(log, environment) as server:
        _, certain = get(f"{server.url}/output/credit", body, **{"X-Request-Id": "certain"})
        get(f"{server.url}/output/credit", body, **{"X-Request-Id": "part", "traceparent": TRACEPARENT})
        get(f"{server.url}/output/credit", body, **{"X-Request-Id": "unsampled", "traceparent": f"{TRACEPARENT[:-1]}0"})
        _, of_flask = get(f"{server.url}/models/{MARKER}", **{"X-Request-Id": "of-flask"})
        get(f"{server.url}/predict", body, **{"X-Request-Id": "last"})
        wait_until(lambda: "last" in receiver.by_request(), 20, "the span of the last request")
    spans = receiver.by_request()
    assert "unsampled" not in spans
    assert receiver.service["service.name"] == "tabserve"
    span, attributes = spans["certain"]
    assert span.name == "POST /output/<model_id>"
    assert span.kind == Span.SPAN_KIND_SERVER
    assert attributes["tabserve.use_case"] == "credit"
    assert attributes["tabserve.model_id"] == trained.latest("credit")
    assert attributes["http.response.status_code"] == 200
    assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 5e9
    assert certain["traceparent"] == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"
    assert span.parent_span_id == b""
    part, _ = spans["part"]
    assert (part.trace_id.hex(), part.parent_span_id.hex()) == (TRACE, PARENT)
    flasks, attributes = spans["of-flask"]
    assert (attributes["http.route"], attributes["http.response.status_code"]) == ("/models/<model_id>", 404)
    assert of_flask["traceparent"] == f"00-{flasks.trace_id.hex()}-{flasks.span_id.hex()}-01"
    assert flasks.status.code == Status.STATUS_CODE_UNSET
    assert MARKER not in str(receiver.spans)
    assert spans["last"][1]["tabserve.use_case"] == "credit"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    of_log = {line["request_id"]: line["trace_id"] for line in lines if "request_id" in line}
    assert of_log["certain"] == span.trace_id.hex()
    assert of_log["of-flask"] == flasks.trace_id.hex()


def test_a_receiver_that_is_away_holds_up_nobody(trained: Registry, record: dict[str, Any], tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    address = f"http://127.0.0.1:{free_port()}/{MARKER}"
    environment = {
        "MODEL_REGISTRY": str(trained.location),
        "WEB_CONCURRENCY": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": address,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with running_server(log, environment) as server:
        for _ in range(20):
            assert get(f"{server.url}/output/credit", json.dumps(record).encode())[0] == 200
        wait_until(lambda: "opentelemetry" in log.read_text(), 20, "a line about spans that were not sent")
    assert server.process.returncode == 0
    assert not re.search(f"{MARKER}|127.0.0.1:|Traceback", log.read_text().split("Listening at")[1].partition("\n")[2])


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Blocked())
from tabserve.api.start import check
check()
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    whole = {**os.environ, "AUTH_REQUIRED": "false", "PORT": str(free_port()), "HOST": "127.0.0.1", **environment}
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=whole, capture_output=True, text=True, timeout=60)


def test_without_the_extra_the_service_says_so_in_one_sentence() -> None:
    done = run(BLOCKED, OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:4318")
    assert done.returncode == 1
    expected = "Libraries are missing (opentelemetry.sdk.trace.export): pip install 'tabserve[tracing]'\n"
    assert done.stderr.replace("opentelemetry)", "opentelemetry.sdk.trace.export)") == expected
    assert run(BLOCKED).returncode == 0


def test_nothing_of_opentelemetry_is_imported_unless_it_is_asked_for() -> None:
    code = (
        "import sys, application, tabserve.api.worker\nfrom tabserve.api.start import check\n"
        "from tabserve.api.observers.front import observed\ncheck()\nobserved(application.application)\n"
        "assert ('opentelemetry' in sys.modules) == (len(sys.argv) > 1)"
    )
    assert run(code).stderr == ""
    assert run(code, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1").returncode == 1
