"""Hits become a context: what says most within a token budget, in order of time, with sources. Pure.

Recalled text is data, not instruction: it stands between delimiters, and a text that holds the
delimiter, or line breaks that would look like lines of ours, is escaped. A relative time is followed by
the date it names, since the reader of a context does not read it on the day it was said.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from memos_engine.errors import BadInput
from memos_engine.items import Context, ContextSource, Hit, MemoryItem
from memos_engine.ports import CountTokens
from memos_engine.times.dates import TimeMention, find_times
from memos_engine.times.wording import MONTHS, date_words

OPEN, CLOSE = "<memories>", "</memories>"
UNDATED = "undated"
CLIPPED = " [...]"
CLIP_ROUNDS = 24  # halvings: enough for the longest text
MISFITS_MAX = 10
"""Lines in a row that do not fit, after which the budget counts as full."""
_DELIMITER = re.compile(r"<(?=\s*/?\s*memories)", re.IGNORECASE)
_BREAK = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")
_WORD = re.compile(r"\w{3,}")
_SAID = re.compile(r"\d{4}|\b(?:today|tonight|now|this (?:morning|afternoon|evening))\b", re.IGNORECASE)
"""Names its date already, or the day of the date line."""
_SIGNS = (
    *(
        "day",
        "night",
        "morrow",
        "week",
        "month",
        "year",
        "ago",
        "last",
        "next",
        "this",
        "spring",
        "summer",
        "fall",
    ),
    *("autumn", "winter", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    *"年月日天昨今明前去周週夏秋冬春",
)
"""Parts of words, one of which stands in any text that names a relative time: most texts need no closer look."""
_NOTED_CHARS = 2_000
"""Characters of a text in which relative times are noted: beyond is a document."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A hit as it will stand there, less its handle."""

    hit: Hit
    date: str
    said: str


def pack(
    hits: Sequence[Hit], budget_tokens: int, count_tokens: CountTokens, *, novelty: float = 0.0
) -> Context:
    """The hits that say most within `budget_tokens`; empty when there are none.

    Greedy by score less `novelty` times the share of a line's words that stand there already (maximal
    marginal relevance, Carbonell and Goldstein, SIGIR 1998). A hit that does not fit is passed over for
    a smaller one behind it; when not even one fits whole, the best is clipped.

    Args:
        hits: Best first.
        budget_tokens: The whole text never costs more.
        count_tokens: Tokens of a text for the model that will read it.
        novelty: Share of the best score that a line loses when all its words are there already.
    """
    count_tokens = _whole(count_tokens)
    chosen = _chosen(hits, budget_tokens, count_tokens, novelty)
    while chosen:
        context = _render(chosen, count_tokens)
        if context.tokens <= budget_tokens:
            return context
        chosen.pop()  # lines counted one by one may, rarely, cost more together
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


def _chosen(hits: Sequence[Hit], budget: int, count: CountTokens, novelty: float) -> list[_Line]:
    """Greedy; lazily, as what a line is worth only falls while others are chosen."""
    best = max((hit.score for hit in hits), default=0.0) or 1.0
    words: dict[int, frozenset[str]] = {}
    heap = [(-hit.score / best, n, 0) for n, hit in enumerate(hits)]
    heapq.heapify(heap)
    spent, misfits = count(f"{OPEN}\n") + count(CLOSE), 0
    widest = 10 ** len(str(len(hits))) - 1
    chosen: list[_Line] = []
    said: set[str] = set()
    there: set[str] = set()  # date lines, and lines as they are said on a date
    while heap and misfits < MISFITS_MAX:
        _, n, seen = heap[0]
        if novelty and seen != len(chosen):
            mine = words[n] = words.get(n) or frozenset(_WORD.findall(hits[n].item.text.lower()))
            repeated = len(mine & said) / len(mine) if mine else 1.0
            heapq.heapreplace(heap, (novelty * repeated - hits[n].score / best, n, len(chosen)))
            continue
        heapq.heappop(heap)
        line = _line(hits[n])
        if f"{line.date}\n{line.said}" in there:
            continue  # word for word what stands there already
        cost = count(f"{widest} {line.said}\n") + (0 if line.date in there else count(f"{line.date}\n"))
        if spent + cost > budget:
            misfits += 1
            continue
        chosen.append(line)
        said |= words.get(n) or frozenset(_WORD.findall(hits[n].item.text.lower()))
        there |= {line.date, f"{line.date}\n{line.said}"}
        spent, misfits = spent + cost, 0
    return chosen


def _line(hit: Hit, clip: int | None = None) -> _Line:
    return _Line(hit, *line_of(hit.item, clip))


def line_of(item: MemoryItem, clip: int | None = None) -> tuple[str, str]:
    """The date line under which an item stands, and its own line, escaped, without a handle.

    Args:
        item: What is told.
        clip: Characters of its text. None: all.
    """
    text, tail = item.text, ""
    if clip is not None and clip < len(text):
        text, tail = text[:clip], CLIPPED
    noted = escaped(_noted(text, item.event_at) + tail)
    said = f"{escaped(item.speaker)}: {noted}" if item.speaker else noted
    return UNDATED if item.event_at is None else date_words(item.event_at), said


def _render(chosen: Sequence[_Line], count_tokens: CountTokens) -> Context:
    rows = [OPEN]
    sources: dict[int, ContextSource] = {}
    last = ""
    for handle, line in enumerate(sorted(chosen, key=_in_time), start=1):
        item = line.hit.item
        if line.date != last:
            rows.append(line.date)
            last = line.date
        rows.append(f"{handle} {line.said}")
        message = item.sources[0].message_id if item.sources else None
        sources[handle] = ContextSource(item.id, message, item.thread, item.speaker, item.event_at)
    text = "\n".join([*rows, CLOSE])
    return Context(text, count_tokens(text), tuple(line.hit for line in chosen), sources)


def _clipped(hit: Hit, budget_tokens: int, count_tokens: CountTokens) -> Context:
    """As much of one hit as fits; empty when not even its first words do."""
    low, high = 0, len(hit.item.text)
    best = Context()
    for _ in range(CLIP_ROUNDS):
        if low >= high:
            break
        middle = (low + high + 1) // 2
        context = _render([_line(hit, middle)], count_tokens)
        if context.tokens <= budget_tokens:
            best, low = context, middle
        else:
            high = middle - 1
    return best


def _in_time(line: _Line) -> tuple[bool, datetime, str]:
    at = line.hit.item.event_at
    return (at is None, at or datetime.max.replace(tzinfo=UTC), line.hit.item.id)


def _noted(text: str, said_at: datetime | None) -> str:
    """The text with a date behind each relative day, month, season or year; weeks stay as they were said."""
    lowered = text[:_NOTED_CHARS].lower()
    if said_at is None or not any(sign in lowered for sign in _SIGNS):
        return text
    parts: list[str] = []
    reached = 0
    for mention in find_times(text[:_NOTED_CHARS], said_at):
        if mention.precision != "week" and not mention.guessed and not _SAID.search(mention.text):
            parts += [text[reached : mention.span[1]], f" ({_named(mention)})"]
            reached = mention.span[1]
    return "".join([*parts, text[reached:]])


def _named(mention: TimeMention) -> str:
    start = mention.start
    if mention.precision == "year":
        return f"{start.year}"
    if mention.precision == "month":
        return f"{MONTHS[start.month - 1]} {start.year}"
    if mention.precision == "season":
        return f"{MONTHS[start.month - 1]}-{MONTHS[(start.month + 1) % 12]} {start.year}"
    return date_words(start)


def escaped(text: str) -> str:
    """Text that can neither close the delimiter nor start a line of its own."""
    text = text.strip()
    if "<" in text:
        text = _DELIMITER.sub("&lt;", text)
    return text if text.isprintable() else _BREAK.sub(" / ", text)
