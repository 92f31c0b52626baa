"""Conversations, turns and questions of a file in LoCoMo's format, as values. Knows no engine and no score.

The data set is not part of this repository (CC BY-NC 4.0): the file is named on the command line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.dialogues import LOCOMO_PACE, LOCOMO_TIME

CATEGORIES = {1: "multi_hop", 2: "temporal", 3: "open_domain", 4: "single_hop"}
ADVERSARIAL = 5
"""Questions that have no answer in the conversation: they are asked for abstention only."""

_SESSION = re.compile(r"session_(\d+)")
_EVIDENCE = re.compile(r"D:?(\d+):0*(\d+)")


@dataclass(frozen=True, slots=True)
class Turn:
    """What somebody said at once."""

    id: str
    """`D<session>:<turn>`; unique within its conversation."""
    speaker: str
    text: str
    """The caption of an image that was shared included."""
    at: datetime


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and where its answer was said."""

    text: str
    answer: str
    """Empty for adversarial ones."""
    category: int
    evidence: tuple[str, ...]
    """Ids of turns that are there, each once; never empty."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Two people over many sessions, and what is asked about them."""

    name: str
    speakers: tuple[str, str]
    sessions: tuple[tuple[Turn, ...], ...]
    questions: tuple[Question, ...]
    """Of all categories; those whose evidence is no turn are left out."""

    @property
    def turns(self) -> list[Turn]:
        """The turns of all sessions, in order."""
        return [turn for session in self.sessions for turn in session]

    def asked(self) -> list[Question]:
        """The questions that have an answer."""
        return [question for question in self.questions if question.category in CATEGORIES]

    def adversarial(self) -> list[Question]:
        """The questions that have none."""
        return [question for question in self.questions if question.category == ADVERSARIAL]


def read_conversations(path: Path) -> list[Conversation]:
    """The conversations of a file, in its order."""
    return [_conversation(raw) for raw in json.loads(path.read_text(encoding="utf-8"))]


def evidence_ids(written: Sequence[str]) -> list[str]:
    """The ids of turns in evidence as the file writes it, each once, sloppy spellings repaired.

    `D8:6; D9:17` are two, `D:11:26` is `D11:26`, `D30:05` is `D30:5`.
    """
    found = (match for text in written for match in _EVIDENCE.finditer(text))
    return list(dict.fromkeys(f"D{match[1]}:{match[2]}" for match in found))


def _conversation(raw: Mapping[str, Any]) -> Conversation:
    talk = raw["conversation"]
    sessions = tuple(_sessions(talk))
    known = {turn.id for session in sessions for turn in session}
    return Conversation(
        str(raw.get("sample_id", "")),
        (talk["speaker_a"], talk["speaker_b"]),
        sessions,
        tuple(_questions(raw["qa"], known)),
    )


def _sessions(talk: Mapping[str, Any]) -> Iterator[tuple[Turn, ...]]:
    numbers = sorted(int(match[1]) for match in map(_SESSION.fullmatch, talk) if match)
    for number in numbers:
        start = datetime.strptime(talk[f"session_{number}_date_time"], LOCOMO_TIME).replace(tzinfo=UTC)
        turns = (
            Turn(turn["dia_id"], turn["speaker"], _said(turn), start + n * LOCOMO_PACE)
            for n, turn in enumerate(talk[f"session_{number}"])
        )
        yield tuple(turn for turn in turns if turn.text)


def _said(turn: Mapping[str, Any]) -> str:
    caption = turn.get("blip_caption")
    shared = f" [shares an image: {caption}]" if caption else ""
    return f"{turn.get('text', '')}{shared}".strip()


def _questions(raw: Sequence[Mapping[str, Any]], known: set[str]) -> Iterator[Question]:
    for question in raw:
        evidence = tuple(name for name in evidence_ids(question.get("evidence", ())) if name in known)
        if evidence:
            answer = question.get("answer")
            yield Question(
                question["question"], "" if answer is None else str(answer), question["category"], evidence
            )
