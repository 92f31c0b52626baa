"""A prefix as the cache of transformers, and back, without changing either.

A cache object is made anew for every sequence and thrown away; the tensors it starts from are only
read. Its first update copies them into a buffer with room for the tokens to come, in the dtype and on
the device of the model, so that nothing is copied again while it generates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from memos_engine.models.local_memory import tensors_in_one
from memos_engine.models.local_values import LayerKind, LayerKV

__all__ = ["cache_over", "layers_of"]


class _Rows:
    """Rows (1, kv_heads, T, D) that grow at the end, in a buffer that starts as a copy of someone's tensor.

    Args:
        past: What they start as, (kv_heads, T, D).
        room: Rows to be added later than the first time.
        buffer: Where to put them. None means memory of its own, made when the first are added.
    """

    def __init__(self, past: Tensor | None, room: int, buffer: Tensor | None = None) -> None:
        self._past = past
        self._room = room
        self._buffer = buffer
        self._count = 0 if past is None else past.shape[-2]

    def add(self, rows: Tensor) -> Tensor:
        """Return all rows, the new ones last. What was given before is left as it is."""
        end = self._count + rows.shape[-2]
        if not self._fits(rows, end):
            if self._past is None and self._buffer is not None:
                self._past, self._room = self._buffer[0, :, : self._count], self._room + self._count // 8
            batch, heads, _, width = rows.shape
            self._buffer = rows.new_empty(batch, heads, end + self._room, width)
        assert self._buffer is not None, "made above"
        if self._past is not None:
            self._buffer[..., : self._count, :] = self._past
            self._past = None
        self._buffer[..., self._count : end, :] = rows
        self._count = end
        return self._buffer[..., :end, :]

    def _fits(self, rows: Tensor, end: int) -> bool:
        held = self._buffer
        return (
            held is not None
            and end <= held.shape[-2]
            and (held.dtype, held.device) == (rows.dtype, rows.device)
        )


class _FullLayer(DynamicLayer):  # type: ignore[misc] # -- transformers is not followed
    """The cache of a layer that attends to all tokens."""

    def __init__(self, past: LayerKV | None, keys: _Rows, values: _Rows) -> None:
        super().__init__()
        self._key_rows, self._value_rows = keys, values
        self.is_initialized = True
        if past is not None:
            self.keys, self.values = past.keys.unsqueeze(0), past.values.unsqueeze(0)

    def get_seq_length(self) -> int:
        return 0 if self.keys is None else int(self.keys.shape[-2])

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        self.keys = self._key_rows.add(key_states)
        self.values = self._value_rows.add(value_states)
        return self.keys, self.values


class _SlidingLayer(DynamicSlidingWindowLayer):  # type: ignore[misc] # -- as above
    """The cache of a layer that attends to a window: it keeps every token it has, and shows the window."""

    def __init__(self, past: LayerKV | None, keys: _Rows, values: _Rows, *, window: int, seen: int) -> None:
        super().__init__(sliding_window=window)
        self._key_rows, self._value_rows = keys, values
        self.is_initialized = True
        self.cumulative_length = seen
        if past is not None:
            self.keys, self.values = past.keys.unsqueeze(0), past.values.unsqueeze(0)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        new = key_states.shape[-2]
        seen = min(self.cumulative_length, self.sliding_window - 1) + new
        self.cumulative_length += new
        self.keys = self._key_rows.add(key_states)
        self.values = self._value_rows.add(value_states)
        return self.keys[..., -seen:, :], self.values[..., -seen:, :]


def cache_over(
    kinds: Sequence[LayerKind],
    past: Sequence[LayerKV],
    like: Tensor,
    *,
    new: int = 0,
    room: int = 0,
    whole: bool = False,
) -> DynamicCache:
    """Return a cache that goes on from `past`, and never writes to it.

    Args:
        past: One of each layer, or none at all.
        like: Any weight of the model: its dtype and device are those of the keys to come.
        new: Tokens that will be fed first.
        room: Tokens beyond those that will fit without copying.
        whole: Sliding layers keep tokens out of the window too, for `layers_of`.
    """
    seen = past[0].keys.shape[-2] if past else 0
    held = [_held(kind, layer, whole=whole) for kind, layer in zip(kinds, past, strict=True)] if past else []
    buffers = _buffers(held, new + room, like) if held and not whole else [None] * (2 * len(kinds))
    cache = DynamicCache()
    cache.layer_class_to_replicate = None
    cache.layers = []
    for number, kind in enumerate(kinds):
        layer = held[number] if held else None
        keys = _Rows(layer and layer.keys, room, buffers[2 * number])
        values = _Rows(layer and layer.values, room, buffers[2 * number + 1])
        cache.layers.append(
            _FullLayer(layer, keys, values)
            if kind.window is None
            else _SlidingLayer(layer, keys, values, window=kind.window, seen=seen)
        )
    return cache


def _held(kind: LayerKind, layer: LayerKV, *, whole: bool) -> LayerKV:
    """Return what has to be kept of a layer: what no token to come can see need not be copied."""
    if kind.window is None or whole:
        return layer
    return LayerKV(layer.keys[:, 1 - kind.window :], layer.values[:, 1 - kind.window :])


def _buffers(held: Sequence[LayerKV], more: int, like: Tensor) -> Sequence[Tensor | None]:
    """Return a buffer for the keys and one for the values of each layer, with room for `more` rows."""
    if like.device.type != "cpu":
        return [None] * (2 * len(held))  # its allocator keeps what it once had
    tensors = [tensor for layer in held for tensor in (layer.keys, layer.values)]
    return tensors_in_one(
        [(1, len(tensor), tensor.shape[-2] + more, tensor.shape[-1]) for tensor in tensors], like.dtype
    )


def layers_of(cache: DynamicCache) -> tuple[LayerKV, ...]:
    """Return all keys and values of a cache made `whole`; they own no more memory than they show."""
    return tuple(LayerKV(_owned(layer.keys[0]), _owned(layer.values[0])) for layer in cache.layers)


def _owned(rows: Tensor) -> Tensor:
    packed = rows.contiguous()
    spare = packed.untyped_storage().nbytes() - packed.numel() * packed.element_size()
    return packed.clone() if spare else packed
