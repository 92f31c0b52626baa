"""What a `MemosMemory` can be told, beside its MemOS and its session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from llama_index.core.memory.memory import InsertMethod

from memos_adapters._identity import Isolation

TOKEN_LIMIT = 30_000
MEMORY_SHARE = 0.3
"""Of the token limit, at most so much goes to recalled memories."""


class MemorySettings(TypedDict, total=False):
    """What `MemosMemory` takes beside its MemOS and its session."""

    user_id: str | None
    """Whose memory. None: the user's as whom `memos` acts."""
    agent_id: str | None
    cube: str
    """Name of the user's cube; every adapter's is the same unless said otherwise."""
    isolation: Isolation
    token_limit: int
    """Of all that `get` returns: the oldest turns leave first, the last one never."""
    insert_method: InsertMethod
    """USER: the user message that asks gets the memories, or a system message when it is not in the history
    yet. SYSTEM: always a system message; a ReActAgent without a system_prompt throws that away."""
    budget_tokens: int
    """Of the recalled memories; never more than MEMORY_SHARE of the token limit."""
    min_score: float | None
    """As in `MemCube.recall`. None: its default."""
    timeout_s: float | None
    """Seconds after which a turn goes on without memories. None: it waits."""
    strict: bool
    """Raise what failed in recall or capture instead of going on without."""
    template: str
    """What stands around the memories; holds `{memories}` once."""
    roles: frozenset[str]
    """Of the messages that are remembered."""
    tokenizer_fn: Callable[[str], Sequence[Any]]
    """Tokens of a text. None is given: LlamaIndex's own."""
