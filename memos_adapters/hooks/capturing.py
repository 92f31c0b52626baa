"""Capture for many conversations at once, each at most once in an interval, and nothing lost meanwhile.

A turn that comes too soon is made durable in a journal, which costs no embedding, and is captured with its
successors: by the next turn after the interval, by a thread that looks after those that no turn follows, by
`flush` and `close`, or by the next process. Turns have ids, so none is captured twice however these meet.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from memos_adapters._capture import captured
from memos_adapters.hooks.journal import Conversation, Journal, Kept, Waiting, conversation_of, keyed
from memos_engine import (
    BadInput,
    BadLimit,
    CaptureResult,
    Closed,
    MemCube,
    MemOS,
    MemosError,
    Message,
)

STOP_TIMEOUT_S = 30.0
_IDLE_MAX = 1_024
"""Conversations that nothing waits in are forgotten when there are more, and twice as many as then were left."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Talk:
    """What is known of a conversation while it goes on."""

    cube: MemCube
    of: Conversation
    due: float
    """From this moment, by the monotonic clock, it may be captured again."""
    known: set[str] = field(default_factory=set)
    """Keys of the turns that are captured or wait: they are not kept anew."""
    waiting: dict[str, Kept] = field(default_factory=dict)
    """By key."""
    busy: threading.Lock = field(default_factory=threading.Lock)
    """Held by who captures or keeps its turns."""
    users: int = 0
    """Who holds it, or waits for `busy`."""


class Capturing:
    """Captures at once, or together after a while. Thread-safe."""

    def __init__(self, memos: MemOS | MemCube, interval_s: float = 0.0) -> None:
        """Capture each conversation at most once in `interval_s`; 0: at once.

        Raises:
            BadInput: an interval is asked for and `memos` is a cube, which has no place for what waits.
            BadLimit: the interval is negative, or no number.
        """
        number = isinstance(interval_s, (int, float)) and not isinstance(interval_s, bool)
        if not number or not 0 <= interval_s <= threading.TIMEOUT_MAX:
            raise BadLimit(
                f"capture_interval_s is {interval_s!r}: hand over seconds, or 0 to capture at once"
            )
        if interval_s and isinstance(memos, MemCube):
            raise BadInput("what waits for capture_interval_s has no place in a MemCube: hand over the MemOS")
        self._journal = Journal(memos) if isinstance(memos, MemOS) else None
        self._interval_s = interval_s
        self._talks: dict[Conversation, _Talk] = {}
        self._talks_max = _IDLE_MAX
        self._lock = threading.Condition()
        self._worker: threading.Thread | None = None
        self._opened = False
        self._closed = False
        self.new = 0
        """Episodes that were written."""
        self.failed = 0
        """Attempts that failed in the background; what they were about waits on."""

    @property
    def waiting(self) -> int:
        """Turns that wait here."""
        with self._lock:
            return sum(len(talk.waiting) for talk in self._talks.values())

    def open(self) -> None:
        """At the first call, capture what other processes left behind.

        Raises:
            Closed: it was closed.
        """
        with self._lock:
            self._check_open()
            opened, self._opened = self._opened, True
        if not opened and self._journal is not None:
            try:
                self._count(new=self._journal.recover())
            except Exception as exc:  # noqa: BLE001 -- the turn goes on; what was left waits on
                self.tell(exc)

    def capture(self, cube: MemCube, thread: str, messages: Sequence[Message]) -> CaptureResult | None:
        """Capture a conversation's turns, each of which has an id; None when they wait, durable already.

        Raises:
            AccessDenied: the cube's scope may not write to it.
            Closed: it was closed.
            StoreError: not all of them are stored; handed over again, they are.
        """
        self.open()
        if not self._interval_s or self._journal is None:
            return self._counted(captured(cube, messages, thread))
        with self._talk(cube, thread) as talk:
            turns = keyed(talk.of, messages)
            if time.monotonic() >= talk.due:
                return self._captured(talk, self._journal, turns)
            self._keep(talk, self._journal, turns)
        return None

    def flush(self) -> None:
        """Capture all that waits, here or in what other processes left behind.

        Raises:
            MemosError: something could not be captured; it waits on.
        """
        if self._journal is not None:
            error = self._flush(self._journal)
            self._count(new=self._journal.recover())
            if error is not None:
                raise error

    def close(self) -> None:
        """Flush, and end the thread that looks after what waits. What cannot be captured stays durable.

        Raises:
            MemosError: something could not be captured.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._lock.notify_all()
            worker = self._worker
        if worker is not None:
            worker.join(STOP_TIMEOUT_S)
        if self._journal is not None:
            if (error := self._flush(self._journal)) is not None:
                raise error
            self._journal.close()

    def tell(self, exc: Exception) -> None:
        """Count and log a failure that nobody is told of by an error."""
        with self._lock:
            self.failed += 1
        told = f": {exc}" if isinstance(exc, MemosError) else ""  # a foreign one may hold what was said
        _log.warning(
            "a turn was not captured", extra={"action": "capture", "error": f"{type(exc).__name__}{told}"}
        )

    # One conversation, `busy` held

    def _captured(self, talk: _Talk, journal: Journal, turns: dict[str, Waiting]) -> CaptureResult:
        """Capture what waits and what is handed over, and begin the interval anew."""
        said = {key: kept.message for key, kept in talk.waiting.items() if key not in turns}
        for key, turn in turns.items():
            said[key] = talk.waiting[key].message if key in talk.waiting else turn.message
        result = self._counted(captured(talk.cube, list(said.values()), talk.of.thread))
        talk.known.update(said)
        talk.due = time.monotonic() + self._interval_s
        self._drop(talk, journal)
        return result

    def _drop(self, talk: _Talk, journal: Journal) -> None:
        """Let nothing wait any more."""
        journal.remove([kept.position for kept in talk.waiting.values()])
        talk.waiting.clear()

    def _keep(self, talk: _Talk, journal: Journal, turns: dict[str, Waiting]) -> None:
        """Make the turns that are new here durable, and see that somebody captures them."""
        fresh = {key: turn for key, turn in turns.items() if key not in talk.known}
        if not fresh:
            return
        with self._lock:
            self._check_open()  # `close` waits for `busy`, and nobody keeps anything behind it
        talk.waiting.update(journal.append(fresh))
        talk.known.update(fresh)
        with self._lock:
            if self._worker is None:
                self._worker = threading.Thread(
                    target=self._look_after, args=[journal], name="memos-hooks", daemon=True
                )
                self._worker.start()
            self._lock.notify_all()

    def _flushed(self, talk: _Talk, journal: Journal) -> Exception | None:
        """Capture what waits in a conversation; what its cube was deleted with is dropped. None: it is done."""
        with talk.busy:
            try:
                if talk.waiting and journal.cube_of(talk.of) is not None:
                    self._captured(talk, journal, {})
                self._drop(talk, journal)
            except Exception as exc:  # noqa: BLE001 -- the others are captured first; it waits on
                talk.due = time.monotonic() + self._interval_s
                self.tell(exc)
                return exc
        return None

    # All of them

    def _flush(self, journal: Journal) -> Exception | None:
        """Capture all that waits here; the first error, once the others are captured."""
        with self._lock:
            talks = list(self._talks.values())
        return next(iter([exc for talk in talks if (exc := self._flushed(talk, journal)) is not None]), None)

    @contextlib.contextmanager
    def _talk(self, cube: MemCube, thread: str) -> Iterator[_Talk]:
        """A conversation, for one caller at a time."""
        of = conversation_of(cube, thread)
        with self._lock:
            self._forget_idle()
            talk = self._talks.setdefault(of, _Talk(cube, of, due=time.monotonic()))
            talk.users += 1
        try:
            with talk.busy:
                yield talk
        finally:
            with self._lock:
                talk.users -= 1

    def _forget_idle(self) -> None:
        if len(self._talks) < self._talks_max:
            return
        now = time.monotonic()
        self._talks = {
            of: talk for of, talk in self._talks.items() if talk.users or talk.waiting or talk.due > now
        }
        self._talks_max = max(_IDLE_MAX, 2 * len(self._talks))

    def _look_after(self, journal: Journal) -> None:
        """Capture what waits when it is due, as long as something waits."""
        while True:
            with self._lock:
                talks = [talk for talk in self._talks.values() if talk.waiting]
                if self._closed or not talks:
                    self._worker = None
                    return
                now = time.monotonic()
                due = [talk for talk in talks if talk.due <= now]
                if not due:
                    self._lock.wait(min(talk.due for talk in talks) - now)
            for talk in due:
                if isinstance(self._flushed(talk, journal), Closed):
                    with self._lock:
                        self._worker = None
                    return  # the MemOS was closed: the next process captures what waits

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("these MemoryHooks are closed: make others")

    def _counted(self, result: CaptureResult) -> CaptureResult:
        self._count(new=result.new)
        return result

    def _count(self, *, new: int) -> None:
        with self._lock:
            self.new += new
