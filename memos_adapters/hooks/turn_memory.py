"""What is done around a turn: find out whose memory it is, recall, put in, capture. One copy, sync and async.

Identity, recall and capture are the adapters' shared ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from memos_adapters._identity import Memories
from memos_adapters._recall import Recaller
from memos_adapters.hooks.capturing import Capturing
from memos_adapters.hooks.messages import at_hand, identified, last_question, to_engine, with_memories
from memos_engine import AccessDenied, CaptureResult, Context, MemCube, StoreError

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class TurnMemory:
    """The memory of an agent's turns. Thread-safe; `said` is what a call says of who it is for."""

    memories: Memories
    recaller: Recaller
    capturing: Capturing
    roles: frozenset[str]
    whole_thread: bool
    template: str
    strict: bool

    def question(self, messages: Sequence[object]) -> str:
        """What the last user message asks."""
        return last_question(messages, self.template)

    def recall(self, messages: Sequence[object], said: Mapping[str, object]) -> Context:
        """What is remembered about the last user message."""
        question = self.question(messages)
        cube = self._cube(said)
        return Context() if cube is None else self.recaller.recall(cube, question)

    async def arecall(self, messages: Sequence[object], said: Mapping[str, object]) -> Context:
        """As `recall`, for a coroutine."""
        question = self.question(messages)
        cube = await asyncio.to_thread(self._cube, said)
        return Context() if cube is None else await self.recaller.arecall(cube, question)

    def shown(self, messages: Sequence[M], context: Context) -> list[M]:
        """A copy of the messages with the context in it."""
        return with_memories(messages, context, self.template)

    def capture(self, messages: Sequence[object], said: Mapping[str, object]) -> CaptureResult | None:
        """Capture what is new of a conversation; None when it waits, durable already."""
        thread = self.memories.thread(said)
        told = messages if thread else at_hand(messages)
        turns = identified(
            to_engine(told, self.roles, self.template), whole_thread=self.whole_thread and bool(thread)
        )
        return self.capturing.capture(self.memories.cube(said), thread, turns)

    def keep(self, messages: Sequence[object], said: Mapping[str, object], *, broken: bool) -> None:
        """Capture at the end of a turn: its answer, or what broke it, comes before a failed capture."""
        try:
            self.capture(messages, said)
        except Exception as exc:
            if not broken and (self.strict or isinstance(exc, AccessDenied)):
                raise
            self.capturing.tell(exc)

    def _cube(self, said: Mapping[str, object]) -> MemCube | None:
        """The memory of who a call is for. None: the disk does not give it now, which is counted and told."""
        self.capturing.open()
        try:
            return self.memories.cube(said)
        except StoreError as exc:
            self.recaller.without(exc)
            return None
