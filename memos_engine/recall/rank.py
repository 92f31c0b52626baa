"""A query's candidates and their scores: dense, keyword, neighbours, person, time, key and tree. Pure numpy.

The pool is the best of dense and keyword search with the turns around them. Each retriever's scores are
standardised within the pool and cut at 0, so that what is below average adds nothing; then turns lend to
their neighbours. `Pool` holds the candidates as arrays in order of ref.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from memos_engine.items import Reason, Retriever
from memos_engine.ports import CubeSearch, Postings, Refs, Scores
from memos_engine.recall.abstain import word_weights
from memos_engine.recall.recipe import Recipe
from memos_engine.recall.understand import Question

WINDOW_REFS_MAX = 100
"""Items of a named time that join the pool for being of that time."""
SEEDS = 10
"""First hits from which the tree is walked."""
WHY_WORDS = 6
KEYS_MAX = 64
"""Words of a query that may be keys, first come."""
NEIGHBOUR_MIN = 0.1
"""Worth from which a turn is a hit for what stands around it alone."""
TIE = 0.001
"""Weight of the raw scores, which put those in order that are below the pool's average."""


@dataclass(slots=True)
class Pool:
    """Candidates (N,) in order of ref, with all their scores."""

    refs: Refs
    near: Refs
    """Places (N, 2 * reach + 1) of the neighbours; N stands for none."""
    words: tuple[str, ...]
    held: Scores
    """BM25 (W, N) of each word in each item."""
    cosines: Scores | None
    """None when the cube has no vectors."""
    seeds: NDArray[np.bool_]
    """Found by a retriever, not only for standing beside what was."""
    worth: Scores = field(default_factory=lambda: np.empty(0, np.float32))
    """The fused score; 0 for what nothing speaks for."""
    parts: dict[Retriever, Scores] = field(default_factory=dict)
    """What each retriever added to `worth`; the retriever's own score for dense and keyword."""

    def shares(self, postings: Postings) -> Scores | None:
        """The share (N,) of the query's words, by weight: half what an item holds, half what stands around it."""
        weights = word_weights({word: postings.held_by[word] for word in _telling(postings)}, postings.size)
        if not weights:
            return None
        weight = np.array([weights.get(word, 0.0) for word in self.words], np.float32)
        own = _padded(self.held > 0)
        around = own[:, self.near].any(axis=2)
        share = weight @ (own[:, :-1] + around.astype(np.float32)) / 2
        return share.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: a question, the vector (D,) of its words, where they stand, and how to rank."""

    question: Question
    row: Scores | None
    """None when the cube has no vectors."""
    postings: Postings
    keyed: Refs
    """Entries whose key stands in the question."""
    recipe: Recipe


def pool_of(cube: CubeSearch, query: Query, limit: int) -> Pool:
    """The candidates for a query: the best of each retriever, `limit` at least, and the turns around them."""
    row, postings, recipe = query.row, query.postings, query.recipe
    found = _seeds(cube, query, max(recipe.pool, limit))
    refs = np.unique(cube.around(found, recipe.reach)) if len(found) else found
    refs = refs[refs >= 0]
    around = cube.around(refs, recipe.reach)
    near: Refs = np.minimum(np.searchsorted(refs, around), max(len(refs) - 1, 0))
    near = np.where(refs[near] == around, near, len(refs)) if len(refs) else around
    words = tuple(postings.found)
    held = np.zeros((len(words), len(refs)), np.float32)
    for n, (holders, scores) in enumerate(postings.found.values()):
        places = np.minimum(np.searchsorted(refs, holders), max(len(refs) - 1, 0))
        inside = refs[places] == holders if len(refs) else np.zeros(len(holders), np.bool_)
        held[n, places[inside]] = scores[inside]
    cosines = None if row is None else cube.cosines(row, refs)
    return Pool(refs, near, words, held, cosines, np.isin(refs, found))


def _seeds(cube: CubeSearch, query: Query, wide: int) -> Refs:
    """Refs that a retriever found, ascending."""
    question, recipe = query.question, query.recipe
    seeds = [np.empty(0, np.int64)]
    if query.postings.found:
        scores = np.concatenate([scores for _, scores in query.postings.found.values()])
        holders = np.concatenate([refs for refs, _ in query.postings.found.values()])
        refs, places = np.unique(holders, return_inverse=True)
        seeds.append(refs[np.argsort(-np.bincount(places, scores), kind="stable")[:wide]])
    if query.row is not None:
        near, cosines = cube.nearest(query.row, wide)
        seeds.append(near[cosines >= recipe.similarity_min])
    if question.window is not None and recipe.time:
        seeds.append(cube.within(*question.window, WINDOW_REFS_MAX))
    if recipe.key:
        seeds.append(query.keyed)
    return np.unique(np.concatenate(seeds))


def keys_of(question: Question) -> list[str]:
    """What of a question may be a key: the whole, and its words."""
    text = question.text.strip()
    return list(dict.fromkeys([text, *(word.strip("?!.,:;\"'") for word in text.split()[:KEYS_MAX])]))


def rank(cube: CubeSearch, query: Query, pool: Pool) -> None:
    """Fill in what each candidate is worth, and which part each retriever has in it."""
    recipe = query.recipe
    worth = TIE * pool.held.sum(axis=0)
    if pool.cosines is not None:
        worth = worth + TIE * np.maximum(pool.cosines, 0)
    if pool.cosines is not None and recipe.dense_weight:
        pool.parts["dense"] = np.where(pool.cosines >= recipe.similarity_min, pool.cosines, 0)
        worth = worth + recipe.dense_weight * _standardised(
            pool.cosines, recipe.cosine_prior, recipe.prior_rows
        )
    if pool.words and recipe.keyword_weight:
        pool.parts["keyword"] = pool.held.sum(axis=0)
        lent = _lexical(pool, recipe)
        worth = worth + recipe.keyword_weight * _standardised(lent, recipe.keyword_prior, recipe.prior_rows)
    if recipe.reach and recipe.lend:
        beside = _padded(worth[None])[0][pool.near[:, [recipe.reach - 1, recipe.reach + 1]]].sum(axis=1)
        pool.parts["graph"] = recipe.lend * beside
        worth = worth + pool.parts["graph"]
    for name, bonus in _bonuses(cube, query, pool).items():
        pool.parts[name] = bonus
        worth = worth + bonus
    pool.worth = worth
    if recipe.tree:
        related = _related(cube, pool)
        pool.parts["graph"] = pool.parts.get("graph", 0) + recipe.tree * related
        pool.worth = worth + recipe.tree * related


def _lexical(pool: Pool, recipe: Recipe) -> Scores:
    """BM25 (N,) where each word counts at its best place around the item: max first, then the sum over words."""
    fade = recipe.decay ** np.abs(np.arange(-recipe.reach, recipe.reach + 1), dtype=np.float32)
    lent: Scores = (_padded(pool.held)[:, pool.near] * fade).max(axis=2).sum(axis=0)
    return lent


def _standardised(scores: Scores, prior: tuple[float, float], rows: int) -> Scores:
    """Deviations above the mean, 0 below it, with `rows` rows of the prior's mean and deviation mixed in."""
    if not len(scores):
        return scores
    mean, deviation = prior
    total = len(scores) + rows
    centre = (scores.sum() + rows * mean) / total
    variance = (((scores - centre) ** 2).sum() + rows * (deviation**2 + (mean - centre) ** 2)) / total
    above: Scores = np.maximum((scores - centre) / np.sqrt(variance + 1e-12), 0).astype(np.float32)
    return above


def _bonuses(cube: CubeSearch, query: Query, pool: Pool) -> dict[Retriever, Scores]:
    question, recipe = query.question, query.recipe
    found: dict[Retriever, Scores] = {}
    if question.person is not None and recipe.person:
        found["person"] = recipe.person * cube.said_by(pool.refs, question.person).astype(np.float32)
    elif question.first_person and recipe.first_person:
        found["person"] = recipe.first_person * cube.said_by(pool.refs, None).astype(np.float32)
    if question.window is not None and recipe.time:
        inside = np.isin(pool.refs, cube.dated(pool.refs, *question.window))
        found["time"] = recipe.time * inside.astype(np.float32)
    elif question.latest and recipe.latest and len(pool.refs) > 1:
        found["time"] = recipe.latest * np.linspace(
            0, 1, len(pool.refs), dtype=np.float32
        )  # refs rise with time
    if recipe.key and len(query.keyed):
        found["key"] = recipe.key * np.isin(pool.refs, query.keyed).astype(np.float32)
    return found


def _related(cube: CubeSearch, pool: Pool) -> Scores:
    """How much each candidate shares with the first hits by concepts, 0..1."""
    related = np.zeros(len(pool.refs), np.float32)
    seeds = pool.refs[np.argsort(-pool.worth, kind="stable")[:SEEDS]]
    pairs = cube.related(seeds.tolist())
    if pairs and len(pool.refs):
        others = np.array([other for _, other, _ in pairs], np.int64)
        places = np.minimum(np.searchsorted(pool.refs, others), len(pool.refs) - 1)
        inside = pool.refs[places] == others
        np.add.at(related, places[inside], np.array([weight for *_, weight in pairs], np.float32)[inside])
    most = related.max(initial=0.0)
    return related / most if most > 0 else related


def best_first(pool: Pool) -> NDArray[np.int64]:
    """Places of the candidates that were found or that their neighbours speak for, best first; ties older first."""
    order = np.lexsort((pool.refs, -pool.worth))
    alive: NDArray[np.int64] = order[(pool.seeds | (pool.worth > NEIGHBOUR_MIN))[order]]
    return alive


def why(
    pool: Pool, place: int, ranks: Mapping[Retriever, NDArray[np.int64]], question: Question
) -> tuple[Reason, ...]:
    """Which retriever speaks for a candidate, at which rank, with what."""
    reasons = []
    for name, scores in pool.parts.items():
        if scores[place] > 0:
            reasons.append(
                Reason(
                    name, int(ranks[name][place]), float(scores[place]), _detail(pool, place, name, question)
                )
            )
    return tuple(reasons)


def ranks_of(pool: Pool) -> dict[Retriever, NDArray[np.int64]]:
    """Each candidate's rank (N,) by each retriever, from 1."""
    ranks: dict[Retriever, NDArray[np.int64]] = {}
    for name, scores in pool.parts.items():
        rank_of = np.empty(len(scores), np.int64)
        rank_of[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
        ranks[name] = rank_of
    return ranks


def _detail(pool: Pool, place: int, name: Retriever, question: Question) -> str:
    if name == "keyword":
        held = [word for word, scores in zip(pool.words, pool.held, strict=True) if scores[place] > 0]
        return ", ".join(held[:WHY_WORDS])
    if name == "person":
        return question.person or "the user"
    if name == "time":
        return "newest" if question.window is None else f"{question.window[0]:%Y-%m-%d}"
    return "beside or tied to other hits" if name == "graph" else ""


def _telling(postings: Postings) -> Sequence[str]:
    """The query's words that tell items apart: those looked up, and those that no item holds."""
    return [word for word, count in postings.held_by.items() if count == 0 or word in postings.found]


def _padded(rows: NDArray[np.generic]) -> Scores:
    """Rows (W, N) with a last column of 0, at which a missing neighbour points."""
    return np.concatenate([rows.astype(np.float32), np.zeros((len(rows), 1), np.float32)], axis=1)
