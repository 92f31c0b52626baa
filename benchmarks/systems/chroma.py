"""Chroma, embedded and persistent: vectors handed over, documents kept beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import chromadb
from chromadb.config import Settings

from benchmarks.corpus import Corpus
from benchmarks.systems.base import LIMIT, System


class Chroma(System):
    """One collection in cosine space, all else by default."""

    def __init__(self, folder: Path, corpus: Corpus) -> None:
        self._corpus = corpus
        self._client = chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))
        self._items = self._client.get_or_create_collection(
            "bench", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )

    def add(self, first: int, texts: list[str]) -> None:
        ids = [f"{first + n}" for n in range(len(texts))]
        self._items.add(ids=ids, embeddings=self._corpus.embed(texts), documents=texts)

    def search(self, query: str) -> Any:
        row = self._corpus.embed([query])
        return self._items.query(query_embeddings=row, n_results=LIMIT, include=["documents", "distances"])

    def texts_of(self, found: Any) -> list[str]:
        return list(found["documents"][0])


SYSTEM = Chroma
