"""The model of a cube: plain dicts, assumed to be right; real cubes are tested beside it.

It reads turns with the engine's own reader and shares nothing else with it but values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal, TypeAlias

from memos_engine.capture.reader import MemReader, Turn
from memos_engine.errors import IdempotencyConflict, ItemNotFound, MessageConflict, VersionConflict
from memos_engine.govern.access import ROOT
from memos_engine.ids import new_id
from memos_engine.items import (
    CaptureResult,
    ItemVersion,
    Json,
    MemoryItem,
    Message,
    Source,
    State,
)
from memos_engine.ports import Clock, Embedder
from memos_engine.store.paths import texts_at
from memos_engine.times.wording import spoken

LIVE: tuple[State, ...] = ("generated", "activated", "frozen")
_WORD = re.compile(r"\w+")
_TurnKey: TypeAlias = tuple[str, Hashable]
"""A thread, and what makes a message the same one within it."""


@dataclass(slots=True)
class _Kept:
    """One item of a model cube, with its past."""

    item: MemoryItem
    past: list[ItemVersion] = field(default_factory=list)
    origins: frozenset[str] = frozenset()
    """Ids of what it was derived from."""
    turn: _TurnKey | None = None
    """Of the message that it holds."""
    said: tuple[str, str] = ("", "")
    """Role and text of that message, as they were captured."""
    found: bool = True
    """Whether searches find it while it lives."""


class ModelCube:
    """A cube as plain dicts: `MemCube` as it should be, to one who may see everything.

    Search is told as its exact parts, `nearest` and `holding`; revisions are not counted, and the
    nodes of the tree are not kept.
    """

    def __init__(
        self,
        cube: str,
        embedder: Embedder,
        clock: Clock,
        *,
        author: str = ROOT,
        new_id: Callable[[], str] = new_id,
    ) -> None:
        """An empty cube of this id.

        Args:
            cube: Id of the cube.
            embedder: Makes the vectors; another may be put in its place at any time.
            clock: The current moment.
            author: The principal that writes.
            new_id: Asked once per new item: in a capture for all episodes, then for all that is derived.
        """
        self.embedder = embedder
        self._cube = cube
        self._clock = clock
        self._author = author
        self._new_id = new_id
        self._kept: dict[str, _Kept] = {}
        self._turns: dict[_TurnKey, str] = {}
        self._forgotten: set[_TurnKey] = set()
        self._calls: dict[str, tuple[tuple[str, tuple[Message, ...]], CaptureResult]] = {}

    # Write

    def capture(
        self,
        messages: Sequence[Message],
        *,
        thread: str = "",
        idempotency_key: str | None = None,
        whole_thread: bool = False,
    ) -> CaptureResult:
        """Keep every message that is new, and what the reader drafts from it.

        Raises:
            MessageConflict: an id was captured before with other content.
            IdempotencyConflict: the key was used for other messages.
        """
        call = (thread, tuple(messages))
        if idempotency_key is not None and idempotency_key in self._calls:
            earlier, result = self._calls[idempotency_key]
            if earlier != call:
                raise IdempotencyConflict(f"{idempotency_key!r} was used for other messages: use a new key")
            return result
        turns = [
            None if key is None else (thread, key) for key in _turn_keys(messages, whole_thread=whole_thread)
        ]
        new = self._new_places(messages, turns)
        ids = {place: self._new_id() for place in new}
        names = tuple(message.name for message in messages if message.name)
        derived: list[str] = []
        for place, id_ in ids.items():
            at = messages[place].at or self._clock() + timedelta(microseconds=place)
            derived += self._say(id_, replace(messages[place], at=at), thread, turns[place], names)
        said = [
            ids[place] if turn is None else self._turns.get(turn)  # None: forgotten
            for place, turn in enumerate(turns)
        ]
        lost = tuple(message.id or "" for message, id_ in zip(messages, said, strict=True) if id_ is None)
        result = CaptureResult(tuple(id_ for id_ in said if id_), tuple(derived), len(ids), lost)
        if idempotency_key is not None:
            self._calls[idempotency_key] = call, result
        return result

    def add(self, text: str, *, ttl: timedelta | None = None, **fields: Any) -> MemoryItem:
        """Keep one item, with `fields` of `MemoryItem`."""
        item = self._made(self._new_id(), text, ttl, **fields)
        self._kept[item.id] = _Kept(item)
        return item

    def update(self, item_id: str, *, expect_version: int | None = None, **fields: Any) -> MemoryItem:
        """Make a new version with other fields of `MemoryItem`; `ttl` counts from now.

        Raises:
            ItemNotFound: it is not here.
            VersionConflict: it is at another version.
        """
        version = self.get(item_id).version
        if expect_version not in (None, version):
            raise VersionConflict(f"{item_id!r} is at version {version}: read it again")
        if "ttl" in fields:
            ttl = fields.pop("ttl")
            fields["expires_at"] = None if ttl is None else self._clock() + ttl
        return self._next(item_id, **fields)

    def forget(self, item_ids: Sequence[str], *, sources: bool = False) -> tuple[set[str], int]:
        """Erase items and what is derived only from them; return the ids, and how many old versions went.

        Raises:
            ItemNotFound: one is not here; nothing was erased.
        """
        chosen = {self.get(item_id).id for item_id in item_ids}
        if sources:
            chosen |= {origin for item_id in chosen for origin in self._kept[item_id].origins}
        while more := {
            item_id
            for item_id, kept in self._kept.items()
            if kept.origins and kept.origins <= chosen and item_id not in chosen
        }:
            chosen |= more
        gone = [self._kept.pop(item_id) for item_id in chosen]
        for kept in gone:
            if kept.turn is not None:
                self._forgotten.add(kept.turn)
                del self._turns[kept.turn]
        for kept in self._kept.values():
            kept.origins -= chosen
        return chosen, sum(len(kept.past) for kept in gone)

    def put(
        self,
        namespace: tuple[str, ...],
        key: str,
        value: Mapping[str, Json],
        *,
        index: Literal[False] | None = None,
        ttl: timedelta | None = None,
    ) -> str:
        """Keep a JSON object in place of what was there, found by its whole value or not; return the item's id."""
        text = "\n".join(texts_at(value, "$")) if index is None else json.dumps(value, separators=(",", ":"))
        item_id = self.entry(namespace, key)
        fields: dict[str, Any] = {"namespace": namespace, "key": key, "value": value, "origin": "kv"}
        if item_id is None:
            item_id = self.add(text, ttl=ttl, **fields).id
            self._kept[item_id].item = replace(self.get(item_id), ttl=ttl)
        else:
            kept = self._kept[item_id]
            kept.past.append(ItemVersion(kept.item, self._clock()))
            made = replace(self._made(item_id, text, ttl, **fields), ttl=ttl)
            there = kept.item.state in LIVE and self._in_time(kept.item)  # else it begins anew
            created = kept.item.created_at if there else made.created_at
            kept.item = replace(made, created_at=created, version=kept.item.version + 1)
        self._kept[item_id].found = index is None
        return item_id

    def delete(self, namespace: tuple[str, ...], key: str) -> None:
        """Erase the entry under (namespace, key), if there is one."""
        item_id = self.entry(namespace, key)
        if item_id is not None:
            del self._kept[item_id]

    def expire(self) -> None:
        """Make a new version, of state `expired`, of every live item whose time is over."""
        for item in self.items():
            if item.state in LIVE and not self._in_time(item):
                self._next(item.id, state="expired")

    # Read

    def items(self) -> list[MemoryItem]:
        """Every item of any state, oldest first."""
        return [kept.item for kept in self._kept.values()]

    def get(self, item_id: str) -> MemoryItem:
        """One item of any state.

        Raises:
            ItemNotFound: it is not here.
        """
        if item_id not in self._kept:
            raise ItemNotFound(f"no item {item_id!r}: it may have been erased")
        return self._kept[item_id].item

    def history(self, item_id: str) -> list[ItemVersion]:
        """Every version of an item, oldest first."""
        return [*self._kept[item_id].past, ItemVersion(self.get(item_id), None)]

    def entry(self, namespace: tuple[str, ...], key: str) -> str | None:
        """Id of the item under (namespace, key), of any state."""
        places = {(item.namespace, item.key): item.id for item in self.items() if item.key is not None}
        return places.get((namespace, key))

    def live(self) -> list[MemoryItem]:
        """The live items, newest first."""
        return [item for item in self.items() if item.state in LIVE and self._in_time(item)][::-1]

    def nearest(self, text: str) -> dict[str, float]:
        """The cosine of every live item's best vector with the text's."""
        live = [(item.id, said) for item in self._searched() for said in _embedded_texts(item)]
        rows = self.embedder.embed([text, *(said for _, said in live)])
        best: dict[str, float] = {}
        for (item_id, _), score in zip(live, (rows[1:] @ rows[0]).tolist(), strict=True):
            best[item_id] = max(score, best.get(item_id, -1.0))
        return best

    def holding(self, word: str) -> set[str]:
        """Ids of the live items that hold a word, which must have no other form."""
        return {
            item.id
            for item in self._searched()
            if word in _WORD.findall(f"{item.speaker or ''} {item.text}".casefold())
        }

    # How

    def _new_places(self, messages: Sequence[Message], turns: Sequence[_TurnKey | None]) -> list[int]:
        """The places of the messages to keep: neither kept nor forgotten before, each once."""
        said = {turn: self._kept[item_id].said for turn, item_id in self._turns.items()}
        new: list[int] = []
        for place, (message, turn) in enumerate(zip(messages, turns, strict=True)):
            if turn is None or turn not in said | dict.fromkeys(self._forgotten):
                new.append(place)
                if turn is not None:
                    said[turn] = (message.role, message.text)
            elif turn in said and said[turn] != (message.role, message.text):
                raise MessageConflict(f"message {message.id!r} was captured with other content")
        return new

    def _say(
        self, id_: str, message: Message, thread: str, turn: _TurnKey | None, names: tuple[str, ...]
    ) -> Iterator[str]:
        """Keep a message as an episode, then what is drafted from it; yield the ids of the latter."""
        now, speaker = self._clock(), message.name or message.role
        assert message.at is not None, "the caller fills in the time"
        episode = MemoryItem(
            id_, self._cube, "episode", message.text, role=message.role, speaker=speaker, thread=thread,
            author=self._author, event_at=message.at, created_at=now, updated_at=now,
            sources=(Source(message_id=message.id, thread=thread),), origin="capture",
        )  # fmt: skip
        self._kept[id_] = _Kept(episode, turn=turn, said=(message.role, message.text))
        if turn is not None:
            self._turns[turn] = id_
        for draft in MemReader().read(Turn(message.text, speaker, message.role, message.at, names)).drafts:
            text = draft.text.removeprefix(f"{' '.join(speaker.split())}: ")
            item = replace(
                episode, id=self._new_id(), kind=draft.kind, text=text, tier="user", role=None,
                speaker=speaker, event_at=draft.event_at or message.at, confidence=draft.confidence,
                sources=(replace(episode.sources[0], span=draft.span),), origin="reader:rules",
            )  # fmt: skip
            self._kept[item.id] = _Kept(item, origins=frozenset({id_}))
            yield item.id

    def _made(self, id_: str, text: str, ttl: timedelta | None, **fields: Any) -> MemoryItem:
        now = self._clock()
        return MemoryItem(
            id_, self._cube, fields.pop("kind", "note"), text, author=self._author,
            expires_at=None if ttl is None else now + ttl, created_at=now, updated_at=now, **fields,
        )  # fmt: skip

    def _next(self, item_id: str, **fields: Any) -> MemoryItem:
        kept, now = self._kept[item_id], self._clock()
        kept.past.append(ItemVersion(kept.item, now))
        kept.item = replace(kept.item, **fields, version=kept.item.version + 1, updated_at=now)
        return kept.item

    def _searched(self) -> Iterator[MemoryItem]:
        return (item for item in self.live() if self._kept[item.id].found)

    def _in_time(self, item: MemoryItem) -> bool:
        return item.expires_at is None or item.expires_at > self._clock()


def _embedded_texts(item: MemoryItem) -> Sequence[str]:
    if item.key is not None:
        return texts_at(item.value or {}, "$")
    return [spoken(item.text, item.speaker, item.event_at if item.kind == "episode" else None)]


def _turn_keys(messages: Sequence[Message], *, whole_thread: bool) -> Iterator[Hashable]:
    """What makes each message the same within its thread; None: nothing does."""
    ordinals: dict[Hashable, int] = {}
    for message in messages:
        said = (message.role, message.text, message.at)
        ordinals[said] = ordinals.get(said, 0) + 1
        yield message.id or ((*said, ordinals[said]) if whole_thread else None)
