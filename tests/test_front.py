"""The front answers only what Flask would have answered, with the same bytes; the rest it hands over."""

import asyncio
import json
import re
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from apiflask import APIFlask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tabserve.api import front as module
from tabserve.api.app import create_app
from tabserve.api.front import Front
from tabserve.registry.artifact import Artifact
from tabserve.registry.registry import Registry
from tabserve.settings import Settings
from tests.asgi import Answer, answer, ask
from tests.conftest import ALICE

ODD = [
    "",
    " ",
    "null",
    "[]",
    "{}",
    "[{}]",
    "nothing",
    '"text"',
    "1e999",
    "[null]",
    "{",
    "\ufeff{}",
    "NaN",
    '{"age": NaN}',
]
PATHS = [
    "/output/credit", "/output/credit/", "/output/champion", "/output/latest", "/output/bikes", "/output/nothing",
    "/output/", "/output", "/output//credit", "/output/credit//", "/output/%63redit", "/output/credit?partial=true",
    "/output/credit?partial=false", "/output/credit?x=1", "/output/credit?", "/predict", "/predict/", "/outputs/credit",
    "/explain/credit", "/health", "/health/", "/health?x=1", "/ready", "/ready/", "/ready/credit", "/ready/nothing",
    "/ready/credit/", "/readyness", "/status", "/version", "/", "/output/../credit", "/output/credit%00",
    "/OUTPUT/credit", "/output/credit/x", "/output/cre dit",
]  # fmt: skip
METHODS = ["POST", "POST", "POST", "GET", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH"]


def basic(name: str, password: str) -> str:
    return f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}"


HEADERS = {
    "nobody": {},
    "alice": {"Authorization": basic(*ALICE)},
    "in small letters": {"authorization": basic(*ALICE).replace("Basic", "bAsIc")},
    "another scheme": {"Authorization": "Bearer abc"},
    "no colon": {"Authorization": f"Basic {b64encode(b'alice').decode()}"},
    "a text": {"Content-Type": "text/plain", "Origin": "https://example.org"},
    "found": {"X-Request-Id": "an-id.7", "Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
    "not well-formed": {"X-Request-Id": "an id", "Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"},
    "forwarded": {"X-Forwarded-For": "9.9.9.9, 8.8.8.8", "X-Forwarded-Proto": "https"},
}


@pytest.fixture(scope="module")
def services(trained: Registry, users_file: Path) -> dict[str, APIFlask]:
    """The service with different settings; all models are loaded."""
    base = Settings(model_registry=trained.location, auth_required=False, auth_users_file=users_file)
    kinds = {
        "open": base,
        "with users": replace(base, auth_required=True),
        "limited": replace(base, rate_limit="100000/second;900000/day", trusted_proxies=1),
        "called from pages": replace(base, cors_origins=("https://example.org",)),
        "strict": replace(base, max_rows=3, max_content_length=3000),
    }
    apps = {name: create_app(setting) for name, setting in kinds.items()}
    for app in apps.values():
        app.extensions["predictor"].resolver.refresh()  # as a thread of the worker does
        for name in ("latest", "champion"):
            app.extensions["predictor"].resolve(name)
    return apps


def of_flask(app: APIFlask, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
    response = app.test_client().open(
        path, method=method, data=body, headers=headers, environ_base={"wsgi.input_terminated": True}
    )
    return Answer(response.status_code, {key.title(): value for key, value in response.headers}, response.get_data())


def a_value(valid: Any) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.just(valid), st.none(), st.integers(-5, 10**6), st.text(max_size=5), st.booleans(), st.floats(), st.just([])
    )


@st.composite
def bodies(draw: st.DrawFn, record: dict[str, Any]) -> bytes:
    """A body that is valid, invalid or odd."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.one_of(st.sampled_from(ODD).map(str.encode), st.binary(max_size=20)))
    changed = st.dictionaries(st.sampled_from([*record, "else", "id"]), st.integers(0, 9), max_size=2)

    def one() -> dict[str, Any]:
        names = draw(changed) if draw(st.booleans()) else {}
        new = {name: draw(a_value(record.get(name))) for name in names}
        lost = draw(st.sets(st.sampled_from([*record]), max_size=1)) if draw(st.integers(0, 9)) == 0 else set()
        return {name: value for name, value in {**record, **new}.items() if name not in lost}

    content = one() if draw(st.booleans()) else [one() for _ in range(draw(st.integers(0, 5)))]
    text = json.dumps(content)
    return (text.replace("{", '{"age": 30, ', 1) if draw(st.integers(0, 19)) == 0 else text).encode()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=6 * settings().max_examples)
@given(st.data())
def test_an_answer_is_flasks_to_the_byte(
    services: dict[str, APIFlask], record: dict[str, Any], data: st.DataObject
) -> None:
    app = services[data.draw(st.sampled_from([*services]))]
    method, path = data.draw(st.sampled_from(METHODS)), data.draw(st.sampled_from(PATHS))
    headers = HEADERS[data.draw(st.sampled_from([*HEADERS]))]
    body = data.draw(bodies(record)) if data.draw(st.integers(0, 3)) else json.dumps(record).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=2)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    expected = of_flask(app, method, path, body, headers)
    answered = ask(Front(app), method, path, pieces, headers)
    if method == "HEAD":  # the server sends no body
        answered = answered._replace(body=b"")
    assert compared(answered, headers) == compared(expected, headers)


def compared(answer: Answer, asked_with: dict[str, str]) -> Answer:
    """An answer less the id that was made for its request, if that brought none."""
    if asked_with.get("X-Request-Id") == answer.headers["X-Request-Id"]:
        return answer
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-Id"])
    return answer._replace(headers={**answer.headers, "X-Request-Id": ""})


@pytest.fixture
def certain(services: dict[str, APIFlask], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of requests that are not answered on the loop."""
    handed_over: list[str] = []
    whole = module.Bridge.__call__

    async def note(self: Any, scope: Any, *arguments: Any) -> None:
        handed_over.append(scope["path"])
        await whole(self, scope, *arguments)

    monkeypatch.setattr(module.Bridge, "__call__", note)
    return handed_over


@pytest.mark.parametrize("path", ["/output/credit", "/output/credit/", "/output/champion", "/predict", "/predict/"])
@pytest.mark.parametrize("number", [0, 1, 20])
def test_valid_records_are_certain(
    services: dict[str, APIFlask], certain: list[str], record: dict[str, Any], path: str, number: int
) -> None:
    body = json.dumps([record] * number if number else record).encode()
    assert ask(Front(services["open"]), "POST", path, body).status == 200
    assert not certain


def test_a_model_id_is_certain_once_it_is_loaded(
    services: dict[str, APIFlask], certain: list[str], record: dict[str, Any], artifact: Artifact
) -> None:
    front, body = Front(services["open"]), json.dumps(record).encode()

    async def twice() -> None:
        for _ in range(2):
            assert (await answer(front, "POST", f"/output/{artifact.model_id}", body)).status == 200

    asyncio.run(twice())
    assert len(certain) == 1


def test_a_user_is_certain_once_remembered(
    services: dict[str, APIFlask], certain: list[str], record: dict[str, Any]
) -> None:
    app = create_app(services["with users"].extensions["settings"])
    app.extensions["predictor"].resolve("credit")
    front, body = Front(app), json.dumps(record).encode()

    async def thrice() -> None:
        for headers, status in ((HEADERS["alice"], 200), ({}, 401), (HEADERS["alice"], 200)):
            assert (await answer(front, "POST", "/output/credit", body, headers)).status == status

    asyncio.run(thrice())
    assert len(certain) == 2


@pytest.mark.parametrize(
    ("proxies", "header", "status"),
    [(0, "1.1.1.1", 429), (1, "1.1.1.1", 200), (1, "1.1.1.1, 3.3.3.3", 429), (2, "3.3.3.3, 9.9.9.9", 429)],
)
def test_certain_answers_count_towards_the_limit_of_their_client(
    trained: Registry, record: dict[str, Any], certain: list[str], proxies: int, header: str, status: int
) -> None:
    limited = Settings(
        model_registry=trained.location, auth_required=False, rate_limit="2/hour", trusted_proxies=proxies
    )
    app = create_app(limited)
    app.extensions["predictor"].resolve("credit")
    front, body = Front(app), json.dumps(record).encode()

    async def ask_thrice() -> list[Answer]:
        before = [{"X-Forwarded-For": "2.2.2.2, 3.3.3.3" if proxies < 2 else "3.3.3.3, 4.4.4.4"}] * 2
        return [
            await answer(front, "POST", "/output/credit", body, one) for one in [*before, {"X-Forwarded-For": header}]
        ]

    first, second, third = asyncio.run(ask_thrice())
    assert (first.status, second.status, third.status) == (200, 200, status)
    assert ("Retry-After" in third.headers) == (status == 429)
    assert len(certain) == (status == 429)


def test_what_is_not_valid_is_flasks(services: dict[str, APIFlask], certain: list[str], record: dict[str, Any]) -> None:
    assert (
        ask(Front(services["open"]), "POST", "/output/credit", json.dumps({**record, "age": -1}).encode()).status == 422
    )
    assert certain == ["/output/credit"]


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop is late."""
    monkeypatch.setattr(module, "Pulse", lambda *_: SimpleNamespace(is_late=True))


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("path", ["/health", "/ready", "/ready/credit"])
def test_probes_are_answered_although_the_loop_is_late(
    services: dict[str, APIFlask], certain: list[str], path: str
) -> None:
    assert ask(Front(services["open"]), "GET", path).status == 200
    assert not certain


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("path", ["/output/credit", "/outputs/credit"])
def test_when_the_loop_is_late_requests_are_refused_before_a_model_runs(
    services: dict[str, APIFlask], certain: list[str], record: dict[str, Any], path: str
) -> None:
    refused = ask(Front(services["open"]), "POST", path, json.dumps(record).encode())
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    assert json.loads(refused.body)["detail"] == "The service is busy. Nothing was done; send it again in a second."
    assert not certain
