"""Items that stand in a row as one text: what a block of activation memory is made of. Pure.

The same items make the same text at any time and in every prompt, so it has no handles: a digest tells
whether what was encoded once is still what the items say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from memos_engine.items import MemoryItem
from memos_engine.recall.context import line_of

__all__ = ["Passage", "passage_of"]


@dataclass(frozen=True)
class Passage:
    """Items in a row as one text."""

    items: tuple[MemoryItem, ...]
    text: str
    """A date line wherever the date changes, and a line for each item; every line ends in a line break."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


def passage_of(items: Sequence[MemoryItem]) -> Passage:
    """The items, in the order given, as one text; empty for none."""
    rows: list[str] = []
    last = ""
    for item in items:
        date, said = line_of(item)
        if date != last:
            rows.append(date)
            last = date
        rows.append(said)
    return Passage(tuple(items), "".join(f"{row}\n" for row in rows))
