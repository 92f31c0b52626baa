"""Moving cached keys to other positions, by the model's own rotary functions.

A rotary key at position s is R(s) k. Rotations compose, so R(p) R(s)^-1 turns it into the key at p;
values carry no position. The angles come from the model's rotary module and the turn itself is done by
the model's `apply_rotary_pos_emb`, so half-split and interleaved layouts, partial rotation, scaled
frequencies and one set of frequencies per layer type are what the model says they are. Whether that
holds is not believed but tried, once per model, on a single token: a token that sees only itself has
the same hidden states at any position, so its keys in every layer must be each other's rotation.

Nothing here knows blocks or queries. Keys are always moved from their canonical copy; no function
takes a moved key back.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from memos_engine.models.local import LocalModel

__all__ = ["Move", "Rotary"]

_Apply: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""The model's own: queries, keys, cosine, sine to turned queries and keys."""

_TRIED_AT = (3, 1501)
"""Positions of the trial; the second is lowered to the last one of a model with a short context."""
_TRIED_TOKEN = 1
_ERROR_MAX = 1e-4
_ERROR_MAX_HALF = 3e-2
"""Half precision rounds keys to about 3e-3."""


class Rotary:
    """The rotary positions of one model.

    `Rotary.of` makes it once per model, under the model's lock: the trial costs two forwards of a token.
    """

    _made: ClassVar[weakref.WeakKeyDictionary[LocalModel, Rotary]] = weakref.WeakKeyDictionary()
    _making: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, model: LocalModel) -> None:
        self._names = tuple(kind.rope for kind in model.capabilities.layers)
        self._module: Any = getattr(model.network.get_decoder(), "rotary_emb", None)
        self._apply: _Apply | None = _apply_of(model.network)
        self.reason = self._refusal(model)
        """Why keys cannot be moved; "" when they can."""

    @classmethod
    def of(cls, model: LocalModel) -> Rotary:
        """The rotary positions of a model, tried on the first call."""
        if (made := cls._made.get(model)) is not None:
            return made
        with model.lock, cls._making:  # in this order: the trial runs the model
            if model not in cls._made:
                cls._made[model] = cls(model)
            return cls._made[model]

    def move(self, start: int, to: int, count: int) -> Move:
        """Keys of positions start to start + count - 1 on their way to `to` and on."""
        assert not self.reason, self.reason
        return Move(self, start, to, count)

    def name(self, layer: int) -> str | None:
        """Name of a layer's set of frequencies, "" where the model has one. None means no RoPE."""
        return self._names[layer]

    def turned(self, keys: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Turn keys (kv_heads, T, head_dim) by angles (1, T, rotary_dim), in float32."""
        assert self._apply is not None, self.reason
        wide = keys.to(torch.float32).unsqueeze(0)
        # some models cut off the part that is not rotated before they call it, some within it
        part, rest = wide.split([cos.shape[-1], wide.shape[-1] - cos.shape[-1]], dim=-1)
        _, moved = self._apply(part[:, :0], part, cos, sin)
        return torch.cat((moved, rest), dim=-1).squeeze(0)

    def angles(
        self, name: str, start: int, to: int, count: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Cosine and sine of R(to + i) R(start + i)^-1, each (1, count, rotary_dim), float32.

        They are made of the model's own angles at both ends rather than of their difference: angles of
        large positions are rounded in float32, and the model attends with the rounded ones.
        """
        positions = torch.arange(count, device=device).unsqueeze(0)
        cos_from, sin_from = self._angles(name, positions + start)
        cos_to, sin_to = self._angles(name, positions + to)
        attribute = f"{name}_attention_scaling" if name else "attention_scaling"
        scale = float(getattr(self._module, attribute, 1.0)) ** 2  # YaRN: the key carries its share already
        cos = (cos_to * cos_from + sin_to * sin_from) / scale
        sin = (sin_to * cos_from - cos_to * sin_from) / scale
        return cos, sin

    def _angles(self, name: str, positions: Tensor) -> tuple[Tensor, Tensor]:
        like = torch.empty(1, dtype=torch.float32, device=positions.device)
        with torch.no_grad():
            cos, sin = self._module(like, positions, name) if name else self._module(like, positions)
        return cos, sin

    def _refusal(self, model: LocalModel) -> str:
        if not model.capabilities.composable:
            return model.capabilities.reason
        if self._module is None or self._apply is None:
            return "its code has no `rotary_emb` and `apply_rotary_pos_emb` to turn keys with"
        try:
            return self._trial(model)
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as exc:
            return f"its rotary functions are of an unknown kind ({exc})"

    def _trial(self, model: LocalModel) -> str:
        """Compare one token's keys at two positions, layer by layer."""
        start, to = _TRIED_AT[0], min(_TRIED_AT[1], model.capabilities.context_tokens - 1)
        move = Move(self, start, to, 1)
        pairs = zip(_lone_keys(model.network, start), _lone_keys(model.network, to), strict=True)
        for layer, (old, new) in enumerate(pairs):
            error = float(
                (move.keys(old, layer) - new.to(torch.float32)).norm() / new.to(torch.float32).norm()
            )
            if not error <= (_ERROR_MAX if new.dtype == torch.float32 else _ERROR_MAX_HALF):
                return f"keys of its layer {layer} do not follow its rotary functions (relative error {error:.1g})"
        return ""


class Move:
    """Keys of consecutive positions on their way to others: one rotation for each set of frequencies."""

    def __init__(self, rotary: Rotary, start: int, to: int, count: int) -> None:
        self._rotary = rotary
        self._way = (start, to, count)
        self._angles: dict[str, tuple[Tensor, Tensor]] = {}

    def keys(self, keys: Tensor, layer: int) -> Tensor:
        """Return keys (kv_heads, count, head_dim) of one layer at their new positions, in new memory, float32.

        The given keys are not changed; they are returned themselves where nothing has to turn.
        """
        name = self._rotary.name(layer)
        start, to, _ = self._way
        if start == to or name is None:
            return keys
        if name not in self._angles:
            self._angles[name] = self._rotary.angles(name, *self._way, keys.device)
        return self._rotary.turned(keys, *self._angles[name])


def _apply_of(network: PreTrainedModel) -> _Apply | None:
    code = sys.modules[type(network.get_decoder()).__module__]
    found: _Apply | None = getattr(code, "apply_rotary_pos_emb", None)
    return found


def _lone_keys(network: PreTrainedModel, position: int) -> list[Tensor]:
    """The keys (kv_heads, 1, head_dim) in every layer of a token that stands alone at a position."""
    cache = DynamicCache()
    ids = torch.tensor([[_TRIED_TOKEN]], device=network.device)
    where = torch.full_like(ids, position)
    with torch.no_grad():
        network(input_ids=ids, position_ids=where, past_key_values=cache, use_cache=True)
    return [layer.keys[0] for layer in cache.layers]
