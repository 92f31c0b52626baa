"""What the vector index says of itself on disk: one small JSON file, replaced atomically.

It knows no Chroma: reading how far an index reaches must not import it.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from memos_engine.errors import StoreError, StoreFull
from memos_engine.store.disk import sync_path

FORMAT = 1
STAMP = "stamp.json"


@dataclass(frozen=True, slots=True)
class Stamp:
    """Which generation is in use, what made it, and how far the truth was applied to it."""

    format: int
    generation: str
    """Name of its directory."""
    chromadb: str
    """Version that wrote it; no other reads it."""
    fingerprint: str
    """Of the embedder."""
    dimension: int
    applied_v: int = 0
    """Last vector id that Chroma returned for."""
    applied_gone: int = 0
    """Last entry of the log of gone vectors that was applied."""
    rows: int = 0
    """Vectors in it at the last mark."""
    size_bytes: int = 0
    """Of the graph's files at the last mark."""
    clean: bool = False
    """Nothing was written since the last mark."""

    def same_kind(self, other: Stamp) -> bool:
        """Whether what one wrote serves the other: format, Chroma's version, embedder."""
        return (self.format, self.chromadb, self.fingerprint, self.dimension) == (
            other.format,
            other.chromadb,
            other.fingerprint,
            other.dimension,
        )


def read_stamp(folder: Path) -> Stamp | None:
    """The stamp in `folder`. None when it is missing, malformed or of another format."""
    try:
        found = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kinds = {field.name: str(field.type) for field in fields(Stamp)}
    if not isinstance(found, dict) or {name: type(value).__name__ for name, value in found.items()} != kinds:
        return None
    return Stamp(**found) if found["format"] == FORMAT else None


def write_stamp(folder: Path, stamp: Stamp) -> None:
    """Replace the stamp in `folder`, durably.

    Raises:
        StoreFull: no space left; the old stamp stands.
        StoreError: it cannot be written; the old stamp stands.
    """
    temporary = folder / (STAMP + ".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(asdict(stamp), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / STAMP)
        sync_path(folder)
    except OSError as exc:
        if exc.errno == errno.ENOSPC:
            raise StoreFull(
                f"no space left to write {str(temporary)!r}: free some space, then repeat"
            ) from exc
        raise StoreError(
            f"{str(temporary)!r} cannot be written ({exc}): give this process write access"
        ) from exc


def settled(generation: Path) -> int:
    """Make the graph's files durable and return their bytes; 0 when there are none.

    Chroma flushes the graph without fsync. Its SQLite file keeps itself whole, and may change at
    any opening: it is left out.
    """
    size = 0
    for folder in (path for path in generation.glob("*") if path.is_dir()):
        for file in folder.iterdir():
            size += file.stat().st_size
            sync_path(file)
        sync_path(folder)
    sync_path(generation)
    return size
