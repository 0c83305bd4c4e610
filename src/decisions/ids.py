"""Ids of decisions: UUIDs of version 7 (RFC 9562, section 5.7), which ascend in the order of time within a process."""

import hashlib
import random
import threading
import time

_lock = threading.Lock()
_last = [0, 0]  # the millisecond, and its 74 random bits


def new_id() -> str:
    """An id, greater than all that this process has made before. It is no secret."""
    with _lock:
        moment, bits = _last
        now = time.time_ns() // 1_000_000
        if now > moment:
            moment, bits = now, random.getrandbits(73)  # the first bit stays 0: room for the steps
        else:  # the same millisecond, or a clock that was turned back; the steps do not tell the next id
            bits += 1 + random.getrandbits(32)
        _last[:] = moment, bits
    return _written(moment, bits)


def id_of(seconds: float, seed: str) -> str:
    """An id that is the same for the same moment, in seconds since 1970, and the same text."""
    bits = int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=10).digest(), "big") >> 6
    return _written(int(seconds * 1000), bits)


def _written(moment: int, bits: int) -> str:
    text = "%032x" % (moment << 80 | 7 << 76 | bits >> 62 << 64 | 2 << 62 | bits & 0x3FFF_FFFF_FFFF_FFFF)
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
