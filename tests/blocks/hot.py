"""What the tests of promotion share: a model with fixed rates and room for a passage, talks, and uses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any

from memos_engine import MemCube, MemOS, Message
from memos_engine.blocks.shelf import ActivationShelf
from memos_engine.models.local import LocalModel
from memos_engine.models.local_values import Rates
from memos_engine.testing.fakes import FrozenClock
from tests.activation import tiny

CONTEXT_TOKENS = 4_096
SMOLLM2 = Rates(
    {16: 213.0, 64: 360.0}, read_bytes_per_s=11e9, copy_bytes_per_s=25e9, cold_read_bytes_per_s=1.2e9
)
"""SmolLM2-135M on one core, so that decisions are those of a real model; three uses suffice."""
LARGE_GPU = Rates({4_096: 1e8}, read_bytes_per_s=1e8, copy_bytes_per_s=5e10)
"""Where reading is quicker than any file."""
DAY = timedelta(days=1)
LINES = 12


class PacedModel(LocalModel):
    """A tiny model of long context that says it is as fast as another."""

    paced: Rates = SMOLLM2

    @cached_property
    def rates(self) -> Rates:
        """Not measured, so that no decision hangs on how busy this machine is."""
        return self.paced


def paced_model(*, seed: int = 0, rates: Rates = SMOLLM2) -> PacedModel:
    """Make a model; equal seeds make models of equal keys."""
    configuration: Any = tiny.CONFIGURATIONS["llama"]()
    configuration.max_position_embeddings = CONTEXT_TOKENS
    model = PacedModel(tiny.network_of(configuration, seed=seed), tokenizer=tiny.tokenizer())
    model.paced = rates
    return model


def talk(cube: MemCube, clock: FrozenClock, *, thread: str = "t", lines: int = LINES) -> list[str]:
    """Capture a conversation that begins now, a turn a minute; return the ids of its episodes in order."""
    at = clock()
    said = [
        Message(
            ("user", "assistant")[n % 2],
            f"{thread}: number {n} of what we said about the harbour, {'the boats and the nets ' * 2}",
            name=("Ann", "Bob")[n % 2],
            at=at + timedelta(minutes=n),
        )
        for n in range(lines)
    ]
    return list(cube.capture(said, thread=thread).episodes)


def shelf_of(memos: MemOS, cube: MemCube) -> ActivationShelf:
    """Return the blocks of a cube, as its host keeps them."""
    return memos._host.activation(cube.id)


def use(shelf: ActivationShelf, ids: Sequence[str], times: int = 3) -> None:
    """Count uses as a chat does: of the items, and of the blocks that hold them."""
    for _ in range(times):
        blocks = [info.id for info in shelf.blocks() if set(info.items) & set(ids)]
        shelf.used(blocks, ids)


def covered(shelf: ActivationShelf) -> set[str]:
    """Return ids of the items that stand in a block."""
    return {item for info in shelf.blocks() for item in info.items}
