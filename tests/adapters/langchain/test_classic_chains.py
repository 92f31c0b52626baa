"""Memory in LangChain's classic chains and agents: each turn recalled for and kept once."""

from __future__ import annotations

import pytest
from langchain_classic.agents import AgentExecutor, create_tool_calling_agent
from langchain_classic.chains import ConversationChain, LLMChain
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool

from memos_adapters.langchain import MemosChatMessageHistory, MemosMemory
from memos_engine import AccessDenied, IdentityMissing, MemOS
from tests.adapters.langchain.remembered import captured, memory_of
from tests.adapters.langchain.scripted_model import ScriptedModel

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainDeprecationWarning")
ALICE: RunnableConfig = {"configurable": {"user_id": "alice", "session_id": "s1"}}
BOB: RunnableConfig = {"configurable": {"user_id": "bob", "session_id": "s1"}}
TEMPLATE = "Known:\n{memories}"
TEA = "Known:\n<memories>\nundated\n1 Alice drinks green tea.\n</memories>"


@pytest.fixture
def memos(memos: MemOS) -> MemOS:
    """Alice's memory of tea."""
    memory_of(memos, "alice").add("Alice drinks green tea.")
    return memos


@pytest.fixture
def memory(memos: MemOS) -> MemosMemory:
    """Alice's memory, which shows all it finds."""
    return MemosMemory(memos, user_id="alice", session_id="s1", template=TEMPLATE, min_score=0.0)


def conversation(memory: MemosMemory, *answers: str) -> ConversationChain:
    """LangChain's conversation, with a model that gives these answers."""
    return ConversationChain(llm=ScriptedModel(answers=list(answers)), memory=memory)


def requests(chain: LLMChain) -> list[list[BaseMessage]]:
    """What the chain's model was asked, call by call."""
    model = chain.llm
    assert isinstance(model, ScriptedModel)
    return model.requests


async def test_a_conversation_chain(memos: MemOS, memory: MemosMemory) -> None:
    """The default prompt is filled, and each turn is kept once, called or awaited."""
    chain = conversation(memory, "Green.", "Yes.")
    assert chain.invoke({"input": "Which tea does Alice drink?"})["response"] == "Green."
    await chain.ainvoke({"input": "Really?"})
    first, second = ("\n".join(str(each.text) for each in asked) for asked in requests(chain))
    assert "1 Alice drinks green tea." in first
    assert "Human: Which tea does Alice drink?\nAI: Green." in second
    assert captured(memos) == ["Which tea does Alice drink?", "Green.", "Really?", "Yes."]


def test_an_llm_chain_with_a_prompt(memos: MemOS) -> None:
    """A prompt of one's own: braces of a memory mean nothing in it, and a stream keeps the turn once too."""
    memory_of(memos, "alice").add("Alice's tea costs {price} in {0}.")
    prompt = PromptTemplate.from_template("{past}\nQ: {question}")
    memory = MemosMemory(memos, user_id="alice", memory_key="past", min_score=0.0)
    chain = LLMChain(llm=ScriptedModel(answers=["Five."]), prompt=prompt, memory=memory)
    list(chain.stream({"question": "What does the tea cost?"}))
    ((asked,),) = requests(chain)
    assert "costs {price} in {0}." in str(asked.text)
    assert captured(memos) == ["What does the tea cost?", "Five."]


def test_an_llm_chain_with_messages(memos: MemOS) -> None:
    """A placeholder gets messages."""
    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{question}")])
    memory = MemosMemory(memos, user_id="alice", return_messages=True, template=TEMPLATE, min_score=0.0)
    chain = LLMChain(llm=ScriptedModel(answers=["Green."]), prompt=prompt, memory=memory)
    chain.invoke({"question": "Which green tea?"})
    chain.invoke({"question": "Hm?"})
    assert requests(chain)[0] == [SystemMessage(TEA), HumanMessage("Which green tea?")]
    assert [type(each) for each in requests(chain)[1]][-3:] == [HumanMessage, AIMessage, HumanMessage]


def test_a_chain_that_fails_keeps_nothing(memos: MemOS, memory: MemosMemory) -> None:
    """When the model raises, no half of a turn is kept."""
    chain = LLMChain(
        llm=ScriptedModel(answers=[OSError("no model")]),
        prompt=PromptTemplate.from_template("{history}{input}"),
        memory=memory,
    )
    with pytest.raises(OSError, match="no model"):
        chain.invoke({"input": "Hello"})
    assert captured(memos) == []
    assert memory.load_memory_variables({}) == {"history": ""}


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}."


async def test_an_agent_executor(memos: MemOS) -> None:
    """An agent's steps are not its answer: the turn is kept once, steps returned or not."""
    call = AIMessage(
        "", tool_calls=[{"name": "weather", "args": {"city": "Rome"}, "id": "c", "type": "tool_call"}]
    )
    model = ScriptedModel(answers=[call, "It is sunny.", call, "Still sunny."])
    prompt = ChatPromptTemplate.from_messages(
        [MessagesPlaceholder("history"), ("human", "{input}"), MessagesPlaceholder("agent_scratchpad")]
    )
    memory = MemosMemory(memos, user_id="alice", return_messages=True)
    executor = AgentExecutor(
        agent=create_tool_calling_agent(model, [weather], prompt),
        tools=[weather],
        memory=memory,
        return_intermediate_steps=True,
    )
    assert executor.invoke({"input": "Weather in Rome?"})["output"] == "It is sunny."
    assert (await executor.ainvoke({"input": "And now?"}))["output"] == "Still sunny."
    assert captured(memos) == ["Weather in Rome?", "It is sunny.", "And now?", "Still sunny."]


async def test_inside_of_a_runnable_its_config_counts(memos: MemOS) -> None:
    """A chain within another runnable shows this memory its config; one that is called alone does not."""
    memory = MemosMemory(memos)
    chain = RunnableLambda(lambda said: said) | conversation(memory, "Hi Ann", "Hi Bob")
    chain.invoke({"input": "I am Alice"}, ALICE)
    await chain.ainvoke({"input": "I am Bob"}, BOB)
    assert captured(memos) == ["I am Alice", "Hi Ann"]
    assert captured(memos, "bob") == ["I am Bob", "Hi Bob"]
    assert len(MemosChatMessageHistory(memos, "s1", user_id="bob").messages) == 2
    with pytest.raises(IdentityMissing):
        conversation(memory, "Hi").invoke({"input": "I am Alice"}, ALICE)
    bound = RunnableLambda(lambda said: said) | conversation(MemosMemory(memos, user_id="alice"), "Hi")
    with pytest.raises(AccessDenied):
        bound.invoke({"input": "I am Bob"}, BOB)
    assert captured(memos, "bob") == ["I am Bob", "Hi Bob"]
