"""What a cube's truth can be asked, in one read transaction: items, search, graph, log."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memos_engine.items import Change, Filter, ItemVersion, MemoryItem
from memos_engine.store.block_rows import BlockQuestions
from memos_engine.store.graph_rows import GraphQuestions
from memos_engine.store.kv_rows import KvQuestions
from memos_engine.store.questions import EmbedderRow, chunks, marks, shared, shows, visible, where
from memos_engine.store.rows import (
    COLUMNS,
    LIVE,
    SELECT_ITEM,
    View,
    from_micros,
    to_item,
)
from memos_engine.store.search_rows import SearchQuestions

__all__ = ["CubeReader", "EmbedderRow"]

DENIED_MAX = 1_000
"""Items left out of a search one by one; more are answered by listing what may be seen."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a search may return: `allowed` (sorted refs; None for all), less `denied`."""

    allowed: NDArray[np.int64] | None
    denied: frozenset[int]


class CubeReader(SearchQuestions, GraphQuestions, KvQuestions, BlockQuestions):
    """Every question to one cube's database; those of words, vectors, graph, entries and blocks are inherited."""

    def ref(self, item_id: str, view: View) -> int | None:
        """The row number of an item, of any state and expired or not, that nobody keeps from `view`."""
        sql, values = shared(view)
        found: int | None = self.value(f"SELECT n FROM items i WHERE id = ? AND {sql}", [item_id, *values])
        return found

    def items(self, refs: Collection[int], view: View) -> dict[int, MemoryItem]:
        """The live items among `refs` that `view` may see."""
        found: dict[int, MemoryItem] = {}
        sql, values = visible(view)
        for part in chunks(list(refs)):
            rows = self.rows(
                f"{SELECT_ITEM} WHERE n IN ({marks(part)}) AND i.state IN ({marks(LIVE)}) AND {sql}",
                [*part, *LIVE, *values],
            )
            found.update((row[0], to_item(self.cube, row[1:])) for row in rows)
        return found

    def select(
        self, wanted: Filter, view: View, *, limit: int, offset: int = 0, order: str = "n DESC"
    ) -> list[MemoryItem]:
        """A page of items, newest first unless another order (a constant of the caller's code) is given."""
        sql, values = where(view, wanted)
        rows = self.rows(
            f"{SELECT_ITEM} WHERE {sql} ORDER BY {order} LIMIT ? OFFSET ?", [*values, limit, offset]
        )
        return [to_item(self.cube, row[1:]) for row in rows]

    def seen(self, wanted: Filter, view: View) -> Seen:
        """Which indexed items pass: all but a few where that is so, else a list."""
        if wanted == Filter():
            denied = self._denied(view)
            if len(denied) <= DENIED_MAX:
                return Seen(None, denied)
        sql, values = where(view, wanted)
        rows = self.rows(f"SELECT n FROM items i WHERE i.indexed = 1 AND {sql} ORDER BY n", values)
        return Seen(np.fromiter((row[0] for row in rows), np.int64, len(rows)), frozenset())

    def _denied(self, view: View) -> frozenset[int]:
        """Refs of indexed items that have expired, or that somebody keeps from this view."""
        kept, values = shared(view)
        rows = self.rows(
            # `UNION` would read the whole table in order to drop doubles
            "SELECT n FROM items WHERE expires_at <= ? AND indexed = 1 AND state <> 'frozen' UNION ALL "
            f"SELECT n FROM items i WHERE visibility <> 'cube' AND indexed = 1 AND NOT {kept}",
            [view.now, *values],
        )
        return frozenset(row[0] for row in rows)

    def hidden(self, n: int, view: View) -> bool:
        """Whether another principal keeps item `n` from this view, expiry aside."""
        sql, values = shared(view)
        return self.value(f"SELECT 1 FROM items i WHERE n = ? AND {sql}", [n, *values]) is None

    def frozen_among(self, refs: Iterable[int]) -> str | None:
        """Id of a frozen item among `refs`, if there is one."""
        for part in chunks(sorted(refs)):
            found: str | None = self.value(
                f"SELECT id FROM items WHERE state = 'frozen' AND n IN ({marks(part)}) LIMIT 1", part
            )
            if found is not None:
                return found
        return None

    def in_search(self, n: int) -> bool:
        """Whether item `n` stands in words and vectors."""
        return bool(self.value("SELECT indexed FROM items WHERE n = ?", [n]))

    def item(self, n: int) -> MemoryItem:
        """Item `n`, of any state, whoever may see it."""
        return to_item(self.cube, self.rows(f"{SELECT_ITEM} WHERE n = ?", [n])[0][1:])

    def history(self, item_id: str, view: View) -> list[ItemVersion]:
        """Every version of an item, oldest first; empty when it is not there or not seen."""
        n = self.ref(item_id, view)
        if n is None:
            return []
        row = self.rows(f"{SELECT_ITEM} WHERE n = ?", [n])[0]
        columns = dict(zip(COLUMNS, row[1:], strict=True))
        versions = [ItemVersion(to_item(self.cube, row[1:]), None)]
        old = "SELECT until, state FROM versions WHERE item = ? ORDER BY version DESC"
        for until, state in self.rows(old, [n]):
            columns.update(json.loads(state))
            item = to_item(self.cube, tuple(columns[column] for column in COLUMNS))
            versions.append(ItemVersion(item, from_micros(until)))
        return [version for version in versions[::-1] if shows(view, version.item)]

    # Log

    def revision(self) -> int:
        """Number of the last change; 0 for none."""
        return int(self.value("SELECT max(seq) FROM changes") or 0)

    def changes(self, *, since: int, limit: int = 10_000) -> list[Change]:
        """Entries of the change log after `since`, oldest first. An erased item keeps its id by its tombstone."""
        rows = self.rows(
            "SELECT c.seq, coalesce(i.id, t.id), c.op, c.at FROM changes c LEFT JOIN items i ON i.n = c.item"
            " LEFT JOIN tombstones t ON t.n = c.item WHERE c.seq > ? ORDER BY c.seq LIMIT ?",
            [since, limit],
        )
        return [Change(seq, item, op, from_micros(at)) for seq, item, op, at in rows]  # type: ignore[arg-type] # -- `at` is never NULL

    def meta(self, key: str) -> str | None:
        """A value of the cube's own notes."""
        found: str | None = self.value("SELECT value FROM meta WHERE key = ?", [key])
        return found

    def count(self, table: str) -> int:
        """Rows of a table (a constant of the caller's code)."""
        return int(self.value(f"SELECT count(*) FROM {table}"))

    def kinds(self, view: View) -> dict[str, int]:
        """How many items there are of each kind that nobody keeps from this view."""
        kept, values = shared(view)
        return dict(self.rows(f"SELECT kind, count(*) FROM items i WHERE {kept} GROUP BY kind", values))
