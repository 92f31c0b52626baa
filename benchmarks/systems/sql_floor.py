"""The floor of every durable write: the engine's own tables and FTS5, filled by plain SQL and nothing else.

WAL and `synchronous=FULL` as in the engine, SQLite's defaults otherwise. It checks nothing, reads
nothing out of the texts and keeps no vectors in memory. Its `first_answer` is reading every vector
into numpy.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from pathlib import Path
from typing import cast

import apsw
import numpy as np

from benchmarks.corpus import DIMENSION, FINGERPRINT, Corpus
from benchmarks.machine import ROOT
from benchmarks.systems.base import System

SCHEMA = ROOT / "memos_engine" / "store" / "schema"
ITEM = (
    "INSERT INTO items (n, id, kind, tier, text, role, speaker, thread, author, message_id, message_key, event_at,"
    " created_at, updated_at, state, origin, indexed) VALUES (?, ?, ?, 'long_term', ?, ?, ?, ?, 'root', ?, ?, ?, ?, ?,"
    " 'activated', ?, 1)"
)
WORDS = "INSERT INTO words (rowid, body) VALUES (?, ?)"
VECTOR = "INSERT INTO vectors (item, name, embedder, data) VALUES (?, ?, 1, ?)"
CHANGE = "INSERT INTO changes (item, op, at) VALUES (?, 'add', ?)"
EDGE = "INSERT INTO edges (source, kind, target) VALUES (?, ?, ?)"
AUDIT = "INSERT INTO audit (at, principal, action, detail, hash) VALUES (?, 'root', 'add', ?, ?)"


class SqlFloor(System):
    """One connection, one transaction a batch."""

    abilities = frozenset({"add", "add_one", "capture", "reopen"})

    def __init__(self, folder: Path, corpus: Corpus) -> None:
        folder.mkdir(exist_ok=True)
        path = folder / "memory.db"
        fresh = not path.exists()
        self._corpus = corpus
        self._connection = apsw.Connection(str(path))
        self._connection.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL")
        if fresh:
            for step in sorted(SCHEMA.glob("cube_*.sql")):
                self._connection.execute(step.read_text(encoding="utf-8"))
            self._connection.execute(
                "INSERT INTO embedders (fingerprint, dimension, current) VALUES (?, ?, 1)",
                [FINGERPRINT, DIMENSION],
            )
        self._last = int(self._connection.execute("SELECT max(n) FROM items").get or 0)

    def add(self, first: int, texts: list[str]) -> None:
        now = time.time_ns() // 1000
        refs = range(self._last + 1, self._last + 1 + len(texts))
        rows = [row.tobytes() for row in self._corpus.embed(texts)]
        items = [
            (n, str(uuid.uuid4()), "note", text, None, None, "", None, None, None, now, now, "user")
            for n, text in zip(refs, texts, strict=True)
        ]
        with self._connection as transaction:
            transaction.executemany(ITEM, items)
            transaction.executemany(WORDS, list(zip(refs, texts, strict=True)))
            transaction.executemany(VECTOR, [(n, "text", row) for n, row in zip(refs, rows, strict=True)])
            transaction.executemany(CHANGE, [(n, now) for n in refs])
            self._audit(transaction, now, len(texts))
        self._last = refs[-1]

    def capture(self, number: int, text: str) -> None:
        now = time.time_ns() // 1000
        n, said = self._last + 1, f"Maya: {text}"
        row = self._corpus.embed([said])[0].tobytes()
        item = (n, str(uuid.uuid4()), "episode", text, "user", "Maya", "talk", f"m{number}", f"m{number}",
                now, now, now, "capture")  # fmt: skip
        with self._connection as transaction:
            transaction.execute(ITEM, item)
            transaction.execute(WORDS, (n, said))
            transaction.execute(VECTOR, (n, "turn", row))
            transaction.execute(CHANGE, (n, now))
            transaction.execute(EDGE, (n - 1, "next", n))
            transaction.execute(EDGE, (n, "same_session", 1))
            self._audit(transaction, now, 1)
        self._last = n

    def _audit(self, transaction: apsw.Connection, now: int, count: int) -> None:
        detail = f'{{"new":{count}}}'
        transaction.execute(AUDIT, (now, detail, hashlib.sha256(detail.encode()).digest()))

    def first_answer(self, query: str) -> None:
        found = self._connection.execute("SELECT data FROM vectors ORDER BY v").fetchall()
        rows = cast("list[tuple[bytes]]", found)
        joined = b"".join([row[0] for row in rows])
        matrix = np.frombuffer(joined, np.float32).reshape(len(rows), DIMENSION)
        assert len(matrix) == self._last, "every item has its vector"

    def close(self) -> None:
        self._connection.close()


SYSTEM = SqlFloor
