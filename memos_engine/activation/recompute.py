"""Computing some tokens of a prefix anew, among keys and values that are already there.

A `Draft` is a prefix in the making: one buffer per layer, filled with keys and values of any origin.
`Draft.run` sends chosen positions through the model's own forward, with their position ids, a mask by
absolute position and a cache that writes their keys and values over the old ones, layer by layer,
before that layer attends. So every row sees the new keys of all rows before it and the old keys of the
rest (which `drift` may correct), under the model's own windows, soft caps, norms and head groups; when
all positions run, it is full prefill. Rows of a query run in the same forward as rows of the memory.

Which rows are worth it is not decided here (see `selection`), and no block is ever written to.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

from memos_engine.activation.drift import Drift
from memos_engine.activation.values import LayerKind, LayerKV, Prefix
from memos_engine.errors import ModelFailed
from memos_engine.models.local import LocalModel
from memos_engine.models.local_attention import sharing_heads

__all__ = ["Draft", "refusal"]

_Observer: TypeAlias = Callable[[int, Tensor], None]
"""Takes a layer's number and its attention weights, (heads, rows, T)."""


_TRIED_TOKENS, _TRIED_ROWS = (1, 2, 3, 4, 5), (1, 3)
_ERROR_MAX, _ERROR_MAX_HALF = 1e-4, 5e-2
_REFUSALS: weakref.WeakKeyDictionary[LocalModel, str] = weakref.WeakKeyDictionary()


def refusal(model: LocalModel) -> str:
    """Say why chosen tokens of a model cannot be computed anew; "" when they can.

    Tried once per model: two of five tokens, run among exact keys and values, must stay as they are.
    """
    if model not in _REFUSALS:
        _REFUSALS[model] = _tried(model)
    return _REFUSALS[model]


def _tried(model: LocalModel) -> str:
    whole = model.prefill(_TRIED_TOKENS)
    draft = Draft(model, whole.ids)
    for layer, kv in enumerate(whole.layers):
        draft.place(layer, 0, kv.keys, kv.values)
    rows = torch.tensor(_TRIED_ROWS, device=model.device)
    try:
        draft.run(rows)
    except (ModelFailed, AttributeError, TypeError) as exc:
        return f"its code cannot run chosen tokens ({exc})"
    for exact, again in zip(whole.layers, draft.finished().layers, strict=True):
        for one, other in ((exact.keys, again.keys), (exact.values, again.values)):
            error = float((other.float() - one.float()).norm() / one.float().norm())
            if not error <= (_ERROR_MAX if one.dtype == torch.float32 else _ERROR_MAX_HALF):
                return (
                    f"its code does not keep to the positions and masks of chosen tokens (error {error:.1g})"
                )
    return ""


class Draft:
    """A prefix of `ids` in the making, for one model. Not thread-safe."""

    def __init__(self, model: LocalModel, ids: Sequence[int]) -> None:
        self.ids = tuple(ids)
        self._model = model
        self._network: PreTrainedModel = model.network
        self._kinds = model.capabilities.layers
        self._layers = [
            (self._buffer(kind.kv_heads, kind.head_dim), self._buffer(kind.kv_heads, _value_dim(kind)))
            for kind in self._kinds
        ]  # keys, values: (1, kv_heads, T, D)
        self._tokens = torch.tensor(self.ids, dtype=torch.long, device=model.device)

    def place(self, layer: int, at: int, keys: Tensor, values: Tensor) -> None:
        """Copy keys and values (kv_heads, n, head_dim) to positions `at` to at + n - 1 of a layer."""
        here = slice(at, at + keys.shape[-2])
        into_keys, into_values = self._layers[layer]
        into_keys[0, :, here].copy_(keys)
        into_values[0, :, here].copy_(values)

    def values(self, layer: int, rows: Tensor) -> Tensor:
        """A copy of the values at `rows` of a layer: (kv_heads, len(rows), head_dim)."""
        return self._layers[layer][1][0].index_select(1, rows)

    @property
    def depth(self) -> int:
        """How many layers there are."""
        return len(self._kinds)

    def run(
        self,
        rows: Tensor,
        *,
        logits: int = 0,
        layers: int | None = None,
        drift: Drift | None = None,
        observer: _Observer | None = None,
    ) -> Tensor | None:
        """Compute the keys and values at `rows` anew; they take the place of the old ones.

        Args:
            rows: Positions in ascending order, a long tensor on the model's device. What lies before
                them must have been placed or run.
            logits: For how many of the last rows logits are wanted.
            layers: Run only so many layers: the keys and values of the next one, too, are new, and
                nothing behind it is touched. None means all.
            drift: Corrects what is not run.
            observer: Sees the attention weights of every layer that runs.

        Returns:
            Logits (logits, vocab), float32; None where none were asked for.

        Raises:
            ModelFailed: The network cannot be run on them.
        """
        assert len(rows), "no rows to run"
        assert not (logits and layers), "a part of the layers gives no logits"
        stop = layers if layers is not None and layers < self.depth else None
        cache = _ScatterCache([_ScatterLayer(*layer, rows, drift) for layer in self._layers], stop)
        asked = {
            "input_ids": self._tokens[rows].unsqueeze(0),
            "position_ids": rows.unsqueeze(0),
            "attention_mask": self._masks(rows),
            "past_key_values": cache,
            "use_cache": True,
        }
        try:
            with self._model.lock, torch.no_grad(), _attending(self._network, observer):
                return self._forward(asked, logits)
        except _Stopped:
            return None
        except (RuntimeError, IndexError, ValueError) as exc:
            raise ModelFailed(
                f"The local model failed on {len(rows)} of {len(self.ids)} tokens: {exc}. See whether they "
                "fit into memory and are all of its vocabulary."
            ) from exc

    def _forward(self, asked: dict[str, Any], logits: int) -> Tensor | None:
        if not logits:  # the decoder alone: no head
            self._network.get_decoder()(**asked)
            return None
        kept: Tensor = self._network(**asked, logits_to_keep=logits).logits[0, -logits:]
        return kept.to(torch.float32)

    def finished(self, after: Tensor | None = None) -> Prefix:
        """The prefix as it is now; the draft must not be run or written to again.

        Args:
            after: Logits (vocab,) of what follows it, where they are known.
        """
        layers = tuple(LayerKV(keys[0], values[0]) for keys, values in self._layers)
        return Prefix(ids=self.ids, layers=layers, after=after)

    def _buffer(self, heads: int, width: int) -> Tensor:
        shape = (1, heads, len(self.ids), width)
        # zeros, not whatever was in memory: a masked NaN is still NaN after softmax times value
        return torch.zeros(shape, dtype=self._network.dtype, device=self._network.device)

    def _masks(self, rows: Tensor) -> Tensor | dict[str, Tensor]:
        """What each row sees, additive, (1, 1, rows, T): one tensor, or one per layer type."""
        behind = rows.unsqueeze(1) - torch.arange(len(self.ids), device=rows.device).unsqueeze(0)
        windows = {kind.window for kind in self._kinds}
        masks = {window: self._mask(behind, window) for window in windows}
        if len(masks) == 1:
            return masks[self._kinds[0].window]
        types: Sequence[str] = self._network.get_decoder().config.layer_types
        return {name: masks[kind.window] for name, kind in zip(types, self._kinds, strict=True)}

    def _mask(self, behind: Tensor, window: int | None) -> Tensor:
        unseen = behind < 0 if window is None else (behind < 0) | (behind >= window)
        dtype = self._network.dtype
        mask = torch.zeros(behind.shape, dtype=dtype, device=behind.device)
        return mask.masked_fill_(unseen, torch.finfo(dtype).min)[None, None]


def _value_dim(kind: LayerKind) -> int:
    return kind.head_dim if kind.value_dim is None else kind.value_dim


class _Stopped(Exception):
    """Ends a forward in the middle of the model: it has gone as far as it was asked to."""


class _ScatterLayer(CacheLayerMixin):  # type: ignore[misc] # -- transformers is not followed
    """A layer's buffer: new keys and values are written at `rows`, and the whole is attended to."""

    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor, rows: Tensor, drift: Drift | None) -> None:
        super().__init__()
        self.keys, self.values, self._rows, self._drift = keys, values, rows, drift
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing is left to do."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write at the rows, correct the rest; return all keys and values."""
        for buffer, new in ((self.keys, key_states), (self.values, value_states)):
            if self._drift is None:
                buffer.index_copy_(2, self._rows, new)
            else:
                before = buffer[0].index_select(1, self._drift.sampled)
                buffer.index_copy_(2, self._rows, new)
                self._drift.correct(buffer, before)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of what is attended to."""
        return self.keys.shape[-2], 0

    def get_seq_length(self) -> int:
        """Tokens in the buffer."""
        return int(self.keys.shape[-2])

    def get_max_length(self) -> int:
        """It cannot grow."""
        return int(self.keys.shape[-2])


class _ScatterCache(Cache):  # type: ignore[misc] # -- transformers is not followed
    """Scatter layers that end the forward once layer `stop` has its new keys and values."""

    def __init__(self, layers: list[_ScatterLayer], stop: int | None) -> None:
        super().__init__(layers=layers)
        self._stop = stop

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """As of one layer."""
        new: tuple[Tensor, Tensor] = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if layer_idx == self._stop:
            raise _Stopped
        return new


@contextlib.contextmanager
def _attending(network: PreTrainedModel, observer: _Observer | None) -> Iterator[None]:
    """Let the model attend by an implementation that obeys our masks, and show its weights to an observer.

    Only the plain one ("eager") tells weights; flash attention and the like take no mask of ours.
    """
    config = network.get_decoder().config
    usual = config._attn_implementation  # noqa: SLF001 -- the public setter walks over every module
    hooks = []
    if observer is not None:
        hooks = [
            module.register_forward_hook(_hook(module.layer_idx, observer))
            for module in network.modules()
            if type(module).__name__.endswith("Attention") and hasattr(module, "layer_idx")
        ]
    if observer is not None or usual not in ("eager", "sdpa"):
        config._attn_implementation = "eager"  # noqa: SLF001 -- as above
    try:
        with sharing_heads(network):
            yield
    finally:
        config._attn_implementation = usual  # noqa: SLF001 -- as above
        for hook in hooks:
            hook.remove()


def _hook(layer: int, observer: _Observer) -> Callable[[nn.Module, Any, Any], None]:
    def seen(_module: nn.Module, _args: Any, output: Any) -> None:
        weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
        if isinstance(weights, Tensor):
            observer(layer, weights[0])

    return seen
