"""Recall before an agent's turn and capture after it, for a loop without a framework."""

from __future__ import annotations

import dataclasses

import pytest

from memos_adapters.hooks import capture_after, recall_before
from memos_engine import AccessDenied, BadLimit, MemCube, MemOS, Message, MessageConflict, Scope


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


def test_errors_pass_through(memos: MemOS, cube: MemCube) -> None:
    """Conflicts, limits and rights are the cube's own."""
    message = Message("user", "hello", id="m1")
    capture_after(cube, [message], thread="t")
    with pytest.raises(MessageConflict):
        capture_after(cube, [dataclasses.replace(message, text="bye")], thread="t")
    with pytest.raises(BadLimit):
        recall_before(cube, [message], budget_tokens=0)
    stranger = MemCube(cube._host, cube.info, Scope(user="mallory"))
    with pytest.raises(AccessDenied):
        recall_before(stranger, [message])
    with pytest.raises(AccessDenied):
        capture_after(stranger, [message], thread="t")
