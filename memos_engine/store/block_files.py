"""Where the files of a cube's blocks are, and how they go. Names and bytes only: what is in them is not read.

A file is there before its row and goes after it, so that a row always has its file, whatever is killed.
What a kill left behind is known as gone, or no row knows it and it is no longer young.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

KV = "kv"
"""Folder within that of the cube."""
SUFFIX = ".safetensors"
COMMITTING_S = 60.0
"""So young a file may be about to get its row; an older one that no row knows is nobody's."""


class Stray(NamedTuple):
    """What lies among the files of blocks, or was to be one, and no row knows."""

    path: Path
    is_folder: bool


def block_path(folder: Path, id_: str) -> Path:
    """The file of a block of the cube in `folder`."""
    return folder / KV / f"{id_}{SUFFIX}"


def seal_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    # a pipe that carries the name would keep a plain open waiting for its other end
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{str(path)!r} is no regular file")
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


def remove_strays(folder: Path, known: Collection[str], *, older_s: float = COMMITTING_S) -> None:
    """Remove files that no row knows and that no build can be about to enter, being older than so many seconds.

    A build elsewhere that took longer finds its file gone, and fails.

    Raises:
        OSError: the folder cannot be listed.
    """
    for stray in strays(folder, known, older_s=older_s):
        with suppress(OSError):  # `check` tells of it
            stray.path.unlink(missing_ok=True)


def strays(folder: Path, known: Collection[str], *, older_s: float = COMMITTING_S) -> list[Stray]:
    """What no row knows and is older than so many seconds, what a killed write left included.

    Args:
        folder: The cube's.
        known: Ids of blocks, those that are gone included.
        older_s: A younger one may be about to get its row.

    Raises:
        OSError: the folder cannot be listed.
    """
    found = []
    for entry in _entries(folder / KV):
        name = entry.name
        is_block = name.endswith(SUFFIX) and not name.startswith(".")
        if is_block and name.removesuffix(SUFFIX) in known:
            continue
        if not is_block and not (name.startswith(".") and name.endswith(".tmp")):
            continue
        if _age_s(entry) > older_s:
            found.append(Stray(Path(entry.path), entry.is_dir(follow_symlinks=False)))
    return found


def _age_s(entry: os.DirEntry[str]) -> float:
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:  # removed meanwhile
        return -math.inf
    except OSError:  # nobody can say that it is young
        return math.inf


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
