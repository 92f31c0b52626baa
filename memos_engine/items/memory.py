"""What a memory is: messages, items, edges, key-value entries, filters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

Kind = Literal[
    "episode", "fact", "preference", "skill", "tool", "document", "summary", "note", "concept", "topic"
]
Tier = Literal["working", "long_term", "user", "outer"]
State = Literal["generated", "activated", "archived", "merged", "expired", "frozen"]
Visibility = Literal["cube", "private", "session"]
EdgeKind = Literal[
    "parent",
    "next",
    "same_session",
    "mentions",
    "supersedes",
    "conflicts",
    "duplicates",
    "merged_from",
    "derived_from",
]
Right = Literal["read", "write", "owner"]
Retriever = Literal["dense", "keyword", "graph", "person", "time", "key", "rerank"]
SESSION_GAP = timedelta(hours=1)
"""Silence that ends a session. People who chat answer after minutes and take up a new matter after
hours or days; an hour lies between the two, and keeps a talk whole over a meal or a meeting."""
Revision: TypeAlias = int
"""Number of the last entry of a cube's change log; 0 for a cube never written."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Who is asking. Rights belong to the user, or to the agent when there is no user."""

    user: str | None = None
    agent: str | None = None
    session: str | None = None
    """Items of visibility `session` are seen only under the session that wrote them."""


@dataclass(frozen=True, slots=True)
class Message:
    """One thing that was said, as the caller's framework knows it."""

    role: str
    """`user`, `assistant`, `system`, `tool`, or any other word the caller uses."""
    text: str
    id: str | None = None
    """The caller's own id: captured once per (cube, thread, id). None means the caller has none."""
    name: str | None = None
    """The speaker's name. None means the role stands for the speaker."""
    at: datetime | None = None
    """When it was said, aware. None means the moment of capture."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where an item comes from. A field that does not apply is None."""

    message_id: str | None = None
    thread: str | None = None
    document: str | None = None
    url: str | None = None
    span: tuple[int, int] | None = None
    """Characters of the source's text, start inclusive, end exclusive."""


@dataclass(frozen=True, slots=True)
class MemoryItem:
    """One memory. `episode` items hold a turn verbatim; others are written or derived."""

    id: str
    """UUIDv7; a dump keeps it, so a loaded copy of a cube has the same."""
    cube: str
    """Id of the cube it lives in."""
    kind: Kind
    text: str
    tier: Tier = "long_term"
    namespace: tuple[str, ...] = ()
    """Path of a key-value entry; empty for all other items."""
    key: str | None = None
    """Key within the namespace. None means it is no key-value entry."""
    value: Mapping[str, Json] | None = None
    """JSON object of a key-value entry."""
    role: str | None = None
    speaker: str | None = None
    thread: str = ""
    session: str | None = None
    """`Scope.session` under which it was written."""
    author: str = ""
    """Principal that wrote it, as `user:<name>` or `agent:<name>`."""
    event_at: datetime | None = None
    """When it happened. None means unknown."""
    valid_from: datetime | None = None
    """Inclusive. None means always."""
    valid_to: datetime | None = None
    """Exclusive. None means for ever."""
    expires_at: datetime | None = None
    """From this moment it is no longer recalled. None means never."""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    state: State = "activated"
    version: int = 1
    confidence: float = 1.0
    """0..1; 1 for what was said or written verbatim."""
    priority: float = 0.0
    tags: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    visibility: Visibility = "cube"
    origin: str = "user"
    """What wrote it: `user`, `capture`, `reader:<name>`, `organise`, `archive`."""
    ttl: timedelta | None = None
    """How long after a read that refreshes a key-value entry it ends at the earliest. None: reads put off nothing."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A typed, directed link between two items of one cube."""

    source: str
    kind: EdgeKind
    target: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the change log: what happened to which item."""

    seq: Revision
    item: str
    op: Literal["add", "update", "erase", "expire", "link"]
    at: datetime


@dataclass(frozen=True, slots=True)
class Filter:
    """Which items a read is about. A field left at its default does not restrict."""

    kinds: tuple[Kind, ...] = ()
    namespace: tuple[str, ...] | None = None
    """Prefix of the namespace; `()` is every key-value entry, None is every item."""
    thread: str | None = None
    speaker: str | None = None
    since: datetime | None = None
    """Inclusive, on `event_at`."""
    until: datetime | None = None
    """Exclusive, on `event_at`."""
    states: tuple[State, ...] = ("generated", "activated", "frozen")
    """The states that recall sees, unless others are asked for."""


@dataclass(frozen=True, slots=True)
class KvEntry:
    """A JSON object under a namespace and a key."""

    namespace: tuple[str, ...]
    key: str
    value: Mapping[str, Json]
    created_at: datetime
    updated_at: datetime
    score: float | None = None
    """At most 1, higher is better: the cosine of the entry's best vector with the query, raised by the share
    of the query's words that the entry holds. None when no query ranked it."""


@dataclass(frozen=True, slots=True)
class KvPut:
    """Write a JSON object, in place of the one under the same namespace and key."""

    namespace: tuple[str, ...]
    key: str
    value: Mapping[str, Json]
    index: tuple[str, ...] | Literal[False] | None = None
    """Paths of the fields a query finds it by, as `a.b` or `a[*].c`. None: the whole value. False: none."""
    ttl: timedelta | None = None
    """After which it is gone. None: never."""
    embed: bool = True
    """False: a query finds it by its words alone, and no model is asked for its vectors."""


@dataclass(frozen=True, slots=True)
class KvDelete:
    """Erase what stands under a namespace and a key, if anything."""

    namespace: tuple[str, ...]
    key: str
