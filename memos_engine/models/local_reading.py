"""One sequence being read by a network, token after token, from where a prefix ends.

Here is decided whether a prefix can be gone on from or must be read again: the keys of some models
depend on how long the whole sequence is. Nothing here knows text.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from transformers import DynamicCache

from memos_engine.errors import BadInput
from memos_engine.models.local_cache import cache_over, layers_of
from memos_engine.models.local_network import Network
from memos_engine.models.local_values import LayerKV, Prefix

__all__ = ["Reading"]


class Reading:
    """A sequence under way; not thread-safe, though several may share a network.

    Args:
        past: What it goes on from; it is never changed.
        room: Tokens to come after the first ones fed, when known.
        whole: `prefix` will be asked for.

    Raises:
        BadInput: The past is not of this model.
    """

    def __init__(self, network: Network, past: Prefix | None, *, room: int = 0, whole: bool = False) -> None:
        if past is not None:
            _require_fitting(network, past)
        self._network = network
        self._past = past
        self._room = room
        self._whole = whole
        self._cache: DynamicCache | None = None
        self.ids: tuple[int, ...] = () if past is None else past.ids
        """Read so far, or known from the past."""
        self.reused = 0
        """Tokens of the past that were not read again; known after the first `feed`."""

    def feed(self, ids: Sequence[int], *, keep: int = 1) -> Tensor:
        """Read more tokens; return the logits (keep, vocab) of the last ones.

        Without ids the last token of the past is read again, unless what follows it is known.

        Raises:
            BadInput: There is nothing to read, or more than the model can.
            ModelFailed: The network cannot be run.
        """
        if not ids and keep == 1 and self._past is not None and self._past.after is not None:
            self.reused = len(self.ids)
            return self._past.after.unsqueeze(0)
        new = tuple(ids) or self._last_again()
        total, limit = len(self.ids) + len(new), self._network.capabilities.context_tokens
        if total > limit:
            raise BadInput(f"{total} tokens are more than the {limit} that this model reads: shorten them.")
        if self._cache is None:
            cache, unread = self._start(new, total)
        elif self._outgrown(total):
            cache, unread = self._anew(new)
        else:
            cache, unread = self._cache, new
        logits = self._network.forward(unread, cache, keep=keep)
        self._cache = cache
        self.ids += new
        return logits

    def prefix(self) -> Prefix:
        """Return what was read so far, to go on from; empty layers where the model keeps no blocks."""
        assert self._whole, "made without whole=True"
        assert self._cache is not None, "nothing was read"
        return Prefix(self.ids, layers_of(self._cache) if self._network.capabilities.layers else ())

    def _start(self, new: tuple[int, ...], total: int) -> tuple[DynamicCache, tuple[int, ...]]:
        """Take the past over, or read it again with the new ids where it cannot serve."""
        past, self._past = self._past, None
        regime = self._network.regime
        if past is None or not past.layers or regime(len(past.ids)) != regime(total):
            return self._anew(new)
        self.reused = len(self.ids)
        return self._cache_over(past.layers, len(new)), new

    def _anew(self, new: tuple[int, ...]) -> tuple[DynamicCache, tuple[int, ...]]:
        every = self.ids + new
        if not self._network.capabilities.layers:
            return DynamicCache(config=self._network.module.config), every
        return self._cache_over((), len(every)), every

    def _cache_over(self, past: Sequence[LayerKV], new: int) -> DynamicCache:
        kinds, like = self._network.capabilities.layers, self._network.like
        return cache_over(kinds, past, like, new=new, room=self._room, whole=self._whole)

    def _outgrown(self, total: int) -> bool:
        """Tell whether the tokens read so far must be read again once there are `total`.

        A longrope switches once. The base of a dynamic RoPE moves with every token: as in transformers,
        each key then keeps the base it was read with.
        """
        was, will = self._network.regime(len(self.ids)), self._network.regime(total)
        return was != will and will < 0

    def _last_again(self) -> tuple[int, ...]:
        if self._cache is not None or not self.ids:
            raise BadInput("There are no ids to read: give at least one, or a past that holds one.")
        last, self.ids = self.ids[-1:], self.ids[:-1]
        if self._past is not None:
            self._past = _cropped(self._past, len(self.ids)) if self.ids else None
        return last


def _cropped(past: Prefix, count: int) -> Prefix:
    """Return the first `count` tokens of a prefix; tensors are shared."""
    return Prefix(
        past.ids[:count],
        tuple(LayerKV(layer.keys[:, :count], layer.values[:, :count]) for layer in past.layers),
    )


def _require_fitting(network: Network, past: Prefix) -> None:
    """Refuse what another model made, before the network fails on it or, worse, does not."""
    if not past.layers:
        return
    kinds = network.capabilities.layers
    wanted = [
        ((kind.kv_heads, len(past.ids), kind.head_dim), kind.value_dim or kind.head_dim) for kind in kinds
    ]
    found = [(tuple(layer.keys.shape), layer.values.shape[-1]) for layer in past.layers]
    if wanted != found or any(layer.values.shape[:2] != layer.keys.shape[:2] for layer in past.layers):
        raise BadInput(
            f"The past has {len(past.layers)} layers of shapes such as {found[0]!r} for {len(past.ids)} tokens; "
            f"this model keeps {len(kinds)} such as {wanted[:1]!r}. Make it with this model's prefill."
        )
