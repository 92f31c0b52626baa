"""The messages of one conversation, as JSON, over the engine's threads: binary data apart, by its hash.

A chat history or chat store of a framework is this and a conversion. It recalls nothing: what is to be
remembered goes to a cube.

Bytes belong to the message that brought them: they come and leave with it, so no reader ever meets a
message without its bytes, and what two calls do at once never takes a third's away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast
from uuid import uuid4

from memos_adapters._media import JsonValue, digests, lift, lower
from memos_engine import BadInput, Blob, ThreadEntry, Threads, ThreadsView

_MEDIA = "media"


@dataclass(frozen=True, slots=True)
class Logged:
    """One message of a log."""

    position: int
    """Rises with every append; never reused while the log is there."""
    id: str | None
    """The framework's own id, unique within the log. None means it has none."""
    value: dict[str, JsonValue]


class ChatLog:
    """One conversation's messages in order. Thread-safe; durable when a call returns."""

    def __init__(self, threads: Threads, thread: str) -> None:
        """Speak for `thread`, which is made by its first message."""
        self._threads = threads
        self._thread = thread

    def append(
        self,
        messages: Sequence[Mapping[str, JsonValue]],
        *,
        ids: Sequence[str | None] | None = None,
        removing: Sequence[int] = (),
    ) -> list[int]:
        """Add messages at the end, all or none, and return their positions.

        Args:
            messages: JSON objects.
            ids: The framework's id of each. A message whose id is there already is not added again.
            removing: Positions of messages that leave with their bytes, in the same commit; ids of theirs
                may come back.

        Raises:
            Conflict: an id is there with other content.
            BadInput: a message is not JSON, or there is not one id for each.
        """
        names = [None] * len(messages) if ids is None else list(ids)
        if len(names) != len(messages):
            raise BadInput(f"{len(messages)} messages came with {len(names)} ids: hand over one for each")
        entries, blobs = [], list[Blob]()
        for name, message in zip(names, messages, strict=True):
            entry, media = _entry(message, name or uuid4().hex)
            entries.append(entry)
            blobs += media
        held = _all_held(self._at(removing))
        return self._threads.append(
            self._thread, entries, ids=names, blobs=blobs, removing=removing, removing_blobs=held
        )

    def replace(self, position: int, message: Mapping[str, JsonValue]) -> None:
        """Put another message in the place of one; its id stays.

        Raises:
            NotFound: there is none at that position.
            BadInput: the message is not JSON.
        """
        old = self._at([position])
        entry, blobs = _entry(message, uuid4().hex)
        if blobs and old:
            self._threads.put_blobs(self._thread, if_absent=blobs)
        self._threads.replace(self._thread, position, entry)
        if held := _all_held(old):
            self._threads.remove_blobs(self._thread, named=held)

    def messages(self, *, after: int = 0, limit: int | None = None, newest: bool = False) -> list[Logged]:
        """The messages in order, or the last ones first; those behind position `after` alone."""

        def work(view: ThreadsView) -> list[Logged]:
            entries = view.list(self._thread, after=after, limit=limit, newest=newest)
            held = _all_held(entries)
            found = view.blobs(self._thread, named=held) if held else []
            media = {blob.key: blob.data for blob in found}
            return [Logged(entry.position, entry.id, _message(entry, media)) for entry in entries]

        return self._threads.read(work)

    def remove(self, positions: Sequence[int]) -> int:
        """Erase messages with their bytes, from the disk too, and return how many there were."""
        return self._threads.remove(self._thread, positions, blobs=_all_held(self._at(positions)))

    def clear(self) -> None:
        """Erase the whole log, from the disk too."""
        self._threads.delete(self._thread)

    def _at(self, positions: Sequence[int]) -> list[ThreadEntry]:
        wanted = set(positions)
        if not wanted:
            return []
        span = self._threads.list(self._thread, after=max(min(wanted) - 1, 0), before=max(wanted) + 1)
        return [entry for entry in span if entry.position in wanted]


def _entry(message: Mapping[str, JsonValue], owner: str) -> tuple[dict[str, JsonValue], list[Blob]]:
    """A message as its row, and its bytes as rows that belong to it."""
    try:
        value, media = lift(dict(message))
    except RecursionError as exc:
        raise BadInput("a message is nested too deeply: hand over one of fewer than 400 levels") from exc
    entry: dict[str, JsonValue] = {"message": value}
    if media:
        entry["bytes_of"] = owner
    return entry, [Blob(_MEDIA, digest, owner, "", data) for digest, data in media.items()]


def _message(entry: ThreadEntry, media: Mapping[str, bytes]) -> dict[str, JsonValue]:
    return cast("dict[str, JsonValue]", lower(entry.value["message"], media))


def _all_held(entries: Sequence[ThreadEntry]) -> list[tuple[str, str, str]]:
    """Space, key and version of the bytes that messages own."""
    return sorted({name for entry in entries for name in _held(entry)})


def _held(entry: ThreadEntry) -> Iterator[tuple[str, str, str]]:
    if (owner := entry.value.get("bytes_of")) is not None:
        for digest in digests(entry.value["message"]):
            yield _MEDIA, digest, str(owner)
