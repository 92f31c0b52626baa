"""Time expressions made absolute: `yesterday`, said on 8 May 2023, is 7 May 2023.

Called by `reader` on every captured turn. Finds by rules, English in `dates_english`, Chinese in
`dates_chinese`, and joins a clock time to the day beside it. Knows no store and no model, and leaves
vague words alone: a wrong date is worse than none, since the turn itself is kept verbatim.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from memos_engine.errors import BadTime
from memos_engine.times import dates_chinese, dates_english, windows
from memos_engine.times.phrases import Found, found
from memos_engine.times.windows import Precision, Window


@dataclass(frozen=True, slots=True)
class TimeMention:
    """Words that name a time, and the window of time they name."""

    span: tuple[int, int]
    """Characters of the text, start inclusive, end exclusive."""
    text: str
    """The words as they stand."""
    start: datetime
    """Inclusive, aware, in the time zone in which it was said."""
    end: datetime
    """Exclusive, after `start`."""
    precision: Precision
    """How exact the words are. A part of a day (`last night`) counts as `hour`, a weekend as `week`."""
    guessed: bool = False
    """Neither the words nor the sentence's tense tell which of several such days or months is meant."""


def find_times(text: str, said_at: datetime) -> tuple[TimeMention, ...]:
    """Return the times that a text names, in order; overlapping words are taken once, the longest first.

    Without a year or a side (`in March`, `on Friday`) the sentence's tense decides, then nearness.

    Raises:
        BadTime: `said_at` has no time zone.
    """
    if said_at.tzinfo is None:
        raise BadTime(f"said_at={said_at!r} is naive: give it a time zone, such as datetime.UTC")
    finds = list(found(dates_english.RULES, text, said_at))
    if not text.isascii():
        finds.extend(found(dates_chinese.RULES, text, said_at))
    return tuple(_mention(text, find) for find in _with_clocks(text, _dated_weekdays(text, _apart(finds))))


def _apart(finds: Iterable[Found]) -> Iterator[Found]:
    """Yield the finds from left to right without overlaps, the longer one first at one place."""
    reached = 0
    for start, end, window in sorted(finds, key=lambda find: (find[0], -find[1])):
        if start >= reached:
            yield start, end, window
            reached = end


_WEEKDAY_END = re.compile(r"(?:mon|tues|wednes|thurs|fri|satur|sun)day$", re.IGNORECASE)
_DATE_HEAD = re.compile(r"\d|[A-Z][a-z]{2,8}\.? \d")


def _dated_weekdays(text: str, finds: Iterable[Found]) -> Iterator[Found]:
    """Make one time of a weekday and the date behind it: `on Sunday, 19 October` is that date."""
    held: Found | None = None
    for find in finds:
        if held and not text[held[1] : find[0]].strip(" ,") and _DATE_HEAD.match(text, find[0]):
            yield held[0], find[1], find[2]
            held = None
            continue
        if held:
            yield held
        held = find if _WEEKDAY_END.search(text, find[0], find[1]) else None
        if held is None:
            yield find
    if held:
        yield held


_HOUR = (
    r"(?:(?P<noon>noon|midnight)|(?P<hour>[01]?\d|2[0-4])(?::(?P<minute>[0-5]\d))?"
    r"(?:\s?(?P<half>[ap])\.?m\b\.?|\s?o['’]clock)?)\b"
)
_PART = r"(?P<part>morning|afternoon|evening|night)"
_AFTER = re.compile(
    rf"(?:\s+{_PART}\b)?(?:,?\s+(?:at|around)\s+(?:about\s+)?{_HOUR}(?![%\d]))?", re.IGNORECASE
)
_BEFORE = re.compile(rf"\b(?:at\s+)?{_HOUR}(?:\s+on)?,?\s+$", re.IGNORECASE)
_AFTER_CHINESE = re.compile(
    r"(?:的?(?P<part>早上|早晨|上午|中午|下午|傍晚|晚上|夜里|凌晨))?"
    r"(?:(?P<hour>\d{1,2}|十[一二]?|[一二三四五六七八九两])(?:点|點|时(?!候)|時(?!候))"
    r"(?:(?P<half>半)|(?P<quarter>[一三])刻|(?P<minute>[0-5]?\d)分)?)?"
)
_PARTS = {"早": "morning", "上": "morning", "中": "noon", "下": "afternoon", "傍": "evening", "晚": "evening"}
_PARTS |= {"夜": "night", "凌": "early"}
REACH = 40
"""Characters beside a day within which its clock time is looked for."""


def _with_clocks(text: str, finds: Iterable[Found]) -> Iterator[Found]:
    """Narrow days by the part of the day or the clock time beside them."""
    reached = 0
    for start, end, window in finds:
        found_here = (start, end, window)
        if window.precision in {"day", "hour"} and window.end - window.start <= _ONE_DAY:
            found_here = _narrowed(text, found_here, reached)
        yield found_here
        reached = found_here[1]


_ONE_DAY = timedelta(days=1)


def _narrowed(text: str, find: Found, reached: int) -> Found:
    start, end, window = find
    pattern = _AFTER_CHINESE if ord(text[end - 1]) > 0x2E80 else _AFTER
    after = pattern.match(text, end, end + REACH)
    if after and after.end() > end:
        narrow = _clocked(window, after)
        return (start, after.end(), replace(narrow, guessed=window.guessed)) if narrow else find
    before = _BEFORE.search(text, max(reached, start - REACH), start)
    if before and (before["half"] or before["noon"] or before["minute"]):
        narrow = _clocked(window, before)
        return (before.start(), end, replace(narrow, guessed=window.guessed)) if narrow else find
    return find


def _clocked(window: Window, match: re.Match[str]) -> Window | None:
    """Return the part or the clock time of a day, or None where there is no such time."""
    words = match.groupdict()
    named = words.get("part")
    base = windows.part(window, _PARTS.get(named[0], named.lower())) if named else window
    if words.get("noon"):
        hour, minute = (12 if words["noon"].lower() == "noon" else 0), None
    elif words["hour"]:
        hour, minute = _hour_of(base, words), _minute_of(words)
    else:
        return base
    try:
        return windows.clock(base, hour % 24, minute)
    except ValueError:
        return None


def _hour_of(base: Window, words: dict[str, str | None]) -> int:
    """Return the hour on the clock of 24; a bare 1 to 6 is in the afternoon unless the base says otherwise."""
    hour = dates_chinese.number(words["hour"] or "")
    half = (words.get("half") or "").lower()
    if half in {"a", "p"}:
        return hour % 12 + (12 if half == "p" else 0)
    if base.precision == "hour":
        inside = [h for h in (hour, hour + 12) if base.start <= base.start.replace(hour=h % 24) < base.end]
        return inside[0] if inside else hour
    return hour + 12 if 1 <= hour <= 6 and not words.get("minute") else hour


def _minute_of(words: dict[str, str | None]) -> int | None:
    if words.get("half") == "半":
        return 30
    if words.get("quarter"):
        return 15 * dates_chinese.number(words["quarter"] or "")
    minute = words.get("minute")
    return int(minute) if minute else None


def _mention(text: str, find: Found) -> TimeMention:
    start, end, window = find
    return TimeMention(
        (start, end), text[start:end], window.start, window.end, window.precision, window.guessed
    )
