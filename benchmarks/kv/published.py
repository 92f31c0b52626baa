"""The published system's method, as its release does it, on plain transformers.

A memory is a `DynamicCache` of its own, encoded behind its own head at position 0. It is stored by
pickle, and read back as the very object that is then handed to the model, which appends to it. Several
memories are joined by `torch.cat`, as they are: no key is moved, every head is kept. Of the versions of
transformers that its release allows, some drop the joined cache silently; measured is what it means.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from memos_engine.activation.values import Prefix

__all__ = ["answer", "cache_of", "full_prefill", "joined", "load", "over", "save"]


def full_prefill(network: PreTrainedModel, ids: Sequence[int], *, keep: int = 1) -> Tensor:
    """Read everything at once, by transformers alone: logits (keep, vocab) of the last tokens."""
    return answer(network, DynamicCache(config=network.config), ids, keep=keep)


def answer(network: PreTrainedModel, cache: DynamicCache, ids: Sequence[int], *, keep: int = 1) -> Tensor:
    """Logits (keep, vocab) of the last of `ids` after a cache, which grows by them."""
    tokens = torch.tensor([list(ids)], device=network.device)
    with torch.no_grad():
        found: Any = network(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=keep)
    logits: Tensor = found.logits[0]
    return logits


def cache_of(network: PreTrainedModel, ids: Sequence[int]) -> DynamicCache:
    """One memory, encoded at position 0."""
    cache = DynamicCache()
    answer(network, cache, ids)
    return cache


def over(prefix: Prefix) -> DynamicCache:
    """A cache of what was read before; tensors are shared, since `DynamicCache` grows by `torch.cat`."""
    cache = DynamicCache()
    for number, layer in enumerate(prefix.layers):
        cache.update(layer.keys.unsqueeze(0), layer.values.unsqueeze(0), number)
    return cache


def joined(caches: Sequence[DynamicCache]) -> DynamicCache:
    """Several memories as one, by plain concatenation."""
    cache = DynamicCache()
    for number in range(len(caches[0].layers)):
        keys = torch.cat([each.layers[number].keys for each in caches], dim=2)
        values = torch.cat([each.layers[number].values for each in caches], dim=2)
        cache.update(keys, values, number)
    return cache


def save(path: Path, cache: DynamicCache) -> int:
    """Pickle a memory; return the bytes of the file."""
    with path.open("wb") as file:
        pickle.dump({"memory": cache}, file)
    return path.stat().st_size


def load(path: Path) -> DynamicCache:
    """Unpickle a memory of our own making."""
    with path.open("rb") as file:
        return pickle.load(file)["memory"]  # noqa: S301 -- the method under test, on a file just written here
