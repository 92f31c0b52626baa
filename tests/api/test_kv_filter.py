"""Conditions on the values of key-value entries: what each operator selects, and what makes no sense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_engine import BadInput, KvPut, MemCube, MemOS
from memos_engine.items import Json

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


FILTERS: list[tuple[dict[str, Json], list[str]]] = [
    ({}, ["ann", "bob", "cat"]),
    ({"name": "Ann"}, ["ann"]),
    ({"age": {"$gt": 25}}, ["ann", "cat"]),
    ({"age": {"$gte": 25, "$lt": 40}}, ["ann", "bob"]),
    ({"age": {"$lte": 25}}, ["bob"]),
    ({"age": {"$ne": 31}}, ["bob", "cat"]),
    ({"age": {"$in": [31, 40]}}, ["ann", "cat"]),
    ({"age": {"$nin": [31, 40]}}, ["bob"]),
    ({"age": "31"}, []),
    ({"name": {"$gt": "Ann"}}, ["bob", "cat"]),
    ({"name": {"$gt": 5}}, []),
    ({"home.city": "Rome"}, ["ann"]),
    ({"home": {"city": "Oslo"}}, ["bob"]),
    ({"home": {"city": {"$in": ["Oslo"]}}}, ["bob"]),
    ({"home": {"$exists": False}}, ["cat"]),
    ({"tags": {"$contains": "red"}}, ["ann"]),
    ({"tags": ["red", "blue"]}, ["ann"]),
    ({"tags": []}, ["bob"]),
    ({"name": {"$contains": "a"}}, ["cat"]),
    ({"active": True}, ["cat"]),
    ({"active": 1}, []),
    ({"active": None}, ["ann", "bob"]),
    ({"active": {"$ne": None}}, ["cat"]),
    ({"home.city": {"$in": ["Rome", None]}}, ["ann", "cat"]),
    ({"$or": [{"name": "Ann"}, {"active": True}]}, ["ann", "cat"]),
    ({"$and": [{"age": {"$gt": 20}}, {"$or": [{"name": "Bob"}, {"name": "Cat"}]}], "tags": []}, ["bob"]),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "expected"), FILTERS, ids=repr)
def test_filters(people: MemCube, condition: dict[str, Json], expected: list[str]) -> None:
    """Operators, paths and combinations select what they say."""
    assert keys(people, filter=condition) == expected


@pytest.mark.parametrize(
    "condition",
    [
        {"age": {"$foo": 1}},
        {"home": {"city": {"$foo": 1}}},
        {"home": {"city": {"$in": 1}}},
        {"age": {"$gt": 1, "plain": 2}},
        {"age": {"$in": 31}},
        {"age": {"$exists": 1}},
        {"age": {"$and": []}},
        {"$or": []},
        {"$and": {"a": 1}},
        {"$or": [5]},
        {"$gt": 5},
        {"$not": {"a": 1}},
        {5: 5},
        ["a"],
        "a",
    ],
    ids=repr,
)
def test_filters_that_make_no_sense(people: MemCube, condition: Any) -> None:
    """An unknown operator or a wrong operand is an error, never an empty result, however deep it stands."""
    for query in (None, "Rome"):
        with pytest.raises(BadInput, match=r"known are|needs|hand over|name a field"):
            people.kv.search(USERS, filter=condition, query=query)


def test_a_filter_that_nests_too_deep(people: MemCube) -> None:
    """A filter has a depth at which it ends."""
    condition: dict[str, Json] = {"a": 1}
    for _ in range(2000):
        condition = {"$and": [condition]}
    with pytest.raises(BadInput, match="flatten"):
        people.kv.search(filter=condition)


def test_a_filter_looks_beyond_a_page(cube: MemCube) -> None:
    """Matches far behind the newest entries are found, in pages too."""
    cube.kv.batch([KvPut(USERS, f"k{n}", {"n": n}, False) for n in range(1200)])
    condition: dict[str, Json] = {"n": {"$lt": 5}}
    assert sorted(entry.key for entry in cube.kv.search(filter=condition)) == [f"k{n}" for n in range(5)]
    assert [entry.key for entry in cube.kv.search(filter=condition, limit=2, offset=3)] == ["k1", "k0"]


SCALARS = st.sampled_from([None, True, False, 0, 1, 1.0, 2, "a", "b", ""])
FIELDS = st.sampled_from(["a", "b", "c"])
FLAT = st.dictionaries(FIELDS, SCALARS, max_size=3)
OPERATORS = st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"])


def same(left: object, right: object) -> bool:
    """Equality as JSON has it."""
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def naive(operator: str, value: Mapping[str, object], field: str, wanted: Any) -> bool:
    """What an operator means, written out again."""
    missing = field not in value
    found: Any = value.get(field)
    if operator in ("$eq", "$ne"):
        return same(found, wanted) == (operator == "$eq")
    numbers = all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in (found, wanted))
    if missing or not (numbers or (isinstance(found, str) and isinstance(wanted, str))):
        return False
    order: dict[str, bool] = {
        "$gt": found > wanted, "$gte": found >= wanted, "$lt": found < wanted, "$lte": found <= wanted,
    }  # fmt: skip
    return order[operator]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(FLAT, min_size=1, max_size=6),
    terms=st.lists(st.tuples(FIELDS, OPERATORS, SCALARS), min_size=1, max_size=3),
    either=st.booleans(),
)
def test_filters_mean_what_they_say(
    memos: MemOS, values: list[dict[str, Json]], terms: list[tuple[str, str, Json]], either: bool
) -> None:
    """Any combination of conditions finds what a plain evaluation of each value finds."""
    cube = memos.cube("fresh")
    cube.kv.batch([KvPut(USERS, f"k{n}", value, False) for n, value in enumerate(values)])
    parts: list[Json] = [{field: {operator: wanted}} for field, operator, wanted in terms]
    found = keys(cube, filter={"$or" if either else "$and": parts})
    choose = any if either else all
    memos.delete("fresh")
    assert found == [
        f"k{n}"
        for n, value in enumerate(values)
        if choose(naive(operator, value, field, wanted) for field, operator, wanted in terms)
    ]
