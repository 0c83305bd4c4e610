"""Limits: of requests, of failed attempts, and what counts them."""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from limits.storage import MemoryStorage
from redis import Redis
from werkzeug.exceptions import TooManyRequests

from api import limits as module
from api.app import create_app
from api.auth import auth, client
from api.config import Settings
from api.limits import FAILURES, FailedAttempts
from src.registry import Registry
from tests.conftest import ALICE, ROOT, Server, free_port, running_server, write_users

BOB = ("bob", "another long password")
WRONG = ("alice", "hunter2hunter2")
SECRET = "Xylophone4711"
REDIS = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(REDIS is None, reason="redis-server is not installed: apt-get install redis-server")


@pytest.fixture
def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["RedisServer"]:
    """A Redis of one's own; a busy machine has time until it is taken for one that is away."""
    monkeypatch.setitem(module.STORAGE_OPTIONS, "socket_timeout", 30)
    with RedisServer(tmp_path / "redis") as server:
        yield server


class RedisServer:
    """redis-server on a port of its own, with a password, while the `with` block runs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://:{SECRET}@127.0.0.1:{self.port}"

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def start(self) -> None:
        assert REDIS
        command = [REDIS, "--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", SECRET]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5):
                    return
            except ConnectionRefusedError:
                time.sleep(0.02)
        pytest.fail("redis-server did not start")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def counts(self) -> dict[str, int]:
        """All that is in it."""
        with Redis.from_url(self.url, decode_responses=True) as client:
            return {key: int(client.get(key) or 0) for key in client.scan_iter()}

    def __exit__(self, *exception: object) -> None:
        self.stop()


@pytest.fixture
def settings(trained: Registry, tmp_path: Path) -> Settings:
    """Three requests a minute, for anybody; alice and bob are users."""
    users = tmp_path / "users.txt"
    write_users(users, ALICE, BOB)
    return Settings(model_registry=trained.location, auth_required=False, auth_users_file=users, rate_limit="3/minute")


def client_of(settings: Settings, **changes: Any) -> FlaskClient:
    return create_app(replace(settings, **changes)).test_client()


def ask(client: FlaskClient, address: str = "127.0.0.1", path: str = "/predict", **options: Any) -> Any:
    return client.post(path, json={}, environ_overrides={"REMOTE_ADDR": address}, **options)


def assert_too_many(answer: Any, limit: str = "3 per 1 minute", window: int = 60) -> None:
    assert answer.status_code == 429, answer.text
    assert answer.content_type == "application/problem+json"
    assert 1 <= int(answer.headers["Retry-After"]) <= window
    assert answer.json == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": f"Too many requests: {limit} are answered.",
    }


# requests


def test_without_a_limit_there_is_none_and_nothing_is_imported_for_it(settings: Settings) -> None:
    client = client_of(settings, rate_limit=None)
    assert {ask(client).status_code for _ in range(50)} == {422}
    code = (
        "import sys\n"
        "from api.app import create_app\n"
        "app = create_app()\n"
        "app.test_client().post('/predict', json={})\n"
        "assert not {'flask_limiter', 'redis'} & sys.modules.keys()"
    )
    environment = {**os.environ, "MODEL_REGISTRY": str(settings.model_registry), "AUTH_REQUIRED": "false"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)


def test_requests_over_the_limit_are_refused_by_address(settings: Settings) -> None:
    client = client_of(settings)
    assert [ask(client).status_code for _ in range(3)] == [422] * 3
    assert_too_many(ask(client))
    assert_too_many(ask(client))
    assert ask(client, "1.2.3.4").status_code == 422


def test_all_predictions_count_together_and_whatever_comes_of_them(settings: Settings) -> None:
    client = client_of(settings)
    assert ask(client, path="/output/nothing").status_code == 404
    assert ask(client, path="/outputs/credit").status_code == 400
    assert ask(client, path="/outputs_upload/credit").status_code == 422
    for path in ("/predict", "/output/credit", "/outputs/credit", "/outputs_upload/credit"):
        assert_too_many(ask(client, path=path))


def test_nothing_else_is_limited_or_counted(settings: Settings) -> None:
    client = client_of(settings)
    for path in ("/health", "/ready", "/version", "/models", "/openapi.json", "/nothing"):
        assert {client.get(path).status_code for _ in range(5)} <= {200, 404, 503}
    assert client.options("/predict").status_code == 200
    assert [ask(client).status_code for _ in range(3)] == [422] * 3
    assert_too_many(ask(client))
    for path in ("/health", "/ready", "/version", "/models", "/openapi.json", "/nothing"):
        assert client.get(path).status_code in (200, 404, 503)


def test_several_limits_hold_at_once(settings: Settings) -> None:
    client = client_of(settings, rate_limit="2/hour;3/day")
    assert [ask(client).status_code for _ in range(2)] == [422] * 2
    assert_too_many(ask(client), "2 per 1 hour", 3600)


def test_users_are_counted_wherever_they_ask_from(settings: Settings) -> None:
    client = client_of(settings, auth_required=True)
    assert [ask(client, f"1.2.3.{number}", auth=ALICE).status_code for number in range(3)] == [422] * 3
    assert_too_many(ask(client, "5.6.7.8", auth=ALICE))
    assert ask(client, "5.6.7.8", auth=BOB).status_code == 422


def test_credentials_come_first(settings: Settings) -> None:
    client = client_of(settings, auth_required=True)
    for _ in range(5):
        assert ask(client).status_code == 401
        assert ask(client, auth=WRONG).status_code == 401
    assert [ask(client, auth=ALICE).status_code for _ in range(3)] == [422] * 3  # the others were not alice's
    assert_too_many(ask(client, auth=ALICE))
    assert ask(client, auth=WRONG).status_code == 401
    assert ask(client).status_code == 401


def test_credentials_come_first_where_they_are_always_needed(settings: Settings) -> None:
    client = client_of(settings, auth_required=False)
    assert [ask(client, path="/predictions").status_code for _ in range(5)] == [401] * 5
    assert [ask(client, path="/predictions", auth=ALICE).status_code for _ in range(3)] == [422] * 3
    assert_too_many(ask(client, path="/predictions", auth=ALICE))
    assert ask(client, path="/predictions", auth=BOB).status_code == 422


def test_a_user_whose_name_is_an_address_is_not_that_address(settings: Settings) -> None:
    user = ("1.2.3.4", ALICE[1])
    write_users(settings.auth_users_file, user)
    app = create_app(replace(settings, auth_required=True))
    with app.test_request_context(environ_overrides={"REMOTE_ADDR": "1.2.3.4"}):
        address = client()
    with app.test_request_context(headers={"Authorization": f"Basic {b64encode(':'.join(user).encode()).decode()}"}):
        name = auth.login_required(client)()
    assert (address, name) == ("address 1.2.3.4", "user 1.2.3.4")


def test_what_is_logged_of_limits_is_who_and_how_much(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client = client_of(settings, auth_required=True)
    for _ in range(4):
        ask(client, auth=ALICE)
    (line,) = (record for record in caplog.records if record.name == "flask-limiter")
    assert line.getMessage() == "ratelimit 3 per 1 minute (user alice) exceeded at endpoint: predictions"
    assert line.exc_info is None
    assert ALICE[1] not in caplog.text


# failed attempts


@pytest.fixture
def attempts() -> FailedAttempts:
    return FailedAttempts("memory://")


def begun(attempts: FailedAttempts, number: int) -> int:
    """How many of some attempts may begin."""
    allowed = 0
    for _ in range(number):
        try:
            attempts.begin("address")
            allowed += 1
        except TooManyRequests:
            pass
    return allowed


def test_ten_attempts_may_be_wrong(attempts: FailedAttempts) -> None:
    assert begun(attempts, 30) == FAILURES.amount == 10
    attempts.begin("another address")


def test_those_that_are_refused_do_not_count(attempts: FailedAttempts) -> None:
    assert begun(attempts, 500) == 10
    for _ in range(10):
        attempts.take_back("address")
    assert begun(attempts, 500) == 10


def test_what_is_taken_back_does_not_count(attempts: FailedAttempts) -> None:
    for _ in range(50):
        attempts.begin("address")
        attempts.take_back("address")
    assert begun(attempts, 30) == 10


def test_a_minute_later_there_are_ten_again(attempts: FailedAttempts) -> None:
    assert begun(attempts, 30) == 10
    expire(attempts)
    assert begun(attempts, 30) == 10


def test_what_is_taken_back_when_its_minute_is_over_is_not_given_to_the_next(attempts: FailedAttempts) -> None:
    assert begun(attempts, 5) == 5
    expire(attempts)
    for _ in range(5):
        attempts.take_back("address")
    assert begun(attempts, 30) == 10


def expire(attempts: FailedAttempts) -> None:
    """End the minute of everything that is counted."""
    storage = attempts._shared
    assert isinstance(storage, MemoryStorage)
    for key in storage.expirations:
        storage.expirations[key] = 0


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads that take turns as often as they can, so that they get in one another's way if that is possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_threads_that_begin_at_once_are_counted_each(attempts: FailedAttempts) -> None:
    for number in range(100):  # each time at the beginning of a minute, where a count is easily lost
        together = threading.Barrier(16)

        def begin(_: int, address: str = str(number), together: threading.Barrier = together) -> bool:
            together.wait()
            try:
                attempts.begin(address)
            except TooManyRequests:
                return False
            return True

        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(begin, range(16))) == 10


def test_when_the_storage_is_away_failures_are_counted_in_memory_and_one_line_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempts = FailedAttempts(f"redis://:{SECRET}@127.0.0.1:{free_port()}")
    assert begun(attempts, 30) == 10
    lines = [record for record in caplog.records if "cannot be reached" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].exc_info is None
    assert SECRET not in caplog.text


def test_only_one_thread_waits_for_a_storage_that_does_not_answer() -> None:
    class Slow(MemoryStorage):
        STORAGE_SCHEME = None

        def incr(self, *args: Any, **kwargs: Any) -> int:
            asked.append(threading.get_ident())
            time.sleep(0.2)
            raise ValueError

    asked: list[int] = []
    attempts = FailedAttempts("memory://")
    attempts._shared = Slow(wrap_exceptions=True)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: begun(attempts, 1), range(8))) == [1] * 8
    assert len(asked) == 1


@needs_redis
def test_failures_are_counted_by_all_who_share_a_redis(redis: RedisServer) -> None:
    one, other = FailedAttempts(redis.url), FailedAttempts(redis.url)
    assert begun(one, 4) == 4
    assert begun(other, 30) == 6
    assert begun(one, 1) == 0
    for _ in range(30):
        other.take_back("address")
    assert begun(one, 30) == 10
    assert list(redis.counts().values()) == [10]
    (key,) = redis.counts()
    with Redis.from_url(redis.url) as client:
        assert 0 < client.ttl(key) <= 60


@needs_redis
def test_a_storage_that_is_back_counts_again(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = FailedAttempts(redis.url)
    assert begun(attempts, 9) == 9
    redis.stop()
    monkeypatch.setattr(module, "STORAGE_RETRY", 0)
    for _ in range(3):
        attempts.begin("address")
    assert caplog.text.count("cannot be reached") == 1
    redis.start()  # as one that lost its memory
    assert begun(attempts, 30) == 10
    redis.stop()
    attempts.begin("address")
    assert caplog.text.count("cannot be reached") == 2


# under gunicorn


class Workers:
    """gunicorn with two workers, of which one at a time may answer."""

    def __init__(self, server: Server) -> None:
        self.server = server
        master = server.process.pid
        deadline = time.monotonic() + 30
        self.pids: list[int] = []
        while len(self.pids) < 2 and time.monotonic() < deadline:
            children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
            self.pids = [int(child) for child in children]
        assert len(self.pids) == 2

    @contextmanager
    def only(self, worker: int) -> Iterator[None]:
        """Let the other worker sleep."""
        other = self.pids[1 - worker]
        os.kill(other, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(other, signal.SIGCONT)

    def statuses(self, number: int, user: tuple[str, str] = ALICE, path: str = "/predict") -> list[int]:
        """What so many requests are answered with, one after another, on connections of their own."""
        token = b64encode(":".join(user).encode()).decode()
        statuses = []
        for _ in range(number):
            request = urllib.request.Request(f"{self.server.url}{path}", b"{}", {"Authorization": f"Basic {token}"})
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    statuses.append(answer.status)
            except urllib.error.HTTPError as error:
                with error:
                    statuses.append(json.load(error)["status"])
        return statuses


@pytest.fixture
def two_workers(settings: Settings, tmp_path: Path) -> Callable[..., Any]:
    """Start gunicorn with two workers and some settings."""

    @contextmanager
    def start(**environment: str) -> Iterator[Workers]:
        environment = {
            "MODEL_REGISTRY": str(settings.model_registry),
            "AUTH_USERS_FILE": str(settings.auth_users_file),
            "WEB_CONCURRENCY": "2",
            "RATE_LIMIT": "5/hour",
            **environment,
        }
        with running_server(tmp_path / "log.txt", environment) as server:
            yield Workers(server)

    return start


@needs_redis
def test_workers_that_share_a_redis_share_the_limit(two_workers: Any, redis: RedisServer, tmp_path: Path) -> None:
    with two_workers(RATE_LIMIT_STORAGE=redis.url, AUTH_REQUIRED="true") as workers:
        with workers.only(0):
            assert workers.statuses(3) == [422] * 3
        with workers.only(1):
            assert workers.statuses(4) == [422] * 2 + [429] * 2
            assert workers.statuses(1, BOB) == [422]
        assert sorted(count for key, count in redis.counts().items() if "/user " in key) == [1, 7]
    assert SECRET not in (tmp_path / "log.txt").read_text()


@needs_redis
def test_workers_that_share_a_redis_share_the_failures(two_workers: Any, redis: RedisServer) -> None:
    with two_workers(RATE_LIMIT_STORAGE=redis.url, AUTH_REQUIRED="true") as workers:
        with workers.only(0):
            assert workers.statuses(7, WRONG) == [401] * 7
        with workers.only(1):
            assert workers.statuses(5, WRONG) == [401] * 3 + [429] * 2


def test_in_memory_each_worker_counts_for_itself(two_workers: Any) -> None:
    with two_workers() as workers:
        for worker in (0, 1):
            with workers.only(worker):
                assert workers.statuses(7) == [422] * 5 + [429] * 2


@needs_redis
def test_when_redis_goes_predictions_go_on_and_a_line_says_so(
    two_workers: Any, redis: RedisServer, tmp_path: Path
) -> None:
    with two_workers(RATE_LIMIT_STORAGE=redis.url, AUTH_REQUIRED="true") as workers, workers.only(0):
        assert workers.statuses(3) == [422] * 3
        redis.stop()
        assert workers.statuses(7) == [422] * 5 + [429] * 2  # counted anew, in memory
        assert workers.statuses(11, WRONG) == [401] * 10 + [429]
        with urllib.request.urlopen(f"{workers.server.url}/health", timeout=30) as answer:
            assert answer.status == 200
    log = (tmp_path / "log.txt").read_text()
    assert log.count("falling back to in-memory storage") == 1
    assert log.count("RATE_LIMIT_STORAGE cannot be reached") == 1
    assert "Traceback" not in log
    assert "unexpected" not in log
    assert SECRET not in log


def test_a_redis_that_was_never_there_is_no_reason_not_to_start(two_workers: Any, tmp_path: Path) -> None:
    url = f"redis://:{SECRET}@127.0.0.1:{free_port()}"
    with two_workers(RATE_LIMIT_STORAGE=url) as workers, workers.only(1):
        assert workers.statuses(7) == [422] * 5 + [429] * 2
    log = (tmp_path / "log.txt").read_text()
    assert "Traceback" not in log
    assert SECRET not in log


@needs_redis
def test_a_redis_that_does_not_answer_holds_nobody_up_for_long(
    settings: Settings, redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(module.STORAGE_OPTIONS, "socket_timeout", 1)
    client = client_of(settings, rate_limit_storage=redis.url, auth_required=True)
    assert ask(client, auth=ALICE).status_code == 422
    redis.process.send_signal(signal.SIGSTOP)
    assert [ask(client, auth=BOB).status_code for _ in range(4)] == [422] * 3 + [429]
    assert "cannot be reached" in caplog.text
    assert "falling back" in caplog.text


def test_two_applications_count_for_themselves(settings: Settings) -> None:
    one, other = client_of(settings), client_of(settings)
    assert [ask(one).status_code for _ in range(4)] == [422] * 3 + [429]
    assert ask(other).status_code == 422
