"""A chat history in LangChain's `RunnableWithMessageHistory`: each turn once, each user's apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import ConfigurableFieldSpec, Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from memos_adapters.langchain import MemosChatMessageHistory
from memos_engine import MemOS
from tests.adapters.langchain.remembered import BreakableEmbedder, captured
from tests.adapters.loop_guard import SlowEmbedder, nothing_blocks

SPECS = [
    ConfigurableFieldSpec(id="user_id", annotation=str),
    ConfigurableFieldSpec(id="session_id", annotation=str),
]
pytestmark = pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")


@pytest.fixture
def failing() -> BreakableEmbedder:
    """An embedder to break."""
    return BreakableEmbedder()


@pytest.fixture
def fragile(tmp_path: Path, failing: BreakableEmbedder) -> Iterator[MemOS]:
    """An open root whose embedder may break."""
    with MemOS.open(tmp_path / "fragile", embedder=failing, background=False) as memos:
        yield memos


def config_of(user: str, session: str = "s1") -> RunnableConfig:
    """The config of a call."""
    return {"configurable": {"user_id": user, "session_id": session}}


def factory(memos: MemOS, **options: Any) -> Callable[[str, str], MemosChatMessageHistory]:
    """What makes the history of a call."""

    def history_of(user_id: str, session_id: str) -> MemosChatMessageHistory:
        return MemosChatMessageHistory(memos, session_id, user_id=user_id, **options)

    return history_of


def texts_of(memos: MemOS, user: str, session: str = "s1") -> list[str]:
    """What a session's log says."""
    return [str(each.text) for each in MemosChatMessageHistory(memos, session, user_id=user).messages]


def model_of(*answers: str) -> GenericFakeChatModel:
    """A model that gives these answers, and streams them word by word."""
    return GenericFakeChatModel(messages=iter([AIMessage(answer) for answer in answers]))


def with_key(memos: MemOS, runnable: Runnable[Any, Any], **options: Any) -> RunnableWithMessageHistory:
    """A chat that is given its history under a key of the prompt."""
    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{question}")])
    return RunnableWithMessageHistory(
        prompt | runnable,
        factory(memos, **options),
        input_messages_key="question",
        history_messages_key="history",
        history_factory_config=SPECS,
    )


async def test_a_chat_with_a_history_key(memos: MemOS) -> None:
    """Called, awaited and streamed: each turn is logged and captured once, each user's and session's apart."""
    chat = with_key(memos, model_of("Hello Ann", "Hello Bob", "Ann again", "New session"))
    chat.invoke({"question": "I am Ann"}, config_of("ann"))
    await chat.ainvoke({"question": "I am Bob"}, config_of("bob"))
    pieces = [str(piece.text) for piece in chat.stream({"question": "Who am I?"}, config_of("ann"))]
    assert len(pieces) > 2
    assert "".join(pieces) == "Ann again"
    async for _ in chat.astream({"question": "And now?"}, config_of("ann", "s2")):
        pass
    assert texts_of(memos, "ann") == ["I am Ann", "Hello Ann", "Who am I?", "Ann again"]
    assert texts_of(memos, "bob") == ["I am Bob", "Hello Bob"]
    assert texts_of(memos, "ann", "s2") == ["And now?", "New session"]
    assert captured(memos, "ann") == [*texts_of(memos, "ann"), *texts_of(memos, "ann", "s2")]
    kept = MemosChatMessageHistory(memos, "s1", user_id="ann").messages
    assert [type(message) for message in kept] == [HumanMessage, AIMessage, HumanMessage, AIMessage]


@pytest.mark.parametrize("limit", [None, 2])
async def test_a_chat_without_a_history_key(memos: MemOS, limit: int | None) -> None:
    """Where LangChain tells the turn's messages by counting the earlier ones, a limit changes nothing."""
    seen: list[list[str]] = []

    def answer(messages: list[BaseMessage]) -> AIMessage:
        seen.append([str(message.text) for message in messages])
        return AIMessage(f"answer {len(seen)}")

    chat: RunnableWithMessageHistory = RunnableWithMessageHistory(
        RunnableLambda(answer), factory(memos, limit=limit), history_factory_config=SPECS
    )
    for n in (1, 2):
        chat.invoke([HumanMessage(f"question {n}")], config_of("ann"))
    await chat.ainvoke([HumanMessage("question 3")], config_of("ann"))
    everything = [f"{kind} {n}" for n in (1, 2, 3) for kind in ("question", "answer")]
    assert texts_of(memos, "ann") == everything
    assert captured(memos, "ann") == everything
    assert seen[-1] == everything[0 if limit is None else 2 : -1]


async def test_users_at_once_never_mix(memos: MemOS) -> None:
    """Twenty turns of two users with one session id, all at once: each finds their own."""
    chat = with_key(memos, RunnableLambda(lambda prompt: AIMessage(prompt.to_messages()[-1].text.upper())))
    users = ["ann", "bob"] * 10
    await asyncio.gather(
        *(chat.ainvoke({"question": f"{user} asks {n}"}, config_of(user)) for n, user in enumerate(users))
    )
    for user in ("ann", "bob"):
        texts = texts_of(memos, user)
        assert len(texts) == 20
        assert {text.lower().split()[0] for text in texts} == {user}
        assert sorted(captured(memos, user)) == sorted(texts)


def test_a_swallowed_failure_is_made_good(
    fragile: MemOS, failing: BreakableEmbedder, caplog: pytest.LogCaptureFixture
) -> None:
    """LangChain logs what adding raises and goes on; the log has the turn, and the next turn captures it."""
    chat = with_key(fragile, model_of("one", "two"))
    failing.broken = True
    assert chat.invoke({"question": "first"}, config_of("ann")).text == "one"
    assert "no weights" in caplog.text
    assert captured(fragile, "ann") == []
    failing.broken = False
    chat.invoke({"question": "second"}, config_of("ann"))
    assert texts_of(fragile, "ann") == ["first", "one", "second", "two"]
    assert captured(fragile, "ann") == ["first", "one", "second", "two"]


async def test_a_chat_does_not_block_the_loop(tmp_path: Path) -> None:
    """An awaited turn makes, reads and writes its history off the loop."""
    with MemOS.open(tmp_path / "slow", embedder=SlowEmbedder(), background=False) as memos:
        chat = with_key(memos, model_of("yes", "no"))
        await chat.ainvoke({"question": "warm up?"}, config_of("ann"))  # LangChain loads modules at first
        with nothing_blocks():
            await chat.ainvoke({"question": "really?"}, config_of("ann"))
        assert texts_of(memos, "ann") == ["warm up?", "yes", "really?", "no"]
