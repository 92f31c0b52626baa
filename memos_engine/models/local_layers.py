"""What the layers of a local model keep of a token: read from its configuration, then tried on two tokens.

A configuration says which layers slide and how positions enter the keys, yet not every model follows
its own. So what decides whether a cache is right is tried on the model itself: going on from a cache
must give the logits of reading at once. A model that fails, such as one that sees later tokens, keeps
no blocks; it is read anew each time, which is slower and always right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from memos_engine.models.local_values import Capabilities, LayerKind

__all__ = ["capabilities", "regime_of"]

_Regime: TypeAlias = Callable[[int], int]
"""Length of a sequence -> which frequencies its keys are rotated by; equal numbers, equal frequencies."""

_MOVABLE = {"default", "linear", "llama3", "proportional", "yarn"}
"""RoPE types whose frequencies are the same for every length."""
_PLAIN = (DynamicLayer, DynamicSlidingWindowLayer)
"""Caches of plain keys and values; what inherits from them keeps more."""
_ERROR_MAX = 1e-4
_ERROR_MAX_HALF = 5e-2
_CONTEXT_UNKNOWN_TOKENS = 1 << 20
_FIRST, _SECOND = 1, 2


@dataclass(frozen=True, slots=True)
class _Trial:
    """What two tokens left in the caches of a model."""

    fault: str
    """Why its layers cannot be kept; "" when they can."""
    keys: tuple[Tensor, ...] = ()
    """Of the first token, by layer: (kv_heads, 1, head_dim)."""
    values: tuple[Tensor, ...] = ()
    turned: tuple[bool, ...] = ()
    """Whether the keys of a layer change with their position."""


def capabilities(network: PreTrainedModel) -> Capabilities:
    """Say what can be done with the keys and values of a model. Runs it on two tokens; changes nothing."""
    config = network.config.get_text_config(decoder=True)
    trial = _tried(network)
    if trial.fault:
        return Capabilities(
            composable=False,
            reason=trial.fault,
            layers=(),
            bytes_per_token=0,
            context_tokens=_context_tokens(config),
        )
    kinds = tuple(_kinds(network, config, trial))
    per_token = sum(tensor.numel() * tensor.element_size() for tensor in (*trial.keys, *trial.values))
    reason = _unmovable(config, kinds)
    return Capabilities(
        composable=not reason,
        reason=reason,
        layers=kinds,
        bytes_per_token=per_token,
        context_tokens=_context_tokens(config),
    )


def regime_of(config: PretrainedConfig) -> _Regime:
    """Return how the model's rotary frequencies depend on the length of what it reads.

    Keys of a sequence of length a serve one of length b exactly where both have the same number.
    """
    decoder = config.get_text_config(decoder=True)
    dynamic: list[int] = []
    switching: list[int] = []
    for rope in _rope_sets(decoder).values():
        kind = rope.get("rope_type", "default")
        if "dynamic" in kind:
            dynamic.append(int(decoder.max_position_embeddings))
        elif kind == "longrope":
            switching.append(int(rope["original_max_position_embeddings"]))

    def regime(length: int) -> int:
        if any(length > limit for limit in dynamic):
            return length  # the base grows with every token
        return -sum(length > limit for limit in switching)

    return regime


def _rope_sets(config: PretrainedConfig) -> dict[str, Mapping[str, Any]]:
    """The sets of rotary parameters by layer type, "" where there is one for all; {} without RoPE."""
    found = getattr(config, "rope_parameters", None) or {}
    if any(isinstance(value, Mapping) for value in found.values()):
        return {name: value for name, value in found.items() if isinstance(value, Mapping)}
    return {"": found} if found else {}


def _kinds(network: PreTrainedModel, config: PretrainedConfig, trial: _Trial) -> Iterator[LayerKind]:
    ropes = _rope_sets(config)
    types = getattr(config, "layer_types", None)
    layers = DynamicCache(config=network.config).layers
    for index, (layer, key, value, turned) in enumerate(
        zip(layers, trial.keys, trial.values, trial.turned, strict=True)
    ):
        window = layer.sliding_window if layer.is_sliding else None
        name = "" if "" in ropes or not types else types[index]
        yield LayerKind(
            kind="full" if window is None else "sliding",
            window=window,
            kv_heads=key.shape[0],
            head_dim=key.shape[-1],
            rope=name if ropes and turned else None,
            value_dim=value.shape[-1],
        )


def _unmovable(config: PretrainedConfig, kinds: tuple[LayerKind, ...]) -> str:
    """Return why keys of this model cannot be moved to another position exactly; "" when they can."""
    if getattr(config, "alibi", False) or config.model_type in ("bloom", "mpt"):
        return "ALiBi: attention is biased by distance, and keys carry no position that could be moved"
    ropes = _rope_sets(config)
    if not ropes:
        return "its configuration names no rotary position embedding (RoPE)"
    for rope in ropes.values():
        kind = str(rope.get("rope_type", "default"))
        if rope.get("mrope_section") or "mrope" in kind:
            return "its RoPE has several position axes (M-RoPE)"
        if "dynamic" in kind or kind == "longrope":
            return f"its RoPE is {kind!r}: the frequencies depend on the length of the sequence"
        if kind not in _MOVABLE:
            return f"its RoPE is {kind!r}, which is not known to be the same for every length"
    if any(_of_each_layer(config, "kv_lora_rank")):
        return "multi-head latent attention (MLA): only a part of each key is rotated"
    if "chunked_attention" in (getattr(config, "layer_types", None) or ()):
        return "it attends within chunks of fixed positions"
    if all(kind.rope is None for kind in kinds):
        return "none of its layers rotates its keys"
    return ""


def _of_each_layer(config: PretrainedConfig, name: str) -> list[Any]:
    """The setting of every layer; a mixed model refuses to say it for all at once."""
    return [getattr(layer, name, None) for layer in getattr(config, "per_layer_config", None) or (config,)]


def _context_tokens(config: PretrainedConfig) -> int:
    tokens = getattr(config, "max_position_embeddings", None)
    if not isinstance(tokens, int) or tokens < 1:
        return _CONTEXT_UNKNOWN_TOKENS
    factors = [
        float(rope.get("factor") or 1)
        for rope in _rope_sets(config).values()
        if rope.get("rope_type") == "dynamic"  # for every other kind the number counts the factor in
    ]
    return int(tokens * max(factors, default=1.0))


def _tried(network: PreTrainedModel) -> _Trial:
    """Run a model on two tokens, at once and one by one, and look at what its layers kept."""
    layers = DynamicCache(config=network.config).layers
    if odd := sorted({type(layer).__name__ for layer in layers if type(layer) not in _PLAIN}):
        return _Trial(f"its layers keep more than keys and values, or none of their own ({', '.join(odd)})")
    expected, _ = _read(network, [_FIRST, _SECOND])
    _, cache = _read(network, [_FIRST])
    if len(cache.layers) != len(layers) or any(not layer.get_seq_length() for layer in cache.layers):
        return _Trial("not every layer of it keeps keys and values of its own")
    first = [(layer.keys[0], layer.values[0]) for layer in cache.layers]
    continued, _ = _read(network, [_SECOND], cache)
    if _differ(continued[-1], expected[-1]):
        return _Trial("going on from its cache does not give what reading at once gives")
    return _Trial(
        fault="",
        keys=tuple(key for key, _ in first),
        values=tuple(value for _, value in first),
        turned=_turned(network, [key for key, _ in first]),
    )


def _turned(network: PreTrainedModel, keys: list[Tensor]) -> tuple[bool, ...]:
    """Tell for each layer whether the keys of a lone token change with its position."""
    if not _rope_sets(network.config.get_text_config(decoder=True)):
        return (False,) * len(keys)
    _, moved = _read(network, [_FIRST], position=1)
    return tuple(not torch.equal(key, layer.keys[0]) for key, layer in zip(keys, moved.layers, strict=True))


def _read(
    network: PreTrainedModel, ids: list[int], past: Any = None, *, position: int | None = None
) -> tuple[Tensor, Any]:
    """Return logits (len(ids), vocab) and the model's own cache."""
    cache = DynamicCache(config=network.config) if past is None else past
    tokens = torch.tensor([ids], device=network.device)
    where = {} if position is None else {"position_ids": torch.full_like(tokens, position)}
    with torch.no_grad():
        answer = network(input_ids=tokens, past_key_values=cache, use_cache=True, **where)
    return answer.logits[0], cache


def _differ(found: Tensor, expected: Tensor) -> bool:
    error = (found.float() - expected.float()).norm() / expected.float().norm().clamp_min(1e-30)
    return not float(error) <= (_ERROR_MAX if expected.dtype == torch.float32 else _ERROR_MAX_HALF)
