"""An answer in pieces: when it begins, what is kept of it, and what goes on meanwhile."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from memos_engine import (
    AccessDenied,
    BadInput,
    ChatMessage,
    Closed,
    MemCube,
    MemOS,
    Message,
    ModelFailed,
    ModelUnavailable,
    StoreError,
)
from memos_engine.testing.fakes import FrozenClock, HashEmbedder, ScriptedChatModel

ASKED = [Message("user", "Where did I move, Lisbon?")]


def saying(*answers: str | Exception) -> ScriptedChatModel:
    """A model that says these, in order."""
    return ScriptedChatModel(*answers)


def episodes(cube: MemCube) -> list[tuple[str, str]]:
    """Role and text of all turns, oldest first."""
    return [(item.role or "", item.text) for item in cube.list(kinds=["episode"])[::-1]]


@pytest.fixture
def moved(cube: MemCube, clock: FrozenClock) -> MemCube:
    """A cube that knows of Lisbon since yesterday."""
    cube.capture(
        [Message("user", "I moved to Lisbon.", name="Ann", at=clock() - timedelta(days=1))], thread="old"
    )
    return cube


class Slow:
    """A chat model that waits until it may answer."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()

    def complete(
        self, messages: Sequence[ChatMessage], *, max_tokens: int = 512, temperature: float = 0.0
    ) -> str:
        """Wait, then answer."""
        self.asked.set()
        assert self.go.wait(30)
        return "late"


class TestStream:
    """An answer in pieces."""

    def test_it_is_the_answer(self, moved: MemCube) -> None:
        """The pieces make the text; the whole answer is there in the end, and not before."""
        with moved.chat_stream(saying("In Lisbon."), ASKED) as stream:
            with pytest.raises(BadInput, match="no answer yet"):
                _ = stream.answer
            assert "".join(stream) == "In Lisbon."
            assert stream.answer.text == "In Lisbon."
            assert list(stream) == []
        assert stream.answer.finish == "stop"
        assert stream.answer.captured is not None

    def test_nothing_happens_before_the_first_piece(self, moved: MemCube) -> None:
        """A stream that nobody listens to asks no model and keeps nothing, closed or dropped."""
        model = saying("never said")
        before = moved.stats().revision
        stream = moved.chat_stream(model, ASKED)
        stream.close()
        stream.close()
        assert (stream.answer.text, stream.answer.finish, stream.answer.captured) == ("", "closed", None)
        moved.chat_stream(model, ASKED)
        gc.collect()
        assert model.prompts == []
        assert moved.stats().revision == before
        assert list(stream) == []

    def test_closed_early(self, moved: MemCube) -> None:
        """What was said until then is captured, with the question."""
        stream = moved.chat_stream(saying("In Lisbon."), ASKED, thread="t")
        assert next(stream) == "In Lisbon."
        stream.close()
        assert (stream.answer.text, stream.answer.finish) == ("In Lisbon.", "closed")
        assert stream.answer.memories
        assert episodes(moved)[-2:] == [("user", ASKED[0].text), ("assistant", "In Lisbon.")]

    def test_left_by_an_error_of_the_listener(self, moved: MemCube) -> None:
        """A `with` block that is left by an error closes the stream."""

        def listen() -> None:
            with moved.chat_stream(saying("In Lisbon."), ASKED) as stream:
                next(stream)
                raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            listen()
        assert episodes(moved)[-1] == ("assistant", "In Lisbon.")

    def test_dropped(self, moved: MemCube) -> None:
        """A stream that is dropped without being closed keeps nothing."""
        before = moved.stats().revision
        stream = moved.chat_stream(saying("In Lisbon."), ASKED)
        next(stream)
        del stream
        gc.collect()
        assert moved.stats().revision == before

    def test_an_error_keeps_nothing(self, moved: MemCube) -> None:
        """An error of the model is raised, and nothing of the turn is captured; the stream is over."""
        before = moved.stats().revision
        stream = moved.chat_stream(saying(ModelFailed("no sense")), ASKED)
        with pytest.raises(ModelFailed, match="no sense"):
            next(stream)
        assert list(stream) == []
        stream.close()
        with pytest.raises(BadInput, match="no answer"):
            _ = stream.answer
        with pytest.raises(ModelUnavailable):
            moved.chat(saying(ModelUnavailable("gone")), ASKED)
        assert moved.stats().revision == before

    def test_nothing_is_locked_meanwhile(self, moved: MemCube) -> None:
        """While a model takes its time, others write, read and chat in the same cube; a close waits for the piece."""
        slow = Slow()
        stream = moved.chat_stream(slow, ASKED)
        pieces: list[str] = []
        listener = threading.Thread(target=lambda: pieces.extend(stream), daemon=True)
        listener.start()
        assert slow.asked.wait(30)
        moved.add("written meanwhile")
        assert moved.search("written")
        assert moved.chat(saying("quick"), [Message("user", "And now?")]).text == "quick"
        slow.go.set()
        listener.join(30)
        assert pieces == ["late"]
        assert stream.answer.captured is not None

    def test_a_memos_closed_meanwhile(self, tmp_path: Path) -> None:
        """The answer still comes; that it could not be kept is told."""
        memos = MemOS.open(tmp_path / "closing", embedder=HashEmbedder(), background=False)
        stream = memos.cube("alice").chat_stream(saying("In Lisbon."), ASKED)
        assert next(stream) == "In Lisbon."
        memos.close()
        with pytest.raises(Closed):
            next(stream)
        with pytest.raises(Closed):
            memos.cube("alice").chat(saying("a"), ASKED)

    def test_a_deleted_cube(self, memos: MemOS, cube: MemCube) -> None:
        """A cube that is deleted meanwhile takes nothing."""
        stream = cube.chat_stream(saying("In Lisbon."), ASKED)
        next(stream)
        memos.delete("alice")
        with pytest.raises((BadInput, StoreError, AccessDenied, LookupError)):
            next(stream)

    def test_many_threads(self, memos: MemOS) -> None:
        """Conversations of many threads in one cube at once are each captured whole."""
        cube = memos.cube("busy")

        def one(number: int) -> None:
            cube.chat(
                saying(f"answer {number}"), [Message("user", f"question {number}")], thread=f"t{number}"
            )

        threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for number in range(12):
            texts = [item.text for item in cube.list(kinds=["episode"], thread=f"t{number}")]
            assert texts == [f"answer {number}", f"question {number}"]
        assert cube.check().ok


def test_a_stream_is_an_iterator(cube: MemCube) -> None:
    """It goes wherever an iterator of text goes."""
    stream: Iterator[str] = cube.chat_stream(saying("ok"), ASKED)
    assert list(stream) == ["ok"]
