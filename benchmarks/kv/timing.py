"""Legs that take turns, and files out of the page cache. Knows no model."""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.adapters.legs import Spent, milliseconds, rounded
from benchmarks.machine import Row, Value

__all__ = ["Leg", "drop_from_cache", "in_rounds", "speedups", "times"]

_PROBED = 16
"""Places of a file at which is looked whether it is still in the page cache."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One way to a first token."""

    run: Callable[[], int]
    """Timed; returns the token."""
    before: Callable[[], bool] | None = None
    """Not timed, before each run. False: it could not be done, and the leg is left out from then on."""


def in_rounds(legs: Mapping[str, Leg], rounds: int) -> tuple[dict[str, Spent], dict[str, int]]:
    """Run every leg once a round, each round in another order; return what they took, and their tokens."""
    spent = {name: Spent() for name in legs}
    tokens: dict[str, int] = {}
    left_out: set[str] = set()
    draw = random.Random(len(legs))
    gc.collect()
    gc.freeze()  # so that collecting before each leg is about what the legs made
    try:
        for name in (each for _ in range(rounds) for each in draw.sample(list(legs), len(legs))):
            gc.collect()  # a mapped file can only leave the page cache when nobody holds it
            leg = legs[name]
            if name in left_out or (leg.before is not None and not leg.before()):
                left_out.add(name)
                continue
            start = time.perf_counter(), time.process_time()
            tokens[name] = leg.run()
            spent[name].add(start, (time.perf_counter(), time.process_time()), None)
    finally:
        gc.unfreeze()
    return {name: each for name, each in spent.items() if name not in left_out}, tokens


def times(spent: Spent, suffix: str) -> Row:
    """Medians of a leg, wall clock and processor time of the process."""
    return {
        f"ttft_ms_{suffix}": milliseconds(median(spent.wall_s)),
        f"ttft_cpu_ms_{suffix}": milliseconds(median(spent.cpu_s)),
    }


def speedups(slow: Spent, quick: Spent, name: str, suffix: str = "") -> Row:
    """How many times quicker one leg is than another: medians by the wall clock, and in processor time."""
    return {
        f"{name}{suffix}": _times_quicker(slow.wall_s, quick.wall_s),
        f"{name}_cpu{suffix}": _times_quicker(slow.cpu_s, quick.cpu_s),
    }


def _times_quicker(slow: list[float], quick: list[float]) -> Value:
    return rounded(median(slow) / max(median(quick), 1e-9)) if slow and quick else None


def drop_from_cache(path: Path) -> bool:
    """Let a file leave the page cache; tell whether it has. In memory file systems and under Windows it cannot."""
    if not hasattr(os, "posix_fadvise"):
        return False
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        return not _in_cache(handle)
    finally:
        os.close(handle)


def _in_cache(handle: int) -> bool:
    """Tell whether any of some pages of an open file can be read without waiting."""
    size = os.fstat(handle).st_size
    for part in range(_PROBED):
        try:
            if os.preadv(handle, [bytearray(1)], size * part // _PROBED, os.RWF_NOWAIT):
                return True
        except BlockingIOError:
            continue
        except OSError:
            return False  # cannot be told here: believe the system
    return False
