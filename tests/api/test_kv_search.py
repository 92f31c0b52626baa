"""Queries and filters over key-value entries: every entry in its place, by meaning and words, few or many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_engine import (
    BadInput,
    BadLimit,
    BadText,
    EmbedderMismatch,
    EmbedderUnavailable,
    FunctionReranker,
    KvEntry,
    KvPut,
    MemCube,
    MemOS,
    Scope,
)
from memos_engine.items import Json
from memos_engine.kv import ranking
from memos_engine.kv.filter import field_tests, matches
from memos_engine.ports import Vectors
from memos_engine.store.kv_rows import Among
from memos_engine.testing.fakes import FrozenClock, HashEmbedder

NS = ("notes",)
AXES = {"east": (1.0, 0.0), "north": (0.0, 1.0), "west": (-1.0, 0.0), "north east": (1.0, 1.0)}


class Compass:
    """An embedder of two dimensions, so that cosines can be told by eye; others than AXES point north-north-east."""

    fingerprint = "compass"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Rows (N, 2)."""
        rows: Vectors = np.array([AXES.get(text, (0.5, 1.0)) for text in texts], np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows


class NoModel:
    """An embedder that cannot be had."""

    @property
    def fingerprint(self) -> str:
        """None."""
        raise EmbedderUnavailable("no weights: type this or that")

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Fail."""
        raise EmbedderUnavailable("no weights: type this or that")


def opened(tmp_path: Path, clock: FrozenClock, **options: Any) -> MemOS:
    """A root with another embedder or reranker."""
    return MemOS.open(tmp_path / "other", clock=clock, background=False, **options)


def found(entries: Sequence[KvEntry]) -> list[tuple[str, float | None]]:
    """Keys and scores, the latter to two places."""
    return [(entry.key, None if entry.score is None else round(entry.score, 2)) for entry in entries]


# Order


def test_the_score_is_the_cosine(tmp_path: Path, clock: FrozenClock) -> None:
    """Without a word in common the score is the cosine of the nearest vector, below zero too; at right angles 0."""
    with opened(tmp_path, clock, embedder=Compass()) as memos:
        kv = memos.cube("c").kv
        for key, text in {"e": "east", "n": "north", "w": "west"}.items():
            kv.put(NS, key, {"t": text}, index=["t"])
        kv.put(NS, "both", {"t": ["west", "north east"]}, index=["t[*]"])
        kv.put(NS, "unseen", {"t": "east"}, index=False)
        AXES["sunrise"] = AXES["east"]
        assert found(kv.search(NS, query="sunrise")) == [
            ("e", 1.0), ("both", 0.71), ("n", 0.0), ("w", -1.0), ("unseen", None),
        ]  # fmt: skip
        del AXES["sunrise"]


def test_words_lift_an_entry(tmp_path: Path, clock: FrozenClock) -> None:
    """What holds the query's words comes before what is merely nearer, and all scores stay at most 1."""
    with opened(tmp_path, clock, embedder=Compass()) as memos:
        kv = memos.cube("c").kv
        kv.put(NS, "near", {"t": "north"}, index=["t"])
        kv.put(NS, "said", {"t": "the quokka slept"}, index=["t"])
        kv.put(NS, "far", {"t": "west"}, index=["t"])
        entries = kv.search(NS, query="quokka")
        assert [entry.key for entry in entries] == ["said", "near", "far"]
        scores = [entry.score or 0.0 for entry in entries]
        assert scores == sorted(scores, reverse=True)
        assert max(scores) <= 1.0


def test_ties_are_broken_by_age(cube: MemCube) -> None:
    """Of entries that say the same the newer comes first, in every page alike."""
    cube.kv.batch([KvPut(NS, f"k{n}", {"t": "the same"}, ("t",)) for n in range(5)])
    assert [entry.key for entry in cube.kv.search(NS, query="the same")] == ["k4", "k3", "k2", "k1", "k0"]
    assert [entry.key for entry in cube.kv.search(NS, query="the same", limit=2, offset=3)] == ["k1", "k0"]


LAYOUTS = ["few", "many", "index"]
WORDS = ["quokka", "kettle", "harbour", "window", "letter", "boat"]


@pytest.fixture(params=LAYOUTS)
def crowd(
    request: pytest.FixtureRequest, tmp_path: Path, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A cube of 60 entries below two users, searched as a small cube, as a large one, and with an index."""
    if request.param != "few":
        monkeypatch.setattr(ranking, "FEW", 5)
        monkeypatch.setattr(ranking, "HEAD", 8)
    above = 10 if request.param == "index" else 10**6
    with opened(tmp_path, clock, embedder=HashEmbedder(), index_above=above) as memos:
        cube = memos.cube("c")
        for n in range(60):
            clock.advance(timedelta(seconds=1))
            text = f"{WORDS[n % 6]} and {WORDS[(n * 7 + 3) % 5]} number{n}"
            index: Any = False if n % 10 == 9 else ("t",)
            cube.kv.put(("users", f"u{n % 2}"), f"k{n}", {"t": text, "n": n}, index=index, embed=n % 15 != 0)
        cube.add("no entry at all: quokka, kettle")
        memos.drain()
        yield cube
        assert cube.check().ok


def test_every_entry_is_reached_once(crowd: MemCube) -> None:
    """Pages follow one another without gap or double: the ranked ones by score, then the others by age."""
    conditions: list[dict[str, Json]] = [{}, {"n": {"$lt": 40}}]
    for prefix in ((), ("users",), ("users", "u0")):
        for query in ("quokka", "a letter about the boat", "number7 kettle", "zzz"):
            for condition in conditions:
                pages_follow(crowd, prefix, query, condition)


def pages_follow(crowd: MemCube, prefix: tuple[str, ...], query: str, condition: dict[str, Json]) -> None:
    """The pages of a query, whatever their size, are the whole."""
    whole = crowd.kv.search(prefix, query=query, filter=condition, limit=100)
    listed = crowd.kv.search(prefix, filter=condition, limit=100)
    assert sorted(entry.key for entry in whole) == sorted(entry.key for entry in listed)
    ranked = [entry for entry in whole if entry.score is not None]
    assert whole[: len(ranked)] == ranked
    rest = {entry.key for entry in whole[len(ranked) :]}
    assert [entry.key for entry in whole if entry.key in rest] == [e.key for e in listed if e.key in rest]
    assert {entry.key for entry in listed if int(entry.key[1:]) % 10 == 9} <= rest
    for size in (7, 25):
        pages = [
            crowd.kv.search(prefix, query=query, filter=condition, limit=size, offset=start)
            for start in range(0, len(whole) + 1, size)
        ]
        assert [entry.key for page in pages for entry in page] == [entry.key for entry in whole]


def test_the_order_is_that_of_the_scores(crowd: MemCube) -> None:
    """Scores fall from first to last, whatever the cube's size and however the vectors are kept."""
    for query in ("quokka", "harbour window", "number12"):
        scores = [entry.score for entry in crowd.kv.search((), query=query, limit=100)]
        kept = [score for score in scores if score is not None]
        assert kept == sorted(kept, reverse=True)
        assert len(kept) > 40


def test_a_query_by_words_alone(crowd: MemCube) -> None:
    """Without a model only those are ranked that hold a word; the others still follow."""
    entries = crowd.kv.search((), query="quokka", limit=100, embed=False)
    hits = {f"k{n}" for n in range(60) if n % 10 != 9 and "quokka" in (WORDS[n % 6], WORDS[(n * 7 + 3) % 5])}
    assert {entry.key for entry in entries if entry.score is not None} == hits
    assert {entry.key for entry in entries[: len(hits)]} == hits
    assert len(entries) == 60


def test_a_query_sees_no_more_than_a_list(memos: MemOS, clock: FrozenClock) -> None:
    """What another keeps private, and what is over, is neither found by a query nor weighs on scores."""
    alice = memos.acting_as(Scope(user="alice")).cube("shared")
    alice.grant(Scope(user="bob"), "write")
    bob = memos.acting_as(Scope(user="bob")).cube("shared", owner=Scope(user="alice"))
    for n in range(4):
        alice.kv.put(NS, f"k{n}", {"t": f"kettle number{n}"}, index=["t"])
    before = found(bob.kv.search(NS, query="kettle quokka"))
    alice.kv.put(NS, "private", {"t": "kettle quokka"}, index=["t"])
    (item,) = [item for item in alice.list() if item.key == "private"]
    alice.update(item.id, visibility="private")
    alice.kv.put(NS, "over", {"t": "kettle quokka"}, index=["t"], ttl=timedelta(minutes=1))
    clock.advance(timedelta(minutes=1))
    assert found(bob.kv.search(NS, query="kettle quokka")) == before
    assert alice.kv.search(NS, query="kettle quokka")[0].key == "private"


# Models


def test_without_a_model(tmp_path: Path, clock: FrozenClock) -> None:
    """Entries put for their words alone need no model, to write, list or query; others say what is missing."""
    with opened(tmp_path, clock, embedder=NoModel()) as memos:
        cube = memos.cube("c")
        cube.kv.put(NS, "q", {"t": "the quokka slept", "secret": "narwhal"}, index=["t"], embed=False)
        cube.kv.put(NS, "unseen", {"t": "quokka"}, index=False)
        assert found(cube.kv.search(NS, query="quokka", embed=False)) == [("q", 1.0), ("unseen", None)]
        assert found(cube.kv.search(NS, query="narwhal", embed=False)) == [("unseen", None), ("q", None)]
        assert found(cube.kv.search(NS, query="quokka")) == [
            ("q", 1.0),
            ("unseen", None),
        ]  # there are no vectors
        before = cube.stats()
        with pytest.raises(EmbedderUnavailable, match="type"):
            cube.kv.batch([KvPut(NS, "w", {"t": "window"}, embed=False), KvPut(NS, "v", {"t": "vase"})])
        assert cube.stats() == before
        assert cube.check().ok
    with opened(tmp_path, clock, embedder=HashEmbedder()) as memos:
        cube = memos.cube("c")
        assert memos.reembed("c") == 1
        assert cube.check().ok
        assert [entry.key for entry in cube.kv.search(NS, query="quokkas") if entry.score] == ["q"]


def test_words_in_place_of_vectors(cube: MemCube) -> None:
    """An entry put anew for its words alone loses the vectors of what it said before, and the reverse."""
    cube.kv.put(NS, "k", {"t": "the quokka slept"}, index=["t"])
    cube.kv.put(NS, "k", {"t": "a kettle"}, index=["t"], embed=False)
    assert cube.stats().vectors == 0
    assert found(cube.kv.search(NS, query="quokka slept")) == [("k", None)]
    assert cube.check().ok
    cube.kv.put(NS, "k", {"t": "the quokka slept"}, index=["t"])
    assert cube.stats().vectors == 1
    assert cube.check().ok


def test_another_embedder(cube: MemCube, memos: MemOS) -> None:
    """A query of a cube that was embedded anew by another embedder says so."""
    cube.kv.put(NS, "k", {"t": "quokka"})
    memos._host.models.embedder.__dict__["_dim"] = 32  # another, as its fingerprint says
    with pytest.raises(EmbedderMismatch, match="reembed"):
        cube.kv.search(NS, query="quokka")
    assert cube.kv.search(NS, query="quokka", embed=False)


def test_questions_may_be_read_otherwise(tmp_path: Path, clock: FrozenClock) -> None:
    """An embedder that has `embed_query` is asked for the vector of a query by it."""

    class Asymmetric(Compass):
        """Reads every question as pointing east."""

        def embed_query(self, text: str) -> list[float]:
            """East."""
            return [3.0, 0.0]

    with opened(tmp_path, clock, embedder=Asymmetric()) as memos:
        kv = memos.cube("c").kv
        kv.put(NS, "n", {"t": "north"}, index=["t"])
        kv.put(NS, "e", {"t": "east"}, index=["t"])
        assert found(kv.search(NS, query="zzz")) == [("e", 1.0), ("n", 0.0)]


def test_a_reranker_has_the_last_word(
    tmp_path: Path, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first matches are put in the reranker's order, in every page alike, and the scores still fall."""
    monkeypatch.setattr("memos_engine.kv.reads.RERANKED", 6)

    def longest(query: str, texts: Sequence[str]) -> list[float]:
        """Longer texts first."""
        return [float(len(text)) for text in texts]

    reranker = FunctionReranker(longest, fingerprint="longest")
    with opened(tmp_path, clock, embedder=HashEmbedder(), reranker=reranker) as memos:
        kv = memos.cube("c").kv
        for n in range(9):
            kv.put(NS, f"k{n}", {"t": "quokka" + " x" * n, "n": n}, index=["t"])
        kv.put(NS, "unseen", {"t": "quokka" + " x" * 99}, index=False)
        whole = kv.search(NS, query="quokka", limit=20)
        first = [int(entry.key[1:]) for entry in whole[:6]]
        assert first == sorted(first, reverse=True)
        assert whole[-1].key == "unseen"
        assert {entry.key for entry in whole} == {entry.key for entry in kv.search(NS, limit=20)}
        scores = [entry.score for entry in whole if entry.score is not None]
        assert scores == sorted(scores, reverse=True)
        pages = [kv.search(NS, query="quokka", limit=4, offset=start) for start in (0, 4, 8)]
        assert [entry.key for page in pages for entry in page] == [entry.key for entry in whole]
        assert [entry.key for entry in kv.search(NS, query="quokka", filter={"n": {"$lt": 2}})] == [
            "k1",
            "k0",
        ]


@pytest.mark.parametrize("query", ["", "  ", "a\0b", "\ud800"])
def test_queries_that_are_none(cube: MemCube, query: str) -> None:
    """A query is a text that says something."""
    with pytest.raises(BadText):
        cube.kv.search(NS, query=query)


def test_indexed_paths(cube: MemCube) -> None:
    """Paths may go through every field by `*`, and name several fields in braces."""
    value: dict[str, Json] = {"a": {"x": "quokka", "y": "kettle"}, "b": "harbour", "c": "window"}
    cube.kv.put(NS, "star", value, index=["a.*"])
    cube.kv.put(NS, "braces", value, index=["{a.x,b}"])

    def holders(word: str) -> list[str]:
        """Keys of entries that hold a word."""
        entries = cube.kv.search(NS, query=word, embed=False)
        return sorted(entry.key for entry in entries if entry.score is not None)

    assert holders("quokka") == ["braces", "star"]
    assert holders("kettle") == ["star"]
    assert holders("harbour") == ["braces"]
    assert holders("window") == []
    for path in ("{a", "{}", "a}"):
        with pytest.raises(BadInput, match="index path"):
            cube.kv.put(NS, "bad", value, index=[path])


# Filters in the database

TEXTS = st.sampled_from(["", "a", "b", "a\0", "é", '"', "1", "true", "null", "[1]"])
NUMBERS = st.sampled_from([0, 1, -1, 1.0, 1.5, 2**53, 2**53 + 1, 2**63, 10**30, -0.0, 1e308, 0.1])
SCALARS = st.one_of(TEXTS, NUMBERS, st.booleans(), st.none())
NAMES = st.sampled_from(["a", "b", "a.b", "é", "a b", "$", 'q"', "1", ""])
VALUES = st.dictionaries(
    NAMES,
    st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(NAMES, SCALARS, max_size=2)),
    max_size=3,
)
OPERATORS = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]
CONDITIONS = st.dictionaries(
    st.one_of(NAMES.filter(lambda name: not name.startswith("$")), st.just("a.b.c")),
    st.one_of(SCALARS, st.dictionaries(st.sampled_from(OPERATORS), SCALARS, min_size=1, max_size=2)),
    min_size=1,
    max_size=2,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(VALUES, min_size=1, max_size=5), condition=CONDITIONS)
def test_the_database_lets_all_matches_pass(
    memos: MemOS, values: list[Any], condition: dict[str, Any]
) -> None:
    """What is looked at in SQL first leaves nothing out that the filter means."""
    cube = memos.cube("fresh")
    cube.kv.batch([KvPut(NS, f"k{n}", value, False) for n, value in enumerate(values)])
    met = {f"k{n}" for n, value in enumerate(values) if matches(condition, value)}
    got = {entry.key for entry in cube.kv.search(NS, filter=condition)}
    memos.delete("fresh")
    assert got == met


def test_plain_comparisons_are_the_databases_work(cube: MemCube) -> None:
    """Equality with texts and whole numbers is decided in SQL, so that no value is read in vain."""
    cube.kv.batch([KvPut(NS, f"k{n}", {"n": n, "of": {"s": f"s{n % 3}"}}, False) for n in range(30)])
    view = cube._actor("read").view
    wanted: list[tuple[dict[str, Any], int]] = [
        ({"n": 7}, 1), ({"of.s": "s1"}, 10), ({"n": {"$gte": 27}, "of.s": "s0"}, 1), ({"n": 1.5}, 30),
        ({"$or": [{"n": 1}]}, 30), ({"n": {"$ne": 3}}, 30), ({"n": math.inf}, 30), ({"of": {"s": "s1"}}, 30),
    ]  # fmt: skip
    with cube._shelf.file.read() as reader:
        for condition, count in wanted:
            assert len(reader.kv_newest(Among((), view, field_tests(condition)))) == count, condition


def test_limits_that_are_none(cube: MemCube) -> None:
    """A limit is a whole number within bounds."""
    calls: list[Callable[[], object]] = [
        lambda: cube.kv.search(NS, limit=-1),
        lambda: cube.kv.search(NS, limit=True),
        lambda: cube.kv.search(NS, offset=10**9),
        lambda: cube.kv.list_namespaces(max_depth=0),
    ]
    for call in calls:
        with pytest.raises(BadLimit, match="whole number"):
            call()
