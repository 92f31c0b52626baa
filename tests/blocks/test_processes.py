"""Threads and processes that build, read and forget at once, and processes that are killed at the worst moment."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from memos_engine import BlockInfo, MemCube, MemOS
from memos_engine.activation.tiers import Tiers
from memos_engine.blocks.shelf import ActivationShelf
from memos_engine.store.block_files import COMMITTING_S
from tests.blocks.builder import CUBE, open_root, turns
from tests.blocks.hot import PacedModel
from tests.blocks.kept import acting_model, file_of, files, said

ROOT = Path(__file__).parent.parent.parent
ROUNDS = 8


def spawn(
    root: Path, what: str, seed: str = "0", *, said_to: Path = Path(os.devnull)
) -> subprocess.Popen[str]:
    """A process that waits for the word; what it says goes to a file, which no kill empties."""
    command = [sys.executable, "-m", "tests.blocks.builder", str(root), what, seed]
    with said_to.open("w") as output:
        return subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.PIPE, text=True
        )


def go(child: subprocess.Popen[str]) -> None:
    """Wait until it is ready and give it the word."""
    assert child.stdin is not None
    assert child.stderr is not None
    line = child.stderr.readline()
    assert line == "ready\n", line + child.stderr.read()
    child.stdin.write("go\n")
    child.stdin.flush()


def aged(folder: Path, age_s: float) -> None:
    """Make all files of a folder look so old."""
    then = time.time() - age_s
    for path in folder.glob("*"):
        os.utime(path, (then, then))


def killed(tmp_path: Path, at: str) -> Path:
    """A root in which a process that built a block was killed at this moment."""
    root = tmp_path / "root"
    with open_root(root) as memos:
        said(memos.cube(CUBE))
    child = spawn(root, at)
    go(child)
    _, faults = child.communicate(timeout=120)
    assert child.returncode == -9, faults
    return root


@pytest.mark.skipif(os.name == "nt", reason="a process that kills itself is told by a signal")
@pytest.mark.parametrize("at", ["before_the_row", pytest.param("while_writing", marks=pytest.mark.slow)])
def test_killed_before_a_block_was_there(tmp_path: Path, model: PacedModel, at: str) -> None:
    """A kill while a block is made leaves a file that no row knows: told when it is no longer young, swept when old."""
    root = killed(tmp_path, at)
    with open_root(root) as memos:
        cube = memos.cube(CUBE)
        shelf = memos._host.activation(cube.id)
        assert shelf.blocks() == []
        assert len(files(shelf)) == 1
        assert cube.check().ok
        aged(shelf.text.file.folder / "kv", COMMITTING_S + 1)
        assert not cube.check().ok
        info = shelf.build(model, turns(cube, "t"), reason="again")
        assert not shelf.fetch(model, [info])[1]
        aged(shelf.text.file.folder / "kv", COMMITTING_S + 1)
    with open_root(root) as memos:
        shelf = memos._host.activation(memos.cube(CUBE).id)
        assert files(shelf) == [f"{info.id}.safetensors"]
        assert memos.check().ok


@pytest.mark.skipif(os.name == "nt", reason="a process that kills itself is told by a signal")
def test_killed_between_a_forget_and_its_files(tmp_path: Path, model: PacedModel) -> None:
    """A forget that is durable is kept to: the file that a kill left goes as soon as the cube is opened."""
    root = killed(tmp_path, "before_the_files_go")
    left = list(root.rglob("*.safetensors"))
    assert len(left) == 1
    with open_root(root) as memos:
        cube = memos.cube(CUBE)
        assert len(turns(cube, "t")) == 5
        shelf = memos._host.activation(cube.id)
        assert shelf.blocks() == []
        assert files(shelf) == []
        assert not left[0].exists()
        with shelf.text.file.read() as reader:
            assert reader.gone_blocks() == []
        assert cube.check().ok


@pytest.mark.slow
def test_two_processes_build_the_same_at_once(tmp_path: Path, model: PacedModel) -> None:
    """Both return the one block there is, and there is one file."""
    root = tmp_path / "root"
    with open_root(root) as memos:
        said(memos.cube(CUBE))
    told = [tmp_path / name for name in ("one", "two")]
    children = [spawn(root, "race", said_to=said_to) for said_to in told]
    for child in children:
        go(child)
    for child in children:
        _, faults = child.communicate(timeout=120)
        assert child.returncode == 0, faults
    ids = {said_to.read_text().strip() for said_to in told}
    with open_root(root) as memos:
        shelf = memos._host.activation(memos.cube(CUBE).id)
        (info,) = shelf.blocks()
        assert ids == {info.id}
        assert files(shelf) == [f"{info.id}.safetensors"]
        assert not shelf.fetch(model, [info])[1]
        assert memos.check().ok


@pytest.mark.slow
def test_whatever_is_killed_rows_and_files_agree(tmp_path: Path, model: PacedModel) -> None:
    """Kills at random moments: no block outlives an acknowledged forget, every row has its file, nothing else stays."""
    seed = random.randrange(2**32)
    print("seed", seed)
    delays = random.Random(seed)
    root = tmp_path / "root"
    with open_root(root) as memos:
        memos.cube(CUBE)
    built: dict[str, set[str]] = {}
    forgotten: set[str] = set()
    for round_ in range(ROUNDS):
        said_to = tmp_path / f"said-{round_}"
        child = spawn(root, "loop", f"{seed}-{round_}", said_to=said_to)
        go(child)
        time.sleep(delays.uniform(0.05, 0.8))
        child.kill()
        child.communicate()
        begun = set()
        for line in said_to.read_text().split("\n")[:-1]:
            told = json.loads(line)
            if "built" in told:
                built[told["built"]] = set(told["items"])
            elif "begin" in told:
                begun = {told["begin"]}
            else:
                forgotten.add(told["forgot"])
        with open_root(root) as memos:
            cube = memos.cube(CUBE)
            shelf = memos._host.activation(cube.id)
            there = {info.id: info for info in shelf.blocks()}
            forgotten |= begun - {item.id for item in cube.list(limit=100_000)}
            for id_, items in built.items():
                assert (id_ in there) == items.isdisjoint(forgotten)
            found, misses = shelf.fetch(model, list(there.values()))
            assert misses == {}
            assert len(found) == len(there)
            assert cube.check().ok
            aged(shelf.text.file.folder / "kv", COMMITTING_S + 1)
            shelf.text.file.sweep_blocks()
            assert files(shelf) == sorted(f"{id_}.safetensors" for id_ in there)
    assert len(built) > ROUNDS


def test_threads_that_build_the_same(cube: MemCube, shelf: ActivationShelf) -> None:
    """Of four threads one encodes, and all return its block."""
    ids = said(cube)
    encoded: list[int] = []
    busy = acting_model(lambda: encoded.append(1))
    busy.key  # noqa: B018 -- four threads would measure it at once
    made: list[BlockInfo] = []
    threads = [
        threading.Thread(target=lambda: made.append(shelf.build(busy, ids, reason=""))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert len(made) == 4
    assert len({info.id for info in made}) == 1
    assert len(encoded) == 1
    assert len(files(shelf)) == 1


def test_readers_and_forgetters_at_once(
    memos: MemOS, cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """While others forget and build, a fetch gives whole blocks or misses, and in the end nothing forgotten is held."""
    talks = [said(cube, thread=f"t{n}", count=2) for n in range(12)]
    infos = [shelf.build(model, talk, reason="") for talk in talks]
    expected = {info.id: shelf.fetch(model, [info])[0][info.id].ids for info in infos}
    shelf.tiers = Tiers(5 * max(info.tokens for info in infos) * model.capabilities.bytes_per_token, 0)
    over = threading.Event()
    faults: list[BaseException] = []

    def read() -> None:
        try:
            while not over.is_set():
                found, misses = shelf.fetch(model, infos)
                assert len(found) + len(misses) == len(infos)
                assert all(block.ids == expected[id_] for id_, block in found.items())
                assert {miss.why for miss in misses.values()} <= {"absent"}
        except BaseException as exc:  # noqa: BLE001 -- told in the test's own thread
            faults.append(exc)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for talk in talks[:8]:
        cube.forget(talk[0])
        shelf.build(model, [talk[1]], reason="what is left")
    over.set()
    for reader in readers:
        reader.join(60)
        assert not reader.is_alive()
    assert faults == []
    shelf.tiers.check_integrity()
    _, misses = shelf.fetch(model, infos)
    assert set(misses) == {info.id for info in infos[:8]}
    assert shelf.tiers.held(cube.id) <= {info.id for info in shelf.blocks()}
    assert all(not file_of(shelf, info.id).exists() for info in infos[:8])
    assert len(files(shelf)) == 12
    assert memos.check().ok
