"""Plain requests are read as gunicorn's parser reads them; all others are left to it."""

from typing import Any

import pytest
from gunicorn.asgi.parser import CallbackRequest, PythonProtocol
from hypothesis import given
from hypothesis import strategies as st

from tabserve.api.plain import LONGEST_HEAD, PlainRequest, plain_request

PLAIN = (
    b"POST /output/credit HTTP/1.1\r\nHost: localhost:8080\r\nConnection: keep-alive\r\n"
    b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
)
LINES = [
    "POST /output/credit HTTP/1.1",
    "GET /ready HTTP/1.1",
    "GET /ready HTTP/1.0",
    "GET  / HTTP/1.1",
    "GET /?x HTTP/1.1",
]
LINES += [
    "get / HTTP/1.1",
    "GET /%63 HTTP/1.1",
    "GET x HTTP/1.1",
    "GET http://x/ HTTP/1.1",
    "POST / HTTP/1.1 ",
    "PUT / HTTP/1.1",
]
NAMES = [
    "Host",
    "Content-Length",
    "content-length",
    "Transfer-Encoding",
    "Transfer_Encoding",
    "X-A",
    "Expect",
    "Connection",
]
NAMES += ["X-Forwarded-For", "Authorization", "", "A b", "X\0Y", "Content-Length ", " Host", "Upgrade", "Accept"]
VALUES = [
    "5",
    "0",
    "+5",
    "5,5",
    "05",
    " 5",
    "5 ",
    "chunked",
    "x",
    "",
    "a\0b",
    "\x0b5",
    "100-continue",
    "close",
    "a:1",
    "é",
]
ENDS = ["\r\n"] * 20 + ["\n", "\r", "\r\n ", "\r\r\n"]
BODIES = ["hello", "", "hell", "hello!", "5\r\nhello\r\n0\r\n\r\n", "helloGET / HTTP/1.1\r\n\r\n"]


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Requests that are plain, or nearly so."""
    names = st.sampled_from(NAMES)
    fields = [("Host", "a"), ("Content-Length", "5")] if draw(st.booleans()) else []
    fields += draw(st.lists(st.tuples(names, st.sampled_from(VALUES)), max_size=2))
    colon = draw(st.sampled_from([": "] * 9 + [":", " : ", ":\t", ""]))
    lines = [draw(st.sampled_from(LINES)), *(f"{name}{colon}{value}" for name, value in fields), ""]
    return (
        "".join(line + draw(st.sampled_from(ENDS)) for line in lines).encode("latin-1")
        + draw(st.sampled_from(BODIES)).encode()
    )


def as_gunicorn_reads(data: bytes) -> tuple[PlainRequest, bool] | None:
    """What gunicorn's parser makes of some bytes, and whether they are one whole request."""
    body: list[bytes] = []
    parser: Any = PythonProtocol(
        on_headers_complete=lambda: False,
        on_body=body.append,
        on_message_complete=lambda: None,
        limit_request_line=4094,
    )
    try:
        parser.feed(data)
        head = CallbackRequest.from_parser(parser, is_ssl=False)
    except Exception:
        return None
    request = PlainRequest(head.method, head.raw_path.decode(), head.headers_bytes, b"".join(map(bytes, body)))
    return request, head.version == (1, 1) and parser.is_complete and not parser.remaining() and not head.query


@given(requests())
def test_what_is_plain_is_read_as_gunicorn_reads_it(data: bytes) -> None:
    request = plain_request(data)
    if request is not None:
        assert as_gunicorn_reads(data) == (request, True)


@given(st.binary(max_size=5), st.integers(0, len(PLAIN)), st.integers(0, 3))
def test_whatever_is_changed_it_is_read_as_gunicorn_reads_it(put: bytes, at: int, removed: int) -> None:
    data = PLAIN[:at] + put + PLAIN[at + removed :]
    request = plain_request(data)
    if request is not None:
        assert as_gunicorn_reads(data) == (request, True)


def test_the_usual_request_is_plain() -> None:
    headers = [(b"host", b"localhost:8080"), (b"connection", b"keep-alive"), (b"content-type", b"application/json")]
    headers.append((b"content-length", b"2"))
    assert plain_request(PLAIN) == PlainRequest("POST", "/output/credit", headers, b"{}")


MORE = ["Connection: close", "Expect: 100-continue", "Transfer-Encoding: chunked", "Host: b", "Upgrade: websocket"]
MORE += ["Content-Length: 2", "X_A: b", "X-A:b", "X-A: ", "X-A: \x7f", f"X-A: {'x' * LONGEST_HEAD}"]


@pytest.mark.parametrize("field", MORE)
def test_a_request_that_asks_for_more_is_not_plain(field: str) -> None:
    assert plain_request(PLAIN.replace(b"\r\n\r\n", f"\r\n{field}\r\n\r\n".encode())) is None


@pytest.mark.parametrize("end", range(len(PLAIN)))
def test_a_part_of_a_request_is_not_plain(end: int) -> None:
    assert plain_request(PLAIN[:end]) is None
