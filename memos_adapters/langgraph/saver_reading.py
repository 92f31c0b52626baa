"""Reads checkpoints of one thread out of one state of it: tuples, and what delta channels are made of.

It writes nothing and decides nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple, DeltaChannelHistory, PendingWrite

from memos_adapters.langgraph.saver_config import THREAD_PREFIX, Address, config_of, thread_address
from memos_adapters.langgraph.saver_rows import (
    CHANNEL,
    CHECKPOINT,
    EMPTY,
    WRITE,
    CheckpointRow,
    channel_names,
    channel_values,
    checkpoint_row,
    joined,
    pending_writes,
)
from memos_adapters.langgraph.saver_serde import Codec
from memos_engine import Blob, ThreadsView

_NEAR = 8
_NEAR_MAX = 256
"""Ancestors that are read at once: few at first, as a stored value is often near."""


@dataclass(frozen=True, slots=True)
class ThreadReader:
    """One thread, as of one moment."""

    view: ThreadsView
    address: Address
    """Whose thread is read; what else it names is the caller's."""
    codec: Codec

    def row(self, ns: str, checkpoint_id: str | None) -> CheckpointRow | None:
        """Return a stored checkpoint, the latest of the namespace for None; None when it is not there."""
        found = self.view.blobs(
            self.address.thread,
            CHECKPOINT,
            keys=[ns],
            versions=None if checkpoint_id is None else [checkpoint_id],
            newest=True,
            limit=1,
        )
        return checkpoint_row(found[0]) if found else None

    def rows(self) -> list[CheckpointRow]:
        """Return every stored checkpoint, the oldest first."""
        return [checkpoint_row(blob) for blob in self.view.blobs(self.address.thread, CHECKPOINT)]

    def whole(self, row: CheckpointRow) -> CheckpointTuple:
        """Return a checkpoint with its channels' values and pending writes.

        Raises:
            BadInput: something of it does not open.
        """
        thread = self.address.thread
        checkpoint = row.checkpoint(self.codec)
        names = channel_names(row.ns, checkpoint["channel_versions"])
        blobs = self.view.blobs(thread, CHANNEL, exactly=list(names)) if names else []
        checkpoint["channel_values"] = channel_values(blobs, names, self.codec)
        writes = self.view.blobs(thread, WRITE, keys=[joined(row.ns, row.id)])
        return CheckpointTuple(
            config_of(self.address.thread_id, row.ns, row.id),
            checkpoint,
            row.metadata,
            config_of(self.address.thread_id, row.ns, row.parent) if row.parent else None,
            pending_writes(writes, self.codec),
        )

    def stored(self, names: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return which of these versions of channels have a value."""
        if not names:
            return set()
        blobs = self.view.blobs(self.address.thread, CHANNEL, exactly=list(names), data=False)
        return {(blob.key, blob.version) for blob in blobs if blob.kind != EMPTY}

    def delta_history(
        self, ns: str, checkpoint_id: str | None, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return what each channel's value is rebuilt from: the nearest stored value before, and the writes since.

        Raises:
            BadInput: something of it does not open.
        """
        walk = _Walk(self, ns, list(dict.fromkeys(channels)))
        target = self.row(ns, checkpoint_id)
        lineage = self._lineage(target) if target is not None else iter(())
        size = _NEAR
        while walk.seeking and (rows := list(islice(lineage, size))):
            walk.visit(rows)
            size = min(2 * size, _NEAR_MAX)
        return walk.histories()

    def _lineage(self, row: CheckpointRow) -> Iterator[CheckpointRow]:
        """Ancestors, the nearest first; they are read some at a time, as most stand beside each other.

        A chain that bites its tail, as of a checkpoint that was stored anew under a descendant, ends.
        """
        seen = {row.id}
        near: dict[str, CheckpointRow] = {}
        size = _NEAR
        while row.parent and row.parent not in seen:
            if row.parent not in near:
                near = self._near(row, row.parent, size)
                size = min(2 * size, _NEAR_MAX)
            if row.parent not in near:
                return
            row = near[row.parent]
            seen.add(row.id)
            yield row

    def _near(self, row: CheckpointRow, parent: str, limit: int) -> dict[str, CheckpointRow]:
        """Checkpoints just before one, with its parent wherever that stands, if it is there."""
        found: list[CheckpointRow] = []
        if parent < row.id:
            blobs = self.view.blobs(
                self.address.thread, CHECKPOINT, keys=[row.ns], before=row.id, newest=True, limit=limit
            )
            found = [checkpoint_row(blob) for blob in blobs]
        if parent not in {each.id for each in found} and (far := self.row(row.ns, parent)) is not None:
            found.append(far)
        return {each.id: each for each in found}


@dataclass(slots=True)
class _Walk:
    """From a checkpoint back through its ancestors, for all channels at once."""

    reader: ThreadReader
    ns: str
    channels: list[str]
    seeking: set[str] = field(init=False)
    """Channels whose stored value was not met yet."""
    seeds: dict[tuple[str, str], str] = field(default_factory=dict)
    """Name of the nearest stored value -> channel."""
    chains: dict[str, list[str]] = field(init=False)
    """Checkpoints whose writes count, by channel, the nearest first."""

    def __post_init__(self) -> None:
        self.seeking = set(self.channels)
        self.chains = {channel: [] for channel in self.channels}

    def visit(self, rows: Sequence[CheckpointRow]) -> None:
        """Take the next ancestors: their writes, and stored values, which are from before the writes beside them."""
        names = [self._names(row) for row in rows]
        stored = self.reader.stored({name for each in names for name in each})
        for row, each in zip(rows, names, strict=True):
            for channel in self.seeking:
                self.chains[channel].append(row.id)
            met = {
                name: channel for name, channel in each.items() if channel in self.seeking and name in stored
            }
            self.seeds |= met
            self.seeking.difference_update(met.values())

    def _names(self, row: CheckpointRow) -> dict[tuple[str, str], str]:
        versions = row.checkpoint(self.reader.codec)["channel_versions"]
        return channel_names(self.ns, {name: versions[name] for name in self.seeking & versions.keys()})

    def histories(self) -> dict[str, DeltaChannelHistory]:
        """Return what was met, the oldest writes first."""
        reader = self.reader
        blobs = (
            reader.view.blobs(reader.address.thread, CHANNEL, exactly=list(self.seeds)) if self.seeds else []
        )
        seeds = channel_values(blobs, self.seeds, reader.codec)
        writes = self._writes()
        found = {}
        for channel in self.channels:
            chain = reversed(self.chains[channel])
            entry: DeltaChannelHistory = {
                "writes": [write for id_ in chain for write in writes.get((id_, channel), ())]
            }
            if channel in seeds:
                entry["seed"] = seeds[channel]
            found[channel] = entry
        return found

    def _writes(self) -> dict[tuple[str, str], list[PendingWrite]]:
        """The writes of every checkpoint of the walk, by checkpoint and channel."""
        ids = {joined(self.ns, id_): id_ for chain in self.chains.values() for id_ in chain}
        by_key: dict[str, list[Blob]] = {}
        if ids:
            for blob in self.reader.view.blobs(self.reader.address.thread, WRITE, keys=list(ids)):
                by_key.setdefault(blob.key, []).append(blob)
        found: dict[tuple[str, str], list[PendingWrite]] = {}
        for key, blobs in by_key.items():
            for write in pending_writes(blobs, self.reader.codec, self.channels):
                found.setdefault((ids[key], write[1]), []).append(write)
        return found


def matches(row: CheckpointRow, wanted: Mapping[str, Any] | None) -> bool:
    """Whether a checkpoint's metadata has every value that is wanted; `a.b` also means `b` of the object `a`."""
    return all(_found(row.metadata, name) == value for name, value in (wanted or {}).items())


def _found(metadata: Mapping[str, Any], name: str) -> Any:
    """The value of a name. None: it has none."""
    if name in metadata:
        return metadata[name]
    first, _, rest = name.partition(".")
    inner = metadata.get(first)
    return _found(inner, rest) if rest and isinstance(inner, Mapping) else None


def all_threads(view: ThreadsView) -> list[Address]:
    """Return every thread that has checkpoints, or had."""
    return [
        thread_address(info.name.removeprefix(THREAD_PREFIX)) for info in view.threads(prefix=THREAD_PREFIX)
    ]


def places(
    view: ThreadsView, among: Address | None, *, before: str | None, limit: int | None
) -> list[Address]:
    """Return where checkpoints stand, the newest first.

    Args:
        view: The threads as of one moment.
        among: A thread, in it a namespace and a checkpoint if it names them. None: every thread.
        before: Exclusive checkpoint id.
        limit: How many at most. None means all.
    """
    found = [
        Address(each.thread_id, blob.key, blob.version)
        for each in ([among] if among else all_threads(view))
        for blob in view.blobs(
            each.thread,
            CHECKPOINT,
            keys=None if each.ns is None else [each.ns],
            versions=None if each.checkpoint_id is None else [each.checkpoint_id],
            before=before,
            newest=True,
            limit=limit,
            data=False,
        )
    ]
    found.sort(key=lambda place: place.checkpoint_id or "", reverse=True)
    return found[:limit]
