"""What is asked of the blocks of a cube: which there are, for which items, how they were used. In SQL.

A block is a file; here is only what is known of it. Rights are the caller's business: a block is made of
items that every reader of the cube may see, and a question that returns items says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memos_engine.items import BlockEvent, BlockInfo, MemoryItem
from memos_engine.store.moments import instant
from memos_engine.store.questions import Questions, chunks, marks
from memos_engine.store.rows import LIVE, NODES, SELECT_ITEM, is_live, to_item

HALF_LIFE_S = 7 * 86_400.0
"""Seconds after which a use counts half."""
USES_MAX = 20_000
"""Items that were used last, among which the hottest are looked for."""
_COLUMNS = "b, id, model, digest, seal, tokens, bytes, seconds, pinned, hits, used_at, made_at"
_COVERED = (
    "EXISTS (SELECT 1 FROM block_items p JOIN blocks k ON k.b = p.block WHERE p.item = i.n AND k.model = ?)"
)


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A block as its rows tell it."""

    b: int
    info: BlockInfo
    digest: str
    """Of the passage's text."""
    seal: str
    """SHA-256 of its file."""
    refs: tuple[int, ...]
    """Of its items, in their order."""


def decayed(amount: float, since: int, now: int) -> float:
    """What uses counted at `since` count at `now`, both in microseconds."""
    return float(amount * 0.5 ** (max(now - since, 0) / (HALF_LIFE_S * 1_000_000)))


def is_for_all(item: MemoryItem, now: int) -> bool:
    """Whether an item may stand in a block at `now`: it is a memory, live, and every reader of the cube may see it."""
    return item.visibility == "cube" and item.kind not in NODES and is_live(item, now)


class BlockQuestions(Questions):
    """Questions about blocks; `now` decides what old uses still count."""

    def blocks(self, now: int, *, model: str | None = None) -> list[StoredBlock]:
        """All blocks, or those of one model, the oldest first."""
        if model is None:
            return self._stored("1", [], now)
        return self._stored("model = ?", [model], now)

    def blocks_by_id(self, ids: Sequence[str], now: int) -> dict[str, StoredBlock]:
        """Those of `ids` that are there."""
        found = [block for part in chunks(ids) for block in self._stored(f"id IN ({marks(part)})", part, now)]
        return {block.info.id: block for block in found}

    def blocks_covering(self, model: str, items: Sequence[str], now: int) -> list[StoredBlock]:
        """The blocks of a model that hold any of these items, each once, the oldest first."""
        found: dict[int, StoredBlock] = {}
        for part in chunks(items):
            holding = (
                "b IN (SELECT p.block FROM items i JOIN block_items p ON p.item = i.n"
                f" WHERE i.id IN ({marks(part)})) AND model = ?"
            )
            found.update((block.b, block) for block in self._stored(holding, [*part, model], now))
        return [found[b] for b in sorted(found)]

    def _stored(self, condition: str, values: Sequence[Any], now: int) -> list[StoredBlock]:
        rows = self.rows(f"SELECT {_COLUMNS} FROM blocks WHERE {condition} ORDER BY b", values)
        items: dict[int, list[tuple[int, str]]] = {row[0]: [] for row in rows}
        for part in chunks(list(items)):
            sql = (
                "SELECT p.block, i.n, i.id FROM block_items p JOIN items i ON i.n = p.item"
                f" WHERE p.block IN ({marks(part)}) ORDER BY p.block, p.place"
            )
            for b, n, item in self.rows(sql, part):
                items[b].append((n, item))
        return [_stored(row, items[row[0]], now) for row in rows]

    def items_by_id(self, ids: Sequence[str], *, indexed: bool = False) -> dict[str, tuple[int, MemoryItem]]:
        """Refs and items, of any state, whoever may see them; `indexed`: only those that search can find."""
        wanted = " AND i.indexed = 1" if indexed else ""
        return {
            row[1]: (row[0], to_item(self.cube, row[1:]))
            for part in chunks(ids)
            for row in self.rows(f"{SELECT_ITEM} WHERE i.id IN ({marks(part)}){wanted}", part)
        }

    def gone_blocks(self) -> list[str]:
        """Ids of blocks that are no more and whose files may still be there."""
        return [row[0] for row in self.rows("SELECT id FROM gone_blocks ORDER BY id")]

    def known_blocks(self) -> set[str]:
        """Ids of all blocks, those that are gone and whose files may still be there included."""
        return {row[0] for row in self.rows("SELECT id FROM blocks UNION SELECT id FROM gone_blocks")}

    def erased_since(self, revision: int) -> bool:
        """Whether an item was erased after this change of the cube."""
        sql = "SELECT EXISTS (SELECT 1 FROM changes WHERE seq > ? AND op = 'erase')"
        return bool(self.rows(sql, [revision])[0][0])

    def blocks_among(self, ids: Sequence[str]) -> set[str]:
        """Which of `ids` are there."""
        return {
            row[0]
            for part in chunks(ids)
            for row in self.rows(f"SELECT id FROM blocks WHERE id IN ({marks(part)})", part)
        }

    def doubled_items(self) -> list[str]:
        """Ids of items that are in more than one block of a model: none, if all is well."""
        rows = self.rows(
            "SELECT DISTINCT i.id FROM block_items p JOIN blocks k ON k.b = p.block JOIN items i ON i.n = p.item"
            " GROUP BY p.item, k.model HAVING count(*) > 1 ORDER BY i.id"
        )
        return [row[0] for row in rows]

    def block_sums(self) -> tuple[int, int, int]:
        """How many blocks there are, their tokens, and the bytes of their files."""
        sql = "SELECT count(*), coalesce(sum(tokens), 0), coalesce(sum(bytes), 0) FROM blocks"
        count, tokens, size_bytes = self.rows(sql)[0]
        return count, tokens, size_bytes

    def block_events(self, limit: int) -> list[BlockEvent]:
        """What happened to blocks, the newest first."""
        rows = self.rows(
            "SELECT at, op, block, reason, tokens, bytes FROM block_log ORDER BY seq DESC LIMIT ?", [limit]
        )
        return [BlockEvent(instant(at), *told) for at, *told in rows]

    def uses(self, items: Sequence[str], now: int) -> dict[str, float]:
        """How often items were used, as that counts now; those that never were are left out."""
        return {
            item: decayed(uses, at, now)
            for part in chunks(items)
            for item, uses, at in self.rows(
                "SELECT i.id, u.uses, u.at FROM items i JOIN item_uses u ON u.item = i.n"
                f" WHERE i.id IN ({marks(part)})",
                part,
            )
        }

    def hot_items(self, model: str, now: int, limit: int) -> list[tuple[str, float]]:
        """The items most used that a block of the model could hold and none does, with their uses, hottest first."""
        rows = self.rows(
            "SELECT i.id, u.uses, u.at FROM item_uses u JOIN items i ON i.n = u.item WHERE i.indexed = 1"
            " AND i.visibility = 'cube' AND (i.expires_at IS NULL OR i.expires_at > ? OR i.state = 'frozen')"
            f" AND NOT {_COVERED} ORDER BY u.at DESC LIMIT {USES_MAX}",
            [now, model],
        )
        hot = [(item, decayed(uses, at, now)) for item, uses, at in rows]
        return sorted(hot, key=lambda one: (-one[1], one[0]))[:limit]

    def used_last(self) -> tuple[int, float]:
        """The moment of the last use of an item, in microseconds, and the uses of all that were used then."""
        sql = "SELECT at, total(uses) FROM item_uses WHERE at = (SELECT max(at) FROM item_uses) GROUP BY at"
        rows = self.rows(sql)
        return (rows[0][0], rows[0][1]) if rows else (0, 0.0)

    def unfit_blocks(self, now: int) -> list[str]:
        """Ids of blocks with an item that is no longer live, or not for all, or that search cannot find.

        Its time may end without a write.
        """
        live = f"i.state IN ({marks(LIVE)}) AND i.visibility = 'cube'"
        lasting = "(i.expires_at IS NULL OR i.expires_at > ? OR i.state = 'frozen')"
        rows = self.rows(
            "SELECT id FROM blocks WHERE b IN (SELECT p.block FROM block_items p JOIN items i ON i.n = p.item"
            f" WHERE NOT ({live} AND {lasting} AND i.indexed = 1)) ORDER BY b",
            [*LIVE, now],
        )
        return [row[0] for row in rows]


def _stored(row: tuple[Any, ...], items: Sequence[tuple[int, str]], now: int) -> StoredBlock:
    b, id_, model, digest, seal, tokens, size_bytes, seconds, pinned, hits, used_at, made_at = row
    since = made_at if used_at is None else used_at
    info = BlockInfo(
        id=id_,
        items=tuple(item for _, item in items),
        model=model,
        tokens=tokens,
        bytes=size_bytes,
        seconds=seconds,
        pinned=bool(pinned),
        hits=decayed(hits, since, now),
        made_at=instant(made_at),
        used_at=None if used_at is None else instant(used_at),
    )
    return StoredBlock(b, info, digest, seal, tuple(n for n, _ in items))
