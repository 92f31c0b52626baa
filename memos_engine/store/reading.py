"""What a cube's truth can be asked, in one read transaction: items, search, graph, log."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from memos_engine.items import Change, Filter, ItemVersion, MemoryItem
from memos_engine.store.graph_rows import GraphQuestions
from memos_engine.store.questions import EmbedderRow, at, chunks, marks, shared, visible, where
from memos_engine.store.rows import (
    COLUMNS,
    LIVE,
    SELECT_ITEM,
    View,
    from_micros,
    namespace_column,
    namespace_labels,
    to_item,
)
from memos_engine.store.search_rows import SearchQuestions

__all__ = ["CubeReader", "EmbedderRow"]


class CubeReader(SearchQuestions, GraphQuestions):
    """Every question to one cube's database; those of words, vectors and graph are inherited."""

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

    def allowed(self, wanted: Filter, view: View) -> NDArray[np.int64] | None:
        """Refs of the indexed items that pass; None when every indexed item does, which costs nothing to find out."""
        if wanted == Filter() and not self._anything_hidden(view):
            return None
        sql, values = where(view, wanted)
        rows = self.rows(f"SELECT n FROM items i WHERE i.indexed = 1 AND {sql} ORDER BY n", values)
        return np.fromiter((row[0] for row in rows), np.int64)

    def _anything_hidden(self, view: View) -> bool:
        hidden = "EXISTS (SELECT 1 FROM items WHERE expires_at <= ? AND indexed = 1)"
        if view.principal is not None:
            hidden += " OR EXISTS (SELECT 1 FROM items WHERE visibility <> 'cube')"
        return bool(self.value(f"SELECT {hidden}", [view.now]))

    def hidden(self, n: int, view: View) -> bool:
        """Whether another principal keeps item `n` from this view, expiry aside."""
        sql, values = shared(view)
        return self.value(f"SELECT 1 FROM items i WHERE n = ? AND {sql}", [n, *values]) is None

    def in_search(self, n: int) -> bool:
        """Whether item `n` stands in words and vectors."""
        return bool(self.value("SELECT indexed FROM items WHERE n = ?", [n]))

    def identity(self, n: int) -> tuple[str, datetime, int]:
        """Id, moment of creation and version of item `n`."""
        id_, created_at, version = self.rows("SELECT id, created_at, version FROM items WHERE n = ?", [n])[0]
        return id_, at(created_at), version

    def kv_ref(self, namespace: tuple[str, ...], key: str) -> int | None:
        """Ref of the entry under (namespace, key), of any state."""
        found: int | None = self.value(
            "SELECT n FROM items WHERE namespace = ? AND key = ?", [namespace_column(namespace), key]
        )
        return found

    def namespaces(self, prefix: tuple[str, ...], view: View) -> list[tuple[str, ...]]:
        """Namespaces below `prefix` that hold a live entry."""
        sql, values = where(view, Filter(namespace=prefix))
        rows = self.rows(f"SELECT DISTINCT i.namespace FROM items i WHERE {sql}", values)
        return [namespace_labels(row[0]) for row in rows]

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
        return versions[::-1]

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

    def kinds(self) -> dict[str, int]:
        """How many items there are of each kind."""
        return dict(self.rows("SELECT kind, count(*) FROM items GROUP BY kind"))
