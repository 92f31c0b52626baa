"""A question becomes ranked hits over one state of a cube, with how likely it is that they hold the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memos_engine.items import Hit
from memos_engine.ports import CubeSearch, Scores
from memos_engine.recall.abstain import confidence
from memos_engine.recall.rank import Query, best_first, keys_of, pool_of, rank, ranks_of, why
from memos_engine.recall.recipe import DEFAULT_RECIPE, Recipe
from memos_engine.recall.understand import Question

KEYED_MAX = 100
"""Entries that join the pool for their key."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a question found."""

    hits: tuple[Hit, ...] = ()
    """Best first; `score` is the first one's share of `confidence`, and so on down."""
    confidence: float = 0.0
    """0..1: the estimated probability that the cube holds what is asked."""
    understood: str = ""
    """What was taken to be asked."""


def retrieve(
    cube: CubeSearch,
    question: Question,
    row: Scores | None,
    *,
    limit: int,
    recipe: Recipe = DEFAULT_RECIPE,
    once: bool = False,
) -> Found:
    """The best `limit` items for a question, each with its reasons; none when nothing matches.

    Args:
        cube: What may be searched.
        question: What is asked, understood.
        row: The vector (D,) of its words. None when the cube has no vectors.
        limit: How many hits.
        recipe: Constants of the ranking.
        once: Show an episode in place of what was derived from it, so that a turn is said once.
    """
    postings = cube.postings(question.text)
    keyed = cube.keyed(keys_of(question), KEYED_MAX)
    query = Query(question, row, postings, keyed, recipe)
    pool = pool_of(cube, query, limit)
    if not len(pool.refs):
        return Found(understood=str(question))
    rank(cube, query, pool)
    places = best_first(pool)
    order = pool.refs[places].tolist()
    shown = [(ref, ref) for ref in order]
    if once:
        shown = said_once(order, cube.derived_from(order))
    shown = shown[:limit]
    items = cube.items([ref for ref, _ in shown])
    likely = confidence(pool.cosines, pool.shares(postings), postings.size)
    place_of = dict(zip(order, places.tolist(), strict=True))
    most, ranks = float(pool.worth.max()) or 1.0, ranks_of(pool)
    hits = tuple(
        Hit(
            items[ref],
            likely * float(pool.worth[place_of[earned]]) / most,
            why(pool, place_of[earned], ranks, question),
        )
        for ref, earned in shown
        if ref in items
    )
    return Found(hits, likely, str(question))


def said_once(order: Sequence[int], derived_from: Mapping[int, Sequence[int]]) -> list[tuple[int, int]]:
    """The order without repeats: pairs of the ref to show and the ref that earned its place.

    What was derived from an episode that was found too gives its place to the episode: that says the
    same in its own words, and the rest of the turn with it.
    """
    found = set(order)
    shown: dict[int, int] = {}
    for ref in order:
        for other in [origin for origin in derived_from.get(ref, ()) if origin in found] or [ref]:
            shown.setdefault(other, ref)
    return list(shown.items())
