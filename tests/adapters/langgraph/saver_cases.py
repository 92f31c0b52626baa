"""Checkpoints, configs and graphs that the saver's tests are told with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import add
from typing import Annotated, Any, TypedDict, cast
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import END, START, StateGraph

THREAD = "t"


def config(thread: object = THREAD, ns: object = "", id: str | None = None) -> RunnableConfig:
    """A config that names what is given."""
    named = {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": id}
    return {"configurable": {name: value for name, value in named.items() if value is not None}}


def checkpoint(
    values: Mapping[str, Any] | None = None,
    versions: Mapping[str, Any] | None = None,
    *,
    id: str | None = None,
) -> Checkpoint:
    """A checkpoint of these channel values and versions."""
    return Checkpoint(
        v=4,
        id=id or str(uuid6(clock_seq=-1)),
        ts="2026-01-01T00:00:00+00:00",
        channel_values=dict(values or {}),
        channel_versions=dict(versions or {}),
        versions_seen={},
        updated_channels=None,
    )


def put(
    saver: BaseCheckpointSaver[Any],
    parent: RunnableConfig,
    values: Mapping[str, Any] | None = None,
    versions: Mapping[str, Any] | None = None,
    *,
    new: Mapping[str, Any] | None = None,
    id: str | None = None,
    **metadata: Any,
) -> RunnableConfig:
    """Store a checkpoint; all of its versions are new unless `new` says which are."""
    made = checkpoint(values, versions, id=id)
    said = cast("CheckpointMetadata", metadata)
    return saver.put(parent, made, said, dict(made["channel_versions"] if new is None else new))


def id_of(where: RunnableConfig | None) -> str:
    """The checkpoint that a config names."""
    assert where is not None
    return str(where["configurable"]["checkpoint_id"])


def found(saver: BaseCheckpointSaver[Any], where: RunnableConfig) -> CheckpointTuple:
    """The checkpoint that is there."""
    stored = saver.get_tuple(where)
    assert stored is not None
    return stored


def ids(saver: BaseCheckpointSaver[Any], where: RunnableConfig | None = None, **options: Any) -> list[str]:
    """Ids of a listing."""
    return [id_of(each.config) for each in saver.list(where, **options)]


def plain(stored: CheckpointTuple | None) -> Any:
    """A stored checkpoint as values that can be compared with those of another saver."""
    if stored is None:
        return None
    return (
        stored.config["configurable"],
        dict(stored.checkpoint),
        dict(stored.metadata),
        stored.parent_config and stored.parent_config["configurable"],
        stored.pending_writes,
    )


def new_thread() -> str:
    """A thread id that no other test uses."""
    return str(uuid4())


class Count(TypedDict):
    """State of a graph that counts."""

    n: int
    seen: Annotated[list[int], add]


def counting(steps: int) -> StateGraph[Any]:
    """A graph that adds one, so many times; `seen` grows by one item per step."""

    def one(state: Count) -> dict[str, Any]:
        return {"n": state["n"] + 1, "seen": [state["n"]]}

    builder: StateGraph[Any] = StateGraph(Count)
    builder.add_node("one", one)
    builder.add_edge(START, "one")
    builder.add_conditional_edges("one", lambda state: END if state["n"] >= steps else "one")
    return builder


def extended(items: list[Any], writes: Sequence[Any]) -> list[Any]:
    """Reducer of a delta channel: each write is a list of further items."""
    return [*items, *(item for write in writes for item in write)]


def delta_graph(often: int, rarely: int) -> StateGraph[Any]:
    """A graph of three steps per run with delta channels, which store their value every so many updates."""
    fields = {
        "often": Annotated[list[Any], DeltaChannel(extended, snapshot_frequency=often)],
        "rarely": Annotated[list[Any], DeltaChannel(extended, snapshot_frequency=rarely)],
        "n": int,
    }
    state: Any = TypedDict("state", fields)  # type: ignore[misc] # -- its fields depend on the arguments

    def says(name: str) -> Any:
        def node(held: dict[str, Any]) -> dict[str, Any]:
            n = held.get("n", 0) + 1
            said: dict[str, Any] = {"often": [f"{name}{n}"], "n": n}
            return said | ({"rarely": [n]} if name == "b" else {})

        return node

    builder = StateGraph(state)
    for name in "abc":
        builder.add_node(name, says(name))
    builder.add_edge(START, "a")
    builder.add_edge("a", "b")
    builder.add_edge("b", "c")
    builder.add_edge("c", END)
    return builder
