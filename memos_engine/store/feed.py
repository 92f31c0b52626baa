"""What projections of the vectors ask of the truth: batches to take in, refs, exact scores.

Plain questions inside the caller's read transaction; no projection is known here.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memos_engine.ports import Vectors
from memos_engine.store.page import Page
from memos_engine.store.reading import CubeReader, EmbedderRow

Ints: TypeAlias = NDArray[np.int64]


def batch(reader: CubeReader, embedder: EmbedderRow, after: int, limit: int) -> tuple[Ints, Ints, Vectors]:
    """Ids, refs and rows (N, D) float32 of the next vectors above `after`, in order of id, at most `limit`."""
    sql = "SELECT v, item, data FROM vectors WHERE v > ? AND embedder = ? ORDER BY v LIMIT ?"
    rows: list[Any] = reader.connection.execute(sql, [after, embedder.n, limit]).fetchall()
    joined = b"".join([row[2] for row in rows])
    return (
        np.fromiter((row[0] for row in rows), np.int64, len(rows)),
        np.fromiter((row[1] for row in rows), np.int64, len(rows)),
        np.frombuffer(joined, np.dtype("<f4")).reshape(len(rows), embedder.dimension),
    )


def refs_up_to(reader: CubeReader, embedder: EmbedderRow, upto: int) -> tuple[Ints, Ints]:
    """Ids and refs of the vectors up to id `upto`, that one included, in order of id."""
    sql = "SELECT v, item FROM vectors WHERE v <= ? AND embedder = ? ORDER BY v"
    rows: list[Any] = reader.connection.execute(sql, [upto, embedder.n]).fetchall()
    pairs = np.array(rows, np.int64).reshape(len(rows), 2)
    return pairs[:, 0].copy(), pairs[:, 1].copy()


def last_gone(reader: CubeReader) -> int:
    """Number of the last entry of the log of gone vectors; 0 for none."""
    return int(reader.connection.execute("SELECT max(g) FROM gone_vectors").get or 0)


def exact(
    reader: CubeReader, embedder: EmbedderRow, refs: Ints, row: NDArray[np.float32], limit: int
) -> list[tuple[int, float]]:
    """The best of `refs` by the truth's own rows, best first; those that are gone are not there."""
    found, rows = reader.vectors_of_items(refs.tolist(), embedder)
    page = Page(embedder.dimension)
    page.add(np.arange(len(found)), found, rows)
    return page.nearest(row, limit)
