"""A small honest `CubeSearch` in memory: a list of turns, exact cosines, a plain BM25, nobody's rights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from memos_engine.items import MemoryItem
from memos_engine.ports import Postings, Refs, Scores
from memos_engine.recall.understand import Question, understand
from memos_engine.testing.fakes import HashEmbedder

START = datetime(2025, 6, 1, 12, tzinfo=UTC)
EMBEDDER = HashEmbedder(512)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Said:
    """One item of the fake; its place in the list is its ref."""

    text: str
    speaker: str | None = None
    role: str | None = "user"
    session: int = 0
    at: datetime | None = None
    key: str | None = None
    vector: Scores | None = None
    """None for the fake embedder's."""


@dataclass
class MemorySearch:
    """A cube of a few items, all of which may be seen."""

    said: Sequence[Said]
    ties: Sequence[tuple[int, int, float]] = ()
    """What `related` tells."""
    origins: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """What `derived_from` tells."""

    def question(self, text: str) -> Question:
        """A query, understood among these speakers."""
        return understand(text, speakers={each.speaker for each in self.said if each.speaker}, now=START)

    def row(self, text: str) -> Scores:
        """The vector of a query's words."""
        row: Scores = EMBEDDER.embed([text])[0]
        return row

    def _rows(self) -> NDArray[np.float32]:
        return np.array(
            [EMBEDDER.embed([each.text])[0] if each.vector is None else each.vector for each in self.said],
            np.float32,
        )

    def nearest(self, row: Scores, limit: int) -> tuple[Refs, Scores]:
        """By brute force."""
        scores = self.cosines(row, np.arange(len(self.said)))
        best = np.argsort(-scores, kind="stable")[:limit]
        return best, scores[best]

    def cosines(self, row: Scores, refs: Refs) -> Scores:
        """By brute force."""
        if not len(refs):
            return np.empty(0, np.float32)
        return (self._rows()[refs] @ row).astype(np.float32)

    def postings(self, text: str) -> Postings:
        """BM25 with k1 = 1.2 and b = 0; the words are as they stand."""
        holders: dict[str, Refs] = {}
        texts = [_WORD.findall(each.text.lower()) for each in self.said]
        for word in dict.fromkeys(_WORD.findall(text.lower())):
            holders[word] = np.array([n for n, words in enumerate(texts) if word in words], np.int64)
        size = len(self.said)
        found = {}
        for word, refs in holders.items():
            idf = max(math.log((size - len(refs) + 0.5) / (len(refs) + 0.5)), 1e-6)
            counts = np.array([texts[ref].count(word) for ref in refs], np.float32)
            if len(refs):
                found[word] = (refs, (idf * counts * 2.2 / (counts + 1.2)).astype(np.float32))
        return Postings(size, {word: len(refs) for word, refs in holders.items()}, found)

    def around(self, refs: Refs, reach: int) -> Refs:
        """Turns next to each other in the list, of one session."""
        near = np.full((len(refs), 2 * reach + 1), -1, np.int64)
        for n, ref in enumerate(refs.tolist()):
            for distance in range(-reach, reach + 1):
                other = ref + distance
                if 0 <= other < len(self.said) and self.said[other].session == self.said[ref].session:
                    near[n, distance + reach] = other
        return near

    def said_by(self, refs: Refs, name: str | None) -> NDArray[np.bool_]:
        """By speaker, or by the role `user`."""
        return np.array(
            [
                self.said[ref].role == "user" if name is None else self.said[ref].speaker == name
                for ref in refs.tolist()
            ],
            np.bool_,
        )

    def within(self, since: datetime, until: datetime, limit: int) -> Refs:
        """In order of time."""
        timed = sorted(
            (each.at, ref) for ref, each in enumerate(self.said) if each.at and since <= each.at < until
        )
        return np.array([ref for _, ref in timed[:limit]], np.int64)

    def dated(self, refs: Refs, since: datetime, until: datetime) -> Refs:
        """Those in the window."""
        times = [(ref, self.said[ref].at) for ref in refs.tolist()]
        return np.array([ref for ref, at in times if at and since <= at < until], np.int64)

    def keyed(self, words: Sequence[str], limit: int) -> Refs:
        """Whatever the case."""
        lowered = {word.lower() for word in words}
        refs = [ref for ref, each in enumerate(self.said) if each.key and each.key.lower() in lowered]
        return np.array(refs[:limit], np.int64)

    def related(self, refs: Sequence[int]) -> Sequence[tuple[int, int, float]]:
        """Of what was told at the start, the pairs of these."""
        return [pair for pair in self.ties if pair[0] in refs]

    def items(self, refs: Sequence[int]) -> Mapping[int, MemoryItem]:
        """As episodes."""
        return {
            ref: MemoryItem(
                f"i{ref:05}", "c", "episode", self.said[ref].text,
                speaker=self.said[ref].speaker, event_at=self.said[ref].at or START + timedelta(minutes=ref),
            )
            for ref in refs
        }  # fmt: skip

    def derived_from(self, refs: Sequence[int]) -> Mapping[int, Sequence[int]]:
        """Of what was told at the start."""
        return {ref: self.origins[ref] for ref in refs if ref in self.origins}
