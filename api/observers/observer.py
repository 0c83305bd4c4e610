"""What an observer hears."""

from typing import NamedTuple

from tabserve.api.bridge import Scope


class Answered(NamedTuple):
    """A request and what was answered.

    Attributes
    ----------
    scope : dict
        The request's head, as in ASGI.
    route : str
        Such as `/output/<model_id>`: nothing of it comes from the client.
    method : str
        A method of HTTP, or `(unknown)`.
    status : int
    size : int
        Bytes of the answer's body.
    begun, ended : int
        When the whole body was there and when the answer was made, in nanoseconds since 1970.
    """

    scope: Scope
    route: str
    method: str
    status: int
    size: int
    begun: int
    ended: int


class Observer:
    """Hears of requests, on the event loop."""

    def begin(self, scope: Scope) -> None:
        """Hear that a request has come; its answer may be told, or not."""

    def answered(self, answered: Answered) -> None:
        """Hear that a request was answered."""
