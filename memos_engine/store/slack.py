"""Clearing the slack of an HNSW file: room for vectors to come, written out as memory happened to hold it.

Chroma's graph (hnswlib) allocates its rows ahead of need without clearing them, and writes an empty
graph's whole block to its file. So the slots after the last row may hold whatever the process had
there before, an erased vector's bytes among it. Only those slots are written here, while Chroma is at
rest: it reads none of them before it has written it.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

HEADER, ROWS = "header.bin", "data_level0.bin"
_FIELDS = struct.Struct("<iQQQQ")  # version, offset of level 0, slots, rows, bytes a row: hnswlib's saveIndex
_CHUNK = 1 << 20


def clear_slack(generation: Path) -> None:
    """Overwrite the unused slots of every graph below `generation` with zeros; a second call writes nothing.

    A header that does not describe the file of rows is of a layout unknown here: that file is left as it is.
    """
    for header in generation.glob(f"*/{HEADER}"):
        rows = header.with_name(ROWS)
        start = _slack_start(header.read_bytes(), rows.stat().st_size)
        if start is not None:
            _zero(rows, start)


def _slack_start(header: bytes, size: int) -> int | None:
    """Offset of the first unused slot in a file of `size` bytes; None when the header is not of that file."""
    if len(header) < _FIELDS.size:
        return None
    _version, _offset, slots, rows, row_bytes = _FIELDS.unpack_from(header)
    return rows * row_bytes if rows * row_bytes <= size <= slots * row_bytes else None


def _zero(path: Path, start: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        while chunk := file.read(_CHUNK):
            if any(chunk):
                file.seek(-len(chunk), os.SEEK_CUR)
                file.write(bytes(len(chunk)))
