"""Key-value entries on a shelf, written: many in one commit, put off by a read, swept when their time is over."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memos_engine.embedding import NamedVectors
from memos_engine.errors import AccessDenied, Conflict
from memos_engine.items import MemoryItem
from memos_engine.kv.reads import Found, Place
from memos_engine.ports import Entry
from memos_engine.shelf import Actor, TextShelf
from memos_engine.store.rows import View, is_live, to_micros
from memos_engine.store.writing import CubeWriter

SWEEP_BATCH = 1_000
PUT_OFF_STEP = 1_000_000
"""Microseconds of an entry's end that are worth a write, or a hundredth of its ttl where that is less: else every
read of a busy entry would wait for the disk."""


@dataclass(frozen=True, slots=True)
class KvWrite:
    """An entry about to be written."""

    item: MemoryItem
    paths: tuple[str, ...]
    """Of the fields a query finds it by, which hold a text; none: no query finds it."""
    embed: bool
    """False: by words alone."""


def kv_entries(shelf: TextShelf, writes: Mapping[Place, KvWrite | None]) -> dict[Place, Entry | None]:
    """What is to be written, with its vectors; None where an entry is to be erased."""
    puts = [(place, write) for place, write in writes.items() if write is not None]
    meant = [(place, write) for place, write in puts if write.embed and write.paths]
    vectors = shelf.embedded([(write.item, tuple(f"{path}#" for path in write.paths)) for _, write in meant])
    named = {place: found for (place, _), found in zip(meant, vectors, strict=True)}
    entries: dict[Place, Entry | None] = dict.fromkeys(writes)
    for place, write in puts:
        entries[place] = Entry(write.item, named.get(place, NamedVectors()), searchable=bool(write.paths))
    return entries


def kv_write(shelf: TextShelf, entries: Mapping[Place, Entry | None], actor: Actor) -> None:
    """Put entries in place of those under the same key, and erase where there is None, in one durable commit."""
    shelf.file.write(
        lambda writer: _apply(shelf, writer, entries, actor.view),
        principal=actor.principal,
        action="kv",
        detail=lambda count: {"keys": count},
    )
    if None in entries.values():
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
            if not entry.vectors:
                writer.drop_vectors(n, erased=False)
            writer.replace(n, _next_version(writer, n, entry), embedder)
    writer.add(fresh, embedder)
    return len(entries)


def _next_version(writer: CubeWriter, n: int, entry: Entry) -> Entry:
    """`entry` as the next version of item `n`: the item keeps its id, creation, author and visibility.

    One whose time was over was no longer there: it begins anew.
    """
    old = writer.item(n)
    item = dataclasses.replace(
        entry.item, id=old.id, version=old.version + 1, author=old.author, session=old.session,
        visibility=old.visibility, created_at=old.created_at if is_live(old, writer.now) else entry.item.created_at,
    )  # fmt: skip
    return dataclasses.replace(entry, item=item)


def kv_put_off(shelf: TextShelf, found: Sequence[Found | None]) -> None:
    """Let entries that were read end no earlier than their ttl from now."""
    now = to_micros(shelf.clock())
    assert now is not None, "a clock returns aware times"
    due = [each.ref for each in found if each is not None and _gains(each.item, now)]
    if due:
        shelf.file.touch(lambda writer: writer.put_off(due))


def _gains(item: MemoryItem, now: int) -> bool:
    """Whether putting off the end of an entry is worth a write."""
    ends = to_micros(item.expires_at)
    if item.ttl is None or ends is None or item.state == "frozen":
        return False
    ttl = round(item.ttl.total_seconds() * 1_000_000)
    return now + ttl - ends >= max(min(PUT_OFF_STEP, ttl // 100), 1)


def kv_sweep(shelf: TextShelf, actor: Actor) -> int:
    """Erase the entries whose time is over; returns how many."""
    done = 0
    while True:
        erased = shelf.file.write(
            lambda writer: len(writer.erase(writer.kv_over(actor.view, SWEEP_BATCH))[0]),
            principal=actor.principal,
            action="sweep",
            detail=lambda count: {"keys": count},
        )
        done += erased
        if erased < SWEEP_BATCH:
            break
    if done:
        shelf.file.checkpoint()
    return done
