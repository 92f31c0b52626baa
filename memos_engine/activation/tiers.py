"""Blocks that are at hand: decoded in main memory, and where the model runs.

One budget each, over all cubes of a root. A block is found by its cube and id, and only while a row
says that it is there, which is its caller's business. Eviction only lets go: whoever reads a block at
that moment holds it, and it stays whole until it is read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeAlias

import torch

from memos_engine.activation.eviction import GreedyDual
from memos_engine.activation.prefixes import Prefixes, size_of
from memos_engine.activation.values import KVBlock, LayerKV

__all__ = ["Tiers"]

_PREFIXES_PART = 4
"""One part in so many of each budget is for conversations."""

_Name: TypeAlias = tuple[str, str, str]
"""Cube, block, device."""
_RAM = "cpu"


class _Tier:
    """Blocks within one budget; its owner holds the lock."""

    def __init__(self, budget_bytes: int) -> None:
        self.held: GreedyDual[_Name] = GreedyDual(budget_bytes)
        self.blocks: dict[_Name, KVBlock] = {}

    def get(self, name: _Name) -> KVBlock | None:
        block = self.blocks.get(name)
        if block is not None:
            self.held.use(name)
        return block

    def put(self, name: _Name, block: KVBlock, saved_s: float, *, pinned: bool) -> None:
        self.drop(name)
        leaving = self.held.add(name, size_of(block.layers), saved_s, pinned=pinned)
        if leaving is None:
            return
        for each in leaving:
            del self.blocks[each]
        self.blocks[name] = block

    def drop(self, name: _Name) -> None:
        self.held.drop(name)
        self.blocks.pop(name, None)

    def bytes_of(self, cube: str) -> int:
        return sum(size_of(block.layers) for name, block in self.blocks.items() if name[0] == cube)


class Tiers:
    """The blocks of all cubes that this process holds. Thread-safe.

    Args:
        ram_bytes: What blocks and conversations may take in main memory.
        device_bytes: What they may take where models run, if that is elsewhere.
    """

    def __init__(self, ram_bytes: int, device_bytes: int) -> None:
        self.prefixes = Prefixes(ram_bytes // _PREFIXES_PART, device_bytes // _PREFIXES_PART)
        self._lock = threading.Lock()
        self._ram = _Tier(ram_bytes - ram_bytes // _PREFIXES_PART)
        self._device = _Tier(device_bytes - device_bytes // _PREFIXES_PART)

    def get(self, cube: str, id_: str, device: torch.device) -> KVBlock | None:
        """A block where the model runs, if it is at hand; copied there if need be."""
        with self._lock:
            if device.type == _RAM:
                return self._ram.get((cube, id_, _RAM))
            block = self._device.get((cube, id_, str(device)))
            if block is not None:
                return block
            block = self._ram.get((cube, id_, _RAM))
            pinned = self._ram.held.is_pinned((cube, id_, _RAM))
        return None if block is None else self._sent(cube, id_, block, device, pinned=pinned)

    def put(
        self,
        cube: str,
        id_: str,
        block: KVBlock,
        device: torch.device,
        *,
        saved_s: float,
        pinned: bool = False,
    ) -> KVBlock:
        """Hold a block that was read from its file, as far as there is room; return it where the model runs.

        Args:
            cube: Its cube.
            id_: Its id.
            block: In main memory.
            device: Where the model runs.
            saved_s: What it takes to read the file.
            pinned: It does not leave for others.
        """
        if device.type == "cuda":  # page-locked memory is copied several times as fast
            block = _moved(block, lambda tensor: tensor.pin_memory())
        with self._lock:
            self._ram.put((cube, id_, _RAM), block, saved_s, pinned=pinned)
        if device.type == _RAM:
            return block
        return self._sent(cube, id_, block, device, pinned=pinned)

    def pin(self, cube: str, id_: str, *, pinned: bool) -> None:
        """Keep a block from leaving, or let it."""
        with self._lock:
            for tier in (self._ram, self._device):
                for name in list(tier.blocks):
                    if name[:2] == (cube, id_):
                        tier.held.pin(name, pinned=pinned)

    def drop(self, cube: str, ids: Iterable[str]) -> None:
        """Let go of blocks that are no more."""
        gone = {(cube, id_) for id_ in ids}
        self._drop(lambda name: name[:2] in gone)

    def drop_cube(self, cube: str) -> None:
        """Let go of all that is held for a cube, conversations included."""
        self._drop(lambda name: name[0] == cube)
        self.prefixes.drop_cube(cube)

    def held(self, cube: str) -> set[str]:
        """Ids of a cube's blocks that are at hand."""
        with self._lock:
            return {name[1] for tier in (self._ram, self._device) for name in tier.blocks if name[0] == cube}

    def sizes(self, cube: str) -> tuple[int, int]:
        """Bytes of a cube's blocks in main memory, and where models run."""
        with self._lock:
            return self._ram.bytes_of(cube), self._device.bytes_of(cube)

    def check_integrity(self) -> None:
        """Assert that what is held is what is counted, within the budgets.

        Raises:
            AssertionError: it is not.
        """
        with self._lock:
            for tier in (self._ram, self._device):
                tier.held.check_integrity()
                assert set(tier.held.keys()) == tier.blocks.keys(), "blocks and their sizes disagree"
        self.prefixes.check_integrity()

    def _sent(self, cube: str, id_: str, block: KVBlock, device: torch.device, *, pinned: bool) -> KVBlock:
        sent = _moved(block, lambda tensor: tensor.to(device))
        with self._lock:
            self._device.put((cube, id_, str(device)), sent, float(size_of(sent.layers)), pinned=pinned)
        return sent

    def _drop(self, is_gone: Callable[[_Name], bool]) -> None:
        with self._lock:
            for tier in (self._ram, self._device):
                for name in [name for name in tier.blocks if is_gone(name)]:
                    tier.drop(name)


def _moved(block: KVBlock, move: Callable[[torch.Tensor], torch.Tensor]) -> KVBlock:
    layers = tuple(LayerKV(move(layer.keys), move(layer.values)) for layer in block.layers)
    return replace(block, layers=layers)
