"""What a context does to all tokens of a block alike, learnt from the few that are computed anew.

Keys and values of a block that was encoded alone lack what now stands before it. A good part of the
difference is the same for all of its tokens: each head's keys, as they stand in the cache, and its
values have moved by about one vector. So the tokens that are recomputed anyway, when they are spread
evenly over the block, tell how far the others have moved, and the others are moved there: a mean over
samples, shrunk towards none where it cannot be told from chance (positive-part James-Stein), over all
blocks, and then, for a block with enough samples, what it differs by.

It happens layer by layer within one forward, so every layer attends to what the layer before corrected.
Nothing here knows models; which tokens are samples is decided in `selection`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Drift", "shrunk_mean"]

_OWN_MIN = 8
"""Samples of a block from which on its own mean does better than the common one alone."""


def shrunk_mean(changes: Tensor) -> Tensor:
    """Return the mean of (heads, n, D) over n, (heads, 1, D), each number shrunk by how sure it is.

    A number is multiplied by 1 - variance / (n mean^2), or by 0 where that is negative: the fewer the
    samples and the less they agree, the nearer it comes to 0. Of fewer than two samples it is 0.
    """
    count = changes.shape[1]
    if count < 2:
        return changes.new_zeros(changes.shape[0], 1, changes.shape[2])
    variance, mean = torch.var_mean(changes, dim=1, keepdim=True)
    doubt = variance / count / mean.square().clamp_min(torch.finfo(mean.dtype).tiny)
    return mean * (1 - doubt).clamp_min(0)


class Drift:
    """Moves what is not recomputed as far as the samples of its block have moved.

    Tokens that a query leans on are better recomputed than moved: a common vector suits the many, not
    the odd ones.

    Args:
        rows: All positions that are computed anew, ascending.
        blocks: Positions of each block.
        samples: Positions among `rows` that speak for each block.
    """

    def __init__(self, rows: Tensor, blocks: Sequence[Tensor], samples: Sequence[Tensor]) -> None:
        self._counts = [len(sample) for sample in samples]
        self._others = [block[~torch.isin(block, rows)] for block in blocks]
        self.sampled = torch.cat(list(samples))
        """Positions of the samples, block after block."""

    def correct(self, buffer: Tensor, before: Tensor) -> None:
        """Move the unsampled rows of a layer's keys or values, in place.

        Args:
            buffer: (1, heads, T, D); the samples are new in it.
            before: (heads, samples, D): what was at the samples.
        """
        changes = buffer[0].index_select(1, self.sampled).float() - before.float()
        common = shrunk_mean(changes)
        for others, own in zip(self._others, changes.split(self._counts, dim=1), strict=True):
            moved = common + shrunk_mean(own - common) if own.shape[1] >= _OWN_MIN else common
            buffer[0].index_add_(1, others, moved.to(buffer.dtype).expand(-1, len(others), -1))
