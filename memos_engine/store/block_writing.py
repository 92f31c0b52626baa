"""What is written of blocks, inside one write transaction: made, used, pinned, gone.

A block goes with the first of its items that is erased or says something else, in that very transaction;
its file goes after the commit, and is known as gone until it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from memos_engine.items import BlockInfo, BlockOp
from memos_engine.store.block_rows import BlockQuestions, decayed
from memos_engine.store.moments import micros
from memos_engine.store.questions import chunks, marks

LOG_ROWS_MAX = 10_000
_TOLD = frozenset({"text", "speaker", "event_at", "state", "visibility"})
"""Columns of an item that decide what a passage says, and whether it may say it."""


class BlockWrites(BlockQuestions):
    """What can be done to the rows of blocks."""

    now: int
    """Microseconds since 1970 UTC, the moment of this transaction."""
    gone: list[str]
    """Ids of the blocks that this transaction took away."""

    def add_block(
        self, info: BlockInfo, refs: Sequence[int], *, digest: str, seal: str, op: BlockOp, reason: str
    ) -> None:
        """Enter a block whose file is there, durable, with its items in order."""
        self.connection.execute(
            "INSERT INTO blocks (id, model, digest, seal, tokens, bytes, seconds, pinned, hits, made_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                info.id, info.model, digest, seal, info.tokens, info.bytes, info.seconds, int(info.pinned), info.hits,
                micros(info.made_at),
            ],
        )  # fmt: skip
        b = self.connection.last_insert_rowid()
        self.connection.executemany(
            "INSERT INTO block_items (block, place, item) VALUES (?, ?, ?)",
            [(b, place, n) for place, n in enumerate(refs)],
        )
        self._log_block(op, reason, info.id, info.model, info.tokens, info.bytes)

    def drop_blocks(self, ids: Sequence[str], *, op: BlockOp, reason: str) -> list[str]:
        """Take blocks away; return the ids of those that were there. Their files go after the commit."""
        found = [
            row
            for part in chunks(ids)
            for row in self.rows(
                f"SELECT b, id, model, tokens, bytes FROM blocks WHERE id IN ({marks(part)})", part
            )
        ]
        for b, id_, *told in found:
            self.connection.execute("INSERT OR IGNORE INTO gone_blocks (id) VALUES (?)", [id_])
            self.connection.execute("DELETE FROM blocks WHERE b = ?", [b])
            self._log_block(op, reason, id_, *told)
        self.gone += [row[1] for row in found]
        return [row[1] for row in found]

    def drop_blocks_of(self, n: int, *, op: BlockOp, reason: str) -> None:
        """Take away every block that holds item `n`."""
        rows = self.rows(
            "SELECT id FROM blocks WHERE b IN (SELECT block FROM block_items WHERE item = ?)", [n]
        )
        if rows:
            self.drop_blocks([row[0] for row in rows], op=op, reason=reason)

    def drop_stale_blocks_of(self, n: int, changed: Mapping[str, Any]) -> None:
        """Take away every block of item `n` where a passage would now say something else, or not to all."""
        told = sorted(_TOLD & changed.keys())
        if told:
            self.drop_blocks_of(n, op="stale", reason=f"an item has another {' and '.join(told)}")

    def pin_block(self, id_: str, *, pinned: bool) -> bool:
        """Say whether a block stays when space is wanted; False when it is not there."""
        self.connection.execute("UPDATE blocks SET pinned = ? WHERE id = ?", [int(pinned), id_])
        return self.connection.changes() > 0

    def use_blocks(self, ids: Sequence[str]) -> None:
        """Count a use of blocks; those that are gone are passed over."""
        for part in chunks(ids):
            rows = self.rows(
                f"SELECT hits, coalesce(used_at, made_at), b FROM blocks WHERE id IN ({marks(part)})",
                part,
            )
            self.connection.executemany(
                "UPDATE blocks SET hits = ?, used_at = ? WHERE b = ?",
                [(decayed(hits, since, self.now) + 1, self.now, b) for hits, since, b in rows],
            )

    def use_items(self, ids: Sequence[str]) -> None:
        """Count a use of items; those that are gone are passed over."""
        for part in chunks(ids):
            rows = self.rows(
                "SELECT i.n, coalesce(u.uses, 0.0), coalesce(u.at, 0) FROM items i"
                f" LEFT JOIN item_uses u ON u.item = i.n WHERE i.id IN ({marks(part)})",
                part,
            )
            self.connection.executemany(
                "INSERT OR REPLACE INTO item_uses (item, uses, at) VALUES (?, ?, ?)",
                [(n, decayed(uses, since, self.now) + 1, self.now) for n, uses, since in rows],
            )

    def forget_gone(self, ids: Iterable[str]) -> None:
        """Their files are no longer there."""
        self.connection.executemany("DELETE FROM gone_blocks WHERE id = ?", [(id_,) for id_ in ids])

    def _log_block(self, op: BlockOp, reason: str, *block: Any) -> None:
        """`block`: its id, model, tokens and bytes."""
        self.connection.execute(
            "INSERT INTO block_log (at, op, reason, block, model, tokens, bytes) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [self.now, op, reason, *block],
        )
        newest = self.connection.last_insert_rowid()
        self.connection.execute("DELETE FROM block_log WHERE seq <= ?", [newest - LOG_ROWS_MAX])
