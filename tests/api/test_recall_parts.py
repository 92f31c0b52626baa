"""Recall through the door: batches, rerankers, rewriting, silence, rights, and odd input of every size."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from memos_engine import (
    AsyncMemOS,
    BadInput,
    BadLimit,
    BadText,
    ChatRewriter,
    Context,
    FunctionReranker,
    MemCube,
    MemOS,
    Message,
    ModelFailed,
    ModelUnavailable,
    Scope,
)
from memos_engine.items import Filter
from memos_engine.ports import Vectors
from memos_engine.recall.recipe import Recipe
from memos_engine.retrieval import Asked, recall
from memos_engine.shelf import Actor
from memos_engine.store.rows import View, to_micros
from memos_engine.testing.fakes import FrozenClock, HashEmbedder

ALICE, BOB = Scope(user="alice"), Scope(user="bob")
MAY = datetime(2025, 5, 8, 9, tzinfo=UTC)
WORLD = [
    "The boat to Porto was late again.", "Sourdough needs a warm kitchen.", "The violin lesson was moved.",
    "A red bicycle stood by the gate.", "Peanuts make Melanie sneeze.", "The library closes at six.",
    "Snow covered the whole valley.", "An otter lives under the bridge.",
]  # fmt: skip
"""Texts that share hardly a word."""


def said(texts: Sequence[str], *, name: str = "Melanie", at: datetime = MAY) -> list[Message]:
    """Turns, a minute apart."""
    return [Message("user", text, name=name, at=at + timedelta(minutes=n)) for n, text in enumerate(texts)]


def texts_of(context: Context) -> list[str]:
    """Texts of what stands in a context, best first."""
    return [hit.item.text for hit in context.hits]


def told(context: Context) -> str:
    """Everything that a context tells, in one string, less the handles' ids."""
    return repr(
        (context.text, context.hits, context.left_out, context.understood, [*context.sources.values()])
    )


@pytest.fixture
def talk(tmp_path: Path, clock: FrozenClock) -> Iterator[MemCube]:
    """A cube of unlike turns, an hour and more apart, by an embedder wide enough to tell them apart."""
    with MemOS.open(tmp_path / "talk", embedder=HashEmbedder(1024), clock=clock, background=False) as memos:
        cube = memos.cube("talk")
        for n, text in enumerate(WORLD):
            cube.capture(said([text], at=MAY + timedelta(hours=2 * n)), thread="t")
        yield cube


# Batches


def test_many_are_each(talk: MemCube) -> None:
    """A batch answers each question as it would be answered alone, repeats and silence included."""
    queries = ["Where was the boat?", "xylophone zymurgy", "otter", "Where was the boat?", "violin " * 50]
    assert talk.recall_many(queries) == [talk.recall(query) for query in queries]
    assert talk.recall_many(queries, speaker="Nobody", budget_tokens=90) == [
        talk.recall(query, speaker="Nobody", budget_tokens=90) for query in queries
    ]


def test_no_questions_have_no_answers(talk: MemCube, cube: MemCube) -> None:
    """An empty batch is answered by an empty list, by a cube without vectors too."""
    assert talk.recall_many([]) == []
    assert cube.recall_many([]) == []


def test_one_bad_question_answers_none(talk: MemCube) -> None:
    """A batch with a query that cannot be taken is refused whole; one string is no batch."""
    for bad in ([" "], ["otter", "nul \0"], ["\ud800"], "otter", [7], None):
        with pytest.raises(BadText):
            talk.recall_many(bad)  # type: ignore[arg-type]  # -- what a caller may hand over by mistake


# Silence


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, math.inf, True, "0.5", None])
def test_a_min_score_that_is_no_share_is_refused(talk: MemCube, bad: object) -> None:
    """It is a probability."""
    with pytest.raises(BadLimit):
        talk.recall("otter", min_score=bad)  # type: ignore[arg-type]  # -- as above


def test_silence_is_told(talk: MemCube) -> None:
    """A silent context holds no text, and still says the probability, the question and what nearly made it."""
    silent = talk.recall("Where does the otter live?", min_score=1.0)
    assert not silent
    assert (silent.text, silent.tokens, silent.hits, dict(silent.sources)) == ("", 0, (), {})
    assert 0 < silent.score < 1
    assert silent.understood.startswith("where: ")
    assert "otter" in silent.left_out[0].item.text
    assert silent == talk.recall("Where does the otter live?", min_score=math.nextafter(silent.score, 1))
    spoken = talk.recall("Where does the otter live?", min_score=silent.score)
    assert (bool(spoken), spoken.score, spoken.understood) == (True, silent.score, silent.understood)
    nothing = talk.recall("xylophone zymurgy", min_score=0)
    assert (nothing.score, nothing.left_out, bool(nothing)) == (0.0, (), False)
    assert nothing.understood


def test_what_does_not_fit_is_told(talk: MemCube) -> None:
    """What was ranked and found no room is left out, best first, and nothing is in both."""
    context = talk.recall("boat otter violin snow", budget_tokens=90, min_score=0)
    assert context
    there = {hit.item.id for hit in context.hits}
    left = [hit.item.id for hit in context.left_out]
    assert left
    assert not there & set(left)
    scores = [hit.score for hit in context.left_out]
    assert scores == sorted(scores, reverse=True)


# Rerankers and rewriting


def by_length(_query: str, texts: list[str]) -> list[float]:
    """The shortest text first."""
    return [-float(len(text)) for text in texts]


class NoScores:
    """A reranker that breaks its port: one score too few."""

    fingerprint = "none"

    def scores(self, query: str, texts: Sequence[str]) -> Vectors:
        """One too few."""
        return np.zeros(len(texts) - 1, np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A root with a cube of the same turns."""
    with MemOS.open(tmp_path / "models", embedder=HashEmbedder(1024), background=False) as memos:
        memos.cube("c").add(WORLD)
    return tmp_path / "models"


def test_a_reranker_orders(folder: Path) -> None:
    """The first hits stand in its order, the scores still fall, and the reason names it."""
    query = "boat otter violin"
    with MemOS.open(folder, embedder=HashEmbedder(1024), background=False) as memos:
        before = memos.cube("c").search(query)
    reranker = FunctionReranker(by_length, fingerprint="short:1")
    with MemOS.open(folder, embedder=HashEmbedder(1024), reranker=reranker, background=False) as memos:
        after = memos.cube("c").search(query)
        context = memos.cube("c").recall(query, min_score=0)
        assert memos.cube("c").search("xylophone zymurgy") == []
    assert [hit.item.id for hit in after] == [
        hit.item.id for hit in sorted(before, key=lambda hit: len(hit.item.text))
    ]
    assert [hit.score for hit in after] == [hit.score for hit in before]
    for place, hit in enumerate(after, start=1):
        reason = hit.why[-1]
        assert (reason.retriever, reason.rank, reason.detail) == ("rerank", place, "short:1")
        assert reason.score == -len(hit.item.text)
    assert texts_of(context)[0] == after[0].item.text


def test_a_failing_reranker_is_told(folder: Path) -> None:
    """Its error reaches the caller, a wrong number of scores is one, and the next call is unharmed."""

    def away(_query: str, _texts: list[str]) -> list[float]:
        raise ModelUnavailable("away")

    for reranker, error in (
        (FunctionReranker(away, fingerprint="a"), ModelUnavailable),
        (FunctionReranker(lambda _query, texts: [math.nan] * len(texts), fingerprint="n"), ModelFailed),
        (NoScores(), ModelFailed),
    ):
        with MemOS.open(folder, embedder=HashEmbedder(1024), reranker=reranker, background=False) as memos:
            cube = memos.cube("c")
            for call in (cube.recall, cube.search):
                with pytest.raises(error):
                    call("boat otter")
            assert cube.list()


def test_rewriting_finds_more(folder: Path) -> None:
    """What the question does not say and a query of the rewriter says is found, in recall and not in search."""

    def rewrite(question: str) -> list[str]:
        return ["sourdough warm kitchen"] if "bread" in question else []

    with MemOS.open(folder, embedder=HashEmbedder(1024), rewrite=rewrite, background=False) as memos:
        cube = memos.cube("c")
        assert cube.search("bread") == []
        context = cube.recall("bread")
        assert texts_of(context) == ["Sourdough needs a warm kitchen."]
        assert context.understood.split("; ")[1].endswith("sourdough warm kitchen")
        both = cube.recall("otter bread", min_score=0)
        assert {"Sourdough needs a warm kitchen.", "An otter lives under the bridge."} <= set(texts_of(both))
        assert len(both.hits) == len({hit.item.id for hit in both.hits})
        assert both.score == max(hit.score for hit in (*both.hits, *both.left_out))
        assert cube.recall_many(["bread", "otter"]) == [cube.recall("bread"), cube.recall("otter")]


@pytest.mark.parametrize("answer", [[""], [" \n"], ["nul \0"], ["\ud800"], [7], "boat", None])
def test_a_rewriter_that_answers_what_is_no_query_is_told(folder: Path, answer: object) -> None:
    """What cannot be searched for is the model's fault and an error of ours, as a caller's query would be."""
    memos = MemOS.open(folder, embedder=HashEmbedder(1024), rewrite=lambda _: answer, background=False)  # type: ignore[arg-type, return-value]  # -- a rewriter that breaks its port
    with memos, pytest.raises(ModelFailed):
        memos.cube("c").recall("otter")


# Writes


def test_a_recall_sees_what_is_there_now(talk: MemCube, clock: FrozenClock) -> None:
    """After an update, a forget and an expiry, no stale text stands in a context, not even as a neighbour."""
    made = talk.capture(
        said(["We saw a quokka.", "It was called Bertolt.", "Then it rained."], at=MAY + timedelta(days=2)),
        thread="q",
    )
    talk.add("a quokka for an hour", ttl=timedelta(hours=1))
    context = talk.recall("quokka", min_score=0)
    assert {"We saw a quokka.", "It was called Bertolt.", "a quokka for an hour"} <= set(texts_of(context))
    talk.update(made.episodes[1], text="It was called Ottokar.")
    assert "Ottokar" in told(talk.recall("quokka", min_score=0))
    assert "Bertolt" not in told(talk.recall("quokka", min_score=0))
    talk.update(made.episodes[1], state="archived")
    assert "Ottokar" not in told(talk.recall("quokka", min_score=0))
    talk.forget(made.episodes[2])
    assert "rained" not in told(talk.recall("quokka", min_score=0))
    clock.advance(timedelta(hours=1))
    assert "hour" not in told(talk.recall("quokka", min_score=0))
    assert "quokka" not in told(talk.recall("What was called Bertolt?", min_score=0)).replace(
        "We saw a quokka.", ""
    )


def test_the_async_twin_answers_the_same(folder: Path) -> None:
    """One answer on both sides, for one question and for several."""
    with MemOS.open(folder, embedder=HashEmbedder(1024), background=False) as memos:
        right = memos.cube("c").recall_many(["otter", "boat"])

    async def asked() -> None:
        async with await AsyncMemOS.open(folder, embedder=HashEmbedder(1024), background=False) as memos:
            cube = await memos.cube("c")
            assert await cube.recall_many(["otter", "boat"]) == right
            assert await cube.recall("otter") == right[0]
            assert await cube.recall_many([]) == []

    asyncio.run(asked())


# Nobody else's memory


def hidden_world(memos: MemOS, clock: FrozenClock, secret: str, speaker: str) -> MemCube:
    """Bob's handle on a cube of Alice's, with what he may see and, between and around it, what he may not.

    Every hidden text holds the word `secret`; the hidden turns are said by `speaker` or `x-<secret>`.
    """
    cube = memos.acting_as(ALICE).cube(f"c-{secret}")
    cube.grant(BOB, "read")
    turns = [
        ("Tom", "We sailed the boat to Porto."), (speaker, f"{secret} hid the boat money."),
        ("Tom", "Remember that I am allergic to peanuts."), (f"x-{secret}", f"Remember that I like {secret}."),
        ("Tom", "The boat was painted red, said Ingrid."), (speaker, f"{secret} met Ingrid on the boat."),
        ("Tom", "Goodbye for now."),
    ]  # fmt: skip
    made = cube.capture(
        [
            Message("user", text, name=name, at=MAY + timedelta(minutes=n))
            for n, (name, text) in enumerate(turns)
        ],
        thread="t",
    )
    for n in (1, 5):
        cube.update(made.episodes[n], visibility="private")
    cube.update(
        made.episodes[3], visibility="session"
    )  # written under no session: Bob's is another principal
    for item in [cube.get(each) for each in made.derived]:
        if secret in item.text:
            cube.update(item.id, visibility="private")
    cube.add(f"{secret} boat archived", event_at=MAY)
    cube.update(cube.list(limit=1)[0].id, state="archived")
    cube.add(f"{secret} boat expired", event_at=MAY, ttl=timedelta(seconds=1))
    cube.add(f"{secret} boat note", event_at=MAY, visibility="private")
    cube.kv.put(("n",), "mooring", {"berth": secret})
    (stored,) = [item for item in cube.list() if item.key == "mooring"]
    cube.update(stored.id, visibility="private")
    memos.drain()
    clock.advance(timedelta(seconds=2))
    return memos.acting_as(BOB).cube(f"c-{secret}", owner=ALICE)


QUERIES = [
    "boat", "Where is the boat to Porto?", "What did Tom say?", "What did I say on 8 May 2025?", "mooring",
    "What happened on 8 May 2025?", "What does Ingrid like most recently?", "What am I allergic to?", "goodbye",
    "What is the latest of the boat, Ingrid and the peanuts?", "???", "who said what to whom",
]  # fmt: skip


def through(cube: MemCube, queries: Sequence[str], scope: Scope, recipe: Recipe) -> list[Context]:
    """Recall by another recipe, as `scope` would."""
    clock = cube._host.clock
    view = View(f"user:{scope.user}", scope.session, to_micros(clock()) or 0)
    asked = Asked(2_000, lambda text: len(text.encode()), 0.0)
    return recall(
        cube._shelf, queries, Actor(f"user:{scope.user}", scope, view), asked, wanted=Filter(), recipe=recipe
    )


@pytest.fixture
def roots(tmp_path: Path, clock: FrozenClock) -> Iterator[MemOS]:
    """An open root whose embedder is wide."""
    with MemOS.open(tmp_path / "roots", embedder=HashEmbedder(1024), clock=clock, background=False) as memos:
        yield memos


@pytest.mark.parametrize(
    "recipe", [Recipe(), Recipe(tree=1.0), Recipe(reach=5, lend=1.0)], ids=["default", "tree", "far"]
)
def test_what_is_hidden_is_nowhere(roots: MemOS, clock: FrozenClock, recipe: Recipe) -> None:
    """No word, speaker or id of what a reader may not see stands anywhere in what recall tells him."""
    bobs = hidden_world(roots, clock, "zanzibar", "Zedekiah")
    alices = roots.acting_as(ALICE).cube("c-zanzibar")
    assert "zanzibar" in told(alices.recall("boat", min_score=0)), "Alice sees her own"
    hidden = {item.id for item in alices.list(limit=1000)} - {item.id for item in bobs.list(limit=1000)}
    assert len(hidden) >= 5
    contexts = [*through(bobs, QUERIES, BOB, recipe), *bobs.recall_many(QUERIES, min_score=0)]
    assert sum(map(bool, contexts)) > len(QUERIES)
    for context in contexts:
        assert "zanzibar" not in told(context).lower()
        assert "Zedekiah" not in told(context)
        assert not hidden & {hit.item.id for hit in (*context.hits, *context.left_out)}
    for query in (
        "zanzibar",
        "What did Zedekiah say about zanzibar?",
        "What did x-zanzibar like?",
        "mooring",
    ):
        for context in (bobs.recall(query, min_score=0), *through(bobs, [query], BOB, recipe)):
            assert not hidden & {hit.item.id for hit in (*context.hits, *context.left_out)}
        assert not hidden & {hit.item.id for hit in bobs.search(query, limit=100)}


def test_a_recall_tells_not_what_hidden_items_say(roots: MemOS, clock: FrozenClock) -> None:
    """Two cubes that differ in hidden words and names alone answer a reader's guesses alike, probability included."""
    one = hidden_world(roots, clock, "zanzibar", "Zedekiah")
    other = hidden_world(roots, clock, "quagmire", "Yolander")
    guesses = ["zanzibar", "boat zanzibar", "Zedekiah", "What did Zedekiah say about the boat?",
               "What did x-zanzibar say about the boat?", "boat mooring zanzibar peanuts"]  # fmt: skip
    for query in [*QUERIES, *guesses]:
        mine, same = one.recall(query, min_score=0), other.recall(query, min_score=0)
        assert (mine.text, mine.understood, mine.tokens) == (same.text, same.understood, same.tokens)
        assert mine.score == pytest.approx(same.score, abs=1e-6)
        for hit, twin in zip((*mine.hits, *mine.left_out), (*same.hits, *same.left_out), strict=True):
            assert (hit.item.text, [(why.retriever, why.detail) for why in hit.why]) == (
                twin.item.text,
                [(why.retriever, why.detail) for why in twin.why],
            )


def test_a_name_is_known_while_somebody_bears_it(roots: MemOS) -> None:
    """A speaker whose turns were forgotten or archived is a word like any other, in a running process too."""
    cube = roots.cube("names")
    cube.capture(said(["I sing.", "I dance."]))
    zed = cube.capture(said(["I paint boats."], name="Zed")).episodes[0]
    assert "about Zed" in cube.recall("What does Zed paint then?").understood
    cube.update(zed, state="archived")
    assert "about Zed" not in cube.recall("What does Zed paint then?").understood
    cube.update(zed, state="activated")
    assert "about Zed" in cube.recall("What does Zed paint then?").understood
    cube.forget(zed)
    assert "about Zed" not in cube.recall("What does Zed paint then?").understood
    assert "about Melanie" in cube.recall("What does Melanie sing then?").understood


def test_a_session_keeps_its_turns(roots: MemOS) -> None:
    """What was hidden in one session is neither told nor lent in another one of the same user."""
    first = roots.acting_as(Scope(user="alice", session="s1")).cube("d")
    second = roots.acting_as(Scope(user="alice", session="s2")).cube("d")
    made = first.capture(said(["the boat leaves", "narwhals sing", "the boat lands"], name="Tom"))
    first.update(made.episodes[1], visibility="session")
    assert "narwhals" in told(first.recall("boat", min_score=0))
    assert "narwhals" not in told(second.recall("boat", min_score=0))


def test_a_filter_holds_for_neighbours(talk: MemCube) -> None:
    """What a filter leaves out is neither a hit, nor left out, nor a reason, by any road."""
    at = MAY + timedelta(days=30)
    talk.capture(
        said(["the ferry sails", "a narwhal surfaced", "the ferry lands"], name="Tom", at=at), thread="f"
    )
    talk.capture(said(["the narwhal ferry"], name="Ann", at=at + timedelta(minutes=1)), thread="f")
    talk.kv.put(("n",), "ferry", {"narwhal": 1})
    talk.add("narwhal ferry note", event_at=at)
    query = "What of the ferry on 7 June 2025, mostly?"
    assert "narwhal" in told(talk.recall(query, min_score=0))
    for wanted in (
        {"speaker": "Melanie"}, {"thread": "t"}, {"until": at}, {"since": at + timedelta(days=1)},
        {"kinds": ["document"]}, {"thread": "nowhere"}, {"speaker": "Nobody"},
    ):  # fmt: skip
        context = talk.recall(query, min_score=0, **wanted)
        assert "narwhal" not in told(context)
        assert "ferry" not in told(context).replace("ferry on", "")
    assert "narwhal" not in told(talk.recall(query, min_score=0, thread="f", until=at + timedelta(seconds=1)))


def test_items_of_a_time_join_from_behind_many_hidden_ones(roots: MemOS) -> None:
    """A window's items join the pool however many before them a viewer may not see."""
    cube = roots.acting_as(ALICE).cube("w")
    cube.grant(BOB, "read")
    cube.add([f"early secret {n}" for n in range(1_100)], event_at=MAY, visibility="private")
    cube.add("the otter came", event_at=MAY + timedelta(hours=3))
    bobs = roots.acting_as(BOB).cube("w", owner=ALICE)
    hits = bobs.search("What took place on 8 May 2025?")
    assert [hit.item.text for hit in hits] == ["the otter came"]
    assert "time" in {why.retriever for why in hits[0].why}
    cube.capture(said([f"filler number {n}" for n in range(120)]), thread="big")
    cube.capture(said(["gone fishing"], at=MAY + timedelta(hours=4)), thread="small")
    assert [hit.item.text for hit in bobs.search("What took place on 8 May 2025?", thread="small")] == [
        "gone fishing"
    ]


def test_a_key_is_found_behind_hidden_ones(roots: MemOS) -> None:
    """Entries of one key that a viewer may not see do not stand before the one he may."""
    cube = roots.acting_as(ALICE).cube("k")
    cube.grant(BOB, "read")
    for n in range(5):
        cube.kv.put((f"n{n}",), "mooring", {"at": n})
    for item in cube.list():
        if item.namespace != ("n4",):
            cube.update(item.id, visibility="private")
    (hit,) = roots.acting_as(BOB).cube("k", owner=ALICE).search("mooring")
    assert "key" in {why.retriever for why in hit.why}


def test_another_owners_cube_of_that_name_is_not_read(roots: MemOS) -> None:
    """Cubes of one name and two owners share no turn, name, key or word."""
    roots.acting_as(ALICE).cube("same").capture(said(["the boat of zanzibar"], name="Zed"))
    bobs = roots.acting_as(BOB).cube("same")
    assert not bobs.recall("boat zanzibar", min_score=0)
    bobs.add("a boat")
    context = bobs.recall("What did Zed say of the boat?", min_score=0)
    assert "about Zed" not in context.understood
    assert texts_of(context) == ["a boat"]


# Odd input


ODD = [
    "otter " * 17_000, "?" * 100_000, "???", "...", "Melanie", "Melanie's", "'", '"', '"otter', "otter*", "otter AND",
    "NEAR(otter boat)", "text:otter", "-otter", "^otter", "otter OR NOT (", "{otter}", "a AND b", "*", "\\", "%", "🦦",
    "🦦 otter 🦦", "\u200b", "\u202eotter", "我", "我的船", "İstanbul ß ﬁ", "e\u0301", "\ud7ff\U0010ffff", "1e999", "0",
    "yesterday", "in the year 9999", "in the year 1", "in 0000", "on 31 February 2025", "99999999999999999999",
]  # fmt: skip


@pytest.mark.parametrize("query", ODD, ids=lambda query: ascii(query[:20]))
def test_any_query_has_an_answer(talk: MemCube, query: str) -> None:
    """No query breaks recall, whatever the budget; every number of its answer is finite, and scores fall."""
    for budget in (1, 60, 2_000):
        context = talk.recall(query, budget_tokens=budget, min_score=0)
        assert context.tokens == len(context.text.encode()) <= budget
        assert 0 <= context.score <= 1
        assert context.understood
    hits = talk.search(query, limit=10_000)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for hit in hits:
        assert 0 <= hit.score <= 1
        assert all(math.isfinite(why.score) and why.rank >= 1 for why in hit.why)


def test_a_limit_beyond_the_cube(talk: MemCube) -> None:
    """Ten thousand of twenty items are at most twenty."""
    talk.add([f"an otter, number {n}" for n in range(12)])
    hits = talk.search("otter", limit=10_000)
    assert 13 <= len(hits) <= 20
    assert all(hit.score > 0 for hit in hits)
    assert talk.search("otter", limit=3) == talk.search("otter", limit=10_000)[:3]


def test_a_cube_without_vectors(roots: MemOS) -> None:
    """Words, keys and times alone find; what has no word is answered by nothing."""
    cube = roots.cube("plain")
    cube.kv.put(("n",), "mooring", {"berth": "number seven"}, index=False)
    assert cube.stats().embedder is None
    for query in ("mooring", "???", "what happened yesterday?", "number seven"):
        context = cube.recall(query, min_score=0)
        assert not context
        assert context.score == 0.0
        assert cube.search(query, limit=10_000) == []


@pytest.mark.parametrize("index_above", [10, 10**9])
def test_one_in_twenty_thousand(tmp_path: Path, clock: FrozenClock, index_above: int) -> None:
    """Among 20,000 items of noise the right one comes first, by exact scan and by index, with a date too."""
    with MemOS.open(
        tmp_path / "big", embedder=HashEmbedder(64), clock=clock, background=False, index_above=index_above
    ) as memos:
        cube = memos.cube("big")
        words = "river stone lamp winter garden bottle signal paper engine copper window market".split()
        noise = [f"{words[n % 12]} {words[n // 12 % 12]} number {n}" for n in range(20_000)]
        for start in range(0, len(noise), 5_000):
            cube.add(noise[start : start + 5_000], event_at=MAY)
        cube.capture(
            said(["The heron is called Archibald.", "He stands by the weir."], name="Ann"), thread="h"
        )
        memos.drain()
        assert bool(cube.stats().indexed_to) == (index_above == 10)
        assert cube.search("heron Archibald")[0].item.text == "The heron is called Archibald."
        context = cube.recall("What is Ann's heron called?")
        assert texts_of(context)[0] == "The heron is called Archibald."
        assert "He stands by the weir." in told(context)
        assert cube.search("Which heron came on 8 May 2025?")[0].item.text == "The heron is called Archibald."
        assert cube.search("copper window number 12345")[0].item.text.endswith("number 12345")


def test_arguments_of_recall_are_checked(cube: MemCube) -> None:
    """What is no counter, no query or no argument is told by its name."""
    with pytest.raises(BadInput, match="count_tokens is 5"):
        cube.recall("tea", count_tokens=5)  # type: ignore[arg-type] # -- refused
    with pytest.raises(BadInput, match=r"queries=\["):
        cube.recall_many("tea")
    with pytest.raises(BadInput, match="unknown field 'budget'"):
        cube.recall("tea", budget=100)  # type: ignore[call-arg] # -- refused
    with pytest.raises(BadInput, match="hand over a chat model"):
        ChatRewriter(None)  # type: ignore[arg-type] # -- refused
    with pytest.raises(BadInput, match="hand over a function"):
        FunctionReranker(5, fingerprint="x")  # type: ignore[arg-type] # -- refused


@pytest.mark.parametrize("models", [{"reranker": 5}, {"rewrite": 5}])
def test_models_are_checked_when_a_root_is_opened(tmp_path: Path, models: dict[str, int]) -> None:
    """A reranker that has no scores, and a rewriter that cannot be called, are refused."""
    with pytest.raises(BadInput, match="of type int is none"):
        MemOS.open(tmp_path / "root", **models)  # type: ignore[arg-type] # -- refused
