"""What can be read of one principal's threads: their logs, their blobs and which there are.

It changes nothing and knows no framework. `Threads` adds the writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from memos_engine.store.database import Connection
from memos_engine.store.moments import instant
from memos_engine.store.thread_values import (
    Blob,
    ThreadEntry,
    ThreadInfo,
    blobs_where,
    check_limit,
    check_name,
    check_number,
)

NOWHERE = -1
"""Stands for a thread that is not there: no row has it."""

_WHOLE = "SELECT space, key, version, kind, data FROM blobs WHERE n = ?"
_NAMES = "SELECT space, key, version, kind, x'' FROM blobs WHERE n = ?"


class ThreadsView:
    """One principal's threads, to be read; those of others are not there.

    What `Threads.read` hands out shows one state, and ends with the call.
    """

    def __init__(self, reading: Callable[[], AbstractContextManager[Connection]], principal: str) -> None:
        """`reading` lends a connection inside a read transaction."""
        self._reading = reading
        self._principal = principal

    def blobs(
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
        newest: bool = False,
        limit: int | None = None,
        data: bool = True,
    ) -> list[Blob]:
        """Blobs of a thread that meet every condition, in order of version, then space and key.

        Args:
            thread: Its name; nothing is found when it is not there.
            space: None means every space.
            keys: Any of these. None means every key.
            versions: Any of these. None means every version.
            exactly: Any of these pairs of key and version.
            named: Any of these triples of space, key and version.
            prefix: What the key begins with.
            before: Exclusive version.
            newest: The other way round: the last version first.
            limit: How many at most. None means all.
            data: Read the bytes too; else each blob's `data` is empty, which is quick for large ones.
        """
        where, values = blobs_where(
            space, keys=keys, versions=versions, exactly=exactly, named=named, prefix=prefix, before=before
        )
        way = _direction(newest)
        limit = check_limit(limit)
        order = f"version {way}, space {way}, key {way}"
        with self._reading() as connection:
            n = find_thread(connection, self._principal, thread)
            sql = f"SELECT n FROM blobs WHERE {where} ORDER BY {order} LIMIT ?"
            found = connection.execute(sql, [n, *values, limit]).fetchall()
            # sorted by the index alone: rows are read only of those that are returned
            rows = connection.executemany(_WHOLE if data else _NAMES, found)
            return [Blob(*row) for row in rows]

    def threads(self, *, prefix: str = "", limit: int | None = None, offset: int = 0) -> list[ThreadInfo]:
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
        with self._reading() as connection:
            return [
                ThreadInfo(name, entries, blobs, instant(created), instant(updated))
                for name, entries, blobs, created, updated in connection.execute(sql, values)
            ]

    def list(  # the last one: it hides the builtin from what follows it in the class
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
        with self._reading() as connection:
            n = find_thread(connection, self._principal, thread)
            rows = connection.execute(sql, [n, *bounds, limit])
            return [ThreadEntry(at, id_, json.loads(value), instant(when)) for at, id_, value, when in rows]


def find_thread(connection: Connection, principal: str, thread: str) -> int:
    """Number of a principal's thread, or NOWHERE.

    Raises:
        BadName: `thread` is no name.
    """
    check_name(thread, "thread")
    sql = "SELECT n FROM threads WHERE owner = ? AND name = ?"
    rows: list[tuple[Any, ...]] = connection.execute(sql, [principal, thread]).fetchall()
    return int(rows[0][0]) if rows else NOWHERE


def _direction(newest: bool) -> str:  # noqa: FBT001 -- passed on from a keyword
    return "DESC" if newest else "ASC"
