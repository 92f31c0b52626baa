"""Where the files of a cube's blocks are, and how they go. Names and bytes only: what is in them is not read.

A file is there before its row and goes after it, so that a row always has its file, whatever is killed.
What a kill left behind is known as gone, or no row knows it and it is old.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

KV = "kv"
"""Folder within that of the cube."""
SUFFIX = ".safetensors"
COMMITTING_S = 60.0
"""So young a file may be about to get its row."""
STRAY_S = 86_400.0
"""So old a file that no row knows, or that was never finished, is nobody's."""


def block_path(folder: Path, id_: str) -> Path:
    """The file of a block of the cube in `folder`."""
    return folder / KV / f"{id_}{SUFFIX}"


def seal_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_blocks(folder: Path, ids: Iterable[str]) -> list[str]:
    """Remove the files of blocks; return those of which none is left. A system may keep one that is in use."""
    removed = []
    for id_ in ids:
        try:
            block_path(folder, id_).unlink(missing_ok=True)
        except OSError:  # told by what is returned, and tried again later
            continue
        removed.append(id_)
    return removed


def remove_strays(folder: Path, known: Collection[str], *, older_s: float = STRAY_S) -> None:
    """Remove files that no row knows and that no build can be about to finish, being older than so many seconds."""
    for path in list(strays(folder, known, older_s=older_s, unfinished=True)):
        with suppress(OSError):  # `check` tells of it
            path.unlink(missing_ok=True)


def strays(
    folder: Path, known: Collection[str], *, older_s: float = COMMITTING_S, unfinished: bool = False
) -> Iterator[Path]:
    """Files that no row knows and that are older than so many seconds.

    Args:
        folder: The cube's.
        known: Ids of blocks, those that are gone included.
        older_s: A younger one may be about to get its row.
        unfinished: Also what a killed write left.
    """
    for entry in _entries(folder / KV):
        name = entry.name
        is_block = name.endswith(SUFFIX) and not name.startswith(".")
        if is_block and name.removesuffix(SUFFIX) in known:
            continue
        if not is_block and not (unfinished and name.startswith(".") and name.endswith(".tmp")):
            continue
        try:
            age_s = time.time() - entry.stat(follow_symlinks=False).st_mtime
        except FileNotFoundError:  # removed meanwhile
            continue
        if age_s > older_s:
            yield Path(entry.path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
