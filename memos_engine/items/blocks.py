"""What is told of the blocks of activation memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

BlockOp = Literal["promote", "demote", "evict", "stale", "forget", "drop"]


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """A passage whose keys and values one model keeps on disk, so that it need not read the text again."""

    id: str
    items: tuple[str, ...]
    """Ids of the items that the passage is made of, in its order."""
    model: str
    """Digest of the key of the model that made it; no other can use it."""
    tokens: int
    bytes: int
    """Of its file."""
    seconds: float
    """What the model would take to read the passage, by its rates where it was made."""
    pinned: bool
    """It never leaves for want of space."""
    hits: float
    """Uses, each of which counts half after a week; those of its items before it was made included."""
    made_at: datetime
    used_at: datetime | None
    """None means never."""


@dataclass(frozen=True, slots=True)
class BlockEvent:
    """What happened to a block, and why: ids and numbers, never text."""

    at: datetime
    op: BlockOp
    """`promote`: it was made; `demote`: it no longer pays; `evict`: another needed its place; `stale`: its items
    are no longer what it holds; `forget`: one of them was erased; `drop`: somebody asked, or it was damaged."""
    block: str
    reason: str
    tokens: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ActivationStats:
    """Counts and sizes of the blocks of one cube."""

    blocks: int
    tokens: int
    disk_bytes: int
    """Of files; so are those below of what this process holds."""
    ram_bytes: int
    device_bytes: int
    hits: int
    """Blocks that were asked for and found, since this process opened the cube."""
    misses: Mapping[str, int]
    """Blocks that were asked for and not found, by reason."""


@dataclass(frozen=True, slots=True)
class KVBudgets:
    """What blocks may take. What is over leaves: what saves least a byte first, pinned blocks never."""

    disk_bytes: int = 4 * 2**30
    """Of the files of each cube."""
    ram_bytes: int = 2**30
    """Of this process, over all cubes; a quarter is for conversations that were read before."""
    device_bytes: int = 2**30
    """The same, where a model is not on the CPU."""
