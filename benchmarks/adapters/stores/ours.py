"""`MemosStore` over a MemOS of its own, the look-up in the embedder's place; background work off."""

from __future__ import annotations

from pathlib import Path

from benchmarks.adapters.durability import of_cube
from benchmarks.adapters.stores.base import FIELD, LangGraphStore
from benchmarks.corpus import FINGERPRINT, Corpus
from memos_adapters.langgraph import MemosStore
from memos_engine import FunctionEmbedder, MemOS


class Ours(LangGraphStore):
    """One cube, exact scan."""

    def __init__(self, folder: Path, corpus: Corpus) -> None:
        embedder = FunctionEmbedder(corpus.embed, fingerprint=FINGERPRINT)
        self._memos = MemOS.open(folder, embedder=embedder, background=False, index_above=2**62)
        cube = self._memos.cube("store")
        self._store = MemosStore(cube, fields=[FIELD])
        self.durability = of_cube(cube)

    def close(self) -> None:
        self._memos.close()


SYSTEM = Ours
