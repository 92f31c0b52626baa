"""Keys and values of one layer as the tensors of a file, and back. Pure tensors: no file, no model.

int8 is the default: keys per channel in groups of 64 tokens, because a few channels are far larger
than the others in every token; values per token (KIVI, arXiv 2402.02750). Position 0 is kept in
float16: models park attention on it, its key is unlike all others, and a group that has to reach it
errs four times as much (SmolLM2-135M, groups of 128: KL 1.7e-4 instead of 4e-5). Groups of 128 take
1.5 % fewer bytes at half again the error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from memos_engine.activation.values import LayerKV

__all__ = ["SCHEMES", "Layout", "Scheme", "decode", "encoded", "is_plain"]

Scheme: TypeAlias = Literal["int8", "bfloat16", "float32"]

SCHEMES: tuple[Scheme, ...] = ("int8", "bfloat16", "float32")

_GROUP_TOKENS = 64
_PLAIN = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_WIDE = torch.float16
_SCALE_LEAST = 6e-8
"""The smallest number above 0 that float16 holds."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Shapes of the tensors that one layer becomes."""

    scheme: Scheme
    heads: int
    tokens: int
    key_dim: int
    value_dim: int
    exact: int = 0
    """How many tokens at the start are kept in float16, beside int8."""

    def tensors(self) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Name -> dtype and shape, in the order they are stored: the wider first, so that all are aligned."""
        heads, tokens = self.heads, self.tokens
        if self.scheme != "int8":
            plain = _PLAIN[self.scheme]
            return {
                "k": (plain, (heads, tokens, self.key_dim)),
                "v": (plain, (heads, tokens, self.value_dim)),
            }
        groups = -(-tokens // _GROUP_TOKENS)
        return {
            "k0": (_WIDE, (heads, self.exact, self.key_dim)),
            "v0": (_WIDE, (heads, self.exact, self.value_dim)),
            "ks": (_WIDE, (heads, groups, 1, self.key_dim)),
            "kz": (_WIDE, (heads, groups, 1, self.key_dim)),
            "vs": (_WIDE, (heads, tokens, 1)),
            "k": (torch.int8, (heads, tokens, self.key_dim)),
            "v": (torch.int8, (heads, tokens, self.value_dim)),
        }


def encoded(layer: LayerKV, scheme: Scheme, *, exact: int = 0) -> dict[str, Tensor] | None:
    """Return the tensors of a layer, by the names of its `Layout`; None where int8 cannot hold them.

    Args:
        exact: As in the `Layout`.
    """
    if scheme != "int8":
        return {"k": layer.keys.to(_PLAIN[scheme]), "v": layer.values.to(_PLAIN[scheme])}
    keys, values = layer.keys.to(torch.float32), layer.values.to(torch.float32)
    rough_keys, scales, middles = _keys_to_int8(keys, exact)
    value_scales = _scales(values.abs().amax(-1, keepdim=True) / 127)
    wide = {
        "k0": keys[:, :exact].to(_WIDE),
        "v0": values[:, :exact].to(_WIDE),
        "ks": scales,
        "kz": middles,
        "vs": value_scales,
    }
    if not all(bool(torch.isfinite(part).all()) for part in wide.values()):
        return None
    return {
        **wide,
        "k": rough_keys,
        "v": (values / value_scales.float()).round_().clamp_(-127, 127).to(torch.int8),
    }


def is_plain(scheme: Scheme, dtype: torch.dtype) -> bool:
    """Tell whether the tensors `k` and `v` of a scheme are keys and values of that dtype as they are."""
    return bool(_PLAIN.get(scheme) == dtype)


def decode(tensors: Mapping[str, Tensor], scheme: Scheme, into: LayerKV) -> None:
    """Write the keys and values of `encoded` tensors into those of a layer, in its dtype."""
    if scheme != "int8":
        into.keys.copy_(tensors["k"])
        into.values.copy_(tensors["v"])
        return
    wide = into if into.keys.dtype == torch.float32 else LayerKV(into.keys.float(), into.values.float())
    wide.keys.copy_(tensors["k"])
    for part, group in _grouped(wide.keys):
        part.mul_(tensors["ks"][:, group]).add_(tensors["kz"][:, group])
    wide.values.copy_(tensors["v"]).mul_(tensors["vs"])
    exact = tensors["k0"].shape[1]
    wide.keys[:, :exact], wide.values[:, :exact] = tensors["k0"], tensors["v0"]
    if wide is not into:
        into.keys.copy_(wide.keys)
        into.values.copy_(wide.values)


def _keys_to_int8(keys: Tensor, exact: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return keys as int8, and for each group and channel the scale and the middle of its range."""
    rough = keys.clone()
    if exact:
        rough[:, :exact] = rough[:, exact : exact + 1] if keys.shape[1] > exact else 0
    scales, middles = [], []
    for part, _ in _grouped(rough):
        low, high = part.amin(-2, keepdim=True), part.amax(-2, keepdim=True)
        scale, middle = _scales((high - low) / 255), ((high + low) / 2).to(_WIDE)
        part.sub_(middle).div_(scale).round_().clamp_(-128, 127)
        scales.append(scale)
        middles.append(middle)
    return rough.to(torch.int8), torch.cat(scales, 1), torch.cat(middles, 1)


def _scales(steps: Tensor) -> Tensor:
    return steps.clamp_min(_SCALE_LEAST).to(_WIDE)


def _grouped(rows: Tensor) -> list[tuple[Tensor, slice]]:
    """Return views (heads, groups, tokens, D) of rows (heads, T, D): the full groups, then the last one."""
    full = rows.shape[1] // _GROUP_TOKENS
    parts = []
    if full:
        whole = rows[:, : full * _GROUP_TOKENS].unflatten(1, (full, _GROUP_TOKENS))
        parts.append((whole, slice(0, full)))
    if rows.shape[1] > full * _GROUP_TOKENS:
        parts.append((rows[:, full * _GROUP_TOKENS :].unsqueeze(1), slice(full, full + 1)))
    return parts
