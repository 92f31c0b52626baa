"""Which blobs go when checkpoints go, so that what stays can still be loaded whole.

A `DeltaChannel` stores no value but now and then: it is rebuilt from the writes beside its ancestors,
back to one that has its value. So a checkpoint that stays keeps its ancestors back to the nearest one
that needs no history itself. Decides only; the caller removes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from memos_adapters.langgraph.saver_reading import ThreadReader
from memos_adapters.langgraph.saver_rows import (
    CHANNEL,
    CHECKPOINT,
    WRITE,
    CheckpointRow,
    channel_names,
    joined,
)

Place: TypeAlias = tuple[str, str]
"""Namespace and id of a checkpoint."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What a decision needs to know of a checkpoint."""

    parent: Place | None
    names: Collection[tuple[str, str]]
    """Keys and versions of its channels' values."""
    needs_history: bool
    """Whether a channel of it is rebuilt from its ancestors."""


def latest(rows: Iterable[CheckpointRow]) -> set[Place]:
    """Return the latest checkpoint of every namespace; `rows` come the oldest first."""
    return set({row.ns: row.id for row in rows}.items())


def with_history(facts: Mapping[Place, Fact], keep: Iterable[Place]) -> set[Place]:
    """Return what is to stay so that everything in `keep`, and what stays for it, can be rebuilt."""
    kept = set(keep)
    for place in list(kept):
        fact = facts.get(place)
        while fact is not None and fact.needs_history and fact.parent is not None:
            parent = fact.parent
            if parent in kept:  # its own history is kept too, or is about to be
                break
            fact = facts.get(parent)
            if fact is not None:
                kept.add(parent)
    return kept


def dropped(
    reader: ThreadReader, keep: Callable[[list[CheckpointRow]], Collection[Place]]
) -> list[tuple[str, str, str]]:
    """Return the names of all blobs of a thread that go.

    Args:
        reader: The thread as of one moment. What comes later is not named, so it stays.
        keep: Chooses what is to stay.
    """
    rows = reader.rows()
    chosen = keep(rows)
    if len(chosen) == len(rows):
        return []
    facts = _facts(reader, rows)
    kept = with_history(facts, chosen)
    gone = facts.keys() - kept
    needed = {name for place in kept for name in facts[place].names}
    values = {name for place in gone for name in facts[place].names} - needed
    writes = reader.view.blobs(
        reader.address.thread, WRITE, keys=[joined(ns, id_) for ns, id_ in gone], data=False
    )
    return [
        *((CHECKPOINT, ns, id_) for ns, id_ in gone),
        *((CHANNEL, key, version) for key, version in values),
        *((WRITE, blob.key, blob.version) for blob in writes),
    ]


def _facts(reader: ThreadReader, rows: list[CheckpointRow]) -> dict[Place, Fact]:
    delta = _delta_channels(rows)
    names = {
        (row.ns, row.id): channel_names(row.ns, row.checkpoint(reader.codec)["channel_versions"])
        for row in rows
    }
    differing = {
        place: {name for name, channel in found.items() if (place[0], channel) in delta}
        for place, found in names.items()
    }
    stored = reader.stored({name for found in differing.values() for name in found})
    return {
        (row.ns, row.id): Fact(
            (row.ns, row.parent) if row.parent else None,
            names[row.ns, row.id].keys(),
            needs_history=not differing[row.ns, row.id] <= stored,
        )
        for row in rows
    }


def _delta_channels(rows: Iterable[CheckpointRow]) -> set[tuple[str, str]]:
    """Namespace and name of every delta channel: LangGraph counts in metadata what it did not store."""
    found = set()
    for row in rows:
        counters = row.metadata.get("counters_since_delta_snapshot")
        if isinstance(counters, Mapping):
            found |= {(row.ns, channel) for channel in counters}
    return found
