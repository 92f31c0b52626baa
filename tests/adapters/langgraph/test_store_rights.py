"""Whose items a store reaches: its handle's principal's, and what was granted on another's cube."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from langgraph.store.base import GetOp, PutOp

from memos_adapters.langgraph.store import MemosStore
from memos_engine import AccessDenied, MemCube, MemOS, Scope

NS = ("memories", "alice")


def test_nobody_reaches_another(memos: MemOS) -> None:
    """A store acts as the handle it was given: no namespace, key, prefix or filter leads to another's items."""
    alice = MemosStore(memos.acting_as(Scope(user="alice")))
    bob = MemosStore(memos.acting_as(Scope(user="bob")))
    alice.put(("alice",), "secret", {"text": "quokka"})
    alice.put(("al", "ice"), "secret", {"text": "quokka"})
    tricks = [
        (), ("alice",), ("al",), ("*",), ("alice\x1f",), ("al\x1fice",), ("\x1f",), ("ALICE",), ("alice ",), ("%",),
        ("..", "alice"), ("alice", ".."), ("user:alice",), ("\u202ealice",), ("alic\u0435",), ("store",), ("root",),
    ]  # fmt: skip
    for trick in tricks:
        assert bob.search(trick, limit=100) == []
        assert bob.search(trick, query="quokka", limit=100) == []
        assert bob.list_namespaces(prefix=trick or None) == []
        assert bob.list_namespaces(suffix=trick or None) == []
        if trick:
            assert bob.get(trick, "secret") is None
            bob.put(trick, "secret", {"text": "mine"})
            bob.delete(trick, "secret")
    assert bob.search((), filter={"$or": [{"text": "quokka"}, {"text": {"$exists": True}}]}) == []
    for label in ("alice\0", "", "\ud800"):
        with pytest.raises(ValueError, match="label"):
            bob.search((label,))
    assert len(alice.search(())) == 2
    for namespace in (("alice",), ("al", "ice")):
        item = alice.get(namespace, "secret")
        assert item is not None
        assert item.value == {"text": "quokka"}


def test_a_shared_cube(memos: MemOS) -> None:
    """Over another's cube a store does what was granted, and no more."""
    alice = memos.acting_as(Scope(user="alice"))
    owned: MemCube = alice.cube("team")
    owned.grant(Scope(user="bob"), "read")
    MemosStore(owned).put(NS, "k", {"n": 1}, ttl=1)
    bob = MemosStore(memos.acting_as(Scope(user="bob")).cube("team", owner=Scope(user="alice")))
    item = bob.get(NS, "k")
    assert item is not None
    assert [found.key for found in bob.search(NS, query="n")] == ["k"]
    calls: list[Callable[[], object]] = [
        lambda: bob.put(NS, "k", {}),
        lambda: bob.delete(NS, "k"),
        bob.sweep_ttl,
        lambda: bob.batch([GetOp(NS, "k"), PutOp(NS, "new", {})]),
    ]
    for call in calls:
        with pytest.raises(AccessDenied):
            call()
    owned.revoke(Scope(user="bob"))
    with pytest.raises(AccessDenied):
        bob.get(NS, "k")
