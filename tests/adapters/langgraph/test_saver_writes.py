"""Pending writes: once per task and position, in the order of live execution, from many threads at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from operator import add
from threading import Barrier
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.base import PendingWrite
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME, SCHEDULED
from langgraph.graph import START, StateGraph

from memos_adapters.langgraph.saver import MemosSaver
from memos_engine import BadName
from tests.adapters.langgraph.saver_cases import config, found, ids, put

WRITERS = 8


@pytest.fixture
def saver() -> Iterator[MemosSaver]:
    """Lend a saver of a folder of its own."""
    with MemosSaver.from_conn_string(":memory:") as saver:
        yield saver


def pending(saver: MemosSaver | InMemorySaver) -> list[PendingWrite]:
    """The writes beside the latest checkpoint."""
    return found(saver, config()).pending_writes or []


def test_a_write_is_stored_once(saver: MemosSaver) -> None:
    """A retry of a task changes nothing of what is there, and adds what it wrote further."""
    where = put(saver, config())
    saver.put_writes(where, [("a", 1), ("b", 2)], "task")
    saver.put_writes(where, [("a", 10), ("b", 20), ("c", 30)], "task")
    saver.put_writes(where, [], "task")
    assert pending(saver) == [("task", "a", 1), ("task", "b", 2), ("task", "c", 30)]


@pytest.mark.parametrize("channel", [ERROR, SCHEDULED, INTERRUPT, RESUME])
def test_special_channels_replace(saver: MemosSaver, channel: str) -> None:
    """The last error, interrupt or answer of a task counts, beside writes of the same position."""
    where = put(saver, config())
    saver.put_writes(where, [("a", 1)], "task")
    saver.put_writes(where, [(channel, "old")], "task")
    saver.put_writes(where, [(channel, "new"), ("b", 2)], "task")
    saver.put_writes(where, [(channel, "other's")], "other")
    assert pending(saver) == [
        ("other", channel, "other's"), ("task", channel, "new"), ("task", "a", 1), ("task", "b", 2),
    ]  # fmt: skip


def test_writes_may_come_before_their_checkpoint(saver: MemosSaver) -> None:
    """They wait for it and belong to it alone; listings show no checkpoint before it is there."""
    early = config(id="2")
    saver.put_writes(early, [("a", "early")], "task")
    assert saver.get_tuple(early) is None
    assert saver.get_tuple(config()) is None
    assert ids(saver, config()) == ids(saver, None) == []
    put(saver, config(), id="1")
    assert pending(saver) == []
    put(saver, config(id="1"), id="2")
    assert pending(saver) == [("task", "a", "early")]


def test_order_is_that_of_live_execution(saver: MemosSaver) -> None:
    """By path, then task, then position, whatever the order in which they came."""
    writes = [
        ("~pull, 01", "z", [("a", "path 1, task z")]),
        ("~pull, 02", "a", [("a", "path 2, task a"), ("a", "second")]),
        ("~pull, 02", "b", [("a", "path 2, task b")]),
        ("", "zz", [("a", "no path")]),
    ]
    for number, order in enumerate(permutations(writes)):
        where = put(saver, config(str(number)))
        for path, task, made in order:
            saver.put_writes(where, made, task, path)
        values = [value for _, _, value in found(saver, where).pending_writes or []]
        assert values == ["no path", "path 1, task z", "path 2, task a", "second", "path 2, task b"]


def test_positions_sort_as_numbers(saver: MemosSaver) -> None:
    """The tenth write of a task comes after the second."""
    where = put(saver, config())
    saver.put_writes(where, [("a", n) for n in range(12)], "1:task")
    assert [value for _, _, value in pending(saver)] == list(range(12))
    assert {task for task, _, _ in pending(saver)} == {"1:task"}


def test_odd_names_serve_or_are_told(saver: MemosSaver) -> None:
    """Channels and paths may hold anything; a task's id is a name."""
    where = put(saver, config())
    saver.put_writes(where, [("a\x00\nb", b"\n\x00\n"), ('"é', "\n")], "t:1:2", "\ud800\n")
    assert pending(saver) == [("t:1:2", "a\x00\nb", b"\n\x00\n"), ("t:1:2", '"é', "\n")]
    with pytest.raises(BadName):
        saver.put_writes(where, [("a", 1)], "\x00")


def test_many_threads_write_at_once(saver: MemosSaver) -> None:
    """Each write is stored, and of those for the same task and position exactly one."""
    where = put(saver, config())
    start = Barrier(WRITERS)

    def write(writer: int) -> None:
        start.wait(timeout=30)
        for n in range(20):
            saver.put_writes(where, [("own", (writer, n))], f"task-{writer}-{n:02}", f"path-{n:02}")
            saver.put_writes(where, [("shared", writer), ("shared", n)], f"shared-{n:02}")
            saver.put_writes(where, [(RESUME, n)], "resumed")

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    writes = pending(saver)
    assert sorted(value for _, channel, value in writes if channel == "own") == [
        [writer, n] for writer in range(WRITERS) for n in range(20)
    ]
    shared = [(task, value) for task, channel, value in writes if channel == "shared"]
    assert [task for task, _ in shared] == [f"shared-{n:02}" for n in range(20) for _ in range(2)]
    assert [value for _, value in shared][1::2] == list(range(20))
    assert [value for task, _, value in writes if task == "resumed"] == [19]


class Said(TypedDict):
    """Who said something, in order."""

    said: Annotated[list[str], add]


def test_parallel_tasks_fold_in_their_order() -> None:
    """After a failure beside them, resumed tasks' writes fold as with LangGraph's own saver."""
    failing = {"on": True}

    def node(name: str) -> Any:
        def says(state: Said) -> dict[str, Any]:
            if name == "n2" and failing["on"]:
                raise ConnectionError
            return {"said": [name]}

        return says

    builder = StateGraph(Said)
    for name in ("n3", "n1", "n2", "n0"):
        builder.add_node(name, node(name))
        builder.add_edge(START, name)
    results = []
    with MemosSaver.from_conn_string(":memory:") as memos:
        for saver in (InMemorySaver(), memos):
            failing["on"] = True
            graph = builder.compile(checkpointer=saver)
            with pytest.raises(ConnectionError):
                graph.invoke({"said": ["in"]}, config("p"))
            left = found(saver, config("p")).pending_writes or []
            assert {value[0] for _, channel, value in left if channel == "said"} <= {"n0", "n1", "n3"}
            failing["on"] = False
            results.append(graph.invoke(None, config("p")))
    assert results[0] == results[1] == {"said": ["in", "n0", "n1", "n2", "n3"]}
