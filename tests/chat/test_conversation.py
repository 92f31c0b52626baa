"""What a model is to answer, made of messages in any roles."""

from __future__ import annotations

import pytest

from memos_engine import BadInput, Message
from memos_engine.chat.conversation import Conversation, conversation_of
from memos_engine.ports import ChatMessage


def told(*messages: Message) -> list[tuple[str, str]]:
    """Role and text of every message as the model reads it, the last one included."""
    found = conversation_of(messages)
    return [*((each.role, each.content) for each in found.before), ("user", found.question)]


def test_three_roles_stay() -> None:
    """A conversation in a model's own roles is read as it is."""
    found = conversation_of(
        [
            Message("system", "Be brief."),
            Message("user", "Hi"),
            Message("assistant", "Hello."),
            Message("user", "Where?"),
        ]
    )
    assert found == Conversation(
        before=(
            ChatMessage("system", "Be brief."),
            ChatMessage("user", "Hi"),
            ChatMessage("assistant", "Hello."),
        ),
        question="Where?",
        query="Where?",
        new=(Message("user", "Where?"),),
        said=frozenset(
            {("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Where?")}
        ),
    )


def test_other_roles_are_told_by_name() -> None:
    """A tool's result is on the user's side, with its name in front, and is no query for memory."""
    found = conversation_of(
        [
            Message("user", "Weather?"),
            Message("assistant", "I look."),
            Message("tool", "Rain.", name="forecast"),
        ]
    )
    assert found.question == "forecast: Rain."
    assert found.new == (Message("tool", "Rain.", name="forecast"),)
    assert told(Message("user", "Go on"), Message("function", "42")) == [("user", "Go on\n\nfunction: 42")]
    assert told(Message("developer", "Be brief."), Message("user", "Hi"))[0] == ("system", "Be brief.")


def test_the_query_is_what_the_user_said_last() -> None:
    """Behind a tool's result stands the user's own question."""
    found = conversation_of([Message("user", "Weather in Porto?"), Message("tool", "Rain.")])
    assert found.query == "Weather in Porto?"
    assert len(found.new) == 2


def test_neighbours_of_one_side_are_one_message() -> None:
    """Templates that take turns only can read several messages of one side."""
    assert told(
        Message("user", "One"), Message("user", "Two"), Message("assistant", "A"), Message("assistant", "B"),
        Message("user", "Three"),
    ) == [("user", "One\n\nTwo"), ("assistant", "A\n\nB"), ("user", "Three")]  # fmt: skip


def test_two_names_are_told_apart() -> None:
    """One user's name is not repeated on every line; two users' are."""
    one = [
        Message("user", "Hi", name="Ann"),
        Message("assistant", "Hello."),
        Message("user", "Where?", name="Ann"),
    ]
    assert told(*one) == [("user", "Hi"), ("assistant", "Hello."), ("user", "Where?")]
    two = [Message("user", "Hi", name="Ann"), Message("user", "Where?", name="Bob"), Message("user", "Here")]
    assert told(*two) == [("user", "Ann: Hi\n\nBob: Where?\n\nHere")]


@pytest.mark.parametrize("role", ["assistant", "system", "developer"])
def test_something_must_be_answered(role: str) -> None:
    """A conversation that ends with the assistant or the system asks nothing; one without messages neither."""
    with pytest.raises(BadInput, match=f"last message is of role '{role}'"):
        conversation_of([Message("user", "Hi"), Message(role, "Hello.")])
    with pytest.raises(BadInput, match="messages is empty"):
        conversation_of([])
