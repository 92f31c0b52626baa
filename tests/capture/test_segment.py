"""Sessions of a thread, captured at once or piece by piece."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_engine.capture.segment import Segment, continues, segment
from memos_engine.errors import BadTime
from memos_engine.items import SESSION_GAP, Message

NOON = datetime(2023, 5, 8, 12, tzinfo=UTC)
GAP_MINUTES = int(SESSION_GAP / timedelta(minutes=1))
MINUTES = st.lists(st.integers(-3 * GAP_MINUTES, 3 * GAP_MINUTES), max_size=40)


def said(*minutes: int) -> list[Message]:
    """Return messages at these minutes after noon."""
    return [Message("user", "hello", at=NOON + timedelta(minutes=minute)) for minute in minutes]


def test_a_silence_begins_a_new_session() -> None:
    """Messages within the gap are one session; after a longer silence another begins."""
    assert segment(said(0, 10, 70, 131)) == (
        Segment(0, 3, NOON),
        Segment(3, 4, NOON + timedelta(minutes=131)),
    )


def test_a_clock_that_runs_back_begins_a_new_session() -> None:
    """A small step back is jitter; a large one is another talk."""
    assert [(s.start, s.stop) for s in segment(said(0, -10, -100))] == [(0, 2), (2, 3)]


def test_the_gap_can_be_chosen() -> None:
    """A shorter gap splits what the default keeps whole."""
    assert len(segment(said(0, 10), gap=timedelta(minutes=5))) == 2


def test_nothing_has_no_sessions() -> None:
    """No messages, no sessions; and no message continues a thread that has none."""
    assert segment([]) == ()
    assert not continues(None, NOON)


@pytest.mark.parametrize("at", [None, datetime(2023, 5, 8)])  # noqa: DTZ001 -- the bad input itself
def test_a_message_without_certain_time_is_refused(at: datetime | None) -> None:
    """Times are filled in before messages are segmented."""
    with pytest.raises(BadTime):
        segment([Message("user", "hello", at=at)])


@given(MINUTES)
def test_sessions_cover_the_messages_in_order(minutes: list[int]) -> None:
    """Sessions are adjacent, not empty, and hold every message."""
    sessions = segment(said(*minutes))
    assert [place for s in sessions for place in range(s.start, s.stop)] == list(range(len(minutes)))
    assert all(s.start < s.stop for s in sessions)


@given(MINUTES, st.data())
def test_capture_in_pieces_gives_the_same_sessions(minutes: list[int], data: st.DataObject) -> None:
    """However a thread is cut into calls, down to one message each, its sessions are those of one call."""
    messages = said(*minutes)
    starts: list[int] = []
    done, last_at = 0, None
    while done < len(messages):
        size = data.draw(st.integers(1, len(messages) - done))
        piece = messages[done : done + size]
        sessions = segment(piece)
        if continues(last_at, sessions[0].started_at):
            sessions = sessions[1:]
        starts += [done + session.start for session in sessions]
        done, last_at = done + size, piece[-1].at
    assert starts == [session.start for session in segment(messages)]
