"""Tokens to pieces of text: characters whole, stop strings never shown, nothing lost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_engine.models.local_text import Pieces


def as_bytes(ids: Sequence[int]) -> str:
    """A tokenizer whose tokens are bytes."""
    return bytes(ids).decode("utf-8", "replace")


def shown(data: bytes, stop: Sequence[str] = ()) -> tuple[list[str], bool]:
    """Every piece of a text that comes byte by byte, and whether a stop string ended it."""
    pieces = Pieces(as_bytes, stop)
    found = []
    for token in data:
        found.append(pieces.add(token))
        if pieces.stopped:
            break
    found.append(pieces.rest())
    return [piece for piece in found if piece], pieces.stopped


def test_a_character_is_shown_once_its_bytes_are_there() -> None:
    """No piece holds half a character, and each comes as soon as it is whole."""
    assert shown("a我🐈b".encode()) == (["a", "我", "🐈", "b"], False)


def test_what_is_no_text_is_shown_at_the_end() -> None:
    """Bytes that never become a character are not lost."""
    assert shown(b"ok" + b"\xe6\x88") == (["o", "k", "\ufffd"], False)
    assert shown(b"\xe6\x88A") == (["\ufffdA"], False)


@pytest.mark.parametrize(
    ("text", "stop", "pieces", "stopped"),
    [
        ("one. two", ["."], ["o", "n", "e"], True),
        ("a\n\nUser: b", ["\n\nUser:"], ["a"], True),
        ("a\n\nUse b", ["\n\nUser:"], ["a", "\n\nUse ", "b"], False),
        ("ab", ["abc"], ["ab"], False),
        ("xaab", ["aab"], ["x"], True),
        ("xaaab", ["aab"], ["x", "a"], True),
        ("end", ["end"], [], True),
        ("a我b", ["我"], ["a"], True),
        ("aXbYc", ["Yc", "Xb"], ["a"], True),
        ("abcd", ["abcde", "bc"], ["a"], True),
    ],
)
def test_a_stop_string_is_never_shown(text: str, stop: list[str], pieces: list[str], stopped: bool) -> None:
    """What may become a stop string waits; it is shown when it did not, and cut when it did."""
    assert shown(text.encode(), stop) == (pieces, stopped)


def test_a_stop_string_may_end_with_bytes_that_wait() -> None:
    """A stop string that only the last flush completes is cut too."""
    assert shown(b"a\xe6\x88", ["\ufffd"]) == (["a"], True)


@given(
    st.text(alphabet="ab我🐈\n ", max_size=40), st.lists(st.text(alphabet="ab我\n", min_size=1, max_size=4))
)
def test_pieces_are_the_text_before_the_first_stop(text: str, stop: list[str]) -> None:
    """Joined, the pieces are the text up to the stop string that is complete first, whatever the strings."""
    ends = [text.index(one) + len(one) for one in stop if one in text]
    pieces, stopped = shown(text.encode(), stop)
    assert stopped == bool(ends)
    if not ends:
        assert "".join(pieces) == text
    else:
        until = text[: min(ends)]
        assert "".join(pieces) == until[: min(until.index(one) for one in stop if one in until)]


@given(st.binary(max_size=60))
def test_any_bytes_come_through(data: bytes) -> None:
    """Joined, the pieces of any tokens are the text of all of them, as a message can hold it."""
    assert "".join(shown(data)[0]) == as_bytes(data).replace("\0", "\ufffd")


def test_what_no_message_may_hold() -> None:
    """A NUL and halves of surrogate pairs are shown as U+FFFD, also in what was held back."""
    assert shown(b"a\0b") == (["a", "\ufffd", "b"], False)
    assert shown(b"a\0", ["\0b"]) == (["a", "\ufffd"], False)
    assert shown(b"a\0b", ["\0"]) == (["a"], True)
    pieces = Pieces(lambda ids: "".join(map(chr, ids)), [])
    assert [pieces.add(one) for one in (0xD83D, 0x61, 0xDC08, 0xFEFF)] == ["\ufffd", "a", "\ufffd", "\ufeff"]
