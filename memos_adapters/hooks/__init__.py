"""Memory around the turns of any agent loop: recall before, capture after. It knows no framework.

    hooks = MemoryHooks(memos, user_id="alice")

    with hooks.turn(messages, session_id="chat-7") as turn:     # or: async with
        answer = agent(turn.messages)                           # with what is remembered put in
        turn.answer(answer)                                     # captured at the end, with the user's words

The same as a decorator (`@hooks.remembers`), as two calls (`recall_before`, `capture_after`), awaited
(`AsyncMemoryHooks`), or as two functions over a cube that hold no state.
"""

from memos_adapters.hooks.functions import capture_after, recall_before
from memos_adapters.hooks.memory_hooks import AsyncMemoryHooks, HookCounts, MemoryHooks
from memos_adapters.hooks.messages import with_memories
from memos_adapters.hooks.turns import Turn

__all__ = [
    "AsyncMemoryHooks",
    "HookCounts",
    "MemoryHooks",
    "Turn",
    "capture_after",
    "recall_before",
    "with_memories",
]
