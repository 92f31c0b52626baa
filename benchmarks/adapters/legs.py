"""Calls that are compared by taking turns: an adapter's, the bare engine's, and a floor's. Knows no framework."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal, TypeAlias

import numpy as np

from benchmarks.machine import Row, Value

Mode = Literal["sync", "async"]
MODES: tuple[Mode, ...] = ("sync", "async")
Call: TypeAlias = Callable[[int], object]
"""Does the n-th call; where it returns an awaitable, that is awaited."""

OVERHEAD_TARGET = 1.1


@dataclass(frozen=True, slots=True)
class Turns:
    """How often each leg is called."""

    warm: int
    """Calls before the measured ones."""
    calls: int

    @property
    def all(self) -> int:
        """Warm ones and measured ones."""
        return self.warm + self.calls


@dataclass(frozen=True, slots=True)
class Case:
    """One adapter's call beside what it is made of."""

    name: str
    mode: Mode
    adapter: Call
    bare: Call
    """The engine's calls that it stands for, on data of its own."""
    floor: Call
    """The framework's own part: the same call of a subclass that does nothing."""


@dataclass(slots=True)
class Spent:
    """What the calls of one leg took, an entry a call."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    """Of all the process's threads: what other processes do meanwhile is not in it, nor is waiting for the disk."""

    def add(self, start: tuple[float, float], end: tuple[float, float], done: object) -> None:
        """Note a call; `done` is what it returned, its own seconds where it is a float."""
        self.wall_s.append(done if isinstance(done, float) else end[0] - start[0])
        self.cpu_s.append(end[1] - start[1])

    def drop(self, warm: int) -> None:
        """Forget the first calls."""
        del self.wall_s[:warm], self.cpu_s[:warm]


def nothing(n: int) -> None:
    """The floor where there is no framework."""


def composed(mode: Mode, *calls: Call) -> Call:
    """The calls one after the other; as a coroutine makes them, each in a thread, when `mode` is async."""

    def call(n: int) -> None:
        for each in calls:
            each(n)

    async def acall(n: int) -> None:
        for each in calls:
            await asyncio.to_thread(each, n)

    return acall if mode == "async" else call


def in_turns(groups: Sequence[Mapping[str, Call]], turns: Turns, mode: Mode = "sync") -> dict[str, Spent]:
    """What each leg's measured calls took. Each n goes round all groups, each time in another order.

    The legs of a group come one after the other: the later ones find what the earlier ones left in the
    processor's caches. A leg that times itself returns its seconds; of the others the whole call is timed.
    """
    spent = {name: Spent() for group in groups for name in group}
    orders = list(itertools.permutations(groups))
    calls = [
        (n, name, call)
        for n in range(turns.all)
        for group in orders[n % len(orders)]
        for name, call in group.items()
    ]
    if mode == "async":
        asyncio.run(_awaited(calls, spent))
    else:
        for n, name, call in calls:
            start = _now()
            done = call(n)
            spent[name].add(start, _now(), done)
    for each in spent.values():
        each.drop(turns.warm)
    return spent


async def _awaited(calls: Iterable[tuple[int, str, Call]], spent: Mapping[str, Spent]) -> None:
    for n, name, call in calls:
        start = _now()
        done = call(n)
        if inspect.isawaitable(done):
            done = await done
        spent[name].add(start, _now(), done)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def overhead(case: Case, turns: Turns, items: int) -> Row:
    """One row: medians of the three legs, and what the adapter costs of what it is made of.

    The floor is called right after the bare call, as an adapter's framework goes on after the engine.
    """
    groups: list[dict[str, Call]] = [{"adapter": case.adapter}, {"bare": case.bare, "floor": case.floor}]
    spent = in_turns(groups, turns, case.mode)
    wall = {name: each.wall_s for name, each in spent.items()}
    cpu = {name: each.cpu_s for name, each in spent.items()}
    return {
        "section": "overhead",
        "system": case.name,
        "mode": case.mode,
        "items": items,
        **{f"{name}_ms_p50": p50_ms(taken) for name, taken in wall.items()},
        "ratio": _of_parts(wall),
        **{f"{name}_cpu_ms_p50": p50_ms(taken) for name, taken in cpu.items()},
        "cpu_ratio": _of_parts(cpu),
    }


def _of_parts(taken: Mapping[str, Sequence[float]]) -> float:
    parts = [bare + floor for bare, floor in zip(taken["bare"], taken["floor"], strict=True)]
    return rounded(median(taken["adapter"]) / median(parts))


def p50_ms(seconds: Sequence[float]) -> Value:
    """The median in milliseconds. None: nothing was measured."""
    return milliseconds(float(np.median(seconds))) if seconds else None


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds, to four digits."""
    return rounded(1000 * seconds)


def rounded(value: float) -> float:
    """To four digits: more would be noise."""
    return float(f"{value:.4g}")
