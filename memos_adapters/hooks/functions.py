"""Recall before a turn and capture after it, as two functions over one cube, sync or async. No state."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, overload

from memos_adapters._capture import REMEMBERED_ROLES
from memos_adapters._recall import BUDGET_TOKENS
from memos_adapters._text import TEMPLATE
from memos_adapters.hooks.messages import last_question, to_engine
from memos_engine import AsyncMemCube, CaptureResult, Context, MemCube


@overload
def recall_before(
    cube: MemCube,
    messages: Sequence[object],
    *,
    budget_tokens: int = BUDGET_TOKENS,
    count_tokens: Callable[[str], int] | None = None,
    template: str = TEMPLATE,
) -> Context: ...


@overload
def recall_before(
    cube: AsyncMemCube,
    messages: Sequence[object],
    *,
    budget_tokens: int = BUDGET_TOKENS,
    count_tokens: Callable[[str], int] | None = None,
    template: str = TEMPLATE,
) -> Coroutine[Any, Any, Context]: ...


def recall_before(
    cube: MemCube | AsyncMemCube,
    messages: Sequence[object],
    *,
    budget_tokens: int = BUDGET_TOKENS,
    count_tokens: Callable[[str], int] | None = None,
    template: str = TEMPLATE,
) -> Context | Coroutine[Any, Any, Context]:
    """What the cube remembers about the latest user message; empty when there is none or nothing matches.

    Args:
        cube: Whose memory, opened under the scope of who is asking. An `AsyncMemCube` is awaited.
        messages: The conversation so far, in order.
        budget_tokens: The context's text never costs more, by `count_tokens`.
        count_tokens: As in `MemCube.recall`. None counts bytes, about four times what English costs.
        template: What stands around memories in the messages: they are no part of the question.

    Raises:
        AccessDenied: the cube's scope may not read it.
        BadInput: the budget or the message cannot be taken.
    """
    asked = last_question(messages, template)
    if not asked:
        return Context() if isinstance(cube, MemCube) else _nothing()
    return cube.recall(asked, budget_tokens=budget_tokens, count_tokens=count_tokens)


@overload
def capture_after(
    cube: MemCube,
    messages: Sequence[object],
    *,
    thread: str,
    roles: frozenset[str] = REMEMBERED_ROLES,
    template: str = TEMPLATE,
) -> CaptureResult: ...


@overload
def capture_after(
    cube: AsyncMemCube,
    messages: Sequence[object],
    *,
    thread: str,
    roles: frozenset[str] = REMEMBERED_ROLES,
    template: str = TEMPLATE,
) -> Coroutine[Any, Any, CaptureResult]: ...


def capture_after(
    cube: MemCube | AsyncMemCube,
    messages: Sequence[object],
    *,
    thread: str,
    roles: frozenset[str] = REMEMBERED_ROLES,
    template: str = TEMPLATE,
) -> CaptureResult | Coroutine[Any, Any, CaptureResult]:
    """Capture the turns of a conversation that the cube does not hold yet; durable when it returns.

    Hand over the whole conversation each time: a message is captured once, by its id, or without one
    by role, text, time and place among equals. Blank messages, such as bare tool calls, are left out, and
    so are memories that were recalled into one.

    Args:
        cube: Whose memory, opened under the scope of who is speaking. An `AsyncMemCube` is awaited.
        messages: All of the thread, in order.
        thread: The conversation's name.
        roles: Which roles are remembered.
        template: What stands around memories in the messages.

    Raises:
        AccessDenied: the cube's scope may not write to it.
        BadInput: a message cannot be taken; none was stored.
        MessageConflict: an id was captured before with other content.
    """
    return cube.capture(to_engine(messages, roles, template), thread=thread, whole_thread=True)


async def _nothing() -> Context:
    return Context()
