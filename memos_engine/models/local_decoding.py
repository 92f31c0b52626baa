"""The loop of a generation: read, choose, show, until something ends it."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Sequence

from memos_engine.errors import BadLimit
from memos_engine.models.local_reading import Reading
from memos_engine.models.local_sampling import Sampler
from memos_engine.models.local_text import Pieces
from memos_engine.models.local_values import Generation

__all__ = ["Decoding"]


class Decoding:
    """One generation, to be gone through once.

    Args:
        ids: The new tokens to start from.
        ends: Tokens that end the text and are no part of it.
        context_tokens: Where the model can read no further.

    Raises:
        BadLimit: `max_new_tokens` is less than 1.
    """

    def __init__(
        self,
        reading: Reading,
        ids: Sequence[int],
        *,
        pieces: Pieces,
        sampler: Sampler,
        ends: Collection[int],
        max_new_tokens: int,
        context_tokens: int,
    ) -> None:
        if max_new_tokens < 1:
            raise BadLimit(f"max_new_tokens={max_new_tokens!r} must be at least 1.")
        self._reading = reading
        self._prompt = tuple(ids)
        self._pieces = pieces
        self._sampler = sampler
        self._ends = ends
        self._tokens_max = max_new_tokens
        self._context_tokens = context_tokens
        self._chosen: list[int] = []
        self._prompt_tokens = 0
        self._text = ""
        self._stopped = False
        self._began = time.perf_counter()
        self._first_token_s = 0.0

    def pieces(self) -> Generator[str, None, Generation]:
        """Yield the text as it comes; the pieces joined are the whole, which is returned in the end.

        Raises:
            BadInput: There is nothing to read, or more than the model can.
            ModelFailed: The network cannot be run.
        """
        token = self._first()
        while not self._ended_by(token):
            if piece := self._pieces.add(token):
                self._text += piece
                yield piece
            if self._pieces.stopped or self._full():
                break
            token = self._next((token,))
        self._stopped = self._stopped or self._pieces.stopped
        if tail := self._pieces.rest():
            self._stopped = self._stopped or self._pieces.stopped
            self._text += tail
            yield tail
        return Generation(
            text=self._text,
            ids=tuple(self._chosen),
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._reading.reused,
            seconds_to_first_token=self._first_token_s,
            finish="stop" if self._stopped else "length",
        )

    def whole(self) -> Generation:
        """Go through all of it and return what was said; raises what `pieces` raises."""
        going = self.pieces()
        while True:
            try:
                next(going)
            except StopIteration as over:
                told: Generation = over.value
                return told

    def _first(self) -> int:
        token = self._next(self._prompt)
        self._first_token_s = time.perf_counter() - self._began
        self._prompt_tokens = len(self._reading.ids)
        return token

    def _next(self, ids: Sequence[int]) -> int:
        token = self._sampler.choose(self._reading.feed(ids)[-1])
        self._chosen.append(token)
        return token

    def _ended_by(self, token: int) -> bool:
        self._stopped = token in self._ends
        return self._stopped

    def _full(self) -> bool:
        return len(self._chosen) >= self._tokens_max or len(self._reading.ids) >= self._context_tokens
