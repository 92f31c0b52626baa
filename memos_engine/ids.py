"""Ids of items and cubes: unique over all machines, and in order of making."""

from __future__ import annotations

import os
import threading
import time
import uuid

_id_lock = threading.Lock()
_last_tick = [0]


def new_id() -> str:
    """A UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, a counter, random bits; sorts by order of making.

    The counter of 12 bits begins anew each millisecond; one that runs over borrows the next millisecond.
    """
    with _id_lock:
        tick = max((time.time_ns() // 1_000_000) << 12, _last_tick[0] + 1)
        _last_tick[0] = tick
    value = (tick >> 12) << 80 | 0x7 << 76 | (tick & 0xFFF) << 64 | 0b10 << 62
    return str(uuid.UUID(int=value | int.from_bytes(os.urandom(8)) & (1 << 62) - 1))
