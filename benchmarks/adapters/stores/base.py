"""What is asked of a store of LangGraph, by the calls that they all have."""

from __future__ import annotations

from typing import Any, ClassVar

from langgraph.store.base import PutOp, SearchItem

from benchmarks.systems.base import LIMIT, Ability, System

ROOT = "bench"
USERS = 100
"""Namespaces."""
TOPICS = 50
"""Values of the field that is filtered by."""
FIELD = "text"
"""What a query finds an item by."""


class LangGraphStore(System):
    """A store under test; a subclass opens it."""

    abilities: ClassVar[frozenset[Ability]] = frozenset({"add", "add_one", "search"})
    durability: str
    """When a put is on the disk."""
    _store: Any
    """A `BaseStore`."""

    def add(self, first: int, texts: list[str]) -> None:
        self._store.batch([_put(first + n, text) for n, text in enumerate(texts)])

    def add_one(self, number: int, text: str) -> None:
        put = _put(number, text)
        assert put.value is not None, "no deletion"
        self._store.put(put.namespace, put.key, put.value)

    def get(self, number: int) -> None:
        """Read an item by its key."""
        assert self._store.get(_space(number), f"{number}") is not None, f"item {number} is there"

    def filter(self, topic: int) -> None:
        """The first LIMIT items whose field has a value."""
        found = self._store.search((ROOT,), filter={"topic": topic}, limit=LIMIT)
        assert all(item.value["topic"] == topic for item in found), "a filter filters"

    def search(self, query: str) -> list[SearchItem]:
        found: list[SearchItem] = self._store.search((ROOT,), query=query, limit=LIMIT)
        return found

    def texts_of(self, found: list[SearchItem]) -> list[str]:
        return [item.value[FIELD] for item in found]

    def namespaces(self, number: int) -> None:
        """List all namespaces."""
        assert self._store.list_namespaces(prefix=(ROOT,), limit=2 * USERS), "items are there"


def _put(number: int, text: str) -> PutOp:
    return PutOp(_space(number), f"{number}", {FIELD: text, "topic": number % TOPICS, "number": number})


def _space(number: int) -> tuple[str, str]:
    return ROOT, f"user-{number % USERS}"
