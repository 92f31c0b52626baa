"""Whether what a block holds is still what its items say, and what all may see. Without torch.

An item that is written anew takes its blocks with it. What time alone changes, and what another version
of this package would render otherwise, is found here.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence

from memos_engine.items import MemoryItem
from memos_engine.recall.passages import passage_of
from memos_engine.store.block_rows import BlockQuestions, StoredBlock, is_for_all

__all__ = ["for_all", "is_fresh"]


def for_all(reader: BlockQuestions, ids: Sequence[str], now: int) -> list[tuple[int, MemoryItem]] | None:
    """The items of these ids with their refs, in order; None where one is not for everyone.

    That is one that is gone or not live, that some may not see, or that was kept out of search.
    """
    found = reader.items_by_id(ids, indexed=True)
    if len(found) < len(ids) or not all(is_for_all(item, now) for _, item in found.values()):
        return None
    return [found[id_] for id_ in ids]


def is_fresh(
    reader: BlockQuestions, block: StoredBlock, now: int, known: MutableMapping[str, tuple[int, ...]]
) -> bool:
    """Whether a block holds what its items say.

    Args:
        reader: The state to look at.
        block: As its rows tell it.
        now: Microseconds.
        known: By block, the versions of its items for which this was found to be so before.
    """
    found = for_all(reader, block.info.items, now)
    if not found:
        return False
    items = [item for _, item in found]
    versions = tuple(item.version for item in items)
    if known.get(block.info.id) == versions:
        return True
    if passage_of(items).digest != block.digest:
        return False
    known[block.info.id] = versions
    return True
