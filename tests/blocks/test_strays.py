"""Files that no row knows, and a folder that cannot be used: told, removed, and no harm to text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from memos_engine import Conflict, MemCube, MemOS, StoreError
from memos_engine.activation import folder
from memos_engine.blocks import building
from memos_engine.blocks.shelf import ActivationShelf
from memos_engine.store.block_files import COMMITTING_S, seal_of
from tests.blocks.hot import PacedModel
from tests.blocks.kept import files, said
from tests.blocks.test_files import aged, reopened, stray

NAMES = ("left.safetensors", ".left.safetensors.x1.tmp")


@pytest.mark.parametrize("name", NAMES)
def test_what_a_kill_left_is_not_purged(cube: MemCube, shelf: ActivationShelf, name: str) -> None:
    """A young file that no row knows makes `purged` False; once it is no longer young, a forget removes it."""
    ids = said(cube)
    path = stray(shelf, name, 0)
    assert not cube.forget(ids[0]).purged
    assert path.exists()
    assert cube.check().ok
    aged(path, COMMITTING_S + 1)
    (problem,) = cube.check().problems
    assert name.removesuffix(".safetensors") in problem
    assert cube.forget(ids[1]).purged
    assert not path.exists()


@pytest.mark.parametrize("name", NAMES)
def test_rebuild_removes_what_a_kill_left(cube: MemCube, shelf: ActivationShelf, name: str) -> None:
    """What check names, rebuild clears."""
    said(cube)
    path = stray(shelf, name, COMMITTING_S + 1)
    assert not cube.check().ok
    assert cube.rebuild().ok
    assert not path.exists()


def test_a_folder_among_the_files_is_told_with_its_cure(cube: MemCube, shelf: ActivationShelf) -> None:
    """What rebuild does not remove is not said to be cured by it."""
    said(cube)
    path = shelf.text.file.folder / "kv" / "x.safetensors"
    path.mkdir(parents=True)
    aged(path, COMMITTING_S + 1)
    (problem,) = cube.rebuild().problems
    assert "x.safetensors" in problem
    assert "by hand" in problem
    path.rmdir()
    assert cube.check().ok


@pytest.mark.parametrize("when", ["written", "sealed"])
def test_a_build_that_loses_its_file(
    cube: MemCube, shelf: ActivationShelf, model: PacedModel, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Where another process took the file of a slow build for nobody's, the build fails and leaves no row."""
    ids = said(cube)
    save = folder.save

    def swept(path: Path) -> Path:
        aged(path, COMMITTING_S + 1)
        shelf.text.file.sweep_blocks()
        assert not path.exists()
        return path

    def saved(path: Path, *args: Any, **how: Any) -> int:
        size_bytes = save(path, *args, **how)
        swept(path)
        return size_bytes

    def sealed(path: Path) -> str:
        seal = seal_of(path)
        swept(path)
        return seal

    if when == "written":
        monkeypatch.setattr(folder, "save", saved)
    else:
        monkeypatch.setattr(building, "seal_of", sealed)
    with pytest.raises(Conflict, match="build it again"):
        shelf.build(model, ids, reason="a test")
    assert shelf.blocks() == []
    assert cube.check().ok
    monkeypatch.undo()
    info = shelf.build(model, ids, reason="a test")
    aged(shelf.text.file.folder / "kv" / f"{info.id}.safetensors", COMMITTING_S + 1)
    shelf.text.file.sweep_blocks()
    assert files(shelf) == [f"{info.id}.safetensors"], "a row knows it"


def broken_as_file(place: Path) -> None:
    """A file where the folder should be."""
    place.rename(place.with_name("aside"))
    place.write_text("in the way")


def broken_by_rights(place: Path) -> None:
    """A folder that this process may not list."""
    place.chmod(0)


@pytest.mark.parametrize(
    "breaks",
    [
        broken_as_file,
        pytest.param(
            broken_by_rights,
            marks=pytest.mark.skipif(os.name == "nt" or not os.geteuid(), reason="no right is missing here"),
        ),
    ],
)
def test_text_memory_needs_no_folder_of_blocks(
    tmp_path: Path, cube: MemCube, shelf: ActivationShelf, model: PacedModel, breaks: Any
) -> None:
    """Where the folder cannot be listed, memories are read and written as ever; check says so in words."""
    ids = said(cube)
    info = shelf.build(model, ids[:2], reason="a test")
    place = shelf.text.file.folder / "kv"
    breaks(place)
    try:
        with reopened(tmp_path) as memos:
            again = memos.cube("alice")
            blocks = memos._host.activation(again.id)
            assert "Lisbon" in again.recall("Lisbon").text
            assert blocks.fetch(model, [info])[0] == {}
            with pytest.raises(StoreError):
                blocks.build(model, ids[2:4], reason="a test")
            assert any(
                "cannot be read" in problem and str(place) in problem for problem in again.check().problems
            )
            assert not again.forget(ids[0]).purged
            assert not again.rebuild().ok
            again.update(ids[3], text="It says something else.")
    finally:
        if place.is_file():
            place.unlink()
            place.with_name("aside").rename(place)
        place.chmod(0o700)
    with reopened(tmp_path) as memos:
        assert memos.cube("alice").forget(ids[4]).purged
        assert memos.cube("alice").check().ok


def unlistable(*_: object) -> Any:
    """Fail as a folder without rights does, also for one to whom all is allowed."""
    raise PermissionError(13, "Permission denied")


def test_a_folder_that_may_not_be_listed(
    memos: MemOS, cube: MemCube, shelf: ActivationShelf, model: PacedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of rights while the folder is listed reaches no caller but as a problem, and `purged` is False."""
    ids = said(cube)
    shelf.build(model, ids[:2], reason="a test")
    monkeypatch.setattr(os, "scandir", unlistable)
    assert not cube.forget(ids[0]).purged
    (problem,) = cube.check().problems
    assert "PermissionError" in problem
    shelf.text.file.sweep_blocks()
    monkeypatch.undo()
    assert cube.forget(ids[1]).purged
    assert memos.check().ok
