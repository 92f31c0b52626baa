"""What search asks of the truth: the items that hold a word, by BM25, and the rows of vectors.

It knows no meaning of a vector and no ranking beyond BM25.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memos_engine.items import MemoryItem
from memos_engine.store.questions import EmbedderRow, Questions, chunks, marks
from memos_engine.store.rows import SELECT_ITEM, to_item
from memos_engine.store.words import match_expression, query_words

KEYWORD_ROWS_MAX = 4_000
"""Rows that BM25 may score for one query, over all its words: about 2 us each. Rarer words come first."""


class SearchQuestions(Questions):
    """Questions about words and vectors."""

    def keyword(self, text: str, limit: int, allowed: NDArray[np.int64] | None) -> list[tuple[int, float]]:
        """Refs of items that hold words of `text`, best BM25 first, with the score (higher is better)."""
        kept = self._affordable(query_words(text))
        if not kept:
            return []
        sql = "SELECT rowid, -bm25(words) AS score FROM words WHERE words MATCH ? ORDER BY score DESC LIMIT ?"
        if allowed is None:
            return self.rows(sql, [match_expression(kept), limit])
        rows = self.rows(sql, [match_expression(kept), -1])
        inside = set(allowed.tolist())
        return [row for row in rows if row[0] in inside][:limit]

    def _affordable(self, words: Sequence[str]) -> list[str]:
        """The words worth scoring: the rarest, until together they match KEYWORD_ROWS_MAX rows.

        A word that more than half of the items hold goes first: BM25 gives it no weight.
        """
        counted = sorted((count, word) for word in words if (count := self._frequency(word)) > 0)
        half = self._indexed() / 2
        kept: list[str] = []
        total = 0
        for count, word in counted:
            total += count
            if kept and (total > KEYWORD_ROWS_MAX or count > half):
                break
            kept.append(word)
        return kept

    def _indexed(self) -> int:
        """How many items the words index holds, about: cached as word frequencies are."""
        known = self._frequencies.get("")
        if known is None:
            known = self._frequencies[""] = int(self.value("SELECT count(*) FROM words_docsize"))
        return known

    def _frequency(self, word: str) -> int:
        """Rows that hold `word`, about: cached until the cube has changed much (see CubeFile)."""
        known = self._frequencies.get(word)
        if known:
            return known
        if word.endswith("*"):
            sql = "SELECT sum(doc) FROM vocabulary WHERE term >= ? AND term < ?"
            found = self.value(sql, [word[:-1], word[:-1] + "\U0010ffff"])
        else:
            stems = self._stems(word)
            sql = f"SELECT min(doc) * (count(*) = ?) FROM vocabulary WHERE term IN ({marks(stems)})"
            found = self.value(sql, [len(set(stems)), *stems])
        count = int(found or 0)
        self._frequencies[word] = count
        return count

    def _stems(self, word: str) -> list[str]:
        tokenizer = self.connection.fts5_tokenizer(
            "porter", ["unicode61", "remove_diacritics", "2", "categories", "L* N* Co Mn Mc"]
        )
        found: Any = tokenizer(word.encode(), 1, None)  # (start, end, token, synonyms...) each
        return [token for each in found for token in each[2:]]

    def embedder(self) -> EmbedderRow | None:
        """The embedder whose vectors searches use. None when no vector was ever stored."""
        row = self.rows("SELECT n, fingerprint, dimension FROM embedders WHERE current = 1")
        return EmbedderRow(*row[0]) if row else None

    def vectors(
        self, embedder: EmbedderRow, *, after: int = 0
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Vector ids, item refs and rows (N, D) float32 of all vectors with an id above `after`, in order of id."""
        rows = self.rows(
            "SELECT v, item, data FROM vectors WHERE embedder = ? AND v > ? ORDER BY v", [embedder.n, after]
        )
        ids = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        refs = np.fromiter((row[1] for row in rows), np.int64, len(rows))
        joined = b"".join([row[2] for row in rows])
        return ids, refs, np.frombuffer(joined, np.dtype("<f4")).reshape(len(rows), embedder.dimension)

    def without_vectors(self, fingerprint: str, *, limit: int) -> list[tuple[int, MemoryItem, list[str]]]:
        """Refs and items that have no vector by the embedder of `fingerprint`, with their current vectors' names."""
        rows = self.rows(
            f"{SELECT_ITEM} WHERE i.indexed = 1 AND NOT EXISTS (SELECT 1 FROM vectors v"
            " JOIN embedders e ON e.n = v.embedder AND e.fingerprint = ? WHERE v.item = i.n) ORDER BY n LIMIT ?",
            [fingerprint, limit],
        )
        names: dict[int, list[str]] = {row[0]: [] for row in rows}
        for part in chunks(list(names)):
            for n, name in self.rows(
                f"SELECT DISTINCT item, name FROM vectors WHERE item IN ({marks(part)}) ORDER BY v", part
            ):
                names[n].append(name)
        return [(row[0], to_item(self.cube, row[1:]), names[row[0]]) for row in rows]

    def vectors_of_items(
        self, refs: Sequence[int], embedder: EmbedderRow
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Item refs and rows of all vectors of the items `refs`, in no order."""
        rows: list[tuple[int, bytes]] = []
        for part in chunks(refs):
            rows += self.rows(
                f"SELECT item, data FROM vectors WHERE item IN ({marks(part)}) AND embedder = ?",
                [*part, embedder.n],
            )
        found = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        joined = b"".join([row[1] for row in rows])
        return found, np.frombuffer(joined, np.dtype("<f4")).reshape(len(rows), embedder.dimension)

    def gone_vectors(self, *, after: int) -> list[tuple[int, int, bool]]:
        """Entries after `after` of the log of removed vectors: its number, the vector's id, by `forget` or not."""
        rows = self.rows("SELECT g, v, erased FROM gone_vectors WHERE g > ? ORDER BY g", [after])
        return [(g, v, bool(erased)) for g, v, erased in rows]

    def vectors_after(self, v: int, embedder: EmbedderRow) -> int:
        """How many vectors there are above an id."""
        sql = "SELECT count(*) FROM vectors WHERE v > ? AND embedder = ?"
        return int(self.value(sql, [v, embedder.n]))

    def erased_vectors(self, after: int, *, upto: int) -> int:
        """How many vectors up to an id `forget` removed after an entry of the log of gone vectors."""
        sql = "SELECT count(*) FROM gone_vectors WHERE g > ? AND v <= ? AND erased = 1"
        return int(self.value(sql, [after, upto]))
