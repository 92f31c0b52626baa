"""A session's messages and its recalled memories, as the messages of a prompt. Pure; knows no store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock

from memos_adapters._chat_log import Logged
from memos_adapters._text import rendered
from memos_adapters.llamaindex.messages import from_json, last_from_user
from memos_adapters.llamaindex.window import newest_within, tokens_of, unseen
from memos_engine import Context

_SYSTEM = (MessageRole.SYSTEM.value, MessageRole.DEVELOPER.value)


def composed(
    entries: Sequence[Logged],
    context: Context,
    *,
    thread: str,
    limit: int,
    count: Callable[[str], int],
    template: str,
    into_question: bool,
) -> list[ChatMessage]:
    """New messages within `limit` tokens: the system's, the newest turns, and memories that these do not repeat.

    Memories give way to the last turn, which always stays.

    Args:
        entries: The session's log.
        context: What was recalled.
        thread: Under which name the session was captured.
        limit: Tokens of all that is returned.
        count: Tokens of a text.
        template: What stands around the memories.
        insert_method: Whether a system message or the last user message gets them.
    """
    first = next(
        (n for n, entry in enumerate(entries) if entry.value.get("role") not in _SYSTEM), len(entries)
    )
    head = [from_json(entry.value) for entry in entries[:first]]
    limit -= sum(tokens_of(message, count) for message in head)

    @cache
    def priced(n: int) -> tuple[ChatMessage, int]:
        message = from_json(entries[n].value)
        return message, tokens_of(message, count)

    def newest(memories: str) -> list[ChatMessage]:
        places = range(len(entries) - 1, first - 1, -1)
        return newest_within(map(priced, places), limit - count(memories))

    memories = rendered(context.text, template)
    turns = newest(memories)
    shown = {entry.id or "" for entry in entries[len(entries) - len(turns) :]}
    fewer = rendered(unseen(context, thread, shown), template)
    if fewer != memories:
        memories, turns = fewer, newest(fewer)
    if memories and count(memories) + sum(tokens_of(message, count) for message in turns) > limit:
        memories, turns = "", newest("")
    return _with(memories, [*head, *turns], into_question=into_question)


def _with(memories: str, messages: list[ChatMessage], *, into_question: bool) -> list[ChatMessage]:
    """The messages with the memories put in before what one of them says."""
    if not memories:
        return messages
    block = TextBlock(text=memories)
    at = last_from_user(messages) if into_question else None
    if at is None:
        at = next((n for n, message in enumerate(messages) if message.role == MessageRole.SYSTEM), None)
    if at is None:
        return [ChatMessage(role=MessageRole.SYSTEM, blocks=[block]), *messages]
    messages[at].blocks = [block, *messages[at].blocks]
    return messages
