"""The log: one line for each event, without anything confidential of clients, operators or libraries."""

import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook

from tabserve.log import LONGEST_LINE, MARKS, NO_MARKS, SERVICE_FORMAT, JsonLine, Marks, OneLine, traced
from tabserve.registry.registry import Registry
from tests.buckets import S3
from tests.conftest import ALICE, ROOT, free_port, running_server
from tests.test_application import development_server

MARKER = "Xylophone4711"  # in everything that clients send
SERIAL = "4711471147"  # a number in a spreadsheet's date cell
TOKEN = "Glockenspiel0815"  # AWS session token
SECRET = "Vibraphone1234"  # AWS secret key
REDIS = "Marimba2345"  # password of a Redis
WRONG = "hunter2hunter2"
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \d+ (DEBUG|INFO|WARNING|ERROR|CRITICAL) [\w.-]+: \S.*")


def authorization(name: str, password: str) -> str:
    return f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}"


SECRETS = [MARKER, SERIAL, TOKEN, SECRET, REDIS, WRONG, ALICE[1]]
SECRETS += [authorization(name, password)[6:-4] for name, password in (ALICE, (ALICE[0], WRONG), (WRONG, WRONG))]
NOT_FOR_LOGS = [*SECRETS, "Traceback", ".py", "site-packages", "/tmp", str(ROOT), "Authorization"]


MEMBERS = ("time", "level", "logger", "process", "message")
ACCESS = ("method", "route", "status", "ms", "bytes")


def assert_clean(text: str) -> None:
    for line in text.splitlines():
        assert not [secret for secret in NOT_FOR_LOGS if secret in line], line
        if line.startswith("{"):
            message = json.loads(line)
            assert message.keys() - {"request_id", "trace_id", *ACCESS} == {*MEMBERS}, line
            assert len(message["message"]) <= LONGEST_LINE
        else:
            assert LINE.fullmatch(line), line
            assert len(line) <= LONGEST_LINE


# how a record is written


def recorded(name: str = "tabserve.api.app", message: str = "%s", args: Any = (), **attributes: Any) -> Any:
    record = logging.LogRecord(name, logging.WARNING, f"{ROOT}/{MARKER}.py", 7, message, args, None, "view")
    record.__dict__.update(attributes)
    return record


def written(*arguments: Any, **options: Any) -> str:
    return OneLine(SERVICE_FORMAT).format(recorded(*arguments, **options))


def as_json(*arguments: Any, **options: Any) -> Any:
    line = JsonLine().format(recorded(*arguments, **options))
    assert line.isprintable()
    return json.loads(line)


def raised(message: str) -> Any:
    try:
        raise KeyError(message)
    except KeyError:
        return sys.exc_info()


@given(st.text(), st.text())
def test_a_message_of_ours_is_one_line_of_bounded_length(message: str, value: str) -> None:
    line = written(message=message.replace("%", "%%") + "%s", args=(value,))
    assert len(line) <= LONGEST_LINE
    assert line.isprintable()
    assert len(as_json(message=message.replace("%", "%%") + "%s", args=(value,))["message"]) <= LONGEST_LINE


@given(st.text(min_size=1))
def test_of_other_libraries_is_told_where_but_not_what(value: str) -> None:
    line = written("botocore.auth", f"{value}%s", (MARKER,), module="auth", exc_info=raised(MARKER))
    place = r"a message of this library, at auth\.view:7 \(KeyError at test_log\.raised:\d+\)"
    assert re.search(rf"WARNING botocore\.auth: {place}$", line)
    told = as_json("botocore.auth", f"{value}%s", (MARKER,), module="auth", exc_info=raised(MARKER))
    assert (told["level"], told["logger"]) == ("WARNING", "botocore.auth")
    assert re.fullmatch(place, told["message"])


def test_a_line_as_json_says_when_who_and_for_which_request() -> None:
    told = as_json(created=1e9 + 0.25, process=7)
    assert told == {
        "time": "2001-09-09T01:46:40.250+00:00",
        "level": "WARNING",
        "logger": "tabserve.api.app",
        "process": 7,
        "message": "%s",
    }
    MARKS.set(Marks("an-id", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))
    try:
        told = as_json(fields={"status": 200})
        assert (told["request_id"], told["trace_id"]) == ("an-id", "4bf92f3577b34da6a3ce929d0e0e4736")
        assert told["status"] == 200
        assert written(message="Done").endswith(" WARNING tabserve.api.app: [an-id] Done")
    finally:
        MARKS.set(NO_MARKS)


def test_a_traceback_is_its_places_also_where_another_handler_wrote_it_already() -> None:
    error = raised(MARKER)
    line = written(args=("It failed",), exc_info=error, exc_text=f"Traceback\n{MARKER}", stack_info=f"Stack\n{MARKER}")
    assert line.endswith(f"It failed ({traced(error[1])})")
    assert MARKER not in line
    assert str(ROOT) not in line


def test_a_traceback_in_a_message_is_cut_off() -> None:
    line = written(
        "gunicorn.error", "Exception during worker exit:\n%s", (f"Traceback (most recent call last):\n{MARKER}",)
    )
    assert line.endswith("gunicorn.error: Exception during worker exit:")


# what else would write to standard error

HOSTILE = f"""
import gc, logging, sys, threading, warnings
from tabserve import log
log.configure("DEBUG")
class Item:
    def __del__(self): raise ValueError("{MARKER}")
def fail(): raise ValueError("{MARKER}")
def warn(): warnings.warn("{MARKER} in /tmp/{MARKER}.py", UserWarning)
def task():
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
warn()
task()
item = Item()
del item
gc.collect()
for name in ("botocore.auth", "asyncio", "urllib3.connectionpool", "werkzeug", "flask_cors", "s3fs"):
    library = logging.getLogger(name)
    library.setLevel("DEBUG")  # as some libraries do
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(library, level)("{MARKER} %s", "/tmp/{MARKER}.py")
    try:
        fail()
    except ValueError:
        library.exception("{MARKER}")
logging.getLogger("tabserve").info("one %s too few: %s", "{MARKER}")
logging.getLogger("tabserve.registry.stores").debug("of ours")
fail()
"""


@pytest.mark.parametrize("line_format", ["text", "json"])
def test_nothing_that_goes_wrong_in_a_process_gets_past_the_log(line_format: str) -> None:
    code = HOSTILE.replace('configure("DEBUG")', f'configure("DEBUG", "{line_format}")')
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert_clean(done.stderr)
    assert done.stdout == ""
    assert done.returncode == 1
    assert done.stderr.count("unexpected ValueError at") == 3  # in a thread, in a destructor, at the end
    assert done.stderr.count("a message of this library") == 6 * 4
    assert re.search("tabserve.registry.stores.*of ours", done.stderr)
    assert all(line.startswith("{") == (line_format == "json") for line in done.stderr.splitlines())


@pytest.mark.parametrize(
    ("level", "others"), [("DEBUG", 4), ("INFO", 4), ("WARNING", 4), ("ERROR", 3), ("CRITICAL", 1)]
)
def test_other_libraries_are_heard_from_warning_on(level: str, others: int) -> None:
    code = HOSTILE.replace('configure("DEBUG")', f'configure("{level}")')
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr.count(" botocore.auth: ") >= min(others, 1)
    assert " botocore.auth: " not in "".join(re.findall(r".* (?:DEBUG|INFO) .*", done.stderr))
    assert ("of ours" in done.stderr) == (level == "DEBUG")


TASK = f"""
import logging
from unittest.mock import patch
from tabserve.errors import UnknownModelError
def task(*args):
    for name in ("botocore.auth", "asyncio"):
        logging.getLogger(name).debug("{MARKER}")
        try:
            1 / 0
        except ArithmeticError:
            logging.getLogger(name).exception("{MARKER}")
    raise UnknownModelError
"""
COMMANDS = {
    "models": "from tabserve.cli.commands import tabserve as main; patched = 'tabserve.cli.models.Registry.list'",
    "training": "from tabserve.train_pipeline import main; patched = 'tabserve.train_pipeline.run_training'",
}


@pytest.mark.parametrize(("name", "arguments"), [("models", ["models", "list"]), ("training", [])])
def test_commands_log_no_message_of_another_library(name: str, arguments: list[str], tmp_path: Path) -> None:
    code = f"{TASK}{COMMANDS[name]}\nwith patch(patched, task):\n    main({arguments})\n"
    environment = {**os.environ, "MODEL_REGISTRY": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    first, second, error = done.stderr.splitlines()
    assert first.startswith("ERROR botocore.auth: ")
    assert "ZeroDivisionError at" in first
    assert second.startswith("ERROR asyncio: ")
    assert error.startswith("Error: ")
    assert MARKER not in done.stderr


# a hostile run


def workbook(header: list[str], change: Callable[[bytes], bytes] = lambda content: content) -> bytes:
    """An XLSX file that makes openpyxl warn: dates out of range, a style sheet without a default style."""
    book = Workbook()
    sheet = book.active
    assert sheet
    sheet.append(header)
    sheet.append([int(SERIAL)] * (len(header) - 1) + [MARKER])
    for cell in sheet[2]:
        cell.number_format = "yyyy-mm-dd"
    file = io.BytesIO()
    book.save(file)
    changed = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "xl/styles.xml":
                content = re.sub(rb"<cellStyles>.*</cellStyles>", b"", content)
            new.writestr(name, change(content))
    return changed.getvalue()


def upload(name: str, content: bytes) -> tuple[bytes, str]:
    head = f'--B\r\nContent-Disposition: form-data; name="fileupload"; filename="{name}"\r\n\r\n'.encode()
    return head + content + b"\r\n--B--\r\n", "multipart/form-data; boundary=B"


def hostile_run(url: str, record: dict[str, Any]) -> set[int]:
    """Send a server many bad requests and some good ones; return the statuses of its answers."""
    statuses = set()

    def ask(path: str, body: bytes | None, content_type: str = "application/json", **headers: str) -> None:
        headers = {"Content-Type": content_type, "Authorization": authorization(*ALICE), **headers}
        request = urllib.request.Request(f"{url}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                statuses.add(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                statuses.add(error.code)

    bad = {**record, "housing": MARKER, MARKER: 1}
    values = ",".join([MARKER] * len(record))
    names = ",".join(record)
    bodies = [json.dumps(body).encode() for body in (record, [record], bad, [bad, record], MARKER, [MARKER], [])]
    bodies += [f"{{{MARKER}".encode(), b"\xff" + MARKER.encode(), b"", f"{names}\n{values}\n".encode()]
    files = [f"{values}\n{values}\n", f"{names}\n{values}\n", f"{names}\n{values},1,2\n", MARKER, f'{names}\n"{MARKER}']
    uploads = [upload(f"{MARKER}.csv", file.encode()) for file in files]
    uploads += [
        upload(f"{MARKER}.xlsx", workbook(list(record))),
        upload(f"{MARKER}.xlsx", workbook([MARKER, *list(record)[1:]])),
        upload(f"{MARKER}.xlsx", workbook(list(record), lambda content: content.replace(b"<", b"", 3))),
        upload(f"{MARKER}.xlsx", workbook(list(record))[:-50]),
        upload(f"../../{MARKER}.py", b"PK\x03\x04" + MARKER.encode()),
    ]
    for path in (
        "/predict",
        "/output/credit",
        "/output/bikes",
        f"/output/{MARKER}",
        "/outputs/latest",
        "/explain/credit",
    ):
        for query in ("", f"?partial=true&{MARKER}={MARKER}"):
            for body in bodies:
                ask(path + query, body, Cookie=MARKER, **{"X-Forwarded-For": MARKER, "User-Agent": MARKER})
    for path in ("/outputs_upload/credit", "/outputs_upload/bikes?partial=true"):
        for body, content_type in uploads:
            ask(path, body, content_type, Accept="text/csv")
    for path in (
        f"/{MARKER}?{MARKER}",
        "/ready",
        f"/models?use_case={MARKER}",
        f"/models/{MARKER}/report",
        "/models/credit",
    ):
        ask(path, None)
    for user in [(ALICE[0], WRONG)] * 12 + [(WRONG, WRONG), (f"{MARKER}\n", WRONG), ("", WRONG)]:
        ask("/predict", bodies[0], Authorization=authorization(*user))
    ask("/predict", bodies[0], Authorization=f"Bearer {MARKER}")
    malformed(url)
    return statuses


def malformed(url: str) -> None:
    parts = urlsplit(url)
    for data in (
        MARKER,
        f"{MARKER} / HTTP/1.1",
        f"GET /{MARKER}",
        f"GET / HTTP/9.{MARKER}",
        f"POST /predict HTTP/1.1\r\nX {MARKER}: 1",
        f"POST /predict HTTP/1.1\r\nContent-Length: {MARKER}",
        f"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{MARKER}",
        f"POST /predict HTTP/1.1\r\nContent-Length: 5\r\n\r\n{MARKER}",
        f"POST /predict HTTP/1.1\r\nX: {MARKER * 9000}",
    ):
        with suppress(OSError), socket.create_connection((str(parts.hostname), int(parts.port or 0)), 30) as client:
            client.sendall(f"{data}\r\n\r\n".encode())
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with S3() as running:
        yield running


@pytest.fixture
def bucket(trained: Registry, s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A registry in a bucket, with one damaged model."""
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    name = s3.bucket()
    published = Registry(f"s3://{name}/models", cache=tmp_path / "the trainer's cache")
    for model_id in trained.list():
        trained.copy(model_id, published)
    s3.client().put_object(Bucket=name, Key=f"models/{trained.list('bikes')[0]}/model.pkl", Body=MARKER.encode())
    return f"s3://{name}/models"


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "line_format"), [("pass", "text"), ("cut", "json"), ("pass", "json")])
def test_the_log_of_a_hostile_run_at_debug_holds_nothing_that_it_must_not(
    bucket: str, s3: S3, mode: str, line_format: str, record: dict[str, Any], users_file: Path, tmp_path: Path
) -> None:
    proxy = s3.proxy()
    proxy.fail(mode)
    environment = {
        **s3.environment(proxy),
        "AWS_SESSION_TOKEN": TOKEN,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "MODEL_REGISTRY": bucket,
        "MODEL_CACHE": str(tmp_path / "cache"),
        "AUTH_REQUIRED": "true",
        "AUTH_USERS_FILE": str(users_file),
        "RATE_LIMIT": "250/hour",
        "RATE_LIMIT_STORAGE": f"redis://:{REDIS}@127.0.0.1:{free_port()}",
        "LOG_LEVEL": "DEBUG",
        "LOG_FORMAT": line_format,
        "WEB_CONCURRENCY": "1",
    }
    with running_server(tmp_path / "log.txt", environment) as server:
        statuses = hostile_run(server.url, record)
        server.process.send_signal(signal.SIGHUP)  # starts one worker and ends another
    text = (tmp_path / "log.txt").read_text(errors="replace")
    assert_clean(text)
    for expected in ("Booting worker", "refused alice from", "RATE_LIMIT_STORAGE cannot be reached", "answered "):
        assert expected in text
    if mode == "pass":
        assert statuses >= {200, 400, 401, 404, 415, 422, 429}
        assert "loaded credit-" in text
        assert re.search(r"bikes-\S+ is refused: ", text)


def test_the_log_of_the_development_server_is_as_clean(
    trained: Registry, record: dict[str, Any], users_file: Path, tmp_path: Path
) -> None:
    environment = {
        "MODEL_REGISTRY": str(trained.location),
        "AUTH_REQUIRED": "true",
        "AUTH_USERS_FILE": str(users_file),
        "LOG_LEVEL": "DEBUG",
    }
    with development_server(tmp_path / "log.txt", environment) as port:
        statuses = hostile_run(f"http://127.0.0.1:{port}", record)
    assert statuses >= {200, 400, 401, 404, 415, 422, 429}
    text = (tmp_path / "log.txt").read_text(errors="replace")
    assert_clean(re.sub(r"(?m)^ \* (Serving Flask app 'tabserve.api.app'|Debug mode: off)\n", "", text))
    assert f"the development server answers on http://127.0.0.1:{port}" in text
