"""Asking an ASGI application as a server would, in one event loop."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from tabserve.api.certain import Certain

Application = Callable[[Any, Any, Any], Awaitable[None]]


class Answer(NamedTuple):
    """What was answered; without a status, nothing was."""

    status: int
    headers: dict[str, str]
    body: bytes


def scope_of(method: str, path: str, headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """A request's head as ASGI has it."""
    target, _, query = path.partition("?")
    raw_path = quote(target, safe="/%:@!$&'()*+,;=-._~").encode()
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(target),
        "raw_path": raw_path,
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs],
        "client": ("127.0.0.1", 50_000),
        "server": ("localhost", 80),
    }


async def answer(
    application: Application,
    method: str,
    path: str,
    body: bytes | Sequence[bytes] = b"",
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    knows_length: bool = True,
) -> Answer:
    """Ask, sending the body in one or several pieces; a last piece of None stands for a client that leaves."""
    pieces: list[bytes | None] = [body] if isinstance(body, bytes) else list(body)
    del body  # an error of the application would keep it
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    if knows_length:
        length = sum(len(piece or b"") for piece in pieces)
        pairs += [("Content-Length", str(length))] if length else []
    else:
        pairs.append(("Transfer-Encoding", "chunked"))
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        piece = pieces.pop(0) if pieces else None
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        sent.append(message)

    await application(scope_of(method, path, pairs), receive, send)
    if not sent:
        return Answer(0, {}, b"")
    head, *rest = sent
    assert [message.get("more_body", False) for message in rest] == [True] * (len(rest) - 1) + [False]
    fields = {name.decode("latin-1").title(): value.decode("latin-1") for name, value in head["headers"]}
    assert len(fields) == len(head["headers"])
    return Answer(head["status"], fields, b"".join(message["body"] for message in rest))


def ask(application: Application, *arguments: Any, **options: Any) -> Answer:
    """Ask once, in a loop of its own."""
    return asyncio.run(asyncio.wait_for(answer(application, *arguments, **options), 60))


def answered_at_once(front: Any, scope: dict[str, Any], body: bytes) -> Certain | None:
    """What a front answers without Flask, in a loop; None when it leaves the request to Flask."""

    async def answer() -> Certain | None:
        answers: asyncio.Queue[Certain] = asyncio.Queue()
        if not front.at_once(scope, body, answers.put_nowait):
            return None
        return await asyncio.wait_for(answers.get(), 30)

    return asyncio.run(answer())
