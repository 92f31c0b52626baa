"""LangChain's embedders as the engine's, and the engine's as LangChain's."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from memos_engine import Embedder, FunctionEmbedder

_TELLING = ("model", "model_name", "model_id", "model_path", "deployment", "revision", "dimensions", "size")
"""Fields by which LangChain's embedders tell what makes their vectors."""


class MemosEmbeddings(Embeddings):
    """An embedder of the engine, such as `memos.embedder`, wherever LangChain takes one."""

    def __init__(self, embedder: Embedder) -> None:
        """Embed by `embedder`."""
        self._embedder = embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector of unit length for each text."""
        rows: list[list[float]] = self._embedder.embed(texts).tolist()
        return rows

    def embed_query(self, text: str) -> list[float]:
        """The vector of unit length of a text that is looked for."""
        reads: Any = getattr(self._embedder, "embed_query", None)
        if reads is None:
            return self.embed_documents([text])[0]
        row: list[float] = np.asarray(reads(text), np.float32).tolist()
        return row

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """As `embed_documents`."""
        return await asyncio.to_thread(self.embed_documents, texts)

    async def aembed_query(self, text: str) -> list[float]:
        """As `embed_query`."""
        return await asyncio.to_thread(self.embed_query, text)


class _LangChainEmbedder(FunctionEmbedder):
    """An embedder of LangChain that may read a question otherwise than what answers it."""

    def __init__(self, embedding: Embeddings, fingerprint: str) -> None:
        super().__init__(embedding.embed_documents, fingerprint=fingerprint)
        self._embedding = embedding

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector (D,) of a text that is looked for."""
        return np.asarray(self._embedding.embed_query(text), np.float32)


def wrapped(embedding: Embeddings, fingerprint: str) -> FunctionEmbedder:
    """An embedder of LangChain as `MemOS.open` takes it."""
    return _LangChainEmbedder(embedding, fingerprint)


def fingerprint_of(embedding: Embeddings) -> str:
    """A name of what makes an embedder's vectors, as far as it tells: its class, model and size."""
    told = {name: getattr(embedding, name, None) for name in _TELLING}
    parts = [f"{name}={value}" for name, value in told.items() if isinstance(value, (str, int)) and value]
    return ":".join(["langchain", type(embedding).__qualname__, *parts])
