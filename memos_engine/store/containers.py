"""A folder or a tar as a sequence of plain members, the way a stranger's must be read: nothing is trusted.

Tar headers are taken one block at a time: links, devices, folders, and the extended headers that could
rename a member or fill the memory, are refused by their type. Nothing is extracted here, and no name
becomes a path but those that `os.scandir` gave. It knows no compression and no manifest.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

from memos_engine.errors import ArchiveDamaged, ArchiveError, ArchiveUnsafe, MemosError
from memos_engine.store.manifest import MANIFEST, MEMBERS, refuse_path

CHUNK = 2**18
_BLOCK = tarfile.BLOCKSIZE
_PADDING_MAX = 2**16  # zero bytes after the last member; tar fills up to 10 KiB
_NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

Found: TypeAlias = tuple[str, int, Callable[[int], bytes]]
"""A member's name, its size, and what gives exactly so many bytes more of it. All must be taken in turn."""


class Source(Protocol):
    """A stream of bytes that ends in an ArchiveError when it is not sound."""

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        ...

    def some(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        ...


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Tell an error of the file system as what it means for an archive."""
    try:
        yield
    except MemosError:
        raise
    except (OSError, ValueError) as exc:
        raise ArchiveError(f"{where} cannot be read ({exc}): check the path and its rights") from exc


def folder_members(folder: Path, where: str) -> Iterator[Found]:
    """The files of a folder, `cube.json` first; any entry that is no plain file is refused."""
    with reading(where), os.scandir(folder) as entries:
        names = sorted((entry.name for entry in islice(entries, 4 * len(MEMBERS))), key=MANIFEST.__ne__)
    for name in names:
        with _plain_file(folder / name, where) as file:
            yield name, os.fstat(file.fileno()).st_size, partial(_take, file, where)


def _plain_file(path: Path, where: str) -> BinaryIO:
    """Open a regular file that is no link, and stays none: the check is on what was opened."""
    with reading(where):
        if stat.S_ISREG(path.lstat().st_mode):
            file = os.fdopen(os.open(path, os.O_RDONLY | _NO_FOLLOW), "rb")
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return file
            file.close()
    raise ArchiveUnsafe(
        f"{where} holds {path.name!r}, a link, folder or device: do not trust where it comes from"
    )


def _take(file: BinaryIO, where: str, size: int) -> bytes:
    with reading(where):
        data = file.read(size)
    if len(data) != size:
        raise ArchiveDamaged(f"{where} was cut off while it was read: get it again")
    return data


def tar_parts(folder: Path, names: Sequence[str]) -> Iterator[bytes]:
    """A tar of these files of `folder`, piece by piece, as any tar program reads it."""
    for name in names:
        with (folder / name).open("rb") as file:
            info = tarfile.TarInfo(name)
            info.size = os.fstat(file.fileno()).st_size
            info.mode = 0o600
            yield info.tobuf(tarfile.GNU_FORMAT)
            while chunk := file.read(CHUNK):
                yield chunk
            yield bytes(-info.size % _BLOCK)
    yield bytes(2 * _BLOCK)


def tar_members(source: Source, where: str) -> Iterator[Found]:
    """The members of a tar; any that is no plain file is refused."""
    while any(block := source.take(_BLOCK)):
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.TarError, ValueError) as exc:
            raise ArchiveDamaged(f"{where} holds a malformed tar header ({exc}): get it again") from exc
        refuse_path(info.name, where)
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise ArchiveUnsafe(
                f"{where} holds {info.name!r}, no plain file: do not trust where it comes from"
            )
        if info.size < 0:
            raise ArchiveDamaged(f"{where} holds {info.name!r} with a size below 0: get it again")
        yield info.name, info.size, source.take
        source.take(-info.size % _BLOCK)
    left = _PADDING_MAX
    while left > 0 and (padding := source.some(left)):
        left = 0 if any(padding) else left - len(padding)
    if left <= 0:
        raise ArchiveUnsafe(f"{where} holds more after its last member: do not trust where it comes from")
