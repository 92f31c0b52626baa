"""What the engine needs from outside, as protocols. No port assumes a shared disk or a framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeAlias, runtime_checkable

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
    """Texts to vectors. Deterministic: one text has one vector under one fingerprint."""

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


class CubeSearch(Protocol):
    """One state of a cube as one viewer may search it: what recall asks of the store."""

    def nearest(self, row: NDArray[np.float32], limit: int) -> list[tuple[int, float]]:
        """Refs of the items nearest to `row` (D,), with their cosine, best first."""
        ...

    def keyword(self, text: str, limit: int) -> list[tuple[int, float]]:
        """Refs of the items that hold words of `text`, with their BM25 score (higher is better), best first."""
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
