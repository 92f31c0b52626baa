"""What a store benchmark asks of a system. Knows none of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from benchmarks.corpus import Corpus

Ability = Literal["add", "add_one", "capture", "search", "recall", "drain", "reopen"]

LIMIT = 10
"""Hits of a search."""
BUDGET_TOKENS = 500
"""Budget of a recall."""


class System:
    """A store under test, opened on construction. A system overrides what it is able to do."""

    abilities: ClassVar[frozenset[Ability]] = frozenset({"add", "add_one", "search", "reopen"})

    def __init__(self, folder: Path, corpus: Corpus) -> None:
        """Open or create the store in `folder`; `corpus` stands for the embedder."""

    def add(self, first: int, texts: list[str]) -> None:
        """Store a batch, durable where the system is; `first` is the number of the first text."""
        raise NotImplementedError

    def add_one(self, number: int, text: str) -> None:
        """Store one text, durable where the system is."""
        self.add(number, [text])

    def capture(self, number: int, text: str) -> None:
        """Store one message of a conversation durably."""
        raise NotImplementedError

    def search(self, query: str) -> Any:
        """The best LIMIT hits, as the system returns them."""
        raise NotImplementedError

    def texts_of(self, found: Any) -> list[str]:
        """The texts of what `search` returned: outside the measured time."""
        raise NotImplementedError

    def recall(self, query: str) -> str:
        """A context for a prompt, within BUDGET_TOKENS."""
        raise NotImplementedError

    def drain(self) -> None:
        """Do now what the system would do in the background."""
        raise NotImplementedError

    def first_answer(self, query: str) -> None:
        """What a process that has just opened the store asks first."""
        self.search(query)

    def close(self) -> None:
        """Close the files."""
