"""Recall and capture as nodes of hand-built graphs, over every kind of state."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import RetryPolicy
from pydantic import BaseModel

from memos_adapters.langgraph.nodes import capture_node, recall_node
from memos_engine import AccessDenied, BadInput, EmbedderUnavailable, IdentityMissing, MemCube, MemOS, Scope
from memos_engine.testing.fakes import HashEmbedder
from tests.adapters.loop_guard import SlowEmbedder, nothing_blocks

TEMPLATE = "Known:\n{memories}"
TEA = "Known:\n<memories>\nundated\n1 Alice likes green tea.\n</memories>"


class Typed(TypedDict, total=False):
    """A state as most graphs have it."""

    messages: Annotated[list[AnyMessage], add_messages]
    memories: str


@dataclass
class Data:
    """A state as a dataclass."""

    messages: Annotated[list[AnyMessage], add_messages] = field(default_factory=list)
    memories: str = ""


class Model(BaseModel):
    """A state as a pydantic model."""

    messages: Annotated[list[AnyMessage], add_messages] = []
    memories: str = ""


def run_of(user: str | None, thread: str | None = None) -> RunnableConfig:
    """The config of a run for a user, in a thread."""
    named = {"user_id": user, "thread_id": thread}
    return {"configurable": {name: value for name, value in named.items() if value is not None}}


ALICE = run_of("alice", "t1")


def memory_of(memos: MemOS, user: str) -> MemCube:
    """A user's cube, as the adapters name it."""
    return memos.acting_as(Scope(user=user)).cube("memories")


def said_in(cube: MemCube) -> list[tuple[str | None, str]]:
    """Role and words of every turn that a cube holds, in order of capture."""
    return [(item.role, item.text) for item in reversed(cube.list(kinds=["episode"]))]


def answering(state: Any) -> dict[str, Any]:
    """A model, as far as memory goes."""
    memories = state["memories"] if isinstance(state, dict) else state.memories
    return {"messages": [AIMessage(f"I know {memories.count('tea')} teas.")]}


def graph_of(
    memos: MemOS | MemCube,
    schema: type = Typed,
    answer: Callable[..., Any] = answering,
    context: type | None = None,
    **options: Any,
) -> Any:
    """Recall, answer, capture."""
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(schema, context_schema=context)
    graph.add_node("recall", recall_node(memos, template=TEMPLATE, min_score=0.0, **options))
    graph.add_node("answer", answer)
    graph.add_node("capture", capture_node(memos, template=TEMPLATE, **options))
    graph.add_edge(START, "recall")
    graph.add_edge("recall", "answer")
    graph.add_edge("answer", "capture")
    graph.add_edge("capture", END)
    return graph.compile(checkpointer=InMemorySaver())


@pytest.mark.parametrize("schema", [Typed, Data, Model])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_turn_recalls_and_captures(memos: MemOS, schema: type, mode: str) -> None:
    """The state holds what is remembered as text; memory holds the turn, in `invoke` and in `ainvoke`."""
    memory_of(memos, "alice").add("Alice likes green tea.")
    graph = graph_of(memos, schema)
    asked = {"messages": [HumanMessage("Which tea?", id="m1")]}
    result = graph.invoke(asked, ALICE) if mode == "sync" else asyncio.run(graph.ainvoke(asked, ALICE))
    assert result["memories"] == TEA
    assert said_in(memory_of(memos, "alice")) == [("user", "Which tea?"), ("assistant", "I know 1 teas.")]
    episode = memory_of(memos, "alice").list(kinds=["episode"])[-1]
    assert (episode.thread, episode.sources[0].message_id) == ("t1", "m1")


def test_nothing_remembered_is_an_empty_text(memos: MemOS) -> None:
    """Without memories the key holds an empty text, also where an earlier turn left some."""
    graph = graph_of(memos)
    result = graph.invoke({"messages": [HumanMessage("Tea?")], "memories": "old"}, ALICE)
    assert result["memories"] == ""


def test_keys_are_chosen(memos: MemOS) -> None:
    """Messages may stand under another key, as plain dicts too, and the text goes where it is asked for."""

    class State(TypedDict, total=False):
        chat: Annotated[list[Any], operator.add]
        known: str

    memory_of(memos, "alice").add("Alice likes green tea.")
    graph = StateGraph(State)
    graph.add_node("recall", recall_node(memos, key="known", messages_key="chat", min_score=0.0))
    graph.add_node("capture", capture_node(memos, messages_key="chat"))
    graph.add_edge(START, "recall")
    graph.add_edge("recall", "capture")
    result = graph.compile().invoke({"chat": [{"role": "user", "content": "Which tea?"}]}, ALICE)
    assert "green tea" in result["known"]
    assert said_in(memory_of(memos, "alice")) == [("user", "Which tea?")]
    with pytest.raises(BadInput, match="messages_key"):
        recall_node(memos).invoke({"chat": []}, ALICE)


@pytest.mark.parametrize("options", [{}, {"user_id": "alice"}])
def test_messages_without_ids_are_captured_once(memos: MemOS, options: dict[str, Any]) -> None:
    """Where a state keeps no ids, equal words of a thread stay apart by their place; runs without a thread are new."""

    class State(TypedDict, total=False):
        messages: Annotated[list[AnyMessage], operator.add]

    graph = StateGraph(State)
    graph.add_node("capture", capture_node(memos, **options))
    graph.add_edge(START, "capture")
    graph.add_edge("capture", END)
    compiled = graph.compile(checkpointer=InMemorySaver())
    for words in ("yes", "no", "yes", "yes"):
        compiled.invoke({"messages": [HumanMessage(words), AIMessage("ok")]}, ALICE)
        compiled.invoke({"messages": []}, ALICE)
    users = [text for role, text in said_in(memory_of(memos, "alice")) if role == "user"]
    assert users == ["yes", "no", "yes", "yes"]
    loose = graph.compile()
    for _ in range(2):
        loose.invoke({"messages": [HumanMessage("hi")]}, run_of("alice"))
    assert [text for _, text in said_in(memory_of(memos, "alice"))][-2:] == ["hi", "hi"]


def test_a_node_that_runs_again_captures_once(memos: MemOS) -> None:
    """A retry of what follows the capture, a resume and a second capture leave each message once."""
    failures = iter([RuntimeError("first"), RuntimeError("second"), None, None])

    def after(state: Typed) -> dict[str, Any]:
        if (error := next(failures)) is not None:
            raise error
        return {}

    graph: StateGraph[Any] = StateGraph(Typed)
    graph.add_node("answer", lambda state: {"messages": [AIMessage("Hello.")]})
    graph.add_node("capture", capture_node(memos))
    graph.add_node("again", capture_node(memos, user_id="alice"))
    graph.add_node("after", after, retry_policy=RetryPolicy(max_attempts=1))
    for start, end in ((START, "answer"), ("answer", "capture"), ("capture", "again"), ("again", "after")):
        graph.add_edge(start, end)
    compiled = graph.compile(checkpointer=InMemorySaver())
    for entered in ({"messages": [HumanMessage("Hi.")]}, None):
        with pytest.raises(RuntimeError):
            compiled.invoke(entered, ALICE)
    compiled.invoke(None, ALICE)
    assert said_in(memory_of(memos, "alice")) == [("user", "Hi."), ("assistant", "Hello.")]


@dataclass
class Caller:
    """What an application may hand to its runs."""

    user_id: str


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_the_context_names_the_user(memos: MemOS, mode: str) -> None:
    """A user named in the runtime's context is who the run is for."""
    graph = graph_of(memos, context=Caller)
    asked = {"messages": [HumanMessage("Which tea?")]}
    config = run_of(None, "t1")
    if mode == "sync":
        graph.invoke(asked, config, context=Caller("alice"))
    else:
        asyncio.run(graph.ainvoke(asked, config, context=Caller("alice")))
    assert [role for role, _ in said_in(memory_of(memos, "alice"))] == ["user", "assistant"]


@pytest.mark.parametrize("node", [recall_node, capture_node])
async def test_a_run_for_nobody_is_refused(memos: MemOS, node: Callable[..., Any]) -> None:
    """Without an identity, or for another than it is bound to, a node raises, in a graph and outside of one."""
    state = {"messages": [HumanMessage("Hi.")]}
    for options, config, error in (
        ({}, run_of(None, "t1"), IdentityMissing),
        ({"user_id": "alice"}, run_of("bob", "t1"), AccessDenied),
    ):
        graph: StateGraph[Any] = StateGraph(Typed)
        graph.add_node("node", node(memos, **options))
        graph.add_edge(START, "node")
        for runs in (graph.compile(), node(memos, **options)):
            with pytest.raises(error):
                runs.invoke(state, config)
            with pytest.raises(error):
                await runs.ainvoke(state, config)
    assert memos.cubes() == []


def test_users_of_one_thread_keep_their_own(memos: MemOS) -> None:
    """Of a thread that two users share, each one's memory takes that user's turns alone."""
    graph = graph_of(memos)
    graph.invoke({"messages": [HumanMessage("I keep a narwhal.")]}, ALICE)
    result = graph.invoke({"messages": [HumanMessage("Who keeps a narwhal?")]}, run_of("bob", "t1"))
    assert result["memories"] == ""
    assert [text for role, text in said_in(memory_of(memos, "bob")) if role == "user"] == [
        "Who keeps a narwhal?"
    ]


async def test_the_event_loop_is_not_blocked(tmp_path: Path) -> None:
    """While recall and capture wait for a slow embedder, and while a cube is made, the loop runs on."""
    with MemOS.open(tmp_path, embedder=SlowEmbedder(), background=False) as memos:
        memory_of(memos, "alice").add("Alice likes green tea.")
        graph = graph_of(memos)
        with nothing_blocks():
            result = await graph.ainvoke({"messages": [HumanMessage("Which tea?")]}, ALICE)
        assert result["memories"] == TEA
        assert len(said_in(memory_of(memos, "alice"))) == 2


class BrokenEmbedder(HashEmbedder):
    """Cannot embed."""

    def embed(self, texts: Any) -> Any:
        """Fail."""
        raise EmbedderUnavailable("no weights")


async def test_a_recall_that_fails_is_an_empty_text(tmp_path: Path) -> None:
    """Recall fails open, unless it is to be strict; a capture that fails raises."""
    state = {"messages": [HumanMessage("Which tea?")]}
    with MemOS.open(tmp_path, embedder=HashEmbedder(), background=False) as memos:
        memory_of(memos, "alice").add("Alice likes green tea.")
        memory_of(memos, "bob").add("Bob likes black tea.")
    with MemOS.open(tmp_path, embedder=BrokenEmbedder(), background=False) as memos:
        node = recall_node(memos)
        assert node.invoke(state, ALICE) == {"memories": ""}
        assert await node.ainvoke(state, ALICE) == {"memories": ""}
        with pytest.raises(EmbedderUnavailable):
            recall_node(memos, strict=True).invoke(state, ALICE)
        with pytest.raises(EmbedderUnavailable):
            capture_node(memos).invoke(state, ALICE)
    with MemOS.open(tmp_path, embedder=HashEmbedder(dim=8), background=False) as memos:
        assert recall_node(memos).invoke(state, ALICE) == {"memories": ""}
        assert await recall_node(memos).ainvoke(state, run_of("bob")) == {"memories": ""}


def test_own_memories_are_not_captured_again(memos: MemOS) -> None:
    """A message into which a graph put the recalled text is captured without it."""
    memory_of(memos, "alice").add("Alice likes green tea.")

    def parrot(state: Typed) -> dict[str, Any]:
        return {"messages": [AIMessage(f"{state['memories']}\n\nGreen.")]}

    graph_of(memos, answer=parrot).invoke({"messages": [HumanMessage("Which tea?")]}, ALICE)
    assert said_in(memory_of(memos, "alice")) == [("user", "Which tea?"), ("assistant", "Green.")]
    assert recall_node(memos, template=TEMPLATE, min_score=0.0).invoke(
        {"messages": [HumanMessage(TEA)]}, ALICE
    ) == {"memories": ""}, "nor do they ask"
