"""Memory for the tensors of all layers in one piece.

Systems hand out fresh memory in pages of 4 KB, which for the keys and values of 2,000 tokens costs
more than copying them. NumPy asks for large pages where a piece has 4 MB or more; torch does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["tensors_in_one"]

_ALIGNED_BYTES = 64


def tensors_in_one(shapes: Sequence[tuple[int, ...]], dtype: torch.dtype) -> list[Tensor]:
    """Return a contiguous tensor of each shape, in main memory; what they hold is arbitrary."""
    sizes = [
        -(-math.prod(shape) * int(dtype.itemsize) // _ALIGNED_BYTES) * _ALIGNED_BYTES for shape in shapes
    ]
    piece = torch.from_numpy(np.empty(sum(sizes), dtype=np.uint8))
    return [
        part[: math.prod(shape) * int(dtype.itemsize)].view(dtype).view(shape)
        for part, shape in zip(piece.split(sizes), shapes, strict=True)
    ]
