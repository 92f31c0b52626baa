"""The page does what every VectorIndex must, and exactly what a brute-force model says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from memos_engine.store.page import Page
from memos_engine.testing.conformance import VectorIndexTests

DIMENSION = 4
UNITS = [row / np.linalg.norm(row) for row in np.random.default_rng(3).normal(size=(12, DIMENSION))]
ROWS = np.array(UNITS, np.float32)
"""Few different rows, so that ties are common."""

refs = st.integers(1, 9)
rows = st.integers(0, len(ROWS) - 1)


class TestPage(VectorIndexTests):
    @pytest.fixture
    def index(self) -> Page:
        """Return an empty page."""
        return Page(16)


class PageAgainstModel(RuleBasedStateMachine):
    """A dict of live rows beside a page."""

    def __init__(self) -> None:
        super().__init__()
        self.page = Page(DIMENSION)
        self.last = 0
        self.live: dict[int, tuple[int, int]] = {}

    @rule(made=st.lists(st.tuples(refs, rows), max_size=40), gap=st.integers(1, 3), copies=st.integers(1, 8))
    def add(self, made: list[tuple[int, int]], gap: int, copies: int) -> None:
        """Append, with holes between the ids, and often enough that the page must grow."""
        made = made * copies
        ids = self.last + gap * np.arange(1, len(made) + 1)
        self.page.add(
            ids,
            np.array([ref for ref, _ in made], np.int64),
            ROWS[np.array([row for _, row in made], np.int64)],
        )
        self.live.update(zip(ids.tolist(), made, strict=True))
        self.last += gap * len(made)

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Remove some ids, among them some that are not there, in any order, some twice."""
        ids = data.draw(st.lists(st.integers(0, self.last + 3), max_size=30))
        self.page.remove(ids)
        for id_ in ids:
            self.live.pop(id_, None)

    @rule(ref=refs)
    def remove_item(self, ref: int) -> None:
        """Remove all rows of one ref."""
        ids = [id_ for id_, (of, _) in self.live.items() if of == ref]
        self.page.remove(ids)
        for id_ in ids:
            del self.live[id_]

    @rule(query=rows, limit=st.integers(0, 12), allowed=st.none() | st.sets(st.integers(0, 11)))
    def nearest(self, query: int, limit: int, allowed: set[int] | None) -> None:
        """The same scores as the model, and for each ref its best; which of equals comes first is open."""
        best: dict[int, float] = {}
        for ref, row in self.live.values():
            if allowed is None or ref in allowed:
                best[ref] = max(float(ROWS[row] @ ROWS[query]), best.get(ref, -2.0))
        wanted = None if allowed is None else np.array(sorted(allowed), np.int64)
        found = self.page.nearest(ROWS[query], limit, wanted)
        scores = sorted(best.values(), reverse=True)[:limit]
        assert [score for _, score in found] == pytest.approx(scores, abs=1e-5)
        assert len({ref for ref, _ in found}) == len(found)
        for ref, score in found:
            assert score == pytest.approx(best[ref], abs=1e-5)

    @invariant()
    def is_whole(self) -> None:
        """The page's own law holds, and it counts what is alive."""
        self.page.check_integrity()
        assert len(self.page) == len(self.live)


TestPageAgainstModel = PageAgainstModel.TestCase


def test_removed_rows_leave_memory() -> None:
    """What was erased stands in no array of the page, packed or not."""
    page = Page(DIMENSION)
    page.add(np.arange(1, 101), np.arange(1, 101), np.tile(ROWS[:2], (50, 1)))
    secret = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    page.add(np.array([101]), np.array([101]), secret[None])
    page.remove([101])
    assert secret.tobytes() not in page._rows.tobytes()
    page.remove(range(1, 60))
    assert len(page) == 41
    assert secret.tobytes() not in page._rows.tobytes()
    assert page.nbytes < 101 * (4 * DIMENSION + 17)


def test_ids_that_do_not_ascend_are_a_programmers_error() -> None:
    """A page is appended to only."""
    page = Page(DIMENSION)
    page.add(np.array([5]), np.array([1]), ROWS[:1])
    with pytest.raises(AssertionError, match="ascend"):
        page.add(np.array([5]), np.array([1]), ROWS[:1])
