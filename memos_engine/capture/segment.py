"""One thread's messages into sessions: where a talk was laid down and another was taken up. Pure.

Called by capture with the times filled in. Knows no store: to go on with a stored session, hand
`continues` the time of the last message that was captured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from memos_engine.errors import BadTime
from memos_engine.items import SESSION_GAP, Message


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring messages of one session."""

    start: int
    """Index of its first message, inclusive."""
    stop: int
    """Index after its last message, exclusive."""
    started_at: datetime
    """Time of its first message."""


def continues(last_at: datetime | None, at: datetime, gap: timedelta = SESSION_GAP) -> bool:
    """Tell whether a message goes on with the session of the message captured before it.

    A clock that runs back by more than the gap starts a new session too: it is another talk, imported late.

    Args:
        last_at: Time of the message before, in order of capture, be it the latest or not.
        at: Time of the message.
        gap: Longest silence within a session, inclusive.
    """
    return last_at is not None and abs(at - last_at) <= gap


def segment(messages: Sequence[Message], *, gap: timedelta = SESSION_GAP) -> tuple[Segment, ...]:
    """Split messages into sessions: adjacent, in order, none empty.

    Whether the first of them goes on with a stored session is for `continues` to tell.

    Raises:
        BadTime: A message has no time.
    """
    times = [_time(message) for message in messages]
    starts = [
        index for index, at in enumerate(times) if not continues(times[index - 1] if index else None, at, gap)
    ]
    stops = [*starts[1:], len(times)][: len(starts)]
    return tuple(Segment(start, stop, times[start]) for start, stop in zip(starts, stops, strict=True))


def _time(message: Message) -> datetime:
    if message.at is None or message.at.tzinfo is None:
        raise BadTime(f"message at={message.at!r} has no certain time: fill it in, aware, before segmenting")
    return message.at
