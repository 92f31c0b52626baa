"""Recall before a turn and capture after it, as two functions over a cube, sync and awaited."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from memos_adapters.hooks import capture_after, recall_before, with_memories
from memos_engine import (
    AccessDenied,
    AsyncMemOS,
    BadInput,
    BadLimit,
    Context,
    MemCube,
    MemOS,
    Message,
    MessageConflict,
    Scope,
)
from memos_engine.testing.fakes import HashEmbedder


def test_a_loop_remembers(cube: MemCube) -> None:
    """What was said in one conversation is recalled in another, and each turn is captured once."""
    said: list[Message] = []
    for text, answer in (("I moved to Lisbon", "yes"), ("I like it", "yes"), ("I keep quokkas", "yes")):
        said.append(Message("user", text))
        recall_before(cube, said)
        said.append(Message("assistant", answer))
        assert capture_after(cube, said, thread="t1").new == 2
    assert capture_after(cube, said, thread="t1").new == 0
    assert [item.text for item in reversed(cube.list(kinds=["episode"]))] == [
        message.text for message in said
    ]
    context = recall_before(
        cube, [Message("user", "who keeps quokkas?"), Message("assistant", "Let me see.")]
    )
    assert "quokkas" in context.text


def test_the_latest_question_is_asked(cube: MemCube) -> None:
    """The last user message with words asks; without one the context is empty."""
    cube.add("narwhal facts")
    cube.add("quokka facts")
    asked = [
        Message("user", "narwhal"),
        Message("user", "quokka"),
        Message("user", " "),
        Message("tool", "narwhal"),
    ]
    assert recall_before(cube, asked).hits[0].item.text == "quokka facts"
    assert not recall_before(cube, [])
    assert not recall_before(cube, [Message("assistant", "quokka"), Message("user", "")])
    assert recall_before(cube, asked, budget_tokens=60).tokens <= 60


def test_only_remembered_roles_are_captured(cube: MemCube) -> None:
    """Tool output, system prompts and blank messages are left out, unless their role is asked for."""
    said = [
        Message("system", "be kind"),
        Message("user", "hello"),
        Message("tool", "{}"),
        Message("assistant", ""),
    ]
    assert capture_after(cube, said, thread="t").new == 1
    assert capture_after(cube, said, thread="t", roles=frozenset({"user", "tool"})).new == 1
    assert {item.role for item in cube.list()} == {"user", "tool"}
    assert capture_after(cube, [], thread="t").new == 0


def test_what_was_put_in_is_not_captured(cube: MemCube) -> None:
    """A conversation with memories in it asks, and is captured, as if they were not there."""
    cube.add("Alice keeps quokkas")
    asked = [{"role": "user", "content": "who keeps quokkas?"}]
    context = recall_before(cube, asked)
    templates = ("Known:\n{memories}", "{memories}")
    told = [with_memories(asked, context, template) for template in templates]
    for template, messages in zip(templates, told, strict=True):
        assert "Alice" in messages[0]["content"]
        assert recall_before(cube, messages, template=template).hits == context.hits
    for template, messages in zip(templates, told, strict=True):
        capture_after(cube, messages, thread="t", template=template)
    assert [item.text for item in cube.list(kinds=["episode"])] == ["who keeps quokkas?"]


def test_errors_pass_through(memos: MemOS, cube: MemCube) -> None:
    """Conflicts, limits and rights are the cube's own; what is no list of messages is refused."""
    message = Message("user", "hello", id="m1")
    capture_after(cube, [message], thread="t")
    with pytest.raises(MessageConflict):
        capture_after(cube, [dataclasses.replace(message, text="bye")], thread="t")
    with pytest.raises(BadLimit):
        recall_before(cube, [message], budget_tokens=0)
    for wrong in ("hello", message, {"role": "user"}, [7], None):
        with pytest.raises(BadInput):
            recall_before(cube, wrong)  # type: ignore[arg-type] # -- the mistakes in question
        with pytest.raises(BadInput):
            capture_after(cube, wrong, thread="t")  # type: ignore[arg-type] # -- as above
    stranger = MemCube(cube._host, cube.info, Scope(user="mallory"))
    with pytest.raises(AccessDenied):
        recall_before(stranger, [message])
    with pytest.raises(AccessDenied):
        capture_after(stranger, [message], thread="t")


async def test_over_an_async_cube_they_are_awaited(tmp_path: Path) -> None:
    """The same two functions serve an `AsyncMemCube`."""
    async with await AsyncMemOS.open(tmp_path / "root", embedder=HashEmbedder(), background=False) as memos:
        cube = await memos.cube("alice")
        said = [{"role": "user", "content": "I keep quokkas"}]
        assert (await capture_after(cube, said, thread="t")).new == 1
        assert (await capture_after(cube, said, thread="t")).new == 0
        context = await recall_before(cube, [{"role": "user", "content": "who keeps quokkas?"}])
        assert "quokkas" in context.text
        assert await recall_before(cube, []) == Context()
        with pytest.raises(BadLimit):
            await recall_before(cube, said, budget_tokens=0)
