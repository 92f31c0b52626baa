"""LangChain's adapters beside the engine's calls that they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware.types import AgentMiddleware
from langchain_classic.base_memory import BaseMemory
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage

from benchmarks.adapters.bare import THREAD, Bare
from benchmarks.adapters.fake_model import FakeModel
from benchmarks.adapters.ground import Ground
from benchmarks.adapters.langchain_floors import (
    NoHistory,
    NoMemory,
    NoMiddleware,
    NoRetriever,
    NoVectorStore,
)
from benchmarks.adapters.legs import MODES, Call, Case, Mode, composed
from memos_adapters.langchain import (
    MemosChatMessageHistory,
    MemosMemory,
    MemosMiddleware,
    MemosRetriever,
    MemosVectorStore,
)
from memos_engine import Message

K = 4
WINDOW = 5
EARLIER = 100
"""Messages that a long conversation had before the turn."""
ANSWER = "That is what was said about it, and nothing else is known of it here."


def cases(ground: Ground) -> Iterator[Case]:
    """All of them, each made when its turn comes."""
    for mode in MODES:
        yield _retriever(ground, mode)
        yield _vector_store(ground, mode)
        yield _memory(ground, mode, window=0)
        yield _memory(ground, mode, window=WINDOW)
        yield _history(ground, mode, capture=False)
        yield _history(ground, mode, capture=True)
        yield _turn(ground, mode, earlier=0)
        yield _turn(ground, mode, earlier=EARLIER)


def _retriever(ground: Ground, mode: Mode) -> Case:
    ground.cube("reader")
    cube = ground.cube("bare reader")

    def search(n: int) -> None:
        cube.search(ground.question(n), limit=K)

    def asking(retriever: MemosRetriever | NoRetriever) -> Call:
        if mode == "async":
            return lambda n: retriever.ainvoke(ground.question(n))
        return lambda n: retriever.invoke(ground.question(n))

    ours = MemosRetriever(ground.memos, user_id="reader", k=K)
    return Case(
        "langchain MemosRetriever.invoke", mode, asking(ours), composed(mode, search), asking(NoRetriever())
    )


def _vector_store(ground: Ground, mode: Mode) -> Case:
    space, field = ("documents",), "page_content"
    ground.entries("reader", "documents", space=space, field=field)
    kv = ground.entries("bare reader", "documents", space=space, field=field).kv

    def search(n: int) -> None:
        kv.search(space, query=ground.question(n), limit=K)

    def asking(store: MemosVectorStore | NoVectorStore) -> Call:
        if mode == "async":
            return lambda n: store.asimilarity_search(ground.question(n), K)
        return lambda n: store.similarity_search(ground.question(n), K)

    ours = MemosVectorStore(ground.memos, user_id="reader")
    return Case(
        "langchain MemosVectorStore.similarity_search", mode,
        asking(ours), composed(mode, search), asking(NoVectorStore()),
    )  # fmt: skip


def _memory(ground: Ground, mode: Mode, *, window: int) -> Case:
    """A turn of a chain: load, then save. With a window the turn is logged, and the last ones are read."""
    user = f"chain {window} {mode}"
    ground.cube(user)
    bare = Bare(ground, f"bare {user}")

    def turns(memory: BaseMemory) -> Call:
        async def aturn(n: int) -> None:
            inputs = {"input": ground.question(n)}
            await memory.aload_memory_variables(inputs)
            await memory.asave_context(inputs, {"output": ground.text(n)})

        def turn(n: int) -> None:
            inputs = {"input": ground.question(n)}
            memory.load_memory_variables(inputs)
            memory.save_context(inputs, {"output": ground.text(n)})

        return aturn if mode == "async" else turn

    parts = (
        [bare.recall, bare.last_messages(2 * window + 1), bare.log_turn, bare.capture_turn]
        if window
        else [bare.recall, bare.capture_turn]
    )
    ours = MemosMemory(ground.memos, user_id=user, session_id=THREAD, window=window, strict=True)
    return Case(
        f"langchain MemosMemory load + save, window={window}", mode,
        turns(ours), composed(mode, *parts), turns(NoMemory()),
    )  # fmt: skip


def _history(ground: Ground, mode: Mode, *, capture: bool) -> Case:
    user = f"history {capture} {mode}"
    ground.cube(user)
    bare = Bare(ground, f"bare {user}")

    def adding(history: BaseChatMessageHistory) -> Call:
        if mode == "async":
            return lambda n: history.aadd_messages(_said(bare, n))
        return lambda n: history.add_messages(_said(bare, n))

    parts = [bare.log_turn, bare.capture_turn] if capture else [bare.log_turn]
    ours = MemosChatMessageHistory(ground.memos, THREAD, user_id=user, capture=capture)
    return Case(
        f"langchain MemosChatMessageHistory.add_messages, capture={capture}", mode,
        adding(ours), composed(mode, *parts), adding(NoHistory()),
    )  # fmt: skip


def _turn(ground: Ground, mode: Mode, *, earlier: int) -> Case:
    """A turn of an agent, in a conversation of so many messages that are captured already."""
    user = f"agent {earlier} {mode}"
    ground.cube(user)
    bare = Bare(ground, f"bare {user}")
    before = [
        Message("assistant" if n % 2 else "user", ground.text(n), f"earlier-{n}") for n in range(earlier)
    ]

    def capture(n: int) -> None:
        said = [*before, bare.question(n), Message("assistant", ANSWER, f"answer-{n}")]
        bare.cube.capture(said, thread=THREAD, whole_thread=True)

    def turns(middleware: AgentMiddleware[Any, Any, Any]) -> Call:
        agent = create_agent(FakeModel(answer=ANSWER), middleware=[middleware])
        state = [_message(said) for said in before]

        def given(n: int) -> Any:
            return {"messages": [*state, _message(bare.question(n))]}

        if mode == "async":
            return lambda n: agent.ainvoke(given(n), context={"session_id": THREAD})
        return lambda n: agent.invoke(given(n), context={"session_id": THREAD})

    ours: MemosMiddleware[Any] = MemosMiddleware(ground.memos, user_id=user, strict=True)
    told = f"after {earlier} messages" if earlier else "the first"
    return Case(
        f"langchain MemosMiddleware, a turn of an agent, {told}", mode,
        turns(ours), composed(mode, bare.recall, capture), turns(NoMiddleware()),
    )  # fmt: skip


def _said(bare: Bare, n: int) -> list[BaseMessage]:
    return [_message(bare.question(n)), _message(bare.answer(n))]


def _message(said: Message) -> AnyMessage:
    kind = HumanMessage if said.role == "user" else AIMessage
    return kind(said.text, id=said.id)
