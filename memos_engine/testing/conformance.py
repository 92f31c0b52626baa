"""What every implementation of a port must do, as test classes to inherit: give the fixtures, run pytest.

This module needs pytest; nothing else of the package imports it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np
import pytest

from memos_engine.items import Job, Json, NewJob
from memos_engine.ports import JobQueue, VectorIndex, Vectors
from memos_engine.testing.fakes import FrozenClock


class JobQueueTests:
    """What every `JobQueue` must do. Inherit, and override `queue` with one that goes by `clock`."""

    @pytest.fixture
    def clock(self) -> FrozenClock:
        """A clock that the tests move."""
        return FrozenClock()

    @pytest.fixture
    def queue(self, clock: FrozenClock) -> JobQueue:
        """Return an empty queue that goes by `clock`."""
        raise NotImplementedError("override the fixture `queue`")

    def test_a_job_comes_back_as_it_was_enqueued(self, queue: JobQueue, clock: FrozenClock) -> None:
        """Every field of a new job is kept, the rest is told."""
        later = clock() + timedelta(microseconds=7)
        payload: dict[str, Json] = {"to": 7, "ids": ["é", "雪"], "deep": {"none": None, "yes": True}}
        assert queue.enqueue([NewJob("c", "index", "k/é", payload, -3, later)]) == 1
        assert queue.enqueue([]) == 0
        (job,) = queue.jobs()
        assert job == Job(
            job.id, "c", "index", "k/é", payload, -3, 0, later, None, None, "waiting", None, clock()
        )

    def test_one_waits_per_key_and_one_more_beside_a_running_one(
        self, queue: JobQueue, clock: FrozenClock
    ) -> None:
        """The same work is not doubled while it waits; what runs already may have missed the news."""
        new = NewJob("c", "organise", "k")
        others = [NewJob("c", "organise", "l"), NewJob("c", "expire", "k"), NewJob("d", "organise", "k")]
        assert queue.enqueue([new, new]) == 1
        assert queue.enqueue([new]) == 0
        assert queue.enqueue(others) == 3
        (job, _) = queue.lease("w", 9, 10)
        assert queue.enqueue([new]) == 1
        assert queue.enqueue([new]) == 0
        assert queue.finish(job.id, "w")
        assert queue.enqueue([new]) == 0
        assert len(queue.jobs("c", ["waiting"])) == 3

    def test_lease_takes_the_best_of_each_cube(self, queue: JobQueue) -> None:
        """Higher priority first, then older; never two of one cube."""
        queue.enqueue([NewJob(cube, "index", str(n), {}, n % 3) for n in range(6) for cube in "ab"])
        queue.enqueue([NewJob("c", "index", "late", {}, 9)])
        taken = queue.lease("w", 9, 10)
        assert [(job.cube, job.key) for job in taken] == [("c", "late"), ("a", "2"), ("b", "2")]
        assert queue.lease("v", 9, 10) == []
        assert queue.finish(taken[1].id, "w")
        assert [(job.cube, job.key) for job in queue.lease("v", 9, 10)] == [("a", "5")]

    def test_lease_heeds_its_limit_and_kinds(self, queue: JobQueue) -> None:
        """No more than asked for, and nothing of a kind that was not."""
        queue.enqueue([NewJob(cube, "index") for cube in "abc"] + [NewJob("d", "expire")])
        assert queue.lease("w", 0, 10) == []
        assert queue.lease("w", 9, 10, ()) == []
        assert [job.cube for job in queue.lease("w", 2, 10, ("index",))] == ["a", "b"]
        assert [job.cube for job in queue.lease("w", 2, 10, ("expire", "organise"))] == ["d"]

    def test_a_leased_job_names_its_holder(self, queue: JobQueue, clock: FrozenClock) -> None:
        """What `lease` returns is what the queue now says of the job."""
        queue.enqueue([NewJob("c", "index")])
        (job,) = queue.lease("w", 1, 10)
        assert (job.state, job.worker, job.attempts) == ("running", "w", 1)
        assert job.lease_until == clock() + timedelta(seconds=10)
        assert queue.jobs() == [job]

    def test_a_job_put_off_is_not_due(self, queue: JobQueue, clock: FrozenClock) -> None:
        """`not_before` is inclusive."""
        queue.enqueue([NewJob("c", "index", not_before=clock() + timedelta(seconds=5))])
        clock.advance(timedelta(seconds=5, microseconds=-1))
        assert queue.lease("w", 1, 10) == []
        clock.advance(timedelta(microseconds=1))
        assert len(queue.lease("w", 1, 10)) == 1

    def test_heartbeat_renews_from_now(self, queue: JobQueue, clock: FrozenClock) -> None:
        """A job whose worker beats in time is nobody else's, however long it takes."""
        queue.enqueue([NewJob("c", "index")])
        (job,) = queue.lease("w", 1, 10)
        for _ in range(5):
            clock.advance(timedelta(seconds=9))
            assert queue.heartbeat(job.id, "w", 10)
            assert queue.lease("v", 1, 10) == []
        assert queue.finish(job.id, "w")

    def test_a_lost_lease_is_taken_up_with_the_attempt_counted(
        self, queue: JobQueue, clock: FrozenClock
    ) -> None:
        """Exactly when the lease is over, another worker gets the job and is told why."""
        queue.enqueue([NewJob("c", "index", payload={"n": 1})])
        (first,) = queue.lease("w", 1, 10)
        clock.advance(timedelta(seconds=10))
        (second,) = queue.lease("v", 1, 10)
        assert (second.id, second.payload, second.attempts, second.worker) == (first.id, {"n": 1}, 2, "v")
        assert second.last_error is not None
        assert "w" in second.last_error

    @pytest.mark.parametrize("taken", [False, True])
    def test_a_stale_worker_changes_nothing(self, queue: JobQueue, clock: FrozenClock, taken: bool) -> None:  # noqa: FBT001 -- a case, not an option
        """Once its lease ran out, a worker can neither renew nor end the job, taken by another or not."""
        queue.enqueue([NewJob("c", "index")])
        (job,) = queue.lease("w", 1, 10)
        clock.advance(timedelta(seconds=10))
        if taken:
            assert queue.lease("v", 1, 10)
        before = queue.jobs()
        assert not queue.heartbeat(job.id, "w", 10)
        assert not queue.finish(job.id, "w")
        assert not queue.fail(job.id, "w", "late", 1)
        assert not queue.fail(job.id, "w", "late", None)
        assert queue.jobs() == before

    def test_nobody_ends_what_he_does_not_hold(self, queue: JobQueue) -> None:
        """Waiting, foreign, ended and unknown jobs are not ended by a call with their id."""
        queue.enqueue([NewJob("c", "index")])
        (waiting,) = queue.jobs()
        assert not queue.finish(waiting.id, "w")
        (job,) = queue.lease("w", 1, 10)
        for id_, worker in ((job.id, "v"), (job.id + 1, "w")):
            assert not queue.heartbeat(id_, worker, 10)
            assert not queue.finish(id_, worker)
            assert not queue.fail(id_, worker, "no", None)
        assert queue.finish(job.id, "w")
        assert not queue.finish(job.id, "w")
        assert not queue.fail(job.id, "w", "no", None)
        assert [job.state for job in queue.jobs()] == ["done"]

    def test_a_failed_job_waits_for_its_next_attempt(self, queue: JobQueue, clock: FrozenClock) -> None:
        """It keeps its id and its error, and other jobs of the cube go on meanwhile."""
        queue.enqueue([NewJob("c", "index", "k", priority=1), NewJob("c", "index", "l")])
        (job,) = queue.lease("w", 1, 10)
        assert queue.fail(job.id, "w", "no luck", 2.5)
        (waiting, _) = queue.jobs()
        assert (waiting.id, waiting.state) == (job.id, "waiting")
        assert (waiting.worker, waiting.lease_until) == (None, None)
        assert (waiting.last_error, waiting.not_before) == ("no luck", clock() + timedelta(seconds=2.5))
        (other,) = queue.lease("w", 1, 10)
        assert other.key == "l"
        assert queue.finish(other.id, "w")
        clock.advance(timedelta(seconds=2.5))
        (again,) = queue.lease("w", 1, 10)
        assert (again.id, again.attempts, again.last_error) == (job.id, 2, "no luck")

    def test_a_failed_job_and_its_twin_become_one(self, queue: JobQueue, clock: FrozenClock) -> None:
        """What was enqueued while it ran gives its payload; the attempts and the delay stay."""
        queue.enqueue([NewJob("c", "index", "k", {"n": 1}, 1)])
        (job,) = queue.lease("w", 1, 10)
        assert queue.enqueue([NewJob("c", "index", "k", {"n": 2}, 5)]) == 1
        assert queue.fail(job.id, "w", "no luck", 60)
        (one,) = queue.jobs()
        assert (one.id, one.payload, one.priority, one.attempts) == (job.id, {"n": 2}, 5, 1)
        assert queue.lease("w", 1, 10) == []
        clock.advance(timedelta(seconds=60))
        assert len(queue.lease("w", 1, 10)) == 1

    def test_a_dead_letter_stays_until_its_work_is_done(self, queue: JobQueue, clock: FrozenClock) -> None:
        """It is not leased again; the same work may be enqueued anew, and its end replaces the letter."""
        new = NewJob("c", "index", "k")
        queue.enqueue([new, NewJob("c", "expire", "k")])
        (job,) = queue.lease("w", 1, 10, ["index"])
        assert queue.fail(job.id, "w", "no luck", None)
        (dead,) = queue.jobs(states=["dead"])
        assert (dead.id, dead.last_error, dead.worker, dead.lease_until) == (job.id, "no luck", None, None)
        clock.advance(timedelta(days=1))
        assert queue.lease("w", 1, 10, ["index"]) == []
        assert queue.enqueue([new]) == 1
        (again,) = queue.lease("w", 1, 10, ["index"])
        assert again.id > job.id
        assert again.attempts == 1
        assert queue.jobs(states=["dead"]) == [dead]
        assert queue.finish(again.id, "w")
        assert [job.id for job in queue.jobs("c", ["done", "dead"])] == [again.id]

    def test_jobs_are_listed_by_cube_and_state(self, queue: JobQueue) -> None:
        """None restricts nothing; an empty choice of states chooses nothing."""
        queue.enqueue([NewJob(cube, "index", str(n)) for n in range(2) for cube in "ab"])
        (job,) = queue.lease("w", 1, 10)
        ids = [job.id for job in queue.jobs()]
        assert ids == sorted(set(ids))
        assert [job.cube + job.key for job in queue.jobs()] == ["a0", "b0", "a1", "b1"]
        assert [found.id for found in queue.jobs("a", ["running"])] == [job.id]
        assert len(queue.jobs("b", ["waiting", "dead"])) == 2
        assert queue.jobs(states=[]) == []
        assert queue.jobs("nowhere") == []

    def test_many_threads_do_each_job_once(self, queue: JobQueue) -> None:
        """Eight threads share 96 jobs of 12 cubes: each is done once, no cube has two at a time."""
        queue.enqueue([NewJob(f"c{n % 12}", "index", str(n)) for n in range(96)])
        done: list[tuple[str, int]] = []
        busy: set[str] = set()
        clashes: list[str] = []

        def work(name: str) -> None:
            while queue.jobs(states=["waiting"]):
                for job in queue.lease(name, 2, 60):
                    if job.cube in busy:
                        clashes.append(job.cube)
                    busy.add(job.cube)
                    done.append((job.key, job.attempts))
                    busy.discard(job.cube)
                    assert queue.finish(job.id, name)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, [f"w{n}" for n in range(8)]))
        assert sorted(done) == sorted((str(n), 1) for n in range(96))
        assert clashes == []
        assert queue.jobs(states=["waiting", "running"]) == []


class VectorIndexTests:
    """What every `VectorIndex` must do, exact or not. Inherit, and override `index` with an empty one."""

    @pytest.fixture
    def index(self) -> VectorIndex:
        """Return an empty index for rows of 16 components."""
        raise NotImplementedError("override the fixture `index`")

    @pytest.fixture
    def rows(self) -> Vectors:
        """400 unit rows around 20 centres, always the same."""
        random = np.random.default_rng(20)
        made = random.normal(size=(20, 16)).repeat(20, axis=0) + 0.3 * random.normal(size=(400, 16))
        return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)

    def test_an_empty_index_finds_nothing(self, index: VectorIndex, rows: Vectors) -> None:
        """Before any row, after an empty add, and after an empty remove."""
        assert index.nearest(rows[0], 5) == []
        index.add(np.empty(0, np.int64), np.empty(0, np.int64), rows[:0])
        index.remove([])
        assert index.nearest(rows[0], 5) == []

    def test_nearest_is_best_first_with_cosines(self, index: VectorIndex, rows: Vectors) -> None:
        """Refs come in falling order of the cosine that is told, and nearly all of the true best are there."""
        numbers = np.arange(1, len(rows) + 1)
        index.add(numbers, 1_000 + numbers, rows)
        found = 0
        for row in rows[::20]:
            near = index.nearest(row, 10)
            scores = [score for _, score in near]
            assert scores == sorted(scores, reverse=True)
            assert scores == pytest.approx([float(rows[ref - 1_001] @ row) for ref, _ in near], abs=1e-5)
            best = 1_001 + np.argsort(-(rows @ row))[:10]
            found += len({ref for ref, _ in near} & set(best.tolist()))
        assert found >= 190

    def test_a_ref_of_several_rows_comes_once(self, index: VectorIndex, rows: Vectors) -> None:
        """It counts by its best row, and does not crowd others out."""
        index.add(np.arange(1, 401), np.arange(400) // 100, rows)
        near = index.nearest(rows[250], 4)
        assert sorted(ref for ref, _ in near) == [0, 1, 2, 3]
        assert near[0][0] == 2
        assert near[0][1] == pytest.approx(1, abs=1e-5)
        assert len(index.nearest(rows[250], 3)) == 3

    def test_limits(self, index: VectorIndex, rows: Vectors) -> None:
        """No more than asked for, no more than there is; zero is nothing."""
        index.add(np.arange(1, 8), np.arange(1, 8), rows[:7])
        assert index.nearest(rows[0], 0) == []
        assert [ref for ref, _ in index.nearest(rows[0], 1)] == [1]
        assert sorted(ref for ref, _ in index.nearest(rows[0], 100)) == [1, 2, 3, 4, 5, 6, 7]

    def test_equal_rows_are_all_found(self, index: VectorIndex, rows: Vectors) -> None:
        """Ties have one score."""
        index.add(np.arange(1, 7), np.arange(1, 7), rows[[0, 0, 0, 0, 0, 399]])
        near = index.nearest(rows[0], 5)
        assert sorted(ref for ref, _ in near) == [1, 2, 3, 4, 5]
        assert [score for _, score in near] == pytest.approx([1] * 5, abs=1e-5)

    def test_what_was_removed_is_not_found(self, index: VectorIndex, rows: Vectors) -> None:
        """An id that is not there is passed over, twice removed is once removed, later rows find their place."""
        index.add(np.arange(1, 101), np.arange(1, 101), rows[:100])
        index.remove([*range(2, 101, 2), 7_000, 2])
        index.remove([4, 999_999])
        assert sorted(ref for ref, _ in index.nearest(rows[0], 100)) == list(range(1, 101, 2))
        index.add(np.arange(101, 103), np.arange(101, 103), rows[[1, 3]])
        assert [ref for ref, _ in index.nearest(rows[1], 1)] == [101]
        index.remove(range(1, 103))
        assert index.nearest(rows[0], 5) == []

    def test_searches_run_beside_writes(self, index: VectorIndex, rows: Vectors) -> None:
        """Three threads search while one adds and removes: the row that stays is always found, the gone is not."""
        index.add(np.arange(1, 3), np.arange(1, 3), rows[:2])
        index.remove([2])

        def write() -> None:
            for n in range(3, 300, 9):
                ids = np.arange(n, n + 9)
                index.add(ids, ids, rows[n : n + 9])
                index.remove(ids[::2].tolist())

        with ThreadPoolExecutor(4) as pool:
            writing = pool.submit(write)
            near = list(pool.map(lambda _: index.nearest(rows[0], 400), range(150)))
            writing.result()
        assert all(found[0][0] == 1 for found in near)
        assert [found[0][1] for found in near] == pytest.approx([1] * 150, abs=1e-5)
        assert all(2 not in dict(found) for found in near)
