"""What the running service must hold: gunicorn with the project's own settings, over sockets."""

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from tabserve.declaration.discovery import get_use_case
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tests.conftest import ROOT, Server, running_server, wait_until

MARKER = "Xylophone4711"
TABLE_OF_ERRORS = {400, 401, 404, 413, 415, 422, 429, 503}
HEAVY = ("pandas", "sklearn", "scipy", "lightgbm")
MOST_MEMORY = 110_000_000  # bytes
CREDIT = get_use_case("credit")
POST_ROUTES = ["/predict", "/output/credit", "/output/latest", "/outputs/credit", "/outputs_upload/credit"]


def connect(server: Server) -> HTTPConnection:
    return HTTPConnection(urlsplit(server.url).netloc, timeout=30)


@pytest.fixture
def connection(server: Server) -> Iterator[HTTPConnection]:
    with closing(connect(server)) as open_connection:
        yield open_connection


def ask(connection: HTTPConnection, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
    """Status, content type and body of an answer."""
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, answer.headers["Content-Type"], answer.read()


def assert_fine_or_a_problem(answer: Any, others: frozenset[int] = frozenset()) -> None:
    status, content_type, body = answer
    if status != 200:
        assert status in TABLE_OF_ERRORS | others, body
        assert content_type == "application/problem+json"
        assert json.loads(body)["status"] == status


def worker_of(server: Server) -> int:
    """Process id of the only worker."""
    pid = server.process.pid
    (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(worker)


# (a) bad input never gives a server error

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(0, 130)
    | st.floats()
    | st.sampled_from(
        [2**63, 2**64, 2**70, -(2**70), 1e308, -0.0, 35.0, 35.5, 10**400, "35", "", "NaN", "\x00", "\ud800"]
    )
    | st.sampled_from([value for value in CREDIT.example.values() if isinstance(value, str)])
    | st.text(max_size=8)
)
JSON = SCALARS | st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner), max_leaves=4
)
KEYS = st.sampled_from([*CREDIT.example, "default", "Age", "__proto__"]) | st.text(max_size=4)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """The example with some fields changed, some missing and some added."""
    record = {**CREDIT.example, **draw(st.dictionaries(KEYS, JSON, max_size=3))}
    for name in draw(st.lists(st.sampled_from(list(CREDIT.example)), max_size=2)):
        record.pop(name, None)
    return record


ANY_BODY = records() | st.lists(records() | JSON, max_size=4) | JSON
RAW = st.binary(max_size=200) | ANY_BODY.map(lambda body: json.dumps(body).encode()).flatmap(
    lambda text: st.integers(0, len(text)).map(lambda cut: text[:cut] + text[cut + 1 :])
)
CONTENT_TYPES = st.sampled_from(
    [
        *(
            "application/json",
            "text/csv",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "x/y; charset=martian",
        ),
        *("multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "application/json; charset=utf-16"),
    ]
) | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20).map(str.strip)
QUERIES = st.sampled_from(["", "?partial=true", "?partial=false", "?partial=1", "?partial", "?%ff=%fe", "?&&=="])


def fuzz(examples: int) -> Any:
    return settings(max_examples=examples, deadline=None, database=None)


def test_no_record_and_no_list_gives_a_server_error(connection: HTTPConnection) -> None:
    seen = set()

    @fuzz(250)
    @given(st.sampled_from(POST_ROUTES[:4]), QUERIES, ANY_BODY)
    def check(path: str, query: str, body: Any) -> None:
        answer = ask(connection, "POST", path + query, json.dumps(body).encode(), content_type="application/json")
        assert_fine_or_a_problem(answer)
        seen.add(answer[0])

    check()
    assert seen >= {200, 400, 422}


def test_no_bytes_and_no_content_type_give_a_server_error(connection: HTTPConnection) -> None:

    @fuzz(200)
    @given(st.sampled_from(POST_ROUTES), RAW, CONTENT_TYPES, st.sampled_from(["*/*", "text/csv", "", "q=;,"]))
    def check(path: str, body: bytes, content_type: str, accept: str) -> None:
        assert_fine_or_a_problem(ask(connection, "POST", path, body, content_type=content_type, accept=accept))

    check()


def test_no_path_and_no_name_of_a_model_gives_a_server_error(connection: HTTPConnection) -> None:
    names = st.text(max_size=12) | st.sampled_from(
        ["../../etc/passwd", "..", ".", "credit/..", "\x00", "credit-", "%2e"]
    )
    paths = st.builds(lambda prefix, name: prefix + quote(name, safe=""), st.sampled_from(
        ["/models/", "/output/", "/outputs/", "/outputs_upload/", "/", "//", "/static/", "/models?use_case=", "/docs/"]
    ), names)  # fmt: skip

    @fuzz(200)
    @given(st.sampled_from(["GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "BREW"]), paths)
    def check(method: str, path: str) -> None:
        status, content_type, body = ask(connection, method, path, b"{}")
        if method == "HEAD":
            assert body == b""
            assert status in TABLE_OF_ERRORS | {200, 405}
        else:
            assert_fine_or_a_problem((status, content_type, body), frozenset({405}))

    check()


CELLS = st.sampled_from([*CREDIT.example, *map(str, CREDIT.example.values()), "", '"', "=1+1", "a,b\nc"]) | st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), max_size=6
)
TABLES = st.lists(st.lists(CELLS, max_size=4), max_size=4)
VALID_CSV = ",".join(CREDIT.example) + "\n" + ",".join(map(str, CREDIT.example.values())) + "\n"


PLACES = st.integers(0, 100_000)  # taken modulo the length: a workbook holds the time, so its length varies


@st.composite
def workbooks(draw: st.DrawFn) -> bytes:
    """XLSX files: valid ones, ones with odd cells, and ones with a byte changed or an entry left out."""
    workbook = Workbook()
    sheet = workbook.active
    assert sheet
    rows = draw(st.just([list(CREDIT.example), list(CREDIT.example.values())]) | TABLES)
    for row in rows:
        sheet.append(list(row))
    for place in draw(st.lists(st.sampled_from(["A1", "C1", "A2", "B2", "E2", "T2", "U2", "V1", "A3"]), max_size=2)):
        sheet[place] = draw(st.none() | st.floats(-9, 9) | st.booleans() | CELLS)
    content = io.BytesIO()
    workbook.save(content)
    damaged = bytearray(content.getvalue())
    damage = draw(st.sampled_from(["none", "byte", "cut", "entry"]))
    if damage == "byte":
        damaged[draw(PLACES) % len(damaged)] ^= draw(st.integers(1, 255))
    elif damage == "cut":
        del damaged[draw(PLACES) % len(damaged) :]
    elif damage == "entry":
        whole, rest = zipfile.ZipFile(content), io.BytesIO()
        with zipfile.ZipFile(rest, "w") as archive:
            for name in draw(st.lists(st.sampled_from(whole.namelist()), unique=True)):
                archive.writestr(name, whole.read(name))
        return rest.getvalue()
    return bytes(damaged)


UPLOADS = (
    st.just(VALID_CSV.encode())
    | st.binary(max_size=100)
    | TABLES.map(lambda rows: "\n".join(",".join(row) for row in rows).encode())
    | st.integers(0, len(VALID_CSV)).flatmap(lambda cut: CELLS.map(lambda cell: splice(cut, cell)))
    | workbooks()
)


def splice(cut: int, cell: str) -> bytes:
    return (VALID_CSV[:cut] + cell + VALID_CSV[cut:]).encode()


@pytest.mark.slow
def test_no_uploaded_file_gives_a_server_error(connection: HTTPConnection) -> None:
    seen = set()

    @fuzz(200)
    @given(
        UPLOADS,
        st.sampled_from(["a.csv", "a.xlsx", "A.XLSX", "a.exe", "", "../a.csv", "é.csv"]),
        st.sampled_from(["fileupload", "file", ""]) | st.just("fileupload"),
        QUERIES,
        st.sampled_from(["*/*", "text/csv"]),
    )
    def check(content: bytes, name: str, field: str, query: str, accept: str) -> None:
        head = f'--B\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + b"\r\n--B--\r\n"
        answer = ask(
            connection,
            "POST",
            "/outputs_upload/credit" + query,
            body,
            content_type="multipart/form-data; boundary=B",
            accept=accept,
        )
        assert_fine_or_a_problem(answer)
        seen.add(answer[0])

    check()
    assert seen >= {200, 415, 422}


def raw(server: Server, data: bytes) -> bytes:
    """All that comes back for some bytes, sent as they are, before the connection is closed."""
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), timeout=30) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while part := client.recv(65536):
            answer += part
    return answer


NO_HTTP = {
    "a record as a request line": json.dumps({"name": MARKER}).encode() + b"\r\n\r\n",
    "a length that is too small": b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
    + json.dumps({"name": MARKER}).encode()
    + b"\r\n\r\n",
    "a length that is too large": b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n" + MARKER.encode(),
    "a negative length": b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n" + MARKER.encode(),
    "a malformed chunk": b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    + f"{MARKER}\r\n{MARKER}\r\n0\r\n\r\n".encode(),
    "a chunk that ends too early": b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n50\r\n"
    + MARKER.encode(),
    "another transfer coding": f"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {MARKER}\r\n\r\n".encode(),
    "a header without a colon": f"GET / HTTP/1.1\r\nHost: a\r\n{MARKER} x\r\n\r\n".encode(),
    "a header's name in brackets": f"GET / HTTP/1.1\r\nHost: a\r\n({MARKER}): x\r\n\r\n".encode(),
    "a space in the path": f"GET /health?{MARKER} {MARKER} HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
    "a very long path": f"GET /{MARKER * 1000} HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
    "a very long header": f"GET /health HTTP/1.1\r\nHost: a\r\nX: {MARKER * 1000}\r\n\r\n".encode(),
    "bytes": bytes(range(256)) + b"\r\n\r\n",
}


@pytest.mark.parametrize("data", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_gets_problems_too_and_nothing_back_of_what_it_said(server: Server, data: bytes) -> None:
    answer = raw(server, data)
    statuses = [int(part.split()[0]) for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses
    assert set(statuses) <= TABLE_OF_ERRORS
    assert answer.count(b"application/problem+json") == len(statuses)
    assert MARKER.encode() not in answer


@pytest.mark.parametrize("field", ["Expect", "SCRIPT_NAME", "Upgrade", "X-Forwarded-Prefix"])
def test_a_field_that_means_nothing_here_is_ignored(server: Server, field: str) -> None:
    answer = raw(server, f"GET /health HTTP/1.1\r\nHost: a\r\n{field}: /{MARKER}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert MARKER.encode() not in answer


def test_the_service_lives_on_after_all_that(
    server: Server, connection: HTTPConnection, record: dict[str, Any]
) -> None:
    for data in NO_HTTP.values():
        raw(server, data)
    assert ask(connection, "POST", "/predict", json.dumps(record).encode())[0] == 200
    assert " ERROR " not in server.log.read_text()


# (b) a worker stays small


def post(path: str, body: Any) -> bytes:
    content = json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def exchange(client: socket.socket, answers: BinaryIO, request: bytes) -> bytes:
    """Status line of the answer to a request on a connection that is kept; http.client takes as long as the service."""
    client.sendall(request)
    status, length = answers.readline().strip(), 0
    while header := answers.readline().strip():
        if header.startswith(b"Content-Length:"):
            length = int(header.partition(b":")[2])
    assert len(answers.read(length)) == length > 0
    return status


@pytest.mark.slow
def test_a_worker_stays_small_over_ten_thousand_requests(
    trained: Registry, records: list[dict[str, Any]], tmp_path: Path
) -> None:
    singles = [post("/predict", one) for one in records[:200]]
    many = post("/outputs/credit", records)
    environment = {"MODEL_REGISTRY": str(trained.location), "WEB_CONCURRENCY": "1"}
    with running_server(tmp_path / "log.txt", environment) as server:
        worker = worker_of(server)
        with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), timeout=30) as client:
            answers = client.makefile("rb")
            statuses = {
                exchange(client, answers, many if number % 500 == 0 else singles[number % len(singles)])
                for number in range(10_000)
            }
            answers.close()
        memory = Path(f"/proc/{worker}/status").read_text()
        mapped = Path(f"/proc/{worker}/maps").read_text()
        assert worker_of(server) == worker
    assert statuses == {b"HTTP/1.1 200 OK"}
    resident = next(int(line.split()[1]) for line in memory.splitlines() if line.startswith("VmRSS:"))
    assert resident * 1024 <= MOST_MEMORY
    assert "lib_lightgbm" in mapped
    assert not [name for name in ("/pandas/", "/sklearn/", "/scipy/", "/scipy.libs/") if name in mapped]


def test_json_requests_import_none_of_the_libraries_of_training(trained: Registry) -> None:
    code = (
        "import sys\n"
        "from tabserve.api.app import create_app\n"
        "from tabserve.declaration.discovery import get_use_case\n"
        "client = create_app().test_client()\n"
        "record = dict(get_use_case('credit').example)\n"
        "answers = [\n"
        "    client.get('/ready'), client.get('/models/credit'), client.get('/openapi.json'),\n"
        "    client.post('/predict', json=record), client.post('/output/credit', json=[record] * 100),\n"
        "    client.post('/outputs/credit', json=[{**record, 'default': 1 + row % 2} for row in range(9)]),\n"
        "    client.post('/outputs/credit?partial=true', json=[record, {}]), client.post('/outputs/credit'),\n"
        "]\n"
        "assert {answer.status_code for answer in answers} == {200}\n"
        "assert client.post('/predict', json={}).status_code == 422\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "MODEL_REGISTRY": str(trained.location), "AUTH_REQUIRED": "false"},
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {name.partition(".")[0] for name in done.stdout.split()}
    assert {"tabserve", "numpy", "orjson"} <= imported
    assert not imported & set(HEAVY)


# (c) a stopping service answers what it has begun


def test_a_stopping_service_answers_every_request_it_has_begun(
    trained: Registry, records: list[dict[str, Any]], tmp_path: Path
) -> None:
    body = json.dumps(records).encode()
    head = f"POST /outputs/credit HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    patient = {"QUEUE_MS": "60000", "MAX_FILE_SECONDS": "115"}  # a busy machine is no reason to refuse one, or to end
    environment = {"MODEL_REGISTRY": str(trained.location), "WEB_CONCURRENCY": "1", **patient}
    with running_server(tmp_path / "log.txt", environment) as server, ExitStack() as stack:
        address = ("127.0.0.1", urlsplit(server.url).port or 0)
        clients = [stack.enter_context(socket.create_connection(address, timeout=120)) for _ in range(4)]  # all threads
        for client in clients:
            client.sendall(head.encode())
        for client in clients:
            assert client.recv(100).startswith(b"HTTP/1.1 100")  # a thread has begun with it
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            client.sendall(body)
        lengths = []
        for client in clients:
            with closing(HTTPResponse(client)) as answer:
                answer.begin()
                assert answer.status == 200
                lengths.append(len(json.loads(answer.read())["result"]))
            client.close()
        assert server.process.wait(130) == 0
    assert lengths == [len(records)] * 4


# (d) no log line holds a record


def test_no_log_line_holds_anything_of_a_request_not_even_when_debugging(
    trained: Registry, record: dict[str, Any], tmp_path: Path
) -> None:
    log = tmp_path / "log.txt"
    environment = {"MODEL_REGISTRY": str(trained.location), "WEB_CONCURRENCY": "1", "LOG_LEVEL": "DEBUG"}
    bad = {**record, "housing": MARKER, MARKER: 1}
    with running_server(log, environment) as server:
        connection = connect(server)
        for path in (*POST_ROUTES, f"/predict?partial={MARKER}", f"/nothing?{MARKER}"):
            for body in (json.dumps(bad), json.dumps([bad]), f"{{{MARKER}", f"housing\n{MARKER}\n"):
                ask(connection, "POST", path, body.encode(), X_Name=MARKER, Cookie=MARKER, Authorization=MARKER)
        ask(connection, "GET", f"/models?use_case={MARKER}")
        head = f'--B\r\nContent-Disposition: form-data; name="fileupload"; filename="{MARKER}.csv"\r\n\r\n'
        upload = f"{head}{MARKER}\r\n--B--"
        ask(
            connection,
            "POST",
            "/outputs_upload/credit",
            upload.encode(),
            content_type="multipart/form-data; boundary=B",
        )
        connection.close()
        for data in (*NO_HTTP.values(), f"POST /predict HTTP/1.1\r\nX: {MARKER}".encode(), MARKER.encode()):
            raw(server, data)
    text = log.read_text()
    assert "loaded credit-lightgbm" in text
    assert MARKER not in text


# (e) without a model


def test_a_service_without_a_model_says_so_and_becomes_ready_when_one_comes(
    trained: Registry, record: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    body = json.dumps(record).encode()
    environment = {"MODEL_REGISTRY": str(folder), "WEB_CONCURRENCY": "1"}
    with running_server(tmp_path / "log.txt", environment) as server, closing(connect(server)) as connection:
        assert ask(connection, "GET", "/health")[0] == 200
        status, content_type, text = ask(connection, "GET", "/ready")
        assert (status, content_type) == (503, "application/problem+json")
        assert json.loads(text)["detail"] == "Not ready. There is no model yet; train one."
        assert ask(connection, "POST", "/predict", body)[0] == 503
        assert ask(connection, "POST", "/outputs/credit")[0] == 503
        worker = worker_of(server)
        shutil.copytree(trained.location, tmp_path / "copy").rename(folder)  # all of them at once
        wait_until(lambda: ask(connection, "GET", "/ready")[0] != 503, 120, "it never became ready")
        assert ask(connection, "GET", "/ready")[0] == 200
        assert ask(connection, "POST", "/predict", body)[0] == 200
        assert worker_of(server) == worker


def test_a_setting_that_cannot_be_used_stops_the_service_at_its_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "application"],
        cwd=ROOT,
        env={**os.environ, "HOST": "127.0.0.1", "PORT": MARKER, "MODEL_REGISTRY": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "PORT is invalid: it must be a port number from 1 to 65535" in done.stderr
    assert MARKER not in done.stdout + done.stderr


# (f) many at once


def test_eight_connections_at_once_get_their_own_answers(
    server: Server, artifact: Artifact, records: list[dict[str, Any]]
) -> None:
    scores = artifact.model.predict(artifact.pipeline.transform(records)).tolist()

    def client(first: int) -> None:
        connection = connect(server)
        for row in range(first, 400, 8):
            _, _, answer = ask(connection, "POST", "/predict", json.dumps(records[row]).encode())
            assert json.loads(answer)["probability"] == [scores[row]]
            some = records[row : row + 5]
            _, _, answer = ask(connection, "POST", "/outputs/credit", json.dumps(some).encode())
            assert json.loads(answer)["probability"] == scores[row : row + 5]
        connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(client, range(8))) == [None] * 8


@pytest.mark.slow
def test_clients_that_stop_sending_do_not_hold_up_the_others(trained: Registry, tmp_path: Path) -> None:
    configuration = tmp_path / "quick.conf.py"
    configuration.write_text(
        "from runpy import run_path\n"
        "import tabserve.api.connection\n"
        f"globals().update(run_path({str(ROOT / 'gunicorn.conf.py')!r}, {{'__name__': 'quick'}}))\n"
        "tabserve.api.connection.READ_TIMEOUT = 1\n"
    )
    environment = {
        "MODEL_REGISTRY": str(trained.location),
        "WEB_CONCURRENCY": "1",
        "GUNICORN_CMD_ARGS": f"--config {configuration}",
    }
    with running_server(tmp_path / "log.txt", environment) as server, ExitStack() as stalled:
        address = server.url.removeprefix("http://").split(":")
        clients = []
        for head in [b"GET /hea", b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"] * 4:
            client = stalled.enter_context(socket.create_connection((address[0], int(address[1])), timeout=30))
            client.sendall(head)
            clients.append(client)
        with closing(connect(server)) as patient:
            assert ask(patient, "GET", "/health")[0] == 200
        answers = [client.recv(4096) for client in clients]
        assert {answer.partition(b"\r\n")[0] for answer in answers[1::2]} == {b"HTTP/1.1 400 BAD REQUEST"}
        assert answers[0::2] == [b""] * 4
    assert "Traceback" not in (tmp_path / "log.txt").read_text()
