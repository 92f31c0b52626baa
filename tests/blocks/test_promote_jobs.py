"""The job that makes and drops blocks: when it is planned, who runs it, and what it does without its model."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from datetime import timedelta
from pathlib import Path

import pytest

from memos_engine import ChatAnswer, MemCube, MemOS, Message
from memos_engine.blocks.promote import BUILDS_MAX
from memos_engine.host import LOOK_REST, Host
from memos_engine.testing.fakes import FrozenClock, HashEmbedder
from tests.blocks.hot import DAY, PacedModel, covered, paced_model, shelf_of, talk, use

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def model() -> PacedModel:
    """A model as fast as SmolLM2 on one core."""
    return paced_model()


def jobs_of(host: Host) -> list[tuple[str, str]]:
    """Kind and state of the jobs about blocks."""
    return [(job.kind, job.state) for job in host.queue.jobs() if job.kind == "activate"]


def hot_talk(memos: MemOS, cube: MemCube, clock: FrozenClock, thread: str = "t") -> list[str]:
    """A talk of the day before, one turn of which was used three times."""
    turns = talk(cube, clock, thread=thread)
    clock.advance(DAY)
    use(shelf_of(memos, cube), [turns[5]])
    return turns


def test_drain_makes_the_blocks_of_a_model_that_was_met(
    memos: MemOS, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """One drain plans the job and runs it; the next has nothing to do; the job tells the model's key, no more."""
    turns = hot_talk(memos, cube, clock)
    memos.drain()
    assert jobs_of(memos._host) == []
    memos._host.met(cube.id, model)
    memos.drain()
    assert turns[5] in covered(shelf_of(memos, cube))
    (job,) = (job for job in memos._host.queue.jobs() if job.kind == "activate")
    assert (job.key, job.payload, job.state) == (model.key.digest, {}, "done")
    memos.drain()
    assert [event.op for event in shelf_of(memos, cube).log(10)] == ["promote"]
    assert len(jobs_of(memos._host)) == 1


def test_uses_of_the_same_moment_call_for_another_look(
    memos: MemOS, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """However still a clock stands: two uses and a third after a look make a block."""
    turns = talk(cube, clock)
    clock.advance(DAY)
    memos._host.met(cube.id, model)
    use(shelf_of(memos, cube), [turns[5]], times=2)
    memos.drain()
    assert covered(shelf_of(memos, cube)) == set()
    use(shelf_of(memos, cube), [turns[5]], times=1)
    memos.drain()
    assert turns[5] in covered(shelf_of(memos, cube))


def test_time_alone_calls_for_a_look(
    memos: MemOS, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """A cold block goes though nothing was used since, and the log says why; its text is recalled."""
    turns = hot_talk(memos, cube, clock)
    memos._host.met(cube.id, model)
    memos.drain()
    clock.advance(21 * DAY)
    memos.drain()
    shelf = shelf_of(memos, cube)
    assert shelf.blocks() == []
    assert [event.op for event in shelf.log(10)] == ["demote", "promote"]
    assert "uses expected, less than" in shelf.log(1)[0].reason
    assert cube.get(turns[5]).text.strip() in cube.recall("number 5 of the harbour").text


def test_the_background_looks_now_and_then_only(
    memos: MemOS, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """The first look is at once; however much is used, the next waits for LOOK_REST; unused, for a day."""
    host = memos._host
    turns = hot_talk(memos, cube, clock)
    host.met(cube.id, model)

    def looked() -> int:
        host.shelf(cube.id)  # as any use of the cube
        host.plan(again=False)
        planned = sum(state == "waiting" for _, state in jobs_of(host))
        host._worker.drain(20.0)
        return planned

    assert looked() == 1
    use(shelf_of(memos, cube), [turns[5]])
    assert looked() == 0
    clock.advance(LOOK_REST)
    assert looked() == 1
    clock.advance(LOOK_REST)
    assert looked() == 0
    clock.advance(DAY)
    assert looked() == 1


def test_one_drain_makes_more_than_one_job_can(
    memos: MemOS, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """A job that has more to do is followed by another."""
    talks = [talk(cube, clock, thread=f"t{n}", lines=3) for n in range(BUILDS_MAX + 1)]
    clock.advance(DAY)
    use(shelf_of(memos, cube), [turns[0] for turns in talks])
    memos._host.met(cube.id, model)
    memos.drain()
    assert len(shelf_of(memos, cube).blocks()) == BUILDS_MAX + 1


def test_a_process_that_never_met_a_model_leaves_the_job_alone(
    memos: MemOS, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """Another root's handle drains without it, and it is run where the model is."""
    turns = hot_talk(memos, cube, clock)
    memos._host.met(cube.id, model)
    memos._host.plan()
    with MemOS.open(memos._host.root, embedder=HashEmbedder(), clock=clock, background=False) as other:
        other.drain()
    assert jobs_of(memos._host) == [("activate", "waiting")]
    memos.drain()
    assert turns[5] in covered(shelf_of(memos, cube))


def test_a_process_with_another_model_ends_the_job_and_loses_nothing(
    memos: MemOS, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """It has nothing to do there; it is planned again where its model is."""
    turns = hot_talk(memos, cube, clock)
    memos._host.met(cube.id, model)
    memos._host.plan()
    with MemOS.open(memos._host.root, embedder=HashEmbedder(), clock=clock, background=False) as other:
        stranger = paced_model(seed=1)
        other._host.met("another cube", stranger)
        while other._host._worker.run_once():
            pass
    assert jobs_of(memos._host) == [("activate", "done")]
    assert covered(shelf_of(memos, cube)) == set()
    memos.drain()
    assert turns[5] in covered(shelf_of(memos, cube))


def test_a_model_is_held_weakly(memos: MemOS, cube: MemCube, clock: FrozenClock) -> None:
    """Nobody here keeps it alive; its jobs end as done; one of the same key takes its place."""
    first = paced_model()
    gone = weakref.ref(first)
    turns = hot_talk(memos, cube, clock)
    memos._host.met(cube.id, first)
    memos._host.plan()
    del first
    gc.collect()
    assert gone() is None
    memos.drain()
    assert jobs_of(memos._host) == [("activate", "done")]
    assert covered(shelf_of(memos, cube)) == set()
    second = paced_model()
    memos._host.met(cube.id, second)
    memos.drain()
    assert turns[5] in covered(shelf_of(memos, cube))


def test_a_cube_that_was_deleted_meanwhile(
    memos: MemOS, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """A job that is run all the same finds nothing, and nothing plans another."""
    hot_talk(memos, cube, clock)
    memos._host.met(cube.id, model)
    memos._host.plan()
    (job,) = (job for job in memos._host.queue.jobs() if job.kind == "activate")
    memos.delete("alice")
    memos._host._activate(job, lambda: None)
    memos.drain()
    assert jobs_of(memos._host) == []


def test_chats_make_what_they_recall_a_block_and_then_use_it(
    memos: MemOS, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """Three questions about one talk, a drain, and the fourth reads the talk from its block."""
    talk(cube, clock, lines=6)
    clock.advance(DAY)
    question = [Message("user", "What was number 3 of the harbour?")]

    def ask() -> ChatAnswer:
        return cube.chat(model, question, capture=False, max_new_tokens=4, policy="rerotated")

    first = [ask() for _ in range(3)]
    assert covered(shelf_of(memos, cube)) == set()
    memos.drain()
    (info,) = shelf_of(memos, cube).blocks()
    assert set(info.items) & set(first[0].memories)
    last = ask()
    assert last.cached_tokens is not None
    assert last.cached_tokens >= info.tokens
    (used,) = shelf_of(memos, cube).blocks()
    assert used.hits == pytest.approx(info.hits + 1)


CHILD = """
import sys
from datetime import datetime
from pathlib import Path
from memos_engine import MemOS
from memos_engine.testing.fakes import FrozenClock, HashEmbedder

root, now, what = sys.argv[1:]
clock = FrozenClock(datetime.fromisoformat(now))
with MemOS.open(Path(root), embedder=HashEmbedder(), clock=clock, background=False) as memos:
    memos.drain()
    if what == "forget":
        cube = memos.cube("alice")
        hits = cube.search("number 5 of the harbour")
        print("number 5" in hits[0].item.text)
        cube.forget(hits[0].item.id)
        memos.drain()
print("torch" in sys.modules)
"""


def child(memos: MemOS, clock: FrozenClock, what: str) -> list[str]:
    """Run a process without a model on the same root; return what it printed."""
    told = subprocess.run(
        [sys.executable, "-c", CHILD, str(memos._host.root), clock().isoformat(), what],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert told.returncode == 0, told.stderr
    return str(told.stdout).split()


def test_two_processes_of_which_one_has_the_model(
    memos: MemOS, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """The other leaves the job, reads and forgets without torch; the block it ends is gone here too."""
    turns = hot_talk(memos, cube, clock)
    shelf = shelf_of(memos, cube)
    memos._host.met(cube.id, model)
    memos._host.plan()
    assert child(memos, clock, "drain") == ["False"]
    assert jobs_of(memos._host) == [("activate", "waiting")]
    memos.drain()
    (info,) = shelf.blocks()
    assert turns[5] in info.items
    assert list(shelf.fetch(model, [info])[0]) == [info.id]
    assert child(memos, clock, "forget") == ["True", "False"]
    found, misses = shelf.fetch(model, [info])
    assert found == {}
    assert misses[info.id].why == "absent"
    assert not list((shelf.text.file.folder / "kv").glob("*.safetensors"))
    clock.advance(timedelta(days=1))
    memos.drain()
    assert turns[5] not in covered(shelf)
    assert memos.cube("alice").check().ok
