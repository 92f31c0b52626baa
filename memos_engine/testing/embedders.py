"""What every `Embedder` must do, as a test class to inherit: give a fixture `embedder`, and run pytest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from memos_engine.ports import Embedder

CLOSE = 1e-5
"""Components may differ by so much between batches: padding changes the order of float32 sums."""
TEXTS = ("Hello world", "a", "A longer line, with 2 numbers: 42.", "我喜欢猫。", "naïve café", "x" * 5_000)


class EmbedderTests:
    """Inherit, and override the fixture `embedder`."""

    @pytest.fixture
    def embedder(self) -> Embedder:
        """The embedder under test."""
        raise NotImplementedError("override the fixture `embedder`")

    def test_one_unit_row_for_each_text(self, embedder: Embedder) -> None:
        """Rows are float32, of one width, of unit length, as many as the texts."""
        rows = embedder.embed(TEXTS)
        assert rows.dtype == np.float32
        assert rows.shape[0] == len(TEXTS)
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=CLOSE)

    def test_nothing_in_nothing_out(self, embedder: Embedder) -> None:
        """No texts give no rows."""
        assert len(embedder.embed([])) == 0

    def test_one_text_has_one_vector(self, embedder: Embedder) -> None:
        """A text's row does not depend on the call, the batch or the order."""
        together = embedder.embed(TEXTS)
        backwards = embedder.embed(TEXTS[::-1])[::-1]
        alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
        assert np.allclose(together, backwards, atol=CLOSE)
        assert np.allclose(together, alone, atol=CLOSE)

    def test_different_texts_differ(self, embedder: Embedder) -> None:
        """Two texts that share nothing are not the same row."""
        first, second = embedder.embed(["the cat sleeps", "quarterly revenue rose"])
        assert not np.allclose(first, second, atol=CLOSE)

    def test_fingerprint_stays(self, embedder: Embedder) -> None:
        """The fingerprint is a name, and the same after use."""
        before = embedder.fingerprint
        embedder.embed(["a"])
        assert before
        assert embedder.fingerprint == before

    def test_threads_do_not_meet(self, embedder: Embedder) -> None:
        """Four threads at once get what one gets."""
        alone = embedder.embed(TEXTS)
        with ThreadPoolExecutor(4) as threads:
            for rows in threads.map(lambda _: embedder.embed(TEXTS), range(8)):
                assert np.allclose(rows, alone, atol=CLOSE)
