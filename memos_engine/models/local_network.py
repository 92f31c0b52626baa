"""A network and how to run it: one forward at a time, each as if it were the first.

It knows tokens and caches; what a sequence is, and when a cache serves it, is `local_reading.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cached_property
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from memos_engine.errors import BadInput, ModelFailed
from memos_engine.models.local_attention import sharing_heads
from memos_engine.models.local_layers import capabilities, regime_of
from memos_engine.models.local_values import Capabilities

__all__ = ["Network"]


class Network:
    """A causal language model in evaluation mode. Thread-safe: every forward holds `lock`."""

    def __init__(self, module: PreTrainedModel) -> None:
        self.module = module.eval()
        self.lock = RLock()
        self.regime = regime_of(module.config)
        self._trims = "logits_to_keep" in inspect.signature(module.forward).parameters
        self._stateful = [part for part in module.modules() if _grows(part)]
        embeddings = module.get_input_embeddings()
        self.like: Tensor = embeddings.weight
        """A weight, to make others of its dtype on its device."""
        self._vocabulary = int(embeddings.num_embeddings)

    @cached_property
    def capabilities(self) -> Capabilities:
        """What can be done with its keys and values; runs it on two tokens, once."""
        with self.lock:
            return capabilities(self.module)

    def forward(self, ids: Sequence[int], cache: DynamicCache, *, keep: int) -> Tensor:
        """Return the logits (keep, vocab) of the last tokens of `ids`; the cache grows by all of them.

        Raises:
            BadInput: An id is not of this model's vocabulary.
            ModelFailed: The network cannot be run on them.
        """
        if min(ids) < 0 or max(ids) >= self._vocabulary:
            raise BadInput(
                f"The ids {min(ids)!r} to {max(ids)!r} are not all among the {self._vocabulary} of this model: "
                "encode the text with its own tokenizer."
            )
        tokens = torch.tensor([list(ids)], device=self.module.device)
        last: dict[str, Any] = {"logits_to_keep": keep} if self._trims else {}
        try:
            with self.lock, torch.no_grad(), sharing_heads(self.module):
                for rotary in self._stateful:
                    _forget_lengths(rotary)
                answer = self.module(input_ids=tokens, past_key_values=cache, use_cache=True, **last)
        except (RuntimeError, IndexError, ValueError) as exc:
            raise ModelFailed(
                f"The local model failed on {len(ids)} tokens: {exc}. See whether they fit into memory."
            ) from exc
        logits: Tensor = answer.logits[0, -keep:]
        return logits


def _grows(part: nn.Module) -> bool:
    """Tell whether it is the rotary module of a dynamic RoPE, which remembers the longest sequence it met."""
    kinds = getattr(part, "rope_type", "")
    return any("dynamic" in kind for kind in (kinds.values() if isinstance(kinds, dict) else [str(kinds)]))


def _forget_lengths(rotary: nn.Module) -> None:
    for name, original in list(rotary.named_buffers(recurse=False)):
        if name.endswith("original_inv_freq"):
            rotary.register_buffer(name.replace("original_", ""), original, persistent=False)
    for name in [name for name in vars(rotary) if name.endswith("max_seq_len_cached")]:
        setattr(rotary, name, rotary.original_max_seq_len)
