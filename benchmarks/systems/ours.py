"""This project's engine: a cube under a root folder, the look-up in the embedder's place."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from benchmarks.corpus import FINGERPRINT, Corpus
from benchmarks.systems.base import BUDGET_TOKENS, LIMIT, System
from memos_engine import FunctionEmbedder, Hit, MemOS, Message

NO_INDEX = 2**62


class Ours(System):
    """One cube, background work only when asked for."""

    abilities = frozenset({"add", "add_one", "capture", "search", "recall", "drain", "reopen"})

    index_above: ClassVar[int] = NO_INDEX
    """The exact scan at every size."""

    def __init__(self, folder: Path, corpus: Corpus) -> None:
        embedder = FunctionEmbedder(corpus.embed, fingerprint=FINGERPRINT)
        self._memos = MemOS.open(folder, embedder=embedder, background=False, index_above=self.index_above)
        self._cube = self._memos.cube("bench")

    def add(self, first: int, texts: list[str]) -> None:
        self._cube.add(texts)

    def add_one(self, number: int, text: str) -> None:
        self._cube.add(text)

    def capture(self, number: int, text: str) -> None:
        self._cube.capture([Message("user", text, id=f"m{number}", name="Maya")], thread="talk")

    def search(self, query: str) -> list[Hit]:
        return self._cube.search(query, limit=LIMIT)

    def texts_of(self, found: list[Hit]) -> list[str]:
        return [hit.item.text for hit in found]

    def recall(self, query: str) -> str:
        return self._cube.recall(query, budget_tokens=BUDGET_TOKENS).text

    def drain(self) -> None:
        self._memos.drain(timeout_s=3600)

    def first_answer(self, query: str) -> None:
        self.recall(query)

    def close(self) -> None:
        self._memos.close()


SYSTEM = Ours
