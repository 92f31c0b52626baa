"""`MemosStore` beside LangGraph's own stores: puts, gets, searches and listings, in turns, a process each."""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.adapters.legs import p50_ms, rounded
from benchmarks.corpus import Corpus, make_corpus
from benchmarks.machine import Row
from benchmarks.report import Ratio, quotient
from benchmarks.store import SEARCH_TARGETS, available
from benchmarks.worker import BATCH, Timed, Worker

SYSTEMS = {"MemosStore": "ours", "SqliteStore": "sqlite", "InMemoryStore": "memory"}
TOPICS = 50
"""As many as `stores.base` makes."""
COLUMNS = (
    "system", "items", "put_ms_p50", "puts_per_s", "get_ms_p50", "filter_ms_p50", "query_ms_p50", "query_found",
    "namespaces_ms_p50", "disk_mb", "durability",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured at each size, a round."""

    rounds: int
    puts: int
    gets: int
    queries: int
    """As many searches by a filter."""
    listings: int
    seconds_max: float
    """Of each kind of search or listing: its median is of fewer then."""


FULL = Plan(rounds=5, puts=40, gets=200, queries=30, listings=10, seconds_max=6.0)
QUICK = Plan(rounds=3, puts=10, gets=50, queries=10, listings=3, seconds_max=1.0)


@dataclass(slots=True)
class Measured:
    """What one store did, an entry a round."""

    batches: list[Timed] = field(default_factory=list)
    puts: list[Timed] = field(default_factory=list)
    gets: list[Timed] = field(default_factory=list)
    filters: list[Timed] = field(default_factory=list)
    queries: list[Timed] = field(default_factory=list)
    listings: list[Timed] = field(default_factory=list)
    durability: str = ""
    disk_mb: float = 0.0


class StoreRace:
    """All stores at one size, in turns. `run` does everything."""

    def __init__(self, items: int, plan: Plan, folder: Path, seed: int) -> None:
        self._items = items
        self._plan = plan
        self._folder = folder
        self._random = random.Random(seed)
        corpus = folder / "corpus"
        make_corpus(
            corpus,
            texts=items,
            extra=plan.puts * plan.rounds,
            queries=plan.queries * plan.rounds + 1,
            seed=seed,
        )
        with closing(Corpus(corpus)) as made:
            self._queries = made.queries
        self._workers = {
            name: Worker(f"benchmarks.adapters.stores.{SYSTEMS[name]}", folder / SYSTEMS[name], corpus)
            for name in available(list(SYSTEMS))
        }
        self._measured = {name: Measured() for name in self._workers}

    def run(self) -> list[Row]:
        """Measure, and give one row a store."""
        self._step("filling", self._fill)
        self._step("reading", self._read)
        self._step("putting one by one", self._put)
        self._step("closing", self._close)
        return [_row(name, self._items, measured) for name, measured in self._measured.items()]

    def _each(self) -> Iterator[tuple[Worker, Measured]]:
        return zip(self._workers.values(), self._measured.values(), strict=True)

    def _step(self, what: str, step: Callable[[], None]) -> None:
        start = time.perf_counter()
        step()
        print(f"  stores, {self._items:,} items: {what} {time.perf_counter() - start:.1f} s", file=sys.stderr)

    def _fill(self) -> None:
        rounds = self._plan.rounds
        edges = [self._items * n // rounds // BATCH * BATCH for n in range(rounds)] + [self._items]
        for start, stop in itertools.pairwise(edges):
            for worker, measured in self._each():
                measured.batches.append(worker.add(start, stop))

    def _read(self) -> None:
        plan = self._plan
        for worker, _ in self._each():  # what is loaded at the first search is not measured
            worker.search(self._queries[-1:], plan.seconds_max)
        for n in range(plan.rounds):
            numbers = self._random.choices(range(self._items), k=plan.gets)
            topics = self._random.choices(range(TOPICS), k=plan.queries)
            queries = self._queries[n * plan.queries : (n + 1) * plan.queries]
            for worker, measured in self._each():
                measured.gets.append(worker.call("get", numbers))
                measured.filters.append(worker.call("filter", topics, plan.seconds_max))
                measured.queries.append(worker.search(queries, plan.seconds_max))
                measured.listings.append(worker.call("namespaces", range(plan.listings), plan.seconds_max))

    def _put(self) -> None:
        for n in range(self._plan.rounds):
            start = self._items + n * self._plan.puts
            for worker, measured in self._each():
                measured.puts.append(worker.add_one(start, start + self._plan.puts))

    def _close(self) -> None:
        for name, (worker, measured) in zip(self._workers, self._each(), strict=True):
            measured.durability = str(worker.told("durability"))
            worker.close()
            measured.disk_mb = disk_bytes(self._folder / SYSTEMS[name]) / 2**20


def disk_bytes(folder: Path) -> int:
    """Size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _row(name: str, items: int, measured: Measured) -> Row:
    asked = sum(len(timed.seconds) for timed in measured.queries)
    return {
        "section": "stores",
        "system": name,
        "items": items,
        "put_ms_p50": p50_ms(_seconds(measured.puts)),
        "puts_per_s": rounded(items / sum(_seconds(measured.batches))),
        "get_ms_p50": p50_ms(_seconds(measured.gets)),
        "filter_ms_p50": p50_ms(_seconds(measured.filters)),
        "query_ms_p50": p50_ms(_seconds(measured.queries)),
        "queries": asked,
        "query_found": rounded(sum(timed.found for timed in measured.queries) / asked),
        "namespaces_ms_p50": p50_ms(_seconds(measured.listings)),
        "disk_mb": rounded(measured.disk_mb) if measured.disk_mb else None,
        "durability": measured.durability,
    }


def _seconds(rounds: Sequence[Timed]) -> list[float]:
    return [seconds for timed in rounds for seconds in timed.seconds]


def store_ratios(rows: Sequence[Row]) -> list[Ratio]:
    """`MemosStore` beside SqliteStore, at each size."""
    found = []
    empty: Row = {}
    for items in dict.fromkeys(row["items"] for row in rows):
        assert isinstance(items, int), "items is a count"
        by_name = {row["system"]: row for row in rows if row["items"] == items}
        ours, sqlite = by_name.get("MemosStore", empty), by_name.get("SqliteStore", empty)
        query = next((target for least, target in SEARCH_TARGETS if items >= least), None)
        parts = (
            ("one put p50", "put_ms_p50", None, False),
            ("batched puts/s", "puts_per_s", None, True),
            ("get p50", "get_ms_p50", None, False),
            ("search by filter p50", "filter_ms_p50", None, False),
            ("search by query p50", "query_ms_p50", query, False),
            ("list_namespaces p50", "namespaces_ms_p50", None, False),
            ("disk", "disk_mb", None, False),
        )
        found += [
            Ratio(
                f"{items:,} items, MemosStore {what} / SqliteStore's",
                quotient(ours.get(m), sqlite.get(m)),
                target,
                up,
            )
            for what, m, target, up in parts
        ]
    return found
