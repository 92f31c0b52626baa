"""The engine's embedder as one of LangChain's, and the other way round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from memos_adapters.langchain.embeddings import MemosEmbeddings, fingerprint_of, wrapped
from memos_engine import MemOS
from memos_engine.ports import Embedder
from memos_engine.testing.embedders import EmbedderTests
from memos_engine.testing.fakes import HashEmbedder
from tests.adapters.loop_guard import SlowEmbedder, nothing_blocks


class TestStandardUnit(EmbeddingsUnitTests):
    """LangChain's own tests."""

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return MemosEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"embedder": HashEmbedder()}


class TestStandard(EmbeddingsIntegrationTests):
    """LangChain's own tests, with vectors."""

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return MemosEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"embedder": HashEmbedder()}


class TestWrapped(EmbedderTests):
    """What is wrapped is an embedder as the engine needs it."""

    @pytest.fixture
    def embedder(self) -> Embedder:
        return wrapped(DeterministicFakeEmbedding(size=16), "fake")


class Asymmetric(Embeddings):
    """Reads a question otherwise than a document."""

    model = "asymmetric-1"
    dimensions = 2

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Always east."""
        return [[1.0, 0.0] for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        """Always north."""
        return [0.0, 2.0]


def test_the_engines_vectors(memos: MemOS) -> None:
    """LangChain gets what the engine stores."""
    embeddings = MemosEmbeddings(memos.embedder)
    rows = memos.embedder.embed(["tea", "coffee"])
    assert np.allclose(embeddings.embed_documents(["tea", "coffee"]), rows)
    assert np.allclose(embeddings.embed_query("tea"), rows[0])
    assert embeddings.embed_documents([]) == []


def test_a_question_is_read_as_one() -> None:
    """Where questions have vectors of their own, they keep them both ways."""
    embedder = wrapped(Asymmetric(), "asymmetric")
    assert embedder.embed(["a"]).tolist() == [[1, 0]]
    assert MemosEmbeddings(embedder).embed_query("a") == [0, 2]


def test_a_fingerprint_tells_model_and_size() -> None:
    """Two models of one class have two fingerprints."""
    assert fingerprint_of(Asymmetric()) == "langchain:Asymmetric:model=asymmetric-1:dimensions=2"
    sizes = {fingerprint_of(DeterministicFakeEmbedding(size=size)) for size in (2, 3)}
    assert len(sizes) == 2


async def test_async_methods_do_not_block_the_loop() -> None:
    """While the model embeds, other coroutines run."""
    embeddings = MemosEmbeddings(SlowEmbedder())
    with nothing_blocks():
        assert len(await embeddings.aembed_query("tea")) == 64
        assert len(await embeddings.aembed_documents(["tea", "coffee"])) == 2
