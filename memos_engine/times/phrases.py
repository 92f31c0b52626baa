"""A rule of time: trigger words, a pattern, and what the words mean. Beneath `dates` and its languages.

A rule's pattern is tried only on a text that holds one of its triggers, since most turns name no time.
Knows no language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import TypeAlias

from memos_engine.times.windows import Window

Meaning: TypeAlias = Callable[[re.Match[str], datetime], Window | None]
"""What a match means, said at a moment. None means that the words name no certain time."""
Found: TypeAlias = tuple[int, int, Window]
"""Start inclusive, end exclusive, in characters of the text, and the window meant."""

SENTENCE_REACH = 160
"""Characters looked at on either side of a match for the rest of its sentence."""
MATCHES_MAX = 100
"""Matches of one rule in one text, first come: a text with more is a calendar or a log, not talk."""
_LATIN_WORD = re.compile(r"[a-z]+")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？\n]")


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """How one family of time expressions is found and understood."""

    triggers: tuple[str, ...]
    """Lower-case Latin words in the singular, or other strings, one of which must be in the text before the
    pattern is tried."""
    pattern: re.Pattern[str]
    meaning: Meaning


def found(rules: tuple[Rule, ...], text: str, said_at: datetime) -> Iterator[Found]:
    """Yield what the rules find, rule by rule; finds may overlap."""
    there = _there(rules, text.lower())
    if not there:
        return
    for rule in rules:
        if not there.isdisjoint(rule.triggers):
            for match in islice(rule.pattern.finditer(text), MATCHES_MAX):
                window = _window(rule, match, said_at)
                if window is not None:
                    yield match.start(), match.end(), window


def _there(rules: tuple[Rule, ...], lowered: str) -> set[str]:
    """The rules' triggers that a text holds: words as words, with or without a plural `s`, signs anywhere."""
    words, signs = _triggers(rules)
    there = {words[word] for word in words.keys() & _LATIN_WORD.findall(lowered)}
    there.update(sign for sign in signs if sign in lowered)
    return there


@lru_cache(maxsize=8)
def _triggers(rules: tuple[Rule, ...]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The triggers of all rules: Latin words by each of their forms, and everything else."""
    triggers = dict.fromkeys(trigger for rule in rules for trigger in rule.triggers)
    words = [trigger for trigger in triggers if _LATIN_WORD.fullmatch(trigger)]
    forms = {f"{word}s": word for word in words} | {word: word for word in words}
    return forms, tuple(trigger for trigger in triggers if trigger not in forms)


def sentence(match: re.Match[str]) -> str:
    """Return the sentence around a match, as far as it is within reach."""
    before = match.string[max(0, match.start() - SENTENCE_REACH) : match.start()]
    after = match.string[match.end() : match.end() + SENTENCE_REACH]
    ends = list(_SENTENCE_END.finditer(before))
    first_end = _SENTENCE_END.search(after)
    head = before[ends[-1].end() :] if ends else before
    tail = after[: first_end.start()] if first_end else after
    return f"{head}{match[0]}{tail}"


def _window(rule: Rule, match: re.Match[str], said_at: datetime) -> Window | None:
    try:
        return rule.meaning(match, said_at)
    except (ValueError, OverflowError):  # 30 February, 25 o'clock, or a year before the first
        return None
