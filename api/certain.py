"""Certain: an answer that is there, and need not be made by Flask."""

from collections.abc import Callable
from typing import NamedTuple, Self

from flask import Response

from tabserve.api.bridge import Send, encoded
from tabserve.api.request_id import headers_of
from tabserve.decisions.log import Answered
from tabserve.log import Marks


class Certain(NamedTuple):
    """An answer that is there.

    Parameters
    ----------
    status : int
    headers : list of (bytes, bytes)
    body : bytes
    answered : Answered or None
        What a model answered, if one did.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    answered: Answered | None = None

    def to(self, marks: Marks) -> "Certain":
        """The answer to a request with these marks."""
        return Certain(self.status, [*self.headers, *headers_of(marks)], self.body, self.answered)

    async def send(self, send: Send) -> None:
        """Send it to an ASGI server."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})

    @classmethod
    def of(cls, response: Response) -> Self:
        """What Flask made."""
        return cls(response.status_code, encoded(response.headers), response.get_data())

    @classmethod
    def of_json(cls, body: bytes, answered: Answered) -> Self:
        """JSON, with the headers that Flask gives it."""
        headers = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]
        return cls(200, headers, body, answered)


Reply = Callable[[Certain], None]
