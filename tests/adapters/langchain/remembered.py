"""What a user's memory holds, and an embedder that breaks or dawdles when it is told to."""

from __future__ import annotations

import time
from collections.abc import Sequence

from memos_engine import EmbedderUnavailable, MemCube, MemOS, Scope
from memos_engine.ports import Vectors
from memos_engine.testing.fakes import HashEmbedder


def memory_of(memos: MemOS, user: str) -> MemCube:
    """A user's memory."""
    return memos.acting_as(Scope(user)).cube("memories")


def captured(memos: MemOS, user: str = "alice") -> list[str]:
    """Texts of the turns that a user's memory holds, oldest first."""
    return [item.text for item in memory_of(memos, user).list(kinds=["episode"])][::-1]


class BreakableEmbedder(HashEmbedder):
    """An embedder that is slow, or cannot be had, while it is told so."""

    delay_s = 0.0
    broken = False

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Sleep, fail or embed."""
        time.sleep(self.delay_s)
        if self.broken and texts:
            raise EmbedderUnavailable("no weights")
        return super().embed(texts)
