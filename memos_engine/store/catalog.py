"""The catalog of one root: principals, cubes and grants. It never holds memory text.

Rights are decided by whoever asks; the catalog only says what was granted. Its database also
carries the job queue (`store/queue.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias, cast

from memos_engine.errors import BadInput, Conflict, CubeNotFound
from memos_engine.items import CubeRow, Right
from memos_engine.ports import Clock
from memos_engine.store.database import Connection, Database
from memos_engine.store.moments import instant, micros

CATALOG_DATABASE = "catalog.db"
APPLICATION_ID = 0x4D_43_61_74
"""`MCat`: marks a SQLite file as a catalog of ours."""

_SELECT = "SELECT id, owner, name, created_at FROM cubes"
_Answers: TypeAlias = dict[tuple[str, tuple[str, ...]], tuple[Any, ...] | None]
"""Question and values -> first row."""
ANSWERS_MAX = 10_000
"""Answers kept at a time: a server of many users asks about each."""


class Catalog:
    """The cubes of a root and who may use them. Thread-safe; every write is durable on return."""

    def __init__(self, root: Path, clock: Clock) -> None:
        """Open or create the catalog in folder `root`.

        Raises:
            StoreError: it cannot be opened; the leaf says why.
        """
        self.database = Database(root / CATALOG_DATABASE, "catalog", application_id=APPLICATION_ID)
        self._clock = clock
        self._answers: tuple[tuple[int, int], _Answers] = ((0, 0), {})

    def cube(self, owner: str, name: str) -> CubeRow | None:
        """The cube that `owner` calls `name`."""
        row = self._kept(f"{_SELECT} WHERE owner = ? AND name = ?", (owner, name))
        return None if row is None else _cube_row(row)

    def cube_by_id(self, id: str) -> CubeRow | None:
        """The cube of this id, whoever owns it."""
        return self._one(f"{_SELECT} WHERE id = ?", [id])

    def cubes(self, principal: str | None = None) -> list[CubeRow]:
        """The cubes that `principal` owns or has a grant on, oldest first. None means all."""
        sql, values = _SELECT, []
        if principal is not None:
            sql += " WHERE owner = ?1 OR id IN (SELECT cube FROM grants WHERE principal = ?1)"
            values = [principal]
        with self.database.reading() as connection:
            return [_cube_row(row) for row in connection.execute(f"{sql} ORDER BY created_at, id", values)]

    def create_cube(self, id: str, owner: str, name: str) -> CubeRow:
        """Add a cube, or return the one that another caller made under this owner and name meanwhile.

        Raises:
            Conflict: the id belongs to another cube, or to one that was removed.
        """

        def work(connection: Connection) -> CubeRow:
            now = micros(self._clock())
            found = connection.execute(f"{_SELECT} WHERE owner = ? AND name = ?", [owner, name]).fetchall()
            if found:
                return _cube_row(found[0])
            taken = "SELECT 1 FROM cubes WHERE id = ?1 UNION SELECT 1 FROM cube_tombstones WHERE id = ?1"
            if connection.execute(taken, [id]).fetchall():
                raise Conflict(f"cube id {id!r} was given out before: make a new one")
            _know(connection, owner, now)
            connection.execute(
                "INSERT INTO cubes (id, owner, name, created_at) VALUES (?, ?, ?, ?)", [id, owner, name, now]
            )
            return CubeRow(id, owner, name, instant(now))

        return self.database.write(work)

    def remove_cube(self, id: str) -> None:
        """Forget a cube with its grants and jobs; a tombstone stays. One that is not there is passed over."""

        def work(connection: Connection) -> None:
            if not connection.execute("DELETE FROM cubes WHERE id = ? RETURNING id", [id]).fetchall():
                return
            connection.execute("DELETE FROM jobs WHERE cube = ?", [id])
            now = micros(self._clock())
            connection.execute("INSERT INTO cube_tombstones (id, at) VALUES (?, ?)", [id, now])

        self.database.write(work)

    def removed(self, id: str) -> bool:
        """Whether a cube of this id was removed, so that a folder left behind is rubbish."""
        with self.database.reading() as connection:
            return bool(connection.execute("SELECT 1 FROM cube_tombstones WHERE id = ?", [id]).fetchall())

    def right(self, cube: str, principal: str) -> Right | None:
        """The strongest right of `principal` on a cube. None: no right, or no such cube."""
        sql = (
            "SELECT 'owner' FROM cubes WHERE id = ?1 AND owner = ?2 UNION ALL"
            " SELECT rights FROM grants WHERE cube = ?1 AND principal = ?2 LIMIT 1"
        )
        row = self._kept(sql, (cube, principal))
        return None if row is None else cast("Right", row[0])

    def exists(self, cube: str) -> bool:
        """Whether there is a cube of this id."""
        return self._kept("SELECT 1 FROM cubes WHERE id = ?", (cube,)) is not None

    def grant(self, cube: str, principal: str, right: Right) -> None:
        """Let `principal` read or write a cube, in place of what it was granted before.

        Raises:
            BadInput: `right` is neither 'read' nor 'write', or `principal` owns the cube.
            CubeNotFound: there is no such cube.
        """
        if right not in ("read", "write"):
            raise BadInput(f"{right!r} cannot be granted: grant 'read' or 'write'")

        def work(connection: Connection) -> None:
            owner = connection.execute("SELECT owner FROM cubes WHERE id = ?", [cube]).fetchall()
            if not owner:
                raise CubeNotFound(f"there is no cube {cube!r}: it was removed, or is under another root")
            if owner[0][0] == principal:
                raise BadInput(f"{principal!r} owns the cube and has every right: grant to somebody else")
            _know(connection, principal, micros(self._clock()))
            connection.execute(
                "INSERT INTO grants (cube, principal, rights) VALUES (?, ?, ?)"
                " ON CONFLICT (cube, principal) DO UPDATE SET rights = excluded.rights",
                [cube, principal, right],
            )

        self.database.write(work)

    def revoke(self, cube: str, principal: str) -> None:
        """Take back what `principal` was granted on a cube; an owner stays the owner."""

        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM grants WHERE cube = ? AND principal = ?", [cube, principal])

        self.database.write(work)

    def grants(self, cube: str) -> dict[str, Right]:
        """What was granted on a cube, by principal; the owner is not in it."""
        sql = "SELECT principal, rights FROM grants WHERE cube = ? ORDER BY principal"
        with self.database.reading() as connection:
            return {name: cast("Right", rights) for name, rights in connection.execute(sql, [cube])}

    def close(self) -> None:
        """Close the database, the job queue's with it. A second call does nothing."""
        self.database.close()

    def _kept(self, sql: str, values: tuple[str, ...]) -> tuple[Any, ...] | None:
        """The first row; None when there is none.

        Asked at every call of a cube, so answers are kept until anything is committed to this database.
        """
        state = self.database.data_version()
        if self._answers[0] != state or len(self._answers[1]) >= ANSWERS_MAX:
            self._answers = (state, {})
        # replaced, never cleared: an answer read before a commit is not kept after it
        known = self._answers[1]
        if (sql, values) not in known:
            with self.database.reading() as connection:
                known[sql, values] = next(iter(connection.execute(sql, values).fetchall()), None)
        return known[sql, values]

    def _one(self, sql: str, values: list[str]) -> CubeRow | None:
        with self.database.reading() as connection:
            rows = connection.execute(sql, values).fetchall()
        return _cube_row(rows[0]) if rows else None


def _cube_row(row: tuple[Any, ...]) -> CubeRow:
    id_, owner, name, created_at = row
    return CubeRow(id_, owner, name, instant(created_at))


def _know(connection: Connection, principal: str, now: int) -> None:
    connection.execute("INSERT OR IGNORE INTO principals (name, created_at) VALUES (?, ?)", [principal, now])
