"""Recall on the way to a model: within a time limit, once per question, and never in the turn's way.

A turn without memories is better than no turn: what recall cannot give in time, or at all, is counted and
told to the log, and the context is empty. Whoever may not read is refused all the same. It is bound to no
event loop, and one of it serves many turns at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import TypeAlias

from memos_adapters._text import clean
from memos_engine import AccessDenied, BadInput, BadLimit, Context, MemCube, MemosError, Scope

TIMEOUT_S = 5.0
"""Includes loading the embedder at the first recall of a process."""
BUDGET_TOKENS = 2_000
CACHED_MAX = 512
CACHED_S = 60.0
"""No answer is given for longer: what was forgotten meanwhile is not told again."""
WORKERS = 4

_log = logging.getLogger(__name__)
_Key: TypeAlias = tuple[str, Scope | None, Hashable, str]
"""Cube, who asks, turn and question."""


@dataclass(frozen=True, slots=True)
class RecallCounts:
    """What became of the recalls so far."""

    asked: int = 0
    cached: int = 0
    """Answered by the recall of the same question of the same turn."""
    timed_out: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class _Asked:
    future: Future[Context]
    at: float


class Recaller:
    """Recalls for many turns at once. Thread-safe."""

    def __init__(
        self,
        *,
        budget_tokens: int = BUDGET_TOKENS,
        count_tokens: Callable[[str], int] | None = None,
        min_score: float | None = None,
        timeout_s: float | None = TIMEOUT_S,
        strict: bool = False,
    ) -> None:
        """Recall by these settings.

        Args:
            budget_tokens: As in `MemCube.recall`.
            count_tokens: As in `MemCube.recall`. None counts bytes.
            min_score: As in `MemCube.recall`. None: its default.
            timeout_s: Seconds after which a turn goes on without memories. None: it waits.
            strict: Raise what failed instead of going on without.

        Raises:
            BadInput: the time limit or the budget is not above 0, the score no probability, or the counter no
                function.
        """
        if timeout_s is not None and not timeout_s > 0:
            raise BadLimit(f"timeout_s is {timeout_s!r}: hand over seconds above 0, or None to wait")
        if isinstance(budget_tokens, bool) or not isinstance(budget_tokens, int) or budget_tokens < 1:
            raise BadLimit(f"budget_tokens is {budget_tokens!r}: hand over a whole number above 0")
        if count_tokens is not None and not callable(count_tokens):
            raise BadInput(
                f"count_tokens is {count_tokens!r}: hand over a function from a text to its tokens"
            )
        if min_score is not None and not 0 <= min_score <= 1:
            raise BadLimit(f"min_score is {min_score!r}: hand over a number from 0 to 1")
        self._arguments: dict[str, object] = {"budget_tokens": budget_tokens, "count_tokens": count_tokens}
        if min_score is not None:
            self._arguments["min_score"] = min_score
        self._timeout_s = timeout_s
        self._strict = strict
        self._pool: ThreadPoolExecutor | None = None
        self._pid = 0
        self._asked: OrderedDict[_Key, _Asked] = OrderedDict()
        self._counts = RecallCounts()
        self._lock = threading.Lock()

    @property
    def counts(self) -> RecallCounts:
        """What became of the recalls so far."""
        return self._counts

    def recall(self, cube: MemCube, question: str, turn: Hashable = None) -> Context:
        """What the cube remembers about `question`; empty when it is blank, late or failed.

        Args:
            cube: Whose memory, under the scope of who is asking.
            question: What is asked; blank recalls nothing.
            turn: What the answer is kept for: the same question of the same turn is recalled once. None
                keeps nothing.

        Raises:
            AccessDenied: that scope may not read the cube.
            MemosError: `strict` only: what failed.
            TimeoutError: `strict` only: it took too long.
        """
        if not question.strip():
            return Context()
        try:
            asked = self._future(cube, clean(question), turn)
            return asked.future.result(self._left(asked))
        except Exception as exc:  # noqa: BLE001 -- the turn goes on: what failed is counted and told
            return self.without(exc)

    async def arecall(self, cube: MemCube, question: str, turn: Hashable = None) -> Context:
        """As `recall`, for a coroutine; cancelling it leaves the recall to others who wait for it."""
        if not question.strip():
            return Context()
        try:
            asked = self._future(cube, clean(question), turn)
            waiting = asyncio.shield(asyncio.wrap_future(asked.future))
            return await asyncio.wait_for(waiting, self._left(asked))
        except Exception as exc:  # noqa: BLE001 -- the turn goes on: what failed is counted and told
            return self.without(exc)

    def drop(self, cube: MemCube) -> None:
        """Give no kept answer of this cube any more: what it remembers was corrected or erased."""
        with self._lock:
            kept = ((key, asked) for key, asked in self._asked.items() if key[0] != cube.id)
            self._asked = OrderedDict(kept)

    def without(self, exc: Exception) -> Context:
        """No memories in this turn, counted and told to the log: for callers that failed on the way to a recall.

        Raises:
            AccessDenied: that is what failed; or anything else, when `strict`.
        """
        if self._strict or isinstance(exc, AccessDenied):
            raise exc
        late = isinstance(exc, TimeoutError)
        with self._lock:
            self._count(timed_out=int(late), failed=int(not late))
        told = f": {exc}" if isinstance(exc, MemosError) else ""  # a foreign one may hold what was asked
        _log.warning(
            "a turn goes on without memories",
            extra={"action": "recall", "error": f"{type(exc).__name__}{told}"},
        )
        return Context()

    def _left(self, asked: _Asked) -> float | None:
        """Seconds to wait: a turn that asks again, as agents do in every step, does not begin to wait anew."""
        if self._timeout_s is None or asked.future.done():
            return None
        return max(0.0, asked.at + self._timeout_s - time.monotonic())

    def _future(self, cube: MemCube, question: str, turn: Hashable) -> _Asked:
        key: _Key | None = None if turn is None else (cube.id, cube.scope, turn, question)
        now = time.monotonic()
        with self._lock:
            known = None if key is None else self._asked.get(key)
            if known is not None and now - known.at > CACHED_S:
                known = None
            self._count(asked=1, cached=int(known is not None))
            if known is not None:
                return known
            if self._pool is None or self._pid != os.getpid():  # a fork takes no threads along
                self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="memos-recall")
                self._pid = os.getpid()
            ask = copy_context().run  # tracing and the like follow the call
            future = self._pool.submit(ask, self._ask, cube, question, now)
            asked = _Asked(future, now)
            if key is not None:
                self._asked[key] = asked
                self._asked.move_to_end(key)
                if len(self._asked) > CACHED_MAX:
                    self._asked.popitem(last=False)
        if key is not None:
            future.add_done_callback(lambda done: self._forget_failure(key, done))
        return asked

    def _ask(self, cube: MemCube, question: str, asked_at: float) -> Context:
        if self._timeout_s is not None and time.monotonic() - asked_at > self._timeout_s:
            raise TimeoutError("it stood in the queue for too long: earlier recalls are slow")
        return cube.recall(question, **self._arguments)  # type: ignore[arg-type] # -- named as its parameters

    def _forget_failure(self, key: _Key, done: Future[Context]) -> None:
        """What failed is tried again when the turn asks again."""
        if done.cancelled() or done.exception() is not None:
            with self._lock:
                if key in self._asked and self._asked[key].future is done:
                    del self._asked[key]

    def _count(self, *, asked: int = 0, cached: int = 0, timed_out: int = 0, failed: int = 0) -> None:
        now = self._counts
        self._counts = RecallCounts(
            now.asked + asked, now.cached + cached, now.timed_out + timed_out, now.failed + failed
        )
