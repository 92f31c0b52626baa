"""Threads of frameworks: an ordered log of JSON objects and versioned blobs, scoped to one principal.

Chat histories, checkpointers and chat stores are built on this without SQL. Nothing here knows a
framework, reads a blob, or recalls: what is to be remembered goes to a cube.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from memos_engine.errors import BadInput, Closed, Conflict, NotFound
from memos_engine.items import Json
from memos_engine.ports import Clock
from memos_engine.store.database import Connection, Database
from memos_engine.store.moments import micros
from memos_engine.store.rows import dumps
from memos_engine.store.thread_reading import NOWHERE, ThreadsView, find_thread
from memos_engine.store.thread_values import (
    Blob,
    blob_row,
    blobs_where,
    check_name,
    check_number,
    check_positions,
    entry_column,
    same_json,
)

R = TypeVar("R")

THREADS_DATABASE = "threads.db"
APPLICATION_ID = 0x4D_54_68_72
"""`MThr`: marks a SQLite file as threads of ours."""

MOMENT_US = 1_000_000
"""`ThreadInfo.updated_at` is exact to this."""

_APPEND = "INSERT INTO entries (thread, position, id, value, at) VALUES (?, ?, ?, ?, ?)"
_ERASE = "DELETE FROM entries WHERE thread = ? AND position IN (SELECT value FROM json_each(?))"
_PUT = "INSERT INTO blobs (thread, space, key, version, kind, data) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO "
_REPLACE = _PUT + "UPDATE SET kind = excluded.kind, data = excluded.data"
_KEEP = _PUT + "NOTHING"
_COPY = """
INSERT INTO entries (thread, position, id, value, at)
    SELECT :new, position, id, value, at FROM entries WHERE thread = :old;
INSERT INTO blobs (thread, space, key, version, kind, data)
    SELECT :new, space, key, version, kind, data FROM blobs WHERE thread = :old ORDER BY n;
UPDATE threads SET last = (SELECT last FROM threads WHERE n = :old) WHERE n = :new;
"""


def open_threads(root: Path) -> Database:
    """Open or create the threads of a root, to be shared by the `Threads` of every principal.

    Raises:
        StoreError: they cannot be opened; the leaf says why.
    """
    return Database(root / THREADS_DATABASE, "threads", application_id=APPLICATION_ID)


class Threads(ThreadsView):
    """One principal's threads; those of others are not there. Thread-safe; writes are durable on return.

    A thread is there from its first entry or blob until `delete`.
    """

    def __init__(self, database: Database, principal: str, clock: Clock) -> None:
        """`database` comes from `open_threads` and is closed by whoever opened it."""
        super().__init__(database.reading, principal)
        self._database = database
        self._clock = clock

    def read(self, work: Callable[[ThreadsView], R]) -> R:
        """Return what `work` makes of one state: what others write meanwhile is not in it.

        Args:
            work: Reads by the view it is handed, and ends soon: the state is kept on disk until then.
        """
        with self._reading() as connection, _lent(connection) as lending:
            return work(ThreadsView(lending, self._principal))

    # The log

    def append(
        self,
        thread: str,
        entries: Sequence[Mapping[str, Json]],
        *,
        ids: Sequence[str | None] | None = None,
        blobs: Sequence[Blob] = (),
        removing: Collection[int] = (),
        removing_blobs: Sequence[tuple[str, str, str]] = (),
    ) -> list[int]:
        """Add entries at the end of a thread, all or none, and return the position of each.

        Args:
            thread: Made when it is not there.
            entries: JSON objects.
            ids: The caller's id of each. An entry whose id is there already is not added again.
            blobs: Written with the entries; one whose space, key and version are taken is passed over.
            removing: Positions of entries that are erased before, in the same commit: their ids are free.
            removing_blobs: Space, key and version of what is erased with them.

        Raises:
            Conflict: an id is there with other content.
            BadInput: an entry is not JSON, a blob cannot be taken, or there is not one id for each.
        """
        check_name(thread, "thread")
        held = [blob_row(blob) for blob in blobs]
        columns = [entry_column(value, f"entries[{n}]") for n, value in enumerate(entries)]
        names = [None] * len(columns) if ids is None else [_entry_id(id_) for id_ in ids]
        if len(names) != len(columns):
            raise BadInput(f"{len(columns)} entries came with {len(names)} ids: hand over one for each")

        erasing = bool(removing or removing_blobs)
        where, gone = blobs_where(named=removing_blobs)
        old = dumps(check_positions(removing))

        def work(connection: Connection) -> list[int]:
            n, last = self._open(connection, thread)
            if erasing:
                connection.execute(f"DELETE FROM blobs WHERE {where}", [n, *gone])
                connection.execute(_ERASE, [n, old])
            new = last
            positions = []
            for id_, column in zip(names, columns, strict=True):
                known = None if id_ is None else _known(connection, n, id_, column)
                if known is None:
                    new = known = new + 1
                    row = [n, known, id_, column, micros(self._clock())]
                    connection.execute(_APPEND, row)
                positions.append(known)
            connection.executemany(_KEEP, [(n, *blob) for blob in held])
            if new > last:
                connection.execute("UPDATE threads SET last = ? WHERE n = ?", [new, n])
            if new > last or erasing:
                self._touch(connection, n)
            return positions

        if not columns:
            if erasing:
                self.remove(thread, removing, blobs=removing_blobs)
            return []
        places: list[int] = self._database.write(work)
        if erasing:
            self._database.checkpoint()  # what was erased leaves the write-ahead log too
        return places

    def replace(self, thread: str, position: int, value: Mapping[str, Json]) -> None:
        """Put another object in the place of an entry's; its id and time stay.

        Raises:
            NotFound: there is no such entry.
        """
        check_number(position, "position")
        column = entry_column(value, "value")

        def work(connection: Connection) -> None:
            n = find_thread(connection, self._principal, thread)
            sql = "UPDATE entries SET value = ? WHERE thread = ? AND position = ?"
            connection.execute(sql, [column, n, position])
            if not connection.changes():
                raise NotFound(f"thread {thread!r} has no entry at position {position}: list it to see which")
            self._touch(connection, n)

        self._database.write(work)

    def remove(
        self, thread: str, positions: Collection[int], *, blobs: Sequence[tuple[str, str, str]] = ()
    ) -> int:
        """Erase entries and return how many there were; a position without one is passed over.

        Args:
            thread: Its name.
            positions: Of the entries.
            blobs: Space, key and version of what is erased with them.
        """
        wanted = dumps(check_positions(positions))
        where, values = blobs_where(named=blobs)

        def work(connection: Connection) -> int:
            n = find_thread(connection, self._principal, thread)
            if blobs:
                connection.execute(f"DELETE FROM blobs WHERE {where}", [n, *values])
            connection.execute(_ERASE, [n, wanted])
            return self._gone(connection, n)

        return self._erased(work)

    # Blobs

    def put_blobs(self, thread: str, blobs: Sequence[Blob] = (), *, if_absent: Sequence[Blob] = ()) -> int:
        """Write blobs, all or none, and return how many were written; the thread is made if need be.

        Args:
            thread: Its name.
            blobs: Each takes the place of the one under its space, key and version.
            if_absent: One whose space, key and version are taken already, in this call or before, is
                passed over.

        Raises:
            BadInput: one of them cannot be taken.
        """
        check_name(thread, "thread")
        replacing, keeping = [blob_row(blob) for blob in blobs], [blob_row(blob) for blob in if_absent]

        def work(connection: Connection) -> int:
            n, _ = self._open(connection, thread)
            before = connection.total_changes()
            for sql, rows in ((_REPLACE, replacing), (_KEEP, keeping)):
                if rows:
                    connection.executemany(sql, [(n, *row) for row in rows])
            written = connection.total_changes() - before
            if written:
                self._touch(connection, n)
            return written

        return self._database.write(work) if replacing or keeping else 0

    def remove_blobs(
        self,
        thread: str,
        space: str | None = None,
        *,
        keys: Sequence[str] | None = None,
        versions: Sequence[str] | None = None,
        exactly: Sequence[tuple[str, str]] | None = None,
        named: Sequence[tuple[str, str, str]] | None = None,
        prefix: str | None = None,
        before: str | None = None,
    ) -> int:
        """Erase the blobs that `blobs` would return, all or none, and return how many there were."""
        where, values = blobs_where(
            space, keys=keys, versions=versions, exactly=exactly, named=named, prefix=prefix, before=before
        )

        def work(connection: Connection) -> int:
            n = find_thread(connection, self._principal, thread)
            connection.execute(f"DELETE FROM blobs WHERE {where}", [n, *values])
            return self._gone(connection, n)

        return self._erased(work)

    # Whole threads

    def copy(self, source: str, target: str) -> None:
        """Copy entries and blobs of a thread into one that is empty or not there, all or nothing.

        Raises:
            NotFound: there is no thread `source`.
            Conflict: `target` holds something.
        """
        check_name(target, "target")

        def work(connection: Connection) -> None:
            old = find_thread(connection, self._principal, source)
            if old == NOWHERE:
                raise NotFound(f"there is no thread {source!r} to copy: list them with threads()")
            new, _ = self._open(connection, target)
            held = "SELECT 1 FROM entries WHERE thread = ?1 UNION SELECT 1 FROM blobs WHERE thread = ?1"
            if connection.execute(held, [new]).fetchall():
                raise Conflict(f"thread {target!r} holds something: delete it first, or copy to another name")
            connection.execute(_COPY, {"old": old, "new": new})

        self._database.write(work)

    def delete(self, thread: str) -> bool:
        """Erase a thread with all it holds, from the disk too, and return whether it was there."""

        def work(connection: Connection) -> bool:
            connection.execute(
                "DELETE FROM threads WHERE n = ?", [find_thread(connection, self._principal, thread)]
            )
            return connection.changes() > 0

        return bool(self._erased(work))

    def _erased(self, work: Callable[[Connection], int]) -> int:
        """Run an erasure, and let what it erased leave the write-ahead log too."""
        gone: int = self._database.write(work)
        if gone:
            self._database.checkpoint()
        return gone

    def _open(self, connection: Connection, thread: str) -> tuple[int, int]:
        """Number and last position of a thread, made if need be."""
        sql = "SELECT n, last FROM threads WHERE owner = ? AND name = ?"
        rows: list[tuple[Any, ...]] = connection.execute(sql, [self._principal, thread]).fetchall()
        if rows:
            return rows[0][0], rows[0][1]
        now = micros(self._clock())
        sql = "INSERT INTO threads (owner, name, created_at, updated_at) VALUES (?, ?, ?, ?)"
        connection.execute(sql, [self._principal, thread, now, now])
        return connection.last_insert_rowid(), 0

    def _gone(self, connection: Connection, n: int) -> int:
        """Rows that the statement before erased."""
        rows = connection.changes()
        if rows:
            self._touch(connection, n)
        return rows

    def _touch(self, connection: Connection, n: int) -> None:
        """Say that the thread changed now; changes within a moment are said once, as each costs a page."""
        sql = "UPDATE threads SET updated_at = ?1 WHERE n = ?2 AND abs(?1 - updated_at) >= ?3"
        connection.execute(sql, [micros(self._clock()), n, MOMENT_US])


@contextmanager
def _lent(connection: Connection) -> Iterator[Callable[[], AbstractContextManager[Connection]]]:
    """Lend a connection to a view that may outlive it."""
    ended = False

    def lending() -> AbstractContextManager[Connection]:
        if ended:
            raise Closed("this view of the threads has ended: read by it within the call of `read` alone")
        return nullcontext(connection)

    try:
        yield lending
    finally:
        ended = True


def _entry_id(id_: str | None) -> str | None:
    return None if id_ is None else check_name(id_, "entry id")


def _known(connection: Connection, n: int, id_: str, column: str) -> int | None:
    """Position of the entry of this id. None when it is new."""
    sql = "SELECT position, value FROM entries WHERE thread = ? AND id = ?"
    rows: list[tuple[Any, ...]] = connection.execute(sql, [n, id_]).fetchall()
    if not rows:
        return None
    position, stored = rows[0]
    if not same_json(stored, column):
        raise Conflict(f"entry {id_!r} is there with other content: use `replace`, or another id")
    return int(position)
