"""The text shelf of one cube: write, update, forget, search and recall, once rights are settled.

It brings the stages together: the store keeps, recall ranks; `intake.py` captures onto it. It trusts its caller
(`cube.py`) to have checked who may do what, and passes on the View through which reads look.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from memos_engine.embedding import NamedVectors, reads_otherwise, texts_by_name
from memos_engine.errors import (
    AccessDenied,
    BadInput,
    Conflict,
    ItemNotFound,
    VersionConflict,
)
from memos_engine.govern.access import ROOT
from memos_engine.items import (
    Erased,
    Filter,
    ItemVersion,
    MemoryItem,
    Scope,
)
from memos_engine.models.embed import CHECKED, checked
from memos_engine.ports import Clock, Embedder, Entry, Reranker, RewriteQuery, ThreadEnd, Vectors
from memos_engine.store.erasure import closure
from memos_engine.store.resident import Resident
from memos_engine.store.rows import View
from memos_engine.store.turns import TurnsFollower

if TYPE_CHECKING:
    from memos_engine.store.reading import CubeReader, EmbedderRow
    from memos_engine.store.sqlite import CubeFile
    from memos_engine.store.writing import CubeWriter

ENDS_MAX = 1_000
"""Threads whose end is remembered."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts on the shelf, rights already checked."""

    principal: str
    scope: Scope
    view: View


@dataclass(frozen=True, slots=True)
class Models:
    """The models that serve the cubes of a root."""

    embedder: Embedder
    reranker: Reranker | None = None
    """Reads the first hits of each query."""
    rewrite: RewriteQuery | None = None
    """Makes further queries of what `recall` is asked."""


class TextShelf:
    """Plaintext memory of one cube. Thread-safe."""

    def __init__(self, file: CubeFile, models: Models, clock: Clock) -> None:
        """Serve `file` with these models; the page of vectors is read at the first search."""
        self.file = file
        self.resident = Resident(file.folder)
        self.turns = TurnsFollower()
        self.models = models
        self.fits_at: tuple[int, int] | None = None
        """State of the file in which the embedder was found to be the one that made its vectors."""
        self._ends: dict[str, tuple[int, ThreadEnd]] = {}
        self.clock = clock

    def rest(self) -> None:
        """Free the page and idle connections; the next use brings them back."""
        self.resident.drop_page()
        self.turns.drop()
        self.file.rest()

    def close(self) -> None:
        """Release the page, the index and the file. A second call does nothing."""
        self.resident.close()
        self.file.close()

    # Write

    def add(self, items: Sequence[MemoryItem], actor: Actor) -> list[MemoryItem]:
        """Write items as they are, in one durable commit."""
        vectors = self.embedded([(item, ()) for item in items])
        entries = [Entry(item, named) for item, named in zip(items, vectors, strict=True)]
        self.file.write(
            lambda writer: self.add_entries(writer, entries),
            principal=actor.principal,
            action="add",
            detail=lambda refs: {"new": len(refs)},
        )
        return list(items)

    def end_of(self, thread: str, writer: CubeWriter) -> ThreadEnd | None:
        """The end of a thread: as the last capture here left it, while nobody wrote to the cube since."""
        revision, end = self._ends.get(thread, (None, None))
        return end if revision == writer.revision() else writer.last_turn(thread)

    def keep_end(self, thread: str, revision: int, end: ThreadEnd) -> None:
        """Remember where a durable capture, the cube's change `revision`, left a thread."""
        if len(self._ends) >= ENDS_MAX:
            self._ends.clear()
        self._ends[thread] = (revision, end)

    def add_entries(self, writer: CubeWriter, entries: Sequence[Entry]) -> list[int]:
        """Insert new items within a transaction; returns their refs."""
        return writer.add(entries, self.embedder_row(writer, entries))

    def embedder_row(self, writer: CubeWriter, entries: Sequence[Entry]) -> EmbedderRow | None:
        """The stored row of the embedder that made the entries' vectors."""
        row = next((row for entry in entries for row in entry.vectors.values()), None)
        return None if row is None else writer.use_embedder(self.models.embedder.fingerprint, len(row))

    def update(
        self,
        item_id: str,
        change: Callable[[MemoryItem], MemoryItem],
        actor: Actor,
        expect_version: int | None,
    ) -> MemoryItem:
        """Make `change(item)` the item's next version, in one durable commit."""
        with self.file.read() as reader:
            before = _current(reader, item_id, actor.view)
        after = change(before)
        if before.state == after.state == "frozen":
            raise Conflict(f"item {item_id!r} is frozen: thaw it first with update(id, state='activated')")
        if after.text != before.text and before.key is not None:
            raise BadInput(
                f"item {item_id!r} is the entry {before.key!r}: change it with cube.kv.put(namespace, key, value)"
            )
        if after.visibility != before.visibility and actor.principal not in (ROOT, before.author):
            raise AccessDenied("only its author may change who sees an item: leave visibility as it is")
        vectors: NamedVectors = self.embedded([(after, ())])[0] if reads_otherwise(before, after) else {}
        expected = before.version if expect_version is None else expect_version

        def work(writer: CubeWriter) -> MemoryItem:
            current = _current(writer, item_id, actor.view)
            if not current.version == before.version == expected:  # `after` was made from `before`
                raise VersionConflict(
                    f"item {item_id!r} is at version {current.version}, not {expected}: "
                    "read it again with get, then repeat the change"
                )
            item = dataclasses.replace(after, version=current.version + 1, updated_at=self.clock())
            n = writer.ref(item_id, actor.view)
            assert n is not None, "the item was just read"
            # an entry put with index=False stays out of search
            entry = Entry(item, vectors, searchable=bool(vectors) or writer.in_search(n))
            writer.replace(n, entry, self.embedder_row(writer, [entry]))
            return item

        return self.file.write(
            work,
            principal=actor.principal,
            action="update",
            detail=lambda item: {"item": item.id, "to": item.version},
        )

    def forget(self, ids: Sequence[str], actor: Actor, *, sources: bool) -> Erased:
        """Erase items everywhere in the cube, in one durable commit; a tombstone stays."""

        def work(writer: CubeWriter) -> Erased:
            refs = []
            for item_id in ids:
                n = writer.ref(item_id, actor.view)
                if n is None:
                    raise ItemNotFound(_no_item(item_id))
                refs.append(n)
            chosen = closure(writer, refs, sources=sources, view=actor.view)
            frozen = writer.frozen_among(chosen)
            if frozen:
                raise Conflict(f"item {frozen!r} is frozen: thaw it first with update(id, state='activated')")
            erased, versions = writer.erase(chosen)
            return Erased(tuple(erased), versions, writer.revision())

        erased = self.file.write(
            work,
            principal=actor.principal,
            action="forget",
            detail=lambda erased: {"items": list(erased.items)},
        )
        with self.file.read() as reader:
            _, held = self.resident.lag(reader)  # vectors that the files of an index still hold
            kept = reader.gone_blocks()
        kept_elsewhere = bool(held or kept) or self.file.has_strays()
        return dataclasses.replace(erased, purged=self.file.checkpoint() and not kept_elsewhere)

    # Read

    def get(self, item_id: str, view: View) -> MemoryItem:
        """One item of any state.

        Raises:
            ItemNotFound: it is not in this cube, or not seen through `view`.
        """
        with self.file.read() as reader:
            return _current(reader, item_id, view)

    def history(self, item_id: str, view: View) -> list[ItemVersion]:
        """Every version of an item, oldest first.

        Raises:
            ItemNotFound: it is not in this cube, or not seen through `view`.
        """
        with self.file.read() as reader:
            versions = reader.history(item_id, view)
        if not versions:
            raise ItemNotFound(_no_item(item_id))
        return versions

    def select(
        self, wanted: Filter, view: View, *, limit: int, offset: int, order: str = "n DESC"
    ) -> list[MemoryItem]:
        """Items, newest first."""
        with self.file.read() as reader:
            return reader.select(wanted, view, limit=limit, offset=offset, order=order)

    # Vectors

    def embedded(
        self, items: Sequence[tuple[MemoryItem, Sequence[str]]], embedder: Embedder | None = None
    ) -> list[NamedVectors]:
        """The vectors of items by name, in one batch; no names: those of the item's kind."""
        asked = [texts_by_name(item, names) for item, names in items]
        rows = iter(self.embed([text for texts in asked for text in texts.values()], embedder))
        return [{name: next(rows) for name in texts} for texts in asked]

    def embed(self, texts: Sequence[str], embedder: Embedder | None = None) -> Vectors:
        """Vectors (N, D) of texts, checked, by the shelf's embedder unless another is given."""
        if not texts:
            return np.empty((0, 1), np.float32)
        embedder = embedder or self.models.embedder
        rows = embedder.embed(texts)
        return (
            rows
            if isinstance(embedder, CHECKED) and len(rows) == len(texts)
            else checked(rows, len(texts), None)
        )


def _current(reader: CubeReader, item_id: str, view: View) -> MemoryItem:
    versions = reader.history(item_id, view)
    if not versions:
        raise ItemNotFound(_no_item(item_id))
    return versions[-1].item


def _no_item(item_id: str) -> str:
    return f"no item {item_id!r} in this cube that you may see: search for it again, it may have been erased"
