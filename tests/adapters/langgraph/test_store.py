"""MemosStore: LangGraph's operations on items, alone and in batches, over one principal's cube."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    SearchItem,
    SearchOp,
)

from memos_adapters.langgraph.store import MemosStore
from memos_engine import BadInput, BadLimit, BadName, MemOS, MemosError
from memos_engine.testing.fakes import FrozenClock

NS = ("memories", "alice")


@pytest.fixture
def store(memos: MemOS) -> Iterator[MemosStore]:
    """A store of the root's handle; it leaves the cube whole."""
    yield MemosStore(memos)
    assert memos.check().ok


def keys(found: list[SearchItem]) -> list[str]:
    """Keys of what a search found."""
    return [item.key for item in found]


# Items


def test_an_item_comes_back(store: MemosStore, clock: FrozenClock) -> None:
    """An item has its namespace, key, value and times; the time of creation stays when it is changed."""
    made = clock()
    assert store.get(NS, "k") is None
    store.put(NS, "k", {"text": "quokka", "n": [1, {"m": None}]})
    clock.advance(timedelta(minutes=1))
    store.put(NS, "k", {"text": "narwhal"})
    item = store.get(NS, "k")
    assert type(item) is Item
    assert (item.namespace, item.key, item.value) == (NS, "k", {"text": "narwhal"})
    assert (item.created_at, item.updated_at) == (made, clock())
    store.delete(NS, "k")
    store.delete(NS, "k")
    assert store.get(NS, "k") is None
    assert store.list_namespaces() == []


def test_values_are_copies(store: MemosStore) -> None:
    """What is changed in a value after it was put, or after it came back, changes nothing that is kept."""
    value: dict[str, Any] = {"list": [1], "deep": {"a": 1}}
    store.put(NS, "k", value)
    value["list"].append(2)
    first = store.get(NS, "k")
    assert first is not None
    first.value["deep"]["a"] = 2
    store.search(NS)[0].value["list"].append(3)
    again = store.get(NS, "k")
    assert again is not None
    assert again.value == {"list": [1], "deep": {"a": 1}}


@pytest.mark.parametrize(
    "value", [{"a": {1, 2}}, {"a": b"x"}, {"a": object()}, {1: 2}, [1], "text", {"a": float("nan")}]
)
def test_what_is_no_json(store: MemosStore, value: Any) -> None:
    """A value that is no JSON object is a TypeError, as with LangGraph's SQLite store, and an error of ours."""
    for error in (TypeError, BadInput):
        with pytest.raises(error, match=r"keep str|hand over"):
            store.put(NS, "k", value)
    assert store.search(()) == []


def test_reads_leave_no_namespace_behind(store: MemosStore) -> None:
    """Getting, deleting and searching what is not there makes no namespace."""
    store.get(("ghost",), "k")
    store.delete(("ghost", "too"), "k")
    store.search(("ghost",))
    store.batch([GetOp(("ghost",), "k"), PutOp(("ghost",), "k", None)])
    assert store.list_namespaces() == []


def test_search_items_are_told_as_json(store: MemosStore) -> None:
    """What a search found can be dumped, as tools that hand memories to a model do."""
    store.put(NS, "k", {"text": "quokka"})
    (found,) = store.search(NS, query="quokka")
    assert type(found) is SearchItem
    told = json.loads(json.dumps(found.dict()))
    assert told["value"] == {"text": "quokka"}
    assert told["namespace"] == list(NS)
    assert 0 < told["score"] <= 1


def test_order_without_a_query(store: MemosStore, clock: FrozenClock) -> None:
    """Without a query the item changed last comes first; items of one moment keep one order over pages."""
    for n in range(3):
        clock.advance(timedelta(seconds=1))
        store.batch([PutOp(NS, f"k{n}{letter}", {}) for letter in "ab"])
    clock.advance(timedelta(seconds=1))
    store.put(NS, "k0a", {})
    whole = keys(store.search(NS))
    assert whole == ["k0a", "k2b", "k2a", "k1b", "k1a", "k0b"]
    assert [key for n in range(0, 6, 2) for key in keys(store.search(NS, limit=2, offset=n))] == whole
    assert store.search(NS, limit=0) == []


def test_a_query_leaves_no_item_out(store: MemosStore, clock: FrozenClock) -> None:
    """Items that are not indexed follow those that are, newest first and without a score, in every page."""
    for n in range(4):
        clock.advance(timedelta(seconds=1))
        store.put(NS, f"seen{n}", {"text": f"quokka {n}"})
        store.put(NS, f"unseen{n}", {"text": f"quokka {n}"}, index=False)
    whole = store.search(NS, query="quokka 2", limit=20)
    assert whole[0].key == "seen2"
    assert [item.score is None for item in whole] == [False] * 4 + [True] * 4
    assert keys(whole[4:]) == ["unseen3", "unseen2", "unseen1", "unseen0"]
    pages = [store.search(NS, query="quokka 2", limit=3, offset=n) for n in (0, 3, 6)]
    assert [key for page in pages for key in keys(page)] == keys(whole)


def test_queries_that_say_nothing(store: MemosStore) -> None:
    """An empty or blank query is none; a NUL in one does no harm; something else than a text is refused."""
    store.put(NS, "k", {"text": "quokka"})
    for query in ("", "  \n", None):
        assert [(item.key, item.score) for item in store.search(NS, query=query)] == [("k", None)]
    assert store.search(NS, query="quo\0kka quokka")[0].score is not None
    with pytest.raises(BadInput, match="text"):
        store.search(NS, query=5)  # type: ignore[arg-type] # -- the case


def test_indexed_fields(memos: MemOS) -> None:
    """The store's fields are what queries find an item by, unless a put names others."""
    store = MemosStore(memos, fields=["text", "tags[*].name"])
    value = {"text": "quokka", "tags": [{"name": "marsupial"}], "secret": "narwhal"}
    store.put(NS, "k", value)
    store.put(NS, "other", value, index=["secret"])
    best = {query: store.search(NS, query=query)[0].key for query in ("quokka", "marsupial", "narwhal")}
    assert best == {"quokka": "k", "marsupial": "k", "narwhal": "other"}
    with pytest.raises(BadInput, match="list of paths"):
        MemosStore(memos, fields="text")  # type: ignore[arg-type] # -- the case
    with pytest.raises(BadInput, match="list of paths"):
        store.put(NS, "k", value, index="text")  # type: ignore[arg-type] # -- the case
    with pytest.raises(BadInput, match="index path"):
        store.put(NS, "k", value, index=["a["])


# Batches


def test_reads_see_what_was_before(store: MemosStore) -> None:
    """Results stand where their operations stood; reads of a batch see nothing of its writes, and the last wins."""
    store.put(NS, "old", {"n": 0})
    results = store.batch(
        [
            PutOp(NS, "old", {"n": 1}),
            GetOp(NS, "old"),
            PutOp(NS, "new", {"n": 1}),
            SearchOp(("memories",)),
            PutOp(NS, "new", None),
            PutOp(NS, "new", {"n": 2}),
            ListNamespacesOp(),
            GetOp(NS, "new", refresh_ttl=False),
            PutOp(("other",), "gone", {"n": 3}),
            PutOp(("other",), "gone", None),
        ]
    )
    assert [type(result) for result in results] == [
        type(None), Item, type(None), list, type(None), type(None), list, type(None), type(None), type(None),
    ]  # fmt: skip
    assert results[1].value == {"n": 0}  # type: ignore[union-attr] # -- an item, as just asserted
    assert keys(results[3]) == ["old"]  # type: ignore[arg-type] # -- as before
    assert results[6] == [NS]
    assert {item.key: item.value for item in store.search(())} == {"old": {"n": 1}, "new": {"n": 2}}
    assert store.batch([]) == []
    assert store.batch(iter([GetOp(NS, "old")]))[0] == store.get(NS, "old")


def test_two_items_that_say_the_same(store: MemosStore) -> None:
    """Texts that are alike in one batch are two items."""
    store.batch([PutOp(NS, "a", {"text": "quokka"}), PutOp(NS, "b", {"text": "quokka"})])
    assert sorted(keys(store.search(NS, query="quokka"))) == ["a", "b"]


BAD: list[tuple[Any, type[Exception]]] = [
    (GetOp(("a", ""), "k"), InvalidNamespaceError),
    (GetOp("abc", "k"), InvalidNamespaceError),  # type: ignore[arg-type] # -- the case
    (PutOp(("a", 1), "k", {}), InvalidNamespaceError),  # type: ignore[arg-type] # -- the case
    (PutOp(("a\0",), "k", {}), InvalidNamespaceError),
    (PutOp(("a",), "", {}), BadName),
    (PutOp(("a",), "k", {"x": object()}), TypeError),
    (PutOp(("a",), "k", {}, ttl=-1), BadInput),
    (PutOp(("a",), "k", {}, ttl=float("nan")), BadInput),
    (PutOp(("a",), "k", {}, ttl="1"), BadInput),  # type: ignore[arg-type] # -- the case
    (PutOp(("a",), "k", {}, ttl=1e300), BadInput),
    (PutOp(("a",), "k", {"x": 1}, index=["["]), BadInput),
    (SearchOp(("a", "")), InvalidNamespaceError),
    (SearchOp((), filter={"a": {"$foo": 1}}), BadInput),
    (SearchOp((), filter={"a' OR 1=1 --": 1}), ValueError),
    (SearchOp((), filter={"$or": [{"b": {"c;": 1}}]}), ValueError),
    (SearchOp((), limit=-1), BadLimit),
    (SearchOp((), offset=True), BadLimit),
    (ListNamespacesOp((MatchCondition("prefix", ("",)),)), InvalidNamespaceError),
    (ListNamespacesOp((MatchCondition("middle", ("a",)),)), BadInput),  # type: ignore[arg-type] # -- the case
    (ListNamespacesOp(max_depth=0), BadLimit),
    (ListNamespacesOp(limit=-1), BadLimit),
    ("nonsense", BadInput),
]


@pytest.mark.parametrize(
    ("bad", "error"), BAD, ids=[f"{type(op).__name__}-{n}" for n, (op, _) in enumerate(BAD)]
)
@pytest.mark.parametrize("last", [True, False])
def test_one_bad_operation_does_nothing(
    store: MemosStore, bad: Op, error: type[Exception], last: bool
) -> None:
    """A batch in which one operation cannot be taken changes nothing, and says why with an error of ours."""
    store.put(NS, "k", {"n": 0})
    good = PutOp(NS, "k", {"n": 1})
    with pytest.raises(error) as caught:
        store.batch([good, bad] if last else [bad, good])
    assert isinstance(caught.value, MemosError)
    item = store.get(NS, "k")
    assert item is not None
    assert item.value == {"n": 0}
    assert store.list_namespaces() == [NS]


# Namespaces

LABELS = [
    "ann.lee+x@example.org", ".", "..", "a.b", "a\x1fb", "a\x1f", "\x1e", "a\x1e1b", "a\n", "*", "%", "_", "a/b",
    "'; --", " ", "名前", "\u200b", "e\u0301", "é", "\U0010ffff",
]  # fmt: skip


def test_labels_may_be_anything(store: MemosStore) -> None:
    """Mail addresses, separators, stars and any script are labels, kept apart and told as they were given."""
    for label in LABELS:
        store.put(("memories", label), "k", {"of": label})
        store.put(("memories", label, "sub"), "k", {"of": label})
    for label in LABELS:
        item = store.get(("memories", label), "k")
        assert item is not None
        assert (item.namespace, item.value) == (("memories", label), {"of": label})
        assert {found.value["of"] for found in store.search(("memories", label), limit=100)} == {label}
        assert ("memories", label, "sub") in store.list_namespaces(suffix=(label, "sub"), limit=100)
    listed = store.list_namespaces(limit=100)
    assert set(listed) == {("memories", label, *sub) for label in LABELS for sub in ((), ("sub",))}
    assert listed == sorted(listed)


def test_a_namespace_is_not_a_string_of_labels(store: MemosStore) -> None:
    """Places whose labels join to the same text are apart, and a prefix is whole labels."""
    places = [("a", "b"), ("a.b",), ("ab",), ("a", "b", "c"), ("a.b", "c"), ("a", "b.c")]
    for place in places:
        store.put(place, "k", {"at": list(place)})
    assert {item.namespace for item in store.search(("a",))} == {("a", "b"), ("a", "b", "c"), ("a", "b.c")}
    assert store.list_namespaces(prefix=("a.b",)) == [("a.b",), ("a.b", "c")]
    assert store.list_namespaces(prefix=("a", "*"), max_depth=2) == [("a", "b"), ("a", "b.c")]


def test_places_that_are_langgraphs(store: MemosStore) -> None:
    """`put` refuses the empty namespace and LangGraph's own root, as every store does."""
    for namespace in ((), ("langgraph", "x")):
        with pytest.raises(InvalidNamespaceError, match="label"):
            store.put(namespace, "k", {})
    assert store.search(()) == []


def test_many_conditions_on_namespaces(store: MemosStore) -> None:
    """A listing may have several prefixes and suffixes, wild ones too; all must fit."""
    for place in (("a", "b", "c"), ("a", "x", "c"), ("a", "b", "d"), ("b", "b", "c")):
        store.put(place, "k", {})

    def listed(*conditions: tuple[Any, tuple[str, ...]]) -> list[tuple[str, ...]]:
        """What fits all conditions."""
        op = ListNamespacesOp(tuple(MatchCondition(kind, path) for kind, path in conditions))
        found: list[tuple[str, ...]] = store.batch([op])[0]  # type: ignore[assignment] # -- a listing's answer
        return found

    assert listed(("prefix", ("a",)), ("prefix", ("a", "b"))) == [("a", "b", "c"), ("a", "b", "d")]
    assert listed(("prefix", ("*", "b")), ("suffix", ("c",))) == [("a", "b", "c"), ("b", "b", "c")]
    assert listed(("suffix", ("*", "c")), ("suffix", ("x", "*"))) == [("a", "x", "c")]
    assert listed(("suffix", ())) == store.list_namespaces()
    assert listed(("prefix", ("a", "b", "c", "d"))) == []
    assert store.list_namespaces(limit=2, offset=1) == [("a", "b", "d"), ("a", "x", "c")]


# Filters

FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({"user": {"id": 1}}, ["a"]),
    ({"user.id": 1}, ["a"]),
    ({"n": {"$gt": 1}}, ["b"]),
    ({"n": {"$in": [1, 2]}}, ["a", "b"]),
    ({"n": {"$nin": [1]}}, ["b", "c"]),
    ({"$or": [{"n": 1}, {"tags": {"$contains": "y"}}]}, ["a", "b"]),
    ({"$and": [{"n": {"$gte": 1}}, {"user": {"$exists": False}}]}, ["b"]),
    ({"user": None}, ["b", "c"]),
    ({"dotted.key": "v"}, ["c"]),
    ({"title": "O'Brien (1)"}, ["c"]),
    ({"tags": ("x", "y"), "n": {"$in": (2, 3)}}, ["b"]),
]


@pytest.mark.parametrize(("condition", "expected"), FILTERS, ids=repr)
def test_filters(store: MemosStore, condition: dict[str, Any], expected: list[str]) -> None:
    """Nested and dotted fields and all operators select what they say, with and without a query."""
    store.put(NS, "a", {"n": 1, "user": {"id": 1, "name": "x"}})
    store.put(NS, "b", {"n": 2, "tags": ["x", "y"]})
    store.put(NS, "c", {"dotted.key": "v", "title": "O'Brien (1)"})
    for query in (None, "x"):
        assert sorted(keys(store.search(NS, filter=condition, query=query))) == expected


# As an object


def test_a_store_is_true_and_can_be_copied(store: MemosStore) -> None:
    """LangGraph asks `other.store or self.store`, and copies what it compiles: an empty store is still one."""
    assert isinstance(store, BaseStore)
    assert bool(store)
    twin = copy.copy(store)
    twin.put(NS, "k", {})
    assert store.get(NS, "k") is not None
    assert store.supports_ttl


def test_what_memos_may_be(tmp_path: Path) -> None:
    """A store is made over a MemOS or a cube, and says so."""
    for wrong in (tmp_path, "memories", None):
        with pytest.raises(BadInput, match=r"MemOS\.open"):
            MemosStore(wrong)  # type: ignore[arg-type] # -- the case


def test_nothing_is_made_before_it_is_used(memos: MemOS) -> None:
    """Making a store touches no disk; `setup` makes its cube, as often as it is called."""
    store = MemosStore(memos, cube="later")
    assert memos.cubes() == []
    store.setup()
    store.setup()
    assert [row.name for row in memos.cubes()] == ["later"]


def test_a_deleted_cube_begins_anew(store: MemosStore, memos: MemOS) -> None:
    """A store holds no handle that a deletion would leave behind."""
    store.put(NS, "k", {})
    memos.delete("store")
    assert store.get(NS, "k") is None
    store.put(NS, "k", {"n": 2})
    assert keys(store.search(())) == ["k"]
