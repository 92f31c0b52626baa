"""Hits become a context: the best that fits a token budget, in order of time, with sources. Pure.

Recalled text is data, not instruction: it stands between delimiters, and a text that holds the
delimiter, or line breaks that would look like lines of ours, is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from memos_engine.errors import BadInput
from memos_engine.items import Context, ContextSource, Hit, MemoryItem
from memos_engine.ports import CountTokens

OPEN, CLOSE = "<memories>", "</memories>"
_DELIMITER = re.compile(r"<(?=\s*/?\s*memories)", re.IGNORECASE)
_BREAK = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")
UNDATED = "undated"
CLIPPED = " [...]"
CLIP_ROUNDS = 24  # halvings: enough for the longest text


def pack(hits: Sequence[Hit], budget_tokens: int, count_tokens: CountTokens) -> Context:
    """The best hits, in their order, whose rendered text fits `budget_tokens`; empty when there are none.

    A hit that does not fit is passed over for a smaller one behind it; when not even one fits whole,
    the best is clipped.
    """
    count_tokens = _whole(count_tokens)
    chosen: list[Hit] = []
    spent = count_tokens(f"{OPEN}\n{CLOSE}")
    dates: set[str] = set()
    said: set[tuple[str, str]] = set()
    for hit in hits:
        date = _date(hit.item.event_at)
        if (date, _line(0, hit.item)) in said:
            continue  # word for word what stands there already
        cost = count_tokens(f"\n{_line(999, hit.item)}") + (0 if date in dates else count_tokens(f"\n{date}"))
        if spent + cost <= budget_tokens:
            chosen.append(hit)
            dates.add(date)
            said.add((date, _line(0, hit.item)))
            spent += cost
    while chosen:
        context = _render(chosen, count_tokens)
        if context.tokens <= budget_tokens:
            return context
        chosen.pop()
    return _clipped(hits[0], budget_tokens, count_tokens) if hits else Context()


def _whole(count_tokens: CountTokens) -> CountTokens:
    """The caller's counter, refused when it counts nothing that could be a number of tokens."""

    def counted(text: str) -> int:
        tokens = count_tokens(text)
        if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
            raise BadInput(
                f"count_tokens returned {tokens!r}: it must return a whole number of tokens, 0 or more"
            )
        return tokens

    return counted


def _render(chosen: Sequence[Hit], count_tokens: CountTokens, clip: int | None = None) -> Context:
    lines = [OPEN]
    sources: dict[int, ContextSource] = {}
    last = ""
    for handle, hit in enumerate(sorted(chosen, key=_in_time), start=1):
        item = hit.item
        date = _date(item.event_at)
        if date != last:
            lines.append(date)
            last = date
        lines.append(_line(handle, item, clip))
        message = item.sources[0].message_id if item.sources else None
        sources[handle] = ContextSource(item.id, message, item.thread, item.speaker, item.event_at)
    text = "\n".join([*lines, CLOSE])
    return Context(text, count_tokens(text), tuple(chosen), sources)


def _clipped(hit: Hit, budget_tokens: int, count_tokens: CountTokens) -> Context:
    """As much of one hit as fits; empty when not even its first words do."""
    low, high = 0, len(hit.item.text)
    best = Context()
    for _ in range(CLIP_ROUNDS):
        if low >= high:
            break
        middle = (low + high + 1) // 2
        context = _render([hit], count_tokens, middle)
        if context.tokens <= budget_tokens:
            best, low = context, middle
        else:
            high = middle - 1
    return best


def _in_time(hit: Hit) -> tuple[bool, datetime, str]:
    at = hit.item.event_at
    return (at is None, at or datetime.max.replace(tzinfo=UTC), hit.item.id)


def _date(at: datetime | None) -> str:
    return UNDATED if at is None else f"{at:%Y-%m-%d}"


def _line(handle: int, item: MemoryItem, clip: int | None = None) -> str:
    text = item.text if clip is None or clip >= len(item.text) else item.text[:clip] + CLIPPED
    said = f"{item.speaker}: {text}" if item.speaker else text
    return f"[{handle}] {escaped(said)}"


def escaped(text: str) -> str:
    """Text that can neither close the delimiter nor start a line of its own."""
    return _BREAK.sub(" / ", _DELIMITER.sub("&lt;", text.strip()))
