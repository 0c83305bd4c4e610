"""Frames: entries of the decision log in a file that may end anywhere, because its writer was killed.

A frame is a mark, the payload's length, its CRC-32 and the payload, which is UTF-8. No UTF-8 holds the mark, so after
damage the next frame is found by it.
"""

import struct
import zlib
from typing import NamedTuple

MARK = b"\xfeTS\xff"
_HEAD = struct.Struct("<4sII")


class Found(NamedTuple):
    """What stands in a part of a file.

    Parameters
    ----------
    payloads : list of bytes
        Of the whole frames.
    end : int
        How many bytes they take, with the damaged ones between them. A frame that is not whole may begin there.
    damaged : list of bytes
        What stands between the whole frames.
    """

    payloads: list[bytes]
    end: int
    damaged: list[bytes]


def framed(payload: bytes) -> bytes:
    """A payload as a frame."""
    return _HEAD.pack(MARK, len(payload), zlib.crc32(payload)) + payload


def find_frames(content: bytes, *, is_whole: bool) -> Found:
    """The frames in a part of a file that begins where a frame does.

    Parameters
    ----------
    content : bytes
    is_whole : bool
        Whether nothing follows: then what is no whole frame at the end is damaged, too. Otherwise it is left, as it
        may still be written.

    Returns
    -------
    Found
    """
    payloads, damaged, at = [], [], 0
    while at < len(content):
        payload = _payload(content, at)
        if payload is not None:
            payloads.append(payload)
            at += _HEAD.size + len(payload)
            continue
        next_mark = content.find(MARK, at + 1)
        if next_mark < 0 and not is_whole:
            break
        end = next_mark if next_mark >= 0 else len(content)
        damaged.append(content[at:end])
        at = end
    return Found(payloads, at, damaged)


def _payload(content: bytes, at: int) -> bytes | None:
    """The payload of the frame at a place; None where there is no whole one."""
    if len(content) - at < _HEAD.size:
        return None
    mark, length, crc = _HEAD.unpack_from(content, at)
    start = at + _HEAD.size
    payload = content[start : start + length]
    return payload if mark == MARK and len(payload) == length and zlib.crc32(payload) == crc else None
