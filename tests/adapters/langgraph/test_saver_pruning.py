"""Erasing checkpoints: what goes, what stays, and that what stays can still be loaded whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Durability

from memos_adapters.langgraph.saver import MemosSaver
from memos_adapters.langgraph.saver_pruning import Fact, with_history
from memos_engine import Blob, MemOS
from tests.adapters.langgraph.saver_cases import (
    THREAD,
    config,
    counting,
    delta_graph,
    found,
    id_of,
    ids,
    plain,
    put,
)


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    """Lend an open folder."""
    with MemOS.open(tmp_path, background=False) as memos:
        yield memos


@pytest.fixture
def saver(memos: MemOS) -> MemosSaver:
    """Return the saver of the folder's owner."""
    return MemosSaver(memos)


def blobs(memos: MemOS, thread: str = THREAD) -> list[Blob]:
    """What is stored of a thread."""
    return memos.threads.blobs(f"langgraph:{thread}")


def by_space(memos: MemOS) -> dict[str, int]:
    """How many blobs of each kind a thread has."""
    spaces = [blob.space for blob in blobs(memos)]
    return {space: spaces.count(space) for space in sorted(set(spaces))}


class TestDecision:
    def fact(self, parent: str | None, *, needs: bool) -> Fact:
        """A checkpoint of the root namespace."""
        return Fact(("", parent) if parent else None, (), needs)

    def test_ancestors_stay_back_to_one_that_needs_none(self) -> None:
        """A branch that is not kept goes; what needs no history takes nothing with it."""
        facts = {
            ("", "0"): self.fact(None, needs=True),
            ("", "1"): self.fact("0", needs=False),
            ("", "2"): self.fact("1", needs=True),
            ("", "3"): self.fact("2", needs=True),
            ("", "4"): self.fact("2", needs=True),
            ("", "5"): self.fact("4", needs=False),
        }
        assert with_history(facts, [("", "3")]) == {("", "3"), ("", "2"), ("", "1")}
        assert with_history(facts, [("", "5")]) == {("", "5")}
        assert with_history(facts, [("", "5"), ("", "4")]) == {("", number) for number in "5421"}
        assert with_history(facts, []) == set()

    def test_loops_and_lost_parents_end(self) -> None:
        """Whatever stands in the store, the walk ends, and it keeps no more than there is."""
        facts = {
            ("", "1"): self.fact("2", needs=True),
            ("", "2"): self.fact("1", needs=True),
            ("", "3"): self.fact("gone", needs=True),
        }
        assert with_history(facts, [("", "1")]) == {("", "1"), ("", "2")}
        assert with_history(facts, [("", "3"), ("", "unknown")]) == {("", "3"), ("", "unknown")}

    @given(
        st.lists(st.tuples(st.integers(0, 7), st.booleans()), min_size=1, max_size=8),
        st.sets(st.integers(0, 7)),
    )
    def test_all_that_stays_can_be_rebuilt(self, drawn: list[tuple[int, bool]], keep: set[int]) -> None:
        """Every kept checkpoint that needs its parent has it, and nothing stays without a reason."""
        facts = {("", str(n)): self.fact(str(parent), needs=needs) for n, (parent, needs) in enumerate(drawn)}
        wanted = {("", str(n)) for n in keep if n < len(drawn)}
        kept = with_history(facts, wanted)
        assert wanted <= kept <= facts.keys()
        needed = {facts[place].parent for place in kept if facts[place].needs_history}
        assert needed & facts.keys() <= kept
        assert kept - wanted <= needed


class TestPrune:
    def test_only_the_latest_of_each_namespace_stays(self, memos: MemOS, saver: MemosSaver) -> None:
        """With its values and writes; values and writes of the others leave the disk."""
        first = put(saver, config(), {"old": 1, "kept": "K"}, {"old": "1", "kept": "1"})
        saver.put_writes(first, [("old", 1)], "t1")
        second = put(saver, first, {"old": 2}, {"old": "2", "kept": "1"}, new={"old": "2"})
        saver.put_writes(second, [("old", 2)], "t2")
        sub = put(saver, config(ns="sub"), {"old": 3}, {"old": "1"})
        other = put(saver, config("other"), {"old": 1}, {"old": "1"}, id="0")
        put(saver, other, {"old": 2}, {"old": "2"}, id="1")
        before = [plain(saver.get_tuple(where)) for where in (second, sub)]
        saver.prune([THREAD, "nobody"])
        assert [plain(saver.get_tuple(where)) for where in (second, sub)] == before
        assert ids(saver, config(ns=None)) == sorted([id_of(second), id_of(sub)], reverse=True)
        assert by_space(memos) == {"channel": 3, "checkpoint": 2, "write": 1}
        assert ids(saver, config("other")) == ["1", "0"]

    def test_writes_that_wait_for_their_checkpoint_stay(self, memos: MemOS, saver: MemosSaver) -> None:
        """They came before it and are not garbage."""
        put(saver, config(), id="1")
        put(saver, config(id="1"), id="2")
        saver.put_writes(config(id="3"), [("a", "early")], "task")
        saver.prune([THREAD])
        put(saver, config(id="2"), id="3")
        assert found(saver, config()).pending_writes == [("task", "a", "early")]

    def test_nothing_stays_of_a_deleted_thread(self, memos: MemOS, saver: MemosSaver) -> None:
        """By either name."""
        for strategy in ("delete", None):
            where = put(saver, config(), {"a": 1}, {"a": "1"})
            saver.put_writes(where, [("a", 1)], "t")
            if strategy is None:
                saver.delete_thread(THREAD)
            else:
                saver.prune([THREAD], strategy=strategy)
            assert blobs(memos) == []
            assert memos.threads.threads() == []

    async def test_a_plain_graph_goes_on(self, saver: MemosSaver) -> None:
        """One checkpoint is left, and the next run adds to the same state."""
        graph = counting(10).compile(checkpointer=saver)
        await graph.ainvoke({"n": 0, "seen": []}, config())
        await saver.aprune([THREAD])
        assert len(ids(saver, config())) == 1
        assert (await graph.aget_state(config())).values == {"n": 10, "seen": list(range(10))}
        assert await graph.ainvoke({"n": 8}, config()) == {"n": 10, "seen": [*range(10), 8, 9]}

    @pytest.mark.parametrize("durability", ["sync", "exit"])
    @pytest.mark.parametrize(("often", "rarely"), [(1, 1), (2, 3), (3, 1_000), (1_000, 1_000)])
    def test_delta_channels_keep_their_state(
        self, saver: MemosSaver, often: int, rarely: int, durability: Durability
    ) -> None:
        """Also after a fork; every checkpoint that stays has the state it had."""
        graph = delta_graph(often, rarely).compile(checkpointer=saver)
        for n in range(4):
            graph.invoke({"often": [f"in{n}"]}, config(), durability=durability)
        fork = [state.config for state in graph.get_state_history(config(ns=None))][3]
        graph.invoke({"often": ["forked"]}, fork, durability=durability)
        before = {id_of(state.config): state for state in graph.get_state_history(config(ns=None))}
        head = graph.get_state(config())
        assert len(head.values["often"]) >= 8
        saver.prune([THREAD])
        after = {id_of(state.config): state for state in graph.get_state_history(config(ns=None))}
        assert graph.get_state(config()) == head
        assert all(before[id_].values == state.values for id_, state in after.items())
        if often == rarely == 1:
            assert len(after) == 1, "every checkpoint has all values: none needs another"
        went_on = graph.invoke({"often": ["later"]}, config(), durability=durability)
        assert went_on["often"][: len(head.values["often"]) + 1] == [*head.values["often"], "later"]

    def test_most_of_a_delta_thread_goes(self, saver: MemosSaver) -> None:
        """What stays is bounded by how often values are stored, not by the length of the thread."""
        graph = delta_graph(2, 2).compile(checkpointer=saver)
        for n in range(12):
            graph.invoke({"often": [f"in{n}"]}, config())
        assert len(ids(saver, config())) > 48
        saver.prune([THREAD])
        assert len(ids(saver, config())) < 24


class TestRuns:
    def test_a_run_goes_from_every_thread(self, memos: MemOS, saver: MemosSaver) -> None:
        """With writes and values that no other run needs; other runs stay as they were."""
        for thread in ("a", "b"):
            first = put(saver, config(thread), {"x": 1, "y": 1}, {"x": "1", "y": "1"}, id="1", run_id="r1")
            saver.put_writes(first, [("x", 1)], "t")
            put(saver, first, {"x": 2, "y": 1}, {"x": "2", "y": "1"}, new={"x": "2"}, id="2", run_id="r2")
            put(saver, config(thread, "sub"), id="3", run_id="r1")
        put(saver, config("c"), id="4", run_id="r1")
        saver.delete_for_runs([])
        saver.delete_for_runs(["r3"])
        assert len(ids(saver, None)) == 7
        saver.delete_for_runs(["r1", "r3"])
        assert ids(saver, None) == ["2", "2"]
        for thread in ("a", "b"):
            assert found(saver, config(thread)).checkpoint["channel_values"] == {"x": 2, "y": 1}
            assert {blob.space for blob in blobs(memos, thread)} == {"channel", "checkpoint"}
            assert len(blobs(memos, thread)) == 3

    def test_what_another_run_is_rebuilt_from_stays(self, saver: MemosSaver) -> None:
        """A delta channel's history outlives its run for as long as a later run needs it."""
        graph = delta_graph(1_000, 1_000).compile(checkpointer=saver)
        for run in ("r1", "r2", "r3"):
            graph.invoke({"often": [run]}, config() | {"metadata": {"run_id": run}})
        head = graph.get_state(config())
        runs = [each.metadata.get("run_id") for each in saver.list(config())]
        assert sorted(set(map(str, runs))) == ["r1", "r2", "r3"]
        saver.delete_for_runs(["r1", "r2"])
        assert graph.get_state(config()) == head
        saver.delete_for_runs(["r1", "r2", "r3"])
        assert ids(saver, config()) == []

    async def test_the_async_calls_do_the_same(self, saver: MemosSaver) -> None:
        """They erase what the sync ones would."""
        put(saver, config("a"), id="1", run_id="r1")
        await saver.adelete_for_runs(["r1"])
        assert saver.get_tuple(config("a")) is None
        put(saver, config("a"), id="2")
        await saver.acopy_thread("a", "b")
        await saver.adelete_thread("a")
        assert ids(saver, None) == ["2"]
        await saver.aprune(["b"], strategy="delete")
        assert ids(saver, None) == []


class TestCopy:
    def test_a_copy_is_whole_and_apart(self, saver: MemosSaver) -> None:
        """Delta channels rebuild in it, and the two go on without each other."""
        graph = delta_graph(3, 1_000).compile(checkpointer=saver)
        for n in range(4):
            graph.invoke({"often": [f"in{n}"]}, config("a"))
        saver.copy_thread("a", "b")
        states = [
            [(state.values, state.next, state.metadata) for state in graph.get_state_history(config(thread, None))]
            for thread in ("a", "b")
        ]  # fmt: skip
        assert states[0] == states[1]
        assert found(saver, config("b")).parent_config == config("b", id=ids(saver, config("a"))[1])
        graph.invoke({"often": ["only b's"]}, config("b"))
        saver.prune(["b"])
        assert graph.get_state(config("a")).values == states[0][0][0]
        saver.delete_thread("a")
        assert "only b's" in graph.get_state(config("b")).values["often"]

    def test_snapshots_are_values(self, saver: MemosSaver) -> None:
        """A stored snapshot of a delta channel comes back as one."""
        snapshot: Any = _DeltaSnapshot([1])
        where = put(saver, config(), {"a": snapshot}, {"a": "1"})
        assert found(saver, where).checkpoint["channel_values"] == {"a": snapshot}
        assert isinstance(found(saver, where).checkpoint["channel_values"]["a"], _DeltaSnapshot)
