"""`cube.kv`: JSON objects under a namespace and a key, in the cube's own database.

A namespace is a column, so prefix search, listing and an atomic batch need no second store; an
entry is an item, so it has versions, search and erasure like any other.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

from memos_engine.capture.validate import check_limit, check_text, check_ttl
from memos_engine.errors import AccessDenied, BadInput
from memos_engine.ids import new_id
from memos_engine.items import Json, KvDelete, KvEntry, KvPut, MemoryItem, Right
from memos_engine.kv.filter import field_tests, validated
from memos_engine.kv.reads import Found, Place, Wanted, kv_get, kv_namespaces, kv_search
from memos_engine.kv.values import check_label, check_namespace, fits, json_text, words_at
from memos_engine.kv.writes import KvWrite, kv_entries, kv_put_off, kv_sweep, kv_write
from memos_engine.shelf import Actor, TextShelf
from memos_engine.store.kv_rows import Among

if TYPE_CHECKING:
    from memos_engine.ports import Clock

ROWS_MAX = 10_000_000
"""Of a limit or an offset."""


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

    # Write

    def put(
        self,
        namespace: Sequence[str],
        key: str,
        value: Mapping[str, Json],
        *,
        index: Sequence[str] | Literal[False] | None = None,
        ttl: timedelta | None = None,
        embed: bool = True,
    ) -> None:
        """Write `value` under (namespace, key), durable when it returns.

        Args:
            namespace: Labels, from the widest to the narrowest.
            key: Unique within the namespace.
            value: A JSON object.
            index: Paths of the fields a query finds it by; None for the whole value, False for none.
            ttl: After which it is gone.
            embed: False: a query finds it by its words alone, and no model is needed.

        Raises:
            AccessDenied: this scope may not write here.
            BadInput: a name, the value, a path or the ttl cannot be taken.
            EmbedderUnavailable: the embedder's model cannot be had.
        """
        if isinstance(index, str):
            raise BadInput(f"index is the text {index!r}: hand over a list of paths, as in index=[{index!r}]")
        paths = index if index is None or index is False else tuple(index)
        self.batch([KvPut(check_namespace(namespace), key, value, paths, ttl, embed)])

    def delete(self, namespace: Sequence[str], key: str) -> None:
        """Erase the entry under (namespace, key), if there is one.

        Raises:
            AccessDenied: this scope may not write here.
            BadInput: a name cannot be taken.
        """
        self.batch([KvDelete(check_namespace(namespace), key)])

    def batch(
        self,
        operations: Sequence[KvPut | KvDelete],
        *,
        also: Sequence[tuple[KeyValues, Sequence[KvPut | KvDelete]]] = (),
    ) -> None:
        """Apply writes and erasures in one durable commit: all or none; the last one for a key wins.

        Args:
            operations: What to write here.
            also: What to write in other cubes, after it, in one commit each. All is checked, and all vectors are
                made, before the first commit; where a later one then fails, those before it stand.

        Raises:
            AccessDenied: this scope may not write here, or an entry is another's private one.
            BadInput: one of them cannot be taken; none was applied, in no cube.
            Conflict: an entry is frozen.
            EmbedderUnavailable: the embedder's model cannot be had.
        """
        for entries, _ in also:
            if not isinstance(entries, KeyValues):
                raise BadInput(
                    f"also names a {type(entries).__name__}: hand over pairs of a cube's kv and operations"
                )
        commits = [KeyValues._prepared(entries, asked) for entries, asked in ((self, operations), *also)]
        for commit in commits:
            commit()

    def sweep(self) -> int:
        """Erase the entries whose time is over, with their versions; returns how many.

        Reads pass them over anyway: this frees what they take, and lets nobody dig them out.

        Raises:
            AccessDenied: this scope may not write here.
        """
        return kv_sweep(self._shelf(), self._actor("write"))

    # Read

    def get(self, namespace: Sequence[str], key: str, *, refresh_ttl: bool = False) -> KvEntry | None:
        """The entry under (namespace, key), or None.

        Args:
            namespace: Its labels.
            key: Its key.
            refresh_ttl: Put off its end to its ttl from now, if it has one and this scope may write.

        Raises:
            AccessDenied: this scope may not read here.
            BadInput: a name cannot be taken.
        """
        return self.get_many([(namespace, key)], refresh_ttl=refresh_ttl)[0]

    def get_many(
        self, places: Sequence[tuple[Sequence[str], str]], *, refresh_ttl: bool = False
    ) -> list[KvEntry | None]:
        """The entry under each (namespace, key), or None, all of one moment.

        Args:
            places: Namespaces and keys.
            refresh_ttl: As in `get`.

        Raises:
            AccessDenied: this scope may not read here.
            BadInput: a name cannot be taken.
        """
        actor = self._actor("read")
        found = kv_get(self._shelf(), [_place(*place) for place in places], actor.view)
        if refresh_ttl:
            self._put_off(found)
        return [None if each is None else _entry(each) for each in found]

    def search(
        self,
        prefix: Sequence[str] = (),
        *,
        query: str | None = None,
        filter: Mapping[str, Json] | None = None,
        limit: int = 10,
        offset: int = 0,
        embed: bool = True,
        refresh_ttl: bool = False,
    ) -> list[KvEntry]:
        """Entries below a namespace prefix: by relevance to `query`, or newest change first.

        A query leaves none out: those that it cannot rank follow the others, newest change first.

        Args:
            prefix: Labels that the namespace starts with; `()` for all.
            query: Words or a question.
            filter: Fields the value must have, as `{"a.b": 1}`, `{"n": {"$gt": 3}}` or `{"$or": [...]}`.
                Operators: $eq $ne $gt $gte $lt $lte $in $nin $exists $contains $and $or.
            limit: At most so many.
            offset: Pass over so many first.
            embed: False: the query goes by words alone, and no model is needed.
            refresh_ttl: As in `get`, for the entries that are returned.

        Raises:
            AccessDenied: this scope may not read here.
            BadInput: the prefix, the query, the filter or a limit cannot be taken.
            EmbedderUnavailable: the embedder's model cannot be had.
            EmbedderMismatch: the vectors were made by another embedder.
        """
        actor = self._actor("read")
        condition = validated(filter or {})
        among = Among(check_namespace(prefix), actor.view, field_tests(condition))
        wanted = Wanted(
            None if query is None else check_text(query, "query"),
            condition,
            check_limit(limit, "limit", least=0, most=ROWS_MAX),
            check_limit(offset, "offset", least=0, most=ROWS_MAX),
            embed,
        )
        found = kv_search(self._shelf(), among, wanted)
        if refresh_ttl:
            self._put_off(found)
        return [_entry(each) for each in found]

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
        check_limit(limit, "limit", least=0, most=ROWS_MAX)
        check_limit(offset, "offset", least=0, most=ROWS_MAX)
        if max_depth is not None:
            check_limit(max_depth, "max_depth")
        fixed = start[: start.index("*")] if "*" in start else start
        found = {
            namespace[:max_depth]
            for namespace in kv_namespaces(self._shelf(), fixed, actor.view)
            if fits(namespace[: len(start)], start)
            and fits(namespace[max(len(namespace) - len(end), 0) :], end)
        }
        return sorted(found)[offset : offset + limit]

    # How

    def _prepared(self, operations: Sequence[KvPut | KvDelete]) -> Callable[[], None]:
        """The commit of operations, which were checked and have their vectors."""
        actor = self._actor("write")
        now = self._clock()
        last: dict[Place, KvWrite | None] = {}
        for operation in operations:
            if not isinstance(operation, (KvPut, KvDelete)):
                raise BadInput(f"an operation is a {type(operation).__name__}: make it a KvPut or a KvDelete")
            place = _place(operation.namespace, operation.key)
            last[place] = None if isinstance(operation, KvDelete) else self._write(operation, actor, now)
        shelf = self._shelf()
        return partial(kv_write, shelf, kv_entries(shelf, last), actor)

    def _write(self, put: KvPut, actor: Actor, now: datetime) -> KvWrite:
        text = json_text(put.value)
        item = MemoryItem(
            new_id(), self._cube, "note", text, namespace=tuple(put.namespace), key=put.key,
            value=cast("dict[str, Json]", json.loads(text)), session=actor.scope.session, author=actor.principal,
            expires_at=check_ttl(put.ttl, now), created_at=now, updated_at=now, origin="kv", ttl=put.ttl,
        )  # fmt: skip
        paths = ("$",) if put.index is None else put.index or ()
        words = words_at(item.value or {}, paths)
        if not words:
            return KvWrite(item, (), put.embed)
        return KvWrite(dataclasses.replace(item, text=words), paths, put.embed)

    def _put_off(self, found: Sequence[Found | None]) -> None:
        """Put off the ends of what was read; who may only read does not decide how long it stays."""
        try:
            self._actor("write")
        except AccessDenied:
            return
        kv_put_off(self._shelf(), found)


def _place(namespace: Sequence[str], key: str) -> Place:
    return check_namespace(namespace), check_label(key, "key")


def _entry(found: Found) -> KvEntry:
    item = found.item
    assert item.key is not None, "a key-value item"
    assert item.created_at is not None, "stored items have times"
    assert item.updated_at is not None, "stored items have times"
    return KvEntry(item.namespace, item.key, item.value or {}, item.created_at, item.updated_at, found.score)
