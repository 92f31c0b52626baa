"""Recall before an agent's turn, capture after it: for any loop that has no framework to plug into.

    context = recall_before(cube, messages)          # put context.text into the prompt
    answer = agent(context.text, messages)
    capture_after(cube, [*messages, answer], thread="t1")

It knows no framework and holds no state: what was captured before is known to the cube.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from memos_engine import CaptureResult, Context, MemCube, Message

REMEMBERED_ROLES = frozenset({"user", "assistant"})
"""Roles whose words are memory; tool output and system prompts are not, unless asked for."""
BUDGET_TOKENS = 2_000


def recall_before(
    cube: MemCube,
    messages: Sequence[Message],
    *,
    budget_tokens: int = BUDGET_TOKENS,
    count_tokens: Callable[[str], int] | None = None,
) -> Context:
    """What the cube remembers about the latest user message; empty when there is none or nothing matches.

    Args:
        cube: Whose memory, opened under the scope of who is asking.
        messages: The conversation so far, in order.
        budget_tokens: The context's text never costs more, by `count_tokens`.
        count_tokens: As in `MemCube.recall`. None counts bytes, about four times what English costs.

    Raises:
        AccessDenied: the cube's scope may not read it.
        BadInput: the budget or the message cannot be taken.
    """
    asked = next(
        (message.text for message in reversed(messages) if message.role == "user" and message.text.strip()),
        "",
    )
    if not asked:
        return Context()
    return cube.recall(asked, budget_tokens=budget_tokens, count_tokens=count_tokens)


def capture_after(
    cube: MemCube,
    messages: Sequence[Message],
    *,
    thread: str,
    roles: frozenset[str] = REMEMBERED_ROLES,
) -> CaptureResult:
    """Capture the turns of a conversation that the cube does not hold yet; durable when it returns.

    Hand over the whole conversation each time: a message is captured once, by its id, or without one
    by role, text, time and place among equals. Blank messages, such as bare tool calls, are left out.

    Args:
        cube: Whose memory, opened under the scope of who is speaking.
        messages: All of the thread, in order.
        thread: The conversation's name.
        roles: Which roles are remembered.

    Raises:
        AccessDenied: the cube's scope may not write to it.
        BadInput: a message cannot be taken; none was stored.
        MessageConflict: an id was captured before with other content.
    """
    said = [message for message in messages if message.role in roles and message.text.strip()]
    return cube.capture(said, thread=thread, whole_thread=True)
