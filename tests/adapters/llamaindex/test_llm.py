"""An LLM that remembers: whose memory it reads, what it is asked, what it tells and what is captured."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.llms import LLM
from llama_index.core.prompts import PromptTemplate
from llama_index_instrumentation import root_dispatcher
from pydantic import Field

from memos_adapters._text import rendered
from memos_adapters.llamaindex import MemosLLM
from memos_engine import (
    AccessDenied,
    BadInput,
    HttpChatModel,
    IdentityMissing,
    LocalModel,
    MemOS,
    Message,
    ModelFailed,
    Scope,
)
from memos_engine.testing.fakes import ScriptedChatModel
from tests.adapters.chat_models import SlowChatModel, asked, memory_of, said_to, tiny_folder, tiny_model
from tests.adapters.loop_guard import nothing_blocks

DOG = "What is my dog called?"
ASK = [ChatMessage(DOG)]


@pytest.fixture
def memos(memos: MemOS) -> MemOS:
    """Alice's dog and Bob's, each in a conversation of their own."""
    for user, dog in (("alice", "Bruno"), ("bob", "Rex")):
        memory_of(memos, user).capture([Message("user", f"My dog is called {dog}.")], thread="earlier")
    return memos


def of(memos: MemOS, *answers: str | Exception, **fields: Any) -> tuple[MemosLLM, ScriptedChatModel]:
    """An LLM over a model that answers by script."""
    script = ScriptedChatModel(*answers)
    return MemosLLM(memos, model=script, **{"min_score": 0.0, **fields}), script


def tiny(memos: MemOS, **fields: Any) -> MemosLLM:
    """An LLM of random words, for Alice."""
    settings = {"user_id": "alice", "max_tokens": 12, "budget_tokens": 0, "stop": ["\0"], **fields}
    return MemosLLM(memos, model=tiny_model(), **settings)


# Whose memory


CALLS: dict[str, Callable[[MemosLLM], object]] = {
    "chat": lambda llm: llm.chat(ASK, user_id="alice"),
    "complete": lambda llm: llm.complete(DOG, user_id="alice"),
    "stream_chat": lambda llm: list(llm.stream_chat(ASK, user_id="alice")),
    "stream_complete": lambda llm: list(llm.stream_complete(DOG, user_id="alice")),
    "achat": lambda llm: asyncio.run(llm.achat(ASK, user_id="alice")),
    "acomplete": lambda llm: asyncio.run(llm.acomplete(DOG, user_id="alice")),
    "astream_chat": lambda llm: asyncio.run(drained(llm.astream_chat(ASK, user_id="alice"))),
    "astream_complete": lambda llm: asyncio.run(drained(llm.astream_complete(DOG, user_id="alice"))),
    "predict": lambda llm: llm.model_copy(update={"user_id": "alice"}).predict(PromptTemplate("{q}"), q=DOG),
    "stream": lambda llm: list(
        llm.model_copy(update={"user_id": "alice"}).stream(PromptTemplate("{q}"), q=DOG)
    ),
}
"""Ways to ask."""


@pytest.mark.parametrize("call", CALLS)
def test_a_call_says_whose_memory_is_read(memos: MemOS, call: str) -> None:
    """Every way to ask reads the memory of the user who is named, and captures the turn once."""
    llm, script = of(memos, "Bruno.")
    CALLS[call](llm)
    assert "Bruno" in asked(script)
    assert "Rex" not in asked(script)
    assert said_to(memos, "alice")[1:] == [("user", DOG), ("assistant", "Bruno.")]
    assert len(said_to(memos, "bob")) == 1


async def drained(stream: Any) -> list[Any]:
    """All responses of an awaited stream."""
    return [response async for response in await stream]


def test_nobody_named_is_refused(memos: MemOS) -> None:
    """Without an identity there is no memory, and the model is not asked."""
    llm, script = of(memos)
    with pytest.raises(IdentityMissing):
        llm.chat(ASK)
    with pytest.raises(IdentityMissing):
        llm.complete(DOG, session_id="t1")
    with pytest.raises(IdentityMissing):
        asyncio.run(llm.achat(ASK))
    assert script.prompts == []


def test_a_call_for_another_user_is_refused(memos: MemOS) -> None:
    """An LLM that is bound to a user serves nobody else; a copy serves whom it names."""
    llm, script = of(memos, "Rex.", "Bruno.", user_id="alice")
    with pytest.raises(AccessDenied):
        llm.chat(ASK, user_id="bob")
    assert script.prompts == []
    llm.model_copy(update={"user_id": "bob"}).chat(ASK)
    assert "Rex" in asked(script)
    copy.deepcopy(llm).chat(ASK)
    assert "Rex" not in asked(script)
    with pytest.raises(BadInput, match="colour"):
        llm.model_copy(update={"colour": "red"})


def test_who_may_not_write_is_told_before_the_model_is_asked(memos: MemOS) -> None:
    """A reader of somebody's memory can ask with `capture=False` alone; a cube takes no names."""
    memory_of(memos, "alice").grant(Scope("carol"), "read")
    shared = memos.acting_as(Scope("carol")).cube("memories", owner=Scope("alice"))
    script = ScriptedChatModel("Bruno.")
    llm = MemosLLM(shared, model=script, min_score=0.0)
    with pytest.raises(AccessDenied):
        llm.chat(ASK)
    assert script.prompts == []
    llm.chat(ASK, capture=False)
    assert "Bruno" in asked(script)
    with pytest.raises(BadInput, match="MemCube"):
        MemosLLM(shared, model=script, user_id="alice")


def test_ids_of_databases_are_names(memos: MemOS) -> None:
    """A user may be named by a UUID or a number."""
    user = UUID(int=7)
    llm, _ = of(memos, "Yes.", user_id=user)
    llm.chat([ChatMessage("Hello.")])
    assert len(said_to(memos, str(user))) == 2


# What is asked and told


def test_a_conversation_reaches_the_model_in_its_roles(memos: MemOS) -> None:
    """System, user and assistant keep their roles; memories stand at the head of the last message."""
    llm, script = of(memos, "Bruno.", user_id="alice")
    llm.chat(
        [
            ChatMessage("Be brief.", role=MessageRole.SYSTEM),
            ChatMessage("Hello."),
            ChatMessage(
                role=MessageRole.CHATBOT, blocks=[ThinkingBlock(content="hm"), TextBlock(text="Hi.")]
            ),
            ChatMessage(DOG),
        ]
    )
    (prompt,) = script.prompts
    assert [message.role for message in prompt] == ["system", "user", "assistant", "user"]
    assert [message.content for message in prompt[:3]] == ["Be brief.", "Hello.", "Hi."]
    assert prompt[3].content.endswith(f"</memories>\n\n{DOG}")


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (ChatMessage("5", role=MessageRole.TOOL), "calls of functions"),
        (
            ChatMessage(role=MessageRole.ASSISTANT, blocks=[ToolCallBlock(tool_name="add", tool_kwargs={})]),
            "tool_call",
        ),
        (ChatMessage("", role="assistant", additional_kwargs={"tool_calls": [1]}), "calls of functions"),
        (ChatMessage(blocks=[ImageBlock(url="https://example.com/cat.png")]), "'image'"),
        (ChatMessage("Hi.", role=MessageRole.ASSISTANT), "must be what is to be answered"),
    ],
)
def test_what_a_text_model_cannot_read_is_refused(memos: MemOS, message: ChatMessage, told: str) -> None:
    """Functions and images are refused with what to do instead, and nothing is captured."""
    llm, script = of(memos, user_id="alice")
    with pytest.raises(BadInput, match=told):
        llm.chat([ChatMessage("Hello."), message])
    assert script.prompts == []
    assert len(said_to(memos, "alice")) == 1


def test_its_metadata(memos: MemOS) -> None:
    """It is a chat model without functions, whose window its model tells, or its maker."""
    told = tiny(memos).metadata
    assert (told.context_window, told.num_output) == (512, 12)
    assert told.is_chat_model
    assert not told.is_function_calling_model
    assert of(memos)[0].metadata.context_window == 3_900
    assert of(memos, context_window=77)[0].metadata.context_window == 77


def test_a_model_by_its_folder_is_loaded_once(memos: MemOS, tmp_path: Path) -> None:
    """A folder is loaded by the first answer, not by what instrumentation asks, and shared by all who name it."""
    folder = tiny_folder(tmp_path / "model")
    one = MemosLLM(memos, model=folder, user_id="alice", max_tokens=1, budget_tokens=0)
    two = MemosLLM(memos, model=str(folder), user_id="bob")
    assert one.to_payload()["model_name"] == str(folder)
    assert one._model().loaded is None
    one.complete("Hello")
    loaded = one._model().loaded
    assert isinstance(loaded, LocalModel)
    assert two.metadata.context_window == 512
    assert two._model().loaded is loaded


def test_nothing_secret_is_shown(memos: MemOS) -> None:
    """What is logged of it holds neither the memory nor a server's key."""
    server = HttpChatModel("http://localhost:9", "llama", api_key="sk-secret")
    llm = MemosLLM(memos, model=server, user_id="alice")
    shown = f"{llm!r} {json.dumps(llm.to_dict())} {llm.to_payload()} {llm.metadata}"
    assert "secret" not in shown
    assert "MemOS object" not in shown
    assert llm.metadata.model_name == "llama"
    assert isinstance(llm, LLM)


def test_what_is_no_model_is_refused_at_once(memos: MemOS) -> None:
    """The constructor refuses what cannot answer, and a memory that is none."""
    with pytest.raises(BadInput, match="LocalModel"):
        MemosLLM(memos, model=3)
    with pytest.raises(BadInput, match=r"MemOS\.open"):
        MemosLLM("memories", model=ScriptedChatModel())  # type: ignore[arg-type] # -- what is tested
    with pytest.raises(BadInput, match="topk"):
        of(memos, user_id="alice")[0].chat(ASK, topk=1)


def test_an_answer_tells_how_it_was_made(memos: MemOS) -> None:
    """Tokens, where LlamaIndex's counters look for them, and which memories were read, as JSON."""
    item = memory_of(memos, "alice").list(kinds=["episode"])[0]
    counter = TokenCountingHandler(tokenizer=str.split)
    llm = tiny(memos, budget_tokens=None, min_score=0.0, callback_manager=CallbackManager([counter]))
    raw = llm.chat(ASK).raw
    assert json.loads(json.dumps(raw)) == raw
    assert raw["memos"]["memories"] == [item.id]
    assert counter.prompt_llm_token_count == raw["usage"]["prompt_tokens"]
    list(llm.stream_complete(DOG))
    assert counter.prompt_llm_token_count > raw["usage"]["prompt_tokens"]
    assert len(counter.llm_token_counts) == 2, "each call is told once"


class Heard(BaseEventHandler):
    """Keeps the names of the events that LlamaIndex tells."""

    names: list[str] = Field(default_factory=list)

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Keep the name."""
        self.names.append(event.class_name())


def test_each_call_is_told_once(memos: MemOS) -> None:
    """Instrumentation hears one start and one end of a completion, and nothing of a chat below it."""
    heard = Heard()
    root_dispatcher.add_event_handler(heard)
    try:
        of(memos, "Yes.", user_id="alice")[0].complete("Hello")
    finally:
        root_dispatcher.event_handlers.remove(heard)
    assert heard.names == ["LLMCompletionStartEvent", "LLMCompletionEndEvent"]


def usage_of(response: ChatResponse) -> dict[str, int]:
    """What a response tells of its tokens."""
    assert isinstance(response.raw, dict)
    found: dict[str, int] = response.raw["usage"]
    return found


def delta_of(response: Any) -> str:
    """The piece that a response adds."""
    return str(response.delta)


def test_the_next_turn_reads_only_what_is_new(memos: MemOS) -> None:
    """What was read in one turn of a conversation is not read again in the next; nor found by another user."""
    talk = [ChatMessage("You speak of cats and dogs. " * 4, role=MessageRole.SYSTEM), ChatMessage("Hello.")]
    said = tiny(memos).chat(talk)
    talk += [said.message, ChatMessage("And then?")]
    assert usage_of(tiny(memos).chat(talk))["cached_tokens"] >= usage_of(said)["prompt_tokens"] // 2
    assert usage_of(tiny(memos, user_id="bob").chat(talk))["cached_tokens"] == 0


# Streams and awaited calls


async def test_streams_are_the_answer_in_pieces(memos: MemOS) -> None:
    """Awaited or not, of messages or a prompt: deltas joined are the answer, which the last response holds."""
    llm = tiny(memos, capture=False)
    whole = llm.chat(ASK).message.content
    for responses in (
        list(llm.stream_chat(ASK)),
        await drained(llm.astream_chat(ASK)),
        list(llm.stream_complete(DOG)),
        await drained(llm.astream_complete(DOG)),
    ):
        assert len(responses) > 2
        assert "".join(map(delta_of, responses)) == whole
        last = responses[-1]
        assert (last.text if hasattr(last, "text") else last.message.content) == whole
        assert isinstance(last.raw, dict)
        assert last.raw["usage"]["completion_tokens"] > 0
    assert (await llm.achat(ASK)).message.content == whole
    assert (await llm.acomplete(DOG)).text == whole


async def test_streams_that_are_left_keep_what_was_said(memos: MemOS) -> None:
    """Whoever stops listening has heard the first pieces: these are captured."""
    stream = tiny(memos).stream_chat(ASK)
    heard = "".join(next(stream).delta or "" for _ in range(2))
    stream.close()
    assert said_to(memos, "alice")[1:] == [("user", DOG), ("assistant", heard.strip())]
    awaited = tiny(memos, user_id="bob")._astreamed(tiny(memos, user_id="bob")._answering(ASK, {}))
    heard = (await anext(awaited)).delta or ""
    await awaited.aclose()
    assert said_to(memos, "bob")[1:] == [("user", DOG), ("assistant", heard.strip())]


async def test_nothing_blocks_the_loop(memos: MemOS) -> None:
    """While the model works and the memory is read and written, other coroutines run."""
    llm = MemosLLM(memos, model=SlowChatModel(), user_id="alice")
    with nothing_blocks():
        assert (await llm.achat(ASK)).message.content == "Yes."
        assert (await llm.acomplete(DOG)).text == "Yes."
        assert (await drained(llm.astream_chat(ASK)))[-1].message.content == "Yes."
        assert (await drained(llm.astream_complete(DOG)))[-1].text == "Yes."
        assert await llm.apredict(PromptTemplate("{q}"), q=DOG) == "Yes."


async def test_a_cancelled_call_stops_and_keeps_nothing(memos: MemOS) -> None:
    """Nobody heard the answer of a call that was given up: it ends at the next token, uncaptured."""
    task = asyncio.create_task(tiny(memos, max_tokens=400).achat(ASK))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(said_to(memos, "alice")) == 1


def test_calls_of_many_threads(memos: MemOS) -> None:
    """One LLM serves threads of two users at once, each from their own memory."""
    llm = MemosLLM(memos, model=Echo(), min_score=0.0, capture=False)
    wrong: list[str] = []

    def ask(user: str, dog: str, other: str) -> None:
        for _ in range(5):
            text = llm.chat(ASK, user_id=user).message.content or ""
            if dog not in text or other in text:
                wrong.append(text)

    threads = [
        threading.Thread(target=ask, args=args)
        for args in [("alice", "Bruno", "Rex"), ("bob", "Rex", "Bruno")] * 3
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


class Echo:
    """Answers with what it was asked."""

    def complete(self, messages: Any, *, max_tokens: int = 512, temperature: float = 0.0) -> str:
        """Repeat the last message."""
        return str(messages[-1].content)


# What is captured


def test_a_turn_is_captured_with_its_session(memos: MemOS) -> None:
    """What was said since the last answer is captured, under the session's name; a failed answer is not."""
    llm, _ = of(memos, ModelFailed("no"), "Both.", user_id="alice", session_id="s1")
    talk = [ChatMessage("Hello."), ChatMessage("Hi.", role="assistant"), ChatMessage("A cat too.")]
    with pytest.raises(ModelFailed):
        llm.chat(talk)
    llm.chat([ChatMessage("Be brief.", role="system"), *talk])
    turns = list(reversed(memory_of(memos, "alice").list(kinds=["episode"], thread="s1")))
    assert [(turn.role, turn.text) for turn in turns] == [("user", "A cat too."), ("assistant", "Both.")]


def test_capture_can_be_left_out(memos: MemOS) -> None:
    """With `capture=False`, of the LLM or of a call, nothing is remembered."""
    llm, _ = of(memos, "Bruno.", "Bruno.", "Bruno.", user_id="alice", capture=False)
    llm.chat(ASK)
    assert len(said_to(memos, "alice")) == 1
    llm.chat(ASK, capture=True)
    assert len(said_to(memos, "alice")) == 3
    of(memos, "Bruno.", user_id="alice")[0].complete(DOG, capture=False)
    assert len(said_to(memos, "alice")) == 3


def test_memories_in_a_message_are_neither_read_twice_nor_captured(memos: MemOS) -> None:
    """What a memory of LlamaIndex put at the head of a message gives way to the model's own recall."""
    llm, script = of(memos, "Bruno.", "Bruno.", user_id="alice")
    recalled = memory_of(memos, "alice").recall(DOG, min_score=0.0).text
    injected = f"{rendered(recalled)}\n\n{DOG}"
    llm.chat([ChatMessage(injected)])
    assert asked(script).count("called Bruno") == 1
    assert said_to(memos, "alice")[1:] == [("user", DOG), ("assistant", "Bruno.")]
    llm.chat([ChatMessage(injected)], budget_tokens=0)
    assert asked(script) == injected, "a model that recalls nothing reads what others recalled"
    assert ("user", injected) not in said_to(memos, "alice")


def test_a_misspelt_setting_is_refused(memos: MemOS) -> None:
    """A setting that is none is told, with the nearest that is one."""
    with pytest.raises(BadInput, match=r"'polcy'.*perhaps you mean 'policy'"):
        MemosLLM(memos, model="no-model", user_id="alice", polcy="full")
