"""Vectors in RAM: exact cosine search, the default for every cube and the tail of an indexed one.

Rows are only appended or marked dead (an id is never reused), so a search scans a snapshot while
another thread adds. It knows no rights and no database: callers say which refs may be seen.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memos_engine.ports import Vectors

DEAD_SHARE_MAX = 0.125  # of the rows; above it they are packed again
ROWS_MIN = 256  # capacity of a page's first allocation


class Page:
    """A `VectorIndex` over (ids, refs, rows); several rows may share a ref. Thread-safe."""

    def __init__(self, dimension: int) -> None:
        """An empty page for vectors of `dimension` components."""
        self._lock = threading.Lock()
        self._n = 0
        self._ids = np.empty(0, np.int64)
        self._refs = np.empty(0, np.int64)
        self._dead = np.empty(0, np.bool_)
        self._rows: Vectors = np.empty((0, dimension), np.float32)
        self._dead_count = 0

    def __len__(self) -> int:
        return self._n - self._dead_count

    @property
    def nbytes(self) -> int:
        """Bytes held, spare capacity included."""
        return self._ids.nbytes + self._refs.nbytes + self._dead.nbytes + self._rows.nbytes

    def add(self, ids: NDArray[np.int64], refs: NDArray[np.int64], rows: Vectors) -> None:
        """Append rows; `ids` ascend and lie above every id added before."""
        if not len(ids):
            return
        with self._lock:
            assert not self._n or ids[0] > self._ids[self._n - 1], "vector ids ascend"
            end = self._n + len(ids)
            if end > len(self._ids):
                self._grow(max(end, ROWS_MIN if not self._n else self._n + self._n // 2))
            self._ids[self._n : end] = ids
            self._refs[self._n : end] = refs
            self._rows[self._n : end] = rows
            self._dead[self._n : end] = False
            self._n = end

    def remove(self, ids: Sequence[int]) -> None:
        """Mark rows dead; an id that is not here is passed over."""
        with self._lock:
            wanted = np.asarray(ids, np.int64)
            places = np.searchsorted(self._ids[: self._n], wanted)
            inside = places < self._n
            places = places[inside][self._ids[places[inside]] == wanted[inside]]
            self._dead[places] = True
            self._rows[places] = 0  # what was erased does not stay in memory
            self._dead_count = int(self._dead[: self._n].sum())
            if self._dead_count > DEAD_SHARE_MAX * self._n:
                self._pack()

    def nearest(
        self, row: NDArray[np.float32], limit: int, allowed: NDArray[np.int64] | None = None
    ) -> list[tuple[int, float]]:
        """Refs by their best row's cosine with `row` (D,), best first, at most `limit`, each ref once.

        Args:
            row: The query, unit length.
            limit: How many refs.
            allowed: Sorted refs that may be returned; None for all.
        """
        with self._lock:
            n, refs, rows, dead = self._n, self._refs, self._rows, self._dead if self._dead_count else None
        if not n or limit < 1:
            return []
        scores = np.vecdot(rows[:n], row)  # one thread, one result for a row: BLAS would wait for busy cores
        if dead is not None:
            scores[dead[:n]] = -np.inf
        if allowed is not None:
            scores[~_contains(allowed, refs[:n])] = -np.inf
        return _best_refs(scores, refs, limit)

    def cosines(self, row: NDArray[np.float32], refs: NDArray[np.int64]) -> NDArray[np.float32]:
        """The best cosine (N,) with `row` (D,) among each ref's rows; 0 for a ref without any.

        Args:
            row: The query, unit length.
            refs: Ascending, each once.
        """
        with self._lock:
            n, held, rows, dead = self._n, self._refs, self._rows, self._dead if self._dead_count else None
        best = np.full(len(refs), -np.inf, np.float32)
        if n and len(refs):
            wanted = np.isin(held[:n], refs, kind="table")
            places = np.flatnonzero(wanted if dead is None else wanted & ~dead[:n])
            np.maximum.at(best, np.searchsorted(refs, held[places]), np.vecdot(rows[places], row))
        return np.where(np.isinf(best), np.float32(0), best)

    def differences(self, ids: NDArray[np.int64], rows: Vectors) -> list[str]:
        """Where this page disagrees with the vectors it should hold."""
        self.check_integrity()
        with self._lock:
            alive = ~self._dead[: self._n]
            mine, held = self._ids[: self._n][alive], self._rows[: self._n][alive]
        if not np.array_equal(mine, ids):
            return [
                f"the page holds {len(mine)} vectors, {len(np.setxor1d(mine, ids))} other than the truth's {len(ids)}"
            ]
        return [] if np.array_equal(held, rows) else ["a vector in the page differs from the truth"]

    def _grow(self, capacity: int) -> None:
        for name in ("_ids", "_refs", "_dead", "_rows"):
            old = getattr(self, name)
            new = np.empty((capacity, *old.shape[1:]), old.dtype)
            new[: self._n] = old[: self._n]
            setattr(self, name, new)

    def _pack(self) -> None:
        kept = ~self._dead[: self._n]
        for name in ("_ids", "_refs", "_dead", "_rows"):
            setattr(self, name, getattr(self, name)[: self._n][kept])
        self._n, self._dead_count = len(self._ids), 0

    def check_integrity(self) -> None:
        """Assert what must always hold: ids ascend, the dead are counted, arrays agree."""
        with self._lock:
            ids = self._ids[: self._n]
            assert (np.diff(ids) > 0).all(), "ids ascend"
            assert self._dead_count == int(self._dead[: self._n].sum()), "the dead are counted"
            assert len(self._ids) == len(self._refs) == len(self._rows) == len(self._dead), "arrays agree"


def _contains(allowed: NDArray[np.int64], refs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of `refs` stand in the sorted `allowed`."""
    if not len(allowed):
        return np.zeros(len(refs), np.bool_)
    places = np.minimum(np.searchsorted(allowed, refs), len(allowed) - 1)
    found: NDArray[np.bool_] = allowed[places] == refs
    return found


def _best_refs(scores: NDArray[np.float32], refs: NDArray[np.int64], limit: int) -> list[tuple[int, float]]:
    """The best score of each ref, best first; looks at more rows while rows of one ref crowd the top."""
    wide = min(2 * limit, len(scores))
    while True:
        top = np.argpartition(scores, -wide)[-wide:] if wide < len(scores) else np.arange(len(scores))
        top = top[np.lexsort((refs[top], -scores[top]))]
        top = top[scores[top] > -np.inf]
        found, cosines = refs[top].tolist(), scores[top].tolist()
        best = dict(zip(found, cosines, strict=True))
        if len(best) < len(found):  # several rows of one ref: the first is its best
            best = {}
            for ref, cosine in zip(found, cosines, strict=True):
                best.setdefault(ref, cosine)
        if len(best) >= limit or wide == len(scores) or len(top) < wide:
            return list(best.items())[:limit]
        wide = min(4 * wide, len(scores))
