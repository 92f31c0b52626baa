"""Memory of classic chains: what fills the prompt, what of a chain's turn is kept, and for whom."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_classic.base_memory import BaseMemory
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig

from memos_adapters.langchain import MemosChatMessageHistory, MemosMemory
from memos_engine import (
    BadInput,
    BadLimit,
    EmbedderUnavailable,
    IdentityMissing,
    MemCube,
    MemOS,
    Scope,
)
from tests.adapters.langchain.remembered import BreakableEmbedder, captured, memory_of
from tests.adapters.loop_guard import SlowEmbedder, nothing_blocks

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


# What fills the prompt


async def test_memories_and_the_last_turns(memory: MemosMemory) -> None:
    """The variable is filled with memories about the input and the last turns, sync and awaited."""
    assert isinstance(memory, BaseMemory)
    assert memory.memory_variables == ["history"]
    assert memory.load_memory_variables({"input": "Hm?"}) == {"history": ""}
    memory.save_context({"input": "Hello"}, {"output": "Hi there"})
    await memory.asave_context({"input": "I am here"}, {"output": "I see"})
    turns = "Human: Hello\nAI: Hi there\nHuman: I am here\nAI: I see"
    assert memory.load_memory_variables({}) == {"history": turns}
    filled = memory.load_memory_variables({"input": "green tea"})["history"]
    assert filled.startswith("Known:\n<memories>\n")
    assert "Alice drinks green tea." in filled
    assert filled.endswith(f"</memories>\n\n{turns}")
    assert await memory.aload_memory_variables({"input": "green tea"}) == {"history": filled}


async def test_messages_for_a_placeholder(memos: MemOS) -> None:
    """With `return_messages` the memories are a system message before the turns' messages."""
    memory = MemosMemory(memos, user_id="alice", template=TEMPLATE, min_score=0.0, return_messages=True)
    assert memory.load_memory_variables({"input": "green tea"}) == {"history": [SystemMessage(TEA)]}
    memory.save_context({"input": "Hello"}, {"output": "Hi"})
    turns = [HumanMessage("Hello"), AIMessage("Hi")]
    assert memory.load_memory_variables({}) == {"history": turns}
    assert (await memory.aload_memory_variables({}))["history"] == turns


def test_the_window_is_of_turns(memos: MemOS) -> None:
    """Only the last `window` turns stand in the prompt; all of them stay in the log."""
    memory = MemosMemory(memos, user_id="alice", session_id="s1", window=2, human_prefix="U", ai_prefix="A")
    for n in range(4):
        memory.save_context({"input": f"q{n}"}, {"output": f"a{n}"})
    assert memory.load_memory_variables({}) == {"history": "U: q2\nA: a2\nU: q3\nA: a3"}
    assert len(MemosChatMessageHistory(memos, "s1", user_id="alice").messages) == 8


def test_without_a_window(memos: MemOS) -> None:
    """With `window=0` memories alone are shown, no log is kept, and equal turns are all captured."""
    memory = MemosMemory(memos, user_id="alice", window=0, template=TEMPLATE, min_score=0.0)
    for _ in range(2):
        memory.save_context({"input": "yes"}, {"output": "ok"})
    assert memory.load_memory_variables({}) == {"history": ""}
    assert captured(memos) == ["yes", "ok", "yes", "ok"]
    assert memos.acting_as(Scope("alice")).threads.threads() == []
    memory.clear()
    assert "green tea" in memory.load_memory_variables({"input": "green tea"})["history"]


def test_a_cube_is_a_memory(cube: MemCube) -> None:
    """A cube serves without a window, since it keeps no log."""
    cube.add("Alice drinks green tea.")
    memory = MemosMemory(cube, window=0, template=TEMPLATE, min_score=0.0)
    assert memory.load_memory_variables({"input": "green tea"}) == {"history": TEA}
    memory.save_context({"input": "I moved to Lisbon."}, {"output": "Oh"})
    assert {item.text for item in cube.list(kinds=["episode"])} == {"I moved to Lisbon.", "Oh"}
    with pytest.raises(BadInput, match="window=0"):
        MemosMemory(cube)


def test_clear_ends_the_conversation(memos: MemOS, memory: MemosMemory) -> None:
    """After `clear` no turns are shown; what was captured is remembered."""
    memory.save_context({"input": "My cello is from 1890"}, {"output": "Old!"})
    memory.clear()
    assert memory.load_memory_variables({}) == {"history": ""}
    assert "1890" in memory.load_memory_variables({"input": "My cello"})["history"]
    memory.save_context({"input": "Hello"}, {"output": "Hi"})
    asyncio.run(memory.aclear())
    assert memory.load_memory_variables({}) == {"history": ""}


# What is kept of a turn


def test_our_own_variable_is_no_input(memos: MemOS) -> None:
    """A chain hands back what this memory filled in: neither it nor `stop` is taken for what was said."""
    memory = MemosMemory(memos, user_id="alice", memory_key="context")
    memory.save_context({"context": TEA, "stop": ["\n"], "question": "Hello"}, {"text": "Hi"})
    assert captured(memos) == ["Hello", "Hi"]
    assert memory.load_memory_variables({"context": TEA}) == {"context": "Human: Hello\nAI: Hi"}


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"anything": "kept"}, "kept"),
        ({"output": "kept", "intermediate_steps": [("act", "saw")]}, "kept"),
        ({"source_documents": [], "answer": "kept"}, "kept"),
        ({"result": "kept", "source_documents": []}, "kept"),
        ({"output": AIMessage("kept")}, "kept"),
        ({"output": [AIMessage("kept")]}, "kept"),
    ],
)
def test_which_output_is_the_answer(memos: MemOS, outputs: dict[str, Any], expected: str) -> None:
    """The only output, or the one by a usual name, is the answer."""
    MemosMemory(memos, user_id="alice").save_context({"input": "Hello"}, outputs)
    assert captured(memos) == ["Hello", expected]


def test_keys_are_chosen(memos: MemOS) -> None:
    """Keys that are named are taken whatever else is there."""
    memory = MemosMemory(memos, user_id="alice", input_key="question", output_key="note")
    memory.save_context({"question": "Hello", "tone": "dry"}, {"output": "not this", "note": "Hi"})
    assert captured(memos) == ["Hello", "Hi"]


def test_what_cannot_be_told_is_refused(memos: MemOS) -> None:
    """Several keys and none named is an error that lists them, at load as at save; so is what is no text."""
    memory = MemosMemory(memos, user_id="alice")
    with pytest.raises(BadInput, match=r"\['question', 'tone'\].*input_key="):
        memory.load_memory_variables({"question": "Hello", "tone": "dry"})
    with pytest.raises(BadInput, match="input_key="):
        memory.save_context({}, {"output": "Hi"})
    with pytest.raises(BadInput, match=r"\['a', 'b'\].*output_key="):
        memory.save_context({"input": "Hello"}, {"a": "x", "b": "y"})
    with pytest.raises(BadInput, match="dict"):
        memory.save_context({"input": "Hello"}, {"output": {"no": "text"}})
    with pytest.raises(BadInput, match="input_key is 'question'"):
        MemosMemory(memos, user_id="alice", input_key="question").load_memory_variables({"input": "Hello"})
    assert captured(memos) == []


def test_recalled_memories_are_no_memory(memos: MemOS) -> None:
    """A block of memories in what was said is not captured again."""
    memory = MemosMemory(memos, user_id="alice")
    memory.save_context({"input": f"{TEA.removeprefix('Known:')}\nWhich tea?"}, {"output": "Green."})
    assert captured(memos) == ["Which tea?", "Green."]


# For whom


def test_nobody_named_is_refused(memos: MemOS) -> None:
    """A memory that is bound to nobody serves nobody, and writes nothing."""
    memory = MemosMemory(memos)
    calls = [
        lambda: memory.load_memory_variables({}),
        lambda: memory.save_context({"input": "a"}, {"output": "b"}),
        memory.clear,
    ]
    for call in calls:
        with pytest.raises(IdentityMissing):
            call()
    assert [cube.name for cube in memos.cubes()] == ["memories"]


def test_copies_act_as_whom_they_name(memos: MemOS, memory: MemosMemory) -> None:
    """A changed copy is another user's memory, never the first one's."""
    memory.save_context({"input": "Hello"}, {"output": "Hi"})
    assert copy.copy(memory).load_memory_variables({}) == {"history": "Human: Hello\nAI: Hi"}
    assert memory.model_copy(update={"user_id": "bob"}).load_memory_variables({}) == {"history": ""}


def test_sessions_and_agents_are_apart(memos: MemOS) -> None:
    """Sessions have logs of their own; with isolation by agent, agents have memories, and must be named."""
    first = MemosMemory(memos, user_id="alice", session_id="one")
    first.save_context({"input": "Hello"}, {"output": "Hi"})
    assert MemosMemory(memos, user_id="alice", session_id="two").load_memory_variables({}) == {"history": ""}
    nameless = MemosMemory(memos, user_id="alice", isolation="session")
    with pytest.raises(IdentityMissing, match="session"):
        nameless.save_context({"input": "Hello"}, {"output": "Hi"})
    cook = MemosMemory(memos, user_id="alice", agent_id="cook", isolation="agent", window=0)
    cook.save_context({"input": "Salt."}, {"output": "Yes."})
    names = [cube.name for cube in memos.acting_as(Scope("alice")).cubes()]
    assert names == ["memories", "memories/agent:cook"]


def test_the_handle_is_in_no_dump(memos: MemOS, memory: MemosMemory) -> None:
    """Settings can be dumped and shown; the engine's handle is in none of it."""
    assert "memos" not in json.loads(memory.model_dump_json())
    assert "MemOS" not in repr(memory)


def test_senseless_settings_are_refused_at_once(memos: MemOS) -> None:
    """What every call would refuse, the constructor refuses."""
    with pytest.raises(BadLimit, match="window is -1"):
        MemosMemory(memos, window=-1)
    with pytest.raises(BadInput, match="template"):
        MemosMemory(memos, template="no place")
    with pytest.raises(BadInput, match="timeout_s"):
        MemosMemory(memos, timeout_s=0)
    with pytest.raises(BadInput, match=r"MemOS\.open"):
        MemosMemory("memories")  # type: ignore[arg-type] # -- what is tested


# When memory fails


@pytest.fixture
def failing() -> BreakableEmbedder:
    """An embedder to break."""
    return BreakableEmbedder()


@pytest.fixture
def fragile(tmp_path: Path, failing: BreakableEmbedder) -> Iterator[MemOS]:
    """Alice's memory of tea, whose embedder may break."""
    with MemOS.open(tmp_path / "fragile", embedder=failing, background=False) as memos:
        memory_of(memos, "alice").add("Alice drinks green tea.")
        yield memos


async def test_a_turn_goes_on_without_memories(fragile: MemOS, failing: BreakableEmbedder) -> None:
    """Recall that is late or fails leaves the memories out, and is counted; `strict` raises."""
    memory = MemosMemory(fragile, user_id="alice", min_score=0.0, timeout_s=0.05)
    failing.delay_s = 0.5
    assert memory.load_memory_variables({"input": "green tea"}) == {"history": ""}
    assert await memory.aload_memory_variables({"input": "green tea"}) == {"history": ""}
    assert memory.counts.timed_out == 2
    failing.delay_s, failing.broken = 0.0, True
    assert memory.load_memory_variables({"input": "tea"}) == {"history": ""}
    assert memory.counts.failed == 1
    with pytest.raises(EmbedderUnavailable):
        MemosMemory(fragile, user_id="alice", strict=True).load_memory_variables({"input": "tea"})


def test_a_failed_save_is_told_and_made_good(fragile: MemOS, failing: BreakableEmbedder) -> None:
    """What could not be captured is raised, stands in the log, and is captured with the next turn."""
    memory = MemosMemory(fragile, user_id="alice")
    failing.broken = True
    with pytest.raises(EmbedderUnavailable):
        memory.save_context({"input": "one"}, {"output": "two"})
    failing.broken = False
    memory.save_context({"input": "three"}, {"output": "four"})
    assert captured(fragile) == ["one", "two", "three", "four"]


async def test_async_methods_do_not_block_the_loop(tmp_path: Path) -> None:
    """While the model embeds and the disk is read, other coroutines run."""
    with MemOS.open(tmp_path / "slow", embedder=SlowEmbedder(), background=False) as memos:
        for memory in (MemosMemory(memos, user_id="alice"), MemosMemory(memos, user_id="bob", window=0)):
            with nothing_blocks():
                await memory.asave_context({"input": "My cello is from 1890."}, {"output": "Old!"})
                filled = await memory.aload_memory_variables({"input": "When is my cello from?"})
                await memory.aclear()
            assert "1890" in filled["history"]
