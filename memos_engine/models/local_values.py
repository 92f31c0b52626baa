"""What a local language model and the memory of its activations say to each other, as frozen values.

Shapes are of one sequence, without a batch axis. Nothing here loads or runs a model, and nothing here
changes a tensor: whoever holds a value may share its tensors with any number of others. They stand
beside the model because a model makes them; `activation.values` is the name its memory uses.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Literal

from torch import Tensor

__all__ = ["Capabilities", "Generation", "KVBlock", "LayerKV", "LayerKind", "ModelKey", "Prefix", "Rates"]


@dataclass(frozen=True, slots=True)
class LayerKind:
    """How one decoder layer attends."""

    kind: Literal["full", "sliding"]
    window: int | None
    """Tokens a query sees, itself included. None means all."""
    kv_heads: int
    head_dim: int
    rope: str | None
    """Name of the layer's set of rotary parameters: "" where the model has one set. None means no RoPE."""
    value_dim: int | None = None
    """Width of the values. None means that of the keys, `head_dim`."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What can be done with the keys and values of a model, read from its configuration."""

    composable: bool
    """Keys can be moved to another position exactly, so blocks can stand one behind another."""
    reason: str
    """Why not; "" when composable."""
    layers: tuple[LayerKind, ...]
    """In the order of the decoder's layers; empty where they hold no plain keys and values."""
    bytes_per_token: int
    """Keys and values of one token in all layers, in the model's dtype, while it is in every window."""
    context_tokens: int
    """Tokens the model can read, answer included."""


@dataclass(frozen=True, slots=True)
class ModelKey:
    """What decides the keys and values of a text: two equal keys make equal tensors of equal ids.

    Each field is a SHA-256 in hexadecimal, but for `dtype`.
    """

    model: str
    """Configuration, weights and major version of transformers."""
    tokenizer: str
    template: str
    """Of the chat template; of nothing where there is none."""
    rope: str
    """Of the rotary parameters of each layer type."""
    adapter: str | None
    """None means the plain weights."""
    dtype: str
    """What the model computes in, such as `float32`."""

    @property
    def digest(self) -> str:
        """SHA-256 over all fields."""
        return hashlib.sha256(json.dumps(astuple(self)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Rates:
    """What this machine was measured to do with a model."""

    prefill_tokens_per_s: Mapping[int, float]
    """By number of tokens in one prefill."""
    read_bytes_per_s: float
    """Of a file that is in the page cache."""
    copy_bytes_per_s: float
    """From main memory to the device of the model."""
    cold_read_bytes_per_s: float | None = None
    """Of a file that is not in the page cache. None where that cannot be told apart."""


@dataclass(frozen=True, eq=False, slots=True)
class LayerKV:
    """Keys and values of one layer, each of shape (kv_heads, T, head_dim), contiguous."""

    keys: Tensor
    """Rotated for the positions their holder says."""
    values: Tensor


@dataclass(frozen=True, eq=False, slots=True)
class KVBlock:
    """Tokens encoded once behind a few others, to be put before any query.

    Sliding layers hold all T keys too: cropping and recomputing need them.
    """

    ids: tuple[int, ...]
    """The T tokens it holds."""
    behind: tuple[int, ...]
    """Tokens it was encoded behind, such as BOS or the header of a chat; it does not hold them."""
    layers: tuple[LayerKV, ...]
    """Keys are rotated for positions `start` to `start + T - 1`."""
    key: ModelKey
    rounded: bool = False
    """Its numbers were kept in fewer bits than the model computes in."""

    @property
    def start(self) -> int:
        """Position of the first token it holds."""
        return len(self.behind)


@dataclass(frozen=True, eq=False, slots=True)
class Prefix:
    """What a model goes on from: all tokens from position 0. Generation never changes it."""

    ids: tuple[int, ...]
    layers: tuple[LayerKV, ...]
    """Keys are rotated for positions 0 to T - 1; sliding layers hold all T keys too.

    Empty where the model keeps no blocks: then its tokens are read anew.
    """
    after: Tensor | None = None
    """Logits (vocab,), float32, of what follows the last token. None where reading it again tells them."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model said."""

    text: str
    """Without the stop string that ended it."""
    ids: tuple[int, ...]
    """Every token it chose, the one that ended it included."""
    prompt_tokens: int
    """Tokens it went on from: those of the past and the new ones."""
    cached_tokens: int
    """How many of them were not read again."""
    seconds_to_first_token: float
    finish: Literal["stop", "length"]
    """`stop`: it ended itself or met a stop string; `length`: the tokens allowed were used up."""
