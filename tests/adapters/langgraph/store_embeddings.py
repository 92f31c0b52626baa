"""Embeddings for store tests: LangChain's interface over the engine's fake embedder."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.embeddings import Embeddings

from memos_engine.testing.fakes import HashEmbedder

DIMS = 64


def embed(texts: Sequence[str]) -> list[list[float]]:
    """Texts that share words are near."""
    rows: list[list[float]] = HashEmbedder(DIMS).embed(texts).tolist()
    return rows


async def aembed(texts: Sequence[str]) -> list[list[float]]:
    """The same, awaited."""
    return embed(texts)


class WordEmbeddings(Embeddings):
    """The same, as LangChain has it."""

    model = "words-1"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector a text."""
        return embed(texts)

    def embed_query(self, text: str) -> list[float]:
        """As any other text."""
        return embed([text])[0]
