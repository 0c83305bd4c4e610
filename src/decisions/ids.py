"""Ids of decisions: UUIDs of version 7 (RFC 9562, section 5.7), which ascend in the order of time within a process."""

import hashlib
import random
import threading
import time

_HEAD_BITS, _TAIL_BITS = 12, 62  # the random parts before and after the variant
_lock = threading.Lock()
_last = [0, 0, 0]  # the millisecond, and its random parts


def new_id() -> str:
    """An id, greater than all that this process has made before. It is no secret."""
    with _lock:
        moment, head, tail = _last
        now = time.time_ns() // 1_000_000
        if now > moment:  # the first bit of the tail stays 0: room for the steps
            moment, head, tail = now, random.getrandbits(_HEAD_BITS), random.getrandbits(_TAIL_BITS - 1)
        else:  # the same millisecond, or a clock that was turned back; the steps do not tell the next id
            tail += 1 + random.getrandbits(32)
        _last[:] = moment, head, tail
    return _written(moment, head, tail)


def id_of(seconds: float, seed: str) -> str:
    """An id that is the same for the same moment, in seconds since 1970, and the same text."""
    digest = int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=10).digest(), "big")
    return _written(int(seconds * 1000), digest >> 68, digest & (1 << _TAIL_BITS) - 1)


def _written(moment: int, head: int, tail: int) -> str:
    digits = f"{moment << 80 | 7 << 76 | head << 64 | 1 << 63 | tail:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
