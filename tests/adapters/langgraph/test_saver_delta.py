"""Delta channels: rebuilt from writes and stored values exactly as LangGraph's own walk rebuilds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Durability

from memos_adapters.langgraph.saver import MemosSaver
from tests.adapters.langgraph.saver_cases import config, delta_graph, put

CHANNELS = ["a", "b", "none"]


@dataclass(frozen=True)
class Step:
    """One checkpoint of a script, and what is written beside it."""

    id: str
    parent: str | None
    values: Mapping[str, Any] = field(default_factory=dict)
    """New values by channel; `...` is a new version without one."""
    writes: tuple[tuple[str, str, str, Any], ...] = ()
    """Task, path, channel and value."""


SNAP = _DeltaSnapshot
SCRIPTS: dict[str, list[Step]] = {
    "oldest first": [
        Step("0", None, {"a": SNAP([0])}, (("t0", "p", "a", [1]),)),
        Step("1", "0", {"a": ...}, (("t1", "p", "a", [2]),)),
        Step("2", "1", {"a": ...}, (("t2", "p", "a", [3]),)),
        Step("3", "2", {"a": ...}, (("t3", "p", "a", ["pending"]),)),
    ],
    "nearest value": [
        Step("0", None, {"a": SNAP(["old"])}, (("t0", "", "a", 1),)),
        Step("1", "0", {"a": ...}, (("t1", "", "a", 2),)),
        Step("2", "1", {"a": SNAP(["new"])}, (("t2", "", "a", 3),)),
        Step("3", "2", {"a": ...}, (("t3", "", "a", 4),)),
        Step("4", "3", {"a": ...}),
    ],
    "each channel has its own": [
        Step("0", None, {"a": SNAP("a0"), "b": SNAP("b0")}, (("t0", "", "a", 1), ("t0b", "", "b", 1))),
        Step("1", "0", {"a": SNAP("a1"), "b": ...}, (("t1", "", "a", 2), ("t1b", "", "b", 2))),
        Step("2", "1", {"b": ...}, (("t2", "", "a", 3), ("t2b", "", "b", 3))),
        Step("3", "2", {"a": ..., "b": ...}),
    ],
    "no value down to the root": [
        Step("0", None, {}, (("t0", "", "a", 1),)),
        Step("1", "0", {"a": ...}, (("t1", "", "a", 2),)),
        Step("2", "1", {"a": ...}),
    ],
    "plain values of before": [
        Step("0", None, {"a": [10]}, (("t0", "", "a", "older than the value"),)),
        Step("1", "0", {"a": [10, 20]}, (("t1", "", "a", "beside the value"),)),
        Step("2", "1", {"a": ...}, (("t2", "", "a", "after"),)),
        Step("3", "2", {"a": ...}, (("t3", "", "a", "pending"),)),
    ],
    "a fork": [
        Step("0", None, {"a": SNAP([0])}, (("t0", "", "a", 0),)),
        Step("1", "0", {"a": ...}, (("t1", "", "a", 1),)),
        Step("2", "1", {"a": ...}, (("t2", "", "a", "left"),)),
        Step("3", "2", {"a": ...}, (("t3", "", "a", "left too"),)),
        Step("4", "1", {"a": SNAP(["right"])}, (("t4", "", "a", "right"),)),
        Step("5", "4", {"a": ...}),
        Step("6", "3", {"a": ...}),
    ],
    "parallel tasks": [
        Step(
            "0",
            None,
            {"a": SNAP([])},
            (("t9", "~pull, 01", "a", 1), ("t0", "~pull, 02", "a", 2), ("tz", "", "a", 0)),
        ),
        Step("1", "0", {"a": ...}, (("b", "~1", "a", 3), ("a", "~2", "b", 3), ("a2", "~1", "a", 4))),
        Step("2", "1", {"a": ...}),
    ],
    "ids that fall": [
        Step("9", None, {"a": SNAP([9])}, (("t9", "", "a", 9),)),
        Step("8", "9", {"a": ...}, (("t8", "", "a", 8),)),
        Step("7", "8", {"a": ...}, (("t7", "", "a", 7),)),
        Step("6", "7", {"a": ...}),
    ],
    "a version kept over many": [
        Step("0", None, {"a": SNAP([0]), "b": ...}, (("t0", "", "a", 0),)),
        Step("1", "0", {"a": ...}, (("t1", "", "b", 1),)),
        Step("2", "1", {"b": SNAP("b")}),
        Step("3", "2", {}, (("t3", "", "a", 3),)),
        Step("4", "3", {}),
        Step("5", "4", {"a": ...}),
    ],
    "a parent that is gone": [
        Step("1", "0", {"a": ...}, (("t1", "", "a", 1),)),
        Step("2", "1", {"a": ...}),
    ],
}


@pytest.fixture
def saver() -> Iterator[MemosSaver]:
    """Lend a saver of a folder of its own."""
    with MemosSaver.from_conn_string(":memory:") as saver:
        yield saver


def play(saver: BaseCheckpointSaver[Any], script: list[Step], ns: str = "") -> list[RunnableConfig]:
    """Store a script's checkpoints and writes; channels keep the version of their parent."""
    versions: dict[str | None, dict[str, str]] = {None: {}, "0": {}}
    stored = []
    for number, step in enumerate(script):
        new = dict.fromkeys(step.values, f"{number:04}")
        versions[step.id] = versions[step.parent] | new
        values = {channel: value for channel, value in step.values.items() if value is not ...}
        where = put(saver, config(ns=ns, id=step.parent), values, versions[step.id], new=new, id=step.id)
        for task, path, channel, value in step.writes:
            saver.put_writes(where, [(channel, value)], task, path)
        stored.append(where)
    return stored


@pytest.mark.parametrize("name", SCRIPTS)
async def test_the_history_is_that_of_langgraph(saver: MemosSaver, name: str) -> None:
    """At every checkpoint, for all channels and for each, from both sides, as LangGraph's savers have it."""
    reference = InMemorySaver()
    play(reference, SCRIPTS[name], "sub")
    for where in [*play(saver, SCRIPTS[name], "sub"), config(ns="sub")]:
        expected = reference.get_delta_channel_history(config=where, channels=CHANNELS)
        assert saver.get_delta_channel_history(config=where, channels=CHANNELS) == expected
        assert await saver.aget_delta_channel_history(config=where, channels=CHANNELS) == expected
        default = BaseCheckpointSaver.get_delta_channel_history(saver, config=where, channels=CHANNELS)
        assert default == expected
        for channel in CHANNELS:
            alone = saver.get_delta_channel_history(config=where, channels=[channel])
            assert alone == {channel: expected[channel]}


@pytest.mark.parametrize("depth", [1, 8, 9, 25])
@pytest.mark.parametrize("beside", [0, 3])
def test_values_far_back_are_found(saver: MemosSaver, depth: int, beside: int) -> None:
    """However far, and with other branches' checkpoints in between; writes come from the path alone."""
    parent = put(saver, config(), {"a": SNAP(["old"])}, {"a": "0"}, id="0000")
    parent = put(saver, parent, {"a": SNAP(["seed"])}, {"a": "1"}, id="0001")
    for n in range(depth):
        saver.put_writes(parent, [("a", n)], f"t{n}")
        for other in range(beside):
            branch = put(saver, parent, {"a": SNAP(["no"])}, {"a": f"{n}-{other}"}, id=f"1{n:03}-{other}")
            saver.put_writes(branch, [("a", "no")], "t")
        parent = put(saver, parent, versions={"a": f"2{n}"}, id=f"1{n:03}-9")
    history = saver.get_delta_channel_history(config=parent, channels=["a"])
    assert history["a"]["seed"] == SNAP(["seed"])
    assert [value for _, _, value in history["a"]["writes"]] == list(range(depth))


def test_the_scripts_tell_something(saver: MemosSaver) -> None:
    """Spelled out for three of them, so that no two walks err alike."""
    left, right = config(id="6"), config(id="5")
    play(saver, SCRIPTS["a fork"])
    history = saver.get_delta_channel_history(config=left, channels=["a"])
    assert history["a"]["seed"] == SNAP([0])
    assert [value for _, _, value in history["a"]["writes"]] == [0, 1, "left", "left too"]
    assert saver.get_delta_channel_history(config=right, channels=["a"]) == {
        "a": {"seed": SNAP(["right"]), "writes": [("t4", "a", "right")]}
    }
    saver.delete_thread("t")
    *_, head = play(saver, SCRIPTS["parallel tasks"])
    history = saver.get_delta_channel_history(config=head, channels=["a"])
    assert [value for _, _, value in history["a"]["writes"]] == [0, 1, 2, 4, 3]
    saver.delete_thread("t")
    *_, head = play(saver, SCRIPTS["plain values of before"])
    history = saver.get_delta_channel_history(config=head, channels=["a"])
    assert history["a"]["seed"] == [10, 20]
    assert [value for _, _, value in history["a"]["writes"]] == ["beside the value", "after"]


def test_nothing_asked_or_nothing_there(saver: MemosSaver) -> None:
    """No channels give nothing; a thread that is not there gives no writes; a name twice is one."""
    assert saver.get_delta_channel_history(config=config(), channels=[]) == {}
    assert saver.get_delta_channel_history(config=config(), channels=["a", "a"]) == {"a": {"writes": []}}


def test_a_chain_that_bites_its_tail_ends(saver: MemosSaver) -> None:
    """A checkpoint stored anew under its own descendant makes a loop, which is walked once."""
    one = put(saver, config(), versions={"a": "1"}, id="1")
    saver.put_writes(one, [("a", 1)], "t1")
    two = put(saver, one, versions={"a": "2"}, id="2")
    put(saver, two, versions={"a": "3"}, id="1")
    put(saver, config(id="5"), versions={"a": "1"}, id="5")
    history = saver.get_delta_channel_history(config=two, channels=["a"])
    assert history == {"a": {"writes": [("t1", "a", 1)]}}
    assert saver.get_delta_channel_history(config=config(id="5"), channels=["a"]) == {"a": {"writes": []}}


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_a_graph_runs_as_in_memory(saver: MemosSaver, durability: Durability) -> None:
    """The same runs, updates and forks give the same states at every checkpoint."""
    histories = []
    for each in (InMemorySaver(), saver):
        graph = delta_graph(3, 1_000).compile(checkpointer=each)
        for n in range(5):
            graph.invoke({"often": [f"in{n}"], "n": 0}, config(), durability=durability)
        past = [state.config for state in graph.get_state_history(config(ns=None))][4]
        graph.update_state(past, {"often": ["forked"], "rarely": ["forked"]}, as_node="a")
        graph.invoke(None, config(), durability=durability)
        graph.invoke({"often": ["again"]}, past, durability=durability)
        histories.append([state.values for state in graph.get_state_history(config(ns=None))])
    assert histories[0] == histories[1]
    assert len(histories[0][0]["often"]) > 7
