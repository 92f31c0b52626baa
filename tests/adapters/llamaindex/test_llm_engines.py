"""The LLM that remembers under LlamaIndex's own chat engines, query engines and agents."""

from __future__ import annotations

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.tools import FunctionTool

from memos_adapters.llamaindex import MemosLLM, MemosMemory, MemosRetriever
from memos_engine import MemOS, Message
from memos_engine.testing.fakes import ScriptedChatModel
from tests.adapters.chat_models import asked, memory_of, said_to, tiny_model
from tests.adapters.loop_guard import nothing_blocks

# LlamaIndex looks through all attributes of an agent, pydantic's deprecated ones included; its ReAct agent asks
# what its own workflows no longer like to be asked.
pytestmark = pytest.mark.filterwarnings(
    "ignore:(The `__|Accessing the 'model_|is_running called):DeprecationWarning"
)

DOG = "What is my dog called?"


@pytest.fixture
def memos(memos: MemOS) -> MemOS:
    """Alice has told of her dog."""
    memory_of(memos, "alice").capture([Message("user", "My dog is called Bruno.")], thread="earlier")
    return memos


def of(memos: MemOS, *answers: str, **fields: object) -> tuple[MemosLLM, ScriptedChatModel]:
    """An LLM of Alice's over a model that answers by script."""
    script = ScriptedChatModel(*answers)
    return MemosLLM(memos, **{"model": script, "user_id": "alice", "min_score": 0.0, **fields}), script


def buffer() -> ChatMemoryBuffer:
    """A memory of LlamaIndex's that opens no database."""
    return ChatMemoryBuffer.from_defaults(token_limit=3_000)


def test_a_chat_engine_remembers(memos: MemOS) -> None:
    """A simple chat engine is answered from memory, whole and streamed, and each turn is captured once."""
    llm, script = of(memos, "Bruno.", "Yes.")
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=buffer(), system_prompt="Be brief.")
    assert engine.chat(DOG).response == "Bruno."
    assert "called Bruno" in asked(script)
    assert "".join(engine.stream_chat("Really?").response_gen) == "Yes."
    turns = [("user", DOG), ("assistant", "Bruno."), ("user", "Really?"), ("assistant", "Yes.")]
    assert said_to(memos, "alice")[1:] == turns


def test_a_chat_engine_of_a_local_model_reads_a_conversation_once(memos: MemOS) -> None:
    """In the next turn of a chat engine the model reads only what is new."""
    system = "You speak of cats and dogs. " * 4
    llm = MemosLLM(memos, model=tiny_model(), user_id="alice", budget_tokens=0, max_tokens=4, capture=False)
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=buffer(), system_prompt=system)
    engine.chat("Hello.")
    engine.chat("And then?")
    raw = llm.chat([ChatMessage(system, role="system"), *engine.chat_history, ChatMessage("And?")]).raw
    assert isinstance(raw, dict)
    assert raw["usage"]["cached_tokens"] > len(system)


def test_beside_the_memory_everything_is_read_once(memos: MemOS) -> None:
    """With a `MemosMemory` in the same engine, which captures, memories stand in the prompt once."""
    llm, script = of(memos, "Bruno.", capture=False)
    memory = MemosMemory(memos, "now", user_id="alice", min_score=0.0)
    SimpleChatEngine.from_defaults(llm=llm, memory=memory).chat(DOG)
    assert asked(script).count("called Bruno") == 1
    assert said_to(memos, "alice")[1:] == [("user", DOG), ("assistant", "Bruno.")]


def test_a_query_engine_answers(memos: MemOS) -> None:
    """A query engine over memories has them in its prompt; nothing of the prompt is captured where that is chosen."""
    llm, script = of(memos, "Bruno.", capture=False, budget_tokens=0)
    retriever = MemosRetriever(memos, user_id="alice")
    engine = RetrieverQueryEngine.from_args(retriever, llm=llm)
    assert str(engine.query(DOG)) == "Bruno."
    assert "called Bruno" in asked(script)
    assert len(said_to(memos, "alice")) == 1


async def test_a_function_agent_says_that_it_cannot(memos: MemOS) -> None:
    """An agent that calls functions refuses an LLM that calls none."""
    llm, script = of(memos)
    with pytest.raises(ValueError, match="FunctionCallingLLM"):
        await FunctionAgent(tools=[FunctionTool.from_defaults(add)], llm=llm).run("What is 2 + 3?")
    assert script.prompts == []


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_react_agent_uses_tools_in_words(memos: MemOS, streaming: bool) -> None:
    """A ReAct agent calls its tool and answers; its reasoning and what tools return are no memory."""
    llm, script = of(
        memos,
        'Thought: I need a tool.\nAction: add\nAction Input: {"a": 2, "b": 3}',
        "Thought: I can answer without using any more tools.\nAnswer: It is 5.",
    )
    agent = ReActAgent(tools=[FunctionTool.from_defaults(add)], llm=llm, streaming=streaming)
    with nothing_blocks():
        done = await agent.run("What is 2 + 3?")
    assert str(done) == "It is 5."
    assert "Observation: 5" in asked(script)
    assert said_to(memos, "alice")[1:] == [("user", "What is 2 + 3?"), ("assistant", "It is 5.")]


async def test_a_workflow_of_agents_takes_it_for_what_it_is(memos: MemOS) -> None:
    """A workflow made for an LLM without functions reasons in words."""
    llm, _ = of(memos, "Thought: I can answer without using any more tools.\nAnswer: Bruno.")
    workflow = AgentWorkflow.from_tools_or_functions([add], llm=llm)
    assert str(await workflow.run(DOG)) == "Bruno."


def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b
