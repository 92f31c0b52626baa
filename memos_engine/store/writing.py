"""What can be done to a cube's truth, inside one write transaction.

Each method keeps items, words, vectors, versions and the change log in step; `CubeFile.write`
adds the audit row and commits. Nothing here decides what should be written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from memos_engine.errors import EmbedderMismatch, ItemNotFound, MessageConflict
from memos_engine.items import Edge
from memos_engine.ports import Entry
from memos_engine.store.block_writing import BlockWrites
from memos_engine.store.database import Connection
from memos_engine.store.questions import chunks, marks
from memos_engine.store.reading import CubeReader, EmbedderRow
from memos_engine.store.rows import (
    COLUMNS,
    INSERT_ITEM,
    LAST_MICRO,
    SELECT_ITEM,
    dumps,
    from_micros,
    is_indexed,
    to_item,
    to_row,
    words_of,
    words_of_row,
)


def turn_hash(thread: str, message_key: str) -> bytes:
    """What a tombstone keeps of an erased turn."""
    return hashlib.sha256(f"{thread}\x1f{message_key}".encode()).digest()


class CubeWriter(BlockWrites, CubeReader):
    """A reader that may also write; lives for one transaction."""

    def __init__(self, connection: Connection, cube: str, frequencies: dict[str, int], now: int) -> None:
        """`now`: microseconds since 1970 UTC, the moment of this transaction."""
        super().__init__(connection, cube, frequencies)
        self.now = now
        self.gone = []
        self.erased = False  # something was, by this transaction
        self._added: dict[str, int] = {}
        self._logged = 0  # number of the last change of this transaction

    def use_embedder(self, fingerprint: str, dimension: int) -> EmbedderRow:
        """The row of the embedder in use; the first one a cube ever sees becomes the current one.

        Raises:
            EmbedderMismatch: the cube's vectors were made by another.
        """
        current = self.embedder()
        if current is None:
            self.connection.execute(
                "INSERT INTO embedders (fingerprint, dimension, current) VALUES (?, ?, 1)",
                [fingerprint, dimension],
            )
            return self.use_embedder(fingerprint, dimension)
        if (current.fingerprint, current.dimension) != (fingerprint, dimension):
            raise EmbedderMismatch(
                f"this cube's vectors were made by {current.fingerprint!r} ({current.dimension} dimensions), not by "
                f"{fingerprint!r} ({dimension}): open it with the first, or run memos.reembed(cube) once"
            )
        return current

    def other_embedder(self, fingerprint: str, dimension: int) -> EmbedderRow:
        """The row of an embedder that is not, or not yet, the current one."""
        self.connection.execute(
            "INSERT OR IGNORE INTO embedders (fingerprint, dimension, current) VALUES (?, ?, 0)",
            [fingerprint, dimension],
        )
        row = "SELECT n, fingerprint, dimension FROM embedders WHERE fingerprint = ?"
        return EmbedderRow(*self.rows(row, [fingerprint])[0])

    def add_vectors(
        self, rows: Sequence[tuple[int, int, Mapping[str, NDArray[np.float32]]]], embedder: EmbedderRow
    ) -> int:
        """Give items, at the version that was read, vectors by `embedder` beside those they have.

        An item that was changed, erased or given such vectors meanwhile is passed over.
        """
        same = (
            "SELECT 1 FROM items WHERE n = ?1 AND version = ?2 AND indexed = 1"
            " AND NOT EXISTS (SELECT 1 FROM vectors WHERE item = ?1 AND embedder = ?3)"
        )
        live = {n for n, version, _ in rows if self.value(same, [n, version, embedder.n])}
        made = [row for n, _, vectors in rows if n in live for row in _vector_rows(n, vectors, embedder)]
        self.connection.executemany(
            "INSERT INTO vectors (item, name, embedder, data) VALUES (?, ?, ?, ?)", made
        )
        return len(live)

    def switch_embedder(self, fingerprint: str) -> bool:
        """Make an embedder the current one and drop all other vectors; False while an item lacks its vector."""
        if self.without_vectors(fingerprint, limit=1):
            return False
        others = "embedder NOT IN (SELECT n FROM embedders WHERE fingerprint = ?)"
        self.connection.execute(
            f"INSERT INTO gone_vectors (v, erased) SELECT v, 0 FROM vectors WHERE {others}", [fingerprint]
        )
        self.connection.execute(f"DELETE FROM vectors WHERE {others}", [fingerprint])
        self.connection.execute("DELETE FROM embedders WHERE fingerprint <> ?", [fingerprint])
        self.connection.execute("UPDATE embedders SET current = 1")
        return True

    def add(self, entries: Sequence[Entry], embedder: EmbedderRow | None) -> list[int]:
        """Insert new items and return their refs. `embedder` made their vectors; None when there are none.

        Raises:
            MessageConflict: an id is taken.
        """
        first = (
            int(self.connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'items'").get or 0) + 1
        )
        refs = list(range(first, first + len(entries)))
        items, words, vectors = [], [], []
        for n, entry in zip(refs, entries, strict=True):
            row = to_row(entry.item)
            indexed = entry.searchable and is_indexed(entry.item)
            items.append((n, *row, entry.message_key, int(indexed)))
            if indexed:
                words.append((n, words_of(entry.item.speaker, entry.item.text, entry.item.event_at)))
                vectors += _vector_rows(n, entry.vectors, embedder)
        try:
            self.connection.executemany(INSERT_ITEM, items)
        except apsw.ConstraintError as exc:
            taken = self._taken([entry.item.id for entry in entries])
            if taken is None:
                raise
            raise MessageConflict(
                f"item id {taken!r} exists already: leave the id out, or use `update`"
            ) from exc
        self.connection.executemany("INSERT INTO words (rowid, body) VALUES (?, ?)", words)
        self.connection.executemany(
            "INSERT INTO vectors (item, name, embedder, data) VALUES (?, ?, ?, ?)", vectors
        )
        self._added.update((entry.item.id, n) for n, entry in zip(refs, entries, strict=True))
        self._log(refs, "add")
        return refs

    def _taken(self, ids: Sequence[str]) -> str | None:
        for start in range(0, len(ids), 500):
            part = ids[start : start + 500]
            marks = ",".join("?" * len(part))
            found = self.connection.execute(f"SELECT id FROM items WHERE id IN ({marks}) LIMIT 1", part).get
            if found is not None:
                return str(found)
        return None

    def replace(self, n: int, entry: Entry, embedder: EmbedderRow | None, *, op: str = "update") -> None:
        """Make `entry` the current version of item `n`; the old one goes to its versions.

        Vectors are replaced when the entry brings some or the item leaves search, and kept otherwise.
        """
        old = self._columns(n)
        new = dict(zip(COLUMNS, to_row(entry.item), strict=True))
        changed = {column: old[column] for column in COLUMNS if old[column] != new[column]}
        self.connection.execute(
            "INSERT INTO versions (item, version, until, state) VALUES (?, ?, ?, ?)",
            [n, old["version"], self.now, dumps(changed)],
        )
        indexed = entry.searchable and is_indexed(entry.item)
        self._unindex_words(n, old)
        if entry.vectors or not indexed:
            self.drop_vectors(n, erased=False)
        assignments = ", ".join(f"{column} = ?" for column in (*COLUMNS, "indexed"))
        self.connection.execute(
            f"UPDATE items SET {assignments} WHERE n = ?", [*new.values(), int(indexed), n]
        )
        if indexed:
            self.connection.execute("INSERT INTO words (rowid, body) VALUES (?, ?)", [n, words_of_row(new)])
            self.connection.executemany(
                "INSERT INTO vectors (item, name, embedder, data) VALUES (?, ?, ?, ?)",
                _vector_rows(n, entry.vectors, embedder),
            )
        self.drop_stale_blocks_of(n, changed)
        self._log([n], op)

    def _columns(self, n: int) -> dict[str, Any]:
        rows = self.connection.execute(
            f"SELECT {', '.join(COLUMNS)}, indexed, message_key FROM items WHERE n = ?", [n]
        ).fetchall()
        if not rows:
            raise ItemNotFound(f"item number {n} is gone: another call erased it meanwhile; search again")
        return dict(zip((*COLUMNS, "indexed", "message_key"), rows[0], strict=True))

    def _unindex_words(self, n: int, columns: Mapping[str, Any]) -> None:
        if columns["indexed"]:
            self.connection.execute(
                "INSERT INTO words (words, rowid, body) VALUES ('delete', ?, ?)", [n, words_of_row(columns)]
            )

    def drop_vectors(self, n: int, *, erased: bool) -> None:
        """Remove the vectors of item `n`; `erased`: by `forget`, so that no index may keep their bytes."""
        self.connection.execute(
            "INSERT INTO gone_vectors (v, erased) SELECT v, ? FROM vectors WHERE item = ?", [int(erased), n]
        )
        self.connection.execute("DELETE FROM vectors WHERE item = ?", [n])

    def link(self, edges: Sequence[Edge]) -> None:
        """Add edges; one that is there takes the new weight.

        Raises:
            ItemNotFound: an end is not an item of this cube.
        """
        refs = self._refs_of({end for edge in edges for end in (edge.source, edge.target)})
        self.connection.executemany(
            "INSERT INTO edges (source, kind, target, weight) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (source, kind, target) DO UPDATE SET weight = excluded.weight",
            [(refs[edge.source], edge.kind, refs[edge.target], edge.weight) for edge in edges],
        )

    def _refs_of(self, ids: Collection[str]) -> dict[str, int]:
        found = {id_: self._added[id_] for id_ in ids if id_ in self._added}
        for id_ in ids - found.keys():
            n = self.connection.execute("SELECT n FROM items WHERE id = ?", [id_]).get
            if n is None:
                raise ItemNotFound(
                    f"item {id_!r} is not in this cube: search for it again, it may have been erased"
                )
            found[id_] = n
        return found

    def erase(self, refs: Iterable[int]) -> tuple[list[str], int]:
        """Erase items with all that hangs on them; a tombstone stays. Return their ids and the versions erased."""
        ids: list[str] = []
        versions = 0
        for n in sorted(refs):
            columns = self._columns(n)
            versions_of = int(self.value("SELECT count(*) FROM versions WHERE item = ?", [n]))
            versions += versions_of
            self._unindex_words(n, columns)
            self.drop_vectors(n, erased=True)
            if versions_of:  # an index may still hold the bytes of vectors that older versions had
                self.connection.execute("INSERT INTO gone_vectors (v, erased) VALUES (0, 1)")
            self._bridge(n)
            self.drop_blocks_of(n, op="forget", reason="an item of it was erased")
            key = columns["message_key"]
            self.connection.execute(
                "INSERT OR REPLACE INTO tombstones (n, id, at, turn) VALUES (?, ?, ?, ?)",
                [n, columns["id"], self.now, None if key is None else turn_hash(columns["thread"], key)],
            )
            self.connection.execute("DELETE FROM items WHERE n = ?", [n])
            ids.append(columns["id"])
            self._log([n], "erase")
        self.erased |= bool(ids)
        return ids, versions

    def _bridge(self, n: int) -> None:
        """Tie the turn before `n` to the turn after it, so that a session stays one chain."""
        self.connection.execute(
            "INSERT OR IGNORE INTO edges (source, kind, target) SELECT a.source, 'next', b.target FROM edges a"
            " JOIN edges b ON b.source = a.target AND b.kind = 'next' WHERE a.target = ? AND a.kind = 'next'",
            [n],
        )

    def put_off(self, refs: Sequence[int]) -> None:
        """Let live entries that have a ttl end no earlier than that from now: no new version, nothing logged."""
        for part in chunks(refs):
            self.connection.execute(
                f"UPDATE items SET expires_at = min(max(expires_at, ? + ttl), {LAST_MICRO}) WHERE n IN ({marks(part)})"
                " AND ttl IS NOT NULL AND expires_at > ? AND state IN ('generated', 'activated')",
                [self.now, *part, self.now],
            )

    def expire(self, refs: Iterable[int], now: int) -> int:
        """Take live items out of search whose time is still over, as a new version of state `expired`."""
        done = 0
        for n in refs:
            rows = self.connection.execute(
                f"{SELECT_ITEM} WHERE n = ? AND i.state IN ('generated', 'activated') AND i.expires_at <= ?",
                [n, now],
            ).fetchall()
            if rows:
                item = to_item(self.cube, rows[0][1:])
                at = from_micros(self.now)
                item = replace(item, state="expired", version=item.version + 1, updated_at=at)
                self.replace(n, Entry(item), None, op="expire")
                done += 1
        return done

    def remember_call(self, key: str, digest: bytes, result: str) -> None:
        """Keep a call's result under its idempotency key."""
        self.connection.execute(
            "INSERT INTO calls (key, digest, result, at) VALUES (?, ?, ?, ?)", [key, digest, result, self.now]
        )

    def set_meta(self, key: str, value: str) -> None:
        """Keep a note of the cube itself."""
        self.connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", [key, value])

    def _log(self, refs: Sequence[int], op: str) -> None:
        self.connection.executemany(
            "INSERT INTO changes (item, op, at) VALUES (?, ?, ?)", [(n, op, self.now) for n in refs]
        )
        if refs:
            self._logged = self.connection.last_insert_rowid()

    def revision(self) -> int:
        """Number of the last change, those of this transaction included."""
        return self._logged or super().revision()


def _vector_rows(
    n: int, vectors: Mapping[str, NDArray[np.float32]], embedder: EmbedderRow | None
) -> list[tuple[int, str, int, bytes]]:
    if not vectors:
        return []
    if embedder is None:
        raise AssertionError("vectors without the embedder that made them")
    return [(n, name, embedder.n, row.astype("<f4", copy=False).tobytes()) for name, row in vectors.items()]
