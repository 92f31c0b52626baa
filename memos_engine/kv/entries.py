"""`cube.kv`: JSON objects under a namespace and a key, in the cube's own database.

A namespace is a column, so prefix search, listing and an atomic batch need no second store; an
entry is an item, so it has versions, search and erasure like any other.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, cast

from memos_engine.capture.validate import TEXT_BYTES_MAX, check_limit, check_name, check_text, check_ttl
from memos_engine.errors import BadInput, BadName, BadText
from memos_engine.ids import new_id
from memos_engine.items import Filter, Json, KvDelete, KvEntry, KvPut, MemoryItem, Right
from memos_engine.kv.filter import matches, validated
from memos_engine.kv.writes import KvWrite, Place, kv_item, kv_namespaces, kv_write
from memos_engine.retrieval import search as ranked
from memos_engine.store.paths import texts_at

if TYPE_CHECKING:
    from memos_engine.ports import Clock
from memos_engine.shelf import Actor, TextShelf

SCAN = 500  # entries read at a time while a filter looks for matches
QUERY_POOL = 10_000  # hits ranked by a query that a filter then thins out
LABELS_MAX = 32
DEPTH_MAX = 100
"""Levels of a value; JSON readers in other languages stop not far above."""


class KeyValues:
    """Key-value entries of one cube under one scope. Get it from `cube.kv`."""

    def __init__(
        self, cube: str, shelf: Callable[[], TextShelf], actor: Callable[[Right], Actor], clock: Clock
    ) -> None:
        """`actor` decides who acts and refuses who may not."""
        self._cube = cube
        self._shelf = shelf
        self._actor = actor
        self._clock = clock

    def put(
        self,
        namespace: Sequence[str],
        key: str,
        value: Mapping[str, Json],
        *,
        index: Sequence[str] | Literal[False] | None = None,
        ttl: timedelta | None = None,
    ) -> None:
        """Write `value` under (namespace, key), durable when it returns.

        Args:
            namespace: Labels, from the widest to the narrowest.
            key: Unique within the namespace.
            value: A JSON object.
            index: Paths of the fields a query finds it by; None for the whole value, False for none.
            ttl: After which it is gone.

        Raises:
            AccessDenied: this scope may not write here.
            BadInput: a name or the value cannot be taken.
        """
        if isinstance(index, str):
            raise BadInput(f"index is the text {index!r}: hand over a list of paths, as in index=[{index!r}]")
        paths = index if index is None or index is False else tuple(index)
        self.batch([KvPut(check_namespace(namespace), key, value, paths, ttl)])

    def get(self, namespace: Sequence[str], key: str) -> KvEntry | None:
        """The entry under (namespace, key), or None.

        Raises:
            AccessDenied: this scope may not read here.
        """
        actor = self._actor("read")
        item = kv_item(self._shelf(), (check_namespace(namespace), check_name(key, "key")), actor.view)
        return None if item is None else _entry(item, None)

    def delete(self, namespace: Sequence[str], key: str) -> None:
        """Erase the entry under (namespace, key), if there is one.

        Raises:
            AccessDenied: this scope may not write here.
        """
        self.batch([KvDelete(check_namespace(namespace), key)])

    def batch(self, operations: Sequence[KvPut | KvDelete]) -> None:
        """Apply writes and erasures in one durable commit: all or none; the last one for a key wins.

        Raises:
            AccessDenied: this scope may not write here.
            BadInput: one of them cannot be taken; none was applied.
        """
        actor = self._actor("write")
        now = self._clock()
        last: dict[Place, KvWrite] = {}
        for operation in operations:
            if not isinstance(operation, (KvPut, KvDelete)):
                raise BadInput(f"an operation is a {type(operation).__name__}: make it a KvPut or a KvDelete")
            place = (check_namespace(operation.namespace), check_name(operation.key, "key"))
            last[place] = None if isinstance(operation, KvDelete) else self._item(operation, actor, now)
        kv_write(self._shelf(), last, actor)

    def search(
        self,
        prefix: Sequence[str] = (),
        *,
        query: str | None = None,
        filter: Mapping[str, Json] | None = None,
        limit: int = 10,
        offset: int = 0,
    ) -> list[KvEntry]:
        """Entries below a namespace prefix: by relevance to `query`, or newest change first.

        Args:
            prefix: Labels that the namespace starts with; `()` for all.
            query: Words or a question.
            filter: Fields the value must have, as `{"a.b": 1}`, `{"n": {"$gt": 3}}` or `{"$or": [...]}`.
                Operators: $eq $ne $gt $gte $lt $lte $in $nin $exists $contains $and $or.
            limit: At most so many.
            offset: Pass over so many first.

        Raises:
            AccessDenied: this scope may not read here.
            BadInput: the prefix, the filter or a limit cannot be taken.
        """
        actor = self._actor("read")
        wanted = Filter(namespace=check_namespace(prefix))
        condition = validated(filter or {})
        check_limit(limit, "limit", least=0)
        check_limit(offset, "offset", least=0)
        if query is not None:
            pool = QUERY_POOL if condition else limit + offset
            hits = ranked(self._shelf(), check_text(query, "query"), actor, limit=max(pool, 1), wanted=wanted)
            found = [_entry(hit.item, hit.score) for hit in hits if matches(condition, hit.item.value or {})]
            return found[offset : offset + limit]
        return self._newest(wanted, condition, actor, limit, offset)

    def list_namespaces(
        self,
        *,
        prefix: Sequence[str] = (),
        suffix: Sequence[str] = (),
        max_depth: int | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[tuple[str, ...]]:
        """Namespaces that hold an entry, in order; `*` in a prefix or suffix stands for any label.

        Args:
            prefix: Labels it must start with.
            suffix: Labels it must end with.
            max_depth: Cut namespaces to so many labels.
            limit: At most so many.
            offset: Pass over so many first.

        Raises:
            AccessDenied: this scope may not read here.
            BadInput: a name or a limit cannot be taken.
        """
        actor = self._actor("read")
        start, end = check_namespace(prefix), check_namespace(suffix)
        check_limit(limit, "limit", least=0)
        check_limit(offset, "offset", least=0)
        if max_depth is not None:
            check_limit(max_depth, "max_depth")
        fixed = start[: start.index("*")] if "*" in start else start
        found = {
            namespace[:max_depth]
            for namespace in kv_namespaces(self._shelf(), fixed, actor.view)
            if _fits(namespace[: len(start)], start) and _fits(namespace[len(namespace) - len(end) :], end)
        }
        return sorted(found)[offset : offset + limit]

    def _newest(
        self, wanted: Filter, condition: Mapping[str, Json], actor: Actor, limit: int, offset: int
    ) -> list[KvEntry]:
        shelf = self._shelf()
        if not condition:
            items = shelf.select(
                wanted, actor.view, limit=limit, offset=offset, order="updated_at DESC, n DESC"
            )
            return [_entry(item, None) for item in items]
        found: list[KvEntry] = []
        for start in range(0, 2**62, SCAN):
            items = shelf.select(
                wanted, actor.view, limit=SCAN, offset=start, order="updated_at DESC, n DESC"
            )
            found += [_entry(item, None) for item in items if matches(condition, item.value or {})]
            if len(items) < SCAN or len(found) >= offset + limit:
                break
        return found[offset : offset + limit]

    def _item(self, put: KvPut, actor: Actor, now: datetime) -> KvWrite:
        text = _json_text(put.value)
        item = MemoryItem(
            new_id(), self._cube, "note", text, namespace=put.namespace, key=put.key,
            value=cast("dict[str, Json]", json.loads(text)), session=actor.scope.session, author=actor.principal,
            expires_at=check_ttl(put.ttl, now), created_at=now, updated_at=now, origin="kv",
        )  # fmt: skip
        if put.index is False:
            return item, ()
        paths = ("$",) if put.index is None else put.index
        return dataclasses.replace(item, text=_words_at(item.value or {}, paths) or text), paths


def _words_at(value: Mapping[str, Json], paths: Sequence[str]) -> str:
    """What keyword search reads of a value: the texts at its indexed paths."""
    found = "\n".join(text for path in paths for text in texts_at(value, path))
    return found.replace("\0", " ")  # a value may hold NULs; FTS5 would read no further


def check_namespace(namespace: Sequence[str]) -> tuple[str, ...]:
    """Return the namespace as a tuple of checked labels.

    Raises:
        BadName: it is one string, too deep, or a label cannot be taken.
    """
    if isinstance(namespace, str):
        raise BadName(
            f"namespace is the text {namespace[:40]!r}: hand over its labels, as in ('users', 'alice')"
        )
    if len(namespace) > LABELS_MAX:
        raise BadName(f"namespace has {len(namespace)} labels: at most {LABELS_MAX} are kept")
    return tuple(check_name(label, "a namespace label") for label in namespace)


def _fits(labels: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    return len(labels) == len(pattern) and all(
        wanted in ("*", label) for label, wanted in zip(labels, pattern, strict=True)
    )


def _json_text(value: Mapping[str, Json]) -> str:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise BadInput(f"value is a {type(value).__name__}: hand over a JSON object, a dict with str keys")
    try:
        text = json.dumps(dict(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise BadInput(
            f"value is no JSON object ({exc}): keep str, numbers, bool, None, list and dict only"
        ) from exc
    if _depth(value) > DEPTH_MAX:
        raise BadInput(f"value nests deeper than {DEPTH_MAX} levels: flatten it")
    if len(text.encode("utf-8", "replace")) > TEXT_BYTES_MAX:
        raise BadText(f"value has more than {TEXT_BYTES_MAX:,} bytes as JSON: split it")
    return check_text(text, "value")


def _depth(value: object) -> int:
    """Levels of objects and lists, level by level: no recursion that a hostile value could exhaust."""
    level, depth = [value], 0
    while level:
        depth += 1
        level = [
            inner
            for outer in level
            if isinstance(outer, (Mapping, list, tuple))
            for inner in (outer.values() if isinstance(outer, Mapping) else outer)
        ]
    return depth - 1


def _entry(item: MemoryItem, score: float | None) -> KvEntry:
    assert item.key is not None, "a key-value item"
    assert item.created_at is not None, "stored items have times"
    assert item.updated_at is not None, "stored items have times"
    return KvEntry(item.namespace, item.key, item.value or {}, item.created_at, item.updated_at, score)
