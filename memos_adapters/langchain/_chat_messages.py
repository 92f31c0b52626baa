"""LangChain's messages as the prompt of a model that reads text, what of them is captured, and the answer as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from memos_adapters._capture import REMEMBERED_ROLES
from memos_adapters._chat import said_in_prompt, told_of
from memos_adapters._langchain_messages import ROLES, handed_over, to_engine, whole_message
from memos_adapters._text import own_words
from memos_engine import BadInput, ChatAnswer, Message

_UNREADABLE = {
    "tool": "a model without tools reads no answers of tools: hand over the conversation without them",
    "function": "a model without tools reads no answers of functions: hand over the conversation without them",
    "remove": "it stands for the removal of another: hand over the messages that are left",
}
_READ = frozenset({"text", "reasoning"})
"""Blocks of content that a text model can be handed; of these, what was thought is left out."""


def prompt_of(messages: Sequence[BaseMessage], template: str | None) -> list[Message]:
    """The messages as they are handed to the model; blank ones are left out.

    Args:
        messages: Oldest first.
        template: What stands around memories that were put into a message; they are taken out, since the
            model gets its own. None: they stay.

    Raises:
        BadInput: a message is none that a text model reads.
    """
    turns = []
    for place, message in enumerate(map(whole_message, messages)):
        text = _text(message, place)
        if template is not None and message.type != "ai":
            text = own_words(text, template)
        turns += said_in_prompt(_role(message, place), text, message.name)
    return turns


def heard_in(messages: Sequence[BaseMessage], template: str) -> list[Message]:
    """What was said since the model's last answer, without memories that were put into it.

    A message without an id is new each time: two conversations may begin alike.
    """
    answers = [place for place, message in enumerate(messages) if isinstance(message, AIMessage)]
    since = messages[answers[-1] + 1 :] if answers else messages
    return to_engine(handed_over(since, "", whole=True), REMEMBERED_ROLES, template)


def result_of(answer: ChatAnswer, answer_id: str, model: str) -> ChatResult:
    """A whole answer of the model of that name."""
    message = AIMessage(
        answer.text,
        id=answer_id,
        response_metadata=_told(answer, model),
        usage_metadata=_usage(answer),
    )
    return ChatResult(generations=[ChatGeneration(message=message)])


def chunk_of(piece: str, answer_id: str) -> ChatGenerationChunk:
    """A piece of an answer."""
    return ChatGenerationChunk(message=AIMessageChunk(content=piece, id=answer_id))


def last_chunk(answer: ChatAnswer, answer_id: str, model: str) -> ChatGenerationChunk:
    """The end of an answer whose pieces were handed out: what it took, and no more words."""
    message = AIMessageChunk(
        content="",
        id=answer_id,
        response_metadata=_told(answer, model),
        usage_metadata=_usage(answer),
        chunk_position="last",
    )
    return ChatGenerationChunk(message=message)


def _told(answer: ChatAnswer, model: str) -> dict[str, Any]:
    """What a message tells of its making, as JSON."""
    return {
        "model_name": model,
        "model_provider": "memos",
        "finish_reason": answer.finish,
        "memos": told_of(answer),
    }


def _usage(answer: ChatAnswer) -> UsageMetadata | None:
    """Tokens of prompt and answer; None where the model does not tell."""
    if answer.prompt_tokens is None or answer.completion_tokens is None:
        return None
    usage = UsageMetadata(
        input_tokens=answer.prompt_tokens,
        output_tokens=answer.completion_tokens,
        total_tokens=answer.prompt_tokens + answer.completion_tokens,
    )
    if answer.cached_tokens is not None:
        usage["input_token_details"] = InputTokenDetails(cache_read=answer.cached_tokens)
    return usage


def _role(message: BaseMessage, place: int) -> str:
    if message.type in _UNREADABLE:
        raise BadInput(f"messages[{place}] is a {type(message).__name__}: {_UNREADABLE[message.type]}")
    role = ROLES.get(message.type) or str(getattr(message, "role", message.type))
    return {"human": "user", "ai": "assistant"}.get(role, role)


def _text(message: BaseMessage, place: int) -> str:
    if isinstance(message, AIMessage) and (message.tool_calls or message.invalid_tool_calls):
        raise BadInput(
            f"messages[{place}] calls tools, which this model neither calls nor reads: hand over the conversation "
            "without the calls and their answers"
        )
    if not isinstance(message.content, str):
        for block in message.content_blocks:
            if block["type"] not in _READ:
                raise BadInput(
                    f"messages[{place}] holds a block of type {block['type']!r}, and this model reads text alone: "
                    "leave it out, or put a description in its place"
                )
    return str(message.text)
