"""Background jobs, and cubes as the catalog knows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from memos_engine.items.memory import Json

JobKind = Literal["index", "organise", "expire", "activate"]
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
