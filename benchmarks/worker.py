"""One system in a process of its own, doing what it is told over a pipe and timing each call.

All systems of a size live at the same time and take turns, so that a drift of the machine's load
hits all of them alike. Times are seconds of the wall clock, taken inside the process.
"""

from __future__ import annotations

import importlib
import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

import psutil

from benchmarks.corpus import Corpus
from benchmarks.systems.base import System

BATCH = 100
"""Texts of a batched add."""

Query: TypeAlias = tuple[str, int]
"""What is asked, and the number of the text that it asks for."""


@dataclass(slots=True)
class Timed:
    """Seconds of each call, and how many searches found the text they asked for."""

    seconds: list[float] = field(default_factory=list)
    found: int = 0


class Worker:
    """A system in its own process. Close it."""

    def __init__(self, module: str, folder: Path, corpus: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, module, folder, corpus), name=module, daemon=True
        )
        self._process.start()
        theirs.close()
        self.abilities: frozenset[str] = self._receive()

    def add(self, start: int, stop: int) -> Timed:
        """Add these texts in batches."""
        return self._ask("add", start, stop)

    def add_one(self, start: int, stop: int) -> Timed:
        """Add these texts one by one."""
        return self._ask("add_one", start, stop)

    def capture(self, start: int, stop: int) -> Timed:
        """Capture these texts as messages, one by one."""
        return self._ask("capture", start, stop)

    def search(self, queries: Sequence[Query], seconds_max: float) -> Timed:
        """Search for each query until the time is up."""
        return self._ask("search", queries, seconds_max)

    def recall(self, queries: Sequence[Query], seconds_max: float) -> Timed:
        """Recall for each query until the time is up."""
        return self._ask("recall", queries, seconds_max)

    def drain(self) -> Timed:
        """Do the background work."""
        return self._ask("drain")

    def call(self, method: str, values: Sequence[object], seconds_max: float = 1e9) -> Timed:
        """Call a method of the system's own with each of these values until the time is up."""
        return self._ask("call", method, values, seconds_max)

    def told(self, attribute: str) -> object:
        """What the system says of itself; nothing is timed."""
        return self._ask("told", attribute)

    def open(self, query: str) -> Timed:
        """Open the store and ask for the first time: one call, timed as a whole."""
        return self._ask("open", query)

    def rss_mb(self) -> tuple[float, float]:
        """Resident memory of the process: now, and before the store was opened."""
        return self._ask("rss")  # type: ignore[return-value] # -- the one command that times nothing

    def close(self) -> None:
        """Close the store and end the process."""
        self._ask("close")
        self._process.join()

    def _ask(self, *command: object) -> Timed:
        self._connection.send(command)
        reply: Timed = self._receive()
        return reply

    def _receive(self) -> Any:
        reply = self._connection.recv()
        if isinstance(reply, BaseException):
            raise reply
        return reply


class _Bench:
    """The commands, inside the process."""

    def __init__(self, module: str, folder: Path, corpus: Path) -> None:
        self._corpus = Corpus(corpus)
        self.kind: type[System] = importlib.import_module(module).SYSTEM
        self._folder = folder
        self._before = _rss_mb()
        self._system: System | None = None

    @property
    def system(self) -> System:
        """Opened on first use."""
        if self._system is None:
            self._system = self.kind(self._folder, self._corpus)
        return self._system

    def open(self, query: str) -> Timed:
        return _timed(lambda _: self.system.first_answer(query), [None])

    def add(self, start: int, stop: int) -> Timed:
        system = self.system
        batches = [(n, self._corpus.texts(n, min(n + BATCH, stop))) for n in range(start, stop, BATCH)]
        return _timed(lambda batch: system.add(*batch), batches)

    def add_one(self, start: int, stop: int) -> Timed:
        system, texts = self.system, self._corpus.texts(start, stop)
        return _timed(lambda numbered: system.add_one(*numbered), list(enumerate(texts, start)))

    def capture(self, start: int, stop: int) -> Timed:
        system, texts = self.system, self._corpus.texts(start, stop)
        return _timed(lambda numbered: system.capture(*numbered), list(enumerate(texts, start)))

    def search(self, queries: Sequence[Query], seconds_max: float) -> Timed:
        timed, end = Timed(), time.perf_counter() + seconds_max
        for query, number in queries:
            start = time.perf_counter()
            found = self.system.search(query)
            timed.seconds.append(time.perf_counter() - start)
            timed.found += self._corpus.texts(number, number + 1)[0] in self.system.texts_of(found)
            if time.perf_counter() > end:
                break
        return timed

    def recall(self, queries: Sequence[Query], seconds_max: float) -> Timed:
        system = self.system
        return _timed(lambda query: system.recall(query[0]), queries, seconds_max)

    def call(self, method: str, values: Sequence[object], seconds_max: float) -> Timed:
        return _timed(getattr(self.system, method), values, seconds_max)

    def told(self, attribute: str) -> object:
        return getattr(self.system, attribute)

    def drain(self) -> Timed:
        return _timed(lambda _: self.system.drain(), [None])

    def rss(self) -> tuple[float, float]:
        return _rss_mb(), self._before

    def close(self) -> Timed:
        if self._system is not None:
            self._system.close()
        return Timed()


def _timed(call: Callable[[Any], object], values: Iterable[Any], seconds_max: float = 1e9) -> Timed:
    timed, end = Timed(), time.perf_counter() + seconds_max
    for value in values:
        start = time.perf_counter()
        call(value)
        now = time.perf_counter()
        timed.seconds.append(now - start)
        if now > end:
            break
    return timed


def _rss_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 2**20


def _serve(connection: Connection, module: str, folder: Path, corpus: Path) -> None:
    """Run commands until `close`; an error is sent instead of a reply."""
    try:
        bench = _Bench(module, folder, corpus)
        connection.send(bench.kind.abilities)
        while True:
            name, *arguments = connection.recv()
            connection.send(getattr(bench, name)(*arguments))
            if name == "close":
                return
    except Exception:  # noqa: BLE001 -- whatever it is, the parent has to hear of it
        connection.send(RuntimeError(f"{module} failed:\n{traceback.format_exc()}"))
