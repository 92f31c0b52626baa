"""What adapters are measured on: users whose cubes hold the same items, questions to them, and texts to be said.

The embedder is a look-up in a file, as in the store benchmark: embedding is not measured.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from benchmarks.corpus import FINGERPRINT, Corpus, Matrix, make_corpus
from memos_engine import FunctionEmbedder, KvPut, MemCube, MemOS, Scope

MEMORIES = "memories"
"""The cube of each user, as the adapters name it."""
BATCH = 1_000


class Ground:
    """An open MemOS, its users made as they are asked for. Close it."""

    def __init__(self, folder: Path, items: int, calls: int, seed: int) -> None:
        """Make texts and vectors in `folder` for `calls` calls of each leg, and open a MemOS beside them."""
        self.items = items
        self.calls = calls
        """How many calls of a leg have a question and a text of their own."""
        make_corpus(folder / "corpus", texts=items, extra=calls, queries=calls, seed=seed)
        self._corpus = Corpus(folder / "corpus")
        self._texts = self._corpus.texts(0, len(self._corpus))
        self._lock = threading.Lock()
        self._filled: set[tuple[str, str]] = set()
        embedder = FunctionEmbedder(self._embed, fingerprint=FINGERPRINT)
        self.memos = MemOS.open(folder / "memos", embedder=embedder, background=False)

    def acting(self, user: str) -> MemOS:
        """The MemOS as a user has it."""
        return self.memos.acting_as(Scope(user=user))

    def cube(self, user: str) -> MemCube:
        """A user's memories: the same items for each."""
        cube = self.acting(user).cube(MEMORIES)
        if self._begun(user, MEMORIES):
            for start in range(0, self.items, BATCH):
                cube.add(self._texts[start : min(start + BATCH, self.items)])
        return cube

    def entries(self, user: str, name: str, *, space: tuple[str, ...], field: str) -> MemCube:
        """A user's cube of key-value entries in one namespace, found by their texts in `field`: the same for each."""
        cube = self.acting(user).cube(name)
        if self._begun(user, name):
            for start in range(0, self.items, BATCH):
                stop = min(start + BATCH, self.items)
                cube.kv.batch(
                    [
                        KvPut(space, f"{n}", {field: self._texts[n], "metadata": {"n": n}}, (field,))
                        for n in range(start, stop)
                    ]
                )
        return cube

    def question(self, n: int) -> str:
        """A few words of one of the items."""
        return self._corpus.queries[n % self.calls][0]

    def text(self, n: int) -> str:
        """A text that is no item yet."""
        return self._texts[self.items + n % self.calls]

    def close(self) -> None:
        """Close the files."""
        self.memos.close()
        self._corpus.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begun(self, user: str, cube: str) -> bool:
        new = (user, cube) not in self._filled
        self._filled.add((user, cube))
        return new

    def _embed(self, texts: Sequence[str]) -> Matrix:
        with self._lock:  # one file, and adapters ask from several threads
            return self._corpus.embed(texts)
