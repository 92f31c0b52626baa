"""MemReader in its fast form: one turn's people, times and drafts of derived memories, by rules.

Called by capture on every new turn, after it was kept verbatim. Knows no model and no store, and does not decide
what becomes of a draft. A draft repeats the speaker's own words, never others, and adds only who said them and
the dates that `yesterday` and its like stand for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from memos_engine.capture.people import find_people
from memos_engine.capture.sentences import quoted, sentences
from memos_engine.capture.statements import DraftKind, Statement, english
from memos_engine.capture.statements_chinese import chinese
from memos_engine.times.dates import TimeMention, find_times

READ_CHARS = 20_000
"""Characters of a turn that are read. What people say about themselves stands in what they type, which is
shorter; beyond are pasted documents, kept verbatim all the same."""
SENTENCE_CHARS = 400
"""A longer sentence makes no draft: it is a list, a log or a page without full stops."""
DRAFTS_MAX = 4
"""Drafts of one turn, first come. More than a few statements in a turn are a document, not talk."""
NOT_SPEAKERS = frozenset({"ai", "assistant", "bot", "developer", "function", "model", "system", "tool"})
"""Roles whose words tell nothing about a person."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing that was said, ready to be read."""

    text: str
    speaker: str | None
    """None means that the role stands for the speaker."""
    role: str
    at: datetime
    """When it was said, aware, in the speaker's time zone where it is known."""
    known_people: Collection[str] = ()
    """Names that may be mentioned: the thread's speakers and people met before."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A derived memory, not yet reconciled with what is known."""

    kind: DraftKind
    text: str
    """The speaker, a colon, and their words with dates added in brackets."""
    span: tuple[int, int]
    """Where those words stand in the turn: start inclusive, end exclusive."""
    confidence: float
    """0..1."""
    event_at: datetime | None
    """Start of the first time that the words name, aware. None means they name none."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a turn holds besides its words."""

    people: tuple[str, ...] = ()
    """Who is mentioned, in order of first mention."""
    times: tuple[TimeMention, ...] = ()
    """When, in order."""
    drafts: tuple[Draft, ...] = ()
    """What the speaker asked to keep or told about themselves, in order."""


class MemReader:
    """Reads turns by rules. Stateless and thread-safe; microseconds a turn."""

    def __init__(self, *, roles: Collection[str] | Callable[[str], bool] | None = None) -> None:
        """Choose whose words make drafts.

        Args:
            roles: The roles, or a predicate of them. None means all but `NOT_SPEAKERS`.
        """
        if roles is None:
            self._speaks: Callable[[str], bool] = lambda role: role.casefold() not in NOT_SPEAKERS
        elif callable(roles):
            self._speaks = roles
        else:
            self._speaks = frozenset(roles).__contains__

    def read(self, turn: Turn) -> Reading:
        """Return the people, times and drafts of a turn's first `READ_CHARS` characters.

        Raises:
            BadTime: The turn's time has no zone.
        """
        text = turn.text[:READ_CHARS]
        times = find_times(text, turn.at)
        people = find_people(text, known=turn.known_people)
        if not self._speaks(turn.role):
            return Reading(people, times)
        return Reading(people, times, tuple(_drafts(turn, text, times)))


def _drafts(turn: Turn, text: str, times: Sequence[TimeMention]) -> Iterator[Draft]:
    name = " ".join((turn.speaker or turn.role).split())
    seen: set[str] = set()
    quotes: list[tuple[int, int]] | None = None
    for start, stop in sentences(text):
        if stop - start > SENTENCE_CHARS:
            continue
        for statement in _statements(text[start:stop]):
            quotes = quoted(text) if quotes is None else quotes
            span = (start + statement.start, start + statement.end)
            if any(begin < span[1] and span[0] < end for begin, end in quotes):
                continue
            draft = _draft(name, statement, text, span, times)
            if draft.text in seen:
                continue
            seen.add(draft.text)
            yield draft
            if len(seen) == DRAFTS_MAX:
                return


def _statements(sentence: str) -> tuple[Statement, ...]:
    return english(sentence) or (() if sentence.isascii() else chinese(sentence))


def _draft(
    name: str, statement: Statement, text: str, span: tuple[int, int], times: Sequence[TimeMention]
) -> Draft:
    start, stop = span
    inside = [time for time in times if start <= time.span[0] and time.span[1] <= stop]
    happened = [
        time for time in inside if not time.guessed and not _recurs(statement, text[start:stop], time)
    ]
    return Draft(
        statement.kind,
        f"{name}: {_dated(text, span, happened)}",
        span,
        statement.confidence,
        happened[0].start if happened else None,
    )


_BY_SPEECH = re.compile(
    r"yesterday|today|tonight|tomorrow|\b(?:ago|back|last|next|past|coming|previous|this|now)\b"
    r"|[昨今明前去上下这這本先来來后後]",
    re.IGNORECASE,
)
_YEARLY = re.compile(r"birthday|anniversary|生日|纪念日|紀念日|\bevery\b|每", re.IGNORECASE)
_HAS_YEAR = re.compile(r"\d{4}|[〇零一二三四五六七八九]{4}年")
_POSSESSIVE = re.compile(r"['’]s\b")


def _recurs(statement: Statement, words: str, time: TimeMention) -> bool:
    """Tell whether words such as `in March` name a time that comes back, not one that was meant once."""
    if _BY_SPEECH.search(time.text) or _HAS_YEAR.search(time.text):
        return False
    return statement.kind == "preference" or _YEARLY.search(words) is not None


def _dated(text: str, span: tuple[int, int], times: Sequence[TimeMention]) -> str:
    """Return the words with the date of each time in brackets behind it, unless it is a date already."""
    parts: list[str] = []
    reached = span[0]
    for time in times:
        if _HAS_YEAR.search(time.text):
            continue
        possessive = _POSSESSIVE.match(text, time.span[1], span[1])
        end = possessive.end() if possessive else time.span[1]
        parts += [text[reached:end], _brackets(time)]
        reached = end
    return "".join([*parts, text[reached : span[1]]])


def _brackets(time: TimeMention) -> str:
    first, last = time.start.date(), (time.end - timedelta(microseconds=1)).date()
    if time.precision in {"minute", "hour"}:
        last = first  # a night is called by the day on which it begins
    if time.text.isascii():
        return f" ({_range(_english_date, first, last, time.precision)})"
    return f"（{_range(_chinese_date, first, last, time.precision)}）"


def _range(render: Callable[[date, str], str], first: date, last: date, precision: str) -> str:
    if precision in {"month", "year"} or first == last:
        return render(first, precision)
    unit = "month" if precision == "season" else "day"
    link = " to " if render is _english_date else "至"
    return f"{render(first, unit)}{link}{render(last, unit)}"


_MONTHS = "January February March April May June July August September October November December".split()


def _english_date(day: date, unit: str) -> str:
    if unit == "year":
        return str(day.year)
    month = f"{_MONTHS[day.month - 1]} {day.year}"
    return month if unit == "month" else f"{day.day} {month}"


def _chinese_date(day: date, unit: str) -> str:
    if unit == "year":
        return f"{day.year}年"
    month = f"{day.year}年{day.month}月"
    return month if unit == "month" else f"{month}{day.day}日"
