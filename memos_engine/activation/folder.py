"""The file of a block as a model's memory keeps it: bound to its cube, its id and its passage.

A file that was copied to another place, or whose passage is another by now, is a clean miss like any
other. Where the files are, and which there are, its caller knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from memos_engine.activation.block_file import load_block, save_block
from memos_engine.activation.codec import Scheme
from memos_engine.activation.manifest import Manifest, Miss, header_of, places
from memos_engine.activation.values import KVBlock
from memos_engine.models.local import LocalModel

__all__ = ["Bound", "load", "planned_bytes", "save"]


@dataclass(frozen=True, slots=True)
class Bound:
    """What a file belongs to."""

    cube: str
    block: str
    passage: str
    """Digest of the text that it holds."""

    @property
    def about(self) -> dict[str, str]:
        """How its file says it."""
        return {"cube": self.cube, "block": self.block, "passage": self.passage}


def save(path: Path, block: KVBlock, bound: Bound, *, scheme: Scheme, licence: str | None = None) -> int:
    """Write a block, atomically and durably; return the bytes of its file.

    Raises:
        BadInput: The block holds what is not finite.
        StoreFull: No space left; nothing is left at `path`.
        StoreError: It cannot be written; nothing is left at `path`.
    """
    return save_block(path, block, scheme=scheme, about=bound.about, licence=licence)


def load(path: Path, model: LocalModel, bound: Bound) -> KVBlock | Miss:
    """Return the block at `path` in main memory, in the dtype of the model, or why it is a miss."""
    dtype: torch.dtype = getattr(torch, model.key.dtype)
    return load_block(path, model.key, model.capabilities.layers, dtype=dtype, about=bound.about)


def planned_bytes(
    model: LocalModel, ids: Sequence[int], behind: Sequence[int], bound: Bound, *, scheme: Scheme
) -> int:
    """Bytes of the file that these tokens would take, unless they turn out to need a wider scheme."""
    kinds = model.capabilities.layers
    if not ids or not kinds:
        return 0
    manifest = Manifest(
        key=model.key,
        ids=tuple(ids),
        behind=tuple(behind),
        shapes=tuple((kind.kv_heads, kind.head_dim, kind.value_dim or kind.head_dim) for kind in kinds),
        scheme=scheme,
        exact=1 if scheme == "int8" and not behind else 0,
        about=bound.about,
        licence=model.licence,
    )
    return len(header_of(manifest)) + sum(place.size_bytes for place in places(manifest))
