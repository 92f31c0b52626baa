"""A process that builds and forgets blocks: `python -m tests.blocks.builder ROOT WHAT`, then a line on its input.

`race` builds the block of the thread `t` and prints its id. The words in KILLED_AT name a moment at which it
kills itself. `loop` goes on until it is killed, and tells what it begins and what is done, a line of JSON each.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memos_engine import MemCube, MemOS
from memos_engine.blocks import building
from memos_engine.items import Filter
from memos_engine.store import sqlite
from memos_engine.testing.fakes import HashEmbedder
from tests.blocks.hot import PacedModel, paced_model
from tests.blocks.kept import said

CUBE = "alice"


def open_root(root: Path) -> MemOS:
    """The root of the test; jobs run in `drain` only."""
    return MemOS.open(root, embedder=HashEmbedder(32), background=False)


def turns(cube: MemCube, thread: str) -> list[str]:
    """Ids of the turns of a thread, in order."""
    shelf = cube._host.shelf(cube.id)
    with shelf.file.read() as reader:
        view = cube._actor("read").view
        return [item.id for item in reader.select(Filter(thread=thread), view, limit=99, order="n")]


def _die(*_: object, **__: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def _before_the_row() -> None:
    building.__dict__["seal_of"] = _die  # the file is there, durable; its row is not


def _while_writing() -> None:
    os.fsync = _die  # half of it may be on the disk


def _before_the_files_go() -> None:
    sqlite.__dict__["remove_blocks"] = _die  # the rows are gone, durable; the files are not


KILLED_AT: dict[str, Callable[[], None]] = {
    "before_the_row": _before_the_row,
    "while_writing": _while_writing,
    "before_the_files_go": _before_the_files_go,
}


def _loop(cube: MemCube, model: PacedModel, seed: str) -> None:
    """Talk, build, and forget, in any order, until the end."""
    chance = random.Random(seed)
    for n in range(1_000_000):
        thread = f"{seed}-{n}"
        ids = said(cube, thread=thread, count=4)
        for part in (ids[:2], ids[2:]):
            info = cube.activation.build(model, part)
            _tell(built=info.id, items=list(info.items))
        if chance.random() < 0.7:
            _tell(begin=ids[0])
            cube.forget(ids[0])
            _tell(forgot=ids[0])


def _tell(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main(root: str, what: str, seed: str = "0") -> None:
    """Wait for the word, then do it."""
    memos = open_root(Path(root))
    cube = memos.cube(CUBE)
    model = paced_model()
    model.key, model.capabilities  # noqa: B018 -- before the word: they take a while
    memos._host.activation(cube.id)
    print("ready", file=sys.stderr, flush=True)
    sys.stdin.readline()
    if what == "loop":
        _loop(cube, model, seed)
    ids = turns(cube, "t")
    if what == "before_the_files_go":
        cube.activation.build(model, ids)
    if what in KILLED_AT:
        KILLED_AT[what]()
    if what == "before_the_files_go":
        cube.forget(ids[0])
    print(cube.activation.build(model, ids).id)
    memos.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
