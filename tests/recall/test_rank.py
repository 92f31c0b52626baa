"""How candidates are scored: each part changes the order as it promises, and says so."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_engine.items import Hit, Retriever
from memos_engine.ports import CubeSearch
from memos_engine.recall.rank import Pool, Query, keys_of, pool_of, rank
from memos_engine.recall.recipe import DEFAULT_RECIPE, Recipe
from memos_engine.recall.retrieve import Found, retrieve, said_once
from tests.recall.memory_search import START, MemorySearch, Said

WORDS_ONLY = Recipe(dense_weight=0, lend=0, tree=0)
APART = [Said(f"filler {name}", session=n) for n, name in enumerate("abcdefghij", start=100)]
"""Items that nothing asks for."""


def found(
    cube: CubeSearch, text: str, recipe: Recipe = DEFAULT_RECIPE, *, dense: bool = True, **more: Any
) -> Found:
    """What a query finds in a fake."""
    assert isinstance(cube, MemorySearch)
    question = cube.question(text)
    row = cube.row(question.words) if dense else None
    return retrieve(cube, question, row, limit=more.pop("limit", 50), recipe=recipe, **more)


def order(hits: Sequence[Hit]) -> list[int]:
    """Refs of the hits."""
    return [int(hit.item.id[1:]) for hit in hits]


def reasons(hit: Hit) -> dict[Retriever, float]:
    """What each retriever said of a hit."""
    return {reason.retriever: reason.score for reason in hit.why}


def pooled(cube: MemorySearch, text: str, recipe: Recipe, *, dense: bool = False) -> Pool:
    """The ranked pool of a query."""
    question = cube.question(text)
    row = cube.row(question.words) if dense else None
    query = Query(question, row, cube.postings(text), cube.keyed(keys_of(question), 100), recipe)
    pool = pool_of(cube, query, 50)
    rank(cube, query, pool)
    return pool


def test_a_word_beside_counts_less_with_distance() -> None:
    """A word counts 0.7 ** d at distance d, at its best place, within reach and session."""
    talk = [
        Said("otter"),
        Said("one"),
        Said("two"),
        Said("three"),
        Said("otter", session=1),
        Said("x", session=1),
    ]
    recipe = dataclasses.replace(
        WORDS_ONLY, keyword_prior=(0.0, 1.0), prior_rows=10**9
    )  # z-scores are the scores
    pool = pooled(MemorySearch([*talk, *APART]), "otter", recipe)
    bm25 = pool.held[0, 0]
    assert pool.refs.tolist() == [0, 1, 2, 4, 5]
    expected = bm25 * np.array([1, 0.7, 0.49, 1, 0.7]) + 0.001 * np.array([bm25, 0, 0, bm25, 0])
    np.testing.assert_allclose(pool.worth, expected, rtol=1e-4)


def test_two_words_meet_between_two_turns() -> None:
    """An answer that stands between the turns that hold the question's words is a hit, behind none of noise."""
    talk = [
        Said("Which boat did you sail?"),
        Said("Archibald, mostly"),
        Said("and where did the ferry dock?"),
    ]
    hits = found(MemorySearch([*talk, *APART]), "boat ferry", dense=False).hits
    assert set(order(hits)) == {0, 1, 2}
    assert reasons(hits[order(hits).index(1)])["graph"] > 0


def test_neighbours_lend() -> None:
    """A turn beside a hit gets a share of its worth; with nothing lent and no reach it is no hit."""
    talk = MemorySearch([Said("an otter"), Said("it swam"), *APART])
    near = found(talk, "otter")
    assert order(near.hits) == [0, 1]
    assert "graph" in reasons(near.hits[1])
    assert near.hits[1].why[0].detail == "beside or tied to other hits"
    assert order(found(talk, "otter", Recipe(reach=0)).hits) == [0]
    twice = pooled(talk, "otter", Recipe(decay=0, tree=0))
    none = pooled(talk, "otter", Recipe(decay=0, lend=0, tree=0))
    assert twice.worth[1] - none.worth[1] == pytest.approx(0.2 * none.worth[0], rel=1e-4)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_matches_is_a_hit_however_few_there_are(count: int, dense: bool) -> None:
    """A pool of one to three has no deviation of its own: what matches is still above the prior's mean."""
    cube = MemorySearch([Said("the otter sleeps", session=n) for n in range(count)])
    hits = found(cube, "otter", dense=dense).hits
    assert order(hits) == list(range(count)), "ties stand by age"
    assert all(hit.score > 0 and math.isfinite(hit.score) for hit in hits)
    some = found(MemorySearch([*cube.said, Said("nothing alike", session=99)]), "otter", dense=dense).hits
    assert order(some) == list(range(count))


TWINS = [
    Said("tea with milk", "Ann", session=0, at=START),
    Said("tea with milk", "Bob", "assistant", 1, START + timedelta(days=40)),
]


@pytest.mark.parametrize(
    ("query", "part", "first", "off"),
    [
        ("Does Bob drink tea with milk?", "person", 1, {"person": 0}),
        ("Did Bob drink tea with milk in July 2025?", "time", 1, {"person": 0, "time": 0}),
        ("Who had tea with milk on 11 July 2025?", "time", 1, {"time": 0}),
        ("What is the latest on tea with milk?", "time", 1, {"latest": 0}),
    ],
)
def test_a_bonus_changes_the_order(query: str, part: Retriever, first: int, off: dict[str, Any]) -> None:
    """Of two equal texts the one meant comes first and says why; without its weight the older does."""
    cube = MemorySearch([*TWINS, *APART])
    hits = found(cube, query).hits
    assert order(hits)[0] == first
    assert reasons(hits[0])[part] > 0
    without = found(cube, query, Recipe(**off)).hits
    assert order(without)[:2] == [0, 1]
    assert part not in reasons(without[0])
    assert part not in reasons(without[1])


def test_the_user_and_keys() -> None:
    """`My` means what users said; a word that is an entry's key means that entry, in any case."""
    cube = MemorySearch([*TWINS[::-1], Said("port seven", key="Mooring", role=None, session=7), *APART])
    mine = found(cube, "How do I drink my tea with milk?").hits
    assert (order(mine)[0], mine[0].why[-1].detail) == (1, "the user")
    keyed = found(cube, "where is the mooring? tea!").hits
    assert order(keyed)[0] == 2
    assert reasons(keyed[0])["key"] == 3.0
    assert 2 not in order(found(cube, "where is the mooring? tea!", Recipe(key=0)).hits)


def test_an_item_of_a_named_time_is_found_by_it_alone() -> None:
    """What happened on the day joins the pool without a word in common."""
    cube = MemorySearch([Said("gone fishing", at=START), *APART])
    hits = found(cube, "1 June 2025?").hits
    assert order(hits) == [0]
    assert hits[0].why[-1].detail == "2025-06-01"
    assert order(found(cube, "1 June 2025?", Recipe(time=0)).hits) == []


def test_the_tree_ties() -> None:
    """Of two equal candidates the one that shares concepts with the first hits wins, if it is in the pool."""
    said = [Said("boat of Porto", session=0), Said("a ferry", session=1), Said("a ferry", session=2), *APART]
    cube = MemorySearch(said, ties=[(0, 2, 1.0), (0, 5, 9.0), (2, 0, 0.5)])
    query = "boat of Porto ferry"
    assert order(found(cube, query, Recipe(tree=0)).hits) == [0, 1, 2]
    hits = found(cube, query, Recipe(tree=1.0)).hits
    assert order(hits) == [0, 2, 1]
    assert reasons(hits[1])["graph"] == 1.0


def test_parts_are_switched_off() -> None:
    """A retriever of weight 0 neither counts nor is a reason."""
    cube = MemorySearch([Said("tea with milk", session=0), Said("milky teas", session=1), *APART])
    assert all("dense" not in reasons(hit) for hit in found(cube, "tea milk", Recipe(dense_weight=0)).hits)
    assert all(
        "keyword" not in reasons(hit) for hit in found(cube, "tea milk", Recipe(keyword_weight=0)).hits
    )
    assert all("dense" not in reasons(hit) for hit in found(cube, "tea milk", dense=False).hits)
    (hit,) = found(MemorySearch([Said("tea")]), "tea milk", WORDS_ONLY, dense=False).hits
    assert hit.why[0].detail == "tea"


def test_said_once() -> None:
    """What was derived gives its place to the turn it is from, where that was found too."""
    assert said_once([4, 2, 7, 1], {4: [1], 7: [9], 2: [1]}) == [(1, 4), (7, 7)]
    cube = MemorySearch(
        [Said("I like tea, said he", session=0), Said("likes tea", session=1)], origins={1: [0]}
    )
    both, once = found(cube, "likes tea"), found(cube, "likes tea", once=True)
    assert (order(both.hits), order(once.hits)) == ([1, 0], [0])
    assert once.hits[0].score == both.hits[0].score


def test_nothing_finds_nothing() -> None:
    """An empty cube, a query without a word, and one that matches nothing."""
    for cube, text in ((MemorySearch([]), "tea"), (MemorySearch(APART), "???"), (MemorySearch(APART), "zzz")):
        none = found(cube, text, dense=False)
        assert (none.hits, none.confidence) == ((), 0.0)
        assert none.understood


words = st.sampled_from("tea milk boat otter Ann may 2025 yesterday".split())
texts = st.lists(words, min_size=1, max_size=6).map(" ".join)
turns = st.builds(
    Said, texts, st.sampled_from([None, "Ann", "Bob Lee"]), st.sampled_from(["user", "assistant", None]),
    st.integers(0, 2), st.sampled_from([None, START - timedelta(days=1), START]),
    st.sampled_from([None, None, None, "tea"]),
)  # fmt: skip
weights = st.sampled_from([0.0, 0.5, 3.0])
recipes = st.builds(
    Recipe, dense_weight=weights, keyword_weight=weights, reach=st.integers(0, 3), lend=weights, person=weights,
    first_person=weights, time=weights, latest=weights, key=weights, tree=weights,
    prior_rows=st.sampled_from([0, 1, 20]),
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.lists(turns, max_size=8), texts, recipes, st.booleans(), st.booleans(), st.integers(1, 9))
def test_scores_fall_and_are_finite(
    said: list[Said], query: str, recipe: Recipe, dense: bool, once: bool, limit: int
) -> None:
    """Whatever the items, the query and the weights: finite scores in 0..1 that fall, each item once."""
    cube = MemorySearch(
        said, ties=[(a, b, 1.0) for a in range(len(said)) for b in range(len(said)) if a != b]
    )
    answer = found(cube, query, recipe, dense=dense, once=once, limit=limit)
    scores = [hit.score for hit in answer.hits]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert len(answer.hits) <= limit
    assert len(set(order(answer.hits))) == len(answer.hits)
    assert 0 <= answer.confidence <= 1
    assert not scores or scores[0] <= answer.confidence + 1e-9
    for hit in answer.hits:
        assert all(math.isfinite(why.score) and why.score > 0 and why.rank >= 1 for why in hit.why)
    if recipe.keyword_weight or recipe.dense_weight:
        words = set(query.split())
        for ref in order(answer.hits):
            if words & set(said[ref].text.split()):
                assert answer.hits[order(answer.hits).index(ref)].score > 0
