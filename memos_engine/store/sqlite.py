"""The truth of one cube: `memory.db`, opened, read and written as transactions of memories."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from memos_engine.items import Json
from memos_engine.ports import Clock
from memos_engine.store.block_files import COMMITTING_S, KV, Stray, remove_blocks, remove_strays, strays
from memos_engine.store.database import Connection, Database
from memos_engine.store.reading import CubeReader
from memos_engine.store.rows import dumps, to_micros
from memos_engine.store.writing import CubeWriter

T = TypeVar("T")

CUBE_DATABASE = "memory.db"
APPLICATION_ID = 0x4D_43_75_62
"""`MCub`: marks a SQLite file as a cube of ours."""
FREQUENCY_CHANGES = 500
"""Changes of the cube after which cached word frequencies are asked for again."""
FREQUENCY_WORDS_MAX = 50_000

_log = logging.getLogger(__name__)


class CubeFile:
    """One cube's database. Thread-safe; any number of processes may open the same file."""

    def __init__(self, folder: Path, cube: str, clock: Clock) -> None:
        """Open or create the database in `folder`.

        Raises:
            StoreError: it cannot be opened; the leaf says why.
        """
        self.folder = folder
        self.cube = cube
        self._clock = clock
        self._database = Database(folder / CUBE_DATABASE, "cube", application_id=APPLICATION_ID)
        self._frequencies: dict[str, int] = {}
        self._frequencies_at = 0
        self.on_gone: Callable[[Sequence[str], bool], None] = lambda _blocks, _erased: None
        """Told, after the commit, which blocks it took away and whether it erased items; must not raise."""

    def data_version(self) -> tuple[int, int]:
        """What any commit changes, of whatever thread or process; for this object only."""
        return self._database.data_version()

    @contextmanager
    def read(self) -> Iterator[CubeReader]:
        """Ask questions of one state of the cube."""
        with self._database.reading() as connection:
            reader = CubeReader(connection, self.cube, self._frequencies)
            revision = reader.revision()
            stale = revision - self._frequencies_at > min(FREQUENCY_CHANGES, 1 + revision // 10)
            if stale or len(self._frequencies) > FREQUENCY_WORDS_MAX:
                self._frequencies_at, self._frequencies = revision, {}
            yield reader

    def write(
        self,
        work: Callable[[CubeWriter], T],
        *,
        principal: str,
        action: str,
        detail: Callable[[T], Json] | None = None,
    ) -> T:
        """Run `work` and an audit row in one durable transaction.

        Args:
            work: What to do; it may run in one commit with other threads' works.
            principal: Who does it.
            action: The public verb, for the audit.
            detail: What the audit row says of the result: ids and counts, never text.
        """

        def audited(writer: CubeWriter) -> T:
            before = writer.connection.total_changes()
            result = work(writer)
            if writer.connection.total_changes() != before:
                told = None if detail is None else detail(result)
                _audit(writer.connection, writer.now, principal, action, told)
            return result

        return self.touch(audited)

    def touch(self, work: Callable[[CubeWriter], T]) -> T:
        """Run `work` in one durable transaction without an audit row.

        For what changes no memory, but only how long it stays, or in what form it is kept.
        """
        gone: list[str] = []
        erased = False

        def touched(connection: Connection) -> T:
            nonlocal gone, erased
            writer = CubeWriter(connection, self.cube, self._frequencies, self._now())
            result = work(writer)
            gone, erased = writer.gone, writer.erased
            return result

        result = self._database.write(touched)
        if gone or erased:
            self.on_gone(gone, erased)
        if gone or erased:
            self._remove_gone(unknown=erased)
        return result

    def sweep_blocks(self) -> None:
        """Remove the files of blocks that are gone, and what a kill left behind, as far as that can be done now."""
        if (self.folder / KV).is_dir():
            self._remove_gone(unknown=True)

    def stray_blocks(self, *, older_s: float = COMMITTING_S) -> list[Stray]:
        """What lies among the files of blocks, is older than so many seconds, and no row knows.

        Raises:
            OSError: the folder cannot be listed; a StoreError where it is the database.
        """
        with self.read() as reader:
            known = reader.known_blocks()
        return strays(self.folder, known, older_s=older_s)

    def has_strays(self) -> bool:
        """Whether a file that no row knows, of any age, may hold what items said; so it may where none can look."""
        try:
            return bool(self.stray_blocks(older_s=-math.inf))
        except OSError:  # the answer tells of it, and so does `check`
            return True

    def _remove_gone(self, *, unknown: bool) -> None:
        """Blocks are gone by their commit: what keeps a file only delays its removal, and fails no write.

        Args:
            unknown: Also what a kill left, and no row knows.
        """
        try:
            with self.read() as reader:
                gone = reader.gone_blocks()
            removed = remove_blocks(self.folder, gone)
            if removed:
                self.touch(lambda writer: writer.forget_gone(removed))
            if (
                unknown and self.stray_blocks()
            ):  # within a transaction: a build looks for its file within its own
                self.touch(lambda writer: remove_strays(self.folder, writer.known_blocks()))
        except OSError as exc:  # of the folder, or a StoreError
            _log.warning(
                "files of blocks that are gone may still be there",
                extra={"action": "sweep", "cube": self.cube, "error": str(exc)},
            )

    def _now(self) -> int:
        now = to_micros(self._clock())
        assert now is not None, "a clock returns aware times"
        return now

    def checkpoint(self) -> bool:
        """Let erased bytes leave the write-ahead log. False: a long read held it, a later one does it."""
        return self._database.checkpoint()

    def rest(self) -> None:
        """Close idle connections; the next use opens them again."""
        self._database.rest()

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        self._database.close()


def chain(previous: bytes, at: int, principal: str, action: str, detail: str) -> bytes:
    """The hash of an audit row: SHA-256 over the previous hash and the row."""
    return hashlib.sha256(previous + dumps([at, principal, action, detail]).encode()).digest()


def _audit(connection: Connection, at: int, principal: str, action: str, detail: Json) -> None:
    previous = connection.execute("SELECT hash FROM audit ORDER BY seq DESC LIMIT 1").get or b""
    text = dumps(detail)
    connection.execute(
        "INSERT INTO audit (at, principal, action, detail, hash) VALUES (?, ?, ?, ?, ?)",
        [at, principal, action, text, chain(previous, at, principal, action, text)],
    )
