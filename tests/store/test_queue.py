"""The job queue of the catalog and its model, under the conformance suite, with several processes."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memos_engine.errors import Closed
from memos_engine.items import NewJob
from memos_engine.ports import JobQueue
from memos_engine.store.catalog import Catalog
from memos_engine.store.queue import SqliteJobQueue
from memos_engine.testing.conformance import JobQueueTests
from memos_engine.testing.fakes import FrozenClock
from memos_engine.testing.models import MemoryJobQueue

ROOT = Path(__file__).parent.parent.parent


def wall_clock() -> datetime:
    """Return the moment it is."""
    return datetime.now(UTC)


class TestMemoryJobQueue(JobQueueTests):
    """The model keeps its own rules."""

    @pytest.fixture
    def queue(self, clock: FrozenClock) -> JobQueue:
        """Return an empty model."""
        return MemoryJobQueue(clock)


class TestSqliteJobQueue(JobQueueTests):
    """The queue on the catalog's database keeps the rules of the port."""

    @pytest.fixture
    def catalog(self, tmp_path: Path, clock: FrozenClock) -> Iterator[Catalog]:
        """Lend a new catalog."""
        catalog = Catalog(tmp_path, clock)
        yield catalog
        catalog.close()

    @pytest.fixture
    def queue(self, catalog: Catalog, clock: FrozenClock) -> JobQueue:
        """Return its queue."""
        return SqliteJobQueue(catalog.database, clock)

    def test_jobs_survive_a_reopen(self, queue: JobQueue, catalog: Catalog, clock: FrozenClock) -> None:
        """Waiting, running and dead jobs are as they were, and ids go on rising."""
        queue.enqueue([NewJob("c", "index", str(n)) for n in range(3)] + [NewJob("d", "expire")])
        (first, _) = queue.lease("w", 2, 60)
        queue.fail(first.id, "w", "no luck", None)
        before = queue.jobs()
        catalog.close()
        with pytest.raises(Closed):
            queue.enqueue([NewJob("e", "index")])
        again = Catalog(catalog.database.path.parent, clock)
        reopened = SqliteJobQueue(again.database, clock)
        assert reopened.jobs() == before
        reopened.enqueue([NewJob("e", "index")])
        assert reopened.jobs("e")[0].id > max(job.id for job in before)
        again.close()

    def test_an_idle_lease_takes_no_write_lock(
        self, queue: JobQueue, catalog: Catalog, clock: FrozenClock
    ) -> None:
        """A worker that finds nothing does not wait for a writer."""

        def work(_connection: object) -> list[object]:
            return [*SqliteJobQueue(other.database, clock).lease("w", 1, 10)]

        other = Catalog(catalog.database.path.parent, clock)
        assert catalog.database.write(work) == []
        other.close()


CHILD = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from memos_engine.store.catalog import Catalog
from memos_engine.store.queue import SqliteJobQueue
from tests.store.test_queue import wall_clock

catalog = Catalog(Path(sys.argv[1]), wall_clock)
queue = SqliteJobQueue(catalog.database, wall_clock)
print("ready", flush=True)
sys.stdin.readline()

def work(name):
    while queue.jobs(states=["waiting"]):
        for job in queue.lease(name, 1, 600):
            sys.stdout.write(f"{job.key} {job.attempts}\\n")
            assert queue.finish(job.id, name)

with ThreadPoolExecutor(4) as pool:
    list(pool.map(work, [f"{sys.argv[2]}-{n}" for n in range(4)]))
catalog.close()
"""


def test_two_processes_of_four_threads_do_each_job_once(tmp_path: Path) -> None:
    """200 jobs of 20 cubes: every one is leased once, at its first attempt, and ends done."""
    catalog = Catalog(tmp_path, wall_clock)
    queue = SqliteJobQueue(catalog.database, wall_clock)
    queue.enqueue([NewJob(f"c{n % 20}", "index", str(n), {}, n % 3) for n in range(200)])
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(n)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    for child in children:  # both are up before either begins
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    outputs = [child.communicate()[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    done = [tuple(line.split()) for output in outputs for line in output.splitlines()]
    assert Counter(done) == Counter((str(n), "1") for n in range(200))
    assert {job.state for job in queue.jobs()} == {"done"}
    catalog.close()
