"""What the engine needs from outside, as protocols. No port assumes a shared disk or a framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from memos_engine.items import Job, JobKind, JobState, MemoryItem, NewJob

Vectors: TypeAlias = NDArray[np.float32]
"""Shape (N, D), float32, rows of unit length."""

CountTokens: TypeAlias = Callable[[str], int]
"""Tokens of a text for the model that will read it."""

Clock: TypeAlias = Callable[[], datetime]
"""The current moment, aware."""


@runtime_checkable
class Embedder(Protocol):
    """Texts to vectors. Deterministic: one text has one vector under one fingerprint.

    One whose model reads a question otherwise than what answers it may also have `embed_query(text)`, which
    returns the question's row (D,): `cube.kv.search` asks it.
    """

    @property
    def fingerprint(self) -> str:
        """Name that changes whenever the vectors would: model, revision, pooling, dtype."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one vector per text, in order: shape (len(texts), D), float32.

        Thread-safe. Must accept an empty sequence and any string without surrogates.
        """
        ...


class VectorIndex(Protocol):
    """Nearest rows by cosine: exact (`Page`) or approximate (`ChromaIndex`), rebuildable from the truth."""

    def add(self, ids: NDArray[np.int64], refs: NDArray[np.int64], rows: Vectors) -> None:
        """Take rows (N, D); `ids` ascend from call to call, `refs` name the item of each row."""
        ...

    def remove(self, ids: Sequence[int]) -> None:
        """Let rows go; an id that is not here is passed over."""
        ...

    def nearest(self, row: NDArray[np.float32], limit: int) -> list[tuple[int, float]]:
        """At most `limit` refs and the cosine of their best row with `row` (D,), best first, each ref once.

        Runs beside `add` and `remove` of other threads.
        """
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """An item about to be written, with what search needs of it."""

    item: MemoryItem
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Name -> row (D,). Empty: found by keyword only."""
    message_key: str | None = None
    """What makes an episode the same turn within its thread."""
    searchable: bool = True
    """False: neither words nor vectors, whatever its kind."""


Refs: TypeAlias = NDArray[np.int64]
"""Numbers of items within one cube's store."""
Scores: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """What capture must know of an episode that is stored already."""

    id: str
    text: str
    role: str | None
    at: datetime | None
    """None when it was added or changed by hand, without a time."""


@dataclass(frozen=True, slots=True)
class ThreadEnd:
    """The episode captured last in a thread."""

    id: str
    at: datetime | None
    """None when it was changed by hand to have no time."""
    topic: str | None
    """Id of its session's node. None when that was erased."""


@dataclass(frozen=True, slots=True)
class Postings:
    """What keyword search knows of a query's words."""

    size: int
    """How many items are searched, about."""
    held_by: Mapping[str, int]
    """How many of them hold each word of the query, about; 0 for a word that none holds."""
    found: Mapping[str, tuple[Refs, Scores]]
    """Of the words that tell items apart: the refs that hold one, and its BM25 there (higher is better)."""


class CubeSearch(Protocol):
    """One state of a cube as one viewer may search it: what recall asks of the store."""

    def nearest(self, row: Scores, limit: int) -> tuple[Refs, Scores]:
        """Refs of the items nearest to `row` (D,), with their cosine, best first."""
        ...

    def cosines(self, row: Scores, refs: Refs) -> Scores:
        """The cosine (N,) of each of `refs` with `row` (D,); 0 for what has no vector."""
        ...

    def postings(self, text: str) -> Postings:
        """Where the words of `text` stand, among the items that the viewer may see."""
        ...

    def around(self, refs: Refs, reach: int) -> Refs:
        """Refs (N, 2 * reach + 1) of the turns before and after each, itself in the middle; -1 where none is."""
        ...

    def said_by(self, refs: Refs, name: str | None) -> NDArray[np.bool_]:
        """Which of `refs` (N,) are turns of the speaker `name`; None for those said in the role `user`."""
        ...

    def within(self, since: datetime, until: datetime, limit: int) -> Refs:
        """Refs of the first `limit` items whose `event_at` is in the window, `until` exclusive."""
        ...

    def dated(self, refs: Refs, since: datetime, until: datetime) -> Refs:
        """Those of `refs` whose `event_at` is in the window, `until` exclusive."""
        ...

    def keyed(self, words: Sequence[str], limit: int) -> Refs:
        """Refs of entries whose key is one of `words`, whatever its case."""
        ...

    def related(self, refs: Sequence[int]) -> Sequence[tuple[int, int, float]]:
        """Pairs of a ref and another that speaks of the same concepts, with a weight."""
        ...

    def items(self, refs: Sequence[int]) -> Mapping[int, MemoryItem]:
        """The items of `refs` that the viewer may see."""
        ...

    def derived_from(self, refs: Sequence[int]) -> Mapping[int, Sequence[int]]:
        """For each of `refs` that was derived: the refs it was derived from."""
        ...


class JobQueue(Protocol):
    """Work to be done later, at least once: durable rows under leases. Thread-safe; any number of workers.

    A lease that ran out is lost for good, even when nobody has taken the job yet: its worker can
    neither renew it nor end the job. Per (cube, kind, key) at most one job waits, and of those that
    ended only the latest is kept.
    """

    def enqueue(self, jobs: Sequence[NewJob]) -> int:
        """Add jobs and return how many are new; one that waits already under its key is passed over.

        A running job does not count as waiting: what it has not seen yet must run once more.
        """
        ...

    def lease(
        self, worker: str, limit: int, lease_s: float, kinds: Sequence[JobKind] | None = None
    ) -> list[Job]:
        """Take due jobs (higher priority first, then older): at most one running job per cube.

        A job whose lease ran out is due again, with the lost attempt counted and told in `last_error`.

        Args:
            worker: Who takes them; two workers that run at the same time never share a name.
            limit: How many at most.
            lease_s: Seconds until they may be taken by another, unless renewed.
            kinds: Which kinds. None means all.
        """
        ...

    def heartbeat(self, job_id: int, worker: str, lease_s: float) -> bool:
        """Renew a lease from now on. False: it was lost, stop the work."""
        ...

    def finish(self, job_id: int, worker: str) -> bool:
        """End a job as done. False: the lease was lost, nothing changed."""
        ...

    def fail(self, job_id: int, worker: str, error: str, retry_after_s: float | None) -> bool:
        """Let a job wait for its next attempt, or end it as dead. False: the lease was lost, nothing changed.

        When another job of its key waits by now, the two become one: this job, with the other's
        payload and the higher priority.

        Args:
            error: Why it failed; never memory text.
            retry_after_s: None means no further attempt: the job is a dead letter.
        """
        ...

    def jobs(self, cube: str | None = None, states: Sequence[JobState] | None = None) -> list[Job]:
        """Jobs in order of id. None means every cube, and every state."""
        ...


@runtime_checkable
class Reranker(Protocol):
    """Scores texts against one query, each text read together with the query."""

    @property
    def fingerprint(self) -> str:
        """Name that changes whenever the scores would: model, revision, scale."""
        ...

    def scores(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one score per text, in order: shape (len(texts),), float32; higher is better.

        Any finite scale; scores of two queries need not be comparable. Thread-safe. Must accept an
        empty sequence and any string without surrogates.
        """
        ...


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a prompt for a chat model; nothing of it is stored."""

    role: Literal["system", "user", "assistant"]
    content: str


@runtime_checkable
class ChatModel(Protocol):
    """Messages to the text of one answer. No tools, no streaming."""

    def complete(
        self, messages: Sequence[ChatMessage], *, max_tokens: int = 512, temperature: float = 0.0
    ) -> str:
        """Return the model's answer to `messages`, as it came; it may be empty. Thread-safe.

        Args:
            messages: The prompt, oldest first; at least one.
            max_tokens: Where the answer is cut, in tokens of the model.
            temperature: 0 asks for the likeliest answer, which is still not always the same one.
        """
        ...


RewriteQuery: TypeAlias = Callable[[str], Sequence[str]]
"""A question to the queries that search should run for it as well; none is an answer too."""
