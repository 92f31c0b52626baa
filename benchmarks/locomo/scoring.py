"""What a context is worth: evidence in it, the answer's words in it, ranks, and telling known from unknown. Pure.

Ids count for nothing: a turn is there when its words are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import numpy as np
import snowballstemmer  # type: ignore[import-untyped]  # -- it carries no types
from bm25s.stopwords import STOPWORDS_EN_PLUS  # type: ignore[import-untyped]  # -- as above

HIT_RANK = 10
MONTHS = "January February March April May June July August September October November December".split()
_NUMBERS = {name[:3].lower(): number for number, name in enumerate(MONTHS, start=1)}

_WORD = re.compile(r"\w+")
_HANDLE = re.compile(rf"^\d+ (?!(?:{'|'.join(MONTHS)}) \d{{4}}$)", re.MULTILINE)
_MONTH = r"(?P<{}>" + "|".join(rf"{name[:3]}(?:{name[3:]})?" for name in MONTHS) + r"|Sept)\b\.?"
_DAY = r"(?P<{}>[0-3]?\d)(?:st|nd|rd|th)?\b"
_DATE = re.compile(
    r"\b(?:(?P<y1>\d{4})-(?P<m1>[01]\d)-(?P<d1>[0-3]\d)\b"
    rf"|{_DAY.format('d2')}\s+(?:of\s+)?{_MONTH.format('m2')}(?:,?\s+(?P<y2>\d{{4}})\b)?"
    rf"|{_MONTH.format('m3')}\s+{_DAY.format('d3')}(?:,?\s+(?P<y3>\d{{4}})\b)?"
    rf"|{_MONTH.format('m4')},?\s+(?P<y4>\d{{4}})\b)",
    re.IGNORECASE,
)
"""9 May 2021, May 9th, 2021, 2021-05-09; without a year; a month of a year. Numbers name the alternative."""

_stemmer = snowballstemmer.stemmer("english")


@cache
def stem(word: str) -> str:
    """The Snowball stem of a word in lower case."""
    return str(_stemmer.stemWord(word))


def content_terms(text: str) -> list[str]:
    """The words of a text in lower case, without stop words, stemmed, in order."""
    words = _WORD.findall(text.lower())
    return [stem(word) for word in words if word not in STOPWORDS_EN_PLUS]


def content_words(text: str) -> frozenset[str]:
    """The distinct `content_terms` of a text."""
    return frozenset(content_terms(text))


def counts(turn: frozenset[str], context: frozenset[str]) -> bool:
    """Whether at least 80 % of a turn's content words stand in a context's. A turn without any does not count."""
    return bool(turn) and 5 * len(turn & context) >= 4 * len(turn)


def answer_words(answer: str) -> frozenset[str]:
    """What of a gold answer has to stand in a context: its content words, a date being one word."""
    dates = frozenset(_finest(match) for match in _DATE.finditer(answer))
    return dates | content_words(_DATE.sub(" ", answer))


def covering_words(context: str) -> frozenset[str]:
    """What a context offers to `answer_words`: its content words, and each date with all that it says."""
    dates = (word for match in _DATE.finditer(context) for word in _said(match))
    return content_words(context) | frozenset(dates)


def unnumbered(context: str) -> str:
    """A context without the handles at the heads of its lines, which would pass for numbers of an answer."""
    return _HANDLE.sub("", context)


def coverage(answer: frozenset[str], context: frozenset[str]) -> float | None:
    """The share of `answer_words` that stand in `covering_words`. None: the answer has no content words."""
    return len(answer & context) / len(answer) if answer else None


def first_rank(hits: Sequence[Sequence[str]], evidence: Sequence[str]) -> int | None:
    """The rank, from 1, of the first hit that holds a turn of the evidence. None: no hit does."""
    wanted = set(evidence)
    return next((rank for rank, turns in enumerate(hits, start=1) if wanted.intersection(turns)), None)


def distinct_turns(hits: Sequence[Sequence[str]]) -> list[tuple[str]]:
    """The turns of all hits as hits of one turn each: in order, each at its first place."""
    return [(turn,) for turn in dict.fromkeys(turn for turns in hits for turn in turns)]


def auroc(positives: Sequence[float], negatives: Sequence[float]) -> float | None:
    """The chance that a positive scores higher than a negative, a tie being half. None: one of them is empty."""
    if not positives or not negatives:
        return None
    below = np.sort(np.asarray(negatives))
    wins = np.searchsorted(below, positives, "left") + np.searchsorted(below, positives, "right")
    return float(wins.sum()) / (2 * len(positives) * len(negatives))


def renamed(text: str, names: Mapping[str, str]) -> str:
    """The text with whole words replaced, all at once; what follows a name, such as 's, stays."""
    if not names:
        return text
    longest_first = sorted(names, key=len, reverse=True)
    pattern = rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b"
    return re.sub(pattern, lambda match: names[match[0]], text)


def _parts(match: re.Match[str]) -> tuple[str, int, str]:
    """Year, month and day of a date; an empty string stands for what it does not tell."""
    groups = match.groupdict()
    year, month, day = (
        next((groups[f"{part}{n}"] for n in range(1, 5) if groups.get(f"{part}{n}")), "") for part in "ymd"
    )
    number = int(month) if month.isdecimal() else _NUMBERS[month[:3].lower()]
    return year, number, f"{int(day):02}" if day else ""


def _finest(match: re.Match[str]) -> str:
    year, month, day = _parts(match)
    return "-".join(filter(None, [year, f"{month:02}", day]))


def _said(match: re.Match[str]) -> Iterator[str]:
    """The date as `_finest` writes it, and every coarser way of naming it."""
    year, month, day = _parts(match)
    if not 1 <= month <= len(MONTHS):
        return
    number, name = f"{month:02}", stem(MONTHS[month - 1].lower())
    yield name
    if year:
        yield from (year, f"{year}-{number}")
    if day:
        yield f"{number}-{day}"
    if year and day:
        yield f"{year}-{number}-{day}"
