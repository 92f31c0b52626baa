"""Messages as a caller knows them become a conversation as a chat model reads it. Pure.

A model knows three roles. Whatever another one said (a tool, a second person in the room) is read as said
on the user's side, with who said it in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memos_engine.errors import BadInput
from memos_engine.items import Message
from memos_engine.ports import ChatMessage

__all__ = ["Conversation", "answered_part", "conversation_of"]

_SYSTEM = ("system", "developer")
_JOINT = "\n\n"
"""Between two messages of one side in a row: many templates take turns only."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a model is to answer, and what of it is new."""

    before: tuple[ChatMessage, ...]
    question: str
    """Text of the last message."""
    query: str
    """What memory is searched for: what the user said last."""
    new: tuple[Message, ...]
    """Messages after the last answer: those before were handed over in turns before."""
    said: frozenset[tuple[str, str]]
    """Role and text of every message: what stands there need not be remembered too."""


def conversation_of(messages: Sequence[Message]) -> Conversation:
    """The conversation that ends with what is to be answered.

    Roles `user`, `assistant` and `system` (or `developer`) are a model's own. A message of any other role,
    such as `tool`, is the user's, with its name or role in front; so are the user's own messages where they
    bear two names or more. Neighbours of one side become one message, with a blank line between.

    Raises:
        BadInput: there is no message, or the last one is the assistant's or the system's.
    """
    if not messages:
        raise BadInput(
            "messages is empty: hand over at least what the user says, as in [Message('user', text)]"
        )
    last = messages[-1]
    if last.role == "assistant" or last.role in _SYSTEM:
        raise BadInput(
            f"the last message is of role {last.role!r}: it must be what is to be answered, as in Message('user', text)"
        )
    told = _sides(messages)
    answered = max((place for place, each in enumerate(messages) if each.role == "assistant"), default=-1)
    new = tuple(messages[answered + 1 :])
    asked = [message for message in new if message.role == "user"] or [last]
    return Conversation(
        before=tuple(told[:-1]),
        question=told[-1].content,
        query=asked[-1].text,
        new=new,
        said=frozenset((message.role, message.text) for message in messages),
    )


def answered_part(messages: Sequence[Message]) -> tuple[ChatMessage, ...]:
    """The conversation up to what is still to be answered: what stands before any question that goes on from it.

    Raises:
        BadInput: there is nothing.
    """
    told = _sides(messages)
    if told and told[-1].role == "user":
        told.pop()
    if not told:
        raise BadInput(
            "messages hold nothing but what is to be answered: hand over what comes before it, such as the system "
            "prompt or the conversation so far"
        )
    return tuple(told)


def _sides(messages: Sequence[Message]) -> list[ChatMessage]:
    """The messages in a model's own roles, neighbours of one side joined."""
    names = {message.name for message in messages if message.role == "user" and message.name}
    told: list[ChatMessage] = []
    for message in messages:
        mine = _told(message, named=len(names) > 1)
        if told and told[-1].role == mine.role:
            mine = ChatMessage(mine.role, f"{told.pop().content}{_JOINT}{mine.content}")
        told.append(mine)
    return told


def _told(message: Message, *, named: bool) -> ChatMessage:
    if message.role in _SYSTEM:
        return ChatMessage("system", message.text)
    if message.role == "assistant":
        return ChatMessage("assistant", message.text)
    if message.role == "user":
        return ChatMessage(
            "user", f"{message.name}: {message.text}" if named and message.name else message.text
        )
    return ChatMessage("user", f"{message.name or message.role}: {message.text}")
