"""Search and recall on a shelf: a query is understood, embedded, ranked over one state, and packed.

The decisions are the recall stage's; here is the order of effects. Models run outside the read
transaction, which they must not hold open.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from memos_engine.capture.validate import check_several, check_text
from memos_engine.errors import BadText, EmbedderMismatch, ModelFailed
from memos_engine.items import Context, Filter, Hit, MemoryItem, Reason
from memos_engine.models.embed import checked
from memos_engine.models.rerank import checked_scores
from memos_engine.ports import CountTokens, Postings, Refs, Scores
from memos_engine.recall.context import pack
from memos_engine.recall.recipe import DEFAULT_RECIPE, Recipe
from memos_engine.recall.retrieve import Found, retrieve
from memos_engine.recall.understand import Question, understand
from memos_engine.shelf import Actor, TextShelf
from memos_engine.store.reading import CubeReader
from memos_engine.store.rows import View
from memos_engine.store.turns import Turns
from memos_engine.times.wording import spoken

RECALL_HITS = (50, 2_000)
"""Least and most hits that a recall ranks for its budget."""
TOKENS_PER_LINE = 12  # a short line; a budget holds about so many tokens per hit at least
LEFT_OUT_MAX = 10
READ_MAX = 1_000_000
"""Items of a time, or entries of a key, that are looked through for those that pass a filter."""
RERANKED = 50
"""First hits that a reranker reads."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a recall is asked to keep to."""

    budget_tokens: int
    count_tokens: CountTokens
    min_score: float
    """Estimated probability below which the context stays empty."""


def search(
    shelf: TextShelf, query: str, actor: Actor, *, limit: int, wanted: Filter, recipe: Recipe = DEFAULT_RECIPE
) -> list[Hit]:
    """The best hits for a query."""
    (found,) = _found(shelf, [[query]], actor, limit=limit, wanted=wanted, recipe=recipe, once=False)
    return list(found.hits[:limit])


def recall(
    shelf: TextShelf,
    queries: Sequence[str],
    actor: Actor,
    asked: Asked,
    *,
    wanted: Filter,
    recipe: Recipe = DEFAULT_RECIPE,
) -> list[Context]:
    """The best context for each query within the budget; all are embedded in one batch, read in one state."""
    least, most = RECALL_HITS
    limit = min(max(asked.budget_tokens // TOKENS_PER_LINE, least), most)
    variants = [[query, *_rewritten(shelf, query)] for query in queries]
    found = _found(shelf, variants, actor, limit=limit, wanted=wanted, recipe=recipe, once=True)
    return [_context(each, asked, recipe) for each in found]


def _rewritten(shelf: TextShelf, query: str) -> list[str]:
    """What the rewriter makes of a query, each as good as a caller's.

    Raises:
        ModelFailed: it made something else.
    """
    if shelf.models.rewrite is None:
        return []
    try:
        return [check_text(text) for text in check_several(shelf.models.rewrite(query), "rewrite", BadText)]
    except BadText as exc:
        raise ModelFailed(f"the rewriter's answer is no list of queries: {exc}") from exc


def _context(found: Found, asked: Asked, recipe: Recipe) -> Context:
    if found.confidence < asked.min_score:
        return Context(
            score=found.confidence, understood=found.understood, left_out=found.hits[:LEFT_OUT_MAX]
        )
    context = pack(found.hits, asked.budget_tokens, asked.count_tokens, novelty=recipe.novelty)
    there = {hit.item.id for hit in context.hits}
    left_out = tuple(hit for hit in found.hits if hit.item.id not in there)[:LEFT_OUT_MAX]
    return dataclasses.replace(
        context, score=found.confidence, understood=found.understood, left_out=left_out
    )


def _found(
    shelf: TextShelf,
    variants: Sequence[Sequence[str]],
    actor: Actor,
    *,
    limit: int,
    wanted: Filter,
    recipe: Recipe,
    once: bool,
) -> list[Found]:
    """What each query finds, by the best of its variants."""
    questions, rows = _understood(shelf, [text for texts in variants for text in texts], actor.view)
    with shelf.file.read() as reader:
        cube = ScopedSearch(shelf, reader, wanted, actor.view)
        each = iter(
            [
                retrieve(cube, question, row, limit=limit, recipe=recipe, once=once)
                for question, row in zip(questions, rows, strict=True)
            ]
        )
    merged = [_merged([next(each) for _ in texts]) for texts in variants]
    return [_reranked(shelf, texts[0], found) for texts, found in zip(variants, merged, strict=True)]


def _understood(
    shelf: TextShelf, texts: Sequence[str], view: View
) -> tuple[list[Question], Sequence[Scores | None]]:
    """The questions, and the vector (D,) of each one's words; None when the cube has no vectors.

    A name counts as one only where the viewer may see a turn of its bearer: else it would tell who speaks.

    Raises:
        EmbedderMismatch: the cube was embedded anew by another embedder meanwhile.
    """
    with shelf.file.read() as reader:
        embedder = reader.embedder()
        turns = shelf.turns.follow(reader)
    with shelf.file.read() as reader:  # no older than the turns, so that what is hidden of them is known
        names = turns.names_among(reader.seen(Filter(), view))
    now = shelf.clock()
    questions = [understand(text, speakers=names, now=now) for text in texts]
    if embedder is None:
        return questions, [None] * len(texts)
    if embedder.fingerprint != shelf.models.embedder.fingerprint:
        raise EmbedderMismatch(
            f"this cube's vectors were made anew by {embedder.fingerprint!r} after it was opened with "
            f"{shelf.models.embedder.fingerprint!r}: open the MemOS again with the new one"
        )
    rows = shelf.embed([question.words for question in questions])
    if rows.shape[1] != embedder.dimension:
        rows = checked(rows, len(questions), embedder.dimension)
    return questions, list(rows)


def _merged(founds: Sequence[Found]) -> Found:
    """Each item once, by the best of its scores; what was derived from a turn that is there is left out."""
    if len(founds) == 1:
        return founds[0]
    best: dict[str, Hit] = {}
    for found in founds:
        for hit in found.hits:
            if hit.item.id not in best or best[hit.item.id].score < hit.score:
                best[hit.item.id] = hit
    said = {source for hit in best.values() if hit.item.kind == "episode" for source in _turns(hit)}
    kept = [hit for hit in best.values() if hit.item.kind == "episode" or not said.intersection(_turns(hit))]
    hits = sorted(kept, key=lambda hit: -hit.score)
    understood = "; ".join(found.understood for found in founds)
    return Found(tuple(hits), max(found.confidence for found in founds), understood)


def _turns(hit: Hit) -> set[tuple[str | None, str]]:
    """The callers' turns that a hit is, or was derived from."""
    return {(source.thread, source.message_id) for source in hit.item.sources if source.message_id}


def _reranked(shelf: TextShelf, query: str, found: Found) -> Found:
    """The first hits in the reranker's order; the scores stay with the places, so that they still fall."""
    if shelf.models.reranker is None or not found.hits:
        return found
    read, rest = found.hits[:RERANKED], found.hits[RERANKED:]
    texts = [spoken(hit.item.text, hit.item.speaker, hit.item.event_at) for hit in read]
    scores = checked_scores(shelf.models.reranker.scores(query, texts), len(texts))
    order = np.argsort(-scores, kind="stable").tolist()
    hits = tuple(
        Hit(
            read[place].item,
            hit.score,
            (
                *read[place].why,
                Reason("rerank", number, float(scores[place]), shelf.models.reranker.fingerprint),
            ),
        )
        for number, (place, hit) in enumerate(zip(order, read, strict=True), start=1)
    )
    return Found((*hits, *rest), found.confidence, found.understood)


class ScopedSearch:
    """A `CubeSearch` over one read transaction, one viewer and one filter: nothing else is ever returned."""

    def __init__(self, shelf: TextShelf, reader: CubeReader, wanted: Filter, view: View) -> None:
        """Search what `view` may see of what is wanted, in the reader's state."""
        self._reader = reader
        self._resident = shelf.resident
        self._view = view
        self._seen = reader.seen(wanted, view)
        self._denied = np.fromiter(self._seen.denied, np.int64, len(self._seen.denied))
        self._turns: Turns = shelf.turns.follow(reader)

    def _passes(self, refs: Refs) -> NDArray[np.bool_]:
        passes = np.ones(len(refs), np.bool_)
        if self._seen.allowed is not None:
            passes &= np.isin(refs, self._seen.allowed)
        if len(self._denied):
            passes &= ~np.isin(refs, self._denied)
        return passes

    def _wide(self, limit: int) -> int:
        """How many to read so that `limit` are left of those that pass; all where few may pass."""
        return limit + len(self._denied) if self._seen.allowed is None else READ_MAX

    def nearest(self, row: Scores, limit: int) -> tuple[Refs, Scores]:
        """Refs of the items nearest to `row`, with their cosine, best first."""
        wide = limit + len(self._denied)
        found = self._resident.nearest(self._reader, row, wide, self._seen.allowed)
        refs = np.fromiter((ref for ref, _ in found), np.int64, len(found))
        scores = np.fromiter((score for _, score in found), np.float32, len(found))
        kept = self._passes(refs)
        return refs[kept][:limit], scores[kept][:limit]

    def cosines(self, row: Scores, refs: Refs) -> Scores:
        """The cosine of each of `refs` with `row`; 0 for what has no vector."""
        return self._resident.cosines(self._reader, row, refs)

    def postings(self, text: str) -> Postings:
        """Where the words of `text` stand."""
        found = self._reader.postings(text, self._passes)
        return dataclasses.replace(found, size=max(found.size - len(self._denied), 1))

    def around(self, refs: Refs, reach: int) -> Refs:
        """Refs of the turns before and after each, itself in the middle; -1 where none is."""
        near = self._turns.around(refs, reach)
        hidden = ~self._passes(near.ravel()).reshape(near.shape)
        return np.where(hidden, -1, near)

    def said_by(self, refs: Refs, name: str | None) -> NDArray[np.bool_]:
        """Which of `refs` are turns of a speaker, or of the role `user`."""
        return self._turns.said_by(refs, name)

    def within(self, since: datetime, until: datetime, limit: int) -> Refs:
        """Refs of items whose `event_at` is in the window."""
        refs = self._reader.within(since, until, self._wide(limit))
        return refs[self._passes(refs)][:limit]

    def dated(self, refs: Refs, since: datetime, until: datetime) -> Refs:
        """Those of `refs` whose `event_at` is in the window."""
        return self._reader.dated(refs, since, until)

    def keyed(self, words: Sequence[str], limit: int) -> Refs:
        """Refs of entries whose key is one of `words`."""
        refs = self._reader.keyed(words, self._wide(limit))
        return refs[self._passes(refs)][:limit]

    def related(self, refs: Sequence[int]) -> Sequence[tuple[int, int, float]]:
        """Pairs of a ref and another that speaks of the same concepts, with a weight."""
        return self._reader.related(refs)

    def items(self, refs: Sequence[int]) -> Mapping[int, MemoryItem]:
        """The items of `refs` that the viewer may see."""
        return self._reader.items(refs, self._view)

    def derived_from(self, refs: Sequence[int]) -> Mapping[int, Sequence[int]]:
        """For each of `refs` that was derived: the refs it was derived from."""
        return self._reader.derived_from(refs)
