"""What the verbs of a cube return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from memos_engine.items.memory import MemoryItem, Retriever, Revision


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
class ChatAnswer:
    """What a model said in a turn of `chat`, what it knew, and what was kept. None: the model does not tell."""

    text: str
    finish: Literal["stop", "length", "closed"]
    """The model or a stop string ended it; `max_new_tokens` or the model's context did; the listener left."""
    memories: tuple[str, ...] = ()
    """Ids of the items that stood in the prompt, in its order."""
    captured: CaptureResult | None = None
    """None: nothing was captured."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    """Tokens of the prompt that were not read again, exact and composed ones together."""
    completion_tokens: int | None = None
    method: str = "text"
    """How blocks were put together: `exact`, `rerotated`, `drift`, `full`, ...; `text`: none was used."""
    error_class: str = "exact"
    """How far this may be from reading everything as text: `exact` (float rounding), `rounded` (that of blocks
    kept in fewer bits), `small` (recomputed in part), `moderate` (moved to their positions)."""
    reason: str = ""
    """Why this method, in a sentence."""
    seconds_to_first_token: float | None = None
    """From the first step of the turn to the model's first token, recall included; capture comes after the last."""
    score: float = 0.0
    """0..1: the estimated probability that the cube holds what was asked."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What a `forget` erased: ids only, the content is gone."""

    items: tuple[str, ...]
    versions: int
    """Old versions erased with them."""
    revision: Revision
    purged: bool = False
    """The bytes have left the disk too. False: a long read holds the write-ahead log, and a later checkpoint does it;
    or an index holds a vector, and the next job renews it; or a system keeps the file of a block while it is in use,
    and the next forget, or the next opening of the cube, removes it; or a file that no row knows lies among those
    of blocks, or their folder cannot be read: `check` tells of it once it is a minute old."""


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
class TreeNode:
    """One node of a cube's tree, with what is below it."""

    id: str
    kind: Literal["topic", "concept", "fact", "preference", "episode"]
    text: str
    """A theme's is the names of its three most central concepts."""
    count: int
    """Items below that the viewer may see, each once, shown in `children` or not; 0 for an item."""
    children: tuple[TreeNode, ...] = ()
