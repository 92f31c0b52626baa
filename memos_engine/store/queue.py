"""The job queue as rows of the catalog: one transaction per call, durable on return.

It keeps the rules of `ports.JobQueue` and knows neither what a job does nor when to give up on it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from memos_engine.items import Job, JobKind, JobState, NewJob
from memos_engine.ports import Clock
from memos_engine.store.database import Connection, Database
from memos_engine.store.moments import instant, micros
from memos_engine.store.rows import dumps

_COLUMNS = (
    "id, cube, kind, key, payload, priority, attempts, not_before, lease_until, worker, state, last_error,"
    " created_at"
)
_ADD = (
    "INSERT INTO jobs (cube, kind, key, payload, priority, not_before, created_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (cube, kind, key) WHERE state = 'waiting' DO NOTHING"
)
# The best due job of each cube in which nothing runs, best first.
_DUE = """
SELECT id FROM (
    SELECT id, priority, row_number() OVER (PARTITION BY cube ORDER BY priority DESC, id) AS place FROM jobs
    WHERE (state = 'waiting' AND not_before <= ?1 OR state = 'running' AND lease_until <= ?1)
    AND cube NOT IN (SELECT cube FROM jobs WHERE state = 'running' AND lease_until > ?1)
    AND (?2 IS NULL OR kind IN (SELECT value FROM json_each(?2)))
) WHERE place = 1 ORDER BY priority DESC, id LIMIT ?3
"""
_TAKE = f"""
UPDATE jobs SET state = 'running', worker = ?, lease_until = ?, attempts = attempts + 1,
    last_error = iif(state = 'running', 'the lease of worker ' || worker || ' ran out', last_error)
WHERE id = ? RETURNING {_COLUMNS}
"""
_HELD = "id = ? AND worker = ? AND state = 'running' AND lease_until > ?"
_RENEW = f"UPDATE jobs SET lease_until = ? WHERE {_HELD}"
_TWINS = "DELETE FROM jobs WHERE cube = ? AND kind = ? AND key = ?"


class SqliteJobQueue:
    """`JobQueue` on a catalog's database: shared by the threads and processes of one machine."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """`database` is an open catalog's; the queue closes with it."""
        self._database = database
        self._clock = clock

    def enqueue(self, jobs: Sequence[NewJob]) -> int:
        """Add jobs and return how many are new; one that waits already under its key is passed over."""
        rows = [(job, dumps(dict(job.payload))) for job in jobs]

        def work(connection: Connection) -> int:
            now = micros(self._clock())
            new = 0
            for job, payload in rows:
                due = now if job.not_before is None else micros(job.not_before)
                connection.execute(_ADD, [job.cube, job.kind, job.key, payload, job.priority, due, now])
                new += connection.changes()
            return new

        return self._database.write(work) if rows else 0

    def lease(
        self, worker: str, limit: int, lease_s: float, kinds: Sequence[JobKind] | None = None
    ) -> list[Job]:
        """Take due jobs (higher priority first, then older): at most one running job per cube."""
        wanted = None if kinds is None else dumps(list(kinds))

        def due(connection: Connection, now: datetime) -> list[Any]:
            rows = connection.execute(_DUE, [micros(now), wanted, max(limit, 0)])
            return [id_ for (id_,) in rows]

        def work(connection: Connection) -> list[Job]:
            now = self._clock()
            until = _after(now, lease_s)
            chosen = due(connection, now)
            return [_job(connection.execute(_TAKE, [worker, until, id_]).fetchall()[0]) for id_ in chosen]

        with self._database.reading() as connection:  # idle workers ask often: no write lock for "nothing"
            if not due(connection, self._clock()):
                return []
        return self._database.write(work)

    def heartbeat(self, job_id: int, worker: str, lease_s: float) -> bool:
        """Renew a lease from now on. False: it was lost, stop the work."""

        def work(connection: Connection) -> bool:
            now = self._clock()
            connection.execute(_RENEW, [_after(now, lease_s), job_id, worker, micros(now)])
            return connection.changes() > 0

        return self._database.write(work)

    def finish(self, job_id: int, worker: str) -> bool:
        """End a job as done. False: the lease was lost, nothing changed."""

        def work(connection: Connection) -> bool:
            job = self._held(connection, job_id, worker)
            if job is not None:
                _end(connection, job, "done", job.last_error)
            return job is not None

        return self._database.write(work)

    def fail(self, job_id: int, worker: str, error: str, retry_after_s: float | None) -> bool:
        """Let a job wait for its next attempt, or end it as dead. False: the lease was lost."""

        def work(connection: Connection) -> bool:
            job = self._held(connection, job_id, worker)
            if job is None:
                return False
            if retry_after_s is None:
                _end(connection, job, "dead", error)
            else:
                _wait(connection, job, error, _after(self._clock(), retry_after_s))
            return True

        return self._database.write(work)

    def jobs(self, cube: str | None = None, states: Sequence[JobState] | None = None) -> list[Job]:
        """Jobs in order of id. None means every cube, and every state."""
        sql = (
            f"SELECT {_COLUMNS} FROM jobs WHERE (?1 IS NULL OR cube = ?1)"
            " AND (?2 IS NULL OR state IN (SELECT value FROM json_each(?2))) ORDER BY id"
        )
        wanted = None if states is None else dumps(list(states))
        with self._database.reading() as connection:
            return [_job(row) for row in connection.execute(sql, [cube, wanted])]

    def _held(self, connection: Connection, job_id: int, worker: str) -> Job | None:
        sql = f"SELECT {_COLUMNS} FROM jobs WHERE {_HELD}"
        rows = connection.execute(sql, [job_id, worker, micros(self._clock())]).fetchall()
        return _job(rows[0]) if rows else None


def _end(connection: Connection, job: Job, state: JobState, error: str | None) -> None:
    """End `job`; what ended before under its key goes, so that the table stays small."""
    connection.execute(f"{_TWINS} AND state IN ('done', 'dead')", [job.cube, job.kind, job.key])
    connection.execute(
        "UPDATE jobs SET state = ?, last_error = ?, worker = NULL, lease_until = NULL WHERE id = ?",
        [state, error, job.id],
    )


def _wait(connection: Connection, job: Job, error: str, not_before: int) -> None:
    """Let `job` wait until `not_before`, in one with the twin that was enqueued while it ran."""
    twins: list[tuple[Any, ...]] = connection.execute(
        f"{_TWINS} AND state = 'waiting' RETURNING payload, priority", [job.cube, job.kind, job.key]
    ).fetchall()
    payload, priority = twins[0] if twins else (dumps(dict(job.payload)), job.priority)
    connection.execute(
        "UPDATE jobs SET state = 'waiting', worker = NULL, lease_until = NULL,"
        " last_error = ?, not_before = ?, payload = ?, priority = ? WHERE id = ?",
        [error, not_before, payload, max(priority, job.priority), job.id],
    )


def _after(now: datetime, seconds: float) -> int:
    return micros(now + timedelta(seconds=seconds))


def _job(row: tuple[Any, ...]) -> Job:
    id_, cube, kind, key, payload, priority, attempts, due, until, worker, state, error, created = row
    return Job(
        id_, cube, kind, key, json.loads(payload), priority, attempts, instant(due),
        None if until is None else instant(until), worker, state, error, instant(created),
    )  # fmt: skip
