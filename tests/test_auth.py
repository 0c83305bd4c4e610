"""Credentials: who is let in, who is not, and what that costs."""

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
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from apiflask import APIBlueprint, APIFlask
from argon2 import PasswordHasher
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException, ServiceUnavailable

from tabserve.api import auth as module
from tabserve.api.app import create_app
from tabserve.api.auth import MOST_WAITING, VERIFIED, Credentials, Verified, auth
from tabserve.api.users import User, Users
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tests.conftest import ALICE, ROOT, running_server, wait_until, write_users

NAME, PASSWORD = ALICE
BOB = ("bob", "pass: word; pass")
WRONG = "hunter2hunter2"
PREDICTION_ROUTES = ["/predict", "/output/credit", "/output/nothing", "/outputs/credit", "/outputs_upload/credit"]
OPEN_ROUTES = ["/health", "/ready", "/version", "/models", "/models/credit", "/openapi.json"]
NO_USERS = (
    "AUTH_REQUIRED is on and the users file (AUTH_USERS_FILE) has no user: "
    "add one with `tabserve users add NAME`, or set AUTH_REQUIRED=false."
)


def basic(credentials: bytes | str) -> str:
    content = credentials.encode() if isinstance(credentials, str) else credentials
    return f"Basic {b64encode(content).decode()}"


MALFORMED = {
    "none": None,
    "empty": "",
    "a scheme alone": "Basic",
    "a scheme and a space": "Basic ",
    "another scheme": "Bearer x",
    "another scheme with the right credentials": basic(":".join(ALICE)).replace("Basic", "Bearer"),
    "no Base64": "Basic ???",
    "Base64 with noise in it": basic(":".join(ALICE)) + "!",
    "Base64 cut off": basic(":".join(ALICE))[:-3],
    "other letters": "Basic \xfc\xfc\xfc\xfc",
    "no colon": basic("alice"),
    "no name": basic(f":{PASSWORD}"),
    "no name and no password": basic(":"),
    "another encoding": basic("älice:käse".encode("latin-1")),
    "zero bytes": basic(b"\0\0\0"),
    "twice": f"{basic(':'.join(ALICE))}, {basic(':'.join(ALICE))}",
    "very long": "Basic " + "A" * 100_000,
}
WRONG_CREDENTIALS = {
    "wrong password": (NAME, WRONG),
    "no password": (NAME, ""),
    "unknown user": ("nobody", PASSWORD),
    "name in capitals": (NAME.upper(), PASSWORD),
    "name and password moved": (NAME[:-1], f"e{PASSWORD}"),
    "zero byte": (f"{NAME}\0", PASSWORD),
    "a name that no user may have": ("a/../b\n", PASSWORD),
    "a very long password": (NAME, "x" * 100_000),
}


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which credentials are remembered."""
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))
    return clock


@pytest.fixture
def changing_file(tmp_path: Path) -> Path:
    """A users file that the test may change, with alice and bob."""
    path = tmp_path / "users.txt"
    write_users(path, ALICE, BOB)
    return path


@pytest.fixture
def guarded(trained: Registry, changing_file: Path) -> APIFlask:
    """The service for users only."""
    return create_app(Settings(model_registry=trained.location, auth_users_file=changing_file))


@pytest.fixture
def client(guarded: APIFlask) -> FlaskClient:
    return guarded.test_client()


@pytest.fixture
def credentials(guarded: APIFlask) -> Credentials:
    found: Credentials = guarded.extensions["credentials"]
    return found


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that passwords were compared with."""
    hashes: list[str] = []
    compare = module.matches

    def matches(hash_: str, password: str) -> bool:
        hashes.append(hash_)
        return compare(hash_, password)

    monkeypatch.setattr(module, "matches", matches)
    return hashes


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The users files that were read."""
    files: list[Path] = []
    read = Users.read

    def read_(self: Users) -> dict[str, User]:
        files.append(self._path)
        return read(self)

    monkeypatch.setattr(Users, "read", read_)
    return files


def ask(client: FlaskClient, header: str | None, address: str = "127.0.0.1", path: str = "/predict") -> Any:
    """The answer to a request with any Authorization header, right or malformed."""
    environ = {"REMOTE_ADDR": address} | ({} if header is None else {"HTTP_AUTHORIZATION": header})
    return client.post(path, environ_overrides=environ, json={})


def assert_refused(answer: Any) -> None:
    assert answer.status_code == 401, answer.text
    assert answer.content_type == "application/problem+json"
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="Tabserve"'
    assert answer.json == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "Send a user's name and password by HTTP Basic.",
    }


# who is let in


@pytest.mark.parametrize("path", PREDICTION_ROUTES)
def test_predictions_are_for_users_alone(client: FlaskClient, path: str) -> None:
    assert_refused(client.post(path))
    assert_refused(client.post(f"{path}/"))
    assert_refused(client.post(path, auth=(NAME, WRONG)))
    assert client.post(path, auth=ALICE, json={}).status_code in (400, 404, 422)


@pytest.mark.parametrize("path", OPEN_ROUTES)
def test_all_else_is_open(client: FlaskClient, path: str) -> None:
    for headers in ({}, {"Authorization": "Basic ???"}, {"Authorization": basic(f"{NAME}:{WRONG}")}):
        assert client.get(path, headers=headers).status_code in (200, 503)


def test_users_get_their_prediction(client: FlaskClient, record: dict[str, Any]) -> None:
    for user in (ALICE, BOB, ALICE):
        assert client.post("/predict", json=record, auth=user).status_code == 200
        assert client.post("/predict", json=record, headers={"Authorization": basic(":".join(user))}).status_code == 200


def test_a_user_without_the_scope_is_told_which_is_missing(
    client: FlaskClient, changing_file: Path, record: dict[str, Any], clock: Clock
) -> None:
    assert client.post("/predict", json=record, auth=ALICE).status_code == 200
    Users(changing_file).allow(NAME, ["read", "audit"])
    clock.now += 60
    for path in PREDICTION_ROUTES:
        answer = client.post(path, json=record, auth=ALICE)
        assert (answer.status_code, answer.content_type) == (403, "application/problem+json")
        assert "scope `predict`" in answer.json["detail"]
        assert client.options(path, auth=ALICE).status_code == client.options(path).status_code == 200
    assert client.post("/predict", json=record, auth=BOB).status_code == 200
    Users(changing_file).allow(NAME, ["predict"])
    clock.now += 60
    assert client.post("/predict", json=record, auth=ALICE).status_code == 200


@pytest.mark.parametrize("scheme", ["basic", "BASIC"])
def test_the_scheme_may_be_written_in_any_case(client: FlaskClient, scheme: str) -> None:
    assert ask(client, basic(":".join(ALICE)).replace("Basic", scheme)).status_code == 422


def test_a_password_may_be_any_text(trained: Registry, tmp_path: Path) -> None:
    user = ("alice", "käse: und brot \U0001f9c0\0")
    write_users(tmp_path / "users.txt", user)
    settings = Settings(model_registry=trained.location, auth_users_file=tmp_path / "users.txt")
    client = create_app(settings).test_client()
    assert ask(client, basic(":".join(user))).status_code == 422
    assert ask(client, basic(":".join(user).encode("latin-1", "replace"))).status_code == 401


def test_where_none_are_required_credentials_do_not_matter(trained: Registry, tmp_path: Path) -> None:
    settings = Settings(
        model_registry=trained.location,
        auth_required=False,
        auth_users_file=tmp_path / "none",
        default_use_case="credit",
    )
    client = create_app(settings).test_client()
    for header in (None, "Basic ???", basic(f"{NAME}:{WRONG}")):
        assert ask(client, header).status_code == 422


def test_the_view_knows_the_user(guarded: APIFlask) -> None:
    with guarded.test_request_context(headers={"Authorization": basic(":".join(BOB))}):
        name = auth.login_required(lambda: auth.current_user)()
    assert name == "bob"


def test_a_blueprint_of_ones_own_can_require_users(changing_file: Path, tmp_path: Path) -> None:
    blueprint = APIBlueprint("extra", __name__)
    blueprint.before_request(module.require_scope("read"))

    @blueprint.get("/extra")
    def extra() -> dict[str, Any]:
        """Say who asks."""
        return {"user": auth.current_user}

    app = create_app(Settings(model_registry=tmp_path, auth_required=False, auth_users_file=changing_file))
    app.register_blueprint(blueprint)
    client = app.test_client()
    assert_refused(client.get("/extra"))
    assert client.get("/extra", auth=ALICE).json == {"user": "alice"}
    assert client.post("/predict").status_code == 503


# who is not


@pytest.mark.parametrize("header", MALFORMED.values(), ids=MALFORMED)
def test_malformed_credentials_are_refused_like_wrong_ones(client: FlaskClient, tried: list[str], header: str) -> None:
    assert_refused(ask(client, header))
    assert tried == []


@pytest.mark.parametrize("user", WRONG_CREDENTIALS.values(), ids=WRONG_CREDENTIALS)
def test_wrong_credentials_are_refused_all_alike(client: FlaskClient, user: tuple[str, str]) -> None:
    assert client.post("/predict", auth=ALICE).status_code != 401
    assert_refused(ask(client, basic(":".join(user))))


ADDRESSES = map(str, count())  # each is used for one attempt, so that none is refused for too many
HEADER_TEXT = st.text(st.characters(max_codepoint=255), max_size=60)


@given(
    header=st.one_of(
        HEADER_TEXT,
        HEADER_TEXT.map("Basic ".__add__),
        st.binary(max_size=60).map(basic),
        st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
        .filter(lambda user: user not in (ALICE, BOB))
        .map(":".join)
        .map(basic),
    )
)
def test_whatever_the_header_is_the_answer_is_401(anyones_client: FlaskClient, header: str) -> None:
    assert_refused(ask(anyones_client, header, address=next(ADDRESSES)))


@pytest.fixture(scope="module")
def anyones_client(trained: Registry, users_file: Path) -> FlaskClient:
    return create_app(Settings(model_registry=trained.location, auth_users_file=users_file)).test_client()


def test_an_unknown_user_costs_what_a_wrong_password_costs(
    client: FlaskClient, tried: list[str], changing_file: Path
) -> None:
    hashes = Users(changing_file).read()
    client.post("/predict", auth=(NAME, WRONG))
    client.post("/predict", auth=("nobody", WRONG))
    client.post("/predict", auth=("nobody", PASSWORD))  # the password of the hash that it is compared with
    assert tried == [hashes["alice"].hash] * 3


def test_without_any_user_left_everybody_is_refused(client: FlaskClient, changing_file: Path) -> None:
    changing_file.unlink()
    assert_refused(client.post("/predict", auth=ALICE))


def test_a_users_file_that_is_spoilt_while_the_service_runs_is_a_503_with_the_line(
    client: FlaskClient, changing_file: Path
) -> None:
    changing_file.write_text(f"{changing_file.read_text()}carl:{WRONG}\n")
    answer = client.post("/predict", auth=ALICE)
    assert answer.status_code == 503
    assert "line 3" in answer.json["detail"]
    assert "carl" not in answer.text
    assert WRONG not in answer.text
    assert client.get("/health").status_code == 200


# what is remembered


def test_credentials_that_were_right_are_looked_up_once_a_minute_and_never_hashed_again(
    client: FlaskClient, tried: list[str], read: list[Path], clock: Clock
) -> None:
    for _ in range(3):
        assert client.post("/predict", auth=ALICE).status_code != 401
    assert len(read) == 1
    clock.now += 59
    client.post("/predict", auth=ALICE)
    assert len(read) == 1
    clock.now += 1
    client.post("/predict", auth=ALICE)
    assert len(read) == 2
    clock.now += 59  # from the last look on, not from the last request
    client.post("/predict", auth=ALICE)
    assert len(read) == 2
    assert len(tried) == 1


def test_credentials_that_were_wrong_are_checked_each_time(client: FlaskClient, tried: list[str]) -> None:
    for _ in range(3):
        assert_refused(client.post("/predict", auth=(NAME, WRONG)))
    assert len(tried) == 3


def test_a_removed_user_is_refused_a_minute_later(client: FlaskClient, changing_file: Path, clock: Clock) -> None:
    assert client.post("/predict", auth=ALICE).status_code != 401
    Users(changing_file).remove("alice")
    clock.now += 60
    assert_refused(client.post("/predict", auth=ALICE))
    assert client.post("/predict", auth=BOB).status_code != 401


def test_a_changed_password_counts_at_once_and_the_old_one_no_longer_than_a_minute(
    client: FlaskClient, changing_file: Path, clock: Clock
) -> None:
    assert client.post("/predict", auth=ALICE).status_code != 401
    Users(changing_file).add("alice", WRONG)
    assert client.post("/predict", auth=(NAME, WRONG)).status_code != 401
    clock.now += 60
    assert_refused(client.post("/predict", auth=ALICE))
    assert client.post("/predict", auth=(NAME, WRONG)).status_code != 401


def test_a_user_added_to_a_running_service_is_let_in_at_once(client: FlaskClient, changing_file: Path) -> None:
    assert_refused(client.post("/predict", auth=("carl", PASSWORD)))
    Users(changing_file).add("carl", PASSWORD)
    assert client.post("/predict", auth=("carl", PASSWORD)).status_code != 401


def test_name_and_password_are_not_mixed_up_in_what_is_remembered(credentials: Credentials) -> None:
    assert credentials.scopes_of(*BOB, "address")
    name, password = BOB
    text = f"{name}:{password}"
    for cut in range(len(text)):
        pair = (text[:cut], text[cut:].removeprefix(":"))
        if pair != BOB:
            assert not credentials.scopes_of(*pair, f"address {cut}")
    assert not credentials.scopes_of("bo", "bpass: word; pass", "address")
    assert not credentials.scopes_of("bob:pass", " word; pass", "address")


def test_nothing_that_is_remembered_holds_name_or_password(credentials: Credentials) -> None:
    assert credentials.scopes_of(*ALICE, "network")
    kept = repr(vars(credentials)).encode() + bytes(VERIFIED._places)
    assert PASSWORD.encode() not in kept
    assert NAME.encode() not in kept
    digest = VERIFIED.digest(*ALICE)
    assert digest in credentials._remembered
    assert Verified().digest(*ALICE) != digest  # without the key it says nothing


def test_no_more_than_so_many_credentials_are_remembered_and_the_oldest_go_first(
    credentials: Credentials, changing_file: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 3)
    users = [(f"user{number}", PASSWORD) for number in range(5)]
    write_users(changing_file, *users)
    for user in users:
        assert credentials.scopes_of(*user, "network")
    assert len(credentials._remembered) == 3
    read.clear()
    assert credentials.scopes_of(*users[-1], "network")
    assert read == []
    assert credentials.scopes_of(*users[0], "network")
    assert len(read) == 1


def test_what_was_right_once_is_right_only_with_the_same_password_for_the_same_hash(
    credentials: Credentials, changing_file: Path, tried: list[str], clock: Clock
) -> None:
    assert credentials.scopes_of(*ALICE, "network")
    clock.now += 60
    Users(changing_file).add(NAME, PASSWORD)  # the same password with another salt
    assert credentials.scopes_of(*ALICE, "network")
    assert len(tried) == 2
    Users(changing_file).remove(NAME)
    clock.now += 60
    assert not credentials.scopes_of(*ALICE, "network")


@given(st.lists(st.tuples(st.binary(min_size=32, max_size=32).filter(any), st.booleans()), max_size=50))
def test_verified_holds_nothing_that_was_not_added(digests: list[tuple[bytes, bool]]) -> None:
    verified = Verified()
    added = set()
    for digest, is_added in digests:
        if is_added:
            verified.add(digest)
            added.add(digest)
            assert digest in verified
        assert digest not in verified or digest in added


def test_users_whose_digests_begin_alike_are_all_remembered() -> None:
    verified = Verified()
    digests = [b"same" + bytes([number]) * 28 for number in range(1, Verified.WAYS + 1)]
    for digest in digests:
        verified.add(digest)
    assert all(digest in verified for digest in digests)


def test_processes_that_fork_share_what_was_right() -> None:
    verified = Verified()
    digest = verified.digest(*ALICE, "hash")
    child = os.fork()
    if child == 0:
        verified.add(verified.digest(*ALICE, "hash"))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert digest in verified


def test_threads_may_ask_at_once(
    credentials: Credentials, changing_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 2)
    users = [(f"user{number}", PASSWORD) for number in range(8)]
    write_users(changing_file, *users)

    def ask(number: int) -> bool:
        name, password = users[number % 8]
        right = credentials.scopes_of(name, password, f"address {number}")
        return bool(right) and not credentials.scopes_of(name, WRONG, f"address {number}")

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(200)))


# too many failures


def assert_too_many(answer: Any) -> None:
    assert answer.status_code == 429
    assert answer.content_type == "application/problem+json"
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert answer.json["detail"] == "Too many failed attempts; wait before the next one."


def test_after_ten_failures_that_user_is_refused_from_that_network_before_anything_is_checked(
    client: FlaskClient, tried: list[str]
) -> None:
    for _ in range(10):
        assert_refused(ask(client, basic(f"{NAME}:{WRONG}"), "1.2.3.4"))
    assert len(tried) == 10
    for user in ((NAME, WRONG), ALICE):
        assert_too_many(ask(client, basic(":".join(user)), "1.2.3.4"))
    assert len(tried) == 10
    assert ask(client, None, "1.2.3.4").status_code == 401  # not an attempt
    assert client.get("/health", environ_overrides={"REMOTE_ADDR": "1.2.3.4"}).status_code == 200
    assert ask(client, basic(":".join(ALICE)), "1.2.3.5").status_code == 422


def test_failures_of_one_user_refuse_no_other_behind_the_same_address(client: FlaskClient) -> None:
    for _ in range(30):
        ask(client, basic(f"{NAME}:{WRONG}"), "1.2.3.4")
    assert ask(client, basic(":".join(BOB)), "1.2.3.4").status_code == 422
    assert_refused(ask(client, basic(f"bob:{WRONG}"), "1.2.3.4"))


def test_who_was_let_in_once_is_let_in_whatever_is_counted(client: FlaskClient, clock: Clock) -> None:
    assert ask(client, basic(":".join(ALICE)), "1.2.3.4").status_code == 422
    clock.now += 3600  # the worker no longer remembers them
    for _ in range(11):
        answer = ask(client, basic(f"{NAME}:{WRONG}"), "1.2.3.4")
    assert_too_many(answer)
    for address in ("1.2.3.4", "5.6.7.8"):
        assert ask(client, basic(":".join(ALICE)), address).status_code == 422


def test_names_that_do_not_exist_are_counted_like_those_that_do(client: FlaskClient, tried: list[str]) -> None:
    for name in ("alice", "nobody", "a\nb", "x" * 5000):
        for _ in range(10):
            assert_refused(ask(client, basic(f"{name}:{WRONG}"), "1.2.3.4"))
        assert_too_many(ask(client, basic(f"{name}:{WRONG}"), "1.2.3.4"))
    assert len(tried) == 40


def test_many_names_from_one_network_are_refused_after_a_hundred(client: FlaskClient) -> None:
    statuses = [ask(client, basic(f"user{n}:{WRONG}"), f"2001:db8::{n:x}").status_code for n in range(120)]
    assert statuses == [401] * 100 + [429] * 20
    assert_too_many(ask(client, basic(f"{NAME}:{WRONG}"), "2001:db8::ffff:1:1:1"))
    assert ask(client, basic(":".join(ALICE)), "2001:db8:0:1::1").status_code == 422


def test_many_networks_are_refused_a_user_after_a_hundred(client: FlaskClient) -> None:
    statuses = [ask(client, basic(f"{NAME}:{WRONG}"), f"1.2.3.{n}").status_code for n in range(120)]
    assert statuses == [401] * 100 + [429] * 20
    assert ask(client, basic(":".join(BOB)), "1.2.3.4").status_code == 422


def test_right_credentials_do_not_count_however_often_they_are_checked(
    client: FlaskClient, tried: list[str], changing_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED_FOR", 0)
    for _ in range(9):
        assert client.post("/predict", auth=(NAME, WRONG)).status_code == 401
    for _ in range(20):
        write_users(changing_file, ALICE, BOB)  # with other salts
        assert client.post("/predict", auth=ALICE, json={}).status_code == 422
    assert len(tried) == 29


def test_requests_without_an_attempt_do_not_count(client: FlaskClient) -> None:
    for header in MALFORMED.values():
        assert_refused(ask(client, header))
    assert ask(client, basic(f"{NAME}:{WRONG}")).status_code == 401


def at_once(number: int, attempt: Callable[[int], object]) -> list[str]:
    """What becomes of so many attempts that begin at the same moment."""
    together = threading.Barrier(number)

    def outcome(position: int) -> str:
        together.wait()
        try:
            return str(bool(attempt(position)))
        except HTTPException as error:
            return str(error.code)

    with ThreadPoolExecutor(number) as pool:
        return sorted(pool.map(outcome, range(number)))


def test_attempts_at_once_are_no_more_than_those_one_after_another(credentials: Credentials, tried: list[str]) -> None:
    outcomes = at_once(40, lambda number: credentials.scopes_of(NAME, f"{WRONG}{number}", "1.2.3.4"))
    assert outcomes == ["429"] * 30 + ["False"] * 10
    assert len(tried) == 10


def test_right_passwords_at_once_are_all_let_in_and_hashed_once(credentials: Credentials, tried: list[str]) -> None:
    assert at_once(48, lambda number: credentials.scopes_of(*ALICE, "1.2.3.4")) == ["True"] * 48
    assert len(tried) == 1


def test_more_attempts_than_may_wait_are_told_to_come_again(
    credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(module, "matches", lambda hash_, password: goes_on.wait(60))
    with ThreadPoolExecutor(MOST_WAITING) as pool:
        waiting = [pool.submit(credentials.scopes_of, *ALICE, "1.2.3.4") for _ in range(MOST_WAITING)]
        wait_until(lambda: credentials._waiting._value == 0, 60, "they do not wait")
        with pytest.raises(ServiceUnavailable) as refused:
            credentials.scopes_of(*BOB, "5.6.7.8")
        goes_on.set()
        assert all(attempt.result() for attempt in waiting)
    assert refused.value.retry_after == 1
    assert credentials.scopes_of(*BOB, "5.6.7.8")


def attempt_behind_a_proxy(client: FlaskClient, forwarded: str) -> int:
    return client.post("/predict", auth=(NAME, WRONG), headers={"X-Forwarded-For": forwarded}).status_code


def test_what_an_unknown_proxy_says_of_its_clients_does_not_count(client: FlaskClient) -> None:
    assert [attempt_behind_a_proxy(client, f"1.2.3.{number}") for number in range(11)] == [401] * 10 + [429]


def test_clients_are_told_apart_by_what_the_trusted_proxy_says(trained: Registry, users_file: Path) -> None:
    settings = Settings(model_registry=trained.location, auth_users_file=users_file, trusted_proxies=1)
    client = create_app(settings).test_client()
    # left of the proxy's own entry is what the client made up
    attempts = [attempt_behind_a_proxy(client, f"9.9.9.{number}, 1.2.3.4") for number in range(11)]
    assert attempts == [401] * 10 + [429]
    assert attempt_behind_a_proxy(client, "1.2.3.4, 5.6.7.8") == 401


def test_failures_are_logged_without_passwords_and_with_the_names_of_users_alone(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ask(client, basic(f"{NAME}:{WRONG}"), "1.2.3.4")
    ask(client, basic(f"{WRONG}:{PASSWORD}"), "1.2.3.4")
    ask(client, basic(":".join(ALICE)), "1.2.3.4")
    for _ in range(12):
        ask(client, basic(f"{NAME}:{WRONG}"), "5.6.7.8\x1b[2J\n")
    lines = [record for record in caplog.records if record.name in ("tabserve.api.auth", "tabserve.api.limits")]
    assert [line.getMessage() for line in lines] == [
        "refused alice from 1.2.3.4: attempt 1 of 10 a minute",
        "refused an unknown user from 1.2.3.4: attempt 1 of 10 a minute",
        *(f"refused alice from '5.6.7.8\\x1b[2J\\n': attempt {number} of 10 a minute" for number in range(1, 11)),
    ]
    assert {line.levelno for line in lines} == {logging.WARNING}
    for secret in (WRONG, PASSWORD, b64encode(WRONG.encode()).decode()[:10]):
        assert secret not in caplog.text


# the OpenAPI document


def test_the_document_says_which_operations_need_credentials(guarded: APIFlask, app: APIFlask) -> None:
    closed, opened = (one.test_client().get("/openapi.json").json for one in (guarded, app))
    secured = {path for path, item in closed["paths"].items() if "security" in next(iter(item.values()))}
    assert secured >= {"/predict", "/output/{model_id}", "/outputs/{model_id}", "/outputs_upload/{model_id}"}
    assert not secured & {"/health", "/ready", "/version", "/models", "/models/{model_id}"}
    assert closed["paths"]["/predict"]["post"]["security"] == [{"BasicAuth": []}]
    scheme = closed["components"]["securitySchemes"]["BasicAuth"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "basic")
    assert "security" not in opened["paths"]["/predict"]["post"]  # made in the same process, and later


# the start


def test_a_worker_that_begins_when_the_last_user_is_gone_refuses_and_does_not_stop_the_service(
    trained: Registry, tmp_path: Path, record: dict[str, Any]
) -> None:
    path = tmp_path / "users.txt"
    write_users(path, ALICE)
    environment = {"MODEL_REGISTRY": str(trained.location), "AUTH_REQUIRED": "true", "AUTH_USERS_FILE": str(path)}
    with running_server(tmp_path / "log.txt", {**environment, "WEB_CONCURRENCY": "1"}) as service:
        path.write_text("")
        children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
        (worker,) = map(int, children.read_text().split())
        os.kill(worker, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while children.read_text().split() in ([], [str(worker)]) and time.monotonic() < deadline:
            time.sleep(0.05)
        request = Request(f"{service.url}/predict", json.dumps(record).encode())
        request.add_header("Authorization", basic(":".join(ALICE)))
        with pytest.raises(HTTPError) as refused:
            urlopen(request, timeout=30)
        refused.value.close()
        assert refused.value.code == 401
        assert service.process.poll() is None


def test_a_reload_with_a_users_file_that_cannot_be_used_does_not_end_the_service(
    trained: Registry, users_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "users.txt"
    shutil.copy(users_file, path)
    environment = {
        "MODEL_REGISTRY": str(trained.location),
        "WEB_CONCURRENCY": "1",
        "AUTH_REQUIRED": "true",
        "AUTH_USERS_FILE": str(path),
    }
    with running_server(tmp_path / "log.txt", environment) as service:
        path.write_text("garbled")
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "Hang up" in service.log.read_text(), 30, "there was no reload")
        wait_until(lambda: service.log.read_text().count("Booting worker") == 2, 30, "there is no new worker")
        with urlopen(f"{service.url}/health", timeout=30) as answer:
            assert answer.status == 200
        assert service.process.poll() is None


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, NO_USERS),
        ("", NO_USERS),
        (
            f"alice:{WRONG}\n",
            "The users file (AUTH_USERS_FILE) cannot be used: line 1 is not a name, a colon and an argon2id hash, "
            "with or without a colon and scopes.",
        ),
    ],
)
@pytest.mark.parametrize("command", [["application.py"], ["-m", "gunicorn", "application"]])
def test_a_server_for_users_does_not_start_without_any_and_says_so_in_one_line(
    command: list[str], content: str | None, line: str, tmp_path: Path
) -> None:
    path = tmp_path / "users.txt"
    if content is not None:
        path.write_text(content)
    environment = {**os.environ, "HOST": "127.0.0.1", "AUTH_REQUIRED": "true", "AUTH_USERS_FILE": str(path)}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, timeout=60)
    assert done.returncode != 0
    assert done.stderr.decode().splitlines() == [line]
    assert done.stdout == b""


def test_without_a_setting_gunicorn_wants_users(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "AUTH_REQUIRED"}
    environment |= {"AUTH_USERS_FILE": str(tmp_path / "none")}
    command = [sys.executable, "-m", "gunicorn", "application"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr.decode()) == (1, f"{NO_USERS}\n")


# over sockets


@pytest.fixture(scope="module")
def address(trained: Registry, users_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """gunicorn for users alone; it may log a line for each refusal, and nothing else."""
    log = tmp_path_factory.mktemp("guarded") / "log.txt"
    environment = {
        "MODEL_REGISTRY": str(trained.location),
        "WEB_CONCURRENCY": "1",
        "AUTH_REQUIRED": "true",
        "AUTH_USERS_FILE": str(users_file),
        "LOG_LEVEL": "WARNING",
    }
    with running_server(log, environment) as server:
        parts = urlsplit(server.url)
        assert parts.hostname
        assert parts.port
        yield parts.hostname, parts.port
    text = log.read_text()
    assert all(" refused " in line or " answered " in line for line in text.splitlines()), text
    assert WRONG not in text
    assert PASSWORD not in text


def exchange(address: tuple[str, int], header: bytes) -> bytes:
    """Everything that comes back for a request with a header line, and with a body that will not be read."""
    body = b'{"age": 35}' * 100
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%sContent-Length: %d\r\n\r\n" % (
        header,
        len(body),
    )
    with socket.create_connection(address, timeout=300) as client:  # a password may wait for thirty others
        client.sendall(head + body)
        answer = b""
        while part := client.recv(65536):
            answer += part
    return answer


def test_gunicorn_lets_users_in_and_nobody_else(address: tuple[str, int]) -> None:
    right = exchange(address, f"Authorization: {basic(':'.join(ALICE))}\r\n".encode())
    assert right.startswith(b"HTTP/1.1 400 ")  # the body is not JSON
    for header in (
        "",
        *(f"Authorization: {value}\r\n" for name, value in MALFORMED.items() if value and len(value) < 999),
    ):
        answer = exchange(address, header.encode("latin-1"))
        assert answer.startswith(b"HTTP/1.1 401 "), answer
        assert b'WWW-Authenticate: Basic realm="Tabserve"\r\n' in answer


def test_gunicorn_refuses_a_wrong_password(address: tuple[str, int]) -> None:
    answer = exchange(address, f"Authorization: {basic(f'{NAME}:{WRONG}')}\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 401 ")


def attempt(address: tuple[str, int], name: str, password: str) -> bytes:
    """The status of the answer to a request with credentials."""
    return exchange(address, f"Authorization: {basic(f'{name}:{password}')}\r\n".encode())[9:12]


def test_nobody_with_the_right_password_is_refused_while_others_guess_from_the_same_address(
    trained: Registry, tmp_path: Path
) -> None:
    users = [(f"user{number}", PASSWORD) for number in range(20)]
    write_users(tmp_path / "users.txt", ALICE, *users)
    environment = {
        "MODEL_REGISTRY": str(trained.location),
        "WEB_CONCURRENCY": "1",
        "AUTH_REQUIRED": "true",
        "AUTH_USERS_FILE": str(tmp_path / "users.txt"),
    }
    with running_server(tmp_path / "log.txt", environment) as server, ThreadPoolExecutor(30) as pool:
        parts = urlsplit(server.url)
        address = str(parts.hostname), int(parts.port or 0)
        guesses = [pool.submit(attempt, address, NAME, f"{WRONG}{number}") for number in range(60)]
        right = [pool.submit(attempt, address, *user) for user in users * 3]
        assert {one.result() for one in right} == {b"400"}  # their bodies are not JSON
        assert sorted(guess.result() for guess in guesses) == [b"401"] * 10 + [b"429"] * 50


@pytest.mark.slow
def test_passwords_that_wait_to_be_checked_hold_up_nobody_else(trained: Registry, tmp_path: Path) -> None:
    slow = PasswordHasher(time_cost=200, memory_cost=2048, parallelism=1)  # a tenth of a second or two
    (tmp_path / "users.txt").write_text(f"alice:{slow.hash(PASSWORD)}\n")
    environment = {
        "MODEL_REGISTRY": str(trained.location),
        "WEB_CONCURRENCY": "1",
        "AUTH_REQUIRED": "true",
        "AUTH_USERS_FILE": str(tmp_path / "users.txt"),
    }
    with running_server(tmp_path / "log.txt", environment) as server, ThreadPoolExecutor(30) as pool:
        parts = urlsplit(server.url)
        address = str(parts.hostname), int(parts.port or 0)
        guesses = [pool.submit(attempt, address, f"user{number}", WRONG) for number in range(30)]
        wait_until(lambda: any(guess.done() for guess in guesses), 60, "none is checked")
        for _ in range(3):
            urlopen(f"{server.url}/health", timeout=60).close()
        assert sum(guess.done() for guess in guesses) < 27  # without that it waits until 27 are checked
        assert {guess.result() for guess in guesses} == {b"401"}


@pytest.mark.parametrize(
    "value", [b"\x00", b"\x7f\x80\xff", b"Basic \xff", b"Basic \x00", b"Basic " + b"=" * 9000, b"\t", b"B:a=sic"]
)
def test_no_bytes_in_the_header_upset_the_server(address: tuple[str, int], value: bytes) -> None:
    answer = exchange(address, b"Authorization: " + value + b"\r\n")
    assert answer[:13] in (b"HTTP/1.1 401 ", b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
