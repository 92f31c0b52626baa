"""Runs jobs: leases one, renews the lease while its handler works, records how it ended.

It knows neither where jobs are kept (a `JobQueue`) nor what they do (handlers, by kind). A job
runs at least once, so a handler must bear a second run of the same job.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Literal, Self, TypeAlias

from memos_engine.errors import Closed, JobFailed, StoreError
from memos_engine.items import Job, JobKind, JobState
from memos_engine.ports import Clock, JobQueue
from memos_engine.schedule.job import retry, told

Handler: TypeAlias = Callable[[Job, Callable[[], None]], None]
"""Does a job. Its second argument is to be called now and then: it raises when the work must stop."""
JobEvent = Literal["leased", "done", "retry", "dead", "lost"]

LEASE_S = 60.0
BEATS_PER_LEASE = 3
POLL_S = 1.0
"""Longest rest of an idle worker: what other processes enqueue does not wake it."""
DRAIN_POLL_S = 0.05

_log = logging.getLogger(__name__)


class LeaseLost(Exception):
    """The job is another worker's by now, or gone: its handler must stop. Never leaves the worker."""


class Worker:
    """Runs the jobs of one queue, in the caller's thread or in one of its own. Thread-safe."""

    def __init__(
        self,
        queue: JobQueue,
        handlers: Mapping[JobKind, Handler],
        *,
        name: str,
        clock: Clock,
        lease_s: float = LEASE_S,
        before: Callable[[], None] | None = None,
        on_event: Callable[[JobEvent, Job], None] | None = None,
        retry: Callable[[int], timedelta | None] = retry,
    ) -> None:
        """Take jobs of the kinds in `handlers`; others are left for other workers.

        Args:
            queue: Where the jobs are.
            handlers: What to do, by kind.
            name: Who holds the leases, for a person to read; a mark makes it unique.
            clock: The clock that the queue goes by.
            lease_s: Seconds after which the job of a worker that died is taken up by another.
            before: What the worker's own thread does before each look for jobs, such as enqueueing some.
            on_event: Told each step of a job, in the thread that runs it; must not raise.
            retry: The wait after failed attempt number n (from 1). None: the job is dead.
        """
        self._queue = queue
        self._handlers = dict(handlers)
        self._name = f"{name}-{uuid.uuid4().hex[:12]}"
        self._clock = clock
        self._lease_s = lease_s
        self._before = before or (lambda: None)
        self._on_event = on_event or (lambda _event, _job: None)
        self._retry = retry
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._thread_lock = threading.Lock()

    def handle(self, kind: JobKind, handler: Handler) -> None:
        """Take jobs of one more kind from now on."""
        self._handlers = {**self._handlers, kind: handler}  # whoever looks at the old ones goes on with them

    def run_once(self) -> int:
        """Run the best due job in this thread, if there is one, and return how many ran: 0 or 1.

        Raises:
            StoreError: the queue failed; the job runs again when its lease is over.
        """
        return len(self._step())

    def drain(self, timeout_s: float) -> None:
        """Run every job that is due or soon will be in this thread, and wait for those others run.

        A job that was put off beyond the time-out and never failed is left alone.

        Raises:
            JobFailed: a job ended as a dead letter meanwhile, or the time was over before the work was.
        """
        deadline = time.monotonic() + timeout_s
        dead_before = {job.id for job in self._mine("dead")}
        cause: Exception | None = None
        while True:
            ran = self._step()
            cause = cause or next(iter(ran), None)
            left_s = deadline - time.monotonic()
            if not ran or left_s <= 0:
                still_open = self._open(max(left_s, 0.0))
                if not still_open:
                    break
                if left_s <= 0:
                    raise _too_late(still_open, timeout_s)
                time.sleep(min(DRAIN_POLL_S, left_s))
        dead = [job for job in self._mine("dead") if job.id not in dead_before]
        if dead:
            raise _dead(dead[0]) from cause

    def start(self) -> None:
        """Run jobs in a daemon thread from now on. A second call does nothing."""
        with self._thread_lock:
            if self._thread is None or not self._thread.is_alive():
                self._stopping.clear()
                self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
                self._thread.start()

    def wake(self) -> None:
        """Let the thread look for jobs at once."""
        self._wake.set()

    def stop(self, timeout_s: float) -> bool:
        """Take no further job, and wait for the one that runs. False: it still runs after `timeout_s`."""
        with self._thread_lock:
            self._stopping.set()
            self._wake.set()
            if self._thread is None:
                return True
            self._thread.join(timeout_s)
            return not self._thread.is_alive()

    def _loop(self) -> None:
        while True:
            self._wake.clear()
            if self._stopping.is_set():
                return
            try:
                self._before()
                ran = self.run_once()
            except Closed:
                return
            except Exception as exc:  # noqa: BLE001 -- the loop outlives any fault; what was leased comes back
                _log.warning("the worker met a fault", extra={"action": "worker", "error": told(exc)})
                ran = 0
            if not ran:
                self._wake.wait(POLL_S)

    def _mine(self, *states: JobState) -> list[Job]:
        return [job for job in self._queue.jobs(states=states) if job.kind in self._handlers]

    def _open(self, within_s: float) -> list[Job]:
        """Jobs that run, failed before, or are due within so many seconds."""
        soon = self._clock() + timedelta(seconds=within_s)
        return [
            job
            for job in self._mine("waiting", "running")
            if job.state == "running" or job.attempts > 0 or job.not_before <= soon
        ]

    def _step(self) -> list[Exception | None]:
        """Run one job, if one is due; the entry says what made it a dead letter, if it is one."""
        holder = f"{self._name}-{threading.get_ident()}"  # no two threads share a lease
        jobs = self._queue.lease(holder, 1, self._lease_s, tuple(self._handlers))
        return [self._run(job, holder) for job in jobs]

    def _run(self, job: Job, holder: str) -> Exception | None:
        self._on_event("leased", job)
        if job.attempts > 1 and self._retry(job.attempts - 1) is None:
            return self._bury(job, holder, job.last_error or "", None)  # its workers did not fail, they died
        try:
            with _Lease(self._queue, job, holder, self._lease_s, self._clock) as lease:
                self._handlers[job.kind](job, lease.check)
        except LeaseLost:
            self._on_event("lost", job)
        except Exception as exc:  # noqa: BLE001 -- the failure is recorded on the job
            return self._failed(job, holder, exc)
        else:
            self._on_event("done" if self._queue.finish(job.id, holder) else "lost", job)
        return None

    def _failed(self, job: Job, holder: str, exc: Exception) -> Exception | None:
        delay = self._retry(job.attempts)
        if delay is None:
            return self._bury(job, holder, told(exc), exc)
        kept = self._queue.fail(job.id, holder, told(exc), delay.total_seconds())
        self._on_event("retry" if kept else "lost", job)
        return None

    def _bury(self, job: Job, holder: str, error: str, exc: Exception | None) -> Exception | None:
        if not self._queue.fail(job.id, holder, error, None):
            self._on_event("lost", job)
            return None
        _log.error(
            "a job ended as a dead letter",
            extra={"action": "dead_letter", "job": job.id, "kind": job.kind, "cube": job.cube},
        )
        self._on_event("dead", job)
        return exc


class _Lease:
    """Keeps one job's lease alive from a thread of its own while the block runs."""

    def __init__(self, queue: JobQueue, job: Job, holder: str, lease_s: float, clock: Clock) -> None:
        self._queue = queue
        self._job = job
        self._holder = holder
        self._lease_s = lease_s
        self._clock = clock
        self._until = job.lease_until or clock()
        self._lost = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{job.id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Raise LeaseLost when the job is no longer ours. Cheap: the queue is asked only in doubt."""
        if self._lost.is_set() or (self._clock() >= self._until and not self._renew()):
            raise LeaseLost

    def _renew(self) -> bool:
        until = self._clock() + timedelta(seconds=self._lease_s)
        if not self._queue.heartbeat(self._job.id, self._holder, self._lease_s):
            self._lost.set()
            return False
        self._until = until
        return True

    def _beat(self) -> None:
        while not self._over.wait(self._lease_s / BEATS_PER_LEASE):
            try:
                if not self._renew():
                    return
            except Closed:
                return
            except StoreError:  # busy or full for now: the next beat may still be in time
                continue


def _dead(job: Job) -> JobFailed:
    return JobFailed(
        f"job {job.id} ({job.kind} of cube {job.cube!r}) ended after {job.attempts} attempts:"
        f" {job.last_error}; remove the cause, then call drain; the background tries again by itself after ten minutes"
    )


def _too_late(jobs: list[Job], timeout_s: float) -> JobFailed:
    job = jobs[0]
    why = f" (its last attempt failed: {job.last_error})" if job.last_error else ""
    return JobFailed(
        f"{len(jobs)} jobs were not over after {timeout_s:g} s, the first is {job.kind} of cube {job.cube!r}"
        f"{why}: call drain again with more time"
    )
