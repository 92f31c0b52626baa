"""Models of the ports: plain, in memory, assumed to be right; the real stores are tested beside them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from memos_engine.items import Job, JobKind, JobState, NewJob
from memos_engine.ports import Clock


class MemoryJobQueue:
    """The job queue as one list: `JobQueue` as it should be, for one process, gone with it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._jobs: dict[int, Job] = {}
        self._next = 1
        self._lock = threading.Lock()

    def enqueue(self, jobs: Sequence[NewJob]) -> int:
        """Add jobs and return how many are new; one that waits already under its key is passed over."""
        with self._lock:
            return sum(self._add(new) for new in jobs)

    def lease(
        self, worker: str, limit: int, lease_s: float, kinds: Sequence[JobKind] | None = None
    ) -> list[Job]:
        """Take due jobs (higher priority first, then older): at most one running job per cube."""
        with self._lock:
            now = self._clock()
            busy = {job.cube for job in self._jobs.values() if job.lease_until and job.lease_until > now}
            taken: list[Job] = []
            for job in sorted(self._jobs.values(), key=lambda job: (-job.priority, job.id)):
                due = job.not_before <= now if job.state == "waiting" else job.state == "running"
                wanted = kinds is None or job.kind in kinds
                if due and wanted and job.cube not in busy and len(taken) < limit:
                    busy.add(job.cube)
                    taken.append(self._take(job, worker, now + timedelta(seconds=lease_s)))
            return taken

    def heartbeat(self, job_id: int, worker: str, lease_s: float) -> bool:
        """Renew a lease from now on. False: it was lost, stop the work."""
        with self._lock:
            job = self._held(job_id, worker)
            if job is not None:
                self._jobs[job_id] = replace(job, lease_until=self._clock() + timedelta(seconds=lease_s))
            return job is not None

    def finish(self, job_id: int, worker: str) -> bool:
        """End a job as done. False: the lease was lost, nothing changed."""
        with self._lock:
            job = self._held(job_id, worker)
            if job is not None:
                self._end(job, "done")
            return job is not None

    def fail(self, job_id: int, worker: str, error: str, retry_after_s: float | None) -> bool:
        """Let a job wait for its next attempt, or end it as dead. False: the lease was lost."""
        with self._lock:
            job = self._held(job_id, worker)
            if job is None:
                return False
            job = replace(job, last_error=error)
            if retry_after_s is None:
                self._end(job, "dead")
            else:
                self._wait(job, self._clock() + timedelta(seconds=retry_after_s))
            return True

    def jobs(self, cube: str | None = None, states: Sequence[JobState] | None = None) -> list[Job]:
        """Jobs in order of id. None means every cube, and every state."""
        with self._lock:
            return [
                job
                for job in sorted(self._jobs.values(), key=lambda job: job.id)
                if (cube is None or job.cube == cube) and (states is None or job.state in states)
            ]

    def _add(self, new: NewJob) -> bool:
        if self._twins(new, "waiting"):
            return False
        now = self._clock()
        due = now if new.not_before is None else new.not_before
        self._jobs[self._next] = Job(
            self._next, new.cube, new.kind, new.key, dict(new.payload), new.priority, 0, due, None, None,
            "waiting", None, now,
        )  # fmt: skip
        self._next += 1
        return True

    def _take(self, job: Job, worker: str, until: datetime) -> Job:
        lost = f"the lease of worker {job.worker} ran out" if job.state == "running" else job.last_error
        taken = replace(
            job, state="running", worker=worker, lease_until=until, attempts=job.attempts + 1, last_error=lost
        )
        self._jobs[job.id] = taken
        return taken

    def _held(self, job_id: int, worker: str) -> Job | None:
        job = self._jobs.get(job_id)
        if job is None or job.worker != worker or job.lease_until is None:
            return None
        return job if job.lease_until > self._clock() else None

    def _twins(self, job: Job | NewJob, *states: JobState) -> list[Job]:
        same = (job.cube, job.kind, job.key)
        found = [other for other in self._jobs.values() if (other.cube, other.kind, other.key) == same]
        return [other for other in found if other.state in states]

    def _end(self, job: Job, state: JobState) -> None:
        for other in self._twins(job, "done", "dead"):
            del self._jobs[other.id]
        self._jobs[job.id] = replace(job, state=state, worker=None, lease_until=None)

    def _wait(self, job: Job, not_before: datetime) -> None:
        for twin in self._twins(job, "waiting"):
            del self._jobs[twin.id]
            job = replace(job, payload=twin.payload, priority=max(job.priority, twin.priority))
        self._jobs[job.id] = replace(
            job, state="waiting", worker=None, lease_until=None, not_before=not_before
        )
