"""How likely it is that a cube holds what is asked: what raises it, and within which bounds it stays."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_engine.ports import Scores
from memos_engine.recall.abstain import BOTH, SILENT_BELOW, VECTORS, WORDS, confidence, word_weights

WIDE = st.floats(-(2.0**100), 2.0**100, width=32)
evidence = st.lists(WIDE, max_size=6)
sizes = st.integers(0, 10**7)
Evidence: TypeAlias = tuple[Scores | None, Scores | None]


def row(values: list[float]) -> Scores:
    """As the ranking hands it over."""
    return np.array(values, np.float32)


@given(st.none() | evidence, st.none() | evidence, sizes)
def test_it_is_a_probability(cosines: list[float] | None, shares: list[float] | None, size: int) -> None:
    """Any finite evidence, any form and any size give 0..1."""
    if cosines is not None and shares is not None:
        cosines, shares = (each[: min(len(cosines), len(shares))] for each in (cosines, shares))
    given_cosines, given_shares = (None if each is None else row(each) for each in (cosines, shares))
    assert 0 <= confidence(given_cosines, given_shares, size) <= 1


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), sizes)
def test_more_evidence_is_no_less_likely(
    cosine: float, share: float, more_cosine: float, more_share: float, size: int
) -> None:
    """It rises with the cosine and with the share of the words, by each form."""
    high_cosine, high_share = cosine + more_cosine, share + more_share
    pairs: list[tuple[Evidence, Evidence]] = [
        ((row([cosine]), row([share])), (row([high_cosine]), row([high_share]))),
        ((row([cosine]), None), (row([high_cosine]), None)),
        ((None, row([share])), (None, row([high_share]))),
        ((row([cosine]), row([share])), (row([cosine, high_cosine]), row([share, high_share]))),
    ]
    for low, high in pairs:
        assert confidence(*low, size) <= confidence(*high, size)


def test_a_tiny_cube_answers() -> None:
    """With few items the estimate is near a half, above silence; with many the same evidence is silent."""
    weak = row([0.15]), row([0.1])
    assert SILENT_BELOW < confidence(*weak, 1) < 0.5
    assert SILENT_BELOW < confidence(*weak, 3) < 0.5
    assert confidence(*weak, 100_000) < SILENT_BELOW


def test_each_form_is_a_half_at_its_middle() -> None:
    """Vectors and words together, words alone and vectors alone have curves of their own."""
    for fit, cosines, shares in (
        (BOTH, row([BOTH.middle]), row([0.0])),
        (WORDS, None, row([WORDS.middle])),
        (VECTORS, row([VECTORS.middle]), None),
    ):
        assert confidence(cosines, shares, 1000) == pytest.approx(0.5, abs=1e-5)
        assert fit(fit.middle + 1, 1000) > 0.99
        assert fit(fit.middle - 1, 1000) < 0.01


def test_without_evidence_it_is_nought() -> None:
    """An empty cube, an empty pool, and neither vectors nor words."""
    assert confidence(row([1]), row([1]), 0) == 0
    assert (
        confidence(row([]), row([]), 9) == confidence(None, row([]), 9) == confidence(row([]), None, 9) == 0
    )
    assert confidence(None, None, 9) == 0


@given(st.dictionaries(st.text(max_size=5), st.integers(0, 10**6), max_size=9), sizes)
def test_weights_of_words(held_by: dict[str, int], size: int) -> None:
    """They sum to 1 for any counts, stale ones too; a rarer word never weighs less."""
    weights = word_weights(held_by, size)
    assert sum(weights.values()) == pytest.approx(1 if held_by else 0)
    assert all(weight > 0 for weight in weights.values())
    ranked = sorted(held_by, key=lambda word: held_by[word])
    falling = [weights[word] for word in ranked]
    assert falling == sorted(falling, reverse=True)
