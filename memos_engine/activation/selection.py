"""Which tokens of a composed prefix are worth computing anew.

Every function takes a draft that is filled and returns positions in ascending order, or scores. None
knows latency; how many tokens are taken is the caller's decision. Three ways are the literature's:
the first tokens of each block (EPIC, arXiv 2410.15332), the values that deviate most after one layer
(CacheBlend, arXiv 2405.16444), and what the query attends to (as ProphetKV, arXiv 2602.02579).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memos_engine.activation.recompute import Draft

__all__ = ["attended", "deviations", "first_of_each", "spread", "top"]

_DEVIATING_LAYER = 1
"""Where values are compared: those of layer 0 do not depend on what stands before."""


def first_of_each(blocks: Sequence[Tensor], count: int) -> Tensor:
    """The first `count` positions of each block."""
    return torch.cat([block[:count] for block in blocks])


def spread(block: Tensor, count: int) -> Tensor:
    """At most `count` positions, spread evenly over a block's: the middles of equal parts."""
    count = min(count, len(block))
    middles = (torch.arange(count, device=block.device) * 2 + 1) * len(block) // (2 * max(count, 1))
    return block[middles]


def top(positions: Tensor, scores: Tensor, count: int) -> Tensor:
    """The `count` positions with the highest scores, in ascending order."""
    best = scores.topk(min(count, len(positions))).indices
    return positions[best].sort().values


def attended(draft: Draft, fresh: Tensor, query: Tensor, *, layers: int) -> Tensor | None:
    """How much a query attends to each token of a draft, (T,): None where the model does not show it.

    The most attentive token of the query counts, averaged over heads and layers. Runs `query` and
    `fresh`, which were never computed, through the first `layers` layers.
    """
    scores = torch.zeros(len(draft.ids), device=query.device)
    seen: list[int] = []

    def observe(layer: int, weights: Tensor) -> None:
        seen.append(layer)
        scores.add_(weights[:, -len(query) :].float().amax(dim=1).mean(dim=0))

    draft.run(torch.cat((fresh, query)), layers=layers, observer=observe)
    return scores / len(seen) if seen else None


def deviations(draft: Draft, fresh: Tensor, stale: Tensor) -> Tensor:
    """How far the values of stale tokens are from what they should be after one layer, (len(stale),).

    The squared difference, summed over heads and their components. Runs `stale` and `fresh` through
    layer 0, so that the draft's keys and values of layers 0 and 1 are exact afterwards.
    """
    layer = min(_DEVIATING_LAYER, draft.depth - 1)
    old = draft.values(layer, stale)
    draft.run(torch.cat((fresh, stale)).sort().values, layers=_DEVIATING_LAYER)
    return (draft.values(layer, stale).float() - old.float()).square().sum(dim=(0, 2))
