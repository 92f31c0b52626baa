"""Which jobs a cube's state calls for. Pure: facts in, jobs out; enqueueing twice does no harm."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from memos_engine.items import NewJob, Revision

INDEX_ABOVE = 30_000
"""Vectors up to which an exact scan is as fast as the index (the crossover that was measured)."""
INDEX_BATCH = 1_000
"""Vectors outside the index that are worth a job; until then they are scanned exactly."""
ERASE_PRIORITY = 30
EXPIRE_PRIORITY = 20
INDEX_PRIORITY = 10
ORGANISE_PRIORITY = 0
ACTIVATE_PRIORITY = -10
"""Blocks only save time, and making them takes some of a model's."""
LOOK_AGAIN = timedelta(days=1)
"""After which blocks are looked at though nothing was used: they cool down, and a session ends, by time alone."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model that was used with the cube in this process and is still there."""

    digest: str
    """Of its key."""
    looked: tuple[int, float] | None = None
    """`CubeFacts.used` when it was last decided here which blocks of it are worth their place. None: never."""
    rested: timedelta = timedelta(0)
    """Time since then."""


@dataclass(frozen=True, slots=True)
class CubeFacts:
    """What policy looks at, as counts of one moment."""

    cube: str
    revision: Revision
    organised_to: Revision = 0
    """Revision up to which the tree was organised."""
    vectors: int = 0
    unindexed: int = 0
    """Vectors that the index does not hold yet."""
    erased_in_index: int = 0
    """Vectors that were erased and that the index still holds."""
    expired: int = 0
    """Items whose time is over and that are still in a live state."""
    blocks: int = 0
    """Blocks of any model."""
    used: tuple[int, float] = (0, 0.0)
    """When an item was last used in a prompt, in microseconds, and how often those used then were. (0, 0): never."""
    models: tuple[ModelFacts, ...] = ()


def jobs_due(
    facts: CubeFacts,
    *,
    index_above: int = INDEX_ABOVE,
    index_batch: int = INDEX_BATCH,
    look_rest: timedelta = timedelta(0),
) -> tuple[NewJob, ...]:
    """The jobs that are due, the most urgent first.

    Erased vectors leave the index whatever its size; new ones enter it in batches once the cube
    has more than `index_above` vectors. Blocks are looked at for each model that is at hand.

    Args:
        look_rest: Time between two looks at the blocks of one model, however much is used meanwhile.
    """
    due = []
    if facts.erased_in_index > 0:
        due.append(NewJob(facts.cube, "index", priority=ERASE_PRIORITY))
    if facts.expired > 0:
        due.append(NewJob(facts.cube, "expire", priority=EXPIRE_PRIORITY))
    batch = max(1, min(index_batch, index_above))  # a small limit must not wait for a large batch
    if facts.erased_in_index == 0 and facts.vectors > index_above and facts.unindexed >= batch:
        due.append(NewJob(facts.cube, "index", priority=INDEX_PRIORITY))
    if facts.revision > facts.organised_to:
        due.append(NewJob(facts.cube, "organise", priority=ORGANISE_PRIORITY))
    looks = [model.digest for model in facts.models if _look_due(facts, model, look_rest)]
    due += [NewJob(facts.cube, "activate", digest, priority=ACTIVATE_PRIORITY) for digest in looks]
    return tuple(due)


def _look_due(facts: CubeFacts, model: ModelFacts, rest: timedelta) -> bool:
    if facts.blocks == 0 and facts.used == (0, 0.0):
        return False
    if model.looked is None:
        return True
    return model.rested >= rest and (model.looked != facts.used or model.rested >= LOOK_AGAIN)
