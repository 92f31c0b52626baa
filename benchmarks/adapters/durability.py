"""When a write is on the disk, as the database itself says: its journal, and how far it waits for it."""

from __future__ import annotations

from collections.abc import Callable

from memos_engine import MemCube, Threads

LEVELS = ("OFF", "NORMAL", "FULL", "EXTRA")
"""Values of SQLite's `synchronous`. In a write-ahead log FULL is durable at each commit, NORMAL only now and then."""
IN_MEMORY = "none: in memory"


def told(pragma: Callable[[str], object]) -> str:
    """The durability of a connection, asked by its `PRAGMA`s."""
    return f"{pragma('journal_mode')}, synchronous={LEVELS[int(str(pragma('synchronous')))]}"


def of_threads(threads: Threads) -> str:
    """The durability of the engine's threads, asked of the connection that writes them."""
    return threads._database.write(lambda connection: told(connection.pragma))  # noqa: SLF001 -- no public call tells it


def of_cube(cube: MemCube) -> str:
    """The same of a cube."""
    file = cube._shelf.file  # noqa: SLF001 -- as above
    return file._database.write(lambda connection: told(connection.pragma))  # noqa: SLF001 -- as above
