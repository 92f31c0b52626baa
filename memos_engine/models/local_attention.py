"""Attention on the CPU that shares the keys and values of a group of heads instead of copying them for each.

Transformers copies them wherever there is a mask: a question of 32 tokens behind 2,048 others then spends
a tenth of its time on that (SmolLM2-135M, one thread). The kernel is the same, and so is every bit of
what it returns. Other devices are left as they are: there, the kernels that are quick take no mask.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

__all__ = ["sharing_heads"]

_NAME = "memos_shared_heads"
_ELSEWHERE = ("cache", "position_bias", "softcap")
"""What only the implementation of transformers deals with."""


@contextlib.contextmanager
def sharing_heads(network: PreTrainedModel) -> Iterator[None]:
    """Let a model on the CPU that would attend by `sdpa` attend this way; others as they do.

    Whoever enters holds the model's lock.
    """
    config = network.get_decoder().config
    usual = config._attn_implementation  # noqa: SLF001 -- the public setter walks over every module
    if usual != "sdpa" or network.device.type != "cpu":
        yield
        return
    config._attn_implementation = _NAME  # noqa: SLF001 -- as above
    try:
        yield
    finally:
        config._attn_implementation = usual  # noqa: SLF001 -- as above


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *args: Any,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """As `sdpa_attention_forward`: query (1, heads, n, D), key and value (1, kv_heads, T, D)."""
    plain = (
        attention_mask is None
        or query.shape[1] == key.shape[1]
        or query.shape[2] == 1  # transformers shares them here already
        or key.shape[-1] != value.shape[-1]
        or args
        or kwargs.get("dropout")
        or any(kwargs.get(name) is not None for name in _ELSEWHERE)
    )
    if plain:
        answer: tuple[Tensor, Tensor | None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, *args, **kwargs
        )
        return answer
    attended = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, scale=kwargs.get("scaling"), enable_gqa=True
    )
    return attended.transpose(1, 2).contiguous(), None


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)
