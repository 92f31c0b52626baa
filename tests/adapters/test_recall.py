"""Recall on the way to a model: in time or not at all, once per question of a turn, and for its asker alone."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace

import pytest

from memos_adapters import _recall
from memos_adapters._recall import WORKERS, RecallCounts, Recaller
from memos_engine import AccessDenied, BadInput, BadLimit, Context, MemCube, MemOS, Message, Scope
from memos_engine.ports import Vectors
from memos_engine.testing.fakes import HashEmbedder
from tests.adapters.loop_guard import nothing_blocks

SOON_S = 0.05
GUARD_S = 30.0
"""What no test waits for, unless something hangs."""
tracing: ContextVar[str] = ContextVar("tracing", default="none")


class GatedEmbedder(HashEmbedder):
    """Waits while its gate is closed, fails while it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.asked: list[str] = []
        self.traced: list[str] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Wait, fail, or embed."""
        self.asked += texts
        self.traced.append(tracing.get())
        assert self.gate.wait(GUARD_S)
        if self.error is not None:
            raise self.error
        return super().embed(texts)


@pytest.fixture
def embedder() -> Iterator[GatedEmbedder]:
    """An embedder that tests stop and start; it is open at the end."""
    made = GatedEmbedder()
    yield made
    made.gate.set()


@pytest.fixture
def gated(tmp_path: Path, embedder: GatedEmbedder) -> Iterator[MemOS]:
    """A root with that embedder."""
    with MemOS.open(tmp_path / "gated", embedder=embedder, background=False) as opened:
        yield opened
        embedder.gate.set()


@pytest.fixture
def quokkas(gated: MemOS) -> MemCube:
    """A cube that knows one thing."""
    cube = gated.acting_as(Scope(user="alice")).cube("c")
    cube.capture([Message("user", "I keep quokkas")])
    return cube


def recaller(timeout_s: float | None = GUARD_S, *, strict: bool = False) -> Recaller:
    """A recaller that shows whatever was found."""
    return Recaller(min_score=0, timeout_s=timeout_s, strict=strict)


def until(true: Callable[[], bool]) -> None:
    """Wait until something is so."""
    pause = threading.Event()
    for _ in range(int(GUARD_S / 0.005)):
        if true():
            return
        pause.wait(0.005)
    raise AssertionError("it did not come about")


def test_what_is_remembered_comes_back(quokkas: MemCube) -> None:
    """A question is answered by the cube; a blank one is none."""
    recalls = recaller()
    assert "quokkas" in recalls.recall(quokkas, "who keeps quokkas?").text
    assert recalls.recall(quokkas, " \n") == Context()
    assert recalls.counts == RecallCounts(asked=1)
    assert Recaller(budget_tokens=60, min_score=0).recall(quokkas, "quokkas").tokens <= 60


def test_a_late_recall_leaves_the_turn_without(quokkas: MemCube, embedder: GatedEmbedder) -> None:
    """Past the time limit the turn goes on; the same turn finds what came in meanwhile."""
    embedder.gate.clear()
    recalls = recaller(SOON_S)
    assert recalls.recall(quokkas, "quokkas?", "turn") == Context()
    assert recalls.counts == RecallCounts(asked=1, timed_out=1)
    embedder.gate.set()
    until(lambda: bool(recalls.recall(quokkas, "quokkas?", "turn")))
    assert embedder.asked.count("quokkas?") <= 2


def test_a_failed_recall_leaves_the_turn_without(
    quokkas: MemCube, embedder: GatedEmbedder, caplog: pytest.LogCaptureFixture
) -> None:
    """What failed is counted and told to the log, without the words that were asked, and tried anew when asked."""
    embedder.error = RuntimeError("cannot embed 'my secret question'")
    recalls = recaller()
    with caplog.at_level(logging.WARNING):
        assert recalls.recall(quokkas, "my secret question", "turn") == Context()
    assert recalls.counts == RecallCounts(asked=1, failed=1)
    (record,) = caplog.records
    assert record.__dict__["error"] == "RuntimeError"
    assert "secret" not in str(record.__dict__)
    embedder.error = None
    assert recalls.recall(quokkas, "quokkas", "turn")


async def test_a_turn_does_not_begin_to_wait_anew(
    quokkas: MemCube, embedder: GatedEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks again in the same turn waits only for what is left of its time, in a loop and outside."""
    embedder.gate.clear()
    recalls = recaller(GUARD_S)
    first = asyncio.create_task(recalls.arecall(quokkas, "quokkas?", "turn"))
    await asyncio.sleep(0)
    over = time.monotonic() + GUARD_S
    monkeypatch.setattr(_recall, "time", SimpleNamespace(monotonic=lambda: over))
    assert await recalls.arecall(quokkas, "quokkas?", "turn") == Context()
    assert recalls.recall(quokkas, "quokkas?", "turn") == Context()
    assert recalls.counts == RecallCounts(asked=3, cached=2, timed_out=2)
    embedder.gate.set()
    assert await first


async def test_strict_raises_what_failed(quokkas: MemCube, embedder: GatedEmbedder) -> None:
    """Whoever wants to know is told: what failed, and that it took too long."""
    embedder.error = RuntimeError("broken")
    with pytest.raises(RuntimeError, match="broken"):
        recaller(strict=True).recall(quokkas, "quokkas")
    with pytest.raises(RuntimeError, match="broken"):
        await recaller(strict=True).arecall(quokkas, "quokkas")
    embedder.gate.clear()
    with pytest.raises(TimeoutError):
        recaller(SOON_S, strict=True).recall(quokkas, "quokkas")
    with pytest.raises(TimeoutError):
        await recaller(SOON_S, strict=True).arecall(quokkas, "quokkas")


async def test_who_may_not_read_is_refused(gated: MemOS, quokkas: MemCube) -> None:
    """A refusal is no failure to be passed over: it is raised, strict or not, and an open door is not kept."""
    alice, bob = Scope(user="alice"), Scope(user="bob")
    quokkas.grant(bob, "read")
    shared = gated.acting_as(bob).cube("c", owner=alice)
    recalls = recaller()
    assert recalls.recall(shared, "quokkas")
    quokkas.revoke(bob)
    with pytest.raises(AccessDenied):
        recalls.recall(shared, "quokkas")
    with pytest.raises(AccessDenied):
        await recalls.arecall(shared, "quokkas")
    assert recalls.counts.failed == 0


def test_one_question_of_a_turn_is_asked_once(quokkas: MemCube, embedder: GatedEmbedder) -> None:
    """Threads that ask the same at once share one recall."""
    recalls = recaller()
    embedder.gate.clear()
    before = len(embedder.asked)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(recalls.recall, quokkas, "quokkas?", "turn") for _ in range(8)]
        until(lambda: recalls.counts.asked == 8)
        embedder.gate.set()
        found = [each.result(GUARD_S) for each in asked]
    assert all(context is found[0] for context in found)
    assert found[0]
    assert recalls.counts == RecallCounts(asked=8, cached=7)
    assert embedder.asked[before:].count("quokkas?") == 1


def test_an_answer_is_its_askers_own(gated: MemOS, quokkas: MemCube) -> None:
    """What was recalled for one turn, question, scope or cube is not told to another."""
    recalls = recaller()
    assert recalls.recall(quokkas, "quokkas", "turn")
    others = gated.acting_as(Scope(user="bob")).cube("c")
    in_session = gated.acting_as(Scope(user="alice", session="s")).cube("c")
    quokkas.forget([item.id for item in quokkas.list()])
    assert not recalls.recall(others, "quokkas", "turn")
    assert not recalls.recall(in_session, "quokkas", "turn")
    assert not recalls.recall(quokkas, "quokkas", "next turn")
    assert not recalls.recall(quokkas, "quokkas?", "turn")
    assert recalls.counts.cached == 0


def test_a_changed_memory_is_not_told_as_it_was(gated: MemOS, quokkas: MemCube) -> None:
    """Answers of a cube can be dropped within a turn; those of others are kept."""
    recalls = recaller()
    other = gated.acting_as(Scope(user="bob")).cube("c")
    for cube in (quokkas, other):
        recalls.recall(cube, "quokkas", "turn")
    quokkas.forget([item.id for item in quokkas.list()])
    recalls.drop(quokkas)
    assert not recalls.recall(quokkas, "quokkas", "turn")
    recalls.recall(other, "quokkas", "turn")
    assert recalls.counts.cached == 1


def test_without_a_turn_nothing_is_kept(quokkas: MemCube) -> None:
    """What was captured a moment ago is recalled, and what was forgotten is not."""
    recalls = recaller()
    assert "wombats" not in recalls.recall(quokkas, "what do I keep?").text
    (episode,) = quokkas.capture([Message("user", "I keep wombats too")]).episodes
    assert "wombats" in recalls.recall(quokkas, "what do I keep?").text
    quokkas.forget(episode)
    assert "wombats" not in recalls.recall(quokkas, "what do I keep?").text


def test_answers_are_kept_for_a_while_only(quokkas: MemCube, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for ever, and not more than so many: what was forgotten is not told from a cache for long."""
    recalls = recaller()
    kept = recalls.recall(quokkas, "quokkas", "turn")
    assert recalls.recall(quokkas, "quokkas", "turn") is kept
    monkeypatch.setattr(_recall, "CACHED_S", -1.0)
    assert recalls.recall(quokkas, "quokkas", "turn") is not kept
    monkeypatch.undo()
    monkeypatch.setattr(_recall, "CACHED_MAX", 2)
    kept = recalls.recall(quokkas, "quokkas", 1)
    for turn in (2, 3):
        recalls.recall(quokkas, "quokkas", turn)
    assert recalls.recall(quokkas, "quokkas", 1) is not kept
    assert len(recalls._asked) == 2


def test_slow_recalls_do_not_pile_up(quokkas: MemCube, embedder: GatedEmbedder) -> None:
    """With all workers stuck each turn goes on in time, and what nobody waits for any more is not asked later."""
    embedder.gate.clear()
    before = len(embedder.asked)
    recalls = recaller(SOON_S)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda n: recalls.recall(quokkas, f"quokkas {n}?", n), range(24)))
    assert not any(found)
    assert recalls.counts == RecallCounts(asked=24, timed_out=24)
    embedder.gate.set()
    until(lambda: bool(recalls.recall(quokkas, "quokkas")))
    assert len([text for text in embedder.asked[before:] if text.endswith("?")]) == WORKERS


async def test_a_loop_goes_on_while_memory_is_slow(quokkas: MemCube, embedder: GatedEmbedder) -> None:
    """A coroutine waits without blocking its loop, up to the time limit."""
    embedder.gate.clear()
    with nothing_blocks():
        waiting = asyncio.create_task(recaller().arecall(quokkas, "quokkas", "turn"))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not waiting.done()
        assert await recaller(SOON_S).arecall(quokkas, "quokkas") == Context()
        assert await recaller().arecall(quokkas, " ") == Context()
        embedder.gate.set()
        assert "quokkas" in (await waiting).text


@pytest.mark.parametrize("queued", [False, True])
async def test_who_is_cancelled_leaves_the_recall_to_others(
    quokkas: MemCube, embedder: GatedEmbedder, queued: bool
) -> None:
    """A cancelled coroutine is cancelled, and whoever asked the same still gets the answer, begun or not."""
    embedder.gate.clear()
    recalls = recaller()
    before = [asyncio.create_task(recalls.arecall(quokkas, f"busy {n}")) for n in range(WORKERS * queued)]
    await asyncio.sleep(0.01)
    asked = [asyncio.create_task(recalls.arecall(quokkas, "quokkas", "turn")) for _ in range(2)]
    await asyncio.sleep(0.01)
    asked[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked[0]
    embedder.gate.set()
    assert "quokkas" in (await asked[1]).text
    assert recalls.counts == RecallCounts(asked=2 + len(before), cached=1)
    await asyncio.gather(*before)


def test_several_loops_share_a_recaller(
    quokkas: MemCube, embedder: GatedEmbedder, caplog: pytest.LogCaptureFixture
) -> None:
    """One recaller serves loops in several threads; one that is closed before the answer came troubles nobody."""
    recalls = recaller()
    embedder.gate.clear()

    async def ask() -> Context:
        return await recalls.arecall(quokkas, "quokkas", "turn")

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(), SOON_S)

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(asyncio.run, ask()) for _ in range(3)]
        until(lambda: recalls.counts.asked == 3)
        asyncio.run(give_up())
        embedder.gate.set()
        found = [each.result(GUARD_S) for each in asked]
    assert all(context is found[0] for context in found)
    assert caplog.records == []


_FORKING = """
import os, sys
from memos_adapters._recall import Recaller
from memos_engine import MemOS, Scope
from memos_engine.testing.fakes import HashEmbedder

cube = MemOS.open(sys.argv[1], embedder=HashEmbedder(), background=False).acting_as(Scope("alice")).cube("c")
cube.add("Alice likes quokkas.")
recalls = Recaller(min_score=0.0, timeout_s=30)
assert recalls.recall(cube, "quokkas")
child = os.fork()
if child == 0:
    recalls.recall(cube, "quokkas")
    os._exit(recalls.counts.failed + 10 * recalls.counts.timed_out)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_is_told_at_once(tmp_path: Path) -> None:
    """A forked process, in which the engine refuses, hears so: it does not wait for threads that stayed behind."""
    command = [sys.executable, "-W", "ignore", "-c", _FORKING, str(tmp_path)]
    assert subprocess.run(command, timeout=60, check=False).returncode == 1


def test_questions_are_mended(quokkas: MemCube) -> None:
    """A question with what no database holds is asked all the same."""
    recalls = recaller()
    assert recalls.recall(quokkas, "quokkas \0 \ud800?")
    assert recalls.counts.failed == 0


def test_context_variables_follow(quokkas: MemCube, embedder: GatedEmbedder) -> None:
    """What traces a call sees the embedding of its question."""
    token = tracing.set("call 7")
    recaller().recall(quokkas, "quokkas")
    tracing.reset(token)
    assert embedder.traced[-1] == "call 7"


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"timeout_s": 0}, BadLimit),
        ({"timeout_s": -1.0}, BadLimit),
        ({"timeout_s": float("nan")}, BadLimit),
        ({"budget_tokens": 0}, BadLimit),
        ({"budget_tokens": True}, BadLimit),
        ({"budget_tokens": 1.5}, BadLimit),
        ({"min_score": 1.1}, BadLimit),
        ({"count_tokens": "words"}, BadInput),
    ],
    ids=str,
)
def test_settings_are_checked_at_once(settings: dict[str, object], error: type[Exception]) -> None:
    """A setting that would make every recall fail is refused when it is made."""
    with pytest.raises(error):
        Recaller(**settings)  # type: ignore[arg-type] # -- the mistakes in question
