"""A process of many writing threads, started by multiprocessing: what it does, and what it says it did."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from memos_engine import ItemNotFound, MemCube, MemOS, Message, MessageConflict, VersionConflict
from memos_engine.testing.fakes import HashEmbedder

THREADS = 8
ROUNDS = 12
SHARED_TURNS = 30
CUBE = "c"


def open_root(root: Path, *, index_above: int = 10**9, background: bool = False) -> MemOS:
    """The root as each process opens it."""
    embedder = HashEmbedder(32)
    return MemOS.open(root, embedder=embedder, background=background, index_above=index_above)


@dataclass
class Told:
    """What the threads of one process were told was done; the cube must hold all of it."""

    turns: dict[str, str] = field(default_factory=dict)
    """Message id -> episode id, as `capture` said; another process must have been told the same."""
    differing: list[str] = field(default_factory=list)
    """Message ids that two threads were told different episodes for."""
    conflicts: int = 0
    added: dict[str, str] = field(default_factory=dict)
    """Id -> text."""
    forgotten: list[str] = field(default_factory=list)
    entries: dict[str, int] = field(default_factory=dict)
    """Key of this process's own -> the number put last."""
    updates: int = 0
    """Of the contended item."""
    lost_races: int = 0
    faults: list[str] = field(default_factory=list)


class Writers:
    """The threads of one process."""

    def __init__(self, cube: MemCube, name: str, contended: str, seed: int) -> None:
        self._cube = cube
        self._name = name
        self._contended = contended
        self._seed = seed
        self._lock = threading.Lock()
        self.told = Told()

    def run(self) -> Told:
        """Write from all threads at once, and search meanwhile."""
        done = threading.Event()
        reader = threading.Thread(target=self._search, args=(done,))
        reader.start()
        with ThreadPoolExecutor(THREADS) as pool:
            for fault in [pool.submit(self._write, n) for n in range(THREADS)]:
                if (exc := fault.exception()) is not None:
                    self.told.faults.append(repr(exc))
        done.set()
        reader.join()
        return self.told

    def _write(self, number: int) -> None:
        choice = random.Random(f"{self._seed} {self._name} {number}")
        verbs: list[Callable[[random.Random, str], None]] = [
            self._capture, self._capture, self._add, self._update, self._put, self._forget,
        ]  # fmt: skip
        for round_ in range(ROUNDS):
            choice.shuffle(verbs)
            for verb in verbs:
                verb(choice, f"{self._name}t{number}r{round_}")

    def _capture(self, choice: random.Random, tag: str) -> None:
        """Turns that the other threads and the other process capture too, and one that is its own."""
        numbers = choice.sample(range(SHARED_TURNS), 3)
        said = [Message("user", f"turn {n} of the boats", id=f"m{n}") for n in numbers]
        done = self._cube.capture(
            [*said, Message("user", f"own {tag}", id=f"{tag}{choice.random()}")], thread="t"
        )
        with self._lock:
            for n, episode in zip(numbers, done.episodes, strict=False):
                if self.told.turns.setdefault(f"m{n}", episode) != episode:
                    self.told.differing.append(f"m{n}")
            self.told.added[done.episodes[-1]] = f"own {tag}"
        try:
            self._cube.capture(
                [Message("user", f"not what was said by {tag}", id=f"m{numbers[0]}")], thread="t"
            )
        except MessageConflict:
            with self._lock:
                self.told.conflicts += 1

    def _add(self, _choice: random.Random, tag: str) -> None:
        texts = [f"note {tag} {n}" for n in range(3)]
        items = self._cube.add(texts)
        with self._lock:
            self.told.added.update((item.id, item.text) for item in items)

    def _update(self, _choice: random.Random, tag: str) -> None:
        """Count in an item that all threads of all processes count in."""
        item = self._cube.get(self._contended)
        try:
            text = f"counted to {int(item.text.split()[-1]) + 1}"
            self._cube.update(item.id, expect_version=item.version, text=text)
        except VersionConflict:
            with self._lock:
                self.told.lost_races += 1
        else:
            with self._lock:
                self.told.updates += 1

    def _put(self, choice: random.Random, tag: str) -> None:
        number = choice.randrange(1_000)
        key = tag.partition("r")[0]  # of this thread
        self._cube.kv.put((self._name,), key, {"n": number})
        self._cube.kv.put(("all",), "shared", {"n": number, "by": tag})
        with self._lock:
            self.told.entries[key] = number

    def _forget(self, choice: random.Random, tag: str) -> None:
        (item,) = self._cube.add([f"passing {tag}"])
        assert item.id in {hit.item.id for hit in self._cube.search(item.text)}, (
            "what was written is found at once"
        )
        self._cube.forget(item.id)
        with self._lock:
            self.told.forgotten.append(item.id)

    def _search(self, done: threading.Event) -> None:
        while not done.is_set():
            for query in ("boats", "note of a turn", "counted"):
                try:
                    self._cube.recall(query)
                    hits = self._cube.search(query, limit=30)
                    assert len({hit.item.id for hit in hits}) == len(hits)
                    self._cube.history(self._contended)
                except (AssertionError, ItemNotFound) as exc:
                    self.told.faults.append(repr(exc))


def write(connection: Connection, root: Path, name: str, contended: str, seed: int) -> None:
    """Write when told to, and send what was done."""
    with open_root(root) as memos:
        writers = Writers(memos.cube(CUBE), name, contended, seed)
        connection.send("ready")
        connection.recv()
        connection.send(writers.run())


def create(connection: Connection, root: Path, name: str) -> None:
    """Open a root that may not be there, when told to, and write one item."""
    connection.send("ready")
    connection.recv()
    try:
        with open_root(root) as memos:
            item = memos.cube(CUBE).add(f"from {name}")
            memos.threads.append(name, [{"n": 1}])
            connection.send((item.id, memos.cube(CUBE).id))
    except Exception as exc:  # noqa: BLE001 -- it is told in the process that asked
        connection.send(repr(exc))
