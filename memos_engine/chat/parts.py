"""Which memories stand in a prompt, within a token budget: passages that have blocks, and lines. Pure.

Recall has chosen and ordered the hits: each has its line, whether there are blocks or not. A block puts its
whole passage in the place of the lines it holds; the neighbours it brings cost little, and push nothing out.
What stands there already, word for word, is not said twice.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from memos_engine.blocks.head import CLOSING, OPENING
from memos_engine.chat.prompt import Part
from memos_engine.items import BlockInfo, MemoryItem
from memos_engine.ports import CountTokens
from memos_engine.recall.context import CLIPPED
from memos_engine.recall.passages import Passage, passage_of

__all__ = ["WITH_BLOCKS", "Held", "chosen_parts", "lines_of", "usable"]

WITH_BLOCKS = 2
"""Budgets that memories may take where passages stand: what comes with a block is not read as text."""
_CLIP_ROUNDS = 24
"""Halvings: enough for the longest text."""


@dataclass(frozen=True, slots=True)
class Held:
    """A block and the text it stands for."""

    info: BlockInfo
    passage: Passage


def lines_of(passage: Passage) -> list[str]:
    """Each item's line under its date, as it stands in a prompt."""
    return [passage_of([item]).text for item in passage.items]


def usable(blocks: Sequence[BlockInfo], hits: Sequence[MemoryItem], *, restricted: bool) -> list[BlockInfo]:
    """The blocks that may stand in a prompt.

    Args:
        blocks: Those that hold some of the hits.
        hits: What recall found.
        restricted: Recall looked among some memories only: a block that holds others is not for this prompt.
    """
    found = {item.id for item in hits}
    return [block for block in blocks if not restricted or found.issuperset(block.items)]


@dataclass(slots=True)
class _Sheet:
    """Lines that are chosen so far, and what they cost."""

    budget: int
    count: CountTokens
    spent: int
    single: list[MemoryItem] = field(default_factory=list)
    there: set[str] = field(default_factory=set)
    """Lines under their dates."""
    dates: set[str] = field(default_factory=set)

    def take_line(self, item: MemoryItem, *, apart: bool) -> None:
        """Take one item's own line, if it fits and does not stand there yet."""
        text = passage_of([item]).text
        if text in self.there:
            return
        date, line = text.split("\n", 1)
        cost = self.count(line) + (0 if date in self.dates and not apart else self.count(f"{date}\n"))
        if self.spent + cost <= self.budget:
            self.spent += cost
            self.single.append(item)
            self.there.add(text)
            self.dates.add(date)


def chosen_parts(
    hits: Sequence[MemoryItem],
    held: Sequence[Held],
    budget_tokens: int,
    count_tokens: CountTokens,
    *,
    room_tokens: int | None = None,
    apart: bool = False,
) -> tuple[Part, ...]:
    """The parts of a prompt's memories: the lines that stand there without blocks, some of them within passages.

    Args:
        hits: Best first.
        held: Blocks that may be used, each with its passage.
        budget_tokens: For all lines, with the delimiters.
        count_tokens: Tokens of a text for the model that will read it.
        room_tokens: What passages and lines together may take; at most WITH_BLOCKS budgets, whatever is told.
        apart: Each item is a part by itself, in order of id; else lines stand in order of time, as one part.
    """
    if not hits:
        return ()
    frame = count_tokens(OPENING) + count_tokens(CLOSING)
    limit = (
        WITH_BLOCKS * budget_tokens if room_tokens is None else min(WITH_BLOCKS * budget_tokens, room_tokens)
    )
    sheet = _Sheet(budget_tokens, count_tokens, frame)
    for hit in hits:
        sheet.take_line(hit, apart=apart)
    single = _fitting(sheet.single, budget_tokens - frame, count_tokens, apart=apart)
    if not single:
        clipped = _clipped(hits[0], budget_tokens - frame, count_tokens)
        whole = next((each for each in held if hits[0].id in each.info.items), None)
        return (_part(whole),) if clipped and whole and whole.info.tokens <= limit - frame else clipped
    blocks, single = _with_passages(single, held, limit - frame, count_tokens, apart=apart)
    return (*map(_part, blocks), *(_lines(single, apart=apart) if single else ()))


def _fitting(
    single: Sequence[MemoryItem], room: int, count_tokens: CountTokens, *, apart: bool
) -> list[MemoryItem]:
    """As many as fit together: counted one by one they may, rarely, cost less."""
    kept = list(single)
    while kept and _cost(kept, count_tokens, apart=apart) > room:
        kept.pop()
    return kept


def _with_passages(
    single: list[MemoryItem], held: Sequence[Held], room: int, count_tokens: CountTokens, *, apart: bool
) -> tuple[list[Held], list[MemoryItem]]:
    """Passages in place of the lines that they hold, as far as there is room; in the order they were made."""
    block_of = {item: each for each in held for item in each.info.items}
    chosen: list[Held] = []
    for hit in single:
        block = block_of.get(hit.id)
        if block is None or block in chosen:
            continue
        rest = _not_said(single, [*chosen, block])
        cost = sum(each.info.tokens for each in (*chosen, block))
        if cost + _cost(rest, count_tokens, apart=apart) <= room:
            chosen.append(block)
    return sorted(chosen, key=lambda each: (each.info.made_at, each.info.id)), _not_said(single, chosen)


def _part(held: Held) -> Part:
    return Part(held.passage.text, held.info.items, held.info.id)


def _cost(single: Sequence[MemoryItem], count_tokens: CountTokens, *, apart: bool) -> int:
    return sum(count_tokens(part.text) for part in _lines(single, apart=apart)) if single else 0


def _not_said(single: Sequence[MemoryItem], blocks: Sequence[Held]) -> list[MemoryItem]:
    """Items whose line stands in none of the passages."""
    there = {line for held in blocks for line in lines_of(held.passage)}
    return [item for item in single if passage_of([item]).text not in there]


def _lines(items: Collection[MemoryItem], *, apart: bool) -> list[Part]:
    if apart:
        ordered = sorted(items, key=lambda item: item.id)
        return [Part(passage_of([item]).text, (item.id,)) for item in ordered]
    in_time = sorted(items, key=_in_time)
    return [Part(passage_of(in_time).text, tuple(item.id for item in in_time))]


def _in_time(item: MemoryItem) -> tuple[bool, datetime, str]:
    at = item.event_at
    return (at is None, at or datetime.max.replace(tzinfo=UTC), item.id)


def _clipped(item: MemoryItem, room: int, count_tokens: CountTokens) -> tuple[Part, ...]:
    """As much of one item as fits; nothing when not even its first words do."""
    low, high = 0, len(item.text)
    best: tuple[Part, ...] = ()
    for _ in range(_CLIP_ROUNDS):
        if low >= high:
            break
        middle = (low + high + 1) // 2
        text = passage_of([replace(item, text=item.text[:middle] + CLIPPED)]).text
        if count_tokens(text) <= room:
            best, low = (Part(text, (item.id,)),), middle
        else:
            high = middle - 1
    return best
