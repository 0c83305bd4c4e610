"""Ids of decisions: UUIDs of version 7 (RFC 9562, section 5.7), which ascend in the order of time within a process."""

import hashlib
import random
import threading
import time

_TAIL_BITS, _HEAD_BITS = 48, 26  # of the random parts: the last group, and what comes before it
_FULL = 1 << _TAIL_BITS - 1  # millions of steps from where a millisecond's ids begin, and as many from the end
_lock = threading.Lock()


class _Last:
    """The last id of this process: its millisecond, all but its last group, and that."""

    moment, head, tail = 0, "", 0


def new_id() -> str:
    """An id, greater than all that this process has made before. It is no secret."""
    (id_,) = new_ids(1)
    return id_


def new_ids(number: int) -> list[str]:
    """As many ids, ascending: see `new_id`."""
    with _lock:
        moment, tail = time.time_ns() // 1_000_000, _Last.tail
        if moment > _Last.moment or tail >= _FULL:
            _Last.moment = moment = max(moment, _Last.moment + 1)
            _Last.head, tail = _head(moment, random.getrandbits(_HEAD_BITS)), random.getrandbits(_TAIL_BITS - 2)
        head, ids = _Last.head, []
        for _ in range(number):  # the steps do not tell the next id
            tail += 1 + random.getrandbits(24)
            ids.append(f"{head}{tail:012x}")
        _Last.tail = tail
    return ids


def id_of(seconds: float, seed: str) -> str:
    """An id that is the same for the same moment, in seconds since 1970, and the same text."""
    digest = int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=10).digest(), "big")
    bits = digest >> 68 << 14 | digest >> _TAIL_BITS & 0x3FFF
    return f"{_head(int(seconds * 1000), bits)}{digest & (1 << _TAIL_BITS) - 1:012x}"


def _head(moment: int, bits: int) -> str:
    """All but the last group: a moment in milliseconds, the version, 12 random bits, the variant and 14 more."""
    digits = f"{moment:012x}"
    return f"{digits[:8]}-{digits[8:]}-7{bits >> 14 & 0xFFF:03x}-{0x8000 | bits & 0x3FFF:04x}-"
