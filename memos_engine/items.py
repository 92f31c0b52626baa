"""The values every stage speaks: frozen, typed, without behaviour that touches a disk.

This module knows no store, no model and no framework. Times are aware; everything stored is UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
class Reason:
    """Why a hit is there: which retriever ranked it where."""

    retriever: Retriever
    rank: int
    """1 is best."""
    score: float
    """The retriever's own score: the cosine for dense, BM25 for keyword, else what it added to the ranking."""
    detail: str = ""

    def __str__(self) -> str:
        tail = f": {self.detail}" if self.detail else ""
        return f"{self.retriever} #{self.rank} ({self.score:.2f}){tail}"


@dataclass(frozen=True, slots=True)
class Hit:
    """One item found, with its fused score and the reasons for it."""

    item: MemoryItem
    score: float
    """0..1. The best hit's is the estimated probability that the cube holds what was asked; the others' fall
    in proportion to what speaks for them."""
    why: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class ContextSource:
    """What a handle, the number at the head of a line, stands for in a context's text."""

    item: str
    message_id: str | None
    thread: str
    speaker: str | None
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Context:
    """Recalled memory, rendered for a prompt. Falsy when nothing relevant was found."""

    text: str = ""
    """Delimited, escaped lines, each with a handle; empty when nothing matched."""
    tokens: int = 0
    """Tokens of `text` by the counter in use; never more than the budget."""
    hits: tuple[Hit, ...] = ()
    """The hits that stand in `text`, best first."""
    sources: Mapping[int, ContextSource] = field(default_factory=dict)
    """Handle -> where the line comes from."""
    score: float = 0.0
    """0..1: the estimated probability that the cube holds what was asked; told of an empty context too."""
    understood: str = ""
    """What the query was taken to ask, in a line."""
    left_out: tuple[Hit, ...] = ()
    """The best hits that do not stand in `text`, best first: what nearly made it."""

    def __bool__(self) -> bool:
        return bool(self.text)


@dataclass(frozen=True, slots=True)
class CaptureResult:
    """What a `capture` made durable, in the order of the messages."""

    episodes: tuple[str, ...]
    """Id of the episode of each message, those captured before included."""
    derived: tuple[str, ...] = ()
    """Ids of the items the reader derived in this call."""
    new: int = 0
    """How many of the episodes this call wrote."""
    forgotten: tuple[str, ...] = ()
    """Ids of messages that were erased by `forget` before and are not captured again."""
    revision: Revision = 0


@dataclass(frozen=True, slots=True)
class Erased:
    """What a `forget` erased: ids only, the content is gone."""

    items: tuple[str, ...]
    versions: int
    """Old versions erased with them."""
    revision: Revision
    purged: bool = False
    """The bytes have left the disk too. False: a long read holds the write-ahead log, and a later checkpoint does it;
    or an index holds a vector, and the next job renews it."""


@dataclass(frozen=True, slots=True)
class ItemVersion:
    """One state of an item, current or past."""

    item: MemoryItem
    until: datetime | None
    """When the next version replaced it. None means it is the current one."""


@dataclass(frozen=True, slots=True)
class CubeStats:
    """Counts and sizes of one cube."""

    items: int
    by_kind: Mapping[str, int]
    vectors: int
    edges: int
    versions: int
    revision: Revision
    indexed_to: Revision
    """Last vector that the ANN index holds; 0 while the exact page serves alone."""
    disk_bytes: int
    page_bytes: int
    embedder: str | None
    """Fingerprint of the embedder. None means no vector was ever stored."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check` compared, and every disagreement it found."""

    checked: tuple[str, ...]
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Nothing disagreed."""
        return not self.problems


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


JobKind = Literal["index", "organise", "expire"]
JobState = Literal["waiting", "running", "done", "dead"]


@dataclass(frozen=True, slots=True)
class NewJob:
    """Work to be done later, as policy or a user asks for it."""

    cube: str
    kind: JobKind
    key: str = ""
    """Jobs of one cube, kind and key are the same work: at most one of them waits."""
    payload: Mapping[str, Json] = field(default_factory=dict)
    """What the handler needs beyond the cube: ids and numbers, never memory text."""
    priority: int = 0
    """Higher runs first."""
    not_before: datetime | None = None
    """None means at once."""


@dataclass(frozen=True, slots=True)
class Job:
    """One row of the job queue, as it was when it was read."""

    id: int
    """Rises with every job of the queue; never reused."""
    cube: str
    kind: JobKind
    key: str
    payload: Mapping[str, Json]
    priority: int
    attempts: int
    """How often it was leased, this time included."""
    not_before: datetime
    lease_until: datetime | None
    """Exclusive: from this moment another worker may take it. None means nobody holds it."""
    worker: str | None
    """Who holds it. None means nobody."""
    state: JobState
    last_error: str | None
    """Why the latest attempt failed. None means none has."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class CubeRow:
    """A cube as the catalog knows it."""

    id: str
    owner: str
    """The principal that has every right on it."""
    name: str
    """Unique among the owner's cubes."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class TreeNode:
    """One node of a cube's tree, with what is below it."""

    id: str
    kind: Literal["topic", "concept", "fact", "preference", "episode"]
    text: str
    """A theme's is the names of its three most central concepts."""
    count: int
    """Items below that the viewer may see, each once, shown in `children` or not; 0 for an item."""
    children: tuple[TreeNode, ...] = ()


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
