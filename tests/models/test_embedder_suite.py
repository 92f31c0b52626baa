"""The embedders of the package keep the contract of their port."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from memos_engine.models.embed import FunctionEmbedder, SentenceEmbedder
from memos_engine.ports import Embedder
from memos_engine.testing.embedders import EmbedderTests
from memos_engine.testing.fakes import HashEmbedder
from tests.weights import minilm_folder

TINY = Path(__file__).parent / "tiny"


@functools.cache
def minilm() -> SentenceEmbedder:
    """The real model, loaded once."""
    return SentenceEmbedder(minilm_folder())


class TestHash(EmbedderTests):
    """The fake that ships with the package."""

    @pytest.fixture
    def embedder(self) -> Embedder:
        """A hash embedder."""
        return HashEmbedder()


class TestFunction(EmbedderTests):
    """A function of somebody else's."""

    @pytest.fixture
    def embedder(self) -> Embedder:
        """A wrapped function whose rows are not of unit length."""
        inner = HashEmbedder()
        return FunctionEmbedder(lambda texts: 3 * inner.embed(texts), fingerprint="three times the hash")


class TestOnnx(EmbedderTests):
    """A model run by onnxruntime."""

    @pytest.fixture
    def embedder(self) -> Embedder:
        """A tiny random BERT with an ONNX graph."""
        return SentenceEmbedder(TINY)


class TestTorch(EmbedderTests):
    """A model run by torch."""

    @pytest.fixture
    def embedder(self) -> Embedder:
        """The same by torch."""
        return SentenceEmbedder(TINY, device="cpu")


class TestMiniLM(EmbedderTests):
    """The default model, with its real weights."""

    @pytest.fixture
    def embedder(self) -> Embedder:
        """all-MiniLM-L6-v2."""
        return minilm()
