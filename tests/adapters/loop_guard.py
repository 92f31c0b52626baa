"""Finds what runs on an event loop and should not: sleeping, waiting for a lock, files, the engine's SQLite."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from blockbuster import BlockBusterFunction, blockbuster_ctx

from memos_engine.ports import Vectors
from memos_engine.testing.fakes import HashEmbedder


@contextmanager
def nothing_blocks() -> Iterator[None]:
    """Within it a call that blocks the running loop raises `blockbuster.BlockingError`."""
    with blockbuster_ctx(), ExitStack() as stack:
        for name in ("apsw.Connection.execute", "apsw.Cursor.execute"):
            stack.callback(BlockBusterFunction(None, name).activate().deactivate)
        yield


class SlowEmbedder(HashEmbedder):
    """Takes 0.3 s, as a model on a busy machine does."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Sleep, then embed."""
        time.sleep(0.3)
        return super().embed(texts)
