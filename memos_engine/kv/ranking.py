"""A query over key-value entries: each in its place by meaning and by words, as far as somebody reads.

Exact for up to FEW entries. Of more the first HEAD are as good as the cube's vector index, and all that
come after them are exact again; no entry is left out, and none comes twice. It knows no right beyond
the View that the entries are asked for with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from memos_engine.errors import EmbedderMismatch
from memos_engine.items import Filter
from memos_engine.models.embed import checked
from memos_engine.ports import Postings, Refs, Scores
from memos_engine.recall.abstain import word_weights
from memos_engine.shelf import TextShelf
from memos_engine.store.kv_rows import Among
from memos_engine.store.reading import CubeReader, EmbedderRow

Placed: TypeAlias = tuple[int, float | None]
"""An entry's ref, and its score; None for one that the query does not rank."""
Passes: TypeAlias = Callable[[Refs], NDArray[np.bool_]]

WORDS_WEIGHT = 0.8
"""How far holding all words of a query lifts an entry from its cosine towards 1. Of the questions of five LoCoMo
conversations, each turn an entry, recall@10 is 0.48 at 0 (the cosine alone), 0.63 at 0.5, 0.65 here and above."""
FEW = 1_000
"""Entries up to which all are scored at once."""
HEAD = 256
"""Of more: entries that the vectors propose for the first pages."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for: the words, and their vector (D,) by the cube's embedder; None: by words alone."""

    text: str
    row: Scores | None = None
    embedder: EmbedderRow | None = None


def asked(shelf: TextShelf, text: str, *, embed: bool) -> Question:
    """The question of a query; the model is asked for its vector where the cube has some.

    Raises:
        EmbedderMismatch: the cube's vectors were made by another embedder.
    """
    with shelf.file.read() as reader:
        embedder = reader.embedder() if embed else None
    if embedder is None:
        return Question(text)
    model = shelf.models.embedder
    if embedder.fingerprint != model.fingerprint:
        raise _another(embedder)
    # a model may read a question otherwise than what answers it
    reads: Callable[[str], Scores] | None = getattr(model, "embed_query", None)
    rows = shelf.embed([text]) if reads is None else checked([reads(text)], 1, embedder.dimension)
    return Question(text, checked(rows, 1, embedder.dimension)[0], embedder)


def placed(shelf: TextShelf, reader: CubeReader, among: Among, question: Question) -> Iterator[Placed]:
    """Every entry among those meant: the ranked ones, best first, then the others, newest first.

    Raises:
        EmbedderMismatch: the cube was embedded anew since the question was asked.
    """
    if question.embedder is not None and reader.embedder() != question.embedder:
        raise _another(question.embedder)
    seen: set[int] = set()
    for refs, scores in _Ranking(shelf, reader, among, question).parts():
        new = [pair for pair in zip(refs.tolist(), scores.tolist(), strict=True) if pair[0] not in seen]
        seen.update(ref for ref, _ in new)
        yield from new
    yield from ((ref, None) for ref in reader.kv_newest(among) if ref not in seen)


class _Ranking:
    """The entries that a question finds, in one state of the cube."""

    def __init__(self, shelf: TextShelf, reader: CubeReader, among: Among, question: Question) -> None:
        """Look up the question's words, and all entries where they are few."""
        self._resident = shelf.resident
        self._reader = reader
        self._among = among
        self._question = question
        few = reader.kv_indexed(among, FEW + 1)
        self._few = few if len(few) <= FEW else None
        postings = reader.postings(question.text, _seen(reader, among) if self._few is None else _of(few))
        self._held, self._shares = _shares(postings, postings.size if self._few is None else len(few))

    def parts(self) -> Iterator[tuple[Refs, Scores]]:
        """Refs and scores, best first: all of few; of many those that come first, then all."""
        row = self._question.row
        if row is None:
            meant = self._reader.kv_among(self._held, self._among)
            yield _best_first(self._held[meant], self._shares[meant])
        elif self._few is not None:
            yield self._scored(self._few, row)
        else:
            yield self._head(row)
            yield self._scored(self._reader.kv_indexed(self._among), row)

    def _head(self, row: Scores) -> tuple[Refs, Scores]:
        """The first ones of many: nothing that is left out scores more."""
        near = self._resident.nearest(self._reader, row, HEAD)
        refs = np.union1d(self._held, np.fromiter((ref for ref, _ in near), np.int64, len(near)))
        best, scores = self._scored(refs, row)
        least = near[-1][1] if len(near) == HEAD else -1.0
        best, scores = best[: 2 * HEAD], scores[: 2 * HEAD]
        meant = (scores >= least) & self._reader.kv_among(best, self._among)
        return best[meant], scores[meant]

    def _scored(self, refs: Refs, row: Scores) -> tuple[Refs, Scores]:
        """Those of `refs` (ascending) that have a vector or hold a word, best first."""
        cosines = self._resident.cosines(self._reader, row, refs)
        share = np.zeros(len(refs), np.float32)
        inside = np.isin(self._held, refs)
        share[np.searchsorted(refs, self._held[inside])] = self._shares[inside]
        told = (cosines != 0) | (share > 0)
        doubtful = refs[~told]
        if len(doubtful) and self._question.embedder is not None:  # at a right angle, or without a vector
            vectors = self._reader.with_vectors(doubtful.tolist(), self._question.embedder)
            told |= np.isin(refs, list(vectors))
        scores = np.minimum(cosines + WORDS_WEIGHT * share * (1 - cosines), np.float32(1))
        return _best_first(refs[told], scores[told])


def _of(refs: Refs) -> Passes:
    """Whether each is one of a few."""
    return lambda asked: np.isin(asked, refs)


def _seen(reader: CubeReader, among: Among) -> Passes:
    """Whether each may be seen, below the prefix or not: what may not be seen weighs on nothing that is told."""
    seen = reader.seen(Filter(), among.view)
    denied = np.array(sorted(seen.denied), np.int64)

    def passes(refs: Refs) -> NDArray[np.bool_]:
        allowed = np.ones(len(refs), np.bool_) if seen.allowed is None else np.isin(refs, seen.allowed)
        return allowed & ~np.isin(refs, denied)

    return passes


def _shares(postings: Postings, size: int) -> tuple[Refs, Scores]:
    """The refs, ascending, that hold a word of the query, and their share of its words by weight."""
    telling: Mapping[str, int] = {
        word: count for word, count in postings.held_by.items() if count == 0 or word in postings.found
    }
    weights = word_weights(telling, size)
    if not postings.found:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    refs = np.unique(np.concatenate([holders for holders, _ in postings.found.values()]))
    shares = np.zeros(len(refs), np.float32)
    for word, (holders, _) in postings.found.items():
        shares[np.searchsorted(refs, holders)] += weights[word]
    return refs, shares


def _best_first(refs: Refs, scores: Scores) -> tuple[Refs, Scores]:
    order: NDArray[np.int64] = np.lexsort((-refs, -scores))
    return refs[order], scores[order]


def _another(embedder: EmbedderRow) -> EmbedderMismatch:
    return EmbedderMismatch(
        f"this cube's vectors are, or were, made by {embedder.fingerprint!r}: open the MemOS with the embedder that "
        "made them, or run memos.reembed(name) once"
    )
