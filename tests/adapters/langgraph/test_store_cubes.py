"""Namespaces in cubes of their own: routed, searched through, listed, swept, erased one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from langgraph.store.base import GetOp, Item, PutOp, SearchItem, SearchOp

from memos_adapters.langgraph.store import MemosStore
from memos_adapters.langgraph.store_index import embedder_of
from memos_engine import BadInput, MemCube, MemOS, Scope
from memos_engine.testing.fakes import FrozenClock
from tests.adapters.langgraph.store_embeddings import DIMS, aembed, embed


def by_user(namespace: tuple[str, ...]) -> str:
    """A cube for each user, who is the second label."""
    return namespace[1]


@pytest.fixture
def store(memos: MemOS) -> Iterator[MemosStore]:
    """A store with a cube for each user."""
    yield MemosStore(memos, cube="users", cube_of=by_user)
    assert memos.check().ok


def fill(store: MemosStore, clock: FrozenClock) -> None:
    """Two items each of three users, and one that belongs to none, each a second after the other."""
    for n, user in enumerate(["ann", "bob", "cy"] * 2):
        clock.advance(timedelta(seconds=1))
        store.put(("memories", user), f"k{n}", {"text": f"quokka {n} of {user}", "n": n})
    clock.advance(timedelta(seconds=1))
    store.put(("memories",), "common", {"text": "kettle"})


def keys(found: list[SearchItem]) -> list[str]:
    """Keys of what a search found."""
    return [item.key for item in found]


def test_each_has_a_cube(store: MemosStore, memos: MemOS, clock: FrozenClock) -> None:
    """Items live in the cube that the function names, those it cannot tell in the store's own."""
    fill(store, clock)
    assert {row.name for row in memos.cubes()} == {"users", "users/ann", "users/bob", "users/cy"}
    assert [entry.key for entry in memos.cube("users/ann").kv.search()] == ["k3", "k0"]
    item = store.get(("memories", "bob"), "k1")
    assert item is not None
    assert item.value["n"] == 1
    memos.delete("users/ann")
    assert store.search(("memories", "ann")) == []
    assert store.get(("memories", "ann"), "k0") is None


def test_reading_makes_no_cube(store: MemosStore, memos: MemOS) -> None:
    """A user of whom nothing is kept has no cube, however often somebody looks."""
    assert store.get(("memories", "nobody"), "k") is None
    assert store.search(("memories", "nobody"), query="quokka") == []
    assert store.list_namespaces(prefix=("memories", "nobody")) == []
    assert {row.name for row in memos.cubes()} <= {"users"}
    with pytest.raises(BadInput, match="known are"):
        store.search(("memories", "nobody"), filter={"a": {"$foo": 1}})


def test_a_short_prefix_goes_through_all(store: MemosStore, clock: FrozenClock) -> None:
    """A search or listing that a beginning does not decide misses nothing, in order and in pages."""
    fill(store, clock)
    assert keys(store.search(("memories",))) == ["common", "k5", "k4", "k3", "k2", "k1", "k0"]
    assert [key for n in range(0, 8, 3) for key in keys(store.search((), limit=3, offset=n))] == keys(
        store.search(())
    )
    assert keys(store.search((), filter={"n": {"$in": [0, 4]}})) == ["k4", "k0"]
    store.put(("memories", "bob"), "unseen", {"text": "quokka"}, index=False)
    ranked = store.search((), query="quokka 2 of cy", limit=20)
    assert ranked[0].key == "k2"
    scores = [-2.0 if item.score is None else item.score for item in ranked]
    assert scores == sorted(scores, reverse=True)
    assert keys(ranked)[-1] == "unseen"
    assert sorted(store.list_namespaces()) == [
        ("memories",),
        *(("memories", user) for user in ("ann", "bob", "cy")),
    ]
    assert store.list_namespaces(suffix=("bob",)) == [("memories", "bob")]
    assert store.list_namespaces(max_depth=1) == [("memories",)]


def test_a_batch_over_cubes(store: MemosStore, clock: FrozenClock) -> None:
    """Reads and writes of one batch find their cubes."""
    fill(store, clock)
    got = store.batch(
        [
            GetOp(("memories", "cy"), "k2"),
            PutOp(("memories", "ann"), "k0", None),
            PutOp(("memories", "dan"), "new", {}),
            GetOp(("memories", "ann"), "k0"),
        ]
    )
    assert [None if item is None else item.key for item in got] == ["k2", None, None, "k0"]  # type: ignore[union-attr] # -- answers of get
    assert store.get(("memories", "ann"), "k0") is None
    assert store.get(("memories", "dan"), "new") is not None


async def test_an_awaited_batch_over_cubes(tmp_path: Path) -> None:
    """With an async embedding function, a batch over cubes reads the state before it and writes each item once."""
    with MemOS.open(
        tmp_path, embedder=embedder_of({"dims": DIMS, "embed": aembed}), background=False
    ) as memos:
        store = MemosStore(memos, cube="users", cube_of=by_user)
        await store.aput(("memories", "bob"), "k", {"text": "before"})
        got = await store.abatch(
            [
                GetOp(("memories", "ann"), "k"),
                GetOp(("memories", "bob"), "k"),
                SearchOp(("memories", "ann"), query="quokka"),
                PutOp(("memories", "ann"), "k", {"text": "quokka"}),
                PutOp(("memories", "bob"), "k", {"text": "kettle"}),
            ]
        )
        assert got[0] is None
        assert isinstance(got[1], Item)
        assert got[1].value == {"text": "before"}
        assert got[2] == []
        versions = [item.version for name in ("ann", "bob") for item in memos.cube(f"users/{name}").list()]
        assert versions == [1, 2]


BAD: dict[str, Any] = {
    "value": PutOp(("memories", "bob"), "k", {"text": object()}),
    "path": PutOp(("memories", "bob"), "k", {"text": "x"}, index=["text["]),
    "key": PutOp(("memories", "bob"), "", {"text": "x"}),
    "cube": PutOp(("memories", "x" * 2_000), "k", {"text": "x"}),
    "vector": PutOp(("memories", "bob"), "k", {"text": "no vector"}),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("awaited", [False, True])
async def test_a_batch_that_the_second_cube_refuses(tmp_path: Path, case: str, awaited: bool) -> None:
    """What is refused for one cube, or has no vector, leaves all cubes as they were."""

    def vectors(texts: Sequence[str]) -> list[list[float]]:
        return [] if any("no vector" in text for text in texts) else embed(texts)

    async def avectors(texts: Sequence[str]) -> list[list[float]]:
        return vectors(texts)

    embedder = embedder_of({"dims": DIMS, "embed": avectors if awaited else vectors})
    with MemOS.open(tmp_path, embedder=embedder, background=False) as memos:
        store = MemosStore(memos, cube="users", cube_of=by_user)
        await store.aput(("memories", "ann"), "old", {"text": "quokka"})
        ops = [
            PutOp(("memories", "ann"), "new", {"text": "kettle"}),
            PutOp(("memories", "ann"), "old", None),
            BAD[case],
        ]
        with pytest.raises(BadInput):
            await store.abatch(ops)
        with pytest.raises(BadInput):
            store.batch(ops)
        assert keys(store.search(("memories", "ann"))) == ["old"]
        assert keys(store.search(())) == ["old"]


def test_refreshing_and_sweeping_all(store: MemosStore, memos: MemOS, clock: FrozenClock) -> None:
    """Only what a search through all returned is refreshed, and a sweep goes through all."""
    for user in ("ann", "bob"):
        clock.advance(timedelta(seconds=1))
        store.put(("memories", user), "k", {}, ttl=10)
    clock.advance(timedelta(minutes=6))
    assert [item.namespace for item in store.search((), limit=1)] == [("memories", "bob")]
    clock.advance(timedelta(minutes=6))
    assert [item.namespace for item in store.search((), refresh_ttl=False)] == [("memories", "bob")]
    assert store.sweep_ttl() == 1
    assert memos.cube("users/ann").stats().items == 0


def test_a_function_that_would_lose_items(memos: MemOS) -> None:
    """A function that names one cube for a namespace and another for its beginning is refused before a write."""
    store = MemosStore(memos, cube_of=lambda namespace: namespace[-1])
    store.put(("a",), "k", {})
    with pytest.raises(BadInput, match="return None"):
        store.put(("a", "b"), "k", {})
    told = MemosStore(
        memos, cube="told", cube_of=lambda namespace: namespace[-1] if len(namespace) == 2 else None
    )
    told.put(("a", "b"), "k", {})
    assert keys(told.search(("a",))) == ["k"]
    assert keys(told.search(("a", "b"))) == ["k"]
    with pytest.raises(BadInput, match="return None"):
        told.put(("a", "b", "c"), "k", {})


def test_cubes_are_the_principals_own(memos: MemOS) -> None:
    """Cubes of the same names that belong to others are neither read nor listed."""
    stores = {
        name: MemosStore(memos.acting_as(Scope(user=name)), cube="users", cube_of=by_user)
        for name in ("ann", "bob")
    }
    for name, store in stores.items():
        store.put(("memories", "x"), "k", {"by": name})
    memos.acting_as(Scope(user="ann")).cube("users/x").grant(Scope(user="bob"), "write")
    root = MemosStore(memos, cube="users", cube_of=by_user)
    root.put(("memories", "x"), "k", {"by": "root"})
    for name, store in {**stores, "root": root}.items():
        assert [item.value for item in store.search(())] == [{"by": name}]
        assert [item.value for item in store.search(("memories", "x"))] == [{"by": name}]


def test_one_cube_is_one(cube: MemCube) -> None:
    """A store over a cube cannot spread over several."""
    with pytest.raises(BadInput, match="cube_of"):
        MemosStore(cube, cube_of=by_user)
    store = MemosStore(cube)
    store.put(("a",), "k", {})
    assert [entry.key for entry in cube.kv.search()] == ["k"]
