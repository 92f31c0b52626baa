"""Key-value entries on a shelf: read by key, list namespaces, and write many in one commit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeAlias

from memos_engine.embedding import NamedVectors
from memos_engine.errors import AccessDenied, Conflict
from memos_engine.items import MemoryItem
from memos_engine.ports import Entry
from memos_engine.shelf import Actor, TextShelf
from memos_engine.store.rows import View
from memos_engine.store.writing import CubeWriter

Place: TypeAlias = tuple[tuple[str, ...], str]
"""Namespace and key."""
KvWrite: TypeAlias = tuple[MemoryItem, tuple[str, ...]] | None
"""An entry and the paths of the fields a query finds it by; None erases."""


def kv_item(shelf: TextShelf, place: Place, view: View) -> MemoryItem | None:
    """The live item at a place, if `view` may see it."""
    with shelf.file.read() as reader:
        n = reader.kv_ref(*place)
        return None if n is None else reader.items([n], view).get(n)


def kv_namespaces(shelf: TextShelf, prefix: tuple[str, ...], view: View) -> list[tuple[str, ...]]:
    """Namespaces below `prefix` that hold a live entry."""
    with shelf.file.read() as reader:
        return reader.namespaces(prefix, view)


def kv_write(shelf: TextShelf, writes: Mapping[Place, KvWrite], actor: Actor) -> None:
    """Put items in place of those under the same key, and erase where there is None, in one durable commit."""
    puts = [(place, write) for place, write in writes.items() if write is not None]
    vectors = shelf.embedded([(item, tuple(f"{path}#" for path in paths)) for _, (item, paths) in puts])
    entries: dict[Place, Entry | None] = dict.fromkeys(writes)
    for (place, (item, paths)), named in zip(puts, vectors, strict=True):
        found = named if paths else NamedVectors()
        entries[place] = Entry(item, found, searchable=bool(paths and named))
    erased = [place for place, write in writes.items() if write is None]
    shelf.file.write(
        lambda writer: _apply(shelf, writer, entries, actor.view),
        principal=actor.principal,
        action="kv",
        detail=lambda count: {"keys": count},
    )
    if erased:
        shelf.file.checkpoint()


def _apply(shelf: TextShelf, writer: CubeWriter, entries: Mapping[Place, Entry | None], view: View) -> int:
    embedder = shelf.embedder_row(writer, [entry for entry in entries.values() if entry is not None])
    fresh: list[Entry] = []
    for place, entry in entries.items():
        n = writer.kv_ref(*place)
        if n is not None and writer.hidden(n, view):
            raise AccessDenied("another principal keeps this key private in this cube: choose another key")
        if n is not None and writer.frozen_among([n]):
            raise Conflict(
                f"the entry {place[1]!r} is frozen: thaw it first with update(id, state='activated')"
            )
        if entry is None:
            if n is not None:
                writer.erase([n])
        elif n is None:
            fresh.append(entry)
        else:
            writer.replace(n, _next_version(writer, n, entry), embedder)
    writer.add(fresh, embedder)
    return len(entries)


def _next_version(writer: CubeWriter, n: int, entry: Entry) -> Entry:
    """`entry` as the next version of item `n`: the item keeps its id, creation, author and visibility."""
    old = writer.item(n)
    item = dataclasses.replace(
        entry.item, id=old.id, created_at=old.created_at, version=old.version + 1, author=old.author,
        session=old.session, visibility=old.visibility,
    )  # fmt: skip
    return dataclasses.replace(entry, item=item)
