"""An answer while it is said: an iterator of pieces, which ends the turn once it is over or closed."""

from __future__ import annotations

import threading
from collections.abc import Generator
from types import TracebackType
from typing import Self

from memos_engine.chat.prompt import Said
from memos_engine.chat.turn import Turn
from memos_engine.errors import BadInput
from memos_engine.items import ChatAnswer

__all__ = ["ChatStream"]


class ChatStream:
    """Pieces of an answer, in order; `answer` holds all of it in the end.

        with cube.chat_stream(model, messages) as stream:
            for piece in stream:
                print(piece, end="")
        print(stream.answer.memories)

    Recall and the model begin with the first piece. The turn is captured when the pieces are over, or when
    `close` ends them early, as far as they were said. Once an error was raised, or when a stream is dropped
    without being closed, nothing is captured. Nothing is locked between two pieces. Thread-safe.
    """

    def __init__(self, turn: Turn) -> None:
        """Go through `turn`."""
        self._turn = turn
        self._pieces: Generator[str, None, Said] | None = turn.pieces()
        self._said = ""
        self._answer: ChatAnswer | None = None
        self._lock = threading.Lock()  # held while a piece is made: `close` of another thread waits for it

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        with self._lock:
            if self._pieces is None:
                raise StopIteration
            pieces, self._pieces = self._pieces, None  # an error leaves it over
            try:
                piece = next(pieces)
            except StopIteration as over:
                self._answer = self._turn.end(over.value)
                raise StopIteration from None
            self._pieces = pieces
            self._said += piece
            return piece

    @property
    def answer(self) -> ChatAnswer:
        """The whole answer.

        Raises:
            BadInput: the stream is not over yet, or an error ended it.
        """
        if self._answer is None:
            raise BadInput("there is no answer yet: go through the stream to its end, or close() it")
        return self._answer

    def close(self) -> None:
        """End the answer here, and capture the turn as far as it was said. A second call does nothing.

        Where nothing was said yet, nothing is captured.

        Raises:
            AccessDenied, StoreError: as `MemCube.capture`.
        """
        with self._lock:
            pieces, self._pieces = self._pieces, None
            if pieces is None:
                return
            pieces.close()
            said = Said(self._said, "closed", reason="It was closed before the model had ended.")
            self._answer = (
                self._turn.end(said) if self._said else ChatAnswer("", "closed", reason=said.reason)
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
