"""What search asks of the truth: the items that hold a word, by BM25, and the rows of vectors.

It knows no meaning of a vector and no ranking beyond BM25.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memos_engine.items import MemoryItem
from memos_engine.ports import Postings, Refs, Scores
from memos_engine.store.questions import EmbedderRow, Questions, chunks, marks
from memos_engine.store.rows import SELECT_ITEM, to_item, to_micros
from memos_engine.store.words import match_expression, query_words

KEYWORD_ROWS_MAX = 4_000
"""Rows that BM25 may score for one query, over all its words: about 2 us each. Rarer words come first."""
SMALL = 200
"""Items up to which every word is looked up."""


class SearchQuestions(Questions):
    """Questions about words and vectors."""

    def postings(self, text: str, seen: Callable[[Refs], NDArray[np.bool_]]) -> Postings:
        """Where the words of `text` stand, as far as `seen` lets refs pass; words that many items hold are left out.

        BM25 is a sum over words (FTS5's `bm25`), so the scores of one item may be added up.
        """
        held_by = {word: self._frequency(word) for word in query_words(text)}
        found: dict[str, tuple[Refs, Scores]] = {}
        for word in self._affordable(held_by):
            rows = self.rows(
                "SELECT rowid, -bm25(words) FROM words WHERE words MATCH ?", [match_expression([word])]
            )
            both = np.array(rows, np.float64).reshape(len(rows), 2)
            refs, scores = both[:, 0].astype(np.int64), both[:, 1].astype(np.float32)
            kept = seen(refs)
            found[word] = (refs[kept], scores[kept])
            if not kept.all():  # what a viewer may not see does not weigh on what he is told
                held_by[word] = int(kept.sum())
        return Postings(self.indexed(), held_by, found)

    def _affordable(self, held_by: Mapping[str, int]) -> list[str]:
        """The words worth scoring: the rarest, until together they match KEYWORD_ROWS_MAX rows.

        In a large cube a word that more than half of the items hold is left out: BM25 gives it no weight.
        """
        size = self.indexed()
        most = size / 2 if size > SMALL else size
        kept: list[str] = []
        total = 0
        for count, word in sorted((count, word) for word, count in held_by.items() if count > 0):
            total += count
            if kept and (total > KEYWORD_ROWS_MAX or count > most):
                break
            kept.append(word)
        return kept

    def indexed(self) -> int:
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

    def within(self, since: datetime, until: datetime, limit: int) -> Refs:
        """Refs of the first `limit` items in search whose `event_at` is in the window, `until` exclusive."""
        sql = "SELECT n FROM items WHERE event_at >= ? AND event_at < ? AND indexed = 1 ORDER BY event_at LIMIT ?"
        rows = self.rows(sql, [to_micros(since), to_micros(until), limit])
        return np.fromiter((row[0] for row in rows), np.int64, len(rows))

    def dated(self, refs: Refs, since: datetime, until: datetime) -> Refs:
        """Those of `refs` whose `event_at` is in the window, `until` exclusive."""
        window = [to_micros(since), to_micros(until)]
        found: list[int] = []
        for part in chunks(refs.tolist()):
            sql = f"SELECT n FROM items WHERE event_at >= ? AND event_at < ? AND n IN ({marks(part)})"
            found += [row[0] for row in self.rows(sql, [*window, *part])]
        return np.array(found, np.int64)

    def keyed(self, words: Sequence[str], limit: int) -> Refs:
        """Refs of entries in search whose key is one of `words`, whatever the case of its ASCII letters."""
        sql = f"SELECT n FROM items WHERE key COLLATE NOCASE IN ({marks(words)}) AND key IS NOT NULL AND indexed = 1"
        rows = self.rows(f"{sql} LIMIT ?", [*words, limit])
        return np.fromiter((row[0] for row in rows), np.int64, len(rows))

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
