"""Text to the words that keyword search indexes and asks for, in any script. Pure.

FTS5's `unicode61` splits at spaces, which Chinese, Japanese, Thai, Lao, Khmer and Burmese do not
write. Runs of those scripts (and of Hangul, whose particles stick to words) are indexed as
overlapping bigrams plus the run's last character, so that a query of one character can match by
prefix. Ranges are spelled out instead of asked from `unicodedata`: the form that was indexed must
be derivable for ever, or a deletion could not name the words it removes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache

_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f"  # Myanmar
    "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"  # Hangul
    "\u1780-\u17ff"  # Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # Kana and iteration marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_MARKS = "\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0dff"
"""Accents and vowel signs, which belong to the letter before them."""
QUERY_WORDS_MAX = 64
"""Words of a query that are used, first come: a pasted page is no better asked whole."""

STOP_WORDS = frozenset(
    """a about above after again all also am an and any are as at be because been before being below between
    both but by can could did do does doing don down during each few for from further had has have having he her
    here hers him his how i if in into is it its itself just let ll m me more most my myself no nor not now of off
    on once only or other our ours out over own re s same she should so some such t than that the their theirs
    them then there these they this those through to too under until up us ve very was we were what when where
    which while who whom why will with would you your yours d isn aren wasn weren doesn didn hasn haven won""".split()
)
_STOP_BIGRAMS = frozenset(
    "什么 怎么 哪里 哪儿 为什 是不 有没 没有 我们 你们 他们 这个 那个 一个 です ます した して".split()
)

_STOP_SIGNS = frozenset(
    "的了是我你他她它们我在吗呢吧啊呀么什怎哪谁有没不和与跟就都也很还会要这那个些一上下来去到说叫给把被让过着得地为因所以可能"
)
"""Han characters that are words of their own in almost any sentence."""

WORD_SIGNS = 2
"""Characters of a run up to which it is taken for one word."""


@cache
def _run() -> re.Pattern[str]:
    """A run of a script that writes no spaces; compiled on first use, which takes milliseconds."""
    return re.compile(f"[{_UNSPACED}]+")


@cache
def _word() -> re.Pattern[str]:
    """A run, or a word of any other script with its marks."""
    return re.compile(rf"[{_UNSPACED}]+|[^\W_{_UNSPACED}](?:[^\W_{_UNSPACED}]|[{_MARKS}])*")


def normalised(text: str) -> str:
    """NFKC form, so that full-width, composed and decomposed spellings meet."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def _pairs(match: re.Match[str]) -> str:
    run = match[0]
    return " " + " ".join([run[i : i + 2] for i in range(len(run) - 1)] + [run[-1]]) + " "


def indexed_form(text: str) -> str:
    """The string handed to FTS5 for `text`: unspaced runs as bigrams, the rest as it is."""
    if text.isascii():
        return text
    return _run().sub(_pairs, normalised(text))


def query_words(text: str) -> list[str]:
    """The words of a query worth asking for, in order, each once; stop words only if there is nothing else.

    A word that ends in `*` asks for a prefix: a lone character of an unspaced script, and each Han character
    of a longer run that may be a word by itself.
    """
    found = list(dict.fromkeys(_split(normalised(text[:20_000]).lower())))
    kept = [word for word in found if word not in STOP_WORDS and word not in _STOP_BIGRAMS]
    return (kept or found)[:QUERY_WORDS_MAX]


def _split(text: str) -> Iterator[str]:
    for match in _word().finditer(text):
        word = match[0]
        if not _run().match(word):
            yield word
        elif len(word) == 1:
            yield word + "*"
        else:
            yield from (word[i : i + 2] for i in range(len(word) - 1))
            if len(word) > WORD_SIGNS:
                yield from (f"{sign}*" for sign in word if _may_be_a_word(sign))


def _may_be_a_word(sign: str) -> bool:
    return "\u3400" <= sign <= "\u9fff" and sign not in _STOP_SIGNS


def match_expression(words: list[str]) -> str:
    """An FTS5 query that matches any of `words`, each quoted, so that no word is read as syntax."""
    return " OR ".join(f'"{word[:-1]}"*' if word.endswith("*") else f'"{word}"' for word in words)
