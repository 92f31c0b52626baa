"""What is read: sessions of a conversation as memories, questions about them. Token ids, no engine.

The project's own conversation, or a file in LoCoMo's format.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from benchmarks.dialogues import read_sessions
from benchmarks.locomo.data import read_conversations
from benchmarks.machine import ROOT

__all__ = [
    "Asked",
    "Sample",
    "Talk",
    "documents",
    "draw_samples",
    "questions_of",
    "read_talks",
    "running_text",
]

MEMORIES, MEMORY_TOKENS, QUERY_TOKENS = 3, 256, 48
"""Of a sample."""
PASSAGES, PASSAGE_CHARS = 3, 1000
"""Over which a question is asked."""

OWN = ROOT / "examples" / "data" / "conversation.jsonl"
OWN_QUESTIONS = Path(__file__).parent / "questions.jsonl"

Encode: TypeAlias = Callable[[str], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Talk:
    """One conversation: for each session its lines, `speaker: text`, by the turn's id."""

    sessions: tuple[dict[str, str], ...]
    questions: tuple[tuple[str, tuple[str, ...]], ...]
    """A question and the ids of turns that answer it; never none."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Memories that are composed, and texts that go on behind them."""

    head: tuple[int, ...]
    memories: tuple[tuple[int, ...], ...]
    queries: tuple[tuple[int, ...], ...]

    @property
    def context(self) -> tuple[int, ...]:
        """Head and memories as they stand."""
        return (*self.head, *itertools.chain.from_iterable(self.memories))


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, the passages it is asked over, and which of them holds its answer."""

    question: str
    passages: tuple[str, ...]
    answered_by: int


def read_talks(data: Path | None) -> list[Talk]:
    """The talks of a LoCoMo file, or the project's own one."""
    if data is None:
        return [_own()]
    return [
        Talk(
            tuple({turn.id: f"{turn.speaker}: {turn.text}" for turn in each} for each in talk.sessions),
            tuple((question.text, question.evidence) for question in talk.asked()),
        )
        for talk in read_conversations(data)
    ]


def _own() -> Talk:
    told = [json.loads(line) for line in OWN_QUESTIONS.read_text(encoding="utf-8").splitlines()]
    return Talk(
        tuple(
            {str(message.id): f"{message.name}: {message.text}" for message in session.messages}
            for session in read_sessions(OWN)
        ),
        tuple((each["question"], tuple(each["evidence"])) for each in told),
    )


def documents(talks: Sequence[Talk], encode: Encode) -> list[tuple[int, ...]]:
    """Each session as one text."""
    return [encode("\n".join(lines.values())) for talk in talks for lines in talk.sessions]


def running_text(talks: Sequence[Talk], encode: Encode, count: int) -> tuple[int, ...]:
    """So many tokens of the sessions one after another, from the first again where they end."""
    every = itertools.cycle(documents(talks, encode))
    return tuple(itertools.islice(itertools.chain.from_iterable(every), count))


def draw_samples(
    docs: Sequence[Sequence[int]], count: int, *, head: Sequence[int], seed: int = 0
) -> list[Sample]:
    """Memories out of different documents. Queries: what follows the last memory, and parts of the others.

    Raises:
        ValueError: Too few documents are long enough.
    """
    draw = random.Random(seed)
    fitting = [document for document in docs if len(document) >= MEMORY_TOKENS + QUERY_TOKENS]
    if len(fitting) < MEMORIES:
        message = f"{len(fitting)} documents are long enough; {MEMORIES} are needed"
        raise ValueError(message)
    return [_sample(draw, fitting, head) for _ in range(count)]


def _sample(draw: random.Random, docs: Sequence[Sequence[int]], head: Sequence[int]) -> Sample:
    parts: list[tuple[int, ...]] = []
    follows: tuple[int, ...] = ()
    for document in draw.sample(list(docs), MEMORIES):
        at = draw.randint(0, len(document) - MEMORY_TOKENS - QUERY_TOKENS)
        parts.append(tuple(document[at : at + MEMORY_TOKENS]))
        follows = tuple(document[at + MEMORY_TOKENS : at + MEMORY_TOKENS + QUERY_TOKENS])
    queries = [follows]
    for part in parts[:-1]:
        at = draw.randint(0, MEMORY_TOKENS - QUERY_TOKENS)
        queries.append(part[at : at + QUERY_TOKENS])
    return Sample(tuple(head), tuple(parts), tuple(queries))


def questions_of(talks: Sequence[Talk], count: int, *, seed: int = 0) -> list[Asked]:
    """Questions spread evenly over all there are, each over the passage of its evidence and others' ones.

    Passages are turns in a row of one session and stand in the order of time.
    """
    every = [(talk, question) for talk in talks for question in talk.questions]
    step = max(1, len(every) // count)
    draw = random.Random(seed)
    return [_asked(draw, talk, *question) for talk, question in every[::step][:count]]


def _asked(draw: random.Random, talk: Talk, question: str, evidence: Sequence[str]) -> Asked:
    sessions = [list(lines) for lines in talk.sessions]
    home = next(n for n, ids in enumerate(sessions) if evidence[0] in ids)
    others = draw.sample([n for n in range(len(sessions)) if n != home], PASSAGES - 1)
    chosen = {home: sessions[home].index(evidence[0])}
    chosen |= {other: draw.randrange(len(sessions[other])) for other in others}
    return Asked(
        question,
        tuple(
            "".join(f"{line}\n" for line in _around(list(talk.sessions[n].values()), at))
            for n, at in sorted(chosen.items())
        ),
        sorted(chosen).index(home),
    )


def _around(lines: Sequence[str], at: int) -> Iterator[str]:
    """Lines in a row around one, in turn before and after it, until they have about so many characters."""
    first, last, size = at, at, len(lines[at])
    while size < PASSAGE_CHARS and (first > 0 or last < len(lines) - 1):
        if first > 0 and (at - first <= last - at or last == len(lines) - 1):
            first -= 1
            size += len(lines[first])
        else:
            last += 1
            size += len(lines[last])
    yield from lines[first : last + 1]
