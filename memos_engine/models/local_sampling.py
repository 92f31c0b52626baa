"""How the next token is chosen from logits. It knows no model and no text."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from memos_engine.errors import BadLimit, ModelFailed

__all__ = ["Sampler", "Sampling"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """What is asked of the choice.

    Raises:
        BadLimit: A number is out of its range.
    """

    temperature: float = 0.0
    """0 means always the likeliest token."""
    top_p: float = 1.0
    """The likeliest tokens that together have at least this probability stay in the draw."""
    top_k: int = 0
    """At most so many tokens stay in the draw. 0 means all."""
    seed: int | None = None
    """None means another draw every time."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise BadLimit(f"temperature={self.temperature!r} must be a number from 0 on.")
        if not 0 < self.top_p <= 1:
            raise BadLimit(f"top_p={self.top_p!r} must be above 0 and at most 1.")
        if self.top_k < 0:
            raise BadLimit(f"top_k={self.top_k!r} must be 0, which means all, or more.")


class Sampler:
    """Chooses tokens of one generation. It draws on the CPU, so that a seed means the same on every device."""

    def __init__(self, sampling: Sampling) -> None:
        self._how = sampling
        self._random = torch.Generator()
        if sampling.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(sampling.seed)

    def choose(self, logits: Tensor) -> int:
        """Return one token of logits (vocab,).

        Raises:
            ModelFailed: The logits are not numbers.
        """
        best, token = logits.max(dim=0)  # NaN wins every comparison
        if not torch.isfinite(best):
            raise ModelFailed(
                "The local model answered with logits that are not finite: try dtype='float32'."
            )
        if self._how.temperature == 0:
            return int(token)
        row = logits.to("cpu", torch.float64)
        row = (row - row.max()) / self._how.temperature
        ordered, tokens = row.sort(descending=True, stable=True)
        if self._how.top_k:
            ordered, tokens = ordered[: self._how.top_k], tokens[: self._how.top_k]
        chances = ordered.softmax(0)
        if self._how.top_p < 1:
            # a token stays while those before it have less than top_p together; the first always stays
            chances = chances * (chances.cumsum(0) - chances < self._how.top_p)
        return int(tokens[torch.multinomial(chances, 1, generator=self._random)])
