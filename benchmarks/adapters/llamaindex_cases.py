"""LlamaIndex's adapters beside the engine's calls that they stand for, and no-op subclasses of the same bases.

Tokens are counted by a function that costs next to nothing: a tokenizer is no more measured than an embedder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.memory.memory import BaseMemoryBlock
from llama_index.core.memory.types import BaseMemory
from llama_index.core.schema import NodeWithScore, QueryBundle

from benchmarks.adapters.bare import BUDGET_TOKENS, THREAD, Bare
from benchmarks.adapters.ground import Ground
from benchmarks.adapters.legs import MODES, Call, Case, Mode, composed
from memos_adapters.llamaindex import MemosMemory, MemosMemoryBlock, MemosRetriever

TOP_K = 5
TURNS = 10
"""Turns of a session: then a new one begins."""


class NoMemory(BaseMemory):
    """Remembers nothing."""

    @classmethod
    def from_defaults(cls, **_: Any) -> Self:
        return cls()

    def get(self, input: str | None = None, **kwargs: Any) -> list[ChatMessage]:
        return []

    async def aget(self, input: str | None = None, **kwargs: Any) -> list[ChatMessage]:
        return []

    def get_all(self) -> list[ChatMessage]:
        return []

    def put(self, message: ChatMessage) -> None:
        pass

    async def aput(self, message: ChatMessage) -> None:
        pass

    def set(self, messages: list[ChatMessage]) -> None:
        pass

    def reset(self) -> None:
        pass


class NoRetriever(BaseRetriever):
    """Finds nothing."""

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return []

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return []


class NoBlock(BaseMemoryBlock[str]):
    """Remembers nothing."""

    async def _aget(self, messages: list[ChatMessage] | None = None, **block_kwargs: Any) -> str:
        return ""

    async def _aput(self, messages: list[ChatMessage]) -> None:
        pass


def cases(ground: Ground) -> Iterator[Case]:
    """All of them, each made when its turn comes."""
    for mode in MODES:
        yield _retriever(ground, mode)
        yield _answers(ground, mode)
        yield _history(ground, mode)
        yield _turn(ground, mode)
    yield _block_get(ground)
    yield _block_put(ground)


def _retriever(ground: Ground, mode: Mode) -> Case:
    ground.cube("reader")
    cube = ground.cube("bare reader")

    def search(n: int) -> None:
        cube.search(ground.question(n), limit=TOP_K)

    def asking(retriever: BaseRetriever) -> Call:
        if mode == "async":
            return lambda n: retriever.aretrieve(ground.question(n))
        return lambda n: retriever.retrieve(ground.question(n))

    ours = MemosRetriever(ground.memos, user_id="reader", similarity_top_k=TOP_K)
    return Case(
        "llamaindex MemosRetriever.retrieve",
        mode,
        asking(ours),
        composed(mode, search),
        asking(NoRetriever()),
    )


def _answers(ground: Ground, mode: Mode) -> Case:
    user = f"answers {mode}"
    ground.cube(user)
    bare = Bare(ground, f"bare {user}", turns=TURNS)

    def putting(sessions: Sequence[BaseMemory]) -> Call:
        if mode == "async":
            return lambda n: sessions[n // TURNS].aput(_answer(ground, n))
        return lambda n: sessions[n // TURNS].put(_answer(ground, n))

    return Case(
        "llamaindex MemosMemory.put, an answer", mode,
        putting(_sessions(ground, user)), composed(mode, bare.log_answer, bare.capture_answer),
        putting(_sessions(ground, None)),
    )  # fmt: skip


def _history(ground: Ground, mode: Mode) -> Case:
    """What a chat engine asks for: a session of some turns, and memories about a question that is not in it yet."""
    user = f"history of a session {mode}"
    ground.cube(user)
    bare = Bare(ground, f"bare {user}")
    ours = MemosMemory(ground.memos, THREAD, user_id=user, tokenizer_fn=str.split, strict=True)
    for n in range(TURNS):
        bare.log_turn(n)
        ours.put_messages([_question(ground, n), _answer(ground, n)])

    def getting(memory: BaseMemory) -> Call:
        if mode == "async":
            return lambda n: memory.aget(ground.question(n))
        return lambda n: memory.get(ground.question(n))

    return Case(
        f"llamaindex MemosMemory.get, {2 * TURNS} messages", mode,
        getting(ours), composed(mode, _recalling(ground, bare), bare.history), getting(NoMemory()),
    )  # fmt: skip


def _turn(ground: Ground, mode: Mode) -> Case:
    """A question is put, the history got, an answer put."""
    user = f"session {mode}"
    ground.cube(user)
    bare = Bare(ground, f"bare {user}", turns=TURNS)

    def turns(sessions: Sequence[BaseMemory]) -> Call:
        def turn(n: int) -> None:
            memory = sessions[n // TURNS]
            memory.put(_question(ground, n))
            memory.get()
            memory.put(_answer(ground, n))

        async def aturn(n: int) -> None:
            memory = sessions[n // TURNS]
            await memory.aput(_question(ground, n))
            await memory.aget()
            await memory.aput(_answer(ground, n))

        return aturn if mode == "async" else turn

    parts = [
        bare.log_question, _recalling(ground, bare), bare.capture_question, bare.history,
        bare.log_answer, bare.capture_answer,
    ]  # fmt: skip
    return Case(
        "llamaindex MemosMemory, a turn: put, get, put", mode,
        turns(_sessions(ground, user)), composed(mode, *parts), turns(_sessions(ground, None)),
    )  # fmt: skip


def _block_get(ground: Ground) -> Case:
    ground.cube("reader")
    bare = Bare(ground, "bare reader")

    def getting(block: BaseMemoryBlock[str]) -> Call:
        return lambda n: block.aget([_question(ground, n)], session_id=f"session-{n}")

    ours = MemosMemoryBlock(ground.memos, user_id="reader", count_tokens=_count, strict=True)
    return Case(
        "llamaindex MemosMemoryBlock.aget", "async",
        getting(ours), composed("async", _recalling(ground, bare)), getting(NoBlock(name="none")),
    )  # fmt: skip


def _block_put(ground: Ground) -> Case:
    """What has left the short-term queue of a `Memory`: a turn."""
    user = "block"
    ground.cube(user)
    bare = Bare(ground, f"bare {user}", turns=TURNS)

    def putting(block: BaseMemoryBlock[str]) -> Call:
        return lambda n: block.aput(
            [_question(ground, n), _answer(ground, n)], from_short_term_memory=True, session_id=bare.thread(n)
        )

    ours = MemosMemoryBlock(ground.memos, user_id=user, count_tokens=_count, strict=True)
    return Case(
        "llamaindex MemosMemoryBlock.aput, a turn", "async",
        putting(ours), composed("async", bare.capture_turn), putting(NoBlock(name="none")),
    )  # fmt: skip


def _recalling(ground: Ground, bare: Bare) -> Call:
    return lambda n: bare.cube.recall(ground.question(n), budget_tokens=BUDGET_TOKENS, count_tokens=_count)


def _sessions(ground: Ground, user: str | None) -> Sequence[BaseMemory]:
    """Sessions for all calls, TURNS calls each; of nobody: the floor's."""
    count = -(-ground.calls // TURNS)
    if user is None:
        return [NoMemory()] * count
    return [
        MemosMemory(ground.memos, f"{THREAD}-{number}", user_id=user, tokenizer_fn=str.split, strict=True)
        for number in range(count)
    ]


def _question(ground: Ground, n: int) -> ChatMessage:
    return ChatMessage(ground.question(n), role=MessageRole.USER)


def _answer(ground: Ground, n: int) -> ChatMessage:
    return ChatMessage(ground.text(n), role=MessageRole.ASSISTANT)


def _count(text: str) -> int:
    return len(text.split())
