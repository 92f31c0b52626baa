"""The memory under LlamaIndex's own chat engines and agents, with models that follow a script."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine, SimpleChatEngine
from llama_index.core.workflow import Context

from memos_adapters.llamaindex.memory import MemosMemory
from memos_adapters.llamaindex.retriever import MemosRetriever
from memos_adapters.llamaindex.tools import MemosToolSpec
from memos_engine import MemOS, Scope
from tests.adapters.llamaindex.scripted_llms import ScriptedLLM, ScriptedToolLLM, prompt_text
from tests.adapters.loop_guard import nothing_blocks

# LlamaIndex looks through all attributes of an agent, pydantic's deprecated ones included; its ReAct agent asks
# what its own workflows no longer like to be asked.
pytestmark = pytest.mark.filterwarnings(
    "ignore:(The `__|Accessing the 'model_|is_running called):DeprecationWarning"
)

DOG = "What is my dog called?"


@pytest.fixture
def memory(memos: MemOS) -> MemosMemory:
    """A new session of a user whose dog was spoken of in an earlier one."""
    MemosMemory(memos, "earlier", user_id="alice").put(ChatMessage("My dog is called Bruno."))
    return MemosMemory(memos, "now", user_id="alice")


def said(memory: MemosMemory) -> list[tuple[str, str]]:
    """Role and words of the history."""
    return [(message.role.value, message.content or "") for message in memory.get_all()]


def captured(memos: MemOS) -> list[str]:
    """What was captured of the session."""
    cube = memos.acting_as(Scope("alice")).cube("memories")
    episodes = cube.list(kinds=["episode"], thread="now", limit=1000)
    return [item.text for item in sorted(episodes, key=lambda item: item.id)]


def search_tools(memos: MemOS) -> Any:
    """The memory's tools, for an agent."""
    return MemosToolSpec(memos, user_id="alice").to_tool_list()


def once(memory: MemosMemory) -> int:
    """How often was really recalled."""
    return memory.counts.asked - memory.counts.cached


def test_a_simple_chat_engine_remembers(memos: MemOS, memory: MemosMemory) -> None:
    """It is given the memories, and both sides of the turn are logged and captured."""
    llm = ScriptedLLM("Bruno.", "Yes, Bruno.")
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=memory, system_prompt="Be brief.")
    engine.chat(DOG)
    assert "called Bruno" in prompt_text(llm.asked[0])
    assert once(memory) == 1
    stream = engine.stream_chat("Really?")
    assert "".join(stream.response_gen) == "Yes, Bruno."
    turns = [("user", DOG), ("assistant", "Bruno."), ("user", "Really?"), ("assistant", "Yes, Bruno.")]
    assert said(memory) == turns
    assert captured(memos) == [text for _, text in turns]
    engine.reset()
    assert memory.get_all() == []


async def test_a_simple_chat_engine_remembers_in_a_loop(memos: MemOS, memory: MemosMemory) -> None:
    """The same for its coroutines, its stream included."""
    llm = ScriptedLLM("Bruno.", "Yes, Bruno.")
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
    await engine.achat(DOG)
    stream = await engine.astream_chat("Really?")
    assert "".join([part async for part in stream.async_response_gen()]) == "Yes, Bruno."
    assert "called Bruno" in prompt_text(llm.asked[0])
    turns = [("user", DOG), ("assistant", "Bruno."), ("user", "Really?"), ("assistant", "Yes, Bruno.")]
    assert said(memory) == turns
    assert captured(memos) == [text for _, text in turns]


@pytest.mark.parametrize(
    ("engine_class", "settings"),
    [(ContextChatEngine, {}), (CondensePlusContextChatEngine, {"skip_condense": True})],
)
def test_engines_with_context_remember(
    memos: MemOS, memory: MemosMemory, engine_class: Any, settings: dict[str, Any]
) -> None:
    """Engines that read the memory before they put the question get the memories all the same, once a turn."""
    llm = ScriptedLLM("Bruno.", "Still Bruno.")
    memos.cube("documents").add("Dogs like walks.", kind="document")
    documents = MemosRetriever(memos.cube("documents"))
    engine = engine_class.from_defaults(retriever=documents, llm=llm, memory=memory, **settings)
    engine.chat(DOG)
    assert "called Bruno" in prompt_text(llm.asked[0])
    assert said(memory) == [("user", DOG), ("assistant", "Bruno.")]
    assert once(memory) == 1
    engine.chat("And do dogs like walks?")
    assert captured(memos) == [DOG, "Bruno.", "And do dogs like walks?", "Still Bruno."]


async def test_a_function_agent_remembers(memos: MemOS, memory: MemosMemory) -> None:
    """Its question is recalled once in all its steps, and its tool calls are history and no memories."""
    llm = ScriptedToolLLM(("search_memory", {"query": "dog"}), "Bruno.")
    agent = FunctionAgent(llm=llm, tools=search_tools(memos), system_prompt="Be brief.")
    assert str(await agent.run(DOG, memory=memory)) == "Bruno."
    for prompt in llm.asked:
        assert prompt_text(prompt).count("What is remembered of earlier") == 1
    assert once(memory) == 1
    assert [role for role, _ in said(memory)] == ["user", "assistant", "tool", "assistant"]
    assert "called Bruno" in said(memory)[2][1]
    assert captured(memos) == [DOG, "Bruno."]


async def test_a_react_agent_remembers(memos: MemOS, memory: MemosMemory) -> None:
    """Without a system prompt it throws the first system message away; the memories are in the question."""
    llm = ScriptedLLM(
        'Thought: I look.\nAction: search_memory\nAction Input: {"query": "dog"}',
        "Thought: I can answer without using any more tools.\nAnswer: Bruno.",
    )
    agent = ReActAgent(llm=llm, tools=search_tools(memos))
    assert str(await agent.run(DOG, memory=memory)) == "Bruno."
    for prompt in llm.asked:
        assert prompt_text(prompt).count("What is remembered of earlier") == 1
    assert captured(memos) == [DOG, "Bruno."]


async def test_a_workflow_of_agents_remembers(memos: MemOS, memory: MemosMemory) -> None:
    """Agents that hand over to each other share the memory."""
    llm = ScriptedToolLLM(("handoff", {"to_agent": "second", "reason": "dogs"}), "Bruno.")
    first = FunctionAgent(
        name="first", description="Asks.", llm=llm, tools=search_tools(memos), can_handoff_to=["second"]
    )
    second = FunctionAgent(name="second", description="Answers.", llm=llm, tools=search_tools(memos))
    workflow = AgentWorkflow(agents=[first, second], root_agent="first")
    assert str(await workflow.run(user_msg=DOG, memory=memory)) == "Bruno."
    for prompt in llm.asked:
        assert "called Bruno" in prompt_text(prompt)
    assert captured(memos) == [DOG, "Bruno."]


async def test_an_agent_with_state_rewrites_its_prompt_alone(memos: MemOS, memory: MemosMemory) -> None:
    """An agent's state is written into its copy of the question, not into the log."""
    llm = ScriptedToolLLM("Bruno.")
    workflow = AgentWorkflow(
        agents=[FunctionAgent(name="only", description="Answers.", llm=llm, tools=search_tools(memos))],
        initial_state={"mood": "sunny"},
    )
    await workflow.run(user_msg=DOG, memory=memory)
    assert "sunny" in prompt_text(llm.asked[0])
    assert said(memory)[0] == ("user", DOG)
    assert captured(memos) == [DOG, "Bruno."]


async def test_a_history_beside_the_memory_is_taken_over_once(memos: MemOS, memory: MemosMemory) -> None:
    """An application that hands over the whole talk with every run captures each turn once."""
    llm = ScriptedToolLLM("Bruno.", "Yes.")
    agent = FunctionAgent(llm=llm, tools=search_tools(memos))
    history = [ChatMessage("Hello"), ChatMessage("Hi", role=MessageRole.ASSISTANT)]
    await agent.run(DOG, chat_history=history, memory=memory)
    history += [ChatMessage(DOG), ChatMessage("Bruno.", role=MessageRole.ASSISTANT)]
    await agent.run(chat_history=[*history, ChatMessage("Really?")], memory=memory)
    assert captured(memos) == ["Hello", "Hi", DOG, "Bruno.", "Really?", "Yes."]
    assert [text for _, text in said(memory)] == captured(memos)


async def test_a_context_keeps_the_memory_between_runs(memory: MemosMemory) -> None:
    """LlamaIndex writes the state out between two runs of a context: the very memory comes back, unasked."""
    llm = ScriptedToolLLM("Bruno.", "Yes.")
    agent = FunctionAgent(llm=llm)
    context: Context[Any] = Context(agent)
    await agent.run(DOG, memory=memory, ctx=context)
    await agent.run("Really?", ctx=context)
    assert await context.store.get("memory") is memory
    assert [text for _, text in said(memory)] == [DOG, "Bruno.", "Really?", "Yes."]


async def test_a_context_can_be_given_the_memory_first(memory: MemosMemory) -> None:
    """A memory that is put into a context's store before the first run is the one that is used."""
    agent = FunctionAgent(llm=ScriptedToolLLM("Bruno."))
    context: Context[Any] = Context(agent)
    await context.store.set("memory", memory)
    async with context.store.edit_state() as state:
        state["n"] = 1
    await agent.run(DOG, ctx=context)
    assert [text for _, text in said(memory)] == [DOG, "Bruno."]


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_context_is_restored_from_json(memory: MemosMemory, elsewhere: bool) -> None:
    """In the same process with the memory that lives; in another one with the memory that is handed over."""
    llm = ScriptedToolLLM("Bruno.", "Yes.")
    agent = FunctionAgent(llm=llm)
    context: Context[Any] = Context(agent)
    await agent.run(DOG, memory=memory, ctx=context)
    written = json.dumps(context.to_dict())
    assert "Bruno" not in json.loads(written)["state"]["state_data"]["_data"]["memory"]
    handed: dict[str, Any] = {}
    if elsewhere:
        written = written.replace(memory.to_dict()["alive_as"], "nowhere")
        handed = {"memory": memory}
    restored: Context[Any] = Context.from_dict(agent, json.loads(written))
    await agent.run("Really?", ctx=restored, **handed)
    assert await restored.store.get("memory") is memory
    assert [text for _, text in said(memory)] == [DOG, "Bruno.", "Really?", "Yes."]


async def test_an_agent_never_waits_on_the_loop(memos: MemOS) -> None:
    """A whole run of an agent does nothing on the event loop that blocks it."""
    memory = MemosMemory(memos, "now", user_id="alice")
    llm = ScriptedToolLLM(("search_memory", {"query": "dog"}), ("save_memory", {"text": "A dog."}), "Bruno.")
    agent = FunctionAgent(llm=llm, tools=search_tools(memos))
    await asyncio.to_thread(memory.get, "warm up")  # the tokenizer is read once per process
    with nothing_blocks():
        assert str(await agent.run(DOG, memory=memory)) == "Bruno."
    assert captured(memos) == [DOG, "Bruno."]
