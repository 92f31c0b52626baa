"""How a checkpoint, its channels' values and its pending writes stand as blobs of a thread.

| space        | key            | version             | kind       | data                                 |
|--------------|----------------|---------------------|------------|--------------------------------------|
| `checkpoint` | namespace      | checkpoint id       | serde's tag| JSON [parent, metadata], LF, the rest|
| `channel`    | ns + channel   | channel version     | serde's tag| the value                            |
| `write`      | ns + checkpoint| index ":" task id   | serde's tag| JSON [channel, task path], LF, value |

What the serializer made is what it encrypts; names, ids and both JSON heads are plain. It knows
neither a database nor what a checkpoint is for.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    PendingWrite,
)

from memos_adapters.langgraph.saver_serde import Codec
from memos_engine import BadInput, Blob

CHECKPOINT = "checkpoint"
CHANNEL = "channel"
WRITE = "write"
EMPTY = "empty"
"""Kind of a channel's version that has no value."""

_ENCODER = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A stored checkpoint without its channels' values."""

    ns: str
    id: str
    parent: str | None
    metadata: CheckpointMetadata
    kind: str
    payload: bytes

    def checkpoint(self, codec: Codec) -> Checkpoint:
        """Return the checkpoint; its `channel_values` are missing yet.

        Raises:
            BadInput: it does not open.
        """
        return cast("Checkpoint", codec.loads(self.kind, self.payload, f"checkpoint {self.id!r}"))


def checkpoint_blob(
    ns: str, checkpoint: Checkpoint, parent: str | None, metadata: CheckpointMetadata, codec: Codec
) -> Blob:
    """Return a checkpoint as a blob, without its channels' values.

    Raises:
        BadInput: its metadata is not JSON, or the serializer would pickle it.
    """
    rest = {name: value for name, value in checkpoint.items() if name != "channel_values"}
    kind, payload = codec.dumps(rest, f"checkpoint {checkpoint['id']!r}")
    return Blob(CHECKPOINT, ns, checkpoint["id"], kind, _head([parent, metadata]) + payload)


def checkpoint_row(blob: Blob) -> CheckpointRow:
    """Return what `checkpoint_blob` made."""
    (parent, metadata), payload = _split(blob.data)
    return CheckpointRow(blob.key, blob.version, parent, metadata, blob.kind, payload)


def channel_blobs(ns: str, values: Mapping[str, Any], versions: ChannelVersions, codec: Codec) -> list[Blob]:
    """Return the values that channels have as of new versions.

    Raises:
        BadInput: the serializer would pickle one.
    """
    return [
        Blob(
            CHANNEL,
            _packed(version),
            joined(ns, channel),
            *(codec.dumps(values[channel], f"channel {channel!r}") if channel in values else (EMPTY, b"")),
        )
        for channel, version in versions.items()
    ]


def channel_names(ns: str, versions: ChannelVersions) -> dict[tuple[str, str], str]:
    """Return the channel of each pair of key and version."""
    return {(_packed(version), joined(ns, channel)): channel for channel, version in versions.items()}


def channel_values(
    blobs: Iterable[Blob], names: Mapping[tuple[str, str], str], codec: Codec
) -> dict[str, Any]:
    """Return the values that channels have, those without one left out.

    Raises:
        BadInput: one does not open.
    """
    found = {names[blob.key, blob.version]: blob for blob in blobs if blob.kind != EMPTY}
    return {
        channel: codec.loads(found[channel].kind, found[channel].data, f"channel {channel!r}")
        for channel in names.values()
        if channel in found
    }


def write_blobs(
    key: str, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str, codec: Codec
) -> tuple[list[Blob], list[Blob]]:
    """Return a task's writes as blobs: those that replace earlier ones, and those that come once.

    Args:
        key: That of the checkpoint's writes.
        writes: Channels and values.
        task_id: The task's.
        task_path: The task's.
        codec: Makes the bytes.

    Raises:
        BadInput: the serializer would pickle one.
    """
    replacing, once = list[Blob](), list[Blob]()
    for position, (channel, value) in enumerate(writes):
        index = WRITES_IDX_MAP.get(channel, position)
        kind, payload = codec.dumps(value, f"the write to channel {channel!r}")
        blob = Blob(WRITE, key, f"{index}:{task_id}", kind, _head([channel, task_path]) + payload)
        (replacing if index < 0 else once).append(blob)
    return replacing, once


def pending_writes(
    blobs: Iterable[Blob], codec: Codec, channels: Collection[str] | None = None
) -> list[PendingWrite]:
    """Return the writes of one checkpoint in the order in which live execution applies them.

    Args:
        blobs: Those of the checkpoint's key.
        codec: Opens the values.
        channels: Those whose writes are wanted. None means all.

    Raises:
        BadInput: one does not open.
    """
    found = []
    for blob in blobs:
        (channel, task_path), payload = _split(blob.data)
        if channels is None or channel in channels:
            index, _, task_id = blob.version.partition(":")
            found.append(((task_path, task_id, int(index)), task_id, channel, blob.kind, payload))
    found.sort(key=lambda write: write[0])
    return [
        (task_id, channel, codec.loads(kind, payload, f"a write to channel {channel!r}"))
        for _, task_id, channel, kind, payload in found
    ]


def joined(ns: str, name: str) -> str:
    """Return a key for a name in a namespace: two of them are equal only if both parts are."""
    return f"{len(ns)}:{ns}{name}"


def _packed(version: str | float) -> str:
    """A channel's version as a name: text without its leading zeros, which are counted, or a number as it is."""
    if not isinstance(version, str):
        return repr(version)
    rest = version.lstrip("0")
    return f"{len(version) - len(rest)}:{rest}"


def _head(parts: list[Any]) -> bytes:
    """JSON in one line: it escapes control characters and lone surrogates.

    Raises:
        BadInput: a part is not JSON.
    """
    try:
        return _ENCODER.encode(parts).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as exc:
        raise BadInput(
            f"metadata {parts[1]!r:.200} is not JSON ({exc}): use str, numbers, bool, None, lists and dicts only"
        ) from exc


def _split(data: bytes) -> tuple[list[Any], bytes]:
    head, _, payload = data.partition(b"\n")
    return json.loads(head), payload
