"""How a block comes about: its passage is encoded, its file written, and then its row, if all still fits.

The row decides. It is entered in one transaction that looks again at everything that the file was made
from: so a crash leaves at most a file that no row knows, and a change meanwhile leaves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memos_engine.activation import folder
from memos_engine.activation.codec import SCHEMES, Scheme
from memos_engine.activation.eviction import Held, score, victims
from memos_engine.activation.folder import Bound
from memos_engine.blocks.head import head_of
from memos_engine.blocks.standing import for_all, is_fresh
from memos_engine.errors import BadInput, BadLimit, Conflict, CubeNotFound, ItemNotFound, StoreError
from memos_engine.ids import new_id
from memos_engine.items import BlockInfo
from memos_engine.recall.passages import Passage, passage_of
from memos_engine.store.block_files import block_path, seal_of
from memos_engine.store.block_rows import BlockQuestions, StoredBlock
from memos_engine.store.moments import instant, micros
from memos_engine.store.sqlite import CUBE_DATABASE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from memos_engine.models.local import LocalModel
    from memos_engine.shelf import TextShelf
    from memos_engine.store.writing import CubeWriter

__all__ = ["build_block"]

_CHARS_A_TOKEN = 8
"""More than a token of any language takes; only of blanks and the like there may be more in one."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """A block that is to be made, as far as it is known beforehand."""

    passage: Passage
    info: BlockInfo
    """Its bytes are expected ones until it is written."""
    reason: str
    budget_bytes: int


def build_block(
    text: TextShelf,
    model: LocalModel,
    item_ids: Sequence[str],
    *,
    reason: str,
    pinned: bool,
    scheme: Scheme,
    budget_bytes: int,
    uses: float,
) -> BlockInfo:
    """Encode items as a passage and keep the block; see `ActivationShelf.build`."""
    wanted = _checked(item_ids, scheme)
    digest = model.key.digest
    with text.file.read() as reader:
        now = micros(text.clock())
        standing = _standing(reader, digest, wanted, now)
        if isinstance(standing, BlockInfo):
            return standing
        passage = _passage(reader, wanted, now)
        hits = max([uses, *reader.uses(wanted, now).values()])
    head = head_of(model)
    ids = _encoded(model, passage.text, behind=len(head))
    bound = Bound(text.file.cube, new_id(), passage.digest)
    info = BlockInfo(
        id=bound.block,
        items=wanted,
        model=digest,
        tokens=len(ids),
        bytes=folder.planned_bytes(model, ids, head, bound, scheme=scheme),
        seconds=_prefill_s(model.rates.prefill_tokens_per_s, len(ids)),
        pinned=pinned,
        hits=hits,
        made_at=instant(now),
        used_at=None,
    )
    plan = _Plan(passage, info, reason, budget_bytes)
    with text.file.read() as reader:
        _leaving(reader, plan, now)  # refused before the work, not after it
    block = model.block(ids, behind=head)
    path = block_path(text.file.folder, info.id)
    _require_there(path)
    try:
        size_bytes = folder.save(path, block, bound, scheme=scheme, licence=model.licence)
        plan, seal = replace(plan, info=replace(info, bytes=size_bytes)), _sealed(path)
        made = text.file.touch(lambda writer: _entered(writer, plan, seal, path))
        _require_there(path)
    except BaseException:
        _unmake(path)
        raise
    if made.id != info.id:  # another process was faster
        _unmake(path)
    return made


def _checked(item_ids: Sequence[str], scheme: Scheme) -> tuple[str, ...]:
    if scheme not in SCHEMES:
        raise BadInput(f"precision={scheme!r} must be one of {SCHEMES!r}")
    if isinstance(item_ids, str) or not all(isinstance(id_, str) for id_ in item_ids):
        raise BadInput(f"item_ids is {item_ids!r:.80}: hand over a list of item ids, as in [item.id]")
    wanted = tuple(item_ids)
    if not wanted or len(set(wanted)) < len(wanted):
        raise BadInput(
            f"{len(wanted)} item ids of {len(set(wanted))} items: hand over each item once, at least one"
        )
    return wanted


def _standing(reader: BlockQuestions, model: str, wanted: Sequence[str], now: int) -> BlockInfo | None:
    """The block that holds just these items, if one does.

    Raises:
        BadInput: one holds some of them.
    """
    for block in _covering(reader, model, wanted, now, fresh=True):
        if set(block.info.items) != set(wanted):
            taken = next(id_ for id_ in wanted if id_ in block.info.items)
            raise BadInput(
                f"item {taken!r} is in block {block.info.id!r}, with {len(block.info.items)} items: an item is in one "
                "block of a model; drop that one first"
            )
        return block.info
    return None


def _covering(
    reader: BlockQuestions, model: str, wanted: Sequence[str], now: int, *, fresh: bool
) -> list[StoredBlock]:
    found = reader.blocks_covering(model, wanted, now)
    return [block for block in found if is_fresh(reader, block, now, {}) == fresh]


def _passage(reader: BlockQuestions, wanted: Sequence[str], now: int) -> Passage:
    missing = set(wanted) - reader.items_by_id(wanted).keys()
    if missing:
        raise ItemNotFound(
            f"no item {min(missing)!r} in this cube: search for it again, it may have been erased"
        )
    found = for_all(reader, wanted, now)
    if found is None:
        raise BadInput(
            "one of the items is not live, or is kept private, or out of search: a block holds what every reader of "
            "the cube may see and find"
        )
    return passage_of([item for _, item in found])


def _encoded(model: LocalModel, text: str, *, behind: int) -> tuple[int, ...]:
    """The tokens of a passage; of one that is far too long only the beginning is looked at.

    Raises:
        BadInput: the model cannot read so much.
    """
    limit = model.capabilities.context_tokens
    begin = limit * _CHARS_A_TOKEN
    if len(text) > begin:
        count = len(model.encode(text[:begin], plain=True))
        if count > limit:
            raise BadInput(_too_long(f"more than {count:,}", limit))
    ids = model.encode(text, plain=True)
    if behind + len(ids) > limit:
        raise BadInput(_too_long(f"{len(ids):,}", limit))
    return ids


def _too_long(count: str, limit: int) -> str:
    return f"these items are {count} tokens and the model reads {limit:,}: hand over fewer, or leave them as text"


def _prefill_s(rates: Mapping[int, float], tokens: int) -> float:
    """Seconds that reading so many tokens takes, between measured lengths on a line."""
    lengths = sorted(rates)
    if tokens > lengths[-1]:
        return tokens / rates[lengths[-1]]
    return float(np.interp(tokens, lengths, [length / rates[length] for length in lengths]))


def _leaving(reader: BlockQuestions, plan: _Plan, now: int) -> list[str]:
    """Ids of the blocks that have to leave for a new one.

    Raises:
        BadLimit: they save more than it would, or what may leave is not enough.
    """
    size_bytes = plan.info.bytes
    standing = [block.info for block in reader.blocks(now)]
    wanted = sum(info.bytes for info in standing) + size_bytes - plan.budget_bytes
    if wanted <= 0:
        return []
    out = victims([_held(info) for info in standing], wanted)
    if out is None or size_bytes > plan.budget_bytes:
        raise BadLimit(
            f"a block of {size_bytes:,} bytes has no room within {plan.budget_bytes:,}: open with a larger "
            "KVBudgets.disk_bytes, or drop or unpin others"
        )
    if not plan.info.pinned and any(one.score > _held(plan.info).score for one in out):
        raise BadLimit(
            f"a block of {size_bytes:,} bytes would save less than those that had to leave for it: open with a larger "
            "KVBudgets.disk_bytes, or pin it"
        )
    return [one.key for one in out]


def _held(info: BlockInfo) -> Held[str]:
    """A block as eviction sees it; uses age by themselves, so there is no clock."""
    worth = score(hits=1 + info.hits, saved_s=info.seconds, size_bytes=info.bytes)
    return Held(info.id, info.bytes, worth, (info.used_at or info.made_at).timestamp(), info.pinned)


def _entered(writer: CubeWriter, plan: _Plan, seal: str, path: Path) -> BlockInfo:
    """Enter the block, if its items still say what it holds; or return the one that was entered meanwhile.

    Raises:
        Conflict: an item was changed or erased, or the file was taken for one that nobody would enter any more.
        BadInput, BadLimit: as before the work.
    """
    if not path.exists():
        raise _swept(path)
    wanted, model = plan.info.items, plan.info.model
    found = for_all(writer, wanted, writer.now)
    if found is None or passage_of([item for _, item in found]).digest != plan.passage.digest:
        raise Conflict("an item was changed or erased while it was encoded: nothing was kept; build it again")
    standing = _standing(writer, model, wanted, writer.now)
    if standing is not None:
        return standing
    stale = _covering(writer, model, wanted, writer.now, fresh=False)
    writer.drop_blocks([block.info.id for block in stale], op="stale", reason="its items say something else")
    out = _leaving(writer, plan, writer.now)
    writer.drop_blocks(out, op="evict", reason=f"block {plan.info.id} needs its place, and saves more a byte")
    info = replace(plan.info, made_at=instant(writer.now))
    refs = [n for n, _ in found]
    writer.add_block(info, refs, digest=plan.passage.digest, seal=seal, op="promote", reason=plan.reason)
    return info


def _sealed(path: Path) -> str:
    """The seal of the file just written.

    Raises:
        CubeNotFound: the cube was deleted.
        Conflict: it was removed.
        StoreError: it cannot be read.
    """
    try:
        return seal_of(path)
    except FileNotFoundError:
        raise _swept(path) from None
    except OSError as exc:
        raise StoreError(f"{str(path)!r} cannot be read ({exc}): give this process read access") from exc


def _swept(path: Path) -> Conflict:
    _require_there(path)
    return Conflict("the file of the block was removed before its row was entered: build it again")


def _require_there(path: Path) -> None:
    if not (path.parent.parent / CUBE_DATABASE).exists():
        raise CubeNotFound("the cube was deleted while a block of it was made: nothing is left of it")


def _unmake(path: Path) -> None:
    """Remove a file that no row knows; where the cube was deleted meanwhile, its folder too, made anew for the file."""
    with suppress(OSError):  # what keeps it there is told by `check`, and it is swept when it is old
        path.unlink(missing_ok=True)
    if not (path.parent.parent / CUBE_DATABASE).exists():
        with suppress(OSError):
            path.parent.rmdir()
            path.parent.parent.rmdir()
