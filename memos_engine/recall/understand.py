"""What a query asks: about whom, about when, with which words. Pure, by rules, in English and Chinese.

A speaker's name in a query says whose turns are meant and says nothing about their content: every turn
bears its speaker's name. So the name is taken out of what is compared and handed on as a person.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from memos_engine.times.dates import find_times

QuestionType = Literal["when", "who", "where", "how_many", "why", "yes_no", "what", "statement"]

_WORD = re.compile(r"\w+(?:[-'’](?!s\b)\w+)*")
_TYPES: dict[QuestionType, re.Pattern[str]] = {
    "how_many": re.compile(r"\bhow (?:many|much|often)\b|多少|几个|几次", re.IGNORECASE),
    "who": re.compile(r"\b(?:who|whom|whose)\b|谁", re.IGNORECASE),
    "where": re.compile(r"\bwhere\b|哪里|哪儿|在哪", re.IGNORECASE),
    "why": re.compile(r"\bwhy\b|为什么|为何", re.IGNORECASE),
    "what": re.compile(r"\b(?:what|which|how)\b|什么|哪些|怎么|怎样", re.IGNORECASE),
}
_LATEST = re.compile(
    r"\b(?:latest|newest|most recent(?:ly)?|last time|currently|these days|at the moment|right now|nowadays)\b"
    r"|最近|目前|现在",
    re.IGNORECASE,
)
_FIRST_PERSON = re.compile(r"\b(?:i|i'm|i’m|i've|i’ve|my|me|mine|myself)\b|我", re.IGNORECASE)
_YOU = re.compile(r"\b(?:you|your|yours)\b|你|您", re.IGNORECASE)
_WORDS_LEFT = 2


@dataclass(frozen=True, slots=True)
class Question:
    """A query, understood."""

    text: str
    """As it was asked."""
    words: str
    """Less the speakers' names, unless hardly anything would be left: what is compared with memories."""
    kind: QuestionType = "statement"
    person: str | None = None
    """The one speaker it names. None when it names none, or several."""
    first_person: bool = False
    """It speaks of `me` and not of `you`: it is about what the user said."""
    window: tuple[datetime, datetime] | None = None
    """When: start inclusive, end exclusive. None when it names no time."""
    latest: bool = False
    """It asks for the newest state of things."""

    def __str__(self) -> str:
        parts = [self.kind.replace("_", " ")]
        if self.person or self.first_person:
            parts.append(f"about {self.person or 'the user'}")
        if self.window:
            parts.append(f"from {self.window[0]:%Y-%m-%d %H:%M} to {self.window[1]:%Y-%m-%d %H:%M} UTC")
        if self.latest:
            parts.append("the newest first")
        return f"{', '.join(parts)}: {self.words}"


def understand(text: str, *, speakers: Collection[str], now: datetime) -> Question:
    """Read a query by rules.

    Args:
        text: What is asked.
        speakers: Names of those who speak in the cube.
        now: The current moment: what `last week` counts from.
    """
    named = list(_named(text, speakers))
    people = {name for _, _, name in named}
    words = _without(text, [(start, end) for start, end, _ in named])
    times = find_times(text, now)
    return Question(
        text,
        words if len(_WORD.findall(words)) >= _WORDS_LEFT else text,
        next((kind for kind, pattern in _TYPES.items() if pattern.search(text)), "statement"),
        people.pop() if len(people) == 1 else None,
        not named and _FIRST_PERSON.search(text) is not None and _YOU.search(text) is None,
        (min(time.start for time in times), max(time.end for time in times)) if times else None,
        _LATEST.search(text) is not None,
    )


def _named(text: str, speakers: Collection[str]) -> Iterator[tuple[int, int, str]]:
    """Where a speaker's name stands, in full or by its first word where one speaker alone has it."""
    by_word: dict[str, set[str]] = {}
    full: dict[str, str] = {}
    for name in speakers:
        words = [word.casefold() for word in _WORD.findall(name)]
        if words:
            by_word.setdefault(words[0], set()).add(name)
            full[" ".join(words)] = name
    reached = 0
    matches = list(_WORD.finditer(text))
    for place, match in enumerate(matches):
        candidates = by_word.get(match[0].casefold(), ())
        if not candidates or match.start() < reached:
            continue
        longest = max((len(name.split()) for name in candidates), default=1)
        for size in range(min(longest, len(matches) - place), 0, -1):
            run = matches[place : place + size]
            meant = full.get(" ".join(each[0].casefold() for each in run))
            if meant is None and size == 1 and len(candidates) == 1:
                meant = next(iter(candidates))
            if meant is not None:
                reached = run[-1].end()
                yield run[0].start(), reached, meant
                break


_POSSESSIVE = re.compile(r"['’]s?\b|['’](?=\s)")


def _without(text: str, spans: Collection[tuple[int, int]]) -> str:
    parts: list[str] = []
    reached = 0
    for start, end in spans:
        possessive = _POSSESSIVE.match(text, end)
        parts.append(text[reached:start])
        reached = possessive.end() if possessive else end
    return " ".join("".join([*parts, text[reached:]]).split())
