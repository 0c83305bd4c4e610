"""The metrics: what processes and threads count, what is left of those that are killed, and what is shown."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from apiflask import APIFlask
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed_open
from prometheus_client.parser import text_string_to_metric_families as parsed
from werkzeug.exceptions import HTTPException

from tabserve.api.app import create_app
from tabserve.api.metrics import catalogue, folder
from tabserve.api.metrics import sheet as module
from tabserve.api.metrics.catalogue import COUNTER, METRICS, PROBABILITIES
from tabserve.api.metrics.exposition import exposition
from tabserve.api.metrics.figures import NOT_KNOWN, Figures
from tabserve.api.metrics.front import MeasuredFront, Routes, front_of
from tabserve.api.metrics.sheet import Sheet
from tabserve.errors import InvalidSettingError
from tabserve.evaluation.distribution import Distributions
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tests.asgi import Answer, ask
from tests.conftest import ROOT, Server, children_of, free_port, running_server, wait_until

OPEN = "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5"
HOSTILE = 'evil"\n} 1'


@pytest.fixture
def sheets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of sheets, for all that is made in the test."""
    path = tmp_path / "sheets"
    path.mkdir()
    monkeypatch.setenv(folder.VARIABLE, str(path))
    return path


@pytest.fixture
def measured(trained: Registry, sheets: Path) -> APIFlask:
    app = create_app(Settings(model_registry=trained.location, auth_required=False, metrics="path"))
    app.extensions["predictor"].resolver.refresh()
    return app


def shown(path: Path) -> dict[tuple[str, ...], float]:
    """The samples of a folder, by name and the labels' values in the order of their names."""
    return samples(exposition(path)[0].decode())


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (one.name, *(value for _, value in sorted(one.labels.items()))): one.value
        for family in parsed(text)
        for one in family.samples
    }


def total(found: dict[tuple[str, ...], float], name: str, *values: str) -> float:
    return sum(value for key, value in found.items() if key[0] == name and {*values} <= {*key[1:]})


def asked(app: APIFlask, *arguments: Any) -> Answer:
    """Ask a service whose event loop is a new one."""
    return ask(front_of(app), *arguments)


def opened(path: Path) -> Sheet:
    sheet = Sheet.open(path)
    assert sheet
    return sheet


# counting

COUNTED = [catalogue.LOAD_FAILURES, catalogue.SCORE, catalogue.LOGGED, catalogue.QUEUE_BYTES, catalogue.LOG_AWAY]
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 2),  # process
        st.sampled_from(
            [catalogue.LOAD_FAILURES, catalogue.SCORE, catalogue.LOGGED, catalogue.QUEUE_BYTES, catalogue.LOG_AWAY]
        ),
        st.sampled_from(["a", "b", 'quoted "\\\n', "ünïcode", ""]),
        st.integers(0, 1000),
    ),
    max_size=60,
)


@given(CHANGES)
def test_what_is_shown_is_the_sum_of_what_processes_counted(changes: list[tuple[int, Any, str, int]]) -> None:
    with TemporaryDirectory() as name:
        base = Path(name)
        processes = [opened(base / f"worker-{number}") for number in range(1, 4)]
        expected: Counter[tuple[str, ...]] = Counter()
        gauges: dict[tuple[str, int], float] = {}
        for number, metric, label, amount in changes:
            labels = ("use", label)[: len(metric.labels)] if len(metric.labels) != 1 else (label,)
            sheet, value = processes[number], amount / 1000
            if metric is catalogue.SCORE:
                sheet.observe(sheet.place(metric, labels, PROBABILITIES), PROBABILITIES, value)
                order = (label, "use")  # model, use_case
                expected["tabserve_score_count", *order] += 1
                expected["tabserve_rows_total", *order] += 1
                for edge in PROBABILITIES:
                    expected["tabserve_score_bucket", str(edge), *order] += value <= edge
            elif metric.kind == COUNTER:
                sheet.add(sheet.place(metric, labels), amount)
                expected[metric.name, *reversed(labels)] += amount
            else:
                sheet.set(sheet.place(metric), amount)
                gauges[metric.name, number] = amount
        found = shown(base)
        for key, amount in expected.items():
            assert found[key] == amount, key
        for metric, joined in ((catalogue.QUEUE_BYTES, sum), (catalogue.LOG_AWAY, max)):
            values = [value for (name, _), value in gauges.items() if name == metric.name]
            assert found.get((metric.name,)) == (joined(values) if values else None)


class Slow(float):
    """A number that lets other threads come while it is added."""

    def __radd__(self, other: float) -> float:
        result = other + 1.0
        time.sleep(0.0005)
        return result


def test_threads_lose_no_change_of_each_other(sheets: Path) -> None:
    sheet = opened(sheets / "worker-1")
    place = sheet.place(catalogue.LOGGED)
    in_threads(8, lambda _: [sheet.add(place, Slow(1)) for _ in range(20)])
    assert shown(sheets)["tabserve_decisions_logged_total",] == 160


def test_threads_that_find_new_series_at_the_same_time_share_them(sheets: Path) -> None:
    sheet = opened(sheets / "worker-1")
    figures = Figures(sheet)

    def count(_: int) -> None:
        for number in range(100):
            figures.answered(f"/route/{number}", "GET", 200, 0.01)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        in_threads(6, count)
    finally:
        sys.setswitchinterval(before)
    found = shown(sheets)
    assert {found["tabserve_requests_total", "GET", f"/route/{number}", "200"] for number in range(100)} == {6}
    assert {found["tabserve_request_seconds_count", f"/route/{number}"] for number in range(100)} == {6}


def in_threads(number: int, work: Any) -> None:
    threads = [threading.Thread(target=work, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


COUNT = """
import os, signal, sys
from tabserve.api.metrics import catalogue
from tabserve.api.metrics.folder import open_sheet
sheet = open_sheet("worker")
sheet.set(sheet.place(catalogue.QUEUE_BYTES), 7)
for _ in range(1000):
    sheet.add(sheet.place(catalogue.LOGGED))
print("counted", flush=True)
if sys.stdin.read():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def counting(path: Path) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-c", COUNT],
        env={**os.environ, folder.VARIABLE: str(path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdout.readline() == b"counted\n"
    return process


def test_processes_that_are_killed_leave_what_they_counted_and_no_more_files(sheets: Path) -> None:
    name, queue = ("tabserve_decisions_logged_total",), ("tabserve_decision_log_queue_bytes",)
    for number in range(1, 3):
        both = [counting(sheets), counting(sheets)]
        assert shown(sheets)[name] == number * 2000
        assert shown(sheets)[queue] == 14
        for process in both:
            process.communicate(b"die")
            assert process.returncode == -signal.SIGKILL
        assert shown(sheets)[name] == number * 2000
        assert queue not in shown(sheets)  # what is true of a process is not, when it has ended
        assert [path.name for path in sorted(sheets.iterdir())] == ["worker-1", "worker-2"]


def test_a_sheet_that_is_full_counts_what_it_cannot_hold(sheets: Path) -> None:
    figures = Figures(opened(sheets / "worker-1"))
    for number in range(2000):
        figures.count(catalogue.FAULTS, ("credit", f"field {number}" * 20, "invalid"))
        figures.answered(f"/{number}", "GET", 200, 1.0)
    found = shown(sheets)
    assert found["tabserve_uncounted_total",] > 1000
    assert total(found, "tabserve_faults_total") + total(found, "tabserve_requests_total") > 300


def test_a_service_without_room_for_sheets_serves(
    sheets: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module.os, "pwrite", lambda *_: 0)
    Figures.of_process("worker").refused("busy")
    assert "not in the metrics: No space left on device" in caplog.text
    assert total(shown(sheets), "tabserve_refused_total") == 0


def test_the_folder_is_deleted_with_its_service_and_those_of_killed_ones_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, sys\nfrom tabserve.api.metrics import folder\n"
        f"folder.SHARED_MEMORY = pathlib.Path({str(tmp_path)!r})\nfolder.open_sheet('worker')\n"
        "if len(sys.argv) > 1: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != folder.VARIABLE}
    killed = subprocess.run([sys.executable, "-c", code, "die"], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len([*tmp_path.iterdir()]) == 1
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert [*tmp_path.iterdir()] == []


# what is shown


def test_a_new_service_shows_zeros_and_both_formats(sheets: Path) -> None:
    Figures.of_process("worker")
    found = shown(sheets)
    assert found["tabserve_uncounted_total",] == found["tabserve_refused_total", "busy"] == 0
    assert found["tabserve_worker_memory_bytes", "1"] > 1_000_000
    text, media_type = exposition(sheets, OPEN)
    assert media_type.startswith("application/openmetrics-text")
    names = {family.name for family in parsed_open(text.decode())}
    assert names == {metric.name.removesuffix("_total") for metric in METRICS}


def test_rows_results_scores_and_faults_are_counted(
    measured: APIFlask, sheets: Path, record: dict[str, Any], records: list[dict[str, Any]]
) -> None:
    client = measured.test_client()
    assert client.post("/output/credit", json=record).status_code == 200  # Flask
    assert asked(measured, "POST", "/output/credit", json.dumps(record).encode()).status == 200  # the loop
    answer = client.post("/output/credit", json=records[:50]).json
    assert answer
    model = answer["model"]
    wrong = {**{name: value for name, value in record.items() if name != "age"}, HOSTILE: 1, "months_loan_duration": -1}
    assert asked(measured, "POST", "/output/credit", json.dumps(wrong).encode()).status == 422
    mixed = json.dumps([record, wrong]).encode()
    assert asked(measured, "POST", "/output/credit?partial=true", mixed).status == 200
    found = shown(sheets)
    assert found["tabserve_rows_total", model, "credit"] == 53
    results = [*answer["result"], *[client.post("/output/credit", json=record).json["result"][0]] * 3]  # type: ignore[index]
    for result in (0, 1):
        assert found["tabserve_predictions_total", str(result), model, "credit"] == results.count(result)
    assert found["tabserve_score_count", model, "credit"] == 53
    below = sum(probability <= 0.5 for probability in answer["probability"])
    own = client.post("/output/credit", json=record).json["probability"][0]  # type: ignore[index]
    assert found["tabserve_score_bucket", "0.5", model, "credit"] == below + 3 * (own <= 0.5)
    assert found["tabserve_score_sum", model, "credit"] == pytest.approx(sum(answer["probability"]) + 3 * own)
    for field, kind in (("age", "missing"), ("months_loan_duration", "invalid"), (NOT_KNOWN, "unknown")):
        assert found["tabserve_faults_total", field, kind, "credit"] == 2
    assert found["tabserve_requests_total", "POST", "/output/<model_id>", "200"] == 2  # what the test client asked,
    assert found["tabserve_requests_total", "POST", "/output/<model_id>", "422"] == 1  # did not pass the front
    assert found["tabserve_request_seconds_count", "/output/<model_id>"] == 3


def test_the_values_of_a_regression_are_counted_without_decisions(measured: APIFlask, sheets: Path) -> None:
    artifact: Artifact = measured.extensions["predictor"].resolve("bikes")
    body = json.dumps(artifact.declared.example).encode()
    answer = asked(measured, "POST", "/output/bikes", body)
    assert answer.status == 200, answer
    (value,) = json.loads(answer.body)["result"]
    found = shown(sheets)
    deciles = artifact.manifest.distributions.scores["score"].edges
    buckets = {float(key[1]): count for key, count in found.items() if key[0] == "tabserve_score_bucket"}
    assert buckets == {edge: float(value <= edge) for edge in (*deciles, float("inf"))}
    assert found["tabserve_score_sum", artifact.model_id, "bikes"] == value
    assert total(found, "tabserve_predictions_total") == 0


def test_values_whose_range_nobody_knows_are_counted_by_powers_of_ten(sheets: Path) -> None:
    manifest = SimpleNamespace(use_case="cost", distributions=Distributions())
    task = SimpleNamespace(answer_parts=(SimpleNamespace(schema={"type": "number"}),))
    artifact: Any = SimpleNamespace(manifest=manifest, model_id="cost-1", task=task)
    prediction: Any = SimpleNamespace(predictions=np.array([-3.0, 0.5, 1e9]), columns={"result": [-3.0, 0.5, 1e9]})
    Figures.of_process("worker").decided(artifact, prediction)
    found = shown(sheets)
    assert [found["tabserve_score_bucket", edge, "cost-1", "cost"] for edge in ("-1.0", "1.0", "+Inf")] == [1, 2, 3]


def test_of_several_classes_the_largest_probability_is_counted(sheets: Path) -> None:
    figures = Figures.of_process("worker")
    labels = ("low", "middle", "high")
    task = SimpleNamespace(answer_parts=(SimpleNamespace(schema={"enum": labels}), None))
    artifact: Any = SimpleNamespace(manifest=SimpleNamespace(use_case="risk"), model_id="risk-1", task=task)
    for rows in ([[0.1, 0.7, 0.2]], [[0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]]):
        results = [labels[int(np.argmax(row))] for row in rows]
        prediction: Any = SimpleNamespace(predictions=np.array(rows), columns={"result": [*results, None]})
        figures.decided(artifact, prediction)
    found = shown(sheets)
    assert [found["tabserve_predictions_total", label, "risk-1", "risk"] for label in labels] == [2, 1, 1]
    assert found["tabserve_score_sum", "risk-1", "risk"] == pytest.approx(0.7 + 0.5 + 0.6 + 0.9)
    assert found["tabserve_score_bucket", "0.6", "risk-1", "risk"] == 2


def test_models_and_failures_to_load_them_are_shown(registry: Registry, sheets: Path) -> None:
    app = create_app(Settings(model_registry=registry.location, auth_required=False, metrics="path"))
    resolver, figures = app.extensions["predictor"].resolver, app.extensions["figures"]
    figures.watch(resolver)
    assert total(shown(sheets), "tabserve_model_loaded") == 0
    resolver.refresh()
    figures.watch(resolver)
    model = resolver.resolve("credit").model_id
    found = shown(sheets)
    assert found["tabserve_model_loaded", model, "credit"] == 1
    timestamp = found["tabserve_model_trained_timestamp_seconds", model, "credit"]
    assert timestamp == pytest.approx(float(model.rpartition("-")[2]), abs=1)
    assert found["tabserve_registry_away",] == 0
    (registry.location / model / "model.pkl").write_bytes(b"") if isinstance(registry.location, Path) else None
    fresh = create_app(Settings(model_registry=registry.location, auth_required=False, metrics="path"))
    fresh.extensions["predictor"].resolver.refresh()
    for _ in range(2):
        fresh.extensions["figures"].watch(fresh.extensions["predictor"].resolver)
    assert shown(sheets)["tabserve_model_load_failures_total", "credit"] == 1


PATHS = [
    "/", "/health", "/ready/credit", "/output/credit", "/output/credit/", "/output/", "/output", "/jobs/x/result.csv",
    "/jobs/x", "/jobs/x/y", "/models/a/report", "/page.css", "/other.css", "/docs/docs.js", "/docs/other.js",
    "/metrics", "/nothing", "//", "/output//credit", "/output/cre%0adit", f"/output/{HOSTILE}", f"/{HOSTILE}",
    "/output/a/b", "/../",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_route_is_the_one_that_flask_finds(measured: APIFlask, path: str) -> None:
    adapter = measured.url_map.bind("")
    names = set()
    for method in ("GET", "POST"):
        try:
            rule, _ = adapter.match(unquote(path), method, return_rule=True)
            names.add(rule.rule.partition("<")[0])
        except HTTPException:
            pass
    expected = names or {NOT_KNOWN}
    assert Routes(measured).route_of(unquote(path)).partition("<")[0] in expected


def test_nothing_that_a_client_sends_becomes_a_label(measured: APIFlask, sheets: Path, record: dict[str, Any]) -> None:
    secret = "5ecret"
    paths = [
        f"/{secret}",
        f"/output/{secret}",
        f"/jobs/{secret}",
        f"/models/{secret}/report",
        f"/output/credit?{secret}",
    ]
    for path in paths:
        for method in ("GET", "POST", secret, "OPTIONS"):
            body = json.dumps({**record, secret: secret, "purpose": secret}).encode()
            asked(measured, method, path, body, {"X-Request-Id": secret, "User-Agent": secret})
    asked(measured, "POST", "/output/credit", json.dumps([{secret: secret}]).encode())
    for accept in ("", OPEN):
        text = exposition(sheets, accept)[0].decode()
        assert secret not in text
        assert 'method="(unknown)"' in text
        assert 'route="(unknown)"' in text


# where it is shown


def test_without_the_setting_there_is_nothing(trained: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(folder.VARIABLE, raising=False)
    app = create_app(Settings(model_registry=trained.location, auth_required=False))
    assert not isinstance(front_of(app), MeasuredFront)
    assert asked(app, "GET", "/metrics").status == 404
    assert folder.VARIABLE not in os.environ


def test_at_a_port_of_its_own_the_service_shows_nothing_itself(trained: Registry, sheets: Path) -> None:
    app = create_app(Settings(model_registry=trained.location, auth_required=False, metrics=":9100"))
    assert asked(app, "GET", "/metrics").status == 404
    assert shown(sheets)["tabserve_requests_total", "GET", NOT_KNOWN, "404"] == 1


def test_the_path_needs_no_user_and_takes_get_alone(trained: Registry, users_file: Path, sheets: Path) -> None:
    app = create_app(Settings(model_registry=trained.location, auth_users_file=users_file, metrics="path"))
    for answer in (asked(app, "GET", "/metrics"), asked(app, "GET", "/metrics?name[]=x")):
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert samples(answer.body.decode())
    assert app.test_client().get("/metrics").data.startswith(b"# HELP tabserve_requests_total ")
    assert asked(app, "POST", "/metrics").status == 405


def test_the_path_is_answered_however_late_the_loop_is(measured: APIFlask, sheets: Path, record: Any) -> None:
    class Late(MeasuredFront):
        def start(self) -> Any:
            bridge = super().start()
            self._pulse = SimpleNamespace(is_late=True)  # type: ignore[assignment]
            return bridge

    assert ask(Late(measured), "POST", "/output/credit", json.dumps(record).encode()).status == 503
    answer = ask(Late(measured), "GET", "/metrics", headers={"Accept": OPEN})
    assert answer.status == 200
    found = shown(sheets)
    assert found["tabserve_refused_total", "busy"] == 1
    assert found["tabserve_requests_total", "POST", "/output/<model_id>", "503"] == 1


def test_prometheus_client_is_imported_for_the_first_scrape(trained: Registry, sheets: Path) -> None:
    code = (
        "import sys\nfrom tabserve.api.app import create_app\nfrom tabserve.settings import Settings\n"
        "app = create_app(Settings.from_environment())\n"
        "app.extensions['predictor'].predict(a := app.extensions['predictor'].resolve('credit'), a.declared.example)\n"
        "assert 'prometheus_client' not in sys.modules\n"
        "assert app.test_client().get('/metrics').status_code == 200\n"
        "assert 'prometheus_client' in sys.modules\n"
    )
    environment = {"MODEL_REGISTRY": str(trained.location), "METRICS": "path", "AUTH_REQUIRED": "false"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **environment}, check=True)


def test_the_process_that_shows_metrics_is_small() -> None:
    code = "import tabserve.api.metrics.serving, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"flask", "numpy", "gunicorn", "sqlalchemy"} & {*done.stdout.split()}


def test_the_port_of_the_metrics_is_another_one() -> None:
    assert Settings.from_environment({"METRICS": ":9100"}).metrics_port == 9100
    assert Settings.from_environment({"METRICS": "path"}).metrics_port is None
    with pytest.raises(InvalidSettingError, match="a port other than PORT"):
        Settings.from_environment({"METRICS": ":8080"})


def test_the_documentation_lists_what_is_shown() -> None:
    page = (ROOT / "docs" / "operating.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("| `tabserve_")]
    assert lines == [
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels) or '-'} | {one.meaning} |"
        for one in METRICS
    ]


# real servers


@pytest.fixture(scope="module")
def served(trained: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, int]]:
    """Two workers, a companion, and metrics at a port of their own."""
    port = free_port()
    environment = {
        "MODEL_REGISTRY": str(trained.location),
        "WEB_CONCURRENCY": "2",
        "METRICS": f":{port}",
    }
    with running_server(tmp_path_factory.mktemp("metrics") / "log.txt", environment) as server:
        wait_until(lambda: bool(scraped(port)), 30, "The metrics are not shown.")
        yield server, port


def scraped(port: int) -> dict[tuple[str, ...], float]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return samples(answer.read().decode())
    except OSError:
        return {}


def workers_of(server: Server) -> list[int]:
    """The processes that serve: those that were forked, and are no programs of their own."""
    return [pid for pid in children_of(server.process.pid) if b"gunicorn" in command_of(pid)]


def command_of(pid: int) -> bytes:
    with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def predict(server: Server, record: Any) -> None:
    urllib.request.urlopen(f"{server.url}/output/credit", json.dumps(record).encode(), timeout=30).close()


def rows(port: int) -> float:
    return total(scraped(port), "tabserve_rows_total")


@pytest.mark.slow
def test_a_worker_that_is_killed_leaves_its_figures(served: tuple[Server, int], record: dict[str, Any]) -> None:
    server, port = served
    before = scraped(port)
    for _ in range(30):
        predict(server, record)
    assert rows(port) == total(before, "tabserve_rows_total") + 30
    killed = workers_of(server)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len({*workers_of(server)} - {*killed}) == 2, 30, "The workers do not come back.")
    assert rows(port) == total(before, "tabserve_rows_total") + 30
    loaded = "tabserve_model_loaded"
    wait_until(lambda: total(scraped(port), loaded, "credit") == 1, 30, "The models are not there again.")
    predict(server, record)
    found = scraped(port)
    assert total(found, "tabserve_rows_total") == total(before, "tabserve_rows_total") + 31
    assert found["tabserve_worker_restarts_total",] == total(before, "tabserve_worker_restarts_total") + 2
    assert {key[1] for key in found if key[0] == "tabserve_worker_memory_bytes"} >= {"1", "2"}


@pytest.mark.slow
def test_metrics_are_shown_while_no_worker_runs(served: tuple[Server, int], record: dict[str, Any]) -> None:
    server, port = served
    predict(server, record)
    expected, stopped = rows(port), workers_of(server)
    assert expected
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(f"{server.url}/health", timeout=1)
        assert rows(port) == expected
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
def test_what_is_no_request_is_counted(served: tuple[Server, int]) -> None:
    server, port = served
    before = total(scraped(port), "tabserve_refused_total", "malformed")
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=20) as client:
        client.sendall(b"5ecret nonsense\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 400")
    found = scraped(port)
    assert total(found, "tabserve_refused_total", "malformed") == before + 1
    assert total(found, "tabserve_requests_total", "(none)", "400") == before + 1


@pytest.mark.slow
def test_the_port_shows_metrics_alone(served: tuple[Server, int]) -> None:
    _, port = served
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for method, path, status in (("GET", "/", 404), ("GET", "/health", 404), ("5ECRET", "/metrics", 501)):
        connection.request(method, path)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (status, b"")
        connection.close()
        assert answer.headers["Server"] == "tabserve"


@pytest.mark.slow
def test_the_process_that_shows_metrics_comes_back_and_ends_with_the_service(trained: Registry, tmp_path: Path) -> None:
    port = free_port()
    environment = {"MODEL_REGISTRY": str(trained.location), "WEB_CONCURRENCY": "1", "METRICS": f":{port}"}
    with running_server(tmp_path / "log.txt", environment) as server:
        wait_until(lambda: bool(scraped(port)), 30, "The metrics are not shown.")
        (pid,) = {*children_of(server.process.pid)} - {*workers_of(server)}
        folders = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        (path,) = [Path(one.decode().partition("=")[2]) for one in folders if one.startswith(folder.VARIABLE.encode())]
        assert path.is_dir()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not scraped(port), 10, "It is not killed.")
        wait_until(lambda: bool(scraped(port)), 30, "It does not come back.")
    assert not scraped(port)
    assert not path.exists()
    assert "the process that shows metrics has ended" in (tmp_path / "log.txt").read_text()
    assert "Traceback" not in (tmp_path / "log.txt").read_text()
