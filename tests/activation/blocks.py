"""Blocks of random tensors for the tests of their files, and files that only look like theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import xxhash

from memos_engine.activation.block_file import load_block
from memos_engine.activation.manifest import OPENING, SEALED_FROM, Miss
from memos_engine.activation.values import KVBlock, LayerKind, LayerKV, ModelKey
from tests.activation import tiny

KEY = ModelKey(
    model="m" * 64, tokenizer="t" * 64, template="c" * 64, rope="r" * 64, adapter=None, dtype="float32"
)
KINDS = (LayerKind("full", None, 2, 8, ""), LayerKind("sliding", 4, 2, 8, "", 6))
ABOUT = {"memory": "01J", "text_sha256": "ab" * 32, "version": "3", "salt": "alice"}
TOKENS = 140


def block(tokens: int = TOKENS, *, behind: tuple[int, ...] = (1,), seed: int = 0) -> KVBlock:
    """A block of random tensors in the shapes of `KINDS`."""
    random_ = torch.Generator().manual_seed(seed)
    layers = tuple(
        LayerKV(
            torch.randn(kind.kv_heads, tokens, kind.head_dim, generator=random_),
            torch.randn(kind.kv_heads, tokens, kind.value_dim or kind.head_dim, generator=random_),
        )
        for kind in KINDS
    )
    return KVBlock(ids=tiny.ids(tokens, seed=seed), behind=behind, layers=layers, key=KEY)


def load(path: Path, **how: Any) -> KVBlock | Miss:
    """Load with what fits `block`."""
    return load_block(path, how.pop("key", KEY), how.pop("kinds", KINDS), **how)


def signed(header: bytes, data: bytes = b"") -> bytes:
    """A file whose checksum is right, whatever it holds: what a forger would write."""
    size = len(header).to_bytes(8, "little")
    seal = xxhash.xxh3_128(size + header[SEALED_FROM:] + data).hexdigest().encode()
    return size + header[: len(OPENING)] + seal + header[SEALED_FROM:] + data
