"""Who is mentioned: known speakers, and names that stand beside words which people have about them.

Called by `reader` on every captured turn. Knows no model and no store. Precision goes before recall: an edge
to a person who is a city misleads, one that is missing leaves the turn to be found by its words.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from memos_engine.capture import people_chinese, people_english

_WORDS = re.compile(r"\w+(?:[-'’](?!s\b)\w+)*")
_HAN = re.compile(r"[぀-ヿ㐀-鿿가-힯]")
_NICKNAME = re.compile(
    r"(?:, (?=[A-Z][a-z]{2})|\b(?i:hey|hi|hello|thanks|thank you|bye|congrats),? )([A-Z][a-z]+)(?=\s*(?:[!,.?]|$))"
)

_ALSO_WORDS = frozenset(
    """
    Amber April Art Bill Chase Christian Daisy Dawn Drew Faith Frank Grace Grant Guy Holly Hope Ivy Iris Jack Jade
    Joy June Major Mark May Melody Miles Nick Olive Pat Penny Pearl Ray Rob Robin Rose Ruby Sandy Summer Sue Will
    """.split()
)
"""Names that are everyday words: at the head of a sentence they count only where they are spoken of or to."""
_SPOKEN_OF = re.compile(r"\s*(?:['’]s|[,!]|and\b|said\b|says\b|is\b|was\b|told\b|has\b|had\b)|\s*$")
_SENTENCE_HEAD = re.compile(r"(?:^|[.!?\n]\s*)[\"“‘']?$")

_MANY_NAMES = 1000
"""Of so many known names none is looked for in the text: the words of the text are looked up among them."""


@dataclass(frozen=True, slots=True)
class _Known:
    """Known names, arranged for look-up."""

    by_word: Mapping[str, tuple[str, ...]]
    """First word as it may be spelled -> the full names that begin with it."""
    unspaced: tuple[str, ...]
    """Names in a script without spaces."""
    firsts: Mapping[str, str]
    """First name that only one full name has -> that full name."""
    openings: frozenset[str]
    """The first two letters of those first names."""


def find_people(text: str, *, known: Collection[str] = ()) -> tuple[str, ...]:
    """Return the names of people a text mentions, each once, in order of first mention.

    A known name is returned in full for its first name alone, if only one known name begins so, and for a
    short form (`Mel` for `Melanie`) by which somebody is addressed.
    """
    index = _index(frozenset(known))
    finds = list(_known_names(text, index))
    taken = {start for start, _ in finds}
    for start, name in people_english.names(text, index.by_word):
        if start not in taken:
            finds.append((start, index.firsts.get(name, name)))
    if not text.isascii():
        finds.extend(people_chinese.names(text))
    return _unique(finds)


@lru_cache(maxsize=128)
def _index(known: frozenset[str]) -> _Known:
    by_word: dict[str, list[str]] = {}
    unspaced: list[str] = []
    for name in sorted(known):
        words = _WORDS.findall(name)
        if _HAN.search(name):
            unspaced.append(name.strip())
        elif words and len(words[0]) > 1:
            for spelling in {words[0], words[0].capitalize()}:
                by_word.setdefault(spelling, []).append(name.strip())
    firsts = {word: names[0] for word, names in by_word.items() if len(names) == 1}
    openings = frozenset(word[:2] for word in firsts)
    return _Known({word: tuple(names) for word, names in by_word.items()}, tuple(unspaced), firsts, openings)


def _known_names(text: str, index: _Known) -> Iterator[tuple[int, str]]:
    for name in index.unspaced:
        start = text.find(name)
        if start >= 0:
            yield start, name
    if len(index.by_word) > _MANY_NAMES or any(word in text for word in index.by_word):
        for match in _WORDS.finditer(text):
            names = index.by_word.get(match[0])
            if names and not _is_word(match):
                yield match.start(), _fullest(text, match, names, index)
    if not any(opening in text for opening in index.openings):
        return  # a short form begins as its name does
    for match in _NICKNAME.finditer(text):
        longer = {full for first, full in index.firsts.items() if first.startswith(match[1])}
        if len(longer) == 1 and match[1] not in index.by_word:
            yield match.start(1), longer.pop()


def _is_word(match: re.Match[str]) -> bool:
    """Tell whether a name that is an everyday word (`Will`) is meant as the word."""
    if match[0] not in _ALSO_WORDS:
        return False
    text = match.string
    at_head = _SENTENCE_HEAD.search(text[max(0, match.start() - 4) : match.start()]) is not None
    return at_head and not _SPOKEN_OF.match(text, match.end(), match.end() + 8)


def _fullest(text: str, match: re.Match[str], names: tuple[str, ...], index: _Known) -> str:
    """Return the known full name that stands there or is meant; the bare word where two could be."""
    standing = [name for name in names if text.startswith(name, match.start())]
    if standing:
        return index.firsts.get(match[0], max(standing, key=len))
    return index.firsts.get(match[0], match[0])


def _unique(finds: Collection[tuple[int, str]]) -> tuple[str, ...]:
    """Return the names by first mention, without the first names of full names that are there too."""
    ordered = dict.fromkeys(name for _, name in sorted(finds))
    firsts = {name.split(" ", 1)[0] for name in ordered if " " in name}
    return tuple(name for name in ordered if name not in firsts)
