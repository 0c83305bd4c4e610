"""Frames: what is written at once to a file that may end anywhere, because its writer was killed.

A frame is a mark, a length, a CRC-32 and as many bytes: payloads of UTF-8 with a byte between them that no UTF-8 holds.
None holds the mark either, so after damage the next frame is found by it.
"""

import struct
import zlib
from typing import NamedTuple

MARK, BETWEEN = b"\xfeTS\xff", b"\xff"
_HEAD = struct.Struct("<4sII")


class Found(NamedTuple):
    """What stands in a part of a file.

    Parameters
    ----------
    payloads : list of bytes
        What the whole frames hold.
    end : int
        How many bytes these take, with the damaged ones between them. A frame that is not whole may begin there.
    damaged : list of bytes
        What stands between the whole frames.
    """

    payloads: list[bytes]
    end: int
    damaged: list[bytes]


def framed(*payloads: bytes) -> bytes:
    """Some payloads as a frame: all of them are found again, or none."""
    content = BETWEEN.join(payloads)
    return _HEAD.pack(MARK, len(content), zlib.crc32(content)) + content


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
    payloads, damaged, at = list[bytes](), list[bytes](), 0
    while at < len(content):
        framed = _framed(content, at)
        if framed is not None:
            payloads += framed.split(BETWEEN)
            at += _HEAD.size + len(framed)
            continue
        next_mark = content.find(MARK, at + 1)
        if next_mark < 0 and not is_whole:
            break
        end = next_mark if next_mark >= 0 else len(content)
        damaged.append(content[at:end])
        at = end
    return Found(payloads, at, damaged)


def _framed(content: bytes, at: int) -> bytes | None:
    """What is in the frame at a place; None where there is no whole one."""
    if len(content) - at < _HEAD.size:
        return None
    mark, length, crc = _HEAD.unpack_from(content, at)
    start = at + _HEAD.size
    framed = content[start : start + length]
    return framed if mark == MARK and len(framed) == length and zlib.crc32(framed) == crc else None
