"""Do the files of blocks agree with their rows? Without torch: a file is compared as bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from memos_engine.errors import StoreError
from memos_engine.shelf import TextShelf
from memos_engine.store.block_files import KV, SUFFIX, block_path, seal_of
from memos_engine.store.block_rows import StoredBlock
from memos_engine.store.moments import micros

__all__ = ["block_problems", "repair_blocks"]

SHOWN_MAX = 5  # blocks that a problem names


def block_problems(text: TextShelf) -> list[str]:
    """Every disagreement found; reads every file."""
    try:
        return _problems(text)
    except StoreError as exc:  # damage that stops the comparison is a finding too
        return [str(exc)]


def _problems(text: TextShelf) -> list[str]:
    found: list[str] = []
    broken = _broken(text)
    for why in dict.fromkeys(broken.values()):
        found += _told([id_ for id_, each in broken.items() if each == why], why)
    found += _unknown(text)
    found += _told(_doubled(text), "items that are in two blocks of one model")
    return found


def repair_blocks(text: TextShelf) -> None:
    """Take away the blocks whose files are not what they were, and the files that no row knows."""
    broken = list(_broken(text))
    if broken:
        text.file.touch(
            lambda writer: writer.drop_blocks(broken, op="drop", reason="its file is not what it was")
        )
    text.file.sweep_blocks()


def _broken(text: TextShelf) -> dict[str, str]:
    """What is wrong with blocks, by id. What was taken away while it was looked at is no finding."""
    found = dict(_faults(text))
    if not found:
        return found
    with text.file.read() as reader:
        there = reader.blocks_among(list(found))
    return {id_: why for id_, why in found.items() if id_ in there}


def _faults(text: TextShelf) -> Iterator[tuple[str, str]]:
    with text.file.read() as reader:
        blocks = reader.blocks(micros(text.clock()))
    for block in blocks:
        why = _fault(block, block_path(text.file.folder, block.info.id))
        if why:
            yield block.info.id, why


def _fault(block: StoredBlock, path: Path) -> str:
    if not block.refs:
        return "blocks that hold no item"
    try:
        if path.stat().st_size == block.info.bytes and seal_of(path) == block.seal:
            return ""
    except FileNotFoundError:
        return "blocks whose file is not there"
    except OSError as exc:
        return f"blocks whose file cannot be read ({type(exc).__name__})"
    return "blocks whose file is not what was written"


def _unknown(text: TextShelf) -> list[str]:
    try:
        strays = text.file.stray_blocks()
    except StoreError:
        raise
    except OSError as exc:
        why = (
            f"the folder of blocks {str(text.file.folder / KV)!r} cannot be read ({type(exc).__name__}): make it a "
            "folder that this process may read and write; until then memories are read as text, and files of "
            "what is forgotten may still be there"
        )
        return [why]
    files = [stray.path.name.removesuffix(SUFFIX) for stray in strays if not stray.is_folder]
    folders = [stray.path.name for stray in strays if stray.is_folder]
    return [
        *_told(files, "files of blocks that no row knows"),
        *_told(folders, "folders in the place of files of blocks", cure="remove them by hand"),
    ]


def _doubled(text: TextShelf) -> list[str]:
    with text.file.read() as reader:
        return reader.doubled_items()


def _told(ids: list[str], what: str, *, cure: str = "run rebuild") -> list[str]:
    return [f"{len(ids)} {what} ({', '.join(ids[:SHOWN_MAX])}): {cure}"] if ids else []
