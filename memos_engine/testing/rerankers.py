"""What every `Reranker` must do, as a test class to inherit: give a fixture `reranker`, and run pytest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from memos_engine.ports import Reranker

CLOSE = 1e-5
"""Scores may differ by so much between batches: padding changes the order of float32 sums."""
QUERY = "Where does the cat sleep?"
TEXTS = (
    "The cat sleeps on the red sofa.",
    "a",
    "",
    "Quarterly revenue rose, with 2 numbers: 42.",
    "我喜欢猫。",
    "naïve café\n\t",
    "x" * 5_000,
    "cat " * 5_000,
)


class RerankerTests:
    """Inherit, and override the fixture `reranker`."""

    @pytest.fixture
    def reranker(self) -> Reranker:
        """The reranker under test."""
        raise NotImplementedError("override the fixture `reranker`")

    def test_it_is_a_reranker(self, reranker: Reranker) -> None:
        """It has what the port asks for, also at run time."""
        assert isinstance(reranker, Reranker)

    def test_one_finite_score_for_each_text(self, reranker: Reranker) -> None:
        """Scores are finite float32, as many as the texts, whatever the texts are."""
        scores = reranker.scores(QUERY, TEXTS)
        assert scores.dtype == np.float32
        assert scores.shape == (len(TEXTS),)
        assert np.isfinite(scores).all()

    def test_nothing_in_nothing_out(self, reranker: Reranker) -> None:
        """No texts give no scores."""
        scores = reranker.scores(QUERY, [])
        assert scores.shape == (0,)
        assert scores.dtype == np.float32

    def test_any_query_is_taken(self, reranker: Reranker) -> None:
        """A query may be blank, foreign or huge."""
        for query in ("", " \n", "猫在哪里?", "why " * 5_000):
            assert np.isfinite(reranker.scores(query, TEXTS[:2])).all()

    def test_one_pair_has_one_score(self, reranker: Reranker) -> None:
        """A text's score does not depend on the call, the batch or the order."""
        together = reranker.scores(QUERY, TEXTS)
        backwards = reranker.scores(QUERY, TEXTS[::-1])[::-1]
        alone = np.concatenate([reranker.scores(QUERY, [text]) for text in TEXTS])
        assert np.allclose(together, backwards, atol=CLOSE)
        assert np.allclose(together, alone, atol=CLOSE)

    def test_the_query_counts(self, reranker: Reranker) -> None:
        """Another query gives other scores."""
        texts = ["The cat sleeps on the red sofa.", "Quarterly revenue rose."]
        first, second = reranker.scores("the cat sleeps", texts), reranker.scores("revenue rose", texts)
        assert not np.allclose(first, second, atol=CLOSE)

    def test_fingerprint_stays(self, reranker: Reranker) -> None:
        """The fingerprint is a name, and the same after use."""
        before = reranker.fingerprint
        reranker.scores(QUERY, ["a"])
        assert before
        assert reranker.fingerprint == before

    def test_threads_do_not_meet(self, reranker: Reranker) -> None:
        """Four threads at once get what one gets."""
        alone = reranker.scores(QUERY, TEXTS)
        with ThreadPoolExecutor(4) as threads:
            for scores in threads.map(lambda _: reranker.scores(QUERY, TEXTS), range(8)):
                assert np.allclose(scores, alone, atol=CLOSE)
