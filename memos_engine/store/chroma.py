"""Chroma as an index over one cube's vectors: ids and rows only, deletable at any moment.

The folder holds `LOCK` (one owner process), `stamp.json` and one directory per generation. Chroma
is safe neither for two processes nor against a kill while it writes: an index torn that way may
answer every question and end the process with SIGSEGV at the next write. Between its calls it is
at rest: searches and closing write nothing (see the tests). So the stamp calls it clean from one
call of `mark` to the next write, and an index that is found unclean, or of another kind, or of
another size than it was marked with, is left for an empty new generation that the caller fills
from the truth. Nothing is repaired in place. This module knows no database, no rights and no
memory text, and is the only importer of chromadb, which costs half a second: it is imported when
an index is opened, not before.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memos_engine.errors import Closed, MemosError, StoreDamaged
from memos_engine.ports import Vectors
from memos_engine.store.slack import clear_slack
from memos_engine.store.stamp import FORMAT, Stamp, read_stamp, settled, write_stamp

if TYPE_CHECKING:
    from filelock import FileLock

Ints: TypeAlias = NDArray[np.int64]
RefsOf: TypeAlias = Callable[[int], tuple[Ints, Ints]]
"""Ids (ascending) and refs of the truth's vectors up to an id, that id included."""

LOCK = "LOCK"
COLLECTION = "vectors"
BATCH_MAX = 1_000
"""Rows per call: 1,000 adds as fast as 5,000 and lets queries in between."""
SYNC_THRESHOLD = 10_000
"""Rows between two flushes of the graph. Each is a moment in which a kill tears the index; what is
not flushed is replayed when it is opened, about 0.14 s per 1,000 rows."""

_GENERATION = re.compile(r"g(\d{6,})")
_NONE: Ints = np.empty(0, np.int64)


class ChromaIndex:
    """A `VectorIndex` on disk, approximate; this process owns its folder. Thread-safe.

    Refs are not stored: they are kept in memory, 16 bytes a vector.
    """

    def __init__(
        self, folder: Path, lock: FileLock, kind: Stamp, refs_of: RefsOf, sync_threshold: int
    ) -> None:
        """Private: use `open`. `lock` is held; `kind` is the stamp of an empty index of the kind wanted."""
        self.folder = folder
        self._lock = threading.RLock()  # around everything that writes or replaces the generation
        self._file_lock = lock
        self._sync_threshold = sync_threshold
        self._client: Any = None
        self._collection: Any = None
        self._known = (_NONE, _NONE)  # ids and refs; replaced, never changed: queries read it without a lock
        self._written_v = 0
        self._closed = False
        stamp = read_stamp(folder)
        self._stamp = replace(kind, generation="" if stamp is None else stamp.generation)
        if stamp is None or not stamp.same_kind(kind) or not self._taken_over(stamp, refs_of):
            self._start_anew()
        self._sweep()

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        fingerprint: str,
        dimension: int,
        refs_of: RefsOf,
        sync_threshold: int = SYNC_THRESHOLD,
    ) -> ChromaIndex | None:
        """Take the index in `folder`, or begin an empty one when it is missing, of another kind or in doubt.

        Args:
            folder: Created when it is not there.
            fingerprint: Of the embedder.
            dimension: Of its vectors.
            refs_of: Asked once, for what the index holds already.
            sync_threshold: Rows between two flushes, at least 100.

        Returns:
            None when another owner, of this process or another, has it.

        Raises:
            StoreDamaged: not even an empty index can be made.
            StoreError: the folder cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        from filelock import FileLock, Timeout  # noqa: PLC0415 -- as chromadb: not on the path of a plain start

        lock = FileLock(folder / LOCK, thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
        try:
            kind = Stamp(FORMAT, "", _version(), fingerprint, dimension)
            return cls(folder, lock, kind, refs_of, sync_threshold)
        except BaseException:
            lock.release()
            raise

    def __len__(self) -> int:
        return len(self._known[0])

    @property
    def nbytes(self) -> int:
        """Bytes of the refs; Chroma's own memory is not counted."""
        return sum(part.nbytes for part in self._known)

    @property
    def fingerprint(self) -> str:
        """Of the embedder whose vectors these are."""
        return self._stamp.fingerprint

    @property
    def generation(self) -> str:
        """Name of the directory in use; another after each `renew`."""
        return self._stamp.generation

    @property
    def applied_v(self) -> int:
        """The last vector id by `mark`: this one and all before it are here."""
        return self._stamp.applied_v

    @property
    def applied_gone(self) -> int:
        """The last entry of the log of gone vectors by `mark`."""
        return self._stamp.applied_gone

    @property
    def written_v(self) -> int:
        """The last vector id whose bytes may stand in this generation's files, marked or not."""
        return self._written_v

    def add(self, ids: Ints, refs: Ints, rows: Vectors) -> None:
        """Insert or replace rows (N, D) and remember their refs; durable, but `mark` says so.

        Raises:
            StoreDamaged: Chroma failed; call `renew` and add everything again.
        """
        if not len(ids):
            return
        with self._writing():
            self._written_v = max(self._written_v, int(ids.max()))
            size = min(BATCH_MAX, self._client.get_max_batch_size())
            for start in range(0, len(ids), size):
                part = slice(start, start + size)
                self._collection.upsert(ids=[str(v) for v in ids[part].tolist()], embeddings=rows[part])
            old_ids, old_refs = self._known
            kept = ~np.isin(old_ids, ids)
            ids, refs = np.concatenate([old_ids[kept], ids]), np.concatenate([old_refs[kept], refs])
            order = np.argsort(ids, kind="stable")
            self._known = (ids[order], refs[order])

    def remove(self, ids: Sequence[int]) -> None:
        """Let rows go; an id that is not here is passed over. Their bytes stay on disk until `renew`.

        Raises:
            StoreDamaged: as `add`.
        """
        if not len(ids):
            return
        with self._writing():
            gone = np.unique(np.asarray(ids, np.int64))  # Chroma refuses to hear an id twice
            size = min(BATCH_MAX, self._client.get_max_batch_size())
            for start in range(0, len(gone), size):
                self._collection.delete(ids=[str(v) for v in gone[start : start + size].tolist()])
            old_ids, old_refs = self._known
            kept = ~np.isin(old_ids, gone)
            self._known = (old_ids[kept], old_refs[kept])

    def nearest(self, row: NDArray[np.float32], limit: int) -> list[tuple[int, float]]:
        """About the best refs by their best row's cosine with `row` (D,), best first, each ref once.

        Runs beside writes. Looks at more rows while those of one ref crowd the top.

        Raises:
            StoreDamaged: as `add`.
        """
        collection, wide = self._collection, limit
        self._check_open()
        while limit > 0:
            with self._translating():
                found = collection.query(query_embeddings=[row], n_results=wide, include=["distances"])
            ids = np.fromiter((int(name) for name in found["ids"][0]), np.int64)
            best = self._best_refs(ids, found["distances"][0])
            if len(best) >= limit or len(ids) < wide:
                return list(best.items())[:limit]
            wide *= 4
        return []

    def _best_refs(self, found: Ints, distances: Sequence[float]) -> dict[int, float]:
        """Each ref's best cosine, best first; ids that the truth does not know are left out."""
        ids, refs = self._known
        if not len(ids):
            return {}
        places = np.minimum(np.searchsorted(ids, found), len(ids) - 1)
        best: dict[int, float] = {}
        for known, ref, distance in zip(
            (ids[places] == found).tolist(), refs[places].tolist(), distances, strict=True
        ):
            if known:
                best.setdefault(ref, 1.0 - distance)
        return best

    def missing(self, ids: Ints) -> list[int]:
        """Which of `ids` Chroma does not hold, in order: reads the names of all that it holds.

        Raises:
            StoreDamaged: as `add`.
        """
        with self._translating():
            return [int(v) for v in np.setdiff1d(ids, self._ids())]

    def mark(self, applied_v: int, applied_gone: int) -> None:
        """Store how far the truth was applied, durably, and that Chroma is at rest.

        Call it only after `add` and `remove` returned.

        Raises:
            StoreDamaged: as `add`.
            StoreError: the stamp cannot be written.
        """
        with self._open(), self._translating():
            clear_slack(self.folder / self.generation)
            self._set_stamp(
                replace(
                    self._stamp,
                    applied_v=applied_v,
                    applied_gone=applied_gone,
                    rows=int(self._collection.count()),
                    size_bytes=settled(self.folder / self.generation),
                    clean=self._written_v <= applied_v,
                )
            )

    def renew(self) -> None:
        """Begin an empty generation and remove the old one's files, erased vectors' bytes with them.

        Raises:
            StoreDamaged: Chroma cannot make one here.
            StoreError: the stamp cannot be written.
        """
        with self._open():
            self._start_anew()
            self._sweep()

    def close(self) -> None:
        """Stop Chroma and let the folder go. A second call does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._disconnect()
                self._file_lock.release()

    def _taken_over(self, stamp: Stamp, refs_of: RefsOf) -> bool:
        """Whether the generation of `stamp` is as it was marked; then it is the one in use."""
        if not stamp.clean or not _GENERATION.fullmatch(stamp.generation):
            return False
        path, known = self.folder / stamp.generation, refs_of(stamp.applied_v)
        try:
            with self._translating():
                if settled(path) != stamp.size_bytes:
                    return False
                self._client = _connect(path)
                self._collection = self._client.get_collection(COLLECTION, embedding_function=None)
                if self._collection.count() != stamp.rows:
                    return False
        except StoreDamaged:
            return False
        self._stamp, self._known, self._written_v = stamp, known, stamp.applied_v
        return True

    def _ids(self) -> Ints:
        names = self._collection.get(include=[])["ids"]
        return np.fromiter((int(name) for name in names), np.int64, len(names))

    def _start_anew(self) -> None:
        self._disconnect()
        taken = [_GENERATION.fullmatch(name) for name in (*_names(self.folder), self.generation)]
        number = 1 + max((int(match[1]) for match in taken if match), default=0)
        kind = (self._stamp.chromadb, self._stamp.fingerprint, self._stamp.dimension)
        self._set_stamp(Stamp(FORMAT, f"g{number:06d}", *kind))
        self._known, self._written_v = (_NONE, _NONE), 0
        hnsw = {"space": "cosine", "sync_threshold": self._sync_threshold}
        with self._translating():
            self._client = _connect(self.folder / self.generation)
            self._collection = self._client.create_collection(
                COLLECTION, embedding_function=None, configuration={"hnsw": hnsw}
            )

    def _sweep(self) -> None:
        """Remove other generations, as far as the system lets go of them; the next opening tries again."""
        for name in _names(self.folder):
            if _GENERATION.fullmatch(name) and name != self.generation:
                shutil.rmtree(self.folder / name, ignore_errors=True)

    def _set_stamp(self, stamp: Stamp) -> None:
        write_stamp(self.folder, stamp)
        self._stamp = stamp

    def _disconnect(self) -> None:
        client, self._client, self._collection = self._client, None, None
        if client is not None:
            with suppress(StoreDamaged), self._translating():
                client.close()

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Alone with an open index."""
        with self._lock:
            self._check_open()
            yield

    def _check_open(self) -> None:
        if self._closed:
            raise Closed(f"the vector index {str(self.folder)!r} is closed: open the MemOS again")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Alone with an open index that is durably unclean."""
        with self._open():
            if self._stamp.clean:
                self._set_stamp(replace(self._stamp, clean=False))
            with self._translating():
                yield

    @contextmanager
    def _translating(self) -> Iterator[None]:
        """Turn whatever Chroma raises into StoreDamaged: its errors have many types, Rust panics too."""
        try:
            yield
        except BaseException as exc:
            panic = type(exc).__name__ == "PanicException"  # pyo3's, no Exception
            if isinstance(exc, (MemosError, ImportError)) or not (panic or isinstance(exc, Exception)):
                raise
            raise StoreDamaged(
                f"the vector index {str(self.folder)!r} failed ({type(exc).__name__}: {exc}): it is being "
                "rebuilt from the cube's database, searches are exact meanwhile"
            ) from exc


def is_taken(folder: Path) -> bool:
    """Whether some owner, of this process or another, has the index in `folder` now."""
    from filelock import FileLock, Timeout  # noqa: PLC0415 -- as above

    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def _connect(path: Path) -> Any:
    """A client on `path` that reads no `.env`, reports to nobody and speaks to no server."""
    import chromadb  # noqa: PLC0415 -- half a second, and only cubes with an index need it
    from chromadb.config import Settings  # noqa: PLC0415 -- as chromadb

    settings = Settings(
        _env_file=None,
        anonymized_telemetry=False,
        chroma_api_impl="chromadb.api.rust.RustBindingsAPI",
        chroma_otel_collection_endpoint="",
    )
    return chromadb.PersistentClient(path=str(path), settings=settings)


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def _version() -> str:
    """The installed chromadb's version, without importing it."""
    from importlib import metadata  # noqa: PLC0415 -- takes 12 ms, and is asked once per index

    return metadata.version("chromadb")
