"""Plain requests: those that most clients send, read in microseconds. All others are left to gunicorn's parser."""

import re
from typing import NamedTuple

from tabserve.api.front import LONGEST

LONGEST_HEAD = 4000  # bytes: gunicorn's parser has limits for lines and fields, which a longer head may exceed
HEAD = re.compile(
    rb"(GET|POST) (/[A-Za-z0-9_.~/-]*) HTTP/1\.1\r\n"  # no query, and nothing that is encoded
    rb"((?:[A-Za-z0-9-]+: [!-~](?:[ -~]*[!-~])?\r\n){1,50})\r\n"
)
LENGTH = re.compile(rb"0|[1-9][0-9]{0,5}")
# those that change what a server must do; Host has more rules than matter here
NOT_PLAIN = frozenset([b"transfer-encoding", b"expect", b"upgrade", b"te", b"trailer", b"content-encoding"])
HOST = re.compile(rb"[A-Za-z0-9.-]+(?::[0-9]{1,5})?")


class PlainRequest(NamedTuple):
    """A whole request whose connection is kept."""

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def version(self) -> tuple[int, int]:
        """Of HTTP."""
        return 1, 1


def plain_request(data: bytes) -> PlainRequest | None:
    """The request that some bytes are, if they are one whole request, no more and no less, and a plain one."""
    if len(data) > LONGEST_HEAD + LONGEST or (head := HEAD.match(data)) is None or head.end() > LONGEST_HEAD:
        return None
    method, path, lines = head.groups()
    headers = [_field(line) for line in lines[:-2].split(b"\r\n")]
    fields = dict(headers)
    if len(fields) < len(headers) or not NOT_PLAIN.isdisjoint(fields) or not HOST.fullmatch(fields.get(b"host", b"")):
        return None
    length = fields.get(b"content-length", b"0")
    if (
        fields.get(b"connection", b"keep-alive") != b"keep-alive"
        or not LENGTH.fullmatch(length)
        or head.end() + int(length) != len(data)
    ):
        return None
    return PlainRequest(method.decode(), path.decode(), headers, data[head.end() :])


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b": ")
    return name.lower(), value
