"""The calls that the published system shows work as documented there, each user apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memos_engine import MOS, BadInput, BadTime, CaptureResult, Closed, MemoryItem, MemOS, Message
from memos_engine.testing.fakes import HashEmbedder


@pytest.fixture
def mos(tmp_path: Path) -> Iterator[MOS]:
    """An open front."""
    with MOS.simple(tmp_path / "root", embedder=HashEmbedder()) as opened:
        yield opened


def memories(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The texts of a search's result."""
    assert list(found) == ["text_mem"]
    return [memory["memory"] for part in found["text_mem"] for memory in part["memories"]]


def test_the_published_calls(mos: MOS) -> None:
    """What a user added as messages or as a text is found by the same user."""
    result = mos.add(
        messages=[
            {"role": "user", "content": "I love playing football."},
            {"role": "assistant", "content": "Football is great fun!"},
        ],
        user_id="alice",
    )
    assert isinstance(result, CaptureResult)
    assert result.new == 2
    item = mos.add(memory_content="Plays football on Sundays", user_id="alice")
    assert isinstance(item, MemoryItem)
    found = mos.search(query="football", user_id="alice")
    assert set(memories(found)) >= {"I love playing football.", "Plays football on Sundays"}
    memory: dict[str, Any] = found["text_mem"][0]["memories"][0]  # type: ignore[index] # -- JSON
    assert set(memory) == {"id", "memory", "score", "why", "metadata"}
    assert found["text_mem"][0]["cube_id"] == "default"
    assert len(memories(mos.search("football", user_id="alice", top_k=1))) == 1


def test_users_and_cubes_are_apart(mos: MOS) -> None:
    """Nobody finds what another added, and one user's cubes are apart."""
    mos.add(memory_content="the code is quokka", user_id="alice")
    mos.add(memory_content="the code is narwhal", user_id="alice", mem_cube_id="work")
    assert memories(mos.search("quokka narwhal", user_id="bob")) == []
    assert memories(mos.search("quokka narwhal")) == []
    assert memories(mos.search("quokka narwhal", user_id="alice")) == ["the code is quokka"]
    assert memories(mos.search("quokka narwhal", user_id="alice", mem_cube_id="work")) == [
        "the code is narwhal"
    ]


def test_messages_keep_id_name_and_time(mos: MOS) -> None:
    """The published fields of a message stand on its episode, and an id is captured once."""
    said: dict[str, object] = {
        "role": "user", "content": "hello quokka", "message_id": "m1", "name": "Ann",
        "chat_time": "2025-05-08T13:56:00+02:00",
    }  # fmt: skip
    for _ in range(2):
        mos.add(messages=[said, Message("assistant", "hi", id="m2")], session_id="s")
    metadata: Any = mos.search("quokka")["text_mem"][0]["memories"][0]  # type: ignore[index] # -- JSON
    assert metadata["metadata"] == {
        "type": "episode", "speaker": "Ann", "event_at": datetime(2025, 5, 8, 11, 56, tzinfo=UTC),
    }  # fmt: skip
    assert len([text for text in memories(mos.search("quokka", top_k=50)) if text == "hello quokka"]) == 1


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "needs either"),
    ({"messages": [], "memory_content": "x"}, "needs either"),
    ({"memory_content": ""}, "leave it out"),
    ({"messages": ["text"]}, "hand over"),
    ({"messages": [{"role": "user"}]}, "hand over"),
    ({"messages": [{"role": "user", "content": 5}]}, "hand over"),
    ({"messages": [{"role": "user", "content": "x", "chat_time": "noon"}]}, "ISO 8601"),
    ({"messages": [{"role": "user", "content": " "}]}, "leave it out"),
]


@pytest.mark.parametrize(("arguments", "cure"), BAD, ids=repr)
def test_bad_input(mos: MOS, arguments: dict[str, Any], cure: str) -> None:
    """What cannot be taken is refused with the cure, and nothing is stored."""
    with pytest.raises(BadInput, match=cure):
        mos.add(**arguments)
    assert memories(mos.search("x")) == []


def test_a_naive_chat_time(mos: MOS) -> None:
    """A chat time without a zone is refused."""
    with pytest.raises(BadTime, match="say which"):
        mos.add(messages=[{"role": "user", "content": "x", "chat_time": "2025-05-08T13:56:00"}])


def test_it_is_the_same_root(tmp_path: Path) -> None:
    """What MOS added is in the root that MemOS opens, and a closed MOS says so."""
    with MOS.simple(tmp_path / "root", embedder=HashEmbedder(), user_id="ann") as mos:
        mos.add(memory_content="the code is quokka")
    with pytest.raises(Closed):
        mos.search("quokka")
    with MemOS.open(tmp_path / "root", embedder=HashEmbedder(), background=False) as memos:
        assert [(row.owner, row.name) for row in memos.cubes()] == [("user:ann", "default")]
        assert memos.check().ok


def test_tool_calls_and_foreign_keys_are_passed_over(mos: MOS) -> None:
    """A chat log as services return it is taken: what only calls tools says nothing, other keys mean nothing here."""
    log: list[Mapping[str, object]] = [
        {"role": "user", "content": "I live in Lisbon", "refusal": None},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "assistant", "content": "Noted."},
    ]
    result = mos.add(log)
    assert isinstance(result, CaptureResult)
    assert result.new == 2
