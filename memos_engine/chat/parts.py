"""Which memories stand in a prompt, within a token budget: passages that have blocks, and lines. Pure.

Recall has chosen and ordered the hits. One that a block holds brings the whole passage, which is paid for
once; any other its own line. What stands there already, word for word, is not said twice.
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

__all__ = ["Held", "chosen_parts", "lines_of", "usable"]

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
    """What is chosen so far, and what it costs."""

    budget: int
    count: CountTokens
    spent: int
    blocks: list[Held] = field(default_factory=list)
    single: list[MemoryItem] = field(default_factory=list)
    there: set[str] = field(default_factory=set)
    """Lines under their dates."""
    dates: set[str] = field(default_factory=set)
    """Date lines of single items."""

    def take_block(self, held: Held) -> bool:
        """Take a whole passage, if it fits."""
        if self.spent + held.info.tokens > self.budget:
            return False
        self.spent += held.info.tokens
        self.blocks.append(held)
        self.there.update(lines_of(held.passage))
        return True

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
    apart: bool = False,
) -> tuple[Part, ...]:
    """The parts of a prompt's memories; with their delimiters they never cost more than the budget.

    Args:
        hits: Best first.
        held: Blocks that may be used, each with its passage.
        budget_tokens: For all of it.
        count_tokens: Tokens of a text for the model that will read it.
        apart: Each item is a part by itself, in order of id; else lines stand in order of time, as one part.
    """
    if not hits:
        return ()
    frame = count_tokens(OPENING) + count_tokens(CLOSING)
    sheet = _Sheet(budget_tokens, count_tokens, frame)
    block_of = {item: each for each in held for item in each.info.items}
    inside: set[str] = set()
    for hit in hits:
        block = block_of.get(hit.id)
        if block is not None and (block.info.id in inside or sheet.take_block(block)):
            inside.add(block.info.id)
        else:
            sheet.take_line(hit, apart=apart)
    if not sheet.blocks and not sheet.single:
        return _clipped(hits[0], budget_tokens - frame, count_tokens)
    return _laid_out(sheet, apart=apart)


def _laid_out(sheet: _Sheet, *, apart: bool) -> tuple[Part, ...]:
    """Blocks in the order they were made, which stays; then what else there is, as far as the budget holds it."""
    blocks = sorted(sheet.blocks, key=lambda held: (held.info.made_at, held.info.id))
    parts = [Part(held.passage.text, held.info.items, held.info.id) for held in blocks]
    room = sheet.budget - sheet.count(OPENING) - sheet.count(CLOSING) - sum(b.info.tokens for b in blocks)
    single = _not_said(sheet.single, blocks)
    while single:
        lines = _lines(single, apart=apart)
        if sum(sheet.count(part.text) for part in lines) <= room:
            return (*parts, *lines)
        single.pop()  # counted one by one they may, rarely, cost less than together
    return tuple(parts)


def _not_said(single: Sequence[MemoryItem], blocks: Sequence[Held]) -> list[MemoryItem]:
    """Items whose line stands in none of the passages, some of which were chosen after them."""
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
