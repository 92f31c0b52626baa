"""This project's engine under the benchmark, through its public door: captured as said, recalled as asked."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.locomo.ablation import Variant
from benchmarks.locomo.baselines import printed
from benchmarks.locomo.data import Conversation
from benchmarks.locomo.systems import Found, count_tokens
from memos_engine import Hit, MemCube, MemOS, Message
from memos_engine.recall.abstain import SILENT_BELOW
from memos_engine.retrieval import Asked, recall, search

RANKED = 200
"""Hits of a ranking: more than the largest budget holds lines."""


def capture(memos: MemOS, conversation: Conversation, name: str) -> MemCube:
    """A new cube that holds the conversation, a call a session."""
    cube = memos.cube(name)
    for number, session in enumerate(conversation.sessions, start=1):
        messages = [
            Message(
                "user" if turn.speaker == conversation.speakers[0] else "assistant",
                turn.text, turn.id, turn.speaker, turn.at,
            )
            for turn in session
        ]  # fmt: skip
        if messages:
            cube.capture(messages, thread=f"session-{number}")
    return cube


def top_score(cube: MemCube, question: str) -> float:
    """The estimated probability that the cube holds the answer; 0 when nothing is found."""
    return cube.recall(question, budget_tokens=100, min_score=0).score


class Ranked:
    """What `search` finds, printed as the baselines print: how good the ranking is without the packing."""

    def __init__(self, cube: MemCube) -> None:
        self._cube = cube

    def ranked(self, question: str) -> list[Found]:
        return [_found(hit) for hit in self._cube.search(question, limit=RANKED)]

    def context(self, question: str, found: Sequence[Found], budget_tokens: int) -> str:
        return printed(found, budget_tokens)

    def top_score(self, question: str) -> float:
        return top_score(self._cube, question)


class Ours(Ranked):
    """What `recall` renders."""

    def __init__(self, cube: MemCube) -> None:
        super().__init__(cube)
        self.recalls: list[tuple[int, float]] = []
        """Budget and seconds of each recall; the embedder's part is a look-up."""

    def context(self, question: str, found: Sequence[Found], budget_tokens: int) -> str:
        start = time.perf_counter()
        context = self._cube.recall(question, budget_tokens=budget_tokens, count_tokens=count_tokens)
        self.recalls.append((budget_tokens, time.perf_counter() - start))
        tokens = count_tokens(context.text)
        assert tokens <= budget_tokens, f"a context of {tokens} tokens for a budget of {budget_tokens}"
        return context.text


class Varied(Ours):
    """What `recall` renders by another recipe: how much a part of it gives. By the engine's inner door."""

    def __init__(self, cube: MemCube, variant: Variant) -> None:
        super().__init__(cube)
        self._shelf, self._actor = cube._shelf, cube._actor("read")  # noqa: SLF001 -- recipes have no public door
        self._variant = variant

    def ranked(self, question: str) -> list[Found]:
        like = self._variant
        hits = search(
            self._shelf, question, self._actor, limit=RANKED, wanted=like.wanted, recipe=like.recipe
        )
        return [_found(hit) for hit in hits]

    def context(self, question: str, found: Sequence[Found], budget_tokens: int) -> str:
        asked = Asked(budget_tokens, count_tokens, SILENT_BELOW)
        like = self._variant
        (context,) = recall(
            self._shelf, [question], self._actor, asked, wanted=like.wanted, recipe=like.recipe
        )
        return context.text


def _found(hit: Hit) -> Found:
    item = hit.item
    date = f"[{item.event_at.day} {item.event_at:%B %Y}] " if item.event_at else ""
    said = f"{item.speaker}: {item.text}" if item.speaker else item.text
    turns = tuple(source.message_id for source in item.sources if source.message_id)
    return Found(f"{date}{said}", turns, hit.score)
