"""Cube files: the one door between a cube's folder and a portable copy of it, a folder or a `.tar.zst`.

A dump is written beside its target and moved there whole. A load trusts nothing: the container is
read with bounds on every size, members are copied one by one into a private folder and compared
with the manifest, and only then does a database open. No tar library's extraction runs, no name
from an archive becomes a path, nothing is unpickled. What rows mean is `dumping`'s and `loading`'s.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast, get_args

import zstandard

from memos_engine.errors import (
    ArchiveDamaged,
    ArchiveError,
    ArchiveForeign,
    ArchiveUnsafe,
    BadInput,
    BadName,
    BadRoot,
    Conflict,
    MemosError,
    StoreError,
    StoreFull,
)
from memos_engine.items import Kind
from memos_engine.ports import Clock
from memos_engine.store.containers import CHUNK, Found, folder_members, reading, tar_members, tar_parts
from memos_engine.store.disk import sync_path
from memos_engine.store.dumping import Member, Progress, write_members
from memos_engine.store.loading import fill
from memos_engine.store.manifest import (
    MANIFEST,
    MANIFEST_BYTES_MAX,
    MEMBERS,
    Manifest,
    parsed_manifest,
)
from memos_engine.store.sqlite import CUBE_DATABASE, CubeFile

SUFFIX = ".tar.zst"
BYTES_MAX = 16 * 2**30
"""Of all members of an archive; a cube of a million items has about 4 GiB."""
RATIO_MAX = 1_000
"""Unpacked bytes for each packed one, once FREE_BYTES are unpacked; text packs about 5 to 1."""
FREE_BYTES = 64 * 2**20
WINDOW_BYTES_MAX = 8 * 2**20
"""Memory that unpacking may take: what `zstd -19` asks for."""
LEVEL = 3

_MAGIC = b"\x28\xb5\x2f\xfd"
_FRAME_HEADER_MAX = 18
_SPOOL = ".archive"


def dump(
    cube: CubeFile,
    path: Path,
    *,
    name: str,
    clock: Clock,
    kinds: Collection[Kind] | None = None,
    overwrite: bool = False,
    progress: Progress = None,
) -> Path:
    """Write one state of a cube to `path`: one file when it ends in `.tar.zst`, else a folder. Atomic.

    Others may write to the cube meanwhile. A dump that fails or is killed leaves nothing at `path`,
    a killed one a folder `.dump.<random>.part` beside it.

    Args:
        cube: What to dump.
        path: Its folder must exist; it must not, unless `overwrite`.
        name: The cube's name, as the manifest tells it.
        clock: For the manifest.
        kinds: Items of these kinds with what hangs on them. None for all.
        overwrite: Replace a file, or a folder that holds a cube file or nothing.
        progress: Called with the rows done and in total.

    Returns:
        `path`.

    Raises:
        BadInput: a kind is unknown, or none is given.
        Conflict: something is at `path` that may not be replaced.
        StoreFull: no space left.
        StoreError: it cannot be written.
    """
    if kinds is not None and (not kinds or not set(kinds) <= set(get_args(Kind))):
        raise BadInput(f"kinds is {kinds!r}: choose of {', '.join(get_args(Kind))}, or None for all")
    with _writing(path):
        _refuse_taken(path, overwrite=overwrite)
        work = Path(tempfile.mkdtemp(prefix=".dump.", suffix=".part", dir=path.parent))
        try:
            folder = work / "cube"
            folder.mkdir(mode=0o700)
            with cube.read() as reader:
                manifest = write_members(
                    reader, folder, name=name, at=clock(), kinds=kinds, progress=progress
                )
            with Member(folder / MANIFEST) as file:
                file.write(manifest.encoded())
            if path.name.endswith(SUFFIX):
                whole = work / "packed"
                _pack(folder, whole)
            else:
                whole = folder
                sync_path(folder)
            _refuse_taken(path, overwrite=overwrite)
            _place(whole, path, work / "replaced")
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return path


def _place(whole: Path, path: Path, aside: Path) -> None:
    """Move `whole` to `path`; what a rename cannot replace (a folder) goes aside first, back on failure."""
    if os.path.lexists(path) and (whole.is_dir() or path.is_dir()):
        path.rename(aside)
    try:
        whole.replace(path)
    except OSError:
        if os.path.lexists(aside):
            aside.rename(path)
        raise
    sync_path(path.parent)


def _refuse_taken(path: Path, *, overwrite: bool) -> None:
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise Conflict(f"{str(path)!r} exists: choose another path, or say overwrite=True")
    if path.is_dir() and not path.is_symlink() and any(path.iterdir()):
        try:
            read_manifest(path)
        except ArchiveError as exc:
            raise Conflict(f"{str(path)!r} is a folder that is no cube file: choose another path") from exc


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Tell an error of the file system as what it means for a file we write."""
    try:
        if "\0" in str(path):
            raise BadName(f"the path {str(path)!r} holds a NUL: choose another")
        yield
    except MemosError:
        raise
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(
                f"no space left to write {str(path)!r}: nothing is left there; free some space"
            ) from exc
        raise StoreError(
            f"{str(path)!r} cannot be written ({exc.strerror}): its folder must exist and be writable"
        ) from exc


def _pack(folder: Path, target: Path) -> None:
    """Write the members of `folder`, the manifest first, as a plain tar within one checked zstd frame."""
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
    with Member(target) as packed:
        for part in tar_parts(folder, (MANIFEST, *MEMBERS)):
            packed.write(compressor.compress(part))
        packed.write(compressor.flush())


def read_manifest(path: Path) -> Manifest:
    """What a cube file says of itself; its members are not looked at.

    Raises:
        ArchiveError: it is no cube file; the leaf says why.
    """
    with _members(path) as members:
        return _manifest(members, repr(str(path)))


def load(
    path: Path,
    folder: Path,
    cube_id: str,
    clock: Clock,
    *,
    principal: str,
    bytes_max: int = BYTES_MAX,
    progress: Progress = None,
) -> Manifest:
    """Make `folder` the folder of a new cube with the content of a cube file. A failed load leaves it empty.

    Args:
        path: A folder or a file that `dump` wrote.
        folder: Not there or empty, and its parent exists; best under a temporary name, to be moved
            into place when this returns.
        cube_id: Fresh id of the new cube; its items keep theirs.
        clock: For the change log and the audit row `load`.
        principal: Who loads it.
        bytes_max: Of all members unpacked.
        progress: Called with the rows done and in total.

    Returns:
        The manifest: name, embedder and counts of what was loaded.

    Raises:
        ArchiveUnsafe: a path, link, device, or sizes beyond the bounds.
        ArchiveDamaged: malformed, cut off, changed, or at odds with itself.
        ArchiveForeign: another format, or a newer version.
        ArchiveError: it is not there, or cannot be read.
        BadRoot: `folder` is in use.
        StoreError: the new cube cannot be written.
    """
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise BadRoot(f"{str(folder)!r} is in use: load into a new folder")
    with _members(path) as members, _writing(folder):
        manifest = _manifest(members, repr(str(path)))
        made = not folder.exists()
        folder.mkdir(mode=0o700, exist_ok=True)
        spool = folder / _SPOOL
        try:
            spool.mkdir(mode=0o700)
            _unpack(members, manifest, spool, repr(str(path)), bytes_max)
            _fill_cube(CubeFile(folder, cube_id, clock), spool, manifest, principal, progress)
        except BaseException:
            for left in folder.glob(f"{CUBE_DATABASE}*"):
                left.unlink()
            raise
        finally:
            shutil.rmtree(spool, ignore_errors=True)
            if made and not any(folder.iterdir()):
                folder.rmdir()
    return manifest


def _fill_cube(cube: CubeFile, spool: Path, manifest: Manifest, principal: str, progress: Progress) -> None:
    try:
        cube.write(
            lambda writer: fill(writer, spool, manifest, progress),
            principal=principal,
            action="load",
            detail=lambda _: {"cube": manifest.cube, "items": manifest.counts.items},
        )
        cube.checkpoint()
    finally:
        cube.close()


def _manifest(members: Iterator[Found], where: str) -> Manifest:
    """The manifest, which every container gives first."""
    name, size, read = next(members, ("", 0, bytes))
    if name != MANIFEST:
        raise ArchiveForeign(
            f"{where} does not start with {MANIFEST}: load a cube file, or the folder you unpacked"
        )
    if size > MANIFEST_BYTES_MAX:
        raise ArchiveUnsafe(f"{where} has a {MANIFEST} of {size:,} bytes: do not trust where it comes from")
    return parsed_manifest(read(size), where)


def _unpack(members: Iterator[Found], manifest: Manifest, spool: Path, where: str, bytes_max: int) -> None:
    """Copy every member into `spool`, if they are exactly what the manifest says."""
    if manifest.size > bytes_max:
        raise ArchiveUnsafe(
            f"{where} unpacks to {manifest.size:,} bytes: to take it, raise bytes_max ({bytes_max:,})"
        )
    missing = dict(manifest.files)
    for name, size, read in members:
        mark = missing.pop(name, None)
        if mark is None:
            raise ArchiveUnsafe(
                f"{where} holds {name[:200]!r}, which {MANIFEST} does not name, or twice: remove it"
            )
        if size > mark.size:
            raise ArchiveUnsafe(
                f"{where} holds {name} with {size:,} bytes, {MANIFEST} says {mark.size:,}: get it again"
            )
        if size < mark.size:
            raise ArchiveDamaged(
                f"{where} holds {name} cut off at {size:,} of {mark.size:,} bytes: get it again"
            )
        with Member(spool / name, durable=False) as copy:
            for start in range(0, size, CHUNK):
                copy.write(read(min(CHUNK, size - start)))
        if copy.mark != mark:
            raise ArchiveDamaged(f"{where} holds a changed {name}: its checksum is wrong; get it again")
    if missing:
        raise ArchiveDamaged(f"{where} lacks {', '.join(missing)}: get it again")


@contextmanager
def _members(path: Path) -> Iterator[Iterator[Found]]:
    """The members of either container, one at a time, the manifest first."""
    where = repr(str(path))
    with ExitStack() as stack:
        with reading(where):
            mode = path.stat().st_mode
            file = stack.enter_context(path.open("rb")) if stat.S_ISREG(mode) else None
        if stat.S_ISDIR(mode):
            yield folder_members(path, where)
        elif file is not None:
            yield tar_members(_Unpacked(file, where), where)
        else:
            raise ArchiveForeign(f"{where} is neither a file nor a folder: load a cube file")


@contextmanager
def _unzipping(where: str) -> Iterator[None]:
    with reading(where):
        try:
            yield
        except zstandard.ZstdError as exc:
            raise ArchiveDamaged(f"{where} is no sound zstd file ({exc}): get it again") from exc


class _Unpacked:
    """The bytes within a zstd file, under bounds on memory and on their ratio to what was read of it."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file = file
        self._where = where
        self._packed = 0
        self._unpacked = 0
        with _unzipping(where):
            head = file.read(_FRAME_HEADER_MAX)
            file.seek(0)
            if head[:4] != _MAGIC:
                raise ArchiveForeign(
                    f"{where} is no zstd file: load a folder or a {SUFFIX} that `dump` wrote"
                )
            if zstandard.get_frame_parameters(head).window_size > WINDOW_BYTES_MAX:
                raise ArchiveUnsafe(
                    f"{where} asks for too large a zstd window: pack it without --long or --ultra"
                )
            self._stream = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX).stream_reader(
                cast("BinaryIO", self), read_size=CHUNK, read_across_frames=True, closefd=False
            )

    def read(self, size: int = -1) -> bytes:
        """Packed bytes for the decompressor, counted."""
        data = self._file.read(size)
        self._packed += len(data)
        return data

    def some(self, size: int) -> bytes:
        """Up to `size` unpacked bytes; none at the end."""
        with _unzipping(self._where):
            data = self._stream.read(size)
        self._unpacked += len(data)
        if self._unpacked > max(FREE_BYTES, RATIO_MAX * self._packed):
            raise ArchiveUnsafe(
                f"{self._where} unpacks to more than {RATIO_MAX} times its size: it is a bomb"
            )
        return data

    def take(self, size: int) -> bytes:
        """Exactly `size` unpacked bytes."""
        data = bytearray()
        while len(data) < size:
            part = self.some(size - len(data))
            if not part:
                raise ArchiveDamaged(
                    f"{self._where} ends early, after {self._unpacked:,} bytes: get it again"
                )
            data += part
        return bytes(data)
