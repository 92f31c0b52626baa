"""What the tests of kept blocks share: what was said, what is on the disk, and models that act while they encode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from memos_engine import MemCube, Message
from memos_engine.blocks.shelf import ActivationShelf
from memos_engine.models.local_values import KVBlock
from tests.activation import tiny
from tests.blocks.hot import PacedModel

SAID = (
    "I moved to Lisbon in May.",
    "How nice, by the river?",
    "Yes, with a red kettle and two cats.",
    "What are their names?",
    "Anna and Tom, after my parents.",
    "I shall remember that.",
)


def said(cube: MemCube, *, thread: str = "t", count: int = len(SAID)) -> list[str]:
    """Capture a conversation; return the ids of its turns."""
    messages = [Message(("user", "assistant")[n % 2], SAID[n]) for n in range(count)]
    return list(cube.capture(messages, thread=thread).episodes)


def files(shelf: ActivationShelf) -> list[str]:
    """Names of all that lies in the folder of blocks, unfinished files included."""
    folder = shelf.text.file.folder / "kv"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def file_of(shelf: ActivationShelf, id_: str) -> Path:
    """The file of a block."""
    return shelf.text.file.folder / "kv" / f"{id_}.safetensors"


class ActingModel(PacedModel):
    """A model that does something else while it encodes: what happens meanwhile, at a known moment."""

    act: Callable[[], object] = staticmethod(lambda: None)

    def block(self, ids: Sequence[int], behind: Sequence[int] = ()) -> KVBlock:
        """Act once, then encode."""
        act, self.act = self.act, lambda: None
        act()
        return super().block(ids, behind)


def acting_model(act: Callable[[], object]) -> ActingModel:
    """Make a model of the same key as `paced_model()`."""
    model = ActingModel(tiny.network_of(_configuration()), tokenizer=tiny.tokenizer())
    model.act = act
    return model


def _configuration() -> Any:
    configuration: Any = tiny.CONFIGURATIONS["llama"]()
    configuration.max_position_embeddings = 4_096  # as `paced_model` has it
    return configuration
