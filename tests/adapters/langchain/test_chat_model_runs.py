"""A chat model that remembers, streamed, awaited, cancelled, in threads, and in LangGraph's and LangChain's agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessageChunk, BaseMessageChunk, HumanMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from memos_adapters.langchain import MemosChatModel, MemosMiddleware
from memos_engine import BadInput, IdentityMissing, MemOS, Message, ModelFailed, ServedModel
from memos_engine.testing.fakes import ScriptedChatModel
from tests.adapters.chat_models import SlowChatModel, asked, memory_of, said_to, tiny_model
from tests.adapters.loop_guard import nothing_blocks
from tests.models.llm_server import llm_server

ALICE: RunnableConfig = {"configurable": {"user_id": "alice", "thread_id": "t1"}}
DOG = "What is my dog called?"


@pytest.fixture
def memos(memos: MemOS) -> MemOS:
    """Alice's dog and Bob's, each in a conversation of their own."""
    for user, dog in (("alice", "Bruno"), ("bob", "Rex")):
        memory_of(memos, user).capture([Message("user", f"My dog is called {dog}.")], thread="earlier")
    return memos


def tiny(memos: MemOS, **fields: Any) -> MemosChatModel:
    """A chat model of random words, for Alice."""
    settings = {"user_id": "alice", "max_tokens": 12, "budget_tokens": 0, "stop": ["\0"], **fields}
    return MemosChatModel(memos, model=tiny_model(), **settings)


# Streams


def test_a_stream_is_the_answer_in_pieces(memos: MemOS) -> None:
    """Pieces joined are the answer of `invoke`; the last chunk tells the tokens; the turn is captured once."""
    model = tiny(memos)
    whole = model.invoke(DOG, capture=False)
    chunks = list(model.stream(DOG))
    assert len(chunks) > 2
    full = sum_of(chunks)
    assert full.text == whole.text
    assert full.usage_metadata is not None
    assert whole.usage_metadata is not None
    assert full.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]
    assert full.response_metadata["finish_reason"] == whole.response_metadata["finish_reason"]
    assert [chunk.chunk_position for chunk in chunks if chunk.chunk_position] == ["last"]
    assert {chunk.id for chunk in chunks} == {full.id}
    (question, answer) = said_to(memos, "alice")[1:]
    assert question == ("user", DOG)
    assert answer == ("assistant", whole.text.strip())


async def test_an_awaited_stream_is_the_answer_in_pieces(memos: MemOS) -> None:
    """The same for `astream` and `ainvoke`."""
    model = tiny(memos)
    whole = await model.ainvoke(DOG, capture=False)
    chunks = [chunk async for chunk in model.astream(DOG)]
    assert len(chunks) > 2
    assert sum_of(chunks).text == whole.text
    assert said_to(memos, "alice")[1:] == [("user", DOG), ("assistant", whole.text.strip())]


def test_a_stream_that_is_left_keeps_what_was_said(memos: MemOS) -> None:
    """Whoever stops listening has heard the first pieces: these are captured, and the model stops."""
    stream = tiny(memos).stream(DOG)
    heard = [next(stream).text, next(stream).text]
    assert isinstance(stream, Iterator)
    stream.close()  # type: ignore[attr-defined] # -- a generator
    assert said_to(memos, "alice")[1:] == [("user", DOG), ("assistant", "".join(heard).strip())]


async def test_an_awaited_stream_that_is_left_keeps_what_was_said(memos: MemOS) -> None:
    """The same for `astream`."""
    stream = tiny(memos)._astream([HumanMessage(DOG)])
    heard = [(await anext(stream)).message.text, (await anext(stream)).message.text]
    assert isinstance(stream, AsyncIterator)
    await stream.aclose()  # type: ignore[attr-defined] # -- a generator
    assert said_to(memos, "alice")[1:] == [("user", DOG), ("assistant", "".join(heard).strip())]


def test_a_stream_that_fails_keeps_nothing(memos: MemOS) -> None:
    """An error comes to whoever listens, and nothing is captured."""
    model = MemosChatModel(memos, model=ScriptedChatModel(ModelFailed("no")), user_id="alice")
    with pytest.raises(ModelFailed):
        list(model.stream(DOG))
    assert len(said_to(memos, "alice")) == 1


class Heard(BaseCallbackHandler):
    """Keeps the tokens that a model tells its callbacks."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    def on_llm_new_token(self, token: str | list[Any], *, chunk: Any = None, **kwargs: Any) -> None:
        """Keep the token."""
        assert isinstance(chunk, ChatGenerationChunk)
        self.tokens.append(str(token))


def test_callbacks_hear_every_piece_once(memos: MemOS) -> None:
    """A handler is told the pieces of a stream, joined the answer."""
    heard = Heard()
    chunks = list(tiny(memos).stream(DOG, {"callbacks": [heard]}))
    assert "".join(heard.tokens) == sum_of(chunks).text


# Awaited calls


async def test_nothing_blocks_the_loop(memos: MemOS) -> None:
    """While the model works and the memory is read and written, other coroutines run."""
    model = MemosChatModel(memos, model=SlowChatModel(), user_id="alice")
    with nothing_blocks():
        assert (await model.ainvoke(DOG)).text == "Yes."
        assert "".join([chunk.text async for chunk in model.astream(DOG)]) == "Yes."
        answers = await model.abatch([DOG, DOG])
        assert [answer.text for answer in answers] == ["Yes.", "Yes."]
        agent = create_agent(model)
        done = await agent.ainvoke({"messages": [HumanMessage(DOG)]})
        assert done["messages"][-1].text == "Yes."


async def test_a_local_model_does_not_block_the_loop(memos: MemOS) -> None:
    """The same for one that is run here, piece by piece."""
    model = tiny(memos)
    with nothing_blocks():
        whole = await model.ainvoke(DOG)
        assert "".join([chunk.text async for chunk in model.astream(DOG)]) == whole.text


async def test_a_cancelled_call_stops_and_keeps_nothing(memos: MemOS) -> None:
    """Nobody heard the answer of a call that was given up: it ends at the next token, uncaptured."""
    model = tiny(memos, max_tokens=400)
    task = asyncio.create_task(model.ainvoke(DOG))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(said_to(memos, "alice")) == 1
    assert (await model.ainvoke(DOG, max_tokens=1)).usage_metadata is not None, "the model is free again"


async def test_two_users_at_once(memos: MemOS) -> None:
    """Many calls at once, awaited and in threads, each read the memory of their own user."""
    model = MemosChatModel(memos, model=Echo(), min_score=0.0)
    users = ["alice", "bob"] * 8
    configs: list[RunnableConfig] = [{"configurable": {"user_id": user}} for user in users]
    awaited = await asyncio.gather(*(model.ainvoke(DOG, config, capture=False) for config in configs))
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(lambda config: model.invoke(DOG, config, capture=False), configs))
    for user, one, two in zip(users, awaited, threaded, strict=True):
        assert ("Bruno" in one.text, "Rex" in one.text) == (user == "alice", user == "bob")
        assert two.text == one.text


# Graphs and agents


@dataclass
class Caller:
    """What an application hands to its runs."""

    user_id: str


def by_config(agent: Any, text: str, user: str) -> Any:
    """Run it for the user of its config."""
    return agent.invoke(
        {"messages": [HumanMessage(text)]}, {"configurable": {"user_id": user, "thread_id": user}}
    )


def by_context(agent: Any, text: str, user: str) -> Any:
    """Run it for the user of its context."""
    return agent.invoke(
        {"messages": [HumanMessage(text)]}, {"configurable": {"thread_id": user}}, context=Caller(user)
    )


@pytest.mark.parametrize("run", [by_config, by_context])
def test_an_agent_remembers_its_user(memos: MemOS, run: Callable[[Any, str, str], Any]) -> None:
    """An agent without tools answers with the memory of whom its run names, and captures each turn once."""
    script = ScriptedChatModel("Bruno.", "Rex.", "Yes.")
    model = MemosChatModel(memos, model=script, min_score=0.0)
    agent = create_agent(
        model, context_schema=Caller, checkpointer=InMemorySaver(), system_prompt="Be brief."
    )
    for user, dog, other in (("alice", "Bruno", "Rex"), ("bob", "Rex", "Bruno")):
        done = run(agent, DOG, user)
        assert done["messages"][-1].text == f"{dog}."
        assert f"called {dog}" in asked(script)
        assert other not in asked(script)
    run(agent, "Really?", "alice")
    turns = [("user", DOG), ("assistant", "Bruno."), ("user", "Really?"), ("assistant", "Yes.")]
    assert said_to(memos, "alice")[1:] == turns
    items = memory_of(memos, "alice").list(kinds=["episode"], thread="alice")
    assert len(items) == 4


async def test_awaited_agents_remember_their_users(memos: MemOS) -> None:
    """The same for runs that are awaited at once, by context, by config, and streamed."""
    agent = create_agent(
        MemosChatModel(memos, model=Echo(), min_score=0.0, capture=False), context_schema=Caller
    )
    asking: Any = {"messages": [HumanMessage(DOG)]}
    alice, bob = await asyncio.gather(
        agent.ainvoke(asking, context=Caller("alice")),
        agent.ainvoke(asking, {"configurable": {"user_id": "bob"}}),
    )
    assert "Bruno" in alice["messages"][-1].text
    assert "Rex" not in alice["messages"][-1].text
    assert "Rex" in bob["messages"][-1].text
    heard = [
        chunk.text
        async for chunk, _ in agent.astream(asking, context=Caller("bob"), stream_mode="messages")
        if isinstance(chunk, AIMessageChunk)
    ]
    assert "called Rex" in "".join(heard)


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
async def test_awaited_events_are_for_the_user_of_their_config(memos: MemOS) -> None:
    """LangChain's events, in their second and third version, read the memory of whom the config names."""
    model = MemosChatModel(memos, model=Echo(), min_score=0.0, capture=False)
    stream = await model.astream_events(DOG, ALICE, version="v3")
    assert "called Bruno" in (await stream.output).text
    ends = [
        event["data"]["output"].text
        async for event in model.astream_events(DOG, ALICE, version="v2")
        if event["event"] == "on_chat_model_end"
    ]
    assert ["called Bruno" in end for end in ends] == [True]


def test_an_agent_of_nobody_is_refused(memos: MemOS) -> None:
    """A run that names nobody fails, whatever thread it has."""
    agent = create_agent(MemosChatModel(memos, model=ScriptedChatModel()), checkpointer=InMemorySaver())
    with pytest.raises(IdentityMissing):
        agent.invoke({"messages": [HumanMessage(DOG)]}, {"configurable": {"thread_id": "t"}})


def test_an_agent_with_tools_says_that_it_cannot(memos: MemOS) -> None:
    """Tools are refused in the first run, with what to do."""

    @tool
    def weather(city: str) -> str:
        """The weather of a city."""
        return city

    agent = create_agent(MemosChatModel(memos, model=ScriptedChatModel()), [weather])
    with pytest.raises(BadInput, match="calls no tools"):
        agent.invoke({"messages": [HumanMessage(DOG)]}, ALICE)


@pytest.mark.parametrize("inject", ["before_last_user", "system", None])
def test_beside_the_middleware_everything_is_remembered_once(memos: MemOS, inject: Any) -> None:
    """Where a middleware recalls and captures too, memories are read once, and each message is captured once."""
    script = ScriptedChatModel("Bruno.", "Yes.")
    model = MemosChatModel(memos, model=script, min_score=0.0)
    middleware = MemosMiddleware(memos, inject=inject, min_score=0.0)
    again = "Is my dog really called that?"
    agent = create_agent(model, middleware=[middleware], checkpointer=InMemorySaver())
    for text in (DOG, again):
        agent.invoke({"messages": [HumanMessage(text)]}, ALICE)
        whole = "\n".join(message.content for message in script.prompts[-1])
        assert whole.count("called Bruno") == 1
    turns = [("user", DOG), ("assistant", "Bruno."), ("user", again), ("assistant", "Yes.")]
    assert said_to(memos, "alice")[1:] == turns
    assert middleware.counts.failed_captures == 0


async def test_a_graph_streams_the_pieces(memos: MemOS) -> None:
    """LangGraph's stream of messages hears every piece, for the user of the run, and captures once."""
    model = tiny(memos, user_id=None, budget_tokens=None, min_score=0.0)
    graph = StateGraph(MessagesState)
    graph.add_node("answer", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "answer")
    heard: list[BaseMessageChunk] = []
    runs = graph.compile(checkpointer=InMemorySaver())
    for chunk, _ in runs.stream({"messages": [HumanMessage(DOG)]}, ALICE, stream_mode="messages"):
        assert isinstance(chunk, AIMessageChunk)
        heard.append(chunk)
    assert len(heard) > 2
    answer = runs.get_state(ALICE).values["messages"][-1]
    assert "".join(chunk.text for chunk in heard) == answer.text
    assert said_to(memos, "alice")[1:] == [("user", DOG), ("assistant", answer.text.strip())]


class Echo:
    """Answers with what it was asked, after another call had its chance to come between."""

    def complete(self, messages: Any, *, max_tokens: int = 512, temperature: float = 0.0) -> str:
        """Repeat the last message."""
        return str(messages[-1].content)


def sum_of(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    """The chunks as one."""
    full = chunks[0]
    for chunk in chunks[1:]:
        full += chunk
    return full


def test_a_served_model_streams_with_what_its_server_knew(memos: MemOS) -> None:
    """A model behind a server streams too, under its name there, and tells what the server had read before."""
    with llm_server() as server:
        model = MemosChatModel(memos, model=ServedModel(server.url, "llama"), user_id="alice", min_score=0.0)
        for known in (False, True):
            full = sum_of(list(model.stream(DOG, capture=False)))
            assert full.text
            assert full.response_metadata["model_name"] == "llama"
            assert full.usage_metadata is not None
            assert (full.usage_metadata["input_token_details"]["cache_read"] > 0) == known
