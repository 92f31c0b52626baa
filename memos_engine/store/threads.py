"""Threads of frameworks: an ordered log of JSON objects and versioned blobs, scoped to one principal.

Chat histories, checkpointers and chat stores are built on this without SQL. Nothing here knows a
framework, reads a blob, or recalls: what is to be remembered goes to a cube.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from memos_engine.errors import BadInput, Conflict, NotFound
from memos_engine.items import Json
from memos_engine.ports import Clock
from memos_engine.store.database import Connection, Database
from memos_engine.store.moments import instant, micros
from memos_engine.store.rows import dumps
from memos_engine.store.thread_values import (
    Blob,
    ThreadEntry,
    ThreadInfo,
    blob_row,
    blobs_where,
    check_limit,
    check_name,
    check_number,
    check_positions,
    entry_column,
    same_json,
)

THREADS_DATABASE = "threads.db"
APPLICATION_ID = 0x4D_54_68_72
"""`MThr`: marks a SQLite file as threads of ours."""

_Positions: TypeAlias = list[int]  # `Threads.list` hides the builtin within the class
_Infos: TypeAlias = list[ThreadInfo]
_Blobs: TypeAlias = list[Blob]
_APPEND = "INSERT INTO entries (thread, position, id, value, at) VALUES (?, ?, ?, ?, ?)"
_PUT = "INSERT INTO blobs (thread, space, key, version, kind, data) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO "
_REPLACE = _PUT + "UPDATE SET kind = excluded.kind, data = excluded.data"
_KEEP = _PUT + "NOTHING"
_NOWHERE = -1  # stands for a thread that is not there: no row has it
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


class Threads:
    """One principal's threads; those of others are not there. Thread-safe; writes are durable on return.

    A thread is there from its first entry or blob until `delete`.
    """

    def __init__(self, database: Database, principal: str, clock: Clock) -> None:
        """`database` comes from `open_threads` and is closed by whoever opened it."""
        self._database = database
        self._principal = principal
        self._clock = clock

    # The log

    def append(
        self,
        thread: str,
        entries: Sequence[Mapping[str, Json]],
        *,
        ids: Sequence[str | None] | None = None,
    ) -> _Positions:
        """Add entries at the end of a thread, all or none, and return the position of each.

        Args:
            thread: Made when it is not there.
            entries: JSON objects.
            ids: The caller's id of each. An entry whose id is there already is not added again.

        Raises:
            Conflict: an id is there with other content.
            BadInput: an entry is not JSON, or there is not one id for each.
        """
        check_name(thread, "thread")
        columns = [entry_column(value, f"entries[{n}]") for n, value in enumerate(entries)]
        names = [None] * len(columns) if ids is None else [_entry_id(id_) for id_ in ids]
        if len(names) != len(columns):
            raise BadInput(f"{len(columns)} entries came with {len(names)} ids: hand over one for each")

        def work(connection: Connection) -> _Positions:
            n, last = self._open(connection, thread)
            new = last
            positions = []
            for id_, column in zip(names, columns, strict=True):
                known = None if id_ is None else _known(connection, n, id_, column)
                if known is None:
                    new = known = new + 1
                    row = [n, known, id_, column, micros(self._clock())]
                    connection.execute(_APPEND, row)
                positions.append(known)
            if new > last:
                connection.execute("UPDATE threads SET last = ? WHERE n = ?", [new, n])
                self._touch(connection, n)
            return positions

        return self._database.write(work) if columns else []

    def replace(self, thread: str, position: int, value: Mapping[str, Json]) -> None:
        """Put another object in the place of an entry's; its id and time stay.

        Raises:
            NotFound: there is no such entry.
        """
        check_number(position, "position")
        column = entry_column(value, "value")

        def work(connection: Connection) -> None:
            n = self._find(connection, thread)
            sql = "UPDATE entries SET value = ? WHERE thread = ? AND position = ?"
            connection.execute(sql, [column, n, position])
            if not connection.changes():
                raise NotFound(f"thread {thread!r} has no entry at position {position}: list it to see which")
            self._touch(connection, n)

        self._database.write(work)

    def remove(self, thread: str, positions: Collection[int]) -> int:
        """Erase entries and return how many there were; a position without one is passed over."""
        wanted = dumps(check_positions(positions))

        def work(connection: Connection) -> int:
            n = self._find(connection, thread)
            sql = "DELETE FROM entries WHERE thread = ? AND position IN (SELECT value FROM json_each(?))"
            connection.execute(sql, [n, wanted])
            return self._gone(connection, n)

        return self._erased(work)

    def list(
        self,
        thread: str,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        newest: bool = False,
    ) -> list[ThreadEntry]:
        """Entries of a thread in order of position; none when it is not there.

        Args:
            thread: Its name.
            after: Exclusive position.
            before: Exclusive position. None means to the end.
            limit: How many at most. None means all.
            newest: The other way round: the last entry first.
        """
        bounds = [check_number(after, "after"), None if before is None else check_number(before, "before")]
        sql = (
            "SELECT position, id, value, at FROM entries WHERE thread = ?1 AND position > ?2"
            f" AND (?3 IS NULL OR position < ?3) ORDER BY position {_direction(newest)} LIMIT ?4"
        )
        limit = check_limit(limit)
        with self._database.reading() as connection:
            rows = connection.execute(sql, [self._find(connection, thread), *bounds, limit])
            return [ThreadEntry(at, id_, json.loads(value), instant(when)) for at, id_, value, when in rows]

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
        rows = [(_REPLACE, blob_row(blob)) for blob in blobs] + [
            (_KEEP, blob_row(blob)) for blob in if_absent
        ]

        def work(connection: Connection) -> int:
            n, _ = self._open(connection, thread)
            written = 0
            for sql, row in rows:
                connection.execute(sql, [n, *row])
                written += connection.changes()
            if written:
                self._touch(connection, n)
            return written

        return self._database.write(work) if rows else 0

    def blobs(
        self,
        thread: str,
        space: str | None = None,
        *,
        keys: Sequence[str] | None = None,
        versions: Sequence[str] | None = None,
        exactly: Sequence[tuple[str, str]] | None = None,
        prefix: str | None = None,
        before: str | None = None,
        newest: bool = False,
        limit: int | None = None,
    ) -> _Blobs:
        """Blobs of a thread that meet every condition, in order of version, then space and key.

        Args:
            thread: Its name; nothing is found when it is not there.
            space: None means every space.
            keys: Any of these. None means every key.
            versions: Any of these. None means every version.
            exactly: Any of these pairs of key and version.
            prefix: What the key begins with.
            before: Exclusive version.
            newest: The other way round: the last version first.
            limit: How many at most. None means all.
        """
        where, values = blobs_where(
            space, keys=keys, versions=versions, exactly=exactly, prefix=prefix, before=before
        )
        way = _direction(newest)
        limit = check_limit(limit)
        order = f"version {way}, space {way}, key {way}"
        with self._database.reading() as connection:
            n = self._find(connection, thread)
            sql = f"SELECT n FROM blobs WHERE {where} ORDER BY {order} LIMIT ?"
            found = connection.execute(sql, [n, *values, limit]).fetchall()
            # sorted by the index alone: data is read only of those that are returned
            rows = connection.executemany(
                "SELECT space, key, version, kind, data FROM blobs WHERE n = ?", found
            )
            return [Blob(*row) for row in rows]

    def remove_blobs(
        self,
        thread: str,
        space: str | None = None,
        *,
        keys: Sequence[str] | None = None,
        versions: Sequence[str] | None = None,
        exactly: Sequence[tuple[str, str]] | None = None,
        prefix: str | None = None,
        before: str | None = None,
    ) -> int:
        """Erase the blobs that `blobs` would return, and return how many there were."""
        where, values = blobs_where(
            space, keys=keys, versions=versions, exactly=exactly, prefix=prefix, before=before
        )

        def work(connection: Connection) -> int:
            n = self._find(connection, thread)
            connection.execute(f"DELETE FROM blobs WHERE {where}", [n, *values])
            return self._gone(connection, n)

        return self._erased(work)

    # Whole threads

    def threads(self, *, prefix: str = "", limit: int | None = None, offset: int = 0) -> _Infos:
        """The threads there are, by name.

        Args:
            prefix: What the name begins with.
            limit: How many at most. None means all.
            offset: How many to pass over first.
        """
        sql = (
            "SELECT name, (SELECT count(*) FROM entries WHERE thread = n),"
            " (SELECT count(*) FROM blobs WHERE thread = t.n), created_at, updated_at FROM threads t"
            " WHERE owner = ?1 AND name >= ?2 AND substr(name, 1, length(?2)) = ?2 ORDER BY name LIMIT ?3 OFFSET ?4"
        )
        check_name(prefix, "prefix", empty=True)
        values = [self._principal, prefix, check_limit(limit), check_number(offset, "offset")]
        with self._database.reading() as connection:
            return [
                ThreadInfo(name, entries, blobs, instant(created), instant(updated))
                for name, entries, blobs, created, updated in connection.execute(sql, values)
            ]

    def copy(self, source: str, target: str) -> None:
        """Copy entries and blobs of a thread into one that is empty or not there, all or nothing.

        Raises:
            NotFound: there is no thread `source`.
            Conflict: `target` holds something.
        """
        check_name(target, "target")

        def work(connection: Connection) -> None:
            old = self._find(connection, source)
            if old == _NOWHERE:
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
            connection.execute("DELETE FROM threads WHERE n = ?", [self._find(connection, thread)])
            return connection.changes() > 0

        return bool(self._erased(work))

    def _erased(self, work: Callable[[Connection], int]) -> int:
        """Run an erasure, and let what it erased leave the write-ahead log too."""
        gone: int = self._database.write(work)
        if gone:
            self._database.checkpoint()
        return gone

    def _find(self, connection: Connection, thread: str) -> int:
        check_name(thread, "thread")
        sql = "SELECT n FROM threads WHERE owner = ? AND name = ?"
        rows: list[tuple[Any, ...]] = connection.execute(sql, [self._principal, thread]).fetchall()
        return int(rows[0][0]) if rows else _NOWHERE

    def _open(self, connection: Connection, thread: str) -> tuple[int, int]:
        """Number and last position of a thread, made if need be."""
        now = micros(self._clock())
        sql = "INSERT OR IGNORE INTO threads (owner, name, created_at, updated_at) VALUES (?, ?, ?, ?)"
        connection.execute(sql, [self._principal, thread, now, now])
        sql = "SELECT n, last FROM threads WHERE owner = ? AND name = ?"
        rows: list[tuple[Any, ...]] = connection.execute(sql, [self._principal, thread]).fetchall()
        return rows[0][0], rows[0][1]

    def _gone(self, connection: Connection, n: int) -> int:
        """Rows that the statement before erased."""
        rows = connection.changes()
        if rows:
            self._touch(connection, n)
        return rows

    def _touch(self, connection: Connection, n: int) -> None:
        connection.execute("UPDATE threads SET updated_at = ? WHERE n = ?", [micros(self._clock()), n])


def _direction(newest: bool) -> str:  # noqa: FBT001 -- passed on from a keyword
    return "DESC" if newest else "ASC"


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
