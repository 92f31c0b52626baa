"""The one door to SQLite: open, migrate, read in parallel, write in groups, translate errors.

Nothing here knows what a memory is. Every write runs in one `BEGIN IMMEDIATE` transaction with
`synchronous=FULL`; concurrent writers of a process share one commit (group commit), each inside
its own savepoint, so one writer's failure does not undo another's work. The engine uses
`apsw-sqlite3mc` because the standard library's SQLite may carry the WAL-reset bug (see ADR 0001).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import apsw

from memos_engine.errors import (
    BadRoot,
    Closed,
    MemosError,
    SchemaTooNew,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreFull,
)

T = TypeVar("T")
Connection = apsw.Connection

BUSY_TIMEOUT_MS = 30_000
TURN_S = 0.005
"""Between two tries to make a file that another process is making."""
CHECKPOINT_TIMEOUT_MS = 1_000
READERS_IDLE_MAX = 4  # connections kept open per database between reads
GROUP_MAX = 256  # writers that share one commit
"""More would let one slow group delay many callers; at 256 the fsync is already a small share."""

_PRAGMAS = """
PRAGMA synchronous=FULL;
PRAGMA foreign_keys=ON;
PRAGMA secure_delete=ON;
PRAGMA temp_store=MEMORY;
PRAGMA cache_size=-16384;
PRAGMA trusted_schema=OFF;
"""


def translated(exc: BaseException, path: Path) -> MemosError:
    """The error of ours that stands for a SQLite error on `path`."""
    if isinstance(exc, apsw.FullError):
        return StoreFull(
            f"no space left to write {str(path)!r}: nothing was stored; free some space, then repeat"
        )
    if isinstance(exc, (apsw.BusyError, apsw.LockedError)):
        return StoreBusy(
            f"{str(path)!r} was locked for {BUSY_TIMEOUT_MS / 1000:.0f} s: nothing was stored; try again"
        )
    if isinstance(exc, (apsw.CorruptError, apsw.NotADBError)):
        return StoreDamaged(
            f"{str(path)!r} is malformed ({exc}): run memos.rebuild(name), and if that fails "
            "restore it from a dump or a copy; other cubes are not touched"
        )
    if isinstance(exc, (apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError)):
        return BadRoot(
            f"{str(path)!r} cannot be written ({exc}): give this process write access or use another folder"
        )
    return StoreError(
        f"SQLite failed on {str(path)!r} ({type(exc).__name__}: {exc}): nothing of this call was stored; "
        "see that the disk is healthy and has space, then repeat"
    )


@contextmanager
def translating(path: Path) -> Iterator[None]:
    """Turn any SQLite error of the block into ours."""
    try:
        yield
    except apsw.Error as exc:
        raise translated(exc, path) from exc


class _Ticket(Generic[T]):
    """One caller's work waiting for the next commit."""

    __slots__ = ("done", "durable", "error", "result", "work")

    def __init__(self, work: Callable[[Connection], T]) -> None:
        self.work = work
        self.done = False
        self.durable = False
        self.result: T | None = None
        self.error: BaseException | None = None


class Database:
    """One SQLite file: a pool of readers and one writer connection with group commit. Thread-safe."""

    def __init__(self, path: Path, schema: str, *, application_id: int) -> None:
        """Open or create `path` and bring it to the newest schema of folder `schema`.

        Raises:
            BadRoot: it cannot be opened, or belongs to another program.
            SchemaTooNew: a newer version of this package wrote it.
            StoreDamaged: it is not a database, or malformed.
        """
        self.path = path
        self._readers: list[Connection] = []
        self._pool_lock = threading.Lock()
        self._queue: list[_Ticket[object]] = []
        self._queue_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._watch_lock = threading.Lock()
        self._watcher: Connection | None = None
        self._watches = 0  # watchers so far: each counts from anew
        self._closed = False
        self._owes_checkpoint = False  # erased bytes still stand in the log
        self._pid = os.getpid()
        with translating(path):
            self._writer: Connection | None = self._first(schema, application_id)

    def _first(self, schema: str, application_id: int) -> Connection:
        """The writer, once the file is of the newest schema; processes that make it at one moment take turns.

        SQLite's own waiting does not cover the change to WAL of a file that another process is making.
        """
        deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
        while True:
            writer = self._connect()
            try:
                _migrate(writer, self.path, schema, application_id)
                return writer
            except BaseException as exc:
                writer.close()
                if not isinstance(exc, apsw.BusyError) or time.monotonic() > deadline:
                    raise
            time.sleep(TURN_S)

    def _connect(self) -> Connection:
        connection = apsw.Connection(str(self.path))
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.execute(_PRAGMAS)
        return connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Lend a connection inside one read transaction: every query of the block sees one state."""
        with self._pool_lock:
            self._check_open()
            connection = self._readers.pop() if self._readers else None
        with translating(self.path):
            connection = connection or self._connect()
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            except MemosError:
                connection.execute("ROLLBACK")
                self._give_back(connection)
                raise
            except BaseException:
                connection.close(force=True)
                raise
            self._give_back(connection)

    def data_version(self) -> tuple[int, int]:
        """What any commit changes, of whatever thread or process: equal to before means nothing changed.

        For this object only: what two objects return cannot be compared.
        """
        with self._watch_lock:
            self._check_open()
            with translating(self.path):
                if self._watcher is None:  # a connection that never writes: its own commits would not count
                    self._watcher = self._connect()
                    self._watches += 1
                return self._watches, int(self._watcher.execute("PRAGMA data_version").get)

    def _give_back(self, connection: Connection) -> None:
        """Keep a reader for the next read, unless a cursor still holds its old state open."""
        with self._pool_lock:
            ended = connection.txn_state() == apsw.SQLITE_TXN_NONE
            if ended and not self._closed and len(self._readers) < READERS_IDLE_MAX:
                self._readers.append(connection)
                return
        connection.close(force=True)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction and return its result once the commit is durable.

        Works queued by other threads meanwhile share the commit. An error of `work` undoes that
        work alone and is raised; an error of the commit undoes all of the group.
        """
        ticket: _Ticket[T] = _Ticket(work)
        with self._queue_lock:
            self._queue.append(ticket)  # type: ignore[arg-type]  # -- a queue of mixed results
        try:
            with self._write_lock:
                while not ticket.done:
                    self._commit_group()
        except BaseException:
            self._withdraw(ticket)
            raise
        if ticket.error is not None:
            raise ticket.error
        return ticket.result  # type: ignore[return-value]  # -- set when there is no error

    def _withdraw(self, ticket: _Ticket[T]) -> None:
        """Take back work whose caller was interrupted before anyone began it."""
        with self._queue_lock:
            self._queue = [waiting for waiting in self._queue if waiting is not ticket]

    def _commit_group(self) -> None:
        group: list[_Ticket[object]] = []
        try:
            with self._queue_lock:
                group, self._queue = self._queue[:GROUP_MAX], self._queue[GROUP_MAX:]
            self._check_open()
            self._run_group(group)
        except BaseException as exc:
            error: BaseException = translated(exc, self.path) if isinstance(exc, apsw.Error) else exc
            if not isinstance(exc, Exception):  # Ctrl-C is for the thread it interrupted, not for the others
                error = StoreError(
                    f"a write to {str(self.path)!r} was interrupted: nothing was stored; repeat"
                )
            for ticket in group:
                if not ticket.durable:
                    ticket.error = ticket.error or error
            if not isinstance(exc, (apsw.Error, MemosError)):
                raise
        finally:
            for ticket in group:
                ticket.done = True

    def _run_group(self, group: list[_Ticket[object]]) -> None:
        connection = self._writer = self._writer or self._connect()
        connection.execute("BEGIN IMMEDIATE")
        committing = False
        try:
            for ticket in group:
                _run_ticket(connection, ticket, alone=len(group) == 1)
            if all(ticket.error is not None for ticket in group):
                connection.execute("ROLLBACK")
            else:
                committing = True
                connection.execute("COMMIT")
        except BaseException as exc:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            elif committing and not isinstance(
                exc, apsw.Error
            ):  # SQLite itself rolls back when a disk is full
                _mark_durable(group)  # interrupted after the commit: what it holds is durable
            raise
        _mark_durable(group)
        if self._owes_checkpoint:
            self._owes_checkpoint = not _truncate(connection, 0)

    def checkpoint(self) -> bool:
        """Move the log into the main file and truncate it: erased bytes leave the disk.

        False when a reader held an old state for CHECKPOINT_TIMEOUT_MS: the next writes try again.
        """
        with self._write_lock, translating(self.path):
            self._check_open()
            connection = self._writer = self._writer or self._connect()
            done = _truncate(connection, CHECKPOINT_TIMEOUT_MS)
            self._owes_checkpoint = not done
            return done

    def rest(self) -> None:
        """Close idle connections; the next use opens them again."""
        with self._write_lock, self._pool_lock, self._watch_lock:
            self._close_idle()

    def close(self) -> None:
        """Close every connection. A second call does nothing."""
        with self._write_lock, self._pool_lock, self._watch_lock:
            self._closed = True
            if self._pid == os.getpid():  # after a fork they are the parent's
                self._close_idle()

    def _check_open(self) -> None:
        if self._closed:
            raise Closed(f"{str(self.path)!r} is closed: open the MemOS again")
        if self._pid != os.getpid():  # SQLite's locks do not cross a fork: going on would lose writes
            raise Closed(f"{str(self.path)!r} was opened before a fork: open the MemOS in this process")

    def _close_idle(self) -> None:
        for connection in (*self._readers, self._writer, self._watcher):
            if connection is not None:
                connection.close(force=True)
        self._readers.clear()
        self._writer = self._watcher = None


def _mark_durable(group: list[_Ticket[object]]) -> None:
    for ticket in group:
        ticket.durable = ticket.error is None


def _truncate(connection: Connection, timeout_ms: int) -> bool:
    connection.set_busy_timeout(timeout_ms)
    try:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
    finally:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    return not busy


def _run_ticket(connection: Connection, ticket: _Ticket[object], *, alone: bool) -> None:
    """Run one work; its failure undoes it alone, by a savepoint where others share the transaction."""
    if not alone:
        connection.execute("SAVEPOINT ticket")
    try:
        ticket.result = ticket.work(connection)
    except apsw.FullError:
        raise
    except Exception as exc:  # raised in the thread whose work it is
        if not connection.in_transaction:
            raise
        if not alone:
            connection.execute("ROLLBACK TO ticket")
        ticket.error = translated(exc, Path(connection.filename)) if isinstance(exc, apsw.Error) else exc
    if not alone:
        connection.execute("RELEASE ticket")


def _migrate(connection: Connection, path: Path, schema: str, application_id: int) -> None:
    """Apply the numbered SQL files of folder `schema` that the database has not seen, each atomically."""
    from importlib import resources  # noqa: PLC0415 -- takes 5 ms, and is asked once per database

    steps = sorted(
        (
            entry
            for entry in resources.files(__package__).joinpath("schema").iterdir()
            if entry.name.startswith(schema)
        ),
        key=lambda entry: entry.name,
    )
    version = connection.pragma("user_version")
    found = connection.pragma("application_id")
    if found not in (0, application_id) or (found == 0 and version > 0):
        raise BadRoot(
            f"{str(path)!r} belongs to another program (application id {found:#x}): use another folder"
        )
    if version > len(steps):
        raise SchemaTooNew(
            f"{str(path)!r} has schema {version}, this package knows {len(steps)}: "
            "upgrade it with pip install -U memos-adapters"
        )
    if version == len(steps):
        return
    connection.pragma("journal_mode", "wal")
    for number, step in enumerate(steps, start=1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if connection.pragma("user_version") < number:  # another process may have been faster
                connection.execute(step.read_text(encoding="utf-8"))
                connection.pragma("user_version", number)
                connection.pragma("application_id", application_id)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
