"""A cube with vectors and no meaning: the truth that pages and indexes are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from memos_engine.ids import new_id
from memos_engine.items import MemoryItem
from memos_engine.ports import Entry, Vectors
from memos_engine.store.sqlite import CubeFile
from memos_engine.testing.fakes import FrozenClock

CUBE = "c"
FINGERPRINT = "test:1"
Found = list[tuple[int, float]]


def clustered(count: int, dimension: int, *, seed: int, centres: int = 60) -> Vectors:
    """Unit rows around random centres, as embeddings of a few subjects are."""
    random = np.random.default_rng(seed)
    middle = np.random.default_rng(7).normal(size=(centres, dimension))
    rows = middle[random.integers(0, centres, count)] + 0.5 * random.normal(size=(count, dimension))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def assert_same(found: Found, right: Found) -> None:
    """The same refs in the same order, with the same cosines but for float32 noise."""
    assert [ref for ref, _ in found] == [ref for ref, _ in right]
    assert [score for _, score in found] == pytest.approx([score for _, score in right], abs=1e-5)


class Truth:
    """A cube's database in `folder`, written through the engine's own writer."""

    def __init__(self, folder: Path, *, fingerprint: str = FINGERPRINT) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.fingerprint = fingerprint
        self.clock = FrozenClock()
        self.file = CubeFile(folder, CUBE, self.clock)
        self.read = self.file.read

    def entry(self, named: dict[str, NDArray[np.float32]]) -> Entry:
        """A note with these vectors."""
        at = self.clock()
        return Entry(MemoryItem(new_id(), CUBE, "note", "x", created_at=at, updated_at=at), named)

    def add(self, rows: Vectors, *, per_item: int = 1) -> list[int]:
        """Add items of `per_item` consecutive rows each; returns their refs."""
        groups = np.split(rows, len(rows) // per_item)
        entries = [self.entry({f"n{k}": row for k, row in enumerate(group)}) for group in groups]
        return self.file.write(
            lambda writer: writer.add(entries, writer.use_embedder(self.fingerprint, rows.shape[1])),
            principal="user:t",
            action="add",
        )

    def replace(self, ref: int, row: NDArray[np.float32]) -> None:
        """Give an item another vector: the old one is gone."""
        at = self.clock()
        with self.read() as reader:
            id_ = reader.connection.execute("SELECT id FROM items WHERE n = ?", [ref]).get
        entry = Entry(MemoryItem(str(id_), CUBE, "note", "y", created_at=at, updated_at=at), {"n0": row})
        self.file.write(
            lambda writer: writer.replace(ref, entry, writer.use_embedder(self.fingerprint, len(row))),
            principal="user:t",
            action="update",
        )

    def erase(self, refs: Sequence[int]) -> None:
        """Forget items."""
        self.file.write(lambda writer: writer.erase(refs), principal="user:t", action="forget")

    def switch(self, fingerprint: str, rows: Vectors) -> None:
        """Give every item one new vector, by another embedder, which becomes the current one."""
        with self.read() as reader:
            found: Any = reader.connection.execute("SELECT n, version FROM items ORDER BY n")
            made = [
                (int(n), int(version), {"n0": row}) for (n, version), row in zip(found, rows, strict=True)
            ]
        self.file.write(
            lambda writer: writer.add_vectors(made, writer.other_embedder(fingerprint, rows.shape[1])),
            principal="user:t",
            action="reembed",
        )
        assert self.file.write(
            lambda writer: writer.switch_embedder(fingerprint), principal="user:t", action="reembed"
        )
        self.fingerprint = fingerprint

    def all(self) -> tuple[NDArray[np.int64], Vectors]:
        """Refs and rows of every vector that searches use."""
        with self.read() as reader:
            embedder = reader.embedder()
            assert embedder is not None
            _, refs, rows = reader.vectors(embedder)
        return refs, rows

    def nearest(self, row: NDArray[np.float32], limit: int, allowed: Sequence[int] | None = None) -> Found:
        """The right answer, by brute force in float64."""
        refs, rows = self.all()
        best: dict[int, float] = {}
        for ref, score in zip(refs.tolist(), (rows.astype(float) @ row).tolist(), strict=True):
            if allowed is None or ref in allowed:
                best[ref] = max(score, best.get(ref, -2.0))
        return sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
