"""Key-value entries: JSON objects by namespace and key, filtered, searched, and written all or none."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_engine import (
    AccessDenied,
    BadInput,
    BadName,
    BadText,
    BadValue,
    KvDelete,
    KvPut,
    MemCube,
    MemOS,
    Scope,
)
from memos_engine.items import Json
from memos_engine.testing.fakes import FrozenClock

USERS = ("users",)


@pytest.fixture
def people(cube: MemCube) -> MemCube:
    """A cube with three entries under two namespaces."""
    cube.kv.put(
        (*USERS, "a"), "ann", {"name": "Ann", "age": 31, "tags": ["red", "blue"], "home": {"city": "Rome"}}
    )
    cube.kv.put((*USERS, "a"), "bob", {"name": "Bob", "age": 25, "tags": [], "home": {"city": "Oslo"}})
    cube.kv.put((*USERS, "b"), "cat", {"name": "Cat", "age": 40, "active": True})
    return cube


def keys(cube: MemCube, **wanted: Any) -> list[str]:
    """Keys that a search finds, sorted."""
    return sorted(entry.key for entry in cube.kv.search(USERS, limit=100, **wanted))


def refused(cube: MemCube, error: type[Exception], cure: str, call: Callable[[], object]) -> None:
    """The call is refused, and the cube is as it was, and whole."""
    before = cube.stats(), cube.list()
    with pytest.raises(error, match=cure):
        call()
    assert (cube.stats(), cube.list()) == before
    assert cube.check().ok


# Put, get, delete


def test_what_is_put_is_there(cube: MemCube, clock: FrozenClock) -> None:
    """An entry comes back with its value and times; an absent one is None."""
    made = clock()
    cube.kv.put(USERS, "ann", {"age": 31})
    clock.advance(timedelta(minutes=1))
    cube.kv.put(USERS, "ann", {"age": 32})
    entry = cube.kv.get(USERS, "ann")
    assert entry is not None
    assert (entry.namespace, entry.key, entry.value) == (USERS, "ann", {"age": 32})
    assert (entry.created_at, entry.updated_at, entry.score) == (made, clock(), None)
    assert cube.kv.get(USERS, "bob") is None
    assert cube.kv.get((), "ann") is None
    assert cube.kv.get([*USERS], "ann") == entry


def test_namespaces_and_keys_are_apart(cube: MemCube) -> None:
    """Joined labels that look alike are other places, and the empty namespace is one too."""
    places = [
        ((), "ab"),
        (("a",), "b"),
        (("ab",), "c"),
        (("a", "b"), "c"),
        (("a.b",), "c"),
        (("a/b",), "c"),
    ]
    for number, (namespace, key) in enumerate(places):
        cube.kv.put(namespace, key, {"n": number})
    for number, (namespace, key) in enumerate(places):
        entry = cube.kv.get(namespace, key)
        assert entry is not None
        assert entry.value == {"n": number}
    assert [entry.namespace for entry in cube.kv.search(("a",), limit=9)] == [("a", "b"), ("a",)]


def test_labels_may_look_like_mail(cube: MemCube) -> None:
    """Labels and keys may hold dots, at signs, slashes, percent signs, stars, spaces and any script."""
    labels = (
        "ann.lee+x@example.org",
        "a/b\\c",
        "100%",
        "x*",
        "two words",
        "名前",
        "'; DROP TABLE items; --",
        "\U0010ffffx",
    )
    for label in labels:
        cube.kv.put(("memories", label), label, {"of": label})
    for label in labels:
        found = cube.kv.search(("memories", label))
        assert [(entry.key, entry.value) for entry in found] == [(label, {"of": label})]
    assert cube.kv.search(("memories", "ann")) == []
    assert set(cube.kv.list_namespaces()) == {("memories", label) for label in labels}


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
VALUES = st.dictionaries(WORDS, JSON, max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES, index=st.sampled_from([None, False, ("a",), ("$",), ("a.b", "c[*]")]))
def test_any_json_object_comes_back_equal(cube: MemCube, value: dict[str, Json], index: Any) -> None:
    """Whatever JSON holds, NULs in texts included, is kept as it is, found, replaced and erased."""
    cube.kv.put(USERS, "x", value, index=index)
    entry = cube.kv.get(USERS, "x")
    assert entry is not None
    assert entry.value == value
    assert repr(entry.value) == repr(value)
    assert len(cube.kv.search(USERS)) == 1


def test_labels_of_any_character(cube: MemCube) -> None:
    """Separators of the store itself, control characters and blanks in labels lead to no other place."""
    labels = [
        "a",
        "a\x1f",
        "a\x1fb",
        "a\x1e",
        "a\x1e1",
        "a\x1e0b",
        "\x1f",
        "\x1e\x1f",
        " ",
        "a ",
        "a\n",
        "\x01",
        "*",
    ]
    places = [(*before, label) for label in labels for before in ((), ("a",), ("a\x1f",))]
    cube.kv.batch([KvPut(place, place[-1], {"at": list(place)}) for place in places])
    for place in places:
        entry = cube.kv.get(place, place[-1])
        assert entry is not None
        assert (entry.namespace, entry.key, entry.value) == (place, place[-1], {"at": list(place)})
        below = {each for each in places if each[: len(place)] == place}
        assert {entry.namespace for entry in cube.kv.search(place, limit=100)} == below
        if "*" not in place:
            assert set(cube.kv.list_namespaces(prefix=place)) == below
    assert set(cube.kv.list_namespaces()) == set(places)
    assert cube.check().ok


def test_nul_in_an_indexed_field(cube: MemCube) -> None:
    """A NUL in a field that a query reads hides nothing behind it, and goes when the entry goes."""
    cube.kv.put(USERS, "x", {"t": "quokka\0narwhal"}, index=("t",))
    assert cube.kv.search(USERS, query="narwhal")[0].value == {"t": "quokka\0narwhal"}
    cube.kv.delete(USERS, "x")
    assert cube.check().ok


def test_delete(people: MemCube) -> None:
    """A deleted entry is gone from every read; deleting what is not there is no error."""
    people.kv.delete((*USERS, "a"), "ann")
    people.kv.delete((*USERS, "a"), "ann")
    assert people.kv.get((*USERS, "a"), "ann") is None
    assert keys(people) == ["bob", "cat"]
    assert "ann" not in {entry.key for entry in people.kv.search(query="Ann Rome")}
    people.kv.delete((*USERS, "b"), "cat")
    assert people.kv.list_namespaces() == [("users", "a")]
    people.kv.put((*USERS, "a"), "ann", {"again": True})
    entry = people.kv.get((*USERS, "a"), "ann")
    assert entry is not None
    assert entry.value == {"again": True}
    assert people.check().ok


# Batch


def test_batch_is_one_commit(cube: MemCube) -> None:
    """Writes and erasures of a batch are done together, the last one for a key wins."""
    cube.kv.put(USERS, "old", {"n": 0})
    cube.kv.batch(
        [
            KvPut(USERS, "a", {"n": 1}),
            KvPut(USERS, "a", {"n": 2}),
            KvPut(USERS, "b", {"n": 1}),
            KvDelete(USERS, "b"),
            KvDelete(USERS, "c"),
            KvPut(USERS, "c", {"n": 3}),
            KvDelete(USERS, "old"),
        ]
    )
    assert {entry.key: entry.value for entry in cube.kv.search(USERS)} == {"a": {"n": 2}, "c": {"n": 3}}
    assert cube.check().ok
    before = cube.stats()
    cube.kv.batch([])
    assert cube.stats() == before


@pytest.mark.parametrize(
    "bad",
    [
        KvPut(USERS, "", {"n": 1}),
        KvPut(USERS, "x", {"n": math.nan}),
        KvPut(USERS, "x", {"n": "\ud800"}),
        KvPut(USERS, "x", {"n": 1}, ("a[",)),
        KvPut(USERS, "x", {"n": 1}, None, timedelta(0)),
        KvDelete(USERS, "a\0b"),
        KvDelete("users", "x"),  # type: ignore[arg-type] # -- the case
    ],
    ids=repr,
)
def test_a_batch_is_all_or_none(people: MemCube, bad: KvPut | KvDelete) -> None:
    """One operation that cannot be taken refuses the batch."""
    batch: list[KvPut | KvDelete] = [KvPut(USERS, "new", {"n": 1}), KvDelete((*USERS, "a"), "ann"), bad]
    refused(people, BadInput, r"must|keep|repair|remove|write it|hand over", lambda: people.kv.batch(batch))


NO_VALUES: list[Any] = [
    None, 5, "text", [1], {1: 2}, {"a": {1, 2}}, {"a": b"x"}, {"a": math.inf}, {"a": object()}, {"a": timedelta(1)},
]  # fmt: skip


@pytest.mark.parametrize("value", NO_VALUES, ids=lambda value: repr(value)[:20])
def test_what_is_no_json_object(people: MemCube, value: Any) -> None:
    """A value is a JSON object."""
    refused(people, BadValue, r"hand over|keep str", lambda: people.kv.put(USERS, "x", value))
    refused(people, TypeError, r"hand over|keep str", lambda: people.kv.put(USERS, "x", value))


def test_values_that_are_too_much(people: MemCube) -> None:
    """A value that nests too deep or is too long is refused."""
    deep: dict[str, Json] = {}
    for _ in range(101):
        deep = {"a": deep}
    refused(people, BadInput, "flatten", lambda: people.kv.put(USERS, "x", deep))
    refused(people, BadText, "split", lambda: people.kv.put(USERS, "x", {"a": "x" * (5 * 2**20)}))


@pytest.mark.parametrize(
    "namespace",
    ["users", b"users", {"users"}, ("a", ""), ("a\0b",), ("x",) * 33, ("a\ud800",), (5,), (None,)],
    ids=ascii,
)
def test_what_is_no_namespace(people: MemCube, namespace: Any) -> None:
    """A namespace is a few labels, never one text."""
    cure = r"hand over|must have|remove|at most|repair"
    refused(people, BadName, cure, lambda: people.kv.put(namespace, "k", {}))
    for call in (
        lambda: people.kv.get(namespace, "k"),
        lambda: people.kv.search(namespace),
        lambda: people.kv.list_namespaces(prefix=namespace),
    ):
        refused(people, BadName, cure, call)


# Search


def test_search_by_prefix(people: MemCube) -> None:
    """A prefix selects whole labels; pages follow one another, newest change first."""
    assert keys(people) == ["ann", "bob", "cat"]
    assert [entry.key for entry in people.kv.search((*USERS, "a"))] == ["bob", "ann"]
    assert people.kv.search(("use",)) == []
    pages = [people.kv.search(USERS, limit=1, offset=place)[0].key for place in range(3)]
    assert pages == ["cat", "bob", "ann"]
    assert people.kv.search(USERS, offset=3) == []
    assert people.kv.search(USERS, limit=0) == []


def test_a_change_moves_an_entry_to_the_front(people: MemCube, clock: FrozenClock) -> None:
    """The order is that of the latest change."""
    clock.advance(timedelta(seconds=1))
    people.kv.put((*USERS, "a"), "ann", {"name": "Ann"})
    assert people.kv.search(USERS, limit=1)[0].key == "ann"


def test_search_by_query(people: MemCube) -> None:
    """A query ranks entries by what they say, with a score, within the prefix and the filter."""
    found = people.kv.search(USERS, query="who lives in Rome")
    assert found[0].key == "ann"
    assert found[0].score is not None
    assert [entry.key for entry in people.kv.search((*USERS, "b"), query="Rome")] == ["cat"]
    assert [
        entry.key for entry in people.kv.search(USERS, query="Rome Oslo", filter={"age": {"$lt": 30}})
    ] == ["bob"]
    assert people.kv.search(USERS, query="Rome", limit=0) == []


def test_index_says_what_a_query_reads(cube: MemCube) -> None:
    """Only indexed fields are found by a query; False hides an entry from queries, not from lists."""
    value: dict[str, Json] = {
        "title": "quokka",
        "body": "narwhal",
        "tags": [{"t": "puffin"}, {"t": "gannet"}],
    }
    cube.kv.put(USERS, "title", value, index=["title"])
    cube.kv.put(USERS, "tags", value, index=["tags[*].t"])
    cube.kv.put(USERS, "last", value, index=["tags[-1].t", "nowhere"])
    cube.kv.put(USERS, "none", value, index=False)
    cube.kv.put(USERS, "nowhere", value, index=["nowhere.at.all"])

    def by_word(query: str) -> list[str]:
        """Keys whose entries hold a word, by keyword search."""
        hits = cube.search(query, limit=50)
        keyword = [hit for hit in hits if "keyword" in {reason.retriever for reason in hit.why}]
        return sorted(hit.item.key or "" for hit in keyword)

    assert by_word("quokka") == ["title"]
    assert by_word("narwhal") == []
    assert by_word("puffin") == ["tags"]
    assert by_word("gannet") == ["last", "tags"]
    assert len(cube.kv.search(USERS)) == 5
    cube.kv.put(USERS, "title", value, index=False)
    assert by_word("quokka") == []
    cube.kv.put(USERS, "title", value, index=["body"])
    assert by_word("narwhal") == ["title"]
    assert cube.check().ok


def test_entries_end_with_their_time(cube: MemCube, memos: MemOS, clock: FrozenClock) -> None:
    """An entry is gone from every read when its time is over, before and after the job, and may be put anew."""
    cube.kv.put(USERS, "short", {"word": "quokka"}, ttl=timedelta(minutes=1))
    cube.kv.put(("other",), "short", {"word": "quokka"}, ttl=timedelta(minutes=1))
    cube.kv.put(USERS, "long", {"word": "narwhal"})
    clock.advance(timedelta(minutes=1))
    for _ in range(2):
        assert cube.kv.get(USERS, "short") is None
        assert [entry.key for entry in cube.kv.search(USERS)] == ["long"]
        assert [entry.key for entry in cube.kv.search(USERS, query="quokka")] == ["long"]
        assert [entry.key for entry in cube.kv.search(filter={"word": {"$exists": True}})] == ["long"]
        assert cube.kv.list_namespaces() == [USERS]
        memos.drain()
    cube.kv.put(USERS, "short", {"word": "quokka"})
    assert cube.kv.search(USERS, query="quokka")[0].key == "short"
    cube.kv.delete(("other",), "short")
    assert cube.check().ok


def test_many_at_once(people: MemCube) -> None:
    """Entries are read together, in the order they are asked for, with None for those that are not there."""
    ann, nobody, cat = people.kv.get_many(
        [((*USERS, "a"), "ann"), ((*USERS, "a"), "cat"), ((*USERS, "b"), "cat")]
    )
    assert (ann, nobody, cat) == (
        people.kv.get((*USERS, "a"), "ann"),
        None,
        people.kv.get((*USERS, "b"), "cat"),
    )
    assert people.kv.get_many([]) == []


def test_a_private_key_of_another_is_not_taken(memos: MemOS) -> None:
    """Entries belong to the cube: who may write there sees them all."""
    alice = memos.acting_as(Scope(user="alice")).cube("shared")
    alice.grant(Scope(user="bob"), "write")
    bob = memos.acting_as(Scope(user="bob")).cube("shared", owner=Scope(user="alice"))
    bob.kv.put(USERS, "k", {"by": "bob"})
    entry = alice.kv.get(USERS, "k")
    assert entry is not None
    assert entry.value == {"by": "bob"}


def test_batch_over_cubes(memos: MemOS, cube: MemCube) -> None:
    """Batches of several cubes are written together, and what one of them refuses keeps all from being written."""
    other = memos.cube("other")
    cube.kv.batch([KvPut(USERS, "a", {"n": 1})], also=[(other.kv, [KvPut(USERS, "b", {"n": 2})])])
    assert keys(cube) == ["a"]
    assert keys(other) == ["b"]
    first: list[KvPut | KvDelete] = [KvPut(USERS, "new", {"n": 3}), KvDelete(USERS, "a")]
    unread: Any = object()
    for name, value, path in (("bad", {"n": unread}, "$"), ("", {}, "$"), ("bad", {"a": 1}, "a[")):
        bad = KvPut(USERS, name, value, (path,))
        refused(cube, BadInput, ": |must ", partial(cube.kv.batch, first, also=[(other.kv, [bad])]))
    memos.acting_as(Scope(user="bob")).cube("bobs").grant(Scope(user="ann"), "read")
    anns = memos.acting_as(Scope(user="ann"))
    own, bobs = anns.cube("own"), anns.cube("bobs", owner=Scope(user="bob"))
    refused(own, AccessDenied, "write", lambda: own.kv.batch(first, also=[(bobs.kv, first)]))
    refused(cube, BadInput, "also names", lambda: cube.kv.batch(first, also=[(unread, first)]))


# Namespaces


def test_list_namespaces(cube: MemCube) -> None:
    """Namespaces are listed in order, by prefix and suffix with stars, cut to a depth, in pages."""
    for namespace in (("a", "b", "c"), ("a", "b", "d"), ("a", "x", "c"), ("z", "b", "c"), ("z",)):
        cube.kv.put(namespace, "k", {})
        cube.kv.put(namespace, "l", {})
    kv = cube.kv
    assert kv.list_namespaces() == [
        ("a", "b", "c"),
        ("a", "b", "d"),
        ("a", "x", "c"),
        ("z",),
        ("z", "b", "c"),
    ]
    assert kv.list_namespaces(prefix=("a",)) == [("a", "b", "c"), ("a", "b", "d"), ("a", "x", "c")]
    assert kv.list_namespaces(prefix=("a", "*", "c")) == [("a", "b", "c"), ("a", "x", "c")]
    assert kv.list_namespaces(prefix=("*", "b")) == [("a", "b", "c"), ("a", "b", "d"), ("z", "b", "c")]
    assert kv.list_namespaces(suffix=("b", "*")) == [("a", "b", "c"), ("a", "b", "d"), ("z", "b", "c")]
    assert kv.list_namespaces(prefix=("z",), suffix=("c",)) == [("z", "b", "c")]
    assert kv.list_namespaces(max_depth=1) == [("a",), ("z",)]
    assert kv.list_namespaces(max_depth=2, limit=2, offset=1) == [("a", "x"), ("z",)]
    assert kv.list_namespaces(suffix=("nothing",)) == []
