"""Request ids: a client's is taken or one is made; it is in the answer and in all that is logged meanwhile."""

import asyncio
import logging
import os
import re
import urllib.request
from typing import Any

import pytest
from apiflask import APIFlask
from hypothesis import given
from hypothesis import strategies as st

from tabserve.api import current
from tabserve.api.front import Front
from tabserve.api.request_id import marks_of, request_id_of
from tabserve.log import MARKS, Marks
from tests.asgi import answer, ask, scope_of
from tests.conftest import Server

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MADE = re.compile("[0-9a-f]{32}")


@given(st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True))
def test_a_well_formed_id_is_taken(given_id: str) -> None:
    assert request_id_of(scope_of("GET", "/", {"X-Request-Id": given_id})) == given_id


@given(st.one_of(st.text(max_size=70), st.just("a" * 65), st.just("a\n"), st.just("a b"), st.just("ä")))
def test_whatever_a_client_sends_an_id_is_well_formed(sent: str) -> None:
    scope = scope_of("GET", "/")
    scope["headers"] = [(b"x-request-id", sent.encode()), (b"traceparent", sent.encode())]
    marks = marks_of(scope)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", marks.request_id, re.ASCII)
    assert marks.traceparent == ""


@pytest.mark.parametrize(
    "sent",
    [
        TRACE[:-1],
        f"{TRACE}0",
        f"{TRACE}-x",
        TRACE.upper(),
        f"ff{TRACE[2:]}",
        f"00-{'0' * 32}-{TRACE[36:]}",
        f"{TRACE[:36]}{'0' * 16}-01",
    ],
)
def test_of_traces_only_well_formed_ones_are_taken(sent: str) -> None:
    assert marks_of(scope_of("GET", "/", {"traceparent": TRACE})).traceparent == TRACE
    assert marks_of(scope_of("GET", "/", {"traceparent": sent})).traceparent == ""


def test_a_trace_has_an_id() -> None:
    assert Marks("x", TRACE).trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert Marks("x").trace_id == ""


def test_a_request_keeps_the_id_that_was_made_for_it_and_no_other_has_it() -> None:
    scopes = [scope_of("GET", "/") for _ in range(1000)]
    ids = [request_id_of(scope) for scope in scopes]
    assert len({*ids}) == 1000
    assert [request_id_of(scope) for scope in scopes] == ids


def test_processes_make_different_ids() -> None:
    reads, writes = os.pipe()
    if not os.fork():
        os.write(writes, request_id_of(scope_of("GET", "/")).encode())
        os._exit(0)
    with os.fdopen(reads, "rb") as pipe:
        assert pipe.read(32).decode() != request_id_of(scope_of("GET", "/"))
    os.wait()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/health", 200), ("GET", "/models", 200), ("GET", "/nothing", 404), ("POST", "/predict", 400)],
)
def test_every_answer_names_its_request(app: APIFlask, method: str, path: str, status: int) -> None:
    headers = {"X-Request-Id": "a-b_c.1", "traceparent": TRACE}
    answered = ask(Front(app), method, path, b"{", headers)
    assert (answered.status, answered.headers["X-Request-Id"]) == (status, "a-b_c.1")
    assert answered.headers["Traceparent"] == TRACE
    made = ask(Front(app), method, path, b"{").headers
    assert MADE.fullmatch(made["X-Request-Id"])
    assert "Traceparent" not in made


def test_without_the_front_requests_are_marked_too(app: APIFlask) -> None:
    client = app.test_client()
    answered = client.get("/models", headers={"X-Request-Id": "abc", "traceparent": TRACE}).headers
    assert (answered["X-Request-Id"], answered["traceparent"]) == ("abc", TRACE)
    other = client.get("/models").headers
    assert MADE.fullmatch(other["X-Request-Id"])
    assert "traceparent" not in other


def test_simultaneous_requests_log_with_their_own_ids(app: APIFlask, caplog: pytest.LogCaptureFixture) -> None:
    @app.get("/logs")
    def logs() -> str:
        logging.getLogger("tabserve.test").warning("%s %s", current.request_id(), MARKS.get().request_id)
        return current.request_id()

    async def ask_many() -> list[Any]:
        front = Front(app)
        asked = [answer(front, "GET", "/logs", headers={"X-Request-Id": f"id-{number}"}) for number in range(30)]
        return await asyncio.gather(*asked)

    answers = asyncio.run(ask_many())
    assert [one.body.decode() for one in answers] == [f"id-{number}" for number in range(30)]
    assert {record.getMessage() for record in caplog.records} == {f"id-{number} id-{number}" for number in range(30)}


def test_a_server_answers_and_logs_with_the_id(server: Server) -> None:
    def get(path: str, **headers: str) -> Any:
        with urllib.request.urlopen(urllib.request.Request(f"{server.url}{path}", headers=headers)) as answered:
            return answered.headers

    assert get("/health", **{"X-Request-Id": "of-a-probe"})["X-Request-Id"] == "of-a-probe"
    assert get("/models", **{"X-Request-Id": "of-flask"})["X-Request-Id"] == "of-flask"
    assert get("/health")["X-Request-Id"] != get("/health")["X-Request-Id"]
