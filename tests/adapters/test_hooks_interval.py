"""A least interval between captures: what comes too soon waits, durable, and is captured once, whatever happens."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memos_adapters.hooks import MemoryHooks, capturing
from memos_adapters.hooks.journal import PREFIX
from memos_engine import (
    AccessDenied,
    BadInput,
    CaptureResult,
    Closed,
    MemCube,
    MemOS,
    Message,
    Scope,
    StoreBusy,
)
from memos_engine.ports import Vectors
from memos_engine.testing.fakes import FrozenClock, HashEmbedder
from tests.adapters.hooks_writer import SESSIONS

ROOT = Path(__file__).parents[2]
LONG_S = 3_600.0
SOON_S = 0.05
GUARD_S = 30.0
ROUNDS = 6


def says(*texts: str) -> list[dict[str, str]]:
    """A conversation of one who talks to nobody."""
    return [{"role": "user", "content": text} for text in texts]


def memory(memos: MemOS, name: str = "alice") -> MemCube:
    """A user's cube."""
    return memos.acting_as(Scope(user=name)).cube("memories")


def texts(memos: MemOS, name: str = "alice") -> list[str]:
    """What a user said, as captured, oldest first."""
    return [item.text for item in reversed(memory(memos, name).list(kinds=["episode"], limit=10_000))]


def until(true: Callable[[], bool]) -> None:
    """Wait until something is so."""
    for _ in range(int(GUARD_S / 0.01)):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come about")


def journaled(memos: MemOS) -> int:
    """How many turns wait on the disk."""
    return sum(info.entries for info in memos.threads.threads(prefix=PREFIX))


@pytest.fixture
def hooks(memos: MemOS) -> MemoryHooks:
    """Hooks whose interval does not end within a test."""
    return MemoryHooks(memos, user_id="alice", session_id="s", capture_interval_s=LONG_S)


def test_what_comes_too_soon_waits(memos: MemOS, hooks: MemoryHooks) -> None:
    """The first turn is captured, those that follow within the interval are durable, and `flush` captures them."""
    result = hooks.capture_after(says("one"))
    assert result is not None
    assert result.new == 1
    assert hooks.capture_after(says("one", "two")) is None
    assert hooks.capture_after(says("one", "two", "yes", "yes")) is None
    assert hooks.capture_after(says("one", "two", "yes", "yes")) is None
    assert (hooks.counts.captured, hooks.counts.waiting) == (1, 3)
    assert texts(memos) == ["one"]
    assert journaled(memos) == 3
    assert "two" not in hooks.recall_before(says("two")).text, "it is recalled once it is captured"
    hooks.flush()
    assert texts(memos) == ["one", "two", "yes", "yes"]
    assert (hooks.counts.captured, hooks.counts.waiting, journaled(memos)) == (4, 0, 0)
    hooks.flush()
    assert len(texts(memos)) == 4


def test_the_next_turn_brings_in_what_waits(
    memos: MemOS, hooks: MemoryHooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the interval one capture takes all, in order, and what the loop cut from its history too."""
    monkeypatch.setattr(hooks._memory.capturing, "_look_after", lambda journal: None)
    hooks.capture_after(says("one"))
    hooks.capture_after(says("one", "two", "three"))
    (talk,) = hooks._memory.capturing._talks.values()
    talk.due = 0.0
    result = hooks.capture_after(says("three", "four"))
    assert result is not None
    assert result.new == 3
    assert texts(memos) == ["one", "two", "three", "four"]
    assert hooks.capture_after(says("three", "four", "five")) is None, "the interval began anew"


def test_nobody_needs_to_come_back(memos: MemOS) -> None:
    """Once the interval is over what waits is captured, though no turn follows."""
    hooks = MemoryHooks(memos, user_id="alice", capture_interval_s=SOON_S)
    for session in ("s", "t"):
        hooks.capture_after(says("one"), session_id=session)
        hooks.capture_after(says("one", "two"), session_id=session)
    until(lambda: hooks.counts.waiting == 0)
    assert sorted(texts(memos)) == ["one", "one", "two", "two"]
    until(lambda: hooks._memory.capturing._worker is None)
    hooks.capture_after(says("three", "four"), session_id="s")
    hooks.capture_after(says("three", "four", "five"), session_id="s")
    until(lambda: "five" in texts(memos))
    hooks.close()


def test_each_session_has_its_own_interval(memos: MemOS) -> None:
    """One session's capture does not hold up another's, nor another user's."""
    hooks = MemoryHooks(memos, capture_interval_s=LONG_S)
    for user, session in (("alice", "s"), ("alice", "t"), ("bob", "s")):
        assert hooks.capture_after(says("one"), user_id=user, session_id=session) is not None
        assert hooks.capture_after(says("one", "two"), user_id=user, session_id=session) is None
    hooks.close()
    assert Counter(texts(memos)) == {"one": 2, "two": 2}
    assert texts(memos, "bob") == ["one", "two"]


def test_closing_captures_and_leaves_nothing(memos: MemOS) -> None:
    """`close`, or the end of a block, captures what waits and erases the journal; then there is no turn more."""
    with MemoryHooks(memos, user_id="alice", session_id="s", capture_interval_s=LONG_S) as hooks:
        hooks.capture_after(says("one"))
        hooks.capture_after(says("one", "two"))
    assert texts(memos) == ["one", "two"]
    assert memos.threads.threads() == []
    with pytest.raises(Closed):
        hooks.capture_after(says("three"))


def test_what_waited_leaves_the_disk(memos: MemOS, hooks: MemoryHooks) -> None:
    """Captured and forgotten, the words of a turn that waited stand in no file."""
    hooks.capture_after(says("one"))
    hooks.capture_after(says("one", "unheard-of words"))
    hooks.flush()
    (item,) = (item for item in memory(memos).list(kinds=["episode"]) if item.text == "unheard-of words")
    memory(memos).forget(item.id)
    found = [
        path for path in memos._host.root.rglob("*") if path.is_file() and b"unheard-of" in path.read_bytes()
    ]
    assert found == []
    hooks.capture_after(says("one", "unheard-of words"))
    hooks.flush()
    assert texts(memos) == ["one"], "forgotten, it is not captured from a journal either"


def test_a_turn_keeps_its_time(memos: MemOS, hooks: MemoryHooks, clock: FrozenClock) -> None:
    """What waited is remembered as of when it was said, not of when it was captured."""
    hooks.capture_after(says("one"))
    said_at = clock.advance(timedelta(hours=1))
    hooks.capture_after(says("one", "two"))
    clock.advance(timedelta(days=3))
    known = datetime(2024, 1, 1, tzinfo=UTC)
    hooks.capture_after([Message("user", "one"), Message("user", "two"), Message("user", "three", at=known)])
    hooks.flush()
    at = {item.text: item.event_at for item in memory(memos).list(kinds=["episode"])}
    assert (at["two"], at["three"]) == (said_at, known)


def test_a_deleted_memory_is_not_made_again(memos: MemOS) -> None:
    """What waits for a cube that was deleted is dropped with it, here and in another process's journal."""
    for made_anew in (False, True):
        pairs = [MemoryHooks(memos, user_id="alice", session_id=s, capture_interval_s=LONG_S) for s in "st"]
        for each in pairs:
            each.capture_after(says("one"))
            each.capture_after(says("one", "two"))
        memos.acting_as(Scope(user="alice")).delete("memories")
        if made_anew:
            assert texts(memos) == []
        pairs[0].flush()
        assert len(memos.cubes()) == int(made_anew)
        assert journaled(memos) == 0
        for each in pairs:
            each.close()
        assert len(memos.cubes()) == int(made_anew)
    assert texts(memos) == []


def test_a_refusal_drops_nothing(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a cube that is there, and may not be written for now, waits on and is captured later."""
    hooks = MemoryHooks(memos, user_id="alice", capture_interval_s=LONG_S)
    hooks.capture_after(says("one"))
    hooks.capture_after(says("one", "two"))

    def refused(*_: object) -> CaptureResult:
        raise AccessDenied("not now")

    with monkeypatch.context() as patched:
        patched.setattr(capturing, "captured", refused)
        with pytest.raises(AccessDenied):
            hooks.flush()
    assert journaled(memos) == 1
    hooks.flush()
    assert texts(memos) == ["one", "two"]
    hooks.close()


class FailingEmbedder(HashEmbedder):
    """Fails while it is told to."""

    fails = False

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Fail, or embed."""
        if self.fails:
            raise RuntimeError("cannot embed")
        return super().embed(texts)


def test_what_cannot_be_captured_waits_on(tmp_path: Path) -> None:
    """A capture that fails in the background is counted and tried again; `flush` and `close` tell of it."""
    embedder = FailingEmbedder()
    with MemOS.open(tmp_path / "root", embedder=embedder, background=False) as memos:
        hooks = MemoryHooks(memos, user_id="alice", session_id="s", capture_interval_s=SOON_S)
        hooks.capture_after(says("one"))
        hooks.capture_after(says("one", "two"))
        embedder.fails = True
        until(lambda: hooks.counts.failed > 1 or "two" in texts(memos))
        if hooks.counts.waiting:
            with pytest.raises(RuntimeError):
                hooks.flush()
        embedder.fails = False
        until(lambda: hooks.counts.waiting == 0)
        long = MemoryHooks(memos, user_id="alice", session_id="t", capture_interval_s=LONG_S)
        long.capture_after(says("one"))
        long.capture_after(says("one", "three"))
        embedder.fails = True
        with pytest.raises(RuntimeError):
            long.close()
        assert journaled(memos) == 1
        embedder.fails = False
        hooks.flush()
        assert texts(memos) == ["one", "two", "one", "three"]


def test_when_the_engine_is_closed_first_nothing_is_lost(tmp_path: Path) -> None:
    """What waited when the MemOS was closed is captured by the next hooks on its root, at their first call."""
    with MemOS.open(tmp_path / "root", embedder=HashEmbedder(), background=False) as memos:
        hooks = MemoryHooks(memos, user_id="alice", session_id="s", capture_interval_s=SOON_S)
        hooks.capture_after(says("one"))
        hooks.capture_after(says("one", "I keep quokkas"))
    until(lambda: hooks._memory.capturing._worker is None)
    with MemOS.open(tmp_path / "root", embedder=HashEmbedder(), background=False) as memos:
        again = MemoryHooks(memos, user_id="bob", min_score=0)
        assert not again.recall_before(says("who keeps quokkas?"))
        assert texts(memos) == ["one", "I keep quokkas"]
        assert again.counts.captured in (0, 1), "by its own thread before the end, or now"


def test_what_another_left_is_captured_whatever_the_settings(memos: MemOS, hooks: MemoryHooks) -> None:
    """Hooks bound to another user, without an interval, bring in what was left behind, for whom it was said."""
    hooks.capture_after(says("one"))
    hooks.capture_after(says("one", "two"))
    MemoryHooks(memos, user_id="bob", isolation="agent", cube="other").flush()
    assert texts(memos) == ["one", "two"]
    assert {cube.owner for cube in memos.cubes()} == {"user:alice"}
    hooks.close()
    assert texts(memos) == ["one", "two"]


def test_recovery_that_fails_is_tried_again(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be brought in at the first call stays in its journal; the turn goes on."""
    left = MemoryHooks(memos, user_id="alice", session_id="s", capture_interval_s=LONG_S)
    left.capture_after(says("one"))
    left.capture_after(says("one", "two"))
    again = MemoryHooks(memos, user_id="bob")

    def busy(self: MemCube, *args: object, **how: object) -> None:
        raise StoreBusy("locked")

    monkeypatch.setattr(MemCube, "capture", busy)
    assert not again.recall_before(says("hello"))
    assert again.counts.failed == 1
    with pytest.raises(StoreBusy):
        again.flush()
    monkeypatch.undo()
    again.flush()
    assert texts(memos) == ["one", "two"]


def test_a_cube_alone_has_no_place_for_it(cube: MemCube) -> None:
    """An interval over a MemCube is refused: it has no threads."""
    with pytest.raises(BadInput, match="hand over the MemOS"):
        MemoryHooks(cube, capture_interval_s=1)


def test_idle_sessions_are_forgotten(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of conversations does not grow for ever, and nothing that waits is forgotten."""
    monkeypatch.setattr(capturing, "_IDLE_MAX", 4)
    hooks = MemoryHooks(memos, user_id="alice", capture_interval_s=LONG_S)
    known = hooks._memory.capturing
    monkeypatch.setattr(known, "_talks_max", 4)
    for n in range(3):
        hooks.capture_after(says("one"), session_id=f"waits {n}")
        hooks.capture_after(says("one", "two"), session_id=f"waits {n}")
    for n in range(30):
        hooks.capture_after(says("one"), session_id=f"idle {n}")
        with known._lock:
            for talk in known._talks.values():
                talk.due = talk.due if talk.waiting else 0.0
    assert len(known._talks) <= 12
    hooks.close()
    assert Counter(texts(memos)) == {"one": 33, "two": 3}


def test_many_threads_and_hooks_lose_nothing(memos: MemOS) -> None:
    """Two pairs of hooks and six threads in the same sessions, flushed meanwhile: each turn is there once."""
    pairs = [MemoryHooks(memos, user_id="alice", capture_interval_s=SOON_S) for _ in range(2)]
    stop = threading.Event()

    def talk(n: int) -> None:
        conversation: list[dict[str, str]] = []
        for turn in range(12):
            conversation += says(f"{n % 3}: turn {turn}")
            pairs[n % 2].capture_after(conversation, session_id=f"s{n % 3}")

    def flush() -> None:
        while not stop.is_set():
            for pair in pairs:
                pair.flush()
            time.sleep(0.01)

    with ThreadPoolExecutor(7) as pool:
        flushing = pool.submit(flush)
        try:
            list(pool.map(talk, range(6)))
        finally:
            stop.set()
        flushing.result(GUARD_S)
    for pair in pairs:
        pair.close()
    assert sorted(texts(memos)) == sorted(f"{n}: turn {turn}" for n in range(3) for turn in range(12))
    assert memos.threads.threads() == []


def spawn(root: Path, round_: int, interval_s: float) -> subprocess.Popen[str]:
    """A writer that waits for the word; what it says goes to a file, which no kill empties."""
    with (root.parent / f"said-{round_}").open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.adapters.hooks_writer", str(root), str(round_), str(interval_s)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    """Killed while turns wait and are captured, a process leaves them to the next: all that was told is there once."""
    root = tmp_path / "root"
    delays = random.Random()
    told: list[str] = []
    for round_ in range(ROUNDS):
        child = spawn(root, round_, [0.01, 0.03, LONG_S][round_ % 3])
        said_by = root.parent / f"said-{round_}"
        try:
            assert child.stdin is not None
            assert child.stderr is not None
            assert child.stderr.readline() == "ready\n"
            child.stdin.write("go\n")
            child.stdin.flush()
            turns = delays.randint(2 * SESSIONS, 60)
            until(lambda said_by=said_by, turns=turns: said_by.read_text().count("\n") >= turns)  # type: ignore[misc] # -- bound now
            time.sleep(delays.uniform(0.0, 0.02))
        finally:
            child.kill()
            _, faults = child.communicate()
        assert faults == ""
        said = said_by.read_text()
        told += said.splitlines()[: said.count("\n")]
    with MemOS.open(root, embedder=HashEmbedder(32), background=False) as memos:
        assert journaled(memos) > 0, "some turns waited when a process was killed"
        MemoryHooks(memos, default_user="u0").recall_before(says("hello"))
        found = Counter(text for session in range(SESSIONS) for text in texts(memos, f"u{session}"))
        assert set(found.values()) == {1}
        assert set(told) <= set(found)
        assert len(found) <= len(told) + ROUNDS, "one turn of each process was on its way"
        assert journaled(memos) == 0
    assert len(told) > 4 * ROUNDS
