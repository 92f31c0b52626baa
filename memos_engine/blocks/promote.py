"""Makes blocks of passages that are much used and lets those go that are not, as `schedule/promotion.py` decides.

It gathers uses, blocks and what this machine was measured to take, and does what is decided, one block at a time,
so that a conversation with the same model never waits for more than one passage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from memos_engine.activation.folder import Bound, planned_bytes
from memos_engine.blocks.forming import HotPassage, passages_around
from memos_engine.blocks.head import head_of
from memos_engine.errors import BadInput, Conflict, ItemNotFound
from memos_engine.ids import new_id
from memos_engine.items import BlockEvent, BlockInfo, Job, NewJob
from memos_engine.schedule.promotion import (
    PROMOTE,
    Candidate,
    Decision,
    Machine,
    Price,
    Standing,
    decide,
)
from memos_engine.store.moments import micros

if TYPE_CHECKING:
    from memos_engine.blocks.met import Met
    from memos_engine.blocks.shelf import ActivationShelf
    from memos_engine.models.local import LocalModel
    from memos_engine.shelf import TextShelf
    from memos_engine.store.block_rows import StoredBlock
    from memos_engine.store.reading import CubeReader

__all__ = ["BUILDS_MAX", "TOKENS_MAX", "TOKENS_MIN", "look", "machine_of", "promote"]

TOKENS_MIN = 64
"""A shorter passage is read faster than it is moved and corrected."""
TOKENS_MAX = 3_840
"""A longer item stays text: it would not fit into a chat's usual budgets, passages included."""
BUILDS_MAX = 8
"""Blocks made in one go; a job that has more to do is followed by another."""
_HOT_MAX = 256
"""Items looked at in one go, the most used first."""


def look(
    activation: ActivationShelf, model: LocalModel, job: Job, met: Met, heartbeat: Callable[[], None]
) -> list[NewJob]:
    """Do an "activate" job of a cube, and return the one that follows where there may be more to do.

    Raises:
        MemosError: as `promote`.
    """
    now = activation.text.clock()
    with activation.text.file.read() as reader:
        used = reader.used_last()  # what is used from now on calls for another look
    events = promote(activation, model, heartbeat)
    met.looked(job.cube, job.key, used, now)
    more = sum(event.op == "promote" for event in events) == BUILDS_MAX
    return [NewJob(job.cube, "activate", job.key, priority=job.priority)] if more else []


def promote(
    activation: ActivationShelf,
    model: LocalModel,
    heartbeat: Callable[[], None] = lambda: None,
) -> tuple[BlockEvent, ...]:
    """Bring the blocks of a cube in line with how it is used; return what was done, in order.

    At most BUILDS_MAX blocks are made; called again, it goes on. What somebody changed meanwhile is passed over.

    Args:
        activation: The blocks of the cube.
        model: The one that is to make blocks; those of others may go too.
        heartbeat: Called before each block; may raise to end it all.

    Raises:
        BadInput: the model has no tokenizer, or a chat template in which memories have no place.
        ModelFailed: the network cannot be run.
        StoreError: a block cannot be kept.
    """
    now = activation.text.clock()
    digest = model.key.digest
    composes = (
        model.capabilities.composable
    )  # else at most one block would stand right, at the head of the memories
    with activation.text.file.read() as reader:
        stored = reader.blocks(micros(now))
        heats = _heats(reader, stored, digest, now)
        unfit = set(reader.unfit_blocks(micros(now))) if stored else set()
        passages = _hot_passages(activation.text, reader, stored, digest, now) if composes else []
    if not stored and not passages:
        return ()  # nothing to price, so nothing to measure
    machine = machine_of(model)
    standing = [
        _standing(info, heat, machine if info.model == digest else None, stale=info.id in unfit)
        for info, heat in heats
    ]
    made = (_candidate(one, activation.cube, model, machine) for one in passages)
    candidates = [candidate for candidate in made if candidate is not None]
    events: list[BlockEvent] = []
    builds = 0
    for decision in decide(candidates, standing, budget_bytes=activation.budgets.disk_bytes):
        heartbeat()
        if decision.op != "promote":
            events += _dropped(activation, decision, standing)
        elif builds < BUILDS_MAX:
            builds += 1
            events += _built(activation, model, decision)
    return tuple(events)


def machine_of(model: LocalModel) -> Machine:
    """What this machine was measured to do with a model; measures it the first time."""
    rates = model.rates
    return Machine(
        tokens_per_s=max(rates.prefill_tokens_per_s.values()),
        read_bytes_per_s=rates.cold_read_bytes_per_s or rates.read_bytes_per_s,
        copy_bytes_per_s=rates.copy_bytes_per_s,
        bytes_per_token=model.capabilities.bytes_per_token,
        head_tokens=len(head_of(model)),
    )


def _heats(
    reader: CubeReader, stored: Sequence[StoredBlock], digest: str, now: datetime
) -> list[tuple[BlockInfo, float]]:
    """Blocks and their expected uses: those of the block, or of its most used item where that is one of ours."""
    infos = [block.info for block in stored]
    uses = reader.uses([item for info in infos if info.model == digest for item in info.items], micros(now))
    return [
        (
            info,
            max([info.hits, *(uses[item] for item in info.items if info.model == digest and item in uses)]),
        )
        for info in infos
    ]


def _standing(info: BlockInfo, heat: float, machine: Machine | None, *, stale: bool) -> Standing:
    """A block with its price: without a machine that of another model, as it was noted where it was made."""
    price = (
        Price(info.seconds, 0.0, info.seconds) if machine is None else machine.price(info.tokens, info.bytes)
    )
    return Standing(
        block=info.id,
        items=info.items,
        uses=heat,
        tokens=info.tokens,
        bytes=info.bytes,
        price=price,
        pinned=info.pinned,
        stale=stale,
    )


def _hot_passages(
    text: TextShelf, reader: CubeReader, stored: Sequence[StoredBlock], digest: str, now: datetime
) -> list[HotPassage]:
    """Passages that might be worth a block; without an item used often enough nothing more is read."""
    # making a block takes at least what a use of it saves, so fewer uses never suffice
    hot = [one for one in reader.hot_items(digest, micros(now), _HOT_MAX) if one[1] > PROMOTE]
    if not hot:
        return []
    covered = {n for block in stored if block.info.model == digest for n in block.refs}
    turns = text.turns.follow(reader)
    return list(passages_around(reader, turns, hot, covered=covered, now=now))


def _candidate(hot: HotPassage, cube: str, model: LocalModel, machine: Machine) -> Candidate | None:
    """The passage with its size and price; None for one that is too short or too long for a block."""
    ids = model.encode(hot.passage.text, plain=True)
    # a block has to leave room for others, the question and the answer
    most = min(TOKENS_MAX, model.capabilities.context_tokens // 2)
    if not TOKENS_MIN <= len(ids) <= most:
        return None
    bound = Bound(cube, new_id(), hot.passage.digest)
    size_bytes = planned_bytes(model, ids, head_of(model), bound, scheme="int8")
    return Candidate(
        items=tuple(item.id for item in hot.passage.items),
        uses=hot.uses,
        tokens=len(ids),
        bytes=size_bytes,
        price=machine.price(len(ids), size_bytes),
    )


def _dropped(activation: ActivationShelf, decision: Decision, standing: list[Standing]) -> list[BlockEvent]:
    block = next(one for one in standing if one.block == decision.block)
    if not activation.drop([block.block], op=decision.op, reason=decision.reason):
        return []  # somebody else was faster
    at = activation.text.clock()
    return [BlockEvent(at, decision.op, block.block, decision.reason, block.tokens, block.bytes)]


def _built(activation: ActivationShelf, model: LocalModel, decision: Decision) -> list[BlockEvent]:
    """Make a block; nothing when its items were changed, hidden, erased or taken meanwhile, or there is no room."""
    if activation.covering(model.key.digest, decision.items):
        return []
    try:
        info = activation.build(model, decision.items, reason=decision.reason)
    except (BadInput, Conflict, ItemNotFound):  # what was decided no longer fits: the next look decides anew
        return []
    return [BlockEvent(info.made_at, "promote", info.id, decision.reason, info.tokens, info.bytes)]
