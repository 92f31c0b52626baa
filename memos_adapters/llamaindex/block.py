"""Memories as a block of LlamaIndex's own `Memory`, which hands over what has left its short-term queue.

`Memory` gives a block nothing until that queue overflows (by default at 21,000 tokens), so short talks are
never captured this way: `MemosMemory` captures every message as it is put. Or hand over a session when it
ends, as in `await block.aput(await memory.aget_all(), session_id=memory.session_id)`.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Unpack

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.memory.memory import BaseMemoryBlock
from llama_index.core.utils import get_tokenizer
from pydantic import ConfigDict, PrivateAttr

from memos_adapters._capture import REMEMBERED_ROLES, captured
from memos_adapters._identity import Memories
from memos_adapters._recall import BUDGET_TOKENS, TIMEOUT_S, RecallCounts, Recaller
from memos_adapters._text import TEMPLATE, check_template, rendered
from memos_adapters.llamaindex.bound import Handle, Names, bound
from memos_adapters.llamaindex.messages import last_from_user, to_engine, words_of
from memos_adapters.llamaindex.window import without
from memos_engine import Context, MemCube, MemOS, Message

_PAGE = 1_000
_SHOWN_MAX = 64
"""Contexts kept for `atruncate`, which is asked right after `aget`."""


class MemosMemoryBlock(Handle, BaseMemoryBlock[str]):
    """Recalls what MemOS remembers of one user; captures what leaves the queue of a `Memory`."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    _memories: Memories = PrivateAttr()
    _recaller: Recaller = PrivateAttr()
    _count: Callable[[str], int] = PrivateAttr()
    _template: str = PrivateAttr()
    _roles: frozenset[str] = PrivateAttr()
    _shown: OrderedDict[str, Context] = PrivateAttr(default_factory=OrderedDict)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def __init__(
        self,
        memos: MemOS | MemCube,
        *,
        name: str = "memos",
        description: str | None = "What is remembered of earlier conversations.",
        priority: int = 1,
        accept_short_term_memory: bool = True,
        budget_tokens: int = BUDGET_TOKENS,
        count_tokens: Callable[[str], int] | None = None,
        min_score: float | None = None,
        timeout_s: float | None = TIMEOUT_S,
        strict: bool = False,
        template: str = TEMPLATE,
        roles: frozenset[str] = REMEMBERED_ROLES,
        **names: Unpack[Names],
    ) -> None:
        """Remember for one user; the session is the `Memory`'s.

        Args:
            memos: What `MemOS.open` or `acting_as` returned, or a cube of it.
            name: As in LlamaIndex, like the next three.
            description: For people.
            priority: 0 is never truncated; of the others, higher ones later.
            accept_short_term_memory: Whether to capture what leaves the queue.
            budget_tokens: Of the recalled memories.
            count_tokens: Tokens of a text. None: by LlamaIndex's tokenizer.
            min_score: As in `MemCube.recall`. None: its default.
            timeout_s: Seconds after which a turn goes on without memories. None: it waits.
            strict: Raise what failed in recall instead of going on without.
            template: What stands around the memories; holds `{memories}` once.
            roles: Of the messages that are captured.
            **names: `user_id`, `agent_id`, `session_id`, `cube` and `isolation`, as in `Names`.

        Raises:
            IdentityMissing: neither `memos` nor a name says whose memory.
            BadInput: a setting cannot be taken.
        """
        fields: dict[str, Any] = {
            "name": name,
            "description": description,
            "priority": priority,
            "accept_short_term_memory": accept_short_term_memory,
        }
        super().__init__(**fields)
        self._memories = bound(memos, **names)
        self._count = count_tokens or _tokens
        self._template = check_template(template)
        self._roles = roles
        self._recaller = Recaller(
            budget_tokens=budget_tokens,
            count_tokens=self._count,
            min_score=min_score,
            timeout_s=timeout_s,
            strict=strict,
        )

    @classmethod
    def class_name(cls) -> str:
        """The name LlamaIndex knows it by."""
        return "MemosMemoryBlock"

    @property
    def counts(self) -> RecallCounts:
        """What became of the recalls so far."""
        return self._recaller.counts

    async def _aget(self, messages: list[ChatMessage] | None = None, **block_kwargs: Any) -> str:
        asked = list(messages or [])
        last = last_from_user(asked)
        if last is None:
            return ""
        question = words_of(asked[last])
        while last and asked[last - 1].role == MessageRole.USER and words_of(asked[last - 1]) == question:
            last -= 1  # `Memory` puts its `input` behind a message that says the same
        session = block_kwargs.get("session_id")
        before = sum(message.role == MessageRole.USER for message in asked[:last])
        cube = await asyncio.to_thread(self._cube, session)
        context = await self._recaller.arecall(cube, question, (session, before))
        text = rendered(context.text, self._template)
        if text:
            with self._lock:
                self._shown[text] = context
                self._shown.move_to_end(text)
                while len(self._shown) > _SHOWN_MAX:
                    self._shown.popitem(last=False)
        return text

    async def aput(
        self,
        messages: list[ChatMessage],
        from_short_term_memory: bool = False,  # noqa: FBT001, FBT002 -- LlamaIndex's signature
        session_id: str | None = None,
    ) -> None:
        """Capture messages; durable when it returns.

        Args:
            messages: What has left the queue: each is new. Else all of a session from its start: those that
                were captured before are known by role, text and place among equals.
            from_short_term_memory: Whether they have left the queue of a `Memory`.
            session_id: The session they belong to.

        Raises:
            AccessDenied: the user may not write to their memory.
            StoreError: nothing was captured.
        """
        if not from_short_term_memory or self.accept_short_term_memory:
            await asyncio.to_thread(self._capture, list(messages), session_id, new=from_short_term_memory)

    async def _aput(self, messages: list[ChatMessage]) -> None:
        sessions = [message.additional_kwargs.get("session_id") for message in messages]
        await self.aput(messages, session_id=next(filter(None, sessions), None))

    async def atruncate(self, content: str, tokens_to_truncate: int) -> str | None:
        """The memories with the least relevant lines left out; None when not even one fits."""
        with self._lock:
            context = self._shown.get(content)
        return None if context is None else await asyncio.to_thread(self._fewer, context, tokens_to_truncate)

    def _fewer(self, context: Context, tokens_to_truncate: int) -> str | None:
        budget = self._count(rendered(context.text, self._template)) - tokens_to_truncate
        handle_of = {source.item: handle for handle, source in context.sources.items()}
        left_out: set[int] = set()
        for hit in reversed(context.hits):
            left_out.add(handle_of[hit.item.id])
            text = rendered(without(context, left_out), self._template)
            if self._count(text) <= budget:
                return text or None
        return None

    def _cube(self, session: str | None) -> MemCube:
        return self._memories.cube({"session_id": session})

    def _capture(self, messages: Sequence[ChatMessage], session: str | None, *, new: bool) -> None:
        cube = self._cube(session)
        thread = self._memories.thread({"session_id": session})
        said = [
            turn for message in messages for turn in to_engine(message, self._roles, template=self._template)
        ]
        if said:
            captured(cube, _named(said, _held(cube, thread) if new else Counter()), thread)


def _named(said: Sequence[Message], held: Counter[str]) -> list[Message]:
    """Each turn under an id by role, text and place among equals, of which so many were held before."""
    named = []
    for turn in said:
        mark = hashlib.sha256(f"{turn.role}\n{turn.text}".encode()).hexdigest()[:32]
        held[mark] += 1
        named.append(Message(turn.role, turn.text, f"{mark}:{held[mark]}"))
    return named


def _held(cube: MemCube, thread: str) -> Counter[str]:
    """How often each turn of a thread stands in the cube."""
    held: Counter[str] = Counter()
    for offset in itertools.count(0, _PAGE):
        page = cube.list(thread=thread, kinds=["episode"], limit=_PAGE, offset=offset)
        ids = [item.sources[0].message_id for item in page if item.sources]
        for mark, _, place in (id_.partition(":") for id_ in ids if id_):
            held[mark] = max(held[mark], int(place)) if place.isdecimal() else held[mark]
        if len(page) < _PAGE:
            break
    return held


def _tokens(text: str) -> int:
    return len(get_tokenizer()(text))
