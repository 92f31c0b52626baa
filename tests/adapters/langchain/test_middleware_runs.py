"""Whose memory a run is about, and runs that are many at once, asynchronous, streamed, late or refused."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from memos_adapters.langchain.middleware import MemosMiddleware
from memos_engine import AccessDenied, BadName, EmbedderUnavailable, IdentityMissing, MemOS, Scope
from memos_engine.testing.fakes import HashEmbedder
from tests.adapters.langchain.scripted_model import ScriptedModel, calls, memory_of, run_of, said_in
from tests.adapters.loop_guard import SlowEmbedder, nothing_blocks

ALICE = run_of("alice", "t1")


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}."


def asking(text: str) -> Any:
    """A user message as the input of a run."""
    return {"messages": [HumanMessage(text)]}


@dataclass
class LoggedIn:
    """A user as LangGraph's server knows one; of a server that lets everybody in, without a name."""

    identity: str


@dataclass
class Caller:
    """What an application may hand to its runs."""

    user_id: str


@pytest.mark.parametrize(
    ("config", "context"),
    [
        (run_of("alice"), None),
        ({"configurable": {"langgraph_user_id": "alice"}}, None),
        ({"configurable": {"langgraph_auth_user": LoggedIn("alice")}}, None),
        ({"configurable": {"langgraph_auth_user": LoggedIn(""), "user_id": "alice"}}, None),
        (None, Caller("alice")),
        (None, {"user_id": "alice"}),
    ],
)
async def test_a_run_says_whose_memory(memos: MemOS, config: RunnableConfig | None, context: Any) -> None:
    """The user is named by the configurable or by the context, in sync and async runs alike."""
    agent = create_agent(
        ScriptedModel(answers=["Hello."]),
        middleware=[MemosMiddleware[Caller](memos)],
        context_schema=Caller,
    )
    agent.invoke(asking("Hi."), config, context=context)
    await agent.ainvoke(asking("Hi again."), config, context=context)
    assert said_in(memory_of(memos, "alice")) == [
        ("user", "Hi."),
        ("assistant", "Hello."),
        ("user", "Hi again."),
        ("assistant", "Hello."),
    ]


REFUSED: list[tuple[dict[str, Any], RunnableConfig | None, Any, type[Exception]]] = [
    ({}, None, None, IdentityMissing),
    ({}, {"configurable": {"thread_id": "t1"}}, None, IdentityMissing),
    ({"inject": None}, None, None, IdentityMissing),
    ({"user_id": "alice"}, run_of("bob"), None, AccessDenied),
    ({"user_id": "alice"}, None, Caller("bob"), AccessDenied),
    ({"isolation": "session"}, run_of("alice"), None, IdentityMissing),
    ({}, {"configurable": {"user_id": " "}}, None, BadName),
]


@pytest.mark.parametrize(("options", "config", "context", "error"), REFUSED)
async def test_a_run_for_nobody_is_refused(
    memos: MemOS,
    options: dict[str, Any],
    config: RunnableConfig | None,
    context: Any,
    error: type[Exception],
) -> None:
    """Who is nobody, or another than the memory is bound to, is refused before the model is called."""
    model = ScriptedModel(answers=["Hello."])
    agent = create_agent(
        model,
        middleware=[MemosMiddleware[Caller](memos, capture_errors="log", **options)],
        context_schema=Caller,
    )
    with pytest.raises(error):
        agent.invoke(asking("Hi."), config, context=context)
    with pytest.raises(error):
        await agent.ainvoke(asking("Hi."), config, context=context)
    assert model.requests == []


def test_a_right_that_is_taken_back_stops_the_run(memos: MemOS) -> None:
    """Whoever may no longer read a shared memory is refused, though recall fails open."""
    shared = memos.acting_as(Scope(user="alice")).cube("shared")
    shared.add("Our tea is green.")
    shared.grant(Scope(user="bob"), "write")
    bobs = memos.acting_as(Scope(user="bob")).cube("shared", owner=Scope(user="alice"))
    model = ScriptedModel(answers=["Green."])
    agent = create_agent(model, middleware=[MemosMiddleware(bobs, min_score=0.0)])
    agent.invoke(asking("Which tea?"), run_of("bob"))
    assert "green" in str(model.requests[0])
    shared.revoke(Scope(user="bob"))
    with pytest.raises(AccessDenied, match="read"):
        agent.invoke(asking("Tea?"), run_of("bob"))
    assert len(model.requests) == 1


async def test_the_event_loop_is_not_blocked(tmp_path: Path) -> None:
    """While recall and capture wait for a slow embedder, and while a cube is made, the loop runs on."""
    with MemOS.open(tmp_path, embedder=SlowEmbedder(), background=False) as memos:
        middleware = MemosMiddleware(memos, tools=True, capture_on="model")
        agent = create_agent(
            ScriptedModel(answers=[calls(("weather", {"city": "Rome"})), "Sunny."] * 3),
            [weather],
            middleware=[middleware],
        )
        with nothing_blocks():
            await agent.ainvoke(asking("Weather?"), run_of("alice"))
            async for _ in agent.astream(asking("And now?"), run_of("alice"), stream_mode="messages"):
                pass
        assert len(said_in(memory_of(memos, "alice"))) == 4
        recalls = middleware.counts.recalls
        assert (recalls.asked, recalls.failed, recalls.timed_out) == (4, 0, 0), "nothing failed unseen"


class StuckEmbedder(HashEmbedder):
    """Waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()
        self.free.set()

    def embed(self, texts: Sequence[str]) -> Any:
        """As its parent, in time."""
        self.free.wait(30)
        return super().embed(texts)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_late_recall_is_left_out(tmp_path: Path, mode: str) -> None:
    """A turn whose recall takes too long is answered without memories, and counted; the next one has them."""
    embedder = StuckEmbedder()
    with MemOS.open(tmp_path, embedder=embedder, background=False) as memos:
        memory_of(memos, "alice").add("Alice likes green tea.")
        model = ScriptedModel(answers=["What tea?", "Green tea."])
        middleware = MemosMiddleware(memos, min_score=0.0, timeout_s=0.05, capture_on=None)
        agent = create_agent(model, middleware=[middleware])
        run: Callable[[str], object] = (
            (lambda text: agent.invoke(asking(text), ALICE))
            if mode == "sync"
            else (lambda text: asyncio.run(agent.ainvoke(asking(text), ALICE)))
        )
        embedder.free.clear()
        run("Which tea?")
        assert model.requests[0][-1].content == "Which tea?"
        assert middleware.counts.recalls.timed_out == 1
        embedder.free.set()
        middleware = MemosMiddleware(memos, min_score=0.0, capture_on=None)
        agent = create_agent(model, middleware=[middleware])
        run("Which tea?")
        assert "green tea" in str(model.requests[1][-1].content)
        assert middleware.counts.recalls.timed_out == 0


class BrokenEmbedder(HashEmbedder):
    """Cannot embed a question."""

    def embed(self, texts: Sequence[str]) -> Any:
        """Fail, but for what is written."""
        if any("?" in text for text in texts):
            raise EmbedderUnavailable("no weights")
        return super().embed(texts)


@pytest.mark.parametrize("strict", [False, True])
async def test_a_recall_that_fails_is_left_out(tmp_path: Path, *, strict: bool) -> None:
    """A turn whose recall fails is answered without memories, and counted; strict, it fails."""
    with MemOS.open(tmp_path, embedder=BrokenEmbedder(), background=False) as memos:
        memory_of(memos, "alice").add("Alice likes green tea.")
        model = ScriptedModel(answers=["What tea?"])
        middleware = MemosMiddleware(memos, strict=strict, capture_on=None)
        agent = create_agent(model, middleware=[middleware])
        if strict:
            with pytest.raises(EmbedderUnavailable):
                agent.invoke(asking("Which tea?"), ALICE)
            return
        agent.invoke(asking("Which tea?"), ALICE)
        await agent.ainvoke(asking("Which tea?"), ALICE)
        assert [request[-1].content for request in model.requests] == ["Which tea?"] * 2
        assert middleware.counts.recalls.failed == 2


def test_a_memory_that_cannot_be_opened_is_left_out(tmp_path: Path) -> None:
    """Where a cube was built with another embedder the turn goes on without memories, and is counted."""
    with MemOS.open(tmp_path, embedder=HashEmbedder(), background=False) as memos:
        memory_of(memos, "alice").add("Alice likes green tea.")
    with MemOS.open(tmp_path, embedder=HashEmbedder(dim=32), background=False) as memos:
        middleware = MemosMiddleware(memos, capture_errors="log")
        model = ScriptedModel(answers=["What tea?"])
        create_agent(model, middleware=[middleware]).invoke(asking("Which tea?"), ALICE)
        assert model.requests[0][-1].content == "Which tea?"
        assert (middleware.counts.recalls.failed, middleware.counts.failed_captures) == (1, 1)


@pytest.mark.parametrize("mode", ["threads", "tasks"])
def test_runs_at_once_stay_apart(memos: MemOS, mode: str) -> None:
    """One middleware serves runs of many users at once, and each memory holds its own user's words alone."""
    users = [f"user{n}" for n in range(8)]
    for user in users:
        memory_of(memos, user).add(f"The secret word of {user} is w{user}w.")
    model = ScriptedModel(answers=[calls(("weather", {"city": "Rome"})), "Noted."])
    # answers come by number of the call, so that a turn is one or two calls, as it falls
    middleware = MemosMiddleware(memos, min_score=0.0)
    agent = create_agent(model, [weather], middleware=[middleware], checkpointer=InMemorySaver())

    def turn(user: str) -> None:
        for n in range(3):
            words = HumanMessage(f"The secret word of {user}, {n}?", name=user)
            agent.invoke({"messages": [words]}, run_of(user, "the thread of all"))

    async def turns() -> None:
        await asyncio.gather(
            *(
                agent.ainvoke(
                    asking(f"The secret word of {user}, {n}?"), run_of(user, f"thread of {user} {n}")
                )
                for user in users
                for n in range(3)
            )
        )

    if mode == "tasks":
        asyncio.run(turns())
    else:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(turn, users))
    for request in model.requests:
        asked = str(request[-1].content)
        if request[-1].type == "human":
            assert {user for user in users if f"w{user}w" in asked} == {
                user for user in users if f"{user}, " in asked
            }
    for user in users:
        words = [text for role, text in said_in(memory_of(memos, user)) if role == "user"]
        assert words
        assert all(user in text for text in words)


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_a_stream_passes_unchanged(memos: MemOS, mode: str) -> None:
    """Tokens come as they would without memory, and the answer is captured as one message."""
    memory_of(memos, "alice").add("Alice likes green tea.")
    streamed: list[list[Any]] = []
    for middleware in ([], [MemosMiddleware(memos, min_score=0.0)]):
        agent = create_agent(ScriptedModel(answers=["Green tea, of course."]), middleware=middleware)
        found = []
        if mode == "sync":
            found = list(agent.stream(asking("Which tea?"), ALICE, stream_mode="messages"))
        else:
            found = [
                part async for part in agent.astream(asking("Which tea?"), ALICE, stream_mode="messages")
            ]
        tokens = [chunk.content for chunk, _ in found if isinstance(chunk, AIMessageChunk)]
        streamed.append(tokens)
    assert streamed[0] == streamed[1]
    assert len(streamed[1]) > 3
    assert said_in(memory_of(memos, "alice")) == [
        ("user", "Which tea?"),
        ("assistant", "Green tea, of course."),
    ]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_tools_called_at_once(memos: MemOS, mode: str) -> None:
    """Four memory tools of one answer run at once, for the run's own user."""
    memory_of(memos, "bob").add("Bob likes black tea.")
    saves = [("save_memory", {"text": f"Alice keeps {animal}."}) for animal in ("a cat", "an owl", "a bee")]
    model = ScriptedModel(answers=[calls(*saves, ("search_memory", {"query": "tea?"})), "Done."])
    middleware = MemosMiddleware(memos, tools=True, inject=None)
    agent = create_agent(model, middleware=[middleware], checkpointer=InMemorySaver())
    result = (
        agent.invoke(asking("Note them."), ALICE)
        if mode == "sync"
        else asyncio.run(agent.ainvoke(asking("Note them."), ALICE))
    )
    answers = [message for message in result["messages"] if message.type == "tool"]
    assert [message.tool_call_id for message in answers] == ["call-1", "call-2", "call-3", "call-4"]
    assert "Bob" not in str(answers)
    notes = memory_of(memos, "alice").list(kinds=["note"])
    assert sorted(note.text for note in notes) == [
        "Alice keeps a bee.",
        "Alice keeps a cat.",
        "Alice keeps an owl.",
    ]
    assert {note.sources[0].thread for note in notes} == {"t1"}


STRICT_RUN = """
import sys, warnings
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from memos_adapters.langchain.middleware import MemosMiddleware
from memos_engine import MemOS
from memos_engine.testing.fakes import HashEmbedder
from tests.adapters.langchain.scripted_model import ScriptedModel, calls, run_of

with MemOS.open(sys.argv[1], embedder=HashEmbedder(), background=False) as memos:
    model = ScriptedModel(answers=[calls(("save_memory", {"text": "Alice likes tea."})), "Noted.", "Tea."])
    middleware = MemosMiddleware(memos, tools=True, inject="tool", min_score=0.0)
    agent = create_agent(model, middleware=[middleware], checkpointer=InMemorySaver())
    for text in ("I like tea.", "What do I like?"):
        result = agent.invoke({"messages": [HumanMessage(text)]}, run_of("alice", "t1"))
    assert [type(message).__name__ for message in result["messages"]] == [
        "HumanMessage", "AIMessage", "ToolMessage", "AIMessage", "HumanMessage", "AIMessage"
    ], result
    assert "Alice likes tea." in str(model.requests[-1])
"""


def test_checkpoints_hold_plain_messages(tmp_path: Path) -> None:
    """Under the strict serialisation of LangGraph nothing of ours is refused or warned of."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", STRICT_RUN, str(tmp_path)],
        env={"LANGGRAPH_STRICT_MSGPACK": "true", "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
