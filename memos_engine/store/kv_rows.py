"""What key-value stores ask of a cube's truth: entries by key, below a prefix, newest first. In SQL."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memos_engine.items import Filter, Json
from memos_engine.ports import Refs
from memos_engine.store.questions import EmbedderRow, Questions, chunks, marks, shared, where
from memos_engine.store.rows import View, namespace_column, namespace_labels


@dataclass(frozen=True, slots=True)
class FieldTest:
    """A comparison of one field of a value that SQL may decide, or let too much pass."""

    path: str
    """`a.b` is the field `b` of `a`, or one whose name holds the dot."""
    operator: Literal["=", ">", ">=", "<", "<="]
    operand: str | int


@dataclass(frozen=True, slots=True)
class Among:
    """Which entries a read is about: below a prefix, live, seen by the view, and passing the tests."""

    prefix: tuple[str, ...]
    view: View
    tests: tuple[FieldTest, ...] = ()

    def sql(self) -> tuple[str, list[Any]]:
        """The condition on `items i`."""
        sql, values = where(self.view, Filter(namespace=self.prefix))
        for test in self.tests:
            paths = _json_paths(test.path)
            either = " OR ".join([f"json_extract(i.value, ?) {test.operator} ?"] * len(paths))
            sql += f" AND ({either})"
            values += [part for path in paths for part in (path, test.operand)]
        return sql, values


class KvQuestions(Questions):
    """Questions about key-value entries."""

    def kv_ref(self, namespace: tuple[str, ...], key: str) -> int | None:
        """Ref of the entry under (namespace, key), of any state."""
        found: int | None = self.value(
            "SELECT n FROM items WHERE namespace = ? AND key = ?", [namespace_column(namespace), key]
        )
        return found

    def kv_newest(self, among: Among, *, limit: int = -1, offset: int = 0) -> list[int]:
        """Refs of entries, the one changed last first; -1 for all."""
        sql, values = among.sql()
        rows = self.rows(
            f"SELECT n FROM items i WHERE {sql} ORDER BY updated_at DESC, n DESC LIMIT ? OFFSET ?",
            [*values, limit, offset],
        )
        return [row[0] for row in rows]

    def kv_indexed(self, among: Among, limit: int = -1) -> Refs:
        """Refs, ascending, of at most `limit` entries that stand in words or vectors; -1 for all."""
        sql, values = among.sql()
        rows = self.rows(f"SELECT n FROM items i WHERE {sql} AND i.indexed = 1 LIMIT ?", [*values, limit])
        return np.sort(np.fromiter((row[0] for row in rows), np.int64, len(rows)))

    def kv_among(self, refs: Refs, among: Among) -> NDArray[np.bool_]:
        """Which of `refs` (N,) are such entries."""
        sql, values = among.sql()
        found = [
            row[0]
            for part in chunks(refs.tolist())
            for row in self.rows(
                f"SELECT n FROM items i WHERE n IN ({marks(part)}) AND {sql}", [*part, *values]
            )
        ]
        return np.isin(refs, np.array(found, np.int64))

    def kv_values(self, refs: Sequence[int]) -> dict[int, dict[str, Json]]:
        """The values of entries, by ref."""
        return {
            n: json.loads(value)
            for part in chunks(refs)
            for n, value in self.rows(f"SELECT n, value FROM items WHERE n IN ({marks(part)})", part)
        }

    def kv_over(self, view: View, limit: int) -> list[int]:
        """Refs of entries whose time is over, in search or not; a frozen one waits until it is thawed."""
        sql, values = shared(view)
        rows = self.rows(
            f"SELECT n FROM items i WHERE expires_at <= ? AND key IS NOT NULL AND state <> 'frozen' AND {sql} LIMIT ?",
            [view.now, *values, limit],
        )
        return [row[0] for row in rows]

    def with_vectors(self, refs: Collection[int], embedder: EmbedderRow) -> set[int]:
        """Which of `refs` have a vector."""
        return {
            row[0]
            for part in chunks(list(refs))
            for row in self.rows(
                f"SELECT item FROM vectors WHERE item IN ({marks(part)}) AND embedder = ?",
                [*part, embedder.n],
            )
        }

    def namespaces(self, prefix: tuple[str, ...], view: View) -> list[tuple[str, ...]]:
        """Namespaces below `prefix` that hold a live entry."""
        sql, values = where(view, Filter(namespace=prefix))
        start = namespace_column(prefix)
        # from one namespace to the next by the index: their entries, far more, are not read
        following = (
            "SELECT namespace FROM items WHERE key IS NOT NULL AND namespace {} ORDER BY namespace LIMIT 1"
        )
        rows = self.rows(
            f"WITH RECURSIVE each (name) AS (SELECT * FROM ({following.format('>= ?')}) UNION ALL"
            f" SELECT ({following.format('> each.name')}) FROM each WHERE substr(each.name, 1, ?) = ?)"
            f" SELECT name FROM each WHERE EXISTS (SELECT 1 FROM items i WHERE i.namespace = each.name AND {sql})",
            [start, len(start), start, *values],
        )
        return [namespace_labels(row[0]) for row in rows]


def _json_paths(path: str) -> list[str]:
    """The places in a JSON text that a field's path may mean."""
    return list(dict.fromkeys([_json_path([path]), _json_path(path.split("."))]))


def _json_path(names: Iterable[str]) -> str:
    return "$" + "".join(f'."{name}"' for name in names)
