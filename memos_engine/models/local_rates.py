"""How fast this machine reads with a model, from a disk, and onto the model's device. Measured, not assumed.

All of it together takes a few hundred milliseconds on any machine: each measurement grows only as long
as the next size is expected to stay within its share.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from memos_engine.models.local_network import Network
from memos_engine.models.local_reading import Reading
from memos_engine.models.local_values import Rates

__all__ = ["measured", "read_rates"]

_SHARE_S = 0.3
"""No third length is tried that is expected to take longer."""
_SHORTEST_TOKENS = 16
_GROWTH = 4
_LONGEST_TOKENS = 16_384
_FILE_BYTES = 16 << 20
_ROUNDS = 3


def measured(network: Network, folder: Path | None = None) -> Rates:
    """Return the rates of this machine with this model.

    Args:
        folder: Whose disk is measured. None means that of temporary files.
    """
    warm, cold = read_rates(folder)
    return Rates(
        prefill_tokens_per_s=_prefill_rates(network),
        read_bytes_per_s=warm,
        copy_bytes_per_s=_copy_rate(network.module.device),
        cold_read_bytes_per_s=cold,
    )


def read_rates(folder: Path | None = None) -> tuple[float, float | None]:
    """Return bytes per second of a file in the page cache and of one on the disk; None where it cannot be told.

    Writes 16 MB to a file in `folder`, and removes it.
    """
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        file.write(os.urandom(1 << 20) * (_FILE_BYTES >> 20))
        os.fsync(file.fileno())
        into = bytearray(_FILE_BYTES)

        def read() -> None:
            file.seek(0)
            file.readinto(into)

        cold = None
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            cold = _FILE_BYTES / _seconds(read)
        warm = _FILE_BYTES / min(_seconds(read) for _ in range(_ROUNDS))
    # a folder in memory has no cold side: dropping its pages does nothing
    return warm, cold if cold is not None and cold < warm / 2 else None


def _prefill_rates(network: Network) -> dict[int, float]:
    """Return tokens per second by length, from short to as long as the time allows."""
    rates: dict[int, float] = {}
    longest = min(_LONGEST_TOKENS, network.capabilities.context_tokens)
    length = min(_SHORTEST_TOKENS, longest)
    _prefill(network, length)  # what a first run sets up is no part of the rate
    while length <= longest:
        seconds = _seconds(partial(_prefill, network, length))
        rates[length] = length / seconds
        if seconds * _GROWTH > _SHARE_S and len(rates) > 1:  # one length tells no fixed cost from a rate
            break
        length *= _GROWTH
    return rates


def _prefill(network: Network, count: int) -> None:
    Reading(network, None).feed([1] * count).sum().item()


def _copy_rate(device: torch.device) -> float:
    source = torch.empty(_FILE_BYTES, dtype=torch.uint8).fill_(1)
    target = torch.empty(_FILE_BYTES, dtype=torch.uint8, device=device)

    def copy() -> None:
        target.copy_(source)
        target[-1].item()  # waits until the copy is there

    return _FILE_BYTES / min(_seconds(copy) for _ in range(_ROUNDS))


def _seconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return max(time.perf_counter() - began, 1e-9)
