"""A text as the words that may name things: lower case, singular, with everyday words as gaps. Pure.

Scripts that write no spaces are left out: a bigram of theirs is seldom a word, and a wrong one misleads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from memos_engine.store.words import indexed_form, normalised
from memos_engine.tree.everyday import is_everyday

T = TypeVar("T")

READ_CHARS = 20_000
"""Characters of a text that are looked at, as by the reader of turns."""
_LETTERS = (3, 30)
"""Least and most letters of a word that may name a thing."""
_FOREIGN_LETTERS = 5
"""Least letters in scripts other than Latin, of which no everyday words are known."""
_TOKEN = re.compile(r"(?:https?://|www\.)\S+|\S+@\S+\.\S+|\w+(?:[-'’]\w+)*|[^\w\s]")
_ENDS = frozenset('.!?…:"“”*-')
"""After these a capital tells nothing."""
_IN_IE = frozenset(
    "movie cookie selfie zombie calorie hoodie veggie smoothie brownie genie rookie foodie pie tie newbie indie cutie"
    " prairie magpie groupie hippie junkie caddie collie eerie birdie freebie goalie oldie sweetie walkie".split()
)
_IN_S = frozenset(
    "christmas texas kansas gas atlas canvas pajamas pyjamas physics mathematics economics politics ethics athletics"
    " series species lens news yes always jeans glasses headphones scissors pants shorts paris adidas chaos cosmos"
    " alias bias pancreas james charles arkansas trans thanks news".split()
)


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a text that may name a thing, or a gap that no phrase reaches over."""

    key: str
    """Lower case and singular; empty for a gap."""
    named: bool | None = None
    """Whether it stands there as a name does: with a capital in the middle of a sentence. None: it cannot be told."""
    shouted: bool = False
    """All capitals."""


GAP = Word("")


def words_in(text: str) -> list[Word]:
    """The words of a text that may name things, in order, with a gap wherever others stand between them."""
    found: list[Word] = []
    fresh = True  # where a sentence begins
    for match in _TOKEN.finditer(normalised(text[:READ_CHARS])):
        token = match[0]
        key = _key(token) if token[0].isalpha() else None
        if key is not None:
            capital = token[0].isupper()
            found.append(
                Word(key, None if capital and fresh else capital, len(token) > 1 and token.isupper())
            )
        elif found and found[-1] is not GAP:
            found.append(GAP)
        fresh = token in _ENDS
    return found


@lru_cache(maxsize=1 << 16)
def _key(token: str) -> str | None:
    """The form under which a word is counted; None when it names nothing."""
    word = re.sub(r"['’]s$|['’]$", "", token)
    lower = word.lower()
    least, most = _LETTERS
    if not least <= len(lower) <= most or not re.fullmatch(r"[^\W\d_]+(?:-[^\W\d_]+)*", lower):
        return None
    if indexed_form(lower) != lower or is_everyday(lower):
        return None
    if not lower.isascii() and min(lower) > "\u024f" and len(lower) < _FOREIGN_LETTERS:
        return None
    single = _singular(lower, name=word[0].isupper())
    return None if len(single) < least or is_everyday(single) else single


def _singular(word: str, *, name: bool) -> str:
    if not word.endswith("s") or word in _IN_S or word.endswith(("ss", "us", "is", "'s")):
        return word
    if name and word.endswith(("as", "os", "es")) and not word.endswith("ies"):
        return word  # Dallas, Los Altos, Mercedes
    if word.endswith("ies") and len(word) > 4:
        return word[:-1] if word[:-1] in _IN_IE else word[:-3] + "y"
    if word.endswith("oes") and len(word) > 5 and not word.endswith(("shoes", "canoes")):
        return word[:-2]
    if word.endswith(("sses", "shes", "ches", "xes", "zzes")):
        return word[:-2]
    return word[:-1]


def keys_in(words: Sequence[Word]) -> Iterator[str]:
    """Every word and every two neighbours, as they come."""
    before = ""
    for word in words:
        if word.key:
            yield word.key
            if before:
                yield f"{before} {word.key}"
        before = word.key


def held(words: Sequence[Word], known: Mapping[str, T]) -> dict[str, T]:
    """What of `known` a text holds: a word within a phrase that is known does not count for itself."""
    found: dict[str, T] = {}
    inside: set[str] = set()
    for key in keys_in(words):
        if key in known:
            found[key] = known[key]
            first, _, second = key.partition(" ")
            if second:
                inside |= {first, second}
    return {key: value for key, value in found.items() if key not in inside}
