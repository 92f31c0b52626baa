"""The unused slots of an index file hold nothing: not what the process had in memory before."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from memos_engine.store.chroma import ChromaIndex
from memos_engine.store.slack import HEADER, ROWS, clear_slack

DIMENSION = 16
SECRET = b"an erased vector"


def opened(folder: Path, held: int) -> ChromaIndex:
    """Open an index that flushes every 100 rows, whose truth holds ids 1..held."""
    index = ChromaIndex.open(
        folder,
        fingerprint="f",
        dimension=DIMENSION,
        refs_of=lambda upto: (np.arange(1, min(held, upto) + 1),) * 2,
        sync_threshold=100,
    )
    assert index is not None
    return index


def files(folder: Path) -> list[Path]:
    """Return the files of rows."""
    return sorted(folder.rglob(ROWS))


def fill_slack(path: Path, start: int) -> None:
    """Write the secret over everything from `start` on, as an allocator without clearing would."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(start)
        file.write((SECRET * size)[: size - start])


def test_mark_clears_what_an_empty_graph_wrote(tmp_path: Path) -> None:
    """The block of an empty graph holds zeros after `mark`, whatever memory held when it was allocated."""
    index = opened(tmp_path, 0)
    ids, rows = np.arange(1, 51), np.random.default_rng(0).standard_normal((50, DIMENSION)).astype(np.float32)
    index.add(ids, ids, rows)
    (path,) = files(tmp_path)
    fill_slack(path, 0)
    index.mark(50, 0)
    assert not any(path.read_bytes())
    assert index.nearest(rows[7], 1)[0][0] == 8
    index.close()
    again = opened(tmp_path, 50)
    assert again.applied_v == 50, "a cleared index is the one that was marked"
    assert again.nearest(rows[7], 1)[0][0] == 8
    again.close()


def test_rows_are_left_alone(tmp_path: Path) -> None:
    """Only bytes after the last row go."""
    index = opened(tmp_path, 0)
    ids, rows = (
        np.arange(1, 251),
        np.random.default_rng(0).standard_normal((250, DIMENSION)).astype(np.float32),
    )
    index.add(ids, ids, rows)
    index.mark(250, 0)
    (path,) = files(tmp_path)
    before = path.read_bytes()
    assert any(before)
    clear_slack(path.parent.parent)
    assert path.read_bytes() == before
    index.close()


def test_an_unknown_layout_is_left_alone(tmp_path: Path) -> None:
    """A header that does not describe the rows' file, or is cut short, changes nothing."""
    for name, header in (("other", bytes(range(100))), ("short", b"\x01")):
        folder = tmp_path / name / "segment"
        folder.mkdir(parents=True)
        (folder / HEADER).write_bytes(header)
        (folder / ROWS).write_bytes(SECRET)
        clear_slack(folder.parent)
        assert (folder / ROWS).read_bytes() == SECRET
