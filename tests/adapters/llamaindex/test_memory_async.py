"""The memory in event loops and threads: it blocks none, belongs to none, and its turn waits only so long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from blockbuster import BlockingError
from llama_index.core.base.llms.types import ChatMessage, MessageRole

from memos_adapters.llamaindex.block import MemosMemoryBlock
from memos_adapters.llamaindex.chat_store import MemosChatStore, MemosSimpleChatStore
from memos_adapters.llamaindex.memory import MemosMemory
from memos_adapters.llamaindex.postprocessor import MemosPostprocessor
from memos_adapters.llamaindex.retriever import MemosRetriever
from memos_adapters.llamaindex.tools import MemosToolSpec
from memos_engine import MemOS, Scope
from memos_engine.ports import Vectors
from memos_engine.testing.fakes import HashEmbedder
from tests.adapters.loop_guard import SlowEmbedder, nothing_blocks

HELLO = ChatMessage("My dog is called Bruno.")
FINE = ChatMessage("Fine.", role=MessageRole.ASSISTANT)
DOG = "What is my dog called?"


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[MemOS]:
    """A root whose embedder takes its time."""
    with MemOS.open(tmp_path / "slow", embedder=SlowEmbedder(), background=False) as memos:
        yield memos


async def test_nothing_waits_on_the_loop(slow: MemOS) -> None:
    """Every coroutine of every component, made in the loop, leaves the loop alone while memory is slow."""
    await asyncio.to_thread(
        MemosMemory(slow, "warm", user_id="bob").get, "up"
    )  # reads the tokenizer from disk
    with nothing_blocks():
        memory = MemosMemory(slow, "s", user_id="alice")
        await memory.aput(HELLO)
        await memory.aput_messages([FINE, ChatMessage(DOG)])
        assert len(await memory.aget()) == 3
        await memory.aset([HELLO])
        assert await memory.aget_all() == [HELLO]
        block = MemosMemoryBlock(slow, user_id="alice")
        assert "Bruno" in await block.aget([ChatMessage(DOG)], session_id="t")
        await block.aput([HELLO], from_short_term_memory=True, session_id="t")
        assert "Bruno" in str(await MemosRetriever(slow, user_id="alice").aretrieve(DOG))
        assert "Bruno" in str(
            await MemosPostprocessor(slow, user_id="alice").apostprocess_nodes([], query_str=DOG)
        )
        tools = MemosToolSpec(slow, user_id="alice")
        assert "Bruno" in await tools.asearch_memory("dog")
        await MemosChatStore(slow, user_id="alice").add_message("k", HELLO)
        await MemosSimpleChatStore(slow, user_id="alice").async_add_message("k", HELLO)
        await memory.areset()


def test_the_guard_finds_what_waits(slow: MemOS) -> None:
    """A plain call on the loop is found, so the test above could fail."""

    async def on_the_loop() -> None:
        with nothing_blocks():
            MemosMemory(slow, "s", user_id="alice").put(HELLO)

    with pytest.raises(BlockingError):
        asyncio.run(on_the_loop())


async def test_plain_calls_work_inside_a_loop(memos: MemOS) -> None:
    """The calls without `await` need no loop of their own, and work where one runs."""
    memory = MemosMemory(memos, "s", user_id="alice")
    memory.put(HELLO)
    assert memory.get() == [HELLO]
    memory.set([HELLO, FINE])
    assert await memory.aget_all() == [HELLO, FINE]
    memory.reset()


def test_a_memory_belongs_to_no_loop(memos: MemOS) -> None:
    """One object serves one loop after another."""
    memory = MemosMemory(memos, "s", user_id="alice")
    for n in range(3):
        asyncio.run(memory.aput(ChatMessage(f"number {n}")))
        assert len(asyncio.run(memory.aget())) == n + 1


async def test_sessions_do_not_wait_for_each_other(slow: MemOS) -> None:
    """Turns of many sessions at once all end, each with its own."""
    memories = [MemosMemory(slow, f"s{n}", user_id=f"user {n}") for n in range(6)]
    await asyncio.gather(*(memory.aput(ChatMessage(f"I am {n}.")) for n, memory in enumerate(memories)))
    prompts = await asyncio.gather(*(memory.aget() for memory in memories))
    assert [prompt[0].content for prompt in prompts] == [f"I am {n}." for n in range(6)]


@pytest.mark.parametrize("strict", [False, True])
async def test_a_turn_waits_only_so_long(tmp_path: Path, strict: bool) -> None:
    """When recall takes too long the turn goes on without, which is counted; or fails, when that is wished."""
    go_on = threading.Event()

    class Stuck(HashEmbedder):
        stuck = False

        def embed(self, texts: Sequence[str]) -> Vectors:
            if self.stuck:
                assert go_on.wait(30), "nobody let the embedder go on"
            return super().embed(texts)

    embedder = Stuck()
    with MemOS.open(tmp_path / "stuck", embedder=embedder, background=False) as memos:
        MemosMemory(memos, "earlier", user_id="alice").put(HELLO)
        memory = MemosMemory(memos, "s", user_id="alice", timeout_s=0.05, strict=strict)
        embedder.stuck = True
        try:
            if strict:
                with pytest.raises(TimeoutError):
                    await memory.aget(input=DOG)
            else:
                assert await memory.aget(input=DOG) == []
                assert memory.get(input=DOG) == []
                assert memory.counts.timed_out == 2
        finally:
            go_on.set()


async def test_a_cancelled_turn_leaves_the_memory_in_order(slow: MemOS) -> None:
    """A turn that is given up may be logged or not; the next one goes on, and both are captured once."""
    memory = MemosMemory(slow, "s", user_id="alice")
    turn = asyncio.create_task(memory.aput(HELLO))
    await asyncio.sleep(0.05)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    await memory.aput(FINE)
    logged = [message.content for message in await memory.aget_all()]
    cube = slow.acting_as(Scope("alice")).cube("memories")
    captured = [item.text for item in cube.list(kinds=["episode"])]
    assert sorted(captured) == sorted(str(text) for text in logged)
    assert "Fine." in captured
