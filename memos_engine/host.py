"""What the handles of one root share: catalog, open shelves, queue and worker, threads. Knows no rights.

Shelves open on first use and stay; the least recently used give back their connections and pages.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from memos_engine.errors import (
    BadRoot,
    Closed,
    CubeNotFound,
    EmbedderMismatch,
    EmbedderUnavailable,
    StoreDamaged,
    StoreError,
)
from memos_engine.items import CubeRow, Job, Right, new_id
from memos_engine.ports import Clock, Embedder
from memos_engine.schedule.policy import jobs_due
from memos_engine.schedule.worker import Worker
from memos_engine.shelf import TextShelf
from memos_engine.store.catalog import Catalog
from memos_engine.store.queue import SqliteJobQueue
from memos_engine.store.sqlite import CubeFile
from memos_engine.store.threads import Threads, open_threads
from memos_engine.upkeep import Progress, cube_facts, expire, organise

CUBES = "cubes"
PAGE_BYTES_MAX = 2**30
AWAKE_MAX = 64
"""Shelves with open connections at a time: each holds 3 to 15 files, and many systems allow 1,024."""
STOP_TIMEOUT_S = 30.0

_log = logging.getLogger(__name__)


class Host:
    """The shared inside of one opened root. Thread-safe."""

    def __init__(
        self,
        root: Path,
        embedder: Embedder,
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
        self.embedder = embedder
        self.clock: Clock = clock or _system_clock
        self._page_bytes_max = page_bytes_max
        self._index_above = index_above
        _make_root(root)
        self.catalog = Catalog(root, self.clock)
        self.queue = SqliteJobQueue(self.catalog.database, self.clock)
        self._threads = open_threads(root)
        self._shelves: OrderedDict[str, TextShelf] = OrderedDict()
        self._used: set[str] = set()  # since the last plan
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

    def create(self, cube: str, owner: str, name: str) -> CubeRow:
        """A new cube, or the one that another caller made meanwhile."""
        return self.catalog.create_cube(cube, owner, name)

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
            raise CubeNotFound(f"cube {cube!r} was deleted: make a new one with memos.cube(name)")
        folder = self.root / CUBES / cube
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return TextShelf(CubeFile(folder, cube, self.clock), self.embedder, self.clock)

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
        with self.shelf(cube).file.read() as reader:
            row = reader.embedder()
        if row is None:
            return
        try:
            mine = self.embedder.fingerprint
        except EmbedderUnavailable:
            return  # reading, listing and forgetting need no model; a search will say what is missing
        if row.fingerprint != mine:
            raise EmbedderMismatch(
                f"this cube's vectors were made by {row.fingerprint!r}, not by {mine!r}: open it with the first, "
                "or run memos.reembed(name) once to make them anew"
            )

    def load(self, source: Path, owner: str, name: str, progress: Progress) -> CubeRow:
        """A new cube out of an archive: whole, or not at all."""
        from memos_engine.store import archive  # noqa: PLC0415 -- pydantic models take 0.1 s; few processes load

        cube = new_id()
        folder = self.root / CUBES / cube
        staging = self.root / CUBES / f".loading-{uuid.uuid4().hex}"
        try:
            archive.load(source, staging, cube, self.clock, principal=owner, progress=progress)
            os.replace(staging, folder)  # noqa: PTH105 -- the twin of the archive's own replace
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        return self.catalog.create_cube(cube, owner, name)

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
        """What the catalog says now."""
        return self.catalog.right(cube, principal)

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
        """Run jobs in a daemon thread."""
        self._worker.start()

    def plan(self, *, again: bool = True) -> int:
        """Enqueue what the cubes used here since the last time call for; returns how many jobs are new.

        Args:
            again: Also what ended as a dead letter before.
        """
        with self._lock:
            used = [(cube, self._shelves[cube]) for cube in self._used if cube in self._shelves]
            self._used.clear()
        new = 0
        for cube, shelf in used:
            try:
                due = jobs_due(cube_facts(shelf, self.clock()), index_above=self._index_above)
            except (StoreDamaged, Closed) as exc:  # told to whoever uses that cube; others go on
                _log.warning(
                    "a cube cannot be looked after", extra={"action": "plan", "cube": cube, "error": str(exc)}
                )
                continue
            dead = set() if again or not due else {job.kind for job in self.queue.jobs(cube, ("dead",))}
            new += self.queue.enqueue([job for job in due if job.kind not in dead])
        return new

    def _plan_quietly(self) -> None:
        """What the background does: a lasting fault is not tried for ever."""
        self.plan(again=False)

    def drain(self, timeout_s: float) -> None:
        """Run all that is due in this thread."""
        for row in self.catalog.cubes():
            with suppress(StoreError):  # told to whoever uses that cube, and by `check`; others go on
                self.shelf(row.id)
        while self.plan():
            self._worker.drain(timeout_s)
        self._worker.drain(timeout_s)

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
