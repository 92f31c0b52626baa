"""What of a conversation and of its memories fits into a prompt. Pure; knows no store.

The oldest turns leave first. What is left begins with what the user said, and holds no result of a tool
whose call has left: models refuse both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from memos_engine import Context

MEDIA_TOKENS = {"image": 256, "audio": 256, "video": 256, "document": 2048}
"""What LlamaIndex's own `Memory` takes a block of each type for."""


def tokens_of(message: ChatMessage, count: Callable[[str], int]) -> int:
    """Tokens of a message: its texts, thoughts, tool calls and arguments, and an estimate for media."""
    arguments = message.additional_kwargs
    return sum(_tokens(block, count) for block in message.blocks) + (
        count(str(arguments)) if arguments else 0
    )


def newest_within(newest_first: Iterable[tuple[ChatMessage, int]], budget: int) -> list[ChatMessage]:
    """The end of a conversation that costs at most `budget` tokens, in order; all of it when that fits.

    The last turn stays whole even when it alone costs more: a prompt without its question is no prompt.

    Args:
        newest_first: Messages and what each costs; read only as far as needed.
        budget: Tokens.
    """
    seen: list[ChatMessage] = []
    spent = best = 0
    unasked: set[str] = set()
    for message, tokens in newest_first:
        spent += tokens
        if spent > budget and best:
            break
        seen.append(message)
        unasked = (unasked | _answers(message)) - _calls(message)
        if message.role == MessageRole.USER and not unasked:
            best = len(seen)
    else:
        if spent <= budget:
            return seen[::-1]
    if not best:
        best = next((n for n, message in enumerate(seen, 1) if message.role == MessageRole.USER), 0)
    return seen[:best][::-1]


def unseen(context: Context, thread: str, shown: Collection[str]) -> str:
    """The context's text without the lines that come from messages which stand in the prompt already.

    Args:
        context: As recalled.
        thread: The conversation's name.
        shown: Ids of its messages in the prompt.
    """
    told = {
        handle
        for handle, source in context.sources.items()
        if source.thread == thread and (source.message_id or "").partition("#")[0] in shown
    }
    return without(context, told)


def without(context: Context, handles: Collection[int]) -> str:
    """The context's text without the lines of some handles, and without dates that then head no line."""
    if not handles:
        return context.text
    if len(handles) == len(context.sources):
        return ""
    opened, *rows, closed = context.text.split("\n")
    dated = list(_dated(context))
    if len(rows) != len(dated) + sum(new for _, new in dated):
        return context.text  # not laid out as known here: too much is better than a wrong cut
    kept, rest = [opened], iter(rows)
    date: str | None = None
    for handle, new in dated:
        date = next(rest) if new else date
        row = next(rest)
        if handle not in handles:
            kept += [row] if date is None else [date, row]
            date = None
    return "\n".join([*kept, closed])


def _dated(context: Context) -> Iterator[tuple[int, bool]]:
    """Each handle in order, and whether a line with a new date stands before its own."""
    last: object = "no date yet"
    for handle in sorted(context.sources):
        at = context.sources[handle].at
        day = at and at.date()
        yield handle, day != last
        last = day


def _tokens(block: Any, count: Callable[[str], int]) -> int:
    kind = block.block_type
    if kind == "text":
        return count(block.text)
    if kind in MEDIA_TOKENS:
        return MEDIA_TOKENS[kind]
    if kind == "thinking":
        return block.num_tokens or count(block.content or "")
    if kind == "tool_call":
        return count(f"{block.tool_name}{block.tool_kwargs}")
    if kind == "citable":
        return count(block.title) + sum(_tokens(inner, count) for inner in block.content)
    return _tokens(block.cited_content, count) if kind == "citation" else 0


def _calls(message: ChatMessage) -> set[str]:
    """Ids of the tool calls that a message makes."""
    blocks: list[Any] = [block for block in message.blocks if block.block_type == "tool_call"]
    listed = message.additional_kwargs.get("tool_calls") or []
    ids = [block.tool_call_id for block in blocks]
    ids += [call.get("id") if isinstance(call, dict) else getattr(call, "id", None) for call in listed]
    return {str(id_) for id_ in ids if id_}


def _answers(message: ChatMessage) -> set[str]:
    """Ids of the tool calls whose results a message tells."""
    if message.role not in (MessageRole.TOOL, MessageRole.FUNCTION):
        return set()
    found = message.additional_kwargs.get("tool_call_id")
    return {str(found)} if found else set()
