"""What a query asks: about whom, about when, with which words. Pure, by rules, in English and Chinese.

A speaker's name in a query says whose turns are meant and says nothing about their content: every turn
bears its speaker's name. So the name is taken out of what is embedded and handed on as a person.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from memos_engine.times.dates import find_times

QuestionType = Literal["when", "who", "where", "how_many", "why", "yes_no", "what", "statement"]

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff"
    "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts that write no spaces: there a name stands within a run of letters."""
_WORD = re.compile(rf"[{_UNSPACED}]+|[^\W{_UNSPACED}]+(?:[-'’](?!s\b)[^\W{_UNSPACED}]+)*", re.IGNORECASE)
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
_RUN_LEFT = 4
"""Characters without a space between them that are as good as two words."""
_WORDS_TOO = frozenset(
    """april art august bill can chase dawn dean drew faith frank grace grant guy hope jack joy june mark may pat
    pearl ray rich rob rose sky sue summer will""".split()
)
"""Names that are common words: in small letters they name nobody."""


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
    times = find_times(text, now)
    named = list(_named(text, speakers, [time.span for time in times]))
    people = {name for _, _, name in named}
    words = _without(text, [(start, end) for start, end, _ in named])
    left = _WORD.findall(words)
    return Question(
        text,
        words if len(left) >= _WORDS_LEFT or any(_is_run(word, _RUN_LEFT) for word in left) else text,
        next((kind for kind, pattern in _TYPES.items() if pattern.search(text)), "statement"),
        people.pop() if len(people) == 1 else None,
        not named and _FIRST_PERSON.search(text) is not None and _YOU.search(text) is None,
        (min(time.start for time in times), max(time.end for time in times)) if times else None,
        _LATEST.search(text) is not None,
    )


def _named(
    text: str, speakers: Collection[str], times: Collection[tuple[int, int]]
) -> Iterator[tuple[int, int, str]]:
    """Where a speaker's name stands outside of `times`: in full, or its first word where one speaker alone has it."""
    by_word: dict[str, set[str]] = {}
    full: dict[tuple[str, ...], str] = {}
    for name in speakers:
        words = _folded(name)
        if words:
            by_word.setdefault(words[0], set()).add(name)
            full[words] = name
    runs = sorted(
        (words[0] for words in full if len(words) == 1 and _is_run(words[0], 2)), key=len, reverse=True
    )
    inside = re.compile("|".join(map(re.escape, runs))) if runs else None
    taken = {place for start, end in times for place in range(start, end)}
    reached = 0
    matches = [match for match in _WORD.finditer(text) if match.start() not in taken or _is_run(match[0], 2)]
    for place, match in enumerate(matches):
        if match.start() < reached:
            continue
        candidates = by_word.get(match[0].casefold(), ())
        if not candidates:
            if inside and _is_run(match[0], 2):
                parts = inside.finditer(text, match.start(), match.end())
                yield from (
                    (part.start(), part.end(), full[part[0],]) for part in parts if part.start() not in taken
                )
            continue
        longest = max(len(_folded(name)) for name in candidates)
        for size in range(min(longest, len(matches) - place), 0, -1):
            run = matches[place : place + size]
            meant = full.get(tuple(each[0].casefold() for each in run))
            if meant is None and size == 1 and len(candidates) == 1:
                meant = next(iter(candidates))
            if meant is not None and not (size == 1 and match[0] in _WORDS_TOO):
                reached = run[-1].end()
                yield run[0].start(), reached, meant
                break


def _folded(name: str) -> tuple[str, ...]:
    return tuple(word.casefold() for word in _WORD.findall(name))


def _is_run(word: str, characters: int) -> bool:
    """Whether it is so many characters at least of a script that writes no spaces."""
    return len(word) >= characters and not word.isascii() and re.match(f"[{_UNSPACED}]", word) is not None


_POSSESSIVE = re.compile(r"['’]s?\b|['’](?=\s)", re.IGNORECASE)


def _without(text: str, spans: Collection[tuple[int, int]]) -> str:
    parts: list[str] = []
    reached = 0
    for start, end in spans:
        possessive = _POSSESSIVE.match(text, end)
        parts.append(text[reached:start])
        reached = possessive.end() if possessive else end
    return " ".join("".join([*parts, text[reached:]]).split())
