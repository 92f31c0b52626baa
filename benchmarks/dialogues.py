"""Conversations to capture, read from a file: our own JSONL, or LoCoMo's JSON. Knows no engine but its Message."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from memos_engine import Message

_SESSION = re.compile(r"session_(\d+)")
LOCOMO_TIME = "%I:%M %p on %d %B, %Y"  # 1:56 pm on 8 May, 2023
LOCOMO_PACE = timedelta(seconds=30)  # LoCoMo dates sessions only


@dataclass(frozen=True, slots=True)
class Session:
    """Messages of one sitting."""

    cube: str
    """Conversations of different people go to different cubes."""
    thread: str
    messages: tuple[Message, ...]


def read_sessions(path: Path) -> list[Session]:
    """The sessions of a file, in its order: JSON Lines of turns, or a LoCoMo list."""
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("["):
        return [
            session
            for n, talk in enumerate(json.loads(text))
            for session in _locomo(f"talk-{n}", talk["conversation"])
        ]
    sessions: dict[str, list[Message]] = {}
    for line in text.splitlines():
        if line.strip():
            turn = json.loads(line)
            sessions.setdefault(turn["session"], []).append(_message(turn))
    return [Session("bench", thread, tuple(messages)) for thread, messages in sessions.items()]


def _message(turn: Mapping[str, Any]) -> Message:
    at = datetime.fromisoformat(turn["at"])
    return Message(turn["role"], turn["text"], turn["id"], turn["name"], at)


def _locomo(cube: str, talk: Mapping[str, Any]) -> Iterator[Session]:
    names = sorted(
        (name for name in talk if _SESSION.fullmatch(name)), key=lambda name: int(name.split("_")[1])
    )
    for name in names:
        start = datetime.strptime(talk[f"{name}_date_time"], LOCOMO_TIME).replace(tzinfo=UTC)
        yield Session(
            cube,
            name,
            tuple(
                Message(
                    "user" if turn["speaker"] == talk.get("speaker_a") else "assistant",
                    turn["text"], turn["dia_id"], turn["speaker"], start + n * LOCOMO_PACE,
                )
                for n, turn in enumerate(talk[name])
                if turn["text"].strip()
            ),
        )  # fmt: skip
