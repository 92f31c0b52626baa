"""A text's sentences, and what in it is quoted. Pure; beneath `reader`. Knows no grammar."""

from __future__ import annotations

import re
from collections.abc import Iterator

_END = re.compile(r"(?<![.!?…])[.!?…]++[\"”’')\]]*+(?=\s|$)|[。！？]++[”’」』]?|\n++")
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|st|vs|etc|no|approx|e\.g|i\.e|a\.m|p\.m|\w))$", re.IGNORECASE
)
_QUOTE_CHARS = 300
"""Longest quotation in single quotes; a lone apostrophe opens none beyond that."""
_QUOTED = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`"
    r"|(?<!\d)\"[^\"\n]*\"?|“[^”\n]*”?|「[^」\n]*」?|『[^』\n]*』?|《[^》\n]*》?|«[^»\n]*»?"
    rf"|(?<!\w)['‘](?=\w)(?:[^'’\n]|['’](?=\w)){{1,{_QUOTE_CHARS}}}['’](?!\w)"
    r"|(?m:^[ \t]*>[^\n]*)",
    re.DOTALL,
)


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield the span of each sentence, its end mark included, blanks around it not."""
    start = 0
    for end in _END.finditer(text):
        if end[0] == "." and _ABBREVIATION.search(text, max(start, end.start() - 8), end.start()):
            continue
        yield from _stripped(text, start, end.end())
        start = end.end()
    yield from _stripped(text, start, len(text))


def quoted(text: str) -> list[tuple[int, int]]:
    """Return the spans that repeat other words: quotations, quoted lines and code.

    A quotation left open runs to the end of its line.
    """
    return [match.span() for match in _QUOTED.finditer(text)]


def _stripped(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    body = text[start:stop]
    left = len(body) - len(body.lstrip())
    if left < len(body):
        yield start + left, start + len(body.rstrip())
