"""The cosine of given items is exact: from the page, from the truth's rows, and behind an index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_engine import EmbedderMismatch, MemOS
from memos_engine.ports import Scores, Vectors
from memos_engine.store.page import Page
from memos_engine.store.resident import Resident
from memos_engine.testing.fakes import HashEmbedder
from tests.store.truth import Truth, clustered

DIMENSION = 8


def exact(row: Scores, held: Sequence[int], rows: Vectors, refs: Sequence[int]) -> list[float]:
    """The best row of each ref, in float64; 0 where there is none."""
    scores = rows.astype(float) @ row
    return [
        max((score for of, score in zip(held, scores, strict=True) if of == ref), default=0.0) for ref in refs
    ]


@settings(deadline=None)
@given(
    held=st.lists(st.integers(1, 12), max_size=60), dead=st.sets(st.integers(1, 60)),
    refs=st.sets(st.integers(0, 15)), seed=st.integers(0, 99), steps=st.integers(1, 3),
)  # fmt: skip
def test_a_page_is_exact(held: list[int], dead: set[int], refs: set[int], seed: int, steps: int) -> None:
    """With several rows for a ref, with rows that died, packed or not, and refs that have none."""
    rows = clustered(len(held) + 1, DIMENSION, seed=seed)
    row, rows = rows[0], rows[1:]
    page = Page(DIMENSION)
    ids = np.arange(1, len(held) + 1)
    for part in np.array_split(np.arange(len(held)), steps):
        page.add(ids[part], np.array(held, np.int64)[part], rows[part])
    for part in np.array_split(np.array(sorted(dead), np.int64), steps):
        page.remove(part.tolist())
    alive = [place for place in range(len(held)) if place + 1 not in dead]
    wanted = sorted(refs)
    found = page.cosines(row, np.array(wanted, np.int64))
    assert found.dtype == np.float32
    right = exact(row, [held[place] for place in alive], rows[alive], wanted)
    assert found.tolist() == pytest.approx(right, abs=1e-5)


def test_with_a_page_and_with_an_index(tmp_path: Path) -> None:
    """Nothing loaded, a whole page, an index, an index with a tail: one answer, also after erasures."""
    truth = Truth(tmp_path / "cube")
    rows = clustered(601, 16, seed=5)
    row, rows = rows[0], rows[1:]
    held = truth.add(rows, per_item=2)
    truth.erase(held[::7])
    resident = Resident(truth.folder, sync_threshold=200)

    def agree() -> None:
        refs = np.array([*held, held[-1] + 50], np.int64)
        of, all_rows = truth.all()
        with truth.read() as reader:
            found = resident.cosines(reader, row, refs)
        assert found.tolist() == pytest.approx(exact(row, of.tolist(), all_rows, refs.tolist()), abs=1e-5)

    agree()
    with truth.read() as reader:
        resident.nearest(reader, row, 5)
    agree()
    resident.catch_up(truth.read)
    assert resident.indexed_to > 0
    agree()
    held += truth.add(clustered(20, 16, seed=6))
    truth.erase(held[1:7])
    truth.replace(held[-1], row)
    with truth.read() as reader:
        assert resident.nearest(reader, row, 1)[0][0] == held[-1]
    agree()
    resident.close()
    truth.file.close()


def test_a_page_that_lags_follows(tmp_path: Path) -> None:
    """Cosines asked without a search before see what was written since the page was loaded."""
    truth = Truth(tmp_path / "cube")
    row = clustered(1, 16, seed=9)[0]
    truth.add(clustered(30, 16, seed=5))
    resident = Resident(truth.folder)
    with truth.read() as reader:
        resident.nearest(reader, row, 5)
    (ref,) = truth.add(row[None])
    with truth.read() as reader:
        assert resident.cosines(reader, row, np.array([ref], np.int64)).tolist() == pytest.approx([1.0])
    resident.close()
    truth.file.close()


def test_another_dimension_is_told(tmp_path: Path) -> None:
    """A cube embedded anew under an open handle's feet is a typed error, not nonsense."""
    root = tmp_path / "r"
    with MemOS.open(root, embedder=HashEmbedder(32), background=False) as memos:
        cube = memos.cube("c")
        cube.add("an otter")
        assert cube.recall("otter")
        with MemOS.open(root, embedder=HashEmbedder(48), background=False) as other:
            other.reembed("c")
        with pytest.raises(EmbedderMismatch):
            cube.recall("otter")
        with pytest.raises(EmbedderMismatch):
            cube.search("otter")
    with MemOS.open(root, embedder=HashEmbedder(48), background=False) as memos:
        assert memos.cube("c").recall("otter")
