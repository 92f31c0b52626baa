"""Stand-ins for what costs time, weights or a wall clock: models without weights, a clock by hand.

They are real implementations of the ports, deterministic in every process, not mocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from memos_engine.errors import BadLimit, BadTime
from memos_engine.ports import ChatMessage, Vectors

__all__ = ["FrozenClock", "HashEmbedder", "ScriptedChatModel"]

_WORDS = re.compile(r"\w+")
_TRIGRAM_WEIGHT = 0.5


class HashEmbedder:
    """An embedder without a model: hashed words and letter trigrams, so texts that share words are near.

    It knows no synonyms. The same text has the same vector in every process and on every machine.

    Raises:
        BadLimit: `dim` is less than 1.
    """

    def __init__(self, dim: int = 64) -> None:
        if dim < 1:
            raise BadLimit(f"dim={dim!r} must be at least 1.")
        self._dim = dim

    @property
    def fingerprint(self) -> str:
        """Name of the scheme and the width."""
        return f"hash-words-trigrams:1:float32:d{self._dim}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return unit rows, shape (len(texts), dim), float32. Thread-safe."""
        rows = np.zeros((len(texts), self._dim), dtype=np.float64)
        for row, text in zip(rows, texts, strict=True):
            for word in set(_WORDS.findall(text.casefold())) or {text}:
                for number, weight in _features(word):
                    row[number % self._dim] += weight
            if not row.any():  # features of opposite sign met in one place
                row[0] = 1.0
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows.astype(np.float32)


@lru_cache(maxsize=1 << 16)
def _features(word: str) -> tuple[tuple[int, float], ...]:
    """Return (number, signed weight) of a word and of its trigrams, the word's ends marked."""
    return tuple(_hashed(word))


def _hashed(word: str) -> Iterator[tuple[int, float]]:
    ended = f" {word} "
    parts = [(f"w{word}", 1.0)]
    parts += [(f"t{part}", _TRIGRAM_WEIGHT) for part in {ended[n : n + 3] for n in range(len(ended) - 2)}]
    for name, weight in sorted(parts):
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "little")
        yield number >> 1, weight if number & 1 else -weight


class ScriptedChatModel:
    """A `ChatModel` that gives the answers it was made with, one per call, and keeps what it was asked.

    Args:
        answers: What `complete` returns, in order; an error among them is raised in its turn.
    """

    def __init__(self, *answers: str | Exception) -> None:
        self._answers = iter(answers)
        self.prompts: list[tuple[ChatMessage, ...]] = []
        """The messages of every call, in order."""

    def complete(
        self, messages: Sequence[ChatMessage], *, max_tokens: int = 512, temperature: float = 0.0
    ) -> str:
        """Return the next answer, whatever was asked; one too many calls is the test's own fault."""
        self.prompts.append(tuple(messages))
        answer = next(self._answers, None)
        assert answer is not None, f"call {len(self.prompts)} has no answer left: give one more"
        if isinstance(answer, Exception):
            raise answer
        return answer


class FrozenClock:
    """A `Clock` that stands still until it is told to advance.

    Args:
        start: The moment it shows first, aware.

    Raises:
        BadTime: `start` is naive.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        if start.utcoffset() is None:
            raise BadTime(f"{start!r} is naive: give it a tzinfo, such as datetime.UTC.")
        self._now = start.astimezone(UTC)

    def __call__(self) -> datetime:
        """Return the moment it shows, in UTC."""
        return self._now

    def advance(self, step: timedelta) -> datetime:
        """Move the clock by `step`, back if it is negative, and return the new moment."""
        self._now += step
        return self._now
