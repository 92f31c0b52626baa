"""LangGraph's InMemoryStore: nothing is durable, nothing can be opened again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langgraph.store.base import PutOp, SearchItem
from langgraph.store.memory import InMemoryStore

from benchmarks.corpus import DIMENSION, Corpus
from benchmarks.systems.base import LIMIT, System

SPACE = ("bench",)


class Memory(System):
    """As its documentation opens it."""

    abilities = frozenset({"add", "add_one", "search"})

    def __init__(self, folder: Path, corpus: Corpus) -> None:
        index: Any = {
            "dims": DIMENSION,
            "embed": lambda texts: corpus.embed(texts).tolist(),
            "fields": ["text"],
        }
        self._store = InMemoryStore(index=index)

    def add(self, first: int, texts: list[str]) -> None:
        self._store.batch(PutOp(SPACE, f"{first + n}", {"text": text}) for n, text in enumerate(texts))

    def search(self, query: str) -> list[SearchItem]:
        return self._store.search(SPACE, query=query, limit=LIMIT)

    def texts_of(self, found: list[SearchItem]) -> list[str]:
        return [item.value["text"] for item in found]


SYSTEM = Memory
