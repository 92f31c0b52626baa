"""Caches over a prefix: they grow as torch.cat would, show the window, and write to nobody's tensors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from memos_engine.models.local_cache import cache_over, layers_of
from memos_engine.models.local_memory import tensors_in_one
from memos_engine.models.local_values import LayerKind, LayerKV

WINDOW = 5
KINDS = (LayerKind("full", None, 2, 4, ""), LayerKind("sliding", WINDOW, 2, 4, "", 3))
STEPS = (1, 7, 1, 1, 3, 12, 1)
"""How many tokens each forward brings."""


def rows(count: int, seed: int) -> list[LayerKV]:
    """Random keys and values of some tokens, for each layer."""
    random = torch.Generator().manual_seed(seed)
    return [
        LayerKV(
            torch.randn(kind.kv_heads, count, kind.head_dim, generator=random),
            torch.randn(kind.kv_heads, count, kind.value_dim or kind.head_dim, generator=random),
        )
        for kind in KINDS
    ]


@pytest.mark.parametrize("read", [0, 1, 4, 5, 9])
@pytest.mark.parametrize("room", [0, 2, 100])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("like", [torch.ones(1), torch.ones(1, dtype=torch.bfloat16)], ids=["same", "other"])
def test_a_cache_shows_what_was_read(read: int, room: int, whole: bool, like: Tensor) -> None:
    """After each update a layer shows all tokens, or those of the window and the new ones, in any room."""
    past = rows(read, 0) if read else []
    before = [(one.keys.clone(), one.values.clone()) for one in past]
    cache = cache_over(KINDS, past, like, new=STEPS[0], room=room, whole=whole)
    every = [[one] for one in past] or [[] for _ in KINDS]
    total = read
    for seed, count in enumerate(STEPS, start=1):
        assert cache.get_seq_length() == total
        for number, (kind, new) in enumerate(zip(KINDS, rows(count, seed), strict=True)):
            every[number].append(new)
            shown = cache.update(new.keys[None], new.values[None], number)
            seen = total + count if kind.window is None else min(total, kind.window - 1) + count
            assert torch.equal(shown[0][0], torch.cat([one.keys for one in every[number]], 1)[:, -seen:])
            assert torch.equal(shown[1][0], torch.cat([one.values for one in every[number]], 1)[:, -seen:])
        total += count
    assert all(
        torch.equal(one.keys, keys) and torch.equal(one.values, values)
        for one, (keys, values) in zip(past, before, strict=True)
    )
    if whole:
        for kept, parts in zip(layers_of(cache), every, strict=True):
            assert torch.equal(kept.keys, torch.cat([one.keys for one in parts], 1))
            assert torch.equal(kept.values, torch.cat([one.values for one in parts], 1))
            assert kept.keys.untyped_storage().nbytes() == kept.keys.numel() * 4


def test_what_was_shown_stays() -> None:
    """Growing leaves what an earlier update returned as it was."""
    cache = cache_over(KINDS[:1], rows(3, 0)[:1], torch.ones(1), new=1, room=1)
    shown = []
    for seed in range(1, 9):
        new = rows(2, seed)[0]
        keys, _ = cache.update(new.keys[None], new.values[None], 0)
        shown.append((keys, keys.clone()))
    assert all(torch.equal(now, then) for now, then in shown)


def test_tensors_of_one_piece() -> None:
    """They have the shapes asked for, are aligned and contiguous, and none overlaps another."""
    shapes = [(2, 3, 5), (1, 1), (0, 4), (7,)]
    made = tensors_in_one(shapes, torch.float32)
    for number, tensor in enumerate(made):
        tensor.fill_(number)
    assert [tuple(tensor.shape) for tensor in made] == shapes
    assert all(bool((tensor == number).all()) for number, tensor in enumerate(made))
    assert all(tensor.is_contiguous() for tensor in made)
    assert len({tensor.data_ptr() % 64 for tensor in made if tensor.numel()}) == 1
