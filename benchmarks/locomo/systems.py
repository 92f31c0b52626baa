"""What every system under test can be asked, and how many tokens a text has. Knows none of the systems."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memos_engine import Embedder

with warnings.catch_warnings():  # its way of reading its own data is deprecated in some Pythons
    warnings.simplefilter("ignore", DeprecationWarning)
    import bpe_openai  # type: ignore[import-untyped]  # -- it carries no mark of its types

_ENCODING = bpe_openai.get_encoding("cl100k_base")


def count_tokens(text: str) -> int:
    """Tokens of a text in cl100k."""
    return len(_ENCODING.encode_ordinary(text))


def cut(text: str, budget_tokens: int) -> str:
    """The first `budget_tokens` tokens of a text; of a character that the cut goes through, nothing."""
    kept = _ENCODING.encode_ordinary(text)[:budget_tokens]
    return bytes(_ENCODING.decode_bytes(kept)).decode("utf-8", errors="ignore")


@dataclass(frozen=True, slots=True)
class Found:
    """One hit of a ranking."""

    text: str
    """As it is printed, its date before it."""
    turns: tuple[str, ...]
    """Ids of the turns it shows or was drawn from."""
    score: float


class System(Protocol):
    """A memory that holds one conversation."""

    def ranked(self, question: str) -> list[Found]:
        """What is found, best first."""
        ...

    def context(self, question: str, found: Sequence[Found], budget_tokens: int) -> str:
        """What a prompt is given; `found` is what `ranked` has just said of the question."""
        ...

    def top_score(self, question: str) -> float:
        """How sure it is to know anything about the question; 0 for nothing found."""
        ...


class Memo:
    """An embedder that computes each text once."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._rows: dict[str, NDArray[np.float32]] = {}

    @property
    def fingerprint(self) -> str:
        """The embedder's own."""
        return self._embedder.fingerprint

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Rows (N, D), those of new texts from the embedder, in one batch."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new:
            self._rows.update(zip(new, self._embedder.embed(new), strict=True))
        return np.array([self._rows[text] for text in texts], np.float32)
