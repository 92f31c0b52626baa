"""Turns that wait to be captured, durable in the engine's threads: those of one process, and what others left.

Each process writes a thread of its own, so that none waits for another; what it leaves behind when it dies
is found by the next.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from memos_adapters._capture import captured
from memos_engine import CubeNotFound, MemCube, MemOS, Message, Scope, ThreadEntry

PREFIX = "hooks/waiting/"
_IDLE = timedelta(days=1)
"""An empty journal that nobody wrote to for so long is a dead process's."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Where a turn belongs."""

    scope: Scope | None
    """Under whose identity it was said. None: the root's."""
    cube: str
    """Id of the cube it is for: one that was deleted is not made again for it."""
    cube_name: str
    thread: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A turn that is not captured yet."""

    of: Conversation
    message: Message
    """With an id."""

    def to_json(self) -> dict[str, Any]:
        """The turn as an entry of a thread."""
        return {"of": asdict(self.of), "message": _fields(self.message)}


@dataclass(frozen=True, slots=True)
class Kept:
    """A turn in a journal."""

    position: int
    message: Message
    """Of the time when it was said, by its own or by when it came here."""


class Journal:
    """The waiting turns of one process, and those that others left. Thread-safe; durable on return."""

    def __init__(self, memos: MemOS) -> None:
        """Nothing is written before the first turn waits."""
        self._memos = memos
        self._threads = memos.threads
        self._name = f"{PREFIX}{uuid4().hex}"
        self._written = False

    def append(self, turns: Mapping[str, Waiting]) -> dict[str, Kept]:
        """Keep turns by their keys, and return those that wait: others may have captured some since."""
        self._written = True
        entries = [turn.to_json() for turn in turns.values()]
        positions = self._threads.append(self._name, entries, ids=list(turns))
        found = self._threads.list(self._name, after=min(positions) - 1, before=max(positions) + 1)
        by_position = {entry.position: entry for entry in found}
        kept = ((key, by_position.get(at)) for key, at in zip(turns, positions, strict=True))
        return {key: _kept(entry) for key, entry in kept if entry is not None}

    def remove(self, positions: Sequence[int]) -> None:
        """Erase turns, from the disk too: they are captured, or their memory is gone."""
        if positions:
            self._threads.remove(self._name, positions)

    def close(self) -> None:
        """Erase the journal of this process when nothing waits in it."""
        if self._written and not self._threads.list(self._name, limit=1):
            self._threads.delete(self._name)

    def cube_of(self, of: Conversation) -> MemCube | None:
        """The cube that a conversation is for; None when it was deleted, though another took its name."""
        memos = self._memos if of.scope is None else self._memos.acting_as(of.scope)
        try:
            cube = memos.cube(of.cube_name, create=False)
        except CubeNotFound:
            return None
        return cube if cube.id == of.cube else None

    def recover(self) -> int:
        """Capture what other processes left behind, dead or alive, and return how many episodes are new.

        Raises:
            MemosError: some of it could not be captured; it waits on.
        """
        new, errors = 0, list[Exception]()
        for name, conversation, turns in self._left_behind():
            try:
                new += self._recovered(conversation, [kept.message for kept in turns])
                self._threads.remove(name, [kept.position for kept in turns])
            except Exception as exc:  # noqa: BLE001 -- the other conversations are recovered first
                errors.append(exc)
        if errors:
            raise errors[0]
        return new

    def _left_behind(self) -> Iterator[tuple[str, Conversation, list[Kept]]]:
        """The turns in the journals of other processes, by conversation, in order."""
        for info in self._threads.threads(prefix=PREFIX):
            if info.name == self._name:
                continue
            if not info.entries and datetime.now(UTC) - info.updated_at > _IDLE:
                self._threads.delete(info.name)
            turns: defaultdict[Conversation, list[Kept]] = defaultdict(list)
            for entry in self._threads.list(info.name):
                turns[_conversation(entry.value["of"])].append(_kept(entry))
            yield from ((info.name, conversation, found) for conversation, found in turns.items())

    def _recovered(self, of: Conversation, messages: Sequence[Message]) -> int:
        """Capture the turns of a conversation; those of a cube that was deleted are dropped with it."""
        cube = self.cube_of(of)
        return 0 if cube is None else captured(cube, messages, of.thread).new


def conversation_of(cube: MemCube, thread: str) -> Conversation:
    """Where the turns of a thread belong."""
    return Conversation(cube.scope, cube.id, cube.name, thread)


def keyed(of: Conversation, messages: Sequence[Message]) -> dict[str, Waiting]:
    """Turns of a conversation by what makes each the same when it is handed over again."""
    place = _digest(asdict(of))
    return {f"{place}/{_digest(_fields(message))}": Waiting(of, message) for message in messages}


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _fields(message: Message) -> dict[str, Any]:
    at = None if message.at is None else message.at.astimezone(UTC).isoformat()
    return {"role": message.role, "text": message.text, "id": message.id, "name": message.name, "at": at}


def _conversation(fields: Any) -> Conversation:
    scope = None if fields["scope"] is None else Scope(**fields["scope"])
    return Conversation(scope, fields["cube"], fields["cube_name"], fields["thread"])


def _kept(entry: ThreadEntry) -> Kept:
    fields: Any = entry.value["message"]
    at = entry.at if fields["at"] is None else datetime.fromisoformat(fields["at"])
    return Kept(entry.position, Message(**{**fields, "at": at}))
