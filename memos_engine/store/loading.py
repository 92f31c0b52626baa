"""Member files as a cube's rows, inside one transaction of an empty cube.

Items get new row numbers in the old order, words are indexed anew from the items' text, the change
log starts afresh (one `add` an item), and the audit chain is verified and goes on. What is held in
memory does not grow with the cube. It trusts that the files are those the manifest names, and
nothing that stands in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import apsw
import numpy as np
from pydantic import BaseModel

from memos_engine.errors import ArchiveDamaged
from memos_engine.store.dumping import Progress, Ticker
from memos_engine.store.manifest import (
    AUDIT,
    CALLS,
    EDGES,
    ITEMS,
    JSON_COLUMNS,
    LINE_BYTES_MAX,
    TOMBSTONES,
    VECTOR_NAMES,
    VECTORS,
    VERSIONS,
    AuditRow,
    CallRow,
    Counts,
    EdgeRow,
    EmbedderMark,
    ItemRow,
    Manifest,
    R,
    TombstoneRow,
    VectorRow,
    VersionRow,
    parsed_line,
)
from memos_engine.store.rows import COLUMNS, INSERT_ITEM, dumps, namespace_column, words_of_row
from memos_engine.store.sqlite import chain
from memos_engine.store.writing import CubeWriter

T = TypeVar("T")

BATCH_ROWS = 1_000


def fill(writer: CubeWriter, folder: Path, manifest: Manifest, progress: Progress) -> None:
    """Write the members in `folder` into an empty cube, inside its write transaction.

    Raises:
        ArchiveDamaged: a row is not what its member may hold, or the members contradict each other.
    """
    tick = Ticker(manifest.rows, progress)
    counts = manifest.counts

    def rows(member: str, model: type[R], count: int) -> Iterator[R]:
        for row in _lines(folder / member, model, count):
            yield row
            tick.one()

    run = writer.connection.executemany
    with _agreeing(ITEMS):
        _fill_items(writer, rows(ITEMS, ItemRow, counts.items))
    with _agreeing(TOMBSTONES):
        _fill_tombstones(writer, rows(TOMBSTONES, TombstoneRow, counts.tombstones), counts)
    with _agreeing(VERSIONS):
        run(
            "INSERT INTO versions (item, version, until, state) VALUES"
            " ((SELECT n FROM items WHERE id = ?1 AND version > ?2), ?2, ?3, ?4)",
            ((v.item, v.version, v.until, _state(v)) for v in rows(VERSIONS, VersionRow, counts.versions)),
        )
    with _agreeing(EDGES):
        run(
            "INSERT INTO edges (source, kind, target, weight) VALUES"
            " ((SELECT n FROM items WHERE id = ?), ?, (SELECT n FROM items WHERE id = ?), ?)",
            ((e.source, e.kind, e.target, e.weight) for e in rows(EDGES, EdgeRow, counts.edges)),
        )
    with _agreeing(VECTOR_NAMES):
        _fill_vectors(
            writer, rows(VECTOR_NAMES, VectorRow, counts.vectors), folder / VECTORS, manifest.embedder
        )
    with _agreeing(AUDIT):
        run(
            "INSERT INTO audit (at, principal, action, detail, hash) VALUES (?, ?, ?, ?, ?)",
            _chained(rows(AUDIT, AuditRow, counts.audit)),
        )
    with _agreeing(CALLS):
        run(
            "INSERT INTO calls (key, digest, result, at) VALUES (?, ?, ?, ?)",
            ((c.key, bytes.fromhex(c.digest), c.result, c.at) for c in rows(CALLS, CallRow, counts.calls)),
        )


@contextmanager
def _agreeing(member: str) -> Iterator[None]:
    """Tell a broken rule of the schema as what it means for the archive."""
    try:
        yield
    except apsw.ConstraintError as exc:
        raise ArchiveDamaged(
            f"{member} names an item that is not there, or something twice ({exc}): dump the cube again"
        ) from exc


def _lines(path: Path, model: type[R], count: int) -> Iterator[R]:
    with path.open("rb") as file:
        for number in range(1, count + 1):
            line = file.readline(LINE_BYTES_MAX + 1)
            if len(line) > LINE_BYTES_MAX or not line.endswith(b"\n"):
                raise ArchiveDamaged(
                    f"{path.name} line {number} is missing, cut off, or above {LINE_BYTES_MAX:,} bytes: "
                    "dump the cube again"
                )
            yield parsed_line(model, line, f"{path.name} line {number}")
        if file.read(1):
            raise ArchiveDamaged(f"{path.name} has more than the {count} lines that the manifest counts")


def _batches(rows: Iterable[T]) -> Iterator[Sequence[T]]:
    left = iter(rows)
    while batch := list(islice(left, BATCH_ROWS)):
        yield batch


def _fill_items(writer: CubeWriter, rows: Iterator[ItemRow]) -> None:
    n = 0
    for batch in _batches(rows):
        items, words = [], []
        for row in batch:
            n += 1
            columns = _stored(row, COLUMNS)
            items.append((n, *columns.values(), row.message_key, int(row.indexed)))
            if row.indexed:
                words.append((n, words_of_row(columns)))
        writer.connection.executemany(INSERT_ITEM, items)
        writer.connection.executemany("INSERT INTO words (rowid, body) VALUES (?, ?)", words)
    writer.connection.execute(
        "INSERT INTO changes (item, op, at) SELECT n, 'add', ? FROM items ORDER BY n", [writer.now]
    )


def _fill_tombstones(writer: CubeWriter, rows: Iterator[TombstoneRow], counts: Counts) -> None:
    """Tombstones take the numbers after the items', and no later item takes one of theirs."""
    writer.connection.executemany(
        "INSERT INTO tombstones (n, id, at, turn) VALUES (?, ?, ?, ?)",
        (
            (n, row.id, row.at, None if row.turn is None else bytes.fromhex(row.turn))
            for n, row in enumerate(rows, start=counts.items + 1)
        ),
    )
    writer.connection.execute("DELETE FROM sqlite_sequence WHERE name = 'items'")
    writer.connection.execute(
        "INSERT INTO sqlite_sequence (name, seq) VALUES ('items', ?)", [counts.items + counts.tombstones]
    )


def _state(row: VersionRow) -> str:
    names = [name for name in COLUMNS if name in row.state.model_fields_set]
    return dumps(_stored(row.state, names))


def _fill_vectors(
    writer: CubeWriter, rows: Iterator[VectorRow], path: Path, mark: EmbedderMark | None
) -> None:
    """Only items that stand in the index have vectors; their rows are finite."""
    embedder = None if mark is None else writer.use_embedder(mark.fingerprint, mark.dimension)
    with path.open("rb") as file:
        for batch in _batches(rows):
            assert embedder is not None, "the manifest counts no vectors without an embedder"
            width = 4 * embedder.dimension
            blob = file.read(width * len(batch))
            if len(blob) != width * len(batch) or not np.isfinite(np.frombuffer(blob, np.dtype("<f4"))).all():
                raise ArchiveDamaged(
                    f"{path.name} holds rows that are cut off or not finite: dump the cube again"
                )
            writer.connection.executemany(
                "INSERT INTO vectors (item, name, embedder, data) VALUES"
                " ((SELECT n FROM items WHERE id = ? AND indexed = 1), ?, ?, ?)",
                [
                    (row.item, row.name, embedder.n, blob[place * width : (place + 1) * width])
                    for place, row in enumerate(batch)
                ],
            )


def _chained(rows: Iterator[AuditRow]) -> Iterator[tuple[int, str, str, str, bytes]]:
    previous = b""
    for number, row in enumerate(rows, start=1):
        previous = chain(previous, row.at, row.principal, row.action, row.detail)
        if previous.hex() != row.hash:
            raise ArchiveDamaged(
                f"{AUDIT} line {number} breaks the audit chain: someone changed it; use another copy"
            )
        yield row.at, row.principal, row.action, row.detail, previous


def _stored(row: BaseModel, names: Iterable[str]) -> dict[str, Any]:
    """Columns as they are stored: what a dump read."""
    columns: dict[str, Any] = {name: getattr(row, name) for name in names}
    if columns.get("sources") is not None:
        columns["sources"] = [source.model_dump(exclude_none=True) for source in columns["sources"]]
    for name in JSON_COLUMNS:
        if columns.get(name) is not None:
            columns[name] = dumps(columns[name])
    if "namespace" in columns:
        columns["namespace"] = namespace_column(columns["namespace"])
    return columns
