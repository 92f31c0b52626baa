"""How far logits are from those of full prefill, with intervals. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeAlias, TypeVar

from torch import Tensor

__all__ = ["Interval", "bootstrap", "kl", "mean_of", "quotient_of"]

T = TypeVar("T")
Pair: TypeAlias = tuple[float, float]

ROUNDS = 2000
"""Of resampling."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A number and where 95 % of the resampled ones lie."""

    mean: float
    low: float
    high: float


def kl(reference: Tensor, found: Tensor) -> Tensor:
    """KL divergence of `found` from `reference`, both (n, vocab) logits, in nats: (n,)."""
    expected, got = reference.double().log_softmax(-1), found.double().log_softmax(-1)
    return (expected.exp() * (expected - got)).sum(-1)


def bootstrap(values: Sequence[T], statistic: Callable[[Sequence[T]], float], *, seed: int = 0) -> Interval:
    """The statistic, and its 95 % percentile interval over samples drawn with replacement (Efron, 1979)."""
    draw = random.Random(seed)
    drawn = sorted(statistic(draw.choices(values, k=len(values))) for _ in range(ROUNDS))
    return Interval(statistic(values), drawn[ROUNDS // 40], drawn[-ROUNDS // 40 - 1])


def mean_of(values: Sequence[float]) -> Interval:
    """The mean of one number a sample."""
    return bootstrap(values, fmean)


def quotient_of(values: Sequence[float], by: Sequence[float]) -> Interval:
    """Mean of `values` / mean of `by`; both have a number of each sample, and are resampled together."""
    pairs = list(zip(values, by, strict=True))
    return bootstrap(pairs, _quotient)


def _quotient(pairs: Sequence[Pair]) -> float:
    below = sum(low for _, low in pairs)
    return sum(high for high, _ in pairs) / below if below else float("nan")
