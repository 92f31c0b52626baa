"""Turns that were read, and what the cube holds already, become the entries and edges to write. Pure.

The verbatim episode comes first; what the reader drafted from it points back (`derived_from`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memos_engine.capture.segment import continues
from memos_engine.errors import MessageConflict
from memos_engine.ids import new_id
from memos_engine.items import Edge, MemoryItem, Message, Scope, Source
from memos_engine.ports import Entry, StoredTurn, ThreadEnd
from memos_engine.times.wording import spoken

if TYPE_CHECKING:
    from memos_engine.capture.reader import Reading


@dataclass(frozen=True, slots=True)
class ReadTurn:
    """One message on its way into the cube."""

    message: Message
    """With `at` filled in, aware."""
    key: str | None
    """What makes it the same turn within its thread. None: always a new one."""
    reading: Reading
    vector: NDArray[np.float32] | None = None
    draft_vectors: Sequence[NDArray[np.float32]] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What one capture writes."""

    entries: tuple[Entry, ...]
    edges: tuple[Edge, ...]
    episodes: tuple[str, ...]
    derived: tuple[str, ...]
    last: ThreadEnd | None
    """The thread's end once this is written."""


@dataclass(slots=True)
class _Draftbook:
    """The plan while it grows."""

    cube: str
    author: str
    scope: Scope
    thread: str
    now: datetime
    concepts: dict[str, str]
    entries: list[Entry] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    episodes: list[str] = field(default_factory=list)
    derived: list[str] = field(default_factory=list)

    def node(self, kind: str, text: str) -> str:
        item = MemoryItem(new_id(), self.cube, kind, text, author=self.author, created_at=self.now,  # type: ignore[arg-type] # -- `concept` or `topic`
                          updated_at=self.now, origin="capture")  # fmt: skip
        self.entries.append(Entry(item, searchable=False))
        return item.id

    def mention(self, item: str, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.concepts:
                self.concepts[name] = self.node("concept", name)
            self.edges.append(Edge(item, "mentions", self.concepts[name]))


def message_keys(messages: Sequence[Message], *, whole_thread: bool) -> list[str | None]:
    """What makes each message the same turn when it is handed over again.

    A caller's id does. Without one, and only when the whole thread is handed over: role, text, time
    and the ordinal among equals.
    """
    seen: dict[str, int] = {}
    keys: list[str | None] = []
    for message in messages:
        if message.id is not None:
            keys.append(f"i:{message.id}")
        elif not whole_thread:
            keys.append(None)
        else:
            at = None if message.at is None else message.at.astimezone(UTC).isoformat()
            digest = hashlib.sha256(json.dumps([message.role, message.text, at]).encode()).hexdigest()
            seen[digest] = seen.get(digest, 0) + 1
            keys.append(f"h:{digest}:{seen[digest]}")
    return keys


def speaker_of(message: Message) -> str:
    """Who is shown as the speaker: the name, else the role."""
    return message.name or message.role


def names_of(turn: ReadTurn) -> tuple[str, ...]:
    """The people a turn is about: its speaker, when named, and those it mentions."""
    speaker = (turn.message.name,) if turn.message.name else ()
    return tuple(dict.fromkeys((*speaker, *turn.reading.people)))


def mentioned(turn: ReadTurn) -> tuple[str, ...]:
    """The people whose nodes a turn will be tied to: its speaker only where something is derived."""
    return names_of(turn) if turn.reading.drafts else turn.reading.people


def texts_of(message: Message, reading: Reading) -> list[str]:
    """What is embedded for a turn: the turn with its date and speaker, then each draft."""
    return [spoken(message.text, speaker_of(message), message.at), *(draft.text for draft in reading.drafts)]


@dataclass(frozen=True, slots=True)
class Slot:
    """What becomes of one message of a call: exactly one field is set."""

    stored: str | None = None
    """Id of the episode that holds it already."""
    new: int | None = None
    """Place of the message that is written for it: its own, or of its first equal in the call."""
    erased: str | None = None
    """Id of the message, which `forget` erased: it is not captured again."""


def settle(
    messages: Sequence[Message],
    keys: Sequence[str | None],
    stored: Mapping[str, StoredTurn],
    erased: Collection[str],
    thread: str,
) -> list[Slot]:
    """Decide for each message whether it is stored, erased, or new.

    Raises:
        MessageConflict: an id comes back with other content, from the store or within the call.
    """
    slots: list[Slot] = []
    first: dict[str, int] = {}
    for place, (message, key) in enumerate(zip(messages, keys, strict=True)):
        if key is None:
            slots.append(Slot(new=place))
        elif key in erased:
            slots.append(Slot(erased=message.id or key))
        elif key in stored:
            _check_same(thread, message, stored[key])
            slots.append(Slot(stored=stored[key].id))
        else:
            _check_same(thread, message, messages[first.setdefault(key, place)])
            slots.append(Slot(new=first[key]))
    return slots


def _check_same(thread: str, message: Message, earlier: StoredTurn | Message) -> None:
    if (message.text, message.role) != (earlier.text, earlier.role):
        raise MessageConflict(
            f"message id {message.id!r} of thread {thread!r} was captured with other content: give the new "
            "message an id of its own, or correct the memory with cube.update(item_id, text=...)"
        )


def plan(
    turns: Sequence[ReadTurn],
    *,
    cube: str,
    author: str,
    scope: Scope,
    thread: str,
    now: datetime,
    last: ThreadEnd | None,
    concepts: Mapping[str, str],
) -> Plan:
    """The entries and edges for new turns of one thread, in order.

    Args:
        turns: Turns that the cube does not hold yet.
        cube: Id of the cube.
        author: Principal that captures.
        scope: Under which scope.
        thread: The caller's name of the conversation.
        now: Moment of the capture.
        last: The thread's end so far.
        concepts: Ids of the concept nodes that exist for names the turns mention.
    """
    book = _Draftbook(cube, author, scope, thread, now, dict(concepts))
    topic = last.topic if last else None
    for turn in turns:
        at = turn.message.at
        assert at is not None, "the shelf fills in the time"
        if last is None or not continues(last.at, at) or topic is None:
            topic = book.node("topic", f"Conversation of {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
        episode = _episode(book, turn, at)
        book.edges.append(Edge(episode.id, "same_session", topic))
        if last is not None:
            book.edges.append(Edge(last.id, "next", episode.id))
        book.mention(episode.id, turn.reading.people)
        _derive(book, turn, episode)
        last = ThreadEnd(episode.id, at, topic)
    return Plan(tuple(book.entries), tuple(book.edges), tuple(book.episodes), tuple(book.derived), last)


def _episode(book: _Draftbook, turn: ReadTurn, at: datetime) -> MemoryItem:
    message = turn.message
    item = MemoryItem(
        new_id(), book.cube, "episode", message.text, role=message.role, speaker=speaker_of(message),
        thread=book.thread, session=book.scope.session, author=book.author, event_at=at, created_at=book.now,
        updated_at=book.now, sources=(Source(message_id=message.id, thread=book.thread),), origin="capture",
    )  # fmt: skip
    vectors = {} if turn.vector is None else {"turn": turn.vector}
    book.entries.append(Entry(item, vectors, turn.key))
    book.episodes.append(item.id)
    return item


def _derive(book: _Draftbook, turn: ReadTurn, episode: MemoryItem) -> None:
    vectors: list[NDArray[np.float32] | None] = [*turn.draft_vectors] or [None] * len(turn.reading.drafts)
    for draft, vector in zip(turn.reading.drafts, vectors, strict=True):
        named = " ".join(speaker_of(turn.message).split()) + ": "  # as the reader begins a draft
        item = replace(
            episode, id=new_id(), kind=draft.kind, text=draft.text.removeprefix(named), tier="user", role=None,
            event_at=draft.event_at or episode.event_at, confidence=draft.confidence, origin="reader:rules",
            sources=(replace(episode.sources[0], span=draft.span),),
        )  # fmt: skip
        book.entries.append(Entry(item, {} if vector is None else {"text": vector}))
        book.derived.append(item.id)
        book.edges.append(Edge(item.id, "derived_from", episode.id))
        book.mention(item.id, names_of(turn))


def digest(messages: Sequence[Message], thread: str) -> bytes:
    """What must be equal when an idempotency key comes back."""
    rows = [[m.role, m.text, m.id, m.name, None if m.at is None else m.at.isoformat()] for m in messages]
    return hashlib.sha256(json.dumps([thread, rows]).encode("utf-8", "surrogatepass")).digest()
