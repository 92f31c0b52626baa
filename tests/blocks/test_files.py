"""Files of blocks: rows decide, what a kill left is told and swept, and text memory needs no torch for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memos_engine import MemCube, MemOS
from memos_engine.blocks.shelf import ActivationShelf
from memos_engine.store.block_files import COMMITTING_S
from memos_engine.testing.fakes import HashEmbedder
from tests.blocks.hot import PacedModel
from tests.blocks.kept import file_of, files, said

ROOT = Path(__file__).parent.parent.parent


def reopened(tmp_path: Path) -> MemOS:
    """The same root, opened once more."""
    return MemOS.open(tmp_path / "root", embedder=HashEmbedder(), background=False)


def aged(path: Path, age_s: float) -> Path:
    """Make a file look so old."""
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


def stray(shelf: ActivationShelf, name: str, age_s: float) -> Path:
    """A file that no row knows."""
    path = shelf.text.file.folder / "kv" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"left behind")
    return aged(path, age_s)


def test_check_tells_what_files_and_rows_disagree_about(
    cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """A missing file, one that is not what was written, and one that no row knows are told; rebuild repairs all."""
    ids = said(cube)
    lost, changed, whole = (shelf.build(model, ids[n : n + 2], reason="a test") for n in (0, 2, 4))
    report = cube.check()
    assert report.ok
    assert "blocks" in report.checked
    file_of(shelf, lost.id).unlink()
    content = bytearray(file_of(shelf, changed.id).read_bytes())
    content[len(content) // 2] ^= 1
    file_of(shelf, changed.id).write_bytes(content)
    stray(shelf, "nobodys.safetensors", COMMITTING_S + 1)
    problems = cube.check().problems
    assert len(problems) == 3
    assert f"1 blocks whose file is not there ({lost.id})" in problems[0]
    assert f"1 blocks whose file is not what was written ({changed.id})" in problems[1]
    assert "1 files of blocks that no row knows (nobodys)" in problems[2]
    assert cube.rebuild().ok
    assert [info.id for info in shelf.blocks()] == [whole.id]
    assert files(shelf) == [f"{whole.id}.safetensors"]


def test_a_file_that_may_be_about_to_get_its_row_is_no_problem(cube: MemCube, shelf: ActivationShelf) -> None:
    """A build of another process that is about to commit is not taken for damage, nor swept by rebuild."""
    path = stray(shelf, "young.safetensors", 0)
    assert cube.check().ok
    cube.rebuild()
    assert path.exists()


def test_what_a_kill_left_is_swept_when_the_cube_is_opened(
    tmp_path: Path, cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """Old files that no row knows go, finished or not; young ones, blocks and foreign files stay."""
    info = shelf.build(model, said(cube), reason="a test")
    aged(file_of(shelf, info.id), 3 * COMMITTING_S)
    for name in ("old.safetensors", ".old.safetensors.x1.tmp"):
        stray(shelf, name, COMMITTING_S + 60)
    for name in ("young.safetensors", ".young.safetensors.x1.tmp"):
        stray(shelf, name, 0)
    stray(shelf, "notes.txt", 9 * COMMITTING_S)
    with reopened(tmp_path) as memos:
        again = memos._host.activation(memos.cube("alice").id)
        assert files(again) == sorted(
            [".young.safetensors.x1.tmp", "young.safetensors", "notes.txt", f"{info.id}.safetensors"]
        )
        assert not again.fetch(model, [info])[1]


def test_a_file_that_cannot_go_is_told_and_goes_later(
    tmp_path: Path, cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """Where a system keeps the file, `purged` is False, no fetch finds it, and the next forget removes it."""
    ids = said(cube)
    one, two = (shelf.build(model, part, reason="a test") for part in (ids[:2], ids[2:4]))
    path = file_of(shelf, one.id)
    content = path.read_bytes()
    path.unlink()
    path.mkdir()  # it cannot be unlinked, as a mapped file on some systems
    erased = cube.forget(ids[0])
    assert not erased.purged
    assert shelf.fetch(model, [one])[1][one.id].why == "absent"
    assert cube.check().ok, "it is known as gone"
    path.rmdir()
    path.write_bytes(content)
    assert cube.forget(ids[2]).purged
    assert files(shelf) == []
    three = shelf.build(model, ids[4:], reason="a test")
    path = file_of(shelf, three.id)
    path.unlink()
    path.mkdir()
    assert not cube.forget(ids[4]).purged
    path.rmdir()
    path.write_bytes(content)
    with reopened(tmp_path) as memos:
        assert files(memos._host.activation(memos.cube("alice").id)) == []
    assert two.id not in str(files(shelf))


def test_a_dump_leaves_blocks_out(
    tmp_path: Path, memos: MemOS, cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """A dump holds the memories and no keys and values; what is loaded has none, and can have its own."""
    ids = said(cube)
    info = shelf.build(model, ids, reason="a test")
    cube.dump(tmp_path / "dump")
    assert not list((tmp_path / "dump").rglob("*.safetensors"))
    assert info.id not in "".join(path.read_text() for path in (tmp_path / "dump").glob("*.jsonl"))
    loaded = memos.load(tmp_path / "dump", name="copy")
    assert loaded.activation.list() == []
    assert loaded.check().ok
    theirs = loaded.activation.build(model, ids)
    assert theirs.id != info.id
    assert [one.id for one in cube.activation.list()] == [info.id]


def test_only_the_owner_of_the_files_reads_them(
    cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """Keys and values tell the text: no other user of the machine can read them."""
    info = shelf.build(model, said(cube), reason="a test")
    if os.name != "nt":
        assert file_of(shelf, info.id).stat().st_mode & 0o077 == 0


def test_text_memory_needs_no_torch_for_a_cube_with_blocks(
    tmp_path: Path, memos: MemOS, cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """Opening, recall, update, forget, check, rebuild, dump and load of a cube with blocks import no torch."""
    ids = said(cube)
    one, two, three = (shelf.build(model, ids[n : n + 2], reason="a test") for n in (0, 2, 4))
    code = f"""
import json, sys
from pathlib import Path
sys.modules["torch"] = sys.modules["transformers"] = None
from memos_engine import MemOS, KVBudgets
from memos_engine.testing.fakes import HashEmbedder
with MemOS.open({str(tmp_path / "root")!r}, embedder=HashEmbedder(), background=False, kv_budgets=KVBudgets()) as memos:
    cube = memos.cube("alice")
    assert "Lisbon" in cube.recall("Lisbon").text
    assert cube.check().ok
    assert cube.forget({ids[0]!r}).purged
    cube.update({ids[2]!r}, text="Something else")
    assert cube.check().ok and cube.rebuild().ok
    cube.dump({str(tmp_path / "dump")!r})
    memos.load({str(tmp_path / "dump")!r}, name="copy")
    memos.drain()
    memos.delete("copy")
print(json.dumps(sorted(path.stem for path in Path({str(tmp_path / "root")!r}).rglob("*.safetensors"))))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [three.id]
    assert [info.id for info in shelf.blocks()] == [three.id]
    assert set(shelf.fetch(model, [one, two, three])[1]) == {one.id, two.id}


def test_without_torch_it_says_what_to_type(tmp_path: Path) -> None:
    """Where torch is missing, asking for blocks is an error that ends with the command to type."""
    code = f"""
import sys
sys.modules["torch"] = None
from memos_engine import MemOS, ModelUnavailable
from memos_engine.testing.fakes import HashEmbedder
with MemOS.open({str(tmp_path / "r")!r}, embedder=HashEmbedder(), background=False) as memos:
    try:
        memos.cube("a").activation.list()
    except ModelUnavailable as exc:
        print(exc)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pip install 'memos-adapters[local]'" in done.stdout


@pytest.mark.parametrize("age_s", [0.0, 2 * COMMITTING_S])
def test_a_link_out_of_the_folder_is_not_followed(
    tmp_path: Path, cube: MemCube, shelf: ActivationShelf, age_s: float
) -> None:
    """A link that was put among the files is at most removed itself: what it points to stays."""
    treasure = tmp_path / "treasure"
    treasure.write_text("mine")
    aged(treasure, age_s)
    link = shelf.text.file.folder / "kv" / "x.safetensors"
    link.parent.mkdir()
    link.symlink_to(treasure)
    with reopened(tmp_path) as memos:
        memos.cube("alice").rebuild()
    assert treasure.read_text() == "mine"
