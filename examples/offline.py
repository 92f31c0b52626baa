"""A stand-in for a language model, so that the examples run without a key or a download.

It answers from the memories in its prompt: the line that shares most words with the question. Put your own
model in its place; nothing else in an example changes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memos_engine import FunctionEmbedder

STOP = "a an and are can did do for i in is it me my of on or the to we what when where which who you".split()
DIMENSIONS = 256
STEM_CHARS = 4


def reply(prompt: str, question: str) -> str:
    """What an agent would say, given the memories that stand in its prompt."""
    if not question.rstrip().endswith("?"):
        return "I will remember that."
    remembered = re.findall(r"^\d+ (.+)$", prompt, re.MULTILINE)
    best = max(remembered, key=lambda line: len(words(line) & words(question)), default="")
    return f"I remember: {best}" if words(best) & words(question) else "You have not told me."


def words(text: str) -> set[str]:
    """The words that carry a text's meaning, cut to their stems as roughly as an example may."""
    return {word[:STEM_CHARS] for word in re.findall(r"\w+", text.lower()) if word not in STOP}


def embedder() -> FunctionEmbedder:
    """Vectors without a model: each word a direction. `SentenceEmbedder()` knows meanings, too."""
    return FunctionEmbedder(_vectors, fingerprint="offline-words-1")


def _vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    rows = np.full((len(texts), DIMENSIONS), 1e-3, dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        for word in words(text):
            row[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4]) % DIMENSIONS] += 1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows
