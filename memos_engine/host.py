"""What the handles of one root share: catalog, open shelves, queue and worker, threads. Knows no rights.

Shelves open on first use and stay; the least recently used give back their connections and pages.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from memos_engine.errors import (
    BadRoot,
    Closed,
    Conflict,
    CubeNotFound,
    EmbedderMismatch,
    EmbedderUnavailable,
    StoreDamaged,
    StoreError,
)
from memos_engine.govern.access import ROOT
from memos_engine.ids import new_id
from memos_engine.items import CubeRow, Job, Right
from memos_engine.ports import Clock
from memos_engine.schedule.policy import jobs_due
from memos_engine.schedule.worker import Worker
from memos_engine.shelf import Models, TextShelf
from memos_engine.store.catalog import Catalog
from memos_engine.store.disk import sync_path
from memos_engine.store.queue import SqliteJobQueue
from memos_engine.store.sqlite import CUBE_DATABASE, CubeFile
from memos_engine.store.threads import Threads, open_threads
from memos_engine.upkeep import Progress, cube_facts, expire, organise

CUBES = "cubes"
PAGE_BYTES_MAX = 2**30
AWAKE_MAX = 64
"""Shelves with open connections at a time: each holds 3 to 15 files, and many systems allow 1,024."""
STOP_TIMEOUT_S = 30.0

DEAD_REST = timedelta(minutes=10)
"""How long the background leaves a dead letter alone before the same is tried anew."""
UNSEEN_PER_PLAN = 8
STAGING = ".loading-"
SWEEP_AGE_S = 86_400.0

_log = logging.getLogger(__name__)


class Host:
    """The shared inside of one opened root. Thread-safe."""

    def __init__(
        self,
        root: Path,
        models: Models,
        *,
        clock: Clock | None,
        page_bytes_max: int,
        index_above: int,
    ) -> None:
        """Open or create the root folder.

        Raises:
            BadRoot: it is a file, or cannot be made or written.
        """
        self.root = root
        self.models = models
        self.clock: Clock = clock or _system_clock
        self._page_bytes_max = page_bytes_max
        self._index_above = index_above
        _make_root(root)
        self.catalog = Catalog(root, self.clock)
        self.queue = SqliteJobQueue(self.catalog.database, self.clock)
        self._threads = open_threads(root)
        self._sweep()
        self._shelves: OrderedDict[str, TextShelf] = OrderedDict()
        self._used: set[str] = set()  # since the last plan
        self._unseen: list[str] = []  # not looked at since this process started
        self._lock = threading.Lock()
        self.closed = False
        self._worker = Worker(
            self.queue,
            {"index": self._index, "organise": self._organise, "expire": self._expire},
            name=f"pid{os.getpid()}",
            clock=self.clock,
            before=self._plan_quietly,
        )

    # Cubes

    def create(self, owner: str, name: str) -> CubeRow:
        """A new cube, or the one that another caller made meanwhile."""
        cube = new_id()
        folder = self.root / CUBES / cube
        folder.mkdir(mode=0o700)
        CubeFile(folder, cube, self.clock).close()
        row = self.catalog.create_cube(cube, owner, name)
        if row.id != cube:
            shutil.rmtree(folder)
        return row

    def shelf(self, cube: str) -> TextShelf:
        """The shelf of a cube, opened on first use."""
        with self._lock:
            if self.closed:
                raise Closed("this MemOS is closed: open it again with MemOS.open(path)")
            shelf = self._shelves.get(cube)
            if shelf is None:
                shelf = self._shelves[cube] = self._open(cube)
            self._shelves.move_to_end(cube)
            self._used.add(cube)
            self._make_room()
            return shelf

    def _open(self, cube: str) -> TextShelf:
        if self.catalog.cube_by_id(cube) is None:
            raise CubeNotFound(_deleted(cube))
        folder = self.root / CUBES / cube
        database = folder / CUBE_DATABASE
        if not database.is_file() or not database.stat().st_size:
            raise StoreDamaged(
                f"{str(database)!r} is missing or empty, the catalog knows the cube: put the folder back from a "
                "copy, or remove the cube with memos.delete(name)"
            )
        return TextShelf(CubeFile(folder, cube, self.clock), self.models, self.clock)

    def _make_room(self) -> None:
        """Let the least recently used shelves rest; the one in use is the last and stays."""
        shelves = list(self._shelves.values())
        spare = self._page_bytes_max - sum(shelf.resident.nbytes for shelf in shelves)
        for shelf in shelves[:-1]:
            if spare >= 0:
                break
            spare += shelf.resident.nbytes
            shelf.resident.drop_page()
        if len(shelves) > AWAKE_MAX:
            shelves[-AWAKE_MAX - 1].rest()

    def check_embedder(self, cube: str) -> None:
        """Refuse an embedder that did not make the cube's vectors.

        Raises:
            EmbedderMismatch: it did not.
        """
        shelf = self.shelf(cube)
        state = shelf.file.data_version()
        if shelf.fits_at == state:  # nothing was committed since: asked for at every call of an adapter
            return
        with shelf.file.read() as reader:
            row = reader.embedder()
        if row is None:
            shelf.fits_at = state
            return
        try:
            mine = self.models.embedder.fingerprint
        except EmbedderUnavailable:
            return  # reading, listing and forgetting need no model; a search will say what is missing
        if row.fingerprint != mine:
            raise EmbedderMismatch(
                f"this cube's vectors were made by {row.fingerprint!r}, not by {mine!r}: open it with the first, "
                "or run memos.reembed(name) once to make them anew"
            )
        shelf.fits_at = state

    def load(self, source: Path, owner: str, name: str, progress: Progress) -> CubeRow:
        """A new cube out of an archive: whole, or not at all.

        Raises:
            Conflict: the owner has a cube of that name, perhaps made meanwhile.
        """
        from memos_engine.store import archive  # noqa: PLC0415 -- pydantic models take 0.1 s; few processes load

        cube = new_id()
        folder = self.root / CUBES / cube
        staging = self.root / CUBES / f"{STAGING}{cube}"
        try:
            archive.load(source, staging, cube, self.clock, principal=owner, progress=progress)
            staging.rename(folder)
            sync_path(folder.parent)
            return self._named(cube, owner, name)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _named(self, cube: str, owner: str, name: str) -> CubeRow:
        """Enter a loaded cube into the catalog under a name that is still free."""
        row = self.catalog.create_cube(cube, owner, name)
        if row.id != cube:
            raise Conflict(
                f"a cube {name!r} was made meanwhile: load under another name, with load(path, name=...)"
            )
        return row

    def _sweep(self) -> None:
        """Remove what a deletion or a load that was cut short left behind."""
        for folder in (self.root / CUBES).iterdir():
            staging = folder.name.startswith(STAGING)
            try:
                age_s = time.time() - folder.stat().st_mtime
            except FileNotFoundError:  # whoever made it has removed it since: two made one cube at a moment
                continue
            old = age_s > SWEEP_AGE_S  # a younger one may be at work elsewhere
            if (staging and old) or (not staging and self.catalog.removed(folder.name)):
                shutil.rmtree(folder, ignore_errors=True)

    def delete(self, cube: str) -> None:
        """Forget a cube and remove its folder."""
        self.catalog.remove_cube(cube)
        with self._lock:
            shelf = self._shelves.pop(cube, None)
        if shelf is not None:
            shelf.close()
        shutil.rmtree(self.root / CUBES / cube, ignore_errors=False) if (
            self.root / CUBES / cube
        ).exists() else None

    # Rights, as `cube.py` asks for them

    def right(self, cube: str, principal: str) -> Right | None:
        """What the catalog says now; the root has every right on a cube that is there.

        Raises:
            CubeNotFound: the root asks for a cube that was deleted.
        """
        if principal != ROOT:
            return self.catalog.right(cube, principal)
        if not self.catalog.exists(cube):
            raise CubeNotFound(_deleted(cube))
        return "owner"

    def share(self, cube: str, principal: str, right: Right | None) -> None:
        """Grant a right, or take it back (None)."""
        if right is None:
            self.catalog.revoke(cube, principal)
        else:
            self.catalog.grant(cube, principal, right)

    def grants(self, cube: str) -> dict[str, Right]:
        """What was granted, by principal."""
        return self.catalog.grants(cube)

    def threads(self, principal: str) -> Threads:
        """The threads of one principal."""
        return Threads(self._threads, principal, self.clock)

    # Jobs

    def start(self) -> None:
        """Run jobs in a daemon thread; every cube is looked at once, a few at a time."""
        with self._lock:
            self._unseen = [row.id for row in self.catalog.cubes()]
        self._worker.start()

    def plan(self, *, again: bool = True) -> int:
        """Enqueue what the cubes used here since the last time call for; returns how many jobs are new.

        Args:
            again: Also what ended as a dead letter a moment ago.
        """
        with self._lock:
            cubes = [*self._used, *self._unseen[:UNSEEN_PER_PLAN]]
            self._used.clear()
            del self._unseen[:UNSEEN_PER_PLAN]
        new = 0
        for cube in cubes:
            try:
                new += self._plan_one(cube, again=again)
            except CubeNotFound:
                continue  # deleted meanwhile: it needs nothing
            except (StoreError, Closed) as exc:  # told to whoever uses that cube; the others go on
                _log.warning(
                    "a cube cannot be looked after", extra={"action": "plan", "cube": cube, "error": str(exc)}
                )
        return new

    def _plan_one(self, cube: str, *, again: bool) -> int:
        facts = cube_facts(self._peek(cube), self.clock())
        due = jobs_due(facts, index_above=self._index_above)
        if not due:
            return 0
        recent = self.clock() - DEAD_REST
        dead = {job.kind for job in self.queue.jobs(cube, ("dead",)) if job.created_at > recent}
        return self.queue.enqueue([job for job in due if again or job.kind not in dead])

    def _peek(self, cube: str) -> TextShelf:
        """A shelf, without counting as a use of it."""
        shelf = self.shelf(cube)
        with self._lock:
            self._used.discard(cube)
        return shelf

    def _plan_quietly(self) -> None:
        """What the background does: a lasting fault is not tried for ever."""
        self.plan(again=False)

    def drain(self, timeout_s: float) -> None:
        """Run all that is due in this thread."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            self._used.update(row.id for row in self.catalog.cubes())
        while self.plan():
            self._worker.drain(max(deadline - time.monotonic(), 0.0))
            with self._lock:
                self._used.update(row.id for row in self.catalog.cubes())
        self._worker.drain(max(deadline - time.monotonic(), 0.0))

    def _of(self, job: Job) -> TextShelf | None:
        """The shelf a job is about; None when its cube was deleted meanwhile."""
        try:
            return self.shelf(job.cube)
        except CubeNotFound:
            return None

    def _index(self, job: Job, heartbeat: Callable[[], None]) -> None:
        if (shelf := self._of(job)) is not None:
            shelf.resident.catch_up(shelf.file.read, heartbeat=heartbeat)

    def _organise(self, job: Job, heartbeat: Callable[[], None]) -> None:
        if (shelf := self._of(job)) is not None:
            organise(shelf, heartbeat)

    def _expire(self, job: Job, heartbeat: Callable[[], None]) -> None:
        if (shelf := self._of(job)) is not None:
            expire(shelf, self.clock(), heartbeat)

    def close(self) -> None:
        """Stop the background and close every file. A second call does nothing."""
        self._worker.stop(STOP_TIMEOUT_S)
        with self._lock:
            self.closed = True
            shelves = list(self._shelves.values())
            self._shelves.clear()
        for shelf in shelves:
            shelf.close()
        self._threads.close()
        self.catalog.close()


def _deleted(cube: str) -> str:
    return f"cube {cube!r} was deleted: make a new one with memos.cube(name)"


def _system_clock() -> datetime:
    return datetime.now(UTC)


def _make_root(root: Path) -> None:
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (root / CUBES).mkdir(mode=0o700, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as exc:
        raise BadRoot(f"{str(root)!r} is a file, not a folder: name a folder for the memories") from exc
    except OSError as exc:
        raise BadRoot(
            f"{str(root)!r} cannot be made or written ({exc}): name a folder that this user may write"
        ) from exc
