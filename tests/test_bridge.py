"""From ASGI to Flask: bodies are collected within bounds, answers are sent as they are made."""

import asyncio
import gc
import threading
import tracemalloc
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from tabserve.api.bridge import LARGE, PIECE, SHORT, SMALL, Bridge, environ_of, lane_of
from tabserve.api.threads import BusyError, Lane, Pool, paused
from tabserve.settings import Settings
from tests.asgi import Answer, answer, scope_of


class Service:
    """A WSGI application that answers with what it was sent."""

    def __init__(self, **settings: Any) -> None:
        self.extensions = {"settings": Settings(**{"auth_required": False, **settings})}
        self.asked: list[dict[str, Any]] = []
        self.closed = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with paused() if environ["PATH_INFO"] == "/paused" else nullcontext():
            assert self.may_go_on.wait(60)
        self.asked.append(environ)
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Sent", environ["PATH_INFO"])])
        return self if environ["PATH_INFO"] == "/pieces" else [environ["wsgi.input"].read()]

    def __iter__(self) -> Any:
        yield b""
        for number in range(5):
            yield bytes([number]) * (PIECE // 2)
        if self.extensions.get("fails"):
            raise KeyError("as asked")

    def close(self) -> None:
        self.closed += 1


def asked(service: Service, *arguments: Any, **options: Any) -> Answer:
    async def ask() -> Answer:
        return await answer(Bridge(service, Pool(2, 60)), *arguments, **options)  # type: ignore[arg-type]

    return asyncio.run(asyncio.wait_for(ask(), 60))


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=4), st.booleans())
def test_a_body_arrives_whole_however_it_is_cut(pieces: list[bytes], knows_length: bool) -> None:
    found = asked(Service(), "POST", "/output/credit", pieces, knows_length=knows_length)
    assert found == Answer(200, {"Content-Type": "text/plain", "X-Sent": "/output/credit"}, b"".join(pieces))


@pytest.mark.parametrize("knows_length", [True, False])
def test_of_a_body_that_is_too_long_no_more_is_received_than_says_so(knows_length: bool) -> None:
    service = Service(max_content_length=10)
    found = asked(
        service, "POST", "/output/credit", [b"1234567", b"1234567", b"never", None], knows_length=knows_length
    )
    assert found.body == (b"" if knows_length else b"12345671234567")


@pytest.mark.parametrize(("headers", "arrives"), [({}, False), ({"Authorization": "Basic YQ=="}, True)])
def test_the_body_of_nobody_is_not_received(headers: dict[str, str], arrives: bool) -> None:
    found = asked(Service(auth_required=True), "POST", "/output/credit", [b"a record"], headers)
    assert found.body == (b"a record" if arrives else b"")


def test_a_client_that_leaves_is_not_answered() -> None:
    service = Service()
    assert asked(service, "POST", "/output/credit", [b"a", None]).status == 0
    assert not service.asked


def test_an_answer_of_many_pieces_is_sent_as_it_is_made_and_closed_once() -> None:
    service = Service()
    assert asked(service, "GET", "/pieces").body == b"".join(bytes([n]) * (PIECE // 2) for n in range(5))
    assert service.closed == 1


def test_an_answer_that_fails_in_the_middle_is_closed_and_not_finished() -> None:
    service = Service()
    service.extensions["fails"] = True
    with pytest.raises(KeyError):
        asked(service, "GET", "/pieces")
    assert service.closed == 1


def test_the_answer_of_a_client_that_leaves_is_closed_once_when_it_is_made() -> None:
    service = Service()
    service.may_go_on.clear()

    async def test() -> None:
        asked = asyncio.ensure_future(answer(Bridge(service, Pool(2, 60)), "GET", "/pieces"))  # type: ignore[arg-type]
        await asyncio.sleep(0.1)
        asked.cancel()
        await asyncio.sleep(0.1)
        assert service.closed == 0  # it is being made
        service.may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert service.closed == 1

    asyncio.run(asyncio.wait_for(test(), 60))


@pytest.mark.parametrize("times", [1, 2])
def test_clients_that_leave_while_their_requests_wait_for_something_hold_up_nobody(times: int) -> None:
    service = Service()
    service.may_go_on.clear()

    async def test() -> None:
        bridge = Bridge(service, Pool(2, 60))  # type: ignore[arg-type]
        leaving = [asyncio.ensure_future(answer(bridge, "GET", "/paused")) for _ in range(9)]
        await asyncio.sleep(0.1)
        for one in leaving * times:
            one.cancel()
            await asyncio.sleep(0.01)
        service.may_go_on.set()
        assert {one.cancelled() for one in (await asyncio.wait(leaving, timeout=20))[0]} == {True}
        assert (await asyncio.wait_for(answer(bridge, "GET", "/models"), 20)).status == 200

    try:
        asyncio.run(asyncio.wait_for(test(), 60))
    finally:
        service.may_go_on.set()


def test_bodies_take_no_more_memory_than_they_may_and_give_it_back() -> None:
    service = Service(max_bodies_in_memory=3 * SMALL)
    service.may_go_on.clear()

    async def test() -> None:
        bridge = Bridge(service, Pool(2, 60))  # type: ignore[arg-type]
        held = [asyncio.ensure_future(answer(bridge, "POST", "/output/credit", b"x" * SMALL)) for _ in range(3)]
        await asyncio.sleep(0.1)
        with pytest.raises(BusyError):
            await answer(bridge, "POST", "/output/credit", [b"x" * SMALL, b"x"])
        small = asyncio.ensure_future(answer(bridge, "POST", "/output/credit", b"a record"))
        service.may_go_on.set()
        assert [len(one.body) for one in await asyncio.gather(*held, small)] == [SMALL] * 3 + [8]
        for _ in range(9):
            assert len((await answer(bridge, "POST", "/output/credit", [b"x" * SMALL, b"x"])).body) == SMALL + 1

    asyncio.run(asyncio.wait_for(test(), 60))


def test_who_is_refused_is_told_so_while_all_threads_are_busy() -> None:
    service = Service()
    service.may_go_on.clear()

    async def test() -> None:
        bridge = Bridge(service, Pool(1, 0.05))  # type: ignore[arg-type]
        busy = asyncio.ensure_future(answer(bridge, "GET", "/models"))
        refused = asyncio.ensure_future(answer(bridge, "GET", "/models"))
        await asyncio.wait([refused], timeout=20)
        assert isinstance(refused.done() and refused.exception(), BusyError)
        service.may_go_on.set()
        assert (await busy).status == 200

    try:
        asyncio.run(asyncio.wait_for(test(), 60))
    finally:
        service.may_go_on.set()


def test_the_bodies_of_refused_requests_take_no_memory_afterwards() -> None:
    service = Service()
    service.may_go_on.clear()

    async def test() -> None:
        bridge = Bridge(service, Pool(1, 0.05))  # type: ignore[arg-type]
        busy = asyncio.ensure_future(answer(bridge, "GET", "/models"))
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(4):
            with pytest.raises(BusyError):
                await answer(bridge, "POST", "/output/credit", [b"x" * LARGE, b"x" * LARGE])
        assert tracemalloc.get_traced_memory()[0] - before < LARGE
        service.may_go_on.set()
        assert (await busy).status == 200

    gc.disable()  # a body in a cycle of references would take memory until the next collection
    tracemalloc.start()
    try:
        asyncio.run(asyncio.wait_for(test(), 60))
    finally:
        tracemalloc.stop()
        gc.enable()
        service.may_go_on.set()


def test_a_body_that_was_read_takes_no_memory_while_its_answer_is_made() -> None:
    body: Any = environ_of(scope_of("POST", "/outputs_upload/credit"), b"x" * LARGE)["wsgi.input"]
    assert len(body.read(LARGE // 2)) == LARGE // 2
    assert body.getbuffer().nbytes == LARGE
    assert len(body.read(LARGE)) == LARGE // 2
    assert body.getbuffer().nbytes == 0
    assert body.read() == b""


def test_a_table_that_has_been_sent_waits_to_become_a_job_and_who_only_asks_how_far_it_is_does_not() -> None:
    service = Service()
    service.may_go_on.clear()

    async def test() -> None:
        bridge = Bridge(service, Pool(1, 0.05))  # type: ignore[arg-type]
        busy = asyncio.ensure_future(answer(bridge, "GET", "/models"))
        sent = asyncio.ensure_future(answer(bridge, "POST", "/jobs/credit", b"a table"))
        asking = asyncio.ensure_future(answer(bridge, "GET", "/jobs/an-id"))
        with pytest.raises(BusyError):
            await asking
        service.may_go_on.set()
        assert [one.status for one in await asyncio.gather(busy, sent)] == [200, 200]

    asyncio.run(asyncio.wait_for(test(), 60))


@pytest.mark.parametrize(
    ("method", "path", "size", "lane"),
    [
        ("GET", "/models", 0, Lane.SHORT),
        ("POST", "/output/credit", SHORT, Lane.SHORT),
        ("POST", "/output/credit", SHORT + 1, Lane.LIST),
        ("POST", "/output/credit", LARGE + 1, Lane.LARGE),
        ("POST", "/outputs/credit", 0, Lane.LARGE),
        ("POST", "/outputs/credit", 1, Lane.SHORT),
        ("POST", "/outputs_upload/credit", 1, Lane.LARGE),
        ("GET", "/outputs_upload/credit", 0, Lane.SHORT),
    ],
)
def test_each_request_has_its_lane(method: str, path: str, size: int, lane: Lane) -> None:
    assert lane_of(scope_of(method, path), size) is lane


HEADERS = st.lists(
    st.tuples(st.sampled_from(["Accept", "X-A", "Content-Type"]), st.text("abc, é", max_size=5)), max_size=4
)


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=9), st.text("a=&%20+", max_size=9), HEADERS, st.binary()
)
def test_a_request_is_as_in_wsgi(path: str, query: str, headers: list[tuple[str, str]], body: bytes) -> None:
    unique = {name: value.strip() for name, value in headers}
    expected = EnvironBuilder(method="POST", headers=unique, data=body).get_environ()
    environ = environ_of(scope_of("POST", f"/{quote(path, safe='')}?{query}", unique), body)
    names = {name for name in expected if name.startswith("HTTP_") and name != "HTTP_HOST"}
    for name in (*names, "REQUEST_METHOD", "SCRIPT_NAME", "CONTENT_TYPE", "wsgi.url_scheme"):
        assert environ.get(name, "") == expected.get(name, ""), name
    assert environ["PATH_INFO"].encode("latin-1").decode() == f"/{path}"
    assert environ["QUERY_STRING"] == query
    assert environ["wsgi.input"].read() == body


def test_a_header_that_is_there_twice_is_joined() -> None:
    environ = environ_of(scope_of("GET", "/", [("X-A", "1"), ("X-A", "2")]), b"")
    assert environ["HTTP_X_A"] == "1,2"
