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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from memos_engine.blocks.activations import Activations
from memos_engine.blocks.met import Met
from memos_engine.errors import (
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
from memos_engine.items import CubeRow, Job, KVBudgets, Right
from memos_engine.ports import Clock
from memos_engine.schedule.policy import jobs_due
from memos_engine.schedule.worker import Worker
from memos_engine.shelf import Models, TextShelf
from memos_engine.store.catalog import Catalog
from memos_engine.store.disk import sync_path
from memos_engine.store.folders import CUBES, STAGING, make_root, remove_folder, sweep_folders
from memos_engine.store.queue import SqliteJobQueue
from memos_engine.store.sqlite import CUBE_DATABASE, CubeFile
from memos_engine.store.threads import Threads, open_threads
from memos_engine.upkeep import Progress, cube_facts, expire, organise

if TYPE_CHECKING:
    from memos_engine.blocks.shelf import ActivationShelf
    from memos_engine.models.local import LocalModel

PAGE_BYTES_MAX = 2**30
AWAKE_MAX = 64
"""Shelves with open connections at a time: each holds 3 to 15 files, and many systems allow 1,024."""
STOP_TIMEOUT_S = 30.0

DEAD_REST = timedelta(minutes=10)
"""How long the background leaves a dead letter alone before the same is tried anew."""
LOOK_REST = timedelta(minutes=10)
"""How long the background leaves the blocks of a cube alone after a look at them, however much it is used."""
UNSEEN_PER_PLAN = 8

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
        kv_budgets: KVBudgets,
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
        make_root(root)
        self.catalog = Catalog(root, self.clock)
        self.queue = SqliteJobQueue(self.catalog.database, self.clock)
        self._threads = open_threads(root)
        sweep_folders(root, self.catalog.removed)
        self._shelves: OrderedDict[str, TextShelf] = OrderedDict()
        self._used: set[str] = set()  # since the last plan
        self._unseen: list[str] = []  # not looked at since this process started
        self._lock = threading.Lock()
        self.closed = False
        self._met = Met()
        self._activations = Activations(kv_budgets)
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
        file = CubeFile(folder, cube, self.clock)
        file.on_gone = partial(self._activations.let_go, cube)
        file.sweep_blocks()
        return TextShelf(file, self.models, self.clock)

    def activation(self, cube: str) -> ActivationShelf:
        """The blocks of a cube; imports torch."""
        return self._activations.of(self.shelf(cube))

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

    def delete(self, cube: str) -> None:
        """Forget a cube and remove its folder."""
        self.catalog.remove_cube(cube)
        self._met.drop(cube)
        with self._lock:
            shelf = self._shelves.pop(cube, None)
        if shelf is not None:
            shelf.close()
        self._activations.drop(cube)
        remove_folder(self.root / CUBES / cube)

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

    def met(self, cube: str, model: LocalModel) -> None:
        """A model was used with a cube: as long as it is there, jobs may make blocks of the cube with it.

        A process that never met a model leaves such jobs to others.
        """
        self._met.add(cube, model)
        self._worker.handle("activate", self._activate)

    def start(self) -> None:
        """Run jobs in a daemon thread; every cube is looked at once, a few at a time."""
        with self._lock:
            self._unseen = [row.id for row in self.catalog.cubes()]
        self._worker.start()

    def plan(self, *, again: bool = True) -> int:
        """Enqueue what the cubes used here since the last time call for; returns how many jobs are new.

        Args:
            again: Also what ended as a dead letter, or was looked at, a moment ago.
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
        now = self.clock()
        facts = cube_facts(self._peek(cube), now, self._met.facts(cube, now))
        rest = timedelta(0) if again else LOOK_REST
        due = jobs_due(facts, index_above=self._index_above, look_rest=rest)
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

    def _activate(self, job: Job, heartbeat: Callable[[], None]) -> None:
        """Without its model there is nothing to do: it is planned again where the model is."""
        model = self._met.model(job.key)
        if model is None or self._of(job) is None:
            return
        from memos_engine.blocks.promote import look  # noqa: PLC0415 -- torch takes seconds

        self.queue.enqueue(look(self.activation(job.cube), model, job, self._met, heartbeat))

    def close(self) -> None:
        """Stop the background and close every file. A second call does nothing."""
        self._worker.stop(STOP_TIMEOUT_S)
        with self._lock:
            self.closed = True
            shelves = list(self._shelves.values())
            self._shelves.clear()
        for shelf in shelves:
            shelf.close()
        self._activations.close()
        self._threads.close()
        self.catalog.close()


def _deleted(cube: str) -> str:
    return f"cube {cube!r} was deleted: make a new one with memos.cube(name)"


def _system_clock() -> datetime:
    return datetime.now(UTC)
