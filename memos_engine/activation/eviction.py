"""Who leaves when space is wanted: GreedyDual-Size-Frequency (Cherkasova, HPL-98-69R1, 1998). Pure.

What is kept is worth the seconds that its uses save, by byte. Whenever something leaves, the clock rises
to what that was worth, so that what was used long ago falls behind what is used now.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

__all__ = ["GreedyDual", "Held", "score", "victims"]

K = TypeVar("K", bound=Hashable)


def score(*, hits: float, saved_s: float, size_bytes: int, clock: float = 0.0) -> float:
    """What keeping something is worth.

    Args:
        hits: Uses, as they count now.
        saved_s: Seconds that a use saves.
        size_bytes: What it takes.
        clock: What was worth least when something last left.
    """
    return clock + hits * saved_s / max(size_bytes, 1)


@dataclass(frozen=True, slots=True)
class Held(Generic[K]):
    """Something that takes space."""

    key: K
    size_bytes: int
    score: float
    used: float
    """Larger is later; of equal scores the one that was used first leaves first."""
    pinned: bool = False
    """It never leaves."""


def victims(held: Iterable[Held[K]], wanted_bytes: int) -> list[Held[K]] | None:
    """What leaves so that so many bytes come free, least worth first; None where all that may leave is too little."""
    chosen: list[Held[K]] = []
    free = 0
    for one in sorted((one for one in held if not one.pinned), key=lambda one: (one.score, one.used)):
        if free >= wanted_bytes:
            break
        chosen.append(one)
        free += one.size_bytes
    return chosen if free >= wanted_bytes else None


class GreedyDual(Generic[K]):
    """What is held within a budget of bytes, and what has to leave. Not thread-safe; holds keys only.

    Args:
        budget_bytes: What all together may take. 0: nothing is held.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.size_bytes = 0
        self._clock = 0.0
        self._turn = 0
        self._hits: dict[K, tuple[int, float]] = {}
        """Uses, and the seconds that each saves."""
        self._held: dict[K, Held[K]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._held

    def __len__(self) -> int:
        return len(self._held)

    def keys(self) -> list[K]:
        """What is held."""
        return list(self._held)

    def add(self, key: K, size_bytes: int, saved_s: float, *, pinned: bool = False) -> list[K] | None:
        """Hold something new; return what leaves for it, or None where it cannot be held."""
        self.drop(key)
        out: list[Held[K]] = []
        wanted = self.size_bytes + size_bytes - self.budget_bytes
        if wanted > 0:
            found = victims(self._held.values(), wanted)
            if found is None or size_bytes > self.budget_bytes:
                return None
            out = found
        for one in out:
            self._clock = max(self._clock, one.score)
            self.drop(one.key)
        self._hits[key] = (0, saved_s)
        self._held[key] = Held(key, size_bytes, 0.0, 0.0, pinned)
        self.size_bytes += size_bytes
        self.use(key)
        return [one.key for one in out]

    def use(self, key: K) -> None:
        """Count a use of what is held."""
        hits, saved_s = self._hits[key]
        self._hits[key] = (hits + 1, saved_s)
        self._turn += 1
        held = self._held[key]
        worth = score(hits=hits + 1, saved_s=saved_s, size_bytes=held.size_bytes, clock=self._clock)
        self._held[key] = replace(held, score=worth, used=self._turn)

    def pin(self, key: K, *, pinned: bool) -> None:
        """Keep what is held from leaving, or let it; what is not held is passed over."""
        if key in self._held:
            self._held[key] = replace(self._held[key], pinned=pinned)

    def is_pinned(self, key: K) -> bool:
        """Whether it is held and never leaves."""
        return key in self._held and self._held[key].pinned

    def drop(self, key: K) -> Held[K] | None:
        """Let something go; return it if it was held."""
        held = self._held.pop(key, None)
        if held is not None:
            del self._hits[key]
            self.size_bytes -= held.size_bytes
        return held

    def check_integrity(self) -> None:
        """Assert that the sums are right and within the budget.

        Raises:
            AssertionError: they are not.
        """
        assert self.size_bytes == sum(one.size_bytes for one in self._held.values()), "bytes do not add up"
        assert self.size_bytes <= self.budget_bytes, "more is held than the budget allows"
        assert self._held.keys() == self._hits.keys(), "uses and sizes are of different things"
