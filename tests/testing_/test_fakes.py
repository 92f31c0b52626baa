"""The shipped fakes keep the contracts of the ports they stand in for."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import numpy as np
import pytest

from memos_engine.errors import BadLimit, BadTime
from memos_engine.ports import Clock, Embedder
from memos_engine.testing.fakes import FrozenClock, HashEmbedder

ODD_TEXTS = ["", " ", "!?", "\ud800", "\N{GRINNING FACE}", "我爱北京", "a" * 100_000, "\x00"]


def test_hash_embedder_is_an_embedder() -> None:
    """It satisfies the port, for the type checker and at run time."""
    embedder: Embedder = HashEmbedder()
    assert isinstance(embedder, Embedder)


@pytest.mark.parametrize("dim", [1, 2, 64, 384])
def test_hash_embedder_returns_unit_rows_for_any_text(dim: int) -> None:
    """Blank, odd and huge texts have unit vectors too."""
    rows = HashEmbedder(dim).embed(ODD_TEXTS)
    assert rows.shape == (len(ODD_TEXTS), dim)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_hash_embedder_accepts_no_texts() -> None:
    """No texts give an empty matrix of the right width."""
    assert HashEmbedder(8).embed([]).shape == (0, 8)


def test_hash_embedder_ranks_shared_words_first() -> None:
    """Same words beat related forms, which beat unrelated texts."""
    query, same, related, unrelated = HashEmbedder().embed(
        [
            "Where did Melanie paint the sunrise?",
            "Melanie: I did paint the sunrise by the lake",
            "Melanie's paintings of a sunrise",
            "Quarterly revenue grew by nine percent",
        ]
    )
    cosines = [float(query @ row) for row in (same, related, unrelated)]
    assert all(higher > lower + 0.1 for higher, lower in pairwise(cosines))


def test_hash_embedder_ignores_case_order_and_batch() -> None:
    """A vector depends on the text's words alone."""
    embedder = HashEmbedder()
    one, two = embedder.embed(["Hello big WORLD", "world, hello, big"])
    np.testing.assert_allclose(one, two, atol=1e-7)
    np.testing.assert_array_equal(embedder.embed(["Hello big WORLD"])[0], one)


def test_hash_embedder_agrees_across_processes() -> None:
    """Python's own hash seed plays no part."""
    code = """
from memos_engine.testing.fakes import HashEmbedder
print(HashEmbedder(16).embed(["a lake"]).tobytes().hex())
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == HashEmbedder(16).embed(["a lake"]).tobytes().hex()


def test_hash_embedder_names_its_width() -> None:
    """Another width is another fingerprint; none is refused."""
    assert HashEmbedder(8).fingerprint == HashEmbedder(8).fingerprint != HashEmbedder(16).fingerprint
    with pytest.raises(BadLimit, match="dim=0"):
        HashEmbedder(0)


def test_frozen_clock_stands_still_until_advanced() -> None:
    """Only `advance` moves it, in either direction; it always shows UTC."""
    clock = FrozenClock(datetime(2025, 5, 1, 12, tzinfo=timezone(timedelta(hours=2))))
    port: Clock = clock
    assert port() == port() == datetime(2025, 5, 1, 10, tzinfo=UTC)
    assert clock().tzinfo is UTC
    assert clock.advance(timedelta(days=1)) == clock() == datetime(2025, 5, 2, 10, tzinfo=UTC)
    assert clock.advance(timedelta(seconds=-1)) == datetime(2025, 5, 2, 9, 59, 59, tzinfo=UTC)


def test_frozen_clock_refuses_a_naive_start() -> None:
    """A moment without a zone is no moment."""
    naive = datetime(2025, 5, 1, tzinfo=UTC).replace(tzinfo=None)
    with pytest.raises(BadTime, match="naive"):
        FrozenClock(naive)
