"""A process to be killed: `python -m tests.crash.writer ROOT ROUND SEED [index]`, then a line on its input.

Each thread tells what it begins, then that it is done, a line of JSON each, flushed; faults and the
word that it is ready go to the other output. With `index` the main thread brings a Chroma index up
to the writes meanwhile, with a flush every 100 vectors.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from memos_engine import MemCube, MemOS, Message
from memos_engine.items import Json
from memos_engine.testing.fakes import HashEmbedder

CUBE = "c"
THREADS = 3
INDEX_ABOVE = 8
SYNC_THRESHOLD = 100
LARGE = 250
"""Items of a batch that makes Chroma flush."""

_telling = threading.Lock()


def open_root(root: Path, *, indexed: bool) -> MemOS:
    """The root of the test; jobs run in `drain` only."""
    above = INDEX_ABOVE if indexed else 10**9
    memos = MemOS.open(root, embedder=HashEmbedder(32), background=False, index_above=above)
    shelf = memos._host.shelf(memos.cube(CUBE).id)
    shelf.resident._sync_threshold = SYNC_THRESHOLD
    return memos


class Writer(threading.Thread):
    """Writes without end, in batches of its own: a batch is written at once, and forgotten at once."""

    def __init__(self, cube: MemCube, round_: str, number: int, seed: int, *, large: bool) -> None:
        super().__init__(daemon=True)
        self._cube = cube
        self._name = f"r{round_}w{number}"
        self._key = f"k{number}"
        self._large = large
        self._random = random.Random(f"{seed}-{number}")
        self._batches: dict[str, dict[str, str]] = {}

    def run(self) -> None:
        """Write until the process is killed."""
        for n in range(1_000_000):
            verb = self._random.choices(
                [self._capture, self._add, self._update, self._forget, self._put], [4, 3, 2, 1, 1]
            )[0]
            verb(f"{self._name}n{n}")

    def _capture(self, tag: str) -> None:
        texts = _texts(tag, self._random.randint(1, 3))
        _tell("begin", "write", tag=tag, texts=texts)
        messages = [Message("user", text, id=f"{tag}-{place}") for place, text in enumerate(texts)]
        done = self._cube.capture(messages, thread=self._name)
        self._wrote(tag, dict(zip(done.episodes, texts, strict=True)))

    def _add(self, tag: str) -> None:
        texts = _texts(tag, LARGE if self._large else self._random.randint(1, 4))
        _tell("begin", "write", tag=tag, texts=texts)
        done = self._cube.add(texts)
        self._wrote(tag, {item.id: item.text for item in done})

    def _wrote(self, tag: str, items: dict[str, str]) -> None:
        _tell("done", "write", tag=tag, items=items)
        self._batches[tag] = items

    def _update(self, tag: str) -> None:
        if self._batches:
            of = self._random.choice(list(self._batches))
            id_ = self._random.choice(list(self._batches[of]))
            text = f"{of} now says {tag}"
            _tell("begin", "update", tag=of, id=id_, text=text)
            self._cube.update(id_, text=text)
            _tell("done", "update", tag=of, id=id_, text=text)

    def _forget(self, tag: str) -> None:
        if self._batches:
            of = self._random.choice(list(self._batches))
            _tell("begin", "forget", tag=of)
            self._cube.forget(list(self._batches.pop(of)))
            _tell("done", "forget", tag=of)

    def _put(self, tag: str) -> None:
        value: Mapping[str, Json] = {"by": tag}
        _tell("begin", "put", tag=self._key, value=value)
        self._cube.kv.put(("n",), self._key, value)
        _tell("done", "put", tag=self._key, value=value)


def _texts(tag: str, size: int) -> list[str]:
    return [f"{tag} boats and kettles {place} of {size}" for place in range(size)]


def _tell(when: str, verb: str, **what: object) -> None:
    line = json.dumps({"when": when, "verb": verb, **what}) + "\n"
    with _telling:
        sys.stdout.write(line)
        sys.stdout.flush()


def main(root: str, round_: str, seed: str, index: str = "") -> None:
    """Wait for the word, then write until the end."""
    import memos_engine.capture.reader  # noqa: F401, PLC0415 -- before the word, as chromadb: it takes a while

    if index:
        import chromadb  # noqa: F401, PLC0415 -- as above
    print("ready", file=sys.stderr, flush=True)
    sys.stdin.readline()
    memos = open_root(Path(root), indexed=bool(index))
    cube = memos.cube(CUBE)
    threads = [Writer(cube, round_, n, int(seed), large=bool(index) and n == 0) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    shelf = memos._host.shelf(cube.id)
    while index:  # by no job: its lease would outlive this process by a minute
        shelf.resident.catch_up(shelf.file.read)
    threads[0].join()


if __name__ == "__main__":
    main(*sys.argv[1:])
