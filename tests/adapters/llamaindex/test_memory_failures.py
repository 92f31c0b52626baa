"""The memory while its embedder fails: turns go on, and nothing that was said is lost."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from llama_index.core.base.llms.types import ChatMessage, MessageRole

from memos_adapters.llamaindex.memory import MemosMemory
from memos_engine import MemOS, Scope
from memos_engine.ports import Vectors
from memos_engine.testing.fakes import HashEmbedder


def user(text: str) -> ChatMessage:
    """What the user says."""
    return ChatMessage(text)


def assistant(text: str) -> ChatMessage:
    """What the assistant says."""
    return ChatMessage(text, role=MessageRole.ASSISTANT)


class FailingEmbedder(HashEmbedder):
    """Fails while it is told to."""

    fails = False

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Fail, or embed."""
        if self.fails:
            raise RuntimeError("no weights today")
        return super().embed(texts)


@pytest.fixture
def embedder() -> FailingEmbedder:
    """An embedder that works until a test says otherwise."""
    return FailingEmbedder()


@pytest.fixture
def fragile(tmp_path: Path, embedder: FailingEmbedder) -> Iterator[MemOS]:
    """A root with that embedder."""
    with MemOS.open(tmp_path / "fragile", embedder=embedder, background=False) as memos:
        yield memos


def captured(memos: MemOS) -> list[str]:
    """The turns that Alice's cube holds, in the order they were captured."""
    cube = memos.acting_as(Scope("alice")).cube("memories")
    return [item.text for item in sorted(cube.list(kinds=["episode"]), key=lambda item: item.id)]


def test_memory_that_fails_leaves_the_turn_alone(
    fragile: MemOS, embedder: FailingEmbedder, caplog: pytest.LogCaptureFixture
) -> None:
    """Without an embedder the turn goes on with its history; both failures are counted and told, without its words."""
    memory = MemosMemory(fragile, "s", user_id="alice", timeout_s=None)
    memory.put(user("My dog is called Bruno."))
    embedder.fails = True
    with caplog.at_level(logging.WARNING):
        memory.put(user("What is my dog called?"))
        assert memory.get()[-1] == user("What is my dog called?")
    assert memory.failed_captures == 1
    assert memory.counts.failed == 2
    told = [record for record in caplog.records if record.name.startswith("memos_adapters.")]
    assert [record.__dict__["error"] for record in told] == ["RuntimeError"] * 3
    assert "Bruno" not in str([record.__dict__ for record in told])
    with pytest.raises(RuntimeError, match="no weights"):
        MemosMemory(fragile, "s", user_id="alice", strict=True).put(assistant("Hm."))


def test_what_could_not_be_captured_is_captured_later(fragile: MemOS, embedder: FailingEmbedder) -> None:
    """The next `put` that succeeds makes up for those before it, of the same memory or of another one."""
    memory, other = (MemosMemory(fragile, "s", user_id="alice") for _ in range(2))
    memory.put(assistant("one"))
    embedder.fails = True
    memory.put(assistant("two"))
    other.put(assistant("three"))
    embedder.fails = False
    memory.put(assistant("four"))
    assert captured(fragile) == ["one", "two", "three", "four"]
    memory.reset()
    embedder.fails = True
    for text in ("five", "six", "seven", "eight"):
        other.put(assistant(text))
    embedder.fails = False
    memory.put(assistant("nine"))
    assert captured(fragile)[4:] == ["five", "six", "seven", "eight", "nine"]
