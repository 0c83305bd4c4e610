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
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from werkzeug.exceptions import TooManyRequests

from tabserve.api import limits as module
from tabserve.api.app import create_app
from tabserve.api.auth import auth, client
from tabserve.api.limits import Counts, FailedAttempts, RateLimit, network_of
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tests.conftest import ALICE, ROOT, Server, free_port, running_server, wait_until, write_users

BOB = ("bob", "another long password")
WRONG = ("alice", "hunter2hunter2")
SECRET = "Xylophone4711"
REDIS = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(REDIS is None, reason="redis-server is not installed: apt-get install redis-server")


@pytest.fixture
def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["RedisServer"]:
    """A Redis for one test; its timeout is long, so that on a busy machine it does not count as away."""
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
        "detail": f"Too many requests: the limit is {limit}.",
    }


# requests


def test_without_a_limit_there_is_none_and_nothing_is_imported_for_it(settings: Settings) -> None:
    client = client_of(settings, rate_limit=None)
    assert {ask(client).status_code for _ in range(50)} == {422}
    code = (
        "import sys\n"
        "from tabserve.api.app import create_app\n"
        "app = create_app()\n"
        "app.test_client().post('/predict', json={})\n"
        "assert not {'limits', 'redis'} & sys.modules.keys()"
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
    for _ in range(6):
        ask(client, auth=ALICE)
    (line,) = (record for record in caplog.records if record.name == "tabserve.api.limits")  # one a minute and no more
    assert line.getMessage() == "user alice asked for more than 3 per 1 minute"
    assert line.exc_info is None
    assert ALICE[1] not in caplog.text


def test_the_addresses_of_one_network_are_one_client(settings: Settings) -> None:
    client = client_of(settings)
    addresses = ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:ffff:ffff:ffff"]
    assert [ask(client, address).status_code for address in addresses] == [422] * 3
    assert_too_many(ask(client, "2001:db8::3"))
    assert ask(client, "2001:db8:0:1::1").status_code == 422
    for address in ("1.2.3.4", "::ffff:1.2.3.4", "::ffff:102:304"):
        assert ask(client, address).status_code == 422
    assert_too_many(ask(client, "1.2.3.4"))


def test_a_machine_whose_clock_is_set_keeps_its_limits(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_of(settings, auth_required=True)
    assert [ask(client, auth=ALICE).status_code for _ in range(3)] == [422] * 3
    assert [ask(client, auth=WRONG).status_code for _ in range(11)] == [401] * 10 + [429]
    now = time.time
    for change in (-3600, 3600):
        monkeypatch.setattr(time, "time", lambda change=change: now() + change)
        assert_too_many(ask(client, auth=ALICE))
        assert 1 <= int(ask(client, auth=WRONG).headers["Retry-After"]) <= 60


# networks

V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6).filter(lambda address: not address.ipv4_mapped)


@given(V4)
def test_an_ipv4_address_is_one_network_however_it_is_written(address: IPv4Address) -> None:
    mapped = IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
    assert {network_of(str(one)) for one in (address, mapped, mapped.exploded)} == {str(address)}


@given(V6, st.integers(0, 2**64 - 1), st.integers(0, 127))
def test_an_ipv6_address_is_its_first_64_bits(address: IPv6Address, rest: int, bit: int) -> None:
    neighbour = IPv6Address(int(address) >> 64 << 64 | rest)
    other = IPv6Address(int(address) ^ 1 << bit)
    if not (neighbour.ipv4_mapped or other.ipv4_mapped):
        assert network_of(str(address)) == network_of(neighbour.exploded)
        assert (network_of(str(address)) == network_of(str(other))) == (bit < 64)


@pytest.mark.parametrize(
    ("written", "network"),
    [
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::1]:4711", "2001:db8::/64"),
        ("[2001:db8::1]", "2001:db8::/64"),
        ("[::ffff:203.0.113.9]:1", "203.0.113.9"),
    ],
)
def test_a_port_that_a_proxy_adds_makes_no_other_network(written: str, network: str) -> None:
    assert network_of(written) == network


def test_what_a_short_limit_refuses_does_not_count_for_a_longer_one(settings: Settings) -> None:
    client = client_of(settings, rate_limit="6/hour;3/second")
    for _ in range(2):
        assert [ask(client).status_code for _ in range(6)] == [422] * 3 + [429] * 3
        time.sleep(1.1)
    assert ask(client).status_code == 429


@given(st.text())
def test_what_is_no_address_is_a_network_of_its_own_and_fits_into_a_line(text: str) -> None:
    network = network_of(text)
    assert network.isprintable()
    assert len(network) <= 64


# counts


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def counts(clock: Clock) -> Counts:
    return Counts("memory://")


def added(counts: Counts, number: int, key: str = "key") -> list[int]:
    return [counts.add(key, 60).number for _ in range(number)]


def test_a_count_begins_with_the_first_and_is_forgotten_when_its_time_is_over(counts: Counts, clock: Clock) -> None:
    assert counts.read("key") == (0, 0)
    assert counts.add("key", 60) == (1, 60)
    clock.now += 59
    assert counts.add("key", 60) == (2, 1)
    assert counts.read("key") == (2, 1)
    assert counts.read("another") == (0, 0)
    clock.now += 1
    assert counts.read("key") == (0, 0)
    assert counts.add("key", 60) == (1, 60)


def test_a_worker_counts_so_many_clients_and_forgets_the_oldest(
    counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_IN_MEMORY", 3)
    for key in "abcda":
        counts.add(key, 60)
    assert [counts.read(key).number for key in "abcd"] == [1, 0, 1, 1]


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads that take turns as often as possible, so that they get in one another's way if they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_threads_that_count_at_once_are_counted_each(counts: Counts) -> None:
    for key in map(str, range(100)):  # each time at the beginning of a minute, where a count is easily lost
        together = threading.Barrier(16)

        def add(_: int, key: str = key, together: threading.Barrier = together) -> int:
            together.wait()
            return counts.add(key, 60).number

        with ThreadPoolExecutor(16) as pool:
            assert sorted(pool.map(add, range(16))) == list(range(1, 17))


def test_when_the_storage_is_away_is_counted_in_memory_and_one_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    counts = Counts(f"redis://:{SECRET}@127.0.0.1:{free_port()}")
    assert added(counts, 30) == list(range(1, 31))
    assert counts.read("key").number == 30
    lines = [record for record in caplog.records if "cannot be reached" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].exc_info is None
    assert SECRET not in caplog.text


@needs_redis
def test_all_who_share_a_redis_count_together(redis: RedisServer) -> None:
    one, other = Counts(redis.url), Counts(redis.url)
    assert added(one, 4) == [1, 2, 3, 4]
    assert added(other, 2) == [5, 6]
    number, seconds = one.read("key")
    assert number == 6
    assert 0 < seconds <= 60
    assert 0 < other.add("key", 60).seconds <= 60
    assert one.read("another").number == 0
    assert list(redis.counts().values()) == [7]


@needs_redis
def test_a_count_in_a_redis_ends_by_its_clock_and_not_by_ours(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, now = Counts(redis.url), time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600)
    assert counts.add("key", 1).seconds <= 1
    wait_until(lambda: counts.read("key").number == 0, 30, "it does not end")
    assert counts.add("key", 60).number == 1


@needs_redis
def test_a_storage_that_is_back_counts_again(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    counts = Counts(redis.url)
    added(counts, 9)
    redis.stop()
    monkeypatch.setattr(module, "STORAGE_RETRY", 0)
    assert added(counts, 3) == [1, 2, 3]
    assert caplog.text.count("cannot be reached") == 1
    redis.start()  # its memory is lost
    assert added(counts, 3) == [1, 2, 3]
    redis.stop()
    assert added(counts, 1) == [4]
    assert caplog.text.count("cannot be reached") == 2


# failed attempts


@pytest.fixture
def attempts(counts: Counts) -> FailedAttempts:
    return FailedAttempts(counts)


def wrong(attempts: FailedAttempts, user: str, network: str, number: int) -> int:
    """How many of some wrong attempts are not refused."""
    checked = 0
    for _ in range(number):
        try:
            attempts.check(user, network)
        except TooManyRequests:
            pass
        else:
            attempts.add(user, network)
            checked += 1
    return checked


def test_ten_attempts_at_a_user_from_a_network_may_be_wrong_in_a_minute(attempts: FailedAttempts, clock: Clock) -> None:
    assert wrong(attempts, "alice", "one", 30) == 10
    assert wrong(attempts, "alice", "other", 30) == 10
    assert wrong(attempts, "bob", "one", 30) == 10
    clock.now += 60
    assert wrong(attempts, "alice", "one", 30) == 10


def test_a_hundred_attempts_of_a_network_may_be_wrong_and_a_hundred_at_a_user(attempts: FailedAttempts) -> None:
    assert sum(wrong(attempts, f"user{number}", "one", 9) for number in range(30)) == 100
    assert sum(wrong(attempts, "alice", f"network{number}", 9) for number in range(30)) == 100
    assert wrong(attempts, "bob", "other", 1) == 1


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
        assert len(self.pids) >= 2

    @contextmanager
    def only(self, worker: int) -> Iterator[None]:
        """Stop the other worker while the `with` block runs."""
        other = self.pids[1 - worker]
        os.kill(other, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(other, signal.SIGCONT)

    def statuses(self, number: int, user: tuple[str, str] = ALICE, path: str = "/predict") -> list[int]:
        """The statuses of so many requests, one after another, each on a connection of its own."""
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
        assert not any("alice" in key for key in redis.counts())  # it could be a password in the wrong field


@needs_redis
def test_right_passwords_at_once_are_all_let_in_by_workers_that_share_a_redis(
    two_workers: Any, redis: RedisServer
) -> None:
    environment = {"RATE_LIMIT_STORAGE": redis.url, "AUTH_REQUIRED": "true", "RATE_LIMIT": "1000/hour"}
    environment["QUEUE_MS"] = "30000"  # all are checked, though the machine may be busy
    with two_workers(**environment, WEB_CONCURRENCY="4") as workers, ThreadPoolExecutor(24) as pool:
        assert workers.statuses(9, WRONG) == [401] * 9
        assert set(pool.map(lambda _: workers.statuses(1)[0], range(96))) == {422}
        guesses = list(pool.map(lambda number: workers.statuses(1, ("alice", f"wrong{number}"))[0], range(48)))
        assert set(guesses) == {401, 429}
        assert guesses.count(401) <= 4  # each worker may check one while another counts the tenth
        assert set(pool.map(lambda _: workers.statuses(1)[0], range(24))) == {422}  # let in by one, known to all


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
        assert workers.statuses(7) == [422] * 5 + [429] * 2  # counted from zero, in memory
        assert workers.statuses(11, WRONG) == [401] * 10 + [429]
        with urllib.request.urlopen(f"{workers.server.url}/health", timeout=30) as answer:
            assert answer.status == 200
    log = (tmp_path / "log.txt").read_text()
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


def test_two_applications_count_for_themselves(settings: Settings) -> None:
    one, other = client_of(settings), client_of(settings)
    assert [ask(one).status_code for _ in range(4)] == [422] * 3 + [429]
    assert ask(other).status_code == 422


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("ab")), max_size=20))
def test_requests_on_the_loop_and_in_threads_count_towards_one_limit(asked: list[tuple[bool, str]]) -> None:
    now = ["a"]
    rate_limit = RateLimit("3/hour;5/day", lambda: now[0], Counts("memory://"))
    counted = {"a": 0, "b": 0}
    for is_on_loop, now[0] in asked:
        may = counted[now[0]] < 3
        if is_on_loop:
            assert rate_limit.admits(now[0]) is may
        else:
            assert (rate_limit.count() is None) is may
        counted[now[0]] += may


def test_what_others_count_too_is_not_counted_on_the_loop() -> None:
    rate_limit = RateLimit("3/hour", lambda: "a", Counts("redis://127.0.0.1:1"))
    assert not rate_limit.admits("a")
