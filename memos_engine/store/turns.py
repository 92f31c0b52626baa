"""Where each turn stands: its neighbours in its session and who said it, held in RAM.

A projection of the thread, order, speaker and time of the episodes in search, read from a covering index and followed
by the change log. It holds no text, and knows no rights: callers say which refs may be seen.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memos_engine.items import SESSION_GAP
from memos_engine.store.questions import chunks, marks
from memos_engine.store.reading import CubeReader, Seen

Ints: TypeAlias = NDArray[np.int64]

CHANGES_MAX = 5_000
"""Changed items that are read one by one; after more, all turns are read again."""
UNKNOWN = 0
"""In place of a time that is not known."""
_GAP = int(SESSION_GAP.total_seconds() * 1_000_000)
_COLUMNS = "n, thread, speaker, role, event_at"
_EPISODES = f"SELECT {_COLUMNS} FROM items WHERE kind = 'episode' AND indexed = 1"


@dataclass(frozen=True, slots=True)
class Turns:
    """The turns of one state of a cube, in order of thread and capture."""

    refs: Ints
    sessions: Ints
    """Equal for turns of one session."""
    speakers: Ints
    """Places in `names`; -1 for an unknown speaker."""
    asks: NDArray[np.bool_]
    """Said in the role `user`."""
    names: tuple[str, ...]
    said: Ints
    """How many turns each of `names` has."""
    order: Ints
    """Places in `refs` in order of ref."""

    def places(self, refs: Ints) -> Ints:
        """Places of `refs`; -1 for what is no turn."""
        if not len(self.refs):
            return np.full(len(refs), -1)
        at = np.minimum(np.searchsorted(self.refs, refs, sorter=self.order), len(self.refs) - 1)
        found = self.order[at]
        return np.where(self.refs[found] == refs, found, -1)

    def names_among(self, seen: Seen) -> list[str]:
        """Names of those who said one of the turns that a viewer may see."""
        if seen.allowed is None:
            hidden = self.places(np.fromiter(seen.denied, np.int64, len(seen.denied)))
            left = self.said - self._counted(self.speakers[hidden[hidden >= 0]])
        else:
            places = self.places(seen.allowed)
            left = self._counted(self.speakers[places[places >= 0]])
        return [self.names[place] for place in np.flatnonzero(left).tolist()]

    def _counted(self, speakers: Ints) -> Ints:
        return np.bincount(speakers[speakers >= 0], minlength=len(self.names))

    def around(self, refs: Ints, reach: int) -> Ints:
        """Refs (N, 2 * reach + 1) of the turns before and after each, itself in the middle; -1 where none is.

        A neighbour is of the same session. What is no turn stands alone.
        """
        places = self.places(refs)
        beside = places[:, None] + np.arange(-reach, reach + 1)
        inside = (beside >= 0) & (beside < len(self.refs)) & (places[:, None] >= 0)
        beside = np.where(inside, beside, 0)
        if len(self.refs):
            inside &= self.sessions[beside] == self.sessions[places][:, None]
            near = np.where(inside, self.refs[beside], -1)
        else:
            near = np.full(beside.shape, -1)
        near[:, reach] = refs
        return near

    def said_by(self, refs: Ints, name: str | None) -> NDArray[np.bool_]:
        """Which of `refs` are turns of the speaker `name`; None for those said in the role `user`."""
        places = self.places(refs)
        if not len(self.refs) or (name is not None and name not in self.names):
            return np.zeros(len(refs), np.bool_)
        said = self.asks if name is None else self.speakers == self.names.index(name)
        found: NDArray[np.bool_] = said[places] & (places >= 0)
        return found


class TurnsFollower:
    """The turns of one cube in this process, as new as the reader that asks. Thread-safe."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._lock = threading.Lock()
        self._drop()

    def _drop(self) -> None:
        self._threads: dict[str, int] = {}
        self._names: dict[str | None, int] = {None: -1}
        self._columns = np.empty((5, 0), np.int64)  # ref, thread, speaker, asks, time
        self._revision = 0
        self._turns: Turns | None = None

    def drop(self) -> None:
        """Give the memory back; the next question reads all turns again."""
        with self._lock:
            self._drop()

    def follow(self, reader: CubeReader) -> Turns:
        """The turns at the reader's state, or a newer one that another thread has seen."""
        with self._lock:
            revision = reader.revision()
            if self._turns is None or revision > self._revision:
                self._turns = self._followed(reader)
                if not self._turns.said.all():  # a name of which no turn is left does not stay in memory
                    self._drop()
                    self._turns = self._followed(reader)
                self._revision = revision
            return self._turns

    def _followed(self, reader: CubeReader) -> Turns:
        sql = "SELECT DISTINCT item FROM changes WHERE seq > ? LIMIT ?"
        changed = [] if self._turns is None else reader.rows(sql, [self._revision, CHANGES_MAX + 1])
        if self._turns is None or len(changed) > CHANGES_MAX:
            self._drop()
            rows = reader.rows(_EPISODES)
        else:
            refs = [row[0] for row in changed]
            rows = [
                row
                for part in chunks(refs)
                for row in reader.rows(f"{_EPISODES} AND n IN ({marks(part)})", part)
            ]
            stale = np.isin(self._columns[0], np.array(refs, np.int64))
            if not rows and not stale.any():
                return self._turns
            self._columns = self._columns[:, ~stale]
        self._columns = np.concatenate([self._columns, self._coded(rows)], axis=1)
        return self._arranged()

    def _coded(self, rows: Sequence[tuple[Any, ...]]) -> Ints:
        """Columns of the rows, with texts as numbers."""
        threads, names = self._threads, self._names
        coded = [
            (
                n,
                threads.setdefault(thread, len(threads)),
                names.setdefault(speaker, len(names) - 1),
                role == "user",
                UNKNOWN if at is None else at,
            )
            for n, thread, speaker, role, at in rows
        ]
        return np.array(coded, np.int64).reshape(len(rows), 5).T

    def _arranged(self) -> Turns:
        self._columns = self._columns[:, np.lexsort((self._columns[0], self._columns[1]))]
        refs, threads, speakers, asks, at = self._columns
        apart = np.abs(np.diff(at)) > _GAP
        known = at != UNKNOWN
        begins = (np.diff(threads) != 0) | (apart & known[1:] & known[:-1])
        sessions = np.concatenate([np.zeros(min(len(refs), 1), np.int64), np.cumsum(begins)])
        names = tuple(name for name in self._names if name is not None)
        said = np.bincount(speakers[speakers >= 0], minlength=len(names))
        order = np.argsort(refs, kind="stable")
        return Turns(refs, sessions, speakers, asks.astype(np.bool_), names, said, order)
