"""All vectors of one cube as searches use them: a page in RAM, and behind a large one an index.

Every search first follows the log, so that it sees what any process committed before it. Without
a complete index the page holds every vector. With one it holds the tail that the index lacks;
what the index proposes is scored again by the truth's own rows, so both ways give equal scores,
and what is gone from the truth is never returned. The index is opened, filled and renewed by
`catch_up` alone, in a background job. It knows no rights: callers say which refs may be seen.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from memos_engine.errors import Closed, StoreDamaged
from memos_engine.items import Revision
from memos_engine.store import feed
from memos_engine.store.chroma import BATCH_MAX, SYNC_THRESHOLD, ChromaIndex, is_taken
from memos_engine.store.feed import Ints
from memos_engine.store.page import Page
from memos_engine.store.reading import CubeReader, EmbedderRow
from memos_engine.store.stamp import read_stamp

Read: TypeAlias = Callable[[], AbstractContextManager[CubeReader]]
Found: TypeAlias = list[tuple[int, float]]

VECTORS = "vectors"
"""The index's folder in the cube's."""
CANDIDATES_PER_HIT = 4
CANDIDATES_MIN = 50
CANDIDATES_MAX = 2_000
"""A filter that leaves too few of these is answered by the whole page: an exact scan is faster then."""
ROWS_MAX = 500
"""Refs whose cosines are asked for up to which their rows are read for it; of more the page is worth loading."""
SQL_REFS_MAX = 5_000
"""Refs whose rows are read one by one rather than loading the whole page."""
V_MAX = 2**63 - 1


@dataclass(slots=True)
class _Followed:
    """A page and how far it follows the truth."""

    page: Page
    embedder: EmbedderRow
    after: int
    """It holds the vectors above this id; 0 for all of them."""
    seen_v: int
    seen_g: int
    revision: Revision = 0

    def follow(self, reader: CubeReader) -> None:
        """Take what came and went since; a reader of an older state changes nothing."""
        self.revision = max(self.revision, reader.revision())
        ids, refs, rows = reader.vectors(self.embedder, after=self.seen_v)
        if len(ids):
            self.page.add(ids, refs, rows)
            self.seen_v = int(ids[-1])
        gone = reader.gone_vectors(after=self.seen_g)
        if gone:
            self.page.remove([v for _, v, _ in gone])
            self.seen_g = gone[-1][0]


class Resident:
    """The vectors of one cube in this process. Thread-safe; `close` it before the cube's folder goes."""

    def __init__(self, folder: Path, *, sync_threshold: int = SYNC_THRESHOLD) -> None:
        """Nothing is loaded or opened yet.

        Args:
            folder: The cube's.
            sync_threshold: Vectors between two flushes of the index.
        """
        self._folder = folder / VECTORS
        self._sync_threshold = sync_threshold
        self._lock = threading.Lock()  # around following
        self._catching_up = threading.Lock()  # held by the one who writes the index
        self._followed: _Followed | None = None
        self._index: ChromaIndex | None = None
        self._complete = False  # the index may serve
        self._elsewhere = False  # another owner had the index when it was wanted last
        self._closed = False
        self.needs_rebuild = False
        """The index is not to be trusted: the next `catch_up` begins a new one."""

    @property
    def nbytes(self) -> int:
        """Bytes of the page and of the index's refs; Chroma's own memory is not counted."""
        followed, index = self._followed, self._index
        return (followed.page.nbytes if followed else 0) + (index.nbytes if index else 0)

    @property
    def indexed_to(self) -> int:
        """The last vector id that an index answers for in this process; 0 while the page serves alone."""
        index = self._index
        return index.applied_v if index is not None and self._complete else 0

    def drop_page(self) -> None:
        """Give the page's memory back; the next search that needs one loads it again."""
        with self._lock:
            self._followed = None

    def close(self) -> None:
        """Stop a `catch_up` at its next batch, then release the index and the page.

        A second call does nothing.
        """
        self._closed = True
        with self._catching_up:
            self._complete = False
            if self._index is not None:
                self._index.close()
            self._index = None
        self.drop_page()

    # Searching

    def nearest(
        self, reader: CubeReader, row: NDArray[np.float32], limit: int, allowed: Ints | None = None
    ) -> Found:
        """Refs by their best vector's cosine with `row` (D,), best first, at most `limit`, each ref once.

        Exact without an index and for few `allowed`, else as good as the index.

        Args:
            reader: The state to search; what another thread saw of a newer one may be found too.
            row: The query, unit length.
            limit: How many refs.
            allowed: Sorted refs that may be returned; None for all.

        Raises:
            Closed: after `close`.
        """
        if self._closed:
            raise Closed(f"the vectors of {str(self._folder.parent)!r} are closed: open the MemOS again")
        embedder = reader.embedder()
        if embedder is None or limit < 1:
            return []
        index = self._serving(embedder)
        if index is not None:
            if allowed is not None and len(allowed) <= SQL_REFS_MAX:
                return feed.exact(reader, embedder, allowed, row, limit)
            found = self._by_index(index, reader, embedder, row=row, limit=limit, allowed=allowed)
            if found is not None:
                return found
        return self._follow(reader, embedder, 0).nearest(row, limit, allowed)

    def cosines(self, reader: CubeReader, row: NDArray[np.float32], refs: Ints) -> NDArray[np.float32]:
        """The best cosine (N,) with `row` (D,) among each ref's vectors; 0 for a ref without any.

        Args:
            reader: The state to search.
            row: The query, unit length.
            refs: Ascending, each once.
        """
        embedder = reader.embedder()
        if embedder is None:
            return np.zeros(len(refs), np.float32)
        if len(refs) > ROWS_MAX and self._serving(embedder) is None:
            self._follow(reader, embedder, 0)
        followed = self._followed
        if followed is not None and followed.after == 0 and followed.embedder == embedder:
            with self._lock:
                followed.follow(reader)
            return followed.page.cosines(row, refs)
        page = Page(embedder.dimension)
        held, rows = reader.vectors_of_items(refs.tolist(), embedder)
        page.add(np.arange(len(held)), held, rows)
        return page.cosines(row, refs)

    def _serving(self, embedder: EmbedderRow) -> ChromaIndex | None:
        """The index, when it is complete and a whole page is not there anyway, which would be exact."""
        index, followed = self._index, self._followed
        if index is None or not self._complete or index.fingerprint != embedder.fingerprint:
            return None
        whole = followed is not None and followed.after == 0 and followed.embedder == embedder
        return None if whole else index

    def _by_index(
        self,
        index: ChromaIndex,
        reader: CubeReader,
        embedder: EmbedderRow,
        *,
        row: NDArray[np.float32],
        limit: int,
        allowed: Ints | None,
    ) -> Found | None:
        """The index's candidates and the tail's, scored exactly. None when only the whole page can tell."""
        generation, applied_v = index.generation, index.applied_v
        tail = self._follow(reader, embedder, applied_v).nearest(row, limit, allowed)
        wide = max(CANDIDATES_PER_HIT * limit, CANDIDATES_MIN)
        while True:
            try:
                near = index.nearest(row, wide)
            except StoreDamaged:
                self._distrust(index, generation)
                return None
            if not self._complete or index.generation != generation:
                return None
            refs = np.fromiter({ref for ref, _ in (*tail, *near)}, np.int64)
            refs = refs if allowed is None else np.intersect1d(refs, allowed)
            found = feed.exact(reader, embedder, refs, row, limit)
            if len(found) == limit or len(near) < wide:
                return found
            wide *= 4
            if wide > max(CANDIDATES_MAX, CANDIDATES_PER_HIT * limit):
                return None

    def _distrust(self, index: ChromaIndex, generation: str) -> None:
        """Let the index serve no more, unless it failed only because it was being renewed."""
        if self._complete and index.generation == generation:
            self._complete, self.needs_rebuild = False, True

    def _follow(self, reader: CubeReader, embedder: EmbedderRow, after: int) -> Page:
        """A page with at least the vectors above `after`, as new as the reader's state."""
        with self._lock:
            followed = self._followed
            if followed is None or followed.embedder != embedder or followed.after > after:
                page = Page(embedder.dimension)
                followed = _Followed(page, embedder, after, seen_v=after, seen_g=feed.last_gone(reader))
            followed.follow(reader)
            self._followed = followed
            return followed.page

    # Health

    def lag(self, reader: CubeReader) -> tuple[int, int]:
        """Vectors that no index serves yet, and erased ones that an index's files may still hold.

        An index that this process has not opened serves it nothing. While another owner has it, nothing is
        due here: a job could do nothing, and would be due again at once.
        """
        if self._elsewhere and is_taken(self._folder):
            return 0, 0
        embedder, index, found = reader.embedder(), self._index, read_stamp(self._folder)
        if embedder is None:
            return 0, 0
        if found is None or found.fingerprint != embedder.fingerprint:
            return reader.vectors_after(0, embedder), 0
        served = found.applied_v if self._complete else 0
        written = index.written_v if index else found.applied_v if found.clean else V_MAX
        return reader.vectors_after(served, embedder), reader.erased_vectors(found.applied_gone, upto=written)

    def renew(self) -> None:
        """Drop the page, and let the index, if there is one, begin anew at the next `catch_up`."""
        self._complete = False
        self.needs_rebuild = read_stamp(self._folder) is not None
        self.drop_page()

    def problems(self, reader: CubeReader) -> list[str]:
        """Where the page and the index disagree with the truth; a lag is no disagreement."""
        embedder, followed, index = reader.embedder(), self._followed, self._index
        if embedder is None:
            return []
        found = []
        if followed is not None and followed.embedder == embedder:
            page = self._follow(reader, embedder, followed.after)
            if followed.revision <= reader.revision():  # else another thread saw more: nothing to compare
                ids, _, rows = reader.vectors(embedder, after=followed.after)
                found += page.differences(ids, rows)
        if index is not None and self._complete:
            generation = index.generation
            try:
                missing = index.missing(feed.refs_up_to(reader, embedder, index.applied_v)[0])
            except StoreDamaged as exc:
                self._distrust(index, generation)
                return [*found, str(exc)]
            if missing:
                found.append(f"the index lacks {len(missing)} vectors, the first has id {missing[0]}")
        return found

    # Indexing

    def catch_up(
        self,
        read: Read,
        *,
        on_progress: Callable[[int], None] | None = None,
        heartbeat: Callable[[], None] | None = None,
    ) -> int:
        """Bring the index up to the truth and let it serve; return how many vectors were added.

        Searches go on meanwhile. Does nothing when another owner has the index, or no vector was ever stored.

        Args:
            read: Opens a short read transaction.
            on_progress: Told the vectors added so far, after each batch.
            heartbeat: Called before each batch; what it raises ends the work, the next call goes on there.

        Raises:
            Closed: after `close`.
            StoreDamaged: the index failed again after it had been renewed.
            StoreError: the folder cannot be written.
        """
        with self._catching_up:
            if self._closed:
                raise Closed(f"the vectors of {str(self._folder.parent)!r} are closed: open the MemOS again")
            with read() as reader:
                embedder = reader.embedder()
            if embedder is None:
                return 0
            index = self._owned(embedder, read)
            if index is None:
                return 0
            return self._apply(index, embedder, read, on_progress or _ignore, heartbeat or _nothing)

    def _owned(self, embedder: EmbedderRow, read: Read) -> ChromaIndex | None:
        """The index for this embedder, opened if it was not. None when another owner has it."""
        if self._index is not None and self._index.fingerprint != embedder.fingerprint:
            self._complete = False
            self._index.close()
            self._index = None
        if self._index is None:
            self._complete = False

            def refs_of(upto: int) -> tuple[Ints, Ints]:
                with read() as reader:
                    return feed.refs_up_to(reader, embedder, upto)

            self._index = ChromaIndex.open(
                self._folder,
                fingerprint=embedder.fingerprint,
                dimension=embedder.dimension,
                refs_of=refs_of,
                sync_threshold=self._sync_threshold,
            )
            self._elsewhere = self._index is None
        return self._index

    def _apply(
        self,
        index: ChromaIndex,
        embedder: EmbedderRow,
        read: Read,
        on_progress: Callable[[int], None],
        heartbeat: Callable[[], None],
    ) -> int:
        added, failed = 0, False
        while not self._closed:
            heartbeat()
            if self.needs_rebuild:
                self._renew(index)
            with read() as reader:
                if reader.embedder() != embedder:
                    break  # switched meanwhile: the next call begins an index for the new one
                ids, refs, rows = feed.batch(reader, embedder, index.applied_v, BATCH_MAX)
                gone = reader.gone_vectors(after=index.applied_gone)
            if index.written_v and any(erased and v <= index.written_v for _, v, erased in gone):
                self._renew(index)  # HNSW keeps the bytes of what it deletes
                continue
            try:
                index.remove([v for _, v, _ in gone if v <= index.written_v])
                index.add(ids, refs, rows)
                if len(ids) or gone:
                    index.mark(
                        int(ids[-1]) if len(ids) else index.applied_v,
                        gone[-1][0] if gone else index.applied_gone,
                    )
            except StoreDamaged:
                self._complete, self.needs_rebuild = False, True
                if failed:
                    raise
                failed = True
                continue
            added += len(ids)
            on_progress(added)
            if len(ids) < BATCH_MAX and not self.needs_rebuild:
                self._now_complete()
                break
        return added

    def _renew(self, index: ChromaIndex) -> None:
        self._complete = False
        index.renew()
        self.needs_rebuild = False

    def _now_complete(self) -> None:
        """Let the index serve; a page of all vectors, or of a tail that the index now holds, goes."""
        with self._lock:
            if not self._complete or (self._followed is not None and self._followed.after > 0):
                self._followed = None
            self._complete = True


def _ignore(_added: int) -> None:
    """Tell nobody of the progress."""


def _nothing() -> None:
    """Keep no lease alive."""
