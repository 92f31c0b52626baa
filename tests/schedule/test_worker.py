"""The worker: retries, dead letters, lost leases, drain, its thread, and death in the middle of a job."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memos_engine.errors import Closed, JobFailed, StoreFull
from memos_engine.items import Job, NewJob
from memos_engine.ports import JobQueue
from memos_engine.schedule.job import ATTEMPTS_MAX
from memos_engine.schedule.worker import LeaseLost, Worker
from memos_engine.store.catalog import Catalog
from memos_engine.store.queue import SqliteJobQueue
from memos_engine.testing.fakes import FrozenClock
from memos_engine.testing.models import MemoryJobQueue

ROOT = Path(__file__).parent.parent.parent
SECRET = "I keep the key under the mat"
Beat = Callable[[], None]
WAIT_S = 20.0


def wall_clock() -> datetime:
    """Return the moment it is."""
    return datetime.now(UTC)


def at_once(attempts: int) -> timedelta | None:
    """Retry without delay, three attempts in all."""
    return timedelta(0) if attempts < 3 else None


class Diary:
    """Handlers that write down what they were called with, and what the worker told."""

    def __init__(self, errors: list[Exception] | None = None) -> None:
        self.ran: list[tuple[str, str]] = []
        self.events: list[str] = []
        self.errors = errors or []
        self.ran_one = threading.Event()

    def handle(self, job: Job, heartbeat: Beat) -> None:
        """Note the job, and raise the next error while there are any."""
        heartbeat()
        self.ran.append((job.cube, job.key))
        self.ran_one.set()
        if self.errors:
            raise self.errors.pop(0)

    def note(self, event: str, job: Job) -> None:
        """Note what happened."""
        self.events.append(event)


def worker_of(queue: JobQueue, diary: Diary, clock: Callable[[], datetime] = wall_clock) -> Worker:
    """Return a worker for index jobs that retries at once."""
    return Worker(
        queue, {"index": diary.handle}, name="w", clock=clock, on_event=diary.note, retry=at_once, lease_s=60
    )


@pytest.fixture
def queue() -> JobQueue:
    """Return an empty queue on the wall clock."""
    return MemoryJobQueue(wall_clock)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """Lend a new catalog."""
    catalog = Catalog(tmp_path, wall_clock)
    yield catalog
    catalog.close()


def test_run_once_runs_the_best_job(queue: JobQueue) -> None:
    """One job a call, in the caller's thread; kinds without a handler are left alone."""
    diary = Diary()
    worker = worker_of(queue, diary)
    assert worker.run_once() == 0
    queue.enqueue([NewJob("c", "index", "low"), NewJob("d", "index", "high", {}, 1), NewJob("e", "expire")])
    assert [worker.run_once() for _ in range(3)] == [1, 1, 0]
    assert diary.ran == [("d", "high"), ("c", "low")]
    assert diary.events == ["leased", "done"] * 2
    assert [job.state for job in queue.jobs()] == ["done", "done", "waiting"]


def test_a_kind_may_be_learnt_later(queue: JobQueue) -> None:
    """Jobs of a kind without a handler wait, for `drain` too, until there is one."""
    diary = Diary()
    worker = worker_of(queue, diary)
    queue.enqueue([NewJob("c", "expire", "k")])
    worker.drain(WAIT_S)
    assert diary.ran == []
    worker.handle("expire", diary.handle)
    worker.drain(WAIT_S)
    assert diary.ran == [("c", "k")]


def test_a_failing_job_is_tried_again(queue: JobQueue) -> None:
    """An error of a handler is kept on the job, which then succeeds."""
    diary = Diary([ValueError(SECRET), StoreFull("no space left")])
    queue.enqueue([NewJob("c", "index")])
    worker_of(queue, diary).drain(WAIT_S)
    (job,) = queue.jobs()
    assert (job.state, job.attempts) == ("done", 3)
    assert diary.events == ["leased", "retry", "leased", "retry", "leased", "done"]
    assert job.last_error is not None
    assert job.last_error.startswith("StoreFull at test_worker.py:")


def test_drain_raises_for_a_dead_letter(queue: JobQueue, caplog: pytest.LogCaptureFixture) -> None:
    """The rest is done first; the error names the job and has its cause; the log has no text."""
    errors: list[Exception] = [ValueError(SECRET) for _ in range(3)]
    diary = Diary(errors)
    queue.enqueue([NewJob("c", "index", "bad", {}, 1), NewJob("d", "index", "good")])
    last = errors[-1]
    expected = pytest.raises(JobFailed, match=r"index of cube 'c'.*3 attempts")
    with caplog.at_level(logging.DEBUG), expected as caught:
        worker_of(queue, diary).drain(WAIT_S)
    assert caught.value.__cause__ is last
    assert SECRET not in str(caught.value)
    assert [(job.key, job.state) for job in queue.jobs()] == [("bad", "dead"), ("good", "done")]
    assert diary.events[-1] == "done"
    (record,) = caplog.records
    assert record.getMessage() == "a job ended as a dead letter"
    assert SECRET not in str(record.__dict__)
    worker_of(queue, diary).drain(WAIT_S)  # an old letter is told once


def test_drain_leaves_what_is_put_off(queue: JobQueue) -> None:
    """A job of tomorrow is no reason to wait; a soon-due one is waited for."""
    diary = Diary()
    soon, late = wall_clock() + timedelta(seconds=0.1), wall_clock() + timedelta(days=1)
    queue.enqueue([NewJob("c", "index", key, not_before=at) for key, at in (("late", late), ("soon", soon))])
    worker_of(queue, diary).drain(WAIT_S)
    assert diary.ran == [("c", "soon")]


def test_drain_waits_for_others_and_says_when_it_is_too_late(queue: JobQueue) -> None:
    """A lease held elsewhere is waited for, up to the time-out, which is an error."""
    diary = Diary()
    queue.enqueue([NewJob("c", "index")])
    (job,) = queue.lease("another", 1, 3600)
    with pytest.raises(JobFailed, match="call drain again"):
        worker_of(queue, diary).drain(0.1)
    timer = threading.Timer(0.1, queue.finish, (job.id, "another"))
    timer.start()
    worker_of(queue, diary).drain(WAIT_S)
    timer.join()
    assert diary.ran == []
    assert [job.state for job in queue.jobs()] == ["done"]


def test_drain_tells_a_dead_letter_of_another_worker(queue: JobQueue) -> None:
    """What ended dead elsewhere during the drain is told as well."""
    queue.enqueue([NewJob("c", "index")])
    (job,) = queue.lease("another", 1, 3600)
    timer = threading.Timer(0.1, queue.fail, (job.id, "another", "no luck", None))
    timer.start()
    with pytest.raises(JobFailed, match="no luck"):
        worker_of(queue, Diary()).drain(WAIT_S)
    timer.join()


def test_a_retry_that_is_too_late_is_told() -> None:
    """A job that failed and waits beyond the time-out is not passed over in silence."""
    clock = FrozenClock()
    queue = MemoryJobQueue(clock)
    queue.enqueue([NewJob("c", "index")])
    diary = Diary([StoreFull("no space left")])
    worker = Worker(queue, {"index": diary.handle}, name="w", clock=clock)
    with pytest.raises(JobFailed, match="no space left"):
        worker.drain(0.1)


def test_a_lost_lease_stops_the_handler() -> None:
    """The handler's heart-beat raises; neither success nor failure of it touches the other's job."""
    clock = FrozenClock()
    queue = MemoryJobQueue(clock)
    queue.enqueue([NewJob("c", "index")])
    diary = Diary()
    stopped = []

    def handle(job: Job, heartbeat: Beat) -> None:
        heartbeat()
        clock.advance(timedelta(seconds=60))
        assert queue.lease("another", 1, 60)
        try:
            heartbeat()
        except LeaseLost:
            stopped.append(job.id)
            raise

    Worker(queue, {"index": handle}, name="w", clock=clock, on_event=diary.note, lease_s=60).run_once()
    assert len(stopped) == 1
    assert diary.events == ["leased", "lost"]
    assert [(job.worker, job.state, job.attempts) for job in queue.jobs()] == [("another", "running", 2)]


@pytest.mark.parametrize("error", [None, ValueError(SECRET)])
def test_what_ends_too_late_is_not_recorded(error: Exception | None) -> None:
    """A handler that never asks and outlives its lease has no say about the job any more."""
    clock = FrozenClock()
    queue = MemoryJobQueue(clock)
    queue.enqueue([NewJob("c", "index")])
    diary = Diary()

    def handle(_job: Job, _heartbeat: Beat) -> None:
        clock.advance(timedelta(seconds=60))
        queue.lease("another", 1, 60)
        if error is not None:
            raise error

    Worker(queue, {"index": handle}, name="w", clock=clock, on_event=diary.note, lease_s=60).run_once()
    assert diary.events == ["leased", "lost"]
    assert [job.worker for job in queue.jobs()] == ["another"]


def test_a_late_beat_renews_when_it_still_can(queue: JobQueue) -> None:
    """A job longer than its lease keeps it, by the worker's own beats."""
    diary = Diary()
    stolen = []

    def handle(job: Job, heartbeat: Beat) -> None:
        first = job.lease_until
        assert first is not None
        pause = threading.Event()
        while wall_clock() < first + timedelta(seconds=0.3):
            stolen.extend(queue.lease("another", 1, 60))
            pause.wait(0.02)
            heartbeat()

    queue.enqueue([NewJob("c", "index")])
    Worker(queue, {"index": handle}, name="w", clock=wall_clock, on_event=diary.note, lease_s=1.5).run_once()
    assert stolen == []
    assert diary.events == ["leased", "done"]


def test_workers_that_die_make_a_dead_letter() -> None:
    """A job that kills its workers is not run for ever: the attempts count though nobody saw them fail."""
    clock = FrozenClock()
    queue = MemoryJobQueue(clock)
    queue.enqueue([NewJob("c", "index")])
    for n in range(ATTEMPTS_MAX):
        assert queue.lease(f"dies-{n}", 1, 60)
        clock.advance(timedelta(seconds=60))
    diary = Diary()
    worker = Worker(queue, {"index": diary.handle}, name="w", clock=clock, on_event=diary.note)
    with pytest.raises(JobFailed, match="lease of worker dies-4 ran out"):
        worker.drain(WAIT_S)
    assert diary.ran == []
    assert diary.events == ["leased", "dead"]


def test_the_thread_runs_wakes_and_stops(catalog: Catalog) -> None:
    """It finds what is enqueued when woken; after `stop` it takes nothing; it can start again."""
    queue = SqliteJobQueue(catalog.database, wall_clock)
    diary = Diary()
    worker = worker_of(queue, diary)
    assert worker.stop(WAIT_S)
    worker.start()
    worker.start()
    for n in range(3):
        diary.ran_one.clear()
        queue.enqueue([NewJob("c", "index", str(n))])
        worker.wake()
        assert diary.ran_one.wait(WAIT_S)
    assert worker.stop(WAIT_S)
    assert worker.stop(WAIT_S)
    assert diary.events == ["leased", "done"] * 3
    queue.enqueue([NewJob("c", "index", "late")])
    worker.wake()
    diary.ran_one.clear()
    assert not diary.ran_one.wait(0.1)
    worker.start()
    assert diary.ran_one.wait(WAIT_S)
    assert worker.stop(WAIT_S)


def test_the_thread_enqueues_for_itself(queue: JobQueue) -> None:
    """What `before` enqueues is found by the look that follows; neither run_once nor drain calls it."""
    diary = Diary()

    def plan() -> None:
        if not diary.ran:
            queue.enqueue([NewJob("c", "index")])

    worker = Worker(queue, {"index": diary.handle}, name="w", clock=wall_clock, before=plan)
    assert worker.run_once() == 0
    worker.drain(WAIT_S)
    worker.start()
    assert diary.ran_one.wait(WAIT_S)
    assert worker.stop(WAIT_S)
    assert diary.ran == [("c", "")]


def test_stop_waits_for_the_running_job_only_so_long(queue: JobQueue) -> None:
    """False while a handler works; true once it is over."""
    begun, go_on = threading.Event(), threading.Event()

    def handle(_job: Job, _heartbeat: Beat) -> None:
        begun.set()
        assert go_on.wait(WAIT_S)

    worker = Worker(queue, {"index": handle}, name="w", clock=wall_clock)
    queue.enqueue([NewJob("c", "index")])
    worker.start()
    assert begun.wait(WAIT_S)
    assert not worker.stop(0.05)
    go_on.set()
    assert worker.stop(WAIT_S)
    assert [job.state for job in queue.jobs()] == ["done"]


def test_the_thread_ends_with_its_queue(catalog: Catalog) -> None:
    """A closed catalog ends the thread; a caller is told."""
    queue = SqliteJobQueue(catalog.database, wall_clock)
    worker = worker_of(queue, Diary())
    catalog.close()
    with pytest.raises(Closed):
        worker.run_once()
    worker.start()
    worker.wake()
    assert worker.stop(WAIT_S)


CHILD = """
import sys, time
from pathlib import Path
from memos_engine.schedule.worker import Worker
from memos_engine.store.catalog import Catalog
from memos_engine.store.queue import SqliteJobQueue
from tests.schedule.test_worker import wall_clock

def handle(job, heartbeat):
    with open(sys.argv[2], "a") as effects:
        effects.write(f"begun {job.key}\\n")
    if job.key == "deadly":
        print("in the middle", flush=True)
        while True:
            heartbeat()
            time.sleep(0.02)
    with open(sys.argv[2], "a") as effects:
        effects.write(f"done {job.key}\\n")

catalog = Catalog(Path(sys.argv[1]), wall_clock)
queue = SqliteJobQueue(catalog.database, wall_clock)
Worker(queue, {"index": handle}, name="child", clock=wall_clock, lease_s=2).drain(60)
"""


def test_a_killed_workers_job_is_finished_by_another(catalog: Catalog, tmp_path: Path) -> None:
    """After kill -9 in the middle of a job, what was finished is not repeated, and the rest is done."""
    queue = SqliteJobQueue(catalog.database, wall_clock)
    keys = ["first", "deadly", "last"]
    queue.enqueue([NewJob("c", "index", key, {"k": key}, -place) for place, key in enumerate(keys)])
    effects = tmp_path / "effects.txt"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path), str(effects)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "in the middle\n"
    (running,) = queue.jobs(states=["running"])
    assert running.key == "deadly"
    child.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    child.communicate()
    assert effects.read_text() == "begun first\ndone first\nbegun deadly\n"

    seen = []

    def handle(job: Job, heartbeat: Beat) -> None:
        heartbeat()
        seen.append((job.key, job.payload, job.attempts))

    Worker(queue, {"index": handle}, name="heir", clock=wall_clock).drain(WAIT_S)
    assert seen == [("deadly", {"k": "deadly"}, 2), ("last", {"k": "last"}, 1)]
    assert [(job.key, job.state) for job in queue.jobs()] == [(key, "done") for key in keys]
    assert not queue.finish(running.id, running.worker or "")
