"""Server-sent events out of bytes: what is data, and where an event ends, however the bytes come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_engine.models.events import EventReader


def read(*pieces: bytes) -> list[bytes]:
    """All events of a stream that came in these pieces."""
    reader = EventReader()
    events = [event for piece in pieces for event in reader.fed(piece)]
    return events + reader.ended()


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"", []),
        (b"\n\n\n", []),
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\ndata:  b\n\n", [b"a", b" b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b": ping\n\nevent: message\nid: 7\nretry: 9\ndata: a\n\n:\n", [b"a"]),
        (b"data: a\n\ndata: b", [b"a", b"b"]),
        (b"datum: a\n\n<html>\n\n{}\n", []),
        ("data: a\u2028b\x85c\x0bd\n\n".encode(), ["a\u2028b\x85c\x0bd".encode()]),
    ],
)
def test_what_an_event_is(stream: bytes, events: list[bytes]) -> None:
    """Data lines up to a blank line make an event; any other field is passed over; breaks are CR and LF only."""
    assert read(stream) == events
    assert read(*[stream[at : at + 1] for at in range(len(stream))]) == events


@given(st.lists(st.sampled_from([b"data: a", b"data:", b": c", b"\n", b"\r\n", b"\r", b"x" * 9])), st.data())
def test_pieces_change_nothing(parts: list[bytes], data: st.DataObject) -> None:
    """However a stream is cut into pieces, the events are the same."""
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(*pieces) == read(stream)


def test_what_is_held_is_told() -> None:
    """An event that does not end is held, and how much of it is known."""
    reader = EventReader()
    assert reader.fed(b"data: " + b"a" * 100) == []
    assert reader.held_bytes == 106
    assert reader.fed(b"\n\n") == [b"a" * 100]
    assert reader.held_bytes == 0
