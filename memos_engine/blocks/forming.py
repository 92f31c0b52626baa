"""Which items around one that is much used make a passage worth encoding. Knows no model and decides no cost.

Only what everyone who may read the cube may see, that is settled and that no block holds: turns of one session in
a row, grown both ways from the one that is used, or any other item alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from memos_engine.items import SESSION_GAP, MemoryItem
from memos_engine.recall.passages import Passage, passage_of
from memos_engine.store.moments import micros
from memos_engine.store.reading import CubeReader
from memos_engine.store.rows import View
from memos_engine.store.turns import Turns

__all__ = ["LASTING", "PASSAGE_CHARS", "HotPassage", "grown", "passages_around"]

PASSAGE_CHARS = 1_000
"""Characters up to which a passage grows: about 250 tokens, of which moving and correcting a block loses little."""
LASTING = timedelta(days=14)
"""An item that ends sooner would not be used often enough."""
_REACH = 32
"""Turns on either side that are looked at; even short ones fill PASSAGE_CHARS."""


@dataclass(frozen=True, slots=True)
class HotPassage:
    """A passage and how often the most used of its items was used.

    Items that are recalled together are one use of their passage, so the sum of all would count too much.
    """

    passage: Passage
    uses: float


def passages_around(
    reader: CubeReader,
    turns: Turns,
    hot: Sequence[tuple[str, float]],
    *,
    covered: Collection[int],
    now: datetime,
    chars: int = PASSAGE_CHARS,
) -> Iterator[HotPassage]:
    """Yield passages around the hot items, in their order; no item stands in two.

    Args:
        hot: Ids of items and their uses, the most used first.
        covered: Refs of items that a block of the model holds.
        now: What was edited within SESSION_GAP before it is left out, and so is a turn that was said in that time:
            the end of a session that runs. Older turns of the same session may stand in a passage.
        chars: Up to which turns are added.
    """
    view = View(None, None, micros(now))
    taken = set(covered)
    for item_id, uses in hot:
        n = reader.ref(item_id, view)
        if n is None or n in taken:
            continue
        near = turns.around(np.array([n], np.int64), _REACH)[0].tolist()
        items = {
            ref: item
            for ref, item in reader.items(
                [ref for ref in near if ref >= 0 and ref not in taken], view
            ).items()
            if _fits(item, now)
        }
        if n not in items:
            continue
        refs = grown(near, items, chars)
        taken.update(refs)
        yield HotPassage(passage_of([items[ref] for ref in refs]), uses)


def _fits(item: MemoryItem, now: datetime) -> bool:
    """Whether everyone may see an item, and nothing speaks for its changing soon."""
    moments = [item.event_at or item.created_at] if item.kind == "episode" else []
    if item.version > 1:
        moments.append(item.updated_at)
    settled = all(moment is None or now - moment >= SESSION_GAP for moment in moments)
    lasting = item.expires_at is None or item.expires_at - now >= LASTING
    return item.visibility == "cube" and settled and lasting


def grown(near: Sequence[int], items: dict[int, MemoryItem], chars: int) -> list[int]:
    """Refs in a row around the middle one: after it, before it, by turns, while they fit."""
    first = last = len(near) // 2
    left = chars - len(items[near[first]].text)
    grows = {1, -1}
    while grows:
        for step in (1, -1):
            if step not in grows:
                continue
            place = last + 1 if step > 0 else first - 1
            item = items.get(near[place]) if 0 <= place < len(near) else None
            if item is None or len(item.text) > left:
                grows.remove(step)
                continue
            left -= len(item.text)
            first, last = min(first, place), max(last, place)
    return list(near[first : last + 1])
