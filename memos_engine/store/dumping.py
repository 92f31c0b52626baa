"""A cube's rows as member files: one state of the cube, streamed in an order that loading keeps.

What is held in memory does not grow with the cube. Row numbers and the change log stay behind. It
knows no container.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeAlias

from pydantic import BaseModel

from memos_engine.errors import StoreDamaged
from memos_engine.items import Kind
from memos_engine.store.database import Connection
from memos_engine.store.manifest import (
    AUDIT,
    CALLS,
    EDGES,
    ITEMS,
    JSON_COLUMNS,
    LINE_BYTES_MAX,
    MEMBERS,
    TOMBSTONES,
    VECTOR_NAMES,
    VECTORS,
    VERSIONS,
    Counts,
    EmbedderMark,
    FileMark,
    ItemRow,
    Manifest,
    VectorRow,
    VersionRow,
)
from memos_engine.store.reading import CubeReader, EmbedderRow
from memos_engine.store.rows import COLUMNS, dumps, namespace_labels

Progress: TypeAlias = Callable[[int, int], None] | None
"""Called with the rows done and the rows in total."""
PROGRESS_ROWS = 1_000


def write_members(
    reader: CubeReader,
    folder: Path,
    *,
    name: str,
    at: datetime,
    kinds: Collection[Kind] | None,
    progress: Progress,
) -> Manifest:
    """Write every member of one state of a cube into `folder`; return what `cube.json` shall say.

    Args:
        reader: Inside its read transaction, so that all members tell of the same moment.
        folder: Empty.
        name: The cube's name.
        at: When.
        kinds: Items of these kinds, with the versions, vectors and edges between them. The calls
            of a part stay behind: a retry must not be told of items that are not there.
        progress: See `Progress`.

    Raises:
        StoreDamaged: a row breaks a rule of the store, so the file could not be loaded.
    """
    query = _Query(reader.connection, kinds)
    embedder = reader.embedder()
    counts = query.counts(embedder)
    tick = Ticker(sum(counts.model_dump().values()), progress)
    lines: dict[str, Iterator[dict[str, Any]]] = {
        ITEMS: query.items(), VERSIONS: query.versions(), EDGES: query.edges(), AUDIT: query.audit(),
        TOMBSTONES: query.tombstones(), CALLS: query.calls(),
    }  # fmt: skip
    checks: dict[str, type[BaseModel]] = {ITEMS: ItemRow, VERSIONS: VersionRow, VECTOR_NAMES: VectorRow}
    files: dict[str, FileMark] = {}
    with Member(folder / VECTORS) as data, Member(folder / VECTOR_NAMES) as names:
        for row, blob in query.vectors(embedder):
            names.write(_line(row, VectorRow))
            data.write(blob)
            tick.one()
    files[VECTORS], files[VECTOR_NAMES] = data.mark, names.mark
    for member, rows in lines.items():
        with Member(folder / member) as file:
            for row in rows:
                file.write(_line(row, checks.get(member)))
                tick.one()
        files[member] = file.mark
    return Manifest(
        cube=reader.cube, name=name, created_at=at, kinds=None if kinds is None else tuple(sorted(kinds)),
        embedder=None if embedder is None else EmbedderMark(
            fingerprint=embedder.fingerprint, dimension=embedder.dimension
        ),
        counts=counts, files={member: files[member] for member in MEMBERS},
    )  # fmt: skip


def _line(row: dict[str, Any], model: type[BaseModel] | None) -> bytes:
    """The row's line; with a model, only if loading it would work: a dump that cannot be loaded is none."""
    try:
        line = dumps(row).encode() + b"\n"
        if model is not None:
            model.model_validate_json(line)
    except ValueError as exc:
        raise StoreDamaged(
            f"item {row.get('id') or row.get('item')!r} holds what no item may hold: update it"
        ) from exc
    if len(line) > LINE_BYTES_MAX:
        raise StoreDamaged(f"item {row.get('id') or row.get('item')!r} has {len(line):,} bytes: split it")
    return line


class Ticker:
    """Counts rows and tells progress every PROGRESS_ROWS, and at the end."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total = total
        self._progress = progress
        self._done = 0

    def one(self) -> None:
        """One more row is done."""
        self._done += 1
        if self._progress is not None and (self._done % PROGRESS_ROWS == 0 or self._done == self._total):
            self._progress(self._done, self._total)


class Member:
    """A member file being written: counted, hashed, and made durable when it is left without an error."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self._durable = durable
        self._file: BinaryIO = open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115 -- left by __exit__; Path.open takes no opener
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> int:
        """Append."""
        self._hash.update(data)
        self._size += len(data)
        return self._file.write(data)

    @property
    def mark(self) -> FileMark:
        """Size and checksum of what was written."""
        return FileMark(size=self._size, sha256=self._hash.hexdigest())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        with self._file:
            if error is None and self._durable:
                self._file.flush()
                os.fsync(self._file.fileno())


class _Query:
    """The rows of each member, streamed in an order that loading keeps."""

    def __init__(self, connection: Connection, kinds: Collection[Kind] | None) -> None:
        self._connection = connection
        self._all = kinds is None
        self._kinds = list(kinds or ())
        self._marks = ",".join("?" * len(self._kinds))

    def _chosen(self, *aliases: str) -> str:
        return "1" if self._all else " AND ".join(f"{alias}.kind IN ({self._marks})" for alias in aliases)

    def _rows(self, sql: str, *before: Any, aliases: int = 1) -> Iterator[tuple[Any, ...]]:
        return self._connection.execute(sql, [*before, *self._kinds * aliases])

    # CROSS JOIN keeps the first table outermost: rows come in its order and nothing is sorted in memory.
    def _versions_from(self) -> str:
        return f"FROM versions v CROSS JOIN items i ON i.n = v.item WHERE {self._chosen('i')}"

    def _edges_from(self) -> str:
        return (
            "FROM edges e CROSS JOIN items s ON s.n = e.source CROSS JOIN items t ON t.n = e.target"
            f" WHERE {self._chosen('s', 't')}"
        )

    def _vectors_from(self) -> str:
        return (
            f"FROM vectors v CROSS JOIN items i ON i.n = v.item WHERE v.embedder = ? AND {self._chosen('i')}"
        )

    def counts(self, embedder: EmbedderRow | None) -> Counts:
        def count(sql: str, *before: Any, aliases: int = 0) -> int:
            return int(next(self._rows(f"SELECT count(*) {sql}", *before, aliases=aliases))[0])

        return Counts(
            items=count(f"FROM items i WHERE {self._chosen('i')}", aliases=1),
            versions=count(self._versions_from(), aliases=1),
            edges=count(self._edges_from(), aliases=2),
            vectors=0 if embedder is None else count(self._vectors_from(), embedder.n, aliases=1),
            audit=count("FROM audit"),
            tombstones=count("FROM tombstones"),
            calls=count("FROM calls") if self._all else 0,
        )

    def items(self) -> Iterator[dict[str, Any]]:
        columns = (*COLUMNS, "message_key", "indexed")
        sql = f"SELECT {', '.join(columns)} FROM items i WHERE {self._chosen('i')} ORDER BY n"
        for row in self._rows(sql):
            line = _readable(dict(zip(columns, row, strict=True)))
            yield {**line, "indexed": bool(line["indexed"])}

    def versions(self) -> Iterator[dict[str, Any]]:
        sql = f"SELECT i.id, v.version, v.until, v.state {self._versions_from()} ORDER BY v.item, v.version"
        for item, version, until, state in self._rows(sql):
            yield {"item": item, "version": version, "until": until, "state": _readable(json.loads(state))}

    def edges(self) -> Iterator[dict[str, Any]]:
        sql = f"SELECT s.id, e.kind, t.id, e.weight {self._edges_from()} ORDER BY e.source, e.kind, e.target"
        for row in self._rows(sql, aliases=2):
            yield dict(zip(("source", "kind", "target", "weight"), row, strict=True))

    def vectors(self, embedder: EmbedderRow | None) -> Iterator[tuple[dict[str, Any], bytes]]:
        if embedder is None:
            return
        sql = f"SELECT i.id, v.name, v.data {self._vectors_from()} ORDER BY v.v"
        for item, name, blob in self._rows(sql, embedder.n):
            if len(blob) != 4 * embedder.dimension:
                raise StoreDamaged(
                    f"a vector of item {item!r} has {len(blob)} bytes: run memos.reembed(cube)"
                )
            yield {"item": item, "name": name}, blob

    def audit(self) -> Iterator[dict[str, Any]]:
        for at, principal, action, detail, digest in self._connection.execute(
            "SELECT at, principal, action, detail, hash FROM audit ORDER BY seq"
        ):
            yield {"at": at, "principal": principal, "action": action, "detail": detail, "hash": digest.hex()}

    def tombstones(self) -> Iterator[dict[str, Any]]:
        for id_, at, turn in self._connection.execute("SELECT id, at, turn FROM tombstones ORDER BY n"):
            yield {"id": id_, "at": at, "turn": None if turn is None else turn.hex()}

    def calls(self) -> Iterator[dict[str, Any]]:
        if self._all:
            for key, digest, result, at in self._connection.execute(
                "SELECT key, digest, result, at FROM calls ORDER BY key"
            ):
                yield {"key": key, "digest": digest.hex(), "result": result, "at": at}


def _readable(columns: dict[str, Any]) -> dict[str, Any]:
    """Columns as they travel: what holds JSON as JSON, the namespace as its labels."""
    for name in JSON_COLUMNS:
        if columns.get(name) is not None:
            columns[name] = json.loads(columns[name])
    if "namespace" in columns:
        columns["namespace"] = namespace_labels(columns["namespace"])
    return columns
