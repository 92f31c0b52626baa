"""Conversations as they were read before, so that the next turn reads only what is new.

A chain of exact prefixes within a budget. The salt of each is its cube and principal: nobody finds what
another's conversation left, and all of a cube goes at once.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

from memos_engine.activation.chain import Chain, Match, chain_root
from memos_engine.activation.eviction import GreedyDual
from memos_engine.activation.values import LayerKV, ModelKey, Prefix

__all__ = ["Prefixes", "prefix_salt", "size_of"]

_Place: TypeAlias = tuple[bytes, tuple[int, ...]]


def prefix_salt(cube: str, principal: str) -> str:
    """What keeps the prefixes of one principal in one cube apart from all others."""
    return f"{cube}\0{principal}"


def size_of(layers: Sequence[LayerKV]) -> int:
    """Bytes of keys and values."""
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)


class Prefixes(Chain[Prefix]):
    """Exact prefixes, the least useful of which leave. Thread-safe; `compose(chain=...)` reads it.

    Args:
        ram_bytes: What all of them in main memory may take.
        device_bytes: What all of them elsewhere may take.
    """

    def __init__(self, ram_bytes: int, device_bytes: int) -> None:
        super().__init__()
        self._keeping = threading.Lock()
        self._budgets: dict[bool, GreedyDual[_Place]] = {
            True: GreedyDual(ram_bytes),
            False: GreedyDual(device_bytes),
        }
        self._cubes: dict[str, set[_Place]] = {}
        self._drops: Counter[str] = Counter()
        self._seen: dict[str, int] = {}

    @property
    def ram_bytes(self) -> int:
        """What those in main memory take."""
        return self._budgets[True].size_bytes

    @property
    def device_bytes(self) -> int:
        """What the others take."""
        return self._budgets[False].size_bytes

    def moment(self, cube: str) -> int:
        """What `keep` is told, so that nothing outlives a `forget` that came meanwhile."""
        return self._drops[cube]

    def seen(self, cube: str) -> int | None:
        """The change of the cube up to which its erases were followed; None where none was looked at."""
        return self._seen.get(cube)

    def see(self, cube: str, revision: int) -> None:
        """Erases up to this change of the cube were followed."""
        with self._keeping:
            self._seen[cube] = max(revision, self._seen.get(cube, 0))

    def keep(
        self, prefix: Prefix, key: ModelKey, *, cube: str, principal: str, moment: int | None = None
    ) -> bool:
        """Keep what was read of a conversation, in place of its own beginnings; tell whether there was room.

        Args:
            prefix: Exact, and shared with nobody who changes it.
            key: Of the model that read it.
            cube: Where the conversation took place.
            principal: Whose it is.
            moment: What `moment(cube)` said before it was read. None: just now.
        """
        if not prefix.ids or not prefix.layers:
            return False
        root = chain_root(key, salt=prefix_salt(cube, principal))
        place, on_cpu = (root, prefix.ids), prefix.layers[0].keys.device.type == "cpu"
        with self._keeping:
            if moment is not None and moment != self._drops[cube]:
                return False
            budget, size_bytes = self._budgets[on_cpu], size_of(prefix.layers)
            if size_bytes > budget.budget_bytes:
                return False
            begun = super().longest(prefix.ids, root=root)
            if begun is not None and begun.tokens == len(begun.kept.ids):
                self._let_go((root, begun.kept.ids))
            # what a use saves rises with the tokens, as the bytes do
            leaving = budget.add(place, size_bytes, float(size_bytes))
            assert leaving is not None, "it fits, and none is pinned"
            for each in leaving:
                self._let_go(each)
            self.add(prefix.ids, prefix, root=root)
            self._cubes.setdefault(cube, set()).add(place)
            return True

    def longest(self, ids: Sequence[int], *, root: bytes) -> Match[Prefix] | None:
        """As `Chain.longest`; what is found counts as used."""
        with self._keeping:
            match = super().longest(ids, root=root)
            if match is not None:
                place = root, match.kept.ids
                for budget in self._budgets.values():
                    if place in budget:
                        budget.use(place)
            return match

    def drop_cube(self, cube: str) -> None:
        """Let go of all conversations of a cube."""
        with self._keeping:
            self._drops[cube] += 1
            for place in list(self._cubes.get(cube, ())):
                self._let_go(place)

    def _let_go(self, place: _Place) -> None:
        root, ids = place
        self.discard(ids, root=root)
        for budget in self._budgets.values():
            budget.drop(place)
        for cube, places in list(self._cubes.items()):
            places.discard(place)
            if not places:
                del self._cubes[cube]
