"""The floor of every search by vector: one matrix in memory, one product, the ten best rows.

It finds by vector alone, knows texts by their number only, and is made durable once, on closing.
The product is `vecdot`, on one thread: the BLAS behind `@` starts threads at this size, and waits
milliseconds for one of them whenever another process has its core.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.corpus import DIMENSION, Corpus, Matrix
from benchmarks.systems.base import LIMIT, System


class NumpyFloor(System):
    """Rows in an array that doubles."""

    abilities = frozenset({"add", "search", "reopen"})

    def __init__(self, folder: Path, corpus: Corpus) -> None:
        self._path = folder / "rows.npy"
        self._corpus = corpus
        self._rows: Matrix = (
            np.load(self._path) if self._path.exists() else np.empty((256, DIMENSION), np.float32)
        )
        self._count = len(self._rows) if self._path.exists() else 0

    def add(self, first: int, texts: list[str]) -> None:
        end = self._count + len(texts)
        if end > len(self._rows):
            grown = np.empty((max(end, 2 * len(self._rows)), DIMENSION), np.float32)
            grown[: self._count] = self._rows[: self._count]
            self._rows = grown
        self._rows[self._count : end] = self._corpus.embed(texts)
        self._count = end

    def search(self, query: str) -> list[int]:
        scores = np.vecdot(self._rows[: self._count], self._corpus.embed([query])[0])
        best = np.argpartition(scores, -LIMIT)[-LIMIT:]
        numbers: list[int] = best[np.argsort(-scores[best])].tolist()
        return numbers

    def texts_of(self, found: list[int]) -> list[str]:
        return [self._corpus.texts(number, number + 1)[0] for number in found]

    def close(self) -> None:
        self._path.parent.mkdir(exist_ok=True)
        np.save(self._path, self._rows[: self._count])


SYSTEM = NumpyFloor
